/* arguments.c: fastcall arguments and integers. */
#include "arguments.h"

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
