/* sending.h: the methods of Producer that send. */
#ifndef SHMIPC_BINDING_SENDING_H
#define SHMIPC_BINDING_SENDING_H

#include "producer_object.h"
#include "waiting.h"

/* Room for `span` bytes at *at, waiting as long as the call may. -1 with an exception. */
int make_room(ProducerObject *self, uint64_t span, struct patience *patience, unsigned char **at);
/* False, with a RuntimeError, while a reservation is open. */
bool refuse_inside_reservation(const ProducerObject *self);
/* Send a message of plain bytes. 1: sent. 0: full, or full and its only reader is dead, and the
 * call may not wait. -1: an exception. */
int producer_send_plain(ProducerObject *self, const unsigned char *data, size_t len, uint16_t kind,
                        struct patience *patience);
/* kind= and flags= as given, or absent. -1 with an exception. */
int parse_kind_and_flags(PyObject *kind, PyObject *flags, uint64_t *kind_out, uint64_t *flags_out);
/* -1 with a ValueError if they were given and the ring is typed. */
int refuse_kind_in_typed(const ProducerObject *self, PyObject *kind, PyObject *flags);

extern const char producer_send_doc[];
extern const char producer_send_text_doc[];
extern const char producer_try_send_doc[];
extern const char producer_send_many_doc[];
extern const char producer_reserve_doc[];
PyObject *producer_send(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);
PyObject *producer_send_text(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
PyObject *producer_try_send(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
PyObject *producer_send_many(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
PyObject *producer_reserve(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames);

#endif
