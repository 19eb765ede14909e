/* fault.c: see fault.h. Everything that the handler calls is async-signal-safe: loads and stores of
 * the list, and plain system calls. */
#define _GNU_SOURCE
#include "fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* The two lowest bits of a watch's state; the rest is a generation, so that no state returns. */
enum { WATCH_FREE = 0, WATCH_CHANGING = 1, WATCH_LIVE = 2, WATCH_STATES = 4 };
#ifndef SHMIPC_FAULT_BLOCK /* a model makes it small */
#define SHMIPC_FAULT_BLOCK 64
#endif
enum { BLOCK_WATCHES = SHMIPC_FAULT_BLOCK };

struct shmipc_fault_watch {
    shmipc_atomic_u64 state;
    shmipc_atomic_u64 base;
    shmipc_atomic_u64 len;
    _Atomic(shmipc_atomic_u32 *) damaged;
};

/* Blocks are never freed: a handler may be walking them. */
struct block {
    struct shmipc_fault_watch watches[BLOCK_WATCHES];
    _Atomic(struct block *) next;
};

/* Where a SIGBUS that is not ours goes. */
enum chain { CHAIN_PREVIOUS, CHAIN_DEFAULT, CHAIN_IGNORE };

static struct block first_block;
static pthread_once_t install_once = PTHREAD_ONCE_INIT;
static struct sigaction previous; /* written before our handler is installed, never again */
static shmipc_atomic_u32 chain = CHAIN_PREVIOUS;
static bool left_alone;
static size_t page_len;

/* ---- the handler ---------------------------------------------------------------------------- */

/* A consistent copy of a live watch. False: free, or changing, and then it is not the one that
 * faulted, which stays as it is while it is touched. */
static bool read_watch(struct shmipc_fault_watch *watch, uint64_t *state, uintptr_t *base,
                       size_t *len, shmipc_atomic_u32 **damaged)
{
    *state = shmipc_load_acquire(&watch->state); /* G1 <-> F1 */
    if (*state % WATCH_STATES != WATCH_LIVE) {
        return false;
    }
    *base = (uintptr_t)shmipc_load_relaxed(&watch->base);
    *len = (size_t)shmipc_load_relaxed(&watch->len);
    *damaged = shmipc_load_relaxed(&watch->damaged);
    shmipc_fence_acquire();
    return shmipc_load_relaxed(&watch->state) == *state;
}

/* Map zeros over the whole range at once: the ring is lost anyhow, and one fault is enough. Where
 * the limits forbid that, over the one page that is needed to go on. */
static bool lay_zeros(uintptr_t base, size_t len, uintptr_t address)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    const int prot = PROT_READ | PROT_WRITE;
    const uintptr_t page = address - address % page_len;
    return mmap((void *)base, len, prot, flags, -1, 0) != MAP_FAILED ||
           mmap((void *)page, page_len, prot, flags, -1, 0) != MAP_FAILED;
}

/* Is the last page of this range gone? Every truncation that can fault takes it. Asked of the
 * system, which answers EFAULT instead of faulting. Where it does not know the question (Linux
 * before 5.14), any call that reads memory will do: this one copies the mask in before it looks at
 * `how`, which is none that exists, so nothing is changed (kernel/signal.c, rt_sigprocmask). */
static bool is_cut(uintptr_t base, size_t len)
{
    const uintptr_t page = base + len - page_len;
    if (madvise((void *)page, page_len, MADV_POPULATE_READ) == 0) {
        return false;
    }
    if (errno != EINVAL) {
        return errno == EFAULT;
    }
    return syscall(SYS_rt_sigprocmask, -1, page, NULL, (size_t)8) != 0 && errno == EFAULT;
}

/* Should this range become zeros? `address` as for repair(). */
static bool is_due(const struct shmipc_fault_watch *watch, uint64_t state, uintptr_t base,
                   size_t len, uintptr_t address)
{
    if (address != 0) {
        return address - base < len; /* it is being touched, so it stays what it is */
    }
    /* Relaxed: the question was a system call. Unmapped meanwhile, it would be somebody else's. */
    return is_cut(base, len) && shmipc_load_relaxed(&watch->state) == state;
}

/* `address` 0: a SIGBUS that another handler raised for a fault (see fault.h): it may be for any
 * range that was truncated. */
static bool repair(uintptr_t address)
{
    bool repaired = false;
    struct block *block = &first_block;
    for (; block != NULL; block = shmipc_load_acquire(&block->next)) {
        for (int i = 0; i < BLOCK_WATCHES; i++) {
            struct shmipc_fault_watch *watch = &block->watches[i];
            uint64_t state;
            uintptr_t base;
            size_t len;
            shmipc_atomic_u32 *damaged;
            if (!read_watch(watch, &state, &base, &len, &damaged)) {
                continue;
            }
            if (address == 0 && shmipc_load_relaxed(damaged) != 0) {
                /* Another thread was quicker while the fault was reported. If it was not this one,
                 * the instruction faults again, and that fault has an address. */
                repaired = true;
            } else if (is_due(watch, state, base, len, address)) {
                shmipc_store_relaxed(damaged, 1u); /* F2 <-> G2: the kernel orders it */
                repaired = lay_zeros(base, len, address != 0 ? address : base) || repaired;
            }
        }
    }
    return repaired;
}

static void set_default(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    (void)sigaction(SIGBUS, &action, NULL);
}

