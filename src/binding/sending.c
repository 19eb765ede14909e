/* sending.c: the methods of Producer that send. */
#include "module.h"

/* ---- sending -------------------------------------------------------------------------------- */

static const char *const send_names[] = {"data", "kind", "flags", "timeout", NULL};
static const char *const try_send_names[] = {"data", "kind", "flags", NULL};
static const struct parameters send_parameters = {"send", send_names, 1, 1};
static const struct parameters send_text_parameters = {"send_text", send_names, 1, 1};
static const struct parameters try_send_parameters = {"try_send", try_send_names, 1, 1};

static void copy_in(unsigned char *to, const unsigned char *from, size_t len)
{
    if (len < COPY_WITHOUT_GIL_LEN) {
        memcpy(to, from, len);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    memcpy(to, from, len);
    Py_END_ALLOW_THREADS
}

static bool refuse_inside_reservation(const ProducerObject *self)
{
    if (SHMIPC_LIKELY(self->reservation == NULL)) {
        return true;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "ring %R has an open reservation: commit or abort it before anything else is sent",
                 self->handle.name);
    return false;
}

/* Room for `span` bytes at *at, waiting as long as the call may. */
static int make_room(ProducerObject *self, uint64_t span, struct patience *patience,
                     unsigned char **at)
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

static int parse_kind_and_flags(PyObject *kind, PyObject *flags, uint64_t *kind_out,
                                uint64_t *flags_out)
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
                        shmipc_message_span(source->len) > ring->ring.area_len)) {
        (void)raise_too_large(&self->handle, source->len);
        return -1;
    }
    const uint64_t span = shmipc_message_span(source->len);
    if (make_room(self, span, patience, &at) != 0) {
        return -1;
    }
    shmipc_message_header_store(at, (uint32_t)source->len, (uint16_t)kind, (uint16_t)flags,
                                ring->next_seq);
    copy_in(at + sizeof(struct shmipc_message_header), source->data, source->len);
    shmipc_ring_commit_messages(ring, span, 1);
    shmipc_producer_notify(&self->core);
    return 0;
}

static int send_item(ProducerObject *self, const struct source *source,
                     struct patience *patience)
{
    struct shmipc_ring_producer *ring = &self->core.ring;
    unsigned char *at;
    if (make_room(self, ring->ring.item_stride, patience, &at) != 0) {
        return -1;
    }
    copy_in(at, source->data, source->len);
    shmipc_ring_commit(ring, ring->ring.item_stride);
    shmipc_producer_notify(&self->core);
    return 0;
}

static int refuse_kind_in_typed(const ProducerObject *self, PyObject *kind, PyObject *flags)
{
    if (self->handle.dtype == NULL || (kind == NULL && flags == NULL)) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError,
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
        if (source_open_bytes(data, &source) == 0) {
            result = send_message(self, &source, kind_value, flags_value, patience);
            source_close(&source);
        }
    } else if (source_open_items(&self->handle, data, false, &source) == 0) {
        result = send_item(self, &source, patience);
        source_close(&source);
    }
    handle_leave(&self->handle);
    return result;
}

const char producer_send_doc[] =
    "send($self, data, *, kind=1, flags=0, timeout=None)\n--\n\n"
             "Copy one message (any C-contiguous buffer) or one item (an ndarray of the ring's\n"
             "dtype and shape, or its bytes) into the ring. It is committed when this returns.\n"
             "\n"
             "kind: 1 to 65535, and flags: 0 to 65535, travel with a message; not in a typed ring.\n"
             "timeout: seconds to wait for room; None for ever, 0 not at all.\n"
             "\n"
             "Raises Full (nothing was sent), ConsumerDied (full, and the durable consumer is\n"
             "dead), ValueError for a message larger than the ring or a buffer that is not\n"
             "contiguous, SchemaMismatch, Closed, RuntimeError inside an open reservation.";

/* The common case, whole: bytes, no options, a message ring with room. False: nothing was done and
 * no exception is set; take the general way. */
static inline bool send_at_once(ProducerObject *self, PyObject *data)
{
    struct shmipc_ring_producer *ring = &self->core.ring;
    if (!PyBytes_CheckExact(data) || self->handle.dtype != NULL || self->reservation != NULL) {
        return false;
    }
    const size_t len = (size_t)PyBytes_GET_SIZE(data);
    if (len >= COPY_WITHOUT_GIL_LEN) {
        return false;
    }
    const uint64_t span = shmipc_message_span(len);
    if (shmipc_ring_room(ring) < span) {
        return false;
    }
    unsigned char *at = ring->ring.data + (ring->head_pos & ring->ring.mask);
    shmipc_message_header_store(at, (uint32_t)len, 1, 0, ring->next_seq);
    memcpy(at + sizeof(struct shmipc_message_header), PyBytes_AS_STRING(data), len);
    shmipc_ring_commit_messages(ring, span, 1);
    shmipc_producer_notify(&self->core);
    return true;
}

