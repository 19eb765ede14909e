/* consumer_peek.c: what a consumer of shmipc.h reads in place: peek and release. Copied:
 * consumer_recv.c. */
#include "consumer_read.h"

#define CONSUMER SHMIPC_TAG_CONSUMER
#define SIDE SHMIPC_SIDE_CONSUMER
#define LOOKS 3           /* of one peek, while what it saw is overwritten */
#define LOOKS_AT_PEER 64u /* empty peeks for each look whether the producer lives */

int shmipc_consumer_fail(const struct shmipc_consumer *self, enum shmipc_status status)
{
    return shmipc_ring_result(&self->handle, &self->role.segment, status, SIDE);
}

/* ---- looking -------------------------------------------------------------------------------- */

/* A look found nothing: has the stream ended? SUCCESS: look again. */
static int look_at_peer(struct shmipc_consumer *self)
{
    const struct shmipc_header *shared = self->role.ring.map.shared;
    /* Relaxed: a hint; poll_peer orders what it decides on. */
    if (shmipc_load_relaxed(&shared->identity.closed) == 0 &&
        self->empty_looks++ % LOOKS_AT_PEER != 0 &&
        !shmipc_segment_is_damaged(&self->role.segment)) {
        return SHMIPC_E_EMPTY;
    }
    return shmipc_consumer_fail(self, shmipc_consumer_role_poll_peer(&self->role));
}

/* The stretch that peek or peek_n shows. A result. */
static int look(struct shmipc_consumer *self, bool many, uint64_t max, struct shmipc_view *view)
{
    struct shmipc_ring_consumer *ring = &self->role.ring;
    struct shmipc_message message = {0};
    uint64_t count = 1;
    enum shmipc_status status = SHMIPC_EMPTY;
    self->peeked.count = 0;
    for (int attempt = 0; attempt < LOOKS; attempt++) {
        status = many ? shmipc_ring_peek_batch(ring, max, &message, &count)
                      : shmipc_ring_peek(ring, &message);
        if (status != SHMIPC_EMPTY) {
            break;
        }
        const int result = look_at_peer(self);
        if (result != SHMIPC_SUCCESS) {
            return result;
        }
    }
    if (status == SHMIPC_OK && shmipc_segment_is_damaged(&self->role.segment)) {
        status = SHMIPC_CORRUPT;
    }
    if (status != SHMIPC_OK) {
        return shmipc_consumer_fail(self, status);
    }
    self->peeked = shmipc_stretch_of(&message, count);
    shmipc_view_fill(self, &message, self->role.ring.map.item_stride, count, view);
    return SHMIPC_SUCCESS;
}

/* Slow path of peek with all checks. Handle entered on call, left on return. */
SHMIPC_APART static int peek_slowly(struct shmipc_consumer *self, struct shmipc_view *view)
{
    const int result = view != NULL ? look(self, false, 1, view) : shmipc_refuse_null("view");
    shmipc_handle_leave(&self->handle);
    return result;
}

SHMIPC_APART static int enter_and_peek(struct shmipc_consumer *self, struct shmipc_view *view)
{
    const int result = shmipc_handle_enter_slowly((struct shmipc_handle *)self, CONSUMER);
    return result == SHMIPC_SUCCESS ? peek_slowly(self, view) : result;
}

/* Show what is there, and leave. Once for each framing, so that each is short. */
static inline void show(struct shmipc_consumer *self, const struct shmipc_message *message,
                        uint64_t stride, struct shmipc_view *view)
{
    self->peeked = shmipc_stretch_of(message, 1);
    shmipc_view_fill(self, message, stride, 1, view);
    shmipc_handle_leave(&self->handle);
}

/* Inside, where read_pos is `pos`; leaves. */
static inline int peek_inside(struct shmipc_consumer *consumer, uint64_t pos,
                              struct shmipc_view *view)
{
    const struct shmipc_ring_consumer *ring = &consumer->role.ring;
    const uint64_t available = ring->head_pos_cached - pos;
    const uint64_t stride = ring->map.item_stride;
    struct shmipc_message message;
    if (SHMIPC_UNLIKELY(view == NULL || available == 0 || ring->map.overwrite)) {
        return peek_slowly(consumer, view);
    }
    if (stride == 0) {
        if (SHMIPC_LIKELY(shmipc_message_decode(&ring->map, pos, available, &message) ==
                              SHMIPC_OK &&
                          !shmipc_segment_is_damaged(&consumer->role.segment))) {
            show(consumer, &message, 0, view);
            return SHMIPC_SUCCESS;
        }
    } else if (SHMIPC_LIKELY(available >= stride &&
                             !shmipc_segment_is_damaged(&consumer->role.segment))) {
        shmipc_item_describe(&ring->map, pos, &message);
        show(consumer, &message, stride, view);
        return SHMIPC_SUCCESS;
    }
    return peek_slowly(consumer, view);
}

