/* futex.c: the system calls behind wait.h. Linux only; another system is another file, and so is a
 * model's. */
#define _GNU_SOURCE
#include "wait.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* From linux/membarrier.h and linux/futex.h, which older build systems lack. */
enum { MEMBARRIER_GLOBAL_EXPEDITED = 1 << 1, MEMBARRIER_REGISTER_GLOBAL_EXPEDITED = 1 << 2 };
enum { FUTEX_WAITV_MAX_WORDS = 128, FUTEX_WAITV_32 = 2 };
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_membarrier
#error "shmipc: this system's headers do not number membarrier(2)"
#endif

struct waitv_entry {
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};

static struct timespec span_to_timespec(uint64_t span_ns)
{
    const uint64_t second = UINT64_C(1000000000);
    return (struct timespec){.tv_sec = (time_t)(span_ns / second),
                             .tv_nsec = (long)(span_ns % second)};
}

uint64_t shmipc_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

bool shmipc_wait_register(void)
{
#ifdef SHMIPC_NO_MEMBARRIER /* lets a test run the fenced path on a kernel that has the call */
    return false;
#else
    return syscall(SYS_membarrier, MEMBARRIER_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
#endif
}

bool shmipc_membarrier(void)
{
#ifdef SHMIPC_NO_MEMBARRIER
    return false;
#else
    return syscall(SYS_membarrier, MEMBARRIER_GLOBAL_EXPEDITED, 0, 0) == 0;
#endif
}

void shmipc_futex_wake(shmipc_atomic_u32 *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void shmipc_wait_sleep(shmipc_atomic_u32 *sleepers, uint32_t mark, uint64_t span_ns)
{
    const struct timespec span = span_to_timespec(span_ns);
    /* Not FUTEX_PRIVATE: the waker is another process. Every outcome (woken, EAGAIN, EINTR,
     * ETIMEDOUT) means the same to the caller: look again. */
    (void)syscall(SYS_futex, sleepers, FUTEX_WAIT, mark, &span, NULL, 0);
}

/* The kernel sleeps on all the words for us. False: it refuses, as an old one does (ENOSYS) or a
 * container (EPERM). */
static bool try_sleep_on_all(shmipc_atomic_u32 *const *sleepers, const uint32_t *marks,
                             uint32_t count, uint64_t span_ns)
{
    struct waitv_entry entries[FUTEX_WAITV_MAX_WORDS];
    if (count > FUTEX_WAITV_MAX_WORDS) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct waitv_entry){.value = marks[i],
                                          .address = (uint64_t)(uintptr_t)sleepers[i],
                                          .flags = FUTEX_WAITV_32};
    }
    const struct timespec end = span_to_timespec(shmipc_deadline_ns(shmipc_now_ns(), span_ns));
    return syscall(SYS_futex_waitv, entries, count, 0, &end, CLOCK_MONOTONIC) >= 0 ||
           errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT;
}

static bool is_any_changed(shmipc_atomic_u32 *const *sleepers, const uint32_t *marks,
                           uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        /* Relaxed, as the kernel's own look in S4: K4 changed it, and the caller marks, fences and
         * looks for what that was before it sleeps again. */
        if (shmipc_load_relaxed(sleepers[i]) != marks[i]) {
            return true;
        }
    }
    return false;
}

void shmipc_wait_sleep_any(shmipc_atomic_u32 *const *sleepers, const uint32_t *marks,
                           uint32_t count, uint64_t span_ns)
{
    if (count == 1) {
        shmipc_wait_sleep(sleepers[0], marks[0], span_ns);
        return;
    }
    if (try_sleep_on_all(sleepers, marks, count, span_ns)) {
        return;
    }
    /* A waker finds an odd word and counts it on, whether or not the kernel knows of a sleeper. A
     * look at the words between two naps costs a tenth of a call with 128 of them. */
    const uint64_t most_ns =
        count > FUTEX_WAITV_MAX_WORDS ? SHMIPC_LONGEST_NAP_NS : SHMIPC_BLIND_SLICE_NS;
    uint64_t nap_ns = SHMIPC_SHORTEST_NAP_NS;
    while (span_ns != 0 && !is_any_changed(sleepers, marks, count)) {
        const struct timespec nap = span_to_timespec(nap_ns < span_ns ? nap_ns : span_ns);
        if (nanosleep(&nap, NULL) != 0) {
            return; /* a signal: the caller looks */
        }
        span_ns -= nap_ns < span_ns ? nap_ns : span_ns;
        nap_ns = nap_ns * 2 < most_ns ? nap_ns * 2 : most_ns;
    }
}

void shmipc_wait_nap(uint64_t span_ns)
{
    const struct timespec span = span_to_timespec(span_ns);
    (void)nanosleep(&span, NULL); /* an early return is a signal: the caller looks */
}
