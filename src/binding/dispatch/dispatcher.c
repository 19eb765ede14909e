/*
 * dispatcher.c: the Dispatcher type: rings come and go, run() gives each its turn.
 *
 * One thread at a time is inside run(), add() or remove(), but a callable that run() calls may add
 * and remove. The table of subscriptions changes under it only there, between two looks at it.
 */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/handle.h"
#include "../ring/frame_object.h"
#include "../ring/waiting.h"
#include "dispatcher.h"

#include <structmember.h>

/* Events of one ring before the next ring has its turn: one by one, and as a batch. */
#define BURST 256
#define BATCH_BURST 65536

/* ---- the guard ------------------------------------------------------------------------------ */

static bool is_inside(DispatcherObject *self)
{
    return atomic_load(&self->runner) == PyThreadState_Get();
}

static bool enter(DispatcherObject *self)
{
    PyThreadState *nobody = NULL;
    if (atomic_compare_exchange_strong(&self->runner, &nobody, PyThreadState_Get())) {
        return true;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    is_inside(self) ? "this Dispatcher is running: run() was called by one of its "
                                      "own callables"
                                    : "another thread is using this Dispatcher: it serves one "
                                      "thread at a time");
    return false;
}

static void leave(DispatcherObject *self)
{
    atomic_store(&self->runner, NULL);
}

/* ---- subscriptions
 * -------------------------------------------------------------------------------- */

static Py_ssize_t index_of(const DispatcherObject *self, PyObject *consumer)
{
    for (Py_ssize_t i = 0; i < self->count; i++) {
        if ((PyObject *)self->subscriptions[i]->consumer == consumer) {
            return i;
        }
    }
    return -1;
}

/* A larger block in place of `*block`, or MemoryError. */
static bool enlarge(void *block, size_t len)
{
    void **place = block;
    void *larger = PyMem_Realloc(*place, len);
    if (larger == NULL) {
        PyErr_NoMemory();
        return false;
    }
    *place = larger;
    return true;
}

static bool make_place(DispatcherObject *self)
{
    if (self->count < self->room) {
        return true;
    }
    const size_t room = self->room == 0 ? 4 : 2 * (size_t)self->room;
    if (!enlarge(&self->subscriptions, room * sizeof *self->subscriptions) ||
        !enlarge(&self->wait_memory, shmipc_waitset_size(room))) {
        return false;
    }
    shmipc_waitset_place(&self->set, self->wait_memory, (uint32_t)room);
    self->room = (Py_ssize_t)room;
    return true;
}

static void drop_at(DispatcherObject *self, Py_ssize_t at)
{
    struct subscription *subscription = self->subscriptions[at];
    Py_BEGIN_CRITICAL_SECTION(self); /* for who asks for the consumers meanwhile */
    self->count--;
    memmove(&self->subscriptions[at], &self->subscriptions[at + 1],
            (size_t)(self->count - at) * sizeof *self->subscriptions);
    Py_END_CRITICAL_SECTION();
    subscription->removed = true;
    subscription_drop(subscription);
}

PyDoc_STRVAR(
    add_doc,
    "add($self, consumer, handlers, *, keys=None, reader=None, from_seq=0, retry=False,\n"
    "    on_lost=None)\n--\n\n"
    "Read `consumer` too; a consumer that is there already gets these handlers instead.\n"
    "\n"
    "handlers: a dict from kinds (of messages; 0 for the items of a typed ring) to\n"
    "    (record type, callable), called with a Record for each event, or to\n"
    "    (record type, callable, 'batch'), called with the kind and an array of all that is\n"
    "    ready of it. Messages of other kinds are skipped. If some kinds of a ring come in\n"
    "    batches and some do not, order is kept within each kind only.\n"
    "keys: an iterable of bytes: events that have another key (16 bytes at key_off, padded\n"
    "    with zeros) are skipped; those without any are not. None: no filter.\n"
    "reader: this reader's number, 0 to 1023: messages with flag 1 end in a bitmap of 128\n"
    "    bytes of the readers they are meant for. None: flags mean nothing.\n"
    "from_seq: messages with a smaller sequence number are skipped.\n"
    "retry: when a callable raises, its event stays unread and comes again.\n"
    "on_lost: called with the number of messages lost, before the one that follows them.\n"
    "\n"
    "A record is valid until its callable returns, an array for ever: record.copy() keeps\n"
    "an event. Raises TypeError, ValueError, SchemaMismatch (a typed ring of another dtype).");

