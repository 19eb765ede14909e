/* test_overwrite.c: "overwrite" in one thread: the producer never waits, and a consumer that was
 * lapped knows exactly what it missed. */
#include "rig.h"

#include <string.h>

static struct shmipc_spec overwrite(struct shmipc_spec spec)
{
    spec.overflow = SHMIPC_OVERFLOW_OVERWRITE;
    return spec;
}

static void test_producer_never_waits_and_lost_is_exact_for_messages(void)
{
    struct shmipc_spec spec = overwrite(rig_message_spec(1));
    struct shmipc_ring_consumer consumer;
    struct shmipc_message message;
    uint64_t random = 42;
    uint64_t received = 0;
    struct rig rig;
    spec.origin_pos = 0 - UINT64_C(40000);
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    for (int round = 0; round < 400; round++) {
        for (uint64_t n = test_random(&random) % 40; n > 0; n--) {
            CHECK_EQ(rig_send(&rig.producer, test_random(&random) % 500), SHMIPC_OK);
        }
        for (uint64_t n = test_random(&random) % 20; n > 0; n--) {
            if (shmipc_ring_peek(&consumer, &message) != SHMIPC_OK) {
                break;
            }
            rig_expect(&consumer, message.len, message.seq);
            received++;
            CHECK_EQ(received + consumer.lost, message.seq + 1);
        }
    }
    while (shmipc_ring_peek(&consumer, &message) == SHMIPC_OK) {
        rig_expect(&consumer, message.len, message.seq);
        received++;
    }
    CHECK(consumer.lost > 1000);
    CHECK_EQ(received + consumer.lost, rig.producer.next_seq);
    rig_close(&rig);
}

static void check_lost_items(uint64_t item_len)
{
    struct shmipc_spec spec = overwrite(rig_typed_spec(2, item_len, 16));
    struct shmipc_ring_consumer consumer;
    uint64_t random = 42;
    uint64_t received = 0;
    struct rig rig;
    spec.origin_pos = 0 - UINT64_C(40000);
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 1, SHMIPC_START_LATEST);
    const uint64_t capacity = shmipc_capacity_of(&rig.segment.geometry);
    for (int round = 0; round < 300; round++) {
        for (uint64_t n = test_random(&random) % (3 * capacity); n > 0; n--) {
            CHECK_EQ(rig_put(&rig.producer), SHMIPC_OK);
        }
        for (uint64_t n = test_random(&random) % capacity; n > 0; n--) {
            struct shmipc_message message;
            if (shmipc_ring_peek(&consumer, &message) != SHMIPC_OK) {
                break;
            }
            rig_expect_item(&consumer, received + consumer.lost);
            received++;
        }
    }
    CHECK(consumer.lost > capacity);
    rig_close(&rig);
}

static void test_lost_is_exact_for_items(void)
{
    check_lost_items(8);
    check_lost_items(24);
    check_lost_items(100);
    check_lost_items(5000);
}

static void test_reader_within_the_capacity_loses_nothing(void)
{
    struct shmipc_spec spec = overwrite(rig_message_spec(2));
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    const uint64_t fit = rig.producer.map.area_len / 64;
    for (uint64_t seq = 0; seq < 10 * fit; seq += fit) {
        for (uint64_t i = 0; i < fit; i++) {
            CHECK_EQ(rig_send(&rig.producer, 48), SHMIPC_OK);
        }
        for (uint64_t i = 0; i < fit; i++) {
            rig_expect(&consumer, 48, seq + i);
        }
    }
    CHECK_EQ(consumer.lost, 0);
    rig_close(&rig);
}

static void test_retiring_walks_whole_messages(void)
{
    struct shmipc_spec spec = overwrite(rig_message_spec(2));
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    rig_open(&rig, &spec);
    const uint64_t area = rig.producer.map.area_len;
    CHECK_EQ(rig_send(&rig.producer, 1000), SHMIPC_OK); /* 1024 bytes with its header */
    CHECK_EQ(rig_send(&rig.producer, area - 1024 - 16), SHMIPC_OK);
    CHECK_EQ(rig_send(&rig.producer, 0), SHMIPC_OK); /* 16 bytes cost the whole first message */
    CHECK_EQ(shmipc_load_relaxed(&rig.segment.header->retention.tail_pos), 1024);
    CHECK_EQ(rig_send(&rig.producer, 1024 - 32), SHMIPC_OK);
    CHECK_EQ(shmipc_load_relaxed(&rig.segment.header->retention.tail_pos), 1024);
    rig_join(&rig, &consumer, 0, SHMIPC_START_EARLIEST);
    rig_expect(&consumer, area - 1024 - 16, 1);
    rig_expect(&consumer, 0, 2);
    rig_expect(&consumer, 1024 - 32, 3);
    CHECK_EQ(rig_send(&rig.producer, area - 16), SHMIPC_OK);
    CHECK_EQ(rig_send(&rig.producer, area - 16), SHMIPC_OK);
    rig_expect(&consumer, area - 16, 5);
    CHECK_EQ(consumer.lost, 1);
    rig_close(&rig);
}

