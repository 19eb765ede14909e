/*
 * hook.h: stands in for atomic.h, so that a hostile peer can act between any two accesses.
 *
 * Included by the command line before every file of the core and of the harness. The operations are
 * the real ones; before each of them fuzz_access() counts, and lets the peer store what its script
 * says. run.py checks that no operation of atomic.h is missing here. syscall(2), which the core
 * uses for futexes and barriers alone, is renamed to fuzz_syscall, so that nothing sleeps.
 */
#ifndef SHMIPC_FUZZ_HOOK_H
#define SHMIPC_FUZZ_HOOK_H

#include "../../src/core/atomic.h"

extern uint64_t fuzz_accesses; /* since the operation began */
extern uint64_t fuzz_next;     /* the access before which the peer acts, or the limit is reached */
void fuzz_peer_acts(void);     /* each target has its own */
void fuzz_misaligned(void);

static inline void fuzz_access(bool aligned)
{
    if (!aligned) {
        fuzz_misaligned();
    }
    if (++fuzz_accesses >= fuzz_next) {
        fuzz_peer_acts();
    }
}

/* No sanitizer looks at the alignment of an atomic access. */
#define FUZZ_ACCESS(object) fuzz_access((uintptr_t)(object) % sizeof *(object) == 0)

#undef shmipc_load_relaxed
#undef shmipc_load_acquire
#undef shmipc_store_relaxed
#undef shmipc_store_release
#undef shmipc_exchange_full
#undef shmipc_compare_exchange_full
#undef shmipc_fetch_or_full
#undef shmipc_fetch_and_full

#define shmipc_load_relaxed(object) \
    (FUZZ_ACCESS(object), atomic_load_explicit((object), memory_order_relaxed))
#define shmipc_load_acquire(object) \
    (FUZZ_ACCESS(object), atomic_load_explicit((object), memory_order_acquire))
#define shmipc_store_relaxed(object, value) \
    (FUZZ_ACCESS(object), atomic_store_explicit((object), (value), memory_order_relaxed))
#define shmipc_store_release(object, value) \
    (FUZZ_ACCESS(object), atomic_store_explicit((object), (value), memory_order_release))
#define shmipc_exchange_full(object, value) \
    (FUZZ_ACCESS(object), atomic_exchange_explicit((object), (value), memory_order_seq_cst))
#define shmipc_compare_exchange_full(object, expected, value)                                     \
    (FUZZ_ACCESS(object),                                                                         \
     atomic_compare_exchange_strong_explicit((object), (expected), (value), memory_order_seq_cst, \
                                             memory_order_relaxed))
#define shmipc_fetch_or_full(object, value) \
    (FUZZ_ACCESS(object), atomic_fetch_or_explicit((object), (value), memory_order_seq_cst))
#define shmipc_fetch_and_full(object, value) \
    (FUZZ_ACCESS(object), atomic_fetch_and_explicit((object), (value), memory_order_seq_cst))

#endif
