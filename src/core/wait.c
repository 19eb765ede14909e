/* wait.c: the system calls behind wait.h. Linux only; another system is another file. */
#define _GNU_SOURCE
#include "wait.h"

#include <errno.h>
#include <linux/futex.h>
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

uint64_t shmipc_wait_barrier(void)
{
    /* S2. The fence orders our own S1 before S3 even where the system call is refused. */
    shmipc_fence_full();
#ifndef SHMIPC_NO_MEMBARRIER
    if (syscall(SYS_membarrier, MEMBARRIER_GLOBAL_EXPEDITED, 0, 0) == 0) {
        return SHMIPC_SLICE_NS;
    }
#endif
    return SHMIPC_BLIND_SLICE_NS;
}

uint64_t shmipc_wait_announce(shmipc_atomic_u32 *sleepers, uint32_t *mark)
{
    *mark = shmipc_wait_mark(sleepers);
    return shmipc_wait_barrier();
}

void shmipc_wait_sleep(shmipc_atomic_u32 *sleepers, uint32_t mark, uint64_t span_ns)
{
    const struct timespec span = span_to_timespec(span_ns);
    /* Not FUTEX_PRIVATE: the waker is another process. Every outcome (woken, EAGAIN, EINTR,
     * ETIMEDOUT) means the same to the caller: look again. */
    (void)syscall(SYS_futex, sleepers, FUTEX_WAIT, mark, &span, NULL, 0);
}

void shmipc_wait_sleep_any(shmipc_atomic_u32 *const *sleepers, const uint32_t *marks,
                           uint32_t count, uint64_t span_ns)
{
    if (count == 1) {
        shmipc_wait_sleep(sleepers[0], marks[0], span_ns);
        return;
    }
    if (count <= FUTEX_WAITV_MAX_WORDS) {
        struct waitv_entry entries[FUTEX_WAITV_MAX_WORDS];
        for (uint32_t i = 0; i < count; i++) {
            entries[i] = (struct waitv_entry){.value = marks[i],
                                              .address = (uint64_t)(uintptr_t)sleepers[i],
                                              .flags = FUTEX_WAITV_32};
        }
        const struct timespec end = span_to_timespec(shmipc_deadline_ns(shmipc_now_ns(), span_ns));
        if (syscall(SYS_futex_waitv, entries, count, 0, &end, CLOCK_MONOTONIC) >= 0 ||
            errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT) {
            return; /* anything else is a refusal: an old kernel's ENOSYS, a container's EPERM */
        }
    }
    shmipc_wait_nap(span_ns < SHMIPC_BLIND_SLICE_NS ? span_ns : SHMIPC_BLIND_SLICE_NS);
}

