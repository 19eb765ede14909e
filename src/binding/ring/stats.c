/* stats.c: what stats() and lags() return: named tuples, immutable. The fields have the names of
 * struct shmipc_producer_stats and struct shmipc_consumer_stats (shmipc.h). */
#include "stats.h"

enum stats_field {
    STATS_PENDING,
    STATS_LAG,
    STATS_LOST,
    STATS_FRAMES,
    STATS_COUNT,
    STATS_COMMITTED_LEN,
    STATS_ATTACHED,
    STATS_KEPT,
    STATS_RECLAIMED,
    STATS_TOOK_OVER,
    STATS_SLEEPS,
    STATS_WAKES,
    STATS_FIELD_COUNT
};

static PyStructSequence_Field stats_fields[] = {
    [STATS_PENDING] = {"pending", "Consumer: messages or items committed and not yet read; an "
                                  "estimate"},
    [STATS_LAG] = {"lag", "messages or items committed and not yet released, by this consumer or, "
                          "of a producer, by the slowest one; an estimate"},
    [STATS_LOST] = {"lost", "Consumer: messages or items overwritten before it read them, as far "
                            "as reading on has shown"},
    [STATS_FRAMES] = {"frames", "Consumer: frames that hold ring memory"},
    [STATS_COUNT] = {"count", "Producer: messages or items committed since the ring began"},
    [STATS_COMMITTED_LEN] = {"committed_len", "Producer: bytes committed since the ring began, "
                                              "headers and padding included"},
    [STATS_ATTACHED] = {"attached", "Producer: consumers attached and alive"},
    [STATS_KEPT] = {"kept", "Producer: slots kept for consumers that have not joined (hold_for=)"},
    [STATS_RECLAIMED] = {"reclaimed", "Producer: slots of dead consumers that this handle has "
                                      "reclaimed"},
    [STATS_TOOK_OVER] = {"took_over", "Producer: True if this ring was another producer's before"},
    [STATS_SLEEPS] = {"sleeps", "waits of this handle that slept"},
    [STATS_WAKES] = {"wakes", "system calls of this handle to wake its peers"},
    [STATS_FIELD_COUNT] = {NULL, NULL}};

static PyStructSequence_Desc stats_desc = {
    .name = "shmipc.Stats",
    .doc = "Counters of one Producer or Consumer at one moment; from stats().\n\n"
           "A field that this side does not have is None.",
    .fields = stats_fields,
    .n_in_sequence = STATS_FIELD_COUNT};

static PyStructSequence_Field lag_fields[] = {
    {"slot", "number of the consumer's slot in the segment"},
    {"pid", "its process, as that process numbers itself"},
    {"lag", "messages or items committed that it has not released; an estimate"},
    {NULL, NULL}};

static PyStructSequence_Desc lag_desc = {
    .name = "shmipc.Lag",
    .doc = "How far one consumer is behind; from Producer.lags().",
    .fields = lag_fields,
    .n_in_sequence = 3};

static int add_sequence(PyObject *module, PyStructSequence_Desc *desc, PyTypeObject **type)
{
    *type = PyStructSequence_NewType(desc);
    return *type == NULL ? -1 : PyModule_AddType(module, *type);
}

int stats_init(PyObject *module, struct module_state *state)
{
    return add_sequence(module, &stats_desc, &state->stats_type) != 0
               ? -1
               : add_sequence(module, &lag_desc, &state->lag_type);
}

/* A sequence of `values`, which are stolen; NULL with the exception if one of them is NULL. */
static PyObject *sequence_of(PyTypeObject *type, PyObject **values, Py_ssize_t count)
{
    PyObject *sequence = PyStructSequence_New(type);
    bool whole = sequence != NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        whole = whole && values[i] != NULL;
        if (sequence != NULL) {
            PyStructSequence_SetItem(sequence, i, values[i]);
        } else {
            Py_XDECREF(values[i]);
        }
    }
    if (!whole) {
        Py_CLEAR(sequence);
    }
    return sequence;
}

