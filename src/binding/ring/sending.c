/* sending.c: the methods of Producer that send. */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/errors.h"
#include "../base/handle.h"
#include "buffers.h"
#include "copying.h"
#include "frame_object.h"
#include "producer_object.h"
#include "reservation_object.h"
#include "sending.h"
#include "waiting.h"

/* ---- sending -------------------------------------------------------------------------------- */

static const char *const send_names[] = {"data", "kind", "flags", "timeout", NULL};
static const char *const try_send_names[] = {"data", "kind", "flags", NULL};
static const struct parameters send_parameters = {"send", send_names, 1, 1};
static const struct parameters send_text_parameters = {"send_text", send_names, 1, 1};
static const struct parameters try_send_parameters = {"try_send", try_send_names, 1, 1};

bool refuse_inside_reservation(const ProducerObject *self)
{
    if (SHMIPC_LIKELY(atomic_load_explicit(&self->reservation, memory_order_acquire) == NULL)) {
        return true;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "ring %R has an open reservation: commit or abort it before anything else is sent",
                 self->handle.name);
    return false;
}

int make_room(ProducerObject *self, uint64_t span, struct patience *patience, unsigned char **at)
{
    enum shmipc_status status = shmipc_ring_reserve(&self->core.ring, span, at);
    if (SHMIPC_LIKELY(status == SHMIPC_OK)) {
        return 0;
    }
    if (status != SHMIPC_FULL) {
        (void)raise_status(&self->handle, status);
        return -1;
    }
    if (wait_for_room(self, span, patience) != 0) {
        return -1;
    }
    (void)shmipc_ring_reserve(&self->core.ring, span, at); /* succeeds: nobody else reserves */
    return 0;
}

int parse_kind_and_flags(PyObject *kind, PyObject *flags, uint64_t *kind_out, uint64_t *flags_out)
{
    if (SHMIPC_LIKELY(kind == NULL && flags == NULL)) {
        *kind_out = 1;
        *flags_out = 0;
        return 0;
    }
    return parse_integer("kind", kind, 1, UINT16_MAX, 1, kind_out) != 0 ||
                   parse_integer("flags", flags, 0, UINT16_MAX, 0, flags_out) != 0
               ? -1
               : 0;
}

static int send_message(ProducerObject *self, const struct source *source, uint64_t kind,
                        uint64_t flags, struct patience *patience)
{
    struct shmipc_ring_producer *ring = &self->core.ring;
    unsigned char *at;
    if (SHMIPC_UNLIKELY(source->len > SHMIPC_MAX_MESSAGE_LEN ||
                        shmipc_message_span(source->len) > ring->map.area_len)) {
        (void)raise_too_large(&self->handle, source->len);
        return -1;
    }
    const uint64_t span = shmipc_message_span(source->len);
    if (make_room(self, span, patience, &at) != 0) {
        return -1;
    }
    shmipc_message_header_store(at, (uint32_t)source->len, (uint16_t)kind, (uint16_t)flags,
                                ring->next_seq);
    source_copy(at + sizeof(struct shmipc_message_header), source);
    shmipc_ring_commit_messages(ring, span, 1);
    return notify(self) ? 0 : -1;
}

int producer_send_plain(ProducerObject *self, const unsigned char *data, size_t len, uint16_t kind,
                        struct patience *patience)
{
    const struct source source = {.data = data, .len = len};
    const struct module_state *state = self->handle.state;
    int result = -1;
    if (!handle_enter(&self->handle)) {
        return -1;
    }
    if (refuse_inside_reservation(self)) {
        result = send_message(self, &source, kind, 0, patience);
    }
    handle_leave(&self->handle);
    if (result == 0) {
        return 1;
    }
    if (patience->span_ns == 0 &&
        (PyErr_ExceptionMatches(state->exceptions[EXCEPTION_FULL]) ||
         PyErr_ExceptionMatches(state->exceptions[EXCEPTION_CONSUMER_DIED]))) {
        PyErr_Clear();
        return 0;
    }
    return -1;
}

static int send_item(ProducerObject *self, const struct source *source, struct patience *patience)
{
    struct shmipc_ring_producer *ring = &self->core.ring;
    unsigned char *at;
    if (make_room(self, ring->map.item_stride, patience, &at) != 0) {
        return -1;
    }
    source_copy(at, source);
    shmipc_ring_commit(ring, ring->map.item_stride);
    return notify(self) ? 0 : -1;
}

