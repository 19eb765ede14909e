/* wait.c: see wait.h. The order of things; the system calls are in futex.c. */
#include "wait.h"

uint64_t shmipc_wait_barrier(void)
{
    /* S2. The fence orders our own S1 before S3 even where the system call is refused. */
    shmipc_fence_full();
    return shmipc_membarrier() ? SHMIPC_SLICE_NS : SHMIPC_BLIND_SLICE_NS;
}

uint64_t shmipc_wait_announce(shmipc_atomic_u32 *sleepers, uint32_t *mark)
{
    *mark = shmipc_wait_mark(sleepers);
    SHMIPC_STEP(WAIT_MARKED);
    return shmipc_wait_barrier();
}

void shmipc_wait_wake(shmipc_atomic_u32 *sleepers)
{
    /* Full: callers other than a commit (the end of a stream, an interrupt) come here without K2,
     * and what they stored must be visible before the word is read: Dekker with S1. */
    shmipc_fence_full();
    SHMIPC_STEP(WAKE_FENCED);
    uint32_t word = shmipc_load_relaxed(sleepers);
    if ((word & 1u) != 0) {
        /* K4 <-> S4, before the system call: whoever marked an earlier generation and has not
         * reached futex_wait yet finds another value there and looks again. One try: if it fails,
         * somebody else has stored another value, which does the same; a sleeper that marks that
         * one comes after our fence and sees what we stored. A peer who never stops storing here
         * cannot keep us. Relaxed: the fence above and the system call below order it. */
        (void)shmipc_compare_exchange_relaxed(sleepers, &word, word + 1u);
        SHMIPC_STEP(WAKE_COUNTED);
        shmipc_futex_wake(sleepers);
        SHMIPC_STEP(WAKE_DONE);
    }
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
        /* Relaxed: a hint, seen soon; the thread that set it also clears the sleepers word (K4). */
        if (shmipc_load_relaxed(wait->interrupted) != 0) {
            return SHMIPC_CLOSED;
        }
        *now_ns = shmipc_now_ns();
        if (*now_ns >= wait->deadline_ns) {
            return SHMIPC_TIMEOUT;
        }
        const bool thorough = *now_ns >= *wait->peer_look_ns;
        const enum shmipc_status peer = wait->peer(wait->self, thorough);
        if (peer != SHMIPC_OK) {
            return peer; /* and the next look is due at once */
        }
        if (thorough) {
            *wait->peer_look_ns = *now_ns + SHMIPC_SLICE_NS;
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
    SHMIPC_STEP(WAIT_ANNOUNCED);
    status = wait->look(wait->self);
    if (!is_pending(status)) {
        return status;
    }
    if (shmipc_load_relaxed(wait->interrupted) != 0) {
        return SHMIPC_CLOSED;
    }
    const bool thorough = now_ns >= *wait->peer_look_ns;
    const enum shmipc_status peer = wait->peer(wait->self, thorough);
    if (peer != SHMIPC_OK) {
        return peer;
    }
    if (thorough) {
        *wait->peer_look_ns = now_ns + SHMIPC_SLICE_NS;
        status = wait->look(wait->self); /* letting a dead peer go may have been all it took */
        if (!is_pending(status)) {
            return status;
        }
    }
    /* Not past the next look: a death must not wait for the end of a slice begun before it. */
    if (*wait->peer_look_ns - now_ns < span_ns) {
        span_ns = *wait->peer_look_ns - now_ns;
    }
    if (wait->deadline_ns - now_ns < span_ns) {
        span_ns = wait->deadline_ns - now_ns;
    }
    wait->sleeps++;
    SHMIPC_STEP(WAIT_LOOKED);
    shmipc_wait_sleep(wait->sleepers, mark, span_ns);
    SHMIPC_STEP(WAIT_SLEPT);
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
    if (status == SHMIPC_TIMEOUT && now_ns >= *wait->peer_look_ns) {
        /* A caller that waits again and again, each time for a moment, is told of a death too. */
        const enum shmipc_status peer = wait->peer(wait->self, true);
        if (peer != SHMIPC_OK) {
            return peer;
        }
        *wait->peer_look_ns = now_ns + SHMIPC_SLICE_NS;
        status = wait->look(wait->self);
        status = is_pending(status) ? SHMIPC_TIMEOUT : status;
    }
    if (status == SHMIPC_OK) {
        shmipc_spin_learn(spin, shmipc_now_ns() - wait->start_ns, sleeps);
    }
    return status;
}
