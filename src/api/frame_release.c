/*
 * frame_release.c: leases that any thread may release.
 *
 * The list of leases belongs to the thread inside the consumer, so a frame released by its
 * reader, between two calls, ends there and then. Another thread pushes it on `returned` and sees
 * to it that somebody ends it:
 *
 *   - nobody is inside: it keeps the others out (handle.h) and does it itself;
 *   - the owner waits inside (`waits`): its sleep is interrupted, and it does it;
 *   - the owner is in a short call: try again.
 *
 * `waits` and `returned` are Dekker's two words once more, with full fences on both sides: the
 * owner stores `waits` = 0 and then looks at `returned`; the other thread pushes and then looks at
 * `waits`. When a wait begins no fence is needed: a thread that still sees `waits` = 0 finds the
 * owner inside, and tries again.
 *
 * A frame is one hold on its consumer, as is the user's handle: the last one frees the struct. The
 * mapping goes when the consumer is closed and the last lease has ended.
 */
#define _GNU_SOURCE
#include "cancel.h"
#include "consumer_read.h"

#include <stdlib.h>
#include <string.h>

#define CONSUMER SHMIPC_TAG_CONSUMER

/* ---- releasing ------------------------------------------------------------------------------ */

void shmipc_consumer_drop(struct shmipc_consumer *consumer)
{
    /* Release: what each holder did comes before the end. Acquire, by the fence: of the last one.
     */
    if (shmipc_fetch_sub_release(&consumer->holds, 1u) != 1) {
        return;
    }
    shmipc_fence_acquire();
    if (consumer->frames != 0) {
        return; /* a forked child: its frames are the parent's, and their memory stays */
    }
    while (consumer->spare != NULL) {
        struct shmipc_frame *frame = consumer->spare;
        consumer->spare = frame->next;
        free(frame);
    }
    shmipc_store_relaxed(&consumer->handle.tag, SHMIPC_TAG_FREED); /* for a late use */
    free(consumer->schema);
    free(consumer);
}

/* Inside, or with the owner kept out. */
static void end(struct shmipc_consumer *consumer, struct shmipc_frame *frame)
{
    shmipc_ring_end(&consumer->role.ring, &frame->lease);
    frame->next = consumer->spare;
    consumer->spare = frame;
    consumer->frames--;
}

void shmipc_frames_collect(struct shmipc_consumer *consumer)
{
    /* Relaxed: a hint. What must not be missed was pushed before a full fence that we have seen. */
    if (SHMIPC_LIKELY(shmipc_load_relaxed(&consumer->returned) == NULL)) {
        return;
    }
    /* Acquire <-> the push's release: the frame as the other thread left it. */
    struct shmipc_frame *frame = shmipc_exchange_acquire(&consumer->returned, NULL);
    while (frame != NULL) {
        struct shmipc_frame *next = frame->next;
        end(consumer, frame);
        frame = next;
    }
    shmipc_consumer_role_release(&consumer->role);
}

static void push(struct shmipc_consumer *consumer, struct shmipc_frame *frame)
{
    /* Relaxed: a guess that is not dereferenced; the exchange decides. */
    struct shmipc_frame *first = shmipc_load_relaxed(&consumer->returned);
    do {
        frame->next = first; /* release <-> collect: with it, and all that its reader did */
    } while (!shmipc_compare_exchange_release(&consumer->returned, &first, frame));
}

/* One try at having what was pushed ended. False: the owner is in a short call. */
static bool settle(struct shmipc_consumer *consumer)
{
    /* The full fence in call comes between the push and the look at `waits`, <-> the one in
     * end_wait; so the look may be relaxed. */
    const bool waits = shmipc_handle_call(&consumer->handle, CONSUMER) &&
                       shmipc_load_relaxed(&consumer->waits) != 0;
    if (waits) {
        consumer->handle.interrupt(&consumer->handle);
    }
    shmipc_handle_depart(&consumer->handle);
    if (waits) {
        return true;
    }
    shmipc_handle_lock(&consumer->handle);
    const bool alone = shmipc_handle_keep_out(&consumer->handle);
    if (alone) {
        shmipc_frames_collect(consumer);
        if (consumer->detach_pending && consumer->frames == 0) {
            consumer->detach_pending = false;
            shmipc_handle_await_callers(&consumer->handle);
            shmipc_consumer_role_close(&consumer->role);
        }
        shmipc_handle_readmit(&consumer->handle);
    }
    shmipc_handle_unlock(&consumer->handle);
    return alone;
}

/* Another thread's consumer, or one that is closed. */
SHMIPC_APART static void release_elsewhere(struct shmipc_consumer *consumer,
                                           struct shmipc_frame *frame)
{
    SHMIPC_UNCANCELLED();
    push(consumer, frame);
    for (uint32_t turns = 0; !settle(consumer);) {
        shmipc_handle_pause(&turns);
    }
}

void shmipc_frame_release(struct shmipc_frame *frame)
{
    uint32_t tag = SHMIPC_TAG_FRAME;
    /* Relaxed: of two that release one frame by mistake, one wins. */
    if (frame == NULL ||
        !shmipc_compare_exchange_relaxed(&frame->tag, &tag, (uint32_t)SHMIPC_TAG_FREED)) {
        return;
    }
    struct shmipc_consumer *consumer = frame->consumer;
    if (consumer->role.segment.forked) {
        return; /* the parent's; here it stays readable */
    }
    if (SHMIPC_LIKELY(shmipc_handle_try_enter(&consumer->handle, CONSUMER))) {
        end(consumer, frame);
        shmipc_consumer_role_release(&consumer->role);
        shmipc_handle_leave(&consumer->handle);
    } else {
        release_elsewhere(consumer, frame);
    }
    shmipc_consumer_drop(consumer);
}
