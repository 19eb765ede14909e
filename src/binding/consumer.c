/* consumer.c: the Consumer type and its iterator. */
#include "module.h"

#define OPEN_NAP_MIN_NS UINT64_C(500000)
#define OPEN_NAP_MAX_NS UINT64_C(10000000)

/* ---- life ----------------------------------------------------------------------------------- */

static void interrupt(HandleObject *handle)
{
    shmipc_consumer_interrupt(&((ConsumerObject *)handle)->core);
}

static void detach(ConsumerObject *self)
{
    self->detach_pending = false;
    Py_BEGIN_ALLOW_THREADS
    shmipc_consumer_close(&self->core);
    Py_END_ALLOW_THREADS
}

static void finish_close(HandleObject *handle)
{
    ConsumerObject *self = (ConsumerObject *)handle;
    bool now;
    Py_BEGIN_CRITICAL_SECTION(self);
    /* While frames or views hold ring memory, the place in the ring is kept for them. */
    now = self->leases == 0;
    self->detach_pending = !now;
    Py_END_CRITICAL_SECTION();
    if (now) {
        detach(self);
    }
}

void consumer_lease_ended(ConsumerObject *self)
{
    if (self->core.segment.forked || self->core.segment.header == NULL) {
        return;
    }
    shmipc_consumer_release(&self->core);
    if (self->detach_pending && self->leases == 0) {
        detach(self);
    }
}

PyDoc_STRVAR(
    consumer_doc,
    "Consumer(name, *, start=None, timeout=None, spin=None)\n"
    "--\n"
    "\n"
    "One reader of the ring `name`, with its own cursor. Waits for the ring to exist. The dtype,\n"
    "shape and capacity come from the ring.\n"
    "\n"
    "start: 'latest' joins at the next message, 'earliest' at the oldest one retained. Default:\n"
    "    latest; a durable queue (consumers=1, overflow='block') always resumes at the first\n"
    "    unreleased message.\n"
    "timeout: seconds to wait for the ring; None for ever, 0 not at all.\n"
    "spin: seconds to poll before sleeping when there is nothing to read; 0 sleeps at once,\n"
    "    float('inf') never does. Default: 20 us, less while that does not help.\n"
    "\n"
    "Raises NotFound after the timeout, Busy if the ring has all its consumers, Corrupt,\n"
    "ValueError, OSError.");

static PyObject *consumer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    ConsumerObject *self = (ConsumerObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        atomic_init(&self->handle.guard, HANDLE_UNOPENED);
        self->handle.segment = &self->core.segment;
        self->handle.interrupted = &self->core.interrupted;
        self->handle.role = "Consumer";
        self->handle.interrupt = interrupt;
        self->handle.finish_close = finish_close;
        self->core.segment.fd = -1;
    }
    return (PyObject *)self;
}

/* Attach, waiting for the ring to exist. */
static int open_core(ConsumerObject *self, const char *path, enum shmipc_start_option start,
                     struct patience *patience)
{
    struct shmipc_error error;
    enum shmipc_status status;
    uint64_t nap_ns = OPEN_NAP_MIN_NS;
    const uint64_t deadline_ns = patience_deadline(patience);
    for (;;) {
        Py_BEGIN_ALLOW_THREADS
        status = shmipc_consumer_open(&self->core, path, start, &error);
        Py_END_ALLOW_THREADS
        if (status == SHMIPC_OK) {
            return 0;
        }
        const uint64_t now_ns = shmipc_now_ns();
        if (status != SHMIPC_NOT_FOUND || now_ns >= deadline_ns) {
            (void)raise_error(self->handle.state, &error, path);
            return -1;
        }
        const uint64_t left_ns = deadline_ns - now_ns;
        Py_BEGIN_ALLOW_THREADS
        shmipc_wait_nap(left_ns < nap_ns ? left_ns : nap_ns);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() != 0) {
            return -1;
        }
        nap_ns = nap_ns * 2 < OPEN_NAP_MAX_NS ? nap_ns * 2 : OPEN_NAP_MAX_NS;
    }
}

