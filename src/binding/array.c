/*
 * array.c: rings and numpy; only record_array.c and field_array.c know it too. numpy is imported
 * when the first dtype or ndarray is needed, so a message ring works in an interpreter that numpy
 * refuses (a sub-interpreter).
 */
#include "module.h"
#include "record.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL shmipc_numpy_api
#include <numpy/arrayobject.h>

/* Keep `object`, stolen, unless another thread was quicker. */
static int keep(_Atomic(PyObject *) *place, PyObject *object)
{
    PyObject *none = NULL;
    if (object == NULL) {
        return -1;
    }
    if (!atomic_compare_exchange_strong(place, &none, object)) {
        Py_DECREF(object);
    }
    return 0;
}

int need_numpy(struct module_state *state)
{
    if (SHMIPC_LIKELY(atomic_load_explicit(&state->numpy_format, memory_order_acquire) != NULL)) {
        return 0;
    }
    if (PyArray_ImportNumPyAPI() != 0) {
        return -1;
    }
    PyObject *ast = PyImport_ImportModule("ast");
    if (ast == NULL) {
        return -1;
    }
    const int kept = keep(&state->literal_eval, PyObject_GetAttrString(ast, "literal_eval"));
    Py_DECREF(ast);
    return kept != 0 ? -1 : keep(&state->numpy_format, PyImport_ImportModule("numpy.lib.format"));
}

/* ---- schema --------------------------------------------------------------------------------- */

/* shape= as a tuple of non-negative ints: an int is a shape of one axis, as in numpy. */
static PyObject *normal_shape(PyObject *shape)
{
    if (shape == NULL || shape == Py_None) {
        return PyTuple_New(0);
    }
    PyObject *given = PyIndex_Check(shape) && !PySequence_Check(shape) ? PyTuple_Pack(1, shape)
                                                                       : PySequence_Tuple(shape);
    if (given == NULL) {
        return NULL;
    }
    PyObject *plain = PyTuple_New(PyTuple_GET_SIZE(given));
    for (Py_ssize_t i = 0; plain != NULL && i < PyTuple_GET_SIZE(given); i++) {
        uint64_t extent;
        PyObject *number = parse_integer("an extent of shape=", PyTuple_GET_ITEM(given, i), 0,
                                         SHMIPC_MAX_AREA_LEN, UINT64_MAX, &extent) != 0
                               ? NULL
                               : PyLong_FromUnsignedLongLong(extent);
        if (number == NULL) {
            Py_CLEAR(plain);
        } else {
            PyTuple_SET_ITEM(plain, i, number); /* an exact int: its repr is a literal */
        }
    }
    Py_DECREF(given);
    return plain;
}

/* Bytes of one item, or an exception. */
static int item_len_of(PyObject *dtype, PyObject *shape, uint64_t *item_len)
{
    const PyArray_Descr *descr = (PyArray_Descr *)dtype;
    uint64_t len = (uint64_t)PyDataType_ELSIZE(descr);
    if (PyTuple_GET_SIZE(shape) > NPY_MAXDIMS - 1) {
        PyErr_SetString(PyExc_ValueError, "shape= has too many axes");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); i++) {
        uint64_t extent;
        if (parse_integer("an extent of shape=", PyTuple_GET_ITEM(shape, i), 0, SHMIPC_MAX_AREA_LEN,
                          0, &extent) != 0) {
            return -1;
        }
        if (extent != 0 && len > SHMIPC_MAX_AREA_LEN / extent) {
            PyErr_SetString(PyExc_ValueError, "an item of this dtype and shape is too large");
            return -1;
        }
        len *= extent;
    }
    if (len == 0) {
        PyErr_SetString(PyExc_ValueError, "an item of this dtype and shape has no bytes");
        return -1;
    }
    *item_len = len;
    return 0;
}

/* The dtype of a description, if it is the one that this dtype has. NULL with or without an
 * exception: it is none. */
