/*
 * handle.h: one thread at a time in a handle, for certain and for about a nanosecond.
 *
 * Owns:     which thread is inside a producer or consumer, the handle's life (open, closed), and
 *           how another thread takes a handle over, closes it, or has something done in it.
 * Must not know: rings. What it guards is its callers' business.
 *
 * Each thread that uses a handle has an entry in it, with a word `busy` of its own. One entry is
 * the current one, and its thread, the owner, enters and leaves with two plain stores to it.
 * Another thread first takes that away, which is Dekker's problem: each side stores its word and
 * looks at the other's.
 *
 *   owner                                        another thread, holding `lock`
 *   H1 my entry's busy = me           (relaxed)   T1 admitted = none                    (relaxed)
 *   H2 light barrier           (compiler only)   T2 fence, membarrier            (heavy barrier)
 *   H3 my entry admitted?             (acquire)   T3 the current entry's busy?           (acquire)
 *   H4 ... busy = 0                  (release)   T4 admitted = mine, or it again       (release)
 *
 * T2 makes every running thread execute a full barrier between T1 and T3. For the owner it falls
 * either before its H3, which then sees T1 (or T4) and gives way; or after it, and then H1 was made
 * visible, so that T3 sees it and the other thread is refused. Both giving way is possible, and
 * harmless: they were there at once. With relaxed or acquire/release alone both could enter.
 *
 * An owner may be stopped just before H1 for any time, and go on when its entry is current no more:
 * its H1 and H4 then touch a word that nobody looks at. That is why an entry never has another
 * thread. (A thread of the same name is another only once the first has ended.)
 *
 * - H3 <-> T4: what was done in the handle elsewhere (by T's thread between T3 and T4) is visible
 * to the owner that finds itself admitted again. Weaker: it could see a list half changed.
 * - H4 <-> T3: what the owner did is visible to whoever takes over; and H4 <-> H0, the look at busy
 *   before H1: to a later thread of the owner's name. Weaker: likewise.
 * - L, lock: acquired by exchange, released by store: T1 to T4, and closing, one at a time.
 * - tag: changed under the lock before T1. An owner that has passed H3 may have seen it open just
 *   before; the thread that closes waits for it then, as for any call that came first.
 * - callers: counts threads that may touch the handle without having entered (interrupt, a frame
 *   released elsewhere). They count themselves (full fence), then look at the tag; a close
 *   stores the tag (full fence), then waits for the count to be 0 before anything is unmapped.
 *
 * T2 disturbs every processor that runs a process of ours, so where threads keep taking a handle
 * from each other, or are more than there are entries, the common entry becomes the current one and
 * stays it: whoever enters sets its busy by an exchange (acquire), a few nanoseconds, whatever the
 * thread; likewise whoever keeps the others out, after a full fence that orders the tag.
 *
 * - C: current is stored (release) after the common entry's busy was set for the first time
 *   <-> acquire, then the exchange. Weaker: the exchange could come before it, and succeed.
 *
 * Where membarrier is refused, H2 is a full fence and T2 needs no more than one.
 */
#ifndef SHMIPC_API_HANDLE_H
#define SHMIPC_API_HANDLE_H

#include "../core/base/atomic.h"
#include "../core/base/layout.h"
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

/* A thread's own words in a handle. */
struct shmipc_entry {
    shmipc_atomic_thread thread; /* its thread, never another; 0: not used yet, or the common one */
    shmipc_atomic_thread busy;   /* the thread inside; 0: none */
};
typedef _Atomic(struct shmipc_entry *) shmipc_atomic_entry;

enum {
    SHMIPC_ENTRIES = 3,       /* of single threads */
    SHMIPC_MAX_HANDOVERS = 64 /* that cost a heavy barrier */
};

/* At offset 0 of struct shmipc_producer and struct shmipc_consumer. */
struct shmipc_handle {
    _Alignas(SHMIPC_LINE) shmipc_atomic_u32 tag;
    bool asymmetric;
    shmipc_atomic_entry current;  /* changed under the lock, with everybody kept out */
    shmipc_atomic_entry admitted; /* it too; NULL: kept out, or the current one is the common */
    struct shmipc_entry entries[SHMIPC_ENTRIES];
    struct shmipc_entry common;
    const bool *forked; /* the segment's: this process is a fork's child */
    shmipc_atomic_u32 lock;
    bool closed;        /* under the lock: no thread is inside or enters any more */
    uint32_t handovers; /* likewise */
    uint32_t forks;     /* shmipc_fork_count() when it was opened */
    shmipc_atomic_u32 callers;
    shmipc_atomic_u32 called_out; /* shmipc_*_interrupt() was called; taken by the wait it ends */
    void (*interrupt)(struct shmipc_handle *handle); /* end the wait of a thread inside */
    char name[208];                                  /* of the ring */
};

