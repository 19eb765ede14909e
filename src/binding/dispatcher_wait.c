/* dispatcher_wait.c: how a Dispatcher waits: for any of its rings, with the GIL released. */
#include "dispatcher.h"
#include "gil.h"
#include "module.h"

#include <sched.h>

/* Polls with the GIL held: see waiting.c. */
#define BRIEF_POLLS 1000
/* How long to spin with the GIL held where nobody else could want it, before looking again. */
#define ALONE_SLICE_NS UINT64_C(200000)

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

/* Something came. Let its lines travel together, and its ring be the first that has its turn. */
static void ask_for_what_is_ready(DispatcherObject *self)
{
    for (Py_ssize_t i = self->count; i > 0; i--) {
        const Py_ssize_t next = (self->turn + i) % self->count;
        if (shmipc_ring_ask(&self->cores[next]->ring)) {
            self->turn = next - 1 + self->count; /* a round begins with the one after */
        }
    }
}

/* Is there no other thread that could want the GIL? Then it need not be let go, and had again when
 * an event is there, for the sake of nobody. A thread that Python does not know yet may come; it
 * waits for one spin, which is short here. */
static bool is_alone(void)
{
#ifdef Py_GIL_DISABLED
    return false;
#else
    PyThreadState *thread = PyThreadState_Get();
    PyInterpreterState *interpreter = PyInterpreterState_Get();
    /* Only compared: what is not ours may be going. */
    return PyInterpreterState_Head() == interpreter &&
           PyInterpreterState_Next(interpreter) == NULL &&
           PyInterpreterState_ThreadHead(interpreter) == thread &&
           PyThreadState_Next(thread) == NULL;
#endif
}

/* Spin for up to `most_ns` of what is left of the budget. OK; AGAIN: time for signals, and the
 * producers were looked at; EMPTY: there is nothing left. */
static enum shmipc_status spin_slice(DispatcherObject *self, uint64_t start_ns,
                                     uint64_t deadline_ns, uint64_t most_ns)
{
    const uint32_t count = (uint32_t)self->count;
    const uint64_t now_ns = shmipc_now_ns();
    uint64_t spin_end_ns = shmipc_deadline_ns(start_ns, self->spin.budget_ns);
    spin_end_ns = deadline_ns < spin_end_ns ? deadline_ns : spin_end_ns;
    if (count == 0 || now_ns >= spin_end_ns) {
        return SHMIPC_EMPTY;
    }
    const uint64_t left_ns = spin_end_ns - now_ns;
    const enum shmipc_status status =
        shmipc_consumers_spin_any(self->cores, count, left_ns < most_ns ? left_ns : most_ns);
    if (status == SHMIPC_OK || left_ns <= most_ns) {
        return status;
    }
    return shmipc_consumers_wait_any(self->cores, count, self->ready, self->words, self->marks,
                                     0) == SHMIPC_OK
               ? SHMIPC_OK
               : SHMIPC_AGAIN;
}

/* One slice of sleep, without the GIL. */
static enum shmipc_status sleep_slice(DispatcherObject *self, uint64_t deadline_ns, bool *slept)
{
    const uint32_t count = (uint32_t)self->count;
    if (count == 0) {
        return nap_slice(deadline_ns);
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

/* One slice of waiting, and more where nothing asks for the GIL: spin as long as is left of the
 * budget, then sleep. */
static enum shmipc_status wait_slice(DispatcherObject *self, uint64_t start_ns,
                                     uint64_t deadline_ns, bool *slept)
{
    struct gil_absence absence;
    enum shmipc_status status;
    bool away = !is_alone();
    if (away) {
        gil_leave(&absence);
    }
    do {
        status =
            spin_slice(self, start_ns, deadline_ns, away ? SHMIPC_SPIN_SLICE_NS : ALONE_SLICE_NS);
        if (status == SHMIPC_EMPTY) {
            if (!away) {
                gil_leave(&absence);
                away = true;
            }
            status = sleep_slice(self, deadline_ns, slept);
        }
    } while (status == SHMIPC_AGAIN && away && !atomic_load(&self->stopping) &&
             gil_stay_away(&absence));
    if (status == SHMIPC_OK) {
        ask_for_what_is_ready(self); /* it travels while we take the GIL */
    }
    if (away) {
        gil_return(&absence);
    }
    return status;
}

/* Poll for a moment with the GIL held. */
static enum shmipc_status poll_briefly(DispatcherObject *self)
{
    Py_ssize_t polls = BRIEF_POLLS;
    if (self->count > 2) {
        polls = 2 * polls / self->count; /* of all rings: some 3 us in all */
    }
    for (Py_ssize_t poll = 0; poll < polls; poll++) {
        bool ready = false;
        for (Py_ssize_t i = 0; i < self->count; i++) {
            ready |= shmipc_ring_readable(&self->cores[i]->ring) != SHMIPC_EMPTY;
        }
        if (ready) {
            ask_for_what_is_ready(self);
            return SHMIPC_OK;
        }
    }
    return SHMIPC_AGAIN;
}

int dispatcher_wait(DispatcherObject *self, struct patience *patience)
{
    enum shmipc_status status = SHMIPC_AGAIN;
    bool slept = false;
    const bool brief = self->spin.limit_ns != 0 && self->spin.budget_ns == self->spin.limit_ns;
    if (brief && self->count > 0) {
        if (!enter_handles(self)) {
            return -1;
        }
        status = poll_briefly(self);
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
            status = wait_slice(self, start_ns, deadline_ns, &slept);
            leave_handles(self, self->count);
        }
        if (status == SHMIPC_OK && self->spin.adaptive) {
            shmipc_spin_learn(&self->spin, shmipc_now_ns() - start_ns, slept);
        }
    }
    return status == SHMIPC_OK;
}
