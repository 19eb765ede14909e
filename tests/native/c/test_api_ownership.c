/* test_api_ownership.c: a handle that is taken over from a thread that was just about to enter it.
 * Under ThreadSanitizer too. */
#define _GNU_SOURCE
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>

static struct api_pair pair;
static atomic_bool stop;
static int looker_saw;

/* Looks until it is refused, and then ends the wait of the thread inside. */
static void *look_until_refused(void *argument)
{
    struct shmipc_view view;
    (void)argument;
    do {
        looker_saw = shmipc_consumer_peek(pair.consumer, &view);
    } while (looker_saw == SHMIPC_E_EMPTY && !atomic_load(&stop));
    (void)shmipc_consumer_interrupt(pair.consumer);
    return NULL;
}

/* An owner that was on its way in when another thread took the handle over must not wipe out that
 * the other is inside, however late it goes on. */
static void test_looking_thread_is_refused_once_another_waits_inside(void)
{
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    for (uint64_t i = test_rounds(3000); i > 0; i--) {
        int result;
        pthread_t looker;
        CHECK(pthread_create(&looker, NULL, look_until_refused, NULL) == 0);
        do { /* refused while the other is inside; then it is our turn to wait there */
            result = shmipc_consumer_wait(pair.consumer, PATIENCE_NS);
        } while (result == SHMIPC_E_MISUSE);
        atomic_store(&stop, result != SHMIPC_E_INTERRUPTED);
        CHECK(pthread_join(looker, NULL) == 0);
        CHECK_RESULT(result, SHMIPC_E_INTERRUPTED);
        CHECK_RESULT(looker_saw, SHMIPC_E_MISUSE);
    }
    api_free(&pair);
}

static void *send_and_count(void *result)
{
    *(int *)result = shmipc_producer_send(pair.producer, "x", 1, 1, 0, 0);
    return NULL;
}

/* Every thread's entry goes with the handle: LeakSanitizer looks. */
static void test_handle_that_many_threads_used_leaves_nothing(void)
{
    enum { THREADS = 20 };
    pthread_t threads[THREADS];
    int results[THREADS];
    char byte;
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    for (int i = 0; i < THREADS; i++) { /* alive together, so that no two have one name */
        CHECK(pthread_create(&threads[i], NULL, send_and_count, &results[i]) == 0);
    }
    uint64_t sent = 0;
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(results[i] == SHMIPC_SUCCESS || results[i] == SHMIPC_E_MISUSE);
        sent += results[i] == SHMIPC_SUCCESS ? 1 : 0;
    }
    CHECK(sent > 0);
    for (; sent > 0; sent--) {
        DONE(shmipc_consumer_recv(pair.consumer, &byte, 1, NULL, 0));
    }
    CHECK_RESULT(shmipc_consumer_recv(pair.consumer, &byte, 1, NULL, 0), SHMIPC_E_EMPTY);
    api_free(&pair);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_looking_thread_is_refused_once_another_waits_inside),
        TEST(test_handle_that_many_threads_used_leaves_nothing),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
