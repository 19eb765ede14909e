/*
 * dispatching.c: messages into calls: the loop that a strategy lives in.
 *
 * Two ways. Singly: a record on the ring's memory for each event, under one lease that lasts for
 * the burst, or with retry for the event; the record object serves the next event too unless the
 * callable kept it. A kept one reads on until the lease is over, and is refused after that. In
 * batches: what is wanted is copied into an array a kind, the ring is released, and each array is
 * handed over; a kind of such a ring whose handler is for single events is gathered like the
 * others, and handed over one by one.
 *
 * In a ring that overwrites, an event is copied and found whole before anything of it is believed,
 * and the record is of the copy.
 */
#include "dispatcher.h"
#include "module.h"

#define STEPS_MAX 4096           /* messages passed in one burst, wanted or not */
#define BATCH_MAX_LEN (1u << 18) /* bytes of one batch: stays in the second-level cache */

/* Step over a message without giving it back yet. */
static void step_over(ConsumerObject *consumer, const struct shmipc_message *message)
{
    Py_BEGIN_CRITICAL_SECTION(consumer);
    shmipc_ring_advance(&consumer->core.ring, message);
    Py_END_CRITICAL_SECTION();
}

static void give_back(ConsumerObject *consumer)
{
    Py_BEGIN_CRITICAL_SECTION(consumer);
    shmipc_consumer_release(&consumer->core);
    Py_END_CRITICAL_SECTION();
}

/* One message as its reader sees it. */
struct event {
    struct handler *handler; /* NULL: not wanted */
    const unsigned char *data;
    bool gone;    /* overwritten while it was looked at: peek again */
    bool refused; /* of the wrong length: to be stepped over when that has been said */
};

/* The exception now set is the ring's, not a callable's: say which ring's. */
void subscription_blame(const struct subscription *source)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL &&
        PyObject_SetAttrString(value, "consumer", (PyObject *)source->consumer) != 0) {
        PyErr_Clear(); /* an exception without a __dict__ stays as it is */
    }
    PyErr_Restore(type, value, traceback);
}

static int raise_wrong_length(const struct subscription *source, const struct handler *handler,
                              const struct shmipc_message *message)
{
    PyErr_Format(
        source->consumer->handle.state->exceptions[EXCEPTION_SCHEMA_MISMATCH],
        "message %llu of ring %R has kind %R and %llu bytes, but %R has %zu: do both sides "
        "have the same schema?",
        (unsigned long long)message->seq, source->consumer->handle.name, handler->key,
        (unsigned long long)message->len, handler->type, handler->len);
    return -1;
}

/* Is this reader among those that a targeted message is meant for? */
static bool is_target(const struct subscription *source, const unsigned char *targets)
{
    return (targets[source->place >> 3] >> (source->place & 7) & 1) != 0;
}

/* What to make of a message. -1 with an exception; the message is where it was. */
static int classify(struct subscription *source, const struct shmipc_message *message,
                    struct event *event)
{
    ConsumerObject *consumer = source->consumer;
    const bool targeted = source->place >= 0 && (message->flags & TARGETED_FLAG) != 0;
    struct handler *handler = subscription_handler(source, message->kind);
    *event = (struct event){NULL, message->data, false, false};
    if (handler == NULL || message->seq < source->from_seq) {
        return 0;
    }
    if (message->len != handler->len + (targeted ? TARGETS_LEN : 0)) {
        event->refused = true;
        return raise_wrong_length(source, handler, message);
    }
    if (source->scratch != NULL) {
        shmipc_copy_speculative(source->scratch, message->data, (size_t)message->len);
        if (!shmipc_ring_intact(&consumer->core.ring.ring, message->pos)) {
            event->gone = true;
            return 0;
        }
        event->data = source->scratch;
        if (!check_whole(&consumer->handle)) {
            return -1;
        }
    }
    if (targeted && !is_target(source, event->data + handler->len)) {
        return 0;
    }
    if (subscription_chose(source, handler, event->data)) {
        event->handler = handler;
    }
    return 0;
}

/* The next message, if there is one. 1: yes. 0: no. -1: an exception. */
static int next_message(struct subscription *source, struct shmipc_message *message)
{
    ConsumerObject *consumer = source->consumer;
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
        message->seq = shmipc_ring_seq_of(&consumer->core.ring.ring, message->pos);
    }
    return 1;
}

