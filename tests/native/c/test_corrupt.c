/* test_corrupt.c: memory that a peer can write holds what we never write. The answer is
 * SHMIPC_CORRUPT, or for what cannot be told from a slow peer FULL; never a read out of bounds, a
 * crash or a wait that cannot end. */
#include "rig.h"

#include <string.h>

struct scene {
    struct rig rig;
    struct shmipc_ring_consumer consumer;
    struct shmipc_header *shared;
};

static void open_scene(struct scene *scene, const struct shmipc_spec *spec)
{
    rig_open(&scene->rig, spec);
    rig_join(&scene->rig, &scene->consumer, 0, SHMIPC_START_LATEST);
    scene->shared = scene->rig.segment.header;
}

static void send_some(struct scene *scene)
{
    for (int i = 0; i < 3; i++) {
        const bool typed = scene->rig.producer.map.item_stride != 0;
        CHECK_EQ(typed ? rig_put(&scene->rig.producer) : rig_send(&scene->rig.producer, 40),
                 SHMIPC_OK);
    }
}

static unsigned char *first_message(struct scene *scene)
{
    return scene->rig.segment.data + (scene->consumer.read_pos & scene->consumer.map.mask);
}

static void test_message_longer_than_what_is_committed_is_corrupt(void)
{
    static const uint32_t lens[] = {177, 4096, 8192, 0x7fffffff, 0xfffffff0, 0xffffffff};
    struct shmipc_spec spec = rig_message_spec(1);
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        struct scene scene;
        open_scene(&scene, &spec);
        send_some(&scene); /* 3 * 64 bytes: 176 of payload would just fit */
        shmipc_message_header_store(first_message(&scene), lens[i], 1, 0, 0);
        rig_expect_status(&scene.consumer, SHMIPC_CORRUPT);
        CHECK_EQ(shmipc_ring_pending_estimate(&scene.rig.producer), 0);
        rig_close(&scene.rig);
    }
}

static void test_zeroed_message_is_corrupt(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct scene scene;
    open_scene(&scene, &spec);
    send_some(&scene);
    memset(first_message(&scene), 0, 64);
    rig_expect_status(&scene.consumer, SHMIPC_CORRUPT);
    rig_close(&scene.rig);
}

static void check_head(const struct shmipc_spec *spec, uint64_t offset)
{
    struct scene scene;
    open_scene(&scene, spec);
    send_some(&scene);
    const uint64_t head = shmipc_load_relaxed(&scene.shared->commit.head_pos);
    shmipc_store_relaxed(&scene.shared->commit.head_pos, head + offset);
    rig_expect_status(&scene.consumer, SHMIPC_CORRUPT);
    CHECK_EQ(shmipc_ring_take_over(&scene.rig.producer), SHMIPC_CORRUPT);
    rig_close(&scene.rig);
}

static void check_heads(const struct shmipc_spec *spec)
{
    check_head(spec, 1 << 20);
    check_head(spec, UINT64_C(1) << 63);
    check_head(spec, 0 - (UINT64_C(1) << 20));
}

static void test_head_outside_the_ring_is_corrupt_to_both_sides(void)
{
    struct shmipc_spec messages = rig_message_spec(1);
    struct shmipc_spec items = rig_typed_spec(2, 24, 16);
    check_heads(&messages);
    check_heads(&items);
}

static void test_head_outside_an_overwrite_ring_is_corrupt_not_a_silence(void)
{
    struct shmipc_spec messages = rig_message_spec(1);
    struct shmipc_spec items = rig_typed_spec(2, 24, 16);
    messages.overflow = SHMIPC_OVERFLOW_OVERWRITE;
    items.overflow = SHMIPC_OVERFLOW_OVERWRITE;
    check_heads(&messages);
    check_heads(&items);
}

