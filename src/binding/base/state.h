/* state.h: what every file of the extension starts from: Python, and the state of the module. */
#ifndef SHMIPC_BINDING_STATE_H
#define SHMIPC_BINDING_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "../../core/base/atomic.h"

#ifndef Py_BEGIN_CRITICAL_SECTION /* before 3.13 the GIL is the critical section */
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

#if PY_VERSION_HEX < 0x030D0000
#define Py_IsFinalizing _Py_IsFinalizing
#endif

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

struct handle_object;
struct frame_object;
struct source;
struct module_state;

/* What the files of ring ask of those of record, which stand above them. */
struct record_room {
    int (*open_item)(struct handle_object *handle, PyObject *record, struct source *source);
    int (*open_to_send)(PyObject *record, struct source *source);
    PyObject *(*type_for)(struct module_state *state, PyObject *dtype);
    PyObject *(*new_leased)(PyTypeObject *type, struct frame_object *frame,
                            const unsigned char *data);
};

struct module_state {
    const struct record_room *records;
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

extern const char module_name[];

/* Is this an instance of what record_type() makes? */
static inline bool is_record(const struct module_state *state, PyObject *object)
{
    return Py_TYPE((PyObject *)Py_TYPE(object)) == state->record_meta_type;
}

/* The state behind a type of ours or a subclass of one. Slow: for constructors. */
struct module_state *state_of_type(PyTypeObject *type);

/* For tp_members: where `type` keeps its weak references. Its dealloc clears them. */
#define WEAK_REFERENCES(type)                                                      \
    {                                                                              \
        "__weaklistoffset__", T_PYSSIZET, offsetof(type, weakrefs), READONLY, NULL \
    }

#define FASTCALL (METH_FASTCALL | METH_KEYWORDS)
#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

#endif
