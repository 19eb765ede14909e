/*
 * reading.c: what a consumer of shmipc.h reads: in place, copied, and the waits.
 *
 * A peek shows a stretch and leaves the cursor; a release steps over it and publishes. Everything
 * here happens inside the handle (handle.h), one thread at a time.
 */
#include "copy.h"
#include "ends.h"

#define CONSUMER SHMIPC_TAG_CONSUMER
#define SIDE SHMIPC_SIDE_CONSUMER
#define BRIEF_POLLS 1000  /* about a microsecond: an answer on its way from another core is here */
#define LOOKS_AT_PEER 64u /* peeks that find nothing, for one look whether the producer lives */

static int fail_with(const struct shmipc_consumer *self, enum shmipc_status status)
{
    return shmipc_ring_result(&self->handle, &self->role.segment, status, SIDE);
}

static bool is_typed(const struct shmipc_consumer *self)
{
    return self->role.ring.ring.item_stride != 0;
}

/* ---- views ---------------------------------------------------------------------------------- */

/* Dividing takes longer than the rest of a peek, so the number of the next item is kept. */
static inline uint64_t item_seq(struct shmipc_consumer *self, uint64_t pos)
{
    if (SHMIPC_UNLIKELY(pos != self->seq_pos)) {
        self->seq_pos = pos;
        self->seq_at_pos = shmipc_ring_seq_of(&self->role.ring.ring, pos);
    }
    return self->seq_at_pos;
}

static inline void fill(struct shmipc_consumer *self, const struct shmipc_message *message,
                        uint64_t count, struct shmipc_view *view)
{
    const uint64_t stride = self->role.ring.ring.item_stride;
    view->data = message->data;
    view->len = message->len;
    view->count = count;
    view->stride = stride;
    view->reserved = 0;
    if (stride != 0) {
        view->seq = item_seq(self, message->pos);
        view->kind = 0;
        view->flags = 0;
    } else {
        view->seq = message->seq;
        view->kind = message->kind;
        view->flags = message->flags;
    }
}

void shmipc_view_fill(struct shmipc_consumer *consumer, const struct shmipc_message *message,
                      uint64_t count, struct shmipc_view *view)
{
    fill(consumer, message, count, view);
}

/* ---- waiting -------------------------------------------------------------------------------- */

void shmipc_consumer_begin_wait(struct shmipc_consumer *self)
{
    if (self->frames != 0) {
        shmipc_store_relaxed(&self->waits, 1u);
        shmipc_fence_full();
    }
}

void shmipc_consumer_end_wait(struct shmipc_consumer *self)
{
    if (shmipc_load_relaxed(&self->waits) != 0) { /* no frame may be left by now */
        shmipc_store_relaxed(&self->waits, 0u);
        shmipc_fence_full();
        shmipc_frames_collect(self);
    }
}

static int wait_in_slices(struct shmipc_consumer *self, uint64_t deadline_ns)
{
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    int result = SHMIPC_SUCCESS;
    shmipc_consumer_begin_wait(self);
    do {
        shmipc_frames_collect(self);
        status = shmipc_consumer_role_wait_data(&self->role, &wait, deadline_ns);
        if (status == SHMIPC_CLOSED && shmipc_load_relaxed(&self->role.interrupted) != 0) {
            result = shmipc_take_call(&self->handle, CONSUMER, &self->role.interrupted);
            status = SHMIPC_AGAIN;
        }
    } while (status == SHMIPC_AGAIN && result == SHMIPC_SUCCESS);
    shmipc_consumer_end_wait(self);
    return result != SHMIPC_SUCCESS ? result : fail_with(self, status);
}

