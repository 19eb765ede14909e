/* test_api_cancel.c: threads that pthread_cancel(3) has marked, inside every call that can come to
 * a cancellation point: none unwinds out of the middle of one. */
#define _GNU_SOURCE
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static struct api_pair pair;
static struct shmipc_frame *frame;
static atomic_int calls; /* that have returned to a thread that is marked */

/* Nothing here has an address: the address sanitizer knows nothing of frames that are unwound. */
static void *be_marked(void *argument)
{
    CHECK(pthread_cancel(pthread_self()) == 0); /* what this thread comes to next may end it */
    (*(void (**)(void))argument)();
    pthread_testcancel();
    return NULL;
}

/* Run `body` in a thread that is marked: it must make `expected` calls, each to its end, and then
 * be cancelled. */
static void run_marked(void (*body)(void), int expected)
{
    pthread_t thread = api_start(be_marked, (void *)&body);
    void *result = NULL;
    CHECK(pthread_join(thread, &result) == 0);
    CHECK_EQ(atomic_load(&calls), expected);
    CHECK(result == PTHREAD_CANCELED);
    atomic_store(&calls, 0);
}

#define RETURNED() atomic_fetch_add(&calls, 1)

static void open_and_free(void)
{
    struct shmipc_producer *producer;
    struct shmipc_consumer *consumer;
    DONE(shmipc_producer_open(&producer, "x", NULL));
    RETURNED();
    DONE(shmipc_consumer_open(&consumer, "x", NULL));
    RETURNED();
    DONE(shmipc_consumer_close(consumer));
    RETURNED();
    shmipc_consumer_free(consumer);
    RETURNED();
    shmipc_producer_free(producer);
    RETURNED();
}

static void test_open_and_free_are_no_cancellation_points(void)
{
    run_marked(open_and_free, 5);
    /* and nobody is locked out, not by a mutex and not by a role */
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    api_free(&pair);
}

static void open_what_is_not_there(void)
{
    struct shmipc_consumer_options options;
    struct shmipc_consumer *consumer;
    shmipc_consumer_options_init(&options);
    options.timeout_ns = SECOND_NS / 100;
    CHECK_RESULT(shmipc_consumer_open(&consumer, "x", &options), SHMIPC_E_NOT_FOUND);
    RETURNED();
}

static void test_waiting_for_a_ring_is_no_cancellation_point(void)
{
    run_marked(open_what_is_not_there, 1);
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    api_free(&pair);
}

static void wait_for_everything(void)
{
    struct shmipc_consumer *both[1] = {pair.consumer};
    unsigned char ready[1];
    CHECK_RESULT(shmipc_consumer_wait(pair.consumer, SECOND_NS / 100), SHMIPC_E_EMPTY);
    RETURNED();
    CHECK_RESULT(shmipc_wait(both, 1, ready, SECOND_NS / 100), SHMIPC_E_EMPTY);
    RETURNED();
    CHECK_RESULT(shmipc_producer_wait_for_consumers(pair.producer, 2, SECOND_NS / 100),
                 SHMIPC_E_NOT_FOUND);
    RETURNED();
    while (shmipc_producer_send(pair.producer, "x", 1, 1, 0, 0) == SHMIPC_SUCCESS) {
    }
    RETURNED();
    CHECK_RESULT(shmipc_producer_send(pair.producer, "x", 1, 1, 0, SECOND_NS / 100), SHMIPC_E_FULL);
    RETURNED();
    DONE(shmipc_producer_unlink(pair.producer));
    RETURNED();
}

static void test_waits_are_no_cancellation_points(void)
{
    struct shmipc_view view;
    pair = api_open(NULL, 4096, 2, SHMIPC_BLOCK);
    run_marked(wait_for_everything, 6);
    DONE(shmipc_consumer_peek(pair.consumer, &view)); /* nobody is inside */
    DONE(shmipc_consumer_release(pair.consumer));
    DONE(shmipc_producer_send(pair.producer, "x", 1, 1, 0, 0));
    api_free(&pair);
}

/* More than one futex_waitv(2) takes: the wait naps instead, which is a cancellation point. */
#define MANY 130

static struct shmipc_producer *producers[MANY];
static struct shmipc_consumer *consumers[MANY];

static void wait_for_many(void)
{
    unsigned char ready[MANY];
    CHECK_RESULT(shmipc_wait(consumers, MANY, ready, SECOND_NS / 100), SHMIPC_E_EMPTY);
    RETURNED();
}

static void test_wait_for_many_is_no_cancellation_point(void)
{
    struct shmipc_view view;
    for (int i = 0; i < MANY; i++) {
        char name[8] = {'r', (char)('0' + i / 100), (char)('0' + i / 10 % 10),
                        (char)('0' + i % 10)};
        struct shmipc_producer_options options;
        shmipc_producer_options_init(&options);
        options.capacity = 4096;
        DONE(shmipc_producer_open(&producers[i], name, &options));
        DONE(shmipc_consumer_open(&consumers[i], name, NULL));
    }
    run_marked(wait_for_many, 1);
    for (int i = 0; i < MANY; i++) {
        CHECK_RESULT(shmipc_consumer_peek(consumers[i], &view), SHMIPC_E_EMPTY);
        shmipc_consumer_free(consumers[i]);
        shmipc_producer_free(producers[i]);
    }
}

static void release_elsewhere(void)
{
    shmipc_frame_release(frame); /* the last of a closed consumer: it unmaps and closes the file */
    RETURNED();
}

static void test_giving_a_frame_back_is_no_cancellation_point(void)
{
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    api_send(pair.producer, 0, 8);
    DONE(shmipc_consumer_read(pair.consumer, &frame, 0));
    shmipc_consumer_free(pair.consumer);
    run_marked(release_elsewhere, 1);
    pair.consumer = api_consumer(); /* the durable queue's only slot is free */
    api_free(&pair);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_open_and_free_are_no_cancellation_points),
        TEST(test_waiting_for_a_ring_is_no_cancellation_point),
        TEST(test_waits_are_no_cancellation_points),
        TEST(test_wait_for_many_is_no_cancellation_point),
        TEST(test_giving_a_frame_back_is_no_cancellation_point),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
