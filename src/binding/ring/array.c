/* array.c: the items of typed rings and numpy's arrays. */
#include "../base/state.h"
#include "../base/handle.h"
#include "buffers.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL shmipc_numpy_api
#define NO_IMPORT_ARRAY
#include <numpy/arrayobject.h>

/* ---- items that are sent, and buffers that they are copied into ------------------------------ */

/* What an array is to a typed ring, whichever way the bytes go. */
enum fit {
    FIT_ITEMS, /* of the ring's dtype */
    FIT_BYTES, /* of single bytes, which stand for anything of their length */
    FIT_NONE
};

static enum fit fit_of(const HandleObject *handle, PyArrayObject *array)
{
    PyArray_Descr *descr = PyArray_DESCR(array);
    if (descr == (PyArray_Descr *)handle->dtype ||
        PyArray_EquivTypes(descr, (PyArray_Descr *)handle->dtype)) {
        return FIT_ITEMS;
    }
    switch (descr->type_num) {
    case NPY_BYTE:
    case NPY_UBYTE:
        return FIT_BYTES;
    case NPY_STRING: /* 'c' of a memoryview */
        return PyDataType_ELSIZE(descr) == 1 ? FIT_BYTES : FIT_NONE;
    case NPY_VOID:
        return PyDataType_HASFIELDS(descr) ? FIT_NONE : FIT_BYTES;
    default:
        return FIT_NONE;
    }
}

/* Does the array's shape end in the item's, with nothing (or one axis, if `many`) before it? */
static bool shape_fits(const HandleObject *handle, PyArrayObject *array, bool many)
{
    const int leading = many ? 1 : 0;
    const Py_ssize_t axes = PyTuple_GET_SIZE(handle->shape);
    if (PyArray_NDIM(array) != axes + leading) {
        return false;
    }
    for (Py_ssize_t i = 0; i < axes; i++) {
        const long long extent = PyLong_AsLongLong(PyTuple_GET_ITEM(handle->shape, i));
        if (PyArray_DIM(array, (int)i + leading) != extent) {
            return false;
        }
    }
    return true;
}

static int mismatch(HandleObject *handle, PyArrayObject *array, const char *cure)
{
    PyObject *shape = PyObject_GetAttrString((PyObject *)array, "shape");
    if (shape != NULL) {
        PyErr_Format(handle->state->exceptions[EXCEPTION_SCHEMA_MISMATCH],
                     "ring %R takes items of dtype %R and shape %R, not an array of dtype %R and "
                     "shape %R: %s",
                     handle->name, handle->dtype, handle->shape, PyArray_DESCR(array), shape, cure);
        Py_DECREF(shape);
    }
    return -1;
}

/* Raw bytes stand for items if their length is right. */
static int source_from_raw(HandleObject *handle, PyObject *object, bool many, struct source *source)
{
    const size_t item_len = (size_t)handle->segment->geometry.item_len;
    if (source_open_bytes(handle->state, object, source) != 0) {
        return -1;
    }
    if (many ? source->len % item_len == 0 : source->len == item_len) {
        source->items = source->len / item_len;
        return source_gather(source);
    }
    PyErr_Format(PyExc_ValueError, "ring %R takes items of %zu byte%s, not %zu byte%s of data",
                 handle->name, item_len, SHMIPC_S(item_len), source->len, SHMIPC_S(source->len));
    source_close(source);
    return -1;
}

/* numpy gives an element out in the machine's byte order, and a text without the zeros at its end.
 * May it go back into an item as it came? Both dtypes have no fields. */
static bool is_element_of(const HandleObject *handle, PyArray_Descr *element)
{
    PyArray_Descr *item = (PyArray_Descr *)handle->dtype;
    if (element->type_num != item->type_num) {
        return false;
    }
    if (item->type_num == NPY_STRING || item->type_num == NPY_UNICODE) {
        return PyDataType_ELSIZE(element) <= PyDataType_ELSIZE(item);
    }
    PyArray_Descr *native = PyArray_DescrNewByteorder(item, NPY_NATIVE);
    const bool same = native != NULL && PyArray_EquivTypes(element, native);
    Py_XDECREF(native);
    PyErr_Clear();
    return same;
}

/* A numpy scalar as a 0-d array; of the item's own dtype, if the scalar is an element of such. */
static PyArrayObject *array_from_scalar(const HandleObject *handle, PyObject *scalar)
{
    PyArrayObject *array = (PyArrayObject *)PyArray_FromScalar(scalar, NULL);
    if (array == NULL || fit_of(handle, array) == FIT_ITEMS ||
        !is_element_of(handle, PyArray_DESCR(array))) {
        return array;
    }
    Py_DECREF(array);
    return (PyArrayObject *)PyArray_FromScalar(
        scalar, (PyArray_Descr *)Py_NewRef(handle->dtype)); /* steals the dtype */
}

/* The array that `object` is, or that numpy makes of it. */
static PyArrayObject *array_from(HandleObject *handle, PyObject *object, bool many)
{
    if (PyArray_Check(object)) {
        return !PyArray_CheckExact(object) && refuse_stripped(object) != 0
                   ? NULL
                   : (PyArrayObject *)Py_NewRef(object);
    }
    if (PyArray_CheckScalar(object)) {
        return array_from_scalar(handle, object);
    }
    if (Py_TYPE(object) == handle->state->frame_type) { /* numpy would ask for its format */
        return (PyArrayObject *)PyObject_GetAttrString(object, "array");
    }
    if (PyObject_CheckBuffer(object)) {
        return refuse_meaningless(object) != 0 ? NULL : (PyArrayObject *)PyArray_FROM_O(object);
    }
    PyErr_Format(PyExc_TypeError,
                 "ring %R takes an ndarray of dtype %R%s, not %.200s: send numpy.array(value, "
                 "dtype=producer.dtype)",
                 handle->name, handle->dtype, many ? "" : " (one item)", Py_TYPE(object)->tp_name);
    return NULL;
}

