/* actor_life.c: see actor_life.h. What every producer and every consumer goes through. */
#define _GNU_SOURCE
#include "actor_life.h"

#include <string.h>

#define BURST 100      /* more than the ring holds, so that it fills */
#define REST_NS 300000 /* long enough for consumers to run dry and sleep */

bool is_broken(const char *how)
{
    return board->broken != NULL && strcmp(board->broken, how) == 0;
}

/* ---- a producer ----------------------------------------------------------------------------- */

void sender_write(unsigned char *at, uint64_t number, uint64_t len)
{
    payload_write(at, number, 0, len / 2, len);
    actor_step(AT_WRITE_HALF);
    payload_write(at, number, len / 2, len, len);
}

static void begin_to_send(const struct sender *sender)
{
    actor->state = ARRIVING;
    board->arriving = 1;
    board->producers++;
    actor_phase(OPENING);
    const uint64_t start_ns = shmipc_now_ns();
    sender->open();
    actor_waited(start_ns);
    board->arriving = 0;
    actor_phase(STREAMING);
    const uint64_t number = sender->take_over();
    board->committed = number;
    board->committing = number;
    actor->number = number;
    actor->state = FLOWING;
}

static bool send_burst(const struct sender *sender)
{
    for (uint64_t sent = 0; sent < BURST && board->finish == 0;) {
        const uint64_t before = board->committed;
        const uint64_t count =
            actor_random() % 8 == 0 ? 2 + actor_random() % (MOST_AT_ONCE - 1) : 1;
        if (!sender->send(count)) {
            return false;
        }
        sent += (uint64_t)board->committed - before;
    }
    return true;
}

/* What ends a life, a producer's or a consumer's. */
static void leave(void (*close_it)(void))
{
    actor->state = LEAVING;
    actor_phase(CLOSING);
    const uint64_t start_ns = shmipc_now_ns();
    close_it();
    actor_waited(start_ns);
}

void live_by_sending(const struct sender *sender)
{
    begin_to_send(sender);
    for (;;) {
        while (board->finish == 0 && actor->command == STAY && send_burst(sender)) {
            actor_nap(REST_NS);
        }
        if (actor->command == STAY) {
            board->total = board->committed + 1; /* one more, to wake whoever waits */
            (void)sender->send(1);
        }
        if (actor->command == LEAVE || actor_idle()) {
            leave(sender->close);
            return;
        }
    }
}

/* ---- a consumer comes ----------------------------------------------------------------------- */

static const struct reader *reader;
/* The number of what comes next is known to the core alone. */
static const struct shmipc_ring_consumer *ring;
static uint64_t first;    /* number of the first message that was for us; UINT64_MAX: not known */
static uint64_t received; /* since then */
static uint64_t lost_before;   /* what was lost by then */
static uint64_t lost_counted;  /* of the losses since, already on the board */
static uint64_t wait_start_ns; /* 0: not waiting */

/* Until as many have joined as the ring holds for, each gets message 0. Those that the board knows
 * of now are more than had joined before us, not fewer. */
static void check_kept_start(void)
{
    uint64_t joined = (uint64_t)board->spent;
    for (int i = 1; i <= CONSUMERS; i++) {
        joined += board->actors[i].reached[OPENING][SHMIPC_AT_ATTACH_PID];
    }
    if (board->hold && joined <= CONSUMERS && first != 0) {
        board->missing += first;
        actor_fail("joined at message %llu, but message 0 was kept for it",
                   (unsigned long long)first);
    }
}

static void check_start(void)
{
    first = is_typed() ? shmipc_ring_seq_of(&ring->map, ring->read_pos) : ring->next_seq;
    lost_before = reader->count_lost();
    actor->number = first == UINT64_MAX ? 0 : first;
    check_kept_start();
    if (!is_durable()) {
        return;
    }
    const uint64_t least = board->released;
    const uint64_t most = board->external != 0 ? (uint64_t)board->releasing : least;
    if (first > board->processed) {
        board->missing += first - board->processed;
        actor_fail("resumed at message %llu, but only %llu were read to the end",
                   (unsigned long long)first, (unsigned long long)board->processed);
    }
    if (first < least || first > most) {
        board->repeated += first < least ? least - first : 0;
        actor_fail("resumed at message %llu, but %llu to %llu were released",
                   (unsigned long long)first, (unsigned long long)least, (unsigned long long)most);
    }
    board->released = first;
    board->releasing = first;
    board->processed = first; /* the rest is to be read once more */
}

