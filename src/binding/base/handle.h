/* handle.h: what Producer and Consumer have in common. */
#ifndef SHMIPC_BINDING_HANDLE_H
#define SHMIPC_BINDING_HANDLE_H

#include "state.h"
#include "../../core/segment/segment.h"

enum handle_guard {
    HANDLE_IDLE = 0,
    HANDLE_BUSY,     /* a thread is inside a method */
    HANDLE_CLOSING,  /* ... and called close() from in there: leaving will close */
    HANDLE_CLOSED,   /* close() was called */
    HANDLE_UNOPENED, /* __init__ has not succeeded */
    HANDLE_OPENING   /* a thread is inside __init__ */
};

typedef struct handle_object {
    PyObject_HEAD
    _Atomic(int) guard;
    _Atomic(PyThreadState *) owner; /* who is inside, while the guard says so */
    _Atomic(int) interrupters;      /* threads that may touch the segment from outside */
    struct shmipc_segment *segment;
    const shmipc_atomic_u32 *interrupted; /* close() wants the thread that is inside to leave */
    struct module_state *state;
    /* Of exact types, which hold nothing: so a handle is in no cycle and needs no collector. */
    PyObject *name;                  /* str */
    PyObject *dtype;                 /* numpy.dtype, or NULL in a message ring */
    PyObject *shape;                 /* tuple of int */
    PyObject *spin;                  /* as given: float or None */
    _Atomic(PyObject *) record_type; /* of the dtype, once Frame.record was read; else NULL */
    PyObject *weakrefs;              /* the interpreter's */
    _Atomic(int) format;             /* what a buffer's format says of the dtype: exporting.c */
    const char *role;                /* "Producer", "Consumer" */
    void (*interrupt)(struct handle_object *handle);
    /* The guard is CLOSED already. Closes whatever happens; may leave an exception. */
    void (*finish_close)(struct handle_object *handle);
    enum shmipc_status close_status; /* what the core's close came to */
} HandleObject;

/* Why a method may not run now, as an exception. Always false. */
bool handle_refuse(HandleObject *handle);

/* Begin a method: refuses a second thread, a closed handle, a forked child. On true, handle_leave
 * must follow. With the GIL the guard needs no atomic exchange, only to be visible after a switch
 * of threads, which the GIL's own lock ensures. */
static inline bool handle_enter(HandleObject *handle)
{
#ifdef Py_GIL_DISABLED
    int idle = HANDLE_IDLE;
    if (SHMIPC_UNLIKELY(!atomic_compare_exchange_strong(&handle->guard, &idle, HANDLE_BUSY))) {
        return handle_refuse(handle);
    }
#else
    if (SHMIPC_UNLIKELY(atomic_load_explicit(&handle->guard, memory_order_relaxed) !=
                        HANDLE_IDLE)) {
        return handle_refuse(handle);
    }
    atomic_store_explicit(&handle->guard, HANDLE_BUSY, memory_order_relaxed);
#endif
    if (SHMIPC_UNLIKELY(handle->segment->forked || shmipc_load_relaxed(handle->interrupted) != 0)) {
        atomic_store_explicit(&handle->guard, HANDLE_IDLE, memory_order_release);
        return handle_refuse(handle);
    }
    atomic_store_explicit(&handle->owner, PyThreadState_Get(), memory_order_relaxed);
    return true;
}

void handle_leave_closing(HandleObject *handle);

static inline void handle_leave(HandleObject *handle)
{
    if (SHMIPC_UNLIKELY(atomic_load_explicit(&handle->guard, memory_order_relaxed) !=
                        HANDLE_BUSY)) {
        handle_leave_closing(handle);
        return;
    }
#ifdef Py_GIL_DISABLED
    /* Or we could take our own name for the next one's, and close from inside what is not ours. */
    atomic_store_explicit(&handle->owner, NULL, memory_order_relaxed);
#endif
    /* Release: pairs with the next handle_enter or close on another thread. */
    atomic_store_explicit(&handle->guard, HANDLE_IDLE, memory_order_release);
}

/* Around __init__: one thread opens a handle once. begin: -1 with a RuntimeError. end: `result` is
 * what __init__ came to, and is returned. */
int handle_begin_open(HandleObject *handle);
int handle_end_open(HandleObject *handle, int result);
/* Keep copies of what __init__ was given. -1 with an exception. */
int handle_remember(HandleObject *handle, PyObject *name, PyObject *spin);
/* Has __init__ succeeded? Then what it set is there until the handle is deallocated. */
bool handle_was_opened(const HandleObject *handle);

/* Still in the process that opened it? False, with a RuntimeError, in a forked child. */
static inline bool handle_is_ours(HandleObject *handle)
{
    return SHMIPC_LIKELY(!handle->segment->forked) || handle_refuse(handle);
}

/* close(), for a method table: interrupts and awaits a thread that is inside; from inside (a signal
 * handler, an iterable given to send_many) it takes effect when the method ends. */
PyObject *handle_close(PyObject *self, PyObject *unused);
/* tp_finalize: warns about a handle left open, and closes it. */
void handle_finalize(PyObject *self);
PyObject *handle_context_enter(PyObject *self, PyObject *unused);
PyObject *handle_context_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs);

/* Read-only attributes that both roles have, for their PyGetSetDef tables. */
PyObject *handle_get_name(PyObject *self, void *unused);
PyObject *handle_get_dtype(PyObject *self, void *unused);
PyObject *handle_get_shape(PyObject *self, void *unused);
PyObject *handle_get_capacity(PyObject *self, void *unused);
PyObject *handle_get_overflow(PyObject *self, void *unused);
PyObject *handle_get_closed(PyObject *self, void *unused);
PyObject *handle_repr(PyObject *self, const char *detail);
void handle_clear(HandleObject *handle);

/* __copy__ and __deepcopy__ of handles, __reduce__ of what lives in one process only: a TypeError
 * that says what to do. */
PyObject *handle_refuse_copy(PyObject *self, PyObject *unused);

#endif
