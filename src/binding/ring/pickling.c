/*
 * pickling.c: handles travel to another process by name. The receiver opens the same role; since a
 * role has one holder, it waits a while for the sender to close its own handle.
 *
 * A Producer's role moves if somebody comes for it, which is asked when it closes, and not promised
 * when it is pickled (a pickle may be thrown away, or fail at the next object). Somebody comes if
 *   - a receiver waits: it holds the lock of the byte SHMIPC_LOCK_SUCCESSOR; or
 *   - the pickle was made for a process that multiprocessing was starting (spawn, forkserver),
 * which takes a while to get there, and that process was started and has not ended. Then close()
 * leaves the stream open; else it ends it as ever, and a receiver that comes later opens the closed
 * ring again, or makes a new one.
 */
#include "../base/state.h"
#include "../base/handle.h"
#include "consumer_object.h"
#include "pickling.h"
#include "producer_object.h"
#include "../../core/segment/descriptor.h"
#include "../../core/segment/locks.h"

#define REOPEN_SPAN_NS UINT64_C(10000000000)
#define REOPEN_NAP_NS UINT64_C(2000000)

/* ---- the receiver --------------------------------------------------------------------------- */

/* How a receiver waits for a producer's role. On the heap: a child forked meanwhile by another
 * thread keeps the segment in its list. */
struct claim {
    struct shmipc_segment segment;
    char path[SHMIPC_PATH_MAX];
    bool open;
    bool held; /* the successor's lock is ours */
};

static void claim_drop(struct claim *claim)
{
    if (claim->open) {
        shmipc_segment_close(&claim->segment);
        claim->open = false;
        claim->held = false;
    }
}

/* Hold the successor's lock of the file that has the name now, unless somebody else does. Whatever
 * is in the way here, the next attempt at the role reports. */
static void claim_keep(struct claim *claim)
{
    struct shmipc_error ignored;
    if (claim->open && !shmipc_segment_is_named(&claim->segment)) {
        claim_drop(claim);
    }
    if (!claim->open) {
        claim->open = shmipc_segment_open(&claim->segment, claim->path, &ignored) == SHMIPC_OK;
    }
    if (claim->open && !claim->held) {
        claim->held = shmipc_lock_try(&claim->segment, SHMIPC_LOCK_SUCCESSOR);
    }
}

/* Nap until the role looks free, or for the longest span without a look at signals. */
static void claim_wait(struct claim *claim)
{
    const uint64_t end_ns = shmipc_deadline_ns(shmipc_now_ns(), SHMIPC_SLICE_NS);
    do {
        claim_keep(claim);
        shmipc_wait_nap(REOPEN_NAP_NS);
    } while (claim->open && shmipc_lock_is_held(&claim->segment, SHMIPC_LOCK_PRODUCER, 1) &&
             shmipc_now_ns() < end_ns);
}

/* NULL with an exception, or a claim for whoever opens a Producer; *claim stays NULL for others. */
static int claim_new(struct module_state *state, PyObject *type, PyObject *name,
                     struct claim **claim)
{
    struct shmipc_error error;
    Py_ssize_t len;
    *claim = NULL;
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, state->producer_type)) {
        return 0;
    }
    const char *text = PyUnicode_AsUTF8AndSize(name, &len);
    if (text == NULL) {
        return -1;
    }
    *claim = PyMem_Calloc(1, sizeof **claim);
    if (*claim == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    if (shmipc_segment_path(text, (size_t)len, (*claim)->path, &error) != SHMIPC_OK) {
        PyErr_Format(PyExc_ValueError, "%s, not %R", error.text, name);
        PyMem_Free(*claim);
        return -1;
    }
    return 0;
}

static PyObject *open_when_free(struct module_state *state, PyObject *type, PyObject *positional,
                                PyObject *options, struct claim *claim)
{
    const uint64_t deadline_ns = shmipc_deadline_ns(shmipc_now_ns(), REOPEN_SPAN_NS);
    for (;;) {
        PyObject *handle = PyObject_Call(type, positional, options);
        if (handle != NULL || !PyErr_ExceptionMatches(state->exceptions[EXCEPTION_BUSY]) ||
            shmipc_now_ns() >= deadline_ns) {
            return handle;
        }
        PyErr_Clear();
        Py_BEGIN_ALLOW_THREADS
        if (claim != NULL) {
            claim_wait(claim);
        } else {
            shmipc_wait_nap(REOPEN_NAP_NS);
        }
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() != 0) {
            return NULL;
        }
    }
}

PyObject *module_reopen(PyObject *module, PyObject *args)
{
    struct module_state *state = PyModule_GetState(module);
    PyObject *type, *name, *options;
    struct claim *claim;
    if (!PyArg_ParseTuple(args, "OUO!:_reopen", &type, &name, &PyDict_Type, &options) ||
        claim_new(state, type, name, &claim) != 0) {
        return NULL;
    }
    PyObject *positional = PyTuple_Pack(1, name);
    PyObject *handle =
        positional == NULL ? NULL : open_when_free(state, type, positional, options, claim);
    if (claim != NULL) {
        claim_drop(claim);
        PyMem_Free(claim);
    }
    Py_XDECREF(positional);
    return handle;
}

