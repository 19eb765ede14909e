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
        const PyModuleDef *definition = module == NULL ? NULL : PyModule_GetDef(module);
        if (definition != NULL && definition->m_name == module_name) {
            return PyModule_GetState(module);
        }
        PyErr_Clear(); /* a subclass of another module, or made by a class statement */
    }
    PyErr_SetString(PyExc_SystemError, "shmipc: a type without its module");
    return NULL;
}
