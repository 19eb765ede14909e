/* receiving.h: the methods of Consumer that read. */
#ifndef SHMIPC_BINDING_RECEIVING_H
#define SHMIPC_BINDING_RECEIVING_H

#include "consumer_object.h"

extern PyType_Spec iterator_spec;

extern const char consumer_recv_doc[];
extern const char consumer_recv_text_doc[];
extern const char consumer_recv_into_doc[];
extern const char consumer_read_doc[];
extern const char consumer_read_batch_doc[];
PyObject *consumer_recv(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);
PyObject *consumer_recv_text(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
PyObject *consumer_recv_into(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
PyObject *consumer_read(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);
PyObject *consumer_read_batch(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames);
PyObject *consumer_iter(PyObject *object);

#endif