static PyObject *dtype_of(struct module_state *state, PyObject *descr)
{
    PyObject *dtype = PyObject_CallMethod(state->numpy_format, "descr_to_dtype", "O", descr);
    if (dtype == NULL || !PyArray_DescrCheck(dtype) || PyDataType_REFCHK((PyArray_Descr *)dtype) ||
        PyDataType_HASSUBARRAY((PyArray_Descr *)dtype)) {
        Py_XDECREF(dtype);
        return NULL;
    }
    PyObject *again = PyObject_CallMethod(state->numpy_format, "dtype_to_descr", "O", dtype);
    const int same = again == NULL ? -1 : PyObject_RichCompareBool(again, descr, Py_EQ);
    Py_XDECREF(again);
    if (same != 1) {
        Py_CLEAR(dtype);
    }
    return dtype;
}

/* The dtype as a plain description: one from which a peer can rebuild it exactly. */
static PyObject *describe(struct module_state *state, PyObject *dtype)
{
    PyObject *descr = PyObject_CallMethod(state->numpy_format, "dtype_to_descr", "O", dtype);
    PyObject *again = descr == NULL ? NULL : dtype_of(state, descr);
    const int same = again == NULL ? -1 : PyObject_RichCompareBool(again, dtype, Py_EQ);
    Py_XDECREF(again);
    if (same == 1) {
        return descr;
    }
    if (PyErr_Occurred() == NULL || PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError,
                     "dtype %R cannot be described to another process (overlapping or reordered "
                     "fields, or metadata)",
                     dtype);
    }
    Py_XDECREF(descr);
    return NULL;
}

/* A sub-array dtype is an item shape in disguise: ('f8', (3,)) is 'f8' with shape=(3,). */
static int unfold_subarray(PyObject **dtype, PyObject **shape)
{
    PyObject *inner = PyObject_GetAttrString(*dtype, "shape");
    PyObject *base = PyObject_GetAttrString(*dtype, "base");
    PyObject *joined = NULL;
    if (inner != NULL && base != NULL) {
        joined = PySequence_Concat(*shape, inner);
    }
    Py_XDECREF(inner);
    if (joined == NULL) {
        Py_XDECREF(base);
        return -1;
    }
    Py_SETREF(*dtype, base);
    Py_SETREF(*shape, joined);
    return 0;
}

/* Metadata is a note to the process that made the dtype (and what unpickling a datetime64 leaves in
 * some releases of numpy): it means nothing to a peer, and numpy warns of losing it. */
static int drop_metadata(PyObject **dtype)
{
    PyObject *metadata = PyObject_GetAttrString(*dtype, "metadata");
    PyObject *names = PyObject_GetAttrString(*dtype, "names");
    PyObject *text = NULL;
    PyArray_Descr *plain = NULL;
    int result = -1;
    if (metadata == Py_None || names != Py_None) {
        result = metadata != NULL && names != NULL ? 0 : -1;
    } else if (metadata != NULL && names != NULL) {
        text = PyObject_GetAttrString(*dtype, "str");
        if (text != NULL && PyArray_DescrConverter(text, &plain) == NPY_SUCCEED) {
            Py_SETREF(*dtype, (PyObject *)plain);
            result = 0;
        }
    }
    Py_XDECREF(metadata);
    Py_XDECREF(names);
    Py_XDECREF(text);
    return result;
}

