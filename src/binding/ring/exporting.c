/*
 * exporting.c: frames and reservations for whoever reads arrays: the buffer protocol with the
 * dtype's format, numpy's __array__, DLPack. All three are those of the ndarray that .array gives,
 * whose base keeps the lease (view.c); what that ndarray cannot say is refused here, with advice.
 * numpy_api.c imports numpy for us.
 */
#include "../base/arguments.h"
#include "../base/handle.h"
#include "buffers.h"
#include "frame_object.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL shmipc_numpy_api
#define NO_IMPORT_ARRAY
#include <numpy/arrayobject.h>

/* ---- the buffer protocol -------------------------------------------------------------------- */

/* What of a ring's dtype a buffer's format can say, once somebody asked. */
enum { FORMAT_UNKNOWN, FORMAT_SAYS_ALL, FORMAT_IS_LOSSY };

/* The dtype that numpy reads from a buffer's format. NULL with an exception. */
static PyObject *parse_format(const char *format)
{
    PyObject *internal = PyImport_ImportModule("numpy._core._internal");
    if (internal == NULL && PyErr_ExceptionMatches(PyExc_ImportError)) {
        PyErr_Clear();
        internal = PyImport_ImportModule("numpy.core._internal"); /* numpy 1 */
    }
    PyObject *dtype =
        internal == NULL ? NULL : PyObject_CallMethod(internal, "_dtype_from_pep3118", "s", format);
    Py_XDECREF(internal);
    return dtype;
}

/* Does numpy read a structured dtype back from the format that it writes? Not where fields have
 * titles, or padding follows the last one. As below. */
static int struct_format_says_all(PyObject *dtype, PyObject *array)
{
    PyObject *view = PyMemoryView_FromObject(array);
    PyObject *read = view == NULL ? NULL : parse_format(PyMemoryView_GET_BUFFER(view)->format);
    int result = -1;
    if (read != NULL) {
        result = PyArray_DescrCheck(read) &&
                 PyArray_EquivTypes((PyArray_Descr *)read, (PyArray_Descr *)dtype);
    } else if (PyErr_ExceptionMatches(PyExc_ValueError) ||
               PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        PyErr_Clear();
        result = 0;
    }
    Py_XDECREF(view);
    Py_XDECREF(read);
    return result;
}

/* 1: it does. 0: it does not. -1: an exception. */
static int format_says_all(HandleObject *handle, PyObject *array)
{
    const PyArray_Descr *descr = (PyArray_Descr *)handle->dtype;
    const int type = descr->type_num;
    if (!PyDataType_HASFIELDS(descr)) {
        /* Not datetime64, for which numpy writes no format, nor V, which is padding there. */
        return PyTypeNum_ISBOOL(type) || type == NPY_STRING || type == NPY_UNICODE ||
               (PyTypeNum_ISNUMBER(type) && (PyArray_ISNBO(descr->byteorder) ||
                                             (type != NPY_LONGDOUBLE && type != NPY_CLONGDOUBLE)));
    }
    /* Relaxed: the same answer for whoever finds it out. */
    int known = atomic_load_explicit(&handle->format, memory_order_relaxed);
    if (known == FORMAT_UNKNOWN) {
        const int says_all = struct_format_says_all(handle->dtype, array);
        if (says_all < 0) {
            return -1;
        }
        known = says_all ? FORMAT_SAYS_ALL : FORMAT_IS_LOSSY;
        atomic_store_explicit(&handle->format, known, memory_order_relaxed);
    }
    return known == FORMAT_SAYS_ALL;
}

static const char *why_no_buffer(PyArrayObject *array, int flags)
{
    if ((flags & PyBUF_WRITABLE) != 0 && !PyArray_ISWRITEABLE(array)) {
        return "this memory is read-only: write to a copy, .array.copy()";
    }
    return PyArray_IS_C_CONTIGUOUS(array)
               ? NULL
               : "items this large are padded in the ring, so several are no plain buffer: use "
                 ".array";
}