int refuse_kind_in_typed(const ProducerObject *self, PyObject *kind, PyObject *flags)
{
    if (self->handle.dtype == NULL || (kind == NULL && flags == NULL)) {
        return 0;
    }
    PyErr_Format(
        PyExc_ValueError,
        "ring %R is typed: its items have no kind= or flags=; make them fields of the dtype",
        self->handle.name);
    return -1;
}

/* send and try_send: 0 sent, -1 an exception. */
static int send_object(ProducerObject *self, PyObject *data, PyObject *kind, PyObject *flags,
                       struct patience *patience)
{
    struct source source;
    uint64_t kind_value, flags_value;
    int result = -1;
    if (!handle_enter(&self->handle)) {
        return -1;
    }
    if (!refuse_inside_reservation(self) || refuse_kind_in_typed(self, kind, flags) != 0 ||
        parse_kind_and_flags(kind, flags, &kind_value, &flags_value) != 0) {
        handle_leave(&self->handle);
        return -1;
    }
    if (self->handle.dtype == NULL) {
        if (source_open_bytes(self->handle.state, data, &source) == 0) {
            /* A buffer may be Python code, which may fork. */
            result = handle_is_ours(&self->handle)
                         ? send_message(self, &source, kind_value, flags_value, patience)
                         : -1;
            source_close(&source);
        }
    } else if (source_open_items(&self->handle, data, false, &source) == 0) {
        result = handle_is_ours(&self->handle) ? send_item(self, &source, patience) : -1;
        source_close(&source);
    }
    handle_leave(&self->handle);
    return result;
}

const char producer_send_doc[] =
    "send($self, data, *, kind=1, flags=0, timeout=None)\n--\n\n"
    "Copy one message (any buffer) or one item (an ndarray of the ring's dtype and shape, a\n"
    "numpy scalar of its dtype, or its bytes) into the ring. It is committed when this\n"
    "returns. Of an array with strides the elements are sent in C order, as bytes(memoryview)\n"
    "has them.\n"
    "\n"
    "kind: 1 to 65535, and flags: 0 to 65535, travel with a message; not in a typed ring.\n"
    "timeout: seconds to wait for room; None for ever, 0 not at all.\n"
    "\n"
    "Raises Full (nothing was sent), ConsumerDied (full, and the durable consumer is\n"
    "dead: once, the next call waits for another), ValueError for a message larger than the\n"
    "ring, TypeError for what means more than its bytes (Python objects, masked arrays,\n"
    "units), SchemaMismatch, Closed, RuntimeError inside an open reservation.";

/* The common case, whole: bytes, no options, a message ring with room. 0: sent. 1: nothing was done
 * and no exception is set; take the general way. -1: an exception. */
static inline int send_at_once(ProducerObject *self, PyObject *data)
{
    struct shmipc_ring_producer *ring = &self->core.ring;
    if (!PyBytes_CheckExact(data) || self->handle.dtype != NULL ||
        atomic_load_explicit(&self->reservation, memory_order_acquire) != NULL) {
        return 1;
    }
    const size_t len = (size_t)PyBytes_GET_SIZE(data);
    if (len >= COPY_WITHOUT_GIL_LEN) {
        return 1;
    }
    const uint64_t span = shmipc_message_span(len);
    if (shmipc_ring_room(ring) < span) {
        return 1;
    }
    unsigned char *at = ring->map.data + (ring->head_pos & ring->map.mask);
    shmipc_message_header_store(at, (uint32_t)len, 1, 0, ring->next_seq);
    memcpy(at + sizeof(struct shmipc_message_header), PyBytes_AS_STRING(data), len);
    shmipc_ring_commit_messages(ring, span, 1);
    return notify(self) ? 0 : -1;
}

