/* frame_object.c: the Frame type. What it owns, and when that ends, is in frame_lease.c. */
#include "../base/state.h"
#include "../base/errors.h"
#include "../base/handle.h"
#include "buffers.h"
#include "consumer_object.h"
#include "copying.h"
#include "frame_object.h"
#include "view.h"

static void frame_dealloc(PyObject *object)
{
    FrameObject *self = (FrameObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (SHMIPC_UNLIKELY(self->weakrefs != NULL)) {
        PyObject_ClearWeakRefs(object);
    }
    (void)frame_try_end(self); /* views own their frame: there is none left */
    Py_DECREF(self->consumer);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

/* So that a consumer of a subclass that keeps its own frames can be collected. There is nothing to
 * clear: such a cycle has the subclass's __dict__ in it. */
static int frame_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((FrameObject *)object)->consumer);
    return 0;
}

static int frame_is_true(PyObject *object)
{
    (void)object;
    return 1; /* a message of no bytes is a message */
}

PyObject *frame_refuse(const FrameObject *self, PyObject *exception)
{
    PyErr_SetString(exception,
                    atomic_load(&self->looped)
                        ? "this frame was released by the loop over its Consumer, which does so "
                          "when it takes the next frame or ends: its memory belongs to the "
                          "producer again. Copy within the loop (bytes(frame), "
                          "frame.array.copy()), or take frames that stay with consumer.read()"
                        : "this frame was released: its memory belongs to the producer again. Copy "
                          "what you want to keep before releasing");
    return NULL;
}

/* The frame may be viewed, and one view more is counted; or an exception. */
static bool add_export(FrameObject *self, PyObject *exception)
{
    if (!frame_try_add_export(self)) {
        (void)frame_refuse(self, exception);
        return false;
    }
    return true;
}

PyDoc_STRVAR(
    frame_release_doc,
    "release($self)\n--\n\n"
    "Give the memory back to the producer. BufferError while an ndarray or a memoryview\n"
    "of it is alive: delete those first, or let them end the lease themselves by leaving\n"
    "the frame to the garbage collector. Corrupt, having released, if the ring's file was\n"
    "truncated meanwhile: what was seen may have been zeros. Idempotent.");

