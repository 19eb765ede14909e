/* test_truncation.c: a segment's file is truncated while it is mapped: every touch, both roles,
 * waiting or not.
 */
#define _GNU_SOURCE
#include "crew.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct shmipc_error error;

static off_t page(void)
{
    return (off_t)sysconf(_SC_PAGESIZE);
}

static void truncate_file(const char *name, off_t len)
{
    CHECK_EQ(truncate(test_path(name), len), 0);
}

/* Four pages of data, so that there is a middle. */
static struct shmipc_spec wide_spec(uint32_t slots)
{
    struct shmipc_spec spec = rig_message_spec(slots);
    spec.capacity = (uint64_t)page() * 4;
    return spec;
}

/* The reader copies a message as the binding does, then asks. CORRUPT unless it was whole. */
static enum shmipc_status receive(struct shmipc_consumer_role *consumer, unsigned char *copy,
                                  struct shmipc_message *message)
{
    const enum shmipc_status status = shmipc_ring_peek(&consumer->ring, message);
    if (status != SHMIPC_OK) {
        return status;
    }
    memcpy(copy, message->data, message->len);
    if (shmipc_segment_is_damaged(&consumer->segment)) {
        return SHMIPC_CORRUPT;
    }
    shmipc_ring_advance(&consumer->ring, message);
    shmipc_consumer_role_release(consumer);
    return SHMIPC_OK;
}

/* ---- touching what is gone ------------------------------------------------------------------ */

/* Every length a file can be truncated to, with messages of a page so that all of it is in use:
 * whatever is received is whole, nothing crashes, and before long both sides are told. */
static void test_truncated_file_is_corrupt_to_both_sides_and_never_zeros(void)
{
    const uint64_t len = (uint64_t)page() - 16;
    unsigned char *copy = malloc(len);
    CHECK(copy != NULL);
    for (int pages = 0; pages < 5; pages++) {
        struct shmipc_spec spec = wide_spec(1);
        struct shmipc_producer_role producer;
        struct shmipc_consumer_role consumer;
        struct shmipc_message message;
        enum shmipc_status status = SHMIPC_OK;
        open_producer(&producer, &spec);
        open_consumer(&consumer, SHMIPC_START_RESUME);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(rig_send(&producer.ring, len), SHMIPC_OK);
            CHECK_EQ(shmipc_producer_role_notify(&producer), SHMIPC_OK);
        }
        truncate_file("x", pages * page());
        for (uint64_t seq = 0; status == SHMIPC_OK; seq++) {
            CHECK(seq < 4);
            status = receive(&consumer, copy, &message);
            if (status == SHMIPC_EMPTY) { /* head and cursor: both zeros */
                status = await_data(&consumer, PATIENCE);
            } else if (status == SHMIPC_OK) {
                CHECK_EQ(message.seq, seq);
                CHECK(rig_matches(copy, message.len, seq));
            }
        }
        CHECK_EQ(status, SHMIPC_CORRUPT);
        for (int i = 0; i < 8 && !shmipc_segment_is_damaged(&producer.segment); i++) {
            status = rig_send(&producer.ring, len);
            if (status == SHMIPC_OK) {
                status = shmipc_producer_role_notify(&producer);
            } else if (status == SHMIPC_FULL) {
                status = await_room(&producer, len + 16, PATIENCE);
            }
        }
        CHECK_EQ(status, SHMIPC_CORRUPT);
        CHECK(shmipc_segment_is_damaged(&producer.segment));
        shmipc_consumer_role_close(&consumer);
        shmipc_producer_role_close(&producer, false);
        CHECK_EQ(unlink(test_path("x")), 0);
    }
    free(copy);
}

