/*
 * record_life.c: records come and go.
 *
 * An owned record that nobody holds any more is kept by its type, up to a number, and is the next
 * that is made: an order's record is then not new memory each time. One that is kept has no
 * reference to its type and is not known to the collector, so it keeps nothing alive.
 */
#include "../base/handle.h"
#include "../ring/frame_object.h"
#include "record.h"

PyObject *record_new_leased(PyTypeObject *type, FrameObject *frame, const unsigned char *data)
{
    RecordObject *self = (RecordObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->frame = (FrameObject *)Py_NewRef((PyObject *)frame);
        self->data = data;
        self->len = record_len_of(type);
    }
    return (PyObject *)self;
}

PyObject *record_new_blank(PyTypeObject *type)
{
    RecordTypeObject *layout = (RecordTypeObject *)type;
    RecordObject *self = layout->spare;
    if (SHMIPC_LIKELY(self != NULL)) {
        layout->spare = (RecordObject *)(uintptr_t)self->data;
        layout->spare_count--;
        self->data = self->own;
        (void)PyObject_Init((PyObject *)self, type);
        PyObject_GC_Track((PyObject *)self);
        return (PyObject *)self;
    }
    unsigned char *own = PyMem_Malloc(layout->len);
    if (own == NULL) {
        return PyErr_NoMemory();
    }
    self = (RecordObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        PyMem_Free(own);
        return NULL;
    }
    self->own = own;
    self->data = own;
    self->len = layout->len;
    return (PyObject *)self;
}

PyObject *record_new_owned(PyTypeObject *type, const unsigned char *bytes)
{
    RecordObject *self = (RecordObject *)record_new_blank(type);
    if (self == NULL) {
        return NULL;
    }
    if (bytes != NULL) {
        memcpy(self->own, bytes, self->len);
    } else {
        memset(self->own, 0, self->len);
    }
    return (PyObject *)self;
}

void record_move_owned(PyObject *record, const unsigned char *bytes)
{
    RecordObject *self = (RecordObject *)record;
    memcpy(self->own, bytes, self->len);
}

/* Keep an owned record that nobody has any more for the next that is made. */
static bool try_spare(RecordTypeObject *type, RecordObject *self)
{
#ifdef Py_GIL_DISABLED
    (void)type;
    (void)self;
    return false;
#else
    if (self->own == NULL || type->spare_count >= SPARE_RECORDS_MAX) {
        return false;
    }
    self->data = (const unsigned char *)type->spare;
    type->spare = self;
    type->spare_count++;
    return true;
#endif
}

void record_dealloc(PyObject *object)
{
    RecordObject *self = (RecordObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (!try_spare((RecordTypeObject *)type, self)) {
        Py_XDECREF((PyObject *)self->frame);
        PyMem_Free(self->own);
        type->tp_free(object);
    }
    Py_DECREF(type);
}

void record_free_spare(RecordTypeObject *type)
{
    while (type->spare != NULL) {
        RecordObject *record = type->spare;
        type->spare = (RecordObject *)(uintptr_t)record->data;
        PyMem_Free(record->own);
        PyObject_GC_Del(record);
    }
}

PyObject *record_meta_new(PyTypeObject *meta, PyObject *args, PyObject *kwargs)
{
    (void)meta;
    (void)args;
    (void)kwargs;
    PyErr_SetString(PyExc_TypeError,
                    "record types come from record_type(dtype) and cannot be subclassed");
    return NULL;
}

bool record_refuse_released(const RecordObject *self)
{
    PyErr_Format(PyExc_ValueError,
                 "this %.200s was released: its memory belongs to the producer again. Take a "
                 "copy() before its frame is released, or before the callback returns",
                 Py_TYPE((PyObject *)(uintptr_t)self)->tp_name);
    return false;
}