PyObject *producer_send(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    ProducerObject *self = (ProducerObject *)object;
    PyObject *given[4] = {NULL, NULL, NULL, NULL};
    struct patience patience = {SHMIPC_NEVER, 0, false};
    if (SHMIPC_LIKELY(nargs == 1 && kwnames == NULL)) {
        if (!handle_enter(&self->handle)) {
            return NULL;
        }
        const int result = send_at_once(self, args[0]);
        handle_leave(&self->handle);
        if (SHMIPC_LIKELY(result == 0)) {
            Py_RETURN_NONE;
        }
        if (result < 0) {
            return NULL;
        }
        given[0] = args[0];
    } else if (parse_arguments(&send_parameters, args, nargs, kwnames, given) != 0 ||
               parse_timeout(given[3], &patience) != 0) {
        return NULL;
    }
    if (send_object(self, given[0], given[1], given[2], &patience) != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

const char producer_send_text_doc[] =
    "send_text($self, data, *, kind=1, flags=0, timeout=None)\n--\n\n"
    "Send a str as UTF-8; Consumer.recv_text gives it back. Otherwise as send().";

PyObject *producer_send_text(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    PyObject *given[4];
    struct patience patience;
    if (parse_arguments(&send_text_parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[3], &patience) != 0) {
        return NULL;
    }
    if (!PyUnicode_Check(given[0])) {
        return PyErr_Format(PyExc_TypeError, "send_text() takes str, not %.200s: use send()",
                            Py_TYPE(given[0])->tp_name);
    }
    PyObject *encoded = PyUnicode_AsUTF8String(given[0]);
    if (encoded == NULL) {
        return NULL;
    }
    const int result =
        send_object((ProducerObject *)object, encoded, given[1], given[2], &patience);
    Py_DECREF(encoded);
    if (result != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

const char producer_try_send_doc[] =
    "try_send($self, data, *, kind=1, flags=0)\n--\n\n"
    "As send(timeout=0), but a full ring is False instead of Full. True: committed.";

PyObject *producer_try_send(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    ProducerObject *self = (ProducerObject *)object;
    PyObject *given[3];
    struct patience patience = {0, 0, true};
    if (parse_arguments(&try_send_parameters, args, nargs, kwnames, given) != 0) {
        return NULL;
    }
    if (send_object(self, given[0], given[1], given[2], &patience) != 0) {
        if (self->handle.state == NULL ||
            !PyErr_ExceptionMatches(self->handle.state->exceptions[EXCEPTION_FULL])) {
            return NULL;
        }
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

/* ---- reserving ------------------------------------------------------------------------------ */

const char producer_reserve_doc[] =
    "reserve($self, n=None, *, kind=1, flags=0, timeout=None)\n--\n\n"
    "Room to be written in place: a Reservation. Leaving its with block commits, an exception\n"
    "aborts. Nothing else can be sent meanwhile.\n"
    "\n"
    "n: typed ring: None is one item, whose .array has the ring's shape, as of read(); n items\n"
    "    have (n, *shape), as of read_batch(). Message ring: bytes of the message; needed.\n"
    "\n"
    "Raises as send().";

PyObject *producer_reserve(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames)
{
    static const char *const names[] = {"n", "kind", "flags", "timeout", NULL};
    static const struct parameters parameters = {"reserve", names, 1, 0};
    ProducerObject *self = (ProducerObject *)object;
    const struct shmipc_ring *ring = &self->core.ring.map;
    PyObject *given[4];
    PyObject *reservation = NULL;
    struct patience patience;
    uint64_t n, kind, flags;
    unsigned char *at;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[3], &patience) != 0 || !handle_enter(&self->handle)) {
        return NULL;
    }
    const bool typed = self->handle.dtype != NULL;
    const bool single = typed && (given[0] == NULL || given[0] == Py_None);
    if (!typed && (given[0] == NULL || given[0] == Py_None)) {
        PyErr_Format(PyExc_TypeError,
                     "ring %R has messages of any length: say how many bytes, reserve(n)",
                     self->handle.name);
        goto done;
    }
    if (!refuse_inside_reservation(self) || refuse_kind_in_typed(self, given[1], given[2]) != 0 ||
        parse_kind_and_flags(given[1], given[2], &kind, &flags) != 0 ||
        parse_integer("n", given[0], typed ? 1 : 0, SHMIPC_MAX_AREA_LEN, 1, &n) != 0 ||
        !handle_is_ours(&self->handle)) { /* __index__ is Python code, which may fork */
        goto done;
    }
    if (typed && n > ring->area_len / ring->item_stride) {
        PyErr_Format(PyExc_ValueError, "%llu items never fit ring %R, whose capacity is %llu",
                     (unsigned long long)n, self->handle.name,
                     (unsigned long long)(ring->area_len / ring->item_stride));
        goto done;
    }
    if (!typed && (n > SHMIPC_MAX_MESSAGE_LEN || shmipc_message_span(n) > ring->area_len)) {
        (void)raise_too_large(&self->handle, n);
        goto done;
    }
    const uint64_t span = typed ? n * ring->item_stride : shmipc_message_span(n);
    if (make_room(self, span, &patience, &at) != 0) {
        goto done;
    }
    reservation = typed ? reservation_new(self, at, (n - 1) * ring->item_stride + ring->item_len,
                                          span, n, single, 0, 0)
                        : reservation_new(self, at + sizeof(struct shmipc_message_header), n, span,
                                          0, true, (uint16_t)kind, (uint16_t)flags);
done:
    handle_leave(&self->handle);
    return reservation;
}
