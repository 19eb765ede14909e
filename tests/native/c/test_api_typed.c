/* test_api_typed.c: the public API on typed rings. */
#include "api.h"

#include <string.h>

struct tick {
    int64_t time_ns;
    double price;
    uint32_t size;
    uint32_t padding;
};
#define TICK "[('time_ns', '<i8'), ('price', '<f8'), ('size', '<u4'), ('', '|V4')]"

static struct tick tick_of(uint64_t number)
{
    return (struct tick){(int64_t)number, (double)number / 4, (uint32_t)(number * 3), 0};
}

static bool is_tick(const void *data, uint64_t number)
{
    const struct tick expected = tick_of(number);
    return memcmp(data, &expected, sizeof expected) == 0;
}

static void test_items_one_by_one(void)
{
    struct api_pair pair = api_open(TICK, 8, 1, SHMIPC_BLOCK);
    struct shmipc_view view;
    struct tick received;
    for (uint64_t i = 0; i < 1000; i++) {
        const struct tick tick = tick_of(i);
        DONE(shmipc_producer_send(pair.producer, &tick, sizeof tick, 0, 0, 0));
        if (i % 2 == 0) {
            DONE(shmipc_consumer_peek(pair.consumer, &view));
            CHECK(is_tick(view.data, i));
            DONE(shmipc_consumer_release(pair.consumer));
        } else {
            DONE(shmipc_consumer_recv(pair.consumer, &received, sizeof received, &view, 0));
            CHECK(is_tick(&received, i));
        }
        CHECK_EQ(view.seq, i);
        CHECK_EQ(view.len, sizeof(struct tick));
        CHECK_EQ(view.stride, sizeof(struct tick));
        CHECK_EQ(view.kind, 0);
    }
    CHECK_RESULT(shmipc_producer_send(pair.producer, &received, sizeof received - 1, 0, 0, 0),
                 SHMIPC_E_MISMATCH);
    SAID("24 bytes");
    CHECK_RESULT(shmipc_producer_send(pair.producer, &received, sizeof received, 1, 0, 0),
                 SHMIPC_E_INVALID);
    api_free(&pair);
}

static void test_batches_are_stretches_of_the_ring(void)
{
    struct api_pair pair = api_open(TICK, 100, 1, SHMIPC_BLOCK);
    struct shmipc_view view;
    struct shmipc_info info;
    uint64_t next = 0, seen = 0;
    void *data;
    DONE(shmipc_producer_info(pair.producer, &info));
    CHECK_EQ(info.typed, 1);
    CHECK_EQ(info.item_size, sizeof(struct tick));
    CHECK(strcmp(info.schema, "(" TICK ", ())") == 0);
    CHECK_RESULT(shmipc_producer_reserve_n(pair.producer, info.capacity + 1, 0, &data),
                 SHMIPC_E_TOO_LARGE);
    CHECK_RESULT(shmipc_producer_reserve_n(pair.producer, UINT64_MAX, 0, &data),
                 SHMIPC_E_TOO_LARGE);
    CHECK_RESULT(shmipc_producer_reserve_n(pair.producer, 0, 0, &data), SHMIPC_E_INVALID);
    while (seen < 5000) {
        const uint64_t wanted = 1 + next % 37;
        DONE(shmipc_producer_reserve_n(pair.producer, wanted, 0, &data));
        for (uint64_t i = 0; i < wanted; i++) {
            const struct tick tick = tick_of(next + i);
            memcpy((char *)data + i * info.item_stride, &tick, sizeof tick);
        }
        const uint64_t kept = next % 3 == 0 ? (wanted + 1) / 2 : wanted;
        CHECK_RESULT(shmipc_producer_commit_n(pair.producer, wanted + 1), SHMIPC_E_INVALID);
        CHECK_RESULT(shmipc_producer_commit_n(pair.producer, 0), SHMIPC_E_INVALID);
        DONE(shmipc_producer_commit_n(pair.producer, kept));
        next += kept;
        while (next - seen > 50) {
            const uint64_t max = seen % 20;
            DONE(shmipc_consumer_peek_n(pair.consumer, max, &view));
            CHECK_EQ(view.count, max == 0 || max > next - seen ? next - seen : max);
            CHECK_EQ(view.seq, seen);
            CHECK_EQ(view.len, (view.count - 1) * view.stride + sizeof(struct tick));
            const uint64_t used = seen % 4 == 0 ? (view.count + 1) / 2 : view.count;
            for (uint64_t i = 0; i < used; i++) {
                CHECK(is_tick((const char *)view.data + i * view.stride, seen + i));
            }
            DONE(shmipc_consumer_release_n(pair.consumer, used));
            seen += used;
        }
    }
    DONE(shmipc_consumer_peek_n(pair.consumer, 0, &view));
    CHECK_EQ(view.seq, seen);
    DONE(shmipc_consumer_release_n(pair.consumer, 0));
    DONE(shmipc_consumer_peek_n(pair.consumer, 0, &view));
    CHECK_EQ(view.seq, seen);
    DONE(shmipc_consumer_release(pair.consumer));
    api_free(&pair);
}