int schema_encode(struct module_state *state, PyObject *dtype, PyObject *shape,
                  PyObject **dtype_out, PyObject **shape_out, PyObject **schema_out,
                  uint64_t *item_len)
{
    PyArray_Descr *converted = NULL;
    PyObject *descr = NULL;
    PyObject *text = NULL;
    *dtype_out = NULL;
    *schema_out = NULL;
    *shape_out = normal_shape(shape);
    if (*shape_out == NULL || need_numpy(state) != 0) {
        goto failed;
    }
    if (PyArray_DescrConverter(dtype, &converted) != NPY_SUCCEED) {
        goto failed;
    }
    *dtype_out = (PyObject *)converted;
    if (unfold_subarray(dtype_out, shape_out) != 0 || drop_metadata(dtype_out) != 0) {
        goto failed;
    }
    if (PyDataType_REFCHK((PyArray_Descr *)*dtype_out)) {
        PyErr_Format(PyExc_TypeError,
                     "dtype %R holds Python objects, which mean nothing in another process: use a "
                     "fixed-size dtype, or a message ring",
                     *dtype_out);
        goto failed;
    }
    if (item_len_of(*dtype_out, *shape_out, item_len) != 0) {
        goto failed;
    }
    descr = describe(state, *dtype_out);
    if (descr == NULL) {
        goto failed;
    }
    text = PyUnicode_FromFormat("(%R, %R)", descr, *shape_out);
    if (text == NULL) {
        goto failed;
    }
    *schema_out = PyUnicode_AsUTF8String(text);
    if (*schema_out == NULL) {
        goto failed;
    }
    if (PyBytes_GET_SIZE(*schema_out) > (Py_ssize_t)SHMIPC_MAX_SCHEMA_LEN) {
        PyErr_SetString(PyExc_ValueError, "the description of this dtype is longer than 64 KiB");
        goto failed;
    }
    if (!literal_is_plain(PyBytes_AS_STRING(*schema_out), (size_t)PyBytes_GET_SIZE(*schema_out))) {
        PyErr_SetString(PyExc_ValueError, "the fields of this dtype are nested too deeply");
        goto failed;
    }
    Py_DECREF(descr);
    Py_DECREF(text);
    return 0;
failed:
    Py_XDECREF(descr);
    Py_XDECREF(text);
    Py_CLEAR(*dtype_out);
    Py_CLEAR(*shape_out);
    Py_CLEAR(*schema_out);
    return -1;
}

/* The pair that a schema's bytes stand for. NULL without an exception: they stand for none. */
static PyObject *parse_schema(struct module_state *state, PyObject *bytes)
{
    PyObject *pair = NULL;
    if (!literal_is_plain(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes))) {
        return NULL;
    }
    PyObject *text = PyUnicode_FromEncodedObject(bytes, "utf-8", "strict");
    if (text != NULL) {
        pair = PyObject_CallOneArg(state->literal_eval, text);
        Py_DECREF(text);
    }
    if (pair != NULL && (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 ||
                         !PyTuple_Check(PyTuple_GET_ITEM(pair, 1)))) {
        Py_CLEAR(pair);
    }
    return pair;
}

int schema_decode(struct module_state *state, const struct shmipc_segment *segment,
                  PyObject **dtype_out, PyObject **shape_out)
{
    struct shmipc_error error;
    uint64_t item_len;
    *dtype_out = NULL;
    *shape_out = NULL;
    if (need_numpy(state) != 0) {
        return -1;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)segment->geometry.schema_len);
    if (bytes == NULL) {
        return -1;
    }
    if (shmipc_segment_read_schema(segment, PyBytes_AS_STRING(bytes), &error) != SHMIPC_OK) {
        Py_DECREF(bytes);
        (void)raise_error(state, &error, segment->path);
        return -1;
    }
    PyObject *pair = parse_schema(state, bytes);
    Py_DECREF(bytes);
    if (pair != NULL) {
        *dtype_out = dtype_of(state, PyTuple_GET_ITEM(pair, 0));
        *shape_out = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
        Py_DECREF(pair);
    }
    if (*dtype_out != NULL && item_len_of(*dtype_out, *shape_out, &item_len) == 0 &&
        item_len == segment->geometry.item_len) {
        return 0;
    }
    if (PyErr_Occurred() != NULL &&
        (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError) ||
         PyErr_ExceptionMatches(PyExc_RecursionError))) {
        Py_CLEAR(*dtype_out);
        Py_CLEAR(*shape_out);
        return -1; /* no memory, no stack, an interrupt: not the segment's fault */
    }
    PyErr_Clear();
    Py_CLEAR(*dtype_out);
    Py_CLEAR(*shape_out);
    (void)shmipc_fail(&error, SHMIPC_CORRUPT, 0,
                      "%s is damaged: its schema describes no dtype of its item size. Remove it "
                      "(`shmipc clean --discard`)",
                      segment->path);
    (void)raise_error(state, &error, segment->path);
    return -1;
}

