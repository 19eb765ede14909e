/*
 * ring.h: the algorithm. One producer, 1..N consumers, each with its own cursor over one copy.
 *
 * Owns:     positions, framing, overrun, leases, joining and leaving: everything that a model of
 *           the ring has to contain. No function here blocks or makes a system call.
 * Must not know: files, locks, futexes, time (but how long a look takes), Python.
 *
 * Positions are monotonic 64-bit byte counts and may wrap at 2^64: they are compared by difference
 * only. `pos & mask` is the offset into the data area, which is a power of two and mapped twice
 * back to back, so a message or a batch is contiguous wherever it starts.
 *
 *     tail <= every cursor that was promised its data <= head <= tail + area
 *
 * Both framings and both policies are one algorithm. The producer may write below `limit_pos`, a
 * private promise; when it runs out, shmipc_ring_refill moves `tail` up and makes a new one. Under
 * "block" tail never passes a member's cursor; under "overwrite" nobody is asked, and a consumer
 * finds out by looking at tail after it has read.
 *
 * Ownership
 *   shared field          only writer                      readers
 *   commit.head_pos       producer                         consumers
 *   commit.notes          producer                         joiners, takers-over, the lapped
 *   retention.tail_pos    producer                         joiners; consumers under "overwrite"
 *   identity.*            producer                         everybody
 *   members.bits          the slot's lock holder (RMW)     producer
 *   slots[i].cursor_pos   the slot's lock holder           producer
 *   slots[i].pid          the slot's lock holder           everybody, for messages; if kept (keep)
 *   data.sleepers, space.sleepers, space.wanted_pos: see wait.h and producer.h
 *   data area             producer, in [head, limit)       consumers, in [cursor, head)
 *
 * Pairing
 *   W1 commit: head_pos release         <-> R1 reload: head_pos acquire
 *        makes the bytes below head visible. Weaker: a consumer reads payload not yet written.
 *   W2 publish_cursor: cursor release   <-> R2 scan: cursor acquire
 *        hands the bytes below cursor back. Weaker: the producer's next bytes could be stored
 *        before the consumer's last reads of the old ones: a torn record.
 *   W3 retire: tail release, then a     <-> R3 intact: copy, acquire fence, tail relaxed
 *      release fence, then new bytes
 *        a seqlock's shape. A reader that saw any new byte also sees the tail that gave it away.
 *        Weaker (no fence on either side): torn bytes pass for whole ones.
 *   W4 join: cursor, member bit,        <-> R4 refill: tail, full fence, bits and cursors
 *      full fence, tail
 *        store->load on both sides (Dekker). Either the producer sees the new cursor and waits for
 *        it, or the joiner sees the new tail and moves up. Weaker: neither sees the other and the
 *        producer overwrites what the joiner was promised.
 *   W5 note: pos relaxed, seq release   <-> R5 seq acquire, then pos, compared with head
 *        a seq from a later commit is seen only together with its pos, which then differs.
 *
 * Progress: every function is wait-free but reload under "overwrite", which retries while it is
 * being lapped and gives up (EMPTY) after RESYNC_LIMIT times.
 * Threads: a producer struct belongs to one thread at a time, likewise a consumer struct.
 */
#ifndef SHMIPC_RING_H
#define SHMIPC_RING_H

#include "../base/atomic.h"
#include "../base/error.h"
#include "../base/step.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* How far ahead of the head the producer asks for the lines it will write. */
#define SHMIPC_PREFETCH_LEN UINT64_C(640)
/* Bytes a consumer prefetches when new data ends its wait. */
#define SHMIPC_PREFETCH_READ_LEN UINT64_C(256)

/* What both sides know of a ring: private, validated copies. */
struct shmipc_ring {
    struct shmipc_header *shared;
    unsigned char *data; /* mapped twice: data[0 .. 2 * area_len) */
    uint64_t mask;       /* area_len - 1 */
    uint64_t area_len;
    uint64_t item_len;    /* 0: a message ring */
    uint64_t item_stride; /* 0: a message ring */
    uint64_t origin_pos;
    uint32_t slots;
    bool overwrite;
    bool durable; /* one consumer and "block": slot 0's cursor outlives its consumer */
};

struct shmipc_ring_producer {
    struct shmipc_ring map;
    uint64_t head_pos;
    uint64_t limit_pos; /* may write below this; limit_pos <= tail_pos + area_len */
    uint64_t tail_pos;
    uint64_t next_seq;   /* of the next message; unused in a typed ring */
    uint32_t note_index; /* the note that does not belong to head_pos */
};