static PyObject *dispatcher_add(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    static const char *const names[] = {"consumer", "handlers", "keys",    "reader",
                                        "from_seq", "retry",    "on_lost", NULL};
    static const struct parameters parameters = {"add", names, 2, 2};
    DispatcherObject *self = (DispatcherObject *)object;
    PyObject *given[7];
    PyObject *result = NULL;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0) {
        return NULL;
    }
    const int retry = given[5] == NULL ? 0 : PyObject_IsTrue(given[5]);
    const bool entered = !is_inside(self);
    if (retry < 0 || (entered && !enter(self))) {
        return NULL;
    }
    struct subscription *subscription =
        subscription_new(self->state, given[0], given[1], given[2], given[3], given[4], retry != 0,
                         given[6], self->key_off);
    if (subscription != NULL) {
        const Py_ssize_t at = index_of(self, given[0]);
        if (at >= 0) {
            struct subscription *old = self->subscriptions[at];
            if (entered) { /* else a callable of the old one may be at it: it gets the rest */
                subscription_inherit(subscription, old);
            }
            Py_BEGIN_CRITICAL_SECTION(self);
            self->subscriptions[at] = subscription;
            Py_END_CRITICAL_SECTION();
            old->removed = true;
            subscription_drop(old);
            result = Py_NewRef(Py_None);
        } else {
            bool placed;
            Py_BEGIN_CRITICAL_SECTION(self);
            placed = make_place(self);
            if (placed) {
                self->subscriptions[self->count++] = subscription;
            }
            Py_END_CRITICAL_SECTION();
            if (placed) {
                result = Py_NewRef(Py_None);
            } else {
                subscription_drop(subscription);
            }
        }
    }
    if (entered) {
        leave(self);
    }
    return result;
}

PyDoc_STRVAR(remove_doc, "remove($self, consumer, /)\n--\n\n"
                         "Read `consumer` no more. ValueError if it is not read. Does not close\n"
                         "it. What was gathered for a batch and not handed over is dropped.");

static PyObject *dispatcher_remove(PyObject *object, PyObject *consumer)
{
    DispatcherObject *self = (DispatcherObject *)object;
    const bool entered = !is_inside(self);
    if (entered && !enter(self)) {
        return NULL;
    }
    const Py_ssize_t at = index_of(self, consumer);
    if (at >= 0) {
        drop_at(self, at);
    } else {
        PyErr_Format(PyExc_ValueError, "this Dispatcher does not read %R", consumer);
    }
    if (entered) {
        leave(self);
    }
    return at >= 0 ? Py_NewRef(Py_None) : NULL;
}

/* ---- run ------------------------------------------------------------------------------------ */

/* Give each ring its turn. The number called for, or -1. */
static Py_ssize_t dispatch_round(DispatcherObject *self, Py_ssize_t most, bool *stepped)
{
    Py_ssize_t called = 0;
    self->turn++;
    for (Py_ssize_t i = 0; i < self->count && called < most; i++) {
        struct subscription *subscription = self->subscriptions[(self->turn + i) % self->count];
        const Py_ssize_t left = most - called;
        const Py_ssize_t burst = subscription->batches ? BATCH_BURST : BURST;
        subscription->refs++; /* a callable may remove it */
        const Py_ssize_t more =
            subscription_dispatch(self, subscription, left < burst ? left : burst, stepped);
        subscription_drop(subscription);
        if (more < 0) {
            return -1;
        }
        called += more;
        if (atomic_load_explicit(&self->stopping, memory_order_relaxed)) {
            break;
        }
    }
    return called;
}

static Py_ssize_t run(DispatcherObject *self, Py_ssize_t most, struct patience *patience)
{
    const bool one_round = most < 0;
    const bool poll_only = patience->span_ns == 0;
    Py_ssize_t called = 0;
    if (one_round) {
        most = PY_SSIZE_T_MAX;
    }
    while (!atomic_load(&self->stopping)) {
        bool stepped = false;
        const Py_ssize_t more = dispatch_round(self, most - called, &stepped);
        if (more < 0) {
            return -1;
        }
        called += more;
        if (called >= most || (called > 0 && (one_round || !stepped)) ||
            (poll_only && stepped && more == 0)) {
            break;
        }
        if (stepped) { /* nothing but what nobody wants, or not yet as many as may be */
            if (dispatcher_run_signals(self) != 0) {
                return -1;
            }
            if (!poll_only && patience->span_ns != SHMIPC_NEVER &&
                shmipc_now_ns() >= patience_deadline(patience)) {
                break;
            }
            continue;
        }
        if (dispatcher_look_at_peers(self) != 0) {
            return -1;
        }
        const int waited = poll_only ? 0 : dispatcher_wait(self, patience);
        if (waited <= 0) {
            if (waited < 0) {
                return -1;
            }
            break;
        }
    }
    atomic_store(&self->stopping, false);
    return called;
}

