/* consumer.c: see consumer.h. */
#define _GNU_SOURCE
#include "consumer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- open ---------------------------------------------------------------------------------- */

static enum shmipc_status claim_slot(struct shmipc_consumer_role *consumer, uint32_t *slot,
                                     struct shmipc_error *error)
{
    const struct shmipc_segment *segment = &consumer->segment;
    const uint32_t slots = segment->geometry.slots;
    for (*slot = 0; *slot < slots; (*slot)++) {
        if (shmipc_lock_try(segment, SHMIPC_LOCK_SLOT0 + *slot)) {
            return SHMIPC_OK;
        }
        if (!shmipc_lock_is_taken(errno)) {
            return shmipc_fail(error, SHMIPC_OS, errno, "cannot lock %s", segment->path);
        }
    }
    return shmipc_fail(error, SHMIPC_BUSY, EEXIST,
                       "%s has its %u consumer%s already (one of them process %u): close one, or "
                       "create the ring with a larger consumers=",
                       segment->path, slots, slots == 1 ? "" : "s",
                       shmipc_load_relaxed(&segment->header->slots[0].pid));
}

/* Behind the gate of an open segment. NOT_FOUND: it is going away. */
static enum shmipc_status attach(struct shmipc_consumer_role *consumer,
                                 enum shmipc_start_option start, struct shmipc_error *error)
{
    struct shmipc_segment *segment = &consumer->segment;
    struct shmipc_ring *ring = &consumer->ring.ring;
    enum shmipc_status status;
    uint32_t slot = 0;

    if (!shmipc_segment_is_named(segment)) {
        return shmipc_fail(error, SHMIPC_NOT_FOUND, ENOENT, "there is no ring %s", segment->path);
    }
    status = shmipc_segment_map(segment, false, error);
    if (status != SHMIPC_OK) {
        return status;
    }
    shmipc_ring_attach(ring, segment);
    if (ring->durable && start == SHMIPC_START_AT_LATEST) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "%s is a durable queue (consumers=1, overflow=\"block\"): its consumer "
                           "resumes at the first unreleased message, so start=\"latest\" would "
                           "lose some. Leave start out, or create the ring with consumers=2",
                           segment->path);
    }
    /* R6 <-> W6: a ring seen closed is seen with its last message, and is not turned away from. */
    if (shmipc_load_acquire(&ring->shared->identity.closed) != 0) {
        const bool retained = shmipc_load_relaxed(&ring->shared->commit.head_pos) !=
                              shmipc_load_relaxed(&ring->shared->retention.tail_pos);
        if (ring->durable ? !shmipc_segment_is_owed(segment)
                          : !(retained && start == SHMIPC_START_AT_EARLIEST)) {
            return shmipc_fail(error, SHMIPC_NOT_FOUND, ENOENT,
                               "the producer of %s has closed it and nothing is left in it",
                               segment->path);
        }
    }
    status = claim_slot(consumer, &slot, error);
    if (status != SHMIPC_OK) {
        return status;
    }
    SHMIPC_STEP(ATTACH_SLOT);
    status = shmipc_ring_join(&consumer->ring, slot,
                              start == SHMIPC_START_AT_EARLIEST ? SHMIPC_START_EARLIEST
                                                                : SHMIPC_START_LATEST);
    if (status != SHMIPC_OK) {
        return shmipc_fail(error, status, 0,
                           "%s is damaged: a cursor lies outside its data. Remove it (`shmipc "
                           "clean --discard`)",
                           segment->path);
    }
    SHMIPC_STEP(ATTACH_JOINED);
    shmipc_store_relaxed(&consumer->ring.slot->pid, (uint32_t)getpid());
    SHMIPC_STEP(ATTACH_PID);
    /* The producer may wait for consumers, or for the room that a dead predecessor withheld. */
    shmipc_wait_wake(&ring->shared->space.sleepers);
    SHMIPC_STEP(ATTACH_WOKEN);
    return SHMIPC_OK;
}

enum shmipc_status shmipc_consumer_role_open(struct shmipc_consumer_role *consumer,
                                             const char *path, enum shmipc_start_option start,
                                             struct shmipc_error *error)
{
    memset(consumer, 0, sizeof *consumer);
    consumer->segment.fd = -1;
    consumer->asymmetric = shmipc_wait_register();
    enum shmipc_status status = shmipc_segment_open(&consumer->segment, path, error);
    if (status != SHMIPC_OK) {
        return status;
    }
    status = shmipc_gate_enter(&consumer->segment, error);
    if (status == SHMIPC_OK) {
        status = attach(consumer, start, error);
        shmipc_gate_leave(&consumer->segment);
    }
    if (shmipc_segment_is_damaged(&consumer->segment)) {
        status = shmipc_segment_fail_damaged(&consumer->segment, error);
    }
    if (status != SHMIPC_OK) {
        shmipc_segment_close(&consumer->segment);
    }
    return status;
}

