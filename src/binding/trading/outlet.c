/*
 * outlet.c: fill in, stamp, send and keep a record, in one call. What stands between a decision and
 * the wire: an order is a prepared record with a few fields of its own.
 */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/handle.h"
#include "../ring/producer_object.h"
#include "../ring/sending.h"
#include "../ring/waiting.h"
#include "outlet.h"

#include <structmember.h>
#include <time.h>

/* ---- making one ----------------------------------------------------------------------------- */

static const struct record_field *field_named(const RecordTypeObject *type, PyObject *name,
                                              bool stamped)
{
    const struct record_field *field = PyUnicode_Check(name) ? record_find_field(type, name) : NULL;
    if (field == NULL) {
        PyErr_Format(PyExc_ValueError, "%R has no field %R", type, name);
    } else if (stamped && field->code != FIELD_I64) {
        PyErr_Format(PyExc_TypeError, "field %R is no int64, so it takes no time", name);
        field = NULL;
    }
    return field;
}

/* The fields of a tuple of names. Their number, or -1. */
static Py_ssize_t parse_names(const RecordTypeObject *type, PyObject *names, bool stamped,
                              const struct record_field **fields)
{
    if (names == NULL || !PyTuple_Check(names) || PyTuple_GET_SIZE(names) > OUTLET_MAX_FIELDS) {
        PyErr_Format(PyExc_TypeError, "fields and times are tuples of up to %d names",
                     OUTLET_MAX_FIELDS);
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        fields[i] = field_named(type, PyTuple_GET_ITEM(names, i), stamped);
        if (fields[i] == NULL) {
            return -1;
        }
    }
    return PyTuple_GET_SIZE(names);
}

static int parse_layout(OutletObject *self, PyObject *fields, PyObject *times, PyObject *trigger)
{
    const struct record_field *stamped[OUTLET_MAX_FIELDS];
    self->field_count = parse_names(self->type, fields, false, self->fields);
    self->time_count = times == NULL ? 0 : parse_names(self->type, times, true, stamped);
    if (self->field_count < 0 || self->time_count < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < self->time_count; i++) {
        self->time_offs[i] = stamped[i]->offset;
    }
    if (trigger != NULL && trigger != Py_None) {
        const struct record_field *field = field_named(self->type, trigger, true);
        if (field == NULL) {
            return -1;
        }
        self->trigger_off = field->offset;
        self->has_trigger = true;
    }
    return 0;
}

static PyObject *outlet_call(PyObject *object, PyObject *const *args, size_t nargsf,
                             PyObject *kwnames);

PyDoc_STRVAR(
    outlet_doc,
    "Outlet(producer, record_type, kind, *, fields, times=(), trigger=None, dispatcher=None,\n"
    "    clock=None, kept=None)\n--\n\n"
    "Sends records of one type that differ in a few fields: fills in, stamps, sends and keeps\n"
    "one in a single call.\n"
    "\n"
    "outlet(record, *values) puts `values` into `fields` of the owned `record`, the time in ns\n"
    "(of `clock()`, else of the system) into the int64 fields `times`, and into `trigger` the\n"
    "`dispatcher`'s current_ts; sends it as a message of `kind`; and sets kept[values[0]] to a\n"
    "copy. True: it was sent. False: the ring is full, and nothing was kept. Raises as setting\n"
    "a field and as Producer.try_send(); then neither the record nor `kept` has changed.");

