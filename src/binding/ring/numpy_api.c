/*
 * numpy_api.c: numpy is imported when the first dtype or ndarray is needed, so that a message ring
 * works in an interpreter that numpy refuses (a sub-interpreter). The other files that know numpy
 * let this one import it.
 */
#include "buffers.h"

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

bool array_is_plain(PyObject *object)
{
    if (strcmp(Py_TYPE(object)->tp_name, "numpy.ndarray") != 0) {
        return false; /* known without numpy, which may not be there to be imported */
    }
    if (PyArray_ImportNumPyAPI() != 0) {
        PyErr_Clear();
        return false;
    }
    return PyArray_CheckExact(object) && !PyDataType_REFCHK(PyArray_DESCR((PyArrayObject *)object));
}
