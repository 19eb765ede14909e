/* test_api_wrap.c: positions that wrap at 2^64, and headers that change under a reader's eyes. */
#define _GNU_SOURCE
#include "../../../src/core/ring/producer.h"
#include "api.h"

#include <string.h>
#include <unistd.h>

static struct shmipc_producer_role role;

/* A ring whose first byte has this position, as no producer of ours makes one for 500 years. */
static void create(struct shmipc_spec spec, uint64_t origin_pos)
{
    struct shmipc_error error;
    spec.overflow = SHMIPC_OVERFLOW_BLOCK;
    spec.slots = 1;
    spec.mode = 0600;
    spec.origin_pos = origin_pos;
    CHECK_EQ(shmipc_producer_role_open(&role, test_path("x"), &spec, &error), SHMIPC_OK);
}

static unsigned char *reserve(uint64_t len)
{
    static unsigned char *at;
    CHECK_EQ(shmipc_ring_reserve(&role.ring, len, &at), SHMIPC_OK);
    return at;
}

static void put_item(uint64_t number)
{
    unsigned char *at = reserve(24);
    memset(at, 0, 24);
    memcpy(at, &number, sizeof number);
    shmipc_ring_commit(&role.ring, 24);
    CHECK_EQ(shmipc_producer_role_notify(&role), SHMIPC_OK);
}

static uint64_t number_at(const struct shmipc_view *view, uint64_t index)
{
    uint64_t number;
    memcpy(&number, (const char *)view->data + index * view->stride, sizeof number);
    return number;
}

static void test_items_keep_their_numbers_where_positions_wrap(void)
{
    static const char schema[] = "('<u8', (3,))";
    struct shmipc_view view;
    struct shmipc_frame *frame;
    uint64_t item[3], sent = 0, next = 0, seed = 3;
    create((struct shmipc_spec){.framing = SHMIPC_FRAMING_TYPED,
                                .item_len = 24,
                                .schema = schema,
                                .schema_len = sizeof schema - 1},
           UINT64_MAX - 24 * 1000);
    struct shmipc_consumer *consumer = api_consumer();
    while (next < 3000) {
        const uint64_t chance = test_random(&seed) >> 8;
        while (sent < next + 1 + chance % 20) {
            put_item(sent++);
        }
        switch (chance / 32 % 5) {
        case 0:
            DONE(shmipc_consumer_peek(consumer, &view));
            CHECK_EQ(view.seq, next);
            CHECK_EQ(number_at(&view, 0), next);
            DONE(shmipc_consumer_release(consumer));
            next++;
            break;
        case 1:
            DONE(shmipc_consumer_recv(consumer, item, sizeof item, &view, 0));
            CHECK_EQ(view.seq, next);
            CHECK_EQ(item[0], next);
            next++;
            break;
        case 2:
            DONE(shmipc_consumer_read_n(consumer, 3, &frame, 0));
            DONE(shmipc_frame_view(frame, &view));
            CHECK_EQ(view.seq, next);
            CHECK_EQ(number_at(&view, view.count - 1), next + view.count - 1);
            next += view.count;
            shmipc_frame_release(frame);
            break;
        default: {
            DONE(shmipc_consumer_peek_n(consumer, 0, &view));
            CHECK_EQ(view.count, sent - next);
            CHECK_EQ(view.seq, next);
            for (uint64_t i = 0; i < view.count; i++) {
                CHECK_EQ(number_at(&view, i), next + i);
            }
            const uint64_t part = chance / 1024 % (view.count + 1);
            DONE(shmipc_consumer_release_n(consumer, part));
            next += part;
            break;
        }
        }
    }
    CHECK(shmipc_pos_before(UINT64_MAX - 24 * 1000, role.ring.head_pos));
    CHECK(role.ring.head_pos < UINT64_MAX / 2); /* it did wrap */
    shmipc_producer_role_close(&role, false);
    while (next < sent) {
        DONE(shmipc_consumer_recv(consumer, item, sizeof item, &view, 0));
        CHECK_EQ(view.seq, next);
        next++;
    }
    CHECK_RESULT(shmipc_consumer_recv(consumer, item, sizeof item, &view, 0), SHMIPC_E_CLOSED);
    shmipc_consumer_free(consumer);
}

