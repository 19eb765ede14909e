/*
 * atomic.h: the only way the core touches shared memory that somebody else may be touching.
 *
 * Owns:     names for the C11 operations we use, and the asymmetric barrier pair. A checker (a
 *           model, an interleaver) may stand in for this file, so nothing else in the core calls
 *           <stdatomic.h>.
 * Must not know: what any field means. The argument for each order is at its use, and the pairs
 *           are tabled in ring.h and wait.h.
 */
#ifndef SHMIPC_ATOMIC_H
#define SHMIPC_ATOMIC_H

#include "layout.h"

#include <stdbool.h>

#if defined(__STDC_NO_ATOMICS__)
#error "shmipc needs C11 atomics: build with gcc or clang"
#endif

#define shmipc_load_relaxed(object) atomic_load_explicit((object), memory_order_relaxed)
#define shmipc_load_acquire(object) atomic_load_explicit((object), memory_order_acquire)
#define shmipc_store_relaxed(object, value) \
    atomic_store_explicit((object), (value), memory_order_relaxed)
#define shmipc_store_release(object, value) \
    atomic_store_explicit((object), (value), memory_order_release)
#define shmipc_compare_exchange_relaxed(object, expected, value)                                 \
    atomic_compare_exchange_strong_explicit((object), (expected), (value), memory_order_relaxed, \
                                            memory_order_relaxed)
#define shmipc_compare_exchange_acquire(object, expected, value)                                 \
    atomic_compare_exchange_strong_explicit((object), (expected), (value), memory_order_acquire, \
                                            memory_order_relaxed)
#define shmipc_compare_exchange_release(object, expected, value)                                 \
    atomic_compare_exchange_strong_explicit((object), (expected), (value), memory_order_release, \
                                            memory_order_relaxed)
#define shmipc_exchange_acquire(object, value) \
    atomic_exchange_explicit((object), (value), memory_order_acquire)
#define shmipc_fetch_add_relaxed(object, value) \
    atomic_fetch_add_explicit((object), (value), memory_order_relaxed)
#define shmipc_fetch_sub_release(object, value) \
    atomic_fetch_sub_explicit((object), (value), memory_order_release)
#define shmipc_fetch_or_relaxed(object, value) \
    atomic_fetch_or_explicit((object), (value), memory_order_relaxed)
#define shmipc_fetch_and_release(object, value) \
    atomic_fetch_and_explicit((object), (value), memory_order_release)

/* ThreadSanitizer does not model stand-alone fences (gcc says so with -Wtsan). It is given an
 * update of one common word in their place: stronger than a fence, so that it reports no race that
 * a fence rules out; what the fences themselves order is shown by tests/trials/model. */
#if defined(__SANITIZE_THREAD__)
#define SHMIPC_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHMIPC_UNDER_TSAN 1
#endif
#endif

#ifdef SHMIPC_UNDER_TSAN
/* ... and it wants the copy that an "overwrite" reader validates afterwards word by word. */
#define SHMIPC_COPY_BY_WORD 1
__attribute__((weak)) shmipc_atomic_u32 shmipc_tsan_fence_word;
#define SHMIPC_FENCE(order) \
    ((void)atomic_fetch_add_explicit(&shmipc_tsan_fence_word, 1u, memory_order_seq_cst))
#else
#define SHMIPC_FENCE(order) atomic_thread_fence(order)
#endif

/* A relaxed load whose acquire is a fence further down: for ThreadSanitizer, its own. */
#ifdef SHMIPC_UNDER_TSAN
#define shmipc_load_before_fence(object) shmipc_load_acquire(object)
#else
#define shmipc_load_before_fence(object) shmipc_load_relaxed(object)
#endif

static inline void shmipc_fence_acquire(void)
{
    SHMIPC_FENCE(memory_order_acquire);
}

static inline void shmipc_fence_release(void)
{
    SHMIPC_FENCE(memory_order_release);
}

static inline void shmipc_fence_full(void)
{
    SHMIPC_FENCE(memory_order_seq_cst);
}

/* Between a copy and the look at whether the pages that were copied had been replaced by zeros, by
 * this thread's signal handler or another's (fault.h): an acquire fence, on x86-64 the compiler's
 * part alone. ThreadSanitizer sees no page tables: in its common word this would order all that
 * the ring orders, and hide its races. */
static inline void shmipc_fence_copied(void)
{
#ifdef SHMIPC_UNDER_TSAN
    atomic_signal_fence(memory_order_seq_cst);
#else
    atomic_thread_fence(memory_order_acquire);
#endif
}

/*
 * The light half of an asymmetric store->load barrier: keeps the compiler from moving the load of
 * a sleepers word above the store of a position. The processor's half is done by the sleeper's
 * membarrier(2) (wait.h), which makes every running thread of every registered process execute a
 * full barrier. Where this process could not register, `asymmetric` is false and the light half is
 * a full fence itself.
 */
static inline void shmipc_barrier_light(bool asymmetric)
{
    if (__builtin_expect(asymmetric, 1)) {
        atomic_signal_fence(memory_order_seq_cst);
    } else {
        shmipc_fence_full();
    }
}

#define SHMIPC_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define SHMIPC_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* Tell the processor that this is a spin loop. Its length differs by a factor of six between
 * processors, so it is never used as a unit of time. */
static inline void shmipc_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#else
#error "shmipc: name the spin-loop hint of this processor here"
#endif
}

/* Ask for a line to be written soon. The consumer has read it, so the write would wait for it to
 * come back; asked for early, many come at once. prefetchw is a hint on every x86-64. */
static inline void shmipc_prefetch_for_write(const void *address)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)address));
#else
    __builtin_prefetch(address, 1, 3);
#endif
}

/* Ask for a line to be read soon. A hint: any address will do. */
static inline void shmipc_prefetch_for_read(const void *address)
{
    __builtin_prefetch(address, 0, 3);
}

/* A counter of the processor's, of no known unit. Read after what a branch before it depends on has
 * been loaded; on x86, after every load before it. */
static inline uint64_t shmipc_cpu_ticks(void)
{
#if defined(__x86_64__)
    __builtin_ia32_lfence();
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
    return ticks;
#else
#error "shmipc: name the cycle counter of this processor here"
#endif
}

/* Stay off a contended line for more than that, but no longer than 128 readings of the counter
 * take, a few microseconds: what was measured may have been interrupted. */
static inline void shmipc_cpu_linger(uint64_t ticks)
{
    const uint64_t start = shmipc_cpu_ticks();
    for (int turn = 0; turn < 128 && shmipc_cpu_ticks() - start <= ticks; turn++) {
    }
}

#endif
