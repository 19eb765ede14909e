/*
 * module.h: what the files of the extension share.
 *
 * One file a type (producer.c, reservation.c, consumer.c, frame.c, view.c, record.c, dispatcher.c,
 * latest.c), one that maps errors (errors.c), seven that know numpy (array.c, batch.c, schema.c,
 * description.c, exporting.c, record_array.c, field_array.c), one that turns seconds into deadlines
 * and waits with the GIL released (waiting.c), one for the way out of the GIL and back (gil.c).
 * Everything static is constant: what differs between interpreters is in struct module_state,
 * reached through the objects.
 */
#ifndef SHMIPC_BINDING_MODULE_H
#define SHMIPC_BINDING_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "../../core/ring/producer.h"
#include "../../core/ring/waited_consumer.h"

#ifndef Py_BEGIN_CRITICAL_SECTION /* before 3.13 the GIL is the critical section */
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

#if PY_VERSION_HEX < 0x030D0000
#define Py_IsFinalizing _Py_IsFinalizing
#endif

/* Copies at least this long give up the GIL: 20 us or so of memcpy. */
#define COPY_WITHOUT_GIL_LEN ((size_t)256 * 1024)

enum exception_index {
    EXCEPTION_ERROR,
    EXCEPTION_FULL,
    EXCEPTION_EMPTY,
    EXCEPTION_CLOSED,
    EXCEPTION_NOT_FOUND,
    EXCEPTION_BUSY,
    EXCEPTION_SCHEMA_MISMATCH,
    EXCEPTION_CORRUPT,
    EXCEPTION_REMOVED,
    EXCEPTION_PEER_DIED,
    EXCEPTION_PRODUCER_DIED,
    EXCEPTION_CONSUMER_DIED,
    EXCEPTION_COUNT
};

/* How long a call may take in all. The clock is first read when the call has to wait. */
struct patience {
    uint64_t span_ns;     /* SHMIPC_NEVER: for ever; 0: not at all */
    uint64_t deadline_ns; /* 0: not known yet */
    bool tries;           /* Full becomes an answer: it needs no text */
};

struct module_state {
    PyObject *exceptions[EXCEPTION_COUNT];
    PyTypeObject *producer_type;
    PyTypeObject *reservation_type;
    PyTypeObject *consumer_type;
    PyTypeObject *iterator_type;
    PyTypeObject *frame_type;
    PyTypeObject *view_type;
    PyTypeObject *stats_type;
    PyTypeObject *lag_type;
    PyTypeObject *dispatcher_type;
    PyTypeObject *latest_type;
    PyTypeObject *outlet_type;
    PyTypeObject *order_pad_type;
    PyTypeObject *order_method_type;
    PyTypeObject *record_base_type;   /* Record */
    PyTypeObject *record_meta_type;   /* of what record_type() makes */
    PyTypeObject *field_type;         /* the descriptor of a record's field */
    _Atomic(PyObject *) record_types; /* WeakValueDictionary: dtype -> record type; or NULL */
    _Atomic(PyObject *) numpy_format; /* numpy.lib.format once a dtype was needed, else NULL */
    _Atomic(PyObject *) literal_eval; /* set before numpy_format */
#ifdef Py_GIL_DISABLED
    PyObject *breathe; /* a Python function that does nothing: see check_signals */
#endif
};

extern struct PyModuleDef shmipc_module;

/* The state behind a type of ours or a subclass of one. Slow: for constructors. */
struct module_state *state_of_type(PyTypeObject *type);

/* ---- handles: what Producer and Consumer have in common ------------------------------------- */

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

/* ---- the types ------------------------------------------------------------------------------ */

typedef struct {
    HandleObject handle;
    /* The open reservation, borrowed: it owns us. It and `views` change in our critical section,
     * except that views fall anywhere. */
    _Atomic(PyObject *) reservation;
    _Atomic(Py_ssize_t) views; /* live writable views of the ring */
    PyObject *children; /* WeakSet of the Popens that it was pickled for (pickling.c), or NULL */
    struct shmipc_producer_role core;
} ProducerObject;

