/* ring_producer.c: the producer's slow paths of ring.h: making room, and estimates. Labels (W1, R2
 * ...) as tabled in ring.h. */
#include "ring.h"

bool shmipc_ring_slowest(const struct shmipc_ring *ring, uint64_t *slowest_pos,
                         uint32_t *slowest_slot)
{
    const struct shmipc_header *shared = ring->shared;
    bool found = false;
    for (uint32_t word = 0; word * 64 < ring->slots; word++) {
        /* R4 <-> W4. Relaxed: the fence between a producer's two looks orders the second one after
         * the joiners that it must not miss, and acquires from consumers that left. */
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

/* The first boundary at or after `want`, walking from tail over what is about to be retired. */
static enum shmipc_status retire_to(const struct shmipc_ring_producer *producer, uint64_t want,
                                    uint64_t *boundary)
{
    const struct shmipc_ring *ring = &producer->map;
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

/* A cursor ahead of head, or within a message, is corrupt. One more than a lap behind is a joiner
 * between its store of a stale tail and its second look (W4): it will move up, so wait for it; a
 * durable cursor cannot be there at all. */
static enum shmipc_status judge_cursor(const struct shmipc_ring_producer *producer,
                                       uint64_t cursor_pos)
{
    if (shmipc_pos_before(producer->head_pos, cursor_pos) ||
        !shmipc_ring_is_aligned(&producer->map, cursor_pos)) {
        return SHMIPC_CORRUPT;
    }
    if (producer->head_pos - cursor_pos > producer->map.area_len) {
        return producer->map.durable ? SHMIPC_CORRUPT : SHMIPC_FULL;
    }
    return SHMIPC_OK;
}

enum shmipc_status shmipc_ring_refill(struct shmipc_ring_producer *producer, uint64_t len)
{
    const struct shmipc_ring *ring = &producer->map;
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
        /* R4 <-> W4: tail, a full fence, then look again for consumers that joined below it. */
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
    const struct shmipc_ring *ring = &producer->map;
    struct shmipc_message message;
    if (shmipc_pos_before(pos, producer->tail_pos) && ring->overwrite) {
        pos = producer->tail_pos;
    }
    if (pos == producer->head_pos || producer->head_pos - pos > ring->area_len ||
        !shmipc_ring_is_aligned(ring, pos)) {
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
    return shmipc_ring_slowest(&producer->map, &slowest, &slot)
               ? shmipc_ring_distance_estimate(producer, slowest)
               : 0;
}
