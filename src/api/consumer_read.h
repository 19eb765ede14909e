/*
 * consumer_read.h: what the consumer's calls that read have in common.
 *
 * Owns:     views, advancing past what was read, failures. The fast path of each call is inline and
 *           calls nothing; slow paths are functions that are not inlined, reached by a jump, so
 *           that the fast path saves no registers for them.
 *
 * A peek shows a stretch and leaves the cursor; a release advances past it and publishes the
 * cursor. Everything here happens inside the handle (handle.h), one thread at a time.
 */
#ifndef SHMIPC_API_CONSUMER_READ_H
#define SHMIPC_API_CONSUMER_READ_H

#include "endpoint.h"

#define SHMIPC_APART __attribute__((noinline)) /* off the fast path */

/* The result of a status that the ring gave, its words kept. */
int shmipc_consumer_fail(const struct shmipc_consumer *self, enum shmipc_status status);
int shmipc_refuse_consumer_framing(const struct shmipc_consumer *self, const char *instead);

/* Inside: wait until there is something to look at. `deadline_ns` as in shmipc_timeout_left. A
 * result. */
int shmipc_consumer_await(struct shmipc_consumer *consumer, int64_t timeout_ns,
                          uint64_t *deadline_ns);
/* Around the core's wait, inside: other threads hand us their frames meanwhile (frame_release.c).
 */
void shmipc_consumer_begin_wait(struct shmipc_consumer *consumer);
void shmipc_consumer_end_wait(struct shmipc_consumer *consumer);
/* Inside, between two tries at reading what a producer overwrites: is it time to give up? A
 * result; SUCCESS: try again. */
int shmipc_consumer_retry(struct shmipc_consumer *consumer, int64_t timeout_ns,
                          uint64_t *deadline_ns);

static inline bool shmipc_consumer_is_typed(const struct shmipc_consumer *self)
{
    return self->role.ring.map.item_stride != 0;
}

/* Dividing takes longer than the rest of a peek, so the number of the next item is kept. */
static inline uint64_t shmipc_item_seq(struct shmipc_consumer *self, uint64_t pos)
{
    if (SHMIPC_UNLIKELY(pos != self->seq_pos)) {
        self->seq_pos = pos;
        self->seq_at_pos = shmipc_ring_seq_of(&self->role.ring.map, pos);
    }
    return self->seq_at_pos;
}

/* What `message` describes, as the user sees it: `count` items with `stride` bytes from one to the
 * next, or a message, whose stride is 0. */
static inline void shmipc_view_fill(struct shmipc_consumer *self,
                                    const struct shmipc_message *message, uint64_t stride,
                                    uint64_t count, struct shmipc_view *view)
{
    view->data = message->data;
    view->len = message->len;
    view->count = count;
    view->stride = stride;
    view->seq = stride != 0 ? shmipc_item_seq(self, message->pos) : message->seq;
    view->kind = message->kind;
    view->flags = message->flags;
    view->reserved = 0;
}

/* All up to the end of `message`, which makes `count` of them. */
static inline struct shmipc_stretch shmipc_stretch_of(const struct shmipc_message *message,
                                                      uint64_t count)
{
    return (struct shmipc_stretch){count, message->pos + message->span, message->seq + 1};
}

static inline void shmipc_advance_past(struct shmipc_consumer *self,
                                       const struct shmipc_stretch *stretch)
{
    struct shmipc_ring_consumer *ring = &self->role.ring;
    if (ring->map.item_stride != 0 && ring->read_pos == self->seq_pos) {
        self->seq_pos = stretch->end_pos;
        self->seq_at_pos += stretch->count;
    }
    shmipc_ring_advance_to(ring, stretch->end_pos, stretch->next_seq);
}

/* Advance past `stretch` and publish; nothing is peeked at any more. A result. */
int shmipc_consume(struct shmipc_consumer *self, const struct shmipc_stretch *stretch);
/* End of a call that released from `old_pos` on: the producer sleeps, or the file was truncated.
 * Leaves the handle. A result. */
int shmipc_release_slowly(struct shmipc_consumer *self, uint64_t old_pos);

/* Publish the cursor and leave. A result. */
static inline int shmipc_release_and_leave(struct shmipc_consumer *self)
{
    struct shmipc_consumer_role *role = &self->role;
    const uint64_t old_pos = role->ring.cursor_pos;
    if (SHMIPC_UNLIKELY(
            (shmipc_ring_publish_cursor(&role->ring) &&
             shmipc_wait_wanted(&role->ring.map.shared->space.sleepers, role->asymmetric)) ||
            shmipc_segment_is_damaged(&role->segment))) {
        return shmipc_release_slowly(self, old_pos);
    }
    shmipc_handle_leave(&self->handle);
    return SHMIPC_SUCCESS;
}

#endif
