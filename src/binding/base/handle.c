/* handle.c: what Producer and Consumer have in common. */
#include "state.h"
#include "errors.h"
#include "handle.h"

#include <sched.h>
#include <time.h>

bool handle_refuse(HandleObject *handle)
{
    const int guard = atomic_load(&handle->guard);
    if (guard == HANDLE_UNOPENED || guard == HANDLE_OPENING) {
        PyErr_Format(PyExc_RuntimeError, "this %s was never opened: its __init__ did not succeed",
                     handle->role);
    } else if (guard == HANDLE_CLOSED ||
               (!handle->segment->forked && shmipc_load_relaxed(handle->interrupted) != 0)) {
        (void)raise_status(handle, SHMIPC_CLOSED);
    } else if (handle->segment->forked) {
        PyErr_Format(PyExc_RuntimeError,
                     "this %s of ring %R belongs to the parent process: open one by name in the "
                     "child",
                     handle->role, handle->name);
    } else if (guard == HANDLE_BUSY && atomic_load(&handle->owner) == PyThreadState_Get()) {
        PyErr_Format(PyExc_RuntimeError,
                     "this %s of ring %R is in the middle of a call: code that runs inside it (a "
                     "Dispatcher's callable, a signal handler) cannot use it",
                     handle->role, handle->name);
    } else {
        PyErr_Format(PyExc_RuntimeError,
                     "another thread is using this %s of ring %R: a handle serves one thread at a "
                     "time. Share it under a lock, or open one handle a thread",
                     handle->role, handle->name);
    }
    return false;
}

int handle_begin_open(HandleObject *handle)
{
    int guard = HANDLE_UNOPENED;
    if (atomic_compare_exchange_strong(&handle->guard, &guard, HANDLE_OPENING)) {
        handle_clear(handle);
        return 0;
    }
    PyErr_Format(PyExc_RuntimeError,
                 guard == HANDLE_OPENING ? "another call is opening this %s"
                                         : "this %s is open already",
                 handle->role);
    return -1;
}

int handle_end_open(HandleObject *handle, int result)
{
    if (result != 0) {
        handle_clear(handle);
    }
    atomic_store(&handle->guard, result == 0 ? HANDLE_IDLE : HANDLE_UNOPENED);
    return result;
}

int handle_remember(HandleObject *handle, PyObject *name, PyObject *spin)
{
    handle->name = PyUnicode_FromObject(name);
    handle->spin = spin == NULL || spin == Py_None ? Py_NewRef(Py_None) : PyNumber_Float(spin);
    return handle->name == NULL || handle->spin == NULL ? -1 : 0;
}

bool handle_was_opened(const HandleObject *handle)
{
    const int guard = atomic_load(&handle->guard);
    return guard != HANDLE_UNOPENED && guard != HANDLE_OPENING;
}

/* Tell the thread that is inside to leave. It may leave, and a third thread may close the handle
 * and unmap the segment, at any moment. So this says first that it may touch the segment, then
 * looks whether somebody is still inside; who closes says so first, then waits for those (finish):
 * sequentially consistent, each sees the other. */
static void interrupt(HandleObject *handle)
{
    (void)atomic_fetch_add(&handle->interrupters, 1);
    if (atomic_load(&handle->guard) == HANDLE_BUSY) {
        handle->interrupt(handle);
    }
    (void)atomic_fetch_sub(&handle->interrupters, 1);
}

/* The guard is CLOSED: nobody comes in any more, and the last interrupters are about to go. */
static void finish(HandleObject *handle)
{
    /* In a forked child the interrupters were the parent's threads. */
    while (atomic_load(&handle->interrupters) != 0 && !handle->segment->forked) {
        (void)sched_yield();
    }
    handle->finish_close(handle);
}

/* From IDLE to CLOSED, interrupting and awaiting a thread that is inside. 1: this call did it, and
 * the caller has the handle to itself. 0: it was or will be closed otherwise. -1: a signal handler
 * raised; the handle lets nobody in any more, and close() can be called again. */