static void test_send_n_sends_what_fits(void)
{
    struct api_pair pair = api_open(TICK, 100, 1, SHMIPC_BLOCK);
    struct shmipc_info info;
    struct tick ticks[1000];
    struct shmipc_view view;
    uint64_t sent, seen = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        ticks[i] = tick_of(i);
    }
    DONE(shmipc_producer_info(pair.producer, &info));
    CHECK_RESULT(shmipc_producer_send_n(pair.producer, ticks, 1000, 0, &sent), SHMIPC_E_FULL);
    CHECK_EQ(sent, info.capacity);
    while (seen < sent) {
        DONE(shmipc_consumer_peek_n(pair.consumer, 0, &view));
        for (uint64_t i = 0; i < view.count; i++) {
            CHECK(is_tick((const char *)view.data + i * view.stride, seen + i));
        }
        seen += view.count;
        DONE(shmipc_consumer_release(pair.consumer));
    }
    DONE(shmipc_producer_send_n(pair.producer, NULL, 0, 0, NULL));
    CHECK_RESULT(shmipc_producer_send_n(pair.producer, NULL, 1, 0, NULL), SHMIPC_E_INVALID);
    DONE(shmipc_producer_send_n(pair.producer, ticks, 10, 0, NULL));
    DONE(shmipc_consumer_peek_n(pair.consumer, 0, &view));
    CHECK_EQ(view.count, 10);
    DONE(shmipc_consumer_release(pair.consumer));
    api_free(&pair);
}

static void test_large_items_are_strided(void)
{
    static unsigned char frames[3][5000];
    const uint64_t shape[] = {50, 100};
    struct shmipc_producer_options options;
    struct shmipc_producer *producer;
    struct shmipc_view view;
    shmipc_producer_options_init(&options);
    options.dtype = "u1";
    options.shape = shape;
    options.axes = 2;
    options.item_size = 5000;
    options.capacity = 4;
    DONE(shmipc_producer_open(&producer, "x", &options));
    struct shmipc_consumer *consumer = api_consumer();
    for (int i = 0; i < 3; i++) {
        memset(frames[i], i + 1, sizeof frames[i]);
    }
    DONE(shmipc_producer_send_n(producer, frames, 3, 0, NULL));
    DONE(shmipc_consumer_peek_n(consumer, 0, &view));
    CHECK_EQ(view.count, 3);
    CHECK_EQ(view.stride, 5056);
    for (uint64_t i = 0; i < 3; i++) {
        CHECK(memcmp((const char *)view.data + i * view.stride, frames[i], 5000) == 0);
    }
    DONE(shmipc_consumer_release(consumer));
    shmipc_consumer_free(consumer);
    shmipc_producer_free(producer);
}

static int open_expecting(const char *dtype, const uint64_t *shape, uint32_t axes,
                          uint64_t item_size, struct shmipc_consumer **consumer)
{
    struct shmipc_consumer_options options;
    shmipc_consumer_options_init(&options);
    options.dtype = dtype;
    options.shape = shape;
    options.axes = axes;
    options.item_size = item_size;
    options.timeout_ns = 0;
    return shmipc_consumer_open(consumer, "x", &options);
}

static void test_other_dtype_is_refused(void)
{
    struct shmipc_producer *producer = api_producer(TICK, 8, 2, SHMIPC_BLOCK);
    const uint64_t shape[] = {1};
    struct shmipc_consumer *consumer;
    struct shmipc_producer_stats stats;
    DONE(open_expecting(TICK, NULL, 0, sizeof(struct tick), &consumer));
    shmipc_consumer_free(consumer);
    DONE(open_expecting("[('time_ns','i8'),('price','f8'),('size','u4'),('','V4')]", NULL, 0, 0,
                        &consumer));
    shmipc_consumer_free(consumer);
    CHECK_RESULT(open_expecting(TICK, shape, 1, 0, &consumer), SHMIPC_E_MISMATCH);
    CHECK(consumer == NULL);
    SAID("time_ns");
    CHECK_RESULT(open_expecting("<f8", NULL, 0, 0, &consumer), SHMIPC_E_MISMATCH);
    SAID("<f8");
    CHECK_RESULT(open_expecting("", NULL, 0, 0, &consumer), SHMIPC_E_MISMATCH);
    SAID("messages");
    CHECK_RESULT(open_expecting(TICK, NULL, 0, 20, &consumer), SHMIPC_E_INVALID);
    SAID("24");
    CHECK_RESULT(open_expecting("<f7", NULL, 0, 0, &consumer), SHMIPC_E_INVALID);
    CHECK_RESULT(open_expecting("<f8", NULL, 3, 0, &consumer), SHMIPC_E_INVALID);
    CHECK_RESULT(open_expecting(NULL, NULL, 0, 8, &consumer), SHMIPC_E_INVALID);
    DONE(shmipc_producer_stats(producer, &stats));
    CHECK_EQ(stats.attached, 0); /* who was refused left nothing behind */
    shmipc_producer_free(producer);
}

