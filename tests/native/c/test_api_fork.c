/* test_api_fork.c: forks of a process whose threads are in the middle of something. The child has
 * copies of handles that are the parent's, in any state: it must be able to forget them. */
#define _GNU_SOURCE
#include "../../../src/api/handle.h"
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_DEADLINE_S 20 /* a child that takes longer hangs */

static struct api_pair pair;

static void free_both(void *argument)
{
    struct api_pair *both = argument;
    struct shmipc_view view;
    (void)alarm(CHILD_DEADLINE_S);
    const int result = shmipc_consumer_peek(both->consumer, &view);
    CHECK(result == SHMIPC_E_MISUSE || result == SHMIPC_E_CLOSED);
    DONE(shmipc_consumer_close(both->consumer));
    DONE(shmipc_consumer_close(both->consumer));
    shmipc_producer_free(both->producer);
    shmipc_consumer_free(both->consumer);
    /* and the list of what is open was left in order */
    struct shmipc_producer *own;
    for (int i = 0; i < 3; i++) {
        DONE(shmipc_producer_open(&own, "own", NULL));
        shmipc_producer_free(own);
    }
}

static void forget_locked(void *argument)
{
    (void)argument;
    (void)alarm(CHILD_DEADLINE_S);
    DONE(shmipc_producer_close(pair.producer));
    shmipc_producer_free(pair.producer);
    DONE(shmipc_consumer_close(pair.consumer));
    shmipc_consumer_free(pair.consumer);
}

static void test_child_of_a_process_that_was_closing_does_not_hang(void)
{
    for (int when = 0; when < 3; when++) {
        pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
        struct shmipc_handle *handles[2] = {(struct shmipc_handle *)pair.producer,
                                            (struct shmipc_handle *)pair.consumer};
        for (int i = 0; i < 2; i++) { /* as if another thread were in the middle */
            if (when == 1) {
                DONE(i == 0 ? shmipc_producer_close(pair.producer)
                            : shmipc_consumer_close(pair.consumer));
            }
            shmipc_handle_lock(handles[i]);
            if (when == 2) {
                (void)shmipc_handle_call(handles[i], 0);
            }
        }
        test_join(test_fork(forget_locked, NULL));
        for (int i = 0; i < 2; i++) {
            if (when == 2) {
                shmipc_handle_depart(handles[i]);
            }
            shmipc_handle_unlock(handles[i]);
        }
        api_free(&pair);
    }
}

/* ---- in the middle of all of it -------------------------------------------------------------- */

static atomic_int stage;

static void *close_both(void *argument)
{
    const uint64_t order = *(uint64_t *)argument;
    atomic_store(&stage, 1);
    while (atomic_load(&stage) != 2) {
    }
    if (order % 2 == 0) {
        DONE(shmipc_producer_close(pair.producer));
        DONE(shmipc_consumer_close(pair.consumer));
    } else {
        DONE(shmipc_consumer_close(pair.consumer));
        DONE(shmipc_producer_close(pair.producer));
    }
    return NULL;
}

static void test_fork_while_another_thread_closes(void)
{
#ifdef SHMIPC_UNDER_TSAN
    test_skip("ThreadSanitizer cannot follow a fork of several threads");
#endif
    const uint64_t times = test_rounds(400);
    uint64_t seed = 5;
    for (uint64_t i = 0; i < times; i++) {
        uint64_t chance = test_random(&seed);
        pair = api_open(NULL, 1 << 22, 1, SHMIPC_BLOCK);
        atomic_store(&stage, 0);
        pthread_t closer = api_start(close_both, &chance);
        while (atomic_load(&stage) != 1) {
        }
        atomic_store(&stage, 2);
        for (volatile uint64_t turn = chance % 60000; turn > 0; turn--) {
        }
        test_join(test_fork(free_both, &pair));
        api_join(closer);
        api_free(&pair);
    }
}

/* The parent's frames are there to be read in the child, whatever it forgets. */
static void look_at_frame(void *argument)
{
    struct shmipc_frame *frame = argument;
    struct shmipc_view view;
    (void)alarm(CHILD_DEADLINE_S);
    shmipc_consumer_free(pair.consumer);
    shmipc_producer_free(pair.producer);
    DONE(shmipc_frame_view(frame, &view));
    api_check(&view, 7, 700);
    CHECK(shmipc_frame_is_intact(frame));
    shmipc_frame_release(frame);
}

static void test_child_reads_the_frames_of_its_parent(void)
{
    struct shmipc_frame *frame;
    struct shmipc_view view;
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    api_send(pair.producer, 7, 700);
    DONE(shmipc_consumer_read(pair.consumer, &frame, 0));
    test_join(test_fork(look_at_frame, frame));
    DONE(shmipc_frame_view(frame, &view));
    api_check(&view, 7, 700);
    shmipc_consumer_free(pair.consumer);
    test_join(test_fork(look_at_frame, frame));
    shmipc_frame_release(frame);
    shmipc_producer_free(pair.producer);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_child_of_a_process_that_was_closing_does_not_hang),
        TEST(test_fork_while_another_thread_closes),
        TEST(test_child_reads_the_frames_of_its_parent),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
