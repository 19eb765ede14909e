/*
 * producer_send.h: what the producer's calls that send have in common.
 *
 * Owns:     room at the head, the end of a call, refusals. The fast path of each call is inline and
 *           calls nothing; slow paths are functions that are not inlined, reached by a jump, so
 *           that the fast path saves no registers for them.
 *
 * A reservation is its producer's only one and forbids any other send. Everything here happens
 * inside the handle (handle.h), one thread at a time.
 */
#ifndef SHMIPC_API_PRODUCER_SEND_H
#define SHMIPC_API_PRODUCER_SEND_H

#include "endpoint.h"

#define SHMIPC_MAX_KIND 65535u
#define SHMIPC_APART __attribute__((noinline)) /* off the fast path */

/* `len` bytes at the head, waiting for them if need be. A result. */
int shmipc_make_room_slowly(struct shmipc_producer *self, uint64_t len, int64_t timeout_ns,
                            unsigned char **at);
/* Results of a send that is refused. */
int shmipc_refuse_reserved(const struct shmipc_producer *self);
int shmipc_refuse_producer_framing(const struct shmipc_producer *self, const char *instead);
int shmipc_refuse_kind(uint32_t kind, uint32_t flags);
int shmipc_refuse_message_len(const struct shmipc_producer *self, uint64_t len);
/* End of a call: a consumer sleeps, or the file was truncated. A result. */
int shmipc_finish_slowly(struct shmipc_producer *self);

static inline bool shmipc_producer_is_typed(const struct shmipc_producer *self)
{
    return self->role.ring.map.item_stride != 0;
}

static inline bool shmipc_kind_is_valid(uint32_t kind, uint32_t flags)
{
    return kind - 1 < SHMIPC_MAX_KIND && flags <= SHMIPC_MAX_KIND;
}

static inline bool shmipc_message_fits(const struct shmipc_producer *self, uint64_t len)
{
    return len <= SHMIPC_MAX_MESSAGE_LEN &&
           shmipc_message_span(len) <= self->role.ring.map.area_len;
}

static inline bool shmipc_has_room(const struct shmipc_producer *self, uint64_t len)
{
    return SHMIPC_LIKELY(shmipc_ring_room(&self->role.ring) >= len);
}

/* Where the next message or item goes. */
static inline unsigned char *shmipc_head_at(const struct shmipc_producer *self)
{
    const struct shmipc_ring_producer *ring = &self->role.ring;
    SHMIPC_STEP(RESERVED);
    return ring->map.data + (ring->head_pos & ring->map.mask);
}

static inline int shmipc_make_room(struct shmipc_producer *self, uint64_t len, int64_t timeout_ns,
                                   unsigned char **at)
{
    if (shmipc_has_room(self, len)) {
        *at = shmipc_head_at(self);
        return SHMIPC_SUCCESS;
    }
    return shmipc_make_room_slowly(self, len, timeout_ns, at);
}

/* After the commit: wake sleeping consumers, and leave. A result. */
static inline int shmipc_finish(struct shmipc_producer *self)
{
    struct shmipc_producer_role *role = &self->role;
    if (shmipc_wait_wanted(&role->ring.map.shared->data.sleepers, role->asymmetric) ||
        shmipc_segment_is_damaged(&role->segment)) {
        return shmipc_finish_slowly(self);
    }
    shmipc_handle_leave(&self->handle);
    return SHMIPC_SUCCESS;
}

#endif
