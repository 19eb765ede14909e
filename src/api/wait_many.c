/* wait_many.c: shmipc_wait: several consumers at once. */
#define _GNU_SOURCE
#include "../core/ring/waited_consumer.h"
#include "cancel.h"
#include "consumer_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONSUMER SHMIPC_TAG_CONSUMER

struct waiting {
    struct shmipc_consumer *const *consumers;
    size_t entered;
    struct shmipc_waitset set;
};

static int set_fill(struct waiting *waiting, size_t count)
{
    struct shmipc_waitset *set = &waiting->set;
    void *memory = malloc(shmipc_waitset_size(count));
    if (memory == NULL) {
        struct shmipc_error error;
        (void)shmipc_fail(&error, SHMIPC_OS, ENOMEM, "no memory to wait for %zu consumers", count);
        (void)shmipc_result_keep(&error, SHMIPC_SIDE_CONSUMER);
        return SHMIPC_E_OS;
    }
    shmipc_waitset_place(set, memory, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        const int result =
            shmipc_handle_enter((struct shmipc_handle *)waiting->consumers[i], CONSUMER);
        if (result != SHMIPC_SUCCESS) {
            return result;
        }
        waiting->entered++;
        set->members[i] = shmipc_waited_consumer(&waiting->consumers[i]->role);
    }
    return SHMIPC_SUCCESS;
}

static void set_leave(struct waiting *waiting)
{
    for (size_t i = 0; i < waiting->entered; i++) {
        shmipc_handle_leave(&waiting->consumers[i]->handle);
    }
    free(waiting->set.members); /* the block's beginning */
}

/* A member that was ready only because of an interrupt is not ready, unless that ends the wait. */
static int take_interrupts(struct waiting *waiting, bool *any)
{
    const struct shmipc_waitset *set = &waiting->set;
    int result = SHMIPC_SUCCESS;
    *any = false;
    for (size_t i = 0; i < set->count; i++) {
        struct shmipc_consumer *consumer = waiting->consumers[i];
        /* Relaxed: it ended the wait, or ends the next one; take_interrupt orders what it stands
         * for. */
        if (shmipc_load_relaxed(&consumer->role.interrupted) != 0) {
            const int called =
                shmipc_take_interrupt(&consumer->handle, CONSUMER, &consumer->role.interrupted);
            result = result == SHMIPC_SUCCESS ? called : result;
            set->ready[i] = shmipc_ring_readable(&consumer->role.ring) != SHMIPC_EMPTY;
        }
        *any = *any || set->ready[i];
    }
    return result;
}

static int set_wait(struct waiting *waiting, uint64_t deadline_ns)
{
    struct shmipc_waitset *set = &waiting->set;
    shmipc_waitset_begin(set);
    for (;;) {
        bool any;
        for (size_t i = 0; i < set->count; i++) {
            shmipc_consumer_begin_wait(waiting->consumers[i]);
        }
        const enum shmipc_status status = shmipc_waitset_slice(set, deadline_ns);
        for (size_t i = 0; i < set->count; i++) {
            shmipc_consumer_end_wait(waiting->consumers[i]);
        }
        const int result = take_interrupts(waiting, &any);
        if (result != SHMIPC_SUCCESS) {
            return result;
        }
        if (status == SHMIPC_OK && any) {
            shmipc_waitset_learn(set);
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
    SHMIPC_UNCANCELLED(); /* also: what it allocates is freed */
    struct waiting waiting = {.consumers = consumers};
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
    result = set_fill(&waiting, count);
    if (result == SHMIPC_SUCCESS) {
        result = set_wait(&waiting, deadline_ns);
        for (size_t i = 0; result == SHMIPC_SUCCESS && i < count; i++) {
            ready[i] = waiting.set.ready[i];
        }
    }
    set_leave(&waiting);
    return result;
}