/* False: told to leave before there was a ring. */
static bool begin_to_read(void)
{
    actor->state = ARRIVING;
    actor_phase(OPENING);
    if (board->late) {
        actor_nap(3000000);
    }
    for (;;) {
        const uint64_t start_ns = shmipc_now_ns();
        ring = reader->open();
        if (ring != NULL) {
            actor_waited(start_ns);
            break;
        }
        actor_told(start_ns);
        if (actor->command == LEAVE) {
            return false;
        }
        actor_nap(200000);
    }
    actor_phase(STREAMING);
    check_start();
    actor->state = FLOWING;
    return true;
}

/* ---- a consumer reads ----------------------------------------------------------------------- */

void reader_came(void)
{
    if (wait_start_ns != 0) {
        actor_waited(wait_start_ns);
        wait_start_ns = 0;
    }
}

uint64_t reader_check(const unsigned char *at, uint64_t len, uint16_t kind, uint16_t flags,
                      uint64_t number)
{
    uint64_t found;
    const char *fault =
        payload_fault(at, is_typed() ? ITEM_LEN : len, payload_len(board->config, number), &found);
    if (!is_typed() && fault == NULL && (kind != 1 + number % 7 || flags != (uint16_t)number)) {
        fault = "of another kind or other flags";
    }
    if (fault != NULL) {
        board->torn++;
        actor_fail("message %llu is torn: %s", (unsigned long long)number, fault);
    }
    return found;
}

uint64_t reader_lost(void)
{
    return reader->count_lost() - lost_before;
}

uint64_t reader_due(uint64_t number)
{
    if (first == UINT64_MAX) {
        first = number;
        lost_before = reader->count_lost();
    }
    return first + received + reader_lost();
}

void reader_received(uint64_t number)
{
    received++;
    board->received++;
    actor->number = number + 1;
}

void reader_not_whole(void)
{
    received += first != UINT64_MAX;
}

void reader_processed(void)
{
    if (is_durable()) {
        board->processed = actor->number;
    }
    actor_step(AT_PROCESSED);
}

/* What a lapped reader skipped counts as soon as the ring says so. */
static void update_number(void)
{
    if (first != UINT64_MAX) {
        const uint64_t lost = reader_lost();
        board->lost += lost - lost_counted;
        lost_counted = lost;
        actor->number = first + received + lost;
    } else if (!is_typed() && ring->read_pos == ring->head_pos_cached) {
        uint64_t seq;
        if (shmipc_ring_read_note(ring->map.shared, ring->read_pos, &seq)) {
            actor->number = seq;
        }
    }
}

static void wait_for_more(void)
{
    if (wait_start_ns == 0) {
        wait_start_ns = shmipc_now_ns();
    }
    if (is_broken("slow")) {
        for (int i = 0; i < 5; i++) {
            actor_nap(900000000);
        }
    }
    /* What was committed stands still from a producer's death until the next one opens. */
    int producers = board->producers;
    producers = board->arriving != 0 ? -1 : producers;
    if (!reader->wait()) {
        return;
    }
    update_number();
    const uint64_t committed = board->committed;
    if (actor->number < committed && first != UINT64_MAX && board->producers == producers) {
        board->missing += committed - actor->number;
        actor_fail("told of the end after message %llu of %llu", (unsigned long long)actor->number,
                   (unsigned long long)committed);
    }
    actor_told(wait_start_ns);
    wait_start_ns = 0;
    actor_nap(200000);
}

void live_by_reading(const struct reader *how)
{
    reader = how;
    if (!begin_to_read()) {
        return;
    }
    for (;;) {
        update_number();
        const bool has_all = board->finish != 0 && actor->number == board->total;
        if (actor->command == LEAVE || has_all) {
            reader->release_all();
        }
        if (has_all && board->drowsy && actor->command == STAY) {
            actor->state = FINISHED;
            wait_for_more();
            continue;
        }
        if (actor->command == LEAVE || has_all) {
            wait_start_ns = 0;
            if (actor_idle()) {
                leave(reader->close);
                return;
            }
        }
        actor->state = FLOWING;
        if (!reader->read()) {
            reader->release_all(); /* or the producer would wait for us, and we for it */
            update_number();
            if (board->finish == 0 || actor->number != board->total) {
                wait_for_more();
            }
        } else if (actor_random() % 200 == 0) {
            actor_nap(300000); /* let the ring fill */
        }
    }
}
