/*
 * record.c: records, and the types that record_type() makes for them.
 *
 * A leased record holds its frame but no claim on the lease: it can be read until the frame is
 * released, and each read looks. What must outlive that look, an ndarray, takes a claim of its own
 * (record_array.c). An owned record has its bytes in malloc'd storage, which stays where it is.
 *
 * A record type is made as a class statement would make it, by type.__new__, and frozen before
 * anybody sees it. It cannot be subclassed (the metatype makes no types), so its instances have no
 * __dict__. A record may be in a cycle through its frame's consumer, whose subclass then has the
 * __dict__ that breaks it: there is nothing to clear.
 */
#include "../base/state.h"
#include "../base/handle.h"
#include "../ring/frame_object.h"
#include "record.h"

#define SCRATCH_LEN 512

static int record_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)((RecordObject *)object)->frame);
    return 0;
}

const struct record_field *record_find_field(const RecordTypeObject *type, PyObject *name)
{
    for (Py_ssize_t i = 0; i < type->count; i++) {
        if (type->fields[i].name == name) {
            return &type->fields[i];
        }
    }
    for (Py_ssize_t i = 0; i < type->count; i++) {
        if (PyUnicode_Check(name) && PyUnicode_Compare(type->fields[i].name, name) == 0) {
            return &type->fields[i];
        }
    }
    return NULL;
}

/* ---- making a record ------------------------------------------------------------------------ */

static PyObject *record_from_frame(PyTypeObject *type, FrameObject *frame)
{
    const HandleObject *handle = &frame->consumer->handle;
    if (handle->dtype == NULL) {
        if (frame->len != record_len_of(type)) {
            return PyErr_Format(PyExc_ValueError,
                                "a %.200s has %zu byte%s, and this message of ring %R has %llu",
                                type->tp_name, record_len_of(type), SHMIPC_S(record_len_of(type)),
                                handle->name, (unsigned long long)frame->len);
        }
    } else if (frame->batch || PyTuple_GET_SIZE(handle->shape) != 0) {
        return PyErr_Format(PyExc_ValueError,
                            "a record is one item, and this frame of ring %R has an array of them: "
                            "use its .array",
                            handle->name);
    } else if (!record_has_dtype((RecordTypeObject *)type, handle->dtype)) {
        return PyErr_Format(handle->state->exceptions[EXCEPTION_SCHEMA_MISMATCH],
                            "ring %R has items of dtype %R, and a %.200s is of dtype %R",
                            handle->name, handle->dtype, type->tp_name, record_dtype_of(type));
    }
    PyObject *record = record_new_leased(type, frame, frame->data);
    if (record != NULL && !record_is_readable((RecordObject *)record)) {
        (void)record_refuse_released((RecordObject *)record);
        Py_CLEAR(record);
    }
    return record;
}

static int set_fields(RecordObject *self, PyObject *given)
{
    RecordTypeObject *type = record_layout_of((PyObject *)self);
    PyObject *name, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(given, &at, &name, &value)) {
        const struct record_field *field = record_find_field(type, name);
        if (field == NULL) {
            PyErr_Format(PyExc_TypeError, "%.200s has no field %R", Py_TYPE(self)->tp_name, name);
            return -1;
        }
        if (field_write(type->state, field, value, self->own) != 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *record_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (Py_TYPE((PyObject *)type)->tp_new != record_meta_new) {
        return PyErr_Format(PyExc_TypeError,
                            "%.200s has no fields: make a type that has, with record_type(dtype)",
                            type->tp_name);
    }
    RecordTypeObject *layout = (RecordTypeObject *)type;
    PyObject *record = NULL;
    PyObject *given = NULL;
    if (!PyArg_UnpackTuple(args, type->tp_name, 0, 1, &given)) {
        return NULL;
    }
    const bool has_fields = kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0;
    if (given == NULL || given == Py_None) {
        record = record_new_owned(type, NULL);
    } else if (Py_TYPE(given) == layout->state->frame_type) {
        if (has_fields) {
            return PyErr_Format(
                PyExc_TypeError,
                "a %.200s on a frame is read-only: set the fields of a copy() of it",
                type->tp_name);
        }
        return record_from_frame(type, (FrameObject *)given);
    } else {
        struct source source;
        if (record_open_source(layout, given, &source) != 0) {
            return NULL;
        }
        record = record_new_owned(type, source.data);
        source_close(&source);
    }
    if (record != NULL && has_fields && set_fields((RecordObject *)record, kwargs) != 0) {
        Py_CLEAR(record);
    }
    return record;
}

PyDoc_STRVAR(record_copy_doc, "copy($self)\n--\n\n"
                              "A record of the same type with bytes of its own, which can be kept\n"
                              "and written to. ValueError if this one was released.");

static PyObject *record_copy(PyObject *object, PyObject *unused)
{
    (void)unused;
    PyObject *copy = record_new_blank(Py_TYPE(object));
    if (copy != NULL && !record_fetch((RecordObject *)object, 0, ((RecordObject *)copy)->own,
                                      ((RecordObject *)object)->len)) {
        Py_CLEAR(copy);
    }
    return copy;
}

/* ---- writing -------------------------------------------------------------------------------- */

PyDoc_STRVAR(record_assign_doc,
             "assign($self, /, *values)\n--\n\n"
             "Set the first len(values) fields, in their order; the others stay as they are. All\n"
             "or none: what is refused leaves the record unchanged. Raises as setting a field.");

static PyObject *record_assign(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    RecordObject *self = (RecordObject *)object;
    const RecordTypeObject *type = record_layout_of(object);
    unsigned char small[SCRATCH_LEN];
    unsigned char *scratch = small;
    PyObject *result = NULL;
    if (!record_is_writable(self)) {
        return NULL;
    }
    if (nargs > type->count) {
        return PyErr_Format(PyExc_TypeError, "%.200s has %zd fields, and %zd values were given",
                            Py_TYPE(object)->tp_name, type->count, nargs);
    }
    if (self->len > sizeof(small) && (scratch = PyMem_Malloc(self->len)) == NULL) {
        return PyErr_NoMemory();
    }
    if (record_fetch(self, 0, scratch, self->len) &&
        fields_write(type, args, nargs, scratch) == 0) {
        Py_BEGIN_CRITICAL_SECTION(object);
        memcpy(self->own, scratch, self->len);
        Py_END_CRITICAL_SECTION();
        result = Py_NewRef(Py_None);
    }
    if (scratch != small) {
        PyMem_Free(scratch);
    }
    return result;
}

/* ---- reading -------------------------------------------------------------------------------- */

static const struct record_field *subscripted(PyObject *object, PyObject *name)
{
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "a field is named by a str, not %.200s",
                     Py_TYPE(name)->tp_name);
        return NULL;
    }
    const struct record_field *field = record_find_field(record_layout_of(object), name);
    if (field == NULL) {
        PyErr_SetObject(PyExc_KeyError, name);
    }
    return field;
}