static void test_copy_overtaken_by_the_producer_is_not_intact(void)
{
    struct shmipc_spec spec = overwrite(rig_message_spec(1));
    struct shmipc_ring_consumer consumer;
    struct shmipc_message message;
    unsigned char copy[48];
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    const uint64_t fit = rig.producer.map.area_len / 64;
    for (uint64_t i = 0; i < fit; i++) {
        CHECK_EQ(rig_send(&rig.producer, 48), SHMIPC_OK);
    }
    CHECK_EQ(shmipc_ring_peek(&consumer, &message), SHMIPC_OK);
    shmipc_copy_speculative(copy, message.data, 48);
    CHECK(shmipc_ring_intact(&consumer.map, message.pos));
    CHECK(rig_matches(copy, 48, 0));
    CHECK_EQ(rig_send(&rig.producer, 48), SHMIPC_OK);
    shmipc_copy_speculative(copy, message.data, 48);
    CHECK(!shmipc_ring_intact(&consumer.map, message.pos));
    shmipc_ring_resync(&consumer);
    rig_expect(&consumer, 48, fit); /* the newest */
    CHECK_EQ(consumer.lost, fit);
    rig_close(&rig);
}

/* Read one frame for every `step` that come; each time the reader was lapped, it must stand on the
 * newest and have the whole ring's time to look at it. */
static void check_frames_after_a_lap(const struct shmipc_spec *spec, uint64_t step)
{
    struct shmipc_ring_consumer consumer;
    struct shmipc_message message;
    struct rig rig;
    const bool typed = spec->item_len != 0;
    const uint64_t len = typed ? spec->item_len : 3000;
    uint64_t received = 0;
    uint64_t laps = 0;
    rig_open(&rig, spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    const uint64_t span = typed ? shmipc_item_stride_for(len) : shmipc_message_span(len);
    const uint64_t capacity = rig.producer.map.area_len / span;
    CHECK(capacity > step);
    uint64_t sent = 0;
    for (int frame = 0; frame < 100; frame++) {
        for (uint64_t i = 0; i < step; i++, sent++) {
            CHECK_EQ(typed ? rig_put(&rig.producer) : rig_send(&rig.producer, len), SHMIPC_OK);
        }
        const uint64_t lost = consumer.lost;
        CHECK_EQ(shmipc_ring_peek(&consumer, &message), SHMIPC_OK);
        const uint64_t number = received + consumer.lost;
        if (consumer.lost == lost) {
            shmipc_ring_advance(&consumer, &message);
            received++;
            continue;
        }
        laps++;
        CHECK_EQ(number, sent - 1);
        for (uint64_t i = 1; i < capacity; i++, sent++) {
            CHECK_EQ(typed ? rig_put(&rig.producer) : rig_send(&rig.producer, len), SHMIPC_OK);
            CHECK(rig_matches(message.data, len, number));
            CHECK(shmipc_ring_intact(&consumer.map, message.pos));
        }
        CHECK_EQ(typed ? rig_put(&rig.producer) : rig_send(&rig.producer, len), SHMIPC_OK);
        sent++;
        CHECK(!shmipc_ring_intact(&consumer.map, message.pos));
        shmipc_ring_advance(&consumer, &message);
        received++;
    }
    CHECK(laps > 10);
    rig_close(&rig);
}

static void test_lapped_reader_is_set_on_the_newest_and_has_the_whole_rings_time(void)
{
    struct shmipc_spec frames = overwrite(rig_typed_spec(1, 5000, 4));
    struct shmipc_spec messages = overwrite(rig_message_spec(1));
    messages.capacity = 16384;
    frames.origin_pos = 0 - UINT64_C(100000);
    messages.origin_pos = 0 - UINT64_C(100000);
    check_frames_after_a_lap(&frames, 3);
    check_frames_after_a_lap(&messages, 3);
}

/* Room for a message, and its header and bytes; not committed. */
static void write_message(struct rig *rig, uint64_t len, uint64_t ahead, uint64_t seq)
{
    unsigned char *at = NULL;
    CHECK_EQ(shmipc_ring_reserve(&rig->producer, ahead + shmipc_message_span(len), &at), SHMIPC_OK);
    CHECK(at != NULL);
    at = rig->producer.map.data + ((rig->producer.head_pos + ahead) & rig->producer.map.mask);
    shmipc_message_header_store(at, (uint32_t)len, 1, 0, seq);
    rig_fill(at + sizeof(struct shmipc_message_header), len, seq);
}

static void test_lapped_reader_is_set_on_the_first_of_messages_committed_at_once(void)
{
    struct shmipc_spec spec = overwrite(rig_message_spec(1));
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(rig_send(&rig.producer, 100), SHMIPC_OK);
    }
    for (uint64_t i = 0; i < 3; i++) {
        write_message(&rig, 20, i * 48, 100 + i);
    }
    shmipc_ring_commit_messages(&rig.producer, 3 * UINT64_C(48), 3);
    for (uint64_t i = 0; i < 3; i++) {
        rig_expect(&consumer, 20, 100 + i);
    }
    CHECK_EQ(consumer.lost, 100);
    rig_close(&rig);
}