/* This thread's name: the address of its control block, which the processor has at hand. No
 * thread-local variable: a library that is loaded late would take it from the loader's reserve, or
 * make a call. */
static inline uintptr_t shmipc_thread_self(void)
{
    uintptr_t self;
#if defined(__x86_64__)
    __asm__("mov %%fs:0, %0" : "=r"(self)); /* no input changes within a thread: may be merged */
#elif defined(__aarch64__)
    __asm__("mrs %0, tpidr_el0" : "=r"(self));
#else
    self = (uintptr_t)__builtin_thread_pointer();
#endif
    return self;
}

void shmipc_handle_init(struct shmipc_handle *handle, uint32_t tag, const char *name,
                        bool asymmetric, const bool *forked,
                        void (*interrupt)(struct shmipc_handle *handle));

/* The rest of enter: another thread's handle, or a reason not to. A result. */
int shmipc_handle_take(struct shmipc_handle *handle, uint32_t tag) __attribute__((noinline, cold));
static inline int shmipc_handle_enter_slowly(struct shmipc_handle *handle, uint32_t tag)
{
    const int result = shmipc_handle_take(handle, tag);
    return handle != NULL ? result : SHMIPC_E_INVALID; /* it is; but analyzers do not see it */
}

#ifndef SHMIPC_HANDLE_HINTED /* a test stops a thread here */
#define SHMIPC_HANDLE_HINTED() ((void)0)
#endif

/* The owner's way in. False: take the slow one. */
static inline bool shmipc_handle_try_enter(struct shmipc_handle *handle, uint32_t tag)
{
    const uintptr_t self = shmipc_thread_self();
    /* Relaxed: hints, H3 decides. */
    struct shmipc_entry *mine = shmipc_load_relaxed(&handle->current);
    if (SHMIPC_LIKELY(shmipc_load_relaxed(&handle->tag) == tag &&
                      shmipc_load_relaxed(&mine->thread) == self &&
                      shmipc_load_acquire(&mine->busy) == 0 && /* H0 <-> H4 */
                      !*handle->forked)) {
        SHMIPC_HANDLE_HINTED();
        shmipc_store_relaxed(&mine->busy, self);                             /* H1 */
        shmipc_barrier_light(handle->asymmetric);                            /* H2 <-> T2 */
        if (SHMIPC_LIKELY(shmipc_load_acquire(&handle->admitted) == mine)) { /* H3 <-> T4 */
            return true;
        }
        shmipc_store_release(&mine->busy, (uintptr_t)0); /* H4 <-> T3 */
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
    /* Relaxed: nobody changes it while we are inside. */
    struct shmipc_entry *mine = shmipc_load_relaxed(&handle->current);
    shmipc_store_release(&mine->busy, (uintptr_t)0); /* H4 <-> T3, H0 */
}

/* ---- closing, and what other threads may do ------------------------------------------------- */

/* Close: no thread enters any more; one that was inside was interrupted and has left. `already`: it
 * was closed before. On success the lock is held, and unlock must follow. */
int shmipc_handle_begin_close(struct shmipc_handle *handle, uint32_t tag, uint32_t closed_tag,
                              bool *already);
void shmipc_handle_lock(struct shmipc_handle *handle);
/* Between two tries, while another thread has what we need; *turns begins at 0. */
void shmipc_handle_pause(uint32_t *turns);
void shmipc_handle_unlock(struct shmipc_handle *handle);

/* Holding the lock: keep everybody out. False: somebody is inside. Otherwise readmit must follow.
 * Either way the handle may be in any state. */
bool shmipc_handle_keep_out(struct shmipc_handle *handle);
void shmipc_handle_readmit(struct shmipc_handle *handle);

/* Around touching a handle, or what it maps, without entering: true if it is open, and then, until
 * depart, nothing is unmapped. Depart must follow either way. Async-signal-safe. */
bool shmipc_handle_call(struct shmipc_handle *handle, uint32_t tag);
void shmipc_handle_depart(struct shmipc_handle *handle);
/* Wait until all that called have departed. */
void shmipc_handle_await_callers(struct shmipc_handle *handle);

/* shmipc_*_interrupt. */
int shmipc_handle_interrupt(struct shmipc_handle *handle, uint32_t tag);

#endif