/* Tell of what was overwritten since the last time, before the event that follows the gap. */
static int tell_lost(struct subscription *source)
{
    const uint64_t lost = source->consumer->core.ring.lost;
    const uint64_t more = lost - source->lost_told;
    if (SHMIPC_LIKELY(more == 0)) {
        return 0;
    }
    source->lost_told = lost;
    if (source->on_lost == NULL) {
        return 0;
    }
    PyObject *number = PyLong_FromUnsignedLongLong(more);
    PyObject *answer = number == NULL ? NULL : PyObject_CallOneArg(source->on_lost, number);
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

static int call(DispatcherObject *self, const struct event *event,
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

/* A look at one message: whether to go on with the burst, or with this message. */
enum glance { GLANCE_FAILED = -1, GLANCE_EMPTY, GLANCE_SKIP, GLANCE_WANTED };

static enum glance glance(struct subscription *source, struct shmipc_message *message,
                          struct event *event)
{
    event->refused = false;
    const int next = next_message(source, message);
    if (next == 0) {
        return GLANCE_EMPTY;
    }
    if (next < 0 || classify(source, message, event) != 0) {
        subscription_blame(source);
        return GLANCE_FAILED;
    }
    if (SHMIPC_UNLIKELY(event->gone)) {
        shmipc_ring_resync(&source->consumer->core.ring);
        return GLANCE_SKIP;
    }
    if (event->handler == NULL) {
        step_over(source->consumer, message);
        return GLANCE_SKIP;
    }
    return GLANCE_WANTED;
}

static void let_go(PyObject **frame)
{
    frame_release_softly((FrameObject *)*frame);
    Py_CLEAR(*frame);
}

static Py_ssize_t dispatch_singly(DispatcherObject *self, struct subscription *source,
                                  Py_ssize_t most, bool *stepped)
{
    ConsumerObject *consumer = source->consumer;
    const struct shmipc_ring *ring = &consumer->core.ring.ring;
    const uint64_t begin_pos = consumer->core.ring.read_pos;
    struct shmipc_message message;
    struct event event;
    PyObject *frame = NULL;
    Py_ssize_t called = 0;
    enum glance seen = GLANCE_SKIP;
    for (int steps = 0; called < most && steps < STEPS_MAX && !source->removed; steps++) {
        seen = glance(source, &message, &event);
        if (seen == GLANCE_FAILED || seen == GLANCE_EMPTY) {
            if (event.refused) {
                step_over(consumer, &message);
                *stepped = true;
            }
            break;
        }
        *stepped = true;
        if (seen == GLANCE_SKIP) {
            continue;
        }
        if (SHMIPC_UNLIKELY(tell_lost(source) != 0)) {
            seen = GLANCE_FAILED;
            break;
        }
        if (frame == NULL && !ring->overwrite) {
            frame = frame_hold(consumer, &message);
            if (frame == NULL) {
                seen = GLANCE_FAILED;
                break;
            }
        }
        const int result = call(self, &event, &message, (FrameObject *)frame);
        if (result == 0 || !source->retry) {
            step_over(consumer, &message);
        }
        if (result != 0) {
            seen = GLANCE_FAILED;
            break;
        }
        if (SHMIPC_UNLIKELY(!check_whole(&consumer->handle))) {
            subscription_blame(source); /* what the callable saw may have been zeros */
            seen = GLANCE_FAILED;
            break;
        }
        called++;
        if (source->retry && frame != NULL) {
            let_go(&frame); /* dying now, this process leaves no more than the event in hand */
        }
        if (atomic_load_explicit(&self->stopping, memory_order_relaxed) ||
            consumer->core.ring.read_pos - begin_pos > ring->area_len / 8) {
            break; /* the latter: so that a slow reader gives memory back in good time */
        }
    }
    if (seen == GLANCE_EMPTY && tell_lost(source) != 0) {
        seen = GLANCE_FAILED;
    }
    if (frame != NULL) {
        let_go(&frame);
    } else if (*stepped) {
        give_back(consumer);
    }
    return seen == GLANCE_FAILED ? -1 : called;
}

/* ---- batches -------------------------------------------------------------------------------- */

/* Room for one item more. 1: yes. 0: the batch is full. -1: an exception. */
static int make_room_in_batch(struct subscription *source, struct handler *handler, uint64_t span)
{
    if (SHMIPC_LIKELY(handler->batch_count > 0)) {
        return handler->batch_count < handler->batch_room;
    }
    if (handler->batch == NULL) {
        const struct shmipc_ring_consumer *ring = &source->consumer->core.ring;
        const uint64_t ready = (ring->head_pos_cached - ring->read_pos) / span;
        const uint64_t fits = BATCH_MAX_LEN / handler->len;
        handler->batch_room = ready < fits ? ready : fits;
        handler->batch_room = handler->batch_room > 0 ? handler->batch_room : 1;
        handler->batch =
            batch_new(record_dtype_of(handler->type), handler->batch_room, &handler->batch_data);
        if (handler->batch == NULL) {
            return -1;
        }
    }
    source->gathered[source->gathered_count++] = handler;
    return 1;
}

/* Copy what is wanted into the handlers' batches, up to `most` events or a full batch. Something
 * gathered and then an error: the error comes again, alone. */
static int gather(struct subscription *source, uint64_t most, bool *stepped)
{
    struct shmipc_message message;
    struct event event;
    uint64_t count = 0;
    for (uint64_t steps = 0; count < most && steps < most + STEPS_MAX; steps++) {
        const enum glance seen = glance(source, &message, &event);
        if (seen == GLANCE_EMPTY) {
            return 0;
        }
        if (seen == GLANCE_FAILED && count > 0) {
            PyErr_Clear();
            return 0;
        }
        if (seen == GLANCE_FAILED) {
            if (event.refused) {
                step_over(source->consumer, &message);
                *stepped = true;
            }
            return -1;
        }
        *stepped = true;
        if (seen == GLANCE_SKIP) {
            continue;
        }
        if (SHMIPC_UNLIKELY(source->consumer->core.ring.lost != source->lost_told)) {
            if (count > 0) {
                return 0; /* told between what came before the gap and what comes after */
            }
            if (tell_lost(source) != 0) {
                return -1;
            }
        }
        struct handler *handler = event.handler;
        const int room = make_room_in_batch(source, handler, message.span);
        if (room <= 0) {
            return room;
        }
        memcpy(handler->batch_data + handler->batch_count * handler->len, event.data, handler->len);
        handler->batch_count++;
        count++;
        step_over(source->consumer, &message);
        count += subscription_gather_alike(source, handler, most - count);
    }
    return 0;
}

/* Fill the same memory again if nobody kept it: it is in the cache. */
static void keep_batch(struct handler *handler)
{
#ifndef Py_GIL_DISABLED
    if (Py_REFCNT(handler->batch) == 1 && handler->batch_room == BATCH_MAX_LEN / handler->len) {
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
    return call(self, &event, &message, NULL);
}

/* What was gathered of one kind. The number called for, or -1: what was not called for stays. */
static Py_ssize_t hand_over_kind(DispatcherObject *self, struct subscription *source,
                                 struct handler *handler)
{
    const uint64_t count = handler->batch_count;
    Py_ssize_t called = 0;
    int result = 0;
    if (handler->single) {
        while (result == 0 && handler->batch_done < count &&
               !atomic_load_explicit(&self->stopping, memory_order_relaxed)) {
            result = hand_over_one(self, handler);
            handler->batch_done++;
            called += result == 0;
        }
        if (handler->batch_done < count) {
            return result != 0 ? -1 : called;
        }
    }
    PyObject *batch = handler->single || count == handler->batch_room
                          ? Py_NewRef(handler->batch)
                          : batch_first(handler->batch, count);
    if (batch == NULL) {
        return -1;
    }
    source->gathered_count--;
    memmove(source->gathered, source->gathered + 1,
            source->gathered_count * sizeof *source->gathered);
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

static Py_ssize_t hand_over(DispatcherObject *self, struct subscription *source)
{
    Py_ssize_t called = 0;
    while (source->gathered_count > 0 &&
           !atomic_load_explicit(&self->stopping, memory_order_relaxed)) {
        const Py_ssize_t more = hand_over_kind(self, source, source->gathered[0]);
        if (more < 0) {
            return -1;
        }
        called += more;
    }
    return called;
}

/* Forget what was gathered: it may be zeros. */
static void discard(struct subscription *source)
{
    for (uint32_t i = 0; i < source->gathered_count; i++) {
        source->gathered[i]->batch_count = 0;
        source->gathered[i]->batch_done = 0;
    }
    source->gathered_count = 0;
}

static Py_ssize_t dispatch_batches(DispatcherObject *self, struct subscription *source,
                                   Py_ssize_t most, bool *stepped)
{
    if (source->gathered_count == 0) { /* else: left from a call that raised */
        const int result = gather(source, (uint64_t)most, stepped);
        if (*stepped) {
            give_back(source->consumer);
        }
        if (SHMIPC_UNLIKELY(!check_whole(&source->consumer->handle))) {
            subscription_blame(source);
            discard(source);
            return -1;
        }
        if (result != 0 || (source->gathered_count == 0 && tell_lost(source) != 0)) {
            return -1;
        }
    }
    return hand_over(self, source);
}

Py_ssize_t subscription_dispatch(DispatcherObject *dispatcher, struct subscription *source,
                                 Py_ssize_t most, bool *stepped)
{
    ConsumerObject *consumer = source->consumer;
    if (!handle_enter(&consumer->handle)) {
        subscription_blame(source);
        return -1;
    }
    const Py_ssize_t called = source->batches ? dispatch_batches(dispatcher, source, most, stepped)
                                              : dispatch_singly(dispatcher, source, most, stepped);
    handle_leave(&consumer->handle);
    return called;
}
