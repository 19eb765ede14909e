/* consumer_handle.c: the consumer of shmipc.h: its life and its facts. Its reading is in
 * consumer_peek.c. */
#define _GNU_SOURCE
#include "../core/ring/opening.h"
#include "cancel.h"
#include "endpoint.h"

#include <stdlib.h>
#include <string.h>

#define CONSUMER SHMIPC_TAG_CONSUMER
#define SIDE SHMIPC_SIDE_CONSUMER

static_assert((int)SHMIPC_RESUME == SHMIPC_START_RESUME &&
                  (int)SHMIPC_LATEST == SHMIPC_START_LATEST &&
                  (int)SHMIPC_EARLIEST == SHMIPC_START_EARLIEST,
              "the options' start is the core's");

/* ---- opening -------------------------------------------------------------------------------- */

void shmipc_consumer_options_init(struct shmipc_consumer_options *options)
{
    if (options != NULL) {
        *options = (struct shmipc_consumer_options){
            .abi = SHMIPC_ABI_VERSION,
            .size = sizeof *options,
            .start = SHMIPC_RESUME,
            .timeout_ns = SHMIPC_FOREVER,
            .spin_ns = SHMIPC_SPIN_ADAPTIVE,
        };
    }
}

static int check_expected(const struct shmipc_consumer *self,
                          const struct shmipc_expectation *expected)
{
    const struct shmipc_geometry *geometry = &self->role.segment.geometry;
    if (geometry->item_len == expected->item_len && geometry->schema_len == expected->schema_len &&
        memcmp(self->schema, expected->schema, expected->schema_len) == 0) {
        return SHMIPC_SUCCESS;
    }
    return shmipc_result_fail(
        SHMIPC_E_MISMATCH, "%s carries %s%.280s, not %s%.280s: open it for what it carries",
        self->role.segment.path, geometry->item_len != 0 ? "items of " : "messages", self->schema,
        expected->item_len != 0 ? "items of " : "messages",
        expected->item_len != 0 ? expected->schema : "");
}

static void interrupt(struct shmipc_handle *handle)
{
    shmipc_consumer_role_interrupt(&((struct shmipc_consumer *)(void *)handle)->role);
}

static int check_options(const struct shmipc_consumer_options *options)
{
    if (options->start > SHMIPC_EARLIEST) {
        return shmipc_result_fail(
            SHMIPC_E_INVALID, "start is %u: it is SHMIPC_RESUME, SHMIPC_LATEST or SHMIPC_EARLIEST",
            options->start);
    }
    return shmipc_check_timeout(options->timeout_ns);
}

/* Does the ring that was found carry what was expected? We are not attached yet. A result. */
static int check_found(struct shmipc_consumer *self, const struct shmipc_consumer_options *options,
                       const struct shmipc_expectation *expected)
{
    int result = SHMIPC_SUCCESS;
    free(self->schema); /* of a ring that went before we joined it */
    self->schema = shmipc_schema_copy(&self->role.segment, SIDE, &result);
    if (result == SHMIPC_SUCCESS && options->dtype != NULL) {
        result = check_expected(self, expected);
    }
    if (result != SHMIPC_SUCCESS) {
        shmipc_segment_close(&self->role.segment);
    }
    return result;
}

/* Attach, waiting for the ring to exist. A result. */
static int attach(struct shmipc_consumer *self, const char *path,
                  const struct shmipc_consumer_options *options,
                  const struct shmipc_expectation *expected)
{
    struct shmipc_opening opening;
    struct shmipc_error error;
    shmipc_opening_begin(&opening, path, (enum shmipc_start)options->start,
                         shmipc_deadline_after(options->timeout_ns));
    while (!opening.joined) {
        const enum shmipc_status status = shmipc_opening_try(&opening, &self->role, &error);
        if (status != SHMIPC_OK && status != SHMIPC_AGAIN) {
            return shmipc_result_keep(&error, SIDE);
        }
        if (status == SHMIPC_OK && !opening.joined) {
            const int result = check_found(self, options, expected);
            if (result != SHMIPC_SUCCESS) {
                return result;
            }
            shmipc_opening_accept(&opening, &self->role);
        }
    }
    return SHMIPC_SUCCESS;
}