/* ---- close --------------------------------------------------------------------------------- */

void shmipc_consumer_role_interrupt(struct shmipc_consumer_role *consumer)
{
    /* Relaxed: the fence in shmipc_wait_wake orders it before the look for sleepers. */
    shmipc_store_relaxed(&consumer->interrupted, 1u);
    SHMIPC_STEP(INTERRUPTED);
    shmipc_wait_wake(&consumer->ring.ring.shared->data.sleepers);
}

void shmipc_consumer_role_close(struct shmipc_consumer_role *consumer)
{
    struct shmipc_segment *segment = &consumer->segment;
    if (segment->fd >= 0 && segment->header != NULL) {
        struct shmipc_header *shared = segment->header;
        struct shmipc_error ignored;
        shmipc_ring_leave(&consumer->ring.ring, consumer->ring.slot_index);
        shmipc_wait_wake(&shared->space.sleepers);
        SHMIPC_STEP(CLOSE_WOKEN);
        if (shmipc_gate_enter(segment, &ignored) == SHMIPC_OK) {
            SHMIPC_STEP(CLOSE_GATED);
            shmipc_lock_drop(segment, SHMIPC_LOCK_SLOT0 + consumer->ring.slot_index);
            SHMIPC_STEP(CLOSE_UNLOCKED);
            (void)shmipc_segment_examine(segment); /* what was cut is not known to owe nothing */
            /* The stream has ended, or its producer is dead; who hands over leaves no pid. Relaxed,
             * as in is_owed: behind the gate, with the producer's lock found free. */
            if (!shmipc_segment_is_shared(segment) &&
                (shmipc_load_relaxed(&shared->identity.closed) != 0 ||
                 shmipc_load_relaxed(&shared->identity.producer_pid) != 0) &&
                !shmipc_segment_is_owed(segment)) {
                (void)shmipc_segment_unlink(segment);
            }
            shmipc_gate_leave(segment);
        }
    }
    shmipc_segment_close(segment);
}

/* ---- waking and waiting -------------------------------------------------------------------- */

void shmipc_consumer_role_wake_producer(struct shmipc_consumer_role *consumer, uint64_t old_pos)
{
    struct shmipc_space_line *space = &consumer->ring.ring.shared->space;
    /* Relaxed, both: our cursor was stored before a barrier (K2), the wanted position before the
     * sleeper's (S2). Whichever barrier came first, either we see that position, or the sleeper
     * sees our cursor before it sleeps. */
    if ((shmipc_load_relaxed(&space->sleepers) & 1u) == 0) {
        return;
    }
    const uint64_t wanted_pos = shmipc_load_relaxed(&space->wanted_pos);
    if (shmipc_pos_before(old_pos, wanted_pos) &&
        !shmipc_pos_before(consumer->ring.cursor_pos, wanted_pos)) {
        SHMIPC_STEP(WAKE_WANTED);
        consumer->wakes++;
        shmipc_wait_wake(&space->sleepers);
    }
}

static enum shmipc_status look_for_data(void *self)
{
    struct shmipc_consumer_role *consumer = self;
    return shmipc_ring_readable(&consumer->ring);
}

static enum shmipc_status peer_of_consumer(void *self, bool thorough)
{
    struct shmipc_consumer_role *consumer = self;
    const struct shmipc_header *shared = consumer->ring.ring.shared;
    const enum shmipc_status state = thorough ? shmipc_segment_examine(&consumer->segment)
                                              : shmipc_segment_state(&consumer->segment);
    enum shmipc_status verdict = SHMIPC_OK;
    if (state == SHMIPC_CORRUPT) {
        return state; /* and no look: what it finds may be zeros */
    }
    /* R6 <-> W6, then one more look: whatever was committed before the end is visible to it. */
    if (shmipc_load_acquire(&shared->identity.closed) != 0) {
        verdict = SHMIPC_CLOSED;
    } else if (thorough && !shmipc_lock_is_held(&consumer->segment, SHMIPC_LOCK_PRODUCER, 1)) {
        /* It may have closed between our two looks. Relaxed: the lock it let go of, by closing or
         * by dying, made all that it had stored visible. */
        verdict = shmipc_load_relaxed(&shared->identity.closed) != 0 ? SHMIPC_CLOSED : SHMIPC_DIED;
    }
    if (state == SHMIPC_REMOVED && verdict != SHMIPC_CLOSED) {
        verdict = state; /* who takes over from the dead does so in another file */
    }
    if (verdict != SHMIPC_OK && look_for_data(self) != SHMIPC_EMPTY) {
        return SHMIPC_OK;
    }
    return verdict;
}

