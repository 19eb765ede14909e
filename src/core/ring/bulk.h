/*
 * bulk.h: send many: write as much as there is room for, commit it at once, notify, go on.
 *
 * Owns:     how much is committed at once, and the loop.
 * Must not know: where the bytes come from, how a caller waits for room, what it makes of a
 * failure.
 *
 * Everything is inline, so that the caller's functions are too: pass a constant struct of them.
 *
 * Nothing is committed that is more than a quarter of the ring, so that consumers read one part
 * while the next is written.
 */
#ifndef SHMIPC_BULK_H
#define SHMIPC_BULK_H

#include "producer.h"

/* Bytes of small messages to commit at once: a fraction of the first-level cache, so that a reader
 * on another core has the first of them while the next are written. */
#define SHMIPC_RUN_LEN UINT64_C(8192)

/* The caller's part. A result of 0 means: go on. Any other ends the send, which returns it. */
struct shmipc_bulk_calls {
    /* Wait until `len` bytes can be reserved. */
    int (*make_room)(void *self, uint64_t len);
    /* Copy `count` items, from number `first` on, to `to`, one after another in the ring's stride.
     */
    void (*copy)(void *self, unsigned char *to, uint64_t first, uint64_t count);
    /* notify said `status`: what was committed may have gone nowhere. Not 0. */
    int (*fail)(void *self, enum shmipc_status status);
};

static inline int shmipc_bulk_notify(struct shmipc_producer_role *producer,
                                     const struct shmipc_bulk_calls *calls, void *self)
{
    const enum shmipc_status status = shmipc_producer_role_notify(producer);
    return SHMIPC_LIKELY(status == SHMIPC_OK) ? 0 : calls->fail(self, status);
}

/* Typed ring: send the items from number *sent up to `count`. *sent counts those that were sent. 0,
 * or what a call returned. */
static inline int shmipc_bulk_send_items(struct shmipc_producer_role *producer, uint64_t count,
                                         const struct shmipc_bulk_calls *calls, void *self,
                                         uint64_t *sent)
{
    struct shmipc_ring_producer *core = &producer->ring;
    const uint64_t stride = core->map.item_stride;
    const uint64_t quarter = core->map.area_len / 4 / stride;
    const uint64_t most = quarter > 0 ? quarter : 1;
    int result = 0;
    while (*sent < count && result == 0) {
        result = calls->make_room(self, stride);
        if (result == 0) {
            uint64_t items = shmipc_ring_room(core) / stride;
            items = items < most ? items : most;
            items = items < count - *sent ? items : count - *sent;
            calls->copy(self, core->map.data + (core->head_pos & core->map.mask), *sent, items);
            shmipc_ring_commit(core, items * stride);
            result = shmipc_bulk_notify(producer, calls, self);
            *sent += result == 0 ? items : 0;
        }
    }
    return result;
}

/* Messages written behind the head and not yet committed. */
struct shmipc_run {
    uint64_t len;
    uint64_t count;
};

/* Commit and notify. *sent counts the messages; of a run whose commit failed, none. 0, or what a
 * call returned. */
static inline int shmipc_run_commit(struct shmipc_producer_role *producer, struct shmipc_run *run,
                                    const struct shmipc_bulk_calls *calls, void *self,
                                    uint64_t *sent)
{
    const uint64_t count = run->count;
    if (count == 0) {
        return 0;
    }
    shmipc_ring_commit_messages(&producer->ring, run->len, count);
    *run = (struct shmipc_run){0, 0};
    const int result = shmipc_bulk_notify(producer, calls, self);
    *sent += result == 0 ? count : 0;
    return result;
}

/* Add a message of `len` bytes, which fits the ring: `*payload` is where they go, at once. Commits
 * first what would make the run longer than `most` bytes or a quarter of the ring, or what leaves
 * no room. 0, or what a call returned. */
static inline int shmipc_run_add(struct shmipc_producer_role *producer, struct shmipc_run *run,
                                 uint64_t len, uint16_t kind, uint16_t flags, uint64_t most,
                                 const struct shmipc_bulk_calls *calls, void *self, uint64_t *sent,
                                 unsigned char **payload)
{
    struct shmipc_ring_producer *core = &producer->ring;
    const uint64_t span = shmipc_message_span(len);
    if (run->len >= most || run->len + span > core->map.area_len / 4 ||
        shmipc_ring_room(core) < run->len + span) {
        int result = shmipc_run_commit(producer, run, calls, self, sent);
        if (result == 0) {
            result = calls->make_room(self, span);
        }
        if (result != 0) {
            return result;
        }
    }
    unsigned char *at = core->map.data + ((core->head_pos + run->len) & core->map.mask);
    shmipc_message_header_store(at, (uint32_t)len, kind, flags, core->next_seq + run->count);
    *payload = at + sizeof(struct shmipc_message_header);
    run->len += span;
    run->count++;
    return 0;
}

#endif
