/* test_ring.c: the algorithm under "block", in one thread: framing, room, leases, membership,
 * wrap, takeover. Corrupt memory is test_corrupt.c's, "overwrite" test_overwrite.c's. */
#include "rig.h"

#include <string.h>

#define NEAR_2_32 (UINT64_C(1) << 32)
#define NEAR_2_64 UINT64_C(0) /* minus something: just below the wrap */

/* ---- framing -------------------------------------------------------------------------------- */

static void test_one_send_is_one_receive_with_its_kind_flags_and_sequence(void)
{
    static const uint32_t lens[] = {0, 1, 15, 16, 17, 31, 32, 33, 1000};
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    struct shmipc_message message;
    struct rig rig;
    unsigned char *at = NULL;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    for (uint32_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        const uint64_t span = shmipc_message_span(lens[i]);
        CHECK_EQ(shmipc_ring_reserve(&rig.producer, span, &at), SHMIPC_OK);
        rig_fill(at + 16, lens[i], i);
        shmipc_message_header_store(at, lens[i], (uint16_t)(i + 1), (uint16_t)(0xffff - i),
                                    rig.producer.next_seq);
        shmipc_ring_commit_messages(&rig.producer, span, 1);
    }
    for (uint32_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        CHECK_EQ(shmipc_ring_peek(&consumer, &message), SHMIPC_OK);
        CHECK_EQ(message.len, lens[i]);
        CHECK_EQ(message.kind, i + 1);
        CHECK_EQ(message.flags, 0xffff - i);
        CHECK_EQ(message.seq, i);
        CHECK(rig_matches(message.data, lens[i], i));
        shmipc_ring_advance(&consumer, &message);
    }
    rig_expect_status(&consumer, SHMIPC_EMPTY);
    rig_close(&rig);
}

static void test_nothing_is_visible_before_commit(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    unsigned char *at = NULL;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    CHECK_EQ(shmipc_ring_reserve(&rig.producer, 32, &at), SHMIPC_OK);
    shmipc_message_header_store(at, 5, 1, 0, 0);
    rig_expect_status(&consumer, SHMIPC_EMPTY);
    CHECK_EQ(rig_send(&rig.producer, 3), SHMIPC_OK); /* an abort is a reserve without a commit */
    rig_expect(&consumer, 3, 0);
    rig_expect_status(&consumer, SHMIPC_EMPTY);
    rig_close(&rig);
}

/* ---- room ----------------------------------------------------------------------------------- */

static void test_message_of_the_whole_area_fits_an_empty_ring(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    const uint64_t most = rig.producer.map.area_len - 16;
    for (uint64_t seq = 0; seq < 5; seq++) {
        CHECK_EQ(rig_send(&rig.producer, most), SHMIPC_OK);
        CHECK_EQ(rig_send(&rig.producer, 0), SHMIPC_FULL);
        rig_expect(&consumer, most, seq * 2);
        CHECK_EQ(rig_send(&rig.producer, 0), SHMIPC_OK);
        CHECK_EQ(rig_send(&rig.producer, most), SHMIPC_FULL);
        rig_expect(&consumer, 0, seq * 2 + 1);
    }
    rig_close(&rig);
}

static void test_full_ring_refuses_until_exactly_enough_is_released(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    uint64_t sent = 0;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    while (rig_send(&rig.producer, 16) == SHMIPC_OK) {
        sent++;
    }
    CHECK_EQ(sent, rig.producer.map.area_len / 32);
    CHECK_EQ(shmipc_ring_pending_estimate(&rig.producer), sent);
    rig_expect(&consumer, 16, 0);
    CHECK_EQ(rig_send(&rig.producer, 17), SHMIPC_FULL); /* 48 bytes, and 32 are free */
    CHECK_EQ(rig_send(&rig.producer, 16), SHMIPC_OK);
    CHECK_EQ(rig_send(&rig.producer, 0), SHMIPC_FULL);
    for (uint64_t seq = 1; seq <= sent; seq++) {
        rig_expect(&consumer, 16, seq);
    }
    rig_expect_status(&consumer, SHMIPC_EMPTY);
    CHECK_EQ(shmipc_ring_pending_estimate(&rig.producer), 0);
    rig_close(&rig);
}

