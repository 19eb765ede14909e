/* scenarios_traffic.c: sending, receiving, waiting, joining, leaving, being overtaken: small
 * programs over the real core, and what every run of them must show. */
#include "actors.h"

/* ---- one queue ----------------------------------------------------------------------------- */

static void send_three_at_once(void)
{
    for (int i = 0; i < 3; i++) {
        (void)send_next(0, false);
    }
}

static void poll_four(void)
{
    for (int i = 0; i < 4; i++) {
        (void)receive_next(1, false);
    }
}

static void queue_ends(void)
{
    model_check(logs[1].received <= committed(), "what was received had been sent");
    model_check(logs[0].sent == committed(), "what was sent is committed");
}

static void send_three(void)
{
    for (int i = 0; i < 3; i++) {
        model_check(send_next(0, true) == SHMIPC_OK, "a waiting producer gets room");
    }
}

static void receive_three(void)
{
    for (int i = 0; i < 3; i++) {
        model_check(receive_next(1, true) == SHMIPC_OK, "a waiting consumer gets the message");
    }
}

static void make_mixed_queue(void)
{
    make_queue();
    kernel_allow_membarrier(1 << 1, true);
    producers[0].asymmetric = false;
}

/* ---- one ring, several consumers ----------------------------------------------------------- */

static void first_receives_one(void)
{
    model_check(receive_next(1, true) == SHMIPC_OK, "a waiting consumer gets the item");
}

static void second_receives_one(void)
{
    model_check(receive_next(2, true) == SHMIPC_OK, "a waiting consumer gets the item");
}

/* A third process that announces itself, and is then stopped. */
static void mark_again(void)
{
    (void)receive_next(2, false);
    (void)shmipc_wait_mark(&kernel_header->data.sleepers);
}

static void first_polls_batches(void)
{
    for (int i = 0; i < 3; i++) {
        (void)receive_batch(1);
    }
}

/* ---- joining and leaving ------------------------------------------------------------------- */

static void make_open_messages(void)
{
    make_ring(SHMIPC_FRAMING_MESSAGE, SHMIPC_OVERFLOW_BLOCK, 2, 2, 0);
}

static void send_four_at_once(void)
{
    for (int i = 0; i < 4; i++) {
        (void)send_next(0, false);
    }
}

static void join_and_poll(int thread, enum shmipc_start start, int polls)
{
    if (open_consumer(thread, start) == SHMIPC_OK) {
        for (int i = 0; i < polls; i++) {
            (void)receive_next(thread, false);
        }
    }
}

static void join_earliest(void)
{
    join_and_poll(1, SHMIPC_START_EARLIEST, 2);
}

static void join_latest(void)
{
    join_and_poll(1, SHMIPC_START_LATEST, 2);
}

/* A predecessor left its cursor at the head: the slot's next holder starts below it. */
static void make_used_slot(void)
{
    make_open_broadcast();
    (void)open_consumer(1, SHMIPC_START_LATEST);
    (void)send_next(0, false);
    (void)send_next(0, false);
    (void)receive_next(1, false);
    (void)receive_next(1, false);
    close_consumer(1);
}

static void read_and_leave(void)
{
    (void)receive_next(1, false);
    /* Leaving releases what it never read: the last read must come before. */
    struct shmipc_message message;
    if (shmipc_ring_peek(&consumers[1].ring, &message) == SHMIPC_OK) {
        (void)model_plain_load((const uint64_t *)(const void *)message.data);
    }
    close_consumer(1);
}

static void make_leaving(void)
{
    make_open_broadcast();
    (void)open_consumer(1, SHMIPC_START_LATEST);
}

/* ---- overwrite ----------------------------------------------------------------------------- */

static void make_overwrite(void)
{
    make_ring(SHMIPC_FRAMING_MESSAGE, SHMIPC_OVERFLOW_OVERWRITE, 1, 2, 0);
    (void)open_consumer(1, SHMIPC_START_LATEST);
}

static void make_overwrite_items(void)
{
    make_ring(SHMIPC_FRAMING_TYPED, SHMIPC_OVERFLOW_OVERWRITE, 1, 2, 0);
    (void)open_consumer(1, SHMIPC_START_LATEST);
}

static void poll_and_count(int polls)
{
    for (int i = 0; i < polls; i++) {
        if (receive_next(1, false) == SHMIPC_OK) {
            model_check(consumers[1].ring.lost + logs[1].received == logs[1].next_seq,
                        "lost counts exactly what was missed");
        }
    }
}

static void poll_two_and_count(void)
{
    poll_and_count(2);
}

static void send_many(int count)
{
    for (int i = 0; i < count; i++) {
        model_check(send_next(0, false) == SHMIPC_OK, "an overwriting producer never waits");
    }
}

static void overwrite_four(void)
{
    send_many(4);
}

static void overwrite_five(void)
{
    send_many(5);
}

/* A producer died between the note of a commit and the commit, in a ring that has lapped its
 * reader: the note has a position in the middle of what a successor sends. */
