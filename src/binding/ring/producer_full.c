/* producer_full.c: why a ring is full, in words. */
#include "producer_object.h"

PyObject *raise_full(const ProducerObject *producer)
{
    PyObject *type = producer->handle.state->exceptions[EXCEPTION_FULL];
    PyObject *name = producer->handle.name;
    uint32_t pid;
    uint64_t lag;
    if (!shmipc_producer_role_slowest(&producer->core, &pid, &lag)) {
        return PyErr_Format(type, "ring %R was full until a moment ago: try again", name);
    }
    return pid == 0 ? PyErr_Format(type,
                                   "ring %R is full and no consumer is attached; it keeps %llu for "
                                   "the next one. Start a consumer, or create it with a larger "
                                   "capacity=",
                                   name, (unsigned long long)lag)
                    : PyErr_Format(type,
                                   "ring %R is full: its slowest consumer, process %u, has not "
                                   "released %llu. Try again later, or create it with a larger "
                                   "capacity=",
                                   name, pid, (unsigned long long)lag);
}