static PyObject *frame_release(PyObject *object, PyObject *unused)
{
    (void)unused;
    FrameObject *self = (FrameObject *)object;
    const bool leased = frame_is_leased(self);
    const Py_ssize_t exports = frame_try_end(self);
    if (exports > 0) {
        return PyErr_Format(PyExc_BufferError,
                            "%zd view%s of this frame %s alive: delete %s (or copy) before "
                            "release()",
                            exports, exports == 1 ? "" : "s", exports == 1 ? "is" : "are",
                            exports == 1 ? "it" : "them");
    }
    if (leased && !check_whole(&self->consumer->handle)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *frame_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    FrameObject *self = (FrameObject *)object;
    if (!add_export(self, PyExc_ValueError)) {
        return NULL;
    }
    frame_drop_export(self);
    return Py_NewRef(object);
}

static PyObject *frame_exit(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    FrameObject *self = (FrameObject *)object;
    const bool leased = frame_is_leased(self);
    frame_release_softly(self);
    if (leased && (nargs == 0 || args[0] == Py_None) && !check_whole(&self->consumer->handle)) {
        return NULL; /* the body worked on zeros, and believes it has done well */
    }
    Py_RETURN_NONE;
}

/* An ndarray on the frame's memory, unless it was released: then `exception`. */
static PyObject *make_array(FrameObject *self, PyObject *exception)
{
    HandleObject *handle = &self->consumer->handle;
    if (!add_export(self, exception)) {
        return NULL;
    }
    PyObject *view = view_new(handle->state, (PyObject *)self, frame_drop_view);
    return array_on(handle, (unsigned char *)(uintptr_t)self->data, self->len,
                    self->batch ? (int64_t)self->items : -1, false, view);
}

static PyObject *frame_get_array(PyObject *object, void *unused)
{
    (void)unused;
    return make_array((FrameObject *)object, PyExc_ValueError);
}

static PyObject *frame_array(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    return export_array(make_array((FrameObject *)object, PyExc_ValueError), args, nargs, kwnames);
}

static PyObject *frame_dlpack(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
    return export_dlpack(make_array((FrameObject *)object, PyExc_BufferError), args, nargs,
                         kwnames);
}

static PyObject *frame_bytes(PyObject *object, PyObject *unused)
{
    (void)unused;
    FrameObject *self = (FrameObject *)object;
    const struct shmipc_ring *ring = &self->consumer->core.ring.map;
    const bool padded = self->items > 1 && ring->item_stride != ring->item_len;
    const size_t part_len = (size_t)(padded ? ring->item_len : self->len);
    const uint64_t parts = padded ? self->items : 1;
    if (!add_export(self, PyExc_BufferError)) {
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(parts * part_len));
    for (uint64_t i = 0; bytes != NULL && i < parts; i++) {
        copy_out(PyBytes_AS_STRING(bytes) + i * part_len,
                 self->data + (padded ? i * ring->item_stride : 0), part_len);
    }
    frame_drop_export(self);
    return bytes;
}

/* The record type of the ring's items, made once. Borrowed. */
static PyTypeObject *item_record_type(HandleObject *handle)
{
    PyObject *type = atomic_load_explicit(&handle->record_type, memory_order_acquire);
    if (type == NULL) {
        PyObject *made = handle->state->records->type_for(handle->state, handle->dtype);
        if (made != NULL && atomic_compare_exchange_strong(&handle->record_type, &type, made)) {
            type = made;
        } else {
            Py_XDECREF(made); /* another thread was quicker, or an exception */
        }
    }
    return (PyTypeObject *)type;
}

static PyObject *frame_get_record(PyObject *object, void *unused)
{
    (void)unused;
    FrameObject *self = (FrameObject *)object;
    HandleObject *handle = &self->consumer->handle;
    if (handle->dtype == NULL) {
        return PyErr_Format(PyExc_TypeError,
                            "ring %R carries messages: read one as a record type T with T(frame)",
                            handle->name);
    }
    if (self->batch || PyTuple_GET_SIZE(handle->shape) != 0) {
        return PyErr_Format(PyExc_ValueError,
                            "a record is one item, and this frame of ring %R has an array of them: "
                            "use its .array",
                            handle->name);
    }
    PyTypeObject *type = item_record_type(handle);
    if (type == NULL || !add_export(self, PyExc_ValueError)) {
        return NULL;
    }
    frame_drop_export(self);
    return handle->state->records->new_leased(type, self, self->data);
}

static PyObject *frame_get_kind(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(((FrameObject *)object)->kind);
}

static PyObject *frame_get_flags(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(((FrameObject *)object)->flags);
}

static PyObject *frame_get_seq(PyObject *object, void *unused)
{
    (void)unused;
    const FrameObject *self = (FrameObject *)object;
    const struct shmipc_ring *ring = &self->consumer->core.ring.map;
    return PyLong_FromUnsignedLongLong(
        ring->item_stride == 0 ? self->seq : shmipc_ring_seq_of(ring, self->pos));
}

static PyObject *frame_get_intact(PyObject *object, void *unused)
{
    (void)unused;
    FrameObject *self = (FrameObject *)object;
    if (!frame_add_export_to_lease(self)) { /* while it is counted, the segment stays mapped */
        Py_RETURN_FALSE;
    }
    const ConsumerObject *consumer = self->consumer;
    const bool intact = shmipc_ring_intact(&consumer->core.ring.map, self->pos) &&
                        !shmipc_segment_is_damaged(&consumer->core.segment);
    frame_drop_export(self);
    return PyBool_FromLong(intact);
}

static int frame_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
    FrameObject *self = (FrameObject *)object;
    HandleObject *handle = &self->consumer->handle;
    view->obj = NULL;
    if (!export_is_plain(handle, flags)) {
        return export_buffer(handle, make_array(self, PyExc_BufferError), view, flags);
    }
    if (self->items > 1 &&
        handle->segment->geometry.item_len != handle->segment->geometry.item_stride) {
        PyErr_SetString(PyExc_BufferError,
                        "items this large are padded in the ring, so several are no plain buffer: "
                        "use .array");
        return -1;
    }
    if (!add_export(self, PyExc_BufferError)) {
        return -1;
    }
    if (PyBuffer_FillInfo(view, object, (void *)(uintptr_t)self->data, (Py_ssize_t)self->len, 1,
                          flags) != 0) {
        frame_drop_export(self);
        return -1;
    }
    return 0;
}

static void frame_releasebuffer(PyObject *object, Py_buffer *view)
{
    (void)view;
    frame_drop_export((FrameObject *)object);
}

static Py_ssize_t frame_length(PyObject *object)
{
    const FrameObject *self = (FrameObject *)object;
    return (Py_ssize_t)(self->consumer->handle.dtype == NULL ? self->len : self->items);
}

