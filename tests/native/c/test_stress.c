/*
 * test_stress.c: both sides at once, order and every byte checked.
 *
 * Threads share one mapping, so that ThreadSanitizer can see both sides of each access; processes
 * go through the roles, with waiting and waking. Under "overwrite" the reader copies bytes that the
 * writer may be replacing and throws the copy away when it learns so: C11 has no word for that but
 * relaxed atomics, which the core's copy uses under ThreadSanitizer (shmipc_copy_speculative). The
 * writer's half is the caller's memcpy, so there this test stores words that way itself. Under
 * "block" everything is plain, and a report is a fault.
 */
#define _GNU_SOURCE
#include "../../../src/core/ring/consumer.h"
#include "../../../src/core/ring/producer.h"
#include "rig.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { MOST_READERS = 3, SLOTS = 4 };

struct show {
    struct rig rig;
    uint64_t count; /* messages or items to send */
    shmipc_atomic_u32 ended;
    uint32_t readers;
};

struct reader {
    struct show *show;
    uint32_t slot;
    struct shmipc_ring_consumer ring;
};

/* A message's length follows from its number, so that its bytes can be checked whole. */
static uint64_t len_of(uint64_t seq)
{
    return seq % 97 == 0 ? 900 : seq * 37 % 120;
}

static void write_payload(unsigned char *at, uint64_t len, uint64_t seed, bool overwrite)
{
#ifdef SHMIPC_UNDER_TSAN
    if (overwrite) {
        unsigned char bytes[1024];
        rig_fill(bytes, len, seed);
        for (uint64_t i = 0; i < len; i += 8) { /* payloads are 8-aligned and padded to 16 */
            uint64_t word;
            memcpy(&word, bytes + i, 8);
            shmipc_store_relaxed((shmipc_atomic_u64 *)(void *)(at + i), word);
        }
        return;
    }
#endif
    (void)overwrite;
    rig_fill(at, len, seed);
}

static enum shmipc_status produce_one(struct shmipc_ring_producer *producer, uint64_t number)
{
    const bool typed = producer->map.item_stride != 0;
    const uint64_t len = typed ? producer->map.item_len : len_of(number);
    const uint64_t span = typed ? producer->map.item_stride : shmipc_message_span(len);
    unsigned char *at = NULL;
    const enum shmipc_status status = shmipc_ring_reserve(producer, span, &at);
    if (status != SHMIPC_OK) {
        return status;
    }
    if (typed) {
        write_payload(at, len, number, producer->map.overwrite);
        shmipc_ring_commit(producer, span);
    } else {
        shmipc_message_header_store(at, (uint32_t)len, 1, (uint16_t)number, number);
        write_payload(at + 16, len, number, producer->map.overwrite);
        shmipc_ring_commit_messages(producer, span, 1);
    }
    return SHMIPC_OK;
}

/* What one reader has seen: every number from `first` on is received or lost. */
struct tally {
    uint64_t first;
    uint64_t received;
};

/* Take one message or item if there is one. False: nothing there. */
static bool consume_one(struct shmipc_ring_consumer *consumer, struct tally *tally)
{
    const struct shmipc_ring *ring = &consumer->map;
    unsigned char copy[1024];
    struct shmipc_message message;
    const enum shmipc_status status = shmipc_ring_peek(consumer, &message);
    CHECK(ring->overwrite || consumer->lost == 0);
    if (status == SHMIPC_EMPTY) {
        return false;
    }
    CHECK_EQ(status, SHMIPC_OK);
    CHECK(message.len <= sizeof copy);
    shmipc_copy_speculative(copy, message.data, message.len);
    if (!shmipc_ring_intact(ring, message.pos)) {
        shmipc_ring_resync(consumer);
        return true;
    }
    const uint64_t number =
        ring->item_stride != 0 ? shmipc_ring_seq_of(ring, message.pos) : message.seq;
    message.seq = number;
    CHECK_EQ(number, tally->first + tally->received + consumer->lost);
    CHECK_EQ(message.len, ring->item_stride != 0 ? ring->item_len : len_of(number));
    CHECK(rig_matches(copy, message.len, number));
    shmipc_ring_advance(consumer, &message);
    (void)shmipc_ring_publish_cursor(consumer);
    tally->received++;
    return true;
}

/* ---- threads -------------------------------------------------------------------------------- */

static void *produce(void *argument)
{
    struct show *show = argument;
    for (uint64_t number = 0; number < show->count; number++) {
        enum shmipc_status status;
        while ((status = produce_one(&show->rig.producer, number)) == SHMIPC_FULL) {
            CHECK(!show->rig.producer.map.overwrite);
            (void)sched_yield();
        }
        CHECK_EQ(status, SHMIPC_OK);
        if (show->rig.producer.map.overwrite && number % 64 == 0) {
            (void)sched_yield(); /* or one turn of the scheduler would lap everybody */
        }
    }
    shmipc_store_release(&show->ended, 1u);
    return NULL;
}