static void test_overwrite_ring_that_is_truncated_is_corrupt_not_a_silence(void)
{
    struct shmipc_spec spec = wide_spec(2);
    struct shmipc_producer_role producer;
    struct shmipc_consumer_role consumer;
    struct shmipc_message message;
    unsigned char copy[64];
    spec.overflow = SHMIPC_OVERFLOW_OVERWRITE;
    for (int round = 0; round < 2; round++) {
        open_producer(&producer, &spec);
        open_consumer(&consumer, SHMIPC_START_RESUME);
        for (int i = 0; i < round * 3; i++) {
            CHECK_EQ(rig_send(&producer.ring, 40), SHMIPC_OK);
        }
        truncate_file("x", 0);
        const enum shmipc_status status = receive(&consumer, copy, &message);
        CHECK(status == SHMIPC_CORRUPT || status == SHMIPC_EMPTY);
        CHECK_EQ(await_data(&consumer, PATIENCE), SHMIPC_CORRUPT);
        CHECK_EQ(rig_send(&producer.ring, 40), SHMIPC_OK);
        CHECK_EQ(shmipc_producer_role_notify(&producer), SHMIPC_CORRUPT);
        shmipc_consumer_role_close(&consumer);
        shmipc_producer_role_close(&producer, false);
        CHECK(!test_exists(test_path("x"))); /* nobody is owed anything: the last one took it */
    }
}

/* Cut, and made as long again before anybody touched it: zeros without a fault. */
static void test_truncated_file_made_long_again_contradicts_the_positions(void)
{
    struct shmipc_spec spec = wide_spec(1);
    for (int header_too = 0; header_too < 2; header_too++) {
        struct shmipc_producer_role producer;
        struct shmipc_consumer_role consumer;
        struct shmipc_message message;
        unsigned char copy[64];
        open_producer(&producer, &spec);
        open_consumer(&consumer, SHMIPC_START_RESUME);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(rig_send(&producer.ring, 40), SHMIPC_OK);
        }
        CHECK_EQ(receive(&consumer, copy, &message), SHMIPC_OK);
        truncate_file("x", header_too != 0 ? 0 : page());
        truncate_file("x", 5 * page());
        CHECK_EQ(receive(&consumer, copy, &message), SHMIPC_CORRUPT);
        CHECK(!shmipc_segment_is_damaged(&consumer.segment)); /* no fault: the ring found out */
        shmipc_consumer_role_close(&consumer);
        shmipc_producer_role_close(&producer, false);
        (void)unlink(test_path("x"));
    }
}

static void test_other_segments_go_on_undisturbed(void)
{
    enum { COUNT = 150 }; /* more than the list has room for at first */
    static struct rig rigs[COUNT];
    struct shmipc_spec spec = rig_message_spec(1);
    for (int round = 0; round < 3; round++) {
        struct shmipc_ring_consumer consumers[COUNT];
        for (int i = 0; i < COUNT; i++) {
            rig_open(&rigs[i], &spec);
            rig_join(&rigs[i], &consumers[i], 0, SHMIPC_START_EARLIEST);
            CHECK_EQ(rig_send(&rigs[i].producer, 40), SHMIPC_OK);
        }
        for (int i = round; i < COUNT; i += 7) {
            CHECK_EQ(ftruncate(rigs[i].segment.fd, 0), 0);
            rig_expect_status(&consumers[i], SHMIPC_EMPTY); /* head and cursor: both zeros */
        }
        for (int i = 0; i < COUNT; i++) {
            const bool is_truncated = i >= round && (i - round) % 7 == 0;
            CHECK_EQ(shmipc_segment_is_damaged(&rigs[i].segment), is_truncated);
            if (!is_truncated) {
                rig_expect(&consumers[i], 40, 0);
            }
            rig_close(&rigs[i]);
        }
    }
}

static void test_segment_truncated_before_it_is_mapped_is_found_out(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer_role producer;
    struct shmipc_segment segment;
    open_producer(&producer, &spec);
    CHECK_EQ(shmipc_segment_open(&segment, test_path("x"), &error), SHMIPC_OK);
    truncate_file("x", 0);
    CHECK_EQ(shmipc_segment_map(&segment, false, &error), SHMIPC_OK);
    CHECK(!shmipc_segment_is_damaged(&segment)); /* nobody has touched it */
    CHECK_EQ(shmipc_load_relaxed(&segment.header->commit.head_pos), 0);
    CHECK(shmipc_segment_is_damaged(&segment));
    CHECK_EQ(shmipc_segment_fail_damaged(&segment, &error), SHMIPC_CORRUPT);
    CHECK(strstr(error.text, "was truncated while in use") != NULL);
    shmipc_segment_close(&segment);
    shmipc_producer_role_close(&producer, false);
    CHECK_EQ(unlink(test_path("x")), 0);
}