int shmipc_consumer_await(struct shmipc_consumer *consumer, int64_t timeout_ns,
                          uint64_t *deadline_ns)
{
    struct shmipc_consumer_role *role = &consumer->role;
    /* Where spinning has not paid of late, neither would this. */
    const bool brief = role->spin.limit_ns != 0 && role->spin.budget_ns == role->spin.limit_ns;
    const int polls = brief && timeout_ns != 0 ? BRIEF_POLLS : 1;
    enum shmipc_status status = SHMIPC_EMPTY;
    for (int poll = 0; poll < polls && status == SHMIPC_EMPTY; poll++) {
        status = shmipc_ring_readable(&role->ring);
    }
    if (status != SHMIPC_EMPTY) {
        return fail_with(consumer, status);
    }
    const int64_t left_ns = shmipc_timeout_left(timeout_ns, deadline_ns);
    if (left_ns == 0) {
        return fail_with(consumer, shmipc_consumer_role_poll_peer(role));
    }
    return wait_in_slices(consumer, shmipc_deadline_after(left_ns));
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

/* ---- looking -------------------------------------------------------------------------------- */

/* A look found nothing: has the stream ended? SUCCESS: look again. */
static int look_at_peer(struct shmipc_consumer *self)
{
    const struct shmipc_header *shared = self->role.ring.ring.shared;
    /* Relaxed: a hint; poll_peer orders what it decides on. */
    if (shmipc_load_relaxed(&shared->identity.closed) == 0 &&
        self->empty_looks++ % LOOKS_AT_PEER != 0 &&
        !shmipc_segment_is_damaged(&self->role.segment)) {
        return SHMIPC_E_EMPTY;
    }
    return fail_with(self, shmipc_consumer_role_poll_peer(&self->role));
}

/* The stretch that peek or peek_n shows. A result. */
static inline int look(struct shmipc_consumer *self, bool many, uint64_t max,
                       struct shmipc_view *view)
{
    struct shmipc_ring_consumer *ring = &self->role.ring;
    uint64_t count = 1;
    for (;;) {
        const enum shmipc_status status =
            many ? shmipc_ring_peek_batch(ring, max, &self->peeked, &count)
                 : shmipc_ring_peek(ring, &self->peeked);
        if (SHMIPC_LIKELY(status == SHMIPC_OK)) {
            break;
        }
        self->peeked_count = 0;
        const int result = status == SHMIPC_EMPTY ? look_at_peer(self) : fail_with(self, status);
        if (result != SHMIPC_SUCCESS) {
            return result;
        }
    }
    if (SHMIPC_UNLIKELY(shmipc_segment_is_damaged(&self->role.segment))) {
        return fail_with(self, SHMIPC_CORRUPT);
    }
    self->peeked_count = count;
    fill(self, &self->peeked, count, view);
    return SHMIPC_SUCCESS;
}

int shmipc_consumer_peek(struct shmipc_consumer *consumer, struct shmipc_view *view)
{
    int result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (SHMIPC_UNLIKELY(result != SHMIPC_SUCCESS)) {
        return result;
    }
    result =
        SHMIPC_LIKELY(view != NULL) ? look(consumer, false, 1, view) : shmipc_refuse_null("view");
    shmipc_handle_leave(&consumer->handle);
    return result;
}

static int refuse_framing(const struct shmipc_consumer *self, const char *instead)
{
    return shmipc_result_fail(SHMIPC_E_MISMATCH, "ring \"%s\" is a %s ring: use %s",
                              self->handle.name, is_typed(self) ? "typed" : "message", instead);
}

int shmipc_consumer_peek_n(struct shmipc_consumer *consumer, uint64_t max, struct shmipc_view *view)
{
    int result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (SHMIPC_UNLIKELY(result != SHMIPC_SUCCESS)) {
        return result;
    }
    if (SHMIPC_UNLIKELY(view == NULL)) {
        result = shmipc_refuse_null("view");
    } else if (SHMIPC_UNLIKELY(!is_typed(consumer))) {
        result = refuse_framing(consumer, "shmipc_consumer_peek_messages()");
    } else {
        result = look(consumer, true, max == 0 ? UINT64_MAX : max, view);
    }
    shmipc_handle_leave(&consumer->handle);
    return result;
}

/* The first message was looked at and is peeked; add those that follow it. */
static size_t look_further(struct shmipc_consumer *self, struct shmipc_view *views, size_t max)
{
    struct shmipc_ring_consumer *ring = &self->role.ring;
    struct shmipc_message *all = &self->peeked;
    size_t count = 1;
    shmipc_ring_look_ahead(ring);
    while (count < max) {
        struct shmipc_message message;
        const uint64_t pos = all->pos + all->span;
        if (pos == ring->head_pos_cached ||
            shmipc_message_decode(&ring->ring, pos, ring->head_pos_cached - pos, &message) !=
                SHMIPC_OK) {
            break; /* one that is corrupt is reported when it is the next */
        }
        fill(self, &message, 1, &views[count]);
        all->span += message.span;
        all->seq = message.seq;
        count++;
    }
    return count;
}

int shmipc_consumer_peek_messages(struct shmipc_consumer *consumer, struct shmipc_view *views,
                                  size_t max, size_t *count)
{
    if (count == NULL) {
        return shmipc_refuse_null("count");
    }
    *count = 0;
    int result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    if (views == NULL || max == 0) {
        result = shmipc_result_fail(SHMIPC_E_INVALID, "views is NULL, or there are none");
    } else if (is_typed(consumer)) {
        result = refuse_framing(consumer, "shmipc_consumer_peek_n()");
    } else {
        result = look(consumer, false, 1, views);
    }
    if (result == SHMIPC_SUCCESS) {
        /* With SHMIPC_OVERWRITE each is to be checked after it was copied: one by one. */
        *count = consumer->role.ring.ring.overwrite ? 1 : look_further(consumer, views, max);
        consumer->peeked_count = *count;
    }
    shmipc_handle_leave(&consumer->handle);
    return result;
}

/* ---- giving back ---------------------------------------------------------------------------- */

/* Step over `message`, `count` of them, and publish. A result. */
static inline int consume(struct shmipc_consumer *self, const struct shmipc_message *message,
                          uint64_t count)
{
    self->peeked_count = 0;
    if (SHMIPC_UNLIKELY(!shmipc_ring_intact(&self->role.ring.ring, message->pos))) {
        shmipc_ring_resync(&self->role.ring);
        return SHMIPC_E_OVERRUN;
    }
    if (message->pos == self->seq_pos) {
        self->seq_pos += message->span;
        self->seq_at_pos += count;
    }
    shmipc_ring_advance(&self->role.ring, message);
    shmipc_consumer_role_release(&self->role);
    return SHMIPC_LIKELY(!shmipc_segment_is_damaged(&self->role.segment))
               ? SHMIPC_SUCCESS
               : fail_with(self, SHMIPC_CORRUPT);
}

static int refuse_unpeeked(const struct shmipc_consumer *self)
{
    return shmipc_result_fail(SHMIPC_E_MISUSE, "nothing of ring \"%s\" is peeked at",
                              self->handle.name);
}

int shmipc_consumer_release(struct shmipc_consumer *consumer)
{
    int result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (SHMIPC_UNLIKELY(result != SHMIPC_SUCCESS)) {
        return result;
    }
    result = SHMIPC_LIKELY(consumer->peeked_count != 0)
                 ? consume(consumer, &consumer->peeked, consumer->peeked_count)
                 : refuse_unpeeked(consumer);
    shmipc_handle_leave(&consumer->handle);
    return result;
}

/* The first `count` of several that are peeked at, as one stretch. A result. */
static int cut_peeked(struct shmipc_consumer *self, uint64_t count, struct shmipc_message *part)
{
    struct shmipc_ring_consumer *ring = &self->role.ring;
    *part = self->peeked;
    if (is_typed(self)) {
        part->span = count * ring->ring.item_stride;
        return SHMIPC_SUCCESS;
    }
    part->span = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct shmipc_message message;
        const uint64_t pos = part->pos + part->span;
        const enum shmipc_status status =
            shmipc_message_decode(&ring->ring, pos, ring->head_pos_cached - pos, &message);
        if (status != SHMIPC_OK) {
            return fail_with(self, status); /* it was right when we looked */
        }
        part->span += message.span;
        part->seq = message.seq;
    }
    return SHMIPC_SUCCESS;
}

