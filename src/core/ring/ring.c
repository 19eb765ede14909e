/* ring.c: setting up, membership and the producer's slow half of ring.h; the consumer's is in
 * ring_consumer.c. Labels (W1, R2 ...) are the ones tabled in ring.h. */
#include "ring.h"

#include <stddef.h>

/* A model, in which a stale head may be read at every attempt, sets less. */
#ifndef SHMIPC_JOIN_LIMIT
#define SHMIPC_JOIN_LIMIT 1000
#endif
enum { JOIN_LIMIT = SHMIPC_JOIN_LIMIT };

bool shmipc_ring_read_note(const struct shmipc_header *shared, uint64_t head_pos, uint64_t *seq)
{
    for (int i = 0; i < 2; i++) {
        const struct shmipc_note *note = &shared->commit.notes[i];
        const uint64_t noted_seq = shmipc_load_acquire(&note->seq); /* R5 <-> W5 */
        if (shmipc_load_relaxed(&note->pos) == head_pos) {
            *seq = noted_seq;
            return true;
        }
    }
    return false;
}

/* Message headers are whole words: a position between them is nobody's that we know. */
static bool is_aligned(const struct shmipc_ring *ring, uint64_t pos)
{
    return ring->item_stride != 0 || pos % SHMIPC_MESSAGE_ALIGN == 0;
}

void shmipc_ring_format(struct shmipc_header *shared)
{
    const struct shmipc_geometry *geometry = &shared->geometry;
    const uint64_t origin = geometry->origin_pos;
    /* Relaxed throughout: the segment has no name yet; linkat(2) publishes it. */
    shmipc_store_relaxed(&shared->commit.head_pos, origin);
    shmipc_store_relaxed(&shared->retention.tail_pos, origin);
    for (int i = 0; i < 2; i++) {
        shmipc_store_relaxed(&shared->commit.notes[i].pos, origin);
    }
    for (uint32_t i = 0; i < geometry->slots; i++) {
        shmipc_store_relaxed(&shared->slots[i].cursor_pos, origin);
    }
    if (geometry->slots == 1 && geometry->overflow == SHMIPC_OVERFLOW_BLOCK) {
        /* The durable cursor is a member from the start: message 0 waits for its reader. */
        shmipc_store_relaxed(&shared->members.bits[0], 1u);
    }
}

enum shmipc_status shmipc_ring_take_over(struct shmipc_ring_producer *producer)
{
    const struct shmipc_ring *ring = &producer->ring;
    const struct shmipc_header *shared = ring->shared;
    /* Relaxed: the predecessor's lock, which we took over, made all that it stored visible. */
    producer->head_pos = shmipc_load_relaxed(&shared->commit.head_pos);
    producer->tail_pos = shmipc_load_relaxed(&shared->retention.tail_pos);
    producer->limit_pos = producer->head_pos; /* no room: the first reserve asks */
    producer->next_seq = 0;
    producer->note_index = 0;
    if (producer->head_pos - producer->tail_pos > ring->area_len) {
        return SHMIPC_CORRUPT;
    }
    if (ring->item_stride == 0) {
        if (!is_aligned(ring, producer->head_pos) || !is_aligned(ring, producer->tail_pos) ||
            !shmipc_ring_read_note(shared, producer->head_pos, &producer->next_seq)) {
            return SHMIPC_CORRUPT;
        }
        producer->note_index =
            shmipc_load_relaxed(&shared->commit.notes[0].pos) == producer->head_pos ? 1 : 0;
    } else if ((producer->head_pos - ring->origin_pos) % ring->item_stride != 0) {
        return SHMIPC_CORRUPT;
    }
    return SHMIPC_OK;
}

/* ---- membership ---------------------------------------------------------------------------- */

static uint64_t member_bit(uint32_t slot_index)
{
    return UINT64_C(1) << (slot_index % 64);
}