PyObject *producer_send(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    ProducerObject *self = (ProducerObject *)object;
    PyObject *given[4] = {NULL, NULL, NULL, NULL};
    struct patience patience = {SHMIPC_NEVER, 0};
    if (SHMIPC_LIKELY(nargs == 1 && kwnames == NULL)) {
        if (!handle_enter(&self->handle)) {
            return NULL;
        }
        const bool sent = send_at_once(self, args[0]);
        handle_leave(&self->handle);
        if (SHMIPC_LIKELY(sent)) {
            Py_RETURN_NONE;
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
    struct patience patience = {0, 0};
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

/* ---- many at once --------------------------------------------------------------------------- */

/* An exception ends a send_many after `sent` items: say so on it, with the item that was taken from
 * an iterator and not sent (`unsent`, or NULL). */
static void annotate(uint64_t sent, PyObject *unsent)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *count = PyLong_FromUnsignedLongLong(sent);
    if (value == NULL || count == NULL || PyObject_SetAttrString(value, "sent", count) != 0 ||
        (unsent != NULL && PyObject_SetAttrString(value, "unsent", unsent) != 0)) {
        PyErr_Clear(); /* an exception without a __dict__ stays as it is */
    }
    Py_XDECREF(count);
    PyErr_Restore(type, value, traceback);
}

/* Is the exception now set merely Full, and something was sent before it? Then it is an answer. */
static bool is_partial(const ProducerObject *self, uint64_t sent)
{
    if (sent == 0 ||
        !PyErr_ExceptionMatches(self->handle.state->exceptions[EXCEPTION_FULL])) {
        return false;
    }
    PyErr_Clear();
    return true;
}

/* Somebody else wants to close this handle, or we are in a forked child now. */
static bool must_stop(ProducerObject *self)
{
    if (!self->handle.segment->forked && shmipc_load_relaxed(self->handle.interrupted) == 0) {
        return false;
    }
    (void)handle_refuse(&self->handle);
    return true;
}

static void copy_items(const struct shmipc_ring *ring, unsigned char *to,
                       const unsigned char *from, uint64_t items)
{
    if (ring->item_stride == ring->item_len) {
        copy_in(to, from, (size_t)(items * ring->item_len));
        return;
    }
    for (uint64_t i = 0; i < items; i++) {
        copy_in(to + i * ring->item_stride, from + i * ring->item_len, (size_t)ring->item_len);
    }
}

/* Send items in runs of at most a quarter of the ring, so that the consumer reads one run while
 * the next is written. */
static int send_items(ProducerObject *self, const struct source *source, struct patience *patience,
                      uint64_t *sent)
{
    struct shmipc_ring_producer *core = &self->core.ring;
    const struct shmipc_ring *ring = &core->ring;
    const uint64_t quarter = ring->area_len / 4 / ring->item_stride;
    const uint64_t most = quarter > 0 ? quarter : 1;
    while (*sent < source->items) {
        unsigned char *at;
        if (must_stop(self)) {
            return -1;
        }
        if (make_room(self, ring->item_stride, patience, &at) != 0) {
            return is_partial(self, *sent) ? 0 : -1;
        }
        uint64_t run = shmipc_ring_room(core) / ring->item_stride;
        run = run < most ? run : most;
        run = run < source->items - *sent ? run : source->items - *sent;
        copy_items(ring, at, source->data + *sent * ring->item_len, run);
        shmipc_ring_commit(core, run * ring->item_stride);
        shmipc_producer_notify(&self->core);
        *sent += run;
    }
    return 0;
}

/* Messages written behind the head but not yet committed. */
struct run {
    uint64_t len;
    uint64_t count;
};

static void commit_run(ProducerObject *self, struct run *run, uint64_t *sent)
{
    if (run->count > 0) {
        shmipc_ring_commit_messages(&self->core.ring, run->len, run->count);
        shmipc_producer_notify(&self->core);
        *sent += run->count;
        run->len = 0;
        run->count = 0;
    }
}

static int add_to_run(ProducerObject *self, struct run *run, const struct source *source,
                      struct patience *patience, uint64_t *sent)
{
    struct shmipc_ring_producer *core = &self->core.ring;
    const uint64_t area = core->ring.area_len;
    unsigned char *at;
    if (source->len > SHMIPC_MAX_MESSAGE_LEN || shmipc_message_span(source->len) > area) {
        (void)raise_too_large(&self->handle, source->len);
        return -1;
    }
    const uint64_t span = shmipc_message_span(source->len);
    if (run->len + span > area / 4 || shmipc_ring_room(core) < run->len + span) {
        commit_run(self, run, sent);
        if (make_room(self, span, patience, &at) != 0) {
            return -1;
        }
    }
    at = core->ring.data + ((core->head_pos + run->len) & core->ring.mask);
    shmipc_message_header_store(at, (uint32_t)source->len, 1, 0, core->next_seq + run->count);
    copy_in(at + sizeof(struct shmipc_message_header), source->data, source->len);
    run->len += span;
    run->count++;
    return 0;
}

static int send_messages(ProducerObject *self, PyObject *items, struct patience *patience,
                         uint64_t *sent)
{
    /* A list is all there; what comes out of anything else may depend on what was sent before, so
     * nothing is held back while the next is fetched. */
    const bool at_hand = PyList_CheckExact(items) || PyTuple_CheckExact(items);
    struct run run = {0, 0};
    PyObject *unsent = NULL;
    int result = 0;
    PyObject *iterator = PyObject_GetIter(items);
    if (iterator == NULL) {
        return -1;
    }
    while (result == 0) {
        struct source source;
        if (!at_hand) {
            commit_run(self, &run, sent);
        }
        PyObject *item = PyIter_Next(iterator);
        if (item == NULL) {
            result = PyErr_Occurred() != NULL ? -1 : 0;
            break;
        }
        result = must_stop(self) ? -1 : source_open_bytes(item, &source);
        if (result == 0) {
            result = add_to_run(self, &run, &source, patience, sent);
            source_close(&source);
        }
        if (result != 0 && !at_hand) {
            unsent = Py_NewRef(item);
        }
        Py_DECREF(item);
    }
    Py_DECREF(iterator);
    if (self->handle.segment->forked) {
        run = (struct run){0, 0}; /* the parent goes on writing there */
    }
    commit_run(self, &run, sent); /* what came before an error is sent all the same */
    if (result != 0 && at_hand && is_partial(self, *sent)) {
        result = 0;
    }
    if (result != 0) {
        annotate(*sent, unsent);
    }
    Py_XDECREF(unsent);
    return result;
}

const char producer_send_many_doc[] =
    "send_many($self, items, *, timeout=None)\n--\n\n"
    "Send an array of items (typed ring: C-contiguous, of the ring's dtype, shape (n, *shape)) or\n"
    "an iterable of buffers (message ring), and return how many were sent: all, unless `timeout`\n"
    "seconds pass with the ring full. What is in a list or tuple is committed run by run; what an\n"
    "iterator yields is committed before the next is asked for.\n"
    "\n"
    "Raises Full if none was sent, and whenever an item was taken from an iterator in vain;\n"
    "otherwise as send(). What came before the item that raises is sent. Exceptions have .sent,\n"
    "how many, and for an iterator .unsent, the item taken and not sent.";

PyObject *producer_send_many(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames)
{
    static const char *const names[] = {"items", "timeout", NULL};
    static const struct parameters parameters = {"send_many", names, 1, 1};
    ProducerObject *self = (ProducerObject *)object;
    PyObject *given[2];
    struct patience patience;
    uint64_t sent = 0;
    int result = -1;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[1], &patience) != 0) {
        return NULL;
    }
    if (self->handle.dtype == NULL && (PyBytes_Check(given[0]) || PyUnicode_Check(given[0]))) {
        return PyErr_Format(PyExc_TypeError,
                            "send_many() takes an iterable of buffers, not one %.200s: use send()",
                            Py_TYPE(given[0])->tp_name);
    }
    if (!handle_enter(&self->handle)) {
        return NULL;
    }
    if (refuse_inside_reservation(self)) {
        struct source source;
        if (self->handle.dtype == NULL) {
            result = send_messages(self, given[0], &patience, &sent);
        } else if (source_open_items(&self->handle, given[0], true, &source) == 0) {
            result = send_items(self, &source, &patience, &sent);
            if (result != 0) {
                annotate(sent, NULL);
            }
            source_close(&source);
        }
    }
    handle_leave(&self->handle);
    return result == 0 ? PyLong_FromUnsignedLongLong(sent) : NULL;
}

