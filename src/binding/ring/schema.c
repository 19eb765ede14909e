/*
 * schema.c: a dtype and a shape as the text that stands in a typed ring's segment, and back: the
 * repr of the pair of the dtype's description (description.c) and the shape. array.c imports numpy
 * for us.
 */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/errors.h"
#include "../base/handle.h"
#include "../base/literal.h"
#include "buffers.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL shmipc_numpy_api
#define NO_IMPORT_ARRAY
#include <numpy/arrayobject.h>

/* ---- a producer's dtype= and shape= --------------------------------------------------------- */

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
    if (unfold_subarray(dtype_out, shape_out) != 0) {
        goto failed;
    }
    if (PyDataType_REFCHK((PyArray_Descr *)*dtype_out)) {
        PyErr_Format(PyExc_TypeError,
                     "dtype %R holds Python objects, which mean nothing in another process: use a "
                     "fixed-size dtype, or a message ring",
                     *dtype_out);
        goto failed;
    }
    descr = dtype_describe(state, dtype_out);
    if (descr == NULL || item_len_of(*dtype_out, *shape_out, item_len) != 0) {
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
        *dtype_out = dtype_from_description(state, PyTuple_GET_ITEM(pair, 0));
        *shape_out = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
        Py_DECREF(pair);
    }
    if (*dtype_out != NULL && item_len_of(*dtype_out, *shape_out, &item_len) == 0 &&
        item_len == segment->geometry.item_len) {
        return 0;
    }
    if (PyErr_Occurred() != NULL &&
        (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError) ||
         PyErr_ExceptionMatches(PyExc_RecursionError) ||
         PyErr_ExceptionMatches(PyExc_ImportError))) {
        Py_CLEAR(*dtype_out);
        Py_CLEAR(*shape_out);
        return -1; /* no memory, no stack, no package, an interrupt: not the segment's fault */
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