/* A member from before the first message: every number, or counted as lost. */
static void *consume(void *argument)
{
    struct reader *reader = argument;
    struct show *show = reader->show;
    struct tally tally = {0};
    for (;;) {
        const bool ended = shmipc_load_acquire(&show->ended) != 0;
        if (!consume_one(&reader->ring, &tally)) {
            if (ended) {
                break;
            }
            (void)sched_yield();
        }
    }
    CHECK_EQ(tally.received + reader->ring.lost, show->count);
    return NULL;
}

/* Come and go: from the first message seen, no gap. */
static void *visit(void *argument)
{
    struct reader *reader = argument;
    struct show *show = reader->show;
    uint64_t random = 5 + reader->slot;
    uint64_t visits = 0;
    while (shmipc_load_acquire(&show->ended) == 0) {
        struct shmipc_ring_consumer *consumer = &reader->ring;
        struct shmipc_message message;
        enum shmipc_status status;
        rig_join(&show->rig, consumer, reader->slot,
                 visits++ % 2 == 0 ? SHMIPC_START_EARLIEST : SHMIPC_START_LATEST);
        while ((status = shmipc_ring_peek(consumer, &message)) == SHMIPC_EMPTY &&
               shmipc_load_acquire(&show->ended) == 0) {
            (void)sched_yield();
        }
        if (status == SHMIPC_OK) {
            struct tally tally = {.first = consumer->map.item_stride != 0
                                               ? shmipc_ring_seq_of(&consumer->map, message.pos)
                                               : message.seq};
            tally.first -= consumer->lost; /* lapped before the first look */
            for (uint64_t n = test_random(&random) % 60; n > 0; n--) {
                if (!consume_one(consumer, &tally)) {
                    break;
                }
            }
        }
        shmipc_ring_leave(&consumer->map, reader->slot);
    }
    return NULL;
}

static void run_threads(struct shmipc_spec spec, uint32_t readers, bool visitors)
{
    static struct show show;
    static struct reader crew[SLOTS];
    pthread_t threads[SLOTS];
    pthread_t producer;
    memset(&show, 0, sizeof show);
    spec.origin_pos = 0 - UINT64_C(24 * 16 * 1000); /* past the wrap while running */
    rig_open(&show.rig, &spec);
    show.count = test_rounds(100000);
    show.readers = readers + (visitors ? 1 : 0);
    for (uint32_t i = 0; i < show.readers; i++) {
        crew[i] = (struct reader){.show = &show, .slot = i};
        if (i < readers) {
            rig_join(&show.rig, &crew[i].ring, i, SHMIPC_START_EARLIEST);
        }
    }
    for (uint32_t i = 0; i < show.readers; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, i < readers ? consume : visit, &crew[i]), 0);
    }
    CHECK_EQ(pthread_create(&producer, NULL, produce, &show), 0);
    CHECK_EQ(pthread_join(producer, NULL), 0);
    for (uint32_t i = 0; i < show.readers; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    rig_close(&show.rig);
}

static struct shmipc_spec overwrite(struct shmipc_spec spec)
{
    spec.overflow = SHMIPC_OVERFLOW_OVERWRITE;
    return spec;
}

static void test_threads_pass_messages_to_one_durable_consumer(void)
{
    run_threads(rig_message_spec(1), 1, false);
}

static void test_threads_pass_messages_to_three_consumers(void)
{
    run_threads(rig_message_spec(SLOTS), MOST_READERS, false);
}

static void test_threads_pass_items_to_one_and_to_three_consumers(void)
{
    run_threads(rig_typed_spec(1, 24, 16), 1, false);
    run_threads(rig_typed_spec(SLOTS, 64, 16), MOST_READERS, false);
}

static void test_visitors_join_and_leave_while_messages_pass(void)
{
    run_threads(rig_message_spec(SLOTS), 1, true);
    run_threads(rig_message_spec(SLOTS), 0, true);
}

static void test_visitors_join_and_leave_while_items_pass(void)
{
    run_threads(rig_typed_spec(SLOTS, 24, 16), 1, true);
    run_threads(rig_typed_spec(SLOTS, 24, 16), 0, true);
}

static void test_overwritten_messages_are_counted_and_never_torn(void)
{
    run_threads(overwrite(rig_message_spec(1)), 1, false);
    run_threads(overwrite(rig_message_spec(SLOTS)), MOST_READERS, false);
}

static void test_overwritten_items_are_counted_and_never_torn(void)
{
    run_threads(overwrite(rig_typed_spec(1, 24, 16)), 1, false);
    run_threads(overwrite(rig_typed_spec(SLOTS, 64, 16)), MOST_READERS, false);
}

static void test_visitors_of_an_overwrite_ring_see_whole_messages(void)
{
    run_threads(overwrite(rig_message_spec(SLOTS)), 1, true);
    run_threads(overwrite(rig_typed_spec(SLOTS, 24, 16)), 1, true);
}

/* ---- processes ------------------------------------------------------------------------------ */

struct play {
    struct shmipc_spec spec;
    uint64_t count;
    uint64_t spin_ns;
};