void shmipc_ring_keep(const struct shmipc_ring *ring, uint32_t slot_index, uint64_t pos)
{
    struct shmipc_slot *slot = &ring->shared->slots[slot_index];
    /* Relaxed, all three: joiners come after the ring's name or the gate, and the one who counts
     * the bits is this producer. A death between the two last leaves a free slot that names nobody;
     * a place whose bit was set before (its consumer died) is kept, or still that dead one's. */
    shmipc_store_relaxed(&slot->cursor_pos, pos);
    SHMIPC_STEP(KEEP_CURSOR);
    shmipc_store_relaxed(&slot->pid, SHMIPC_PID_KEPT);
    SHMIPC_STEP(KEEP_PID);
    (void)shmipc_fetch_or_relaxed(&ring->shared->members.bits[slot_index / 64],
                                  member_bit(slot_index));
    SHMIPC_STEP(KEEP_BIT);
}

bool shmipc_ring_is_kept(const struct shmipc_ring *ring, uint32_t slot_index)
{
    const struct shmipc_header *shared = ring->shared;
    /* Relaxed: the locks behind the gate order what is stored in a slot; elsewhere an estimate. */
    return shmipc_load_relaxed(&shared->slots[slot_index].pid) == SHMIPC_PID_KEPT &&
           (shmipc_load_relaxed(&shared->members.bits[slot_index / 64]) & member_bit(slot_index)) !=
               0;
}

uint32_t shmipc_ring_count_kept(const struct shmipc_ring *ring)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < ring->slots; slot++) {
        count += shmipc_ring_is_kept(ring, slot);
    }
    return count;
}

/* The number of the message at `pos`, from its header or, if it is yet to come, from the note.
 * False: the producer moved on meanwhile. */
static bool find_seq_of(const struct shmipc_ring *ring, uint64_t pos, uint64_t *seq)
{
    struct shmipc_message message;
    const uint64_t head = shmipc_load_acquire(&ring->shared->commit.head_pos);
    if (head == pos) {
        return shmipc_ring_read_note(ring->shared, head, seq);
    }
    if (head - pos > ring->area_len ||
        shmipc_message_decode(ring, pos, head - pos, &message) != SHMIPC_OK ||
        !shmipc_ring_intact(ring, pos)) {
        return false;
    }
    *seq = message.seq;
    return true;
}

enum shmipc_status shmipc_ring_join(struct shmipc_ring_consumer *consumer, uint32_t slot_index,
                                    enum shmipc_start start)
{
    struct shmipc_ring *ring = &consumer->ring;
    struct shmipc_header *shared = ring->shared;
    struct shmipc_slot *slot = &shared->slots[slot_index];
    uint64_t pos = 0;
    consumer->slot = slot;
    consumer->slot_index = slot_index;
    if (ring->durable || start == SHMIPC_START_KEPT) {
        /* Relaxed, both: only a slot's lock holder writes its cursor, and the lock (of the slot, or
         * the gate of who keeps it) hands on every head that it had seen. */
        pos = shmipc_load_relaxed(&slot->cursor_pos);
        if (shmipc_load_relaxed(&shared->commit.head_pos) - pos > ring->area_len) {
            return SHMIPC_CORRUPT;
        }
    } else {
        bool joined = false;
        for (int attempt = 0; attempt < JOIN_LIMIT && !joined; attempt++) {
            /* W4 <-> R4: cursor and bit, then the fence, then tail. Relaxed, all of them: the fence
             * orders them, and acquires for the look at head that follows a tail. */
            pos = start == SHMIPC_START_LATEST ? shmipc_load_relaxed(&shared->commit.head_pos)
                                               : shmipc_load_relaxed(&shared->retention.tail_pos);
            shmipc_store_relaxed(&slot->cursor_pos, pos);
            SHMIPC_STEP(JOIN_CURSOR);
            (void)shmipc_fetch_or_relaxed(&shared->members.bits[slot_index / 64],
                                          member_bit(slot_index));
            SHMIPC_STEP(JOIN_BIT);
            shmipc_fence_full();
            joined = !shmipc_pos_before(pos, shmipc_load_relaxed(&shared->retention.tail_pos));
            SHMIPC_STEP(JOIN_LOOKED);
        }
        if (!joined && !ring->overwrite) {
            shmipc_ring_leave(ring, slot_index);
            return SHMIPC_CORRUPT;
        }
    }
    consumer->read_pos = pos;
    consumer->cursor_pos = pos;
    consumer->head_pos_cached = pos;
    consumer->next_seq = UINT64_MAX;
    if (!is_aligned(ring, pos)) {
        shmipc_ring_leave(ring, slot_index);
        return SHMIPC_CORRUPT;
    }
    for (int attempt = 0; attempt < JOIN_LIMIT && ring->item_stride == 0; attempt++) {
        if (find_seq_of(ring, pos, &consumer->next_seq)) {
            break;
        }
    }
    return SHMIPC_OK;
}

