/* test_api_handle.c: the guard of a handle (src/api/handle.h) on its own: a thread that is stopped
 * in the middle of entering, many that enter, are kept out and close as they like, and forks. */
#define _GNU_SOURCE

static void hinted(void);
#define SHMIPC_HANDLE_HINTED() hinted()

#include "../../../src/api/handle.h"
#include "../../../src/core/wait/wait.h"
#include "api.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPEN SHMIPC_TAG_PRODUCER
#define CLOSED SHMIPC_TAG_PRODUCER_CLOSED

static struct shmipc_handle *handle;
static bool forked;
static _Thread_local void (*at_hint)(void); /* called once, by this thread */

static void hinted(void)
{
    void (*act)(void) = at_hint;
    at_hint = NULL;
    if (act != NULL) {
        act();
    }
}

static void call_out(struct shmipc_handle *called)
{
    (void)called;
}

static void handle_new(bool asymmetric)
{
    handle = aligned_alloc(SHMIPC_LINE, sizeof *handle);
    CHECK(handle != NULL);
    memset(handle, 0, sizeof *handle);
    shmipc_handle_init(handle, OPEN, "x", asymmetric, &forked, call_out);
}

static bool is_asymmetric(void)
{
    return shmipc_wait_register();
}

/* ---- a thread that was stopped while it entered --------------------------------------------- */

static atomic_int other_is; /* 1: inside, 2: may leave */
static pthread_t other;

static void *enter_and_stay(void *argument)
{
    (void)argument;
    DONE(shmipc_handle_enter(handle, OPEN));
    atomic_store(&other_is, 1);
    while (atomic_load(&other_is) != 2) {
        (void)sched_yield();
    }
    shmipc_handle_leave(handle);
    return NULL;
}

static void let_another_in(void)
{
    other = api_start(enter_and_stay, NULL);
    while (atomic_load(&other_is) != 1) {
        (void)sched_yield();
    }
}

static void test_owner_that_lost_its_handle_meanwhile_does_not_let_others_in(void)
{
    handle_new(is_asymmetric());
    for (int i = 0; i < 20; i++) {
        atomic_store(&other_is, 0);
        DONE(shmipc_handle_enter(handle, OPEN));
        shmipc_handle_leave(handle);
        at_hint = let_another_in;
        CHECK_RESULT(shmipc_handle_enter(handle, OPEN), SHMIPC_E_MISUSE);
        CHECK_RESULT(shmipc_handle_enter(handle, OPEN), SHMIPC_E_MISUSE); /* it is still inside */
        atomic_store(&other_is, 2);
        api_join(other);
    }
    free(handle);
}

/* ---- many threads --------------------------------------------------------------------------- */

static atomic_bool stop;
static atomic_int inside;  /* threads that were let in: never 2 */
static uint64_t entrances; /* plain: what the guard guards */
static atomic_ulong counted;

static void linger(void)
{
    (void)sched_yield();
}

static void *enter_often(void *argument)
{
    uint64_t seed = (uintptr_t)argument;
    while (!atomic_load(&stop)) {
        const uint64_t chance = test_random(&seed);
        if (chance % 8 == 0) {
            at_hint = linger;
        }
        const int result = shmipc_handle_enter(handle, OPEN);
        if (result == SHMIPC_E_CLOSED) {
            break;
        }
        if (result == SHMIPC_E_MISUSE) {
            (void)sched_yield();
            continue;
        }
        CHECK_EQ(result, SHMIPC_SUCCESS);
        CHECK_EQ(atomic_fetch_add(&inside, 1), 0);
        entrances++;
        if (chance % 32 == 1) {
            (void)sched_yield();
        }
        CHECK_EQ(atomic_fetch_sub(&inside, 1), 1);
        shmipc_handle_leave(handle);
        atomic_fetch_add(&counted, 1);
    }
    return NULL;
}

static void compete(bool asymmetric, uint64_t times)
{
    for (uint64_t i = 0; i < times; i++) {
        bool already;
        pthread_t threads[3];
        handle_new(asymmetric);
        atomic_store(&stop, false);
        atomic_store(&counted, 0);
        entrances = 0;
        for (uintptr_t k = 0; k < 3; k++) {
            threads[k] = api_start(enter_often, (void *)(i * 3 + k + 1));
        }
        usleep(2000);
        DONE(shmipc_handle_begin_close(handle, OPEN, CLOSED, &already));
        CHECK(!already);
        CHECK_EQ(atomic_load(&inside), 0); /* and nobody comes any more */
        const uint64_t at_close = entrances;
        usleep(100);
        CHECK_EQ(entrances, at_close);
        shmipc_handle_unlock(handle);
        for (int k = 0; k < 3; k++) {
            api_join(threads[k]);
        }
        CHECK_EQ(entrances, atomic_load(&counted));
        free(handle);
    }
}

static void test_one_thread_at_a_time(void)
{
    compete(is_asymmetric(), test_rounds(100));
    compete(false, test_rounds(50));
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_owner_that_lost_its_handle_meanwhile_does_not_let_others_in),
        TEST(test_one_thread_at_a_time),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
