/* ring_consumer.c: the consumer's slow paths of ring.h. Labels (R1, W3 ...) as tabled there. */
#include "ring.h"

#include <stddef.h>

/* A model, in which a stale head may be read at every look, sets less. */
#ifndef SHMIPC_NEWEST_LOOKS
#define SHMIPC_NEWEST_LOOKS 8
#endif

enum {
    NEWEST_LOOKS = SHMIPC_NEWEST_LOOKS,
    RESYNC_LIMIT = 64,  /* times one call is lapped before it reports EMPTY */
    RESYNC_TO_HEAD = 3, /* laps in a row after which the reader goes to the one to come */
    LOCKSTEP_ENTER = 4, /* short meetings in a row that make a lock-step */
    LOCKSTEP_POLLS = 8, /* a wait of this many polls is a pause in the stream */
    LOCKSTEP_LEN = 512, /* bytes: less than this is a short meeting */
    LINGER_LOOKS = 3,   /* as long as this many looks at the head take */
    LINGER_PENALTY_MAX = 1 << 16
};

/*
 * A single-producer queue is bistable: when the reader has caught up and looks at the head for
 * every message, the line of the head moves to and fro for each, both sides wait for it, and they
 * stay in that lock-step at a tenth of the speed. It shows as reload after reload that finds a few
 * messages within a few polls. Then we stay off the line before looking, so that the producer gets
 * ahead: for a few times as long as a look takes, which is the line's way from the producer's core
 * to ours, 60 ns or 300 ns from one pair of cores to another. A real pause (many polls, or one such
 * stay) ends it: whoever waits for the first message of a burst, or for an answer, polls at once
 * and without rest.
 * And where staying away does not pay, because the producer is not that fast (Python's is not), it
 * is given up for longer each time.
 */
static bool is_in_lockstep(struct shmipc_ring_consumer *consumer)
{
    if (consumer->lockstep_streak < LOCKSTEP_ENTER) {
        return false;
    }
    if (consumer->linger_rest > 0) {
        consumer->linger_rest--;
        return false;
    }
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
    const struct shmipc_ring *ring = &consumer->map;
    const bool lockstep = is_in_lockstep(consumer);
    const bool lingered = lockstep && consumer->look_ticks != 0; /* the first look is measured */
    if (lingered) {
        shmipc_cpu_linger(LINGER_LOOKS * consumer->look_ticks);
    }
    for (int attempt = 0; attempt < RESYNC_LIMIT; attempt++) {
        const uint64_t look_start = lockstep ? shmipc_cpu_ticks() : 0;
        /* R1 <-> W1. */
        const uint64_t head = shmipc_load_acquire(&ring->shared->commit.head_pos);
        const uint64_t available = head - consumer->read_pos;
        if (available == 0) {
            if (++consumer->empty_polls >= LOCKSTEP_POLLS) {
                consumer->lockstep_streak = 0;
            }
            if (lingered) {
                consumer->lockstep_streak = 0;
                consumer->look_ticks = 0; /* it may have been measured wrongly */
            }
            return SHMIPC_EMPTY;
        }
        if (SHMIPC_LIKELY(available <= ring->area_len)) {
            if (lockstep) {
                consumer->look_ticks = shmipc_cpu_ticks() - look_start + 1; /* 0: unknown */
            }
            learn_lockstep(consumer, available, lingered);
            consumer->head_pos_cached = head;
            SHMIPC_STEP(READ_RELOADED);
            return SHMIPC_OK;
        }
        if (!ring->overwrite) {
            return SHMIPC_CORRUPT;
        }
        const uint64_t lapped_pos = consumer->read_pos;
        shmipc_ring_resync(consumer);
        if (consumer->read_pos == lapped_pos) {
            /* The tail that made way for this head was stored before it: we would have moved. */
            return SHMIPC_CORRUPT;
        }
    }
    return SHMIPC_EMPTY;
}

bool shmipc_ring_newest_pos(const struct shmipc_ring *ring, uint64_t *pos)
{
    const struct shmipc_commit_line *commit = &ring->shared->commit;
    const int starts = ring->item_stride != 0 ? 1 : 2;
    for (int look = 0; look < NEWEST_LOOKS; look++) {
        /* R1 <-> W1: with the head come the tail that made room for it, and the two notes stored
         * before it. The one that is not this head's has the head before it, where the last commit
         * starts, or the head of a later commit. Weaker: beside a new head the note of a commit
         * that a dead producer never made, which lies in the middle of what its successor sent. */
        const uint64_t head = shmipc_load_acquire(&commit->head_pos);
        /* Relaxed, as the notes: what they must not miss came with the head. If tail has moved past
         * it meanwhile, nothing is retained, and whoever reads at `pos` looks at it again (R3). */
        const uint64_t tail = shmipc_load_relaxed(&ring->shared->retention.tail_pos);
        const uint64_t retained = head - tail;
        for (int i = 0; i < starts && retained <= ring->area_len; i++) {
            const uint64_t start = ring->item_stride != 0
                                       ? head - ring->item_stride
                                       : shmipc_load_relaxed(&commit->notes[i].pos);
            if (start - tail < retained) {
                *pos = start;
                return true;
            }
        }
    }
    return false;
}

