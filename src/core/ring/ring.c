/* ring.c: how a ring begins, is taken over, joined and left. The producer's slow paths are in
 * ring_producer.c, the consumer's in ring_consumer.c. Labels (W1, R2 ...) as tabled in ring.h. */
#include "ring.h"

#include "../segment/geometry.h"

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
    if (shmipc_geometry_is_durable(geometry)) {
        /* The durable cursor is a member from the start: message 0 waits for its reader. */
        shmipc_store_relaxed(&shared->members.bits[0], 1u);
    }
}

enum shmipc_status shmipc_ring_take_over(struct shmipc_ring_producer *producer)
{
    const struct shmipc_ring *ring = &producer->map;
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
        if (!shmipc_ring_is_aligned(ring, producer->head_pos) ||
            !shmipc_ring_is_aligned(ring, producer->tail_pos) ||
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
    /* Relaxed, all three: joiners come after the ring's name or the gate, and only this producer
     * counts the bits. A death between the two last leaves a free slot that names nobody;
     * a slot whose bit was set before (its consumer died) is kept, or still the dead consumer's. */
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
    struct shmipc_ring *ring = &consumer->map;
    struct shmipc_header *shared = ring->shared;
    struct shmipc_slot *slot = &shared->slots[slot_index];
    uint64_t pos = 0;
    consumer->slot = slot;
    consumer->slot_index = slot_index;
    if (ring->durable || start == SHMIPC_START_KEPT) {
        /* Relaxed, both: only a slot's lock holder writes its cursor, and the lock (of the slot, or
         * the gate of the producer that keeps it) hands on every head that it had seen. */
        pos = shmipc_load_relaxed(&slot->cursor_pos);
        if (shmipc_load_relaxed(&shared->commit.head_pos) - pos > ring->area_len) {
            return SHMIPC_CORRUPT;
        }
    } else {
        bool joined = false;
        for (int attempt = 0; attempt < JOIN_LIMIT && !joined; attempt++) {
            /* W4 <-> R4: cursor and bit, then the fence, then tail. Relaxed, all of them: the fence
             * orders them, and acquires for the look at head that follows a tail. */
            pos = start == SHMIPC_START_EARLIEST ? shmipc_load_relaxed(&shared->retention.tail_pos)
                                                 : shmipc_load_relaxed(&shared->commit.head_pos);
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
    if (!shmipc_ring_is_aligned(ring, pos)) {
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
