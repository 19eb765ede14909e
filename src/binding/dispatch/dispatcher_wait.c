/* dispatcher_wait.c: how a Dispatcher waits: for any of its rings, with the GIL released. */
#include "../base/errors.h"
#include "../base/gil.h"
#include "../base/handle.h"
#include "../ring/consumer_object.h"
#include "../ring/hint.h"
#include "../ring/producer_object.h"
#include "../ring/waiting.h"
#include "dispatcher.h"

/* How long to spin with the GIL held where nobody else could want it, before looking again. */
#define ALONE_SLICE_NS UINT64_C(200000)

static void leave_handles(DispatcherObject *self, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        handle_leave(&self->subscriptions[i]->consumer->handle);
    }
}

static bool enter_handles(DispatcherObject *self)
{
    for (Py_ssize_t i = 0; i < self->count; i++) {
        ConsumerObject *consumer = self->subscriptions[i]->consumer;
        if (!handle_enter(&consumer->handle)) {
            subscription_blame(self->subscriptions[i]);
            leave_handles(self, i);
            return false;
        }
        self->set.members[i] = shmipc_waited_consumer(&consumer->core);
    }
    self->set.count = (uint32_t)self->count;
    return true;
}

int dispatcher_look_at_peers(DispatcherObject *self)
{
    for (Py_ssize_t i = 0; i < self->count; i++) {
        struct subscription *subscription = self->subscriptions[i];
        HandleObject *handle = &subscription->consumer->handle;
        if (!handle_enter(handle)) {
            subscription_blame(subscription);
            return -1;
        }
        const enum shmipc_status status =
            shmipc_consumer_role_poll_peer(&subscription->consumer->core);
        if (status != SHMIPC_OK && status != SHMIPC_EMPTY) {
            (void)raise_status(handle, status);
            subscription_blame(subscription);
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
    ConsumerObject *consumer = self->subscriptions[0]->consumer;
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
        if (shmipc_ring_prefetch(&shmipc_consumer_of_waited(&self->set.members[next])->ring)) {
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

/* One slice of waiting, and more where nothing asks for the GIL: spin as long as is left of the
 * budget, then sleep. */
static enum shmipc_status wait_slice(DispatcherObject *self, uint64_t deadline_ns)
{
    struct gil_absence absence;
    enum shmipc_status status;
    bool away = !is_alone();
    if (away) {
        gil_leave(&absence);
    }
    do {
        status = shmipc_waitset_spin(&self->set, deadline_ns,
                                     away ? SHMIPC_SPIN_SLICE_NS : ALONE_SLICE_NS);
        if (status == SHMIPC_EMPTY) {
            if (!away) {
                gil_leave(&absence);
                away = true;
            }
            status = shmipc_waitset_sleep(&self->set, deadline_ns);
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
    const int64_t polls = shmipc_brief_polls_of_each(self->count);
    for (int64_t poll = 0; poll < polls; poll++) {
        bool ready = false;
        for (Py_ssize_t i = 0; i < self->count; i++) {
            ready |= shmipc_ring_readable(
                         &shmipc_consumer_of_waited(&self->set.members[i])->ring) != SHMIPC_EMPTY;
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
    if (self->count > 0 && shmipc_spin_is_whole(&self->spin)) {
        if (!enter_handles(self)) {
            return -1;
        }
        status = poll_briefly(self);
        leave_handles(self, self->count);
    }
    if (status == SHMIPC_AGAIN) {
        const uint64_t deadline_ns = patience_deadline(patience);
        struct vigil vigil = {0};
        shmipc_waitset_begin(&self->set);
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
            status = wait_slice(self, deadline_ns);
            ConsumerObject *in_the_way =
                status == SHMIPC_AGAIN ? vigil_look(&vigil, self->set.members, self->set.count)
                                       : NULL;
            leave_handles(self, self->count);
            if (vigil_tell(&vigil, in_the_way) != 0) { /* runs Python code: outside, as handlers */
                return -1;
            }
        }
        if (status == SHMIPC_OK) {
            shmipc_waitset_learn(&self->set);
        }
    }
    return status == SHMIPC_OK;
}