/* ---- sending -------------------------------------------------------------------------------- */

static int mismatch(HandleObject *handle, PyArrayObject *array)
{
    PyObject *shape = PyObject_GetAttrString((PyObject *)array, "shape");
    if (shape != NULL) {
        PyErr_Format(handle->state->exceptions[EXCEPTION_SCHEMA_MISMATCH],
                     "ring %R takes items of dtype %R and shape %R, not an array of dtype %R and "
                     "shape %R: convert it first (astype, reshape)",
                     handle->name, handle->dtype, handle->shape, PyArray_DESCR(array), shape);
        Py_DECREF(shape);
    }
    return -1;
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

/* Raw bytes stand for items if their length is right. */
static int source_from_raw(HandleObject *handle, PyObject *object, bool many, struct source *source)
{
    const size_t item_len = (size_t)handle->segment->geometry.item_len;
    if (source_open_bytes(object, source) != 0) {
        return -1;
    }
    if (many ? source->len % item_len == 0 : source->len == item_len) {
        source->items = source->len / item_len;
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "ring %R takes items of %zu byte%s, not %zu byte%s of data",
                 handle->name, item_len, SHMIPC_S(item_len), source->len, SHMIPC_S(source->len));
    source_close(source);
    return -1;
}

int source_open_items(HandleObject *handle, PyObject *object, bool many, struct source *source)
{
    source->array = NULL;
    source->buffer.obj = NULL;
    if (PyBytes_Check(object) || PyByteArray_Check(object)) {
        return source_from_raw(handle, object, many, source);
    }
    if (record_check(handle->state, object) && !many) {
        return source_open_record_item(handle, object, source);
    }
    PyArrayObject *array;
    if (PyArray_Check(object)) {
        array = (PyArrayObject *)Py_NewRef(object);
    } else if (PyArray_CheckScalar(object)) {
        array = (PyArrayObject *)PyArray_FromScalar(object, NULL);
    } else if (PyObject_CheckBuffer(object)) {
        array = (PyArrayObject *)PyArray_FROM_O(object);
    } else {
        PyErr_Format(PyExc_TypeError,
                     "ring %R takes an ndarray of dtype %R%s, not %.200s: send numpy.array(value, "
                     "dtype=producer.dtype)",
                     handle->name, handle->dtype, many ? "" : " (one item)",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (array == NULL) {
        return -1;
    }
    if (!PyArray_Check(object) && PyArray_ITEMSIZE(array) == 1 &&
        !PyArray_EquivTypes(PyArray_DESCR(array), (PyArray_Descr *)handle->dtype)) {
        Py_DECREF(array);
        return source_from_raw(handle, object, many, source); /* a memoryview of bytes */
    }
    if ((PyArray_DESCR(array) != (PyArray_Descr *)handle->dtype &&
         !PyArray_EquivTypes(PyArray_DESCR(array), (PyArray_Descr *)handle->dtype)) ||
        !shape_fits(handle, array, many)) {
        (void)mismatch(handle, array);
        Py_DECREF(array);
        return -1;
    }
    if (!PyArray_IS_C_CONTIGUOUS(array)) {
        Py_DECREF(array);
        PyErr_SetString(PyExc_ValueError,
                        "the array is not C-contiguous: send numpy.ascontiguousarray(array)");
        return -1;
    }
    source->data = PyArray_DATA(array);
    source->len = (size_t)PyArray_NBYTES(array);
    source->items = many ? (uint64_t)PyArray_DIM(array, 0) : 1;
    source->array = (PyObject *)array;
    return 0;
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
