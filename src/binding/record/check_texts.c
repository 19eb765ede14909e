/* check_texts.c: records and arrays of them, before they are sent: do all texts end? */
#include "../base/state.h"
#include "record.h"

static int check_rows(const RecordTypeObject *type, const struct rows *rows)
{
    if (rows->row_len != type->len) {
        PyErr_Format(PyExc_ValueError, "rows of %zu bytes are no records of %zu", rows->row_len,
                     type->len);
        return -1;
    }
    for (uint64_t row = 0; row < rows->count; row++) {
        const unsigned char *bytes = rows->data + (Py_ssize_t)row * rows->stride;
        if (SHMIPC_UNLIKELY(!record_texts_end(type, bytes))) {
            return record_refuse_text(type, bytes, row);
        }
    }
    return 0;
}

const char check_texts_doc[] =
    "check_texts(record_type, records, /)\n--\n\n"
    "Raise ValueError unless every text (`text=` of the type) of `records` ends with a zero byte\n"
    "within its field. records: a record of the type, or a one-dimensional array of its dtype.\n"
    "Producer.send(record) and Outlet do so by themselves.";

PyObject *module_check_texts(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct module_state *state = PyModule_GetState(module);
    struct rows rows = {0};
    if (nargs != 2 || !record_type_check(state, args[0])) {
        PyErr_SetString(PyExc_TypeError, "check_texts takes a record type and records of it");
        return NULL;
    }
    const RecordTypeObject *type = (RecordTypeObject *)args[0];
    if (Py_TYPE(args[1]) == (PyTypeObject *)args[0]) {
        struct source source;
        if (source_open_record(args[1], &source) != 0) {
            return NULL;
        }
        const int result =
            record_texts_end(type, source.data) ? 0 : record_refuse_text(type, source.data, 0);
        source_close(&source);
        return result == 0 ? Py_NewRef(Py_None) : NULL;
    }
    const int many = rows_open(args[1], &rows);
    if (many == 0) {
        PyErr_Format(PyExc_TypeError, "check_texts takes records of %R, not %.200s", type,
                     Py_TYPE(args[1])->tp_name);
    }
    const int result = many == 1 ? check_rows(type, &rows) : -1;
    Py_XDECREF(rows.array);
    return result == 0 ? Py_NewRef(Py_None) : NULL;
}
