/*
 * wait.h: sleep until another process stores a position, and wake those that sleep.
 *
 * Owns:     the sleepers words, the asymmetric barrier, futex(2), the clock, the spin budget.
 * Must not know: rings, segments, roles. A caller passes a word and looks for itself whether what
 *           it waits for has come.
 *
 * A word is a generation with a flag in its lowest bit: odd while somebody may be asleep on it.
 * Waking costs one relaxed load of a line nobody writes while nobody sleeps.
 *
 *   sleeper                                    waker
 *   S1 mark = (sleepers |= 1)      (relaxed)    K1 position = new            (release)
 *   S2 fence, membarrier(GLOBAL_EXPEDITED)            K2 light barrier             (compiler only)
 *   S3 position? ready: leave                  K3 sleepers even: nothing to do (relaxed)
 *   S4 futex_wait(sleepers == mark)            K4 full fence, sleepers += 1 (CAS), futex_wake
 *
 * The lost wake-up this prevents: K1 still sits in the waker's store buffer while its K3 reads an
 * even word; the sleeper stores S1, reads the old position in S3, and sleeps for ever. S2 makes
 * every running thread of every registered process execute a full barrier after S1 and before S3.
 * For each waker that barrier falls either before its K3 or after it:
 *   - before K3: then S1 is visible to K3, which reads an odd word and wakes;
 *   - after K3:  then K1, earlier in program order, was made visible by it, and S3 sees it.
 * A waker that was not running at S2 passed through the scheduler, which is a full barrier too. So
 * a commit pays no fence (it would cost it its store buffer, not just 4 ns), and the one about to
 * sleep, which has time, pays for both. Weaker is wrong: without S2 this is Dekker on release/
 * acquire, and x86 itself reorders K1 and K3.
 *
 * Between S1 and S4 a waker may have come (K4): the word has then another generation, futex_wait
 * returns at once (EAGAIN) and the sleeper looks again. That must hold even if a third process
 * marks the word once more in between, which is why a plain flag will not do: the first sleeper
 * would find its 1 back and sleep over data that is there. A word left odd by a sleeper that found
 * something in S3 costs the next waker one idle futex_wake, and nothing else. A generation returns
 * after 2^31 wake-ups; a sleeper stopped for exactly that many loses one slice.
 *
 * Where membarrier is refused (old kernel, seccomp, an emulator), a waker that cannot register
 * makes K2 a full fence, which is Dekker done right; a sleeper that cannot call it bounds its
 * sleep to SHMIPC_BLIND_SLICE_NS, because its S2 then orders only itself.
 */
#ifndef SHMIPC_WAIT_H
#define SHMIPC_WAIT_H

#include "../base/atomic.h"
#include "../base/error.h"
#include "../base/step.h"

#include <stdbool.h>
#include <stdint.h>

#define SHMIPC_NEVER UINT64_MAX                 /* a deadline that does not come */
#define SHMIPC_SLICE_NS UINT64_C(50000000)      /* look at the peer this often */
#define SHMIPC_BLIND_SLICE_NS UINT64_C(1000000) /* ... without membarrier */
#define SHMIPC_SHORTEST_NAP_NS UINT64_C(250000) /* on more words than the kernel takes */
#define SHMIPC_LONGEST_NAP_NS UINT64_C(5000000)
#define SHMIPC_SPIN_SLICE_NS UINT64_C(5000000) /* look at signals this often while spinning */
#define SHMIPC_SPIN_DEFAULT_NS UINT64_C(20000) /* about three futex wake-ups */
#define SHMIPC_SPIN_FLOOR_NS UINT64_C(500)     /* the budget never adapts below this */
#define SHMIPC_SPIN_RETRY 16 /* short sleeps before the whole budget is tried again */
/* Polls before a wait begins: about a microsecond. Beginning and ending a wait costs more (the
 * clock, Python's GIL), and an answer that is on its way from another core takes less. */
#define SHMIPC_BRIEF_POLLS 1000

/* CLOCK_MONOTONIC, nanoseconds. */
uint64_t shmipc_now_ns(void);

/* `now + span`, never past SHMIPC_NEVER - 1 by wrapping. */
static inline uint64_t shmipc_deadline_ns(uint64_t now_ns, uint64_t span_ns)
{
    return span_ns >= SHMIPC_NEVER - now_ns ? SHMIPC_NEVER : now_ns + span_ns;
}

/* Register this process for the asymmetric barrier. True: K2 may be a compiler barrier. Called at
 * every open, because an exec or a fork may have dropped the registration; idempotent, one system
 * call. */
bool shmipc_wait_register(void);

/* S1 and S2. `mark` is for S4. Returns how long the caller may sleep before it looks again. Any
 * thread; wait-free; one or two system calls. */
uint64_t shmipc_wait_announce(shmipc_atomic_u32 *sleepers, uint32_t *mark);

/* S1 alone, for several words under one barrier; then shmipc_wait_barrier once. */
static inline uint32_t shmipc_wait_mark(shmipc_atomic_u32 *sleepers)
{
    /* S1. Relaxed: S2 begins with a full fence. */
    return shmipc_fetch_or_relaxed(sleepers, 1u) | 1u;
}
uint64_t shmipc_wait_barrier(void);