static void test_typed_ring_holds_its_capacity_and_no_more(void)
{
    struct shmipc_spec spec = rig_typed_spec(1, 24, 100);
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    const uint64_t capacity = shmipc_capacity_of(&rig.segment.geometry);
    CHECK(capacity >= 100);
    for (uint64_t i = 0; i < capacity; i++) {
        CHECK_EQ(rig_put(&rig.producer), SHMIPC_OK);
    }
    CHECK_EQ(rig_put(&rig.producer), SHMIPC_FULL);
    CHECK_EQ(shmipc_ring_pending_estimate(&rig.producer), capacity);
    CHECK_EQ(shmipc_ring_unread_estimate(&consumer), capacity);
    for (uint64_t i = 0; i < capacity; i++) {
        rig_expect_item(&consumer, i);
    }
    rig_expect_status(&consumer, SHMIPC_EMPTY);
    rig_close(&rig);
}

static void test_ring_without_consumers_never_fills(void)
{
    struct shmipc_spec spec = rig_message_spec(3);
    struct rig rig;
    rig_open(&rig, &spec);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(rig_send(&rig.producer, (uint64_t)i), SHMIPC_OK);
        CHECK_EQ(shmipc_ring_pending_estimate(&rig.producer), 0);
    }
    rig_close(&rig);
}

static void test_durable_ring_keeps_message_0_for_a_consumer_still_to_come(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    uint64_t sent = 0;
    rig_open(&rig, &spec);
    while (rig_send(&rig.producer, 100) == SHMIPC_OK) {
        sent++;
    }
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST); /* start means nothing here */
    for (uint64_t seq = 0; seq < sent; seq++) {
        rig_expect(&consumer, 100, seq);
    }
    rig_close(&rig);
}

/* ---- wrap ----------------------------------------------------------------------------------- */

static void run_messages_from(uint64_t origin)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    uint64_t random = 88172645463325252u;
    uint64_t lens[64];
    uint64_t sent = 0;
    uint64_t received = 0;
    struct rig rig;
    spec.origin_pos = origin;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    while (rig.producer.head_pos - origin < 6 * rig.producer.map.area_len) {
        while (sent - received < 64) {
            const uint64_t len = test_random(&random) % 700;
            if (rig_send(&rig.producer, len) != SHMIPC_OK) {
                break;
            }
            lens[sent++ % 64] = len;
        }
        CHECK(sent > received);
        for (uint64_t n = 1 + test_random(&random) % (sent - received); n > 0; n--) {
            rig_expect(&consumer, lens[received % 64], received);
            received++;
        }
        CHECK_EQ(shmipc_ring_pending_estimate(&rig.producer), sent - received);
        CHECK_EQ(shmipc_ring_unread_estimate(&consumer), sent - received);
    }
    rig_close(&rig);
}

static void run_items_from(uint64_t origin, uint64_t item_len)
{
    struct shmipc_spec spec = rig_typed_spec(1, item_len, 16);
    struct shmipc_ring_consumer consumer;
    uint64_t random = 88172645463325252u;
    uint64_t sent = 0;
    uint64_t received = 0;
    struct rig rig;
    spec.origin_pos = origin;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    while (rig.producer.head_pos - origin < 6 * rig.producer.map.area_len) {
        while (rig_put(&rig.producer) == SHMIPC_OK) {
            sent++;
        }
        for (uint64_t n = 1 + test_random(&random) % (sent - received); n > 0; n--) {
            rig_expect_item(&consumer, received++);
        }
    }
    /* the next producer finds the same position */
    const uint64_t head = rig.producer.head_pos;
    CHECK_EQ(shmipc_ring_take_over(&rig.producer), SHMIPC_OK);
    CHECK_EQ(rig.producer.head_pos, head);
    rig_close(&rig);
}

static void test_messages_cross_every_wrap_of_positions(void)
{
    run_messages_from(0);
    run_messages_from(NEAR_2_32 - 4096 - 16);
    run_messages_from(NEAR_2_32 - 16);
    run_messages_from((UINT64_C(1) << 63) - 8192 - 32);
    run_messages_from(NEAR_2_64 - 16);
    run_messages_from(NEAR_2_64 - 4096 - 48);
    run_messages_from(NEAR_2_64 - 3 * 4096);
}