static void test_head_within_a_message_or_item_is_corrupt(void)
{
    struct shmipc_spec messages = rig_message_spec(1);
    struct shmipc_spec items = rig_typed_spec(1, 24, 16);
    struct scene scene;
    for (uint64_t offset = 1; offset < 16; offset += 7) {
        open_scene(&scene, &messages);
        shmipc_store_relaxed(&scene.shared->commit.head_pos, offset);
        rig_expect_status(&scene.consumer, SHMIPC_CORRUPT);
        /* even with a note that vouches for it */
        shmipc_store_relaxed(&scene.shared->commit.notes[0].pos, offset);
        CHECK_EQ(shmipc_ring_take_over(&scene.rig.producer), SHMIPC_CORRUPT);
        rig_close(&scene.rig);
        open_scene(&scene, &items);
        shmipc_store_relaxed(&scene.shared->commit.head_pos, offset);
        rig_expect_status(&scene.consumer, SHMIPC_CORRUPT);
        CHECK_EQ(shmipc_ring_take_over(&scene.rig.producer), SHMIPC_CORRUPT);
        rig_close(&scene.rig);
    }
}

static void test_head_that_no_note_knows_is_corrupt_to_a_takeover(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct scene scene;
    open_scene(&scene, &spec);
    send_some(&scene);
    shmipc_store_relaxed(&scene.shared->commit.head_pos, 16);
    CHECK_EQ(shmipc_ring_take_over(&scene.rig.producer), SHMIPC_CORRUPT);
    rig_close(&scene.rig);
}

static void test_cursor_ahead_of_the_head_is_corrupt_to_the_producer(void)
{
    static const uint64_t ahead[] = {16, 4096, UINT64_C(1) << 40, (UINT64_C(1) << 63) - 1024};
    struct shmipc_spec durable = rig_message_spec(1);
    struct shmipc_spec many = rig_message_spec(4);
    for (size_t i = 0; i < 2 * sizeof ahead / sizeof *ahead; i++) {
        struct scene scene;
        open_scene(&scene, i % 2 == 0 ? &durable : &many);
        send_some(&scene);
        shmipc_store_relaxed(&scene.shared->slots[0].cursor_pos,
                             scene.rig.producer.head_pos + ahead[i / 2]);
        CHECK_EQ(shmipc_ring_refill(&scene.rig.producer, 4096), SHMIPC_CORRUPT);
        CHECK_EQ(shmipc_ring_pending_estimate(&scene.rig.producer), 0);
        rig_close(&scene.rig);
    }
}

/* Followed, it would have headers read at addresses that no header has. */
static void test_cursor_between_messages_is_corrupt_to_the_producer(void)
{
    struct shmipc_spec specs[] = {rig_message_spec(1), rig_message_spec(4)};
    for (size_t i = 0; i < 2; i++) {
        struct scene scene;
        open_scene(&scene, &specs[i]);
        send_some(&scene);
        memset(first_message(&scene), 1, 64); /* what a header at 3 would be made of */
        shmipc_store_relaxed(&scene.shared->slots[0].cursor_pos, 3);
        CHECK_EQ(shmipc_ring_pending_estimate(&scene.rig.producer), 0);
        CHECK_EQ(shmipc_ring_refill(&scene.rig.producer, 64), SHMIPC_CORRUPT);
        rig_close(&scene.rig);
    }
}

static void test_cursor_more_than_a_lap_behind_never_grants_room(void)
{
    struct shmipc_spec durable = rig_message_spec(1);
    struct shmipc_spec many = rig_message_spec(4);
    struct scene scene;
    open_scene(&scene, &durable);
    shmipc_store_relaxed(&scene.shared->slots[0].cursor_pos, 0 - UINT64_C(8192));
    CHECK_EQ(shmipc_ring_refill(&scene.rig.producer, 16), SHMIPC_CORRUPT);
    rig_close(&scene.rig);
    open_scene(&scene, &many);
    shmipc_store_relaxed(&scene.shared->slots[0].cursor_pos, 0 - UINT64_C(8192));
    CHECK_EQ(shmipc_ring_refill(&scene.rig.producer, 16), SHMIPC_FULL);
    rig_close(&scene.rig);
}

