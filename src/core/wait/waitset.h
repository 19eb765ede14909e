/*
 * waitset.h: wait for any of several things, each of which has a word to sleep on: the one way that
 * shmipc.wait() of Python, shmipc_wait() of C and the Dispatcher wait.
 *
 * Owns:     the look at every member, how long to spin, the sleep on all their words.
 * Must not know: what the members are (consumers join by ring/waited_consumer.h), how a thread
 *           enters its handles, the GIL, Python.
 *
 * Threads: one at a time in one set. During a slice it is inside every member, as in a wait on one.
 *
 * A wait is: begin; slices until one returns something other than AGAIN; after OK, learn. A slice
 * spins while budget is left, and otherwise sleeps. A caller that must act in between (the
 * Dispatcher releases the GIL only to sleep) calls spin and sleep itself.
 */
#ifndef SHMIPC_WAITSET_H
#define SHMIPC_WAITSET_H

#include "wait.h"

#include <stddef.h>

/* What the members of one kind have in common. */
struct shmipc_waited_kind {
    /* Is there something? No system call: asked again and again while the set spins. */
    bool (*is_ready)(void *self);
    /* Is there something, the end, an error, or an interrupt? `next_look_ns`: look at the peer too
     * (system calls), and if it has nothing to say set *peer_look_ns to this; 0: do not. */
    bool (*has_news)(void *self, uint64_t next_look_ns);
};

/* A member. All that it points to stays until the wait is over. */
struct shmipc_waited {
    const struct shmipc_waited_kind *kind;
    void *self;
    shmipc_atomic_u32 *sleepers; /* the word that its wakers look at (wait.h) */
    uint64_t *peer_look_ns;      /* when its peer is next to be looked at */
    struct shmipc_spin *spin;    /* its budget, used where the set has none */
};

struct shmipc_waitset {
    uint32_t count;
    bool yields; /* give the processor away once before the first sleep */
    bool slept;  /* out: this wait went on to sleep */
    uint64_t start_ns;
    struct shmipc_spin *spin; /* the budget to spend; NULL: the largest of the members' */
    /* `count` entries each, in the caller's memory. */
    struct shmipc_waited *members; /* in */
    bool *ready;                   /* out, of a slice that returned OK */
    shmipc_atomic_u32 **words;     /* scratch, as are the marks */
    uint32_t *marks;
};

/* Bytes that a set of `count` takes. */
static inline size_t shmipc_waitset_size(size_t count)
{
    return count * (sizeof(struct shmipc_waited) + sizeof(shmipc_atomic_u32 *) + sizeof(uint32_t) +
                    sizeof(bool));
}

/* Lay the arrays for `count` out in `memory`, which is aligned as for a pointer and begins at
 * `members`. The caller fills in the members. */
static inline void shmipc_waitset_place(struct shmipc_waitset *set, void *memory, uint32_t count)
{
    set->members = memory;
    set->words = (shmipc_atomic_u32 **)(void *)(set->members + count);
    set->marks = (uint32_t *)(void *)(set->words + count);
    set->ready = (bool *)(void *)(set->marks + count);
    set->count = count;
}

static inline void shmipc_waitset_begin(struct shmipc_waitset *set)
{
    set->start_ns = shmipc_now_ns();
    set->slept = false;
}

/* Look at every member and, once in SHMIPC_SLICE_NS for each 128 members, at their peers. Fills in
 * `ready`. True: some member has news. */
bool shmipc_waitset_look(struct shmipc_waitset *set, uint64_t now_ns);

/* Poll for up to `most_ns` of what is left of the budget. OK: some member has something (`ready` is
 * not filled in); AGAIN: that time is over; EMPTY: the budget is used up, or the deadline passed.
 */
enum shmipc_status shmipc_waitset_spin(struct shmipc_waitset *set, uint64_t deadline_ns,
                                       uint64_t most_ns);

/* One slice of sleep, SHMIPC_SLICE_NS at most. OK (`ready` is filled in, but where it yields),
 * TIMEOUT, AGAIN. Blocking; the GIL must not be held. */
enum shmipc_status shmipc_waitset_sleep(struct shmipc_waitset *set, uint64_t deadline_ns);

/* One slice of either. OK (`ready` is filled in), TIMEOUT, AGAIN. Blocking; the GIL must not be
 * held. Not for a set that yields. */
enum shmipc_status shmipc_waitset_slice(struct shmipc_waitset *set, uint64_t deadline_ns);

/* The wait has ended with OK: adapt the budget that it spent to whether spinning paid. */
void shmipc_waitset_learn(const struct shmipc_waitset *set);

#endif
