/* arguments.c: fastcall arguments, integers, and buffers to send. */
#include "module.h"
#include "record.h"

/* A keyword is nearly always a compact ASCII str, which ends in a zero byte. */
static inline bool name_is(PyObject *name, const char *text)
{
    return PyUnicode_IS_COMPACT_ASCII(name)
               ? strcmp((const char *)PyUnicode_1BYTE_DATA(name), text) == 0
               : PyUnicode_CompareWithASCIIString(name, text) == 0;
}

int parse_arguments(const struct parameters *parameters, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames, PyObject **out)
{
    int total = 0;
    while (parameters->names[total] != NULL) {
        out[total++] = NULL;
    }
    if (nargs > parameters->positional) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes at most %d positional argument%s (%zd given); the others are "
                     "keyword-only",
                     parameters->function, parameters->positional,
                     parameters->positional == 1 ? "" : "s", nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        out[i] = args[i];
    }
    const Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t k = 0; k < named; k++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, k);
        int i = 0;
        while (i < total && !name_is(name, parameters->names[i])) {
            i++;
        }
        if (i == total) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                         parameters->function, name);
            return -1;
        }
        if (out[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'",
                         parameters->function, name);
            return -1;
        }
        out[i] = args[nargs + k];
    }
    for (int i = 0; i < parameters->required; i++) {
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'",
                         parameters->function, parameters->names[i]);
            return -1;
        }
    }
    return 0;
}

int parse_integer(const char *what, PyObject *value, uint64_t low, uint64_t high, uint64_t fallback,
                  uint64_t *out)
{
    if (value == NULL || value == Py_None) {
        *out = fallback;
        return 0;
    }
    PyObject *integer = PyLong_CheckExact(value) ? Py_NewRef(value) : PyNumber_Index(value);
    if (integer == NULL) {
        return -1;
    }
    *out = PyLong_AsUnsignedLongLong(integer);
    Py_DECREF(integer);
    if (PyErr_Occurred() != NULL) {
        PyErr_Clear(); /* negative, or beyond 64 bits: out of range as any other */
    } else if (*out >= low && *out <= high) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "%s must be between %llu and %llu, not %R", what,
                 (unsigned long long)low, (unsigned long long)high, value);
    return -1;
}

/* An array of Python objects is a buffer of pointers, which mean nothing in another process.
 * numpy exports it like any other unless asked for its format, which would cost every array. */
static int refuse_objects(PyObject *object)
{
    int has_objects = 0;
    if (PyMemoryView_Check(object)) {
        const char *format = PyMemoryView_GET_BUFFER(object)->format;
        has_objects = format != NULL && strchr(format, 'O') != NULL;
    } else if (!PyByteArray_Check(object)) {
        PyObject *dtype = PyObject_GetAttrString(object, "dtype");
        PyObject *flag = dtype == NULL ? NULL : PyObject_GetAttrString(dtype, "hasobject");
        has_objects = flag == Py_True;
        Py_XDECREF(dtype);
        Py_XDECREF(flag);
        if (PyErr_Occurred() != NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear(); /* not every buffer has a dtype */
    }
    if (has_objects) {
        PyErr_SetString(PyExc_TypeError,
                        "the array holds Python objects, which mean nothing in another process: "
                        "send an array of a fixed-size dtype, or pickle it yourself");
    }
    return has_objects ? -1 : 0;
}

int source_open_bytes(PyObject *object, struct source *source)
{
    source->array = NULL;
    source->buffer.obj = NULL;
    if (SHMIPC_LIKELY(PyBytes_CheckExact(object))) {
        source->data = (const unsigned char *)PyBytes_AS_STRING(object);
        source->len = (size_t)PyBytes_GET_SIZE(object);
        return 0;
    }
    if (record_check_any(object)) {
        return source_open_record_to_send(object, source);
    }
    if (PyUnicode_Check(object)) {
        PyErr_SetString(PyExc_TypeError,
                        "a message is bytes, not str: use send_text(text), or text.encode()");
        return -1;
    }
    if (!PyObject_CheckBuffer(object)) {
        PyErr_Format(PyExc_TypeError,
                     "a message is any C-contiguous buffer (bytes, memoryview, ndarray ...), not "
                     "%.200s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (refuse_objects(object) != 0) {
        return -1;
    }
    if (PyObject_GetBuffer(object, &source->buffer, PyBUF_SIMPLE) != 0) {
        source->buffer.obj = NULL;
        /* numpy says ValueError, memoryview BufferError: one answer for one mistake. */
        if (PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_BufferError)) {
            PyErr_Clear();
            PyErr_SetString(PyExc_ValueError,
                            "the buffer is not C-contiguous: send numpy.ascontiguousarray(data) "
                            "or bytes(data)");
        }
        return -1;
    }
    source->data = source->buffer.buf;
    source->len = (size_t)source->buffer.len;
    return 0;
}

void source_close(struct source *source)
{
    if (source->buffer.obj != NULL) {
        PyBuffer_Release(&source->buffer);
    }
    Py_CLEAR(source->array);
}
