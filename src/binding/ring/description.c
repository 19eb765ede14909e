/*
 * description.c: a dtype as plain lists, tuples and strings, and back: as numpy.lib.format
 * describes it in .npy files, but for two things. Metadata, a note to the process that made the
 * dtype, is left out; and the small floats of the package ml_dtypes, which numpy writes as raw
 * bytes, stand as their names. numpy_api.c imports numpy for us.
 */
#include "../base/state.h"
#include "buffers.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL shmipc_numpy_api
#define NO_IMPORT_ARRAY
#include <numpy/arrayobject.h>

/* ---- the dtypes of ml_dtypes ---------------------------------------------------------------- */

/* ml_dtypes adds these to numpy, under these names, when it is imported. */
static const char *const ADDED[] = {
    "bfloat16",       "float8_e3m4",     "float8_e4m3",   "float8_e4m3b11fnuz",
    "float8_e4m3fn",  "float8_e4m3fnuz", "float8_e5m2",   "float8_e5m2fnuz",
    "float8_e8m0fnu", "float6_e2m3fn",   "float6_e3m2fn", "float4_e2m1fn",
};

/* Is this the name of such a dtype? */
static bool is_added_name(PyObject *text)
{
    for (size_t i = 0; i < sizeof ADDED / sizeof ADDED[0]; i++) {
        if (PyUnicode_CompareWithASCIIString(text, ADDED[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* 1: a dtype of ml_dtypes; *name is new. 0: another. -1: an exception. */
static int added_name(PyArray_Descr *descr, PyObject **name)
{
    PyObject *type = (PyObject *)descr->typeobj;
    int found = 0;
    if (descr->type_num < NPY_USERDEF || !PyArray_ISNBO(descr->byteorder)) {
        return 0;
    }
    PyObject *module = PyObject_GetAttrString(type, "__module__");
    *name = module == NULL ? NULL : PyObject_GetAttrString(type, "__name__");
    if (*name == NULL) {
        found = -1;
    } else if (PyUnicode_Check(module) && PyUnicode_Check(*name)) {
        found = PyUnicode_CompareWithASCIIString(module, "ml_dtypes") == 0 && is_added_name(*name);
    }
    Py_XDECREF(module);
    if (found != 1) {
        Py_CLEAR(*name);
    }
    return found;
}

/* Import ml_dtypes if a description names a dtype of it. -1 with an exception. */
static int need_added(PyObject *descr)
{
    if (PyUnicode_Check(descr)) {
        if (!is_added_name(descr)) {
            return 0;
        }
        PyObject *package = PyImport_ImportModule("ml_dtypes");
        if (package == NULL && PyErr_ExceptionMatches(PyExc_ImportError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ImportError,
                         "the ring has items of %U, a dtype that the package ml_dtypes adds to "
                         "numpy: pip install ml_dtypes",
                         descr);
        }
        Py_XDECREF(package);
        return package == NULL ? -1 : 0;
    }
    if (!PyList_Check(descr) && !PyTuple_Check(descr)) {
        return 0;
    }
    /* literal_is_plain has bounded the depth. */
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(descr); i++) {
        PyObject *part = PySequence_Fast_GET_ITEM(descr, i);
        const bool is_name = PyTuple_Check(descr) && i == 0; /* of a field */
        if (!is_name && need_added(part) != 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- describing ----------------------------------------------------------------------------- */

struct description {
    PyObject *field;   /* borrowed: the name of the field that is described, or NULL */
    bool has_metadata; /* somewhere, which the description leaves out */
};

static PyObject *describe(PyArray_Descr *descr, struct description *found);

/* Append (name, description) or, of a sub-array, (name, description, shape). */
static int describe_field(PyObject *list, PyObject *name, PyObject *entry,
                          struct description *found)
{
    PyArray_Descr *descr = (PyArray_Descr *)PyTuple_GET_ITEM(entry, 0);
    PyObject *field = NULL;
    PyObject *label = PyTuple_GET_SIZE(entry) > 2
                          ? PyTuple_Pack(2, PyTuple_GET_ITEM(entry, 2), name) /* with a title */
                          : Py_NewRef(name);
    found->field = name;
    PyObject *inner = label == NULL ? NULL : describe(descr, found);
    if (inner != NULL && PyDataType_HASSUBARRAY(descr)) {
        field = PyTuple_Pack(3, label, PyTuple_GET_ITEM(inner, 0), PyTuple_GET_ITEM(inner, 1));
    } else if (inner != NULL) {
        field = PyTuple_Pack(2, label, inner);
    }
    const int result = field == NULL ? -1 : PyList_Append(list, field);
    Py_XDECREF(label);
    Py_XDECREF(inner);
    Py_XDECREF(field);
    return result;
}

static int describe_padding(PyObject *list, Py_ssize_t len)
{
    PyObject *field = len == 0 ? NULL : Py_BuildValue("sN", "", PyUnicode_FromFormat("|V%zd", len));
    const int result = len == 0 ? 0 : field == NULL ? -1 : PyList_Append(list, field);
    Py_XDECREF(field);
    return result;
}

static PyObject *describe_fields(PyArray_Descr *descr, struct description *found)
{
    PyObject *names = PyDataType_NAMES(descr);
    PyObject *list = PyList_New(0);
    Py_ssize_t end = 0; /* of the last field */
    for (Py_ssize_t i = 0; list != NULL && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        PyObject *entry = PyDict_GetItemWithError(PyDataType_FIELDS(descr), name);
        const Py_ssize_t at = entry == NULL ? -1 : PyLong_AsSsize_t(PyTuple_GET_ITEM(entry, 1));
        if (at < end && PyErr_Occurred() == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "dtype %R has overlapping or reordered fields, which cannot be described "
                         "to another process: give numpy.lib.recfunctions.repack_fields(dtype), "
                         "and send repack_fields(array)",
                         descr);
        }
        if (at < end || describe_padding(list, at - end) != 0 ||
            describe_field(list, name, entry, found) != 0) {
            Py_CLEAR(list);
        } else {
            end = at + PyDataType_ELSIZE((PyArray_Descr *)PyTuple_GET_ITEM(entry, 0));
        }
    }
    if (list != NULL && describe_padding(list, PyDataType_ELSIZE(descr) - end) != 0) {
        Py_CLEAR(list);
    }
    return list;
}

static PyObject *describe_element(PyArray_Descr *descr, const struct description *found)
{
    PyObject *name;
    const int added = added_name(descr, &name);
    if (added != 0) {
        return added > 0 ? name : NULL;
    }
    if (PyDataType_ELSIZE(descr) == 0) {
        PyErr_Format(PyExc_ValueError,
                     found->field != NULL
                         ? "%R without a length has no bytes: give one, as '%c8', to field %R"
                         : "%R without a length has no bytes: give one, as '%c8'",
                     descr, descr->kind, found->field);
        return NULL;
    }
    return PyObject_GetAttrString((PyObject *)descr, "str");
}

/* A dtype as numpy.lib.format.dtype_to_descr describes it, but for metadata, a note to the process
 * that made the dtype, and for added dtypes. TypeError or ValueError if it cannot be. */
static PyObject *describe(PyArray_Descr *descr, struct description *found)
{
    PyObject *metadata = PyObject_GetAttrString((PyObject *)descr, "metadata");
    PyObject *result = NULL;
    if (metadata == NULL || Py_EnterRecursiveCall(" while describing a dtype") != 0) {
        Py_XDECREF(metadata);
        return NULL;
    }
    found->has_metadata = found->has_metadata || metadata != Py_None;
    if (PyDataType_HASSUBARRAY(descr)) {
        PyObject *shape = PyObject_GetAttrString((PyObject *)descr, "shape");
        PyObject *base = shape == NULL ? NULL : describe(PyDataType_SUBARRAY(descr)->base, found);
        result = base == NULL ? NULL : PyTuple_Pack(2, base, shape);
        Py_XDECREF(shape);
        Py_XDECREF(base);
    } else if (PyDataType_HASFIELDS(descr)) {
        result = describe_fields(descr, found);
    } else {
        result = describe_element(descr, found);
    }
    Py_LeaveRecursiveCall();
    Py_DECREF(metadata);
    return result;
}

PyObject *dtype_from_description(struct module_state *state, PyObject *descr)
{
    struct description ignored = {NULL, false};
    PyObject *dtype = need_added(descr) != 0
                          ? NULL
                          : PyObject_CallMethod(state->numpy_format, "descr_to_dtype", "O", descr);
    if (dtype == NULL || !PyArray_DescrCheck(dtype) || PyDataType_REFCHK((PyArray_Descr *)dtype) ||
        PyDataType_HASSUBARRAY((PyArray_Descr *)dtype)) {
        Py_XDECREF(dtype);
        return NULL;
    }
    PyObject *again = describe((PyArray_Descr *)dtype, &ignored);
    const int same = again == NULL ? -1 : PyObject_RichCompareBool(again, descr, Py_EQ);
    Py_XDECREF(again);
    if (same != 1) {
        Py_CLEAR(dtype);
    }
    return dtype;
}

PyObject *dtype_describe(struct module_state *state, PyObject **dtype)
{
    struct description found = {NULL, false};
    PyObject *descr = describe((PyArray_Descr *)*dtype, &found);
    if (descr == NULL) {
        return NULL;
    }
    PyObject *again = dtype_from_description(state, descr);
    const int same = again == NULL ? -1 : PyObject_RichCompareBool(again, *dtype, Py_EQ);
    if (same == 1) {
        if (found.has_metadata) {
            Py_SETREF(*dtype, Py_NewRef(again));
        }
        Py_DECREF(again);
        return descr;
    }
    if (PyErr_Occurred() == NULL || PyErr_ExceptionMatches(PyExc_ValueError) ||
        PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError,
                     "dtype %R cannot be described to another process, since numpy does not read "
                     "it back from its description: send its bytes, with a dtype of 'V%zd' and "
                     "array.view('V%zd')",
                     *dtype, (Py_ssize_t)PyDataType_ELSIZE((PyArray_Descr *)*dtype),
                     (Py_ssize_t)PyDataType_ELSIZE((PyArray_Descr *)*dtype));
    }
    Py_XDECREF(again);
    Py_DECREF(descr);
    return NULL;
}
