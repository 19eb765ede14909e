/*
 * record_type.c: the types that record_type() makes, the descriptors of their fields, their
 * metatype, and pickling.
 *
 * The metatype has the layout in C beside the type. It makes types for us alone: called from
 * Python, or by a class statement, it refuses. A type is frozen before anybody sees it, so neither
 * its fields nor the type of a record can be changed.
 */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/handle.h"
#include "../ring/frame_object.h"
#include "record.h"

/* ---- the descriptor of a field --------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    RecordTypeObject *owner; /* owned: its only instances have the field */
    const struct record_field *field;
} FieldObject;

static PyObject *field_new(RecordTypeObject *type, Py_ssize_t index)
{
    FieldObject *self = PyObject_GC_New(FieldObject, type->state->field_type);
    if (self != NULL) {
        self->owner = (RecordTypeObject *)Py_NewRef((PyObject *)type);
        self->field = &type->fields[index];
        PyObject_GC_Track((PyObject *)self);
    }
    return (PyObject *)self;
}

static void field_dealloc(PyObject *object)
{
    FieldObject *self = (FieldObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_DECREF((PyObject *)self->owner);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

/* A type and its fields are a cycle, which the type's dict breaks: there is nothing to clear. */
static int field_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)((FieldObject *)object)->owner);
    return 0;
}

static bool is_of_owner(const FieldObject *self, PyObject *object)
{
    if (SHMIPC_LIKELY(Py_TYPE(object) == &self->owner->heap.ht_type)) {
        return true;
    }
    PyErr_Format(PyExc_TypeError, "field %R is of %.200s, not of %.200s", self->field->name,
                 self->owner->heap.ht_type.tp_name, Py_TYPE(object)->tp_name);
    return false;
}

static PyObject *field_get(PyObject *descriptor, PyObject *object, PyObject *type)
{
    const FieldObject *self = (FieldObject *)descriptor;
    (void)type;
    if (object == NULL) {
        return Py_NewRef(descriptor);
    }
    return is_of_owner(self, object) ? field_read(object, self->field) : NULL;
}

static int field_set(PyObject *descriptor, PyObject *object, PyObject *value)
{
    const FieldObject *self = (FieldObject *)descriptor;
    return is_of_owner(self, object) ? record_set_field(object, self->field, value) : -1;
}

static PyObject *field_get_name(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(((FieldObject *)object)->field->name);
}

static PyObject *field_get_owner(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef((PyObject *)((FieldObject *)object)->owner);
}

static PyObject *field_get_doc(PyObject *object, void *unused)
{
    (void)unused;
    const struct record_field *field = ((FieldObject *)object)->field;
    return PyUnicode_FromFormat("%S at byte %zu.", field->dtype, field->offset);
}

static PyObject *field_repr(PyObject *object)
{
    const FieldObject *self = (FieldObject *)object;
    return PyUnicode_FromFormat("<field %R of %s>", self->field->name,
                                self->owner->heap.ht_type.tp_name);
}

static PyGetSetDef field_getset[] = {{"__name__", field_get_name, NULL, NULL, NULL},
                                     {"__objclass__", field_get_owner, NULL, NULL, NULL},
                                     {"__doc__", field_get_doc, NULL, NULL, NULL},
                                     {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot field_slots[] = {{Py_tp_dealloc, field_dealloc},
                                    {Py_tp_traverse, field_traverse},
                                    {Py_tp_descr_get, field_get},
                                    {Py_tp_descr_set, field_set},
                                    {Py_tp_repr, field_repr},
                                    {Py_tp_getset, field_getset},
                                    {0, NULL}};

PyType_Spec field_spec = {.name = "shmipc._core.Field",
                          .basicsize = sizeof(FieldObject),
                          .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                   Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                          .slots = field_slots};

/* ---- the metatype --------------------------------------------------------------------------- */

static int meta_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    return PyType_Type.tp_traverse(object, visit, arg);
}

static int meta_clear(PyObject *object)
{
    return PyType_Type.tp_clear(object);
}

static void meta_dealloc(PyObject *object)
{
    RecordTypeObject *self = (RecordTypeObject *)object;
    PyTypeObject *meta = Py_TYPE(object);
    PyObject *dtype = self->dtype;
    PyObject *text = self->text;
    PyObject *twin = atomic_load_explicit(&self->twin, memory_order_relaxed); /* nobody else's */
    struct record_field *fields = self->fields;
    struct cached_text *texts = self->texts;
    size_t *text_ends = self->text_ends;
    const Py_ssize_t count = self->count;
    record_free_spare(self);
    PyType_Type.tp_dealloc(object);
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_XDECREF(fields[i].name);
        Py_XDECREF(fields[i].dtype);
    }
    for (int i = 0; texts != NULL && i < TEXT_CACHE_COUNT; i++) {
        Py_XDECREF(texts[i].text);
    }
    PyMem_Free(fields);
    PyMem_Free(texts);
    PyMem_Free(text_ends);
    Py_XDECREF(dtype);
    Py_XDECREF(twin);
    Py_XDECREF(text);
    Py_DECREF(meta);
}