/* A producer that died, or is, between the note and the head has replaced the note that says where
 * the newest message starts: the reader keeps to what is retained, and is not led into what was
 * never sent, nor into the middle of what the successor sends there. */
static void test_note_of_a_commit_that_was_not_made_leads_nobody_astray(void)
{
    struct shmipc_spec spec = overwrite(rig_message_spec(2));
    struct shmipc_ring_consumer first, second;
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &first, 0, SHMIPC_START_LATEST);
    rig_join(&rig, &second, 1, SHMIPC_START_LATEST);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(rig_send(&rig.producer, 240), SHMIPC_OK);
    }
    write_message(&rig, 900, 0, 100);
    const uint64_t span = shmipc_message_span(900);
    CHECK(span % 256 != 0);
    shmipc_store_relaxed(&rig.segment.header->commit.notes[rig.producer.note_index].pos,
                         rig.producer.head_pos + span);
    const uint64_t kept = (rig.producer.map.area_len - span) / 256;
    for (uint64_t seq = 100 - kept; seq < 100; seq++) {
        rig_expect(&first, 240, seq);
    }
    rig_expect_status(&first, SHMIPC_EMPTY);
    CHECK_EQ(first.lost, 100 - kept);
    CHECK_EQ(shmipc_ring_take_over(&rig.producer), SHMIPC_OK);
    for (int i = 0; i < 7; i++) { /* past the position in that note */
        CHECK_EQ(rig_send(&rig.producer, 240), SHMIPC_OK);
    }
    rig_expect(&second, 240, 106);
    CHECK_EQ(second.lost, 106);
    rig_close(&rig);
}

static void test_reader_of_a_ring_of_one_item_loses_some_but_not_for_ever(void)
{
    struct shmipc_spec spec = overwrite(rig_typed_spec(1, 4096, 1));
    struct shmipc_ring_consumer consumer;
    struct shmipc_message message;
    struct rig rig;
    unsigned char *at = NULL;
    uint64_t received = 0;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    for (uint64_t sent = 1; sent <= 1000; sent++) {
        CHECK_EQ(rig_put(&rig.producer), SHMIPC_OK);
        if (shmipc_ring_peek(&consumer, &message) != SHMIPC_OK) {
            continue;
        }
        if (sent % 4 != 0) { /* while it is looked at, the only item gives way */
            CHECK_EQ(shmipc_ring_reserve(&rig.producer, 4096, &at), SHMIPC_OK);
            CHECK(!shmipc_ring_intact(&consumer.map, message.pos));
            shmipc_ring_resync(&consumer);
            continue;
        }
        rig_expect_item(&consumer, sent - 1);
        received++;
        CHECK_EQ(received + consumer.lost, sent);
    }
    CHECK_EQ(received, 250);
    rig_close(&rig);
}

static void test_a_reservation_already_takes_the_oldest(void)
{
    struct shmipc_spec spec = overwrite(rig_message_spec(1));
    struct shmipc_ring_consumer consumer;
    struct shmipc_message message;
    struct rig rig;
    unsigned char *at = NULL;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    CHECK_EQ(rig_send(&rig.producer, 1000), SHMIPC_OK);
    CHECK_EQ(rig_send(&rig.producer, 2000), SHMIPC_OK);
    CHECK_EQ(shmipc_ring_peek(&consumer, &message), SHMIPC_OK);
    CHECK_EQ(shmipc_ring_reserve(&rig.producer, rig.producer.map.area_len, &at), SHMIPC_OK);
    CHECK(at != NULL);
    memset(at, 0xee, rig.producer.map.area_len); /* writing, not committed, perhaps dead */
    CHECK(!shmipc_ring_intact(&consumer.map, message.pos));
    CHECK_EQ(shmipc_ring_peek(&consumer, &message), SHMIPC_EMPTY);
    CHECK_EQ(shmipc_ring_take_over(&rig.producer), SHMIPC_OK);
    CHECK_EQ(rig_send(&rig.producer, 10), SHMIPC_OK);
    rig_expect(&consumer, 10, 2);
    CHECK_EQ(consumer.lost, 2);
    rig_close(&rig);
}

