/* consumer_wait.c: how a consumer of shmipc.h waits: for data, for a producer. */
#include "consumer_read.h"

#include "cancel.h"

#define CONSUMER SHMIPC_TAG_CONSUMER

void shmipc_consumer_begin_wait(struct shmipc_consumer *self)
{
    if (self->frames != 0) {
        shmipc_store_relaxed(&self->waits,
                             1u); /* relaxed: a thread that sees it late tries again */
    }
}

void shmipc_consumer_end_wait(struct shmipc_consumer *self)
{
    /* Relaxed: our own store. Not `frames`: by now none may be left. */
    if (shmipc_load_relaxed(&self->waits) != 0) {
        shmipc_store_relaxed(&self->waits, 0u);
        /* <-> the one in shmipc_handle_call: we see what was pushed, or the pushing thread sees 0.
         */
        shmipc_fence_full();
        shmipc_frames_collect(self);
    }
}

/* Nothing came. Say so if it is because of the frames that the caller keeps. */
static int tell_empty(struct shmipc_consumer *self)
{
    uint64_t number;
    if (!shmipc_consumer_role_blocks_producer(&self->role, &number)) {
        return SHMIPC_E_EMPTY;
    }
    return shmipc_result_fail(
        SHMIPC_E_EMPTY,
        "nothing to read in ring \"%s\": its producer waits for room, and "
        "%llu frames that this consumer keeps are in its way, the oldest from "
        "number %llu on. Release them, or copy what is to be kept",
        self->handle.name, (unsigned long long)self->frames, (unsigned long long)number);
}

static int wait_in_slices(struct shmipc_consumer *self, uint64_t deadline_ns)
{
    SHMIPC_UNCANCELLED();
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    int result = SHMIPC_SUCCESS;
    shmipc_consumer_begin_wait(self);
    do {
        shmipc_frames_collect(self);
        status = shmipc_consumer_role_wait_data(&self->role, &wait, deadline_ns);
        /* Relaxed: it ended the wait, or ends the next one; take_interrupt orders what it stands
         * for. */
        if (status == SHMIPC_CLOSED && shmipc_load_relaxed(&self->role.interrupted) != 0) {
            result = shmipc_take_interrupt(&self->handle, CONSUMER, &self->role.interrupted);
            status = SHMIPC_AGAIN;
        }
    } while (status == SHMIPC_AGAIN && result == SHMIPC_SUCCESS);
    shmipc_consumer_end_wait(self);
    if (result == SHMIPC_SUCCESS) {
        result = status == SHMIPC_TIMEOUT ? tell_empty(self) : shmipc_consumer_fail(self, status);
    }
    return result;
}

int shmipc_consumer_await(struct shmipc_consumer *consumer, int64_t timeout_ns,
                          uint64_t *deadline_ns)
{
    struct shmipc_consumer_role *role = &consumer->role;
    const enum shmipc_status status = shmipc_consumer_role_poll_briefly(role, timeout_ns != 0);
    if (status != SHMIPC_EMPTY) {
        return shmipc_consumer_fail(consumer, status);
    }
    const int64_t left_ns = shmipc_timeout_left(timeout_ns, deadline_ns);
    if (left_ns == 0) {
        return shmipc_consumer_fail(consumer, shmipc_consumer_role_poll_peer(role));
    }
    return wait_in_slices(consumer, shmipc_deadline_after(left_ns));
}

int shmipc_consumer_retry(struct shmipc_consumer *consumer, int64_t timeout_ns,
                          uint64_t *deadline_ns)
{
    /* Relaxed: a hint, seen soon. Without it a close would wait for as long as we are lapped. */
    if (timeout_ns != 0 && shmipc_load_relaxed(&consumer->role.interrupted) != 0) {
        const int result =
            shmipc_take_interrupt(&consumer->handle, CONSUMER, &consumer->role.interrupted);
        if (result != SHMIPC_SUCCESS) {
            return result;
        }
    }
    return shmipc_is_over(timeout_ns, deadline_ns) ? SHMIPC_E_EMPTY : SHMIPC_SUCCESS;
}

int shmipc_consumer_wait(struct shmipc_consumer *consumer, int64_t timeout_ns)
{
    uint64_t deadline_ns = 0;
    int result = shmipc_check_timeout(timeout_ns);
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    }
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_consumer_await(consumer, timeout_ns, &deadline_ns);
        shmipc_handle_leave(&consumer->handle);
    }
    return result;
}

int shmipc_consumer_wait_for_producer(struct shmipc_consumer *consumer, int64_t timeout_ns)
{
    SHMIPC_UNCANCELLED();
    struct shmipc_wait wait = {0};
    enum shmipc_status status = SHMIPC_OK;
    int result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    result = shmipc_check_timeout(timeout_ns);
    const uint64_t deadline_ns = shmipc_deadline_after(timeout_ns);
    shmipc_consumer_begin_wait(consumer);
    while (result == SHMIPC_SUCCESS) {
        shmipc_frames_collect(consumer);
        status = shmipc_consumer_role_wait_producer(&consumer->role, &wait, deadline_ns);
        if (status == SHMIPC_CLOSED) {
            result =
                shmipc_take_interrupt(&consumer->handle, CONSUMER, &consumer->role.interrupted);
        } else if (status != SHMIPC_AGAIN) {
            break;
        }
    }
    shmipc_consumer_end_wait(consumer);
    if (result == SHMIPC_SUCCESS && status == SHMIPC_TIMEOUT) {
        result =
            shmipc_result_fail(SHMIPC_E_NOT_FOUND,
                               "ring \"%s\" has no producer: is it started, with the same name "
                               "and SHMIPC_DIR?",
                               consumer->handle.name);
    } else if (result == SHMIPC_SUCCESS) {
        result = shmipc_consumer_fail(consumer, status);
    }
    shmipc_handle_leave(&consumer->handle);
    return result;
}
