/* consumer.c: see consumer.h. */
#define _GNU_SOURCE
#include "consumer.h"

#include "../segment/holder.h"
#include "../segment/locks.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- open ---------------------------------------------------------------------------------- */

/* Of the kept slots, the one with the oldest cursor: a producer that takes over keeps further slots
 * from its own start on. Relaxed: behind the gate, whose lock orders the slots. */
static bool find_kept(const struct shmipc_ring *ring, uint32_t *oldest)
{
    uint64_t oldest_pos = 0;
    bool found = false;
    for (uint32_t slot = 0; slot < ring->slots; slot++) {
        const uint64_t pos = shmipc_load_relaxed(&ring->shared->slots[slot].cursor_pos);
        if (shmipc_ring_is_kept(ring, slot) && (!found || shmipc_pos_before(pos, oldest_pos))) {
            *oldest = slot;
            oldest_pos = pos;
            found = true;
        }
    }
    return found;
}

/* Lock a kept slot if there is one, else any that is free. */
static enum shmipc_status claim_slot(struct shmipc_consumer_role *consumer, uint32_t *slot,
                                     bool *kept, struct shmipc_error *error)
{
    const struct shmipc_segment *segment = &consumer->segment;
    const uint32_t slots = segment->geometry.slots;
    *kept = find_kept(&consumer->ring.map, slot);
    if (*kept && shmipc_lock_try(segment, SHMIPC_LOCK_SLOT0 + *slot)) {
        return SHMIPC_OK;
    }
    for (int pass = 0; pass < 2; pass++) {
        *kept = pass == 0;
        for (*slot = 0; *slot < slots; (*slot)++) {
            if (shmipc_ring_is_kept(&consumer->ring.map, *slot) != *kept) {
                continue;
            }
            if (shmipc_lock_try(segment, SHMIPC_LOCK_SLOT0 + *slot)) {
                return SHMIPC_OK;
            }
            if (!shmipc_lock_is_taken(errno)) {
                return shmipc_fail(error, SHMIPC_OS, errno, "cannot lock %s", segment->path);
            }
        }
    }
    const uint32_t pid = shmipc_load_relaxed(&segment->header->slots[0].pid);
    return shmipc_fail(error, SHMIPC_BUSY, EEXIST,
                       "%s has its %u consumer%s already (%sprocess %u%s): close one, or create "
                       "the ring with a larger max_consumers=",
                       segment->path, slots, SHMIPC_S(slots), slots == 1 ? "" : "one of them ", pid,
                       shmipc_holder_note(segment, pid));
}

/* Behind the gate of an open segment. NOT_FOUND: it is going away. */
static enum shmipc_status attach(struct shmipc_consumer_role *consumer, enum shmipc_start start,
                                 struct shmipc_error *error)
{
    struct shmipc_segment *segment = &consumer->segment;
    struct shmipc_ring *ring = &consumer->ring.map;
    enum shmipc_status status;
    enum shmipc_start where =
        start == SHMIPC_START_EARLIEST ? SHMIPC_START_EARLIEST : SHMIPC_START_LATEST;
    uint32_t slot = 0;
    bool kept = false;

    if (!shmipc_segment_is_named(segment)) {
        return shmipc_fail(error, SHMIPC_NOT_FOUND, ENOENT, "there is no ring %s", segment->path);
    }
    status = shmipc_segment_map(segment, false, error);
    if (status != SHMIPC_OK) {
        return status;
    }
    shmipc_ring_attach(ring, segment);
    if (ring->durable && start == SHMIPC_START_LATEST) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "%s is a durable queue (max_consumers=1, overflow=\"block\"): its "
                           "consumer resumes at the first unreleased message, so start=\"latest\" "
                           "would lose some. Leave start out, or create the ring with "
                           "max_consumers=2",
                           segment->path);
    }
    /* R6 <-> W6: a ring seen closed is seen with its last message, and is not turned away from. */
    if (shmipc_load_acquire(&ring->shared->identity.closed) != 0) {
        const bool retained = shmipc_load_relaxed(&ring->shared->commit.head_pos) !=
                              shmipc_load_relaxed(&ring->shared->retention.tail_pos);
        const bool owed = start == SHMIPC_START_RESUME && shmipc_segment_is_owed(segment);
        if (ring->durable ? !shmipc_segment_is_owed(segment)
                          : !owed && !(retained && start == SHMIPC_START_EARLIEST)) {
            return shmipc_fail(error, SHMIPC_NOT_FOUND, ENOENT,
                               "the producer of %s has closed it and nothing is left in it",
                               segment->path);
        }
    }
    status = claim_slot(consumer, &slot, &kept, error);
    if (status != SHMIPC_OK) {
        return status;
    }
    SHMIPC_STEP(ATTACH_SLOT);
    if (kept && start == SHMIPC_START_RESUME) {
        where = SHMIPC_START_KEPT; /* the slot stays kept until our pid is stored */
    } else if (shmipc_load_relaxed(&ring->shared->slots[slot].pid) == SHMIPC_PID_KEPT) {
        /* First: if we die after moving the cursor, the slot is a dead consumer's and not one that
         * is kept from there on. Relaxed, as below: we hold the slot's lock. */
        shmipc_store_relaxed(&ring->shared->slots[slot].pid, (uint32_t)getpid());
        SHMIPC_STEP(ATTACH_USED);
    }
    status = shmipc_ring_join(&consumer->ring, slot, where);
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