/* A child has its parent's mappings: a view of it must not crash there either. */
static void touch_in_child(void *argument)
{
    const struct rig *rig = argument;
    truncate_file("rig", 0);
    CHECK_EQ(rig->segment.data[0], 0);
    CHECK(shmipc_segment_is_damaged(&rig->segment));
}

static void test_forked_child_survives_what_its_parent_mapped(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct rig rig;
    rig_open(&rig, &spec);
    CHECK_EQ(shmipc_segment_publish(&rig.segment, &error), SHMIPC_OK);
    CHECK_EQ(rig_send(&rig.producer, 40), SHMIPC_OK);
    test_join(test_fork(touch_in_child, &rig));
    CHECK(!shmipc_segment_is_damaged(&rig.segment)); /* the flag is each process's own */
    CHECK_EQ(rig.segment.data[0], 0);
    CHECK(shmipc_segment_is_damaged(&rig.segment));
    shmipc_segment_unlink(&rig.segment);
    rig_close(&rig);
}

/* ---- while somebody waits, or copies -------------------------------------------------------- */

static struct shmipc_spec waiting_spec;
static enum shmipc_status expected_end;

static void wait_for_data(void *argument)
{
    struct shmipc_consumer_role consumer;
    (void)argument;
    open_consumer(&consumer, SHMIPC_START_RESUME);
    test_gate_open(&ready);
    CHECK_EQ(await_data(&consumer, PATIENCE), expected_end);
    shmipc_consumer_role_close(&consumer);
}

static void wait_for_room(void *argument)
{
    struct shmipc_producer_role producer;
    (void)argument;
    open_producer(&producer, &waiting_spec);
    while (rig_send(&producer.ring, 40) == SHMIPC_OK) {
    }
    test_gate_open(&ready);
    CHECK_EQ(await_room(&producer, 64, PATIENCE), expected_end);
    shmipc_producer_role_close(&producer, false);
}

static void wait_for_consumers(void *argument)
{
    struct shmipc_producer_role producer;
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    (void)argument;
    open_producer(&producer, &waiting_spec);
    test_gate_open(&ready);
    do {
        status =
            shmipc_producer_role_wait_attached(&producer, &wait, 1, shmipc_now_ns() + PATIENCE);
    } while (status == SHMIPC_AGAIN);
    CHECK_EQ(status, expected_end);
    shmipc_producer_role_close(&producer, false);
}

static void test_waiters_are_told_wherever_the_file_was_truncated(void)
{
    static void (*const waiters[])(void *) = {wait_for_data, wait_for_room, wait_for_consumers};
    waiting_spec = wide_spec(1);
    expected_end = SHMIPC_CORRUPT;
    for (int i = 0; i < 3; i++) {
        for (int pages = 0; pages < 4; pages++) {
            struct shmipc_producer_role producer;
            if (i == 0) {
                open_producer(&producer, &waiting_spec);
            }
            const pid_t waiter = test_fork(waiters[i], NULL);
            test_gate_pass(&ready);
            truncate_file("x",
                          pages * page() + (pages == 3 ? 2 * page() - 1 : 0)); /* or by one byte */
            test_join(waiter);
            if (i == 0) {
                shmipc_producer_role_close(&producer, false);
            }
            (void)unlink(test_path("x")); /* who saw no damage took it along */
        }
    }
}

