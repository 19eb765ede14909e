/*
 * handle.h: one thread at a time in a handle, for certain and for about a nanosecond.
 *
 * Owns:     which thread is inside a producer or consumer, the handle's life (open, closed), and
 *           how another thread takes a handle over, closes it, or has something done in it.
 * Must not know: rings. What it guards is its callers' business.
 * May be included by: the C files of src/api.
 *
 * A handle belongs to the thread that used it last, its owner. The owner enters and leaves with two
 * plain stores to its own line. Another thread first takes the ownership away, which is Dekker's
 * problem: each side stores its word and looks at the other's.
 *
 *   owner                                    another thread, holding `lock`
 *   H1 busy = 1                  (relaxed)   T1 owner = nobody                 (relaxed)
 *   H2 light barrier      (compiler only)    T2 fence, membarrier              (heavy barrier)
 *   H3 owner still me?           (acquire)   T3 busy?                          (acquire)
 *   H4 ... busy = 0              (release)   T4 owner = me, or the old one     (release)
 *
 * T2 makes every running thread execute a full barrier between T1 and T3. For the owner it falls
 * either before its H3, which then sees T1 (or T4) and gives way; or after it, and then H1 was made
 * visible, so that T3 sees it and the other thread is refused. Both giving way is possible, and
 * harmless: they were there at once. With relaxed or acquire/release alone both could enter.
 *
 *   H3 <-> T4: what was done in the handle elsewhere (by T's thread between T3 and T4) is visible
 * to the owner that finds itself reinstated. Weaker: it could see a list half changed. H4 <-> T3:
 * what the owner did is visible to whoever takes over. Weaker: likewise. L  lock: acquired by
 * exchange, released by store: T1 to T4, and closing, one at a time. tag: changed under the lock
 * before T1, so that whoever passes H3 has seen the handle open. callers: counts threads that may
 * touch the handle without having entered (interrupt, a frame released elsewhere). They count
 * themselves (full fence), then look at the tag; who closes stores the tag (full fence), then waits
 * for the count to be 0 before anything is unmapped.
 *
 * Where membarrier is refused, H2 is a full fence and T2 needs no more than one.
 */
#ifndef SHMIPC_API_HANDLE_H
#define SHMIPC_API_HANDLE_H

#include "../core/atomic.h"
#include "../core/layout.h"
#include "result.h"

#include <stdbool.h>

/* What a pointer points at, and whether it is open. 0 and what was freed are none of these. */
enum shmipc_tag {
    SHMIPC_TAG_FREED = 0x64656566,
    SHMIPC_TAG_PRODUCER = 0x646f7250,
    SHMIPC_TAG_PRODUCER_CLOSED = 0x646f7270,
    SHMIPC_TAG_CONSUMER = 0x736e6f43,
    SHMIPC_TAG_CONSUMER_CLOSED = 0x736e6f63,
    SHMIPC_TAG_FRAME = 0x6d617246
};

typedef _Atomic(uintptr_t) shmipc_atomic_thread;

/* At offset 0 of struct shmipc_producer and struct shmipc_consumer. */
struct shmipc_handle {
    _Alignas(SHMIPC_LINE) shmipc_atomic_u32 tag;
    shmipc_atomic_u32 busy; /* the owner is inside */
    shmipc_atomic_thread owner;
    bool asymmetric;
    const bool *forked; /* the segment's: this process is a fork's child */
    shmipc_atomic_u32 lock;
    shmipc_atomic_u32 callers;
    shmipc_atomic_u32 called_out; /* shmipc_*_interrupt() was called; taken by the wait it ends */
    void (*interrupt)(struct shmipc_handle *handle); /* get a thread that waits inside to look up */
    char name[208];                                  /* of the ring */
};

/* Its address is the thread's name. Static TLS: one instruction, no call, also in a library that
 * is loaded late; one byte of the reserve that the loader keeps for that. */
extern _Thread_local char shmipc_thread_here
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline uintptr_t shmipc_thread_self(void)
{
    return (uintptr_t)&shmipc_thread_here;
}

void shmipc_handle_init(struct shmipc_handle *handle, uint32_t tag, const char *name,
                        bool asymmetric, const bool *forked,
                        void (*interrupt)(struct shmipc_handle *handle));

/* The rest of enter: another thread's handle, or a reason not to. A result. */
int shmipc_handle_enter_slowly(struct shmipc_handle *handle, uint32_t tag)
    __attribute__((noinline, cold));

/* The owner's way in. False: take the slow one. */
static inline bool shmipc_handle_try_enter(struct shmipc_handle *handle, uint32_t tag)
{
    const uintptr_t self = shmipc_thread_self();
    /* Relaxed: hints, H3 decides; but busy, which in this case only this thread sets. */
    if (SHMIPC_LIKELY(shmipc_load_relaxed(&handle->tag) == tag &&
                      shmipc_load_relaxed(&handle->owner) == self &&
                      shmipc_load_relaxed(&handle->busy) == 0 && !*handle->forked)) {
        shmipc_store_relaxed(&handle->busy, 1u);                          /* H1 */
        shmipc_barrier_light(handle->asymmetric);                         /* H2 <-> T2 */
        if (SHMIPC_LIKELY(shmipc_load_acquire(&handle->owner) == self)) { /* H3 <-> T4 */
            return true;
        }
        shmipc_store_release(&handle->busy, 0u); /* H4 <-> T3 */
    }
    return false;
}

/* Begin a call. 0, or a result with its text kept; after 0, leave must follow. */
static inline int shmipc_handle_enter(struct shmipc_handle *handle, uint32_t tag)
{
    if (SHMIPC_LIKELY(handle != NULL && shmipc_handle_try_enter(handle, tag))) {
        return SHMIPC_SUCCESS;
    }
    return shmipc_handle_enter_slowly(handle, tag);
}

static inline void shmipc_handle_leave(struct shmipc_handle *handle)
{
    shmipc_store_release(&handle->busy, 0u); /* H4 <-> T3 */
}

/* ---- closing, and what other threads may do ---------------------------------------------------
 */

/* Close the door: nobody enters any more; whoever is inside was told and has left. `already`: it
 * was closed before. On success the lock is held, and unlock must follow. */
int shmipc_handle_begin_close(struct shmipc_handle *handle, uint32_t tag, uint32_t closed_tag,
                              bool *already);
void shmipc_handle_lock(struct shmipc_handle *handle);
void shmipc_handle_unlock(struct shmipc_handle *handle);

/* Holding the lock: keep the owner out. False: it is inside. Otherwise readmit must follow. Either
 * way the handle may be in any state. */
bool shmipc_handle_keep_out(struct shmipc_handle *handle, uintptr_t *owner);
void shmipc_handle_readmit(struct shmipc_handle *handle, uintptr_t owner);

/* Around touching a handle, or what it maps, without entering: true if it is open, and then, until
 * depart, nothing is unmapped. Depart must follow either way. Async-signal-safe. */
bool shmipc_handle_call(struct shmipc_handle *handle, uint32_t tag);
void shmipc_handle_depart(struct shmipc_handle *handle);
/* Wait until all that called have departed. */
void shmipc_handle_await_callers(struct shmipc_handle *handle);

/* shmipc_*_interrupt. */
int shmipc_handle_interrupt(struct shmipc_handle *handle, uint32_t tag);

#endif