/* A stretch of ring memory that a reader still holds. The caller owns the struct; it stays linked
 * from take to end. */
struct shmipc_lease {
    uint64_t pos;
    uint64_t seq; /* message ring */
    struct shmipc_lease *older;
    struct shmipc_lease *newer;
};

struct shmipc_ring_consumer {
    struct shmipc_ring map;
    struct shmipc_slot *slot;
    uint64_t read_pos;        /* next byte to read */
    uint64_t head_pos_cached; /* everything below is committed */
    uint64_t cursor_pos;      /* what slot->cursor_pos says */
    uint64_t next_seq;        /* message ring: of the message at read_pos */
    uint64_t lost;            /* messages or items overwritten before they were read */
    struct shmipc_lease *oldest_lease;
    struct shmipc_lease *newest_lease;
    uint64_t look_ticks; /* see shmipc_ring_reload, as for what follows */
    uint32_t lockstep_streak;
    uint32_t empty_polls;
    uint32_t linger_rest;
    uint32_t linger_penalty;
    uint32_t resyncs; /* in a row, without a read between them */
    uint32_t slot_index;
};

/* One message, or one item of a typed ring, as it lies in the ring. */
struct shmipc_message {
    const unsigned char *data;
    uint64_t len;
    uint64_t pos;  /* where it starts (its header, in a message ring) */
    uint64_t span; /* bytes to the next one */
    uint64_t seq;
    uint16_t kind;
    uint16_t flags;
};

/* Where a consumer starts to read. */
enum shmipc_start {
    SHMIPC_START_RESUME, /* durable: at the first unreleased; kept slot: at its cursor; else LATEST
                          */
    SHMIPC_START_LATEST, /* at the next message or item to come */
    SHMIPC_START_EARLIEST, /* at the oldest one retained */
    SHMIPC_START_KEPT      /* for shmipc_ring_join: at the cursor of a kept slot */
};

/* True if position `a` is before `b`. Positions wrap; no two live ones are 2^63 apart. */
static inline bool shmipc_pos_before(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b) < 0;
}

/* Can a message or item start at `pos`? Message headers are aligned words. */
static inline bool shmipc_ring_is_aligned(const struct shmipc_ring *ring, uint64_t pos)
{
    return ring->item_stride != 0 || pos % SHMIPC_MESSAGE_ALIGN == 0;
}

/* ---- setting up (any side; nobody else sees the struct yet) -------------------------------- */

/* Positions of a segment that has no name yet. */
void shmipc_ring_format(struct shmipc_header *shared);

/* Read positions and the next sequence from the segment: a new ring or a dead producer's. Holder
 * of the producer lock. CORRUPT if they contradict each other. */
enum shmipc_status shmipc_ring_take_over(struct shmipc_ring_producer *producer);

/* The next sequence number that belongs to `head_pos`. False: the producer moved on meanwhile. */
bool shmipc_ring_read_note(const struct shmipc_header *shared, uint64_t head_pos, uint64_t *seq);

/* Keep a slot, from `pos` on, for a consumer to come: the producer waits for it as for a member.
 * Not in a durable ring, which keeps its one slot anyhow, and not under "overwrite". By the
 * producer, before it has sent anything: in a ring without a name, or behind the gate as holder of
 * the slot's lock. The slot of a consumer that died will do. */
void shmipc_ring_keep(const struct shmipc_ring *ring, uint32_t slot_index, uint64_t pos);

/* Is this slot kept? How many are? The answer stays true only behind the gate. */
bool shmipc_ring_is_kept(const struct shmipc_ring *ring, uint32_t slot_index);
uint32_t shmipc_ring_count_kept(const struct shmipc_ring *ring);

/* Set the cursor and become a member. Holder of the slot's lock. A durable ring resumes where the
 * last consumer stopped and ignores `start`. CORRUPT, or OK. */
enum shmipc_status shmipc_ring_join(struct shmipc_ring_consumer *consumer, uint32_t slot_index,
                                    enum shmipc_start start);

/* Stop holding the producer back. Holder of the slot's lock; also called for a dead consumer. A
 * durable cursor stays. */
void shmipc_ring_leave(const struct shmipc_ring *ring, uint32_t slot_index);

/* ---- the producer's side ------------------------------------------------------------------- */

