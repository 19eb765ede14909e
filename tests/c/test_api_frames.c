/* test_api_frames.c: frames that other threads give back, step by step. With many threads at once:
 * test_api_threads.c, test_api_torture.c. */
#define _GNU_SOURCE
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static struct api_pair pair;
static int waited;

static pthread_t start(void *(*body)(void *argument), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, argument) == 0);
    return thread;
}

static void join(pthread_t thread)
{
    CHECK(pthread_join(thread, NULL) == 0);
}

static void *wait_for_data(void *argument)
{
    (void)argument;
    do {
        waited = shmipc_consumer_wait(pair.consumer, PATIENCE_NS);
    } while (waited == SHMIPC_E_MISUSE);
    return NULL;
}

static void *release_it(void *argument)
{
    shmipc_frame_release(argument);
    return NULL;
}

static void await_sleeper(void)
{
    /* Nothing says that it sleeps, so it is given time to; either way the result is the same. */
    usleep(30000);
}

static void send_large(void)
{
    static const char bytes[3000];
    DONE(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, PATIENCE_NS));
}

/* The wait in which the last frame comes back leaves nothing behind: a later frame that another
 * thread gives back is given back there and then. */
static void test_frame_after_a_wait_that_took_the_last_one_makes_room_at_once(void)
{
    struct shmipc_frame *frame;
    pair = api_open(NULL, 4096, 1, SHMIPC_BLOCK);
    for (int i = 0; i < 5; i++) {
        send_large();
        DONE(shmipc_consumer_read(pair.consumer, &frame, PATIENCE_NS));
        pthread_t reader = start(wait_for_data, NULL);
        await_sleeper();
        shmipc_frame_release(frame);
        send_large();
        join(reader);
        CHECK_EQ(waited, SHMIPC_SUCCESS);
        DONE(shmipc_consumer_read(pair.consumer, &frame, PATIENCE_NS));
        join(start(release_it, frame)); /* nobody is inside */
        static const char bytes[3000];
        DONE(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 0));
        DONE(shmipc_consumer_read(pair.consumer, &frame, PATIENCE_NS));
        shmipc_frame_release(frame);
    }
    api_free(&pair);
}

/* shmipc_wait waits too, and takes what is given back meanwhile. */
static void *wait_in_a_set(void *argument)
{
    unsigned char ready;
    (void)argument;
    do {
        waited = shmipc_wait(&pair.consumer, 1, &ready, PATIENCE_NS);
    } while (waited == SHMIPC_E_MISUSE);
    return NULL;
}

static void test_frame_given_back_while_its_reader_waits_for_several_rings(void)
{
    struct shmipc_frame *frame;
    pair = api_open(NULL, 4096, 1, SHMIPC_BLOCK);
    for (int i = 0; i < 5; i++) {
        send_large();
        DONE(shmipc_consumer_read(pair.consumer, &frame, PATIENCE_NS));
        pthread_t reader = start(wait_in_a_set, NULL);
        await_sleeper();
        shmipc_frame_release(frame);
        send_large();
        join(reader);
        CHECK_EQ(waited, SHMIPC_SUCCESS);
        DONE(shmipc_consumer_read(pair.consumer, &frame, PATIENCE_NS));
        join(start(release_it, frame));
    }
    api_free(&pair);
}

/* What is pointed at is looked at before anything in it is believed. */
static void test_interrupt_of_something_else_is_refused(void)
{
    struct shmipc_frame *frame;
    struct shmipc_view view;
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    api_send(pair.producer, 1, 100);
    DONE(shmipc_consumer_read(pair.consumer, &frame, 0));
    CHECK_RESULT(shmipc_consumer_interrupt((struct shmipc_consumer *)(void *)frame),
                 SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_interrupt((struct shmipc_producer *)(void *)frame),
                 SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_interrupt((struct shmipc_producer *)(void *)pair.consumer),
                 SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_interrupt((struct shmipc_consumer *)(void *)pair.producer),
                 SHMIPC_E_INVALID);
    DONE(shmipc_frame_view(frame, &view));
    api_check(&view, 1, 100);
    shmipc_frame_release(frame);
    CHECK_RESULT(shmipc_consumer_wait(pair.consumer, 1000000), SHMIPC_E_EMPTY);
    api_free(&pair);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_frame_after_a_wait_that_took_the_last_one_makes_room_at_once),
        TEST(test_frame_given_back_while_its_reader_waits_for_several_rings),
        TEST(test_interrupt_of_something_else_is_refused),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
