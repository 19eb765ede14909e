/*
 * latest.c: the last record of each symbol, kept as bytes: what an engine tells those who join.
 *
 * Records of one length, which begin with their symbol (KEY_LEN bytes). One whose symbol
 * is all zeros is kept nowhere.
 */
#include "../base/state.h"
#include "../base/arguments.h"
#include "../base/handle.h"
#include "../ring/buffers.h"
#include "../dispatch/keys.h"
#include "latest.h"

typedef struct {
    PyObject_HEAD
    struct key_table table; /* symbol -> its record's number */
    unsigned char *records;
    size_t record_len;
    size_t room; /* records that fit */
    size_t count;
} LatestObject;

PyDoc_STRVAR(
    latest_doc,
    "Latest(record_len)\n--\n\n"
    "The last record of each symbol. record_len: bytes of a record, which begins with its\n"
    "symbol: 16 bytes, padded with zeros.");

static PyObject *latest_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"record_len", NULL};
    PyObject *len_object;
    uint64_t len;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Latest", (char **)(uintptr_t)names,
                                     &len_object) ||
        parse_integer("record_len", len_object, KEY_LEN, SHMIPC_MAX_MESSAGE_LEN, 0, &len) != 0) {
        return NULL;
    }
    LatestObject *self = (LatestObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->record_len = (size_t)len;
    }
    return (PyObject *)self;
}

static void latest_dealloc(PyObject *object)
{
    LatestObject *self = (LatestObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    key_table_free(&self->table);
    PyMem_Free(self->records);
    type->tp_free(object);
    Py_DECREF(type);
}

/* Where the record of a symbol is kept; made if new. NULL with MemoryError. */
static unsigned char *place_of(LatestObject *self, struct event_key key)
{
    struct key_entry *entry = key_find(&self->table, key);
    if (SHMIPC_UNLIKELY(entry == NULL)) {
        if (self->count == self->room) {
            const size_t room = self->room == 0 ? 16 : 2 * self->room;
            unsigned char *records = PyMem_Realloc(self->records, room * self->record_len);
            if (records == NULL) {
                PyErr_NoMemory();
                return NULL;
            }
            self->records = records;
            self->room = room;
        }
        entry = key_add(&self->table, key);
        if (entry == NULL) {
            return NULL;
        }
        entry->value = self->count++;
    }
    return self->records + entry->value * self->record_len;
}

/* From the last to the first: the first met of a symbol is its latest, and a run of one symbol is
 * told apart by one comparison each. */
static int update_rows(LatestObject *self, const struct rows *rows)
{
    struct event_key previous = {{0, 0}};
    struct key_table done = {NULL, 0, 0};
    int result = 0;
    for (uint64_t i = rows->count; i-- > 0 && result == 0;) {
        const unsigned char *row = rows->data + (Py_ssize_t)i * rows->stride;
        const struct event_key key = key_of(row);
        if (key_is_none(key) || keys_equal(key, previous)) {
            continue;
        }
        previous = key;
        if (key_find(&done, key) != NULL) {
            continue;
        }
        unsigned char *place = place_of(self, key);
        if (place == NULL || (rows->count > 1 && key_add(&done, key) == NULL)) {
            result = -1;
        } else {
            memcpy(place, row, self->record_len);
        }
    }
    key_table_free(&done);
    return result;
}

PyDoc_STRVAR(update_doc,
             "update($self, records, /)\n--\n\n"
             "Note a record (a Record, or any buffer of record_len bytes) or all of an array, in\n"
             "order. Those without a symbol are not kept. ValueError for another length.");

static PyObject *latest_update(PyObject *object, PyObject *records)
{
    LatestObject *self = (LatestObject *)object;
    struct source source;
    struct rows rows = {NULL, 0, 0, 0, NULL};
    const int many = PyBytes_CheckExact(records) ? 0 : rows_open(records, &rows);
    if (many < 0) {
        return NULL;
    }
    if (many == 0) {
        struct module_state *state = PyType_GetModuleState(Py_TYPE(object));
        if (source_open_bytes(state, records, &source) != 0 || source_gather(&source) != 0) {
            return NULL;
        }
        rows = (struct rows){source.data, source.len, 0, 1, NULL};
    }
    int result = -1;
    if (rows.row_len != self->record_len) {
        PyErr_Format(PyExc_ValueError, "records here have %zu byte%s, not %zu", self->record_len,
                     SHMIPC_S(self->record_len), rows.row_len);
    } else {
        Py_BEGIN_CRITICAL_SECTION(object);
        result = update_rows(self, &rows);
        Py_END_CRITICAL_SECTION();
    }
    if (many == 0) {
        source_close(&source);
    }
    Py_XDECREF(rows.array);
    return result == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *bytes_at(const LatestObject *self, size_t number)
{
    return PyBytes_FromStringAndSize((const char *)self->records + number * self->record_len,
                                     (Py_ssize_t)self->record_len);
}

PyDoc_STRVAR(get_doc, "get($self, symbol, /)\n--\n\n"
                      "The last record of `symbol` (bytes) as bytes, or None.");

static PyObject *latest_get(PyObject *object, PyObject *symbol)
{
    const LatestObject *self = (LatestObject *)object;
    struct event_key key;
    if (key_parse("symbol", symbol, &key) != 0) {
        return NULL;
    }
    PyObject *result;
    Py_BEGIN_CRITICAL_SECTION(object);
    const struct key_entry *entry = key_find(&self->table, key);
    result = entry == NULL ? Py_NewRef(Py_None) : bytes_at(self, (size_t)entry->value);
    Py_END_CRITICAL_SECTION();
    return result;
}

PyDoc_STRVAR(values_doc,
             "values($self)\n--\n\n"
             "A list of the last records as bytes, in the order in which their symbols\n"
             "were first seen.");

static PyObject *latest_values(PyObject *object, PyObject *unused)
{
    (void)unused;
    const LatestObject *self = (LatestObject *)object;
    PyObject *list;
    Py_BEGIN_CRITICAL_SECTION(object);
    list = PyList_New((Py_ssize_t)self->count);
    while (list != NULL && (size_t)PyList_GET_SIZE(list) != self->count) {
        Py_SETREF(list,
                  PyList_New((Py_ssize_t)self->count)); /* it ran finalizers, and they update */
    }
    for (size_t i = 0; list != NULL && i < self->count; i++) {
        PyObject *bytes = bytes_at(self, i);
        if (bytes == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, (Py_ssize_t)i, bytes);
        }
    }
    Py_END_CRITICAL_SECTION();
    return list;
}

static Py_ssize_t latest_length(PyObject *object)
{
    return (Py_ssize_t)((LatestObject *)object)->count;
}

static PyMethodDef latest_methods[] = {{"update", latest_update, METH_O, update_doc},
                                       {"get", latest_get, METH_O, get_doc},
                                       {"values", latest_values, METH_NOARGS, values_doc},
                                       {NULL, NULL, 0, NULL}};

static PyType_Slot latest_slots[] = {{Py_tp_doc, (void *)(uintptr_t)latest_doc},
                                     {Py_tp_new, latest_new},
                                     {Py_tp_dealloc, latest_dealloc},
                                     {Py_tp_methods, latest_methods},
                                     {Py_sq_length, latest_length},
                                     {0, NULL}};

PyType_Spec latest_spec = {.name = "shmipc._core.Latest",
                           .basicsize = sizeof(LatestObject),
                           .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
                           .slots = latest_slots};