PyDoc_STRVAR(
    run_doc,
    "run($self, max=None, timeout=None)\n--\n\n"
    "Call for the events that are ready, and wait for the first if there is none. Returns how\n"
    "many were handed over; 0 after `timeout` seconds (None: for ever, 0: not at all) or stop().\n"
    "With timeout=0 it passes some thousand messages that nobody wants, then returns 0 too.\n"
    "\n"
    "max: at most so many events (skipped ones do not count), and returns sooner once nothing is\n"
    "    ready. None: each ring one turn, of at most 256 events or one batch a kind.\n"
    "\n"
    "What a callable raises comes out of here; the next run() goes on behind that event (with\n"
    "retry=True: with that event). Closed, ProducerDied, Corrupt and the like of a ring come out\n"
    "with the Consumer as .consumer on the exception: remove() it, or go on.");

static PyObject *dispatcher_run(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames)
{
    static const char *const names[] = {"max", "timeout", NULL};
    static const struct parameters parameters = {"run", names, 2, 0};
    DispatcherObject *self = (DispatcherObject *)object;
    PyObject *given[2];
    struct patience patience;
    uint64_t most;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0 ||
        parse_timeout(given[1], &patience) != 0 ||
        parse_integer("max", given[0], 1, PY_SSIZE_T_MAX, UINT64_MAX, &most) != 0 || !enter(self)) {
        return NULL;
    }
    const Py_ssize_t called = run(self, most == UINT64_MAX ? -1 : (Py_ssize_t)most, &patience);
    leave(self);
    return called < 0 ? NULL : PyLong_FromSsize_t(called);
}

PyDoc_STRVAR(stop_doc,
             "stop($self)\n--\n\n"
             "Make run() return once the callable that is being called returns; if nobody is in\n"
             "run(), the next one returns at once. From any thread, callable or signal handler;\n"
             "a run() that sleeps in another thread returns within 50 ms.");

static PyObject *dispatcher_stop(PyObject *object, PyObject *unused)
{
    (void)unused;
    atomic_store(&((DispatcherObject *)object)->stopping, true);
    Py_RETURN_NONE;
}

/* ---- the type ------------------------------------------------------------------------------- */

PyDoc_STRVAR(
    dispatcher_doc,
    "Dispatcher(*, spin=None, key_off=None, time_off=None)\n--\n\n"
    "Reads several Consumers and calls Python for each event, or each batch of events:\n"
    "the loop, the choice by kind, key and reader, and the waiting are in C.\n"
    "\n"
    "spin: seconds to poll before sleeping when nothing is ready, as of Consumer. One\n"
    "thread at a time; a Consumer that is added is used by run() alone while that runs.\n"
    "key_off, time_off: where in an event its key (16 bytes) and its time (int64, ns) lie;\n"
    "None: events have none, and keys= and current_ts nothing to read.");

/* An offset in an event, or -1 (in *out, as a Py_ssize_t) for None. */
static int parse_offset(const char *what, PyObject *given, uint64_t *out)
{
    *out = (uint64_t)-1;
    return given == NULL || given == Py_None
               ? 0
               : parse_integer(what, given, 0, SHMIPC_MAX_MESSAGE_LEN, 0, out);
}

static PyObject *dispatcher_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"spin", "key_off", "time_off", NULL};
    PyObject *seconds = NULL;
    PyObject *key_off = NULL;
    PyObject *time_off = NULL;
    uint64_t key, time;
    struct shmipc_spin spin;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOO:Dispatcher", (char **)(uintptr_t)names,
                                     &seconds, &key_off, &time_off) ||
        parse_spin(seconds, &spin) != 0 || parse_offset("key_off", key_off, &key) != 0 ||
        parse_offset("time_off", time_off, &time) != 0) {
        return NULL;
    }
    struct module_state *state = state_of_type(type);
    DispatcherObject *self = state == NULL ? NULL : (DispatcherObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->state = state;
        self->spin = spin;
        self->key_off = (Py_ssize_t)key;
        self->time_off = (Py_ssize_t)time;
        self->set.spin = &self->spin;
        self->set.yields = true;
        atomic_init(&self->runner, NULL);
        atomic_init(&self->stopping, false);
    }
    return (PyObject *)self;
}