/* A consumer that is refused has left no trace: it has not used up a slot that is kept for others,
 * and has not gone as the last one of a dead producer's ring. */
static void test_refused_consumer_takes_no_place(void)
{
    struct shmipc_producer_options options;
    struct shmipc_producer *producer;
    struct shmipc_consumer *consumer;
    struct shmipc_view view;
    const struct tick tick = tick_of(7);
    struct tick received;
    shmipc_producer_options_init(&options);
    options.dtype = TICK;
    options.capacity = 8;
    options.max_consumers = 2;
    DONE(shmipc_producer_open_holding(&producer, "x", &options, 1));
    DONE(shmipc_producer_send(producer, &tick, sizeof tick, 0, 0, 0));
    for (int i = 0; i < 3; i++) {
        CHECK_RESULT(open_expecting("<f8", NULL, 0, 0, &consumer), SHMIPC_E_MISMATCH);
    }
    CHECK_RESULT(shmipc_producer_wait_for_consumers(producer, 1, 0), SHMIPC_E_NOT_FOUND);
    DONE(open_expecting(TICK, NULL, 0, 0, &consumer));
    DONE(shmipc_consumer_recv(consumer, &received, sizeof received, &view, 0));
    CHECK(is_tick(&received, 7));
    shmipc_consumer_free(consumer);
    shmipc_producer_free(producer);
}

static void test_message_calls_refuse_a_typed_ring(void)
{
    struct api_pair pair = api_open("<f8", 8, 1, SHMIPC_BLOCK);
    struct shmipc_frame *frame;
    struct shmipc_view view = {.kind = 1};
    size_t count;
    void *data;
    CHECK_RESULT(shmipc_producer_reserve(pair.producer, 8, 0, &data), SHMIPC_E_MISMATCH);
    CHECK_RESULT(shmipc_producer_commit(pair.producer, 8, 1, 0), SHMIPC_E_MISMATCH);
    CHECK_RESULT(shmipc_producer_send_messages(pair.producer, &view, 1, 0, &count),
                 SHMIPC_E_MISMATCH);
    CHECK_RESULT(shmipc_consumer_peek_messages(pair.consumer, &view, 1, &count), SHMIPC_E_MISMATCH);
    api_free(&pair);
    pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    CHECK_RESULT(shmipc_producer_reserve_n(pair.producer, 1, 0, &data), SHMIPC_E_MISMATCH);
    CHECK_RESULT(shmipc_producer_commit_n(pair.producer, 1), SHMIPC_E_MISMATCH);
    CHECK_RESULT(shmipc_producer_send_n(pair.producer, "", 1, 0, NULL), SHMIPC_E_MISMATCH);
    CHECK_RESULT(shmipc_consumer_peek_n(pair.consumer, 0, &view), SHMIPC_E_MISMATCH);
    CHECK_RESULT(shmipc_consumer_read_n(pair.consumer, 0, &frame, 0), SHMIPC_E_MISMATCH);
    api_free(&pair);
}

static void test_overwritten_items_are_counted(void)
{
    struct api_pair pair = api_open("<u8", 64, 1, SHMIPC_OVERWRITE);
    struct shmipc_consumer_stats stats;
    struct shmipc_view view;
    uint64_t received = 0, number;
    for (uint64_t i = 0; i < 5000; i++) {
        DONE(shmipc_producer_send(pair.producer, &i, 8, 0, 0, 0));
    }
    while (shmipc_consumer_peek_n(pair.consumer, 3, &view) == SHMIPC_SUCCESS) {
        for (uint64_t i = 0; i < view.count; i++) {
            memcpy(&number, (const char *)view.data + i * view.stride, 8);
            CHECK_EQ(number, view.seq + i);
        }
        received += view.count;
        DONE(shmipc_consumer_release(pair.consumer));
    }
    DONE(shmipc_consumer_stats(pair.consumer, &stats));
    CHECK_EQ(received + stats.lost, 5000);
    CHECK(stats.lost > 0);
    for (uint64_t i = 5000; i < 10000; i++) {
        DONE(shmipc_producer_send(pair.producer, &i, 8, 0, 0, 0));
    }
    DONE(shmipc_consumer_recv(pair.consumer, &number, 8, &view, 0));
    CHECK_EQ(number, view.seq);
    api_free(&pair);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_items_one_by_one),
        TEST(test_batches_are_stretches_of_the_ring),
        TEST(test_send_n_sends_what_fits),
        TEST(test_large_items_are_strided),
        TEST(test_other_dtype_is_refused),
        TEST(test_refused_consumer_takes_no_place),
        TEST(test_message_calls_refuse_a_typed_ring),
        TEST(test_overwritten_items_are_counted),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
