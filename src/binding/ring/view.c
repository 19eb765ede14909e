/*
 * view.c: the hidden base of every ndarray we hand out. A view's life is a claim: numpy keeps the
 * base of an array, and of every slice of it, alive; when the last is gone the claim ends. (An
 * ndarray itself does not hold a buffer export, so counting exports alone would miss it.)
 */
#include "../base/state.h"
#include "../base/handle.h"
#include "view.h"

typedef struct {
    PyObject_HEAD
    PyObject *owner; /* Frame or Producer */
    void (*drop)(PyObject *owner);
} ViewObject;

PyObject *view_new(struct module_state *state, PyObject *owner, void (*drop)(PyObject *owner))
{
    ViewObject *self = PyObject_New(ViewObject, state->view_type);
    if (self == NULL) {
        drop(owner);
        return NULL;
    }
    self->owner = Py_NewRef(owner);
    self->drop = drop;
    return (PyObject *)self;
}

static void view_dealloc(PyObject *object)
{
    ViewObject *self = (ViewObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject *owner = self->owner;
    self->drop(owner);
    Py_DECREF(owner);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyType_Slot view_slots[] = {{Py_tp_doc, "Keeps ring memory alive for the ndarrays on it."},
                                   {Py_tp_dealloc, view_dealloc},
                                   {0, NULL}};

PyType_Spec view_spec = {.name = "shmipc._core.View",
                         .basicsize = sizeof(ViewObject),
                         .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
                                  Py_TPFLAGS_DISALLOW_INSTANTIATION,
                         .slots = view_slots};