/* Slow half of reserve: make limit_pos cover head_pos + len. OK, FULL or CORRUPT. */
enum shmipc_status shmipc_ring_refill(struct shmipc_ring_producer *producer, uint64_t len);

/* `len` contiguous writable bytes at the head, invisible until commit. `len` <= area_len.
 * OK, FULL or CORRUPT. */
static inline enum shmipc_status shmipc_ring_reserve(struct shmipc_ring_producer *producer,
                                                     uint64_t len, unsigned char **at)
{
    if (SHMIPC_UNLIKELY(producer->limit_pos - producer->head_pos < len)) {
        enum shmipc_status status = shmipc_ring_refill(producer, len);
        if (status != SHMIPC_OK) {
            return status;
        }
    }
    *at = producer->map.data + (producer->head_pos & producer->map.mask);
    SHMIPC_STEP(RESERVED);
    return SHMIPC_OK;
}

/* Bytes that may be reserved without asking anybody. */
static inline uint64_t shmipc_ring_room(const struct shmipc_ring_producer *producer)
{
    return producer->limit_pos - producer->head_pos;
}

/* Publish the `len` bytes just written at the head. One release store: a SIGKILL before it leaves
 * them unsent, after it sent. */
static inline void shmipc_ring_commit(struct shmipc_ring_producer *producer, uint64_t len)
{
    struct shmipc_header *shared = producer->map.shared;
    const uint64_t head_pos = producer->head_pos + len;
    producer->head_pos = head_pos;
    if (SHMIPC_LIKELY(producer->limit_pos - head_pos > SHMIPC_PREFETCH_LEN)) {
        /* Ours already: a line that the consumer still has to read is never asked for. */
        shmipc_prefetch_for_write(
            producer->map.data +
            ((head_pos + SHMIPC_PREFETCH_LEN - SHMIPC_LINE) & producer->map.mask));
    }
    shmipc_store_release(&shared->commit.head_pos, head_pos); /* W1 <-> R1 */
    SHMIPC_STEP(COMMIT_HEAD);
}

/* A message header is two words, stored and loaded as relaxed atomics: under "overwrite" a reader
 * may look at them while they change, and finds that out by R3. Visibility is W1's business. */
static inline void shmipc_message_header_store(unsigned char *at, uint32_t len, uint16_t kind,
                                               uint16_t flags, uint64_t seq)
{
    shmipc_atomic_u64 *word = (shmipc_atomic_u64 *)(void *)at;
    shmipc_store_relaxed(&word[0],
                         (uint64_t)len | ((uint64_t)kind << 32) | ((uint64_t)flags << 48));
    SHMIPC_STEP(HEADER_HALF);
    shmipc_store_relaxed(&word[1], seq);
}

/* Commit `count` messages of `len` bytes in all, headers already in place, numbered from
 * producer->next_seq. */
static inline void shmipc_ring_commit_messages(struct shmipc_ring_producer *producer, uint64_t len,
                                               uint64_t count)
{
    struct shmipc_note *note = &producer->map.shared->commit.notes[producer->note_index];
    const uint64_t seq = producer->next_seq + count;
    producer->next_seq = seq;
    shmipc_store_relaxed(&note->pos, producer->head_pos + len);
    SHMIPC_STEP(COMMIT_NOTE_POS);
    shmipc_store_release(&note->seq, seq); /* W5 <-> R5 */
    SHMIPC_STEP(COMMIT_NOTE_SEQ);
    producer->note_index ^= 1u;
    shmipc_ring_commit(producer, len);
}

/* Messages or items committed and not yet released by the slowest member. An estimate: consumers
 * move while it is taken. */
uint64_t shmipc_ring_pending_estimate(const struct shmipc_ring_producer *producer);
/* The same from one cursor's position. */
uint64_t shmipc_ring_distance_estimate(const struct shmipc_ring_producer *producer, uint64_t pos);

/* True if some member's cursor is a promise to wait for, with the slowest in `slowest_pos` and its
 * slot in `slowest_slot`. Under "overwrite" the members are told too, though nobody waits. */
bool shmipc_ring_slowest(const struct shmipc_ring *ring, uint64_t *slowest_pos,
                         uint32_t *slowest_slot);

/* ---- the consumer's side ------------------------------------------------------------------- */

/* Slow half of readable: look at the head. OK, EMPTY or CORRUPT. */
enum shmipc_status shmipc_ring_reload(struct shmipc_ring_consumer *consumer);