int shmipc_consumer_release_n(struct shmipc_consumer *consumer, uint64_t count)
{
    struct shmipc_message part;
    int result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    if (consumer->peeked_count == 0) {
        result = refuse_unpeeked(consumer);
    } else if (count > consumer->peeked_count) {
        result = shmipc_result_fail(SHMIPC_E_INVALID, "%llu are more than the %llu peeked at",
                                    (unsigned long long)count,
                                    (unsigned long long)consumer->peeked_count);
    } else if (count == consumer->peeked_count) {
        result = consume(consumer, &consumer->peeked, count);
    } else if (count == 0) {
        consumer->peeked_count = 0; /* all of it is still to be peeked at */
    } else {
        result = cut_peeked(consumer, count, &part);
        if (result == SHMIPC_SUCCESS) {
            result = consume(consumer, &part, count);
        }
    }
    shmipc_handle_leave(&consumer->handle);
    return result;
}

bool shmipc_consumer_is_intact(struct shmipc_consumer *consumer)
{
    if (shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER) != SHMIPC_SUCCESS) {
        return false;
    }
    const bool intact = consumer->peeked_count != 0 &&
                        shmipc_ring_intact(&consumer->role.ring.ring, consumer->peeked.pos) &&
                        !shmipc_segment_is_damaged(&consumer->role.segment);
    shmipc_handle_leave(&consumer->handle);
    return intact;
}