static int parse_start(PyObject *start, enum shmipc_start_option *option)
{
    *option = SHMIPC_START_DEFAULT;
    if (start == NULL || start == Py_None) {
        return 0;
    }
    if (PyUnicode_Check(start) && PyUnicode_CompareWithASCIIString(start, "latest") == 0) {
        *option = SHMIPC_START_AT_LATEST;
        return 0;
    }
    if (PyUnicode_Check(start) && PyUnicode_CompareWithASCIIString(start, "earliest") == 0) {
        *option = SHMIPC_START_AT_EARLIEST;
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "start must be 'latest', 'earliest' or None, not %R", start);
    return -1;
}

static int consumer_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"name", "start", "timeout", "spin", NULL};
    ConsumerObject *self = (ConsumerObject *)object;
    PyObject *name, *start = NULL, *timeout = NULL, *spin_seconds = NULL;
    enum shmipc_start_option option;
    char path[SHMIPC_PATH_MAX];
    struct shmipc_spin spin;
    struct shmipc_error error;
    struct patience patience;
    Py_ssize_t name_len;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|$OOO:Consumer", (char **)(uintptr_t)names,
                                     &name, &start, &timeout, &spin_seconds)) {
        return -1;
    }
    if (atomic_load(&self->handle.guard) != HANDLE_UNOPENED) {
        PyErr_SetString(PyExc_RuntimeError, "this Consumer is open already");
        return -1;
    }
    handle_clear(&self->handle);
    self->handle.state = state_of_type(Py_TYPE(object));
    const char *name_text = PyUnicode_AsUTF8AndSize(name, &name_len);
    if (self->handle.state == NULL || name_text == NULL || parse_start(start, &option) != 0 ||
        parse_timeout(timeout, &patience) != 0 || parse_spin(spin_seconds, &spin) != 0) {
        return -1;
    }
    if (shmipc_segment_path(name_text, (size_t)name_len, path, &error) != SHMIPC_OK) {
        PyErr_Format(PyExc_ValueError, "%s, not %R", error.text, name);
        return -1;
    }
    self->handle.name = Py_NewRef(name);
    self->handle.spin = Py_NewRef(spin_seconds != NULL ? spin_seconds : Py_None);
    if (open_core(self, path, option, &patience) != 0) {
        handle_clear(&self->handle);
        return -1;
    }
    if (self->core.ring.ring.item_stride == 0) {
        self->handle.shape = PyTuple_New(0);
    } else {
        (void)schema_decode(self->handle.state, &self->core.segment, &self->handle.dtype,
                            &self->handle.shape);
    }
    if (self->handle.shape == NULL) {
        detach(self);
        handle_clear(&self->handle);
        return -1;
    }
    Py_XSETREF(self->start, Py_NewRef(start != NULL ? start : Py_None));
    self->core.spin = spin;
    atomic_store(&self->handle.guard, HANDLE_IDLE);
    return 0;
}

static void consumer_dealloc(PyObject *object)
{
    ConsumerObject *self = (ConsumerObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (PyObject_CallFinalizerFromDealloc(object) < 0) {
        return;
    }
    shmipc_segment_close(&self->core.segment); /* a forked child, or a close that kept leases */
    handle_clear(&self->handle);
    Py_CLEAR(self->start);
    type->tp_free(object);
    Py_DECREF(type);
}

PyDoc_STRVAR(consumer_close_doc,
             "close($self)\n--\n\n"
             "Leave the ring. What was not released goes to the next consumer of a durable queue.\n"
             "Frames and their views stay valid; the place in the ring is given up when the last of\n"
             "them is gone. Idempotent; a recv() in another thread ends with Closed.");

/* ---- reading -------------------------------------------------------------------------------- */

/* The next message, waiting for it if need be. 0, or -1 with an exception. The handle is entered. */
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
    return 0;
}