typedef struct {
    HandleObject handle;
    Py_ssize_t leases;              /* frames that still hold ring memory */
    bool detach_pending;            /* closed while leases were held: the last one detaches */
    bool abandoned;                 /* what leases hold stays unread */
    enum shmipc_start start; /* as given */
    struct shmipc_consumer_role core;
} ConsumerObject;

typedef struct {
    PyObject_HEAD
    ConsumerObject *consumer;
    struct shmipc_lease lease;
    const unsigned char *data;
    uint64_t len;   /* bytes at data */
    uint64_t items; /* typed: items at data */
    uint64_t pos;
    uint64_t seq;
    uint16_t kind;
    uint16_t flags;
    bool batch;                  /* typed: array has a leading axis */
    _Atomic(bool) looped;        /* let go by the loop that it came from */
    _Atomic(bool) ending;        /* released softly while viewed: the last view ends it */
    _Atomic(Py_ssize_t) exports; /* live views; negative: the lease has ended */
    PyObject *weakrefs;          /* the interpreter's */
} FrameObject;

typedef struct {
    PyObject_HEAD
    ProducerObject *producer;
    unsigned char *data;
    uint64_t len;   /* bytes that may be written */
    uint64_t span;  /* bytes reserved */
    uint64_t items; /* typed: items reserved */
    bool single;    /* typed: one item, without a leading axis, as Consumer.read() gives it */
    uint16_t kind;
    uint16_t flags;
    /* These three change in the producer's critical section. */
    _Atomic(bool) open;
    _Atomic(bool) orphaned; /* its producer was closed first */
    PyObject *array;        /* handed out; turns read-only at commit */
    PyObject *weakrefs;     /* the interpreter's */
} ReservationObject;

extern PyType_Spec producer_spec;
extern PyType_Spec reservation_spec;
extern PyType_Spec consumer_spec;
extern PyType_Spec iterator_spec;
extern PyType_Spec frame_spec;
extern PyType_Spec view_spec;
extern PyType_Spec dispatcher_spec;
extern PyType_Spec latest_spec;
extern PyType_Spec outlet_spec;
extern PyType_Spec order_pad_spec;
extern PyType_Spec order_method_spec;

/* Lease what `message` describes and step over it. NULL with an exception and nothing taken. */
PyObject *frame_new(ConsumerObject *consumer, const struct shmipc_message *message, uint64_t items,
                    bool batch);
/* Lease what `message` describes and all that follows it, without stepping over it. */
PyObject *frame_hold(ConsumerObject *consumer, const struct shmipc_message *message);
/* The same with a frame that frame_hold made, whose lease has ended, and that nobody can see but
 * the caller. False: nothing was done, since a view of it lives. */
bool frame_try_hold_again(FrameObject *frame, const struct shmipc_message *message);
/* End the lease unless a view still needs it; then the view's death ends it. */
void frame_release_softly(FrameObject *frame);
/* The same, by the loop that handed the frame out. */
void frame_release_from_loop(FrameObject *frame);
/* Raise `exception` for a use of a frame that was released: how, and what to do. Always NULL. */
PyObject *frame_refuse(const FrameObject *frame, PyObject *exception);
/* Count one view more. False, without an exception, once the frame was released. */
bool frame_try_add_export(FrameObject *frame);
void frame_drop_export(FrameObject *frame);

/* Was the frame not released, by release() or softly? */
static inline bool frame_is_readable(const FrameObject *frame)
{
    /* Relaxed: the GIL, or the consumer's critical section, orders this against the lease's end. */
    return atomic_load_explicit(&frame->exports, memory_order_relaxed) >= 0 &&
           !atomic_load_explicit(&frame->ending, memory_order_relaxed);
}

/* The lease of one frame is over: let the producer have the memory, finish a pending close. */
void consumer_lease_ended(ConsumerObject *consumer);

PyObject *reservation_new(ProducerObject *producer, unsigned char *data, uint64_t len,
                          uint64_t span, uint64_t items, bool single, uint16_t kind,
                          uint16_t flags);
/* The producer closes: whatever is reserved is not sent. True if views of the ring live on. */
bool reservation_orphan(ProducerObject *producer);

