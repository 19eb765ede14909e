/* record_field.c: one field of a record, set. */
#include "../base/state.h"
#include "../base/handle.h"
#include "record.h"

bool record_is_writable(const RecordObject *self)
{
    if (SHMIPC_LIKELY(self->frame == NULL)) {
        return true;
    }
    PyErr_Format(PyExc_TypeError,
                 "this %.200s lies in the ring and is read-only: change a copy() of it",
                 Py_TYPE((PyObject *)(uintptr_t)self)->tp_name);
    return false;
}

int record_set_field(PyObject *object, const struct record_field *field, PyObject *value)
{
    RecordObject *self = (RecordObject *)object;
    int result = -1;
    if (!record_is_writable(self)) {
        return -1;
    }
    if (value == NULL) {
        PyErr_Format(PyExc_TypeError, "field %R cannot be deleted", field->name);
        return -1;
    }
    Py_BEGIN_CRITICAL_SECTION(object);
    result = field_write(record_layout_of(object)->state, field, value, self->own);
    Py_END_CRITICAL_SECTION();
    return result;
}