/* Step over a message that was copied. False: it was overwritten meanwhile, read again. */
static inline bool consume(ConsumerObject *self, const struct shmipc_message *message)
{
    if (SHMIPC_UNLIKELY(!shmipc_ring_intact(&self->core.ring.ring, message->pos))) {
        shmipc_ring_resync(&self->core.ring);
        return false;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    shmipc_ring_advance(&self->core.ring, message);
    shmipc_consumer_release(&self->core);
    Py_END_CRITICAL_SECTION();
    return true;
}

static void copy_out(void *to, const struct shmipc_message *message)
{
    const size_t len = (size_t)message->len;
    if (len < COPY_WITHOUT_GIL_LEN) {
        shmipc_copy_speculative(to, message->data, len);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    shmipc_copy_speculative(to, message->data, len);
    Py_END_ALLOW_THREADS
}

static PyObject *receive(ConsumerObject *self, struct patience *patience)
{
    struct shmipc_message message;
    PyObject *result;
    if (SHMIPC_LIKELY(self->handle.dtype == NULL && !self->core.ring.ring.overwrite &&
                      shmipc_ring_peek(&self->core.ring, &message) == SHMIPC_OK &&
                      message.len < COPY_WITHOUT_GIL_LEN)) {
        /* The common case, whole: a message is there and cannot go away. */
        result = PyBytes_FromStringAndSize((const char *)message.data, (Py_ssize_t)message.len);
        if (SHMIPC_LIKELY(result != NULL)) {
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
        copy_out(to, &message);
        if (SHMIPC_LIKELY(consume(self, &message))) {
            return result;
        }
        Py_DECREF(result);
        if (after_lap(self, patience) != 0) {
            return NULL;
        }
    }
}

static const char *const timeout_names[] = {"timeout", NULL};
static const struct parameters recv_parameters = {"recv", timeout_names, 1, 0};
static const struct parameters recv_text_parameters = {"recv_text", timeout_names, 1, 0};
static const struct parameters read_parameters = {"read", timeout_names, 1, 0};

PyDoc_STRVAR(consumer_recv_doc,
             "recv($self, timeout=None)\n--\n\n"
             "The next message as bytes, or the next item as an ndarray of the ring's shape: an\n"
             "owned copy; the ring's memory is released.\n"
             "\n"
             "timeout: seconds; None for ever, 0 not at all.\n"
             "Raises Empty after the timeout, Closed at the end of the stream, ProducerDied once\n"
             "everything it committed is read, Corrupt.");

static PyObject *consumer_recv(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames)
{
    ConsumerObject *self = (ConsumerObject *)object;
    PyObject *given[1];
    struct patience patience = {SHMIPC_NEVER, 0};
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

PyDoc_STRVAR(consumer_recv_text_doc,
             "recv_text($self, timeout=None)\n--\n\n"
             "The next message decoded from UTF-8, as Producer.send_text sends it. Otherwise as\n"
             "recv(). UnicodeDecodeError leaves the message unread.");

static PyObject *consumer_recv_text(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
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
        copy_out(PyBytes_AS_STRING(copy), &message);
        if (shmipc_ring_intact(&self->core.ring.ring, message.pos)) {
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

PyDoc_STRVAR(consumer_recv_into_doc,
             "recv_into($self, buffer, timeout=None)\n--\n\n"
             "Copy the next message or item into a writable C-contiguous buffer; returns the bytes\n"
             "written. ValueError if it is too small: the message stays unread. Otherwise as\n"
             "recv().");

static PyObject *consumer_recv_into(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames)
{
    static const char *const names[] = {"buffer", "timeout", NULL};
    static const struct parameters parameters = {"recv_into", names, 2, 1};
    ConsumerObject *self = (ConsumerObject *)object;
    struct shmipc_message message;
    struct patience patience;
    PyObject *given[2];
    PyObject *result = NULL;
    Py_buffer buffer;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[1], &patience) != 0) {
        return NULL;
    }
    if (!PyObject_CheckBuffer(given[0]) ||
        PyObject_GetBuffer(given[0], &buffer, PyBUF_WRITABLE) != 0) {
        const bool contiguity = PyErr_Occurred() != NULL &&
                                PyObject_CheckBuffer(given[0]) &&
                                PyObject_GetBuffer(given[0], &buffer, PyBUF_STRIDED) == 0;
        PyErr_Clear();
        if (contiguity) {
            PyBuffer_Release(&buffer);
            PyErr_SetString(PyExc_ValueError,
                            "recv_into() needs a C-contiguous buffer: this one has gaps");
        } else {
            PyErr_Format(PyExc_TypeError,
                         "recv_into() needs a writable buffer (bytearray, ndarray ...); this "
                         "%.200s is none",
                         Py_TYPE(given[0])->tp_name);
        }
        return NULL;
    }
    if (handle_enter(&self->handle)) {
        do {
            if (next_message(self, &patience, &message) != 0) {
                break;
            }
            if (message.len > (uint64_t)buffer.len) {
                PyErr_Format(PyExc_ValueError,
                             "the message has %llu bytes, the buffer %zd: the message stays unread",
                             (unsigned long long)message.len, buffer.len);
                break;
            }
            copy_out(buffer.buf, &message);
            if (consume(self, &message)) {
                result = PyLong_FromUnsignedLongLong(message.len);
                break;
            }
        } while (after_lap(self, &patience) == 0);
        handle_leave(&self->handle);
    }
    PyBuffer_Release(&buffer);
    return result;
}

PyDoc_STRVAR(consumer_read_doc,
             "read($self, timeout=None)\n--\n\n"
             "The next message or item in place, without a copy: a Frame, which holds the ring's\n"
             "memory until it is released or collected. Several may be held; the producer may\n"
             "reuse what is older than the oldest. Raises as recv().");

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

static PyObject *consumer_read(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
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

PyDoc_STRVAR(consumer_read_batch_doc,
             "read_batch($self, max=None, timeout=None)\n--\n\n"
             "All the items that are ready (at most `max`, at least 1) in place, as one Frame whose\n"
             ".array has shape (n, *shape). Typed rings only. Raises as recv().");

static PyObject *consumer_read_batch(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
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
        if (status == SHMIPC_OK) {
            frame = frame_new(self, &message, count, true);
        } else if (status != SHMIPC_EMPTY) {
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
    PyObject *frame; /* the one handed out last */
} IteratorObject;

static PyObject *consumer_iter(PyObject *object)
{
    ConsumerObject *self = (ConsumerObject *)object;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    handle_leave(&self->handle);
    IteratorObject *iterator = PyObject_GC_New(IteratorObject, self->handle.state->iterator_type);
    if (iterator != NULL) {
        iterator->consumer = (ConsumerObject *)Py_NewRef(object);
        iterator->frame = NULL;
        PyObject_GC_Track(iterator);
    }
    return (PyObject *)iterator;
}

static void let_go(IteratorObject *self)
{
    PyObject *frame = self->frame;
    self->frame = NULL;
    if (frame != NULL) {
        frame_release_softly((FrameObject *)frame);
        Py_DECREF(frame);
    }
}

static PyObject *iterator_next(PyObject *object)
{
    IteratorObject *self = (IteratorObject *)object;
    ConsumerObject *consumer = self->consumer;
    struct patience patience = {SHMIPC_NEVER, 0};
    PyObject *frame = NULL;
    let_go(self);
    if (handle_enter(&consumer->handle)) {
        frame = read_one(consumer, &patience);
        handle_leave(&consumer->handle);
    }
    if (frame == NULL &&
        PyErr_ExceptionMatches(consumer->handle.state->exceptions[EXCEPTION_CLOSED])) {
        PyErr_Clear(); /* the end of the stream, or of the consumer, is the end of the loop */
    }
    self->frame = Py_XNewRef(frame);
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
    let_go(self);
    Py_DECREF(self->consumer);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyType_Slot iterator_slots[] = {
    {Py_tp_doc, "Frames of a Consumer, each released as the next is taken."},
    {Py_tp_dealloc, iterator_dealloc},
    {Py_tp_traverse, iterator_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iterator_next},
    {0, NULL}};

PyType_Spec iterator_spec = {.name = "shmipc._core.FrameIterator",
                             .basicsize = sizeof(IteratorObject),
                             .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                      Py_TPFLAGS_IMMUTABLETYPE |
                                      Py_TPFLAGS_DISALLOW_INSTANTIATION,
                             .slots = iterator_slots};

/* ---- the rest ------------------------------------------------------------------------------- */

PyDoc_STRVAR(consumer_stats_doc,
             "stats($self)\n--\n\n"
             "A dict of counters of this handle: 'pending' (committed, not read), 'lag' (committed,\n"
             "not released), 'lost', 'leases' (frames held), 'sleeps' (waits that slept), 'wakes'\n"
             "(system calls to wake the producer), 'slot'.");

static PyObject *consumer_stats(PyObject *object, PyObject *unused)
{
    (void)unused;
    ConsumerObject *self = (ConsumerObject *)object;
    const struct shmipc_ring_consumer *ring = &self->core.ring;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    PyObject *stats = Py_BuildValue(
        "{sK sK sK sn sK sK sI}", "pending",
        (unsigned long long)shmipc_ring_unread_estimate(ring), "lag",
        (unsigned long long)shmipc_ring_lag_estimate(ring), "lost",
        (unsigned long long)ring->lost, "leases", self->leases, "sleeps",
        (unsigned long long)self->core.sleeps, "wakes", (unsigned long long)self->core.wakes,
        "slot", ring->slot_index);
    handle_leave(&self->handle);
    return stats;
}

static PyObject *consumer_get_lost(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((ConsumerObject *)object)->core.ring.lost);
}

static PyObject *estimate(PyObject *object,
                          uint64_t (*of)(const struct shmipc_ring_consumer *consumer))
{
    ConsumerObject *self = (ConsumerObject *)object;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    const uint64_t value = of(&self->core.ring);
    handle_leave(&self->handle);
    return PyLong_FromUnsignedLongLong(value);
}

static PyObject *consumer_get_pending(PyObject *object, void *unused)
{
    (void)unused;
    return estimate(object, shmipc_ring_unread_estimate);
}

static PyObject *consumer_get_lag(PyObject *object, void *unused)
{
    (void)unused;
    return estimate(object, shmipc_ring_lag_estimate);
}

static PyObject *consumer_repr(PyObject *object)
{
    return handle_repr(object, "attached");
}

static PyMethodDef consumer_methods[] = {
    {"recv", METHOD(consumer_recv), FASTCALL, consumer_recv_doc},
    {"recv_text", METHOD(consumer_recv_text), FASTCALL, consumer_recv_text_doc},
    {"recv_into", METHOD(consumer_recv_into), FASTCALL, consumer_recv_into_doc},
    {"read", METHOD(consumer_read), FASTCALL, consumer_read_doc},
    {"read_batch", METHOD(consumer_read_batch), FASTCALL, consumer_read_batch_doc},
    {"close", handle_close, METH_NOARGS, consumer_close_doc},
    {"stats", consumer_stats, METH_NOARGS, consumer_stats_doc},
    {"__enter__", handle_context_enter, METH_NOARGS,
     "__enter__($self)\n--\n\nThe consumer itself."},
    {"__reduce__", consumer_reduce, METH_NOARGS,
     "__reduce__($self)\n--\n\nPickles by name: the receiver opens the same role."},
    {"__exit__", METHOD(handle_context_exit), METH_FASTCALL,
     "__exit__($self, *exc_info)\n--\n\nCloses."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef consumer_getset[] = {
    {"name", handle_get_name, NULL, "The ring's name.", NULL},
    {"dtype", handle_get_dtype, NULL, "Of one item; None in a message ring.", NULL},
    {"shape", handle_get_shape, NULL, "Of one item; () in a message ring.", NULL},
    {"capacity", handle_get_capacity, NULL, "Items, or bytes in a message ring.", NULL},
    {"overflow", handle_get_overflow, NULL, "'block' or 'overwrite'.", NULL},
    {"closed", handle_get_closed, NULL, "True after close().", NULL},
    {"lost", consumer_get_lost, NULL,
     "Messages or items overwritten before this consumer read them, as far as it has noticed by "
     "reading on. Always 0 in a ring that blocks.",
     NULL},
    {"pending", consumer_get_pending, NULL, "Messages or items committed and not yet read.", NULL},
    {"lag", consumer_get_lag, NULL,
     "Messages or items committed and not yet released: pending plus what frames hold.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot consumer_slots[] = {{Py_tp_doc, (void *)(uintptr_t)consumer_doc},
                                       {Py_tp_new, consumer_new},
                                       {Py_tp_init, consumer_init},
                                       {Py_tp_finalize, handle_finalize},
                                       {Py_tp_dealloc, consumer_dealloc},
                                       {Py_tp_repr, consumer_repr},
                                       {Py_tp_iter, consumer_iter},
                                       {Py_tp_methods, consumer_methods},
                                       {Py_tp_getset, consumer_getset},
                                       {0, NULL}};

PyType_Spec consumer_spec = {.name = "shmipc._core.Consumer",
                             .basicsize = sizeof(ConsumerObject),
                             .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE |
                                      Py_TPFLAGS_IMMUTABLETYPE,
                             .slots = consumer_slots};