static int open_role(struct shmipc_consumer *self, const char *path,
                     const struct shmipc_consumer_options *options)
{
    struct shmipc_expectation *expected = NULL;
    struct shmipc_spin spin;
    int result = check_options(options);
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_spin_set(&spin, options->spin_ns);
    }
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_expectation_read(&expected, options->dtype, options->shape, options->axes,
                                         options->item_size);
    }
    if (result == SHMIPC_SUCCESS) {
        result = attach(self, path, options, expected);
    }
    free(expected);
    if (result == SHMIPC_SUCCESS) {
        self->role.spin = spin;
    }
    return result;
}

int shmipc_consumer_open(struct shmipc_consumer **consumer, const char *name,
                         const struct shmipc_consumer_options *options)
{
    SHMIPC_UNCANCELLED();
    struct shmipc_consumer_options defaults;
    char path[SHMIPC_PATH_MAX];
    if (consumer == NULL) {
        return shmipc_refuse_null("where the consumer is to go");
    }
    *consumer = NULL;
    shmipc_consumer_options_init(&defaults);
    int result = options == NULL
                     ? SHMIPC_SUCCESS
                     : shmipc_options_check(options, options->abi, options->size, sizeof *options);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    struct shmipc_consumer *self =
        shmipc_endpoint_new(sizeof *self, "a consumer of", name, path, &result);
    if (self == NULL) {
        return result;
    }
    result = open_role(self, path, options != NULL ? options : &defaults);
    if (result != SHMIPC_SUCCESS) {
        free(self->schema);
        free(self);
        return result;
    }
    shmipc_store_relaxed(&self->holds, 1u); /* nobody else has the pointer yet */
    self->seq_pos = self->role.ring.map.origin_pos;
    shmipc_handle_init(&self->handle, CONSUMER, name, self->role.asymmetric,
                       &self->role.segment.forked, interrupt);
    *consumer = self;
    return SHMIPC_SUCCESS;
}

/* ---- closing -------------------------------------------------------------------------------- */

int shmipc_consumer_interrupt(struct shmipc_consumer *consumer)
{
    return shmipc_handle_interrupt((struct shmipc_handle *)consumer, CONSUMER);
}

int shmipc_consumer_close(struct shmipc_consumer *consumer)
{
    SHMIPC_UNCANCELLED();
    bool already;
    const int result = shmipc_handle_begin_close((struct shmipc_handle *)consumer, CONSUMER,
                                                 SHMIPC_TAG_CONSUMER_CLOSED, &already);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    if (!already) {
        consumer->peeked.count = 0;
        if (!consumer->role.segment.forked) {
            shmipc_frames_collect(consumer);
        }
        if (consumer->frames == 0) {
            shmipc_consumer_role_close(&consumer->role);
        } else {
            consumer->detach_pending = true; /* the last frame does it: frame_release.c */
        }
    }
    shmipc_handle_unlock(&consumer->handle);
    return SHMIPC_SUCCESS;
}

void shmipc_consumer_free(struct shmipc_consumer *consumer)
{
    if (consumer != NULL && shmipc_consumer_close(consumer) == SHMIPC_SUCCESS) {
        shmipc_consumer_drop(consumer);
    }
}

/* ---- facts ---------------------------------------------------------------------------------- */

int shmipc_consumer_info(struct shmipc_consumer *consumer, struct shmipc_info *info)
{
    const int result = info == NULL
                           ? shmipc_refuse_null("info")
                           : shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (result == SHMIPC_SUCCESS) {
        shmipc_info_fill(info, &consumer->role.segment, &consumer->handle, consumer->schema);
        info->slot = consumer->role.ring.slot_index;
        shmipc_handle_leave(&consumer->handle);
    }
    return result;
}

int shmipc_consumer_stats(struct shmipc_consumer *consumer, struct shmipc_consumer_stats *stats)
{
    const int result = stats == NULL
                           ? shmipc_refuse_null("stats")
                           : shmipc_handle_enter((struct shmipc_handle *)consumer, CONSUMER);
    if (result == SHMIPC_SUCCESS) {
        const struct shmipc_consumer_role *role = &consumer->role;
        shmipc_frames_collect(consumer);
        *stats = (struct shmipc_consumer_stats){
            .pending = shmipc_ring_unread_estimate(&role->ring),
            .lag = shmipc_ring_lag_estimate(&role->ring),
            .lost = role->ring.lost,
            .sleeps = role->sleeps,
            .wakes = role->wakes,
            .frames = consumer->frames,
        };
        shmipc_handle_leave(&consumer->handle);
    }
    return result;
}
