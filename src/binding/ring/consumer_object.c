/* consumer_object.c: the Consumer type: its life and its attributes. Its reading is in receiving.c.
 */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/errors.h"
#include "../base/gil.h"
#include "../base/handle.h"
#include "buffers.h"
#include "consumer_object.h"
#include "hint.h"
#include "pickling.h"
#include "receiving.h"
#include "stats.h"
#include "waiting.h"
#include "../../core/ring/opening.h"

/* A wait this long may be for a name that is misspelt. */
#define OPEN_HINT_NS UINT64_C(2000000000)

/* ---- life ----------------------------------------------------------------------------------- */

static void interrupt(HandleObject *handle)
{
    shmipc_consumer_role_interrupt(&((ConsumerObject *)handle)->core);
}

static void finish_close(HandleObject *handle)
{
    ConsumerObject *self = (ConsumerObject *)handle;
    bool now;
    Py_BEGIN_CRITICAL_SECTION(self);
    /* While frames or views hold ring memory, the slot is kept for them. */
    now = self->leases == 0;
    self->detach_pending = !now;
    Py_END_CRITICAL_SECTION();
    if (now) {
        consumer_detach(self);
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
    "    latest; a durable queue (max_consumers=1, overflow='block') always resumes at the first\n"
    "    unreleased message.\n"
    "timeout: seconds to wait for the ring; None for ever, 0 not at all.\n"
    "spin: seconds to poll before sleeping when there is nothing to read; 0 sleeps at once,\n"
    "    float('inf') never does. Default: 20 us, less while that does not help.\n"
    "\n"
    "In a ring that overwrites, a consumer that was lapped goes on at the newest message or item,\n"
    "which stays for longest, and .lost counts what lay between. What it looks at in place may be\n"
    "overwritten meanwhile: ask the frame's .intact after use, or recv().\n"
    "\n"
    "A for loop reads frame by frame, waits for each, and ends when the producer has closed; it\n"
    "releases a frame as it takes the next. So list(consumer) waits for the end of the stream,\n"
    "and its frames are released: copy in the loop, [bytes(frame) for frame in consumer]. To\n"
    "take only what is there now, use read_batch(timeout=0), or recv(0) until it raises Empty.\n"
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

/* What the ring that was found carries. */
static int read_dtype(ConsumerObject *self, struct shmipc_opening *opening)
{
    HandleObject *handle = &self->handle;
    Py_CLEAR(handle->dtype);
    Py_CLEAR(handle->shape);
    if (self->core.segment.geometry.item_len == 0) {
        handle->shape = PyTuple_New(0);
    } else {
        (void)schema_decode(handle->state, &self->core.segment, &handle->dtype, &handle->shape);
    }
    if (handle->shape == NULL) {
        shmipc_segment_close(&self->core.segment);
        return -1;
    }
    shmipc_opening_accept(opening, &self->core);
    return 0;
}

/* Attach, waiting for the ring to exist. */
static int open_core(ConsumerObject *self, struct shmipc_opening *opening)
{
    uint64_t hint_ns = 0;
    struct gil_absence absence;
    struct shmipc_error error;
    enum shmipc_status status;
    do {
        if (PyErr_CheckSignals() != 0) {
            shmipc_segment_close(&self->core.segment);
            return -1;
        }
        gil_leave(&absence);
        do {
            status = shmipc_opening_try(opening, &self->core, &error);
        } while (status == SHMIPC_AGAIN && gil_stay_away(&absence));
        gil_return(&absence);
        const uint64_t now_ns = shmipc_now_ns();
        hint_ns = hint_ns == 0 ? now_ns + OPEN_HINT_NS : hint_ns;
        if (status == SHMIPC_AGAIN && now_ns >= hint_ns) {
            hint_ns = SHMIPC_NEVER;
            if (hint_not_found(self->handle.name, opening->path, error.text) != 0) {
                return -1;
            }
        }
        if (status == SHMIPC_OK && !opening->joined && read_dtype(self, opening) != 0) {
            return -1;
        }
    } while (status == SHMIPC_AGAIN || (status == SHMIPC_OK && !opening->joined));
    if (status != SHMIPC_OK) {
        (void)raise_error(self->handle.state, &error, opening->path);
        return -1;
    }
    return 0;
}

static int parse_start(PyObject *start, enum shmipc_start *option)
{
    *option = SHMIPC_START_RESUME;
    if (start == NULL || start == Py_None) {
        return 0;
    }
    if (PyUnicode_Check(start) && PyUnicode_CompareWithASCIIString(start, "latest") == 0) {
        *option = SHMIPC_START_LATEST;
        return 0;
    }
    if (PyUnicode_Check(start) && PyUnicode_CompareWithASCIIString(start, "earliest") == 0) {
        *option = SHMIPC_START_EARLIEST;
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "start must be 'latest', 'earliest' or None, not %R", start);
    return -1;
}

static int open_consumer(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"name", "start", "timeout", "spin", NULL};
    ConsumerObject *self = (ConsumerObject *)object;
    PyObject *name, *start = NULL, *timeout = NULL, *spin_seconds = NULL;
    struct shmipc_opening opening;
    enum shmipc_start start_at;
    char path[SHMIPC_PATH_MAX];
    struct shmipc_spin spin;
    struct shmipc_error error;
    struct patience patience;
    Py_ssize_t name_len;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|$OOO:Consumer", (char **)(uintptr_t)names,
                                     &name, &start, &timeout, &spin_seconds)) {
        return -1;
    }
    self->handle.state = state_of_type(Py_TYPE(object));
    const char *name_text = PyUnicode_AsUTF8AndSize(name, &name_len);
    if (self->handle.state == NULL || name_text == NULL || parse_start(start, &start_at) != 0 ||
        parse_timeout(timeout, &patience) != 0 || parse_spin(spin_seconds, &spin) != 0) {
        return -1;
    }
    if (shmipc_segment_path(name_text, (size_t)name_len, path, &error) != SHMIPC_OK) {
        PyErr_Format(PyExc_ValueError, "%s, not %R", error.text, name);
        return -1;
    }
    shmipc_opening_begin(&opening, path, start_at, patience_deadline(&patience));
    if (handle_remember(&self->handle, name, spin_seconds) != 0 || open_core(self, &opening) != 0) {
        return -1;
    }
    self->start = start_at;
    self->core.spin = spin;
    return 0;
}

