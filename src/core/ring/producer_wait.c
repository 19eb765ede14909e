/* producer_wait.c: waiting for room and for consumers, and reclaiming the slots of consumers that
 * died. See producer.h. */
#include "producer.h"

#include "../segment/locks.h"

/* Durable: has the one consumer died, and nobody was told yet? DIED, OK. */
static enum shmipc_status check_durable_consumer(struct shmipc_producer_role *producer)
{
    /* Before the look at the lock, as verdict_of_lock in consumer.c has it: a successor's pid is
     * not taken for that of the one that was found dead. */
    const uint32_t pid = shmipc_load_relaxed(&producer->ring.map.shared->slots[0].pid);
    if (pid == 0 || shmipc_lock_is_held(&producer->segment, SHMIPC_LOCK_SLOT0, 1)) {
        producer->told_pid = 0; /* the next to die is another, perhaps with the same pid */
        return SHMIPC_OK;
    }
    producer->dead_pid = pid;
    return pid == producer->told_pid ? SHMIPC_OK : SHMIPC_DIED;
}

/* `status` goes to the user. A death is reported once: the next call waits for a successor. */
static enum shmipc_status tell(struct shmipc_producer_role *producer, enum shmipc_status status)
{
    if (status == SHMIPC_DIED) {
        producer->told_pid = producer->dead_pid;
    }
    return status;
}

/* Reclaim the slots of consumers that died. The slot's lock, being free, proves the death, and
 * keeps a new holder out while we clear the slot. DIED: the durable consumer died, and the user has
 * not been told. */
static enum shmipc_status reclaim_dead_slots(struct shmipc_producer_role *producer)
{
    struct shmipc_segment *segment = &producer->segment;
    const struct shmipc_ring *ring = &producer->ring.map;
    const uint32_t slots = ring->slots;
    if (ring->durable) {
        return check_durable_consumer(producer);
    }
    for (uint32_t word = 0; word * 64 < slots; word++) {
        /* Relaxed: where to look. The slot's lock decides. */
        uint64_t bits = shmipc_load_relaxed(&ring->shared->members.bits[word]);
        for (; bits != 0; bits &= bits - 1) {
            const uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            const uint32_t byte = SHMIPC_LOCK_SLOT0 + slot;
            if (slot >= slots || shmipc_ring_is_kept(ring, slot) ||
                shmipc_lock_is_held(segment, byte, 1)) {
                continue;
            }
            /* Behind the gate: otherwise a consumer that attaches could find the byte locked by us
             * and report BUSY. */
            if (!shmipc_lock_try(segment, SHMIPC_LOCK_GATE)) {
                return SHMIPC_OK; /* somebody attaches or leaves: next time */
            }
            SHMIPC_STEP(RECLAIM_GATED);
            if (shmipc_lock_try(segment, byte)) {
                SHMIPC_STEP(RECLAIM_LOCKED);
                shmipc_ring_leave(ring, slot);
                SHMIPC_STEP(RECLAIM_LEFT);
                producer->reclaimed++;
                shmipc_lock_drop(segment, byte);
                SHMIPC_STEP(RECLAIM_UNLOCKED);
            }
            shmipc_lock_drop(segment, SHMIPC_LOCK_GATE);
        }
    }
    return SHMIPC_OK;
}

static enum shmipc_status look_for_room(void *self)
{
    struct shmipc_producer_role *producer = self;
    if (shmipc_ring_room(&producer->ring) >= producer->wanted_len) {
        return SHMIPC_OK;
    }
    return shmipc_ring_refill(&producer->ring, producer->wanted_len);
}

static void tell_wanted(void *self)
{
    struct shmipc_producer_role *producer = self;
    /* Relaxed: the barrier (S2) follows, see shmipc_consumer_role_wake_producer. */
    shmipc_store_relaxed(&producer->ring.map.shared->space.wanted_pos,
                         producer->ring.head_pos + producer->wanted_len -
                             producer->ring.map.area_len);
    SHMIPC_STEP(WAIT_WANTED);
}

static enum shmipc_status peer_of_producer(void *self, bool thorough)
{
    struct shmipc_producer_role *producer = self;
    const enum shmipc_status state = thorough ? shmipc_segment_examine(&producer->segment)
                                              : shmipc_segment_state(&producer->segment);
    if (state != SHMIPC_OK) {
        return state;
    }
    const enum shmipc_status status = thorough ? reclaim_dead_slots(self) : SHMIPC_OK;
    return status == SHMIPC_DIED && look_for_room(self) == SHMIPC_OK ? SHMIPC_OK : status;
}

