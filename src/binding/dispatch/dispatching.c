/*
 * dispatching.c: messages into calls: the loop that a strategy lives in.
 *
 * Two ways. Singly: a record on the ring's memory for each event, under one lease that lasts for
 * the burst, or with retry for the event; the record object serves the next event too unless the
 * callable kept it. A kept one reads on until the lease is over, and is refused after that. In
 * batches (gathering.c): what is wanted is copied into an array a kind and handed over; a kind of
 * such a ring whose handler is for single events is gathered like the others, and handed over one
 * by one.
 */
#include "../base/errors.h"
#include "../base/handle.h"
#include "../ring/consumer_object.h"
#include "../ring/frame_object.h"
#include "dispatcher.h"

/* A lease from this message on: a new reference. The frame that only the handler's own record has
 * serves again, and so does that record. */
static PyObject *hold_for(const struct handler *handler, ConsumerObject *consumer,
                          const struct shmipc_message *message)
{
#ifndef Py_GIL_DISABLED
    if (SHMIPC_LIKELY(handler->record != NULL && Py_REFCNT(handler->record) == 1)) {
        FrameObject *frame = ((RecordObject *)handler->record)->frame;
        if (SHMIPC_LIKELY(frame != NULL && Py_REFCNT(frame) == 1 && frame->consumer == consumer &&
                          frame_try_hold_again(frame, message))) {
            return Py_NewRef((PyObject *)frame);
        }
    }
#else
    (void)handler;
#endif
    return frame_hold(consumer, message);
}

static void let_go(PyObject **frame)
{
    frame_release_softly((FrameObject *)*frame);
    Py_CLEAR(*frame);
}

static Py_ssize_t dispatch_singly(DispatcherObject *self, struct subscription *subscription,
                                  Py_ssize_t most, bool *stepped)
{
    ConsumerObject *consumer = subscription->consumer;
    const struct shmipc_ring *ring = &consumer->core.ring.map;
    const uint64_t begin_pos = consumer->core.ring.read_pos;
    struct shmipc_message message;
    struct event event;
    PyObject *frame = NULL;
    Py_ssize_t called = 0;
    enum glance seen = GLANCE_SKIP;
    for (int steps = 0; called < most && steps < STEPS_MAX && !subscription_must_end(subscription);
         steps++) {
        seen = subscription_glance(subscription, &message, &event);
        if (seen == GLANCE_FAILED || seen == GLANCE_EMPTY) {
            if (event.refused) {
                subscription_step_over(consumer, &message);
                *stepped = true;
            }
            break;
        }
        *stepped = true;
        if (seen == GLANCE_SKIP) {
            continue;
        }
        if (SHMIPC_UNLIKELY(subscription_tell_lost(subscription) != 0)) {
            seen = GLANCE_FAILED;
            break;
        }
        if (SHMIPC_UNLIKELY(subscription_must_end(subscription))) {
            break; /* on_lost ended it: the event stays unread */
        }
        if (frame == NULL && !ring->overwrite) {
            frame = hold_for(event.handler, consumer, &message);
            if (frame == NULL) {
                seen = GLANCE_FAILED;
                break;
            }
        }
        const int result = handler_call(self, &event, &message, (FrameObject *)frame);
        if (result == 0 || !subscription->retry) {
            subscription_step_over(consumer, &message);
        }
        if (result != 0) {
            seen = GLANCE_FAILED;
            break;
        }
        if (SHMIPC_UNLIKELY(!handle_is_ours(&consumer->handle))) {
            subscription_blame(
                subscription); /* the callable forked: what follows is the parent's */
            seen = GLANCE_FAILED;
            break;
        }
        if (SHMIPC_UNLIKELY(!check_whole(&consumer->handle))) {
            subscription_blame(subscription); /* what the callable saw may have been zeros */
            seen = GLANCE_FAILED;
            break;
        }
        called++;
        if (subscription->retry && frame != NULL) {
            let_go(&frame); /* dying now, this process leaves no more than the event in hand */
        }
        if (atomic_load_explicit(&self->stopping, memory_order_relaxed) ||
            consumer->core.ring.read_pos - begin_pos > ring->area_len / 8) {
            break; /* the latter: so that a slow reader gives memory back in good time */
        }
    }
    if (seen == GLANCE_EMPTY && subscription_tell_lost(subscription) != 0) {
        seen = GLANCE_FAILED;
    }
    if (frame != NULL) {
        let_go(&frame);
    } else if (*stepped) {
        subscription_release(consumer);
    }
    return seen == GLANCE_FAILED ? -1 : called;
}

Py_ssize_t subscription_dispatch(DispatcherObject *dispatcher, struct subscription *subscription,
                                 Py_ssize_t most, bool *stepped)
{
    ConsumerObject *consumer = subscription->consumer;
    if (!handle_enter(&consumer->handle)) {
        subscription_blame(subscription);
        return -1;
    }
    const Py_ssize_t called =
        subscription->batches || subscription->gathered_count > 0 /* inherited */
            ? subscription_dispatch_batches(dispatcher, subscription, most, stepped)
            : dispatch_singly(dispatcher, subscription, most, stepped);
    handle_leave(&consumer->handle);
    return called;
}
