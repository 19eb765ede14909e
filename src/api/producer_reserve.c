/* producer_reserve.c: what a producer of shmipc.h sends in place: reserve, write, commit or abort.
 */
#include "producer_send.h"

#define PRODUCER SHMIPC_TAG_PRODUCER

/* ---- reserving ------------------------------------------------------------------------------ */

/* Slow path of a reservation of `amount` items or bytes, with all checks. Handle entered on call,
 * left on return. */
SHMIPC_APART static int reserve_slowly(struct shmipc_producer *self, bool typed, uint64_t amount,
                                       int64_t timeout_ns, void **data)
{
    const struct shmipc_ring *ring = &self->role.ring.map;
    unsigned char *at = NULL;
    int result = shmipc_check_timeout(timeout_ns);
    *data = NULL;
    if (self->reserved != NULL) {
        result = shmipc_refuse_reserved(self);
    } else if (shmipc_producer_is_typed(self) != typed) {
        result = shmipc_refuse_producer_framing(self, typed ? "shmipc_producer_reserve()"
                                                            : "shmipc_producer_reserve_n()");
    } else if (result != SHMIPC_SUCCESS) {
        /* reported already */
    } else if (!typed) {
        result = shmipc_message_fits(self, amount)
                     ? shmipc_make_room(self, shmipc_message_span(amount), timeout_ns, &at)
                     : shmipc_refuse_message_len(self, amount);
    } else if (amount == 0) {
        result = shmipc_result_fail(SHMIPC_E_INVALID, "0 items: reserve at least one");
    } else if (amount > ring->area_len / ring->item_stride) {
        result = shmipc_result_fail(SHMIPC_E_TOO_LARGE,
                                    "%llu items never fit ring \"%s\", whose capacity is %llu",
                                    (unsigned long long)amount, self->handle.name,
                                    (unsigned long long)(ring->area_len / ring->item_stride));
    } else {
        result = shmipc_make_room(self, amount * ring->item_stride, timeout_ns, &at);
    }
    if (result == SHMIPC_SUCCESS) {
        self->reserved = at;
        self->reserved_amount = amount;
        *data = typed ? at : at + sizeof(struct shmipc_message_header);
    }
    shmipc_handle_leave(&self->handle);
    return result;
}

SHMIPC_APART static int enter_and_reserve(struct shmipc_producer *self, bool typed, uint64_t amount,
                                          int64_t timeout_ns, void **data)
{
    if (data == NULL) {
        return shmipc_refuse_null("where the address is to go");
    }
    *data = NULL;
    const int result = shmipc_handle_enter_slowly((struct shmipc_handle *)self, PRODUCER);
    return result == SHMIPC_SUCCESS ? reserve_slowly(self, typed, amount, timeout_ns, data)
                                    : result;
}

static inline bool may_reserve(const struct shmipc_producer *self, int64_t timeout_ns)
{
    return SHMIPC_LIKELY(self->reserved == NULL && timeout_ns >= SHMIPC_FOREVER);
}

int shmipc_producer_reserve(struct shmipc_producer *producer, size_t len, int64_t timeout_ns,
                            void **data)
{
    if (SHMIPC_UNLIKELY(producer == NULL || data == NULL) ||
        !shmipc_handle_try_enter((struct shmipc_handle *)producer, PRODUCER)) {
        return enter_and_reserve(producer, false, len, timeout_ns, data);
    }
    if (SHMIPC_LIKELY(may_reserve(producer, timeout_ns) && !shmipc_producer_is_typed(producer) &&
                      len <= SHMIPC_MAX_MESSAGE_LEN) &&
        shmipc_has_room(producer, shmipc_message_span(len))) { /* and so it fits */
        unsigned char *at = shmipc_head_at(producer);
        producer->reserved = at;
        producer->reserved_amount = len;
        *data = at + sizeof(struct shmipc_message_header);
        shmipc_handle_leave(&producer->handle);
        return SHMIPC_SUCCESS;
    }
    return reserve_slowly(producer, false, len, timeout_ns, data);
}

int shmipc_producer_reserve_n(struct shmipc_producer *producer, uint64_t count, int64_t timeout_ns,
                              void **data)
{
    if (SHMIPC_UNLIKELY(producer == NULL || data == NULL) ||
        !shmipc_handle_try_enter((struct shmipc_handle *)producer, PRODUCER)) {
        return enter_and_reserve(producer, true, count, timeout_ns, data);
    }
    const uint64_t stride = producer->role.ring.map.item_stride;
    uint64_t len;
    if (SHMIPC_LIKELY(may_reserve(producer, timeout_ns) &&
                      !__builtin_mul_overflow(count, stride, &len) && len != 0) &&
        shmipc_has_room(producer, len)) { /* and so it fits; 0 in a message ring, or for no items */
        unsigned char *at = shmipc_head_at(producer);
        producer->reserved = at;
        producer->reserved_amount = count;
        *data = at;
        shmipc_handle_leave(&producer->handle);
        return SHMIPC_SUCCESS;
    }
    return reserve_slowly(producer, true, count, timeout_ns, data);
}

