/* test_kept.c: slots that are kept for consumers to come: from message 0, or from a
 * take-over on; who gets them, and what a death on the way costs. */
#define _GNU_SOURCE
#include "crew.h"

#include <string.h>
#include <unistd.h>

static struct shmipc_error error;

static struct shmipc_spec holding(uint32_t slots, uint32_t hold_for)
{
    struct shmipc_spec spec = rig_message_spec(slots);
    spec.hold_for = hold_for;
    return spec;
}

static uint32_t count_kept(const struct shmipc_producer_role *producer)
{
    return shmipc_ring_count_kept(&producer->ring.map);
}

static void send_some(struct shmipc_producer_role *producer, int count)
{
    for (int i = 0; i < count; i++) {
        send_one(producer);
    }
}

static void test_each_of_those_it_holds_for_gets_message_0(void)
{
    struct shmipc_spec spec = holding(4, 3);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumers[4];
    open_producer(&producer, &spec);
    CHECK_EQ(count_kept(&producer), 3);
    CHECK_EQ(shmipc_producer_role_count_attached(&producer), 0);
    send_some(&producer, 10);
    for (uint32_t i = 0; i < 3; i++) {
        open_consumer(&consumers[i], i == 1 ? SHMIPC_START_EARLIEST : SHMIPC_START_RESUME);
        CHECK_EQ(count_kept(&producer), 2 - i);
        CHECK_EQ(shmipc_producer_role_count_attached(&producer), i + 1);
        for (uint64_t seq = 0; seq < 10; seq++) {
            receive_one(&consumers[i], seq);
        }
    }
    open_consumer(&consumers[3], SHMIPC_START_RESUME); /* one more than that: at the next */
    send_one(&producer);
    for (int i = 0; i < 4; i++) {
        receive_one(&consumers[i], 10);
        shmipc_consumer_role_close(&consumers[i]);
    }
    shmipc_producer_role_close(&producer, false);
}

static void test_kept_slot_fills_the_ring_and_is_never_reclaimed(void)
{
    struct shmipc_spec spec = holding(2, 1);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    open_producer(&producer, &spec);
    uint64_t sent = 0;
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
        sent++;
    }
    CHECK_EQ(sent, producer.ring.map.area_len / 64);
    CHECK_EQ(await_room(&producer, 64, SECOND / 5), SHMIPC_TIMEOUT); /* looks after the dead */
    CHECK_EQ(shmipc_producer_role_poll_peers(&producer), SHMIPC_FULL);
    CHECK_EQ(producer.reclaimed, 0);
    CHECK_EQ(count_kept(&producer), 1);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    for (uint64_t seq = 0; seq < sent; seq++) {
        receive_one(&consumer, seq);
    }
    shmipc_consumer_role_close(&consumer);
    for (uint64_t i = 0; i < 2 * sent; i++) { /* it has joined and left: nobody is waited for */
        CHECK_EQ(rig_send(&producer.ring, 40), SHMIPC_OK);
    }
    shmipc_producer_role_close(&producer, false);
    CHECK(!test_exists(test_path("x")));
}