static void wait_begin(struct shmipc_producer_role *producer, struct shmipc_wait *wait,
                       uint64_t deadline_ns)
{
    wait->deadline_ns = deadline_ns;
    wait->peer_look_ns = &producer->peer_look_ns;
    wait->interrupted = &producer->interrupted;
    wait->sleepers = &producer->ring.map.shared->space.sleepers;
    wait->self = producer;
    wait->sleeps = 0;
}

enum shmipc_status shmipc_producer_role_wait_room(struct shmipc_producer_role *producer,
                                                  struct shmipc_wait *wait, uint64_t len,
                                                  uint64_t deadline_ns)
{
    producer->wanted_len = len;
    wait_begin(producer, wait, deadline_ns);
    wait->look = look_for_room;
    wait->prepare = tell_wanted;
    wait->peer = peer_of_producer;
    const enum shmipc_status status = shmipc_wait_slice(wait, &producer->spin);
    producer->sleeps += wait->sleeps;
    return tell(producer, status);
}

enum shmipc_status shmipc_producer_role_poll_peers(struct shmipc_producer_role *producer)
{
    const uint64_t now_ns = shmipc_now_ns();
    if (now_ns < producer->peer_look_ns) {
        return SHMIPC_FULL;
    }
    const enum shmipc_status state = shmipc_segment_examine(&producer->segment);
    if (state != SHMIPC_OK) {
        return state;
    }
    const uint64_t reclaimed = producer->reclaimed;
    const enum shmipc_status status = reclaim_dead_slots(producer);
    if (status != SHMIPC_OK) {
        return tell(producer, status); /* and the next look is due at once */
    }
    producer->peer_look_ns = now_ns + SHMIPC_SLICE_NS;
    return producer->reclaimed != reclaimed ? SHMIPC_OK : SHMIPC_FULL;
}

bool shmipc_producer_role_is_attached(const struct shmipc_producer_role *producer, uint32_t slot)
{
    const struct shmipc_header *shared = producer->ring.map.shared;
    /* Relaxed, and with no partner: it only saves a system call; the kernel's lock is what decides.
     */
    const uint32_t pid = shmipc_load_relaxed(&shared->slots[slot].pid);
    return pid != 0 && pid != SHMIPC_PID_KEPT &&
           shmipc_lock_is_held(&producer->segment, SHMIPC_LOCK_SLOT0 + slot, 1);
}

uint32_t shmipc_producer_role_count_attached(const struct shmipc_producer_role *producer)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < producer->ring.map.slots; slot++) {
        count += shmipc_producer_role_is_attached(producer, slot);
    }
    return count;
}

bool shmipc_producer_role_slowest(const struct shmipc_producer_role *producer, uint32_t *pid,
                                  uint64_t *lag)
{
    const struct shmipc_header *shared = producer->ring.map.shared;
    uint64_t pos;
    uint32_t slot;
    if (!shmipc_ring_slowest(&producer->ring.map, &pos, &slot)) {
        return false;
    }
    *lag = shmipc_ring_distance_estimate(&producer->ring, pos);
    *pid = shmipc_producer_role_is_attached(producer, slot)
               ? shmipc_load_relaxed(&shared->slots[slot].pid)
               : 0;
    return *lag != 0;
}

static enum shmipc_status look_for_consumers(void *self)
{
    const struct shmipc_producer_role *producer = self;
    return shmipc_producer_role_count_attached(producer) >= producer->wanted_len ? SHMIPC_OK
                                                                                 : SHMIPC_EMPTY;
}

static enum shmipc_status check_segment_only(void *self, bool thorough)
{
    struct shmipc_producer_role *producer = self;
    return thorough ? shmipc_segment_examine(&producer->segment)
                    : shmipc_segment_state(&producer->segment);
}

enum shmipc_status shmipc_producer_role_wait_attached(struct shmipc_producer_role *producer,
                                                      struct shmipc_wait *wait, uint32_t count,
                                                      uint64_t deadline_ns)
{
    struct shmipc_spin no_spin;
    shmipc_spin_init(&no_spin, 0, false);
    producer->wanted_len = count;
    wait_begin(producer, wait, deadline_ns);
    wait->look = look_for_consumers;
    wait->prepare = NULL;
    wait->peer = check_segment_only;
    return shmipc_wait_slice(wait, &no_spin);
}
