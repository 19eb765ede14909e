/* buffers.c: buffers to be sent, gathered where they have gaps, and buffers to be filled. */
#include "../base/state.h"
#include "../base/handle.h"
#include "buffers.h"
#include "copying.h"

/* Is the exception a buffer's refusal, as numpy, memoryview and bytes put it? Anything else is an
 * error of its own. */
static bool is_refusal(int flags)
{
    return PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_ValueError) ||
           ((flags & PyBUF_WRITABLE) != 0 && PyErr_ExceptionMatches(PyExc_TypeError));
}

/* Get a buffer that holds no pointers to objects. 1: got. 0: refused, without an exception. -1: an
 * exception. */
static int try_buffer(PyObject *object, Py_buffer *buffer, int flags)
{
    if (PyObject_GetBuffer(object, buffer, flags) != 0) {
        buffer->obj = NULL;
        if (!is_refusal(flags)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    /* A memoryview has its format whatever was asked for; now that it is held it is not released.
     */
    const char *format =
        PyMemoryView_Check(object) ? PyMemoryView_GET_BUFFER(object)->format : buffer->format;
    if (refuse_object_format(format) != 0) {
        PyBuffer_Release(buffer);
        return -1;
    }
    return 1;
}

/* The same of one whose bytes lie one after another and mean no more. What has no dtype says in its
 * format whether it holds objects, if it can tell a format. */
static int try_whole_buffer(PyObject *object, Py_buffer *buffer, int flags)
{
    if (PyMemoryView_Check(object) || PyByteArray_Check(object) || array_is_plain(object)) {
        return try_buffer(object, buffer, flags);
    }
    if (refuse_meaningless(object) != 0) {
        buffer->obj = NULL;
        return -1;
    }
    if (!PyObject_HasAttrString(object, "dtype")) {
        const int got = try_buffer(object, buffer, flags | PyBUF_ND | PyBUF_FORMAT);
        if (got != 0) {
            return got;
        }
    }
    return try_buffer(object, buffer, flags);
}

/* ---- sources with gaps ---------------------------------------------------------------------- */

int source_set_strides(struct source *source, int axes, const Py_ssize_t *shape,
                       const Py_ssize_t *strides, size_t element_len)
{
    struct strides *made =
        PyMem_Malloc(sizeof(*made) + (size_t)(axes > 0 ? axes : 1) * sizeof(made->axis[0]));
    if (made == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    /* The inner axes that lie one after another are one longer element. */
    while (axes > 1 && strides[axes - 1] == (Py_ssize_t)element_len) {
        element_len *= (size_t)shape[--axes];
    }
    made->element_len = element_len;
    made->axes = axes > 0 ? axes : 1;
    made->axis[0].extent = 1;
    made->axis[0].stride = 0;
    for (int i = 0; i < axes; i++) {
        made->axis[i].extent = shape[i];
        made->axis[i].stride = strides[i];
    }
    source->strides = made;
    return 0;
}

#define COPY_ELEMENTS(len)                                \
    for (uint64_t i = 0; i < count; i++, to += (len)) {   \
        memcpy(to, from + (Py_ssize_t)i * stride, (len)); \
    }                                                     \
    break;

/* Each length with a loop of its own, whose copy is one instruction. */
static unsigned char *copy_elements(unsigned char *to, const unsigned char *from, uint64_t count,
                                    Py_ssize_t stride, size_t len)
{
    switch (len) {
    case 1:
        COPY_ELEMENTS(1)
    case 2:
        COPY_ELEMENTS(2)
    case 4:
        COPY_ELEMENTS(4)
    case 8:
        COPY_ELEMENTS(8)
    default:
        COPY_ELEMENTS(len)
    }
    return to;
}

/* From axis `axis` on, of which `count` elements. Where the next byte goes. */
static unsigned char *copy_axis(unsigned char *to, const unsigned char *from,
                                const struct strides *strides, int axis, uint64_t count)
{
    const Py_ssize_t stride = strides->axis[axis].stride;
    if (axis == strides->axes - 1) {
        return copy_elements(to, from, count, stride, strides->element_len);
    }
    const uint64_t inner = (uint64_t)strides->axis[axis + 1].extent;
    for (uint64_t i = 0; i < count; i++) {
        to = copy_axis(to, from + (Py_ssize_t)i * stride, strides, axis + 1, inner);
    }
    return to;
}

void source_copy_part(unsigned char *to, const struct source *source, uint64_t first,
                      uint64_t count)
{
    const struct strides *strides = source->strides;
    const unsigned char *from = source->data + (Py_ssize_t)first * strides->axis[0].stride;
    if (source->len < COPY_WITHOUT_GIL_LEN) {
        (void)copy_axis(to, from, strides, 0, count);
        return;
    }
    Py_BEGIN_ALLOW_THREADS(void)
    copy_axis(to, from, strides, 0, count);
    Py_END_ALLOW_THREADS
}

void source_copy_strided(unsigned char *to, const struct source *source)
{
    source_copy_part(to, source, 0, (uint64_t)source->strides->axis[0].extent);
}

int source_gather(struct source *source)
{
    if (source->strides == NULL) {
        return 0;
    }
    PyObject *whole = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)source->len);
    if (whole == NULL) {
        source_close(source);
        return -1;
    }
    source_copy_strided((unsigned char *)PyBytes_AS_STRING(whole), source);
    const size_t len = source->len;
    const uint64_t items = source->items;
    source_close(source);
    *source = (struct source){
        .data = (const unsigned char *)PyBytes_AS_STRING(whole),
        .len = len,
        .items = items,
        .array = whole,
    };
    return 0;
}

/* ---- sources -------------------------------------------------------------------------------- */

/* A buffer with gaps. */
static int open_strided(PyObject *object, struct source *source)
{
    Py_buffer *buffer = &source->buffer;
    if (PyObject_GetBuffer(object, buffer, PyBUF_STRIDED_RO) != 0) {
        buffer->obj = NULL;
        return -1;
    }
    if (PyMemoryView_Check(object) &&
        refuse_object_format(PyMemoryView_GET_BUFFER(object)->format) != 0) {
        source_close(source);
        return -1;
    }
    source->data = buffer->buf;
    source->len = (size_t)buffer->len;
    if (source_set_strides(source, buffer->ndim, buffer->shape, buffer->strides,
                           (size_t)buffer->itemsize) != 0) {
        source_close(source);
        return -1;
    }
    return 0;
}

int source_open_bytes(struct module_state *state, PyObject *object, struct source *source)
{
    source->array = NULL;
    source->strides = NULL;
    source->buffer.obj = NULL;
    if (SHMIPC_LIKELY(PyBytes_CheckExact(object))) {
        source->data = (const unsigned char *)PyBytes_AS_STRING(object);
        source->len = (size_t)PyBytes_GET_SIZE(object);
        return 0;
    }
    if (is_record(state, object)) {
        return state->records->open_to_send(object, source);
    }
    if (PyUnicode_Check(object)) {
        PyErr_SetString(PyExc_TypeError,
                        "a message is bytes, not str: use send_text(text), or text.encode()");
        return -1;
    }
    if (!PyObject_CheckBuffer(object)) {
        PyErr_Format(PyExc_TypeError,
                     "a message is any buffer (bytes, memoryview, ndarray ...), not %.200s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    const int got = try_whole_buffer(object, &source->buffer, PyBUF_SIMPLE);
    if (got == 0) {
        return open_strided(object, source);
    }
    source->data = source->buffer.buf;
    source->len = (size_t)source->buffer.len;
    return got > 0 ? 0 : -1;
}

void source_close(struct source *source)
{
    if (source->buffer.obj != NULL) {
        PyBuffer_Release(&source->buffer);
    }
    if (SHMIPC_UNLIKELY(source->strides != NULL)) {
        PyMem_Free(source->strides);
        source->strides = NULL;
    }
    Py_CLEAR(source->array);
}

/* ---- targets -------------------------------------------------------------------------------- */

int target_open(PyObject *object, Py_buffer *buffer)
{
    if (PyObject_CheckBuffer(object)) {
        const int got = try_whole_buffer(object, buffer, PyBUF_WRITABLE);
        if (got != 0) {
            return got > 0 ? 0 : -1;
        }
        const int has_gaps = try_buffer(object, buffer, PyBUF_STRIDED);
        if (has_gaps > 0) {
            PyBuffer_Release(buffer);
            PyErr_SetString(PyExc_ValueError,
                            "recv_into() needs a C-contiguous buffer: this one has gaps");
        }
        if (has_gaps != 0) {
            return -1;
        }
    }
    PyErr_Format(
        PyExc_TypeError,
        "recv_into() needs a writable buffer (bytearray, ndarray ...); this %.200s is none",
        Py_TYPE(object)->tp_name);
    return -1;
}
