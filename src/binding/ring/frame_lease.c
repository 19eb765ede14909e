/*
 * frame_lease.c: a lease on ring memory: begun, viewed, ended.
 *
 * States:
 *   exports == 0         release() ends the lease; so does the frame's death
 *   exports > 0          release() is a BufferError; the last view's death changes nothing yet
 *   exports > 0, ending  the with block or the for loop released it while views lived: the last
 *                        view ends the lease
 *   exports < 0          the lease has ended, the memory may be anything: .array and the buffer
 *                        protocol refuse
 *
 * exports counts memoryviews (through the buffer protocol) and ndarrays (through view.c). Whoever
 * moves it from 0 to ENDED ends the lease: one thread does, and no view can come after it. A frame
 * holds its consumer, which holds the mapping, so nothing is unmapped under a view. In an
 * overwrite ring a lease pins nothing: .intact tells.
 */
#include "../base/state.h"
#include "../base/errors.h"
#include "../base/handle.h"
#include "buffers.h"
#include "consumer_object.h"
#include "copying.h"
#include "frame_object.h"
#include "view.h"

#define ENDED PY_SSIZE_T_MIN

static void frame_describe(FrameObject *self, const struct shmipc_message *message)
{
    self->data = message->data;
    self->len = message->len;
    self->pos = message->pos;
    self->seq = message->seq;
    self->kind = message->kind;
    self->flags = message->flags;
}

static FrameObject *frame_make(ConsumerObject *consumer, const struct shmipc_message *message)
{
    FrameObject *self = PyObject_GC_New(FrameObject, consumer->handle.state->frame_type);
    if (self == NULL) {
        return NULL;
    }
    self->consumer = (ConsumerObject *)Py_NewRef((PyObject *)consumer);
    self->items = 0;
    self->batch = false;
    atomic_init(&self->looped, false);
    self->weakrefs = NULL;
    frame_describe(self, message);
    atomic_init(&self->ending, false);
    atomic_init(&self->exports, 0);
    return self;
}

PyObject *frame_new(ConsumerObject *consumer, const struct shmipc_message *message, uint64_t items,
                    bool batch)
{
    FrameObject *self = frame_make(consumer, message);
    if (self == NULL) {
        return NULL;
    }
    self->items = items;
    self->batch = batch;
    Py_BEGIN_CRITICAL_SECTION(consumer);
    shmipc_ring_take(&consumer->core.ring, message, &self->lease);
    consumer->leases++;
    Py_END_CRITICAL_SECTION();
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static void hold(FrameObject *self, const struct shmipc_message *message)
{
    ConsumerObject *consumer = self->consumer;
    Py_BEGIN_CRITICAL_SECTION(consumer);
    shmipc_ring_hold(&consumer->core.ring, message, &self->lease);
    consumer->leases++;
    Py_END_CRITICAL_SECTION();
}

PyObject *frame_hold(ConsumerObject *consumer, const struct shmipc_message *message)
{
    FrameObject *self = frame_make(consumer, message);
    if (self == NULL) {
        return NULL;
    }
    self->items = consumer->handle.dtype != NULL ? 1 : 0;
    hold(self, message);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

bool frame_try_hold_again(FrameObject *self, const struct shmipc_message *message)
{
    if (atomic_load_explicit(&self->exports, memory_order_relaxed) != ENDED) {
        return false;
    }
    frame_describe(self, message);
    hold(self, message);
    atomic_store(&self->ending, false);
    atomic_store(&self->exports, 0);
    return true;
}

static void end_lease(FrameObject *self)
{
    ConsumerObject *consumer = self->consumer;
    Py_BEGIN_CRITICAL_SECTION(consumer);
    shmipc_ring_end(&consumer->core.ring, &self->lease);
    consumer->leases--;
    consumer_lease_ended(consumer);
    Py_END_CRITICAL_SECTION();
}

/* End the lease if no view needs it. The number of views that do; 0 if it has ended, now or before.
 */
Py_ssize_t frame_try_end(FrameObject *self)
{
    Py_ssize_t exports = 0;
    if (atomic_compare_exchange_strong(&self->exports, &exports, ENDED)) {
        end_lease(self);
    }
    return exports > 0 ? exports : 0;
}

bool frame_is_leased(const FrameObject *self)
{
    return atomic_load(&self->exports) >= 0;
}

/* Count one view more, unless the lease has ended. */
bool frame_add_export_to_lease(FrameObject *self)
{
    Py_ssize_t exports = atomic_load(&self->exports);
    while (exports >= 0) {
        if (atomic_compare_exchange_weak(&self->exports, &exports, exports + 1)) {
            return true;
        }
    }
    return false;
}

void frame_release_softly(FrameObject *self)
{
    /* Said before the views are counted; a view is uncounted before it looks at this. */
    atomic_store(&self->ending, true);
    (void)frame_try_end(self);
}

void frame_release_from_loop(FrameObject *self)
{
    atomic_store(&self->looped,
                 frame_is_leased(self)); /* one that its user released has him to thank */
    frame_release_softly(self);
}

bool frame_try_add_export(FrameObject *self)
{
    return !atomic_load(&self->ending) && frame_add_export_to_lease(self);
}

void frame_drop_export(FrameObject *self)
{
    if (atomic_fetch_sub(&self->exports, 1) == 1 && atomic_load(&self->ending)) {
        (void)frame_try_end(self);
    }
}

void frame_drop_view(PyObject *frame)
{
    frame_drop_export((FrameObject *)frame);
}