int shmipc_consumer_peek(struct shmipc_consumer *consumer, struct shmipc_view *view)
{
    if (SHMIPC_UNLIKELY(consumer == NULL) ||
        !shmipc_handle_try_enter((struct shmipc_handle *)consumer, CONSUMER)) {
        return enter_and_peek(consumer, view);
    }
    return peek_inside(consumer, consumer->role.ring.read_pos, view);
}

int shmipc_refuse_consumer_framing(const struct shmipc_consumer *self, const char *instead)
{
    return shmipc_result_fail(SHMIPC_E_MISMATCH, "ring \"%s\" is a %s ring: use %s",
                              self->handle.name,
                              shmipc_consumer_is_typed(self) ? "typed" : "message", instead);
}

int shmipc_consumer_peek_n(struct shmipc_consumer *consumer, uint64_t max, struct shmipc_view *view)
{
    int result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (SHMIPC_UNLIKELY(result != SHMIPC_SUCCESS)) {
        return result;
    }
    if (SHMIPC_UNLIKELY(view == NULL)) {
        result = shmipc_refuse_null("view");
    } else if (SHMIPC_UNLIKELY(!shmipc_consumer_is_typed(consumer))) {
        result = shmipc_refuse_consumer_framing(consumer, "shmipc_consumer_peek_messages()");
    } else {
        result = look(consumer, true, max == 0 ? UINT64_MAX : max, view);
    }
    shmipc_handle_leave(&consumer->handle);
    return result;
}

/* The first message was looked at and is peeked; add those that follow it. */
static void look_further(struct shmipc_consumer *self, struct shmipc_view *views, size_t max)
{
    struct shmipc_ring_consumer *ring = &self->role.ring;
    struct shmipc_stretch *all = &self->peeked;
    shmipc_ring_look_ahead(ring);
    while (all->count < max) {
        struct shmipc_message message;
        const uint64_t pos = all->end_pos;
        if (pos == ring->head_pos_cached ||
            shmipc_message_decode(&ring->map, pos, ring->head_pos_cached - pos, &message) !=
                SHMIPC_OK ||
            shmipc_segment_is_damaged(&self->role.segment)) {
            break; /* reported once it is the first */
        }
        shmipc_view_fill(self, &message, self->role.ring.map.item_stride, 1, &views[all->count]);
        *all = shmipc_stretch_of(&message, all->count + 1);
    }
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
    } else if (shmipc_consumer_is_typed(consumer)) {
        result = shmipc_refuse_consumer_framing(consumer, "shmipc_consumer_peek_n()");
    } else {
        result = look(consumer, false, 1, views);
    }
    if (result == SHMIPC_SUCCESS) {
        /* With SHMIPC_OVERWRITE each must be checked after its copy: one by one. */
        if (!consumer->role.ring.map.overwrite) {
            look_further(consumer, views, max);
        }
        *count = (size_t)consumer->peeked.count;
    }
    shmipc_handle_leave(&consumer->handle);
    return result;
}

/* ---- releasing ------------------------------------------------------------------------------ */

int shmipc_consume(struct shmipc_consumer *self, const struct shmipc_stretch *stretch)
{
    if (!shmipc_ring_intact(&self->role.ring.map, self->role.ring.read_pos)) {
        self->peeked.count = 0;
        shmipc_ring_resync(&self->role.ring);
        return SHMIPC_E_OVERRUN;
    }
    shmipc_advance_past(self, stretch);
    self->peeked.count = 0;
    shmipc_consumer_role_release(&self->role);
    return shmipc_segment_is_damaged(&self->role.segment)
               ? shmipc_consumer_fail(self, SHMIPC_CORRUPT)
               : SHMIPC_SUCCESS;
}

SHMIPC_APART int shmipc_release_slowly(struct shmipc_consumer *self, uint64_t old_pos)
{
    shmipc_consumer_role_wake_producer(&self->role, old_pos);
    const int result = shmipc_segment_is_damaged(&self->role.segment)
                           ? shmipc_consumer_fail(self, SHMIPC_CORRUPT)
                           : SHMIPC_SUCCESS;
    shmipc_handle_leave(&self->handle);
    return result;
}

static int refuse_unpeeked(const struct shmipc_consumer *self)
{
    return shmipc_result_fail(SHMIPC_E_MISUSE, "nothing of ring \"%s\" is peeked at",
                              self->handle.name);
}

/* Slow path of release with all checks. Handle entered on call, left on return. */
SHMIPC_APART static int release_slowly(struct shmipc_consumer *self)
{
    const int result =
        self->peeked.count != 0 ? shmipc_consume(self, &self->peeked) : refuse_unpeeked(self);
    shmipc_handle_leave(&self->handle);
    return result;
}

SHMIPC_APART static int enter_and_release(struct shmipc_consumer *self)
{
    const int result = shmipc_handle_enter_slowly((struct shmipc_handle *)self, CONSUMER);
    return result == SHMIPC_SUCCESS ? release_slowly(self) : result;
}