/* ---- the sender ----------------------------------------------------------------------------- */

/* The Popen of the process that multiprocessing is starting in this thread: None if it is not. */
static PyObject *spawning_popen(void)
{
    PyObject *name = PyUnicode_FromString("multiprocessing.context");
    PyObject *context = name == NULL ? NULL : PyImport_GetModule(name);
    Py_XDECREF(name);
    if (context == NULL) {
        return PyErr_Occurred() != NULL ? NULL : Py_NewRef(Py_None);
    }
    PyObject *popen = PyObject_CallMethod(context, "get_spawning_popen", NULL);
    Py_DECREF(context);
    return popen;
}

/* Remember for whom this pickle is made. Weakly: multiprocessing keeps the Popen of a process that
 * runs, and one whose start failed should go. */
static int remember_child(ProducerObject *self)
{
    PyObject *popen = spawning_popen();
    PyObject *added = NULL;
    if (popen == NULL || popen == Py_None) {
        Py_XDECREF(popen);
        return popen == NULL ? -1 : 0;
    }
    if (self->children == NULL) {
        PyObject *weakref = PyImport_ImportModule("weakref");
        self->children = weakref == NULL ? NULL : PyObject_CallMethod(weakref, "WeakSet", NULL);
        Py_XDECREF(weakref);
    }
    if (self->children != NULL) {
        added = PyObject_CallMethod(self->children, "add", "O", popen);
    }
    Py_XDECREF(added);
    Py_DECREF(popen);
    return added == NULL ? -1 : 0;
}

/* Does the process of this Popen run? Its pid is set when it was started: after all of its
 * arguments could be pickled. -1 with an exception. */
static int popen_runs(PyObject *popen)
{
    PyObject *pid = PyObject_GetAttrString(popen, "pid");
    if (pid == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(pid);
    PyObject *status = PyObject_CallMethod(popen, "poll", NULL);
    const int runs = status == NULL ? -1 : status == Py_None;
    Py_XDECREF(status);
    return runs;
}

static int any_runs(PyObject *children)
{
    PyObject *popens = PySequence_List(children);
    int runs = popens == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; runs == 0 && i < PyList_GET_SIZE(popens); i++) {
        runs = popen_runs(PyList_GET_ITEM(popens, i));
    }
    Py_XDECREF(popens);
    return runs;
}

bool producer_is_succeeded(ProducerObject *self)
{
    struct shmipc_segment *segment = &self->core.segment;
    PyObject *children = self->children;
    self->children = NULL;
    /* Without our descriptor the question fails, which is not to look like a successor. */
    const bool asks = shmipc_segment_check_fd(segment);
    bool coming = asks && shmipc_lock_is_held(segment, SHMIPC_LOCK_SUCCESSOR, 1);
    if (!coming && asks && children != NULL) {
        coming = any_runs(children) != 0;
    }
    Py_XDECREF(children);
    return coming;
}

/* (_reopen, (type, name, options)). Steals `options`, which may be NULL. */
static PyObject *reduce(PyObject *self, PyObject *options)
{
    HandleObject *handle = (HandleObject *)self;
    if (options == NULL) {
        return NULL;
    }
    PyObject *module = PyType_GetModule((PyTypeObject *)handle->state->frame_type);
    PyObject *reopen = module == NULL ? NULL : PyObject_GetAttrString(module, "_reopen");
    PyObject *result = NULL;
    if (reopen != NULL) {
        result = Py_BuildValue("N(OOO)", reopen, Py_TYPE(self), handle->name, options);
    }
    Py_DECREF(options);
    return result;
}

PyObject *producer_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    HandleObject *handle = (HandleObject *)self;
    const struct shmipc_segment *segment = handle->segment;
    if (!handle_enter(handle)) {
        return NULL;
    }
    PyObject *overflow = handle_get_overflow(self, NULL);
    PyObject *options =
        overflow == NULL
            ? NULL
            : Py_BuildValue("{sO sO sK sI sN sI sO}", "dtype",
                            handle->dtype != NULL ? handle->dtype : Py_None, "shape", handle->shape,
                            "capacity", (unsigned long long)shmipc_capacity_of(&segment->geometry),
                            "max_consumers", segment->geometry.slots, "overflow", overflow, "mode",
                            segment->mode, "spin", handle->spin);
    if (options != NULL && remember_child((ProducerObject *)self) != 0) {
        Py_CLEAR(options);
    }
    handle_leave(handle);
    return reduce(self, options);
}

PyObject *consumer_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    HandleObject *handle = (HandleObject *)self;
    if (!handle_enter(handle)) {
        return NULL;
    }
    static const char *const starts[] = {[SHMIPC_START_RESUME] = NULL, /* None */
                                         [SHMIPC_START_LATEST] = "latest",
                                         [SHMIPC_START_EARLIEST] = "earliest"};
    PyObject *options = Py_BuildValue("{sz sO}", "start", starts[((ConsumerObject *)self)->start],
                                      "spin", handle->spin);
    handle_leave(handle);
    return reduce(self, options);
}
