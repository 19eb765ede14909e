/*
 * hook.h: stands in for atomic.h, so that a hostile peer can act between any two accesses.
 *
 * Included by the command line before every file of the core and of the harness. The operations are
 * the real ones; before each of them fuzz_access() counts, and lets the peer store what its script
 * says. run.py checks that no operation of atomic.h is missing here. syscall(2), by which
 * the core reaches futexes and barriers, is renamed to fuzz_syscall, so that nothing sleeps.
 */
#ifndef SHMIPC_FUZZ_HOOK_H
#define SHMIPC_FUZZ_HOOK_H

#include "../../../src/core/base/atomic.h"

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
#undef shmipc_load_before_fence
#undef shmipc_load_acquire
#undef shmipc_store_relaxed
#undef shmipc_store_release
#undef shmipc_compare_exchange_relaxed
#undef shmipc_compare_exchange_acquire
#undef shmipc_compare_exchange_release
#undef shmipc_exchange_acquire
#undef shmipc_fetch_add_relaxed
#undef shmipc_fetch_sub_release
#undef shmipc_fetch_or_relaxed
#undef shmipc_fetch_and_release

#define shmipc_load_relaxed(object) \
    (FUZZ_ACCESS(object), atomic_load_explicit((object), memory_order_relaxed))
#define shmipc_load_acquire(object) \
    (FUZZ_ACCESS(object), atomic_load_explicit((object), memory_order_acquire))
#define shmipc_load_before_fence(object) shmipc_load_relaxed(object)
#define shmipc_store_relaxed(object, value) \
    (FUZZ_ACCESS(object), atomic_store_explicit((object), (value), memory_order_relaxed))
#define shmipc_store_release(object, value) \
    (FUZZ_ACCESS(object), atomic_store_explicit((object), (value), memory_order_release))
#define FUZZ_COMPARE_EXCHANGE(object, expected, value, order)                                    \
    (FUZZ_ACCESS(object), atomic_compare_exchange_strong_explicit((object), (expected), (value), \
                                                                  (order), memory_order_relaxed))
#define shmipc_compare_exchange_relaxed(object, expected, value) \
    FUZZ_COMPARE_EXCHANGE(object, expected, value, memory_order_relaxed)
#define shmipc_compare_exchange_acquire(object, expected, value) \
    FUZZ_COMPARE_EXCHANGE(object, expected, value, memory_order_acquire)
#define shmipc_compare_exchange_release(object, expected, value) \
    FUZZ_COMPARE_EXCHANGE(object, expected, value, memory_order_release)
#define shmipc_exchange_acquire(object, value) \
    (FUZZ_ACCESS(object), atomic_exchange_explicit((object), (value), memory_order_acquire))
#define shmipc_fetch_add_relaxed(object, value) \
    (FUZZ_ACCESS(object), atomic_fetch_add_explicit((object), (value), memory_order_relaxed))
#define shmipc_fetch_sub_release(object, value) \
    (FUZZ_ACCESS(object), atomic_fetch_sub_explicit((object), (value), memory_order_release))
#define shmipc_fetch_or_relaxed(object, value) \
    (FUZZ_ACCESS(object), atomic_fetch_or_explicit((object), (value), memory_order_relaxed))
#define shmipc_fetch_and_release(object, value) \
    (FUZZ_ACCESS(object), atomic_fetch_and_explicit((object), (value), memory_order_release))

#endif
