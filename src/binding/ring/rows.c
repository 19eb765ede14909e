/* rows.c: one-dimensional structured arrays, read to be sent. */
#include "buffers.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>

int rows_open(PyObject *object, struct rows *rows)
{
    rows->array = NULL;
    if (strcmp(Py_TYPE(object)->tp_name, "numpy.ndarray") != 0) {
        return 0; /* known without numpy, which may not be there to be imported */
    }
    if (PyArray_ImportNumPyAPI() != 0) {
        return -1;
    }
    if (!PyArray_Check(object) || PyArray_NDIM((PyArrayObject *)object) != 1 ||
        !PyDataType_HASFIELDS(PyArray_DESCR((PyArrayObject *)object)) ||
        PyDataType_REFCHK(PyArray_DESCR((PyArrayObject *)object))) {
        return 0;
    }
    PyArrayObject *array = (PyArrayObject *)object;
    rows->data = PyArray_DATA(array);
    rows->row_len = (size_t)PyArray_ITEMSIZE(array);
    rows->stride = (Py_ssize_t)PyArray_STRIDE(array, 0);
    rows->count = (uint64_t)PyArray_DIM(array, 0);
    rows->array = Py_NewRef(object);
    return 1;
}