static PyObject *record_subscript(PyObject *object, PyObject *name)
{
    const struct record_field *field = subscripted(object, name);
    return field == NULL ? NULL : field_read(object, field);
}

static int record_set_subscript(PyObject *object, PyObject *name, PyObject *value)
{
    const struct record_field *field = subscripted(object, name);
    return field == NULL ? -1 : record_set_field(object, field, value);
}

static Py_ssize_t record_length(PyObject *object)
{
    return record_layout_of(object)->count;
}

static int record_is_true(PyObject *object)
{
    (void)object;
    return 1;
}

static PyObject *record_iter(PyObject *object)
{
    const RecordTypeObject *type = record_layout_of(object);
    PyObject *values = PyTuple_New(type->count);
    for (Py_ssize_t i = 0; values != NULL && i < type->count; i++) {
        PyObject *value = field_read(object, &type->fields[i]);
        if (value == NULL) {
            Py_CLEAR(values);
        } else {
            PyTuple_SET_ITEM(values, i, value);
        }
    }
    PyObject *iterator = values == NULL ? NULL : PyObject_GetIter(values);
    Py_XDECREF(values);
    return iterator;
}

static PyObject *record_repr(PyObject *object)
{
    const RecordTypeObject *type = record_layout_of(object);
    if (!record_is_readable((RecordObject *)object)) {
        return PyUnicode_FromFormat("<released %s>", Py_TYPE(object)->tp_name);
    }
    PyObject *parts = PyList_New(0);
    for (Py_ssize_t i = 0; parts != NULL && i < type->count; i++) {
        PyObject *value = field_read(object, &type->fields[i]);
        PyObject *part =
            value == NULL ? NULL : PyUnicode_FromFormat("%U=%R", type->fields[i].name, value);
        Py_XDECREF(value);
        if (part == NULL || PyList_Append(parts, part) != 0) {
            Py_CLEAR(parts);
        }
        Py_XDECREF(part);
    }
    PyObject *comma = parts == NULL ? NULL : PyUnicode_FromString(", ");
    PyObject *inside = comma == NULL ? NULL : PyUnicode_Join(comma, parts);
    PyObject *text =
        inside == NULL ? NULL : PyUnicode_FromFormat("%s(%U)", Py_TYPE(object)->tp_name, inside);
    Py_XDECREF(parts);
    Py_XDECREF(comma);
    Py_XDECREF(inside);
    return text;
}

static PyObject *record_bytes(PyObject *object, PyObject *unused)
{
    (void)unused;
    const RecordObject *self = (RecordObject *)object;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)self->len);
    if (bytes != NULL && !record_fetch(self, 0, PyBytes_AS_STRING(bytes), self->len)) {
        Py_CLEAR(bytes);
    }
    return bytes;
}

/* 1 equal, 0 not, -1 an exception. */
static int fields_equal(const RecordTypeObject *type, const unsigned char *left,
                        const unsigned char *right)
{
    int equal = 1;
    if (memcmp(left, right, type->len) == 0) {
        return 1;
    }
    for (Py_ssize_t i = 0; equal == 1 && i < type->count; i++) {
        equal = field_equal(&type->fields[i], left, right);
    }
    return equal;
}

