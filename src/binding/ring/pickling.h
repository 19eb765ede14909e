/* pickling.h: handles by name, and a role that is handed over. */
#ifndef SHMIPC_BINDING_PICKLING_H
#define SHMIPC_BINDING_PICKLING_H

#include "producer_object.h"

PyObject *module_reopen(PyObject *module, PyObject *args);
PyObject *producer_reduce(PyObject *self, PyObject *unused);
PyObject *consumer_reduce(PyObject *self, PyObject *unused);
/* Asked once, as the producer closes: is somebody coming to go on in its place? May leave an
 * exception, with true. */
bool producer_is_succeeded(ProducerObject *self);

#endif
