/*
 * field_array.c: the fields of a record that only numpy can convert: sub-arrays, nested structs,
 * and values without a code in field.c (float16, complex, datetime64, str ...). Slow, and right.
 * numpy_api.c imports numpy for us.
 */
#include "../base/state.h"
#include "../base/handle.h"
#include "record.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL shmipc_numpy_api
#define NO_IMPORT_ARRAY
#include <numpy/arrayobject.h>

#include <math.h>

/* ---- reading -------------------------------------------------------------------------------- */

static PyArrayObject *empty_array(const struct record_field *field)
{
    return (PyArrayObject *)PyArray_Zeros(0, NULL, (PyArray_Descr *)Py_NewRef(field->dtype), 0);
}

PyObject *field_view_read(PyObject *record, const struct record_field *field)
{
    PyObject *array = record_array_at(record, field->dtype, field->offset);
    /* Of a nested struct, a numpy.void on the same memory, with the array for its base. */
    return array == NULL || PyDataType_HASSUBARRAY((PyArray_Descr *)field->dtype)
               ? array
               : PyArray_Return((PyArrayObject *)array);
}

/* Anybody may have written the bytes, and numpy makes a SystemError of what is beyond Unicode. */
static bool check_characters(const struct record_field *field, PyArrayObject *array)
{
    const unsigned char *at = PyArray_DATA(array);
    for (size_t i = 0; i < field->len; i += sizeof(npy_ucs4)) {
        npy_ucs4 character;
        memcpy(&character, at + i, sizeof(character));
        if (PyArray_ISBYTESWAPPED(array)) {
            character = character << 24 | (character & 0xFF00) << 8 | (character >> 8 & 0xFF00) |
                        character >> 24;
        }
        if (character > 0x10FFFF) {
            PyErr_Format(PyExc_ValueError, "field %R holds what is no character: 0x%x", field->name,
                         (unsigned int)character);
            return false;
        }
    }
    return true;
}

PyObject *field_other_read(PyObject *record, const struct record_field *field)
{
    PyArrayObject *array = empty_array(field);
    if (array == NULL ||
        !record_fetch((RecordObject *)record, field->offset, PyArray_DATA(array), field->len)) {
        Py_XDECREF(array);
        return NULL;
    }
    switch (PyArray_TYPE(array)) {
    case NPY_UNICODE:
        if (!check_characters(field, array)) {
            Py_DECREF(array);
            return NULL;
        }
        break;
    case NPY_DATETIME: /* Python has nothing as good */
    case NPY_TIMEDELTA:
    case NPY_LONGDOUBLE:
    case NPY_CLONGDOUBLE:
    case NPY_VOID:
        return PyArray_Return(array);
    default:
        break;
    }
    PyObject *value = PyArray_GETITEM(array, PyArray_BYTES(array));
    Py_DECREF(array);
    return value;
}

bool field_is_numpy_bool(struct module_state *state, PyObject *value, bool *truth)
{
    (void)state;
    if (!PyArray_IsScalar(value, Bool)) {
        return false;
    }
    *truth = PyObject_IsTrue(value) == 1;
    return true;
}

/* ---- writing -------------------------------------------------------------------------------- */

static int refuse_value(const struct record_field *field, PyObject *exception, const char *why,
                        PyObject *value)
{
    PyErr_Format(exception, "field %R of dtype %R %s %R", field->name, field->dtype, why, value);
    return -1;
}

static int refuse_kind(const struct record_field *field, PyObject *value)
{
    PyErr_Format(PyExc_TypeError, "field %R takes values of dtype %R, not %.200s", field->name,
                 field->dtype, Py_TYPE(value)->tp_name);
    return -1;
}

/* Are all elements equal? -1 with an exception. */
static int all_equal(PyObject *left, PyObject *right)
{
    PyObject *each = PyObject_RichCompare(left, right, Py_EQ);
    PyObject *all = each == NULL || !PyArray_Check(each) ? Py_XNewRef(each)
                                                         : PyObject_CallMethod(each, "all", NULL);
    const int equal = all == NULL ? -1 : PyObject_IsTrue(all);
    Py_XDECREF(each);
    Py_XDECREF(all);
    return equal;
}

/* May an array of type `from` be put into one of type `to`? Values are compared besides. */
static bool kinds_fit(int to, int from)
{
    if (PyTypeNum_ISBOOL(to) || PyTypeNum_ISFLEXIBLE(to)) {
        return from == to;
    }
    if (PyTypeNum_ISINTEGER(to)) {
        return PyTypeNum_ISINTEGER(from) || PyTypeNum_ISBOOL(from);
    }
    return PyTypeNum_ISNUMBER(from) && (PyTypeNum_ISCOMPLEX(to) || !PyTypeNum_ISCOMPLEX(from));
}