void shmipc_wait_wake(shmipc_atomic_u32 *sleepers)
{
    /* Full: callers other than a commit (the end of a stream, an interrupt) come here without K2,
     * and what they stored must be visible before the word is read: Dekker with S1. */
    shmipc_fence_full();
    uint32_t word = shmipc_load_relaxed(sleepers);
    if ((word & 1u) != 0) {
        /* K4 <-> S4, before the system call: whoever marked an earlier generation and has not
         * reached futex_wait yet finds another value there and looks again. One try: if it fails,
         * somebody else has stored another value, which does the same; whoever marks that one
         * comes after our fence and sees what we stored. A peer who never stops storing here
         * cannot keep us. */
        (void)shmipc_compare_exchange_full(sleepers, &word, word + 1u);
        (void)syscall(SYS_futex, sleepers, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    }
}

void shmipc_wait_nap(uint64_t span_ns)
{
    const struct timespec span = span_to_timespec(span_ns);
    (void)nanosleep(&span, NULL); /* an early return is a signal: the caller looks */
}

void shmipc_spin_init(struct shmipc_spin *spin, uint64_t limit_ns, bool adaptive)
{
    spin->limit_ns = limit_ns;
    spin->budget_ns = limit_ns;
    spin->short_sleeps = 0;
    spin->adaptive = adaptive;
}

void shmipc_spin_learn(struct shmipc_spin *spin, uint64_t waited_ns, bool slept)
{
    if (!spin->adaptive) {
        return;
    }
    const bool brief = slept && waited_ns <= spin->limit_ns;
    const bool retry = brief && ++spin->short_sleeps >= SHMIPC_SPIN_RETRY;
    if (!slept || retry) {
        spin->budget_ns = spin->limit_ns;
        spin->short_sleeps = 0;
        return;
    }
    spin->budget_ns /= 4;
    if (spin->budget_ns < SHMIPC_SPIN_FLOOR_NS) {
        spin->budget_ns = SHMIPC_SPIN_FLOOR_NS;
    }
}

static bool is_pending(enum shmipc_status status)
{
    return status == SHMIPC_EMPTY || status == SHMIPC_FULL;
}

/* Poll until something is there, the budget is used up, or it is time to look at signals. Pending
 * statuses mean: go on to sleep. */
static enum shmipc_status spin_slice(struct shmipc_wait *wait, const struct shmipc_spin *spin,
                                     uint64_t *now_ns)
{
    const uint64_t budget_end = shmipc_deadline_ns(wait->start_ns, spin->budget_ns);
    const uint64_t slice_end = shmipc_deadline_ns(*now_ns, SHMIPC_SPIN_SLICE_NS);
    enum shmipc_status status = SHMIPC_EMPTY;
    while (*now_ns < budget_end) {
        /* No pause for the first polls: an answer on its way arrives within them. */
        for (int poll = 0; poll < 64; poll++) {
            status = wait->look(wait->self);
            if (!is_pending(status)) {
                return status;
            }
        }
        shmipc_cpu_relax();
        /* Relaxed: a hint, seen soon; whoever set it also clears the sleepers word (K4). */
        if (shmipc_load_relaxed(wait->interrupted) != 0) {
            return SHMIPC_CLOSED;
        }
        *now_ns = shmipc_now_ns();
        if (*now_ns >= wait->deadline_ns) {
            return SHMIPC_TIMEOUT;
        }
        const bool thorough = *now_ns >= *wait->peer_look_ns;
        const enum shmipc_status peer = wait->peer(wait->self, thorough);
        if (thorough) {
            *wait->peer_look_ns = *now_ns + SHMIPC_SLICE_NS;
        }
        if (peer != SHMIPC_OK) {
            return peer;
        }
        if (*now_ns >= slice_end) {
            return SHMIPC_AGAIN;
        }
    }
    return status;
}

static enum shmipc_status sleep_slice(struct shmipc_wait *wait, uint64_t now_ns)
{
    enum shmipc_status status;
    uint32_t mark;
    if (wait->prepare != NULL) {
        wait->prepare(wait->self);
    }
    uint64_t span_ns = shmipc_wait_announce(wait->sleepers, &mark);
    status = wait->look(wait->self);
    if (!is_pending(status)) {
        return status;
    }
    if (shmipc_load_relaxed(wait->interrupted) != 0) {
        return SHMIPC_CLOSED;
    }
    const bool thorough = now_ns >= *wait->peer_look_ns;
    const enum shmipc_status peer = wait->peer(wait->self, thorough);
    if (thorough) {
        *wait->peer_look_ns = now_ns + SHMIPC_SLICE_NS;
    }
    if (peer != SHMIPC_OK) {
        return peer;
    }
    if (wait->deadline_ns - now_ns < span_ns) {
        span_ns = wait->deadline_ns - now_ns;
    }
    wait->sleeps++;
    shmipc_wait_sleep(wait->sleepers, mark, span_ns);
    status = wait->look(wait->self);
    if (!is_pending(status)) {
        return status;
    }
    if (shmipc_load_relaxed(wait->interrupted) != 0) {
        return SHMIPC_CLOSED;
    }
    return SHMIPC_AGAIN;
}

enum shmipc_status shmipc_wait_slice(struct shmipc_wait *wait, struct shmipc_spin *spin)
{
    uint64_t now_ns = shmipc_now_ns();
    if (wait->start_ns == 0) {
        wait->start_ns = now_ns;
    }
    enum shmipc_status status = spin_slice(wait, spin, &now_ns);
    const bool sleeps = is_pending(status) && now_ns < wait->deadline_ns;
    if (is_pending(status) && !sleeps) {
        status = wait->look(wait->self); /* a timeout of 0 has looked at nothing yet */
        status = is_pending(status) ? SHMIPC_TIMEOUT : status;
    } else if (sleeps) {
        status = sleep_slice(wait, now_ns);
    }
    if (status == SHMIPC_OK) {
        shmipc_spin_learn(spin, shmipc_now_ns() - wait->start_ns, sleeps);
    }
    return status;
}
