/*
 * waitset.h: wait for any of several consumers: the one way that shmipc.wait() of Python,
 * shmipc_wait() of C and the Dispatcher have.
 *
 * Owns:     the look at every member, how long to spin, the sleep on all their words.
 * Must not know: how a thread comes to be inside its handles, the GIL, Python.
 * May be included by: src/binding, src/api, tests.
 *
 * Threads: one at a time in one set. While a slice lasts it is inside every member, as a wait on
 * one consumer is.
 *
 * A wait is begin, slices until one says something else than AGAIN, and learn after OK. A slice is
 * a spin, where budget is left, or else a sleep; who has to do something in between (the Dispatcher
 * lets go of the GIL only to sleep) calls the two halves.
 */
#ifndef SHMIPC_WAITSET_H
#define SHMIPC_WAITSET_H

#include "consumer.h"
#include "../wait/wait.h"

#include <stddef.h>

struct shmipc_waitset {
    uint32_t count;
    bool yields; /* give the processor away once before the first sleep */
    bool slept;  /* out: this wait went on to sleep */
    uint64_t start_ns;
    struct shmipc_spin *spin; /* whose budget is spent; NULL: the largest of the members' */
    /* `count` entries each, in the caller's memory. */
    struct shmipc_consumer_role **roles; /* in */
    bool *ready;                         /* out, of a slice that said OK */
    shmipc_atomic_u32 **words;           /* scratch, as are the marks */
    uint32_t *marks;
};

/* Bytes that a set of `count` takes. */
static inline size_t shmipc_waitset_size(size_t count)
{
    return count * (sizeof(struct shmipc_consumer_role *) + sizeof(shmipc_atomic_u32 *) +
                    sizeof(uint32_t) + sizeof(bool));
}

/* Lay the arrays for `count` out in `memory`, which is aligned as for a pointer. The roles are the
 * caller's to fill in. */
static inline void shmipc_waitset_place(struct shmipc_waitset *set, void *memory, uint32_t count)
{
    set->roles = memory;
    set->words = (shmipc_atomic_u32 **)(void *)(set->roles + count);
    set->marks = (uint32_t *)(void *)(set->words + count);
    set->ready = (bool *)(void *)(set->marks + count);
    set->count = count;
}

static inline void shmipc_waitset_begin(struct shmipc_waitset *set)
{
    set->start_ns = shmipc_now_ns();
    set->slept = false;
}

/* Look at every member and, once in SHMIPC_SLICE_NS for each 128 members, at their producers'
 * locks. Fills in `ready`: data, the end, an error, or somebody who calls this one out. */
bool shmipc_waitset_look(struct shmipc_waitset *set, uint64_t now_ns);

/* Poll for up to `most_ns` of what is left of the budget. OK: somebody has something (`ready` is
 * not filled in); AGAIN: that time is over; EMPTY: the budget is, or the deadline has come. */
enum shmipc_status shmipc_waitset_spin(struct shmipc_waitset *set, uint64_t deadline_ns,
                                       uint64_t most_ns);

/* One slice of sleep, SHMIPC_SLICE_NS at most. OK (`ready` is filled in, but where it yields),
 * TIMEOUT, AGAIN. Blocking; the GIL must not be held. */
enum shmipc_status shmipc_waitset_sleep(struct shmipc_waitset *set, uint64_t deadline_ns);

/* One slice of either. OK (`ready` is filled in), TIMEOUT, AGAIN. Blocking; the GIL must not be
 * held. Not for a set that yields. */
enum shmipc_status shmipc_waitset_slice(struct shmipc_waitset *set, uint64_t deadline_ns);

/* The wait has ended with OK: let whoever's budget it was know whether spinning was worth it. */
void shmipc_waitset_learn(const struct shmipc_waitset *set);

#endif
