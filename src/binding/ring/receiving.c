/* receiving.c: the methods of Consumer that read, and its iterator. */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/errors.h"
#include "../base/handle.h"
#include "buffers.h"
#include "consumer_object.h"
#include "copying.h"
#include "frame_object.h"
#include "producer_object.h"
#include "receiving.h"
#include "waiting.h"

/* The next message, waiting for it if need be. 0, or -1 with an exception. The handle is entered.
 */
static int next_message(ConsumerObject *self, struct patience *patience,
                        struct shmipc_message *message)
{
    enum shmipc_status status = shmipc_ring_peek(&self->core.ring, message);
    while (SHMIPC_UNLIKELY(status == SHMIPC_EMPTY)) {
        if (wait_for_data(self, patience) != 0) {
            return -1;
        }
        status = shmipc_ring_peek(&self->core.ring, message);
        if (status == SHMIPC_EMPTY && after_lap(self, patience) != 0) {
            return -1; /* in an overwrite ring what came may be gone again */
        }
    }
    if (SHMIPC_UNLIKELY(status != SHMIPC_OK)) {
        (void)raise_status(&self->handle, status);
        return -1;
    }
    return check_whole(&self->handle) ? 0 : -1;
}

/* Step over a message that was copied. False: it was overwritten meanwhile, read again. */
static inline bool consume(ConsumerObject *self, const struct shmipc_message *message)
{
    if (SHMIPC_UNLIKELY(!shmipc_ring_intact(&self->core.ring.map, message->pos))) {
        shmipc_ring_resync(&self->core.ring);
        return false;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    shmipc_ring_advance(&self->core.ring, message);
    shmipc_consumer_role_release(&self->core);
    Py_END_CRITICAL_SECTION();
    return true;
}

static PyObject *receive(ConsumerObject *self, struct patience *patience)
{
    struct shmipc_message message;
    PyObject *result;
    if (SHMIPC_LIKELY(self->handle.dtype == NULL && !self->core.ring.map.overwrite &&
                      shmipc_ring_peek(&self->core.ring, &message) == SHMIPC_OK &&
                      message.len < COPY_WITHOUT_GIL_LEN)) {
        /* The common case, whole: a message is there and cannot go away. */
        result = PyBytes_FromStringAndSize((const char *)message.data, (Py_ssize_t)message.len);
        if (SHMIPC_LIKELY(result != NULL)) {
            if (!check_whole(&self->handle)) {
                Py_DECREF(result);
                return NULL;
            }
            (void)consume(self, &message);
        }
        return result;
    }
    for (;;) {
        unsigned char *to;
        if (next_message(self, patience, &message) != 0) {
            return NULL;
        }
        if (self->handle.dtype == NULL) {
            result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)message.len);
            to = result == NULL ? NULL : (unsigned char *)PyBytes_AS_STRING(result);
        } else {
            result = array_empty(&self->handle, &to);
        }
        if (result == NULL) {
            return NULL; /* no memory: the message stays where it is */
        }
        copy_out(to, message.data, (size_t)message.len);
        const bool whole = check_whole(&self->handle);
        if (SHMIPC_LIKELY(whole && consume(self, &message))) {
            return result;
        }
        Py_DECREF(result);
        if (!whole || after_lap(self, patience) != 0) {
            return NULL;
        }
    }
}

static const char *const timeout_names[] = {"timeout", NULL};
static const struct parameters recv_parameters = {"recv", timeout_names, 1, 0};
static const struct parameters recv_text_parameters = {"recv_text", timeout_names, 1, 0};
static const struct parameters read_parameters = {"read", timeout_names, 1, 0};

const char consumer_recv_doc[] =
    "recv($self, timeout=None)\n--\n\n"
    "The next message as bytes, or the next item as an ndarray of the ring's shape: an\n"
    "owned copy; the ring's memory is released.\n"
    "\n"
    "timeout: seconds; None for ever, 0 not at all.\n"
    "Raises Empty after the timeout, Closed at the end of the stream, ProducerDied when\n"
    "everything that it committed is read (once: the next call waits for a producer that\n"
    "takes the ring over), Corrupt.\n"
    "\n"
    "There is no recv for asyncio yet. asyncio.to_thread(consumer.recv) works, but a call that\n"
    "is cancelled or timed out there goes on in its thread and takes the next message: give\n"
    "recv a timeout of its own, and wait for it to end.";

PyObject *consumer_recv(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    ConsumerObject *self = (ConsumerObject *)object;
    PyObject *given[1];
    struct patience patience = {SHMIPC_NEVER, 0, false};
    if ((nargs != 0 || kwnames != NULL) &&
        (parse_arguments(&recv_parameters, args, nargs, kwnames, given) != 0 ||
         parse_timeout(given[0], &patience) != 0)) {
        return NULL;
    }
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    PyObject *result = receive(self, &patience);
    handle_leave(&self->handle);
    return result;
}