int export_buffer(HandleObject *handle, PyObject *array, Py_buffer *view, int flags)
{
    view->obj = NULL;
    if (array == NULL) {
        return -1;
    }
    const int says_all = format_says_all(handle, array);
    int result = -1;
    if (says_all > 0) {
        /* The ndarray becomes the exporter: it lives, and with it the lease, as long as the view.
         */
        result = PyObject_GetBuffer(array, view, flags);
        const char *why = result == 0 ? NULL : why_no_buffer((PyArrayObject *)array, flags);
        if (why != NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_SetString(PyExc_BufferError, why);
        }
    } else if (says_all == 0) {
        PyErr_Format(PyExc_BufferError,
                     "a buffer's format cannot say dtype %R: use .array or numpy.asarray(), or "
                     "bytes()",
                     handle->dtype);
    }
    Py_DECREF(array);
    return result;
}

/* ---- __array__ ------------------------------------------------------------------------------ */

const char export_array_doc[] =
    "__array__($self, dtype=None, *, copy=None)\n--\n\n"
    "For numpy.asarray(): the ndarray on the memory itself, or a copy of it if `dtype` is\n"
    "another or `copy` is true. ValueError if `copy` is false and a copy is needed.";

PyObject *export_array(PyObject *array, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"dtype", "copy", NULL};
    static const struct parameters parameters = {"__array__", names, 1, 0};
    PyObject *given[2];
    PyArray_Descr *wanted = NULL;
    if (array == NULL || parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        (given[0] != NULL && given[0] != Py_None &&
         PyArray_DescrConverter(given[0], &wanted) != NPY_SUCCEED)) {
        Py_XDECREF(array);
        return NULL;
    }
    const int copy = given[1] == NULL || given[1] == Py_None ? -1 : PyObject_IsTrue(given[1]);
    const bool convert =
        wanted != NULL && !PyArray_EquivTypes(PyArray_DESCR((PyArrayObject *)array), wanted);
    PyObject *result = NULL;
    if (copy < 0 && PyErr_Occurred() != NULL) {
        result = NULL;
    } else if (convert && copy == 0) {
        PyErr_Format(PyExc_ValueError, "items of dtype %R are no array of dtype %R without a copy",
                     PyArray_DESCR((PyArrayObject *)array), wanted);
    } else if (convert) {
        result = PyObject_CallMethod(array, "astype", "O", wanted);
    } else {
        result = copy == 1 ? PyObject_CallMethod(array, "copy", NULL) : Py_NewRef(array);
    }
    Py_DECREF(array);
    Py_XDECREF(wanted);
    return result;
}

/* ---- DLPack --------------------------------------------------------------------------------- */

#define CPU_DEVICE 1            /* kDLCPU */
#define NUMPY_2_1_FEATURES 0x13 /* numpy's C API since it exports versioned capsules */

const char export_dlpack_doc[] =
    "__dlpack__($self, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
    "For from_dlpack() of numpy, torch, jax: a capsule on the memory itself, or on a writable\n"
    "copy if `copy` is true. Read-only memory is given, and marked as such, to who knows\n"
    "DLPack 1.0 (max_version) alone. BufferError, with the cure, for who does not, for a dtype\n"
    "that DLPack has not, and for another device than the CPU's.";

/* 1: there. 0: not. -1: an exception. */
static int is_cpu(PyObject *device)
{
    int kind, number;
    if (device == NULL || device == Py_None) {
        return 1;
    }
    if (!PyTuple_Check(device)) {
        PyErr_SetString(PyExc_TypeError, "dl_device is a tuple of two int, or None");
        return -1;
    }
    return PyArg_ParseTuple(device, "ii:dl_device", &kind, &number) == 0
               ? -1
               : kind == CPU_DEVICE && number == 0;
}

/* Does the reader know versioned capsules, in which memory can be marked read-only? 1, 0, or -1
 * with an exception. */
static int knows_read_only(PyObject *max_version)
{
    int major, minor;
    if (max_version == NULL || max_version == Py_None) {
        return 0;
    }
    if (!PyTuple_Check(max_version)) {
        PyErr_SetString(PyExc_TypeError, "max_version is a tuple of two int, or None");
        return -1;
    }
    return PyArg_ParseTuple(max_version, "ii:max_version", &major, &minor) == 0 ? -1 : major >= 1;
}

static bool has_dlpack_type(PyArrayObject *array)
{
    const int type = PyArray_TYPE(array);
    return PyArray_ISNOTSWAPPED(array) && (PyTypeNum_ISBOOL(type) || PyTypeNum_ISNUMBER(type)) &&
           type != NPY_LONGDOUBLE && type != NPY_CLONGDOUBLE;
}