/* An object whose life is a claim on `owner` (a Frame, or a Producer through a reservation): the
 * base of every ndarray we hand out. The caller has counted the view; on failure it is uncounted.
 */
PyObject *view_new(struct module_state *state, PyObject *owner);

/* For tp_members: where `type` keeps its weak references. Its dealloc clears them. */
#define WEAK_REFERENCES(type)                                                      \
    {                                                                              \
        "__weaklistoffset__", T_PYSSIZET, offsetof(type, weakrefs), READONLY, NULL \
    }

#define FASTCALL (METH_FASTCALL | METH_KEYWORDS)
#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

/* ---- sending.c, sending_many.c: the methods of Producer that send ---------------------------- */

void copy_in(unsigned char *to, const unsigned char *from, size_t len);
/* Room for `span` bytes at *at, waiting as long as the call may. -1 with an exception. */
int make_room(ProducerObject *self, uint64_t span, struct patience *patience, unsigned char **at);
/* False, with a RuntimeError, while a reservation is open. */
bool refuse_inside_reservation(const ProducerObject *self);
/* Send a message of plain bytes. 1: sent. 0: full, or full and its only reader is dead, and the
 * call may not wait. -1: an exception. */
int producer_send_plain(ProducerObject *self, const unsigned char *data, size_t len, uint16_t kind,
                        struct patience *patience);
/* kind= and flags= as given, or absent. -1 with an exception. */
int parse_kind_and_flags(PyObject *kind, PyObject *flags, uint64_t *kind_out, uint64_t *flags_out);
/* -1 with a ValueError if they were given and the ring is typed. */
int refuse_kind_in_typed(const ProducerObject *self, PyObject *kind, PyObject *flags);

