/* ring.c: the slow halves of ring.h. Labels (W1, R2 ...) are the ones tabled there. */
#include "ring.h"

#include <stddef.h>

enum {
    SHMIPC_RESYNC_LIMIT = 64,  /* times one call is lapped before it reports EMPTY */
    SHMIPC_RESYNC_TO_HEAD = 3, /* laps in a row after which the reader jumps to the newest */
    SHMIPC_JOIN_LIMIT = 1000,
    LOCKSTEP_ENTER = 4,        /* short meetings in a row that make a lock-step */
    LOCKSTEP_POLLS = 8,        /* a wait of this many polls is a pause in the stream */
    LOCKSTEP_LEN = 512,        /* bytes: less than this is a short meeting */
    LINGER_PENALTY_MAX = 1 << 16
};

/* (head, next sequence) that belong together. False: the producer moved on meanwhile. */
static bool read_note(const struct shmipc_header *shared, uint64_t head_pos, uint64_t *seq)
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
    producer->head_pos = shmipc_load_acquire(&shared->commit.head_pos); /* R1: the last commit */
    producer->tail_pos = shmipc_load_relaxed(&shared->retention.tail_pos);
    producer->limit_pos = producer->head_pos; /* no room: the first reserve asks */
    producer->next_seq = 0;
    producer->note_index = 0;
    if (producer->head_pos - producer->tail_pos > ring->area_len) {
        return SHMIPC_CORRUPT;
    }
    if (ring->item_stride == 0) {
        if (!is_aligned(ring, producer->head_pos) || !is_aligned(ring, producer->tail_pos) ||
            !read_note(shared, producer->head_pos, &producer->next_seq)) {
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

/* The number of the message at `pos`, from its header or, if it is yet to come, from the note. False:
 * the producer moved on meanwhile. */
static bool find_seq_of(const struct shmipc_ring *ring, uint64_t pos, uint64_t *seq)
{
    struct shmipc_message message;
    const uint64_t head = shmipc_load_acquire(&ring->shared->commit.head_pos);
    if (head == pos) {
        return read_note(ring->shared, head, seq);
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
    if (ring->durable) {
        /* Our predecessor's cursor: only a slot's lock holder writes it, so relaxed is enough. */
        pos = shmipc_load_relaxed(&slot->cursor_pos);
        if (shmipc_load_acquire(&shared->commit.head_pos) - pos > ring->area_len) {
            return SHMIPC_CORRUPT;
        }
    } else {
        bool joined = false;
        for (int attempt = 0; attempt < SHMIPC_JOIN_LIMIT && !joined; attempt++) {
            pos = start == SHMIPC_START_LATEST ? shmipc_load_acquire(&shared->commit.head_pos)
                                               : shmipc_load_acquire(&shared->retention.tail_pos);
            /* W4 <-> R4: cursor, then bit, then a full barrier, then tail. */
            shmipc_store_release(&slot->cursor_pos, pos);
            (void)shmipc_fetch_or_full(&shared->members.bits[slot_index / 64],
                                       member_bit(slot_index));
            shmipc_fence_full();
            joined = !shmipc_pos_before(pos, shmipc_load_acquire(&shared->retention.tail_pos));
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
    for (int attempt = 0; attempt < SHMIPC_JOIN_LIMIT && ring->item_stride == 0; attempt++) {
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
    if (!ring->durable) {
        /* Full, so that the last reads of this consumer come before the producer may see the bit
         * gone and reuse the memory (the part of W2 in a departure). */
        (void)shmipc_fetch_and_full(&shared->members.bits[slot_index / 64],
                                    ~member_bit(slot_index));
    }
}

bool shmipc_ring_slowest(const struct shmipc_ring *ring, uint64_t *slowest_pos,
                         uint32_t *slowest_slot)
{
    const struct shmipc_header *shared = ring->shared;
    bool found = false;
    for (uint32_t word = 0; word * 64 < ring->slots; word++) {
        uint64_t bits = shmipc_load_acquire(&shared->members.bits[word]); /* R4 <-> W4 */
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
        return SHMIPC_OK;
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

/* A cursor ahead of head is a lie. One more than a lap behind is a joiner between its store of a
 * stale tail and its second look (W4): it will move up, so wait for it; a durable cursor cannot be
 * there at all. */
static enum shmipc_status judge_cursor(const struct shmipc_ring_producer *producer,
                                       uint64_t cursor_pos)
{
    if (shmipc_pos_before(producer->head_pos, cursor_pos)) {
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
    bool bound = !ring->overwrite && shmipc_ring_slowest(ring, &slowest, &slot);
    uint64_t tail;

    if (bound && producer->head_pos - slowest <= ring->area_len &&
        slowest + ring->area_len - producer->head_pos < ring->area_len / 8) {
        /* The ring is nearly full, and asking at every message would drag the consumer's line to
         * and fro for each. It has seven eighths of a ring to go on with: let it. */
        shmipc_cpu_linger();
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
    if (tail != producer->tail_pos) {
        producer->tail_pos = tail;
        /* W3, R4. Release, so that no joiner sees a tail beyond the head it came after. */
        shmipc_store_release(&ring->shared->retention.tail_pos, tail);
    }
    producer->limit_pos = tail + ring->area_len;
    if (ring->overwrite) {
        /* W3 <-> R3: tail before any byte that we write where it gave way. */
        shmipc_fence_release();
        return SHMIPC_OK;
    }
    if (!ring->durable) {
        /* R4 <-> W4: tail, a full fence, then look again for who joined below it. */
        shmipc_fence_full();
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

uint64_t shmipc_ring_pending_estimate(const struct shmipc_ring_producer *producer)
{
    const struct shmipc_ring *ring = &producer->ring;
    struct shmipc_message message;
    uint64_t slowest;
    uint32_t slot;
    if (!shmipc_ring_slowest(ring, &slowest, &slot)) {
        return 0;
    }
    if (shmipc_pos_before(slowest, producer->tail_pos) && ring->overwrite) {
        slowest = producer->tail_pos;
    }
    if (slowest == producer->head_pos || producer->head_pos - slowest > ring->area_len) {
        return 0;
    }
    if (ring->item_stride != 0) {
        return (producer->head_pos - slowest) / ring->item_stride;
    }
    if (shmipc_message_decode(ring, slowest, producer->head_pos - slowest, &message) != SHMIPC_OK) {
        return 0;
    }
    return producer->next_seq - message.seq;
}

/* ---- the consumer's side ------------------------------------------------------------------- */

/*
 * A single-producer queue is bistable: when the reader has caught up and looks at the head for
 * every message, the line of the head moves to and fro for each, both sides wait for it, and they
 * stay in that lock-step at a tenth of the speed. It shows as reload after reload that finds a few
 * messages within a few polls. Then we stay off the line for 100 ns before looking, so that the
 * producer gets ahead. A real pause (many polls) ends it: whoever waits for the first message of a
 * burst, or for an answer, polls at once and without rest. And where staying away does not pay,
 * because the producer is not that fast (Python's is not), it is given up for longer each time.
 */
static bool linger_in_lockstep(struct shmipc_ring_consumer *consumer)
{
    if (consumer->linger_rest > 0) {
        consumer->linger_rest--;
        return false;
    }
    shmipc_cpu_linger();
    return true;
}

static void learn_lockstep(struct shmipc_ring_consumer *consumer, uint64_t available, bool lingered)
{
    const bool brief = available < LOCKSTEP_LEN;
    if (!brief || consumer->empty_polls >= LOCKSTEP_POLLS) {
        consumer->lockstep_streak = 0;
    } else if (consumer->lockstep_streak < LOCKSTEP_ENTER) {
        consumer->lockstep_streak++;
    }
    if (lingered && brief) {
        consumer->linger_penalty = consumer->linger_penalty * 2 + LOCKSTEP_ENTER;
        if (consumer->linger_penalty > LINGER_PENALTY_MAX) {
            consumer->linger_penalty = LINGER_PENALTY_MAX;
        }
        consumer->linger_rest = consumer->linger_penalty;
    } else if (lingered) {
        consumer->linger_penalty = 0;
        consumer->lockstep_streak = LOCKSTEP_ENTER; /* it paid: stay with it */
    }
    consumer->empty_polls = 0;
}

enum shmipc_status shmipc_ring_reload(struct shmipc_ring_consumer *consumer)
{
    const struct shmipc_ring *ring = &consumer->ring;
    const bool lingered =
        consumer->lockstep_streak >= LOCKSTEP_ENTER && linger_in_lockstep(consumer);
    for (int attempt = 0; attempt < SHMIPC_RESYNC_LIMIT; attempt++) {
        /* R1 <-> W1. */
        const uint64_t head = shmipc_load_acquire(&ring->shared->commit.head_pos);
        const uint64_t available = head - consumer->read_pos;
        if (available == 0) {
            if (++consumer->empty_polls >= LOCKSTEP_POLLS) {
                consumer->lockstep_streak = 0;
            }
            return SHMIPC_EMPTY;
        }
        if (SHMIPC_LIKELY(available <= ring->area_len)) {
            learn_lockstep(consumer, available, lingered);
            consumer->head_pos_cached = head;
            return SHMIPC_OK;
        }
        if (!ring->overwrite) {
            return SHMIPC_CORRUPT;
        }
        shmipc_ring_resync(consumer);
    }
    return SHMIPC_EMPTY;
}

void shmipc_ring_resync(struct shmipc_ring_consumer *consumer)
{
    const struct shmipc_ring *ring = &consumer->ring;
    const struct shmipc_header *shared = ring->shared;
    uint64_t pos = shmipc_load_acquire(&shared->retention.tail_pos);
    if (++consumer->resyncs > SHMIPC_RESYNC_TO_HEAD) {
        /* The oldest is overwritten faster than we can read it: only the newest will hold. */
        pos = shmipc_load_acquire(&shared->commit.head_pos);
    }
    if (ring->item_stride == 0) {
        pos &= ~(uint64_t)(SHMIPC_MESSAGE_ALIGN - 1); /* it always is; a liar's is made so */
    }
    if (!shmipc_pos_before(consumer->read_pos, pos)) {
        if (consumer->resyncs > SHMIPC_RESYNC_TO_HEAD) {
            consumer->head_pos_cached = consumer->read_pos; /* head went back: look again */
        }
        return;
    }
    uint64_t seq;
    if (ring->item_stride == 0 && consumer->resyncs > SHMIPC_RESYNC_TO_HEAD &&
        read_note(shared, pos, &seq)) {
        if (consumer->next_seq != UINT64_MAX) {
            consumer->lost += seq - consumer->next_seq; /* no later message may come to tell */
        }
        consumer->next_seq = seq;
    }
    if (ring->item_stride != 0) {
        const uint64_t items = (pos - consumer->read_pos) / ring->item_stride;
        consumer->lost += items;
        pos = consumer->read_pos + items * ring->item_stride;
    }
    consumer->read_pos = pos;
    consumer->head_pos_cached = pos; /* the cursor follows at the next release */
}

enum shmipc_status shmipc_ring_peek_checked(struct shmipc_ring_consumer *consumer,
                                            struct shmipc_message *message)
{
    const struct shmipc_ring *ring = &consumer->ring;
    for (int attempt = 0; attempt < SHMIPC_RESYNC_LIMIT; attempt++) {
        enum shmipc_status status = shmipc_ring_readable(consumer);
        if (status != SHMIPC_OK) {
            return status;
        }
        const uint64_t available = consumer->head_pos_cached - consumer->read_pos;
        if (ring->item_stride == 0) {
            status = shmipc_message_decode(ring, consumer->read_pos, available, message);
        } else {
            status = available < ring->item_stride ? SHMIPC_CORRUPT : SHMIPC_OK;
            message->data = ring->data + (consumer->read_pos & ring->mask);
            message->len = ring->item_len;
            message->pos = consumer->read_pos;
            message->span = ring->item_stride;
        }
        if (!shmipc_ring_intact(ring, consumer->read_pos)) {
            shmipc_ring_resync(consumer); /* what we decoded may be anything: forget it */
            continue;
        }
        if (status == SHMIPC_OK && ring->item_stride == 0) {
            if (consumer->next_seq != UINT64_MAX) {
                consumer->lost += message->seq - consumer->next_seq;
            }
            consumer->next_seq = message->seq;
        }
        return status;
    }
    return SHMIPC_EMPTY;
}

enum shmipc_status shmipc_ring_peek_batch(struct shmipc_ring_consumer *consumer, uint64_t max,
                                          struct shmipc_message *message, uint64_t *count)
{
    const struct shmipc_ring *ring = &consumer->ring;
    enum shmipc_status status = shmipc_ring_peek(consumer, message);
    if (status != SHMIPC_OK) {
        return status;
    }
    uint64_t items = (consumer->head_pos_cached - consumer->read_pos) / ring->item_stride;
    if (items > max) {
        items = max;
    }
    message->len = (items - 1) * ring->item_stride + ring->item_len;
    message->span = items * ring->item_stride;
    *count = items;
    return SHMIPC_OK;
}

void shmipc_ring_take(struct shmipc_ring_consumer *consumer, const struct shmipc_message *message,
                      struct shmipc_lease *lease)
{
    lease->pos = message->pos;
    lease->newer = NULL;
    lease->older = consumer->newest_lease;
    if (lease->older != NULL) {
        lease->older->newer = lease;
    } else {
        consumer->oldest_lease = lease;
    }
    consumer->newest_lease = lease;
    shmipc_ring_advance(consumer, message);
}

void shmipc_ring_end(struct shmipc_ring_consumer *consumer, struct shmipc_lease *lease)
{
    if (lease->older != NULL) {
        lease->older->newer = lease->newer;
    } else {
        consumer->oldest_lease = lease->newer;
    }
    if (lease->newer != NULL) {
        lease->newer->older = lease->older;
    } else {
        consumer->newest_lease = lease->older;
    }
    lease->older = NULL;
    lease->newer = NULL;
}

static uint64_t sequence_distance(const struct shmipc_ring_consumer *consumer, uint64_t from_pos,
                                  uint64_t from_seq)
{
    const struct shmipc_ring *ring = &consumer->ring;
    const uint64_t head = shmipc_load_acquire(&ring->shared->commit.head_pos);
    uint64_t seq;
    if (ring->item_stride != 0) {
        const uint64_t items = (head - from_pos) / ring->item_stride;
        const uint64_t most = ring->area_len / ring->item_stride;
        return items < most ? items : most;
    }
    if (head == from_pos || from_seq == UINT64_MAX || !read_note(ring->shared, head, &seq)) {
        return 0;
    }
    return seq - from_seq;
}

uint64_t shmipc_ring_unread_estimate(const struct shmipc_ring_consumer *consumer)
{
    return sequence_distance(consumer, consumer->read_pos, consumer->next_seq);
}

uint64_t shmipc_ring_lag_estimate(const struct shmipc_ring_consumer *consumer)
{
    const struct shmipc_ring *ring = &consumer->ring;
    uint64_t seq = consumer->next_seq;
    if (ring->item_stride == 0 && consumer->oldest_lease != NULL && !ring->overwrite) {
        struct shmipc_message message;
        if (shmipc_message_decode(ring, consumer->cursor_pos, ring->area_len, &message) ==
            SHMIPC_OK) {
            seq = message.seq;
        }
    }
    return sequence_distance(consumer, consumer->cursor_pos, seq);
}

void shmipc_copy_speculative(void *restrict to, const unsigned char *restrict from, size_t len)
{
#ifdef SHMIPC_UNDER_TSAN
    unsigned char *out = to;
    size_t done = 0;
    for (; len - done >= 8; done += 8) {
        const uint64_t word =
            shmipc_load_relaxed((const shmipc_atomic_u64 *)(const void *)(from + done));
        memcpy(out + done, &word, 8);
    }
    for (; done < len; done++) {
        out[done] = shmipc_load_relaxed((const _Atomic(unsigned char) *)(from + done));
    }
#else
    memcpy(to, from, len);
#endif
}
