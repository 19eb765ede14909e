/* waiting.c: seconds into deadlines, and the loops that wait in slices with the GIL released. */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/errors.h"
#include "../base/gil.h"
#include "../base/handle.h"
#include "consumer_object.h"
#include "hint.h"
#include "producer_object.h"
#include "waiting.h"

#include <math.h>

static int parse_seconds(const char *what, PyObject *seconds, uint64_t *span_ns)
{
    const double value =
        PyLong_CheckExact(seconds) ? PyLong_AsDouble(seconds) : PyFloat_AsDouble(seconds);
    if (value == -1.0 && PyErr_Occurred() != NULL) {
        return -1;
    }
    if (isnan(value) || value < 0) {
        PyErr_Format(PyExc_ValueError, "%s must be None or a number of seconds >= 0, not %R", what,
                     seconds);
        return -1;
    }
    *span_ns = value >= 9e9 ? SHMIPC_NEVER : (uint64_t)(value * 1e9);
    return 0;
}

int parse_timeout(PyObject *seconds, struct patience *patience)
{
    patience->deadline_ns = 0;
    patience->tries = false;
    if (seconds == NULL || seconds == Py_None) {
        patience->span_ns = SHMIPC_NEVER;
        return 0;
    }
    return parse_seconds("timeout", seconds, &patience->span_ns);
}

uint64_t patience_deadline(struct patience *patience)
{
    if (patience->deadline_ns == 0) {
        patience->deadline_ns = patience->span_ns == SHMIPC_NEVER
                                    ? SHMIPC_NEVER
                                    : shmipc_deadline_ns(shmipc_now_ns(), patience->span_ns);
    }
    return patience->deadline_ns;
}

int check_signals(HandleObject *handle)
{
    if (PyErr_CheckSignals() != 0) {
        return -1;
    }
#ifdef Py_GIL_DISABLED
    /* An object whose last reference another thread dropped is deallocated by the thread that made
     * it, when that next runs Python code. So a frame dropped elsewhere holds ring memory until its
     * reader does, while the reader waits here for what the producer has no room to send. */
    PyObject *none = PyObject_CallNoArgs(handle->state->breathe);
    if (none == NULL) {
        return -1;
    }
    Py_DECREF(none);
#endif
    return handle_is_ours(handle) ? 0 : -1; /* a handler may fork */
}

int parse_spin(PyObject *seconds, struct shmipc_spin *spin)
{
    uint64_t limit_ns;
    if (seconds == NULL || seconds == Py_None) {
        shmipc_spin_init(spin, SHMIPC_SPIN_DEFAULT_NS, true);
        return 0;
    }
    if (parse_seconds("spin", seconds, &limit_ns) != 0) {
        return -1;
    }
    shmipc_spin_init(spin, limit_ns, false);
    return 0;
}

int wait_for_data(ConsumerObject *consumer, struct patience *patience)
{
    struct shmipc_consumer_role *core = &consumer->core;
    const bool poll_only = patience->span_ns == 0;
    enum shmipc_status status = shmipc_consumer_role_poll_briefly(core, !poll_only);
    if (status == SHMIPC_EMPTY && poll_only) {
        status = shmipc_consumer_role_poll_peer(core);
    } else if (status == SHMIPC_EMPTY) {
        struct gil_absence absence;
        struct shmipc_wait wait = {0};
        struct vigil vigil = {0};
        const uint64_t deadline_ns = patience_deadline(patience);
        do {
            if (check_signals(&consumer->handle) != 0) {
                return -1;
            }
            gil_leave(&absence);
            do {
                status = shmipc_consumer_role_wait_data(core, &wait, deadline_ns);
            } while (status == SHMIPC_AGAIN && gil_stay_away(&absence));
            gil_return(&absence);
            if (status == SHMIPC_AGAIN && vigil_keep(&vigil, consumer) != 0) {
                return -1;
            }
        } while (status == SHMIPC_AGAIN);
    }
    if (status == SHMIPC_OK) {
        return 0;
    }
    (void)raise_status(&consumer->handle, status == SHMIPC_TIMEOUT ? SHMIPC_EMPTY : status);
    return -1;
}

