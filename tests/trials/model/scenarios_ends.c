/* scenarios_ends.c: the stream's end, close() from another thread, waiting for peers, deaths. */
#include "actors.h"

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

/* ... without ever waiting. */
static void poll_until_closed(void)
{
    for (int i = 0; i < 3; i++) {
        if (receive_next(1, false) != SHMIPC_OK &&
            shmipc_consumer_role_poll_peer(&consumers[1]) == SHMIPC_CLOSED) {
            model_check(logs[1].received == 1, "the end comes after the last message");
        }
        remember_consumer(1, POINT_WAITED, SHMIPC_OK);
    }
}

static void make_unread_queue(void)
{
    make_ring(SHMIPC_FRAMING_MESSAGE, SHMIPC_OVERFLOW_BLOCK, 1, 2, 0);
}

static void attach_and_drain(void)
{
    /* Before the message nobody waits for it; after it the queue is owed, closed or not. */
    model_check(open_consumer(1, SHMIPC_START_RESUME) == SHMIPC_OK,
                "a queue that holds a message turns no consumer away");
    drain_and_close();
}

static void nothing_is_left(void)
{
    model_check(!kernel_is_named(), "the last one out removes the file");
    model_check(!kernel_has_locks(), "no lock is left");
}

static void interrupt_consumer(void)
{
    shmipc_consumer_role_interrupt(&consumers[1]);
}

static void wait_until_interrupted(void)
{
    model_check(receive_next(1, true) == SHMIPC_CLOSED, "close() ends a wait");
}

static void make_full_queue(void)
{
    make_queue();
    (void)send_next(0, false);
    (void)send_next(0, false);
}

static void send_until_interrupted(void)
{
    model_check(send_next(0, true) == SHMIPC_CLOSED, "close() ends a wait");
}

static void interrupt_producer(void)
{
    shmipc_producer_role_interrupt(&producers[0]);
}

static void make_fenced_full_queue(void)
{
    make_full_queue();
    fence_all();
}

static void wait_on_two(void)
{
    kernel_let_clock_run();
    struct shmipc_waited both[2] = {shmipc_waited_consumer(&consumers[1]),
                                    shmipc_waited_consumer(&consumers[2])};
    shmipc_atomic_u32 *words[2];
    uint32_t marks[2];
    bool ready[2];
    struct shmipc_waitset set = {
        .count = 2, .members = both, .words = words, .marks = marks, .ready = ready};
    enum shmipc_status status;
    shmipc_waitset_begin(&set);
    do {
        status = shmipc_waitset_slice(&set, SHMIPC_NEVER);
    } while (status == SHMIPC_AGAIN);
    model_check(status == SHMIPC_OK && (ready[0] || ready[1]), "wait() finds what is ready");
}

static void await_consumer(void)
{
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    do {
        status = shmipc_producer_role_wait_attached(&producers[0], &wait, 1, SHMIPC_NEVER);
    } while (status == SHMIPC_AGAIN);
    model_check(status == SHMIPC_OK, "wait_for_consumers() sees the consumer");
}

static void join_only(void)
{
    model_check(open_consumer(1, SHMIPC_START_LATEST) == SHMIPC_OK, "a free slot is given");
}

/* ---- deaths -------------------------------------------------------------------------------- */

static void make_mortal_broadcast(void)
{
    make_full_broadcast();
    kernel_let_slices_end();
}

/* A consumer died before anybody looked: its cursor holds a full ring. */
static void make_held_by_the_dead(void)
{
    make_ring(SHMIPC_FRAMING_TYPED, SHMIPC_OVERFLOW_BLOCK, 2, 1, 0);
    (void)open_consumer(4, SHMIPC_START_LATEST);
    (void)send_next(0, false);
    kernel_bury(4);
    kernel_let_slices_end();
}

static void join_and_read_one(void)
{
    if (open_consumer(1, SHMIPC_START_EARLIEST) == SHMIPC_OK) {
        (void)receive_next(1, true);
        model_check(logs[1].received == 1, "a joiner gets what is in the ring");
    }
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

/* A producer that takes over goes on with the next number. */
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
    if (open_consumer(2, SHMIPC_START_RESUME) == SHMIPC_OK) {
        (void)receive_next(2, false);
        if (logs[2].received > 0) {
            model_check(logs[2].first_seq <= logs[1].released,
                        "a successor starts at the first message not released");
            model_check(logs[2].first_seq + 1 >= logs[1].released,
                        "a successor repeats only what was not released");
        }
    }
}

/* ---- slots kept for consumers to come ------------------------------------------------------- */

static bool used_up; /* a consumer had joined in the kept slot and has died */

static uint64_t kept_pid(void)
{
    return model_latest(&kernel_header->slots[0].pid, sizeof kernel_header->slots[0].pid);
}

/* One message is there, and one slot is kept of two. */
static void make_holding(int producer)
{
    make_ring(SHMIPC_FRAMING_MESSAGE, SHMIPC_OVERFLOW_BLOCK, 2, 2, -1);
    hold_for(1);
    open_producer(producer);
    (void)send_next(producer, false);
    used_up = false;
    model_hash_also(&used_up, sizeof used_up);
    kernel_let_slices_end();
}