extern const char producer_send_doc[];
extern const char producer_send_text_doc[];
extern const char producer_try_send_doc[];
extern const char producer_send_many_doc[];
extern const char producer_reserve_doc[];
PyObject *producer_send(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);
PyObject *producer_send_text(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
PyObject *producer_try_send(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
PyObject *producer_send_many(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
PyObject *producer_reserve(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames);

/* ---- receiving.c: the methods of Consumer that read ------------------------------------------ */

/* Copy ring memory, which a producer may be overwriting. */
void copy_out(void *to, const unsigned char *from, size_t len);

extern const char consumer_recv_doc[];
extern const char consumer_recv_text_doc[];
extern const char consumer_recv_into_doc[];
extern const char consumer_read_doc[];
extern const char consumer_read_batch_doc[];
PyObject *consumer_recv(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);
PyObject *consumer_recv_text(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
PyObject *consumer_recv_into(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
PyObject *consumer_read(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);
PyObject *consumer_read_batch(PyObject *object, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames);
PyObject *consumer_iter(PyObject *object);

/* ---- pickling.c ----------------------------------------------------------------------------- */

PyObject *module_reopen(PyObject *module, PyObject *args);
PyObject *producer_reduce(PyObject *self, PyObject *unused);
PyObject *consumer_reduce(PyObject *self, PyObject *unused);
/* Asked once, as the producer closes: is somebody coming to go on in its place? May leave an
 * exception, with true. */
bool producer_is_succeeded(ProducerObject *self);
/* __copy__ and __deepcopy__ of handles, __reduce__ of what lives in one process only: a TypeError
 * that says what to do. */
PyObject *handle_refuse_copy(PyObject *self, PyObject *unused);
PyObject *frame_refuse_reduce(PyObject *self, PyObject *unused);
PyObject *reservation_refuse_reduce(PyObject *self, PyObject *unused);
PyObject *dispatcher_refuse_reduce(PyObject *self, PyObject *unused);

/* ---- errors.c ------------------------------------------------------------------------------- */

int errors_init(PyObject *module, struct module_state *state);
/* Raise what an open or clean reported. Always NULL. */
PyObject *raise_error(struct module_state *state, const struct shmipc_error *error,
                      const char *path);
/* Raise what an operation on a handle came to. Always NULL. */
PyObject *raise_status(HandleObject *handle, enum shmipc_status status);
/* Full, naming who holds the ring back. */
PyObject *raise_full(const ProducerObject *producer);
PyObject *raise_too_large(HandleObject *handle, uint64_t len);
/* Was the file cut under the handle's mapping? Then what was just copied or published was not the
 * ring's: false, with Corrupt. */
static inline bool check_whole(HandleObject *handle)
{
    if (SHMIPC_UNLIKELY(shmipc_segment_is_damaged(handle->segment))) {
        (void)raise_status(handle, SHMIPC_CORRUPT);
        return false;
    }
    return true;
}
/* After a commit: wake who sleeps. False, with Corrupt, as above. */
static inline bool notify(ProducerObject *producer)
{
    if (SHMIPC_UNLIKELY(shmipc_producer_role_notify(&producer->core) != SHMIPC_OK)) {
        (void)raise_status(&producer->handle, SHMIPC_CORRUPT);
        return false;
    }
    return true;
}

/* ---- waiting.c ------------------------------------------------------------------------------ */

/* timeout= in seconds; NULL or None waits for ever. -1 with an exception. */
int parse_timeout(PyObject *seconds, struct patience *patience);
uint64_t patience_deadline(struct patience *patience);
int parse_spin(PyObject *seconds, struct shmipc_spin *spin);
/* Let signal handlers run. -1 if one raised, or if this is a forked child now. */
int check_signals(HandleObject *handle);
/* Data at read_pos, or an exception: Empty after the timeout, Closed, ProducerDied, Corrupt, or
 * what a signal handler raised. The handle is entered. */
int wait_for_data(ConsumerObject *consumer, struct patience *patience);
/* What was read had been overwritten: may the call try again? -1 with an exception. */
int after_lap(ConsumerObject *consumer, struct patience *patience);
/* `len` bytes of room, or an exception. */
int wait_for_room(ProducerObject *producer, uint64_t len, struct patience *patience);
/* Until a live producer holds the ring, or an exception: NotFound after the timeout. */
int wait_for_live_producer(ConsumerObject *consumer, struct patience *patience);
int wait_for_attached(ProducerObject *producer, uint32_t count, struct patience *patience);
PyObject *module_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* ---- hint.c: warnings in the log of "shmipc" ----------------------------------------------------
 */

/* A wait's look, once a second, for a consumer whose own frames keep its producer from sending. */
struct vigil {
    uint64_t next_ns; /* 0: not begun, as after {0} */
    uint64_t since_ns;
    uint64_t number; /* of the oldest message kept */
    const struct shmipc_consumer_role *suspect;
    bool told; /* once a wait */
};

/* Two looks found the same: a new reference to the consumer to tell of, else NULL. The handles are
 * entered. */
ConsumerObject *vigil_look(struct vigil *vigil, const struct shmipc_waited *members,
                           uint32_t count);
/* Tell of it, and drop the reference; NULL: of nobody. Runs Python code. -1 with an exception. */
int vigil_tell(const struct vigil *vigil, ConsumerObject *consumer);
/* Both, for one that is entered. */
int vigil_keep(struct vigil *vigil, ConsumerObject *consumer);
/* The ring has not come for a while; `reason` is why not, and names that are alike are told too. -1
 * with an exception. */
int hint_not_found(PyObject *name, const char *path, const char *reason);

/* ---- arguments.c ---------------------------------------------------------------------------- */

struct parameters {
    const char *function;
    const char *const *names; /* in order; NULL-terminated */
    int positional;           /* how many may be given without a name */
    int required;
};

/* Spread fastcall arguments over out[], borrowed; NULL where absent. -1 with a TypeError. */
int parse_arguments(const struct parameters *parameters, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames, PyObject **out);
/* An integer in [low, high], or `fallback` where absent. -1 with a TypeError or ValueError. */
int parse_integer(const char *what, PyObject *value, uint64_t low, uint64_t high, uint64_t fallback,
                  uint64_t *out);

/* ---- literal.c ------------------------------------------------------------------------------ */

/* Is this a tuple, written as repr() writes it, of nothing but tuples, lists, strings and numbers
 * without a sign, neither deep nor long? Then ast.literal_eval has it, or says SyntaxError. */
bool literal_is_plain(const char *text, size_t len);

#endif
