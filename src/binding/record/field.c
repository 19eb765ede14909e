/*
 * field.c: one field of a record as a Python object and back.
 *
 * Numbers are read and written with memcpy: a record lies at any address. A value is converted
 * wholly before a byte is stored, so a refused one changes nothing. What has no code of its own
 * here goes through numpy (field_array.c).
 */
#include "../base/state.h"
#include "../base/handle.h"
#include "record.h"

#include <math.h>

#define SMALL_TEXT_LEN 256

/* ---- reading -------------------------------------------------------------------------------- */

static PyObject *make_bytes(const char *bytes, size_t len)
{
    while (len > 0 && bytes[len - 1] == 0) { /* padding, as numpy has it */
        len--;
    }
    return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)len);
}

static PyObject *make_text(const char *bytes, size_t len)
{
    return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)strnlen(bytes, len), "backslashreplace");
}

/* The bytes are copied first: the decoder must not see them change under it. */
static PyObject *read_string(const RecordObject *self, const struct record_field *field)
{
    char small[SMALL_TEXT_LEN];
    char *copy = small;
    PyObject *value = NULL;
    if (field->len > sizeof(small) && (copy = PyMem_Malloc(field->len)) == NULL) {
        return PyErr_NoMemory();
    }
    if (record_fetch(self, field->offset, copy, field->len)) {
        value =
            field->code == FIELD_TEXT ? make_text(copy, field->len) : make_bytes(copy, field->len);
    }
    if (copy != small) {
        PyMem_Free(copy);
    }
    return value;
}

/* A text of at most TEXT_CACHE_KEY_LEN bytes, from the cache of its type if it was read before. */
static PyObject *read_short_text(const RecordObject *self, const struct record_field *field,
                                 struct cached_text *texts)
{
    uint64_t key[TEXT_CACHE_KEY_LEN / 8] = {0, 0};
    if (!(field->len == sizeof(key) ? record_fetch(self, field->offset, key, sizeof(key))
                                    : record_fetch(self, field->offset, key, field->len))) {
        return NULL;
    }
    const uint64_t hash =
        (key[0] ^ (key[1] * UINT64_C(0x9E3779B97F4A7C15))) * UINT64_C(0xD6E8FEB86659FD93);
    struct cached_text *cached = &texts[hash >> 58];
    if (cached->text != NULL && cached->key[0] == key[0] && cached->key[1] == key[1]) {
        return Py_NewRef(cached->text);
    }
    PyObject *text = make_text((const char *)key, field->len);
    if (text != NULL) {
        PyObject *before = cached->text;
        memcpy(cached->key, key, sizeof(key));
        cached->text = Py_NewRef(text);
        Py_XDECREF(before);
    }
    return text;
}

static void reverse(unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len / 2; i++) {
        const unsigned char byte = bytes[i];
        bytes[i] = bytes[len - 1 - i];
        bytes[len - 1 - i] = byte;
    }
}

/* Load a number of the field's type at `at`. */
#define NUMBER(ctype, make)                \
    {                                      \
        ctype value;                       \
        memcpy(&value, at, sizeof(value)); \
        return make(value);                \
    }

static PyObject *make_number(enum field_code code, const unsigned char *at)
{
    switch (code) {
    case FIELD_BOOL:
        return PyBool_FromLong(*at != 0);
    case FIELD_I8:
        NUMBER(int8_t, PyLong_FromLong)
    case FIELD_I16:
        NUMBER(int16_t, PyLong_FromLong)
    case FIELD_I32:
        NUMBER(int32_t, PyLong_FromLong)
    case FIELD_I64:
        NUMBER(int64_t, PyLong_FromLongLong)
    case FIELD_U8:
        NUMBER(uint8_t, PyLong_FromLong)
    case FIELD_U16:
        NUMBER(uint16_t, PyLong_FromLong)
    case FIELD_U32:
        NUMBER(uint32_t, PyLong_FromUnsignedLong)
    case FIELD_U64:
        NUMBER(uint64_t, PyLong_FromUnsignedLongLong)
    case FIELD_F32:
        NUMBER(float, PyFloat_FromDouble)
    case FIELD_F64:
        NUMBER(double, PyFloat_FromDouble)
    default:
        Py_UNREACHABLE();
    }
}

/* Copy a number out, each length with a copy of its own that is one instruction. */
static inline bool fetch_number(const RecordObject *self, const struct record_field *field,
                                unsigned char *to)
{
    switch (field->len) {
    case 8:
        return record_fetch(self, field->offset, to, 8);
    case 4:
        return record_fetch(self, field->offset, to, 4);
    case 2:
        return record_fetch(self, field->offset, to, 2);
    default:
        return record_fetch(self, field->offset, to, 1);
    }
}