void shmipc_ring_leave(const struct shmipc_ring *ring, uint32_t slot_index)
{
    struct shmipc_header *shared = ring->shared;
    shmipc_store_relaxed(&shared->slots[slot_index].pid, 0u);
    SHMIPC_STEP(LEAVE_PID);
    if (!ring->durable) {
        /* Release <-> the fence of R4: the last reads of this consumer come before the producer may
         * see the bit gone and reuse the memory (the part of W2 in a departure). */
        (void)shmipc_fetch_and_release(&shared->members.bits[slot_index / 64],
                                       ~member_bit(slot_index));
        SHMIPC_STEP(LEAVE_BIT);
    }
}

bool shmipc_ring_slowest(const struct shmipc_ring *ring, uint64_t *slowest_pos,
                         uint32_t *slowest_slot)
{
    const struct shmipc_header *shared = ring->shared;
    bool found = false;
    for (uint32_t word = 0; word * 64 < ring->slots; word++) {
        /* R4 <-> W4. Relaxed: the fence between a producer's two looks orders the second one after
         * the joiners that it must not miss, and acquires from who left. */
        uint64_t bits = shmipc_load_before_fence(&shared->members.bits[word]);
        while (bits != 0) {
            const uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            bits &= bits - 1;
            if (slot >= ring->slots) {
                break; /* a bit beyond our slots: not ours to follow */
            }
            const uint64_t pos = shmipc_load_acquire(&shared->slots[slot].cursor_pos); /* R2 */
            if (!found || shmipc_pos_before(pos, *slowest_pos)) {
                *slowest_pos = pos;
                *slowest_slot = slot;
                found = true;
            }
        }
    }
    return found;
}

/* ---- the producer's side ------------------------------------------------------------------- */

/* The first boundary at or after `want`, walking from tail over what is about to be retired. */
static enum shmipc_status retire_to(const struct shmipc_ring_producer *producer, uint64_t want,
                                    uint64_t *boundary)
{
    const struct shmipc_ring *ring = &producer->ring;
    uint64_t pos = producer->tail_pos;
    if (!shmipc_pos_before(pos, want)) {
        *boundary = pos;
        return SHMIPC_OK;
    }
    if (ring->item_stride != 0) {
        const uint64_t items = (want - pos + ring->item_stride - 1) / ring->item_stride;
        *boundary = pos + items * ring->item_stride;
        /* A cursor within an item, which tail once followed, would lead past the head. */
        return shmipc_pos_before(producer->head_pos, *boundary) ? SHMIPC_CORRUPT : SHMIPC_OK;
    }
    while (shmipc_pos_before(pos, want)) {
        /* Our own headers, but read back from memory that others can write: checked. */
        struct shmipc_message message;
        if (shmipc_message_decode(ring, pos, producer->head_pos - pos, &message) != SHMIPC_OK) {
            return SHMIPC_CORRUPT;
        }
        pos += message.span;
    }
    *boundary = pos;
    return SHMIPC_OK;
}

/* A cursor ahead of head, or within a message, is a lie. One more than a lap behind is a joiner
 * between its store of a stale tail and its second look (W4): it will move up, so wait for it; a
 * durable cursor cannot be there at all. */
static enum shmipc_status judge_cursor(const struct shmipc_ring_producer *producer,
                                       uint64_t cursor_pos)
{
    if (shmipc_pos_before(producer->head_pos, cursor_pos) ||
        !is_aligned(&producer->ring, cursor_pos)) {
        return SHMIPC_CORRUPT;
    }
    if (producer->head_pos - cursor_pos > producer->ring.area_len) {
        return producer->ring.durable ? SHMIPC_CORRUPT : SHMIPC_FULL;
    }
    return SHMIPC_OK;
}

