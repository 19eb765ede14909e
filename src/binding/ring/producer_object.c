/* producer_object.c: the Producer type: its life and its attributes. Its sending is in sending.c.
 */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/errors.h"
#include "../base/handle.h"
#include "buffers.h"
#include "pickling.h"
#include "producer_object.h"
#include "reservation_object.h"
#include "sending.h"
#include "stats.h"
#include "waiting.h"

static void interrupt(HandleObject *handle)
{
    shmipc_producer_role_interrupt(&((ProducerObject *)handle)->core);
}

static void finish_close(HandleObject *handle)
{
    ProducerObject *self = (ProducerObject *)handle;
    const bool keep_mapping = reservation_orphan(self);
    self->core.handed_over = producer_is_succeeded(self);
    Py_BEGIN_ALLOW_THREADS
    handle->close_status = shmipc_producer_role_close(&self->core, keep_mapping);
    Py_END_ALLOW_THREADS
}

/* ---- life ----------------------------------------------------------------------------------- */

PyDoc_STRVAR(
    producer_doc,
    "Producer(name, *, dtype=None, shape=(), capacity=None, max_consumers=1,\n"
    "         overflow='block', hold_for=0, mode=0o600, spin=None)\n"
    "--\n"
    "\n"
    "The one writer of the ring `name`: creates it, or takes it over where a producer that is gone\n"
    "stopped.\n"
    "\n"
    "name: 1 to 200 characters of A-Z a-z 0-9 . _ -, starting with a letter or digit.\n"
    "dtype: a numpy dtype without Python objects makes a typed ring of fixed items; None makes a\n"
    "    message ring, of byte strings of any length.\n"
    "shape: of one item of a typed ring, a tuple of ints.\n"
    "capacity: items (typed) or bytes (message: each message takes 16 more, rounded up to 16).\n"
    "    Rounded up; .capacity tells. Default: about 1 MiB, at least 4 items.\n"
    "max_consumers: how many may be attached at once, 1 to 1024. 1 with overflow='block' is a\n"
    "    durable queue: it keeps everything from message 0 on until its consumer released it, across\n"
    "    restarts of either side.\n"
    "overflow: 'block' waits for the slowest consumer; 'overwrite' never waits, and a consumer that\n"
    "    is lapped goes on at the newest message, and counts in .lost what lay between.\n"
    "hold_for: overflow='block': keep everything from message 0 on until this many consumers have\n"
    "    joined, 0 to max_consumers: each of them gets all of it, however late it comes and also after\n"
    "    close(). While slots are kept, send() waits as for a slow consumer. A ring that is taken\n"
    "    over keeps from then on what is missing. A durable queue keeps its slot anyhow.\n"
    "mode: permission bits of the segment's file, regardless of the umask; a file that is taken\n"
    "    over gets them. Consumers need to read and to write it.\n"
    "spin: seconds to poll before sleeping when the ring is full; 0 sleeps at once, float('inf')\n"
    "    never does. Default: 20 us, less while that does not help.\n"
    "\n"
    "Raises Busy if the ring has a live producer (naming its process), SchemaMismatch if it exists\n"
    "otherwise, or with more permissions than mode=, and is in use, Corrupt if the file is no\n"
    "segment, PermissionError if it belongs to another user, OSError (ENOSPC names the\n"
    "directory and the room left), ValueError and TypeError for arguments.");

static PyObject *producer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    ProducerObject *self = (ProducerObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        atomic_init(&self->handle.guard, HANDLE_UNOPENED);
        self->handle.segment = &self->core.segment;
        self->handle.interrupted = &self->core.interrupted;
        self->handle.role = "Producer";
        self->handle.interrupt = interrupt;
        self->handle.finish_close = finish_close;
        self->core.segment.fd = -1;
    }
    return (PyObject *)self;
}