static PyObject *record_compare(PyObject *left, PyObject *right, int operation)
{
    if ((operation != Py_EQ && operation != Py_NE) || !record_check_any(right) ||
        !record_has_dtype(record_layout_of(left), record_layout_of(right)->dtype)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    const size_t len = ((RecordObject *)left)->len;
    unsigned char small[2 * SCRATCH_LEN];
    unsigned char *scratch = small;
    int equal = -1;
    if (len > SCRATCH_LEN) {
        scratch = len > SIZE_MAX / 2 ? NULL : PyMem_Malloc(2 * len);
        if (scratch == NULL) {
            return PyErr_NoMemory();
        }
    }
    if (record_fetch((RecordObject *)left, 0, scratch, len) &&
        record_fetch((RecordObject *)right, 0, scratch + len, len)) {
        equal = fields_equal(record_layout_of(left), scratch, scratch + len);
    }
    if (scratch != small) {
        PyMem_Free(scratch);
    }
    return equal < 0 ? NULL : PyBool_FromLong(equal == (operation == Py_EQ));
}

static PyObject *record_get_released(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(!record_is_readable((RecordObject *)object));
}

static PyObject *record_reduce(PyObject *object, PyObject *unused)
{
    PyObject *module = PyType_GetModule(record_layout_of(object)->state->record_base_type);
    PyObject *restore = module == NULL ? NULL : PyObject_GetAttrString(module, "_restore_record");
    PyObject *bytes = restore == NULL ? NULL : record_bytes(object, unused);
    PyObject *result =
        bytes == NULL ? NULL : Py_BuildValue("O(OO)", restore, Py_TYPE(object), bytes);
    Py_XDECREF(restore);
    Py_XDECREF(bytes);
    return result;
}

static PyMethodDef record_methods[] = {
    {"copy", record_copy, METH_NOARGS, record_copy_doc},
    {"assign", METHOD(record_assign), METH_FASTCALL, record_assign_doc},
    {"__array__", METHOD(record_array), FASTCALL, record_array_doc},
    {"__bytes__", record_bytes, METH_NOARGS, "__bytes__($self)\n--\n\nThe bytes as they lie."},
    {"__copy__", record_copy, METH_NOARGS, "__copy__($self)\n--\n\nAs copy()."},
    {"__deepcopy__", record_copy, METH_O, "__deepcopy__($self, memo)\n--\n\nAs copy()."},
    {"__reduce__", record_reduce, METH_NOARGS, "__reduce__($self)\n--\n\nPickles a copy."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef record_getset[] = {
    {"released", record_get_released, NULL,
     "True once the frame of a record on ring memory was released: it can be read no more.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

PyDoc_STRVAR(
    record_doc,
    "Record(source=None, /, **fields)\n--\n\n"
    "The base of the types that record_type() makes. A record is the bytes of one item of a\n"
    "structured dtype; an attribute reads its field where it lies.\n"
    "\n"
    "source: a Frame, for a record on the ring's own memory: read-only, and only until the\n"
    "    frame is released. A record, numpy item or buffer of the same layout, for an owned\n"
    "    copy. None: zeros.\n"
    "fields: values to set in an owned record.\n"
    "\n"
    "Fields are attributes, or record['name'], which also reaches a field that is named as a\n"
    "method is. Numbers, bools, bytes and text come as Python's own; datetime64, timedelta64\n"
    "and longdouble as numpy's; sub-arrays and nested structs as an ndarray or numpy.void on\n"
    "the record's memory, which keep a lease alive. Setting raises OverflowError for a number\n"
    "out of range, ValueError for what is too long, TypeError for the wrong type or a leased\n"
    "record; sub-arrays and nested structs are set by numpy's rules, but no integer wraps.\n"
    "Two records are equal if dtype and fields are; fields of equal bytes are equal, NaN too.\n"
    "In an overwrite ring the producer may change what is being read: Frame.intact tells.");

static PyType_Slot record_slots[] = {{Py_tp_doc, (void *)(uintptr_t)record_doc},
                                     {Py_tp_new, record_new},
                                     {Py_tp_dealloc, record_dealloc},
                                     {Py_tp_traverse, record_traverse},
                                     {Py_tp_repr, record_repr},
                                     {Py_tp_iter, record_iter},
                                     {Py_tp_richcompare, record_compare},
                                     {Py_tp_hash, PyObject_HashNotImplemented},
                                     {Py_tp_methods, record_methods},
                                     {Py_tp_getset, record_getset},
                                     {Py_nb_bool, record_is_true},
                                     {Py_mp_length, record_length},
                                     {Py_mp_subscript, record_subscript},
                                     {Py_mp_ass_subscript, record_set_subscript},
                                     {0, NULL}};

PyType_Spec record_spec = {.name = "shmipc._core.Record",
                           .basicsize = sizeof(RecordObject),
                           .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
                                    Py_TPFLAGS_IMMUTABLETYPE,
                           .slots = record_slots};