static void test_items_cross_every_wrap_of_positions(void)
{
    static const uint64_t item_lens[] = {1, 8, 24, 64, 100};
    for (size_t i = 0; i < sizeof item_lens / sizeof *item_lens; i++) {
        run_items_from(0, item_lens[i]);
        run_items_from(NEAR_2_32 - 2048, item_lens[i]);
        run_items_from((UINT64_C(1) << 63) - 4096, item_lens[i]);
        run_items_from(NEAR_2_64 - 2048, item_lens[i]);
        run_items_from(NEAR_2_64 - 3 * 4096, item_lens[i]);
    }
    run_items_from(NEAR_2_64 - 3 * 8192, 5000); /* padded to 5056 */
}

static void test_batch_is_one_stretch_across_the_end_of_the_area(void)
{
    struct shmipc_spec spec = rig_typed_spec(1, 5000, 4);
    struct shmipc_ring_consumer consumer;
    struct shmipc_message message;
    uint64_t count = 0;
    struct rig rig;
    spec.origin_pos = 0 - UINT64_C(5056) * 2;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    CHECK_EQ(rig.producer.map.item_stride, 5056);
    CHECK_EQ(shmipc_ring_peek_batch(&consumer, 9, &message, &count), SHMIPC_EMPTY);
    uint64_t next = 0;
    for (int round = 0; round < 12; round++) {
        uint64_t sent = 0;
        while (rig_put(&rig.producer) == SHMIPC_OK) {
            sent++;
        }
        CHECK_EQ(sent, round == 0 ? shmipc_capacity_of(&rig.segment.geometry) : 3);
        CHECK_EQ(shmipc_ring_peek_batch(&consumer, 3, &message, &count), SHMIPC_OK);
        CHECK_EQ(count, 3);
        CHECK_EQ(message.len, 2 * 5056 + 5000);
        CHECK_EQ(message.span, 3 * 5056);
        for (uint64_t i = 0; i < count; i++) {
            CHECK(rig_matches(message.data + i * 5056, 5000, next + i));
        }
        next += count;
        message.seq = 0;
        shmipc_ring_advance(&consumer, &message);
        CHECK(shmipc_ring_publish_cursor(&consumer));
    }
    rig_close(&rig);
}

/* ---- leases --------------------------------------------------------------------------------- */

static void test_cursor_follows_the_oldest_lease_whatever_the_order_of_release(void)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    struct shmipc_message messages[3];
    struct shmipc_lease leases[3];
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    for (int order = 0; order < 6; order++) {
        bool held[3] = {true, true, true};
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(rig_send(&rig.producer, 10), SHMIPC_OK);
            CHECK_EQ(shmipc_ring_peek(&consumer, &messages[i]), SHMIPC_OK);
            shmipc_ring_take(&consumer, &messages[i], &leases[i]);
        }
        for (int i = 0; i < 3; i++) {
            uint64_t expected = messages[2].pos + messages[2].span;
            const int which = orders[order][i];
            shmipc_ring_end(&consumer, &leases[which]);
            held[which] = false;
            for (int j = 2; j >= 0; j--) {
                expected = held[j] ? messages[j].pos : expected;
            }
            (void)shmipc_ring_publish_cursor(&consumer);
            CHECK_EQ(shmipc_load_relaxed(&consumer.slot->cursor_pos), expected);
        }
        CHECK(consumer.oldest_lease == NULL && consumer.newest_lease == NULL);
        CHECK(!shmipc_ring_publish_cursor(&consumer));
    }
    rig_close(&rig);
}

