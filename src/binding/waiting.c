/* waiting.c: seconds into deadlines, and the loops that wait in slices with the GIL released. */
#include "gil.h"
#include "module.h"

#include <math.h>

/* Polls with the GIL held before anything else: about a microsecond, less than giving the GIL away
 * and taking it back costs when somebody wants it, and longer than an answer takes that is already
 * on its way from another core. */
#define BRIEF_POLLS 1000

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
    enum shmipc_status status = SHMIPC_EMPTY;
    const bool poll_only = patience->span_ns == 0;
    /* Where spinning has not paid of late, neither would this. */
    const bool brief = core->spin.limit_ns != 0 && core->spin.budget_ns == core->spin.limit_ns;
    const int polls = brief && !poll_only ? BRIEF_POLLS : 1;
    for (int poll = 0; poll < polls && status == SHMIPC_EMPTY; poll++) {
        status = shmipc_ring_readable(&core->ring);
    }
    if (status == SHMIPC_EMPTY && poll_only) {
        status = shmipc_consumer_role_poll_peer(core);
    } else if (status == SHMIPC_EMPTY) {
        struct gil_absence absence;
        struct shmipc_wait wait = {0};
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
        } while (status == SHMIPC_AGAIN);
    }
    if (status == SHMIPC_OK) {
        return 0;
    }
    (void)raise_status(&consumer->handle, status == SHMIPC_TIMEOUT ? SHMIPC_EMPTY : status);
    return -1;
}

enum shmipc_status nap_slice(uint64_t deadline_ns)
{
    const uint64_t now_ns = shmipc_now_ns();
    if (now_ns >= deadline_ns) {
        return SHMIPC_TIMEOUT;
    }
    const uint64_t left_ns = deadline_ns - now_ns;
    shmipc_wait_nap(left_ns < SHMIPC_SLICE_NS ? left_ns : SHMIPC_SLICE_NS);
    return SHMIPC_AGAIN;
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
    (void)raise_status(&producer->handle, status == SHMIPC_TIMEOUT ? SHMIPC_FULL : status);
    return -1;
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
                          "%u of the %u consumers waited for are attached: are they started, with "
                          "the same name and SHMIPC_DIR?",
                          shmipc_producer_role_count_attached(&producer->core), count);
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

struct waiting_set {
    Py_ssize_t count;
    Py_ssize_t entered;
    struct shmipc_consumer_role **cores;
    shmipc_atomic_u32 **words;
    uint32_t *marks;
    bool *ready;
};

static void set_leave(struct waiting_set *set, PyObject *objects)
{
    for (Py_ssize_t i = 0; i < set->entered; i++) {
        handle_leave((HandleObject *)PyTuple_GET_ITEM(objects, i));
    }
    PyMem_Free(set->cores);
    PyMem_Free(set->words);
    PyMem_Free(set->marks);
    PyMem_Free(set->ready);
}

static int set_enter(struct waiting_set *set, struct module_state *state, PyObject *objects)
{
    memset(set, 0, sizeof *set);
    set->count = PyTuple_GET_SIZE(objects);
    const size_t count = (size_t)set->count;
    set->cores = PyMem_Calloc(count + 1, sizeof *set->cores);
    set->words = PyMem_Calloc(count + 1, sizeof *set->words);
    set->marks = PyMem_Calloc(count + 1, sizeof *set->marks);
    set->ready = PyMem_Calloc(count + 1, sizeof *set->ready);
    if (set->cores == NULL || set->words == NULL || set->marks == NULL || set->ready == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < set->count; i++) {
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
        set->entered++;
        set->cores[i] = &((ConsumerObject *)object)->core;
    }
    return 0;
}

/* As check_signals, for all of them. */
static int set_check_signals(const struct waiting_set *set, PyObject *objects)
{
    if (set->count == 0) {
        return PyErr_CheckSignals();
    }
    for (Py_ssize_t i = 0; i < set->count; i++) {
        if (check_signals((HandleObject *)PyTuple_GET_ITEM(objects, i)) != 0) {
            return -1;
        }
    }
    return 0;
}

/* One slice, without the GIL. */
static enum shmipc_status set_wait_slice(struct waiting_set *set, uint64_t deadline_ns)
{
    if (set->count == 0) {
        return nap_slice(deadline_ns); /* only time and signals end it, as in select() */
    }
    return shmipc_consumers_wait_any(set->cores, (uint32_t)set->count, set->ready, set->words,
                                     set->marks, deadline_ns);
}

static const char *const wait_names[] = {"objects", "timeout", NULL};
static const struct parameters wait_parameters = {"wait", wait_names, 2, 1};

PyObject *module_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    struct module_state *state = PyModule_GetState(module);
    PyObject *given[2];
    PyObject *result = NULL;
    struct waiting_set set;
    struct patience patience;
    struct gil_absence absence;
    enum shmipc_status status;
    if (parse_arguments(&wait_parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[1], &patience) != 0) {
        return NULL;
    }
    if (PyObject_TypeCheck(given[0], state->consumer_type)) {
        /* It is iterable too, and iterating over it would read it. */
        PyErr_SetString(PyExc_TypeError, "wait() takes an iterable of Consumers: wait([consumer])");
        return NULL;
    }
    PyObject *objects = PySequence_Tuple(given[0]);
    if (objects == NULL) {
        return NULL;
    }
    if (set_enter(&set, state, objects) != 0) {
        goto done;
    }
    const uint64_t deadline_ns = patience_deadline(&patience);
    do {
        if (set_check_signals(&set, objects) != 0) {
            goto done;
        }
        gil_leave(&absence);
        do {
            status = set_wait_slice(&set, deadline_ns);
        } while (status == SHMIPC_AGAIN && gil_stay_away(&absence));
        gil_return(&absence);
    } while (status == SHMIPC_AGAIN);
    result = PyList_New(0);
    for (Py_ssize_t i = 0; result != NULL && status == SHMIPC_OK && i < set.count; i++) {
        if (set.ready[i] && PyList_Append(result, PyTuple_GET_ITEM(objects, i)) != 0) {
            Py_CLEAR(result);
        }
    }
done:
    set_leave(&set, objects);
    Py_DECREF(objects);
    return result;
}
