/* frame_read.c: reading into frames, and what a frame says of itself. Released: frame_release.c. */
#define _GNU_SOURCE
#include "consumer_read.h"

#include <stdlib.h>
#include <string.h>

#define CONSUMER SHMIPC_TAG_CONSUMER

/* ---- looking -------------------------------------------------------------------------------- */

static int check(const struct shmipc_frame *frame)
{
    if (frame == NULL) {
        return shmipc_refuse_null("the frame");
    }
    /* Relaxed: handing the frame to this thread ordered it. A released frame is only perhaps found.
     */
    return shmipc_load_relaxed(&frame->tag) == SHMIPC_TAG_FRAME
               ? SHMIPC_SUCCESS
               : shmipc_result_fail(SHMIPC_E_INVALID, "this is no frame, or it was released");
}

int shmipc_frame_view(const struct shmipc_frame *frame, struct shmipc_view *view)
{
    const int result = view == NULL ? shmipc_refuse_null("view") : check(frame);
    if (result == SHMIPC_SUCCESS) {
        *view = frame->view;
    }
    return result;
}

bool shmipc_frame_is_intact(const struct shmipc_frame *frame)
{
    return check(frame) == SHMIPC_SUCCESS &&
           shmipc_ring_intact(&frame->consumer->role.ring.map, frame->lease.pos) &&
           !shmipc_segment_is_damaged(&frame->consumer->role.segment);
}

/* ---- taking --------------------------------------------------------------------------------- */

/* Inside. NULL: no memory. */
static struct shmipc_frame *frame_new(struct shmipc_consumer *consumer)
{
    struct shmipc_frame *frame = consumer->spare;
    if (frame != NULL) {
        consumer->spare = frame->next;
        return frame;
    }
    frame = aligned_alloc(SHMIPC_LINE, sizeof *frame);
    return frame == NULL ? NULL : memset(frame, 0, sizeof *frame);
}

/* Inside, after a wait found something. A result. */
static int take(struct shmipc_consumer *consumer, bool many, uint64_t max,
                struct shmipc_frame **frame)
{
    struct shmipc_ring_consumer *ring = &consumer->role.ring;
    struct shmipc_message message = {0};
    uint64_t count = 1;
    const enum shmipc_status status = many ? shmipc_ring_peek_batch(ring, max, &message, &count)
                                           : shmipc_ring_peek(ring, &message);
    if (status != SHMIPC_OK || shmipc_segment_is_damaged(&consumer->role.segment)) {
        return status == SHMIPC_EMPTY
                   ? SHMIPC_E_EMPTY
                   : shmipc_ring_result(&consumer->handle, &consumer->role.segment, SHMIPC_CORRUPT,
                                        SHMIPC_SIDE_CONSUMER);
    }
    struct shmipc_frame *made = frame_new(consumer);
    if (made == NULL) {
        return shmipc_refuse_memory("a frame of ring", consumer->handle.name);
    }
    made->consumer = consumer;
    shmipc_view_fill(consumer, &message, consumer->role.ring.map.item_stride, count, &made->view);
    shmipc_ring_take(ring, &message, &made->lease);
    consumer->frames++;
    (void)shmipc_fetch_add_relaxed(&consumer->holds, 1u); /* the handle's hold keeps it above 0 */
    /* Relaxed: handing the frame to another thread orders it. */
    shmipc_store_relaxed(&made->tag, (uint32_t)SHMIPC_TAG_FRAME);
    *frame = made;
    return SHMIPC_SUCCESS;
}

static int read(struct shmipc_consumer *consumer, bool many, uint64_t max,
                struct shmipc_frame **frame, int64_t timeout_ns)
{
    if (frame == NULL) {
        return shmipc_refuse_null("where the frame is to go");
    }
    *frame = NULL;
    int result = shmipc_check_timeout(timeout_ns);
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    }
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    if (consumer->peeked.count != 0) {
        result = shmipc_result_fail(SHMIPC_E_MISUSE,
                                    "something of ring \"%s\" is peeked at: release it first",
                                    consumer->handle.name);
    } else if (many && consumer->role.ring.map.item_stride == 0) {
        result = shmipc_result_fail(SHMIPC_E_MISMATCH,
                                    "ring \"%s\" is a message ring: use shmipc_consumer_read()",
                                    consumer->handle.name);
    } else {
        uint64_t deadline_ns = 0;
        while ((result = shmipc_consumer_await(consumer, timeout_ns, &deadline_ns)) ==
               SHMIPC_SUCCESS) {
            result = take(consumer, many, max == 0 ? UINT64_MAX : max, frame);
            if (result != SHMIPC_E_EMPTY) {
                break;
            }
            /* With SHMIPC_OVERWRITE what came may be overwritten, any number of times. */
            result = shmipc_consumer_retry(consumer, timeout_ns, &deadline_ns);
            if (result != SHMIPC_SUCCESS) {
                break;
            }
        }
    }
    shmipc_handle_leave(&consumer->handle);
    return result;
}

int shmipc_consumer_read(struct shmipc_consumer *consumer, struct shmipc_frame **frame,
                         int64_t timeout_ns)
{
    return read(consumer, false, 1, frame, timeout_ns);
}

int shmipc_consumer_read_n(struct shmipc_consumer *consumer, uint64_t max,
                           struct shmipc_frame **frame, int64_t timeout_ns)
{
    return read(consumer, true, max, frame, timeout_ns);
}
