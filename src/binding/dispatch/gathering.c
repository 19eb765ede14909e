/*
 * gathering.c: messages into arrays: the loop that on_batch lives in.
 *
 * What is wanted of a burst is copied into an array a kind; then the ring is released, and each
 * array is handed over. Runs of like messages in a ring that blocks go by a shorter way.
 */
#include "../base/state.h"
#include "../base/errors.h"
#include "../base/handle.h"
#include "../ring/frame_object.h"
#include "dispatcher.h"

#define BATCH_MAX_LEN (1u << 18) /* bytes of one batch: stays in the second-level cache */

/* Runs of like messages, in fewer steps: a message ring that blocks, and messages of one kind in a
 * row. Whatever is otherwise it leaves where it is, for gather(). */
static uint64_t gather_alike(struct subscription *subscription, struct handler *handler,
                             uint64_t most)
{
    struct shmipc_ring_consumer *core = &subscription->consumer->core.ring;
    const size_t len = handler->len;
    const uint16_t odd_flags = subscription->reader >= 0 ? TARGETED_FLAG : 0;
    const uint64_t room = handler->batch_room - handler->batch_count;
    unsigned char *to = handler->batch_data + handler->batch_count * len;
    uint64_t count = 0;
    if (subscription->scratch != NULL || core->map.item_stride != 0) {
        return 0;
    }
    most = most < room ? most : room;
    Py_BEGIN_CRITICAL_SECTION(subscription->consumer);
    while (count < most && core->read_pos != core->head_pos_cached) {
        struct shmipc_message message;
        if (shmipc_message_decode(&core->map, core->read_pos,
                                  core->head_pos_cached - core->read_pos, &message) != SHMIPC_OK ||
            message.kind != handler->kind || message.len != len ||
            (message.flags & odd_flags) != 0 ||
            !subscription_chose(subscription, handler, message.data)) {
            break;
        }
        if (len == 64) { /* the usual lengths: a few instructions each */
            memcpy(to, message.data, 64);
        } else if (len == 128) {
            memcpy(to, message.data, 128);
        } else {
            memcpy(to, message.data, len);
        }
        to += len;
        count++;
        shmipc_ring_advance(core, &message);
    }
    Py_END_CRITICAL_SECTION();
    handler->batch_count += count;
    return count;
}

/* Room for one item more. 1: yes. 0: the batch is full. -1: an exception. */
static int make_room_in_batch(struct subscription *subscription, struct handler *handler,
                              uint64_t span)
{
    if (SHMIPC_LIKELY(handler->batch_count > 0)) {
        return handler->batch_count < handler->batch_room;
    }
    if (handler->batch == NULL) {
        const struct shmipc_ring_consumer *ring = &subscription->consumer->core.ring;
        const uint64_t ahead = ring->head_pos_cached - ring->read_pos;
        const uint64_t quarter = ring->map.area_len / 4;
        const uint64_t ready = (ahead < quarter ? ahead : quarter) / span;
        const uint64_t fits = BATCH_MAX_LEN / handler->len;
        handler->batch_room = ready < fits ? ready : fits;
        handler->batch_room = handler->batch_room > 0 ? handler->batch_room : 1;
        handler->batch =
            batch_new(record_dtype_of(handler->type), handler->batch_room, &handler->batch_data);
        if (handler->batch == NULL) {
            return -1;
        }
    }
    subscription->gathered[subscription->gathered_count++] = handler;
    return 1;
}

/* Copy what is wanted into the handlers' batches, up to `most` events, a full batch or a quarter of
 * the ring (which is released when all is handed over: the producer has the rest meanwhile).
 * Something gathered and then an error: the error comes again, alone. */
static int gather(struct subscription *subscription, uint64_t most, bool *stepped)
{
    struct shmipc_message message;
    struct event event;
    const struct shmipc_ring_consumer *ring = &subscription->consumer->core.ring;
    const uint64_t begin_pos = ring->read_pos;
    uint64_t count = 0;
    for (uint64_t steps = 0; count < most && steps < most + STEPS_MAX; steps++) {
        if (ring->read_pos - begin_pos >= ring->map.area_len / 4) {
            return 0;
        }
        const enum glance seen = subscription_glance(subscription, &message, &event);
        if (seen == GLANCE_EMPTY) {
            return 0;
        }
        if (seen == GLANCE_FAILED && count > 0) {
            PyErr_Clear();
            return 0;
        }
        if (seen == GLANCE_FAILED) {
            if (event.refused) {
                subscription_step_over(subscription->consumer, &message);
                *stepped = true;
            }
            return -1;
        }
        *stepped = true;
        if (seen == GLANCE_SKIP) {
            continue;
        }
        if (SHMIPC_UNLIKELY(subscription->consumer->core.ring.lost != subscription->lost_told)) {
            if (count > 0) {
                return 0; /* told between what came before the gap and what comes after */
            }
            if (subscription_tell_lost(subscription) != 0) {
                return -1;
            }
            if (subscription_must_end(subscription)) {
                return 0;
            }
        }
        struct handler *handler = event.handler;
        const int room = make_room_in_batch(subscription, handler, message.span);
        if (room <= 0) {
            return room;
        }
        memcpy(handler->batch_data + handler->batch_count * handler->len, event.data, handler->len);
        handler->batch_count++;
        count++;
        subscription_step_over(subscription->consumer, &message);
        count += gather_alike(subscription, handler, most - count);
    }
    return 0;
}

