/* field_number.c: a real number as a field takes it. */
#include "../base/handle.h"
#include "record.h"

int field_refuse_type(const struct record_field *field, const char *takes, PyObject *value)
{
    PyErr_Format(PyExc_TypeError, "field %R takes %s, not %.200s", field->name, takes,
                 Py_TYPE(value)->tp_name);
    return -1;
}

int field_to_double(const struct record_field *field, PyObject *value, double *out)
{
    if (SHMIPC_LIKELY(PyFloat_CheckExact(value))) {
        *out = PyFloat_AS_DOUBLE(value);
        return 0;
    }
    if (!PyFloat_Check(value) && !PyLong_Check(value) && refuse_stripped(value) != 0) {
        return -1;
    }
    const PyNumberMethods *number = Py_TYPE(value)->tp_as_number;
    if (number == NULL || (number->nb_float == NULL && number->nb_index == NULL)) {
        return field_refuse_type(field, "a real number", value);
    }
    *out = PyFloat_AsDouble(value);
    return *out == -1.0 && PyErr_Occurred() != NULL ? -1 : 0;
}
