/* sending_many.c: Producer.send_many. */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/errors.h"
#include "../base/handle.h"
#include "buffers.h"
#include "producer_object.h"
#include "sending.h"
#include "waiting.h"
#include "../../core/ring/bulk.h"

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
    if (sent == 0 || !PyErr_ExceptionMatches(self->handle.state->exceptions[EXCEPTION_FULL])) {
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

/* Items of the source from `first` on, one after another; the first axis of a source with strides
 * counts them. */
static void copy_run(unsigned char *to, const struct source *source, uint64_t item_len,
                     uint64_t first, uint64_t items)
{
    if (source->strides != NULL) {
        source_copy_part(to, source, first, items);
    } else {
        copy_in(to, source->data + first * item_len, (size_t)(items * item_len));
    }
}

struct bulk {
    ProducerObject *producer;
    const struct source *source; /* of items; NULL: messages */
    struct patience *patience;
    uint64_t *sent;
    struct shmipc_run run;
    uint16_t kind;
    uint16_t flags;
};

static int bulk_make_room(void *self, uint64_t len)
{
    struct bulk *bulk = self;
    unsigned char *ignored;
    if (bulk->source != NULL && must_stop(bulk->producer)) {
        return -1;
    }
    return make_room(bulk->producer, len, bulk->patience, &ignored);
}

static void bulk_copy(void *self, unsigned char *to, uint64_t first, uint64_t count)
{
    const struct bulk *bulk = self;
    const struct shmipc_ring *ring = &bulk->producer->core.ring.map;
    if (ring->item_stride == ring->item_len) {
        copy_run(to, bulk->source, ring->item_len, first, count);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        copy_run(to + i * ring->item_stride, bulk->source, ring->item_len, first + i, 1);
    }
}

static int bulk_fail(void *self, enum shmipc_status status)
{
    (void)raise_status(&((struct bulk *)self)->producer->handle, status);
    return -1;
}

static const struct shmipc_bulk_calls bulk_calls = {bulk_make_room, bulk_copy, bulk_fail};

/* -1: an exception, and nothing of the run counts as sent. */
static int commit_run(struct bulk *bulk)
{
    return shmipc_run_commit(&bulk->producer->core, &bulk->run, &bulk_calls, bulk, bulk->sent);
}

static int add_to_run(struct bulk *bulk, const struct source *source)
{
    ProducerObject *self = bulk->producer;
    unsigned char *payload;
    if (source->len > SHMIPC_MAX_MESSAGE_LEN ||
        shmipc_message_span(source->len) > self->core.ring.map.area_len) {
        (void)raise_too_large(&self->handle, source->len);
        return -1;
    }
    if (shmipc_run_add(&self->core, &bulk->run, source->len, bulk->kind, bulk->flags, UINT64_MAX,
                       &bulk_calls, bulk, bulk->sent, &payload) != 0) {
        return -1;
    }
    source_copy(payload, source);
    return 0;
}

/* Each row of a structured array is a message. Runs are short, so that a reader on another core has
 * the first of them while the next are written. */
static int send_rows(struct bulk *bulk, const struct rows *rows)
{
    struct source row = {.data = rows->data, .len = rows->row_len};
    int result = 0;
    for (uint64_t i = 0; i < rows->count && result == 0; i++) {
        result = add_to_run(bulk, &row);
        row.data += rows->stride;
        if (result == 0 && bulk->run.len >= SHMIPC_RUN_LEN) {
            result = must_stop(bulk->producer) ? -1 : commit_run(bulk);
        }
    }
    if (commit_run(bulk) != 0) {
        result = -1;
    }
    if (result != 0 && is_partial(bulk->producer, *bulk->sent)) {
        result = 0;
    }
    if (result != 0) {
        annotate(*bulk->sent, NULL);
    }
    return result;
}

static int send_messages(struct bulk *bulk, PyObject *items)
{
    ProducerObject *self = bulk->producer;
    /* A list is all there; what comes out of anything else may depend on what was sent before, so
     * nothing is held back while the next is fetched. */
    const bool at_hand = PyList_CheckExact(items) || PyTuple_CheckExact(items);
    PyObject *unsent = NULL;
    int result = 0;
    PyObject *iterator = PyObject_GetIter(items);
    if (iterator == NULL) {
        return -1;
    }
    while (result == 0) {
        struct source source;
        PyObject *item = PyIter_Next(iterator);
        if (item == NULL) {
            result = PyErr_Occurred() != NULL ? -1 : 0;
            break;
        }
        result = source_open_bytes(self->handle.state, item, &source);
        if (result == 0) {
            result = must_stop(self) ? -1 : add_to_run(bulk, &source);
            source_close(&source);
        }
        if (result == 0 && !at_hand) {
            result = commit_run(bulk);
        }
        if (result != 0 && !at_hand) {
            unsent = Py_NewRef(item);
        }
        Py_DECREF(item);
    }
    Py_DECREF(iterator);
    if (self->handle.segment->forked) {
        bulk->run.count = 0; /* the parent goes on writing there */
    }
    if (commit_run(bulk) != 0) { /* what came before an error is sent all the same */
        result = -1;
    }
    if (result != 0 && at_hand && is_partial(self, *bulk->sent)) {
        result = 0;
    }
    if (result != 0) {
        annotate(*bulk->sent, unsent);
    }
    Py_XDECREF(unsent);
    return result;
}

static int send_all_messages(ProducerObject *self, PyObject *items, uint16_t kind, uint16_t flags,
                             struct patience *patience, uint64_t *sent)
{
    struct bulk bulk = {
        .producer = self, .patience = patience, .sent = sent, .kind = kind, .flags = flags};
    struct rows rows = {NULL, 0, 0, 0, NULL};
    /* An array of objects is an iterable of buffers as any other; one with a mask is none. */
    const int is_rows = refuse_stripped(items) != 0 ? -1 : rows_open(items, &rows);
    if (is_rows < 0 || !handle_is_ours(&self->handle)) {
        Py_XDECREF(rows.array);
        return -1;
    }
    if (is_rows == 0) {
        return send_messages(&bulk, items);
    }
    const int result = send_rows(&bulk, &rows);
    Py_DECREF(rows.array);
    return result;
}

static int send_all_items(ProducerObject *self, PyObject *items, struct patience *patience,
                          uint64_t *sent)
{
    struct source source;
    if (source_open_items(&self->handle, items, true, &source) != 0) {
        return -1;
    }
    struct bulk bulk = {.producer = self, .source = &source, .patience = patience, .sent = sent};
    int result = shmipc_bulk_send_items(&self->core, source.items, &bulk_calls, &bulk, sent);
    if (result != 0 && is_partial(self, *sent)) {
        result = 0;
    }
    if (result != 0) {
        annotate(*sent, NULL);
    }
    source_close(&source);
    return result;
}

const char producer_send_many_doc[] =
    "send_many($self, items, *, kind=1, flags=0, timeout=None)\n--\n\n"
    "Send an array of items (typed ring: of the ring's dtype, shape (n, *shape)) or\n"
    "an iterable of buffers (message ring), and return how many were sent: all, unless `timeout`\n"
    "seconds pass with the ring full. What is in a list or tuple is committed run by run; what an\n"
    "iterator yields is committed before the next is asked for. Of a one-dimensional structured\n"
    "array each row is a message. kind, flags: as of send().\n"
    "\n"
    "Raises Full if none was sent, and whenever an item was taken from an iterator in vain;\n"
    "otherwise as send(). What came before the item that raises is sent. Exceptions have .sent,\n"
    "how many, and for an iterator .unsent, the item taken and not sent.";

PyObject *producer_send_many(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    static const char *const names[] = {"items", "kind", "flags", "timeout", NULL};
    static const struct parameters parameters = {"send_many", names, 1, 1};
    ProducerObject *self = (ProducerObject *)object;
    PyObject *given[4];
    struct patience patience;
    uint64_t sent = 0;
    uint64_t kind, flags;
    int result = -1;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[3], &patience) != 0) {
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
    if (refuse_inside_reservation(self) && refuse_kind_in_typed(self, given[1], given[2]) == 0 &&
        parse_kind_and_flags(given[1], given[2], &kind, &flags) == 0) {
        if (self->handle.dtype == NULL) {
            result = send_all_messages(self, given[0], (uint16_t)kind, (uint16_t)flags, &patience,
                                       &sent);
        } else {
            result = send_all_items(self, given[0], &patience, &sent);
        }
    }
    handle_leave(&self->handle);
    if (result != 0) {
        return NULL;
    }
    PyObject *count = PyLong_FromUnsignedLongLong(sent);
    if (count == NULL) {
        annotate(sent, NULL); /* all the same they are sent */
    }
    return count;
}