static int parse_spec(ProducerObject *self, PyObject *dtype, PyObject *shape, PyObject *capacity,
                      PyObject *max_consumers, const char *overflow, PyObject *hold_for,
                      PyObject *mode, struct shmipc_spec *spec, PyObject **schema)
{
    uint64_t number;
    memset(spec, 0, sizeof *spec);
    *schema = NULL;
    if (strcmp(overflow, "block") == 0) {
        spec->overflow = SHMIPC_OVERFLOW_BLOCK;
    } else if (strcmp(overflow, "overwrite") == 0) {
        spec->overflow = SHMIPC_OVERFLOW_OVERWRITE;
    } else {
        PyErr_Format(PyExc_ValueError, "overflow must be 'block' or 'overwrite', not '%s'",
                     overflow);
        return -1;
    }
    if (parse_integer("max_consumers", max_consumers, 1, SHMIPC_MAX_CONSUMERS, 1, &number) != 0) {
        return -1;
    }
    spec->slots = (uint32_t)number;
    if (parse_integer("hold_for", hold_for, 0, spec->slots, 0, &number) != 0) {
        return -1;
    }
    if (number != 0 && spec->overflow == SHMIPC_OVERFLOW_OVERWRITE) {
        PyErr_SetString(PyExc_ValueError,
                        "hold_for= needs overflow='block': a ring that overwrites "
                        "keeps nothing for anybody");
        return -1;
    }
    spec->hold_for = (uint32_t)number;
    if (parse_integer("mode", mode, 0, 0777, 0600, &number) != 0) {
        return -1;
    }
    spec->mode = (uint32_t)number;
    if (parse_integer("capacity", capacity, 1, SHMIPC_MAX_AREA_LEN, 0, &spec->capacity) != 0) {
        return -1;
    }
    if (dtype == NULL || dtype == Py_None) {
        const int given = shape == NULL || shape == Py_None ? 0 : PyObject_IsTrue(shape);
        if (given != 0) {
            if (given > 0) {
                PyErr_SetString(PyExc_ValueError, "shape= needs a dtype=");
            }
            return -1;
        }
        spec->framing = SHMIPC_FRAMING_MESSAGE;
        self->handle.shape = PyTuple_New(0);
        return self->handle.shape == NULL ? -1 : 0;
    }
    spec->framing = SHMIPC_FRAMING_TYPED;
    if (schema_encode(self->handle.state, dtype, shape, &self->handle.dtype, &self->handle.shape,
                      schema, &spec->item_len) != 0) {
        return -1;
    }
    spec->schema = PyBytes_AS_STRING(*schema);
    spec->schema_len = (uint32_t)PyBytes_GET_SIZE(*schema);
    return 0;
}

static int open_producer(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"name",          "dtype",    "shape",    "capacity",
                                        "max_consumers", "overflow", "hold_for", "mode",
                                        "spin",          NULL};
    ProducerObject *self = (ProducerObject *)object;
    PyObject *name, *dtype = NULL, *shape = NULL, *capacity = NULL, *max_consumers = NULL;
    PyObject *hold_for = NULL, *mode = NULL, *spin_seconds = NULL, *schema = NULL;
    const char *overflow = "block";
    char path[SHMIPC_PATH_MAX];
    struct shmipc_spin spin;
    struct shmipc_spec spec;
    struct shmipc_error error;
    enum shmipc_status status;
    Py_ssize_t name_len;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|$OOOOsOOO:Producer",
                                     (char **)(uintptr_t)names, &name, &dtype, &shape, &capacity,
                                     &max_consumers, &overflow, &hold_for, &mode, &spin_seconds)) {
        return -1;
    }
    self->handle.state = state_of_type(Py_TYPE(object));
    const char *name_text = PyUnicode_AsUTF8AndSize(name, &name_len);
    if (self->handle.state == NULL || name_text == NULL || parse_spin(spin_seconds, &spin) != 0) {
        return -1;
    }
    if (shmipc_segment_path(name_text, (size_t)name_len, path, &error) != SHMIPC_OK) {
        PyErr_Format(PyExc_ValueError, "%s, not %R", error.text, name);
        return -1;
    }
    if (handle_remember(&self->handle, name, spin_seconds) != 0 ||
        parse_spec(self, dtype, shape, capacity, max_consumers, overflow, hold_for, mode, &spec,
                   &schema) != 0) {
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS
    status = shmipc_producer_role_open(&self->core, path, &spec, &error);
    Py_END_ALLOW_THREADS
    Py_XDECREF(schema);
    if (status != SHMIPC_OK) {
        (void)raise_error(self->handle.state, &error, path);
        return -1;
    }
    self->core.spin = spin;
    return 0;
}