void shmipc_ring_resync(struct shmipc_ring_consumer *consumer)
{
    const struct shmipc_ring *ring = &consumer->map;
    const struct shmipc_header *shared = ring->shared;
    uint64_t pos;
    if (++consumer->resyncs > RESYNC_TO_HEAD) {
        /* Even the newest is overwritten faster than we can read it: only the next will hold. */
        /* Relaxed: where to go. What lies there is read after the next acquire of head (R1), and
         * the note brings its own (R5). */
        pos = shmipc_load_relaxed(&shared->commit.head_pos);
    } else if (!shmipc_ring_newest_pos(ring, &pos)) {
        /* Acquire <-> W3: the next look finds a head that is not before this tail. */
        pos = shmipc_load_acquire(&shared->retention.tail_pos);
    }
    if (ring->item_stride == 0) {
        pos &= ~(uint64_t)(SHMIPC_MESSAGE_ALIGN - 1); /* it always is; a liar's is made so */
    }
    if (!shmipc_pos_before(consumer->read_pos, pos)) {
        if (consumer->resyncs > RESYNC_TO_HEAD) {
            consumer->head_pos_cached = consumer->read_pos; /* head went back: look again */
        }
        return;
    }
    uint64_t seq;
    if (ring->item_stride == 0 && consumer->resyncs > RESYNC_TO_HEAD &&
        shmipc_ring_read_note(shared, pos, &seq)) {
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
    SHMIPC_STEP(READ_RESYNCED);
}

enum shmipc_status shmipc_ring_peek_checked(struct shmipc_ring_consumer *consumer,
                                            struct shmipc_message *message)
{
    const struct shmipc_ring *ring = &consumer->map;
    for (int attempt = 0; attempt < RESYNC_LIMIT; attempt++) {
        enum shmipc_status status = shmipc_ring_readable(consumer);
        if (status != SHMIPC_OK) {
            return status;
        }
        const uint64_t available = consumer->head_pos_cached - consumer->read_pos;
        if (ring->item_stride == 0) {
            status = shmipc_message_decode(ring, consumer->read_pos, available, message);
        } else {
            status = available < ring->item_stride ? SHMIPC_CORRUPT : SHMIPC_OK;
            shmipc_item_describe(ring, consumer->read_pos, message);
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

void shmipc_ring_look_ahead(struct shmipc_ring_consumer *consumer)
{
    /* R1 <-> W1. A head that no producer of ours writes is left to reload, which reports it. */
    const uint64_t head = shmipc_load_acquire(&consumer->map.shared->commit.head_pos);
    if (head - consumer->read_pos <= consumer->map.area_len &&
        head - consumer->read_pos > consumer->head_pos_cached - consumer->read_pos) {
        consumer->head_pos_cached = head;
    }
}

enum shmipc_status shmipc_ring_peek_batch(struct shmipc_ring_consumer *consumer, uint64_t max,
                                          struct shmipc_message *message, uint64_t *count)
{
    const struct shmipc_ring *ring = &consumer->map;
    enum shmipc_status status = shmipc_ring_peek(consumer, message);
    if (status != SHMIPC_OK) {
        return status;
    }
    uint64_t items = (consumer->head_pos_cached - consumer->read_pos) / ring->item_stride;
    if (items < max) {
        shmipc_ring_look_ahead(consumer);
        items = (consumer->head_pos_cached - consumer->read_pos) / ring->item_stride;
    }
    if (items > max) {
        items = max;
    }
    message->len = (items - 1) * ring->item_stride + ring->item_len;
    message->span = items * ring->item_stride;
    *count = items;
    return SHMIPC_OK;
}

void shmipc_ring_hold(struct shmipc_ring_consumer *consumer, const struct shmipc_message *message,
                      struct shmipc_lease *lease)
{
    lease->pos = message->pos;
    lease->seq = message->seq;
    lease->newer = NULL;
    lease->older = consumer->newest_lease;
    if (lease->older != NULL) {
        lease->older->newer = lease;
    } else {
        consumer->oldest_lease = lease;
    }
    consumer->newest_lease = lease;
    SHMIPC_STEP(READ_LEASED);
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
    SHMIPC_STEP(RELEASE_ENDED);
}

static uint64_t sequence_distance(const struct shmipc_ring_consumer *consumer, uint64_t from_pos,
                                  uint64_t from_seq)
{
    const struct shmipc_ring *ring = &consumer->map;
    /* Relaxed: an estimate; a note not yet seen makes it 0. */
    const uint64_t head = shmipc_load_relaxed(&ring->shared->commit.head_pos);
    uint64_t seq;
    if (ring->item_stride != 0) {
        const uint64_t items = (head - from_pos) / ring->item_stride;
        const uint64_t most = ring->area_len / ring->item_stride;
        return items < most ? items : most;
    }
    if (head == from_pos || from_seq == UINT64_MAX ||
        !shmipc_ring_read_note(ring->shared, head, &seq)) {
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
    const struct shmipc_lease *oldest = consumer->oldest_lease;
    return oldest == NULL ? shmipc_ring_unread_estimate(consumer)
                          : sequence_distance(consumer, oldest->pos, oldest->seq);
}

void shmipc_copy_speculative(void *restrict to, const unsigned char *restrict from, size_t len)
{
#ifdef SHMIPC_COPY_BY_WORD
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
