/* receiving.c: the waits of a consumer of shmipc.h, and what it reads by copying. */
#include "reading.h"

#include "cancel.h"
#include "copy.h"

#define CONSUMER SHMIPC_TAG_CONSUMER

/* ---- waiting -------------------------------------------------------------------------------- */

void shmipc_consumer_begin_wait(struct shmipc_consumer *self)
{
    if (self->frames != 0) {
        shmipc_store_relaxed(&self->waits, 1u); /* relaxed: who sees it late tries again */
    }
}

void shmipc_consumer_end_wait(struct shmipc_consumer *self)
{
    /* Relaxed: our own store. Not `frames`: by now none may be left. */
    if (shmipc_load_relaxed(&self->waits) != 0) {
        shmipc_store_relaxed(&self->waits, 0u);
        /* <-> the one in shmipc_handle_call: we see what was pushed, or who pushed sees 0. */
        shmipc_fence_full();
        shmipc_frames_collect(self);
    }
}

/* Nothing came. Where that is because of what the caller keeps, say so. */
static int tell_empty(struct shmipc_consumer *self)
{
    uint64_t number;
    if (!shmipc_consumer_role_is_in_the_way(&self->role, &number)) {
        return SHMIPC_E_EMPTY;
    }
    return shmipc_result_fail(
        SHMIPC_E_EMPTY,
        "nothing to read in ring \"%s\": its producer waits for room, and "
        "%llu frames that this consumer keeps are in its way, the oldest from "
        "number %llu on. Release them, or copy what is to be kept",
        self->handle.name, (unsigned long long)self->frames, (unsigned long long)number);
}

static int wait_in_slices(struct shmipc_consumer *self, uint64_t deadline_ns)
{
    SHMIPC_UNCANCELLED();
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    int result = SHMIPC_SUCCESS;
    shmipc_consumer_begin_wait(self);
    do {
        shmipc_frames_collect(self);
        status = shmipc_consumer_role_wait_data(&self->role, &wait, deadline_ns);
        /* Relaxed: it ended the wait, or ends the next one; take_call orders what it stands for. */
        if (status == SHMIPC_CLOSED && shmipc_load_relaxed(&self->role.interrupted) != 0) {
            result = shmipc_take_call(&self->handle, CONSUMER, &self->role.interrupted);
            status = SHMIPC_AGAIN;
        }
    } while (status == SHMIPC_AGAIN && result == SHMIPC_SUCCESS);
    shmipc_consumer_end_wait(self);
    if (result == SHMIPC_SUCCESS) {
        result = status == SHMIPC_TIMEOUT ? tell_empty(self) : shmipc_consumer_fail(self, status);
    }
    return result;
}

int shmipc_consumer_await(struct shmipc_consumer *consumer, int64_t timeout_ns,
                          uint64_t *deadline_ns)
{
    struct shmipc_consumer_role *role = &consumer->role;
    const enum shmipc_status status = shmipc_consumer_role_poll_briefly(role, timeout_ns != 0);
    if (status != SHMIPC_EMPTY) {
        return shmipc_consumer_fail(consumer, status);
    }
    const int64_t left_ns = shmipc_timeout_left(timeout_ns, deadline_ns);
    if (left_ns == 0) {
        return shmipc_consumer_fail(consumer, shmipc_consumer_role_poll_peer(role));
    }
    return wait_in_slices(consumer, shmipc_deadline_after(left_ns));
}

int shmipc_consumer_retry(struct shmipc_consumer *consumer, int64_t timeout_ns,
                          uint64_t *deadline_ns)
{
    /* Relaxed: a hint, seen soon. Without it who closes would wait for as long as we are lapped. */
    if (timeout_ns != 0 && shmipc_load_relaxed(&consumer->role.interrupted) != 0) {
        const int result =
            shmipc_take_call(&consumer->handle, CONSUMER, &consumer->role.interrupted);
        if (result != SHMIPC_SUCCESS) {
            return result;
        }
    }
    return shmipc_is_over(timeout_ns, deadline_ns) ? SHMIPC_E_EMPTY : SHMIPC_SUCCESS;
}