static void test_leased_memory_is_not_reused_while_reading_goes_on(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    struct shmipc_message leased;
    struct shmipc_lease lease;
    struct rig rig;
    uint64_t sent = 1;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    CHECK_EQ(rig_send(&rig.producer, 48), SHMIPC_OK);
    CHECK_EQ(shmipc_ring_peek(&consumer, &leased), SHMIPC_OK);
    shmipc_ring_take(&consumer, &leased, &lease);
    while (rig_send(&rig.producer, 48) == SHMIPC_OK) {
        rig_expect(&consumer, 48, sent++);
    }
    CHECK_EQ(sent, rig.producer.map.area_len / 64);
    CHECK(rig_matches(leased.data, 48, 0));
    CHECK_EQ(shmipc_ring_unread_estimate(&consumer), 0);
    CHECK_EQ(shmipc_ring_lag_estimate(&consumer), sent);
    shmipc_ring_end(&consumer, &lease);
    CHECK_EQ(rig_send(&rig.producer, 48), SHMIPC_FULL); /* ended, but not yet published */
    CHECK(shmipc_ring_publish_cursor(&consumer));
    CHECK_EQ(rig_send(&rig.producer, 48), SHMIPC_OK);
    rig_close(&rig);
}

/* ---- membership ----------------------------------------------------------------------------- */

static void test_latest_joins_at_the_next_message_and_earliest_at_the_oldest_retained(void)
{
    struct shmipc_spec spec = rig_message_spec(3);
    struct shmipc_ring_consumer first;
    struct shmipc_ring_consumer latest;
    struct shmipc_ring_consumer earliest;
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &first, 0, SHMIPC_START_LATEST);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(rig_send(&rig.producer, 20), SHMIPC_OK);
    }
    rig_join(&rig, &latest, 1, SHMIPC_START_LATEST);
    rig_join(&rig, &earliest, 2, SHMIPC_START_EARLIEST);
    CHECK_EQ(shmipc_ring_unread_estimate(&latest), 0);
    CHECK_EQ(shmipc_ring_unread_estimate(&earliest), 5);
    CHECK_EQ(rig_send(&rig.producer, 20), SHMIPC_OK);
    rig_expect(&latest, 20, 5);
    for (uint64_t seq = 0; seq < 6; seq++) {
        rig_expect(&earliest, 20, seq);
        rig_expect(&first, 20, seq);
    }
    rig_close(&rig);
}

static void test_slowest_member_holds_the_producer_until_it_leaves(void)
{
    struct shmipc_spec spec = rig_message_spec(130);
    struct shmipc_ring_consumer fast;
    struct shmipc_ring_consumer slow;
    struct rig rig;
    uint64_t sent = 0;
    uint64_t slowest;
    uint32_t slot;
    rig_open(&rig, &spec);
    CHECK(!shmipc_ring_slowest(&rig.producer.map, &slowest, &slot));
    rig_join(&rig, &fast, 3, SHMIPC_START_LATEST);
    rig_join(&rig, &slow, 129, SHMIPC_START_LATEST);
    while (rig_send(&rig.producer, 16) == SHMIPC_OK) {
        rig_expect(&fast, 16, sent++);
    }
    CHECK_EQ(sent, rig.producer.map.area_len / 32);
    CHECK(shmipc_ring_slowest(&rig.producer.map, &slowest, &slot));
    CHECK_EQ(slot, 129);
    CHECK_EQ(slowest, 0);
    rig_expect(&slow, 16, 0);
    CHECK_EQ(rig_send(&rig.producer, 16), SHMIPC_OK);
    CHECK_EQ(rig_send(&rig.producer, 16), SHMIPC_FULL);
    shmipc_ring_leave(&slow.map, 129);
    for (int i = 0; i < 100; i++) {
        rig_expect(&fast, 16, sent++);
        CHECK_EQ(rig_send(&rig.producer, 16), SHMIPC_OK);
    }
    rig_close(&rig);
}

static void test_late_joiner_at_the_oldest_is_waited_for(void)
{
    struct shmipc_spec spec = rig_typed_spec(2, 64, 16);
    struct shmipc_ring_consumer joiner;
    struct rig rig;
    rig_open(&rig, &spec);
    const uint64_t capacity = shmipc_capacity_of(&rig.segment.geometry);
    for (uint64_t i = 0; i < capacity + 10; i++) { /* nobody attached: the oldest go */
        CHECK_EQ(rig_put(&rig.producer), SHMIPC_OK);
    }
    rig_join(&rig, &joiner, 0, SHMIPC_START_EARLIEST);
    CHECK_EQ(rig_put(&rig.producer), SHMIPC_FULL);
    for (uint64_t i = 0; i < capacity; i++) {
        rig_expect_item(&joiner, 10 + i);
    }
    CHECK_EQ(rig_put(&rig.producer), SHMIPC_OK);
    rig_expect_item(&joiner, 10 + capacity);
    rig_close(&rig);
}

