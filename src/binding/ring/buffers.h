/*
 * buffers.h: bytes and items that come from other libraries' objects or go into them.
 *
 * meaning.c says which objects are more than their bytes; buffers.c opens buffers to be sent or to
 * be filled; array.c does the same with the items of typed rings, schema.c and description.c with
 * their dtypes; exporting.c gives frames and reservations to whoever reads arrays.
 */
#ifndef SHMIPC_BINDING_BUFFERS_H
#define SHMIPC_BINDING_BUFFERS_H

#include "../base/state.h"
#include "../base/handle.h"
#include "copying.h"

/* ---- meaning.c ------------------------------------------------------------------------------ */

/* The same of every object that is sent or filled: 0, or -1 with a TypeError.
 * No numpy is needed. What has no dtype has none of these meanings. */

/* Of an array: a mask (numpy.ma) or a unit (astropy, unyt) beside the bytes? */
int refuse_stripped(PyObject *object);
/* The same of what lies in lists and tuples. */
int refuse_stripped_within(PyObject *object);
/* As refuse_stripped, and besides: pointers to Python objects for bytes? */
int refuse_meaningless(PyObject *object);
/* The same of a buffer's format, which may be NULL. */
int refuse_object_format(const char *format);

/* ---- buffers.c ------------------------------------------------------------------------------ */

/* Where the bytes of a source lie that do not lie one after another, in C order. */
struct strides {
    int axes; /* at least 1 */
    size_t element_len;
    struct {
        Py_ssize_t extent;
        Py_ssize_t stride;
    } axis[];
};

/* A source of bytes to send. */
struct source {
    const unsigned char *data;
    size_t len;
    uint64_t items;          /* typed */
    struct strides *strides; /* owned; NULL: len bytes at data */
    Py_buffer buffer;        /* buffer.obj != NULL: to be released */
    PyObject *array;         /* to be released, or NULL */
};
/* One message's bytes: those of bytes(memoryview(object)). str is refused with advice. */
int source_open_bytes(struct module_state *state, PyObject *object, struct source *source);
/* Note where an array's bytes lie. The first axis stays by itself, so that source_copy_part can
 * count along it. -1 with an exception. */
int source_set_strides(struct source *source, int axes, const Py_ssize_t *shape,
                       const Py_ssize_t *strides, size_t element_len);
/* Bring the bytes together, in a copy if need be. -1 with an exception, and the source is closed.
 */
int source_gather(struct source *source);
/* `count` of the first axis's extent from `first` on, of a source with strides. */
void source_copy_part(unsigned char *to, const struct source *source, uint64_t first,
                      uint64_t count);
/* All of a source with strides. */
void source_copy_strided(unsigned char *to, const struct source *source);
void source_close(struct source *source);

static inline void source_copy(unsigned char *to, const struct source *source)
{
    if (SHMIPC_LIKELY(source->strides == NULL)) {
        copy_in(to, source->data, source->len);
    } else {
        source_copy_strided(to, source);
    }
}

/* A writable C-contiguous buffer to be filled. ValueError or TypeError with advice. */
int target_open(PyObject *object, Py_buffer *buffer);

/* ---- rows.c -------------------------------------------------------------------------------- */

/* The rows of a one-dimensional structured array. */
struct rows {
    const unsigned char *data;
    size_t row_len;
    Py_ssize_t stride; /* from one to the next */
    uint64_t count;
    PyObject *array; /* owned: to be released */
};
/* 1: opened. 0: the object is no such array. -1: an exception. */
int rows_open(PyObject *object, struct rows *rows);

/* ---- array.c -------------------------------------------------------------------------------- */

/* Is this an ndarray itself, of no objects? Then its bytes are all that it means. Quick, and needs
 * no numpy where there is none. */
bool array_is_plain(PyObject *object);
/* Import numpy's API unless that was done. -1 with an exception. */
int need_numpy(struct module_state *state);
/* One item (`many` false) or a run of items of the handle's dtype and shape. */
int source_open_items(HandleObject *handle, PyObject *object, bool many, struct source *source);
/* May an item be copied into this buffer? An array says by its dtype what it holds; plain bytes
 * hold anything. -1 with SchemaMismatch. */
int target_check_items(HandleObject *handle, PyObject *object);
/* An ndarray on ring memory. Steals `base`. items < 0: one item, no leading axis. A message ring's
 * is of bytes. */
PyObject *array_on(HandleObject *handle, unsigned char *data, uint64_t len, int64_t items,
                   bool writable, PyObject *base);
/* A new ndarray with a copy of one item, or one to be filled. */
PyObject *array_empty(HandleObject *handle, unsigned char **data);
void array_forbid_writes(PyObject *array);

/* ---- schema.c, description.c ---------------------------------------------------------------- */

/* dtype= and shape= of a producer into the segment's schema. */
int schema_encode(struct module_state *state, PyObject *dtype, PyObject *shape,
                  PyObject **dtype_out, PyObject **shape_out, PyObject **schema_out,
                  uint64_t *item_len);
/* The other way, from untrusted bytes. Corrupt if they are not what schema_encode makes;
 * ImportError if they need a package that is not there. */
int schema_decode(struct module_state *state, const struct shmipc_segment *segment,
                  PyObject **dtype_out, PyObject **shape_out);

/* A description from which a peer can rebuild the dtype exactly. A dtype with metadata is replaced
 * by the one without. TypeError or ValueError if there is none. */
PyObject *dtype_describe(struct module_state *state, PyObject **dtype);
/* The dtype of a description, if it is the one that this dtype has. NULL with or without an
 * exception: it is none. */
PyObject *dtype_from_description(struct module_state *state, PyObject *descr);

/* ---- exporting.c ---------------------------------------------------------------------------- */

/* The same for frames and reservations; `array` is what .array gives, and is stolen: NULL passes an
 * exception on. */

/* The buffer protocol, with the dtype's format and the shape. */
int export_buffer(HandleObject *handle, PyObject *array, Py_buffer *view, int flags);
/* Does the caller want plain bytes, without a format or a shape? */
static inline bool export_is_plain(const HandleObject *handle, int flags)
{
    return handle->dtype == NULL || (flags & (PyBUF_ND | PyBUF_FORMAT)) == 0;
}
PyObject *export_array(PyObject *array, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *export_dlpack(PyObject *array, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);
PyObject *export_dlpack_device(PyObject *object, PyObject *unused);
extern const char export_array_doc[];
extern const char export_dlpack_doc[];
extern const char export_dlpack_device_doc[];

#endif
