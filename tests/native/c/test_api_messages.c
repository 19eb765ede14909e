/* test_api_messages.c: the public API on message rings. */
#include "api.h"

#include <stdio.h>
#include <string.h>

static void test_messages_come_whole_and_in_order(void)
{
    struct api_pair pair = api_open(NULL, 1 << 16, 1, SHMIPC_BLOCK);
    unsigned char buffer[4096];
    struct shmipc_view view;
    for (size_t len = 0; len < 300; len++) {
        api_send(pair.producer, len, len);
        DONE(shmipc_consumer_recv(pair.consumer, buffer, sizeof buffer, &view, 0));
        CHECK(view.data == buffer);
        CHECK_EQ(view.seq, len);
        CHECK_EQ(view.count, 1);
        api_check(&view, len, len);
    }
    CHECK_RESULT(shmipc_consumer_recv(pair.consumer, buffer, sizeof buffer, NULL, 0),
                 SHMIPC_E_EMPTY);
    api_free(&pair);
}

static void test_kind_and_flags_travel(void)
{
    struct api_pair pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    struct shmipc_view view;
    DONE(shmipc_producer_send(pair.producer, NULL, 0, 65535, 0xabcd, 0));
    DONE(shmipc_consumer_peek(pair.consumer, &view));
    CHECK_EQ(view.kind, 65535);
    CHECK_EQ(view.flags, 0xabcd);
    CHECK_EQ(view.len, 0);
    DONE(shmipc_consumer_release(pair.consumer));
    CHECK_RESULT(shmipc_producer_send(pair.producer, "a", 1, 0, 0, 0), SHMIPC_E_INVALID);
    SAID("kind");
    CHECK_RESULT(shmipc_producer_send(pair.producer, "a", 1, 65536, 0, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_send(pair.producer, "a", 1, 1, 65536, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_peek(pair.consumer, &view), SHMIPC_E_EMPTY);
    api_free(&pair);
}

static void test_peek_shows_the_same_until_release(void)
{
    struct api_pair pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    struct shmipc_view first, again;
    api_send(pair.producer, 1, 100);
    api_send(pair.producer, 2, 200);
    DONE(shmipc_consumer_peek(pair.consumer, &first));
    DONE(shmipc_consumer_peek(pair.consumer, &again));
    CHECK(first.data == again.data);
    api_check(&again, 1, 100);
    CHECK((uintptr_t)first.data % 16 == 0);
    DONE(shmipc_consumer_release(pair.consumer));
    CHECK_RESULT(shmipc_consumer_release(pair.consumer), SHMIPC_E_MISUSE);
    DONE(shmipc_consumer_peek(pair.consumer, &again));
    api_check(&again, 2, 200);
    CHECK_EQ(again.seq, 1);
    api_free(&pair);
    struct shmipc_consumer *next = api_consumer(); /* durable: what was not released is there */
    DONE(shmipc_consumer_peek(next, &again));
    CHECK_EQ(again.seq, 1);
    DONE(shmipc_consumer_release(next));
    CHECK_RESULT(shmipc_consumer_peek(next, &again), SHMIPC_E_CLOSED);
    SAID("closed it");
    shmipc_consumer_free(next);
}

static void test_next_gives_back_and_shows_the_next(void)
{
    struct api_pair pair = api_open(NULL, 4096, 1, SHMIPC_BLOCK);
    struct shmipc_consumer_stats stats;
    struct shmipc_view view;
    size_t count;
    CHECK_RESULT(shmipc_consumer_next(pair.consumer, &view), SHMIPC_E_EMPTY);
    for (uint64_t i = 0; i < 1000; i++) {
        api_send(pair.producer, i, i % 100);
        if (i % 3 == 0) {
            i++;
            api_send(pair.producer, i, i % 100);
            DONE(shmipc_consumer_next(pair.consumer, &view));
            api_check(&view, i - 1, (i - 1) % 100);
        }
        DONE(shmipc_consumer_next(pair.consumer, &view));
        CHECK_EQ(view.seq, i);
        api_check(&view, i, i % 100);
    }
    DONE(shmipc_consumer_stats(pair.consumer, &stats));
    CHECK_EQ(stats.lag, 1);
    CHECK_RESULT(shmipc_consumer_next(pair.consumer, &view), SHMIPC_E_EMPTY);
    DONE(shmipc_consumer_stats(pair.consumer, &stats));
    CHECK_EQ(stats.lag, 0); /* it was released all the same */
    CHECK_RESULT(shmipc_consumer_release(pair.consumer), SHMIPC_E_MISUSE);
    for (uint64_t i = 0; i < 5; i++) {
        api_send(pair.producer, i, 8);
    }
    struct shmipc_view views[3];
    DONE(shmipc_consumer_peek_messages(pair.consumer, views, 3, &count));
    DONE(shmipc_consumer_next(pair.consumer, &view)); /* the three together */
    api_check(&view, 3, 8);
    CHECK_RESULT(shmipc_consumer_next(pair.consumer, NULL), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_consumer_next(NULL, &view), SHMIPC_E_INVALID);
    DONE(shmipc_consumer_next(pair.consumer, &view));
    api_check(&view, 4, 8);
    DONE(shmipc_producer_close(pair.producer));
    CHECK_RESULT(shmipc_consumer_next(pair.consumer, &view), SHMIPC_E_CLOSED);
    api_free(&pair);
    pair = api_open(NULL, 4096, 1, SHMIPC_OVERWRITE);
    for (uint64_t i = 0; i < 100; i++) {
        api_send(pair.producer, i, 100);
        if (i == 0) {
            DONE(shmipc_consumer_next(pair.consumer, &view));
        }
    }
    CHECK_RESULT(shmipc_consumer_next(pair.consumer, &view), SHMIPC_E_OVERRUN);
    DONE(shmipc_consumer_next(pair.consumer, &view));
    api_check(&view, view.seq, 100);
    CHECK(view.seq > 0);
    DONE(shmipc_consumer_release(pair.consumer));
    api_free(&pair);
}

static void test_reservation_is_seen_at_commit(void)
{
    struct api_pair pair = api_open(NULL, 0, 1, SHMIPC_BLOCK);
    struct shmipc_view view;
    void *data;
    DONE(shmipc_producer_reserve(pair.producer, 100, 0, &data));
    CHECK((uintptr_t)data % 16 == 0);
    memset(data, 'x', 100);
    CHECK_RESULT(shmipc_consumer_peek(pair.consumer, &view), SHMIPC_E_EMPTY);
    CHECK_RESULT(shmipc_producer_send(pair.producer, "a", 1, 1, 0, 0), SHMIPC_E_MISUSE);
    SAID("open reservation");
    CHECK_RESULT(shmipc_producer_reserve(pair.producer, 1, 0, &data), SHMIPC_E_MISUSE);
    CHECK_RESULT(shmipc_producer_commit(pair.producer, 101, 1, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_commit(pair.producer, 60, 0, 0), SHMIPC_E_INVALID);
    CHECK_RESULT(shmipc_producer_commit_n(pair.producer, 1), SHMIPC_E_MISMATCH);
    DONE(shmipc_producer_commit(pair.producer, 60, 7, 9));
    CHECK_RESULT(shmipc_producer_commit(pair.producer, 60, 7, 9), SHMIPC_E_MISUSE);
    DONE(shmipc_consumer_peek(pair.consumer, &view));
    CHECK_EQ(view.len, 60);
    CHECK_EQ(view.kind, 7);
    CHECK_EQ(view.flags, 9);
    CHECK(((const char *)view.data)[59] == 'x');
    DONE(shmipc_consumer_release(pair.consumer));
    DONE(shmipc_producer_reserve(pair.producer, 10, 0, &data));
    DONE(shmipc_producer_abort(pair.producer));
    DONE(shmipc_producer_abort(pair.producer));
    CHECK_RESULT(shmipc_consumer_peek(pair.consumer, &view), SHMIPC_E_EMPTY);
    api_send(pair.producer, 5, 50);
    DONE(shmipc_consumer_peek(pair.consumer, &view));
    CHECK_EQ(view.seq, 1);
    DONE(shmipc_consumer_release(pair.consumer));
    api_free(&pair);
}

static void test_too_large_is_refused_at_once(void)
{
    struct api_pair pair = api_open(NULL, 4096, 1, SHMIPC_BLOCK);
    struct shmipc_info info;
    struct shmipc_view view;
    void *data;
    DONE(shmipc_producer_info(pair.producer, &info));
    static char bytes[1 << 20];
    const size_t most = info.capacity - 16;
    CHECK_RESULT(shmipc_producer_send(pair.producer, bytes, most + 1, 1, 0, SHMIPC_FOREVER),
                 SHMIPC_E_TOO_LARGE);
    SAID("never fits");
    CHECK_RESULT(shmipc_producer_send(pair.producer, bytes, SIZE_MAX, 1, 0, SHMIPC_FOREVER),
                 SHMIPC_E_TOO_LARGE);
    CHECK_RESULT(shmipc_producer_reserve(pair.producer, SIZE_MAX - 8, SHMIPC_FOREVER, &data),
                 SHMIPC_E_TOO_LARGE);
    CHECK(data == NULL);
    DONE(shmipc_producer_send(pair.producer, bytes, most, 1, 0, 0));
    CHECK_RESULT(shmipc_producer_send(pair.producer, bytes, 0, 1, 0, 0), SHMIPC_E_FULL);
    CHECK_RESULT(shmipc_producer_send(pair.producer, bytes, 0, 1, 0, 1000000), SHMIPC_E_FULL);
    CHECK_RESULT(shmipc_consumer_recv(pair.consumer, bytes, most - 1, &view, 0),
                 SHMIPC_E_TOO_LARGE);
    CHECK_EQ(view.len, most);
    DONE(shmipc_consumer_recv(pair.consumer, bytes, most, &view, 0));
    DONE(shmipc_producer_send(pair.producer, bytes, 0, 1, 0, 0));
    DONE(shmipc_consumer_recv(pair.consumer, NULL, 0, NULL, 0));
    api_free(&pair);
}

static void test_batches_of_messages(void)
{
    struct api_pair pair = api_open(NULL, 1 << 14, 1, SHMIPC_BLOCK);
    struct shmipc_view out[64], in[64];
    char text[64][24];
    size_t sent, count, seen = 0, next = 0;
    memset(out, 0, sizeof out);
    while (seen < 20000) {
        const size_t wanted = 1 + next % 64;
        for (size_t i = 0; i < wanted; i++) {
            snprintf(text[i], sizeof text[i], "%zu", next + i);
            out[i].data = text[i];
            out[i].len = strlen(text[i]) + (next + i) % 3;
            memset(text[i] + strlen(text[i]), 0, sizeof text[i] - strlen(text[i]));
            out[i].kind = (uint16_t)(1 + (next + i) % 100);
        }
        const int result = shmipc_producer_send_messages(pair.producer, out, wanted, 0, &sent);
        CHECK(result == SHMIPC_SUCCESS ? sent == wanted : result == SHMIPC_E_FULL);
        next += sent;
        DONE(shmipc_consumer_peek_messages(pair.consumer, in, 1 + seen % 64, &count));
        CHECK(count >= 1 && count <= 1 + seen % 64);
        const size_t kept = seen % 5 == 0 ? (count + 1) / 2 : count;
        for (size_t i = 0; i < kept; i++) {
            char expected[24];
            snprintf(expected, sizeof expected, "%zu", seen + i);
            CHECK(strncmp(in[i].data, expected, in[i].len) == 0);
            CHECK_EQ(in[i].seq, seen + i);
            CHECK_EQ(in[i].kind, 1 + (seen + i) % 100);
        }
        DONE(shmipc_consumer_release_n(pair.consumer, kept));
        seen += kept;
    }
    out[1].kind = 0;
    CHECK_RESULT(shmipc_consumer_release_n(pair.consumer, 1), SHMIPC_E_MISUSE);
    while (shmipc_consumer_peek_messages(pair.consumer, in, 64, &count) == SHMIPC_SUCCESS) {
        CHECK_RESULT(shmipc_consumer_release_n(pair.consumer, count + 1), SHMIPC_E_INVALID);
        DONE(shmipc_consumer_release(pair.consumer));
    }
    CHECK_RESULT(shmipc_producer_send_messages(pair.producer, out, 3, 0, &sent), SHMIPC_E_INVALID);
    CHECK_EQ(sent, 1);
    CHECK_RESULT(shmipc_consumer_peek_messages(pair.consumer, in, 0, &count), SHMIPC_E_INVALID);
    DONE(shmipc_consumer_peek_messages(pair.consumer, in, 64, &count));
    CHECK_EQ(count, 1);
    DONE(shmipc_consumer_release(pair.consumer));
    api_free(&pair);
}

static void test_overwrite_counts_what_was_lost(void)
{
    struct api_pair pair = api_open(NULL, 4096, 2, SHMIPC_OVERWRITE);
    struct shmipc_consumer_stats stats;
    struct shmipc_view view;
    unsigned char buffer[256];
    size_t count;
    uint64_t received = 0, next = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        api_send(pair.producer, i, 100);
    }
    while (shmipc_consumer_recv(pair.consumer, buffer, sizeof buffer, &view, 0) == SHMIPC_SUCCESS) {
        CHECK(view.seq >= next);
        next = view.seq + 1;
        api_check(&view, view.seq, 100);
        received++;
    }
    DONE(shmipc_consumer_stats(pair.consumer, &stats));
    CHECK(stats.lost > 0);
    CHECK_EQ(received + stats.lost, 1000);
    api_send(pair.producer, 1000, 100);
    DONE(shmipc_consumer_peek_messages(pair.consumer, &view, 1, &count));
    CHECK(shmipc_consumer_is_intact(pair.consumer));
    DONE(shmipc_consumer_release(pair.consumer));
    api_send(pair.producer, 1001, 100);
    DONE(shmipc_consumer_peek(pair.consumer, &view));
    for (uint64_t i = 0; i < 100; i++) {
        api_send(pair.producer, i, 100);
    }
    CHECK(!shmipc_consumer_is_intact(pair.consumer));
    CHECK_RESULT(shmipc_consumer_release(pair.consumer), SHMIPC_E_OVERRUN);
    DONE(shmipc_consumer_recv(pair.consumer, buffer, sizeof buffer, &view, 0));
    CHECK(view.seq > 1001);
    api_free(&pair);
}

static void test_holding_keeps_message_0_until_so_many_have_joined(void)
{
    struct shmipc_producer_options options;
    struct shmipc_producer *producer;
    struct shmipc_view view;
    shmipc_producer_options_init(&options);
    options.max_consumers = 3;
    CHECK_RESULT(shmipc_producer_open_holding(&producer, "x", &options, 4), SHMIPC_E_INVALID);
    SAID("hold_for is 4");
    options.overflow = SHMIPC_OVERWRITE;
    CHECK_RESULT(shmipc_producer_open_holding(&producer, "x", &options, 1), SHMIPC_E_INVALID);
    SAID("overwrites");
    options.overflow = SHMIPC_BLOCK;
    DONE(shmipc_producer_open_holding(&producer, "x", &options, 2));
    api_send(producer, 1, 100);
    api_send(producer, 2, 200);
    DONE(shmipc_producer_close(producer));
    for (int i = 0; i < 2; i++) {
        struct shmipc_consumer *consumer = api_consumer();
        for (uint64_t seq = 0; seq < 2; seq++) {
            DONE(shmipc_consumer_peek(consumer, &view));
            CHECK_EQ(view.seq, seq);
            api_check(&view, 1 + seq, 100 * (1 + seq));
            DONE(shmipc_consumer_release(consumer));
        }
        CHECK_RESULT(shmipc_consumer_peek(consumer, &view), SHMIPC_E_CLOSED);
        shmipc_consumer_free(consumer);
    }
    CHECK(!test_exists(test_path("x")));
    shmipc_producer_free(producer);
}

static void test_facts(void)
{
    struct api_pair pair = api_open(NULL, 5000, 3, SHMIPC_BLOCK);
    struct shmipc_producer_stats mine;
    struct shmipc_consumer_stats theirs;
    struct shmipc_view view;
    struct shmipc_info info;
    for (uint64_t i = 0; i < 5; i++) {
        api_send(pair.producer, i, 20);
    }
    DONE(shmipc_consumer_peek(pair.consumer, &view));
    DONE(shmipc_consumer_release(pair.consumer));
    DONE(shmipc_producer_stats(pair.producer, &mine));
    CHECK_EQ(mine.count, 5);
    CHECK_EQ(mine.committed_len, 5 * 48);
    CHECK_EQ(mine.lag, 4);
    CHECK_EQ(mine.attached, 1);
    CHECK_EQ(mine.took_over, 0);
    DONE(shmipc_consumer_stats(pair.consumer, &theirs));
    CHECK_EQ(theirs.pending, 4);
    CHECK_EQ(theirs.lag, 4);
    CHECK_EQ(theirs.lost, 0);
    DONE(shmipc_consumer_info(pair.consumer, &info));
    CHECK(strcmp(info.name, "x") == 0);
    CHECK(strcmp(info.schema, "") == 0);
    CHECK(info.capacity >= 5000);
    CHECK_EQ(info.max_consumers, 3);
    CHECK_EQ(info.overflow, SHMIPC_BLOCK);
    CHECK_EQ(info.typed, 0);
    CHECK_EQ(info.slot, 0);
    CHECK_EQ(shmipc_abi_version(), SHMIPC_ABI_VERSION);
    CHECK(strcmp(shmipc_version(), SHMIPC_VERSION) == 0);
    for (int result = -1; result < 20; result++) {
        CHECK(shmipc_result_text(result)[0] != '\0');
    }
    api_free(&pair);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_messages_come_whole_and_in_order),
        TEST(test_kind_and_flags_travel),
        TEST(test_peek_shows_the_same_until_release),
        TEST(test_next_gives_back_and_shows_the_next),
        TEST(test_reservation_is_seen_at_commit),
        TEST(test_too_large_is_refused_at_once),
        TEST(test_batches_of_messages),
        TEST(test_overwrite_counts_what_was_lost),
        TEST(test_holding_keeps_message_0_until_so_many_have_joined),
        TEST(test_facts),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
