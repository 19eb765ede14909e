/*
 * record_text.c: the one check that texts end within their fields. numpy cuts what is too long to
 * the field's whole length; whoever reads such a field as a C string reads into the next.
 */
#include "../base/state.h"
#include "record.h"

int record_refuse_text(const RecordTypeObject *type, const unsigned char *bytes, uint64_t row)
{
    const char *name = strrchr(type->heap.ht_type.tp_name, '.');
    name = name == NULL ? type->heap.ht_type.tp_name : name + 1;
    for (Py_ssize_t i = 0; i < type->count; i++) {
        const struct record_field *field = &type->fields[i];
        if (field->code != FIELD_TEXT || bytes[field->offset + field->len - 1] == 0) {
            continue;
        }
        PyObject *found =
            PyBytes_FromStringAndSize((const char *)bytes + field->offset, (Py_ssize_t)field->len);
        if (found != NULL) {
            PyErr_Format(PyExc_ValueError,
                         "field %R of a %.200s (row %llu) is %R, without a terminating zero: it "
                         "holds %zu bytes and that zero. numpy cuts longer texts to %zu bytes "
                         "without a word: check lengths before they enter an array",
                         field->name, name, (unsigned long long)row, found, field->len - 1,
                         field->len);
            Py_DECREF(found);
        }
        return -1;
    }
    PyErr_SetString(PyExc_SystemError, "shmipc: a text that does end was refused");
    return -1;
}