static int begin_close(HandleObject *handle)
{
    const struct timespec nap = {.tv_nsec = 50000};
    for (;;) {
        int guard = HANDLE_IDLE;
        if (atomic_compare_exchange_strong(&handle->guard, &guard, HANDLE_CLOSED)) {
            return 1;
        }
        if (guard != HANDLE_BUSY) {
            return 0;
        }
        if (handle->segment->forked) {
            /* The thread that was inside stayed in the parent. */
            if (atomic_compare_exchange_strong(&handle->guard, &guard, HANDLE_CLOSED)) {
                return 1;
            }
            continue;
        }
        interrupt(handle);
        if (atomic_load(&handle->owner) == PyThreadState_Get()) {
            (void)atomic_compare_exchange_strong(&handle->guard, &guard, HANDLE_CLOSING);
            return 0;
        }
        if (Py_IsFinalizing()) {
            /* The interpreter ends, and a daemon thread inside will never come back from there. It
             * may still look at the segment, so that stays; the end of the process closes it. */
            return 0;
        }
        Py_BEGIN_ALLOW_THREADS(void)
        nanosleep(&nap, NULL);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() != 0) {
            return -1;
        }
    }
}

/* Where close() cannot raise that messages were left in a removed file: a warning says it. */
static void warn_undelivered(HandleObject *handle)
{
    PyObject *type, *value, *traceback;
    struct shmipc_error error;
    if (handle->close_status != SHMIPC_REMOVED) {
        return;
    }
    PyErr_Fetch(&type, &value, &traceback);
    (void)shmipc_segment_fail_undelivered(handle->segment, &error);
    if (PyErr_WarnEx(PyExc_ResourceWarning, error.text, 1) != 0) {
        PyErr_WriteUnraisable(NULL);
    }
    PyErr_Restore(type, value, traceback);
}

/* What finish_close left, where nothing can be raised. */
static void tell_unraisable(HandleObject *handle)
{
    if (PyErr_Occurred() != NULL) {
        PyErr_WriteUnraisable(NULL);
    }
    warn_undelivered(handle);
}

void handle_leave_closing(HandleObject *handle)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    atomic_store(&handle->guard, HANDLE_CLOSED);
    finish(handle);
    tell_unraisable(handle);
    PyErr_Restore(type, value, traceback);
}

PyObject *handle_close(PyObject *self, PyObject *unused)
{
    HandleObject *handle = (HandleObject *)self;
    (void)unused;
    const int begun = begin_close(handle);
    if (begun < 0) {
        return NULL;
    }
    if (begun > 0) {
        finish(handle);
        if (PyErr_Occurred() != NULL) { /* a signal handler's, most likely: closed all the same */
            return NULL;
        }
        if (handle->close_status == SHMIPC_REMOVED) {
            struct shmipc_error error;
            (void)shmipc_segment_fail_undelivered(handle->segment, &error);
            return raise_error(handle->state, &error, NULL);
        }
    }
    Py_RETURN_NONE;
}

void handle_finalize(PyObject *self)
{
    HandleObject *handle = (HandleObject *)self;
    int guard = HANDLE_IDLE;
    if (!atomic_compare_exchange_strong(&handle->guard, &guard, HANDLE_CLOSED)) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!handle->segment->forked &&
        PyErr_WarnFormat(PyExc_ResourceWarning, 1,
                         "unclosed %s of ring %R: call close(), or use it in a with statement",
                         handle->role, handle->name) != 0) {
        PyErr_WriteUnraisable(NULL);
    }
    handle->finish_close(handle);
    tell_unraisable(handle);
    PyErr_Restore(type, value, traceback);
}

PyObject *handle_context_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (!handle_enter((HandleObject *)self)) {
        return NULL;
    }
    handle_leave((HandleObject *)self);
    return Py_NewRef(self);
}