enum shmipc_status shmipc_consumer_role_find(struct shmipc_consumer_role *consumer,
                                             const char *path, struct shmipc_error *error)
{
    memset(consumer, 0, sizeof *consumer);
    consumer->segment.fd = -1;
    consumer->asymmetric = shmipc_wait_register();
    return shmipc_segment_open(&consumer->segment, path, error);
}

enum shmipc_status shmipc_consumer_role_join(struct shmipc_consumer_role *consumer,
                                             enum shmipc_start start, struct shmipc_error *error)
{
    enum shmipc_status status = shmipc_gate_enter(&consumer->segment, error);
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

enum shmipc_status shmipc_consumer_role_open(struct shmipc_consumer_role *consumer,
                                             const char *path, enum shmipc_start start,
                                             struct shmipc_error *error)
{
    const enum shmipc_status status = shmipc_consumer_role_find(consumer, path, error);
    return status == SHMIPC_OK ? shmipc_consumer_role_join(consumer, start, error) : status;
}

/* ---- close --------------------------------------------------------------------------------- */

void shmipc_consumer_role_interrupt(struct shmipc_consumer_role *consumer)
{
    /* Relaxed: the fence in shmipc_wait_wake orders it before the look for sleepers. */
    shmipc_store_relaxed(&consumer->interrupted, 1u);
    SHMIPC_STEP(INTERRUPTED);
    shmipc_wait_wake(&consumer->ring.map.shared->data.sleepers);
}

void shmipc_consumer_role_close(struct shmipc_consumer_role *consumer)
{
    struct shmipc_segment *segment = &consumer->segment;
    if (segment->fd >= 0 && segment->header != NULL) {
        struct shmipc_header *shared = segment->header;
        struct shmipc_error ignored;
        shmipc_ring_leave(&consumer->ring.map, consumer->ring.slot_index);
        shmipc_wait_wake(&shared->space.sleepers);
        SHMIPC_STEP(CLOSE_WOKEN);
        if (shmipc_gate_enter(segment, &ignored) == SHMIPC_OK) {
            SHMIPC_STEP(CLOSE_GATED);
            shmipc_lock_drop(segment, SHMIPC_LOCK_SLOT0 + consumer->ring.slot_index);
            SHMIPC_STEP(CLOSE_UNLOCKED);
            (void)shmipc_segment_examine(segment); /* a truncated one may owe messages */
            /* The stream has ended, or its producer is dead; one that hands over leaves no pid.
             * Relaxed, as in is_owed: behind the gate, with the producer's lock found free. */
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
    struct shmipc_space_line *space = &consumer->ring.map.shared->space;
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

/* OK: there is a producer, or one may still come. */
static enum shmipc_status verdict_of_lock(struct shmipc_consumer_role *consumer)
{
    const struct shmipc_identity_line *identity = &consumer->ring.map.shared->identity;
    /* Before the look at the lock: if that is free, its last holder's number is this or a later
     * one. The other way round, a successor could come in between, and its death would be taken for
     * the one that was told. Relaxed: an older number puts the verdict off to the next look. */
    const uint64_t epoch = shmipc_load_relaxed(&identity->epoch);
    if (shmipc_lock_is_held(&consumer->segment, SHMIPC_LOCK_PRODUCER, 1)) {
        return SHMIPC_OK;
    }
    /* It may have closed between our two looks. Relaxed: its lock, dropped when it closed or died,
     * made all that it had stored visible. */
    if (shmipc_load_relaxed(&identity->closed) != 0) {
        return SHMIPC_CLOSED;
    }
    consumer->dead_epoch = epoch;
    return consumer->told_of_death && consumer->told_epoch == epoch ? SHMIPC_OK : SHMIPC_DIED;
}

/* `status` goes to the user. A death is reported once: the next call waits for a successor. */
static enum shmipc_status tell(struct shmipc_consumer_role *consumer, enum shmipc_status status)
{
    if (status == SHMIPC_DIED) {
        consumer->told_of_death = true;
        consumer->told_epoch = consumer->dead_epoch;
    }
    return status;
}

static enum shmipc_status peer_of_consumer(void *self, bool thorough)
{
    struct shmipc_consumer_role *consumer = self;
    const struct shmipc_header *shared = consumer->ring.map.shared;
    const enum shmipc_status state = thorough ? shmipc_segment_examine(&consumer->segment)
                                              : shmipc_segment_state(&consumer->segment);
    enum shmipc_status verdict = SHMIPC_OK;
    if (state == SHMIPC_CORRUPT) {
        return state; /* without a look at the ring, which may be zeros now */
    }
    /* R6 <-> W6, then one more look: whatever was committed before the end is visible to it. */
    if (shmipc_load_acquire(&shared->identity.closed) != 0) {
        verdict = SHMIPC_CLOSED;
    } else if (thorough) {
        verdict = verdict_of_lock(consumer);
    }
    if (state == SHMIPC_REMOVED && verdict != SHMIPC_CLOSED) {
        verdict = state; /* a successor would take over in another file */
    }
    if (verdict != SHMIPC_OK && look_for_data(self) != SHMIPC_EMPTY) {
        return SHMIPC_OK;
    }
    return verdict;
}

static void wait_begin(struct shmipc_consumer_role *consumer, struct shmipc_wait *wait,
                       uint64_t deadline_ns)
{
    wait->deadline_ns = deadline_ns;
    wait->peer_look_ns = &consumer->peer_look_ns;
    wait->interrupted = &consumer->interrupted;
    wait->sleepers = &consumer->ring.map.shared->data.sleepers;
    wait->prepare = NULL;
    wait->self = consumer;
    wait->sleeps = 0;
}

enum shmipc_status shmipc_consumer_role_wait_data(struct shmipc_consumer_role *consumer,
                                                  struct shmipc_wait *wait, uint64_t deadline_ns)
{
    wait_begin(consumer, wait, deadline_ns);
    wait->look = look_for_data;
    wait->peer = peer_of_consumer;
    const enum shmipc_status status = shmipc_wait_slice(wait, &consumer->spin);
    consumer->sleeps += wait->sleeps;
    return tell(consumer, status);
}

bool shmipc_consumer_role_blocks_producer(struct shmipc_consumer_role *consumer, uint64_t *number)
{
    const struct shmipc_ring_consumer *ring = &consumer->ring;
    const struct shmipc_space_line *space = &ring->map.shared->space;
    const struct shmipc_lease *oldest = ring->oldest_lease;
    /* Relaxed, both: nothing is done on the strength of it. A cursor that is not behind what is
     * wanted is not what the producer waits for. */
    if (ring->map.overwrite || oldest == NULL || look_for_data(consumer) != SHMIPC_EMPTY ||
        (shmipc_load_relaxed(&space->sleepers) & 1u) == 0 ||
        !shmipc_pos_before(ring->cursor_pos, shmipc_load_relaxed(&space->wanted_pos))) {
        return false;
    }
    *number =
        ring->map.item_stride == 0 ? oldest->seq : shmipc_ring_seq_of(&ring->map, oldest->pos);
    return true;
}

static enum shmipc_status look_for_producer(void *self)
{
    const struct shmipc_consumer_role *consumer = self;
    /* Relaxed: a producer that takes over locks first, and then clears `closed`. */
    return shmipc_lock_is_held(&consumer->segment, SHMIPC_LOCK_PRODUCER, 1) &&
                   shmipc_load_relaxed(&consumer->ring.map.shared->identity.closed) == 0
               ? SHMIPC_OK
               : SHMIPC_EMPTY;
}

static enum shmipc_status check_segment_only(void *self, bool thorough)
{
    struct shmipc_consumer_role *consumer = self;
    return thorough && shmipc_segment_examine(&consumer->segment) ? SHMIPC_CORRUPT : SHMIPC_OK;
}

enum shmipc_status shmipc_consumer_role_wait_producer(struct shmipc_consumer_role *consumer,
                                                      struct shmipc_wait *wait,
                                                      uint64_t deadline_ns)
{
    struct shmipc_spin no_spin;
    shmipc_spin_init(&no_spin, 0, false);
    /* This wait looks for other things than one for data, which is due to look at once after it. */
    uint64_t peer_look_ns = 0;
    wait_begin(consumer, wait, deadline_ns);
    wait->peer_look_ns = &peer_look_ns;
    wait->look = look_for_producer;
    wait->peer = check_segment_only;
    return shmipc_wait_slice(wait, &no_spin);
}

/* Look at the producer's lock only when due, but at the end of the stream every time: otherwise a
 * caller that was told CLOSED would next be told EMPTY. */
static enum shmipc_status look_at_peer(struct shmipc_consumer_role *consumer, uint64_t next_look_ns)
{
    const enum shmipc_status status = peer_of_consumer(consumer, next_look_ns != 0);
    if (next_look_ns != 0 && status == SHMIPC_OK) {
        consumer->peer_look_ns = next_look_ns;
    }
    return status;
}

enum shmipc_status shmipc_consumer_role_poll_peer(struct shmipc_consumer_role *consumer)
{
    const uint64_t now_ns = shmipc_now_ns();
    const bool due = now_ns >= consumer->peer_look_ns;
    const enum shmipc_status status = look_at_peer(consumer, due ? now_ns + SHMIPC_SLICE_NS : 0);
    return status != SHMIPC_OK ? tell(consumer, status) : look_for_data(consumer);
}

bool shmipc_consumer_role_has_news(struct shmipc_consumer_role *consumer, uint64_t next_look_ns)
{
    /* Any status other than EMPTY is news. Relaxed: see role.h. */
    return look_for_data(consumer) != SHMIPC_EMPTY ||
           look_at_peer(consumer, next_look_ns) != SHMIPC_OK ||
           shmipc_load_relaxed(&consumer->interrupted) != 0;
}