/* The system calls of S2 and K4, bare. False: membarrier is refused here. */
bool shmipc_membarrier(void);
void shmipc_futex_wake(shmipc_atomic_u32 *sleepers);

/* S4: sleep while the word is `mark`, at most `span_ns`. Returns on a wake-up, a signal, a changed
 * word or the end of the span; the caller looks which. Blocking; the GIL must not be held. */
void shmipc_wait_sleep(shmipc_atomic_u32 *sleepers, uint32_t mark, uint64_t span_ns);

/* S4 over several words: futex_waitv(2) where the kernel has it (5.16), for up to 128. Else naps of
 * 0.25 ms, twice as long each time, with a look at the words between them: a waker is noticed at
 * the end of a nap, at most SHMIPC_LONGEST_NAP_NS later (1 ms for up to 128 words). Returns when
 * some word is not its mark, at a signal, or at the end of the span. */
void shmipc_wait_sleep_any(shmipc_atomic_u32 *const *sleepers, const uint32_t *marks,
                           uint32_t count, uint64_t span_ns);

/* K4. One or two system calls. Returns having woken everybody who announced before it. */
void shmipc_wait_wake(shmipc_atomic_u32 *sleepers);

/* K2 and K3. Call after the store of a position; true: call shmipc_wait_wake. Wait-free. */
static inline bool shmipc_wait_wanted(const shmipc_atomic_u32 *sleepers, bool asymmetric)
{
    shmipc_barrier_light(asymmetric); /* K2 <-> S2 */
    /* K3 <-> S1. Relaxed: the word carries no data; the order it needs is K2's. */
    return SHMIPC_UNLIKELY((shmipc_load_relaxed(sleepers) & 1u) != 0);
}

/* A nap outside any word, for polling what has no word (a name that does not exist yet). */
void shmipc_wait_nap(uint64_t span_ns);

/*
 * How long to spin before sleeping. A wait that ended while spinning restores the whole budget; one
 * that ended asleep quarters it, so an idle or oversubscribed process stops burning its core. That
 * a sleep was short does not prove that spinning would have caught it: two processes on one core
 * answer each other in microseconds when they yield it, and not at all while one of them spins. So
 * after a number of short sleeps the whole budget is tried once, and kept if it works.
 */
struct shmipc_spin {
    uint64_t limit_ns; /* what the user asked for; SHMIPC_NEVER: never sleep; 0: sleep at once */
    uint64_t budget_ns;
    uint32_t short_sleeps; /* since spinning last worked, or was last tried whole */
    bool adaptive;         /* false where the user gave a number */
};

void shmipc_spin_init(struct shmipc_spin *spin, uint64_t limit_ns, bool adaptive);
void shmipc_spin_learn(struct shmipc_spin *spin, uint64_t waited_ns, bool slept);

/* Are brief polls worth it? Where spinning has not paid of late, neither would they. */
static inline bool shmipc_spin_is_whole(const struct shmipc_spin *spin)
{
    return spin->limit_ns != 0 && spin->budget_ns == spin->limit_ns;
}

/* How often to poll before a wait begins. */
static inline int shmipc_spin_brief_polls(const struct shmipc_spin *spin)
{
    return shmipc_spin_is_whole(spin) ? SHMIPC_BRIEF_POLLS : 1;
}
/* ... of `count` members, so that all of them together take about three microseconds at most. */
static inline int64_t shmipc_brief_polls_of_each(int64_t count)
{
    const int64_t polls = SHMIPC_BRIEF_POLLS;
    return count > 2 ? 2 * polls / count : polls;
}

/*
 * One slice of a blocking wait, the same for every side: spin, announce, look again, look at the
 * peer, sleep at most SHMIPC_SLICE_NS, look again. The caller loops over AGAIN, and between slices
 * does what a library must not do for it (signals, the GIL).
 */
struct shmipc_wait {
    uint64_t deadline_ns;                 /* SHMIPC_NEVER: none */
    uint64_t start_ns;                    /* 0: not begun */
    uint64_t *peer_look_ns;               /* when the peer is next looked at; kept by the handle */
    const shmipc_atomic_u32 *interrupted; /* another thread closes this handle */
    shmipc_atomic_u32 *sleepers;
    /* OK: what we wait for is here. EMPTY, FULL: not yet. Anything else ends the wait. */
    enum shmipc_status (*look)(void *self);
    /* Just before the look that decides whether to sleep; may be NULL. */
    void (*prepare)(void *self);
    /* OK: the peer may still come. CLOSED, DIED: it will not, and look() has nothing. `thorough`:
     * system calls are allowed. */
    enum shmipc_status (*peer)(void *self, bool thorough);
    void *self;
    uint64_t sleeps; /* out: times slept */
};

/* OK, TIMEOUT, AGAIN, CLOSED, DIED, or what look() said. Blocking; the GIL must not be held. */
enum shmipc_status shmipc_wait_slice(struct shmipc_wait *wait, struct shmipc_spin *spin);

#endif