int shmipc_consumer_wait(struct shmipc_consumer *consumer, int64_t timeout_ns)
{
    uint64_t deadline_ns = 0;
    int result = shmipc_check_timeout(timeout_ns);
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    }
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_consumer_await(consumer, timeout_ns, &deadline_ns);
        shmipc_handle_leave(&consumer->handle);
    }
    return result;
}

int shmipc_consumer_wait_for_producer(struct shmipc_consumer *consumer, int64_t timeout_ns)
{
    SHMIPC_UNCANCELLED();
    struct shmipc_wait wait = {0};
    enum shmipc_status status = SHMIPC_OK;
    int result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    result = shmipc_check_timeout(timeout_ns);
    const uint64_t deadline_ns = shmipc_deadline_after(timeout_ns);
    shmipc_consumer_begin_wait(consumer);
    while (result == SHMIPC_SUCCESS) {
        shmipc_frames_collect(consumer);
        status = shmipc_consumer_role_wait_producer(&consumer->role, &wait, deadline_ns);
        if (status == SHMIPC_CLOSED) {
            result = shmipc_take_call(&consumer->handle, CONSUMER, &consumer->role.interrupted);
        } else if (status != SHMIPC_AGAIN) {
            break;
        }
    }
    shmipc_consumer_end_wait(consumer);
    if (result == SHMIPC_SUCCESS && status == SHMIPC_TIMEOUT) {
        result =
            shmipc_result_fail(SHMIPC_E_NOT_FOUND,
                               "ring \"%s\" has no producer: is it started, with the same name "
                               "and SHMIPC_DIR?",
                               consumer->handle.name);
    } else if (result == SHMIPC_SUCCESS) {
        result = shmipc_consumer_fail(consumer, status);
    }
    shmipc_handle_leave(&consumer->handle);
    return result;
}

/* ---- copying -------------------------------------------------------------------------------- */

/* Copy one message that is there. SHMIPC_E_EMPTY: it was overwritten meanwhile. A result. */
static int take_copy(struct shmipc_consumer *self, const struct shmipc_message *message,
                     void *buffer, size_t len, struct shmipc_view *view)
{
    struct shmipc_view found;
    shmipc_view_fill(self, message, self->role.ring.ring.item_stride, 1, &found);
    if (message->len <= len) {
        if (SHMIPC_UNLIKELY(self->role.ring.ring.overwrite)) {
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
        if (!shmipc_ring_intact(&self->role.ring.ring, message->pos)) {
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

/* Everything that can be said of a recv, inside; leaves. */
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
        if (result == SHMIPC_SUCCESS && consumer->role.ring.ring.overwrite) {
            /* What came may be gone again, any number of times. */
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

/* The next message or item, where nobody has to be asked for it: there is one and it is right.
 * False: look again, in full. */
static inline bool look_at_once(const struct shmipc_consumer *self, struct shmipc_message *message)
{
    const struct shmipc_ring_consumer *ring = &self->role.ring;
    const uint64_t available = ring->head_pos_cached - ring->read_pos;
    if (SHMIPC_UNLIKELY(available == 0 || ring->ring.overwrite)) {
        return false;
    }
    if (ring->ring.item_stride == 0) {
        return shmipc_message_decode(&ring->ring, ring->read_pos, available, message) == SHMIPC_OK;
    }
    shmipc_item_describe(&ring->ring, ring->read_pos, message);
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
        return recv_slowly(consumer, buffer, len, view, timeout_ns); /* and say so */
    }
    if (view != NULL) {
        shmipc_view_fill(consumer, &message, consumer->role.ring.ring.item_stride, 1, view);
        view->data = buffer;
    }
    const struct shmipc_stretch stretch = shmipc_stretch_of(&message, 1);
    shmipc_step_over(consumer, &stretch);
    consumer->peeked.count = 0;
    return shmipc_give_back(consumer);
}