static void make_overwrite_and_die(void)
{
    make_ring(SHMIPC_FRAMING_MESSAGE, SHMIPC_OVERFLOW_OVERWRITE, 1, 4, 2);
    (void)open_consumer(1, SHMIPC_START_LATEST);
    for (int i = 0; i < 5; i++) {
        (void)send_next(2, false);
    }
    struct shmipc_ring_producer *ring = &producers[2].ring;
    unsigned char *at;
    (void)shmipc_ring_reserve(ring, MESSAGE_SPAN + MESSAGE_SPAN / 2, &at);
    shmipc_store_relaxed(&kernel_header->commit.notes[ring->note_index].pos,
                         ring->head_pos + MESSAGE_SPAN + MESSAGE_SPAN / 2);
    kernel_bury(2);
}

static void succeed_and_overwrite_two(void)
{
    open_producer(0);
    for (int i = 0; i < 2; i++) {
        (void)send_next(0, false);
    }
}

/* Lapped so often that it goes to the next to come. */
static void make_overrun(void)
{
    make_overwrite();
    consumers[1].ring.resyncs = 3;
}

static void make_open_overwrite(void)
{
    make_ring(SHMIPC_FRAMING_MESSAGE, SHMIPC_OVERFLOW_OVERWRITE, 1, 2, 0);
    (void)send_next(0, false);
}

/* A joiner's first number must be that of the message it will read first. */
static void join_and_number(void)
{
    if (open_consumer(1, SHMIPC_START_LATEST) == SHMIPC_OK) {
        const uint64_t known = consumers[1].ring.next_seq;
        const uint64_t pos = consumers[1].ring.read_pos;
        model_check(known == UINT64_MAX || known == pos / MESSAGE_SPAN,
                    "a joiner knows the number of its first message");
        (void)receive_next(1, false);
    }
}

static const struct model_scenario scenarios[] = {
    {"queue",
     "a queue that both sides poll",
     make_queue,
     {send_three_at_once, poll_four},
     0,
     queue_ends,
     NULL},
    {"queue-sleeps",
     "both sides sleep and wake each other",
     make_queue,
     {send_three, receive_three},
     0,
     queue_ends,
     NULL},
    {"queue-sleeps-fenced",
     "... where membarrier is refused",
     make_fenced_queue,
     {send_three, receive_three},
     0,
     queue_ends,
     NULL},
    {"queue-sleeps-mixed",
     "... where one side could not register",
     make_mixed_queue,
     {send_three, receive_three},
     0,
     queue_ends,
     NULL},
    {"broadcast-sleeps",
     "two consumers sleep on one word",
     make_broadcast,
     {send_one, first_receives_one, second_receives_one},
     0,
     NULL,
     NULL},
    {"broadcast-marks",
     "a third process marks the word anew",
     make_broadcast,
     {send_one, first_receives_one, mark_again},
     0,
     NULL,
     NULL},
    {"broadcast-full",
     "a producer waits for the slowest of two",
     make_full_broadcast,
     {send_one, first_polls_one, second_polls_one},
     0,
     NULL,
     NULL},
    {"broadcast-batches",
     "batches against single reads",
     make_broadcast,
     {send_four_at_once, first_polls_batches},
     0,
     NULL,
     NULL},
    {"join-earliest",
     "a consumer joins at the oldest item kept",
     make_open_broadcast,
     {send_four_at_once, join_earliest},
     0,
     NULL,
     NULL},
    {"join-latest",
     "a consumer joins at the next message",
     make_open_messages,
     {send_three_at_once, join_latest},
     0,
     NULL,
     NULL},
    {"rejoin",
     "a slot is taken again, below its last holder's cursor",
     make_used_slot,
     {send_three_at_once, join_earliest},
     0,
     NULL,
     NULL},
    {"leave",
     "a consumer leaves while the ring is full",
     make_leaving,
     {send_three, read_and_leave},
     0,
     NULL,
     NULL},
    {"overwrite",
     "a reader is lapped, messages",
     make_overwrite,
     {overwrite_four, poll_two_and_count},
     0,
     NULL,
     NULL},
    {"overwrite-items",
     "a reader is lapped, items",
     make_overwrite_items,
     {overwrite_five, poll_two_and_count},
     0,
     NULL,
     NULL},
    {"overwrite-overrun",
     "a reader goes to the next message",
     make_overrun,
     {overwrite_four, poll_two_and_count},
     0,
     NULL,
     NULL},
    {"overwrite-succession",
     "a lapped reader, a dead producer's note, its successor's messages",
     make_overwrite_and_die,
     {succeed_and_overwrite_two, poll_two_and_count},
     0,
     NULL,
     NULL},
    {"overwrite-join",
     "a consumer joins a ring that laps it",
     make_open_overwrite,
     {overwrite_four, join_and_number},
     0,
     NULL,
     NULL},
};

const struct model_group model_traffic = {scenarios, sizeof scenarios / sizeof scenarios[0]};
