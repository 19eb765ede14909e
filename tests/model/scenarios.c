/* scenarios.c: small programs over the real core, and what every run of them must show. */
#include "actors.h"

/* ---- one queue ----------------------------------------------------------------------------- */

static void make_queue(void)
{
    make_ring(SHMIPC_FRAMING_MESSAGE, SHMIPC_OVERFLOW_BLOCK, 1, 2, 0);
    (void)open_consumer(1, SHMIPC_START_DEFAULT);
}

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

static void make_fenced_queue(void)
{
    make_queue();
    kernel_allow_membarrier(0, false);
    producers[0].asymmetric = false;
    consumers[1].asymmetric = false;
}

static void make_mixed_queue(void)
{
    make_queue();
    kernel_allow_membarrier(1 << 1, true);
    producers[0].asymmetric = false;
}

/* ---- one ring, several consumers ----------------------------------------------------------- */

static void make_broadcast(void)
{
    make_ring(SHMIPC_FRAMING_TYPED, SHMIPC_OVERFLOW_BLOCK, 2, 2, 0);
    (void)open_consumer(1, SHMIPC_START_AT_LATEST);
    (void)open_consumer(2, SHMIPC_START_AT_LATEST);
}

static void make_full_broadcast(void)
{
    make_broadcast();
    (void)send_next(0, false);
    (void)send_next(0, false);
}

static void send_one(void)
{
    model_check(send_next(0, true) == SHMIPC_OK, "a waiting producer gets room");
}

static void send_two(void)
{
    send_one();
    send_one();
}

static void first_receives_one(void)
{
    model_check(receive_next(1, true) == SHMIPC_OK, "a waiting consumer gets the item");
}

static void second_receives_one(void)
{
    model_check(receive_next(2, true) == SHMIPC_OK, "a waiting consumer gets the item");
}

static void first_polls_one(void)
{
    (void)receive_next(1, false);
}