static PyType_Slot record_meta_slots[] = {{Py_tp_doc, "The type of record types."},
                                          {Py_tp_new, record_meta_new},
                                          {Py_tp_traverse, meta_traverse},
                                          {Py_tp_clear, meta_clear},
                                          {Py_tp_dealloc, meta_dealloc},
                                          {0, NULL}};

PyType_Spec record_meta_spec = {.name = "shmipc._core.RecordType",
                                .basicsize = sizeof(RecordTypeObject),
                                .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                         Py_TPFLAGS_IMMUTABLETYPE,
                                .slots = record_meta_slots};

/* ---- making a type -------------------------------------------------------------------------- */

/* May a field of this name be an attribute? Not where a record has another meaning for it. */
static bool may_be_attribute(struct module_state *state, PyObject *name)
{
    if (PyUnicode_CompareWithASCIIString(name, "dtype") == 0) {
        return false;
    }
    const Py_ssize_t len = PyUnicode_GET_LENGTH(name);
    if (len > 3 && PyUnicode_READ_CHAR(name, 0) == '_' && PyUnicode_READ_CHAR(name, 1) == '_' &&
        PyUnicode_READ_CHAR(name, len - 1) == '_' && PyUnicode_READ_CHAR(name, len - 2) == '_') {
        return false;
    }
    return !PyObject_HasAttr((PyObject *)state->record_base_type, name);
}

static int add_attributes(struct module_state *state, RecordTypeObject *type)
{
    PyObject *object = (PyObject *)type;
    if (PyObject_SetAttrString(object, "dtype", type->dtype) != 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < type->count; i++) {
        if (!may_be_attribute(state, type->fields[i].name)) {
            continue;
        }
        PyObject *field = field_new(type, i);
        const int set = field == NULL ? -1 : PyObject_SetAttr(object, type->fields[i].name, field);
        Py_XDECREF(field);
        if (set != 0) {
            return -1;
        }
    }
    return 0;
}

static int freeze(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030E0000
    return PyType_Freeze(type);
#else
    type->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE; /* nobody has seen the type yet */
    PyType_Modified(type);
    return 0;
#endif
}

/* `key` is (dtype, name, text, module), each of its exact type. */
static PyObject *make_type(struct module_state *state, PyObject *key)
{
    PyObject *dtype = PyTuple_GET_ITEM(key, 0);
    PyObject *args =
        Py_BuildValue("O(O){s(),sO,sN}", PyTuple_GET_ITEM(key, 1), state->record_base_type,
                      "__slots__", "__module__", PyTuple_GET_ITEM(key, 3), "__doc__",
                      PyUnicode_FromFormat("A record of dtype %R.", dtype));
    PyObject *object =
        args == NULL ? NULL : PyType_Type.tp_new(state->record_meta_type, args, NULL);
    Py_XDECREF(args);
    if (object == NULL) {
        return NULL;
    }
    RecordTypeObject *type = (RecordTypeObject *)object;
    type->state = state;
    type->heap.ht_type.tp_dealloc = record_dealloc; /* a record has nothing but what that knows */
    if (record_layout_fill(type, dtype, PyTuple_GET_ITEM(key, 2)) != 0 ||
        add_attributes(state, type) != 0 || freeze(&type->heap.ht_type) != 0) {
        Py_CLEAR(object);
    }
    return object;
}