/* A cursor inside an item must not let the tail pass the head once its owner is gone. */
static void test_cursor_within_an_item_never_moves_the_tail_past_the_head(void)
{
    struct shmipc_spec spec = rig_typed_spec(2, 24, 16);
    struct scene scene;
    open_scene(&scene, &spec);
    send_some(&scene);
    shmipc_store_relaxed(&scene.shared->slots[0].cursor_pos, scene.rig.producer.head_pos - 1);
    (void)shmipc_ring_refill(&scene.rig.producer, scene.rig.producer.map.area_len - 24);
    shmipc_ring_leave(&scene.consumer.map, 0);
    (void)shmipc_ring_refill(&scene.rig.producer, scene.rig.producer.map.area_len);
    const uint64_t tail = shmipc_load_relaxed(&scene.shared->retention.tail_pos);
    CHECK(!shmipc_pos_before(scene.rig.producer.head_pos, tail));
    CHECK(shmipc_ring_room(&scene.rig.producer) <= scene.rig.producer.map.area_len);
    rig_close(&scene.rig);
}

static void test_durable_cursor_outside_or_between_messages_refuses_to_join(void)
{
    static const uint64_t positions[] = {16384, UINT64_C(1) << 63, 0 - UINT64_C(16384), 8, 1};
    struct shmipc_spec spec = rig_message_spec(1);
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        struct scene scene;
        open_scene(&scene, &spec);
        send_some(&scene);
        shmipc_store_relaxed(&scene.shared->slots[0].cursor_pos, positions[i]);
        rig_attach(&scene.rig, &scene.consumer);
        CHECK_EQ(shmipc_ring_join(&scene.consumer, 0, SHMIPC_START_EARLIEST), SHMIPC_CORRUPT);
        rig_close(&scene.rig);
    }
}

static void test_tail_that_stays_ahead_of_every_joiner_is_corrupt(void)
{
    struct shmipc_spec spec = rig_message_spec(2);
    struct scene scene;
    open_scene(&scene, &spec);
    send_some(&scene);
    shmipc_store_relaxed(&scene.shared->retention.tail_pos, 4096);
    rig_attach(&scene.rig, &scene.consumer);
    CHECK_EQ(shmipc_ring_join(&scene.consumer, 1, SHMIPC_START_LATEST), SHMIPC_CORRUPT);
    CHECK_EQ(shmipc_load_relaxed(&scene.shared->members.bits[0]), 1); /* and it left again */
    rig_close(&scene.rig);
}

static void test_member_bits_beyond_the_slots_are_ignored(void)
{
    struct shmipc_spec spec = rig_message_spec(3);
    struct scene scene;
    uint64_t slowest = 0;
    uint32_t slot = 0;
    open_scene(&scene, &spec);
    for (size_t word = 0; word < SHMIPC_MEMBER_WORDS; word++) {
        shmipc_store_relaxed(&scene.shared->members.bits[word], UINT64_MAX << 3 | 1);
    }
    send_some(&scene);
    rig_expect(&scene.consumer, 40, 0);
    CHECK(shmipc_ring_slowest(&scene.rig.producer.map, &slowest, &slot));
    CHECK_EQ(slot, 0);
    CHECK_EQ(slowest, 64);
    CHECK_EQ(shmipc_ring_refill(&scene.rig.producer, 128), SHMIPC_OK);
    rig_close(&scene.rig);
}

static void test_corrupt_header_on_the_way_of_retirement_is_noticed(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct scene scene;
    spec.overflow = SHMIPC_OVERFLOW_OVERWRITE;
    open_scene(&scene, &spec);
    send_some(&scene);
    shmipc_message_header_store(first_message(&scene), 0xffffffff, 1, 0, 0);
    CHECK_EQ(shmipc_ring_refill(&scene.rig.producer, 4096), SHMIPC_CORRUPT);
    rig_expect_status(&scene.consumer, SHMIPC_CORRUPT);
    rig_close(&scene.rig);
}

/* Every word of the shared lines and some of the data, overwritten with random or telling values
 * while both sides go on. Whatever they answer, the sanitizers see no wrong access. */