static int producer_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    HandleObject *handle = (HandleObject *)object;
    return handle_begin_open(handle) != 0
               ? -1
               : handle_end_open(handle, open_producer(object, args, kwargs));
}

PyDoc_STRVAR(
    producer_close_doc,
    "close($self)\n--\n\n"
    "End the stream: consumers read what is committed, then get Closed. Idempotent. An\n"
    "open reservation is aborted. If nobody is attached and nothing is owed to a durable\n"
    "consumer or to one that a slot is kept for, the segment is removed. The stream goes\n"
    "on instead, for a successor: if a process that was sent this producer waits for the\n"
    "role now, or if multiprocessing has started one with it among its arguments (spawn,\n"
    "forkserver), and that process lives. Raises Removed, having closed, if somebody else\n"
    "had removed it with messages that nobody can read any more; where an exception is on\n"
    "its way through a with statement, it warns (ResourceWarning) instead.");

static void producer_dealloc(PyObject *object)
{
    ProducerObject *self = (ProducerObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    handle_finalize(object); /* itself: a subclass may have put a __del__ in its place */
    PyObject_ClearWeakRefs(object);
    shmipc_segment_close(&self->core.segment); /* a mapping kept for views that are gone now */
    Py_CLEAR(self->children);
    handle_clear(&self->handle);
    type->tp_free(object);
    Py_DECREF(type);
}

PyDoc_STRVAR(producer_unlink_doc,
             "unlink($self)\n--\n\n"
             "Remove the ring's name now. Processes attached to it go on undisturbed; the next\n"
             "Producer of this name starts a new ring.");

static PyObject *producer_unlink(PyObject *object, PyObject *unused)
{
    (void)unused;
    ProducerObject *self = (ProducerObject *)object;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    struct shmipc_error error;
    const enum shmipc_status status = shmipc_segment_dismiss(&self->core.segment, &error);
    handle_leave(&self->handle);
    if (status != SHMIPC_OK) {
        return raise_error(self->handle.state, &error, self->core.segment.path);
    }
    Py_RETURN_NONE;
}

/* ---- the rest ------------------------------------------------------------------------------- */

PyDoc_STRVAR(
    producer_wait_for_consumers_doc,
    "wait_for_consumers($self, n=1, timeout=None)\n--\n\n"
    "Wait until n consumers are attached and alive; returns how many are. Raises NotFound\n"
    "after `timeout` seconds, ValueError if n is above max_consumers.");

static PyObject *producer_wait_for_consumers(PyObject *object, PyObject *const *args,
                                             Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"n", "timeout", NULL};
    static const struct parameters parameters = {"wait_for_consumers", names, 2, 0};
    ProducerObject *self = (ProducerObject *)object;
    PyObject *given[2];
    struct patience patience;
    uint64_t n;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[1], &patience) != 0 || !handle_enter(&self->handle)) {
        return NULL;
    }
    PyObject *result = NULL;
    if (parse_integer("n", given[0], 0, self->core.ring.map.slots, 1, &n) == 0 &&
        wait_for_attached(self, (uint32_t)n, &patience) == 0) {
        result = PyLong_FromUnsignedLong(shmipc_producer_role_count_attached(&self->core));
    }
    handle_leave(&self->handle);
    return result;
}

static PyObject *producer_get_max_consumers(PyObject *object, void *unused)
{
    (void)unused;
    const ProducerObject *self = (ProducerObject *)object;
    return PyLong_FromUnsignedLong(
        handle_was_opened(&self->handle) ? self->core.segment.geometry.slots : 0);
}

static PyObject *producer_get_attached(PyObject *object, void *unused)
{
    (void)unused;
    ProducerObject *self = (ProducerObject *)object;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    const uint32_t count = shmipc_producer_role_count_attached(&self->core);
    handle_leave(&self->handle);
    return PyLong_FromUnsignedLong(count);
}

