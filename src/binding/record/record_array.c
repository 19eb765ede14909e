/*
 * record_array.c: records and numpy: a dtype as a record's layout, arrays on a record's bytes, and
 * what a record can be made from. numpy_api.c imports numpy for us.
 */
#include "../base/state.h"
#include "../base/handle.h"
#include "../ring/frame_object.h"
#include "../ring/view.h"
#include "record.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL shmipc_numpy_api
#define NO_IMPORT_ARRAY
#include <numpy/arrayobject.h>

/* ---- layout --------------------------------------------------------------------------------- */

static int check_dtype(PyArray_Descr *descr)
{
    if (!PyDataType_HASFIELDS(descr) || PyTuple_GET_SIZE(PyDataType_NAMES(descr)) == 0) {
        PyErr_Format(PyExc_TypeError,
                     "a record is of a structured dtype, and %R has no fields: use .array", descr);
        return -1;
    }
    if (PyDataType_REFCHK(descr)) {
        PyErr_Format(PyExc_TypeError,
                     "dtype %R holds Python objects, which mean nothing in another process", descr);
        return -1;
    }
    if (PyDataType_ELSIZE(descr) == 0) {
        PyErr_Format(PyExc_TypeError, "dtype %R has no bytes", descr);
        return -1;
    }
    return 0;
}

PyObject *record_dtype_convert(struct module_state *state, PyObject *given)
{
    PyArray_Descr *descr = NULL;
    if (need_numpy(state) != 0 || PyArray_DescrConverter(given, &descr) != NPY_SUCCEED) {
        return NULL;
    }
    if (check_dtype(descr) != 0) {
        Py_CLEAR(descr);
    }
    return (PyObject *)descr;
}

static enum field_code integer_code(npy_intp len, bool is_signed)
{
    switch (len) {
    case 1:
        return is_signed ? FIELD_I8 : FIELD_U8;
    case 2:
        return is_signed ? FIELD_I16 : FIELD_U16;
    case 4:
        return is_signed ? FIELD_I32 : FIELD_U32;
    default:
        return is_signed ? FIELD_I64 : FIELD_U64;
    }
}

static enum field_code code_of(const PyArray_Descr *descr)
{
    const int type = descr->type_num;
    if (PyDataType_HASSUBARRAY(descr) || PyDataType_HASFIELDS(descr)) {
        return FIELD_VIEW;
    }
    if (PyTypeNum_ISINTEGER(type)) {
        return integer_code(PyDataType_ELSIZE(descr), PyTypeNum_ISSIGNED(type));
    }
    switch (type) {
    case NPY_BOOL:
        return FIELD_BOOL;
    case NPY_FLOAT:
        return FIELD_F32;
    case NPY_DOUBLE:
        return FIELD_F64;
    case NPY_STRING:
        return FIELD_BYTES;
    default:
        return FIELD_OTHER;
    }
}

static int fill_field(struct record_field *field, PyObject *name, PyObject *entry)
{
    if (entry == NULL || !PyTuple_Check(entry) || PyTuple_GET_SIZE(entry) < 2) {
        PyErr_SetString(PyExc_SystemError, "shmipc: a dtype without the field that it names");
        return -1;
    }
    PyArray_Descr *descr = (PyArray_Descr *)PyTuple_GET_ITEM(entry, 0);
    field->dtype = Py_NewRef((PyObject *)descr);
    field->name = PyUnicode_FromObject(name);
    if (field->name == NULL) {
        return -1;
    }
    PyUnicode_InternInPlace(&field->name);
    field->offset = PyLong_AsSize_t(PyTuple_GET_ITEM(entry, 1));
    field->len = (size_t)PyDataType_ELSIZE(descr);
    field->code = code_of(descr);
    field->number = field->code;
    if (field->code <= FIELD_F64 && !PyArray_ISNBO(descr->byteorder)) {
        field->code = FIELD_SWAPPED;
    }
    return field->offset == (size_t)-1 && PyErr_Occurred() != NULL ? -1 : 0;
}