/* ---- committing ----------------------------------------------------------------------------- */

/* Why a commit of `amount` is refused. Handle entered on call, left on return. */
SHMIPC_APART static int refuse_commit(struct shmipc_producer *self, bool typed, uint64_t amount,
                                      uint32_t kind, uint32_t flags)
{
    int result;
    if (shmipc_producer_is_typed(self) != typed) {
        result = shmipc_refuse_producer_framing(self, typed ? "shmipc_producer_commit()"
                                                            : "shmipc_producer_commit_n()");
    } else if (self->reserved == NULL) {
        result = shmipc_result_fail(SHMIPC_E_MISUSE,
                                    "nothing is reserved in ring \"%s\", or it was committed or "
                                    "aborted already",
                                    self->handle.name);
    } else if (amount > self->reserved_amount) {
        result = shmipc_result_fail(SHMIPC_E_INVALID,
                                    "%llu %s are more than the %llu reserved in ring \"%s\"",
                                    (unsigned long long)amount, typed ? "items" : "bytes",
                                    (unsigned long long)self->reserved_amount, self->handle.name);
    } else if (typed) {
        result = shmipc_result_fail(SHMIPC_E_INVALID,
                                    "0 items: commit at least one, or shmipc_producer_abort()");
    } else {
        result = shmipc_refuse_kind(kind, flags);
    }
    shmipc_handle_leave(&self->handle);
    return result;
}

/* Handle entered, arguments checked. */
static inline int commit_message(struct shmipc_producer *self, size_t len, uint32_t kind,
                                 uint32_t flags)
{
    struct shmipc_ring_producer *ring = &self->role.ring;
    if (SHMIPC_UNLIKELY(ring->map.item_stride != 0 || self->reserved == NULL ||
                        len > self->reserved_amount || !shmipc_kind_is_valid(kind, flags))) {
        return refuse_commit(self, false, len, kind, flags);
    }
    shmipc_message_header_store(self->reserved, (uint32_t)len, (uint16_t)kind, (uint16_t)flags,
                                ring->next_seq);
    self->reserved = NULL;
    shmipc_ring_commit_messages(ring, shmipc_message_span(len), 1);
    return shmipc_finish(self);
}

static inline int commit_items(struct shmipc_producer *self, uint64_t count)
{
    struct shmipc_ring_producer *ring = &self->role.ring;
    if (SHMIPC_UNLIKELY(ring->map.item_stride == 0 || self->reserved == NULL ||
                        count - 1 >= self->reserved_amount)) { /* of which there is one at least */
        return refuse_commit(self, true, count, 0, 0);
    }
    self->reserved = NULL;
    shmipc_ring_commit(ring, count * ring->map.item_stride);
    return shmipc_finish(self);
}

SHMIPC_APART static int enter_and_commit(struct shmipc_producer *self, size_t len, uint32_t kind,
                                         uint32_t flags)
{
    const int result = shmipc_handle_enter_slowly((struct shmipc_handle *)self, PRODUCER);
    return result == SHMIPC_SUCCESS ? commit_message(self, len, kind, flags) : result;
}

int shmipc_producer_commit(struct shmipc_producer *producer, size_t len, uint32_t kind,
                           uint32_t flags)
{
    if (SHMIPC_UNLIKELY(producer == NULL) ||
        !shmipc_handle_try_enter((struct shmipc_handle *)producer, PRODUCER)) {
        return enter_and_commit(producer, len, kind, flags);
    }
    return commit_message(producer, len, kind, flags);
}

SHMIPC_APART static int enter_and_commit_n(struct shmipc_producer *self, uint64_t count)
{
    const int result = shmipc_handle_enter_slowly((struct shmipc_handle *)self, PRODUCER);
    return result == SHMIPC_SUCCESS ? commit_items(self, count) : result;
}

int shmipc_producer_commit_n(struct shmipc_producer *producer, uint64_t count)
{
    if (SHMIPC_UNLIKELY(producer == NULL) ||
        !shmipc_handle_try_enter((struct shmipc_handle *)producer, PRODUCER)) {
        return enter_and_commit_n(producer, count);
    }
    return commit_items(producer, count);
}

int shmipc_producer_abort(struct shmipc_producer *producer)
{
    const int result = shmipc_handle_enter((struct shmipc_handle *)producer, PRODUCER);
    if (result == SHMIPC_SUCCESS) {
        producer->reserved = NULL;
        shmipc_handle_leave(&producer->handle);
    }
    return result;
}