int after_lap(ConsumerObject *consumer, struct patience *patience)
{
    if (check_signals(&consumer->handle) != 0 || !check_whole(&consumer->handle)) {
        return -1;
    }
    if (patience->span_ns != SHMIPC_NEVER && shmipc_now_ns() >= patience_deadline(patience)) {
        (void)raise_status(&consumer->handle, SHMIPC_EMPTY);
        return -1;
    }
    return 0;
}

int wait_for_room(ProducerObject *producer, uint64_t len, struct patience *patience)
{
    struct shmipc_producer_role *core = &producer->core;
    enum shmipc_status status;
    if (patience->span_ns == 0) {
        status = shmipc_producer_role_poll_peers(core);
        if (status == SHMIPC_OK) {
            unsigned char *at;
            status = shmipc_ring_reserve(&core->ring, len, &at);
        }
    } else {
        struct gil_absence absence;
        struct shmipc_wait wait = {0};
        const uint64_t deadline_ns = patience_deadline(patience);
        do {
            if (check_signals(&producer->handle) != 0) {
                return -1;
            }
            gil_leave(&absence);
            do {
                status = shmipc_producer_role_wait_room(core, &wait, len, deadline_ns);
            } while (status == SHMIPC_AGAIN && gil_stay_away(&absence));
            gil_return(&absence);
        } while (status == SHMIPC_AGAIN);
    }
    if (status == SHMIPC_OK) {
        return 0;
    }
    if (status != SHMIPC_TIMEOUT && status != SHMIPC_FULL) {
        (void)raise_status(&producer->handle, status);
    } else if (patience->tries) {
        PyErr_SetNone(producer->handle.state->exceptions[EXCEPTION_FULL]);
    } else {
        (void)raise_full(producer);
    }
    return -1;
}

int wait_for_live_producer(ConsumerObject *consumer, struct patience *patience)
{
    struct gil_absence absence;
    struct shmipc_wait wait = {0};
    const uint64_t deadline_ns = patience_deadline(patience);
    enum shmipc_status status;
    do {
        if (check_signals(&consumer->handle) != 0) {
            return -1;
        }
        gil_leave(&absence);
        do {
            status = shmipc_consumer_role_wait_producer(&consumer->core, &wait, deadline_ns);
        } while (status == SHMIPC_AGAIN && gil_stay_away(&absence));
        gil_return(&absence);
    } while (status == SHMIPC_AGAIN);
    if (status == SHMIPC_TIMEOUT) {
        struct shmipc_error error;
        (void)shmipc_fail(&error, SHMIPC_NOT_FOUND, 0,
                          "this ring has no producer: is it started, with the same name and "
                          "SHMIPC_DIR?");
        (void)raise_error(consumer->handle.state, &error, consumer->core.segment.path);
        return -1;
    }
    if (status != SHMIPC_OK) {
        (void)raise_status(&consumer->handle, status);
        return -1;
    }
    return 0;
}

int wait_for_attached(ProducerObject *producer, uint32_t count, struct patience *patience)
{
    struct gil_absence absence;
    struct shmipc_wait wait = {0};
    const uint64_t deadline_ns = patience_deadline(patience);
    enum shmipc_status status;
    do {
        if (check_signals(&producer->handle) != 0) {
            return -1;
        }
        gil_leave(&absence);
        do {
            status = shmipc_producer_role_wait_attached(&producer->core, &wait, count, deadline_ns);
        } while (status == SHMIPC_AGAIN && gil_stay_away(&absence));
        gil_return(&absence);
    } while (status == SHMIPC_AGAIN);
    if (status == SHMIPC_TIMEOUT) {
        struct shmipc_error error;
        (void)shmipc_fail(&error, SHMIPC_NOT_FOUND, 0,
                          "%u of the %u consumers waited for are attached to %s: are they started, "
                          "with the same name and SHMIPC_DIR?",
                          shmipc_producer_role_count_attached(&producer->core), count,
                          producer->core.segment.path);
        (void)raise_error(producer->handle.state, &error, producer->core.segment.path);
        return -1;
    }
    if (status != SHMIPC_OK) {
        (void)raise_status(&producer->handle, status);
        return -1;
    }
    return 0;
}

/* ---- wait(objects) -------------------------------------------------------------------------- */

struct waiting {
    PyObject *objects;  /* a tuple of Consumers */
    Py_ssize_t entered; /* so many of them */
    struct shmipc_waitset set;
};