static void put_message(uint64_t number, size_t len)
{
    unsigned char *at = reserve(shmipc_message_span(len));
    shmipc_message_header_store(at, (uint32_t)len, 7, 9, role.ring.next_seq);
    memset(at + 16, (int)(number & 0xff), len);
    shmipc_ring_commit_messages(&role.ring, shmipc_message_span(len), 1);
    CHECK_EQ(shmipc_producer_role_notify(&role), SHMIPC_OK);
}

static void test_messages_are_given_back_in_parts_where_positions_wrap(void)
{
    struct shmipc_view views[16];
    uint64_t sent = 0, next = 0, seed = 5;
    create((struct shmipc_spec){.framing = SHMIPC_FRAMING_MESSAGE, .capacity = 4096},
           UINT64_MAX - 15 - 4096 * 20);
    struct shmipc_consumer *consumer = api_consumer();
    while (next < 3000) {
        const uint64_t chance = test_random(&seed) >> 8;
        size_t count;
        while (sent < next + 1 + chance % 12) {
            put_message(sent, (size_t)(sent * 37 % 300));
            sent++;
        }
        DONE(shmipc_consumer_peek_messages(consumer, views, 16, &count));
        CHECK_EQ(count, sent - next);
        for (size_t i = 0; i < count; i++) {
            CHECK_EQ(views[i].seq, next + i);
            CHECK_EQ(views[i].len, (next + i) * 37 % 300);
            CHECK(views[i].kind == 7 && views[i].flags == 9 && views[i].count == 1);
            for (uint64_t k = 0; k < views[i].len; k++) {
                CHECK_EQ(((const unsigned char *)views[i].data)[k], (next + i) & 0xff);
            }
        }
        const uint64_t part = chance / 64 % (count + 1);
        DONE(shmipc_consumer_release_n(consumer, part));
        next += part;
    }
    CHECK(role.ring.head_pos < UINT64_MAX / 2);
    shmipc_producer_role_close(&role, false);
    struct shmipc_view view;
    while (shmipc_consumer_peek(consumer, &view) == SHMIPC_SUCCESS) {
        DONE(shmipc_consumer_release(consumer));
    }
    shmipc_consumer_free(consumer);
}

/* What a release passes follows from what was peeked at, or is refused: never past the head. */
static void test_headers_that_change_between_peek_and_release(void)
{
    uint64_t seed = 11;
    for (int round = 0; round < 200; round++) {
        struct shmipc_view views[8], view;
        size_t count;
        create((struct shmipc_spec){.framing = SHMIPC_FRAMING_MESSAGE, .capacity = 4096}, 0);
        struct shmipc_consumer *consumer = api_consumer();
        for (uint64_t i = 0; i < 8; i++) {
            put_message(i, 100);
        }
        DONE(shmipc_consumer_peek_messages(consumer, views, 8, &count));
        CHECK_EQ(count, 8);
        for (int i = 0; i < 3; i++) {
            const uint64_t chance = test_random(&seed) >> 8;
            unsigned char *header = role.segment.data + chance % 8 * 128;
            const uint64_t lie = test_random(&seed) >> (chance / 8 % 64);
            memcpy(header + chance / 512 % 9, &lie, sizeof lie);
        }
        int result = shmipc_consumer_release_n(consumer, 1 + (uint64_t)round % 8);
        CHECK(result == SHMIPC_SUCCESS || result == SHMIPC_E_CORRUPT);
        for (int i = 0; i < 10; i++) {
            unsigned char buffer[64];
            result = shmipc_consumer_recv(consumer, buffer, sizeof buffer, &view, 0);
            if (result == SHMIPC_E_TOO_LARGE) {
                CHECK(view.len > sizeof buffer && view.len <= 4096);
                DONE(shmipc_consumer_peek(consumer, &view));
                result = shmipc_consumer_release(consumer);
            }
            CHECK(result == SHMIPC_SUCCESS || result == SHMIPC_E_CORRUPT ||
                  result == SHMIPC_E_EMPTY);
        }
        shmipc_consumer_free(consumer);
        shmipc_producer_role_close(&role, false);
        CHECK_EQ(unlink(test_path("x")) == 0 || !test_exists(test_path("x")), true);
    }
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_items_keep_their_numbers_where_positions_wrap),
        TEST(test_messages_are_given_back_in_parts_where_positions_wrap),
        TEST(test_headers_that_change_between_peek_and_release),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
