/*
 * meaning.c: which objects mean more than their bytes say, so that bytes alone are not sent for
 * them or copied over them. Knows no numpy: a message ring works where numpy was never imported,
 * and what has a dtype has brought its numpy along.
 */
#include "../base/state.h"
#include "buffers.h"

int refuse_object_format(const char *format)
{
    bool in_name = false; /* of a field: ":name:" */
    for (const char *at = format; at != NULL && *at != '\0'; at++) {
        if (*at == ':') {
            in_name = !in_name;
        } else if (*at == 'O' && !in_name) {
            PyErr_SetString(PyExc_TypeError,
                            "the array holds Python objects, which mean nothing in another "
                            "process: use an array of a fixed-size dtype, or pickle them yourself");
            return -1;
        }
    }
    return 0;
}

/* An attribute that is no computed one: of the type, or in the object's __dict__. So a field of a
 * record array is none. -1 with an exception. */
static int has_attribute(PyObject *object, const char *name)
{
    if (PyObject_HasAttrString((PyObject *)Py_TYPE(object), name)) {
        return 1;
    }
    PyObject *attributes = PyObject_GetAttrString(object, "__dict__");
    if (attributes == NULL) {
        PyErr_Clear();
        return 0;
    }
    PyObject *key = PyUnicode_FromString(name);
    const int found = key == NULL || !PyDict_Check(attributes) ? (key == NULL ? -1 : 0)
                                                               : PyDict_Contains(attributes, key);
    Py_XDECREF(key);
    Py_DECREF(attributes);
    return found;
}

/* numpy's own ndarray and scalars are static types; what adds a meaning is a subclass. */
static int refuse_added_meaning(PyObject *object)
{
    static const char *const ADDED[] = {"mask", "unit", "units"};
    for (size_t i = 0; i < sizeof ADDED / sizeof ADDED[0]; i++) {
        const int found = has_attribute(object, ADDED[i]);
        if (found > 0) {
            PyErr_Format(PyExc_TypeError,
                         i == 0 ? "a %.200s has a mask beside its bytes, and only bytes travel: "
                                  "use its filled(value), or a field for the mask"
                                : "a %.200s has a unit beside its bytes, and only bytes travel: "
                                  "use numpy.asarray() of it, and agree on the unit",
                         Py_TYPE(object)->tp_name);
        }
        if (found != 0) {
            return -1;
        }
    }
    return 0;
}

int refuse_stripped(PyObject *object)
{
    if (PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_HEAPTYPE) && PyObject_CheckBuffer(object) &&
        PyObject_HasAttrString((PyObject *)Py_TYPE(object), "dtype")) {
        return refuse_added_meaning(object);
    }
    return 0;
}

int refuse_stripped_within(PyObject *object)
{
    if (!PyList_Check(object) && !PyTuple_Check(object)) {
        return refuse_stripped(object);
    }
    if (Py_EnterRecursiveCall(" while looking into a list") != 0) {
        return -1;
    }
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < PySequence_Size(object); i++) {
        PyObject *part = PySequence_GetItem(object, i);
        result = part == NULL ? -1 : refuse_stripped_within(part);
        Py_XDECREF(part);
    }
    Py_LeaveRecursiveCall();
    return result;
}

int refuse_meaningless(PyObject *object)
{
    if (PyBytes_CheckExact(object) || PyByteArray_Check(object) || PyMemoryView_Check(object)) {
        return 0; /* of a memoryview the format tells, once it is held */
    }
    if (refuse_stripped(object) != 0) {
        return -1;
    }
    /* numpy gives an array of objects away like any other unless asked for its format, which would
     * cost every array. */
    PyObject *dtype = PyObject_GetAttrString(object, "dtype");
    PyObject *flag = dtype == NULL ? NULL : PyObject_GetAttrString(dtype, "hasobject");
    const bool has_objects = flag == Py_True;
    Py_XDECREF(dtype);
    Py_XDECREF(flag);
    if (PyErr_Occurred() != NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear(); /* not every buffer has a dtype */
    return has_objects ? refuse_object_format("O") : 0;
}