PyObject *field_read(PyObject *record, const struct record_field *field)
{
    const RecordObject *self = (const RecordObject *)record;
    unsigned char number[8];
    struct cached_text *texts;
    double real;
    switch (field->code) {
    case FIELD_F64:
        return record_fetch(self, field->offset, &real, sizeof(real)) ? PyFloat_FromDouble(real)
                                                                      : NULL;
    case FIELD_TEXT:
        texts = record_layout_of(record)->texts;
        if (texts != NULL && field->len <= TEXT_CACHE_KEY_LEN) {
            return read_short_text(self, field, texts);
        }
        return read_string(self, field);
    case FIELD_BYTES:
        return read_string(self, field);
    case FIELD_OTHER:
        return field_other_read(record, field);
    case FIELD_VIEW:
        return field_view_read(record, field);
    default:
        break;
    }
    if (!fetch_number(self, field, number)) {
        return NULL;
    }
    if (field->code == FIELD_SWAPPED) {
        reverse(number, field->len);
    }
    return make_number(field->number, number);
}

/* ---- writing -------------------------------------------------------------------------------- */

static int refuse_range(const struct record_field *field, PyObject *value)
{
    PyErr_Format(PyExc_OverflowError, "field %R is of dtype %R, which cannot hold %R", field->name,
                 field->dtype, value);
    return -1;
}

static int to_signed(const struct record_field *field, PyObject *value, int64_t low, int64_t high,
                     int64_t *out)
{
    int overflow;
    *out = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0 || *out < low || *out > high) {
        return refuse_range(field, value);
    }
    return *out == -1 && PyErr_Occurred() != NULL ? -1 : 0;
}

static int to_unsigned(const struct record_field *field, PyObject *value, uint64_t *out)
{
    *out = PyLong_AsUnsignedLongLong(value);
    if (*out == UINT64_MAX && PyErr_Occurred() != NULL) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        return refuse_range(field, value);
    }
    return 0;
}

/* As its own C type, so that the store is right in either byte order. */
#define STORE_INTEGER(ctype, low, high)                       \
    {                                                         \
        int64_t wide;                                         \
        if (to_signed(field, value, low, high, &wide) != 0) { \
            return -1;                                        \
        }                                                     \
        const ctype narrow = (ctype)wide;                     \
        memcpy(to, &narrow, sizeof(narrow));                  \
        return 0;                                             \
    }

/* `value` is an int. */
static int encode_integer(const struct record_field *field, PyObject *value, unsigned char *to)
{
    uint64_t widest;
    switch (field->number) {
    case FIELD_I8:
        STORE_INTEGER(int8_t, INT8_MIN, INT8_MAX)
    case FIELD_I16:
        STORE_INTEGER(int16_t, INT16_MIN, INT16_MAX)
    case FIELD_I32:
        STORE_INTEGER(int32_t, INT32_MIN, INT32_MAX)
    case FIELD_I64:
        STORE_INTEGER(int64_t, INT64_MIN, INT64_MAX)
    case FIELD_U8:
        STORE_INTEGER(uint8_t, 0, UINT8_MAX)
    case FIELD_U16:
        STORE_INTEGER(uint16_t, 0, UINT16_MAX)
    case FIELD_U32:
        STORE_INTEGER(uint32_t, 0, UINT32_MAX)
    default:
        if (to_unsigned(field, value, &widest) != 0) {
            return -1;
        }
        memcpy(to, &widest, sizeof(widest));
        return 0;
    }
}

static int encode_bool(struct module_state *state, const struct record_field *field,
                       PyObject *value, unsigned char *to)
{
    bool truth;
    if (PyLong_Check(value)) { /* bool is one */
        int64_t wide;
        if (to_signed(field, value, 0, 1, &wide) != 0) {
            return -1;
        }
        truth = wide != 0;
    } else if (!field_is_numpy_bool(state, value, &truth)) {
        return field_refuse_type(field, "a bool", value);
    }
    *to = truth ? 1 : 0;
    return 0;
}

/* A number in the machine's byte order. */
static int encode_number(struct module_state *state, const struct record_field *field,
                         PyObject *value, unsigned char *to)
{
    double real;
    if (field->number == FIELD_F64 || field->number == FIELD_F32) {
        if (field_to_double(field, value, &real) != 0) {
            return -1;
        }
        if (field->number == FIELD_F64) {
            memcpy(to, &real, sizeof(real));
            return 0;
        }
        if (isfinite(real) && !isfinite((float)real)) {
            return refuse_range(field, value);
        }
        const float narrow = (float)real;
        memcpy(to, &narrow, sizeof(narrow));
        return 0;
    }
    if (field->number == FIELD_BOOL) {
        return encode_bool(state, field, value, to);
    }
    if (SHMIPC_LIKELY(PyLong_Check(value))) {
        return encode_integer(field, value, to);
    }
    if (refuse_stripped(value) != 0) {
        return -1;
    }
    if (!PyIndex_Check(value)) {
        return field_refuse_type(field, "an integer", value);
    }
    PyObject *integer = PyNumber_Index(value);
    const int result = integer == NULL ? -1 : encode_integer(field, integer, to);
    Py_XDECREF(integer);
    return result;
}