enum shmipc_status shmipc_ring_refill(struct shmipc_ring_producer *producer, uint64_t len)
{
    const struct shmipc_ring *ring = &producer->ring;
    const uint64_t want = producer->head_pos + len - ring->area_len;
    uint64_t slowest = 0;
    uint32_t slot = 0;
    const uint64_t look_start = ring->overwrite ? 0 : shmipc_cpu_ticks();
    bool bound = !ring->overwrite && shmipc_ring_slowest(ring, &slowest, &slot);
    uint64_t tail;

    if (bound && producer->head_pos - slowest <= ring->area_len &&
        slowest + ring->area_len - producer->head_pos < ring->area_len / 8) {
        /* The ring is nearly full, and asking at every message would drag the consumer's line to
         * and fro for each. It has seven eighths of a ring to go on with: let it, for as long as
         * asking took. */
        shmipc_cpu_linger(shmipc_cpu_ticks() - look_start);
        bound = shmipc_ring_slowest(ring, &slowest, &slot);
    }
    if (bound) {
        enum shmipc_status status = judge_cursor(producer, slowest);
        if (status != SHMIPC_OK) {
            return status;
        }
        if (shmipc_pos_before(slowest, want)) {
            return SHMIPC_FULL;
        }
    }
    if (bound) {
        tail = shmipc_pos_before(slowest, producer->tail_pos) ? producer->tail_pos : slowest;
    } else {
        enum shmipc_status status = retire_to(producer, want, &tail);
        if (status != SHMIPC_OK) {
            return status;
        }
    }
    SHMIPC_STEP(REFILL_SCANNED);
    if (tail != producer->tail_pos) {
        producer->tail_pos = tail;
        /* W3, R4. Release, so that no joiner sees a tail beyond the head it came after. */
        shmipc_store_release(&ring->shared->retention.tail_pos, tail);
        SHMIPC_STEP(REFILL_TAIL);
    }
    producer->limit_pos = tail + ring->area_len;
    if (ring->overwrite) {
        /* W3 <-> R3: tail before any byte that we write where it gave way. */
        shmipc_fence_release();
        SHMIPC_STEP(REFILL_RETIRED);
        return SHMIPC_OK;
    }
    if (!ring->durable) {
        /* R4 <-> W4: tail, a full fence, then look again for who joined below it. */
        shmipc_fence_full();
        SHMIPC_STEP(REFILL_FENCED);
        bound = shmipc_ring_slowest(ring, &slowest, &slot);
    }
    if (bound && shmipc_pos_before(slowest, tail)) {
        enum shmipc_status status = judge_cursor(producer, slowest);
        if (status != SHMIPC_OK) {
            producer->limit_pos = producer->head_pos;
            return status;
        }
        producer->limit_pos = slowest + ring->area_len;
    }
    return shmipc_pos_before(producer->limit_pos, producer->head_pos + len) ? SHMIPC_FULL
                                                                            : SHMIPC_OK;
}

uint64_t shmipc_ring_distance_estimate(const struct shmipc_ring_producer *producer, uint64_t pos)
{
    const struct shmipc_ring *ring = &producer->ring;
    struct shmipc_message message;
    if (shmipc_pos_before(pos, producer->tail_pos) && ring->overwrite) {
        pos = producer->tail_pos;
    }
    if (pos == producer->head_pos || producer->head_pos - pos > ring->area_len ||
        !is_aligned(ring, pos)) {
        return 0;
    }
    if (ring->item_stride != 0) {
        return (producer->head_pos - pos) / ring->item_stride;
    }
    if (shmipc_message_decode(ring, pos, producer->head_pos - pos, &message) != SHMIPC_OK) {
        return 0;
    }
    return producer->next_seq - message.seq;
}

uint64_t shmipc_ring_pending_estimate(const struct shmipc_ring_producer *producer)
{
    uint64_t slowest;
    uint32_t slot;
    return shmipc_ring_slowest(&producer->ring, &slowest, &slot)
               ? shmipc_ring_distance_estimate(producer, slowest)
               : 0;
}