static void set_leave(struct waiting *waiting)
{
    for (Py_ssize_t i = 0; i < waiting->entered; i++) {
        handle_leave((HandleObject *)PyTuple_GET_ITEM(waiting->objects, i));
    }
    PyMem_Free(waiting->set.members); /* the block's beginning */
}

static int set_enter(struct waiting *waiting, struct module_state *state)
{
    PyObject *objects = waiting->objects;
    const Py_ssize_t count = PyTuple_GET_SIZE(objects);
    void *memory = PyMem_Calloc(1, shmipc_waitset_size((size_t)count + 1));
    if (memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    shmipc_waitset_place(&waiting->set, memory, (uint32_t)count);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *object = PyTuple_GET_ITEM(objects, i);
        if (!PyObject_TypeCheck(object, state->consumer_type)) {
            PyErr_Format(PyExc_TypeError, "wait() takes Consumers, not %.200s",
                         Py_TYPE(object)->tp_name);
            return -1;
        }
        for (Py_ssize_t k = 0; k < i; k++) {
            if (PyTuple_GET_ITEM(objects, k) == object) {
                PyErr_SetString(PyExc_ValueError, "wait() was given the same Consumer twice");
                return -1;
            }
        }
        if (!handle_enter((HandleObject *)object)) {
            return -1;
        }
        waiting->entered++;
        waiting->set.members[i] = shmipc_waited_consumer(&((ConsumerObject *)object)->core);
    }
    return 0;
}

/* As check_signals, for all of them. */
static int set_check_signals(const struct waiting *waiting)
{
    if (waiting->entered == 0) {
        return PyErr_CheckSignals();
    }
    if (check_signals((HandleObject *)PyTuple_GET_ITEM(waiting->objects, 0)) != 0) {
        return -1;
    }
    for (Py_ssize_t i = 1; i < waiting->entered; i++) {
        if (!handle_is_ours((HandleObject *)PyTuple_GET_ITEM(waiting->objects, i))) {
            return -1;
        }
    }
    return 0;
}

/* OK or TIMEOUT; AGAIN with an exception. */
static enum shmipc_status set_wait(struct waiting *waiting, uint64_t deadline_ns)
{
    struct gil_absence absence;
    struct vigil vigil = {0};
    struct shmipc_waitset *set = &waiting->set;
    enum shmipc_status status;
    shmipc_waitset_begin(set);
    do {
        if (set_check_signals(waiting) != 0) {
            return SHMIPC_AGAIN;
        }
        gil_leave(&absence);
        do {
            status = shmipc_waitset_slice(set, deadline_ns);
        } while (status == SHMIPC_AGAIN && gil_stay_away(&absence));
        gil_return(&absence);
        if (status == SHMIPC_AGAIN &&
            vigil_tell(&vigil, vigil_look(&vigil, set->members, set->count)) != 0) {
            return SHMIPC_AGAIN;
        }
    } while (status == SHMIPC_AGAIN);
    if (status == SHMIPC_OK) {
        shmipc_waitset_learn(set);
    }
    return status;
}

static PyObject *set_ready(const struct waiting *waiting, enum shmipc_status status)
{
    PyObject *list = status == SHMIPC_AGAIN ? NULL : PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && status == SHMIPC_OK && i < waiting->entered; i++) {
        if (waiting->set.ready[i] &&
            PyList_Append(list, PyTuple_GET_ITEM(waiting->objects, i)) != 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static const char *const wait_names[] = {"objects", "timeout", NULL};
static const struct parameters wait_parameters = {"wait", wait_names, 2, 1};

PyObject *module_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct module_state *state = PyModule_GetState(module);
    struct waiting waiting = {0};
    struct patience patience;
    PyObject *given[2];
    PyObject *result = NULL;
    if (parse_arguments(&wait_parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[1], &patience) != 0) {
        return NULL;
    }
    if (PyObject_TypeCheck(given[0], state->consumer_type)) {
        /* It is iterable too, and iterating over it would read it. */
        PyErr_SetString(PyExc_TypeError, "wait() takes an iterable of Consumers: wait([consumer])");
        return NULL;
    }
    waiting.objects = PySequence_Tuple(given[0]);
    if (waiting.objects == NULL) {
        return NULL;
    }
    if (set_enter(&waiting, state) == 0) {
        result = set_ready(&waiting, set_wait(&waiting, patience_deadline(&patience)));
    }
    set_leave(&waiting);
    Py_DECREF(waiting.objects);
    return result;
}
