/*
 * pickling.c: handles travel to another process by name (multiprocessing's spawn and forkserver).
 * The receiver opens the same role; since a role has one holder, it waits a while for the sender to
 * close its own handle. A Producer that was pickled hands its role over: its close() leaves the
 * stream open for the one that goes on.
 */
#include "module.h"

#define REOPEN_SPAN_NS UINT64_C(10000000000)
#define REOPEN_NAP_NS UINT64_C(2000000)

PyObject *module_reopen(PyObject *module, PyObject *args)
{
    struct module_state *state = PyModule_GetState(module);
    PyObject *type, *name, *options;
    if (!PyArg_ParseTuple(args, "OOO!:_reopen", &type, &name, &PyDict_Type, &options)) {
        return NULL;
    }
    PyObject *positional = PyTuple_Pack(1, name);
    if (positional == NULL) {
        return NULL;
    }
    const uint64_t deadline_ns = shmipc_deadline_ns(shmipc_now_ns(), REOPEN_SPAN_NS);
    PyObject *handle;
    for (;;) {
        handle = PyObject_Call(type, positional, options);
        if (handle != NULL || !PyErr_ExceptionMatches(state->exceptions[EXCEPTION_BUSY]) ||
            shmipc_now_ns() >= deadline_ns) {
            break;
        }
        PyErr_Clear();
        Py_BEGIN_ALLOW_THREADS
        shmipc_wait_nap(REOPEN_NAP_NS);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() != 0) {
            break;
        }
    }
    Py_DECREF(positional);
    return handle;
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
                            "consumers", segment->geometry.slots, "overflow", overflow, "mode",
                            segment->mode, "spin", handle->spin);
    /* The role moves: closing this one must not end the stream for the other. */
    ((ProducerObject *)self)->core.handed_over = options != NULL;
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
    static const char *const starts[] = {[SHMIPC_START_DEFAULT] = NULL, /* None */
                                         [SHMIPC_START_AT_LATEST] = "latest",
                                         [SHMIPC_START_AT_EARLIEST] = "earliest"};
    PyObject *options = Py_BuildValue("{sz sO}", "start", starts[((ConsumerObject *)self)->start],
                                      "spin", handle->spin);
    handle_leave(handle);
    return reduce(self, options);
}
