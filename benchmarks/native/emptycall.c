/* An extension type whose methods do nothing: what CPython asks for a call, before any work.
 *
 *   Empty().noargs()      METH_NOARGS
 *   Empty().fast(obj)     METH_FASTCALL | METH_KEYWORDS, as a method with options has
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *empty_noargs(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    Py_RETURN_NONE;
}

static PyObject *empty_fast(PyObject *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *names) {
    (void)self;
    (void)args;
    (void)names;
    if (count != 1) {
        PyErr_SetString(PyExc_TypeError, "fast() takes one argument");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef empty_methods[] = {
    {"noargs", empty_noargs, METH_NOARGS, "Do nothing."},
    {"fast", (PyCFunction)(void (*)(void))empty_fast, METH_FASTCALL | METH_KEYWORDS,
     "Do nothing with one argument."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot empty_slots[] = {
    {Py_tp_methods, empty_methods},
    {0, NULL},
};

static PyType_Spec empty_spec = {
    .name = "emptycall.Empty",
    .basicsize = (int)sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = empty_slots,
};

static int emptycall_exec(PyObject *module) {
    PyObject *type = PyType_FromSpec(&empty_spec);
    if (!type)
        return -1;
    const int failed = PyModule_AddObjectRef(module, "Empty", type);
    Py_DECREF(type);
    return failed;
}

static PyModuleDef_Slot emptycall_slots[] = {
    {Py_mod_exec, (void *)emptycall_exec},
    {0, NULL},
};

static struct PyModuleDef emptycall_module = {
    PyModuleDef_HEAD_INIT, .m_name = "emptycall", .m_size = 0, .m_slots = emptycall_slots,
};

PyMODINIT_FUNC PyInit_emptycall(void) {
    return PyModuleDef_Init(&emptycall_module);
}
