/* test_api_misuse.c: what the public API answers to what it cannot do. */
#define _GNU_SOURCE
#include "api.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void test_null_is_refused_everywhere(void)
{
    struct api_pair pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    unsigned char ready[1];
    struct shmipc_view view;
    struct shmipc_frame *frame;
    size_t count;
    void *data;
    CHECK_RESULT(shmipc_producer_open(NULL, "x", NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_open(NULL, "x", NULL), SHMIPC_E_INVALID);
    struct shmipc_producer *none;
    struct shmipc_consumer *nobody;
    CHECK_RESULT(shmipc_producer_open(&none, NULL, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_open(&nobody, NULL, NULL), SHMIPC_E_INVALID);
    shmipc_producer_options_init(NULL);
    shmipc_consumer_options_init(NULL);
    CHECK_RESULT(shmipc_producer_send(NULL, "a", 1, 1, 0, 0), SHMIPC_E_INVALID);
    SAID("the producer is NULL");
    CHECK_RESULT(shmipc_producer_send_n(NULL, "a", 1, 0, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_send_messages(NULL, &view, 1, 0, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_reserve(NULL, 1, 0, &data), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_reserve(pair.producer, 1, 0, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_reserve_n(NULL, 1, 0, &data), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_reserve_n(pair.producer, 1, 0, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_commit(NULL, 1, 1, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_commit_n(NULL, 1), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_abort(NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_wait_for_consumers(NULL, 1, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_unlink(NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_interrupt(NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_close(NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_info(NULL, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_info(pair.producer, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_stats(pair.producer, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_send(pair.producer, NULL, 1, 1, 0, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_send_messages(pair.producer, NULL, 1, 0, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_peek(NULL, &view), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_peek(pair.consumer, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_peek_n(NULL, 0, &view), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_peek_n(pair.consumer, 0, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_peek_messages(NULL, &view, 1, &count), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_peek_messages(pair.consumer, NULL, 1, &count), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_peek_messages(pair.consumer, &view, 1, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_release(NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_release_n(NULL, 1), SHMIPC_E_INVALID);
    CHECK(!shmipc_consumer_is_intact(NULL));
    CHECK(!shmipc_consumer_is_intact(pair.consumer));
    CHECK_RESULT(shmipc_consumer_recv(NULL, &view, 1, NULL, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_recv(pair.consumer, NULL, 1, NULL, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_wait(NULL, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_wait(NULL, 1, ready, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_wait(&pair.consumer, 1, NULL, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_wait(&pair.consumer, 0, ready, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_wait(&nobody, 1, ready, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_wait(&pair.consumer, SIZE_MAX / 64, ready, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_read(NULL, &frame, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_read(pair.consumer, NULL, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_frame_view(NULL, &view), SHMIPC_E_INVALID);
    CHECK(!shmipc_frame_is_intact(NULL));
    CHECK_RESULT(shmipc_consumer_interrupt(NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_close(NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_info(pair.consumer, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_stats(pair.consumer, NULL), SHMIPC_E_INVALID);
    shmipc_producer_free(NULL);
    shmipc_consumer_free(NULL);
    shmipc_frame_release(NULL);
    api_free(&pair);
}

static void test_handle_of_another_kind_is_refused(void)
{
    struct api_pair pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    struct shmipc_producer *wrong = (struct shmipc_producer *)(void *)pair.consumer;
    struct shmipc_consumer *other = (struct shmipc_consumer *)(void *)pair.producer;
    struct shmipc_view view;
    CHECK_RESULT(shmipc_producer_send(wrong, "a", 1, 1, 0, 0), SHMIPC_E_INVALID);
    SAID("this is a consumer, not a producer");
    CHECK_RESULT(shmipc_consumer_peek(other, &view), SHMIPC_E_INVALID);
    SAID("this is a producer, not a consumer");
    CHECK_RESULT(shmipc_producer_close(wrong), SHMIPC_E_INVALID);
    shmipc_producer_free(wrong); /* and it is not */
    CHECK_RESULT(shmipc_frame_view((struct shmipc_frame *)(void *)wrong, &view), SHMIPC_E_INVALID);
    struct shmipc_frame *frame;
    api_send(pair.producer, 1, 10);
    DONE(shmipc_consumer_read(pair.consumer, &frame, 0));
    CHECK_RESULT(shmipc_consumer_peek((struct shmipc_consumer *)(void *)frame, &view),
                 SHMIPC_E_INVALID);
    SAID("this is a frame");
    shmipc_frame_release(frame);
    CHECK_RESULT(shmipc_consumer_peek(pair.consumer, &view), SHMIPC_E_EMPTY);
    api_free(&pair);
}

static void test_closed_handle_says_so(void)
{
    struct api_pair pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    struct shmipc_view view;
    struct shmipc_frame *frame;
    struct shmipc_info info;
    unsigned char ready;
    void *data;
    DONE(shmipc_producer_reserve(pair.producer, 8, 0, &data));
    DONE(shmipc_producer_close(pair.producer));
    DONE(shmipc_producer_close(pair.producer));
    CHECK_RESULT(shmipc_producer_send(pair.producer, "a", 1, 1, 0, 0), SHMIPC_E_CLOSED);
    SAID("was closed: open a new one");
    CHECK_RESULT(shmipc_producer_commit(pair.producer, 1, 1, 0), SHMIPC_E_CLOSED);
    CHECK_RESULT(shmipc_producer_info(pair.producer, &info), SHMIPC_E_CLOSED);
    CHECK_RESULT(shmipc_producer_interrupt(pair.producer), SHMIPC_E_CLOSED);
    CHECK_RESULT(shmipc_producer_unlink(pair.producer), SHMIPC_E_CLOSED);
    DONE(shmipc_consumer_close(pair.consumer));
    DONE(shmipc_consumer_close(pair.consumer));
    CHECK_RESULT(shmipc_consumer_peek(pair.consumer, &view), SHMIPC_E_CLOSED);
    CHECK_RESULT(shmipc_consumer_recv(pair.consumer, &view, sizeof view, NULL, 0), SHMIPC_E_CLOSED);
    CHECK_RESULT(shmipc_consumer_read(pair.consumer, &frame, 0), SHMIPC_E_CLOSED);
    CHECK_RESULT(shmipc_wait(&pair.consumer, 1, &ready, 0), SHMIPC_E_CLOSED);
    CHECK_RESULT(shmipc_consumer_interrupt(pair.consumer), SHMIPC_E_CLOSED);
    api_free(&pair);
}

static void test_other_abi_is_refused(void)
{
    struct shmipc_producer_options options;
    struct shmipc_consumer_options consuming;
    struct shmipc_producer *producer;
    struct shmipc_consumer *consumer;
    shmipc_producer_options_init(&options);
    shmipc_consumer_options_init(&consuming);
    options.abi++;
    CHECK_RESULT(shmipc_producer_open(&producer, "x", &options), SHMIPC_E_ABI);
    SAID("build it again");
    options.abi--;
    options.size -= 8;
    CHECK_RESULT(shmipc_producer_open(&producer, "x", &options), SHMIPC_E_ABI);
    memset(&options, 0, sizeof options);
    CHECK_RESULT(shmipc_producer_open(&producer, "x", &options), SHMIPC_E_ABI);
    consuming.abi = 77;
    CHECK_RESULT(shmipc_consumer_open(&consumer, "x", &consuming), SHMIPC_E_ABI);
    SAID("77");
}

static void refuse(struct shmipc_producer_options options, int expected, const char *text)
{
    struct shmipc_producer *producer;
    CHECK_RESULT(shmipc_producer_open(&producer, "x", &options), expected);
    CHECK(producer == NULL);
    SAID(text);
    CHECK(!test_exists(test_path("x")));
}

static void test_options_out_of_range_are_refused(void)
{
    struct shmipc_producer_options good, bad;
    struct shmipc_producer *producer;
    static const char *const names[] = {"", "/x", ".x", "a/b", "-", "\xff", "a b"};
    char longest[202];
    shmipc_producer_options_init(&good);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK_RESULT(shmipc_producer_open(&producer, names[i], NULL), SHMIPC_E_INVALID);
    }
    memset(longest, 'a', 201);
    longest[201] = '\0';
    CHECK_RESULT(shmipc_producer_open(&producer, longest, NULL), SHMIPC_E_INVALID);
    longest[200] = '\0';
    DONE(shmipc_producer_open(&producer, longest, NULL));
    shmipc_producer_free(producer);
    bad = good, bad.max_consumers = 0, refuse(bad, SHMIPC_E_INVALID, "1 to 1024");
    bad = good, bad.max_consumers = 1025, refuse(bad, SHMIPC_E_INVALID, "1025");
    bad = good, bad.overflow = 3, refuse(bad, SHMIPC_E_INVALID, "SHMIPC_OVERWRITE");
    bad = good, bad.mode = 01000, refuse(bad, SHMIPC_E_INVALID, "01000");
    bad = good, bad.capacity = UINT64_MAX, refuse(bad, SHMIPC_E_INVALID, "capacity");
    bad = good, bad.spin_ns = -3, refuse(bad, SHMIPC_E_INVALID, "spin_ns");
    bad = good, bad.dtype = "<q9", refuse(bad, SHMIPC_E_INVALID, "q9");
    bad = good, bad.item_size = 4, refuse(bad, SHMIPC_E_INVALID, "dtype");
    bad = good, bad.dtype = "<f8", bad.item_size = 4, refuse(bad, SHMIPC_E_INVALID, "8 bytes");
    struct shmipc_consumer_options consuming;
    struct shmipc_consumer *consumer;
    shmipc_consumer_options_init(&consuming);
    consuming.start = 3;
    CHECK_RESULT(shmipc_consumer_open(&consumer, "x", &consuming), SHMIPC_E_INVALID);
    consuming.start = SHMIPC_RESUME;
    consuming.timeout_ns = -2;
    CHECK_RESULT(shmipc_consumer_open(&consumer, "x", &consuming), SHMIPC_E_INVALID);
    SAID("timeout");
    consuming.timeout_ns = 1000000;
    CHECK_RESULT(shmipc_consumer_open(&consumer, "x", &consuming), SHMIPC_E_NOT_FOUND);
    SAID("shmipc.x");
}

static void test_timeouts_below_forever_are_refused(void)
{
    struct api_pair pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    struct shmipc_frame *frame;
    unsigned char ready;
    void *data;
    api_send(pair.producer, 1, 8); /* there is something to read, and room */
    CHECK_RESULT(shmipc_producer_send(pair.producer, "a", 1, 1, 0, -2), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_reserve(pair.producer, 1, INT64_MIN, &data), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_wait_for_consumers(pair.producer, 1, -2), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_recv(pair.consumer, &data, 8, NULL, -2), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_wait(pair.consumer, -2), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_read(pair.consumer, &frame, -2), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_wait(&pair.consumer, 1, &ready, -2), SHMIPC_E_INVALID);
    DONE(shmipc_consumer_recv(pair.consumer, &data, 8, NULL, INT64_MAX));
    api_free(&pair);
}

static void test_roles_are_exclusive(void)
{
    struct api_pair pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    struct shmipc_producer *second;
    struct shmipc_consumer *other;
    CHECK_RESULT(shmipc_producer_open(&second, "x", NULL), SHMIPC_E_BUSY);
    SAID("already has a producer");
    CHECK_RESULT(shmipc_consumer_open(&other, "x", NULL), SHMIPC_E_BUSY);
    DONE(shmipc_producer_wait_for_consumers(pair.producer, 1, 0));
    CHECK_RESULT(shmipc_producer_wait_for_consumers(pair.producer, 2, 0), SHMIPC_E_INVALID);
    DONE(shmipc_consumer_close(pair.consumer));
    CHECK_RESULT(shmipc_producer_wait_for_consumers(pair.producer, 1, 1000000), SHMIPC_E_NOT_FOUND);
    SAID("0 of the 1");
    struct shmipc_consumer_options options;
    shmipc_consumer_options_init(&options);
    options.start = SHMIPC_LATEST;
    CHECK_RESULT(shmipc_consumer_open(&other, "x", &options), SHMIPC_E_INVALID);
    SAID("durable");
    api_free(&pair);
}

static void test_files_that_are_no_segments_are_corrupt(void)
{
    struct shmipc_producer *producer;
    struct shmipc_consumer *consumer;
    const int fd = open(test_path("x"), O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0 && write(fd, "nothing of ours, at all", 23) == 23);
    close(fd);
    CHECK_RESULT(shmipc_producer_open(&producer, "x", NULL), SHMIPC_E_CORRUPT);
    CHECK_RESULT(shmipc_consumer_open(&consumer, "x", NULL), SHMIPC_E_CORRUPT);
    CHECK(unlink(test_path("x")) == 0);
}

static void test_cut_segment_is_corrupt_and_no_crash(void)
{
    struct api_pair pair = api_open(NULL, 1 << 16, 1, SHMIPC_BLOCK);
    struct shmipc_view view;
    char bytes[5000] = {0};
    for (int i = 0; i < 5; i++) {
        DONE(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 0));
    }
    CHECK(truncate(test_path("x"), 8192) == 0);
    int result = SHMIPC_SUCCESS;
    for (int i = 0; i < 5 && result == SHMIPC_SUCCESS; i++) {
        result = shmipc_consumer_recv(pair.consumer, bytes, sizeof bytes, NULL, 0);
    }
    CHECK_RESULT(result, SHMIPC_E_CORRUPT);
    CHECK_RESULT(shmipc_consumer_peek(pair.consumer, &view), SHMIPC_E_CORRUPT);
    CHECK_RESULT(shmipc_producer_send(pair.producer, bytes, sizeof bytes, 1, 0, 0),
                 SHMIPC_E_CORRUPT);
    api_free(&pair);
    (void)unlink(test_path("x"));
}

static void be_a_child(void *argument)
{
    struct api_pair *pair = argument;
    struct shmipc_view view;
    CHECK_RESULT(shmipc_producer_send(pair->producer, "a", 1, 1, 0, 0), SHMIPC_E_MISUSE);
    SAID("parent process");
    CHECK_RESULT(shmipc_consumer_peek(pair->consumer, &view), SHMIPC_E_MISUSE);
    CHECK_RESULT(shmipc_consumer_interrupt(pair->consumer), SHMIPC_E_MISUSE);
    shmipc_producer_free(pair->producer);
    DONE(shmipc_consumer_close(pair->consumer));
    CHECK_RESULT(shmipc_consumer_peek(pair->consumer, &view), SHMIPC_E_CLOSED);
    shmipc_consumer_free(pair->consumer);
}

static void test_forked_child_is_refused_and_forgets(void)
{
    struct api_pair pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    test_join(test_fork(be_a_child, &pair));
    struct shmipc_view view;
    api_send(pair.producer, 3, 30);
    DONE(shmipc_consumer_peek(pair.consumer, &view));
    api_check(&view, 3, 30);
    DONE(shmipc_consumer_release(pair.consumer));
    api_free(&pair);
}

static void die_having_sent(void *argument)
{
    (void)argument;
    struct shmipc_producer *producer = api_producer(NULL, 0, 1, SHMIPC_BLOCK);
    api_send(producer, 0, 10);
    api_send(producer, 1, 20);
    _exit(0);
}

static void die_attached(void *argument)
{
    (void)argument;
    (void)api_consumer();
    _exit(0);
}

static void test_death_is_told_after_what_was_sent(void)
{
    struct shmipc_view view;
    test_join(test_fork(die_having_sent, NULL));
    struct shmipc_consumer *consumer = api_consumer();
    for (uint64_t i = 0; i < 2; i++) {
        DONE(shmipc_consumer_wait(consumer, PATIENCE_NS));
        DONE(shmipc_consumer_peek(consumer, &view));
        CHECK_EQ(view.seq, i);
        DONE(shmipc_consumer_release(consumer));
    }
    CHECK_RESULT(shmipc_consumer_wait(consumer, PATIENCE_NS), SHMIPC_E_PRODUCER_DIED);
    SAID("died");
    CHECK_RESULT(shmipc_consumer_recv(consumer, &view, sizeof view, NULL, 100000000),
                 SHMIPC_E_EMPTY); /* told once; from now on it waits for the next one */
    CHECK_RESULT(shmipc_consumer_wait_for_producer(consumer, 0), SHMIPC_E_NOT_FOUND);
    SAID("has no producer");
    struct shmipc_producer *successor = api_producer(NULL, 0, 1, SHMIPC_BLOCK);
    struct shmipc_producer_stats stats;
    DONE(shmipc_producer_stats(successor, &stats));
    CHECK_EQ(stats.took_over, 1);
    DONE(shmipc_consumer_wait_for_producer(consumer, PATIENCE_NS));
    api_send(successor, 2, 30);
    DONE(shmipc_consumer_peek(consumer, &view));
    CHECK_EQ(view.seq, 2);
    api_check(&view, 2, 30);
    DONE(shmipc_consumer_release(consumer));
    shmipc_consumer_free(consumer);
    test_join(test_fork(die_attached, NULL));
    int result;
    while ((result = shmipc_producer_send(successor, "0123456789", 10, 1, 0, PATIENCE_NS)) ==
           SHMIPC_SUCCESS) {
    }
    CHECK_RESULT(result, SHMIPC_E_CONSUMER_DIED);
    SAID("consumer died");
    shmipc_producer_free(successor);
    consumer = api_consumer(); /* what was sent is there, and then the end */
    while ((result = shmipc_consumer_recv(consumer, &view, sizeof view, NULL, 0)) ==
           SHMIPC_SUCCESS) {
    }
    CHECK_RESULT(result, SHMIPC_E_CLOSED);
    shmipc_consumer_free(consumer);
}

static void test_no_room_for_a_ring_is_an_os_error(void)
{
    struct shmipc_producer_options options;
    struct shmipc_producer *producer;
    shmipc_producer_options_init(&options);
    options.capacity = UINT64_C(1) << 45;
    CHECK_RESULT(shmipc_producer_open(&producer, "x", &options), SHMIPC_E_OS);
    CHECK(shmipc_last_errno() != 0);
    CHECK(shmipc_last_error()[0] != '\0');
    CHECK_RESULT(shmipc_producer_open(&producer, ".", &options), SHMIPC_E_INVALID);
    CHECK_EQ(shmipc_last_errno(), 0);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_null_is_refused_everywhere),
        TEST(test_handle_of_another_kind_is_refused),
        TEST(test_closed_handle_says_so),
        TEST(test_other_abi_is_refused),
        TEST(test_options_out_of_range_are_refused),
        TEST(test_timeouts_below_forever_are_refused),
        TEST(test_roles_are_exclusive),
        TEST(test_files_that_are_no_segments_are_corrupt),
        TEST(test_cut_segment_is_corrupt_and_no_crash),
        TEST(test_forked_child_is_refused_and_forgets),
        TEST(test_death_is_told_after_what_was_sent),
        TEST(test_no_room_for_a_ring_is_an_os_error),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