static void fuzz(const struct shmipc_spec *spec, uint64_t seed)
{
    struct scene scene;
    uint64_t random = seed * 2654435761u + 1;
    open_scene(&scene, spec);
    const uint64_t shared_words =
        (offsetof(struct shmipc_header, slots) + sizeof(struct shmipc_slot)) / 8 - 16;
    for (int round = 0; round < 60; round++) {
        struct shmipc_message message;
        uint64_t count;
        (void)(spec->framing == SHMIPC_FRAMING_TYPED ? rig_put(&scene.rig.producer)
                                                     : rig_send(&scene.rig.producer, 24));
        const uint64_t which = test_random(&random) % (shared_words + 8);
        unsigned char *at = which < shared_words
                                ? scene.rig.segment.base + SHMIPC_LINE + which * 8
                                : scene.rig.segment.data + (which - shared_words) * 8;
        const uint64_t value = test_random(&random) >> (test_random(&random) % 64);
        shmipc_store_relaxed((shmipc_atomic_u64 *)(void *)at,
                             test_random(&random) % 2 == 0 ? value : 0 - value);
        (void)shmipc_ring_pending_estimate(&scene.rig.producer);
        (void)shmipc_ring_unread_estimate(&scene.consumer);
        (void)shmipc_ring_lag_estimate(&scene.consumer);
        message.seq = 0;
        const enum shmipc_status status =
            spec->framing == SHMIPC_FRAMING_TYPED
                ? shmipc_ring_peek_batch(&scene.consumer, 1000, &message, &count)
                : shmipc_ring_peek(&scene.consumer, &message);
        if (status == SHMIPC_OK) {
            uint64_t sum = 0;
            for (uint64_t i = 0; i < message.len; i++) {
                sum += message.data[i];
            }
            CHECK(sum <= 255 * message.len);
            CHECK(message.data >= scene.rig.segment.data);
            CHECK(message.len <= scene.consumer.map.area_len);
            shmipc_ring_advance(&scene.consumer, &message);
            (void)shmipc_ring_publish_cursor(&scene.consumer);
        } else if (status == SHMIPC_CORRUPT && round % 4 == 0) {
            rig_attach(&scene.rig, &scene.consumer);
            if (shmipc_ring_join(&scene.consumer, 0, SHMIPC_START_EARLIEST) != SHMIPC_OK) {
                break;
            }
        }
        if (round % 16 == 15 && shmipc_ring_take_over(&scene.rig.producer) != SHMIPC_OK) {
            break;
        }
    }
    rig_close(&scene.rig);
}

static void test_random_damage_never_leads_outside_the_mapping(void)
{
    struct shmipc_spec specs[4] = {rig_message_spec(1), rig_message_spec(2),
                                   rig_typed_spec(1, 24, 16), rig_typed_spec(2, 5000, 4)};
    const uint64_t seeds = test_rounds(400);
    for (uint64_t seed = 0; seed < seeds; seed++) {
        struct shmipc_spec spec = specs[seed % 4];
        spec.overflow = seed / 4 % 2 == 0 ? SHMIPC_OVERFLOW_BLOCK : SHMIPC_OVERFLOW_OVERWRITE;
        fuzz(&spec, seed);
    }
}

static const struct test tests[] = {
    TEST(test_message_longer_than_what_is_committed_is_corrupt),
    TEST(test_zeroed_message_is_corrupt),
    TEST(test_head_outside_the_ring_is_corrupt_to_both_sides),
    TEST(test_head_outside_an_overwrite_ring_is_corrupt_not_a_silence),
    TEST(test_head_within_a_message_or_item_is_corrupt),
    TEST(test_head_that_no_note_knows_is_corrupt_to_a_takeover),
    TEST(test_cursor_ahead_of_the_head_is_corrupt_to_the_producer),
    TEST(test_cursor_between_messages_is_corrupt_to_the_producer),
    TEST(test_cursor_more_than_a_lap_behind_never_grants_room),
    TEST(test_cursor_within_an_item_never_moves_the_tail_past_the_head),
    TEST(test_durable_cursor_outside_or_between_messages_refuses_to_join),
    TEST(test_tail_that_stays_ahead_of_every_joiner_is_corrupt),
    TEST(test_member_bits_beyond_the_slots_are_ignored),
    TEST(test_corrupt_header_on_the_way_of_retirement_is_noticed),
    TEST(test_random_damage_never_leads_outside_the_mapping),
};

TEST_MAIN(tests)