static void play_consumer(void *argument)
{
    const struct play *play = argument;
    struct shmipc_consumer_role consumer;
    struct shmipc_wait wait = {0};
    struct shmipc_error error;
    struct tally tally = {0};
    CHECK_EQ(shmipc_consumer_role_open(&consumer, test_path("play"), SHMIPC_START_RESUME, &error),
             SHMIPC_OK);
    shmipc_spin_init(&consumer.spin, play->spin_ns, false);
    for (;;) {
        const uint64_t old_pos = consumer.ring.cursor_pos;
        if (consume_one(&consumer.ring, &tally)) {
            /* consume_one published; tell a producer that waits, as shmipc_consumer_role_release
             * does */
            if (consumer.ring.cursor_pos != old_pos &&
                shmipc_wait_wanted(&consumer.ring.map.shared->space.sleepers,
                                   consumer.asymmetric)) {
                shmipc_consumer_role_wake_producer(&consumer, old_pos);
            }
            continue;
        }
        const enum shmipc_status status = shmipc_consumer_role_wait_data(
            &consumer, &wait, shmipc_now_ns() + UINT64_C(60000000000));
        if (status == SHMIPC_CLOSED) {
            break;
        }
        CHECK(status == SHMIPC_OK || status == SHMIPC_AGAIN);
        wait.start_ns = status == SHMIPC_OK ? 0 : wait.start_ns;
    }
    CHECK_EQ(tally.received + consumer.ring.lost, play->count);
    shmipc_consumer_role_close(&consumer);
}

static void run_processes(struct shmipc_spec spec, uint32_t readers, uint64_t spin_ns)
{
    struct play play = {.spec = spec, .count = test_rounds(60000), .spin_ns = spin_ns};
    struct shmipc_producer_role producer;
    struct shmipc_wait wait = {0};
    struct shmipc_error error;
    pid_t pids[MOST_READERS];
    enum shmipc_status status;
    CHECK_EQ(shmipc_producer_role_open(&producer, test_path("play"), &spec, &error), SHMIPC_OK);
    shmipc_spin_init(&producer.spin, spin_ns, false);
    for (uint32_t i = 0; i < readers; i++) {
        pids[i] = test_fork(play_consumer, &play);
    }
    do {
        status = shmipc_producer_role_wait_attached(&producer, &wait, readers, SHMIPC_NEVER);
    } while (status == SHMIPC_AGAIN);
    CHECK_EQ(status, SHMIPC_OK);
    for (uint64_t number = 0; number < play.count; number++) {
        wait.start_ns = 0;
        while ((status = produce_one(&producer.ring, number)) == SHMIPC_FULL) {
            const uint64_t len = spec.framing == SHMIPC_FRAMING_TYPED
                                     ? producer.ring.map.item_stride
                                     : shmipc_message_span(len_of(number));
            status = shmipc_producer_role_wait_room(&producer, &wait, len,
                                                    shmipc_now_ns() + UINT64_C(60000000000));
            CHECK(status == SHMIPC_OK || status == SHMIPC_AGAIN);
        }
        CHECK_EQ(status, SHMIPC_OK);
        shmipc_producer_role_notify(&producer);
    }
    shmipc_producer_role_close(&producer, false);
    for (uint32_t i = 0; i < readers; i++) {
        test_join(pids[i]);
    }
    CHECK(!test_exists(test_path("play")));
}

static void test_processes_pass_messages_spinning_and_sleeping(void)
{
    run_processes(rig_message_spec(1), 1, 0);
    run_processes(rig_message_spec(1), 1, SHMIPC_SPIN_DEFAULT_NS);
    run_processes(rig_message_spec(SLOTS), MOST_READERS, 0);
}

static void test_processes_pass_items_spinning_and_sleeping(void)
{
    run_processes(rig_typed_spec(1, 64, 64), 1, 0);
    run_processes(rig_typed_spec(SLOTS, 24, 16), MOST_READERS, SHMIPC_SPIN_DEFAULT_NS);
}

static void test_processes_under_overwrite_count_what_they_missed(void)
{
    run_processes(overwrite(rig_message_spec(1)), 1, 0);
    run_processes(overwrite(rig_typed_spec(SLOTS, 64, 16)), MOST_READERS, 0);
}

static const struct test tests[] = {
    TEST(test_threads_pass_messages_to_one_durable_consumer),
    TEST(test_threads_pass_messages_to_three_consumers),
    TEST(test_threads_pass_items_to_one_and_to_three_consumers),
    TEST(test_visitors_join_and_leave_while_messages_pass),
    TEST(test_visitors_join_and_leave_while_items_pass),
    TEST(test_overwritten_messages_are_counted_and_never_torn),
    TEST(test_overwritten_items_are_counted_and_never_torn),
    TEST(test_visitors_of_an_overwrite_ring_see_whole_messages),
    TEST(test_processes_pass_messages_spinning_and_sleeping),
    TEST(test_processes_pass_items_spinning_and_sleeping),
    TEST(test_processes_under_overwrite_count_what_they_missed),
};

TEST_MAIN(tests)