/* ---- reserving ------------------------------------------------------------------------------ */

const char producer_reserve_doc[] =
    "reserve($self, n=1, *, kind=1, flags=0, timeout=None)\n--\n\n"
             "Room for a message of n bytes, or for n items, to be written in place: a Reservation.\n"
             "Leaving its with block commits, an exception aborts. Nothing else can be sent\n"
             "meanwhile. Raises as send().";

PyObject *producer_reserve(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames)
{
    static const char *const names[] = {"n", "kind", "flags", "timeout", NULL};
    static const struct parameters parameters = {"reserve", names, 1, 0};
    ProducerObject *self = (ProducerObject *)object;
    const struct shmipc_ring *ring = &self->core.ring.ring;
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
    if (!refuse_inside_reservation(self) || refuse_kind_in_typed(self, given[1], given[2]) != 0 ||
        parse_kind_and_flags(given[1], given[2], &kind, &flags) != 0 ||
        parse_integer("n", given[0], typed ? 1 : 0, SHMIPC_MAX_AREA_LEN, 1, &n) != 0) {
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
    reservation =
        typed ? reservation_new(self, at, (n - 1) * ring->item_stride + ring->item_len, span, n, 0,
                                0)
              : reservation_new(self, at + sizeof(struct shmipc_message_header), n, span, 0,
                                (uint16_t)kind, (uint16_t)flags);
done:
    handle_leave(&self->handle);
    return reservation;
}
