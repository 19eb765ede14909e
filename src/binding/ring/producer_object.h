/* producer_object.h: a Producer. */
#ifndef SHMIPC_BINDING_PRODUCER_OBJECT_H
#define SHMIPC_BINDING_PRODUCER_OBJECT_H

#include "../base/errors.h"
#include "../../core/ring/producer.h"

typedef struct {
    HandleObject handle;
    /* The open reservation, borrowed: it owns us. It and `views` change in our critical section,
     * except that views fall anywhere. */
    _Atomic(PyObject *) reservation;
    _Atomic(Py_ssize_t) views; /* live writable views of the ring */
    PyObject *children; /* WeakSet of the Popens that it was pickled for (pickling.c), or NULL */
    struct shmipc_producer_role core;
} ProducerObject;

extern PyType_Spec producer_spec;

/* Full, naming who holds the ring back. */
PyObject *raise_full(const ProducerObject *producer);

/* After a commit: wake who sleeps. False, with Corrupt, as above. */
static inline bool notify(ProducerObject *producer)
{
    if (SHMIPC_UNLIKELY(shmipc_producer_role_notify(&producer->core) != SHMIPC_OK)) {
        (void)raise_status(&producer->handle, SHMIPC_CORRUPT);
        return false;
    }
    return true;
}

#endif
