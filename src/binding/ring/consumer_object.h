/* consumer_object.h: a Consumer. */
#ifndef SHMIPC_BINDING_CONSUMER_OBJECT_H
#define SHMIPC_BINDING_CONSUMER_OBJECT_H

#include "../base/errors.h"
#include "../../core/ring/consumer.h"

typedef struct {
    HandleObject handle;
    Py_ssize_t leases;       /* frames that still hold ring memory */
    bool detach_pending;     /* closed while leases were held: the last one detaches */
    bool abandoned;          /* what leases hold stays unread */
    enum shmipc_start start; /* as given */
    struct shmipc_consumer_role core;
} ConsumerObject;

extern PyType_Spec consumer_spec;

/* Close the core's role. */
void consumer_detach(ConsumerObject *consumer);
/* The lease of one frame is over: let the producer have the memory, finish a pending close. */
void consumer_lease_ended(ConsumerObject *consumer);

#endif
