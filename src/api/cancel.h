/*
 * cancel.h: calls in which a thread cannot be cancelled.
 *
 * A thread that pthread_cancel(3) has marked ends in the next cancellation point: open(2),
 * close(2), nanosleep(2), posix_fallocate(3) and others of ours. It would unwind out of the middle
 * of a call: a mutex stays locked, a handle has somebody inside, a segment on its stack stays
 * listed. So every call that can come to one holds cancellation off until it returns, and no
 * function of shmipc.h is a cancellation point. What is marked meanwhile ends in the caller's next
 * one.
 *
 * The quick ways of sending and reading make no system call that is a cancellation point, and are
 * not slowed down for it.
 *
 * Owns:     that guard.
 */
#ifndef SHMIPC_API_CANCEL_H
#define SHMIPC_API_CANCEL_H

#include <pthread.h>

static inline int shmipc_cancel_hold(void)
{
    int state = PTHREAD_CANCEL_ENABLE;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    return state;
}

/* A deferred cancellation that is pending does not act here: the caller gets its result. */
static inline void shmipc_cancel_restore(const int *state)
{
    int ignored;
    (void)pthread_setcancelstate(*state, &ignored);
}

/* From here to the end of the block, on whatever way it is left. */
#define SHMIPC_UNCANCELLED()                                                         \
    const int cancel_state __attribute__((unused, cleanup(shmipc_cancel_restore))) = \
        shmipc_cancel_hold()

#endif
