/* batch.c: one-dimensional arrays of records: made for batches, read to be sent. Knows numpy. */
#include "../ring/buffers.h"
#include "dispatcher.h"
#include "../base/module.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>

PyObject *batch_new(PyObject *dtype, uint64_t items, unsigned char **data)
{
    npy_intp dims[1] = {(npy_intp)items};
    if (PyArray_ImportNumPyAPI() != 0) {
        return NULL;
    }
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)Py_NewRef(dtype), 1,
                                           dims, NULL, NULL, 0, NULL);
    if (array != NULL) {
        *data = PyArray_DATA((PyArrayObject *)array);
    }
    return array;
}

PyObject *batch_first(PyObject *batch, uint64_t items)
{
    PyArrayObject *whole = (PyArrayObject *)batch;
    npy_intp dims[1] = {(npy_intp)items};
    PyArray_Descr *descr = PyArray_DESCR(whole);
    const bool share = items * 2 >= (uint64_t)PyArray_DIM(whole, 0);
    Py_INCREF(descr);
    PyObject *first = PyArray_NewFromDescr(&PyArray_Type, descr, 1, dims, NULL,
                                           share ? PyArray_DATA(whole) : NULL,
                                           share ? NPY_ARRAY_WRITEABLE : 0, NULL);
    if (first == NULL) {
        return NULL;
    }
    if (!share) {
        memcpy(PyArray_DATA((PyArrayObject *)first), PyArray_DATA(whole),
               (size_t)PyArray_NBYTES((PyArrayObject *)first));
    } else if (PyArray_SetBaseObject((PyArrayObject *)first, Py_NewRef(batch)) != 0) {
        Py_CLEAR(first);
    }
    return first;
}

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
