/*
 * reservation_object.c: ring memory that the producer is writing.
 *
 * States: open -> committed | aborted. An open reservation is its producer's only one and forbids
 * any other send. Views of it may outlive it: the memory stays mapped, the ndarray it handed out
 * turns read-only at commit, and when the producer closes, what is still viewed becomes a private
 * copy (shmipc_segment_privatize), so that a late write reaches nobody.
 *
 * commit() enters its producer; abort() and views do not, and a close may come at any time. What
 * they share changes in the producer's critical section: whoever finds `open` there and clears it
 * settles the reservation, and nobody else.
 */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/errors.h"
#include "../base/handle.h"
#include "buffers.h"
#include "producer_object.h"
#include "reservation_object.h"
#include "view.h"

PyObject *reservation_new(ProducerObject *producer, unsigned char *data, uint64_t len,
                          uint64_t span, uint64_t items, bool single, uint16_t kind, uint16_t flags)
{
    ReservationObject *self =
        PyObject_GC_New(ReservationObject, producer->handle.state->reservation_type);
    if (self == NULL) {
        return NULL;
    }
    self->producer = (ProducerObject *)Py_NewRef((PyObject *)producer);
    self->data = data;
    self->len = len;
    self->span = span;
    self->items = items;
    self->single = single;
    self->kind = kind;
    self->flags = flags;
    atomic_init(&self->open, true);
    atomic_init(&self->orphaned, false);
    self->array = NULL;
    self->weakrefs = NULL;
    atomic_store(&producer->reservation, (PyObject *)self);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* In the producer's critical section: open no more. The array handed out, or NULL, is the caller's
 * to seal, outside: its death may run anything. */
static PyObject *shut(ReservationObject *self)
{
    PyObject *array = self->array;
    self->array = NULL;
    atomic_store(&self->open, false);
    atomic_store(&self->producer->reservation, NULL);
    return array;
}

static void seal(PyObject *array)
{
    if (array != NULL) {
        array_forbid_writes(array);
        Py_DECREF(array);
    }
}

/* True: it was open, is no more, and the caller settles it. */
static bool claim(ReservationObject *self, PyObject **array)
{
    bool open;
    *array = NULL;
    Py_BEGIN_CRITICAL_SECTION(self->producer);
    open = atomic_load(&self->open);
    if (open) {
        *array = shut(self);
    }
    Py_END_CRITICAL_SECTION();
    return open;
}

static bool drop(ReservationObject *self)
{
    PyObject *array;
    const bool open = claim(self, &array);
    seal(array);
    return open;
}

bool reservation_orphan(ProducerObject *producer)
{
    PyObject *array = NULL;
    bool viewed;
    Py_BEGIN_CRITICAL_SECTION(producer);
    ReservationObject *self = (ReservationObject *)atomic_load(&producer->reservation);
    if (self != NULL) { /* not freed: its end needs this critical section too */
        atomic_store(&self->orphaned, true);
        array = shut(self);
    }
    viewed = atomic_load(&producer->views) > 0;
    Py_END_CRITICAL_SECTION();
    seal(array);
    return viewed;
}

static void reservation_dealloc(PyObject *object)
{
    ReservationObject *self = (ReservationObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    PyObject *error_type, *value, *traceback;
    PyErr_Fetch(&error_type, &value, &traceback);
    if (drop(self)) {
        if (PyErr_WarnFormat(PyExc_ResourceWarning, 1,
                             "a reservation in ring %R was neither committed nor aborted: nothing "
                             "was sent",
                             self->producer->handle.name) != 0) {
            PyErr_WriteUnraisable(NULL);
        }
    }
    PyErr_Restore(error_type, value, traceback);
    PyObject_ClearWeakRefs(object);
    Py_DECREF(self->producer);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static int reservation_traverse(PyObject *object, visitproc visit, void *arg)
{
    ReservationObject *self = (ReservationObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->producer);
    Py_VISIT(self->array);
    return 0;
}

static bool is_open(const ReservationObject *self)
{
    const bool open = atomic_load(&self->open);
    if (atomic_load(&self->orphaned)) {
        (void)raise_status(&self->producer->handle, SHMIPC_CLOSED);
    } else if (self->producer->core.segment.forked) {
        (void)handle_refuse(&self->producer->handle);
    } else if (!open) {
        PyErr_SetString(PyExc_ValueError, "this reservation was committed or aborted already");
    } else {
        return true;
    }
    return false;
}

/* Publish the first `len` bytes (message) or items (typed). */
static int commit(ReservationObject *self, uint64_t amount)
{
    ProducerObject *producer = self->producer;
    struct shmipc_ring_producer *ring = &producer->core.ring;
    if (!is_open(self) || !handle_enter(&producer->handle)) {
        return -1;
    }
    PyObject *array;
    if (!claim(self, &array)) { /* another thread was quicker */
        handle_leave(&producer->handle);
        (void)is_open(self);
        return -1;
    }
    if (producer->handle.dtype == NULL) {
        shmipc_message_header_store(self->data - sizeof(struct shmipc_message_header),
                                    (uint32_t)amount, self->kind, self->flags, ring->next_seq);
        shmipc_ring_commit_messages(ring, shmipc_message_span(amount), 1);
    } else {
        shmipc_ring_commit(ring, amount * ring->map.item_stride);
    }
    const bool whole = notify(producer);
    seal(array);
    handle_leave(&producer->handle);
    return whole ? 0 : -1;
}

static uint64_t full_amount(const ReservationObject *self)
{
    return self->producer->handle.dtype == NULL ? self->len : self->items;
}

PyDoc_STRVAR(reservation_commit_doc,
             "commit($self, n=None)\n--\n\n"
             "Publish what was written: all of it, or only the first n bytes (message ring) or\n"
             "items (typed ring). Its views must not be written any more; .array turns read-only.");

static PyObject *reservation_commit(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames)
{
    static const char *const names[] = {"n", NULL};
    static const struct parameters parameters = {"commit", names, 1, 0};
    ReservationObject *self = (ReservationObject *)object;
    const uint64_t most = full_amount(self);
    PyObject *given[1];
    uint64_t amount;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        parse_integer("n", given[0], self->producer->handle.dtype == NULL ? 0 : 1, most, most,
                      &amount) != 0 ||
        commit(self, amount) != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(reservation_abort_doc, "abort($self)\n--\n\n"
                                    "Send nothing; the room is free again. Idempotent.");

static PyObject *reservation_abort(PyObject *object, PyObject *unused)
{
    (void)unused;
    (void)drop((ReservationObject *)object);
    Py_RETURN_NONE;
}

static PyObject *reservation_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    return is_open((ReservationObject *)object) ? Py_NewRef(object) : NULL;
}

static PyObject *reservation_exit(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    ReservationObject *self = (ReservationObject *)object;
    const bool failed = nargs > 0 && args[0] != Py_None;
    if (failed) {
        (void)drop(self);
    } else if ((self->open || self->orphaned) && commit(self, full_amount(self)) != 0) {
        return NULL; /* closed under our feet: what was written is not sent, and that is said */
    }
    Py_RETURN_NONE;
}

static void drop_view(PyObject *producer)
{
    ((ProducerObject *)producer)->views--;
}

static PyObject *reservation_get_array(PyObject *object, void *unused)
{
    (void)unused;
    ReservationObject *self = (ReservationObject *)object;
    ProducerObject *producer = self->producer;
    HandleObject *handle = &producer->handle;
    PyObject *array, *first;
    bool open;
    if (!is_open(self)) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(producer);
    open = atomic_load(&self->open);
    array = Py_XNewRef(self->array);
    if (open && array == NULL) {
        producer->views++; /* from here on a close keeps the mapping */
    }
    Py_END_CRITICAL_SECTION();
    if (!open) {
        (void)is_open(self);
        return NULL;
    }
    if (array != NULL) {
        return array;
    }
    array = array_on(handle, self->data, self->len, self->single ? -1 : (int64_t)self->items, true,
                     view_new(handle->state, (PyObject *)producer, drop_view));
    if (array == NULL) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(producer);
    open = atomic_load(&self->open);
    first = Py_XNewRef(self->array);
    if (open && first == NULL) {
        self->array = Py_NewRef(array);
    }
    Py_END_CRITICAL_SECTION();
    if (first != NULL) { /* another thread was quicker: there is one array */
        Py_DECREF(array);
        return first;
    }
    if (!open) {
        array_forbid_writes(array);
    }
    return array;
}

static PyObject *reservation_array(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames)
{
    return export_array(reservation_get_array(object, NULL), args, nargs, kwnames);
}

static PyObject *reservation_dlpack(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames)
{
    return export_dlpack(reservation_get_array(object, NULL), args, nargs, kwnames);
}

static int reservation_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
    ReservationObject *self = (ReservationObject *)object;
    HandleObject *handle = &self->producer->handle;
    int result = -1;
    view->obj = NULL;
    if (!export_is_plain(handle, flags) && atomic_load(&self->open) && !handle->segment->forked) {
        return export_buffer(handle, reservation_get_array(object, NULL), view, flags);
    }
    if (handle->dtype != NULL && self->items > 1 &&
        handle->segment->geometry.item_len != handle->segment->geometry.item_stride) {
        PyErr_SetString(PyExc_BufferError,
                        "items this large are padded in the ring, so several are no plain buffer: "
                        "use .array");
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(self->producer);
    if (!atomic_load(&self->open) || handle->segment->forked) {
        PyErr_SetString(PyExc_BufferError,
                        "this reservation was committed or aborted: its memory is not yours");
    } else {
        result = PyBuffer_FillInfo(view, object, self->data, (Py_ssize_t)self->len, 0, flags);
        if (result == 0) {
            self->producer->views++;
        }
    }
    Py_END_CRITICAL_SECTION();
    return result;
}

static void reservation_releasebuffer(PyObject *object, Py_buffer *view)
{
    ReservationObject *self = (ReservationObject *)object;
    (void)view;
    self->producer->views--;
}

static Py_ssize_t reservation_length(PyObject *object)
{
    const ReservationObject *self = (ReservationObject *)object;
    return (Py_ssize_t)full_amount(self);
}

static PyObject *reservation_repr(PyObject *object)
{
    const ReservationObject *self = (ReservationObject *)object;
    const bool typed = self->producer->handle.dtype != NULL;
    return PyUnicode_FromFormat("<shmipc.Reservation of %llu %s%s in ring %R, %s>",
                                (unsigned long long)full_amount(self), typed ? "item" : "byte",
                                SHMIPC_S(full_amount(self)), self->producer->handle.name,
                                self->open ? "open" : "settled");
}

static PyObject *reservation_refuse_reduce(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyErr_Format(
        PyExc_TypeError,
        "a Reservation is room in a ring for its producer, and is neither copied nor "
        "pickled: write through its .array, then commit()");
}

static PyMethodDef reservation_methods[] = {
    {"__reduce__", reservation_refuse_reduce, METH_NOARGS,
     "__reduce__($self)\n--\n\nTypeError: a reservation is neither copied nor pickled."},
    {"commit", METHOD(reservation_commit), FASTCALL, reservation_commit_doc},
    {"abort", reservation_abort, METH_NOARGS, reservation_abort_doc},
    {"__array__", METHOD(reservation_array), FASTCALL, export_array_doc},
    {"__dlpack__", METHOD(reservation_dlpack), FASTCALL, export_dlpack_doc},
    {"__dlpack_device__", export_dlpack_device, METH_NOARGS, export_dlpack_device_doc},
    {"__enter__", reservation_enter, METH_NOARGS,
     "__enter__($self)\n--\n\nThe reservation itself."},
    {"__exit__", METHOD(reservation_exit), METH_FASTCALL,
     "__exit__($self, *exc_info)\n--\n\nCommits, or aborts if an exception passes."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef reservation_getset[] = {
    {"array", reservation_get_array, NULL,
     "A writable ndarray on the ring's memory: of the item's shape from reserve(), (n, *shape) from "
     "reserve(n), as Frame.array of read() and read_batch(); uint8 in a message ring. It turns "
     "read-only at commit or abort.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef reservation_members[] = {WEAK_REFERENCES(ReservationObject),
                                            {NULL, 0, 0, 0, NULL}};

static PyType_Slot reservation_slots[] = {
    {Py_tp_doc,
     "Room in the ring being written in place; from Producer.reserve().\n\n"
     "Leaving its with block commits; an exception aborts. Writable until then, through\n"
     ".array, numpy.asarray(), memoryview() and from_dlpack(): one item of the ring's shape\n"
     "from reserve(), (n, *shape) from reserve(n), or bytes of a message ring. len(): bytes,\n"
     "or items of a typed ring."},
    {Py_tp_dealloc, reservation_dealloc},
    {Py_tp_traverse, reservation_traverse},
    {Py_tp_repr, reservation_repr},
    {Py_tp_methods, reservation_methods},
    {Py_tp_members, reservation_members},
    {Py_tp_getset, reservation_getset},
    {Py_sq_length, reservation_length},
    {Py_bf_getbuffer, reservation_getbuffer},
    {Py_bf_releasebuffer, reservation_releasebuffer},
    {0, NULL}};

PyType_Spec reservation_spec = {.name = "shmipc._core.Reservation",
                                .basicsize = sizeof(ReservationObject),
                                .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                         Py_TPFLAGS_IMMUTABLETYPE |
                                         Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                .slots = reservation_slots};
