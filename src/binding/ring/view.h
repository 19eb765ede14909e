/* view.h: the hidden base of every ndarray. */
#ifndef SHMIPC_BINDING_VIEW_H
#define SHMIPC_BINDING_VIEW_H

#include "../base/state.h"

extern PyType_Spec view_spec;

/* An object whose life is a claim on `owner` (a Frame, or a Producer through a reservation): the
 * base of every ndarray we hand out. The caller has counted the view; `drop` uncounts it, at the
 * object's death or where it cannot be made. */
PyObject *view_new(struct module_state *state, PyObject *owner, void (*drop)(PyObject *owner));

#endif
