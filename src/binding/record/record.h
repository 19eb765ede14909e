/*
 * record.h: record types: the bytes of one item of a structured dtype, read where they lie.
 *
 * record.c has the records, record_life.c how they come and go; record_type.c their types and
 * pickling; field.c turns one field into a Python object and back; record_array.c and field_array.c
 * are what of it needs numpy. A record type can neither be changed nor be subclassed, so an object
 * whose type it is is a RecordObject of its layout.
 */
#ifndef SHMIPC_BINDING_RECORD_H
#define SHMIPC_BINDING_RECORD_H

#include "../base/state.h"
#include "../base/handle.h"
#include "../ring/buffers.h"
#include "../ring/frame_object.h"

enum field_code {
    FIELD_BOOL,
    FIELD_I8,
    FIELD_I16,
    FIELD_I32,
    FIELD_I64,
    FIELD_U8,
    FIELD_U16,
    FIELD_U32,
    FIELD_U64,
    FIELD_F32,
    FIELD_F64,
    FIELD_SWAPPED, /* a number of the other byte order: `number` says which */
    FIELD_BYTES,   /* S */
    FIELD_TEXT,    /* S, named in text= */
    FIELD_OTHER,   /* one value, through numpy */
    FIELD_VIEW     /* a sub-array or a nested struct: numpy's, on the record's memory */
};

struct record_field {
    PyObject *name;  /* interned str */
    PyObject *dtype; /* numpy.dtype of the field */
    size_t offset;
    size_t len;
    enum field_code code;
    enum field_code number; /* the same, or of FIELD_SWAPPED, what it is but for that */
};

/* The last texts read, by their bytes: the same few symbols come again and again. */
#define TEXT_CACHE_KEY_LEN 16
#define TEXT_CACHE_COUNT 64
struct cached_text {
    uint64_t key[TEXT_CACHE_KEY_LEN / 8]; /* padded with zeros */
    PyObject *text;                       /* exact str, or NULL */
};

/* Owned records that a type keeps when nobody else does any more: who makes one for each order has
 * the same memory again, near, and not that of as many orders ago. */
#define SPARE_RECORDS_MAX 64

/* What a record type is beyond a type. Set before record_type() returns, then constant. */
typedef struct {
    PyHeapTypeObject heap;
    struct module_state *state;
    PyObject *dtype;          /* numpy.dtype */
    _Atomic(PyObject *) twin; /* another dtype object found to be equal, or NULL; set once */
    PyObject *text;           /* tuple of str: the fields that are text */
    size_t len;               /* the dtype's itemsize */
    Py_ssize_t count;
    struct record_field *fields;
    size_t *text_ends; /* offsets of the last bytes of the texts: zero in what is sent */
    Py_ssize_t text_count;
    struct cached_text *texts;   /* TEXT_CACHE_COUNT of them, or NULL; changes under the GIL */
    struct record_object *spare; /* a list by `data` of owned records, not tracked; under the GIL */
    int spare_count;
} RecordTypeObject;

/* A record: the bytes of one item of a structured dtype, read where they lie. */
typedef struct record_object {
    PyObject_HEAD
    FrameObject *frame;        /* owned; the lease that data lies under. NULL: data is `own` */
    const unsigned char *data; /* in the ring, or in `own` */
    size_t len;                /* the dtype's itemsize */
    unsigned char *own;        /* storage of an owned record, or NULL */
} RecordObject;

/* What the files of ring ask of these: module_state.records. */
extern const struct record_room record_room;

extern PyType_Spec record_spec;
extern PyType_Spec record_meta_spec;
extern PyType_Spec field_spec;

/* ---- record_text.c -------------------------------------------------------------------------- */

/* Do all texts of these bytes of a record end within their fields? */
static inline bool record_texts_end(const RecordTypeObject *type, const unsigned char *bytes)
{
    unsigned char last = 0;
    for (Py_ssize_t i = 0; i < type->text_count; i++) {
        last |= bytes[type->text_ends[i]];
    }
    return last == 0;
}