static PyObject *stats_of(const struct module_state *state, PyObject **values)
{
    for (int i = 0; i < STATS_FIELD_COUNT; i++) {
        if (values[i] == NULL && !PyErr_Occurred()) {
            values[i] = Py_NewRef(Py_None);
        }
    }
    return sequence_of(state->stats_type, values, STATS_FIELD_COUNT);
}

static PyObject *number(uint64_t value)
{
    return PyLong_FromUnsignedLongLong(value);
}

const char producer_stats_doc[] =
    "stats($self)\n--\n\n"
    "Counters of the ring and of this handle: a Stats. What only a consumer has (pending, lost,\n"
    "frames) is None.";

PyObject *producer_stats(PyObject *object, PyObject *unused)
{
    (void)unused;
    ProducerObject *self = (ProducerObject *)object;
    const struct shmipc_ring_producer *ring = &self->core.ring;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    const uint64_t committed = ring->head_pos - ring->map.origin_pos;
    PyObject *values[STATS_FIELD_COUNT] = {
        [STATS_LAG] = number(shmipc_ring_pending_estimate(ring)),
        [STATS_COUNT] =
            number(ring->map.item_stride == 0 ? ring->next_seq : committed / ring->map.item_stride),
        [STATS_COMMITTED_LEN] = number(committed),
        [STATS_ATTACHED] = number(shmipc_producer_role_count_attached(&self->core)),
        [STATS_KEPT] = number(shmipc_ring_count_kept(&ring->map)),
        [STATS_RECLAIMED] = number(self->core.reclaimed),
        [STATS_TOOK_OVER] = PyBool_FromLong(self->core.took_over),
        [STATS_SLEEPS] = number(self->core.sleeps),
        [STATS_WAKES] = number(self->core.wakes),
    };
    handle_leave(&self->handle);
    return stats_of(self->handle.state, values);
}

const char consumer_stats_doc[] =
    "stats($self)\n--\n\n"
    "Counters of this handle: a Stats. What only a producer has is None.";

PyObject *consumer_stats(PyObject *object, PyObject *unused)
{
    (void)unused;
    ConsumerObject *self = (ConsumerObject *)object;
    const struct shmipc_ring_consumer *ring = &self->core.ring;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    PyObject *values[STATS_FIELD_COUNT] = {
        [STATS_PENDING] = number(shmipc_ring_unread_estimate(ring)),
        [STATS_LAG] = number(shmipc_ring_lag_estimate(ring)),
        [STATS_LOST] = number(ring->lost),
        [STATS_FRAMES] = number((uint64_t)self->leases),
        [STATS_SLEEPS] = number(self->core.sleeps),
        [STATS_WAKES] = number(self->core.wakes),
    };
    handle_leave(&self->handle);
    return stats_of(self->handle.state, values);
}

const char producer_lags_doc[] =
    "lags($self)\n--\n\n"
    "How far each consumer that is attached and alive is behind: a list of Lag (slot, pid, lag).\n"
    "lag counts the messages or items that it has not released (an estimate; under\n"
    "overflow='overwrite' no more than are retained).";

PyObject *producer_lags(PyObject *object, PyObject *unused)
{
    (void)unused;
    ProducerObject *self = (ProducerObject *)object;
    const struct shmipc_header *shared = self->core.ring.map.shared;
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    for (uint32_t slot = 0; list != NULL && slot < self->core.ring.map.slots; slot++) {
        if (!shmipc_producer_role_is_attached(&self->core, slot)) {
            continue;
        }
        /* Relaxed, as is the pid: an estimate. Nothing is reused on the strength of it, so it needs
         * no R2; the position is checked against our own before a header is read there. */
        const uint64_t cursor_pos = shmipc_load_relaxed(&shared->slots[slot].cursor_pos);
        PyObject *values[] = {number(slot), number(shmipc_load_relaxed(&shared->slots[slot].pid)),
                              number(shmipc_ring_distance_estimate(&self->core.ring, cursor_pos))};
        PyObject *lag = sequence_of(self->handle.state->lag_type, values, 3);
        if (lag == NULL || PyList_Append(list, lag) != 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(lag);
    }
    handle_leave(&self->handle);
    return list;
}