/* Slow half of peek under "overwrite". */
enum shmipc_status shmipc_ring_peek_checked(struct shmipc_ring_consumer *consumer,
                                            struct shmipc_message *message);

/* OK if there are committed bytes at read_pos. */
static inline enum shmipc_status shmipc_ring_readable(struct shmipc_ring_consumer *consumer)
{
    if (SHMIPC_UNLIKELY(consumer->head_pos_cached == consumer->read_pos)) {
        return shmipc_ring_reload(consumer);
    }
    return SHMIPC_OK;
}

/* Prefetch the first lines of what is known to be committed: they were just written on another
 * core, and arrive together rather than one after the other. True: there is something. */
static inline bool shmipc_ring_prefetch(const struct shmipc_ring_consumer *consumer)
{
    const uint64_t available = consumer->head_pos_cached - consumer->read_pos;
    const uint64_t from_off = consumer->read_pos & consumer->map.mask;
    const uint64_t end_off =
        from_off + (available < SHMIPC_PREFETCH_READ_LEN ? available : SHMIPC_PREFETCH_READ_LEN);
    for (uint64_t off = from_off & ~(uint64_t)63; off < end_off; off += 64) {
        shmipc_prefetch_for_read(consumer->map.data + off);
    }
    return available != 0;
}

static inline uint64_t shmipc_ring_seq_of(const struct shmipc_ring *ring, uint64_t pos)
{
    return (pos - ring->origin_pos) / ring->item_stride;
}

/* Read the header at `pos` into `message` and check it against the bytes known to be committed.
 * The header is loaded once, then judged: what a peer wrote is not trusted. */
static inline enum shmipc_status shmipc_message_decode(const struct shmipc_ring *ring, uint64_t pos,
                                                       uint64_t available,
                                                       struct shmipc_message *message)
{
    const unsigned char *at = ring->data + (pos & ring->mask);
    const shmipc_atomic_u64 *word = (const shmipc_atomic_u64 *)(const void *)at;
    const uint64_t first = shmipc_load_relaxed(&word[0]);
    message->len = first & SHMIPC_MAX_MESSAGE_LEN;
    message->kind = (uint16_t)(first >> 32);
    message->flags = (uint16_t)(first >> 48);
    message->seq = shmipc_load_relaxed(&word[1]);
    message->pos = pos;
    message->span = shmipc_message_span(message->len);
    message->data = at + sizeof(struct shmipc_message_header);
    return SHMIPC_LIKELY(message->span <= available && message->kind != 0) ? SHMIPC_OK
                                                                           : SHMIPC_CORRUPT;
}

/* The same for the item at `pos`, which has no header: whether it was committed is not asked. */
static inline void shmipc_item_describe(const struct shmipc_ring *ring, uint64_t pos,
                                        struct shmipc_message *message)
{
    message->data = ring->data + (pos & ring->mask);
    message->len = ring->item_len;
    message->pos = pos;
    message->span = ring->item_stride;
    message->seq = 0;
    message->kind = 0;
    message->flags = 0;
}

/* The next message or item, in place. It stays there until the cursor passes it ("block"), or
 * until shmipc_ring_intact says no ("overwrite"). OK, EMPTY or CORRUPT. */
static inline enum shmipc_status shmipc_ring_peek(struct shmipc_ring_consumer *consumer,
                                                  struct shmipc_message *message)
{
    const struct shmipc_ring *ring = &consumer->map;
    enum shmipc_status status;
    if (SHMIPC_UNLIKELY(ring->overwrite)) {
        return shmipc_ring_peek_checked(consumer, message);
    }
    status = shmipc_ring_readable(consumer);
    if (SHMIPC_UNLIKELY(status != SHMIPC_OK)) {
        return status;
    }
    if (ring->item_stride == 0) {
        return shmipc_message_decode(ring, consumer->read_pos,
                                     consumer->head_pos_cached - consumer->read_pos, message);
    }
    if (SHMIPC_UNLIKELY(consumer->head_pos_cached - consumer->read_pos < ring->item_stride)) {
        return SHMIPC_CORRUPT;
    }
    shmipc_item_describe(ring, consumer->read_pos, message);
    return SHMIPC_OK;
}

/* Refresh head_pos_cached. Precondition: readable. */
void shmipc_ring_look_ahead(struct shmipc_ring_consumer *consumer);

