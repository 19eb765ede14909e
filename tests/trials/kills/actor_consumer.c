/* actor_consumer.c: see kills.h. A consumer by the core's roles that checks every byte and counts
 * every number. */
#define _GNU_SOURCE
#include "actor_life.h"

#include <unistd.h>

#define PATIENCE_NS UINT64_C(20000000000)
#define MOST_LEASES 3

static struct shmipc_consumer_role consumer;
static enum shmipc_start start_at;
static struct shmipc_lease leases[MOST_LEASES];
static bool is_leased[MOST_LEASES];

static const struct shmipc_ring_consumer *open_it(void)
{
    struct shmipc_error error;
    const enum shmipc_status status =
        shmipc_consumer_role_open(&consumer, board->path, start_at, &error);
    if (status == SHMIPC_NOT_FOUND) {
        return NULL;
    }
    if (status != SHMIPC_OK) {
        actor_fail("open came to status %d: %s", (int)status, error.text);
    }
    shmipc_spin_init(&consumer.spin, actor_random() % 2 * 20000, true);
    return &consumer.ring;
}

static uint64_t count_lost(void)
{
    return consumer.ring.lost;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* The number of what lies at `pos`: a message says it, an item does not. */
static uint64_t number_of(uint64_t pos, uint64_t seq)
{
    return is_typed() ? shmipc_ring_seq_of(&consumer.ring.map, pos) : seq;
}

/* One message is whole and the one that is due. */
static void check_message(const struct shmipc_message *message, const unsigned char *at,
                          uint64_t number)
{
    const uint64_t found = reader_check(at, message->len, message->kind, message->flags, number);
    if (found != number) {
        board->repeated += found < number;
        board->missing += found > number;
        actor_fail("message %llu came where %llu was due", (unsigned long long)found,
                   (unsigned long long)number);
    }
    const uint64_t due = reader_due(number);
    if (number != due) {
        board->repeated += number < due;
        board->missing += number > due;
        actor_fail("message %llu came where %llu was due, %llu of them counted as lost",
                   (unsigned long long)number, (unsigned long long)due,
                   (unsigned long long)reader_lost());
    }
    reader_received(number);
}

static void release(void)
{
    const struct shmipc_lease *oldest = consumer.ring.oldest_lease;
    if (is_durable()) {
        board->releasing =
            oldest != NULL ? number_of(oldest->pos, oldest->seq) : (uint64_t)actor->number;
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

static void release_all(void)
{
    for (int i = 0; i < MOST_LEASES; i++) {
        end_a_lease();
    }
    release();
}

static void read_in_place(struct shmipc_message *message, uint64_t count)
{
    const uint64_t number = number_of(message->pos, message->seq);
    if (is_broken("hasty")) { /* released before it is read */
        actor->number = number + count;
        shmipc_ring_advance(&consumer.ring, message);
        release();
        actor_step(AT_READ_HALF);
        actor->number = number;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (i == count / 2) {
            actor_step(AT_READ_HALF);
        }
        check_message(message, message->data + i * consumer.ring.map.item_stride, number + i);
    }
    if (is_broken("hasty")) {
        reader_processed();
        return;
    }
    reader_processed();
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
        if (shmipc_ring_intact(&consumer.ring.map, message->pos)) {
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
    if (!is_broken("trusting") && !shmipc_ring_intact(&consumer.ring.map, message->pos)) {
        shmipc_ring_resync(&consumer.ring);
        return;
    }
    check_message(message, copy, number_of(message->pos, message->seq));
    reader_processed();
    shmipc_ring_advance(&consumer.ring, message);
    release();
}

static bool read_some(void)
{
    struct shmipc_message message;
    uint64_t count = 1;
    enum shmipc_status status;
    if ((board->config & (TYPED | OVERWRITE)) == TYPED && actor_random() % 2 == 0) {
        status = shmipc_ring_peek_batch(&consumer.ring, 4, &message, &count);
    } else {
        status = shmipc_ring_peek(&consumer.ring, &message);
    }
    if (status == SHMIPC_EMPTY) {
        return false;
    }
    if (status != SHMIPC_OK) {
        actor_fail("peek came to status %d", (int)status);
    }
    reader_came();
    if (!overwrites()) {
        read_in_place(&message, count);
    } else if (actor_random() % 4 != 0) {
        read_by_copy(&message);
    } else if (!is_leased[0]) { /* a view: taken, looked at, judged, ended */
        unsigned char copy[LONGEST_PAYLOAD] = {0};
        const uint64_t len = message.len < sizeof copy ? message.len : sizeof copy;
        shmipc_ring_take(&consumer.ring, &message, &leases[0]);
        shmipc_copy_speculative(copy, message.data, len);
        if (shmipc_ring_intact(&consumer.ring.map, message.pos)) {
            check_message(&message, copy, number_of(message.pos, message.seq));
        } else {
            reader_not_whole();
        }
        shmipc_ring_end(&consumer.ring, &leases[0]);
        release();
    }
    return true;
}

/* ---- waiting -------------------------------------------------------------------------------- */

static enum shmipc_status wait_for_any(void)
{
    /* The same one twice: enough to sleep as for several rings. */
    struct shmipc_waited both[2] = {shmipc_waited_consumer(&consumer),
                                    shmipc_waited_consumer(&consumer)};
    shmipc_atomic_u32 *words[2];
    uint32_t marks[2];
    bool ready[2];
    struct shmipc_waitset set = {
        .count = 2, .members = both, .words = words, .marks = marks, .ready = ready};
    shmipc_waitset_begin(&set);
    enum shmipc_status status = shmipc_waitset_sleep(&set, shmipc_now_ns() + PATIENCE_NS);
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

static bool wait_for_more(void)
{
    struct shmipc_wait wait = {0};
    enum shmipc_status status =
        actor->wait_any
            ? wait_for_any()
            : shmipc_consumer_role_wait_data(&consumer, &wait, shmipc_now_ns() + PATIENCE_NS);
    if (status == SHMIPC_OK || status == SHMIPC_AGAIN) {
        return false;
    }
    if (status != SHMIPC_DIED && status != SHMIPC_CLOSED) {
        actor_fail("waiting for data came to status %d", (int)status);
    }
    return true;
}

static void close_it(void)
{
    shmipc_consumer_role_interrupt(&consumer);
    shmipc_consumer_role_close(&consumer);
}

_Noreturn void be_consumer(void)
{
    static const struct reader by_role = {
        .open = open_it,
        .count_lost = count_lost,
        .read = read_some,
        .release_all = release_all,
        .wait = wait_for_more,
        .close = close_it,
    };
    start_at = actor_random() % 2 == 0 || actor->step == SHMIPC_AT_ATTACH_USED
                   ? SHMIPC_START_EARLIEST
                   : SHMIPC_START_RESUME;
    live_by_reading(&by_role);
    _exit(0);
}