static void test_latest_uses_a_kept_slot_up_and_joins_at_the_next(void)
{
    struct shmipc_spec spec = holding(2, 2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role latest, other;
    open_producer(&producer, &spec);
    send_some(&producer, 3);
    open_consumer(&latest, SHMIPC_START_LATEST);
    CHECK_EQ(count_kept(&producer), 1);
    send_one(&producer);
    receive_one(&latest, 3);
    open_consumer(&other, SHMIPC_START_RESUME);
    CHECK_EQ(count_kept(&producer), 0);
    for (uint64_t seq = 0; seq < 4; seq++) {
        receive_one(&other, seq);
    }
    shmipc_consumer_role_close(&latest);
    shmipc_consumer_role_close(&other);
    shmipc_producer_role_close(&producer, false);
}

static void test_ring_outlives_its_producers_close_until_those_it_holds_for_have_drained_it(void)
{
    struct shmipc_spec spec = holding(3, 2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    enum shmipc_clean_result result;
    const char *path = test_path("x");
    open_producer(&producer, &spec);
    send_some(&producer, 3);
    shmipc_producer_role_close(&producer, false);
    CHECK_EQ(shmipc_segment_foresee(path, false, &result, &error), SHMIPC_OK);
    CHECK_EQ(result, SHMIPC_CLEAN_PENDING);
    CHECK_EQ(shmipc_consumer_role_open(&consumer, path, SHMIPC_START_LATEST, &error),
             SHMIPC_NOT_FOUND);
    for (int i = 0; i < 2; i++) {
        open_consumer(&consumer, i == 0 ? SHMIPC_START_RESUME : SHMIPC_START_EARLIEST);
        for (uint64_t seq = 0; seq < 3; seq++) {
            receive_one(&consumer, seq);
        }
        CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_CLOSED);
        shmipc_consumer_role_close(&consumer);
        CHECK(test_exists(path) == (i == 0));
    }
    CHECK_EQ(shmipc_consumer_role_open(&consumer, path, SHMIPC_START_RESUME, &error),
             SHMIPC_NOT_FOUND);
}

static void test_places_with_nothing_to_get_keep_no_file(void)
{
    struct shmipc_spec spec = holding(3, 2);
    struct shmipc_producer_role producer;
    open_producer(&producer, &spec);
    shmipc_producer_role_close(&producer, false);
    CHECK(!test_exists(test_path("x")));
}

static void test_kept_slots_outlive_a_producer_and_are_kept_by_the_next(void)
{
    struct shmipc_spec spec = holding(3, 2);
    struct shmipc_spec plain = holding(3, 0);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role first, second;
    const pid_t child = test_fork(be_a_producer, &spec);
    test_gate_pass(&ready);
    test_kill(child);
    open_producer(&producer, &plain);
    CHECK(producer.took_over);
    CHECK_EQ(count_kept(&producer), 2);
    shmipc_producer_role_close(&producer, false);
    open_producer(&producer, &spec);
    CHECK_EQ(count_kept(&producer), 2);
    open_consumer(&first, SHMIPC_START_RESUME);
    open_consumer(&second, SHMIPC_START_RESUME);
    receive_one(&first, 0);
    receive_one(&second, 0);
    shmipc_consumer_role_close(&first);
    shmipc_consumer_role_close(&second);
    shmipc_producer_role_close(&producer, false);
}

/* A slot that is attached, one whose consumer died, a free one: a successor that holds for three
 * makes two more, from where it goes on. */
static void test_takeover_keeps_what_is_missing_from_its_own_head_on(void)
{
    struct shmipc_spec plain = holding(3, 0);
    struct shmipc_spec spec = holding(3, 3);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role attached, late, early;
    pid_t child = test_fork(be_a_producer, &plain);
    test_gate_pass(&ready);
    const pid_t dying = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    open_consumer(&attached, SHMIPC_START_EARLIEST);
    test_kill(dying);
    test_kill(child);
    open_producer(&producer, &spec);
    CHECK_EQ(count_kept(&producer), 2);
    CHECK_EQ(shmipc_producer_role_count_attached(&producer), 1);
    send_some(&producer, 2);
    open_consumer(&late, SHMIPC_START_RESUME);
    open_consumer(&early, SHMIPC_START_EARLIEST); /* the oldest retained, as ever */
    CHECK_EQ(count_kept(&producer), 0);
    for (uint64_t seq = 0; seq < 4; seq++) {
        receive_one(&attached, seq);
        receive_one(&early, seq);
        if (seq >= 2) {
            receive_one(&late, seq);
        }
    }
    CHECK_EQ(producer.reclaimed, 0);
    shmipc_consumer_role_close(&attached);
    shmipc_consumer_role_close(&late);
    shmipc_consumer_role_close(&early);
    shmipc_producer_role_close(&producer, false);
}

static void test_durable_and_overwriting_rings_keep_no_places(void)
{
    struct shmipc_spec spec = holding(1, 1);
    struct shmipc_producer_role producer;
    open_producer(&producer, &spec);
    CHECK_EQ(count_kept(&producer), 0);
    CHECK_EQ(shmipc_load_relaxed(&producer.ring.map.shared->slots[0].pid), 0);
    shmipc_producer_role_close(&producer, false);
    spec = holding(2, 2);
    spec.overflow = SHMIPC_OVERFLOW_OVERWRITE;
    open_producer(&producer, &spec);
    CHECK_EQ(count_kept(&producer), 0);
    shmipc_producer_role_close(&producer, false);
}

/* ---- deaths, and lies ----------------------------------------------------------------------- */

static void test_consumer_that_dies_after_joining_has_used_its_place_up(void)
{
    struct shmipc_spec spec = holding(2, 1);
    struct shmipc_producer_role producer;
    open_producer(&producer, &spec);
    send_some(&producer, 2);
    const pid_t dying = test_fork(be_a_consumer, NULL);
    test_gate_pass(&ready);
    CHECK_EQ(count_kept(&producer), 0);
    test_kill(dying);
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
    }
    CHECK_EQ(await_room(&producer, 64, PATIENCE), SHMIPC_OK);
    CHECK_EQ(producer.reclaimed, 1);
    shmipc_producer_role_close(&producer, false);
}