/* Say which does not. -1 with ValueError. */
int record_refuse_text(const RecordTypeObject *type, const unsigned char *bytes, uint64_t row);
extern const char check_texts_doc[];
PyObject *module_check_texts(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

/* ---- record.c, record_life.c ---------------------------------------------------------------- */

/* The type `type` was made by record_type(). */
static inline bool record_type_check(struct module_state *state, PyObject *type)
{
    return Py_TYPE(type) == state->record_meta_type;
}

/* As is_record, of any interpreter. */
PyObject *record_meta_new(PyTypeObject *meta, PyObject *args, PyObject *kwargs);
static inline bool record_check_any(PyObject *object)
{
    return Py_TYPE((PyObject *)Py_TYPE(object))->tp_new == record_meta_new;
}

static inline RecordTypeObject *record_layout_of(PyObject *record)
{
    return (RecordTypeObject *)Py_TYPE(record);
}

/* Of a type that record_type_check() accepts: bytes of a record, and its numpy dtype (borrowed). */
static inline size_t record_len_of(PyTypeObject *type)
{
    return ((RecordTypeObject *)type)->len;
}

static inline PyObject *record_dtype_of(PyTypeObject *type)
{
    return ((RecordTypeObject *)type)->dtype;
}

/* A record on ring memory under `frame`'s lease, to which it takes a reference of its own. */
PyObject *record_new_leased(PyTypeObject *type, FrameObject *frame, const unsigned char *data);
/* A record of its own bytes: a copy of `bytes`, or zeros if that is NULL. */
PyObject *record_new_owned(PyTypeObject *type, const unsigned char *bytes);
/* The same of any bytes: all are to be written before anybody sees it. */
PyObject *record_new_blank(PyTypeObject *type);
/* tp_dealloc of a record type. */
void record_dealloc(PyObject *object);
/* The type goes: so do the records that it kept. */
void record_free_spare(RecordTypeObject *type);

/* Point a leased record that nobody else holds (Py_REFCNT is 1) at other bytes. */
static inline void record_move_leased(PyObject *record, FrameObject *frame,
                                      const unsigned char *data)
{
    RecordObject *self = (RecordObject *)record;
    if (self->frame != frame) {
        FrameObject *before = self->frame;
        self->frame = (FrameObject *)Py_NewRef((PyObject *)frame);
        Py_XDECREF((PyObject *)before);
    }
    self->data = data;
}

/* The same for one made by record_new_owned(): copy new bytes into it. */
void record_move_owned(PyObject *record, const unsigned char *bytes);

/* Is it an owned record? False, with a TypeError, if not. */
bool record_is_writable(const RecordObject *self);
/* Set a field of an owned record; `value` NULL, and a leased record, are refused. */
int record_set_field(PyObject *record, const struct record_field *field, PyObject *value);

/* ---- record_type.c -------------------------------------------------------------------------- */

PyObject *module_record_type(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
PyObject *module_restore_record(PyObject *module, PyObject *args);
PyObject *module_restore_record_type(PyObject *module, PyObject *args);
PyObject *module_reduce_record_type(PyObject *module, PyObject *type);
extern const char record_type_doc[];
/* The record type of a dtype, as record_type(dtype) gives it: a new reference. */
PyObject *record_type_for(struct module_state *state, PyObject *dtype);

/* The field of that name, or NULL. */
const struct record_field *record_find_field(const RecordTypeObject *type, PyObject *name);

/* ---- reading -------------------------------------------------------------------------------- */

/* May the record be read? A leased one may not once its frame was released. */
static inline bool record_is_readable(const RecordObject *self)
{
    return self->frame == NULL || frame_is_readable(self->frame);
}

/* The record was released: ValueError. Always false. */
bool record_refuse_released(const RecordObject *self);

/* Copy bytes of the record, while its lease stands. False with a ValueError if it was released. */
static inline bool record_fetch(const RecordObject *self, size_t offset, void *to, size_t len)
{
    bool readable;
    /* Without the GIL: a lease ends, and memory is unmapped, in the consumer's critical section;
     * an owned record is written in its own. */
    Py_BEGIN_CRITICAL_SECTION(self->frame != NULL ? (PyObject *)self->frame->consumer
                                                  : (PyObject *)(uintptr_t)self);
    readable = record_is_readable(self);
    if (SHMIPC_LIKELY(readable)) {
        memcpy(to, self->data + offset, len);
    }
    Py_END_CRITICAL_SECTION();
    return SHMIPC_LIKELY(readable) || record_refuse_released(self);
}

/* ---- field_number.c ------------------------------------------------------------------------- */

/* A value of the wrong type for the field: TypeError. Always -1. */
int field_refuse_type(const struct record_field *field, const char *wanted, PyObject *value);

/* ---- field.c -------------------------------------------------------------------------------- */

/* A real number, or -1 with a TypeError or OverflowError. */
int field_to_double(const struct record_field *field, PyObject *value, double *out);
/* The value of a field. NULL with an exception. */
PyObject *field_read(PyObject *record, const struct record_field *field);
/* Put a value into the bytes of a whole record. -1 with an exception and nothing changed. */
int field_write(struct module_state *state, const struct record_field *field, PyObject *value,
                unsigned char *bytes);
/* The same for the first `count` fields, until one is refused. */
int fields_write(const RecordTypeObject *type, PyObject *const *values, Py_ssize_t count,
                 unsigned char *bytes);
/* Are two values of a field equal? Equal bytes always are. -1 with an exception. */
int field_equal(const struct record_field *field, const unsigned char *left,
                const unsigned char *right);

/* ---- field_array.c -------------------------------------------------------------------------- */

/* As field_read, field_write and field_equal, for FIELD_VIEW and FIELD_OTHER. */
PyObject *field_view_read(PyObject *record, const struct record_field *field);
PyObject *field_other_read(PyObject *record, const struct record_field *field);
int field_other_write(struct module_state *state, const struct record_field *field, PyObject *value,
                      unsigned char *to);
int field_other_equal(const struct record_field *field, const unsigned char *left,
                      const unsigned char *right);
/* Is it a numpy.bool? Then *truth is its value. */
bool field_is_numpy_bool(struct module_state *state, PyObject *value, bool *truth);

/* ---- record_array.c ------------------------------------------------------------------------- */

/* The layout of a dtype= into `type`. -1 with an exception; What was filled is the type's. */
int record_layout_fill(RecordTypeObject *type, PyObject *dtype, PyObject *text);
/* dtype= as given, as a dtype that records can have. */
PyObject *record_dtype_convert(struct module_state *state, PyObject *given);
/* An ndarray of `dtype` on the record's bytes from `offset`: read-only and with the lease's claim,
 * or writable on an owned one. */
PyObject *record_array_at(PyObject *record, PyObject *dtype, size_t offset);
PyObject *record_array(PyObject *record, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames);
extern const char record_array_doc[];
/* The bytes of one record from a record, an array, or a buffer. Close it with source_close(). */
int record_open_source(RecordTypeObject *type, PyObject *object, struct source *source);
/* Has the type this dtype, or an equal one? */
bool record_has_dtype(RecordTypeObject *type, PyObject *dtype);
/* A record as one item of a typed ring, or as a message's bytes. */
int source_open_record(PyObject *record, struct source *source);
/* The same of what other processes will read: ValueError where a text has no end. */
int source_open_record_to_send(PyObject *record, struct source *source);
int source_open_record_item(HandleObject *handle, PyObject *record, struct source *source);

#endif