static PyObject *outlet_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"producer", "record_type", "kind",  "fields", "times",
                                        "trigger",  "dispatcher",  "clock", "kept",   NULL};
    PyObject *producer, *record_type, *kind_object, *fields = NULL;
    PyObject *times = NULL, *trigger = NULL, *dispatcher = NULL, *clock = NULL, *kept = NULL;
    uint64_t kind;
    struct module_state *state = state_of_type(type);
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$OOOOOO:Outlet", (char **)(uintptr_t)names,
                                     &producer, &record_type, &kind_object, &fields, &times,
                                     &trigger, &dispatcher, &clock, &kept) ||
        parse_integer("kind", kind_object, 1, UINT16_MAX, 0, &kind) != 0) {
        return NULL;
    }
    if (!PyObject_TypeCheck(producer, state->producer_type) ||
        !record_type_check(state, record_type) ||
        (dispatcher != NULL && dispatcher != Py_None &&
         Py_TYPE(dispatcher) != state->dispatcher_type) ||
        (kept != NULL && kept != Py_None && !PyDict_CheckExact(kept))) {
        PyErr_SetString(PyExc_TypeError,
                        "Outlet takes a Producer, a record type, a Dispatcher, and a dict");
        return NULL;
    }
    if (((ProducerObject *)producer)->handle.dtype != NULL) {
        PyErr_Format(PyExc_TypeError, "ring %R is typed: an Outlet sends messages",
                     ((ProducerObject *)producer)->handle.name);
        return NULL;
    }
    OutletObject *self = (OutletObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->call = outlet_call;
    self->producer = (ProducerObject *)Py_NewRef(producer);
    self->type = (RecordTypeObject *)Py_NewRef(record_type);
    self->kind = kind;
    if (dispatcher != NULL && dispatcher != Py_None) {
        self->dispatcher = (DispatcherObject *)Py_NewRef(dispatcher);
    }
    if (clock != NULL && clock != Py_None) {
        self->clock = Py_NewRef(clock);
    }
    if (kept != NULL && kept != Py_None) {
        self->kept = Py_NewRef(kept);
    }
    if (parse_layout(self, fields, times, trigger) != 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* ---- sending -------------------------------------------------------------------------------- */

static bool read_clock(const OutletObject *self, int64_t *now)
{
    if (self->clock == NULL) {
        struct timespec time;
        (void)clock_gettime(CLOCK_REALTIME, &time);
        *now = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
        return true;
    }
    PyObject *answer = PyObject_CallNoArgs(self->clock);
    *now = answer == NULL ? -1 : PyLong_AsLongLong(answer);
    Py_XDECREF(answer);
    return *now != -1 || PyErr_Occurred() == NULL;
}

/* The record as it is to be sent, in `bytes`. -1 with an exception. */
static int fill_in(const OutletObject *self, const RecordObject *record, PyObject *const *values,
                   unsigned char *bytes)
{
    int64_t now = 0;
    if (!record_fetch(record, 0, bytes, record->len)) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < self->field_count; i++) {
        if (field_write(self->type->state, self->fields[i], values[i], bytes) != 0) {
            return -1;
        }
    }
    if (SHMIPC_UNLIKELY(!record_texts_end(self->type, bytes))) {
        return record_refuse_text(self->type, bytes, 0);
    }
    if (self->time_count > 0 && !read_clock(self, &now)) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < self->time_count; i++) {
        memcpy(bytes + self->time_offs[i], &now, sizeof now);
    }
    if (self->has_trigger) {
        const int64_t ts = self->dispatcher == NULL ? 0 : dispatcher_current_ts(self->dispatcher);
        memcpy(bytes + self->trigger_off, &ts, sizeof ts);
    }
    return 0;
}

/* Keep `copy`; what was kept under this key before, if anything, is then the caller's. */
static int keep(PyObject *kept, PyObject *key, PyObject *copy, PyObject **before)
{
    PyObject *found = NULL;
#if PY_VERSION_HEX >= 0x030D0000
    if (PyDict_SetDefaultRef(kept, key, copy, &found) < 0) {
        return -1;
    }
#else
    found = PyDict_SetDefault(kept, key, copy);
    if (found == NULL) {
        return -1;
    }
    Py_INCREF(found);
#endif
    if (SHMIPC_LIKELY(found == copy)) {
        Py_DECREF(found);
        return 0;
    }
    *before = found;
    return PyDict_SetItem(kept, key, copy);
}