static int source_from_array(PyArrayObject *array, bool many, struct source *source)
{
    source->data = PyArray_DATA(array);
    source->len = (size_t)PyArray_NBYTES(array);
    source->items = many ? (uint64_t)PyArray_DIM(array, 0) : 1;
    source->array = (PyObject *)array;
    if (SHMIPC_LIKELY(PyArray_IS_C_CONTIGUOUS(array))) {
        return 0;
    }
    /* Copied, since whoever holds the array may set its shape meanwhile. */
    if (source_set_strides(source, PyArray_NDIM(array), PyArray_SHAPE(array),
                           PyArray_STRIDES(array), (size_t)PyArray_ITEMSIZE(array)) != 0) {
        source_close(source);
        return -1;
    }
    return 0;
}

int source_open_items(HandleObject *handle, PyObject *object, bool many, struct source *source)
{
    source->array = NULL;
    source->strides = NULL;
    source->buffer.obj = NULL;
    if (PyBytes_CheckExact(object) || PyByteArray_Check(object) ||
        (PyBytes_Check(object) && (many || !PyArray_CheckScalar(object)))) {
        return source_from_raw(handle, object, many, source);
    }
    if (is_record(handle->state, object) && !many) {
        return handle->state->records->open_item(handle, object, source);
    }
    PyArrayObject *array = array_from(handle, object, many);
    if (array == NULL) {
        return -1;
    }
    const enum fit fit = fit_of(handle, array);
    if (fit == FIT_BYTES && !PyArray_Check(object) && !PyArray_CheckScalar(object)) {
        Py_DECREF(array);
        return source_from_raw(handle, object, many, source); /* a memoryview of bytes */
    }
    if (fit != FIT_ITEMS || !shape_fits(handle, array, many)) {
        (void)mismatch(handle, array, "convert it first (astype, reshape)");
        Py_DECREF(array);
        return -1;
    }
    return source_from_array(array, many, source);
}

int target_check_items(HandleObject *handle, PyObject *object)
{
    if (PyByteArray_Check(object)) {
        return 0;
    }
    PyArrayObject *array = PyArray_Check(object) ? (PyArrayObject *)Py_NewRef(object)
                                                 : (PyArrayObject *)PyArray_FROM_O(object);
    if (array == NULL) {
        return -1;
    }
    const enum fit fit = fit_of(handle, array);
    const bool fits = fit == FIT_BYTES || (fit == FIT_ITEMS && (PyArray_NDIM(array) == 1 ||
                                                                shape_fits(handle, array, false) ||
                                                                shape_fits(handle, array, true)));
    const int result = fits ? 0
                            : mismatch(handle, array,
                                       "receive into numpy.empty(consumer.shape, consumer.dtype), "
                                       "or into plain bytes: array.view('u1')");
    Py_DECREF(array);
    return result;
}

/* ---- receiving ------------------------------------------------------------------------------ */

static int item_dims(const HandleObject *handle, int first, npy_intp *dims)
{
    const Py_ssize_t axes = PyTuple_GET_SIZE(handle->shape);
    for (Py_ssize_t i = 0; i < axes; i++) {
        dims[first + i] = (npy_intp)PyLong_AsSsize_t(PyTuple_GET_ITEM(handle->shape, i));
    }
    return first + (int)axes;
}

PyObject *array_on(HandleObject *handle, unsigned char *data, uint64_t len, int64_t items,
                   bool writable, PyObject *base)
{
    npy_intp dims[NPY_MAXDIMS];
    npy_intp strides[NPY_MAXDIMS];
    PyArray_Descr *descr;
    int axes;
    if (base == NULL || need_numpy(handle->state) != 0) {
        Py_XDECREF(base);
        return NULL;
    }
    if (handle->dtype == NULL) {
        descr = PyArray_DescrFromType(NPY_UINT8);
        dims[0] = (npy_intp)len;
        strides[0] = 1;
        axes = 1;
    } else {
        descr = (PyArray_Descr *)Py_NewRef(handle->dtype);
        axes = item_dims(handle, items >= 0 ? 1 : 0, dims);
        npy_intp stride = PyDataType_ELSIZE(descr);
        for (int i = axes - 1; i >= (items >= 0 ? 1 : 0); i--) {
            strides[i] = stride;
            stride *= dims[i];
        }
        if (items >= 0) {
            dims[0] = (npy_intp)items;
            strides[0] = (npy_intp)handle->segment->geometry.item_stride;
        }
    }
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, descr, axes, dims, strides, data,
                                           writable ? NPY_ARRAY_WRITEABLE : 0, NULL);
    if (array == NULL) {
        Py_DECREF(base);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)array, base) != 0) { /* steals base */
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

PyObject *array_empty(HandleObject *handle, unsigned char **data)
{
    npy_intp dims[NPY_MAXDIMS];
    const int axes = item_dims(handle, 0, dims);
    PyArray_Descr *descr = (PyArray_Descr *)Py_NewRef(handle->dtype);
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, descr, axes, dims, NULL, NULL, 0, NULL);
    if (array != NULL) {
        *data = PyArray_DATA((PyArrayObject *)array);
    }
    return array;
}

void array_forbid_writes(PyObject *array)
{
    PyArray_CLEARFLAGS((PyArrayObject *)array, NPY_ARRAY_WRITEABLE);
}