static int consumer_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    HandleObject *handle = (HandleObject *)object;
    return handle_begin_open(handle) != 0
               ? -1
               : handle_end_open(handle, open_consumer(object, args, kwargs));
}

static void consumer_dealloc(PyObject *object)
{
    ConsumerObject *self = (ConsumerObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    handle_finalize(object); /* itself: a subclass may have put a __del__ in its place */
    PyObject_ClearWeakRefs(object);
    shmipc_segment_close(&self->core.segment); /* a forked child, or a close that kept leases */
    handle_clear(&self->handle);
    type->tp_free(object);
    Py_DECREF(type);
}

PyDoc_STRVAR(consumer_wait_for_producer_doc,
             "wait_for_producer($self, timeout=None)\n--\n\n"
             "Wait until a live producer holds the ring: after ProducerDied or Closed, for its\n"
             "successor, whose messages follow. Raises NotFound after `timeout` seconds.");

static PyObject *consumer_wait_for_producer(PyObject *object, PyObject *const *args,
                                            Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"timeout", NULL};
    static const struct parameters parameters = {"wait_for_producer", names, 1, 0};
    ConsumerObject *self = (ConsumerObject *)object;
    PyObject *given[1];
    struct patience patience;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[0], &patience) != 0 || !handle_enter(&self->handle)) {
        return NULL;
    }
    const int result = wait_for_live_producer(self, &patience);
    handle_leave(&self->handle);
    return result == 0 ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(
    consumer_abandon_doc,
    "abandon($self)\n--\n\n"
    "close(), and what frames hold now is not released when they end: in a durable queue it\n"
    "goes to the next consumer, as it would if this process had died.");

static PyObject *consumer_abandon(PyObject *object, PyObject *unused)
{
    ConsumerObject *self = (ConsumerObject *)object;
    Py_BEGIN_CRITICAL_SECTION(self);
    self->abandoned = true;
    Py_END_CRITICAL_SECTION();
    return handle_close(object, unused);
}

PyDoc_STRVAR(consumer_close_doc,
             "close($self)\n--\n\n"
             "Leave the ring. What was not released goes to the next consumer of a durable queue.\n"
             "Frames and their views stay valid; the slot is free for another when the last of\n"
             "them is gone. Idempotent; a recv() in another thread ends with Closed.");

/* ---- the rest ------------------------------------------------------------------------------- */

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

static PyObject *consumer_get_slot(PyObject *object, void *unused)
{
    (void)unused;
    ConsumerObject *self = (ConsumerObject *)object;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    const uint32_t slot = self->core.ring.slot_index;
    handle_leave(&self->handle);
    return PyLong_FromUnsignedLong(slot);
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
    {"wait_for_producer", METHOD(consumer_wait_for_producer), FASTCALL,
     consumer_wait_for_producer_doc},
    {"close", handle_close, METH_NOARGS, consumer_close_doc},
    {"abandon", consumer_abandon, METH_NOARGS, consumer_abandon_doc},
    {"stats", consumer_stats, METH_NOARGS, consumer_stats_doc},
    {"__enter__", handle_context_enter, METH_NOARGS,
     "__enter__($self)\n--\n\nThe consumer itself."},
    {"__copy__", handle_refuse_copy, METH_NOARGS,
     "__copy__($self)\n--\n\nTypeError: a handle is one role, which cannot be held twice."},
    {"__deepcopy__", handle_refuse_copy, METH_O,
     "__deepcopy__($self, memo, /)\n--\n\nTypeError, as __copy__."},
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
     "reading on: a consumer that was lapped goes on at the newest. Always 0 in a ring that "
     "blocks.",
     NULL},
    {"slot", consumer_get_slot, NULL, "Number of this consumer's slot in the segment.", NULL},
    {"pending", consumer_get_pending, NULL,
     "Messages or items committed and not yet read: an estimate.", NULL},
    {"lag", consumer_get_lag, NULL,
     "Messages or items committed and not yet released: pending plus what frames hold; an "
     "estimate.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef consumer_members[] = {WEAK_REFERENCES(HandleObject), {NULL, 0, 0, 0, NULL}};

static PyType_Slot consumer_slots[] = {{Py_tp_doc, (void *)(uintptr_t)consumer_doc},
                                       {Py_tp_new, consumer_new},
                                       {Py_tp_init, consumer_init},
                                       {Py_tp_finalize, handle_finalize},
                                       {Py_tp_dealloc, consumer_dealloc},
                                       {Py_tp_repr, consumer_repr},
                                       {Py_tp_iter, consumer_iter},
                                       {Py_tp_methods, consumer_methods},
                                       {Py_tp_members, consumer_members},
                                       {Py_tp_getset, consumer_getset},
                                       {0, NULL}};

PyType_Spec consumer_spec = {.name = "shmipc._core.Consumer",
                             .basicsize = sizeof(ConsumerObject),
                             .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE |
                                      Py_TPFLAGS_IMMUTABLETYPE,
                             .slots = consumer_slots};