/* ---- copying -------------------------------------------------------------------------------- */

/* Copy one message that is there. SHMIPC_E_EMPTY: it was overwritten meanwhile. A result. */
static int take_copy(struct shmipc_consumer *self, const struct shmipc_message *message,
                     void *buffer, size_t len, struct shmipc_view *view)
{
    struct shmipc_view found;
    fill(self, message, 1, &found);
    if (message->len <= len) {
        if (SHMIPC_UNLIKELY(self->role.ring.ring.overwrite)) {
            shmipc_copy_speculative(buffer, message->data, (size_t)message->len);
        } else {
            shmipc_copy(buffer, message->data, (size_t)message->len);
        }
    }
    if (SHMIPC_UNLIKELY(shmipc_segment_is_damaged(&self->role.segment))) {
        return fail_with(self, SHMIPC_CORRUPT);
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
                                  "the next of ring \"%s\" has %llu bytes, the buffer %zu: it "
                                  "stays unread",
                                  self->handle.name, (unsigned long long)message->len, len);
    }
    const int result = consume(self, message, 1);
    if (result == SHMIPC_SUCCESS && view != NULL) {
        *view = found;
    }
    return result == SHMIPC_E_OVERRUN ? SHMIPC_E_EMPTY : result;
}

int shmipc_consumer_recv(struct shmipc_consumer *consumer, void *buffer, size_t len,
                         struct shmipc_view *view, int64_t timeout_ns)
{
    uint64_t deadline_ns = 0;
    int result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (SHMIPC_UNLIKELY(result != SHMIPC_SUCCESS)) {
        return result;
    }
    result = SHMIPC_UNLIKELY(buffer == NULL && len != 0) ? shmipc_refuse_null("buffer")
                                                         : shmipc_check_timeout(timeout_ns);
    if (SHMIPC_UNLIKELY(result != SHMIPC_SUCCESS)) {
        shmipc_handle_leave(&consumer->handle);
        return result;
    }
    consumer->peeked_count = 0;
    for (bool awaited = false;;) {
        struct shmipc_message message = {.seq = 0}; /* an item has none */
        const enum shmipc_status status = shmipc_ring_peek(&consumer->role.ring, &message);
        if (SHMIPC_LIKELY(status == SHMIPC_OK)) {
            result = take_copy(consumer, &message, buffer, len, view);
            if (SHMIPC_LIKELY(result != SHMIPC_E_EMPTY)) {
                break;
            }
        } else if (status != SHMIPC_EMPTY) {
            result = fail_with(consumer, status);
            break;
        } else if (!awaited) {
            result = shmipc_consumer_await(consumer, timeout_ns, &deadline_ns);
            if (result != SHMIPC_SUCCESS) {
                break;
            }
            awaited = true;
            continue;
        }
        /* With SHMIPC_OVERWRITE what came may be gone again, any number of times. */
        result = SHMIPC_E_EMPTY;
        if (shmipc_is_over(timeout_ns, &deadline_ns)) {
            break;
        }
        awaited = false;
    }
    shmipc_handle_leave(&consumer->handle);
    return result;
}
