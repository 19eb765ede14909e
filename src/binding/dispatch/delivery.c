/*
 * delivery.c: one event: what it is to this subscription, and the call of its handler.
 *
 * In a ring that overwrites, an event is copied and found whole before anything of it is believed,
 * and the record is of the copy.
 */
#include "../base/state.h"
#include "../base/errors.h"
#include "../base/handle.h"
#include "../ring/consumer_object.h"
#include "../ring/frame_object.h"
#include "../ring/producer_object.h"
#include "dispatcher.h"

/* Step over a message without giving it back yet. */
void subscription_step_over(ConsumerObject *consumer, const struct shmipc_message *message)
{
    Py_BEGIN_CRITICAL_SECTION(consumer);
    shmipc_ring_advance(&consumer->core.ring, message);
    Py_END_CRITICAL_SECTION();
}

void subscription_release(ConsumerObject *consumer)
{
    Py_BEGIN_CRITICAL_SECTION(consumer);
    if (!consumer->core.segment.forked && !consumer->abandoned) { /* a callable may do either */
        shmipc_consumer_role_release(&consumer->core);
    }
    Py_END_CRITICAL_SECTION();
}

/* The exception now set is the ring's, not a callable's: say which ring's. */
void subscription_blame(const struct subscription *subscription)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL &&
        PyObject_SetAttrString(value, "consumer", (PyObject *)subscription->consumer) != 0) {
        PyErr_Clear(); /* an exception without a __dict__ stays as it is */
    }
    PyErr_Restore(type, value, traceback);
}

static int raise_wrong_length(const struct subscription *subscription,
                              const struct handler *handler, const struct shmipc_message *message)
{
    PyErr_Format(
        subscription->consumer->handle.state->exceptions[EXCEPTION_SCHEMA_MISMATCH],
        "message %llu of ring %R has kind %R and %llu byte%s, but %R has %zu: do both sides "
        "have the same schema?",
        (unsigned long long)message->seq, subscription->consumer->handle.name, handler->key,
        (unsigned long long)message->len, SHMIPC_S(message->len), handler->type, handler->len);
    return -1;
}

/* Is this reader among those that a targeted message is meant for? */
static bool is_target(const struct subscription *subscription, const unsigned char *targets)
{
    return (targets[subscription->reader >> 3] >> (subscription->reader & 7) & 1) != 0;
}

/* What to make of a message. -1 with an exception; the message is where it was. */
static int classify(struct subscription *subscription, const struct shmipc_message *message,
                    struct event *event)
{
    ConsumerObject *consumer = subscription->consumer;
    const bool targeted = subscription->reader >= 0 && (message->flags & TARGETED_FLAG) != 0;
    struct handler *handler = subscription_handler(subscription, message->kind);
    *event = (struct event){NULL, message->data, false, false};
    if (handler == NULL || message->seq < subscription->from_seq) {
        return 0;
    }
    if (message->len != handler->len + (targeted ? TARGETS_LEN : 0)) {
        event->refused = true;
        return raise_wrong_length(subscription, handler, message);
    }
    if (subscription->scratch != NULL) {
        shmipc_copy_speculative(subscription->scratch, message->data, (size_t)message->len);
        if (!shmipc_ring_intact(&consumer->core.ring.map, message->pos)) {
            event->gone = true;
            return 0;
        }
        event->data = subscription->scratch;
        if (!check_whole(&consumer->handle)) {
            return -1;
        }
    }
    if (targeted && !is_target(subscription, event->data + handler->len)) {
        return 0;
    }
    if (subscription_chose(subscription, handler, event->data)) {
        event->handler = handler;
    }
    return 0;
}

/* The next message, if there is one. 1: yes. 0: no. -1: an exception. */
static int next_message(struct subscription *subscription, struct shmipc_message *message)
{
    ConsumerObject *consumer = subscription->consumer;
    const enum shmipc_status status = shmipc_ring_peek(&consumer->core.ring, message);
    if (status == SHMIPC_EMPTY) {
        return 0;
    }
    if (SHMIPC_UNLIKELY(status != SHMIPC_OK)) {
        (void)raise_status(&consumer->handle, status);
        return -1;
    }
    if (SHMIPC_UNLIKELY(!check_whole(&consumer->handle))) {
        return -1;
    }
    if (consumer->handle.dtype != NULL) {
        message->kind = 0;
        message->flags = 0;
        message->seq = shmipc_ring_seq_of(&consumer->core.ring.map, message->pos);
    }
    return 1;
}

/* Tell of what was overwritten since the last time, before the event that follows the gap. */
int subscription_tell_lost(struct subscription *subscription)
{
    const uint64_t lost = subscription->consumer->core.ring.lost;
    const uint64_t more = lost - subscription->lost_told;
    if (SHMIPC_LIKELY(more == 0)) {
        return 0;
    }
    subscription->lost_told = lost;
    if (subscription->on_lost == NULL) {
        return 0;
    }
    PyObject *number = PyLong_FromUnsignedLongLong(more);
    PyObject *answer = number == NULL ? NULL : PyObject_CallOneArg(subscription->on_lost, number);
    Py_XDECREF(number);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

/* The handler's record, on this event's bytes: a new reference. */
static PyObject *record_of(struct handler *handler, FrameObject *frame, const unsigned char *data)
{
#ifndef Py_GIL_DISABLED /* where another thread may be about to read it, each event has its own */
    if (SHMIPC_LIKELY(handler->record != NULL && Py_REFCNT(handler->record) == 1)) {
        if (frame != NULL) {
            record_move_leased(handler->record, frame, data);
        } else {
            record_move_owned(handler->record, data);
        }
        return Py_NewRef(handler->record);
    }
#endif
    PyObject *record = frame != NULL ? record_new_leased(handler->type, frame, data)
                                     : record_new_owned(handler->type, data);
    if (record != NULL) {
        Py_XSETREF(handler->record, Py_NewRef(record));
    }
    return record;
}

int handler_call(DispatcherObject *self, const struct event *event,
                 const struct shmipc_message *message, FrameObject *frame)
{
    PyObject *args[2] = {NULL, record_of(event->handler, frame, event->data)};
    if (args[1] == NULL) {
        return -1;
    }
    self->current = event->data;
    self->current_len = event->handler->len;
    self->current_seq = message->seq;
    PyObject *answer = PyObject_Vectorcall(event->handler->callable, args + 1,
                                           1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    self->current = NULL;
    Py_DECREF(args[1]);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

enum glance subscription_glance(struct subscription *subscription, struct shmipc_message *message,
                                struct event *event)
{
    event->refused = false;
    const int next = next_message(subscription, message);
    if (next == 0) {
        return GLANCE_EMPTY;
    }
    if (next < 0 || classify(subscription, message, event) != 0) {
        subscription_blame(subscription);
        return GLANCE_FAILED;
    }
    if (SHMIPC_UNLIKELY(event->gone)) {
        shmipc_ring_resync(&subscription->consumer->core.ring);
        return GLANCE_SKIP;
    }
    if (event->handler == NULL) {
        subscription_step_over(subscription->consumer, message);
        return GLANCE_SKIP;
    }
    return GLANCE_WANTED;
}

/* Was this subscription removed, or its consumer closed, by what it called? */
bool subscription_must_end(const struct subscription *subscription)
{
    /* Relaxed: what this thread's own callables did it sees anyway; another's close() waits. */
    return subscription->removed ||
           shmipc_load_relaxed(subscription->consumer->handle.interrupted) != 0;
}