static bool can_keep(const struct handler *handler)
{
    return handler->batch_room == BATCH_MAX_LEN / handler->len;
}

/* Fill the same memory again if nobody kept it: it is in the cache. */
static void keep_batch(struct handler *handler)
{
#ifndef Py_GIL_DISABLED
    if (Py_REFCNT(handler->batch) == 1 && can_keep(handler)) {
        return;
    }
#endif
    Py_CLEAR(handler->batch);
}

/* Call with the whole batch. 0, or -1 with an exception. */
static int hand_over_array(DispatcherObject *self, struct handler *handler, PyObject *batch,
                           uint64_t count)
{
    PyObject *args[3] = {NULL, handler->key, batch};
    self->current = handler->batch_data + (count - 1) * handler->len;
    self->current_len = handler->len;
    PyObject *answer =
        PyObject_Vectorcall(handler->callable, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    self->current = NULL;
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

/* Call for the next of the batch, which is some other kind's neighbour. */
static int hand_over_one(DispatcherObject *self, struct handler *handler)
{
    const struct shmipc_message message = {.seq = 0};
    const struct event event = {handler, handler->batch_data + handler->batch_done * handler->len,
                                false, false};
    return handler_call(self, &event, &message, NULL);
}

/* What was gathered of one kind. The number called for, or -1: what was not called for stays. */
static Py_ssize_t hand_over_kind(DispatcherObject *self, struct subscription *subscription,
                                 struct handler *handler, Py_ssize_t most)
{
    const uint64_t count = handler->batch_count;
    Py_ssize_t called = 0;
    int result = 0;
    if (handler->single) {
        while (result == 0 && handler->batch_done < count && called < most &&
               !atomic_load_explicit(&self->stopping, memory_order_relaxed)) {
            result = hand_over_one(self, handler);
            handler->batch_done++;
            called += result == 0;
            if (SHMIPC_UNLIKELY(result == 0 && !handle_is_ours(&subscription->consumer->handle))) {
                subscription_blame(subscription);
                return -1;
            }
        }
        if (handler->batch_done < count) {
            return result != 0 ? -1 : called;
        }
    }
    /* What is kept to be filled again is not handed out itself: its dtype and flags can be set. */
    const bool whole = count == handler->batch_room && !can_keep(handler);
    PyObject *batch =
        handler->single || whole ? Py_NewRef(handler->batch) : batch_first(handler->batch, count);
    if (batch == NULL) {
        return -1;
    }
    subscription->gathered_count--;
    memmove(subscription->gathered, subscription->gathered + 1,
            subscription->gathered_count * sizeof *subscription->gathered);
    handler->batch_count = 0;
    handler->batch_done = 0;
    if (!handler->single) {
        result = hand_over_array(self, handler, batch, count);
        called = (Py_ssize_t)count;
    }
    Py_DECREF(batch);
    keep_batch(handler);
    return result != 0 ? -1 : called;
}

static Py_ssize_t hand_over(DispatcherObject *self, struct subscription *subscription,
                            Py_ssize_t most)
{
    Py_ssize_t called = 0;
    while (subscription->gathered_count > 0 && called < most &&
           !atomic_load_explicit(&self->stopping, memory_order_relaxed)) {
        const Py_ssize_t more =
            hand_over_kind(self, subscription, subscription->gathered[0], most - called);
        if (more < 0) {
            return -1;
        }
        called += more;
    }
    return called;
}

/* Forget what was gathered: it may be zeros. */
static void discard(struct subscription *subscription)
{
    for (uint32_t i = 0; i < subscription->gathered_count; i++) {
        subscription->gathered[i]->batch_count = 0;
        subscription->gathered[i]->batch_done = 0;
    }
    subscription->gathered_count = 0;
}

Py_ssize_t subscription_dispatch_batches(DispatcherObject *self, struct subscription *subscription,
                                         Py_ssize_t most, bool *stepped)
{
    const bool some_left =
        subscription->gathered_count > 0; /* by a call that raised, or by stop() */
    const int result = some_left ? 0 : gather(subscription, (uint64_t)most, stepped);
    Py_ssize_t called = -1;
    if (!some_left && SHMIPC_UNLIKELY(!check_whole(&subscription->consumer->handle))) {
        subscription_blame(subscription);
        discard(subscription);
    } else if (result == 0 &&
               (subscription->gathered_count > 0 || subscription_tell_lost(subscription) == 0)) {
        called = hand_over(self, subscription, most);
    }
    if (subscription->gathered_count == 0) {
        subscription_release(
            subscription->consumer); /* not before: until then it counts as unread */
    }
    return called;
}