static void bury_and_note(int thread)
{
    used_up = used_up || kept_pid() != SHMIPC_PID_KEPT;
    kernel_bury(thread);
}

static void make_held_for_one_of_two(void)
{
    make_holding(2);
}

static void make_held_for_one(void)
{
    make_holding(0);
}

static void come_and_read(int thread)
{
    model_check(open_consumer(thread, SHMIPC_START_RESUME) == SHMIPC_OK, "a free slot is given");
    if (consumers[thread].ring.slot_index == 0 && !used_up) {
        (void)receive_next(thread, true);
        model_check(logs[thread].first_seq == 0, "the first to join gets message 0");
    } else {
        model_check(kept_pid() != SHMIPC_PID_KEPT, "a kept slot is taken before any other");
        close_consumer(thread);
    }
}

static void one_comes(void)
{
    come_and_read(0);
}

static void another_comes(void)
{
    come_and_read(1);
}

/* Full before the slot is given up: a producer that polls reclaims dead slots. */
static void send_and_look_after(void)
{
    for (int i = 0; i < 2; i++) {
        if (send_next(0, false) == SHMIPC_FULL) {
            (void)shmipc_producer_role_poll_peers(&producers[0]);
            remember_producer(0, POINT_WAITED, SHMIPC_FULL);
        }
    }
    model_check(producers[0].reclaimed == 0 || kept_pid() != SHMIPC_PID_KEPT,
                "a kept slot is never reclaimed");
}

static void kept_or_joined(void)
{
    model_check(used_up || logs[1].received == 1 || kept_pid() == SHMIPC_PID_KEPT,
                "a slot stays kept until a consumer has joined");
}

static const struct model_scenario scenarios[] = {
    {"close",
     "the stream ends after its last message",
     make_queue,
     {send_and_close, drain_and_close},
     0,
     nothing_is_left,
     NULL},
    {"close-fenced",
     "... where membarrier is refused",
     make_fenced_queue,
     {send_and_close, drain_and_close},
     0,
     nothing_is_left,
     NULL},
    {"close-polled",
     "... for a consumer that never waits",
     make_queue,
     {send_and_close, poll_until_closed},
     0,
     NULL,
     NULL},
    {"attach-closing",
     "a consumer comes while the producer sends and closes",
     make_unread_queue,
     {send_and_close, attach_and_drain},
     0,
     nothing_is_left,
     NULL},
    {"interrupt-fenced",
     "... where membarrier is refused",
     make_fenced_queue,
     {wait_until_interrupted, interrupt_consumer},
     0,
     NULL,
     NULL},
    {"interrupt-producer",
     "close() in another thread ends a wait for room",
     make_full_queue,
     {send_until_interrupted, interrupt_producer},
     0,
     NULL,
     NULL},
    {"interrupt-producer-fenced",
     "... where membarrier is refused",
     make_fenced_full_queue,
     {send_until_interrupted, interrupt_producer},
     0,
     NULL,
     NULL},
    {"interrupt",
     "close() in another thread ends a wait",
     make_queue,
     {wait_until_interrupted, interrupt_consumer},
     0,
     NULL,
     NULL},
    {"wait-any", "wait() over two handles", make_broadcast, {send_one, wait_on_two}, 0, NULL, NULL},
    {"wait-attached",
     "a producer waits for a consumer to come",
     make_open_broadcast,
     {await_consumer, join_only},
     0,
     NULL,
     NULL},
    {"reclaim",
     "a consumer is killed at any step, the producer goes on",
     make_mortal_broadcast,
     {send_one, first_polls_one, second_polls_one},
     1 << 2,
     NULL,
     kernel_bury},
    {"reclaim-join",
     "a consumer comes while a dead one's slot is freed",
     make_held_by_the_dead,
     {send_one, join_and_read_one},
     0,
     NULL,
     kernel_bury},
    {"producer-dies",
     "a producer is killed at any step",
     make_mortal_queue,
     {send_two, consumer_sees_death},
     1 << 0,
     NULL,
     kernel_bury},
    {"succession",
     "a producer is killed, another takes over",
     make_succession,
     {send_two, poll_three, succeed_producer},
     1 << 0,
     NULL,
     kernel_bury},
    {"hold",
     "of two consumers that come for a kept slot one is killed at any step",
     make_held_for_one_of_two,
     {one_comes, another_comes},
     1 << 1,
     NULL,
     bury_and_note},
    {"hold-reclaim",
     "a full producer looks after the dead while somebody comes",
     make_held_for_one,
     {send_and_look_after, another_comes},
     1 << 1,
     kept_or_joined,
     bury_and_note},
    {"resume",
     "a durable consumer is killed, another resumes",
     make_succession,
     {send_two, poll_three, succeed_consumer},
     1 << 1,
     NULL,
     kernel_bury},
};

const struct model_group model_ends = {scenarios, sizeof scenarios / sizeof scenarios[0]};