static int dispatcher_clear(PyObject *object)
{
    DispatcherObject *self = (DispatcherObject *)object;
    while (self->count > 0) {
        drop_at(self, self->count - 1);
    }
    return 0;
}

static int dispatcher_traverse(PyObject *object, visitproc visit, void *arg)
{
    const DispatcherObject *self = (DispatcherObject *)object;
    Py_VISIT(Py_TYPE(object));
    for (Py_ssize_t i = 0; i < self->count; i++) {
        const int result = subscription_traverse(self->subscriptions[i], visit, arg);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static void dispatcher_dealloc(PyObject *object)
{
    DispatcherObject *self = (DispatcherObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    (void)dispatcher_clear(object);
    PyMem_Free(self->subscriptions);
    PyMem_Free(self->wait_memory);
    type->tp_free(object);
    Py_DECREF(type);
}

int64_t dispatcher_current_ts(const DispatcherObject *self)
{
    int64_t ts = 0;
    if (self->current != NULL && self->time_off >= 0 &&
        self->current_len >= (size_t)self->time_off + sizeof ts) {
        memcpy(&ts, self->current + self->time_off, sizeof ts);
    }
    return ts;
}

static PyObject *dispatcher_get_current_ts(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromLongLong(dispatcher_current_ts((DispatcherObject *)object));
}

static PyObject *dispatcher_get_current_seq(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((DispatcherObject *)object)->current_seq);
}

static PyObject *dispatcher_get_consumers(PyObject *object, void *unused)
{
    (void)unused;
    const DispatcherObject *self = (DispatcherObject *)object;
    PyObject *list;
    Py_BEGIN_CRITICAL_SECTION(object);
    list = PyTuple_New(self->count);
    while (list != NULL && PyTuple_GET_SIZE(list) != self->count) {
        Py_SETREF(list, PyTuple_New(self->count)); /* it ran finalizers, and they add or remove */
    }
    for (Py_ssize_t i = 0; list != NULL && i < self->count; i++) {
        PyTuple_SET_ITEM(list, i, Py_NewRef((PyObject *)self->subscriptions[i]->consumer));
    }
    Py_END_CRITICAL_SECTION();
    return list;
}

static PyObject *dispatcher_refuse_reduce(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyErr_Format(PyExc_TypeError,
                        "a Dispatcher reads Consumers of this process, and is neither copied nor "
                        "pickled: make one where its Consumers are");
}

static PyMethodDef dispatcher_methods[] = {
    {"add", METHOD(dispatcher_add), FASTCALL, add_doc},
    {"remove", dispatcher_remove, METH_O, remove_doc},
    {"run", METHOD(dispatcher_run), FASTCALL, run_doc},
    {"stop", dispatcher_stop, METH_NOARGS, stop_doc},
    {"__reduce__", dispatcher_refuse_reduce, METH_NOARGS,
     "__reduce__($self)\n--\n\nTypeError: a dispatcher is neither copied nor pickled."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef dispatcher_getset[] = {
    {"consumers", dispatcher_get_consumers, NULL, "A tuple of the Consumers it reads.", NULL},
    {"current_ts", dispatcher_get_current_ts, NULL,
     "Within a callable: ts_init (bytes 24 to 32) of the event, the last one of a batch, in ns; "
     "else 0.",
     NULL},
    {"current_seq", dispatcher_get_current_seq, NULL,
     "The ring's sequence number of the event handed over last (not of batches).", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot dispatcher_slots[] = {{Py_tp_doc, (void *)(uintptr_t)dispatcher_doc},
                                         {Py_tp_new, dispatcher_new},
                                         {Py_tp_dealloc, dispatcher_dealloc},
                                         {Py_tp_traverse, dispatcher_traverse},
                                         {Py_tp_clear, dispatcher_clear},
                                         {Py_tp_methods, dispatcher_methods},
                                         {Py_tp_getset, dispatcher_getset},
                                         {0, NULL}};

PyType_Spec dispatcher_spec = {.name = "shmipc._core.Dispatcher",
                               .basicsize = sizeof(DispatcherObject),
                               .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                        Py_TPFLAGS_IMMUTABLETYPE,
                               .slots = dispatcher_slots};
