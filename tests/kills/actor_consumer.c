/* actor_consumer.c: see kills.h. A consumer that checks every byte and counts every number. */
#define _GNU_SOURCE
#include "kills.h"

#include <string.h>
#include <unistd.h>

#define PATIENCE_NS UINT64_C(20000000000)
#define MOST_LEASES 3

static struct shmipc_consumer_role consumer;
static uint64_t first;    /* number of the first message that was for us; UINT64_MAX: not known */
static uint64_t received; /* since then */
static uint64_t lost_before;  /* what .lost said then */
static uint64_t lost_counted; /* of the losses since, already on the board */
static struct shmipc_lease leases[MOST_LEASES];
static bool is_leased[MOST_LEASES];
static uint64_t wait_start_ns; /* 0: not waiting */

static bool is_broken(const char *how)
{
    return board->broken != NULL && strcmp(board->broken, how) == 0;
}

static bool is_durable(void)
{
    return (board->config & (OVERWRITE | MANY)) == 0;
}

/* ---- coming --------------------------------------------------------------------------------- */

static uint64_t number_at(uint64_t pos)
{
    return shmipc_ring_seq_of(&consumer.ring.ring, pos);
}

static void check_start(void)
{
    first =
        (board->config & TYPED) != 0 ? number_at(consumer.ring.read_pos) : consumer.ring.next_seq;
    lost_before = consumer.ring.lost;
    seat->number = first == UINT64_MAX ? 0 : first;
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
static bool open_it(void)
{
    struct shmipc_error error;
    seat->state = ARRIVING;
    actor_phase(OPENING);
    if (board->late) {
        actor_nap(3000000);
    }
    const bool earliest = actor_random() % 2 == 0;
    for (;;) {
        const uint64_t start_ns = shmipc_now_ns();
        const enum shmipc_status status = shmipc_consumer_role_open(
            &consumer, board->path, earliest ? SHMIPC_START_AT_EARLIEST : SHMIPC_START_DEFAULT,
            &error);
        if (status == SHMIPC_OK) {
            actor_waited(start_ns);
            break;
        }
        if (status != SHMIPC_NOT_FOUND) {
            actor_fail("open came to status %d: %s", (int)status, error.text);
        }
        actor_told(start_ns);
        if (seat->command == LEAVE) {
            return false;
        }
        actor_nap(200000);
    }
    actor_phase(STREAMING);
    shmipc_spin_init(&consumer.spin, actor_random() % 2 * 20000, true);
    check_start();
    seat->state = FLOWING;
    return true;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* One message is whole and the one that is due. */
static void check_message(const struct shmipc_message *message, const unsigned char *at,
                          uint64_t number)
{
    uint64_t found;
    const bool typed = (board->config & TYPED) != 0;
    const char *fault = payload_fault(at, typed ? ITEM_LEN : message->len,
                                      payload_len(board->config, number), &found);
    if (!typed && fault == NULL &&
        (message->kind != 1 + number % 7 || message->flags != (uint16_t)number)) {
        fault = "of another kind or other flags";
    }
    if (fault != NULL) {
        board->torn++;
        actor_fail("message %llu is torn: %s", (unsigned long long)number, fault);
    }
    if (found != number) {
        board->repeated += found < number;
        board->missing += found > number;
        actor_fail("message %llu came where %llu was due", (unsigned long long)found,
                   (unsigned long long)number);
    }
    if (first == UINT64_MAX) {
        first = number;
        lost_before = consumer.ring.lost;
    }
    const uint64_t due = first + received + (consumer.ring.lost - lost_before);
    if (number != due) {
        board->repeated += number < due;
        board->missing += number > due;
        actor_fail("message %llu came where %llu was due, %llu of them counted as lost",
                   (unsigned long long)number, (unsigned long long)due,
                   (unsigned long long)(consumer.ring.lost - lost_before));
    }
    received++;
    board->received++;
    seat->number = number + 1;
}

static uint64_t number_of_lease(const struct shmipc_lease *lease)
{
    return (board->config & TYPED) != 0 ? number_at(lease->pos) : lease->seq;
}

static void release(void)
{
    const struct shmipc_lease *oldest = consumer.ring.oldest_lease;
    if (is_durable()) {
        board->releasing = oldest != NULL ? number_of_lease(oldest) : (uint64_t)seat->number;
    }
    shmipc_consumer_role_release(&consumer);
}

static void end_a_lease(void)
{
    const uint64_t start = actor_random();
    for (uint64_t i = 0; i < MOST_LEASES; i++) {
        const uint64_t which = (start + i) % MOST_LEASES;
        if (is_leased[which]) {
            shmipc_ring_end(&consumer.ring, &leases[which]);
            is_leased[which] = false;
            release();
            return;
        }
    }
}

static void end_all_leases(void)
{
    for (int i = 0; i < MOST_LEASES; i++) {
        end_a_lease();
    }
}

static void processed(void)
{
    if (is_durable()) {
        board->processed = seat->number;
    }
    actor_step(AT_PROCESSED);
}

static void read_in_place(struct shmipc_message *message, uint64_t count)
{
    const bool typed = (board->config & TYPED) != 0;
    const uint64_t number = typed ? number_at(message->pos) : message->seq;
    if (is_broken("hasty")) { /* given back before it is read */
        seat->number = number + count;
        shmipc_ring_advance(&consumer.ring, message);
        release();
        actor_step(AT_READ_HALF);
        seat->number = number;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (i == count / 2) {
            actor_step(AT_READ_HALF);
        }
        check_message(message, message->data + i * consumer.ring.ring.item_stride, number + i);
    }
    if (is_broken("hasty")) {
        processed();
        return;
    }
    processed();
    if (actor_random() % 2 == 0) {
        shmipc_ring_advance(&consumer.ring, message);
        release();
        return;
    }
    for (int i = 0; i < MOST_LEASES; i++) {
        if (!is_leased[i]) {
            shmipc_ring_take(&consumer.ring, message, &leases[i]);
            is_leased[i] = true;
            break;
        }
        if (i == MOST_LEASES - 1) {
            shmipc_ring_advance(&consumer.ring, message);
        }
    }
    if (actor_random() % 4 != 0) {
        end_a_lease();
    }
}

/* "overwrite": copied, then found to be whole or not. */
static void read_by_copy(struct shmipc_message *message)
{
    unsigned char copy[LONGEST_PAYLOAD];
    const uint64_t half = message->len / 2;
    if (message->len > sizeof copy) {
        if (shmipc_ring_intact(&consumer.ring.ring, message->pos)) {
            board->torn++;
            actor_fail("a message of %llu bytes", (unsigned long long)message->len);
        }
        shmipc_ring_resync(&consumer.ring);
        return;
    }
    shmipc_copy_speculative(copy, message->data, half);
    actor_step(AT_READ_HALF);
    if (actor_random() % 64 == 0) {
        actor_nap(100000); /* long enough to be lapped */
    }
    shmipc_copy_speculative(copy + half, message->data + half, message->len - half);
    if (!is_broken("trusting") && !shmipc_ring_intact(&consumer.ring.ring, message->pos)) {
        shmipc_ring_resync(&consumer.ring);
        return;
    }
    check_message(message, copy,
                  (board->config & TYPED) != 0 ? number_at(message->pos) : message->seq);
    processed();
    shmipc_ring_advance(&consumer.ring, message);
    release();
}

static enum shmipc_status read_some(void)
{
    struct shmipc_message message;
    uint64_t count = 1;
    enum shmipc_status status;
    if ((board->config & (TYPED | OVERWRITE)) == TYPED && actor_random() % 2 == 0) {
        status = shmipc_ring_peek_batch(&consumer.ring, 4, &message, &count);
    } else {
        status = shmipc_ring_peek(&consumer.ring, &message);
    }
    if (status == SHMIPC_OK) {
        if (wait_start_ns != 0) {
            actor_waited(wait_start_ns);
            wait_start_ns = 0;
        }
        if ((board->config & OVERWRITE) == 0) {
            read_in_place(&message, count);
        } else if (actor_random() % 4 != 0) {
            read_by_copy(&message);
        } else if (!is_leased[0]) { /* a view: taken, looked at, judged, ended */
            unsigned char copy[LONGEST_PAYLOAD] = {0};
            const uint64_t len = message.len < sizeof copy ? message.len : sizeof copy;
            shmipc_ring_take(&consumer.ring, &message, &leases[0]);
            shmipc_copy_speculative(copy, message.data, len);
            if (shmipc_ring_intact(&consumer.ring.ring, message.pos)) {
                check_message(&message, copy,
                              (board->config & TYPED) != 0 ? number_at(message.pos) : message.seq);
            } else {
                received += first != UINT64_MAX; /* read, and known not to be whole */
            }
            shmipc_ring_end(&consumer.ring, &leases[0]);
            release();
        }
    }
    return status;
}

/* What a lapped reader skipped counts as soon as the ring says so. */
static void update_number(void)
{
    if (first != UINT64_MAX) {
        const uint64_t lost = consumer.ring.lost - lost_before;
        board->lost += lost - lost_counted;
        lost_counted = lost;
        seat->number = first + received + lost;
    } else if ((board->config & TYPED) == 0 &&
               consumer.ring.read_pos == consumer.ring.head_pos_cached) {
        uint64_t seq;
        if (shmipc_ring_read_note(consumer.ring.ring.shared, consumer.ring.read_pos, &seq)) {
            seat->number = seq;
        }
    }
}

/* ---- waiting -------------------------------------------------------------------------------- */

static enum shmipc_status wait_for_any(void)
{
    /* The same one twice: enough to sleep as for several rings. */
    struct shmipc_consumer_role *const both[2] = {&consumer, &consumer};
    shmipc_atomic_u32 *words[2];
    uint32_t marks[2];
    bool ready[2];
    enum shmipc_status status =
        shmipc_consumers_wait_any(both, 2, ready, words, marks, shmipc_now_ns() + PATIENCE_NS);
    if (status == SHMIPC_OK) {
        status = shmipc_consumer_role_poll_peer(&consumer);
        if (status == SHMIPC_EMPTY) { /* ready for its end, which a wait will tell */
            struct shmipc_wait wait = {0};
            status =
                shmipc_consumer_role_wait_data(&consumer, &wait, shmipc_now_ns() + PATIENCE_NS);
        }
    }
    return status;
}

static void wait_for_more(void)
{
    struct shmipc_wait wait = {0};
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
    enum shmipc_status status =
        seat->wait_any
            ? wait_for_any()
            : shmipc_consumer_role_wait_data(&consumer, &wait, shmipc_now_ns() + PATIENCE_NS);
    if (status == SHMIPC_OK || status == SHMIPC_AGAIN) {
        return;
    }
    if (status != SHMIPC_DIED && status != SHMIPC_CLOSED) {
        actor_fail("waiting for data came to status %d", (int)status);
    }
    update_number();
    const uint64_t committed = board->committed;
    if (seat->number < committed && first != UINT64_MAX && board->producers == producers) {
        board->missing += committed - seat->number;
        actor_fail("told of the end after message %llu of %llu", (unsigned long long)seat->number,
                   (unsigned long long)committed);
    }
    actor_told(wait_start_ns);
    wait_start_ns = 0;
    actor_nap(200000);
}

static void close_it(void)
{
    seat->state = LEAVING;
    actor_phase(CLOSING);
    const uint64_t start_ns = shmipc_now_ns();
    shmipc_consumer_role_interrupt(&consumer);
    shmipc_consumer_role_close(&consumer);
    actor_waited(start_ns);
    _exit(0);
}

_Noreturn void be_consumer(void)
{
    if (!open_it()) {
        _exit(0);
    }
    for (;;) {
        update_number();
        const bool has_all = board->finish != 0 && seat->number == board->total;
        if (seat->command == LEAVE || has_all) {
            end_all_leases();
            release();
        }
        if (has_all && board->drowsy && seat->command == STAY) {
            seat->state = FINISHED;
            wait_for_more();
            continue;
        }
        if (seat->command == LEAVE || has_all) {
            wait_start_ns = 0;
            if (actor_idle()) {
                close_it();
            }
        }
        seat->state = FLOWING;
        const enum shmipc_status status = read_some();
        if (status == SHMIPC_EMPTY) {
            end_all_leases(); /* or the producer would wait for us, and we for it */
            release();
            update_number();
            if (board->finish == 0 || seat->number != board->total) {
                wait_for_more();
            }
        } else if (status != SHMIPC_OK) {
            actor_fail("peek came to status %d", (int)status);
        } else if (actor_random() % 200 == 0) {
            actor_nap(300000); /* let the ring fill */
        }
    }
}