/* Typed ring: all that is ready, up to `max` items, as one stretch; message->len counts its bytes
 * from the first item to the end of the last, message->span to the next item, `count` the items.
 * OK, EMPTY or CORRUPT. */
enum shmipc_status shmipc_ring_peek_batch(struct shmipc_ring_consumer *consumer, uint64_t max,
                                          struct shmipc_message *message, uint64_t *count);

/* "overwrite": is what lies at `pos` still what was committed there? Call after the copy. */
static inline bool shmipc_ring_intact(const struct shmipc_ring *ring, uint64_t pos)
{
    if (!ring->overwrite) {
        return true;
    }
    /* R3 <-> W3. The fence keeps the copy's loads before the load of tail. */
    shmipc_fence_acquire();
    return !shmipc_pos_before(pos, shmipc_load_relaxed(&ring->shared->retention.tail_pos));
}

/* Where the newest item starts, or the newest message; of messages that were committed at once
 * (send_many commits at most a quarter of a ring) the first. False: nothing is retained, or it
 * cannot be told, since the producer is in the middle of a commit, or died there: then the note
 * that would tell has the position to come. What is found there is checked, as everywhere. */
bool shmipc_ring_newest_pos(const struct shmipc_ring *ring, uint64_t *pos);

/* "overwrite", lapped: go on where the reader has the longest time: at the newest message or item;
 * where that cannot be told at the oldest, and after some laps in a row at the next to come. Counts
 * in `lost` what an item ring missed (a message ring learns it from the next sequence number). */
void shmipc_ring_resync(struct shmipc_ring_consumer *consumer);

/* Release everything below the oldest lease, or below read_pos where there is none. True if the
 * cursor moved. */
static inline bool shmipc_ring_publish_cursor(struct shmipc_ring_consumer *consumer)
{
    const uint64_t pos =
        consumer->oldest_lease != NULL ? consumer->oldest_lease->pos : consumer->read_pos;
    if (pos == consumer->cursor_pos) {
        return false;
    }
    consumer->cursor_pos = pos;
    shmipc_store_release(&consumer->slot->cursor_pos, pos); /* W2 <-> R2 */
    SHMIPC_STEP(RELEASE_CURSOR);
    return true;
}

/* Move read_pos past what was just peeked, to `pos`, where message `seq` starts. Releases nothing:
 * publish_cursor does. */
static inline void shmipc_ring_advance_to(struct shmipc_ring_consumer *consumer, uint64_t pos,
                                          uint64_t seq)
{
    consumer->read_pos = pos;
    consumer->next_seq = seq;
    if (consumer->map.overwrite) {
        consumer->resyncs = 0;
    }
    SHMIPC_STEP(READ_ADVANCED);
}
/* ... one message, or a batch of items. */
static inline void shmipc_ring_advance(struct shmipc_ring_consumer *consumer,
                                       const struct shmipc_message *message)
{
    shmipc_ring_advance_to(consumer, consumer->read_pos + message->span, message->seq + 1);
}

/* Keep a message just peeked, and whatever follows it: the cursor stays at or before it until the
 * lease ends. Does not advance. */
void shmipc_ring_hold(struct shmipc_ring_consumer *consumer, const struct shmipc_message *message,
                      struct shmipc_lease *lease);
/* Advance past a message and keep it. */
static inline void shmipc_ring_take(struct shmipc_ring_consumer *consumer,
                                    const struct shmipc_message *message,
                                    struct shmipc_lease *lease)
{
    shmipc_ring_hold(consumer, message, lease);
    shmipc_ring_advance(consumer, message);
}
/* End a lease, in any order. The cursor moves to the oldest one left when next published. */
void shmipc_ring_end(struct shmipc_ring_consumer *consumer, struct shmipc_lease *lease);

/* Messages or items committed and not yet read, respectively not yet released. Estimates. */
uint64_t shmipc_ring_unread_estimate(const struct shmipc_ring_consumer *consumer);
uint64_t shmipc_ring_lag_estimate(const struct shmipc_ring_consumer *consumer);

/* Copy bytes that the producer may be overwriting: the result is used only if intact says yes
 * afterwards. C11 has no word for that but relaxed atomics; a plain memcpy is what every compiler
 * here makes of it, and ThreadSanitizer is given the relaxed loop. */
void shmipc_copy_speculative(void *restrict to, const unsigned char *restrict from, size_t len);

#endif