/* A sub-array: what numpy would assign, except what it would do to it in silence. */
static int put_array(const struct record_field *field, PyArrayObject *to, PyObject *value)
{
    const int type = PyArray_TYPE(to);
    if (!PyTypeNum_ISNUMBER(type) && !PyTypeNum_ISBOOL(type) && type != NPY_STRING &&
        type != NPY_UNICODE) {
        return PyArray_CopyObject(to, value);
    }
    PyArrayObject *from = (PyArrayObject *)PyArray_FROM_O(value);
    int result = -1;
    if (from == NULL) {
        return -1;
    }
    if (PyArray_TYPE(from) == NPY_OBJECT && PyTypeNum_ISINTEGER(type)) {
        result = PyArray_CopyObject(to, value); /* integers beyond 64 bits: OverflowError */
    } else if (!kinds_fit(type, PyArray_TYPE(from))) {
        (void)refuse_kind(field, value);
    } else if (PyArray_CopyInto(to, from) == 0) {
        const bool exact = !PyTypeNum_ISFLOAT(type) && !PyTypeNum_ISCOMPLEX(type);
        const int equal = exact ? all_equal((PyObject *)to, (PyObject *)from) : 1;
        result = equal == 1 ? 0 : -1;
        if (equal == 0) {
            (void)refuse_value(field,
                               PyTypeNum_ISINTEGER(type) ? PyExc_OverflowError : PyExc_ValueError,
                               "cannot hold all of", value);
        }
    }
    Py_DECREF(from);
    return result;
}

static int put_half(const struct record_field *field, PyArrayObject *to, PyObject *value)
{
    double real;
    if (field_to_double(field, value, &real) != 0) {
        return -1;
    }
    if (isfinite(real) && fabs(real) >= 65520.0) { /* what would be rounded to infinity */
        return refuse_value(field, PyExc_OverflowError, "cannot hold", value);
    }
    PyObject *number = PyFloat_FromDouble(real);
    const int result = number == NULL ? -1 : PyArray_SETITEM(to, PyArray_BYTES(to), number);
    Py_XDECREF(number);
    return result;
}

/* One value, neither a sub-array nor a struct. */
static int put_value(const struct record_field *field, PyArrayObject *to, PyObject *value)
{
    const bool is_text = PyUnicode_Check(value) || PyBytes_Check(value);
    switch (PyArray_TYPE(to)) {
    case NPY_HALF:
        return put_half(field, to, value);
    case NPY_UNICODE:
        if (!PyUnicode_Check(value)) {
            return refuse_kind(field, value);
        }
        if ((size_t)PyUnicode_GET_LENGTH(value) > field->len / 4) {
            return refuse_value(field, PyExc_ValueError, "is too short for", value);
        }
        return PyArray_SETITEM(to, PyArray_BYTES(to), value);
    case NPY_VOID:
        if (PyBytes_Check(value) && (size_t)PyBytes_GET_SIZE(value) > field->len) {
            return refuse_value(field, PyExc_ValueError, "is too short for", value);
        }
        return PyArray_CopyObject(to, value);
    case NPY_DATETIME:
    case NPY_TIMEDELTA:
        return PyArray_CopyObject(to, value);
    default:
        return is_text ? refuse_kind(field, value) : PyArray_SETITEM(to, PyArray_BYTES(to), value);
    }
}

int field_other_write(struct module_state *state, const struct record_field *field, PyObject *value,
                      unsigned char *to)
{
    (void)state;
    PyArrayObject *array = refuse_stripped_within(value) != 0 ? NULL : empty_array(field);
    int result = -1;
    if (array == NULL) {
        return -1;
    }
    if (PyDataType_HASSUBARRAY((PyArray_Descr *)field->dtype)) {
        result = put_array(field, array, value);
    } else if (PyDataType_HASFIELDS((PyArray_Descr *)field->dtype)) {
        result = PyArray_CopyObject(array, value);
    } else {
        result = put_value(field, array, value);
    }
    if (result == 0) {
        memcpy(to, PyArray_DATA(array), field->len);
    }
    Py_DECREF(array);
    return result;
}

/* ---- comparing ------------------------------------------------------------------------------ */

int field_other_equal(const struct record_field *field, const unsigned char *left,
                      const unsigned char *right)
{
    PyArrayObject *arrays[2] = {empty_array(field), empty_array(field)};
    int equal = -1;
    if (arrays[0] != NULL && arrays[1] != NULL) {
        memcpy(PyArray_DATA(arrays[0]), left, field->len);
        memcpy(PyArray_DATA(arrays[1]), right, field->len);
        equal = all_equal((PyObject *)arrays[0], (PyObject *)arrays[1]);
    }
    Py_XDECREF(arrays[0]);
    Py_XDECREF(arrays[1]);
    return equal;
}