/* Raise if the array cannot be given to this reader. A reader that does not say whether it wants a
 * copy (torch, if its caller does not) may be one that ignores the mark: that is a warning, as
 * torch gives for a read-only ndarray. */
static bool refuse_dlpack(PyArrayObject *array, bool copied, bool asked, int versioned, int on_cpu)
{
    if (versioned < 0 || on_cpu < 0) {
        return true;
    }
    if (on_cpu == 0) {
        PyErr_SetString(PyExc_BufferError,
                        "ring memory is the CPU's, dl_device (1, 0): move the tensor afterwards");
    } else if (!has_dlpack_type(array)) {
        PyErr_Format(PyExc_BufferError,
                     "numpy gives dtype %R to nobody through DLPack: use .array, and a view or "
                     "field of it that is of numbers in this machine's byte order",
                     PyArray_DESCR(array));
    } else if (copied || PyArray_ISWRITEABLE(array)) {
        return false;
    } else if (versioned == 0) {
        PyErr_SetString(PyExc_BufferError,
                        "this memory is read-only, and the reader knows no DLPack that could tell "
                        "it so: give it a copy, as torch.tensor(frame.array) or "
                        "from_dlpack(frame.array.copy()) do");
    } else if (PyArray_GetNDArrayCFeatureVersion() < NUMPY_2_1_FEATURES) {
        PyErr_SetString(PyExc_BufferError,
                        "this memory is read-only, which only numpy 2.1 or later can tell a "
                        "reader: give it a copy, frame.array.copy()");
    } else {
        return !asked &&
               PyErr_WarnEx(PyExc_UserWarning,
                            "ring memory is read-only: a reader without read-only tensors, as "
                            "torch, crashes when it writes there. from_dlpack(frame, copy=True) "
                            "gives a copy that can be written",
                            1) != 0;
    }
    return true;
}

PyObject *export_dlpack(PyObject *array, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    static const struct parameters parameters = {"__dlpack__", names, 0, 0};
    PyObject *given[4];
    PyObject *result = NULL;
    if (array == NULL || parse_arguments(&parameters, args, nargs, kwnames, given) != 0) {
        Py_XDECREF(array);
        return NULL;
    }
    const int copy = given[3] == NULL || given[3] == Py_None ? 0 : PyObject_IsTrue(given[3]);
    if (copy < 0 || refuse_dlpack((PyArrayObject *)array, copy == 1, given[3] != NULL,
                                  knows_read_only(given[1]), is_cpu(given[2]))) {
        Py_DECREF(array);
        return NULL;
    }
    PyObject *options = PyDict_New();
    PyObject *export = options == NULL ? NULL : PyObject_GetAttrString(array, "__dlpack__");
    PyObject *none = export == NULL ? NULL : PyTuple_New(0);
    if (PyArray_GetNDArrayCFeatureVersion() < NUMPY_2_1_FEATURES && copy == 1 && none != NULL) {
        PyObject *copied = PyObject_CallMethod(array, "copy", NULL);
        Py_XSETREF(export, copied == NULL ? NULL : PyObject_GetAttrString(copied, "__dlpack__"));
        Py_XDECREF(copied);
    } else if (none != NULL && PyArray_GetNDArrayCFeatureVersion() >= NUMPY_2_1_FEATURES) {
        if ((given[1] != NULL && PyDict_SetItemString(options, "max_version", given[1]) != 0) ||
            (copy == 1 && PyDict_SetItemString(options, "copy", Py_True) != 0)) {
            Py_CLEAR(export);
        }
    }
    if (none != NULL && export != NULL &&
        (given[0] == NULL || PyDict_SetItemString(options, "stream", given[0]) == 0)) {
        result = PyObject_Call(export, none, options);
    }
    Py_XDECREF(none);
    Py_XDECREF(export);
    Py_XDECREF(options);
    Py_DECREF(array);
    return result;
}

const char export_dlpack_device_doc[] =
    "__dlpack_device__($self)\n--\n\nWhere the memory is, for from_dlpack(): (1, 0), the CPU's.";

PyObject *export_dlpack_device(PyObject *object, PyObject *unused)
{
    (void)object;
    (void)unused;
    return Py_BuildValue("(ii)", CPU_DEVICE, 0);
}