static int mark_text(RecordTypeObject *type)
{
    const Py_ssize_t text_count = PyTuple_GET_SIZE(type->text);
    type->text_ends = PyMem_Calloc((size_t)text_count + 1, sizeof(*type->text_ends));
    if (type->text_ends == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t k = 0; k < text_count; k++) {
        PyObject *name = PyTuple_GET_ITEM(type->text, k);
        Py_ssize_t i = 0;
        while (i < type->count &&
               (!PyUnicode_Check(name) || PyUnicode_Compare(type->fields[i].name, name) != 0)) {
            i++;
        }
        if (i == type->count ||
            (type->fields[i].code != FIELD_BYTES && type->fields[i].code != FIELD_TEXT) ||
            type->fields[i].len == 0) {
            PyErr_Format(PyExc_ValueError, "text= names %R, which is no field of bytes (S) of %R",
                         name, type->dtype);
            return -1;
        }
        type->fields[i].code = FIELD_TEXT;
        type->fields[i].number = FIELD_TEXT;
        type->text_ends[k] = type->fields[i].offset + type->fields[i].len - 1;
    }
    type->text_count = text_count;
#ifndef Py_GIL_DISABLED /* two threads would need a lock for it */
    if (text_count > 0) {
        type->texts = PyMem_Calloc(TEXT_CACHE_COUNT, sizeof(*type->texts));
        if (type->texts == NULL) {
            (void)PyErr_NoMemory();
            return -1;
        }
    }
#endif
    return 0;
}

int record_layout_fill(RecordTypeObject *type, PyObject *dtype, PyObject *text)
{
    const PyArray_Descr *descr = (PyArray_Descr *)dtype;
    if (check_dtype((PyArray_Descr *)dtype) != 0) {
        return -1;
    }
    PyObject *names = PyDataType_NAMES(descr);
    const Py_ssize_t count = PyTuple_GET_SIZE(names);
    type->dtype = Py_NewRef(dtype);
    type->text = Py_NewRef(text);
    type->len = (size_t)PyDataType_ELSIZE(descr);
    type->fields = PyMem_Calloc((size_t)count, sizeof(*type->fields));
    if (type->fields == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    type->count = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (fill_field(&type->fields[i], name,
                       PyDict_GetItemWithError(PyDataType_FIELDS(descr), name)) != 0) {
            return -1;
        }
    }
    return mark_text(type);
}

bool record_has_dtype(RecordTypeObject *type, PyObject *dtype)
{
    /* Acquire: pairs with the exchange below. The twin is kept, so its address means it alone. */
    PyObject *twin = atomic_load_explicit(&type->twin, memory_order_acquire);
    if (dtype == type->dtype || dtype == twin) {
        return true;
    }
    if (!PyArray_EquivTypes((PyArray_Descr *)type->dtype, (PyArray_Descr *)dtype)) {
        return false;
    }
    if (twin == NULL && atomic_compare_exchange_strong(&type->twin, &twin, dtype)) {
        Py_INCREF(dtype);
    }
    return true;
}

/* ---- arrays on a record --------------------------------------------------------------------- */

PyObject *record_array_at(PyObject *record, PyObject *dtype, size_t offset)
{
    const RecordObject *self = (RecordObject *)record;
    const bool owned = self->frame == NULL;
    PyObject *base;
    if (owned) {
        base = Py_NewRef(record);
    } else if (frame_try_add_export(self->frame)) {
        base =
            view_new(self->frame->consumer->handle.state, (PyObject *)self->frame, frame_drop_view);
    } else {
        (void)record_refuse_released(self);
        return NULL;
    }
    if (base == NULL) {
        return NULL;
    }
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)Py_NewRef(dtype), 0,
                                           NULL, NULL, (void *)(uintptr_t)(self->data + offset),
                                           owned ? NPY_ARRAY_WRITEABLE : 0, NULL);
    if (array == NULL) {
        Py_DECREF(base);
        return NULL;
    }
    PyArray_UpdateFlags((PyArrayObject *)array, NPY_ARRAY_UPDATE_ALL);
    if (PyArray_SetBaseObject((PyArrayObject *)array, base) != 0) { /* steals base */
        Py_CLEAR(array);
    }
    return array;
}

const char record_array_doc[] =
    "__array__($self, dtype=None, *, copy=None)\n--\n\n"
    "For numpy.asarray(record): the record as a 0-d structured array on its own memory, which\n"
    "is read-only and keeps the lease alive where the record lies in the ring. An array's\n"
    "element is set by array[i] = numpy.asarray(record).";

PyObject *record_array(PyObject *record, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return export_array(record_array_at(record, record_layout_of(record)->dtype, 0), args, nargs,
                        kwnames);
}

/* ---- a record from something, and as something to send -------------------------------------- */