/* What a producer leaves that dies between the stores of keeping a slot: SHMIPC_PID_KEPT without
 * a bit is a free slot. A consumer that takes it names itself before it sets the bit. */
static void test_half_kept_slot_is_a_free_one(void)
{
    struct shmipc_spec spec = holding(2, 0);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    open_producer(&producer, &spec);
    struct shmipc_slot *slot = &producer.ring.map.shared->slots[0];
    shmipc_store_relaxed(&slot->pid, SHMIPC_PID_KEPT);
    CHECK_EQ(count_kept(&producer), 0);
    CHECK_EQ(shmipc_producer_role_count_attached(&producer), 0);
    while (producer.ring.head_pos < 2 * producer.ring.map.area_len) {
        CHECK_EQ(rig_send(&producer.ring, 40), SHMIPC_OK);
    }
    open_consumer(&consumer, SHMIPC_START_RESUME);
    CHECK_EQ(shmipc_load_relaxed(&slot->pid), (uint32_t)getpid());
    const uint64_t next = producer.ring.next_seq;
    send_one(&producer);
    receive_one(&consumer, next);
    shmipc_consumer_role_close(&consumer);
    shmipc_producer_role_close(&producer, false);
    CHECK(!test_exists(test_path("x")));
}

static void test_kept_cursor_outside_the_ring_or_between_messages_refuses_to_join(void)
{
    struct shmipc_spec spec = holding(2, 1);
    const uint64_t lies[] = {1 << 20, UINT64_C(1) << 63, 0 - UINT64_C(8192), 8};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct shmipc_producer_role producer;
        struct shmipc_consumer_role consumer;
        open_producer(&producer, &spec);
        send_some(&producer, 3);
        shmipc_store_relaxed(&producer.ring.map.shared->slots[0].cursor_pos, lies[i]);
        CHECK_EQ(shmipc_consumer_role_open(&consumer, test_path("x"), SHMIPC_START_RESUME, &error),
                 SHMIPC_CORRUPT);
        CHECK(shmipc_segment_unlink(&producer.segment));
        shmipc_producer_role_close(&producer, false);
    }
}

static const struct test tests[] = {
    TEST(test_each_of_those_it_holds_for_gets_message_0),
    TEST(test_kept_slot_fills_the_ring_and_is_never_reclaimed),
    TEST(test_latest_uses_a_kept_slot_up_and_joins_at_the_next),
    TEST(test_ring_outlives_its_producers_close_until_those_it_holds_for_have_drained_it),
    TEST(test_places_with_nothing_to_get_keep_no_file),
    TEST(test_kept_slots_outlive_a_producer_and_are_kept_by_the_next),
    TEST(test_takeover_keeps_what_is_missing_from_its_own_head_on),
    TEST(test_durable_and_overwriting_rings_keep_no_places),
    TEST(test_consumer_that_dies_after_joining_has_used_its_place_up),
    TEST(test_half_kept_slot_is_a_free_one),
    TEST(test_kept_cursor_outside_the_ring_or_between_messages_refuses_to_join),
};

int main(int argc, char **argv)
{
    test_gate_init(&ready);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
