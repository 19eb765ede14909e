/* state.c: from a type of ours, or a subclass of one, to the module's state. */
#include "state.h"

/* By its address: the definition itself names every type, and stands above all rooms. */
const char module_name[] = "shmipc._core";

struct module_state *state_of_type(PyTypeObject *type)
{
    for (PyTypeObject *t = type; t != NULL; t = t->tp_base) {
        if ((t->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0) {
            break;
        }
        PyObject *module = PyType_GetModule(t);
        if (module == NULL) {
            PyErr_Clear(); /* a subclass made by a class statement */
        } else if (PyModule_GetDef(module)->m_name == module_name) {
            return PyModule_GetState(module);
        }
    }
    PyErr_SetString(PyExc_SystemError, "shmipc: a type without its module");
    return NULL;
}