static void test_wait_on_several_reports_the_one_that_was_truncated(void)
{
    struct shmipc_spec spec = rig_message_spec(1);
    struct shmipc_producer_role producers[2];
    struct shmipc_consumer_role consumers[2];
    void *memory = malloc(shmipc_waitset_size(2));
    struct shmipc_waitset set = {0};
    enum shmipc_status status;
    static const char *const names[] = {"x", "y"};
    CHECK(memory != NULL);
    shmipc_waitset_place(&set, memory, 2);
    for (int i = 0; i < 2; i++) {
        const char *path = test_path(names[i]);
        CHECK_EQ(shmipc_producer_role_open(&producers[i], path, &spec, &error), SHMIPC_OK);
        CHECK_EQ(shmipc_consumer_role_open(&consumers[i], path, SHMIPC_START_RESUME, &error),
                 SHMIPC_OK);
        set.members[i] = shmipc_waited_consumer(&consumers[i]);
    }
    truncate_file("y", 0);
    shmipc_waitset_begin(&set);
    do {
        status = shmipc_waitset_slice(&set, shmipc_now_ns() + PATIENCE);
    } while (status == SHMIPC_AGAIN);
    CHECK_EQ(status, SHMIPC_OK);
    CHECK(!set.ready[0] && set.ready[1]);
    free(memory);
    for (int i = 0; i < 2; i++) {
        shmipc_consumer_role_close(&consumers[i]);
        shmipc_producer_role_close(&producers[i], false);
    }
    CHECK_EQ(unlink(test_path("y")), 0);
}

/* Copies one large message again and again, until it is truncated in the middle of a copy or
 * between two; every copy that is called whole is. */
static void copy_until_truncated(void *argument)
{
    const uint64_t len = *(const uint64_t *)argument;
    unsigned char *copy = malloc(len);
    struct shmipc_consumer_role consumer;
    struct shmipc_message message;
    CHECK(copy != NULL);
    open_consumer(&consumer, SHMIPC_START_RESUME);
    for (bool told = false;; told = true) {
        CHECK_EQ(shmipc_ring_peek(&consumer.ring, &message), SHMIPC_OK);
        if (shmipc_segment_is_damaged(&consumer.segment)) {
            break; /* even the header may be zeros: peek said OK from what it had cached */
        }
        memcpy(copy, message.data, len);
        if (shmipc_segment_is_damaged(&consumer.segment)) {
            break;
        }
        CHECK_EQ(memcmp(copy, copy + len / 2, len / 2), 0);
        CHECK_EQ(copy[0], 0xa5);
        CHECK_EQ(copy[len - 1], 0xa5);
        if (!told) {
            test_gate_open(&ready);
        }
    }
    free(copy);
    shmipc_consumer_role_close(&consumer);
}

static void test_copy_that_is_truncated_is_never_called_whole(void)
{
    uint64_t len = 4 << 20;
    uint64_t seed = 11;
    struct shmipc_spec spec = rig_typed_spec(1, len, 1);
    for (uint64_t round = 0; round < test_rounds(24); round++) {
        struct shmipc_producer_role producer;
        unsigned char *at = NULL;
        open_producer(&producer, &spec);
        CHECK_EQ(shmipc_ring_reserve(&producer.ring, len, &at), SHMIPC_OK);
        memset(at, 0xa5, len);
        shmipc_ring_commit(&producer.ring, len);
        const pid_t reader = test_fork(copy_until_truncated, &len);
        test_gate_pass(&ready);
        shmipc_wait_nap(test_random(&seed) % 2000000);
        truncate_file("x", (off_t)(test_random(&seed) % 3 * len / 3) / page() * page());
        test_join(reader);
        shmipc_producer_role_close(&producer, false);
        CHECK_EQ(unlink(test_path("x")), 0);
    }
}

/* One thread maps and unmaps, so that entries of the list change hands, while another is truncated.
 */
static shmipc_atomic_u32 stop;
static char nowhere[SHMIPC_PATH_MAX]; /* for segments that never get a name */

static void create_and_map(struct shmipc_segment *segment)
{
    struct shmipc_spec spec = rig_message_spec(1);
    CHECK_EQ(shmipc_segment_create(segment, nowhere, &spec, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_map(segment, true, &error), SHMIPC_OK);
}

static void *map_and_unmap(void *argument)
{
    uint64_t *rounds = argument;
    while (shmipc_load_relaxed(&stop) == 0) {
        struct shmipc_segment segments[3];
        for (int i = 0; i < 3; i++) {
            create_and_map(&segments[i]);
            memset(segments[i].data, 0x5a, segments[i].geometry.area_len);
        }
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(segments[i].data[segments[i].geometry.area_len * 2 - 1], 0x5a);
            CHECK(!shmipc_segment_examine(&segments[i]));
            shmipc_segment_close(&segments[i]);
        }
        ++*rounds;
    }
    return NULL;
}