static int write_string(const struct record_field *field, PyObject *value, unsigned char *to)
{
    const bool text = field->code == FIELD_TEXT;
    const size_t room = text && field->len > 0 ? field->len - 1 : field->len;
    const char *bytes;
    Py_ssize_t len;
    if (text && PyUnicode_Check(value)) {
        bytes = PyUnicode_AsUTF8AndSize(value, &len);
        if (bytes == NULL) {
            return -1;
        }
    } else if (PyBytes_Check(value)) {
        bytes = PyBytes_AS_STRING(value);
        len = PyBytes_GET_SIZE(value);
    } else {
        return field_refuse_type(field, text ? "str" : "bytes", value);
    }
    if ((size_t)len > room) {
        PyErr_Format(PyExc_ValueError, "field %R holds at most %zu byte%s%s, not the %zd of %R",
                     field->name, room, SHMIPC_S(room), text ? " of UTF-8" : "", len, value);
        return -1;
    }
    if (text && memchr(bytes, 0, (size_t)len) != NULL) {
        PyErr_Format(PyExc_ValueError, "field %R is text and cannot hold the zero byte in %R",
                     field->name, value);
        return -1;
    }
    memcpy(to, bytes, (size_t)len);
    memset(to + len, 0, field->len - (size_t)len);
    return 0;
}

/* Whatever the value is. */
static int write_any(struct module_state *state, const struct record_field *field, PyObject *value,
                     unsigned char *to)
{
    unsigned char number[8];
    switch (field->code) {
    case FIELD_BYTES:
    case FIELD_TEXT:
        return write_string(field, value, to);
    case FIELD_OTHER:
    case FIELD_VIEW:
        return field_other_write(state, field, value, to);
    case FIELD_SWAPPED:
        if (encode_number(state, field, value, number) != 0) {
            return -1;
        }
        reverse(number, field->len);
        memcpy(to, number, field->len);
        return 0;
    default:
        return encode_number(state, field, value, to);
    }
}

/* An exact int in range is stored here and now; whatever else goes the long way. */
#define WRITE_INTEGER(ctype, low, high)                                        \
    if (SHMIPC_LIKELY(PyLong_CheckExact(value))) {                             \
        int overflow;                                                          \
        const long long wide = PyLong_AsLongLongAndOverflow(value, &overflow); \
        if (SHMIPC_LIKELY(overflow == 0 && wide >= (low) && wide <= (high))) { \
            const ctype narrow = (ctype)wide;                                  \
            memcpy(to, &narrow, sizeof(narrow));                               \
            return 0;                                                          \
        }                                                                      \
    }                                                                          \
    break;

/* The common cases, whole. */
static inline int write_field(struct module_state *state, const struct record_field *field,
                              PyObject *value, unsigned char *bytes)
{
    unsigned char *to = bytes + field->offset;
    switch (field->code) {
    case FIELD_F64:
        if (SHMIPC_LIKELY(PyFloat_CheckExact(value))) {
            const double real = PyFloat_AS_DOUBLE(value);
            memcpy(to, &real, sizeof(real));
            return 0;
        }
        break;
    case FIELD_I64:
        WRITE_INTEGER(int64_t, INT64_MIN, INT64_MAX)
    case FIELD_I8:
        WRITE_INTEGER(int8_t, INT8_MIN, INT8_MAX)
    case FIELD_U8:
        WRITE_INTEGER(uint8_t, 0, UINT8_MAX)
    default:
        break;
    }
    return write_any(state, field, value, to);
}

int field_write(struct module_state *state, const struct record_field *field, PyObject *value,
                unsigned char *bytes)
{
    return write_field(state, field, value, bytes);
}

int fields_write(const RecordTypeObject *type, PyObject *const *values, Py_ssize_t count,
                 unsigned char *bytes)
{
    const struct record_field *field = type->fields;
    for (Py_ssize_t i = 0; i < count; i++, field++) {
        if (write_field(type->state, field, values[i], bytes) != 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- comparing ------------------------------------------------------------------------------ */

static double real_at(const struct record_field *field, const unsigned char *at)
{
    unsigned char bytes[8];
    double wide;
    float narrow;
    memcpy(bytes, at, field->len);
    if (field->code == FIELD_SWAPPED) {
        reverse(bytes, field->len);
    }
    if (field->number == FIELD_F64) {
        memcpy(&wide, bytes, sizeof(wide));
        return wide;
    }
    memcpy(&narrow, bytes, sizeof(narrow));
    return (double)narrow;
}

int field_equal(const struct record_field *field, const unsigned char *left,
                const unsigned char *right)
{
    left += field->offset;
    right += field->offset;
    if (memcmp(left, right, field->len) == 0) {
        return 1;
    }
    switch (field->number) {
    case FIELD_BOOL:
        return (*left != 0) == (*right != 0);
    case FIELD_F32:
    case FIELD_F64:
        return real_at(field, left) == real_at(field, right); /* 0.0 and -0.0 */
    case FIELD_TEXT:
        return strncmp((const char *)left, (const char *)right, field->len) == 0;
    case FIELD_OTHER:
    case FIELD_VIEW:
        return field_other_equal(field, left, right);
    default:
        return 0; /* of other bytes, integers differ; and so do bytes, padded alike */
    }
}
