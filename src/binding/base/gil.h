/*
 * gil.h: a stay without the GIL that may be long, and the way back.
 *
 *     struct gil_absence absence;
 *     gil_leave(&absence);
 *     do {
 *         status = ... one slice of waiting ...
 *     } while (status == SHMIPC_AGAIN && gil_stay_away(&absence));
 *     gil_return(&absence);
 *
 * A slice ends so that Python's signal handlers may run. They run in one thread only, so another
 * thread has nothing to come back for, and two reasons to stay away: it would interrupt whoever
 * holds the GIL, and it might meet the end of the interpreter. There, a daemon thread that asks for
 * the GIL is ended by CPython, but up to 3.13 its thread state is freed first, and looked at again
 * where the GIL passes through that thread's hands: a crash, now and then, at exit (CPython issues
 * 110052 and 124878).
 */
#ifndef SHMIPC_BINDING_GIL_H
#define SHMIPC_BINDING_GIL_H

#include "handle.h"

struct gil_absence {
    PyThreadState *thread;
    uint64_t until_ns; /* when to come back at the latest; 0: not known yet */
    bool at_the_end;   /* it is this thread that ends the interpreter: a finalizer waits */
};

void gil_leave(struct gil_absence *absence);
/* A slice has ended without a result. May another follow without the GIL? */
bool gil_stay_away(struct gil_absence *absence);
/* Does not return where the interpreter has begun to end without waiting for this thread. */
void gil_return(struct gil_absence *absence);

#endif
