/* test_api_frames.c: frames that other threads release, step by step. With many threads at once:
 * test_api_threads.c, test_api_torture.c. */
#define _GNU_SOURCE
#include "api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static struct api_pair pair;
static int waited;

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
 * thread releases is released there and then. */
static void test_frame_after_a_wait_that_took_the_last_one_makes_room_at_once(void)
{
    struct shmipc_frame *frame;
    pair = api_open(NULL, 4096, 1, SHMIPC_BLOCK);
    for (int i = 0; i < 5; i++) {
        send_large();
        DONE(shmipc_consumer_read(pair.consumer, &frame, PATIENCE_NS));
        pthread_t reader = api_start(wait_for_data, NULL);
        await_sleeper();
        shmipc_frame_release(frame);
        send_large();
        api_join(reader);
        CHECK_EQ(waited, SHMIPC_SUCCESS);
        DONE(shmipc_consumer_read(pair.consumer, &frame, PATIENCE_NS));
        api_join(api_start(release_it, frame)); /* nobody is inside */
        static const char bytes[3000];
        DONE(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 0));
        DONE(shmipc_consumer_read(pair.consumer, &frame, PATIENCE_NS));
        shmipc_frame_release(frame);
    }
    api_free(&pair);
}

/* shmipc_wait waits too, and takes what is released meanwhile. */
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
        pthread_t reader = api_start(wait_in_a_set, NULL);
        await_sleeper();
        shmipc_frame_release(frame);
        send_large();
        api_join(reader);
        CHECK_EQ(waited, SHMIPC_SUCCESS);
        DONE(shmipc_consumer_read(pair.consumer, &frame, PATIENCE_NS));
        api_join(api_start(release_it, frame));
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

static void test_release_elsewhere_makes_room_while_the_reader_sleeps(void)
{
    static const char bytes[1500];
    struct shmipc_frame *frame;
    pair = api_open(NULL, 4096, 1, SHMIPC_BLOCK);
    DONE(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 0));
    DONE(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 0));
    DONE(shmipc_consumer_read(pair.consumer, &frame, 0));
    struct shmipc_frame *second;
    DONE(shmipc_consumer_read(pair.consumer, &second, 0));
    pthread_t reader = api_start(wait_for_data, NULL);
    await_sleeper();
    pthread_t worker = api_start(release_it, frame);
    DONE(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, PATIENCE_NS));
    api_join(reader);
    api_join(worker);
    CHECK_EQ(waited, SHMIPC_SUCCESS);
    shmipc_frame_release(second);
    DONE(shmipc_consumer_read(pair.consumer, &frame, 0));
    shmipc_frame_release(frame);
    shmipc_frame_release(NULL);
    api_free(&pair);
}

static void *send_for_long(void *argument)
{
    (void)argument;
    send_large();
    return NULL;
}

static void test_reader_in_its_own_way_is_told_what_it_keeps(void)
{
    static const char bytes[1500];
    struct shmipc_frame *frames[2];
    pair = api_open(NULL, 4096, 1, SHMIPC_BLOCK);
    for (int i = 0; i < 2; i++) {
        DONE(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 0));
        DONE(shmipc_consumer_read(pair.consumer, &frames[i], 0));
    }
    CHECK_RESULT(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 1000000),
                 SHMIPC_E_FULL);
    SAID("has not released 2");
    pthread_t sender = api_start(send_for_long, NULL);
    do { /* until the producer sleeps */
        CHECK_RESULT(shmipc_consumer_wait(pair.consumer, 1000000), SHMIPC_E_EMPTY);
    } while (strstr(shmipc_last_error(), "in its way") == NULL);
    SAID("2 frames that this consumer keeps are in its way, the oldest from number 0 on");
    shmipc_frame_release(frames[0]);
    shmipc_frame_release(frames[1]);
    DONE(shmipc_consumer_read(pair.consumer, &frames[0], PATIENCE_NS));
    api_join(sender);
    shmipc_frame_release(frames[0]);
    api_free(&pair);
}

static void test_frames_outlive_their_consumer(void)
{
    struct shmipc_frame *frames[5];
    struct shmipc_view view;
    struct shmipc_producer_stats stats;
    pair = api_open(NULL, 0, 2, SHMIPC_BLOCK);
    for (uint64_t i = 0; i < 5; i++) {
        api_send(pair.producer, i, 100 + i);
        DONE(shmipc_consumer_read(pair.consumer, &frames[i], 0));
    }
    CHECK_RESULT(shmipc_consumer_peek(pair.consumer, &view), SHMIPC_E_EMPTY);
    shmipc_consumer_free(pair.consumer);
    DONE(shmipc_producer_stats(pair.producer, &stats));
    CHECK_EQ(stats.attached, 1); /* its slot stays with the frames */
    CHECK_EQ(stats.lag, 5);
    shmipc_producer_free(pair.producer);
    for (uint64_t i = 0; i < 5; i++) {
        DONE(shmipc_frame_view(frames[i], &view));
        api_check(&view, i, 100 + i);
        CHECK(shmipc_frame_is_intact(frames[i]));
    }
    CHECK(test_exists(test_path("x")));
    shmipc_frame_release(frames[3]);
    pthread_t worker = api_start(release_it, frames[1]);
    shmipc_frame_release(frames[0]);
    shmipc_frame_release(frames[4]);
    api_join(worker);
    DONE(shmipc_frame_view(frames[2], &view));
    api_check(&view, 2, 102);
    shmipc_frame_release(frames[2]);
    CHECK(!test_exists(test_path("x")));
}

static void test_memory_is_reused_from_the_oldest_frame_on(void)
{
    static const char bytes[1000];
    struct shmipc_frame *oldest, *newer;
    pair = api_open(NULL, 4096, 1, SHMIPC_BLOCK);
    for (int i = 0; i < 4; i++) {
        DONE(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 0));
    }
    DONE(shmipc_consumer_read(pair.consumer, &oldest, 0));
    DONE(shmipc_consumer_read(pair.consumer, &newer, 0));
    shmipc_frame_release(newer);
    CHECK_RESULT(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 0), SHMIPC_E_FULL);
    shmipc_frame_release(oldest);
    DONE(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 0));
    struct shmipc_view view;
    DONE(shmipc_consumer_peek(pair.consumer, &view));
    CHECK_RESULT(shmipc_consumer_read(pair.consumer, &newer, 0), SHMIPC_E_MISUSE);
    for (int i = 0; i < 3; i++) {
        DONE(shmipc_consumer_peek(pair.consumer, &view));
        DONE(shmipc_consumer_release(pair.consumer));
    }
    api_free(&pair);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_release_elsewhere_makes_room_while_the_reader_sleeps),
        TEST(test_reader_in_its_own_way_is_told_what_it_keeps),
        TEST(test_frames_outlive_their_consumer),
        TEST(test_memory_is_reused_from_the_oldest_frame_on),
        TEST(test_frame_after_a_wait_that_took_the_last_one_makes_room_at_once),
        TEST(test_frame_given_back_while_its_reader_waits_for_several_rings),
        TEST(test_interrupt_of_something_else_is_refused),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