PyObject *handle_context_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    HandleObject *handle = (HandleObject *)self;
    PyObject *closed = handle_close(self, NULL);
    if (closed == NULL && nargs > 0 && args[0] != Py_None &&
        PyErr_ExceptionMatches(handle->state->exceptions[EXCEPTION_REMOVED])) {
        PyErr_Clear(); /* what is on its way says more */
        warn_undelivered(handle);
        Py_RETURN_NONE;
    }
    return closed;
}

/* What __init__ set, or None before it has. */
static PyObject *or_none(const HandleObject *handle, PyObject *const *field)
{
    PyObject *object = handle_was_opened(handle) ? *field : NULL;
    return Py_NewRef(object != NULL ? object : Py_None);
}

PyObject *handle_get_name(PyObject *self, void *unused)
{
    (void)unused;
    const HandleObject *handle = (HandleObject *)self;
    return or_none(handle, &handle->name);
}

PyObject *handle_get_dtype(PyObject *self, void *unused)
{
    (void)unused;
    const HandleObject *handle = (HandleObject *)self;
    return or_none(handle, &handle->dtype);
}

PyObject *handle_get_shape(PyObject *self, void *unused)
{
    (void)unused;
    const HandleObject *handle = (HandleObject *)self;
    return or_none(handle, &handle->shape);
}

PyObject *handle_get_capacity(PyObject *self, void *unused)
{
    (void)unused;
    const HandleObject *handle = (HandleObject *)self;
    if (!handle_was_opened(handle)) {
        return PyLong_FromLong(0);
    }
    return PyLong_FromUnsignedLongLong(shmipc_capacity_of(&handle->segment->geometry));
}

PyObject *handle_get_overflow(PyObject *self, void *unused)
{
    (void)unused;
    const HandleObject *handle = (HandleObject *)self;
    const bool overwrite = handle_was_opened(handle) &&
                           handle->segment->geometry.overflow == SHMIPC_OVERFLOW_OVERWRITE;
    return PyUnicode_FromString(overwrite ? "overwrite" : "block");
}

PyObject *handle_get_closed(PyObject *self, void *unused)
{
    (void)unused;
    const HandleObject *handle = (HandleObject *)self;
    return PyBool_FromLong(atomic_load(&handle->guard) == HANDLE_CLOSED ||
                           !handle_was_opened(handle));
}

PyObject *handle_repr(PyObject *self, const char *detail)
{
    const HandleObject *handle = (HandleObject *)self;
    if (!handle_was_opened(handle)) {
        return PyUnicode_FromFormat("<shmipc.%s, never opened>", handle->role);
    }
    const char *state = atomic_load(&handle->guard) == HANDLE_CLOSED ? "closed"
                        : handle->segment->forked                    ? "the parent process's"
                                                                     : detail;
    if (handle->dtype != NULL && PyTuple_GET_SIZE(handle->shape) == 0) {
        return PyUnicode_FromFormat("<shmipc.%s %R of %S, %s>", handle->role, handle->name,
                                    handle->dtype, state);
    }
    if (handle->dtype != NULL) {
        return PyUnicode_FromFormat("<shmipc.%s %R of %S %S, %s>", handle->role, handle->name,
                                    handle->dtype, handle->shape, state);
    }
    return PyUnicode_FromFormat("<shmipc.%s %R of messages, %s>", handle->role, handle->name,
                                state);
}

void handle_clear(HandleObject *handle)
{
    Py_CLEAR(handle->name);
    Py_CLEAR(handle->dtype);
    Py_CLEAR(handle->shape);
    Py_CLEAR(handle->spin);
    Py_XDECREF(atomic_exchange(&handle->record_type, NULL));
}

PyObject *handle_refuse_copy(PyObject *self, PyObject *unused)
{
    const HandleObject *handle = (HandleObject *)self;
    (void)unused;
    return PyErr_Format(PyExc_TypeError,
                        "a %s is one role in a ring and cannot be copied: share this one under a "
                        "lock, or %s",
                        handle->role,
                        strcmp(handle->role, "Producer") == 0
                            ? "open another ring (a ring has one producer)"
                            : "open another Consumer by the ring's name");
}
