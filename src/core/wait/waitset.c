/* waitset.c: see waitset.h. */
#define _GNU_SOURCE
#include "waitset.h"

#include <sched.h>

/* At peers in one slice, so that the cost of a wait for very many is bounded. */
#define LOOKS 128u
#define POLLS 64 /* of all members together, between two looks at the clock */
/* While spinning, look this often for what is not data: ends, damage, interrupts, and peers. */
#define SPIN_LOOK_NS UINT64_C(50000)

bool shmipc_waitset_look(struct shmipc_waitset *set, uint64_t now_ns)
{
    const uint64_t next_ns = now_ns + SHMIPC_SLICE_NS * (1 + (set->count - 1) / LOOKS);
    /* When one peer is due, look at those that are due soon too: otherwise each member would keep
     * its own time, and a set of hundreds would never sleep for long. */
    uint64_t due_ns = now_ns;
    bool any = false;
    for (uint32_t i = 0; i < set->count && due_ns == now_ns; i++) {
        due_ns = *set->members[i].peer_look_ns <= now_ns ? now_ns + SHMIPC_SLICE_NS / 2 : now_ns;
    }
    for (uint32_t i = 0; i < set->count; i++) {
        const struct shmipc_waited *member = &set->members[i];
        set->ready[i] =
            member->kind->has_news(member->self, *member->peer_look_ns <= due_ns ? next_ns : 0);
        any = any || set->ready[i];
    }
    return any;
}

static uint64_t budget_ns(const struct shmipc_waitset *set)
{
    uint64_t most_ns = set->spin != NULL ? set->spin->budget_ns : 0;
    for (uint32_t i = 0; i < set->count && set->spin == NULL; i++) {
        const uint64_t own_ns = set->members[i].spin->budget_ns;
        most_ns = own_ns > most_ns ? own_ns : most_ns;
    }
    return most_ns;
}

/* Poll all members for about `span_ns`, and once at least. No system call. */
static bool poll_for(const struct shmipc_waitset *set, uint64_t now_ns, uint64_t span_ns)
{
    const uint64_t start_ns = now_ns;
    const uint32_t rounds = set->count < POLLS ? POLLS / set->count : 1;
    do {
        for (uint32_t round = 0; round < rounds; round++) {
            for (uint32_t i = 0; i < set->count; i++) {
                if (set->members[i].kind->is_ready(set->members[i].self)) {
                    return true;
                }
            }
        }
        shmipc_cpu_relax();
    } while (shmipc_now_ns() - start_ns < span_ns);
    return false;
}

enum shmipc_status shmipc_waitset_spin(struct shmipc_waitset *set, uint64_t deadline_ns,
                                       uint64_t most_ns)
{
    uint64_t now_ns = shmipc_now_ns();
    uint64_t end_ns = shmipc_deadline_ns(set->start_ns, budget_ns(set));
    end_ns = deadline_ns < end_ns ? deadline_ns : end_ns;
    const uint64_t slice_end_ns = shmipc_deadline_ns(now_ns, most_ns);
    while (set->count != 0 && now_ns < end_ns) {
        const uint64_t left_ns = end_ns - now_ns;
        if (poll_for(set, now_ns, left_ns < SPIN_LOOK_NS ? left_ns : SPIN_LOOK_NS)) {
            return SHMIPC_OK;
        }
        if (left_ns <= SPIN_LOOK_NS) {
            break; /* the sleep looks at the rest */
        }
        now_ns = shmipc_now_ns();
        if (shmipc_waitset_look(set, now_ns)) {
            return SHMIPC_OK;
        }
        if (now_ns >= slice_end_ns) {
            return SHMIPC_AGAIN;
        }
    }
    return SHMIPC_EMPTY;
}

/* A set without members: only time and signals end the wait, as in select(). */
static enum shmipc_status nap(uint64_t deadline_ns)
{
    const uint64_t now_ns = shmipc_now_ns();
    if (now_ns >= deadline_ns) {
        return SHMIPC_TIMEOUT;
    }
    const uint64_t left_ns = deadline_ns - now_ns;
    shmipc_wait_nap(left_ns < SHMIPC_SLICE_NS ? left_ns : SHMIPC_SLICE_NS);
    return SHMIPC_AGAIN;
}

/* All words are marked and nothing was found: how long until a peer must be looked at again? */
static uint64_t span_until_look(const struct shmipc_waitset *set, uint64_t now_ns, uint64_t most_ns)
{
    for (uint32_t i = 0; i < set->count; i++) {
        const uint64_t look_ns = *set->members[i].peer_look_ns;
        const uint64_t left_ns = look_ns > now_ns ? look_ns - now_ns : 0;
        most_ns = left_ns < most_ns ? left_ns : most_ns;
    }
    return most_ns;
}

enum shmipc_status shmipc_waitset_sleep(struct shmipc_waitset *set, uint64_t deadline_ns)
{
    if (set->count == 0) {
        return nap(deadline_ns);
    }
    uint64_t now_ns = shmipc_now_ns();
    if (set->yields && !set->slept && now_ns < deadline_ns) {
        /* Going to sleep costs this process some microseconds and makes the producer wake it. Where
         * there are more processes than cores, the producer may only be waiting for this one. */
        (void)sched_yield();
        now_ns = shmipc_now_ns();
        if (poll_for(set, now_ns, 0)) {
            set->slept = true; /* the budget did not catch it */
            return SHMIPC_OK;
        }
    }
    if (shmipc_waitset_look(set, now_ns)) {
        return SHMIPC_OK;
    }
    if (now_ns >= deadline_ns) {
        return SHMIPC_TIMEOUT;
    }
    set->slept = true;
    for (uint32_t i = 0; i < set->count; i++) {
        set->words[i] = set->members[i].sleepers;
        set->marks[i] = shmipc_wait_mark(set->words[i]);
    }
    SHMIPC_STEP(WAIT_ANY_MARKED);
    uint64_t span_ns = shmipc_wait_barrier();
    if (shmipc_waitset_look(set, now_ns)) {
        return SHMIPC_OK;
    }
    if (deadline_ns - now_ns < span_ns) {
        span_ns = deadline_ns - now_ns;
    }
    span_ns = span_until_look(set, now_ns, span_ns);
    SHMIPC_STEP(WAIT_ANY_LOOKED);
    shmipc_wait_sleep_any(set->words, set->marks, set->count, span_ns);
    SHMIPC_STEP(WAIT_ANY_SLEPT);
    return shmipc_waitset_look(set, shmipc_now_ns()) ? SHMIPC_OK : SHMIPC_AGAIN;
}

enum shmipc_status shmipc_waitset_slice(struct shmipc_waitset *set, uint64_t deadline_ns)
{
    const enum shmipc_status status = shmipc_waitset_spin(set, deadline_ns, SHMIPC_SPIN_SLICE_NS);
    if (status == SHMIPC_EMPTY) {
        return shmipc_waitset_sleep(set, deadline_ns);
    }
    if (status == SHMIPC_OK && !shmipc_waitset_look(set, shmipc_now_ns())) {
        return SHMIPC_AGAIN; /* under "overwrite", gone again */
    }
    return status;
}

void shmipc_waitset_learn(const struct shmipc_waitset *set)
{
    const uint64_t waited_ns = shmipc_now_ns() - set->start_ns;
    if (set->spin != NULL) {
        shmipc_spin_learn(set->spin, waited_ns, set->slept);
        return;
    }
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->ready[i]) {
            shmipc_spin_learn(set->members[i].spin, waited_ns, set->slept);
        }
    }
}