const char consumer_recv_text_doc[] =
    "recv_text($self, timeout=None)\n--\n\n"
    "The next message decoded from UTF-8, as Producer.send_text sends it. Otherwise as\n"
    "recv(). UnicodeDecodeError leaves the message unread.";

PyObject *consumer_recv_text(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    ConsumerObject *self = (ConsumerObject *)object;
    struct shmipc_message message;
    struct patience patience;
    PyObject *given[1];
    PyObject *text = NULL;
    bool done = false;
    if (parse_arguments(&recv_text_parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[0], &patience) != 0 || !handle_enter(&self->handle)) {
        return NULL;
    }
    if (self->handle.dtype != NULL) {
        PyErr_Format(PyExc_TypeError, "ring %R is typed: use recv()", self->handle.name);
        done = true;
    }
    while (!done) {
        PyObject *copy = NULL;
        if (next_message(self, &patience, &message) == 0) {
            copy = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)message.len);
        }
        if (copy == NULL) {
            break;
        }
        /* Decoding reads its source twice; shared memory may differ the second time. */
        copy_out(PyBytes_AS_STRING(copy), message.data, (size_t)message.len);
        if (!check_whole(&self->handle)) {
            Py_DECREF(copy);
            break;
        }
        if (shmipc_ring_intact(&self->core.ring.map, message.pos)) {
            text = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(copy), PyBytes_GET_SIZE(copy), NULL);
            done = text == NULL || consume(self, &message);
        } else {
            shmipc_ring_resync(&self->core.ring);
        }
        Py_DECREF(copy);
        if (!done) {
            Py_CLEAR(text);
            done = after_lap(self, &patience) != 0;
        }
    }
    handle_leave(&self->handle);
    return text;
}

const char consumer_recv_into_doc[] =
    "recv_into($self, buffer, timeout=None)\n--\n\n"
    "Copy the next message or item into a writable C-contiguous buffer; returns the bytes\n"
    "written. In a typed ring that is plain bytes, or an array of the ring's dtype: of the\n"
    "item's shape, (n, *shape), or flat.\n"
    "\n"
    "Raises, with the message unread, ValueError if it is too small, SchemaMismatch for an\n"
    "array of another dtype, TypeError for one of Python objects or with a mask. Otherwise as\n"
    "recv().";

/* The handle is entered, and the buffer may hold what comes. */
static PyObject *receive_into(ConsumerObject *self, struct patience *patience,
                              const Py_buffer *buffer)
{
    struct shmipc_message message;
    do {
        if (next_message(self, patience, &message) != 0) {
            return NULL;
        }
        if (message.len > (uint64_t)buffer->len) {
            return PyErr_Format(
                PyExc_ValueError,
                "the message has %llu byte%s, the buffer %zd: the message stays unread",
                (unsigned long long)message.len, SHMIPC_S(message.len), buffer->len);
        }
        copy_out(buffer->buf, message.data, (size_t)message.len);
        if (!check_whole(&self->handle)) {
            return NULL;
        }
        /* Made first: once it is consumed, nothing may fail. */
        PyObject *result = PyLong_FromUnsignedLongLong(message.len);
        if (result == NULL || consume(self, &message)) {
            return result;
        }
        Py_DECREF(result);
    } while (after_lap(self, patience) == 0);
    return NULL;
}

PyObject *consumer_recv_into(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    static const char *const names[] = {"buffer", "timeout", NULL};
    static const struct parameters parameters = {"recv_into", names, 2, 1};
    ConsumerObject *self = (ConsumerObject *)object;
    struct patience patience;
    PyObject *given[2];
    PyObject *result = NULL;
    Py_buffer buffer;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[1], &patience) != 0) {
        return NULL;
    }
    if (target_open(given[0], &buffer) != 0) {
        return NULL;
    }
    if (handle_enter(&self->handle)) {
        /* numpy may run Python code, which may fork. */
        if (self->handle.dtype == NULL ||
            (target_check_items(&self->handle, given[0]) == 0 && handle_is_ours(&self->handle))) {
            result = receive_into(self, &patience, &buffer);
        }
        handle_leave(&self->handle);
    }
    PyBuffer_Release(&buffer);
    return result;
}

const char consumer_read_doc[] =
    "read($self, timeout=None)\n--\n\n"
    "The next message or item in place, without a copy: a Frame, which holds the ring's\n"
    "memory until it is released or collected. Several may be held; the producer may\n"
    "reuse what is older than the oldest. Raises as recv().";

static PyObject *read_one(ConsumerObject *self, struct patience *patience)
{
    struct shmipc_message message;
    if (next_message(self, patience, &message) != 0) {
        return NULL;
    }
    if (self->handle.dtype != NULL) {
        message.kind = 0;
        message.flags = 0;
        message.seq = 0;
        return frame_new(self, &message, 1, false);
    }
    return frame_new(self, &message, 0, false);
}

