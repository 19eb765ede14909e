/* consumer_lease.c: the end of a lease; and, after close(), of the last one. */
#include "../base/handle.h"
#include "consumer_object.h"

void consumer_detach(ConsumerObject *self)
{
    self->detach_pending = false;
    Py_BEGIN_ALLOW_THREADS
    shmipc_consumer_role_close(&self->core);
    Py_END_ALLOW_THREADS
}

void consumer_lease_ended(ConsumerObject *self)
{
    if (self->core.segment.forked || self->core.segment.header == NULL) {
        return;
    }
    if (!self->abandoned) {
        shmipc_consumer_role_release(&self->core);
    }
    if (self->detach_pending && self->leases == 0) {
        consumer_detach(self);
    }
}