/* The table of types by key, which keeps none of them alive. Made, and pickling prepared, when it
 * is first needed. Borrowed. */
static PyObject *known_types(struct module_state *state)
{
    PyObject *known = atomic_load_explicit(&state->record_types, memory_order_acquire);
    if (known != NULL) {
        return known;
    }
    PyObject *module = PyType_GetModule(state->record_base_type);
    PyObject *reduce =
        module == NULL ? NULL : PyObject_GetAttrString(module, "_reduce_record_type");
    PyObject *copyreg = reduce == NULL ? NULL : PyImport_ImportModule("copyreg");
    PyObject *done = copyreg == NULL ? NULL
                                     : PyObject_CallMethod(copyreg, "pickle", "OO",
                                                           state->record_meta_type, reduce);
    PyObject *weakref = done == NULL ? NULL : PyImport_ImportModule("weakref");
    PyObject *made =
        weakref == NULL ? NULL : PyObject_CallMethod(weakref, "WeakValueDictionary", NULL);
    Py_XDECREF(reduce);
    Py_XDECREF(copyreg);
    Py_XDECREF(done);
    Py_XDECREF(weakref);
    if (made != NULL && !atomic_compare_exchange_strong(&state->record_types, &known, made)) {
        Py_DECREF(made); /* another thread was quicker: `known` is its table */
        return known;
    }
    return made;
}

/* The one type of a key while it lives. */
static PyObject *known_type(struct module_state *state, PyObject *key)
{
    PyObject *known = known_types(state);
    PyObject *type = known == NULL ? NULL : PyObject_CallMethod(known, "get", "(O)", key);
    if (type == Py_None) {
        Py_DECREF(type);
        PyObject *made = make_type(state, key);
        type = made == NULL ? NULL : PyObject_CallMethod(known, "setdefault", "OO", key, made);
        Py_XDECREF(made);
    }
    return type;
}

PyObject *record_type_for(struct module_state *state, PyObject *dtype)
{
    PyObject *key = Py_BuildValue("Os()s", dtype, "Record", "shmipc");
    PyObject *type = key == NULL ? NULL : known_type(state, key);
    Py_XDECREF(key);
    return type;
}

const char record_type_doc[] =
    "record_type(dtype, name='Record', *, text=(), module=None)\n--\n\n"
    "A new subclass of Record for a structured numpy dtype. With a dtype alone, the same type\n"
    "each time while it is in use.\n"
    "\n"
    "text: names of fields of bytes (S) that hold text: read as str up to the first zero byte\n"
    "    (what is not UTF-8 is escaped), set from str or bytes one byte shorter than the field.\n"
    "module: where the type can be imported from, for pickling; default: the caller's.\n"
    "    A type that cannot be imported is pickled as its dtype.\n"
    "\n"
    "TypeError for a dtype without fields or with Python objects, ValueError for names in\n"
    "text= that are no fields of bytes.";

static PyObject *text_tuple(PyObject *text)
{
    if (text == NULL) {
        return PyTuple_New(0);
    }
    if (PyUnicode_Check(text) || PyBytes_Check(text)) {
        PyErr_SetString(PyExc_TypeError, "text= is a sequence of field names, not one name");
        return NULL;
    }
    return PySequence_Tuple(text);
}

static PyObject *module_of_caller(void)
{
    PyObject *globals = PyEval_GetGlobals();
    PyObject *name = globals == NULL ? NULL : PyDict_GetItemString(globals, "__name__");
    return name != NULL && PyUnicode_Check(name) ? Py_NewRef(name) : PyUnicode_FromString("shmipc");
}

