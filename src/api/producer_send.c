/* producer_send.c: what a producer of shmipc.h sends by copying: one, runs. In place:
 * producer_reserve.c. */
#include "producer_send.h"

#include "../core/ring/bulk.h"
#include "cancel.h"
#include "copy.h"

#define PRODUCER SHMIPC_TAG_PRODUCER

static int fail_with(const struct shmipc_producer *self, enum shmipc_status status)
{
    return shmipc_ring_result(&self->handle, &self->role.segment, status, SHMIPC_SIDE_PRODUCER);
}

/* The wait for room timed out: name the slowest consumer. */
static int fail_full(const struct shmipc_producer *self)
{
    uint32_t pid;
    uint64_t lag;
    if (!shmipc_producer_role_slowest(&self->role, &pid, &lag)) {
        return SHMIPC_E_FULL;
    }
    return pid == 0
               ? shmipc_result_fail(SHMIPC_E_FULL,
                                    "ring \"%s\" is full and no consumer is attached; it keeps "
                                    "%llu for the next one",
                                    self->handle.name, (unsigned long long)lag)
               : shmipc_result_fail(SHMIPC_E_FULL,
                                    "ring \"%s\" is full: its slowest consumer, process %u, "
                                    "has not released %llu",
                                    self->handle.name, pid, (unsigned long long)lag);
}

/* ---- room ----------------------------------------------------------------------------------- */

int shmipc_make_room_slowly(struct shmipc_producer *self, uint64_t len, int64_t timeout_ns,
                            unsigned char **at)
{
    struct shmipc_producer_role *role = &self->role;
    enum shmipc_status status = shmipc_ring_reserve(&role->ring, len, at);
    if (status != SHMIPC_FULL) {
        return fail_with(self, status);
    }
    if (timeout_ns == 0) {
        status = shmipc_producer_role_poll_peers(role);
    } else {
        SHMIPC_UNCANCELLED();
        struct shmipc_wait wait = {0};
        int result = SHMIPC_SUCCESS;
        const uint64_t deadline_ns = shmipc_deadline_after(timeout_ns);
        while (result == SHMIPC_SUCCESS) {
            status = shmipc_producer_role_wait_room(role, &wait, len, deadline_ns);
            if (status == SHMIPC_CLOSED) {
                result = shmipc_take_interrupt(&self->handle, PRODUCER, &role->interrupted);
            } else if (status != SHMIPC_AGAIN) {
                break;
            }
        }
        if (result != SHMIPC_SUCCESS) {
            return result;
        }
    }
    if (status == SHMIPC_OK) {
        status = shmipc_ring_reserve(&role->ring, len, at);
    }
    return status == SHMIPC_TIMEOUT ? fail_full(self) : fail_with(self, status);
}

static int notify(struct shmipc_producer *self)
{
    const enum shmipc_status status = shmipc_producer_role_notify(&self->role);
    return SHMIPC_LIKELY(status == SHMIPC_OK) ? SHMIPC_SUCCESS : fail_with(self, status);
}

SHMIPC_APART int shmipc_finish_slowly(struct shmipc_producer *self)
{
    const int result = notify(self);
    shmipc_handle_leave(&self->handle);
    return result;
}

/* ---- refusals ------------------------------------------------------------------------------- */

int shmipc_refuse_reserved(const struct shmipc_producer *self)
{
    return shmipc_result_fail(SHMIPC_E_MISUSE,
                              "ring \"%s\" has an open reservation: commit or abort it before "
                              "anything else is sent",
                              self->handle.name);
}

int shmipc_refuse_producer_framing(const struct shmipc_producer *self, const char *instead)
{
    return shmipc_result_fail(SHMIPC_E_MISMATCH, "ring \"%s\" is a %s ring: use %s",
                              self->handle.name,
                              shmipc_producer_is_typed(self) ? "typed" : "message", instead);
}

int shmipc_refuse_kind(uint32_t kind, uint32_t flags)
{
    return shmipc_result_fail(SHMIPC_E_INVALID,
                              "kind %u, flags %u: a kind is 1 to 65535, flags are 0 to 65535", kind,
                              flags);
}

static int check_kind(uint32_t kind, uint32_t flags)
{
    return shmipc_kind_is_valid(kind, flags) ? SHMIPC_SUCCESS : shmipc_refuse_kind(kind, flags);
}

int shmipc_refuse_message_len(const struct shmipc_producer *self, uint64_t len)
{
    const uint64_t area = self->role.ring.map.area_len;
    uint64_t most = area - sizeof(struct shmipc_message_header);
    most = most < SHMIPC_MAX_MESSAGE_LEN ? most : SHMIPC_MAX_MESSAGE_LEN;
    return shmipc_result_fail(SHMIPC_E_TOO_LARGE,
                              "a message of %llu bytes never fits ring \"%s\", whose largest is "
                              "%llu: create it with a larger capacity",
                              (unsigned long long)len, self->handle.name, (unsigned long long)most);
}