enum shmipc_status shmipc_consumer_role_wait_data(struct shmipc_consumer_role *consumer,
                                                  struct shmipc_wait *wait, uint64_t deadline_ns)
{
    wait->deadline_ns = deadline_ns;
    wait->peer_look_ns = &consumer->peer_look_ns;
    wait->interrupted = &consumer->interrupted;
    wait->sleepers = &consumer->ring.ring.shared->data.sleepers;
    wait->look = look_for_data;
    wait->prepare = NULL;
    wait->peer = peer_of_consumer;
    wait->self = consumer;
    wait->sleeps = 0;
    const enum shmipc_status status = shmipc_wait_slice(wait, &consumer->spin);
    consumer->sleeps += wait->sleeps;
    return status;
}

/* Look at the producer's lock no more than once in a slice. What has ended is looked at every time:
 * else a caller that was just told so would next be told that there is only nothing to read. */
static enum shmipc_status look_at_peer(struct shmipc_consumer_role *consumer, uint64_t now_ns)
{
    const bool due = now_ns >= consumer->peer_look_ns;
    const enum shmipc_status status = peer_of_consumer(consumer, due);
    if (due && status == SHMIPC_OK) {
        consumer->peer_look_ns = now_ns + SHMIPC_SLICE_NS;
    }
    return status;
}

enum shmipc_status shmipc_consumer_role_poll_peer(struct shmipc_consumer_role *consumer)
{
    const enum shmipc_status status = look_at_peer(consumer, shmipc_now_ns());
    if (status != SHMIPC_OK) {
        return status;
    }
    return look_for_data(consumer);
}

static bool find_ready(struct shmipc_consumer_role *const *consumers, uint32_t count, bool *ready,
                       uint64_t now_ns)
{
    bool any = false;
    for (uint32_t i = 0; i < count; i++) {
        /* Whatever is not merely empty is worth a call: data, the end, or an error to report. */
        ready[i] = look_for_data(consumers[i]) != SHMIPC_EMPTY ||
                   look_at_peer(consumers[i], now_ns) != SHMIPC_OK ||
                   shmipc_load_relaxed(&consumers[i]->interrupted) != 0;
        any = any || ready[i];
    }
    return any;
}

enum shmipc_status shmipc_consumers_spin_any(struct shmipc_consumer_role *const *consumers,
                                             uint32_t count, uint64_t span_ns)
{
    const uint64_t start_ns = shmipc_now_ns();
    do {
        for (int poll = 0; poll < 64; poll++) {
            for (uint32_t i = 0; i < count; i++) {
                if (look_for_data(consumers[i]) != SHMIPC_EMPTY) {
                    return SHMIPC_OK;
                }
            }
        }
        shmipc_cpu_relax();
    } while (shmipc_now_ns() - start_ns < span_ns);
    return SHMIPC_EMPTY;
}

enum shmipc_status shmipc_consumers_wait_any(struct shmipc_consumer_role *const *consumers,
                                             uint32_t count, bool *ready, shmipc_atomic_u32 **words,
                                             uint32_t *marks, uint64_t deadline_ns)
{
    const uint64_t start_ns = shmipc_now_ns();
    uint64_t now_ns = start_ns;
    do {
        if (find_ready(consumers, count, ready, now_ns)) {
            return SHMIPC_OK;
        }
        now_ns = shmipc_now_ns();
        if (now_ns >= deadline_ns) {
            return SHMIPC_TIMEOUT;
        }
    } while (now_ns - start_ns < SHMIPC_SPIN_FLOOR_NS);
    for (uint32_t i = 0; i < count; i++) {
        words[i] = &consumers[i]->ring.ring.shared->data.sleepers;
        marks[i] = shmipc_wait_mark(words[i]);
    }
    SHMIPC_STEP(WAIT_ANY_MARKED);
    uint64_t span_ns = shmipc_wait_barrier();
    if (find_ready(consumers, count, ready, now_ns)) {
        return SHMIPC_OK;
    }
    if (deadline_ns - now_ns < span_ns) {
        span_ns = deadline_ns - now_ns;
    }
    for (uint32_t i = 0; i < count; i++) { /* not past the next look at any of their producers */
        if (consumers[i]->peer_look_ns - now_ns < span_ns) {
            span_ns = consumers[i]->peer_look_ns - now_ns;
        }
    }
    SHMIPC_STEP(WAIT_ANY_LOOKED);
    shmipc_wait_sleep_any(words, marks, count, span_ns);
    SHMIPC_STEP(WAIT_ANY_SLEPT);
    return find_ready(consumers, count, ready, shmipc_now_ns()) ? SHMIPC_OK : SHMIPC_AGAIN;
}
