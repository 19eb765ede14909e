/* batch.c: one-dimensional arrays of records, made for batches. Knows numpy. */
#include "../base/state.h"
#include "dispatcher.h"

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