/* ---- takeover ------------------------------------------------------------------------------- */

static void test_takeover_goes_on_at_the_last_commit_wherever_the_producer_died(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    unsigned char *at = NULL;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    for (uint64_t seq = 0; seq < 40; seq++) {
        struct shmipc_note *note = &rig.segment.header->commit.notes[rig.producer.note_index];
        CHECK_EQ(shmipc_ring_reserve(&rig.producer, 64, &at), SHMIPC_OK);
        CHECK(at != NULL);
        memset(at, 0xee, 64); /* half a message */
        if (seq % 3 >= 1) {   /* ... and the position of its note */
            shmipc_store_relaxed(&note->pos, rig.producer.head_pos + 64);
        }
        if (seq % 3 == 2) { /* ... and all of its note, but not the head */
            shmipc_store_release(&note->seq, seq + 1);
        }
        memset(&rig.producer, 0xcc, sizeof rig.producer);
        shmipc_ring_attach(&rig.producer.map, &rig.segment);
        CHECK_EQ(shmipc_ring_take_over(&rig.producer), SHMIPC_OK);
        CHECK_EQ(rig.producer.next_seq, seq);
        rig_expect_status(&consumer, SHMIPC_EMPTY);
        CHECK_EQ(rig_send(&rig.producer, seq * 3), SHMIPC_OK);
        rig_expect(&consumer, seq * 3, seq);
    }
    rig_close(&rig);
}

static void test_durable_consumer_resumes_at_the_first_unreleased_message(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_ring_consumer consumer;
    struct shmipc_message message;
    struct shmipc_lease lease;
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(rig_send(&rig.producer, 8), SHMIPC_OK);
    }
    rig_expect(&consumer, 8, 0);
    CHECK_EQ(shmipc_ring_peek(&consumer, &message), SHMIPC_OK);
    shmipc_ring_take(&consumer, &message, &lease);
    rig_expect(&consumer, 8, 2);
    shmipc_ring_leave(&consumer.map, 0);
    rig_join(&rig, &consumer, 0, SHMIPC_START_EARLIEST);
    for (uint64_t seq = 1; seq < 4; seq++) {
        rig_expect(&consumer, 8, seq);
    }
    rig_expect_status(&consumer, SHMIPC_EMPTY);
    rig_close(&rig);
}

static const struct test tests[] = {
    TEST(test_one_send_is_one_receive_with_its_kind_flags_and_sequence),
    TEST(test_nothing_is_visible_before_commit),
    TEST(test_message_of_the_whole_area_fits_an_empty_ring),
    TEST(test_full_ring_refuses_until_exactly_enough_is_released),
    TEST(test_typed_ring_holds_its_capacity_and_no_more),
    TEST(test_ring_without_consumers_never_fills),
    TEST(test_durable_ring_keeps_message_0_for_a_consumer_still_to_come),
    TEST(test_messages_cross_every_wrap_of_positions),
    TEST(test_items_cross_every_wrap_of_positions),
    TEST(test_batch_is_one_stretch_across_the_end_of_the_area),
    TEST(test_cursor_follows_the_oldest_lease_whatever_the_order_of_release),
    TEST(test_leased_memory_is_not_reused_while_reading_goes_on),
    TEST(test_latest_joins_at_the_next_message_and_earliest_at_the_oldest_retained),
    TEST(test_slowest_member_holds_the_producer_until_it_leaves),
    TEST(test_late_joiner_at_the_oldest_is_waited_for),
    TEST(test_takeover_goes_on_at_the_last_commit_wherever_the_producer_died),
    TEST(test_durable_consumer_resumes_at_the_first_unreleased_message),
};

TEST_MAIN(tests)