PyObject *module_record_type(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    static const char *const names[] = {"dtype", "name", "text", "module", NULL};
    static const struct parameters parameters = {"record_type", names, 2, 1};
    struct module_state *state = PyModule_GetState(module);
    PyObject *given[4];
    PyObject *type = NULL;
    if (parse_arguments(&parameters, args, nargs, kwnames, given) != 0) {
        return NULL;
    }
    PyObject *name = given[1], *text = given[2], *from = given[3];
    if ((name != NULL && !PyUnicode_Check(name)) ||
        (from != NULL && from != Py_None && !PyUnicode_Check(from))) {
        PyErr_SetString(PyExc_TypeError, "record_type(): name and module are str");
        return NULL;
    }
    PyObject *dtype = record_dtype_convert(state, given[0]);
    if (dtype == NULL) {
        return NULL;
    }
    if (name == NULL && text == NULL && from == NULL) {
        type = record_type_for(state, dtype);
    } else {
        PyObject *called =
            name == NULL ? PyUnicode_FromString("Record") : PyUnicode_FromObject(name);
        PyObject *fields = called == NULL ? NULL : text_tuple(text);
        PyObject *origin = fields == NULL                    ? NULL
                           : from == NULL || from == Py_None ? module_of_caller()
                                                             : PyUnicode_FromObject(from);
        PyObject *key = origin == NULL ? NULL : PyTuple_Pack(4, dtype, called, fields, origin);
        /* known_types: so that the type can be pickled. */
        type = key == NULL || known_types(state) == NULL ? NULL : make_type(state, key);
        Py_XDECREF(called);
        Py_XDECREF(fields);
        Py_XDECREF(origin);
        Py_XDECREF(key);
    }
    Py_DECREF(dtype);
    return type;
}

/* ---- pickling ------------------------------------------------------------------------------- */

/* The type by name if that finds it, else as what record_type() was given. */
PyObject *module_reduce_record_type(PyObject *module, PyObject *object)
{
    struct module_state *state = PyModule_GetState(module);
    if (!record_type_check(state, object)) {
        return PyErr_Format(PyExc_TypeError, "not a record type: %R", object);
    }
    const RecordTypeObject *type = (RecordTypeObject *)object;
    PyObject *result = NULL;
    PyObject *name = PyObject_GetAttrString(object, "__qualname__");
    PyObject *from = name == NULL ? NULL : PyObject_GetAttrString(object, "__module__");
    if (from == NULL) {
        Py_XDECREF(name);
        return NULL;
    }
    PyObject *origin = PyImport_GetModule(from);
    PyObject *found = origin == NULL ? NULL : PyObject_GetAttr(origin, name);
    PyErr_Clear(); /* not imported, or no such name: it is not found */
    if (found == object) {
        result = Py_NewRef(name);
    } else {
        PyObject *restore = PyObject_GetAttrString(module, "_restore_record_type");
        result = restore == NULL
                     ? NULL
                     : Py_BuildValue("N(OOOO)", restore, type->dtype, name, type->text, from);
    }
    Py_XDECREF(origin);
    Py_XDECREF(found);
    Py_DECREF(name);
    Py_DECREF(from);
    return result;
}

PyObject *module_restore_record_type(PyObject *module, PyObject *args)
{
    struct module_state *state = PyModule_GetState(module);
    PyObject *given, *name, *text, *from;
    if (!PyArg_ParseTuple(args, "OUO!U:_restore_record_type", &given, &name, &PyTuple_Type, &text,
                          &from)) {
        return NULL;
    }
    PyObject *dtype = record_dtype_convert(state, given);
    PyObject *key = dtype == NULL ? NULL : PyTuple_Pack(4, dtype, name, text, from);
    PyObject *type = key == NULL ? NULL : known_type(state, key);
    Py_XDECREF(dtype);
    Py_XDECREF(key);
    return type;
}

PyObject *module_restore_record(PyObject *module, PyObject *args)
{
    struct module_state *state = PyModule_GetState(module);
    PyObject *type;
    const char *bytes;
    Py_ssize_t len;
    if (!PyArg_ParseTuple(args, "Oy#:_restore_record", &type, &bytes, &len)) {
        return NULL;
    }
    if (!record_type_check(state, type) || (size_t)len != record_len_of((PyTypeObject *)type)) {
        return PyErr_Format(PyExc_ValueError, "%zd byte%s: no record of %R", len, SHMIPC_S(len),
                            type);
    }
    return record_new_owned((PyTypeObject *)type, (const unsigned char *)bytes);
}

const struct record_room record_room = {.open_item = source_open_record_item,
                                        .open_to_send = source_open_record_to_send,
                                        .type_for = record_type_for,
                                        .new_leased = record_new_leased};