static void test_reader_lapped_again_and_again_goes_to_the_next_to_come(void)
{
    struct shmipc_spec spec = overwrite(rig_typed_spec(1, 64, 16));
    struct shmipc_ring_consumer consumer;
    struct shmipc_message message;
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    const uint64_t capacity = shmipc_capacity_of(&rig.segment.geometry);
    uint64_t lag = 0;
    for (int lap = 0; lap < 6; lap++) {
        for (uint64_t i = 0; i < 2 * capacity; i++) {
            CHECK_EQ(rig_put(&rig.producer), SHMIPC_OK);
        }
        const enum shmipc_status status = shmipc_ring_peek(&consumer, &message);
        lag = rig.producer.head_pos - consumer.read_pos;
        CHECK_EQ(lag, status == SHMIPC_OK ? 64 : 0);
    }
    CHECK_EQ(lag, 0);
    CHECK_EQ(rig_put(&rig.producer), SHMIPC_OK);
    rig_expect_item(&consumer, 12 * capacity);
    CHECK_EQ(consumer.lost, 12 * capacity);
    rig_close(&rig);
}

static void test_lost_is_exact_at_once_for_a_reader_sent_to_the_next_message(void)
{
    struct shmipc_spec spec = overwrite(rig_message_spec(1));
    struct shmipc_ring_consumer consumer;
    struct shmipc_message message;
    struct rig rig;
    rig_open(&rig, &spec);
    rig_join(&rig, &consumer, 0, SHMIPC_START_LATEST);
    while (consumer.read_pos != rig.producer.head_pos) {
        for (int i = 0; i < 1000; i++) {
            CHECK_EQ(rig_send(&rig.producer, 48), SHMIPC_OK);
        }
        (void)shmipc_ring_peek(&consumer, &message);
    }
    /* the stream may end here: there is no next message to learn it from */
    rig_expect_status(&consumer, SHMIPC_EMPTY);
    CHECK_EQ(consumer.lost, rig.producer.next_seq);
    CHECK_EQ(rig_send(&rig.producer, 48), SHMIPC_OK);
    rig_expect(&consumer, 48, rig.producer.next_seq - 1);
    CHECK_EQ(consumer.lost, rig.producer.next_seq - 1);
    rig_close(&rig);
}

static void test_joiner_never_holds_the_producer(void)
{
    struct shmipc_spec spec = overwrite(rig_message_spec(2));
    struct shmipc_ring_consumer consumer;
    struct rig rig;
    rig_open(&rig, &spec);
    for (int i = 0; i < 300; i++) {
        CHECK_EQ(rig_send(&rig.producer, 100), SHMIPC_OK);
    }
    rig_join(&rig, &consumer, 1, SHMIPC_START_EARLIEST);
    const uint64_t retained = shmipc_ring_unread_estimate(&consumer);
    CHECK_EQ(retained, rig.producer.map.area_len / 128);
    rig_expect(&consumer, 100, 300 - retained);
    for (int i = 0; i < 300; i++) {
        CHECK_EQ(rig_send(&rig.producer, 100), SHMIPC_OK);
    }
    rig_expect(&consumer, 100, 599); /* lapped: the newest */
    CHECK_EQ(consumer.lost, 300 + retained - 2);
    rig_close(&rig);
}

static void test_speculative_copy_copies_every_length(void)
{
    _Alignas(8) unsigned char from[80];
    unsigned char to[80];
    rig_fill(from, sizeof from, 3);
    for (size_t len = 0; len <= sizeof from; len++) {
        memset(to, 0, sizeof to);
        shmipc_copy_speculative(to, from, len);
        CHECK_EQ(memcmp(to, from, len), 0);
        for (size_t i = len; i < sizeof to; i++) {
            CHECK_EQ(to[i], 0);
        }
    }
}

static const struct test tests[] = {
    TEST(test_producer_never_waits_and_lost_is_exact_for_messages),
    TEST(test_lost_is_exact_for_items),
    TEST(test_reader_within_the_capacity_loses_nothing),
    TEST(test_retiring_walks_whole_messages),
    TEST(test_copy_overtaken_by_the_producer_is_not_intact),
    TEST(test_lapped_reader_is_set_on_the_newest_and_has_the_whole_rings_time),
    TEST(test_lapped_reader_is_set_on_the_first_of_messages_committed_at_once),
    TEST(test_note_of_a_commit_that_was_not_made_leads_nobody_astray),
    TEST(test_reader_of_a_ring_of_one_item_loses_some_but_not_for_ever),
    TEST(test_a_reservation_already_takes_the_oldest),
    TEST(test_reader_lapped_again_and_again_goes_to_the_next_to_come),
    TEST(test_lost_is_exact_at_once_for_a_reader_sent_to_the_next_message),
    TEST(test_joiner_never_holds_the_producer),
    TEST(test_speculative_copy_copies_every_length),
};

TEST_MAIN(tests)
