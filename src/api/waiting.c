/* waiting.c: shmipc_wait: several consumers at once. */
#define _GNU_SOURCE
#include "cancel.h"
#include "reading.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONSUMER SHMIPC_TAG_CONSUMER
#define SPIN_LOOK_NS UINT64_C(50000) /* while polling, look at calls and peers this often */

struct waiting_set {
    struct shmipc_consumer *const *consumers;
    size_t count;
    size_t entered;
    struct shmipc_consumer_role **roles; /* the one block; the rest lies behind it */
    shmipc_atomic_u32 **words;
    uint32_t *marks;
    bool *ready;
    uint64_t start_ns;
    bool slept;
};

static int set_fill(struct waiting_set *set)
{
    const size_t each = sizeof(void *) + sizeof(void *) + sizeof *set->marks + sizeof *set->ready;
    set->roles = calloc(set->count, each);
    if (set->roles == NULL) {
        struct shmipc_error error;
        (void)shmipc_fail(&error, SHMIPC_OS, ENOMEM, "no memory to wait for %zu consumers",
                          set->count);
        (void)shmipc_result_keep(&error, SHMIPC_SIDE_CONSUMER);
        return SHMIPC_E_OS;
    }
    set->words = (shmipc_atomic_u32 **)(void *)(set->roles + set->count);
    set->marks = (uint32_t *)(void *)(set->words + set->count);
    set->ready = (bool *)(void *)(set->marks + set->count);
    for (size_t i = 0; i < set->count; i++) {
        const int result = shmipc_handle_enter((struct shmipc_handle *)set->consumers[i], CONSUMER);
        if (result != SHMIPC_SUCCESS) {
            return result;
        }
        set->entered++;
        set->roles[i] = &set->consumers[i]->role;
    }
    return SHMIPC_SUCCESS;
}

static void set_leave(struct waiting_set *set)
{
    for (size_t i = 0; i < set->entered; i++) {
        shmipc_handle_leave(&set->consumers[i]->handle);
    }
    free(set->roles);
}

/* Those that were ready because somebody called them out are not, unless that ends the wait. */
static int take_calls(struct waiting_set *set, bool *any)
{
    int result = SHMIPC_SUCCESS;
    *any = false;
    for (size_t i = 0; i < set->count; i++) {
        struct shmipc_consumer *consumer = set->consumers[i];
        /* Relaxed: it ended the wait, or ends the next one; take_call orders what it stands for. */
        if (shmipc_load_relaxed(&consumer->role.interrupted) != 0) {
            const int called =
                shmipc_take_call(&consumer->handle, CONSUMER, &consumer->role.interrupted);
            result = result == SHMIPC_SUCCESS ? called : result;
            set->ready[i] = shmipc_ring_readable(&consumer->role.ring) != SHMIPC_EMPTY;
        }
        *any = *any || set->ready[i];
    }
    return result;
}

/* How long one of these would poll before it sleeps: the most that any of them was told to. */
static uint64_t set_budget(const struct waiting_set *set)
{
    uint64_t budget_ns = 0;
    for (size_t i = 0; i < set->count; i++) {
        const uint64_t own_ns = set->roles[i]->spin.budget_ns;
        budget_ns = own_ns > budget_ns ? own_ns : budget_ns;
    }
    return budget_ns;
}

/* One slice of the wait: polling at first, asleep later. As shmipc_consumers_wait_any. */
static enum shmipc_status set_slice(struct waiting_set *set, uint64_t deadline_ns)
{
    const uint64_t now_ns = shmipc_now_ns();
    const uint64_t spin_ns = shmipc_deadline_ns(set->start_ns, set_budget(set));
    const uint64_t end_ns = spin_ns < deadline_ns ? spin_ns : deadline_ns;
    const bool spins = now_ns < end_ns;
    if (spins) {
        const uint64_t left_ns = end_ns - now_ns;
        (void)shmipc_consumers_spin_any(set->roles, (uint32_t)set->count,
                                        left_ns < SPIN_LOOK_NS ? left_ns : SPIN_LOOK_NS);
    }
    set->slept = set->slept || !spins;
    /* A deadline that is over: look, also at the peers, and do not sleep. */
    const enum shmipc_status status =
        shmipc_consumers_wait_any(set->roles, (uint32_t)set->count, set->ready, set->words,
                                  set->marks, spins ? 0 : deadline_ns);
    return spins && status == SHMIPC_TIMEOUT ? SHMIPC_AGAIN : status;
}

/* Let those that it was for know whether polling was worth it. */
static void set_learn(struct waiting_set *set)
{
    const uint64_t waited_ns = shmipc_now_ns() - set->start_ns;
    for (size_t i = 0; i < set->count; i++) {
        if (set->ready[i]) {
            shmipc_spin_learn(&set->roles[i]->spin, waited_ns, set->slept);
        }
    }
}

static int set_wait(struct waiting_set *set, uint64_t deadline_ns)
{
    set->start_ns = shmipc_now_ns();
    for (;;) {
        bool any;
        for (size_t i = 0; i < set->count; i++) {
            shmipc_consumer_begin_wait(set->consumers[i]);
        }
        const enum shmipc_status status = set_slice(set, deadline_ns);
        for (size_t i = 0; i < set->count; i++) {
            shmipc_consumer_end_wait(set->consumers[i]);
        }
        const int result = take_calls(set, &any);
        if (result != SHMIPC_SUCCESS) {
            return result;
        }
        if (status == SHMIPC_OK && any) {
            set_learn(set);
            return SHMIPC_SUCCESS;
        }
        if (status == SHMIPC_TIMEOUT) {
            return SHMIPC_E_EMPTY;
        }
    }
}

int shmipc_wait(struct shmipc_consumer *const *consumers, size_t count, unsigned char *ready,
                int64_t timeout_ns)
{
    SHMIPC_UNCANCELLED(); /* also: what it allocates is given back */
    struct waiting_set set = {.consumers = consumers, .count = count};
    int result = shmipc_check_timeout(timeout_ns);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    if (consumers == NULL || ready == NULL || count == 0) {
        return shmipc_result_fail(SHMIPC_E_INVALID,
                                  "nothing to wait for: consumers or ready is NULL, or count is 0");
    }
    if (count > SHMIPC_MAX_WAITED) {
        return shmipc_result_fail(SHMIPC_E_INVALID, "%zu consumers are more than can be waited for",
                                  count);
    }
    memset(ready, 0, count);
    const uint64_t deadline_ns = shmipc_deadline_after(timeout_ns);
    result = set_fill(&set);
    if (result == SHMIPC_SUCCESS) {
        result = set_wait(&set, deadline_ns);
        for (size_t i = 0; result == SHMIPC_SUCCESS && i < count; i++) {
            ready[i] = set.ready[i];
        }
    }
    set_leave(&set);
    return result;
}