static void second_polls_one(void)
{
    (void)receive_next(2, false);
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

static void make_open_broadcast(void)
{
    make_ring(SHMIPC_FRAMING_TYPED, SHMIPC_OVERFLOW_BLOCK, 2, 2, 0);
}

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

static void join_and_poll(int thread, enum shmipc_start_option start, int polls)
{
    if (open_consumer(thread, start) == SHMIPC_OK) {
        for (int i = 0; i < polls; i++) {
            (void)receive_next(thread, false);
        }
    }
}

static void join_earliest(void)
{
    join_and_poll(1, SHMIPC_START_AT_EARLIEST, 2);
}

static void join_latest(void)
{
    join_and_poll(1, SHMIPC_START_AT_LATEST, 2);
}

/* A predecessor left its cursor at the head: the slot's next holder starts below it. */
static void make_used_slot(void)
{
    make_open_broadcast();
    (void)open_consumer(1, SHMIPC_START_AT_LATEST);
    (void)send_next(0, false);
    (void)send_next(0, false);
    (void)receive_next(1, false);
    (void)receive_next(1, false);
    close_consumer(1);
}

static void read_and_leave(void)
{
    (void)receive_next(1, false);
    /* Leaving gives back what it never read: the last read must come before. */
    struct shmipc_message message;
    if (shmipc_ring_peek(&consumers[1].ring, &message) == SHMIPC_OK) {
        (void)model_plain_load((const uint64_t *)(const void *)message.data);
    }
    close_consumer(1);
}

static void make_leaving(void)
{
    make_open_broadcast();
    (void)open_consumer(1, SHMIPC_START_AT_LATEST);
}

/* ---- overwrite ----------------------------------------------------------------------------- */

static void make_overwrite(void)
{
    make_ring(SHMIPC_FRAMING_MESSAGE, SHMIPC_OVERFLOW_OVERWRITE, 1, 2, 0);
    (void)open_consumer(1, SHMIPC_START_AT_LATEST);
}

static void make_overwrite_items(void)
{
    make_ring(SHMIPC_FRAMING_TYPED, SHMIPC_OVERFLOW_OVERWRITE, 1, 2, 0);
    (void)open_consumer(1, SHMIPC_START_AT_LATEST);
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

static void make_open_overwrite(void)
{
    make_ring(SHMIPC_FRAMING_MESSAGE, SHMIPC_OVERFLOW_OVERWRITE, 1, 2, 0);
    (void)send_next(0, false);
}

/* A joiner's first number must be that of the message it will read first. */
static void join_and_number(void)
{
    if (open_consumer(1, SHMIPC_START_AT_LATEST) == SHMIPC_OK) {
        const uint64_t known = consumers[1].ring.next_seq;
        const uint64_t pos = consumers[1].ring.read_pos;
        model_check(known == UINT64_MAX || known == pos / MESSAGE_SPAN,
                    "a joiner knows the number of its first message");
        (void)receive_next(1, false);
    }
}

/* ---- the end of the stream ------------------------------------------------------------------- */

static void send_and_close(void)
{
    (void)send_next(0, true);
    close_producer(0);
}

static void drain_and_close(void)
{
    enum shmipc_status status;
    do {
        status = receive_next(1, true);
    } while (status == SHMIPC_OK);
    model_check(status == SHMIPC_CLOSED, "the end is told as the end");
    model_check(logs[1].received == 1, "the end comes after the last message");
    close_consumer(1);
}

static void nothing_is_left(void)
{
    model_check(!kernel_is_named(), "the last one out removes the file");
    model_check(!kernel_has_locks(), "no lock is left");
}

static void interrupt_consumer(void)
{
    shmipc_consumer_interrupt(&consumers[1]);
}

static void wait_until_interrupted(void)
{
    model_check(receive_next(1, true) == SHMIPC_CLOSED, "close() ends a wait");
}

static void wait_on_two(void)
{
    kernel_let_clock_run();
    struct shmipc_consumer *both[2] = {&consumers[1], &consumers[2]};
    shmipc_atomic_u32 *words[2];
    uint32_t marks[2];
    bool ready[2];
    enum shmipc_status status;
    do {
        status = shmipc_consumers_wait_any(both, 2, ready, words, marks, SHMIPC_NEVER);
    } while (status == SHMIPC_AGAIN);
    model_check(status == SHMIPC_OK && (ready[0] || ready[1]), "wait() finds what is ready");
}

static void await_consumer(void)
{
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    do {
        status = shmipc_producer_wait_attached(&producers[0], &wait, 1, SHMIPC_NEVER);
    } while (status == SHMIPC_AGAIN);
    model_check(status == SHMIPC_OK, "wait_for_consumers() sees the consumer");
}

static void join_only(void)
{
    model_check(open_consumer(1, SHMIPC_START_AT_LATEST) == SHMIPC_OK, "a free slot is given");
}

/* ---- deaths -------------------------------------------------------------------------------- */

static void make_mortal_broadcast(void)
{
    make_full_broadcast();
    kernel_let_slices_end();
}

static void make_mortal_queue(void)
{
    make_queue();
    kernel_let_slices_end();
}

static void consumer_sees_death(void)
{
    enum shmipc_status status;
    do {
        status = receive_next(1, true);
    } while (status == SHMIPC_OK && logs[1].received < 2);
    model_check(status == SHMIPC_OK || status == SHMIPC_DIED, "a death is told, nothing else");
    if (status == SHMIPC_DIED) {
        model_check(logs[1].received == committed(), "all that was committed is read first");
    }
}

/* Whoever takes over goes on with the next number. */
static void succeed_producer(void)
{
    if (try_open_producer(2) == SHMIPC_OK) {
        model_check(producers[2].ring.next_seq == producers[2].ring.head_pos / MESSAGE_SPAN,
                    "a successor goes on with the next number");
        (void)send_next(2, false);
    }
}

static void make_succession(void)
{
    make_queue();
    kernel_let_slices_end();
}

static void poll_three(void)
{
    for (int i = 0; i < 3; i++) {
        (void)receive_next(1, false);
    }
}

static void succeed_consumer(void)
{
    if (open_consumer(2, SHMIPC_START_DEFAULT) == SHMIPC_OK) {
        (void)receive_next(2, false);
        if (logs[2].received > 0) {
            model_check(logs[2].first_seq <= logs[1].released,
                        "a successor starts at the first message not released");
            model_check(logs[2].first_seq + 1 >= logs[1].released,
                        "a successor repeats only what was not released");
        }
    }
}

const struct model_scenario model_scenarios[] = {
    {"queue", "a queue that both sides poll", make_queue, {send_three_at_once, poll_four}, 0,
     queue_ends, NULL},
    {"queue-sleeps", "both sides sleep and wake each other", make_queue,
     {send_three, receive_three}, 0, queue_ends, NULL},
    {"queue-sleeps-fenced", "... where membarrier is refused", make_fenced_queue,
     {send_three, receive_three}, 0, queue_ends, NULL},
    {"queue-sleeps-mixed", "... where one side could not register", make_mixed_queue,
     {send_three, receive_three}, 0, queue_ends, NULL},
    {"broadcast-sleeps", "two consumers sleep on one word", make_broadcast,
     {send_one, first_receives_one, second_receives_one}, 0, NULL, NULL},
    {"broadcast-marks", "a third process marks the word anew", make_broadcast,
     {send_one, first_receives_one, mark_again}, 0, NULL, NULL},
    {"broadcast-full", "a producer waits for the slowest of two", make_full_broadcast,
     {send_one, first_polls_one, second_polls_one}, 0, NULL, NULL},
    {"broadcast-batches", "batches against single reads", make_broadcast,
     {send_four_at_once, first_polls_batches}, 0, NULL, NULL},
    {"join-earliest", "a consumer joins at the oldest item kept", make_open_broadcast,
     {send_four_at_once, join_earliest}, 0, NULL, NULL},
    {"join-latest", "a consumer joins at the next message", make_open_messages,
     {send_three_at_once, join_latest}, 0, NULL, NULL},
    {"rejoin", "a slot is taken again, below its last holder's cursor", make_used_slot,
     {send_three_at_once, join_earliest}, 0, NULL, NULL},
    {"leave", "a consumer leaves while the ring is full", make_leaving,
     {send_three, read_and_leave}, 0, NULL, NULL},
    {"overwrite", "a reader is lapped, messages", make_overwrite,
     {overwrite_four, poll_two_and_count}, 0, NULL, NULL},
    {"overwrite-items", "a reader is lapped, items", make_overwrite_items,
     {overwrite_five, poll_two_and_count}, 0, NULL, NULL},
    {"overwrite-join", "a consumer joins a ring that laps it", make_open_overwrite,
     {overwrite_four, join_and_number}, 0, NULL, NULL},
    {"close", "the stream ends after its last message", make_queue,
     {send_and_close, drain_and_close}, 0, nothing_is_left, NULL},
    {"interrupt", "close() in another thread ends a wait", make_queue,
     {wait_until_interrupted, interrupt_consumer}, 0, NULL, NULL},
    {"wait-any", "wait() over two handles", make_broadcast, {send_one, wait_on_two}, 0, NULL, NULL},
    {"wait-attached", "a producer waits for a consumer to come", make_open_broadcast,
     {await_consumer, join_only}, 0, NULL, NULL},
    {"evict", "a consumer is killed at any step, the producer goes on", make_mortal_broadcast,
     {send_one, first_polls_one, second_polls_one}, 1 << 2, NULL, kernel_bury},
    {"producer-dies", "a producer is killed at any step", make_mortal_queue,
     {send_two, consumer_sees_death}, 1 << 0, NULL, kernel_bury},
    {"succession", "a producer is killed, another takes over", make_succession,
     {send_two, poll_three, succeed_producer}, 1 << 0, NULL, kernel_bury},
    {"resume", "a durable consumer is killed, another resumes", make_succession,
     {send_two, poll_three, succeed_consumer}, 1 << 1, NULL, kernel_bury},
};
const int model_scenario_count = (int)(sizeof model_scenarios / sizeof model_scenarios[0]);