static int check_message_len(const struct shmipc_producer *self, uint64_t len)
{
    return shmipc_message_fits(self, len) ? SHMIPC_SUCCESS : shmipc_refuse_message_len(self, len);
}

/* Enter to send to a ring of this framing. A result; after SUCCESS leave must follow. */
static int enter_to_send(struct shmipc_producer *self, bool typed, const char *instead)
{
    int result = shmipc_handle_enter((struct shmipc_handle *)self, PRODUCER);
    if (SHMIPC_UNLIKELY(result != SHMIPC_SUCCESS)) {
        return result;
    }
    if (SHMIPC_UNLIKELY(self->reserved != NULL)) {
        result = shmipc_refuse_reserved(self);
    } else if (SHMIPC_UNLIKELY(shmipc_producer_is_typed(self) != typed)) {
        result = shmipc_refuse_producer_framing(self, instead);
    } else {
        return SHMIPC_SUCCESS;
    }
    shmipc_handle_leave(&self->handle);
    return result;
}

/* ---- sending -------------------------------------------------------------------------------- */

static int send_item(struct shmipc_producer *self, const void *data, size_t len, uint32_t kind,
                     uint32_t flags, int64_t timeout_ns)
{
    struct shmipc_ring_producer *ring = &self->role.ring;
    unsigned char *at;
    if (kind != 0 || flags != 0) {
        return shmipc_result_fail(SHMIPC_E_INVALID,
                                  "ring \"%s\" is typed: its items have no kind or flags (give 0); "
                                  "make them fields of the dtype",
                                  self->handle.name);
    }
    if (len != ring->map.item_len) {
        return shmipc_result_fail(SHMIPC_E_MISMATCH,
                                  "ring \"%s\" takes items of %llu byte%s (%s), not %zu",
                                  self->handle.name, (unsigned long long)ring->map.item_len,
                                  SHMIPC_S(ring->map.item_len), self->schema, len);
    }
    const int result = shmipc_make_room(self, ring->map.item_stride, timeout_ns, &at);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    shmipc_copy(at, data, len);
    shmipc_ring_commit(ring, ring->map.item_stride);
    return notify(self);
}

static int send_message(struct shmipc_producer *self, const void *data, size_t len, uint32_t kind,
                        uint32_t flags, int64_t timeout_ns)
{
    struct shmipc_ring_producer *ring = &self->role.ring;
    unsigned char *at;
    int result = check_kind(kind, flags);
    if (result == SHMIPC_SUCCESS) {
        result = check_message_len(self, len);
    }
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_make_room(self, shmipc_message_span(len), timeout_ns, &at);
    }
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    shmipc_message_header_store(at, (uint32_t)len, (uint16_t)kind, (uint16_t)flags, ring->next_seq);
    shmipc_copy(at + sizeof(struct shmipc_message_header), data, len);
    shmipc_ring_commit_messages(ring, shmipc_message_span(len), 1);
    return notify(self);
}

/* Slow path of send with all checks. Handle entered on call, left on return. */
SHMIPC_APART static int send_slowly(struct shmipc_producer *producer, const void *data, size_t len,
                                    uint32_t kind, uint32_t flags, int64_t timeout_ns)
{
    int result;
    if (producer->reserved != NULL) {
        result = shmipc_refuse_reserved(producer);
    } else if (data == NULL && len != 0) {
        result = shmipc_refuse_null("data");
    } else if ((result = shmipc_check_timeout(timeout_ns)) != SHMIPC_SUCCESS) {
        /* reported already */
    } else if (shmipc_producer_is_typed(producer)) {
        result = send_item(producer, data, len, kind, flags, timeout_ns);
    } else {
        result = send_message(producer, data, len, kind, flags, timeout_ns);
    }
    shmipc_handle_leave(&producer->handle);
    return result;
}

SHMIPC_APART static int enter_and_send(struct shmipc_producer *producer, const void *data,
                                       size_t len, uint32_t kind, uint32_t flags,
                                       int64_t timeout_ns)
{
    const int result = shmipc_handle_enter_slowly((struct shmipc_handle *)producer, PRODUCER);
    return result == SHMIPC_SUCCESS ? send_slowly(producer, data, len, kind, flags, timeout_ns)
                                    : result;
}