/* It was not sent: as it was before. The exception that is set stays. */
static void keep_no_more(PyObject *kept, PyObject *key, PyObject *before)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if ((before != NULL ? PyDict_SetItem(kept, key, before) : PyDict_DelItem(kept, key)) != 0) {
        PyErr_Clear(); /* somebody has emptied it meanwhile */
    }
    PyErr_Restore(type, value, traceback);
}

/* Send `copy` and keep it. 1: sent. 0: full. -1: an exception. */
static int send_copy(OutletObject *self, PyObject *copy, PyObject *key)
{
    const RecordObject *record = (RecordObject *)copy;
    struct patience at_once = {0, 0, true};
    PyObject *before = NULL;
    /* Kept first: what has been sent must not fail to be kept. */
    if (self->kept != NULL && keep(self->kept, key, copy, &before) != 0) {
        Py_XDECREF(before);
        return -1;
    }
    const int sent = producer_send_plain(self->producer, record->data, record->len,
                                         (uint16_t)self->kind, &at_once);
    if (SHMIPC_UNLIKELY(sent != 1) && self->kept != NULL) {
        keep_no_more(self->kept, key, before);
    }
    Py_XDECREF(before);
    return sent;
}

int outlet_send(OutletObject *self, PyObject *record, PyObject *const *values)
{
    PyObject *copy = record_new_blank((PyTypeObject *)self->type);
    if (copy == NULL) {
        return -1;
    }
    int sent = -1;
    if (fill_in(self, (RecordObject *)record, values, ((RecordObject *)copy)->own) == 0) {
        sent = send_copy(self, copy, self->field_count > 0 ? values[0] : Py_None);
    }
    Py_DECREF(copy);
    return sent;
}

static PyObject *outlet_call(PyObject *object, PyObject *const *args, size_t nargsf,
                             PyObject *kwnames)
{
    OutletObject *self = (OutletObject *)object;
    const Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (nargs != 1 + self->field_count || (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0)) {
        return PyErr_Format(PyExc_TypeError, "this Outlet takes a record and %zd values",
                            self->field_count);
    }
    if (!outlet_takes(self, args[0])) {
        return PyErr_Format(PyExc_TypeError, "this Outlet takes an owned record of %R", self->type);
    }
    const int sent = outlet_send(self, args[0], args + 1);
    return sent < 0 ? NULL : PyBool_FromLong(sent);
}

/* ---- the type ------------------------------------------------------------------------------- */

static int outlet_traverse(PyObject *object, visitproc visit, void *arg)
{
    const OutletObject *self = (OutletObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->producer);
    Py_VISIT(self->type);
    Py_VISIT(self->dispatcher);
    Py_VISIT(self->clock);
    Py_VISIT(self->kept);
    return 0;
}

static int outlet_clear(PyObject *object)
{
    OutletObject *self = (OutletObject *)object;
    Py_CLEAR(self->dispatcher);
    Py_CLEAR(self->clock);
    Py_CLEAR(self->kept);
    return 0;
}

static void outlet_dealloc(PyObject *object)
{
    OutletObject *self = (OutletObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    (void)outlet_clear(object);
    Py_XDECREF(self->producer);
    Py_XDECREF(self->type);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMemberDef outlet_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(OutletObject, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot outlet_slots[] = {{Py_tp_doc, (void *)(uintptr_t)outlet_doc},
                                     {Py_tp_new, outlet_new},
                                     {Py_tp_dealloc, outlet_dealloc},
                                     {Py_tp_traverse, outlet_traverse},
                                     {Py_tp_clear, outlet_clear},
                                     {Py_tp_call, PyVectorcall_Call},
                                     {Py_tp_members, outlet_members},
                                     {0, NULL}};

PyType_Spec outlet_spec = {.name = "shmipc._core.Outlet",
                           .basicsize = sizeof(OutletObject),
                           .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                    Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_VECTORCALL,
                           .slots = outlet_slots};