/* As if our handler were not there. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    /* Relaxed: the kernel hands a handler to a thread after the sigaction(2) that installed it, and
     * nothing else is read by what this says. */
    const uint32_t to = shmipc_load_relaxed(&chain);
    const bool sent = info->si_code <= 0; /* by a process; a fault has a positive code */
    const bool ignored =
        to == CHAIN_IGNORE || (to == CHAIN_PREVIOUS && previous.sa_handler == SIG_IGN);
    if (ignored && sent) {
        return;
    }
    if (ignored || to == CHAIN_DEFAULT || previous.sa_handler == SIG_DFL) {
        set_default(); /* a fault comes again when we return, and ends the process */
        if (sent) {
            (void)raise(number);
        }
        return;
    }
    if ((previous.sa_flags & (int)SA_RESETHAND) != 0) {
        set_default();
    }
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
        previous.sa_sigaction(number, info, context);
    } else {
        previous.sa_handler(number);
    }
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    const int reason = errno;
    bool ours = false;
    if (info->si_code == BUS_ADRERR) {
        ours = repair((uintptr_t)info->si_addr);
    } else if (info->si_code == SI_TKILL && info->si_pid == getpid()) {
        ours = repair(0);
    }
    if (!ours) {
        pass_on(number, info, context);
    }
    errno = reason;
}

/* ---- installing ----------------------------------------------------------------------------- */

static bool is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) != 0 && action->sa_sigaction == on_sigbus;
}

static void set_ours(void)
{
    struct sigaction action;
    /* What the predecessor asked for holds for us too: it may be called from here. */
    action = previous;
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | (previous.sa_flags & (SA_NODEFER | SA_RESTART));
    (void)sigaction(SIGBUS, &action, NULL);
}

static void install(void)
{
    const char *wish = getenv("SHMIPC_SIGBUS");
    struct sigaction found;
    page_len = (size_t)sysconf(_SC_PAGESIZE);
    left_alone =
        (wish != NULL && strcmp(wish, "default") == 0) || sigaction(SIGBUS, NULL, &found) != 0;
    if (!left_alone && !is_ours(&found)) { /* a child forked in mid-call comes here again */
        previous = found;
        set_ours();
    }
}

/* Somebody may have set SIGBUS back since (faulthandler.disable() restores what it found). */
static void reinstall(void)
{
    struct sigaction current;
    if (sigaction(SIGBUS, NULL, &current) != 0 || is_ours(&current)) {
        return;
    }
    const bool by_default = (current.sa_flags & SA_SIGINFO) == 0 && current.sa_handler == SIG_DFL;
    const bool ignored = (current.sa_flags & SA_SIGINFO) == 0 && current.sa_handler == SIG_IGN;
    if (by_default || ignored) {
        /* Relaxed: before the system call, see pass_on. */
        shmipc_store_relaxed(&chain, (uint32_t)(by_default ? CHAIN_DEFAULT : CHAIN_IGNORE));
        set_ours();
    }
}

/* ---- the list ------------------------------------------------------------------------------- */

/* A free watch, now changing and ours to fill in. Lock-free, so that a fork in another thread finds
 * no lock taken: at worst its child has one watch less. */
static struct shmipc_fault_watch *claim(struct block *block)
{
    for (int i = 0; i < BLOCK_WATCHES; i++) {
        struct shmipc_fault_watch *watch = &block->watches[i];
        uint64_t state = shmipc_load_relaxed(&watch->state); /* relaxed: the exchange decides */
        /* Acquire <-> unwatch: the fields' last values come before ours for everybody, F3. */
        if (state % WATCH_STATES == WATCH_FREE &&
            shmipc_compare_exchange_acquire(&watch->state, &state, state + WATCH_CHANGING)) {
            shmipc_fence_release(); /* F1: the state before the fields that change */
            return watch;
        }
    }
    return NULL;
}

static struct block *next_block(struct block *block)
{
    struct block *next = shmipc_load_acquire(&block->next);
    if (next == NULL) {
        struct block *fresh = calloc(1, sizeof *fresh);
        if (fresh == NULL) {
            return NULL;
        }
        /* Release <-> the acquires of `next`: a walk that reaches it finds it zeroed. */
        if (shmipc_compare_exchange_release(&block->next, &next, fresh)) {
            return fresh;
        }
        free(fresh); /* another thread was quicker: `next` is its block */
        next = shmipc_load_acquire(&block->next);
    }
    return next;
}

bool shmipc_fault_watch(void *base, size_t len, shmipc_atomic_u32 *damaged,
                        struct shmipc_fault_watch **watch)
{
    *watch = NULL;
    (void)pthread_once(&install_once, install);
    if (left_alone) {
        return true;
    }
    reinstall();
    struct block *block = &first_block;
    struct shmipc_fault_watch *found = claim(block);
    while (found == NULL && (block = next_block(block)) != NULL) {
        found = claim(block);
    }
    if (found == NULL) {
        return false;
    }
    /* F1 <-> G1. Relaxed: the state's release makes them visible. */
    shmipc_store_relaxed(&found->base, (uint64_t)(uintptr_t)base);
    shmipc_store_relaxed(&found->len, (uint64_t)len);
    shmipc_store_relaxed(&found->damaged, damaged);
    const uint64_t state = shmipc_load_relaxed(&found->state); /* ours since the claim */
    shmipc_store_release(&found->state, state - WATCH_CHANGING + WATCH_LIVE);
    *watch = found;
    return true;
}

void shmipc_fault_unwatch(struct shmipc_fault_watch *watch)
{
    if (watch != NULL) {
        /* The next generation's free state; nobody else changes a live one. F3. For handlers
         * relaxed would do: what may be mapped here next comes after the kernel's munmap. */
        const uint64_t state = shmipc_load_relaxed(&watch->state);
        shmipc_store_release(&watch->state, state - WATCH_LIVE + WATCH_STATES);
    }
}