int source_open_record(PyObject *record, struct source *source)
{
    const RecordObject *self = (RecordObject *)record;
    source->buffer.obj = NULL;
    source->strides = NULL;
    if (self->frame == NULL) {
        source->array = Py_NewRef(record);
    } else if (frame_try_add_export(self->frame)) {
        /* A claim on the lease: whoever sends may wait, and let another thread release it. */
        source->array =
            view_new(self->frame->consumer->handle.state, (PyObject *)self->frame, frame_drop_view);
    } else {
        source->array = NULL;
        (void)record_refuse_released(self);
    }
    source->data = self->data;
    source->len = self->len;
    source->items = 1;
    return source->array == NULL ? -1 : 0;
}

int source_open_record_to_send(PyObject *record, struct source *source)
{
    if (source_open_record(record, source) != 0) {
        return -1;
    }
    if (SHMIPC_UNLIKELY(!record_texts_end(record_layout_of(record), source->data))) {
        (void)record_refuse_text(record_layout_of(record), source->data, 0);
        source_close(source);
        return -1;
    }
    return 0;
}

int source_open_record_item(HandleObject *handle, PyObject *record, struct source *source)
{
    PyObject *dtype = record_layout_of(record)->dtype;
    if (PyTuple_GET_SIZE(handle->shape) != 0 ||
        !record_has_dtype(record_layout_of(record), handle->dtype)) {
        PyErr_Format(handle->state->exceptions[EXCEPTION_SCHEMA_MISMATCH],
                     "ring %R takes items of dtype %R and shape %R, not a %.200s of dtype %R",
                     handle->name, handle->dtype, handle->shape, Py_TYPE(record)->tp_name, dtype);
        return -1;
    }
    return source_open_record_to_send(record, source);
}

static int refuse_source(const RecordTypeObject *type, PyObject *dtype)
{
    PyErr_Format(type->state->exceptions[EXCEPTION_SCHEMA_MISMATCH],
                 "a %.200s is one item of dtype %R, not of dtype %R", type->heap.ht_type.tp_name,
                 type->dtype, dtype);
    return -1;
}

/* A structured array or numpy.void: its dtype counts, not its bytes. */
static int open_array_source(RecordTypeObject *type, PyArrayObject *array, struct source *source)
{
    source->buffer.obj = NULL;
    source->strides = NULL;
    source->array = NULL;
    if (PyArray_NDIM(array) != 0) {
        PyErr_Format(PyExc_ValueError, "a %.200s is one item, not an array of %d axes",
                     type->heap.ht_type.tp_name, PyArray_NDIM(array));
        return -1;
    }
    if (!record_has_dtype(type, (PyObject *)PyArray_DESCR(array))) {
        return refuse_source(type, (PyObject *)PyArray_DESCR(array));
    }
    source->data = PyArray_DATA(array);
    source->len = type->len;
    source->array = Py_NewRef((PyObject *)array);
    return 0;
}

int record_open_source(RecordTypeObject *type, PyObject *object, struct source *source)
{
    if (record_check_any(object)) {
        PyObject *dtype = record_layout_of(object)->dtype;
        return record_has_dtype(type, dtype) ? source_open_record(object, source)
                                             : refuse_source(type, dtype);
    }
    if (PyArray_IsScalar(object, Void) ||
        (PyArray_Check(object) && PyDataType_HASFIELDS(PyArray_DESCR((PyArrayObject *)object)))) {
        PyArrayObject *array =
            refuse_stripped(object) != 0 ? NULL : (PyArrayObject *)PyArray_FROM_O(object);
        const int result = array == NULL ? -1 : open_array_source(type, array, source);
        Py_XDECREF(array);
        return result;
    }
    if (PyArray_CheckScalar(object) || !PyObject_CheckBuffer(object)) {
        PyErr_Format(PyExc_TypeError,
                     "a %.200s is made from a Frame, a record, a numpy item of its dtype, a buffer "
                     "of its bytes or keywords, not from %.200s",
                     type->heap.ht_type.tp_name, Py_TYPE(object)->tp_name);
        return -1;
    }
    if (source_open_bytes(type->state, object, source) != 0 || source_gather(source) != 0) {
        return -1;
    }
    if (source->len != type->len) {
        PyErr_Format(PyExc_ValueError, "a %.200s has %zu byte%s, not %zu",
                     type->heap.ht_type.tp_name, type->len, SHMIPC_S(type->len), source->len);
        source_close(source);
        return -1;
    }
    return 0;
}