int shmipc_consumer_release(struct shmipc_consumer *consumer)
{
    if (SHMIPC_UNLIKELY(consumer == NULL) ||
        !shmipc_handle_try_enter((struct shmipc_handle *)consumer, CONSUMER)) {
        return enter_and_release(consumer);
    }
    if (SHMIPC_UNLIKELY(consumer->peeked.count == 0 || consumer->role.ring.map.overwrite)) {
        return release_slowly(consumer);
    }
    shmipc_advance_past(consumer, &consumer->peeked);
    consumer->peeked.count = 0;
    return shmipc_release_and_leave(consumer);
}

/* Slow path of next with all checks. Handle entered on call, left on return. */
SHMIPC_APART static int next_slowly(struct shmipc_consumer *self, struct shmipc_view *view)
{
    int result = view != NULL ? SHMIPC_SUCCESS : shmipc_refuse_null("view");
    if (result == SHMIPC_SUCCESS && self->peeked.count != 0) {
        result = shmipc_consume(self, &self->peeked);
    }
    if (result == SHMIPC_SUCCESS) {
        result = look(self, false, 1, view);
    }
    shmipc_handle_leave(&self->handle);
    return result;
}

SHMIPC_APART static int enter_and_next(struct shmipc_consumer *self, struct shmipc_view *view)
{
    const int result = shmipc_handle_enter_slowly((struct shmipc_handle *)self, CONSUMER);
    return result == SHMIPC_SUCCESS ? next_slowly(self, view) : result;
}

/* The cursor was published, and the producer may be waiting for it. */
SHMIPC_APART static int wake_and_peek(struct shmipc_consumer *self, uint64_t old_pos,
                                      struct shmipc_view *view)
{
    shmipc_consumer_role_wake_producer(&self->role, old_pos);
    return peek_slowly(self, view);
}

int shmipc_consumer_next(struct shmipc_consumer *consumer, struct shmipc_view *view)
{
    if (SHMIPC_UNLIKELY(consumer == NULL) ||
        !shmipc_handle_try_enter((struct shmipc_handle *)consumer, CONSUMER)) {
        return enter_and_next(consumer, view);
    }
    struct shmipc_consumer_role *role = &consumer->role;
    if (SHMIPC_UNLIKELY(view == NULL || role->ring.map.overwrite)) {
        return next_slowly(consumer, view);
    }
    uint64_t pos = role->ring.read_pos;
    if (consumer->peeked.count != 0) {
        const uint64_t old_pos = role->ring.cursor_pos;
        pos = consumer->peeked.end_pos;
        shmipc_advance_past(consumer, &consumer->peeked);
        if (SHMIPC_UNLIKELY(
                shmipc_ring_publish_cursor(&role->ring) &&
                shmipc_wait_wanted(&role->ring.map.shared->space.sleepers, role->asymmetric))) {
            return wake_and_peek(consumer, old_pos, view);
        }
    }
    return peek_inside(consumer, pos, view);
}

/* The first `count` of several that are peeked at. A result. */
static int split_peeked(struct shmipc_consumer *self, uint64_t count, struct shmipc_stretch *part)
{
    struct shmipc_ring_consumer *ring = &self->role.ring;
    *part = (struct shmipc_stretch){0, ring->read_pos, 0};
    if (shmipc_consumer_is_typed(self)) {
        part->count = count;
        part->end_pos += count * ring->map.item_stride;
        return SHMIPC_SUCCESS;
    }
    while (part->count < count) {
        struct shmipc_message message;
        const enum shmipc_status status = shmipc_message_decode(
            &ring->map, part->end_pos, ring->head_pos_cached - part->end_pos, &message);
        if (status != SHMIPC_OK) {
            return shmipc_consumer_fail(self, status); /* the peek had found it whole */
        }
        *part = shmipc_stretch_of(&message, part->count + 1);
    }
    return SHMIPC_SUCCESS;
}

int shmipc_consumer_release_n(struct shmipc_consumer *consumer, uint64_t count)
{
    struct shmipc_stretch part;
    int result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    if (consumer->peeked.count == 0) {
        result = refuse_unpeeked(consumer);
    } else if (count > consumer->peeked.count) {
        result = shmipc_result_fail(SHMIPC_E_INVALID, "%llu are more than the %llu peeked at",
                                    (unsigned long long)count,
                                    (unsigned long long)consumer->peeked.count);
    } else if (count == consumer->peeked.count) {
        result = shmipc_consume(consumer, &consumer->peeked);
    } else if (count == 0) {
        consumer->peeked.count = 0; /* all of it is still to be peeked at */
    } else {
        result = split_peeked(consumer, count, &part);
        if (result == SHMIPC_SUCCESS) {
            result = shmipc_consume(consumer, &part);
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
    const bool intact =
        consumer->peeked.count != 0 &&
        shmipc_ring_intact(&consumer->role.ring.map, consumer->role.ring.read_pos) &&
        !shmipc_segment_is_damaged(&consumer->role.segment);
    shmipc_handle_leave(&consumer->handle);
    return intact;
}