PyObject *consumer_read(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    ConsumerObject *self = (ConsumerObject *)object;
    struct patience patience;
    PyObject *given[1];
    if (parse_arguments(&read_parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[0], &patience) != 0 || !handle_enter(&self->handle)) {
        return NULL;
    }
    PyObject *frame = read_one(self, &patience);
    handle_leave(&self->handle);
    return frame;
}

const char consumer_read_batch_doc[] =
    "read_batch($self, max=None, timeout=None)\n--\n\n"
    "All the items that are ready (at most `max`, at least 1) in place, as one Frame whose\n"
    ".array has shape (n, *shape). Typed rings only. Raises as recv().";

PyObject *consumer_read_batch(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    static const char *const names[] = {"max", "timeout", NULL};
    static const struct parameters parameters = {"read_batch", names, 2, 0};
    ConsumerObject *self = (ConsumerObject *)object;
    struct shmipc_message message;
    PyObject *given[2];
    PyObject *frame = NULL;
    struct patience patience;
    uint64_t max, count;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[1], &patience) != 0 ||
        parse_integer("max", given[0], 1, SHMIPC_MAX_AREA_LEN, SHMIPC_MAX_AREA_LEN, &max) != 0 ||
        !handle_enter(&self->handle)) {
        return NULL;
    }
    if (self->handle.dtype == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "ring %R has messages of any length, which make no array: use read(), or "
                     "create the ring with a dtype=",
                     self->handle.name);
    } else {
        enum shmipc_status status = SHMIPC_EMPTY;
        while (status == SHMIPC_EMPTY && next_message(self, &patience, &message) == 0) {
            /* Looks again, and in an overwrite ring may find nothing now: then wait again. */
            status = shmipc_ring_peek_batch(&self->core.ring, max, &message, &count);
        }
        message.kind = 0;
        message.flags = 0;
        message.seq = 0;
        if (status == SHMIPC_OK && check_whole(&self->handle)) {
            frame = frame_new(self, &message, count, true);
        } else if (status != SHMIPC_OK && status != SHMIPC_EMPTY) {
            (void)raise_status(&self->handle, status);
        }
    }
    handle_leave(&self->handle);
    return frame;
}

/* ---- iteration ------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    ConsumerObject *consumer;
    _Atomic(PyObject *) frame; /* the one handed out last */
} IteratorObject;

PyObject *consumer_iter(PyObject *object)
{
    ConsumerObject *self = (ConsumerObject *)object;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    handle_leave(&self->handle);
    IteratorObject *iterator = PyObject_GC_New(IteratorObject, self->handle.state->iterator_type);
    if (iterator != NULL) {
        iterator->consumer = (ConsumerObject *)Py_NewRef(object);
        atomic_init(&iterator->frame, NULL);
        PyObject_GC_Track(iterator);
    }
    return (PyObject *)iterator;
}

/* Keep `next`, stolen, in place of the frame handed out last, which is let go. */
static void let_go(IteratorObject *self, PyObject *next)
{
    PyObject *frame = atomic_exchange(&self->frame, next);
    if (frame != NULL) {
        frame_release_from_loop((FrameObject *)frame);
        Py_DECREF(frame);
    }
}

static PyObject *iterator_next(PyObject *object)
{
    IteratorObject *self = (IteratorObject *)object;
    ConsumerObject *consumer = self->consumer;
    struct patience patience = {SHMIPC_NEVER, 0, false};
    PyObject *frame = NULL;
    let_go(self, NULL);
    if (handle_enter(&consumer->handle)) {
        frame = read_one(consumer, &patience);
        handle_leave(&consumer->handle);
    }
    if (frame == NULL &&
        PyErr_ExceptionMatches(consumer->handle.state->exceptions[EXCEPTION_CLOSED])) {
        PyErr_Clear(); /* the end of the stream, or of the consumer, is the end of the loop */
    }
    let_go(self, Py_XNewRef(frame));
    return frame;
}

static int iterator_traverse(PyObject *object, visitproc visit, void *arg)
{
    IteratorObject *self = (IteratorObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->consumer);
    Py_VISIT(self->frame);
    return 0;
}

static void iterator_dealloc(PyObject *object)
{
    IteratorObject *self = (IteratorObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    let_go(self, NULL);
    Py_DECREF(self->consumer);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyType_Slot iterator_slots[] = {
    {Py_tp_doc,
     "Frames of a Consumer, each released as the next is taken; waits for each, and ends when the\n"
     "producer has closed."},
    {Py_tp_dealloc, iterator_dealloc},
    {Py_tp_traverse, iterator_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iterator_next},
    {0, NULL}};

PyType_Spec iterator_spec = {.name = "shmipc._core.FrameIterator",
                             .basicsize = sizeof(IteratorObject),
                             .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                      Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                             .slots = iterator_slots};
