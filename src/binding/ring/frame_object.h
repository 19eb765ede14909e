/* frame_object.h: a Frame: a lease on ring memory. */
#ifndef SHMIPC_BINDING_FRAME_OBJECT_H
#define SHMIPC_BINDING_FRAME_OBJECT_H

#include "consumer_object.h"

typedef struct frame_object {
    PyObject_HEAD
    ConsumerObject *consumer;
    struct shmipc_lease lease;
    const unsigned char *data;
    uint64_t len;   /* bytes at data */
    uint64_t items; /* typed: items at data */
    uint64_t pos;
    uint64_t seq;
    uint16_t kind;
    uint16_t flags;
    bool batch;                  /* typed: array has a leading axis */
    _Atomic(bool) looped;        /* released by the loop that it came from */
    _Atomic(bool) ending;        /* released softly while viewed: the last view ends it */
    _Atomic(Py_ssize_t) exports; /* live views; negative: the lease has ended */
    PyObject *weakrefs;          /* the interpreter's */
} FrameObject;

extern PyType_Spec frame_spec;

/* Lease what `message` describes and step over it. NULL with an exception and nothing taken. */
PyObject *frame_new(ConsumerObject *consumer, const struct shmipc_message *message, uint64_t items,
                    bool batch);
/* Lease what `message` describes and all that follows it, without stepping over it. */
PyObject *frame_hold(ConsumerObject *consumer, const struct shmipc_message *message);
/* The same with a frame that frame_hold made, whose lease has ended, and that nobody can see but
 * the caller. False: nothing was done, since a view of it lives. */
bool frame_try_hold_again(FrameObject *frame, const struct shmipc_message *message);
/* End the lease unless a view still needs it; then the view's death ends it. */
void frame_release_softly(FrameObject *frame);
/* The same, by the loop that handed the frame out. */
void frame_release_from_loop(FrameObject *frame);
/* Raise `exception` for a use of a frame that was released: how, and what to do. Always NULL. */
PyObject *frame_refuse(const FrameObject *frame, PyObject *exception);
/* End the lease if no view needs it. The number of views that do; 0 if it has ended, now or before.
 */
Py_ssize_t frame_try_end(FrameObject *frame);
bool frame_is_leased(const FrameObject *frame);
/* Count one view more, unless the lease has ended: also of a frame that was released softly. */
bool frame_add_export_to_lease(FrameObject *frame);
/* Count one view more. False, without an exception, once the frame was released. */
bool frame_try_add_export(FrameObject *frame);
void frame_drop_export(FrameObject *frame);

/* Was the frame not released, by release() or softly? */
static inline bool frame_is_readable(const FrameObject *frame)
{
    /* Relaxed: the GIL, or the consumer's critical section, orders this against the lease's end. */
    return atomic_load_explicit(&frame->exports, memory_order_relaxed) >= 0 &&
           !atomic_load_explicit(&frame->ending, memory_order_relaxed);
}

/* `drop` of what frame_try_add_export counted. */
void frame_drop_view(PyObject *frame);

#endif