static PyObject *producer_get_lag(PyObject *object, void *unused)
{
    (void)unused;
    ProducerObject *self = (ProducerObject *)object;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    const uint64_t lag = shmipc_ring_pending_estimate(&self->core.ring);
    handle_leave(&self->handle);
    return PyLong_FromUnsignedLongLong(lag);
}

static PyObject *producer_repr(PyObject *object)
{
    return handle_repr(object, "open");
}

static PyMethodDef producer_methods[] = {
    {"send", METHOD(producer_send), FASTCALL, producer_send_doc},
    {"send_text", METHOD(producer_send_text), FASTCALL, producer_send_text_doc},
    {"try_send", METHOD(producer_try_send), FASTCALL, producer_try_send_doc},
    {"send_many", METHOD(producer_send_many), FASTCALL, producer_send_many_doc},
    {"reserve", METHOD(producer_reserve), FASTCALL, producer_reserve_doc},
    {"wait_for_consumers", METHOD(producer_wait_for_consumers), FASTCALL,
     producer_wait_for_consumers_doc},
    {"close", handle_close, METH_NOARGS, producer_close_doc},
    {"unlink", producer_unlink, METH_NOARGS, producer_unlink_doc},
    {"stats", producer_stats, METH_NOARGS, producer_stats_doc},
    {"lags", producer_lags, METH_NOARGS, producer_lags_doc},
    {"__enter__", handle_context_enter, METH_NOARGS,
     "__enter__($self)\n--\n\nThe producer itself."},
    {"__copy__", handle_refuse_copy, METH_NOARGS,
     "__copy__($self)\n--\n\nTypeError: a handle is one role, which cannot be held twice."},
    {"__deepcopy__", handle_refuse_copy, METH_O,
     "__deepcopy__($self, memo, /)\n--\n\nTypeError, as __copy__."},
    {"__reduce__", producer_reduce, METH_NOARGS,
     "__reduce__($self)\n--\n\nPickles by name: the receiver opens the same role."},
    {"__exit__", METHOD(handle_context_exit), METH_FASTCALL,
     "__exit__($self, *exc_info)\n--\n\nCloses."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef producer_getset[] = {
    {"name", handle_get_name, NULL, "The ring's name.", NULL},
    {"dtype", handle_get_dtype, NULL, "Of one item; None in a message ring.", NULL},
    {"shape", handle_get_shape, NULL, "Of one item; () in a message ring.", NULL},
    {"capacity", handle_get_capacity, NULL, "Items, or bytes in a message ring, as granted.", NULL},
    {"overflow", handle_get_overflow, NULL, "'block' or 'overwrite'.", NULL},
    {"closed", handle_get_closed, NULL, "True after close().", NULL},
    {"max_consumers", producer_get_max_consumers, NULL,
     "How many consumers may be attached at once.", NULL},
    {"attached", producer_get_attached, NULL, "How many consumers are attached and alive.", NULL},
    {"lag", producer_get_lag, NULL,
     "Messages or items committed that the slowest consumer has not released: an estimate. 0 while "
     "no consumer is attached or owed anything.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef producer_members[] = {WEAK_REFERENCES(HandleObject), {NULL, 0, 0, 0, NULL}};

static PyType_Slot producer_slots[] = {{Py_tp_doc, (void *)(uintptr_t)producer_doc},
                                       {Py_tp_new, producer_new},
                                       {Py_tp_init, producer_init},
                                       {Py_tp_finalize, handle_finalize},
                                       {Py_tp_dealloc, producer_dealloc},
                                       {Py_tp_repr, producer_repr},
                                       {Py_tp_methods, producer_methods},
                                       {Py_tp_members, producer_members},
                                       {Py_tp_getset, producer_getset},
                                       {0, NULL}};

PyType_Spec producer_spec = {.name = "shmipc._core.Producer",
                             .basicsize = sizeof(ProducerObject),
                             .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE |
                                      Py_TPFLAGS_IMMUTABLETYPE,
                             .slots = producer_slots};
