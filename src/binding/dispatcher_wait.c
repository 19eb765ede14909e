/* dispatcher_wait.c: how a Dispatcher waits: for any of its rings, with the GIL released. */
#include "dispatcher.h"
#include "module.h"

#include <sched.h>

/* Polls with the GIL held: see waiting.c. */
#define BRIEF_POLLS 1000

static void leave_handles(DispatcherObject *self, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        handle_leave(&self->sources[i]->consumer->handle);
    }
}

static bool enter_handles(DispatcherObject *self)
{
    for (Py_ssize_t i = 0; i < self->count; i++) {
        ConsumerObject *consumer = self->sources[i]->consumer;
        if (!handle_enter(&consumer->handle)) {
            subscription_blame(self->sources[i]);
            leave_handles(self, i);
            return false;
        }
        self->cores[i] = &consumer->core;
    }
    return true;
}

int dispatcher_look_at_peers(DispatcherObject *self)
{
    for (Py_ssize_t i = 0; i < self->count; i++) {
        struct subscription *source = self->sources[i];
        HandleObject *handle = &source->consumer->handle;
        if (!handle_enter(handle)) {
            subscription_blame(source);
            return -1;
        }
        const enum shmipc_status status = shmipc_consumer_role_poll_peer(&source->consumer->core);
        if (status != SHMIPC_OK && status != SHMIPC_EMPTY) {
            (void)raise_status(handle, status);
            subscription_blame(source);
            handle_leave(handle);
            return -1;
        }
        handle_leave(handle);
    }
    return 0;
}

int dispatcher_run_signals(DispatcherObject *self)
{
    if (self->count == 0) {
        return PyErr_CheckSignals();
    }
    ConsumerObject *consumer = self->sources[0]->consumer;
    Py_INCREF(consumer); /* a signal handler may remove it */
    const int result = check_signals(&consumer->handle);
    Py_DECREF(consumer);
    return result;
}

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

/* One slice of waiting, without the GIL: spin as long as is left of the budget, then sleep. */
static enum shmipc_status wait_slice(DispatcherObject *self, uint64_t start_ns,
                                     uint64_t deadline_ns, bool *slept)
{
    const uint32_t count = (uint32_t)self->count;
    if (count == 0) {
        return nap(deadline_ns);
    }
    const uint64_t now_ns = shmipc_now_ns();
    uint64_t spin_end_ns = shmipc_deadline_ns(start_ns, self->spin.budget_ns);
    spin_end_ns = deadline_ns < spin_end_ns ? deadline_ns : spin_end_ns;
    if (now_ns < spin_end_ns) {
        const uint64_t left_ns = spin_end_ns - now_ns;
        const uint64_t span_ns = left_ns < SHMIPC_SPIN_SLICE_NS ? left_ns : SHMIPC_SPIN_SLICE_NS;
        if (shmipc_consumers_spin_any(self->cores, count, span_ns) == SHMIPC_OK) {
            return SHMIPC_OK;
        }
        if (left_ns > span_ns) { /* time for signals, and for a look at the producers */
            const enum shmipc_status status = shmipc_consumers_wait_any(
                self->cores, count, self->ready, self->words, self->marks, 0);
            return status == SHMIPC_TIMEOUT ? SHMIPC_AGAIN : status;
        }
    }
    if (!*slept) {
        /* Going to sleep costs this process some microseconds and makes the producer wake it. Where
         * there are more processes than cores, the producer may only be waiting for this one. */
        (void)sched_yield();
        *slept = true;
        if (shmipc_consumers_spin_any(self->cores, count, 0) == SHMIPC_OK) {
            return SHMIPC_OK;
        }
    }
    return shmipc_consumers_wait_any(self->cores, count, self->ready, self->words, self->marks,
                                     deadline_ns);
}

int dispatcher_wait(DispatcherObject *self, struct patience *patience)
{
    enum shmipc_status status = SHMIPC_AGAIN;
    bool slept = false;
    const bool brief = self->spin.limit_ns != 0 && self->spin.budget_ns == self->spin.limit_ns;
    Py_ssize_t polls = !brief || self->count == 0 ? 0 : BRIEF_POLLS;
    if (self->count > 2) {
        polls = 2 * polls / self->count; /* of all rings: some 3 us in all */
    }
    if (polls > 0) {
        if (!enter_handles(self)) {
            return -1;
        }
        for (Py_ssize_t poll = 0; poll < polls && status == SHMIPC_AGAIN; poll++) {
            for (Py_ssize_t i = 0; i < self->count; i++) {
                if (shmipc_ring_readable(&self->cores[i]->ring) != SHMIPC_EMPTY) {
                    status = SHMIPC_OK;
                }
            }
        }
        leave_handles(self, self->count);
    }
    if (status == SHMIPC_AGAIN) {
        const uint64_t start_ns = shmipc_now_ns();
        const uint64_t deadline_ns = patience_deadline(patience);
        while (status == SHMIPC_AGAIN) {
            /* No handle is entered here: a signal handler may add and remove, and close. */
            if (dispatcher_run_signals(self) != 0) {
                return -1;
            }
            if (atomic_load(&self->stopping)) {
                break;
            }
            if (!enter_handles(self)) {
                return -1;
            }
            Py_BEGIN_ALLOW_THREADS
            status = wait_slice(self, start_ns, deadline_ns, &slept);
            Py_END_ALLOW_THREADS
            leave_handles(self, self->count);
        }
        if (status == SHMIPC_OK) {
            shmipc_spin_learn(&self->spin, shmipc_now_ns() - start_ns, slept);
        }
    }
    return status == SHMIPC_OK;
}
