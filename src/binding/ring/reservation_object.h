/* reservation_object.h: a Reservation: room in the ring. */
#ifndef SHMIPC_BINDING_RESERVATION_OBJECT_H
#define SHMIPC_BINDING_RESERVATION_OBJECT_H

#include "producer_object.h"

typedef struct {
    PyObject_HEAD
    ProducerObject *producer;
    unsigned char *data;
    uint64_t len;   /* bytes that may be written */
    uint64_t span;  /* bytes reserved */
    uint64_t items; /* typed: items reserved */
    bool single;    /* typed: one item, without a leading axis, as Consumer.read() gives it */
    uint16_t kind;
    uint16_t flags;
    /* These three change in the producer's critical section. */
    _Atomic(bool) open;
    _Atomic(bool) orphaned; /* its producer was closed first */
    PyObject *array;        /* handed out; turns read-only at commit */
    PyObject *weakrefs;     /* the interpreter's */
} ReservationObject;

extern PyType_Spec reservation_spec;

PyObject *reservation_new(ProducerObject *producer, unsigned char *data, uint64_t len,
                          uint64_t span, uint64_t items, bool single, uint16_t kind,
                          uint16_t flags);
/* The producer closes: whatever is reserved is not sent. True if views of the ring live on. */
bool reservation_orphan(ProducerObject *producer);

#endif