static PyObject *frame_repr(PyObject *object)
{
    const FrameObject *self = (FrameObject *)object;
    const bool typed = self->consumer->handle.dtype != NULL;
    return PyUnicode_FromFormat("<shmipc.Frame of %llu %s%s of ring %R, %s>",
                                (unsigned long long)(typed ? self->items : self->len),
                                typed ? "item" : "byte", SHMIPC_S(typed ? self->items : self->len),
                                self->consumer->handle.name,
                                frame_is_leased(self) && !self->ending ? "leased" : "released");
}

static PyObject *frame_refuse_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (!frame_is_readable((FrameObject *)self)) {
        return frame_refuse((FrameObject *)self, PyExc_TypeError);
    }
    return PyErr_Format(
        PyExc_TypeError,
        "a Frame is a lease on ring memory, and is neither copied nor pickled: take "
        "its content, bytes(frame) or frame.array.copy()");
}

static PyMethodDef frame_methods[] = {
    {"__reduce__", frame_refuse_reduce, METH_NOARGS,
     "__reduce__($self)\n--\n\nTypeError: a frame is neither copied nor pickled."},
    {"release", frame_release, METH_NOARGS, frame_release_doc},
    {"__array__", METHOD(frame_array), FASTCALL, export_array_doc},
    {"__bytes__", frame_bytes, METH_NOARGS,
     "__bytes__($self)\n--\n\nA copy of the bytes; of a batch, item after item."},
    {"__dlpack__", METHOD(frame_dlpack), FASTCALL, export_dlpack_doc},
    {"__dlpack_device__", export_dlpack_device, METH_NOARGS, export_dlpack_device_doc},
    {"__enter__", frame_enter, METH_NOARGS, "__enter__($self)\n--\n\nThe frame itself."},
    {"__exit__", METHOD(frame_exit), METH_FASTCALL,
     "__exit__($self, *exc_info)\n--\n\n"
     "Releases; if views are still alive, the last of them does. Corrupt as release()."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef frame_getset[] = {
    {"array", frame_get_array, NULL,
     "A read-only ndarray on the ring's own memory: shape (n, *shape) for a batch, shape for one "
     "item, uint8 (len,) in a message ring. It keeps the lease alive.",
     NULL},
    {"record", frame_get_record, NULL,
     "The item of a typed ring of a structured dtype as a Record on the ring's own memory. It can "
     "be read until the frame is released, and does not keep the lease alive.",
     NULL},
    {"kind", frame_get_kind, NULL, "The message's kind; 0 in a typed ring.", NULL},
    {"flags", frame_get_flags, NULL, "The message's flags; 0 in a typed ring.", NULL},
    {"seq", frame_get_seq, NULL,
     "The number of the message, or of the first item, counted from 0 since the ring began.", NULL},
    {"intact", frame_get_intact, NULL,
     "False once the lease has ended or, in an overwrite ring, the producer may have overwritten "
     "the memory, or somebody has truncated the ring's file, which makes the memory zeros. Look after "
     "using the data: True then means that it was whole.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef frame_members[] = {WEAK_REFERENCES(FrameObject), {NULL, 0, 0, 0, NULL}};

static PyType_Slot frame_slots[] = {
    {Py_tp_doc,
     "A lease on ring memory; from Consumer.read(), read_batch() or iteration.\n\n"
     "The memory is not reused and not unmapped while the frame, or an ndarray or memoryview of\n"
     "it, lives and release() was not called (overwrite rings: see .intact). Read-only, through\n"
     ".array, which is quickest, or as numpy.asarray(), memoryview() and from_dlpack() read it: of\n"
     "the ring's dtype and shape, or bytes of a message ring. len(): bytes, or items of a typed\n"
     "ring."},
    {Py_tp_dealloc, frame_dealloc},
    {Py_tp_traverse, frame_traverse},
    {Py_tp_repr, frame_repr},
    {Py_tp_methods, frame_methods},
    {Py_tp_members, frame_members},
    {Py_tp_getset, frame_getset},
    {Py_sq_length, frame_length},
    {Py_nb_bool, frame_is_true},
    {Py_bf_getbuffer, frame_getbuffer},
    {Py_bf_releasebuffer, frame_releasebuffer},
    {0, NULL}};

PyType_Spec frame_spec = {.name = "shmipc._core.Frame",
                          .basicsize = sizeof(FrameObject),
                          .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                   Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                          .slots = frame_slots};