int shmipc_producer_send(struct shmipc_producer *producer, const void *data, size_t len,
                         uint32_t kind, uint32_t flags, int64_t timeout_ns)
{
    if (SHMIPC_UNLIKELY(producer == NULL) ||
        !shmipc_handle_try_enter((struct shmipc_handle *)producer, PRODUCER)) {
        return enter_and_send(producer, data, len, kind, flags, timeout_ns);
    }
    struct shmipc_ring_producer *ring = &producer->role.ring;
    if (SHMIPC_UNLIKELY(producer->reserved != NULL || data == NULL || timeout_ns < SHMIPC_FOREVER ||
                        len > SHMIPC_COPY_INLINE_LEN)) {
        return send_slowly(producer, data, len, kind, flags, timeout_ns);
    }
    const uint64_t stride = ring->map.item_stride;
    if (stride == 0) {
        const uint64_t span = shmipc_message_span(len); /* so short that it fits every ring */
        if (SHMIPC_UNLIKELY(!shmipc_kind_is_valid(kind, flags) ||
                            !shmipc_has_room(producer, span))) {
            return send_slowly(producer, data, len, kind, flags, timeout_ns);
        }
        unsigned char *at = shmipc_head_at(producer);
        shmipc_message_header_store(at, (uint32_t)len, (uint16_t)kind, (uint16_t)flags,
                                    ring->next_seq);
        shmipc_copy_short(at + sizeof(struct shmipc_message_header), data, len);
        shmipc_ring_commit_messages(ring, span, 1);
    } else {
        if (SHMIPC_UNLIKELY((kind | flags) != 0 || len != ring->map.item_len ||
                            !shmipc_has_room(producer, stride))) {
            return send_slowly(producer, data, len, kind, flags, timeout_ns);
        }
        shmipc_copy_short(shmipc_head_at(producer), data, len);
        shmipc_ring_commit(ring, stride);
    }
    return shmipc_finish(producer);
}

/* ---- sending many --------------------------------------------------------------------------- */

struct bulk {
    struct shmipc_producer *producer;
    const unsigned char *items;
    int64_t timeout_ns;
    uint64_t deadline_ns;
};

static int bulk_make_room(void *self, uint64_t len)
{
    struct bulk *bulk = self;
    unsigned char *ignored;
    return shmipc_make_room(bulk->producer, len,
                            shmipc_timeout_left(bulk->timeout_ns, &bulk->deadline_ns), &ignored);
}

static void bulk_copy(void *self, unsigned char *to, uint64_t first, uint64_t count)
{
    const struct bulk *bulk = self;
    const struct shmipc_ring *ring = &bulk->producer->role.ring.map;
    const unsigned char *from = bulk->items + first * ring->item_len;
    if (ring->item_stride == ring->item_len) {
        shmipc_copy(to, from, (size_t)(count * ring->item_len));
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        shmipc_copy(to + i * ring->item_stride, from + i * ring->item_len, (size_t)ring->item_len);
    }
}

static int bulk_fail(void *self, enum shmipc_status status)
{
    return fail_with(((struct bulk *)self)->producer, status);
}

static const struct shmipc_bulk_calls bulk_calls = {bulk_make_room, bulk_copy, bulk_fail};

int shmipc_producer_send_n(struct shmipc_producer *producer, const void *items, uint64_t count,
                           int64_t timeout_ns, uint64_t *sent)
{
    uint64_t ignored;
    uint64_t *done = sent != NULL ? sent : &ignored;
    *done = 0;
    int result = enter_to_send(producer, true, "shmipc_producer_send_messages()");
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    result = items == NULL && count != 0 ? shmipc_refuse_null("items")
                                         : shmipc_check_timeout(timeout_ns);
    if (result == SHMIPC_SUCCESS) {
        struct bulk bulk = {producer, items, timeout_ns, 0};
        result = shmipc_bulk_send_items(&producer->role, count, &bulk_calls, &bulk, done);
    }
    shmipc_handle_leave(&producer->handle);
    return result;
}

static int add_to_run(struct bulk *bulk, struct shmipc_run *run, const struct shmipc_view *message,
                      uint64_t *sent)
{
    struct shmipc_producer *self = bulk->producer;
    unsigned char *payload;
    int result = check_kind(message->kind, message->flags);
    if (result == SHMIPC_SUCCESS) {
        result = message->data == NULL && message->len != 0 ? shmipc_refuse_null("a message's data")
                                                            : check_message_len(self, message->len);
    }
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_run_add(&self->role, run, message->len, message->kind, message->flags,
                                SHMIPC_RUN_LEN, &bulk_calls, bulk, sent, &payload);
    }
    if (result == SHMIPC_SUCCESS) {
        shmipc_copy(payload, message->data, (size_t)message->len);
    }
    return result;
}

int shmipc_producer_send_messages(struct shmipc_producer *producer,
                                  const struct shmipc_view *messages, size_t count,
                                  int64_t timeout_ns, size_t *sent)
{
    struct bulk bulk = {producer, NULL, timeout_ns, 0};
    struct shmipc_run run = {0, 0};
    uint64_t done = 0;
    if (sent != NULL) {
        *sent = 0;
    }
    int result = enter_to_send(producer, false, "shmipc_producer_send_n()");
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    result = messages == NULL && count != 0 ? shmipc_refuse_null("messages")
                                            : shmipc_check_timeout(timeout_ns);
    for (size_t i = 0; i < count && result == SHMIPC_SUCCESS; i++) {
        result = add_to_run(&bulk, &run, &messages[i], &done);
    }
    /* What came before a failure is sent. */
    const int last = shmipc_run_commit(&producer->role, &run, &bulk_calls, &bulk, &done);
    if (sent != NULL) {
        *sent = (size_t)done;
    }
    shmipc_handle_leave(&producer->handle);
    return result == SHMIPC_SUCCESS ? last : result;
}
