/* handle.c: see handle.h. */
#define _GNU_SOURCE
#include "handle.h"

#include "../core/segment/descriptor.h"

#include "../core/segment/segment.h"
#include "../core/wait/wait.h"
#include "cancel.h"

#include <sched.h>
#include <string.h>

#define NOBODY ((uintptr_t)0)
#define CLOSE_NAP_NS UINT64_C(50000)
#define YIELDS 100

void shmipc_handle_init(struct shmipc_handle *handle, uint32_t tag, const char *name,
                        bool asymmetric, const bool *forked,
                        void (*interrupt)(struct shmipc_handle *handle))
{
    memcpy(handle->name, name, strnlen(name, sizeof handle->name - 1)); /* the rest is 0 */
    handle->asymmetric = asymmetric;
    handle->forked = forked;
    handle->forks = shmipc_fork_count();
    handle->interrupt = interrupt;
    /* Relaxed, all: nobody else has the pointer yet. */
    shmipc_store_relaxed(&handle->entries[0].thread, shmipc_thread_self());
    shmipc_store_relaxed(&handle->current, &handle->entries[0]);
    shmipc_store_relaxed(&handle->admitted, &handle->entries[0]);
    shmipc_store_relaxed(&handle->tag, tag);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static bool is_consumer(uint32_t tag)
{
    return tag == SHMIPC_TAG_CONSUMER || tag == SHMIPC_TAG_CONSUMER_CLOSED;
}

static const char *called(uint32_t tag)
{
    switch (tag) {
    case SHMIPC_TAG_PRODUCER:
    case SHMIPC_TAG_PRODUCER_CLOSED:
        return "a producer";
    case SHMIPC_TAG_CONSUMER:
    case SHMIPC_TAG_CONSUMER_CLOSED:
        return "a consumer";
    case SHMIPC_TAG_FRAME:
        return "a frame";
    case SHMIPC_TAG_FREED:
        return "a handle that was freed";
    default:
        return "no handle of shmipc's";
    }
}

static bool is_kind(const struct shmipc_handle *handle, uint32_t tag)
{
    /* Relaxed: the kind is for life; whether it is open is decided elsewhere. */
    const uint32_t found = shmipc_load_relaxed(&handle->tag);
    return is_consumer(tag) ? is_consumer(found)
                            : found == SHMIPC_TAG_PRODUCER || found == SHMIPC_TAG_PRODUCER_CLOSED;
}

/* Is it a pointer to a handle of this kind at all? A result. */
static int check_kind(const struct shmipc_handle *handle, uint32_t tag)
{
    if (handle == NULL) {
        return shmipc_result_fail(SHMIPC_E_INVALID, "the %s is NULL: was it opened?",
                                  is_consumer(tag) ? "consumer" : "producer");
    }
    /* Relaxed: for the text only. */
    return is_kind(handle, tag)
               ? SHMIPC_SUCCESS
               : shmipc_result_fail(SHMIPC_E_INVALID, "this is %s, not %s",
                                    called(shmipc_load_relaxed(&handle->tag)), called(tag));
}

static int refuse_closed(const struct shmipc_handle *handle)
{
    return shmipc_result_fail(
        SHMIPC_E_CLOSED, "this handle of ring \"%s\" was closed: open a new one", handle->name);
}

static int refuse_forked(const struct shmipc_handle *handle)
{
    return shmipc_result_fail(
        SHMIPC_E_MISUSE,
        "this handle of ring \"%s\" belongs to the parent process: open one by name in the child",
        handle->name);
}

static int refuse_second(const struct shmipc_handle *handle)
{
    return shmipc_result_fail(SHMIPC_E_MISUSE,
                              "another thread is using this handle of ring \"%s\": a handle serves "
                              "one thread at a time. Lock around it, or open one a thread",
                              handle->name);
}

/* A forked child's copy: also of a handle that was closed, or was being closed. */
static bool is_forked(const struct shmipc_handle *handle)
{
    return *handle->forked || handle->forks != shmipc_fork_count();
}

/* ---- entering ------------------------------------------------------------------------------- */

void shmipc_handle_pause(uint32_t *turns)
{
    if (++*turns < YIELDS) {
        (void)sched_yield();
    } else {
        shmipc_wait_nap(CLOSE_NAP_NS); /* a yield leads nowhere from a higher priority */
    }
}

void shmipc_handle_lock(struct shmipc_handle *handle)
{
    uint32_t expected = 0;
    uint32_t turns = 0;
    while (!shmipc_compare_exchange_acquire(&handle->lock, &expected, 1u)) { /* L */
        expected = 0;
        shmipc_handle_pause(&turns);
    }
}

void shmipc_handle_unlock(struct shmipc_handle *handle)
{
    shmipc_store_release(&handle->lock, 0u); /* L */
}

static bool is_common(const struct shmipc_handle *handle)
{
    return shmipc_load_acquire(&handle->current) == &handle->common; /* C */
}

/* How every thread enters the common entry. */
static bool take_common(struct shmipc_handle *handle)
{
    uintptr_t expected = NOBODY;
    return shmipc_compare_exchange_acquire(&handle->common.busy, &expected, shmipc_thread_self());
}

bool shmipc_handle_keep_out(struct shmipc_handle *handle)
{
    /* Relaxed, both: the lock's holder alone changes them. */
    struct shmipc_entry *entry = shmipc_load_relaxed(&handle->current);
    if (handle->closed) {
        return true; /* and stays so */
    }
    shmipc_store_relaxed(&handle->admitted, NULL); /* T1 */
    shmipc_fence_full();                           /* T2 <-> H2, and callers */
    if (entry == &handle->common) {
        return take_common(handle);
    }
    if (handle->asymmetric && !shmipc_membarrier()) {
        /* It could be had when the handle was opened, and cannot now. No store stays in a buffer
         * as long as this. */
        shmipc_wait_nap(SHMIPC_BLIND_SLICE_NS);
    }
    if (shmipc_load_acquire(&entry->busy) != NOBODY) { /* T3 <-> H4 */
        shmipc_handle_readmit(handle);
        return false;
    }
    if (++handle->handovers > SHMIPC_MAX_HANDOVERS) {
        (void)take_common(handle);                               /* nobody else can, yet */
        shmipc_store_release(&handle->current, &handle->common); /* C */
    }
    return true;
}

void shmipc_handle_readmit(struct shmipc_handle *handle)
{
    /* Relaxed: the lock's holder alone changes it. */
    struct shmipc_entry *entry = shmipc_load_relaxed(&handle->current);
    if (handle->closed) {
        return;
    }
    if (entry == &handle->common) {
        shmipc_store_release(&handle->common.busy, NOBODY); /* as H4 */
    } else {
        shmipc_store_release(&handle->admitted, entry); /* T4 <-> H3 */
    }
}

/* A thread is inside: is it this one, which a signal handler interrupted, or another? */
static int refuse_busy(const struct shmipc_handle *handle)
{
    /* Relaxed, both: we hold the lock that `current` is changed under; and of busy we ask only
     * whether it is a store of this thread's own. */
    const struct shmipc_entry *entry = shmipc_load_relaxed(&handle->current);
    return shmipc_load_relaxed(&entry->busy) == shmipc_thread_self()
               ? shmipc_result_fail(SHMIPC_E_MISUSE,
                                    "this handle of ring \"%s\" is in the middle of a call: what "
                                    "runs inside it (a signal handler) cannot use it",
                                    handle->name)
               : refuse_second(handle);
}

/* Holding the lock, all others kept out: this thread's entry. */
static struct shmipc_entry *find_entry(struct shmipc_handle *handle, uintptr_t self)
{
    /* Relaxed, both: the lock orders who changes an entry's thread. Who reads it without the lock
     * is its thread, or is not: it never becomes another's. */
    for (int i = 0; i < SHMIPC_ENTRIES; i++) {
        const uintptr_t thread = shmipc_load_relaxed(&handle->entries[i].thread);
        if (thread == self || thread == NOBODY) {
            shmipc_store_relaxed(&handle->entries[i].thread, self);
            return &handle->entries[i];
        }
    }
    return &handle->common;
}

/* Holding the lock, all others kept out: enter. */
static void move_in(struct shmipc_handle *handle)
{
    const uintptr_t self = shmipc_thread_self();
    /* Relaxed: the lock's holder alone changes it. */
    if (shmipc_load_relaxed(&handle->current) == &handle->common) {
        return; /* and its busy is ours */
    }
    struct shmipc_entry *entry = find_entry(handle, self);
    shmipc_store_relaxed(&entry->busy, self); /* relaxed: seen with the next (C), or by the lock */
    shmipc_store_release(&handle->current, entry); /* C */
    if (entry != &handle->common) {
        shmipc_store_release(&handle->admitted, entry); /* T4 <-> H3 */
    }
}

int shmipc_handle_take(struct shmipc_handle *handle, uint32_t tag)
{
    int result = check_kind(handle, tag);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    /* Relaxed: once closed it stays so; that it is open is looked at again under the lock, or shown
     * by the common entry's being free. */
    if (shmipc_load_relaxed(&handle->tag) != tag) {
        return refuse_closed(handle);
    }
    if (is_forked(handle)) {
        return refuse_forked(handle); /* not the lock: its holder stayed in the parent */
    }
    if (is_common(handle) && take_common(handle)) {
        return SHMIPC_SUCCESS; /* a close would never readmit us, so it is not closed yet */
    }
    SHMIPC_UNCANCELLED();       /* it may nap, with the lock held */
    shmipc_handle_lock(handle); /* threads that only keep us out hold it briefly */
    /* Relaxed: changed under the lock. */
    if (shmipc_load_relaxed(&handle->tag) != tag) {
        result = refuse_closed(handle);
    } else if (shmipc_handle_keep_out(handle)) {
        move_in(handle);
    } else {
        result = refuse_busy(handle);
    }
    shmipc_handle_unlock(handle);
    return result;
}

/* ---- closing -------------------------------------------------------------------------------- */

int shmipc_handle_begin_close(struct shmipc_handle *handle, uint32_t tag, uint32_t closed_tag,
                              bool *already)
{
    const int result = check_kind(handle, tag);
    *already = false;
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    if (is_forked(handle)) {
        /* A thread that held the lock, called or was inside stayed in the parent, perhaps in the
         * middle of closing: so what is to be undone here is looked for again, closed or not.
         * Relaxed, all: no thread that these words were for is in this process. */
        shmipc_store_relaxed(&handle->lock, 1u);
        shmipc_store_relaxed(&handle->callers, 0u);
        shmipc_store_relaxed(&handle->tag, closed_tag);
        handle->closed = true;
        return SHMIPC_SUCCESS;
    }
    shmipc_handle_lock(handle);
    /* Relaxed, these three: tag and current are changed under the lock; and of busy we ask only
     * whether it is a store of this thread's own. */
    if (shmipc_load_relaxed(&handle->tag) == closed_tag) {
        *already = true;
        return SHMIPC_SUCCESS;
    }
    const struct shmipc_entry *entry = shmipc_load_relaxed(&handle->current);
    if (shmipc_load_relaxed(&entry->busy) == shmipc_thread_self()) {
        shmipc_handle_unlock(handle);
        return shmipc_result_fail(SHMIPC_E_MISUSE,
                                  "this handle of ring \"%s\" is in the middle of a call: what "
                                  "runs inside it (a signal handler) cannot close it",
                                  handle->name);
    }
    shmipc_store_relaxed(&handle->tag, closed_tag); /* T2, which comes next, orders it */
    while (!shmipc_handle_keep_out(handle)) {
        handle->interrupt(handle);
        shmipc_wait_nap(CLOSE_NAP_NS);
    }
    handle->closed = true;
    shmipc_handle_await_callers(handle);
    return SHMIPC_SUCCESS;
}

/* ---- from outside --------------------------------------------------------------------------- */

bool shmipc_handle_call(struct shmipc_handle *handle, uint32_t tag)
{
    (void)shmipc_fetch_add_relaxed(&handle->callers, 1u);
    /* <-> the one in keep_out: one of us sees the other, so both words may be relaxed. */
    shmipc_fence_full();
    return shmipc_load_relaxed(&handle->tag) == tag;
}

void shmipc_handle_depart(struct shmipc_handle *handle)
{
    /* Release <-> await_callers: what was done here comes before what is undone there. */
    (void)shmipc_fetch_sub_release(&handle->callers, 1u);
}

void shmipc_handle_await_callers(struct shmipc_handle *handle)
{
    uint32_t turns = 0;
    while (shmipc_load_acquire(&handle->callers) != 0) { /* <-> depart */
        shmipc_handle_pause(&turns);
    }
}

int shmipc_handle_interrupt(struct shmipc_handle *handle, uint32_t tag)
{
    /* No texts: a signal handler may be the caller. */
    if (handle == NULL || !is_kind(handle, tag)) {
        return SHMIPC_E_INVALID;
    }
    if (is_forked(handle)) {
        return SHMIPC_E_MISUSE;
    }
    const bool open = shmipc_handle_call(handle, tag);
    if (open) {
        shmipc_store_relaxed(&handle->called_out, 1u); /* relaxed: the fence orders it */
        /* <-> take_interrupt's: before the core's flag, which makes the waiter look at this one. */
        shmipc_fence_full();
        handle->interrupt(handle);
    }
    shmipc_handle_depart(handle);
    return open ? SHMIPC_SUCCESS : SHMIPC_E_CLOSED;
}
