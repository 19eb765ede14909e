/* consumer_recv.c: what a consumer of shmipc.h reads by copying. In place: consumer_peek.c. */
#include "consumer_read.h"

#include "copy.h"

#define CONSUMER SHMIPC_TAG_CONSUMER

/* Copy one message that is there. SHMIPC_E_EMPTY: it was overwritten meanwhile. A result. */
static int take_copy(struct shmipc_consumer *self, const struct shmipc_message *message,
                     void *buffer, size_t len, struct shmipc_view *view)
{
    struct shmipc_view found;
    shmipc_view_fill(self, message, self->role.ring.map.item_stride, 1, &found);
    if (message->len <= len) {
        if (SHMIPC_UNLIKELY(self->role.ring.map.overwrite)) {
            shmipc_copy_speculative(buffer, message->data, (size_t)message->len);
        } else {
            shmipc_copy(buffer, message->data, (size_t)message->len);
        }
    }
    if (SHMIPC_UNLIKELY(shmipc_segment_is_damaged(&self->role.segment))) {
        return shmipc_consumer_fail(self, SHMIPC_CORRUPT);
    }
    found.data = buffer;
    if (SHMIPC_UNLIKELY(message->len > len)) {
        if (!shmipc_ring_intact(&self->role.ring.map, message->pos)) {
            shmipc_ring_resync(&self->role.ring);
            return SHMIPC_E_EMPTY;
        }
        if (view != NULL) {
            *view = found;
        }
        return shmipc_result_fail(SHMIPC_E_TOO_LARGE,
                                  "the next of ring \"%s\" has %llu byte%s, the buffer %zu: it "
                                  "stays unread",
                                  self->handle.name, (unsigned long long)message->len,
                                  SHMIPC_S(message->len), len);
    }
    const struct shmipc_stretch stretch = shmipc_stretch_of(message, 1);
    const int result = shmipc_consume(self, &stretch);
    if (result == SHMIPC_SUCCESS && view != NULL) {
        *view = found;
    }
    return result == SHMIPC_E_OVERRUN ? SHMIPC_E_EMPTY : result;
}

/* Slow path of recv with all checks. Handle entered on call, left on return. */
SHMIPC_APART static int recv_slowly(struct shmipc_consumer *consumer, void *buffer, size_t len,
                                    struct shmipc_view *view, int64_t timeout_ns)
{
    uint64_t deadline_ns = 0;
    int result = buffer == NULL && len != 0 ? shmipc_refuse_null("buffer")
                                            : shmipc_check_timeout(timeout_ns);
    if (result == SHMIPC_SUCCESS) {
        consumer->peeked.count = 0;
    }
    while (result == SHMIPC_SUCCESS) {
        struct shmipc_message message = {0};
        const enum shmipc_status status = shmipc_ring_peek(&consumer->role.ring, &message);
        if (status == SHMIPC_EMPTY) {
            result = shmipc_consumer_await(consumer, timeout_ns, &deadline_ns);
        } else if (status != SHMIPC_OK) {
            result = shmipc_consumer_fail(consumer, status);
        } else {
            result = take_copy(consumer, &message, buffer, len, view);
            if (result != SHMIPC_E_EMPTY) {
                break;
            }
            result = SHMIPC_SUCCESS;
        }
        if (result == SHMIPC_SUCCESS && consumer->role.ring.map.overwrite) {
            /* What came may have been overwritten, any number of times. */
            result = shmipc_consumer_retry(consumer, timeout_ns, &deadline_ns);
        }
    }
    shmipc_handle_leave(&consumer->handle);
    return result;
}

SHMIPC_APART static int enter_and_recv(struct shmipc_consumer *self, void *buffer, size_t len,
                                       struct shmipc_view *view, int64_t timeout_ns)
{
    const int result = shmipc_handle_enter_slowly((struct shmipc_handle *)self, CONSUMER);
    return result == SHMIPC_SUCCESS ? recv_slowly(self, buffer, len, view, timeout_ns) : result;
}

/* The next message or item, if it is there, valid and needs no slow path. False: take that. */
static inline bool look_at_once(const struct shmipc_consumer *self, struct shmipc_message *message)
{
    const struct shmipc_ring_consumer *ring = &self->role.ring;
    const uint64_t available = ring->head_pos_cached - ring->read_pos;
    if (SHMIPC_UNLIKELY(available == 0 || ring->map.overwrite)) {
        return false;
    }
    if (ring->map.item_stride == 0) {
        return shmipc_message_decode(&ring->map, ring->read_pos, available, message) == SHMIPC_OK;
    }
    shmipc_item_describe(&ring->map, ring->read_pos, message);
    return available >= message->span;
}

int shmipc_consumer_recv(struct shmipc_consumer *consumer, void *buffer, size_t len,
                         struct shmipc_view *view, int64_t timeout_ns)
{
    struct shmipc_message message;
    if (SHMIPC_UNLIKELY(consumer == NULL) ||
        !shmipc_handle_try_enter((struct shmipc_handle *)consumer, CONSUMER)) {
        return enter_and_recv(consumer, buffer, len, view, timeout_ns);
    }
    if (SHMIPC_UNLIKELY(buffer == NULL || timeout_ns < SHMIPC_FOREVER ||
                        !look_at_once(consumer, &message) || message.len > len ||
                        message.len > SHMIPC_COPY_INLINE_LEN)) {
        return recv_slowly(consumer, buffer, len, view, timeout_ns);
    }
    shmipc_copy_short(buffer, message.data, (size_t)message.len);
    if (SHMIPC_UNLIKELY(shmipc_segment_is_damaged(&consumer->role.segment))) {
        return recv_slowly(consumer, buffer, len, view, timeout_ns); /* which reports it */
    }
    if (view != NULL) {
        shmipc_view_fill(consumer, &message, consumer->role.ring.map.item_stride, 1, view);
        view->data = buffer;
    }
    const struct shmipc_stretch stretch = shmipc_stretch_of(&message, 1);
    shmipc_advance_past(consumer, &stretch);
    consumer->peeked.count = 0;
    return shmipc_release_and_leave(consumer);
}