static void test_places_in_the_list_change_hands_while_others_fault(void)
{
    pthread_t threads[2];
    uint64_t rounds[2] = {0, 0};
    (void)strcpy(nowhere, test_path("nowhere"));
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, map_and_unmap, &rounds[i]), 0);
    }
    for (uint64_t i = 0; i < test_rounds(3000); i++) {
        struct shmipc_segment segment;
        create_and_map(&segment);
        CHECK_EQ(ftruncate(segment.fd, 0), 0);
        segment.data[i % (uint64_t)page()] = 1;
        CHECK_EQ(segment.data[i % (uint64_t)page()], 1);
        CHECK(shmipc_segment_is_damaged(&segment));
        shmipc_segment_close(&segment);
    }
    shmipc_store_relaxed(&stop, 1u);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK(rounds[i] > 0);
    }
}

/* ---- afterwards ----------------------------------------------------------------------------- */

static void check_clean(bool discard, enum shmipc_clean_result expected)
{
    enum shmipc_clean_result result;
    CHECK_EQ(shmipc_segment_foresee(test_path("x"), discard, &result, &error), SHMIPC_OK);
    CHECK_EQ(result, expected);
    CHECK(test_exists(test_path("x")));
    CHECK_EQ(shmipc_segment_clean(test_path("x"), discard, &result, &error), SHMIPC_OK);
    CHECK_EQ(result, expected);
    CHECK_EQ(test_exists(test_path("x")), expected != SHMIPC_CLEAN_REMOVED);
}

static void test_truncated_file_names_its_remedy_and_the_remedy_works(void)
{
    const off_t lens[] = {0, 8, 16, 60, page(), 2 * page()};
    struct shmipc_spec spec = wide_spec(1);
    for (size_t i = 0; i < 2 * sizeof lens / sizeof *lens; i++) {
        struct shmipc_producer_role producer;
        struct shmipc_producer_role next;
        open_producer(&producer, &spec);
        send_one(&producer);
        truncate_file("x", lens[i / 2]);
        if (i % 2 != 0) {
            truncate_file(
                "x", 5 * page()); /* zeros to the old length: what was truncated is a hole now */
        }
        const enum shmipc_status status =
            shmipc_producer_role_open(&next, test_path("x"), &spec, &error);
        CHECK_EQ(status, SHMIPC_CORRUPT);
        CHECK(strstr(error.text, "shmipc clean --discard") != NULL);
        check_clean(true, SHMIPC_CLEAN_ALIVE);
        shmipc_producer_role_close(&producer, false);
        check_clean(false, SHMIPC_CLEAN_DAMAGED);
        check_clean(true, SHMIPC_CLEAN_REMOVED);
        CHECK_EQ(shmipc_producer_role_open(&next, test_path("x"), &spec, &error), SHMIPC_OK);
        shmipc_producer_role_close(&next, false);
    }
}

static const struct test tests[] = {
    TEST(test_places_in_the_list_change_hands_while_others_fault),
    TEST(test_truncated_file_is_corrupt_to_both_sides_and_never_zeros),
    TEST(test_overwrite_ring_that_is_truncated_is_corrupt_not_a_silence),
    TEST(test_truncated_file_made_long_again_contradicts_the_positions),
    TEST(test_other_segments_go_on_undisturbed),
    TEST(test_segment_truncated_before_it_is_mapped_is_found_out),
    TEST(test_forked_child_survives_what_its_parent_mapped),
    TEST(test_waiters_are_told_wherever_the_file_was_truncated),
    TEST(test_wait_on_several_reports_the_one_that_was_truncated),
    TEST(test_copy_that_is_truncated_is_never_called_whole),
    TEST(test_truncated_file_names_its_remedy_and_the_remedy_works),
};

int main(int argc, char **argv)
{
    size_t count = sizeof tests / sizeof *tests;
#ifdef SHMIPC_UNDER_TSAN
    count = 1; /* its atomics fault inside its runtime, which our handler may not enter again */
#endif
    test_gate_init(&ready);
    return test_main(argc, argv, tests, count);
}
