/*
 * outlet.h: an Outlet as its neighbour in C sees it (order_method.c).
 */
#ifndef SHMIPC_BINDING_OUTLET_H
#define SHMIPC_BINDING_OUTLET_H

#include "../ring/producer_object.h"
#include "../record/record.h"
#include "../dispatch/dispatcher.h"

#define OUTLET_MAX_FIELDS 16

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    ProducerObject *producer;
    RecordTypeObject *type;
    DispatcherObject *dispatcher; /* or NULL */
    PyObject *clock;              /* or NULL: the system's */
    PyObject *kept;               /* dict, or NULL */
    uint64_t kind;
    const struct record_field *fields[OUTLET_MAX_FIELDS]; /* that the call's values go to */
    Py_ssize_t field_count;
    size_t time_offs[OUTLET_MAX_FIELDS];
    Py_ssize_t time_count;
    size_t trigger_off;
    bool has_trigger;
} OutletObject;

/* Is `record` an owned one of the outlet's type? Then it can be filled in and sent. */
static inline bool outlet_takes(const OutletObject *self, PyObject *record)
{
    return (PyObject *)Py_TYPE(record) == (PyObject *)self->type &&
           ((RecordObject *)record)->own != NULL;
}

/* A copy of `record`, filled in with `field_count` values, stamped, kept under the first value, and
 * sent. 1: sent. 0: the ring is full. -1: an exception. Nothing is kept unless it was sent. The
 * caller holds references to all of these: a clock is Python code. */
int outlet_send(OutletObject *self, PyObject *record, PyObject *const *values);

extern PyType_Spec outlet_spec;

#endif
