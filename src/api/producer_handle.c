/* producer_handle.c: the producer of shmipc.h: its life and its facts. Its sending is in
 * producer_send.c. */
#define _GNU_SOURCE
#include "cancel.h"
#include "endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PRODUCER SHMIPC_TAG_PRODUCER
#define SIDE SHMIPC_SIDE_PRODUCER

/* ---- opening -------------------------------------------------------------------------------- */

void shmipc_producer_options_init(struct shmipc_producer_options *options)
{
    if (options != NULL) {
        *options = (struct shmipc_producer_options){
            .abi = SHMIPC_ABI_VERSION,
            .size = sizeof *options,
            .max_consumers = 1,
            .spin_ns = SHMIPC_SPIN_ADAPTIVE,
            .overflow = SHMIPC_BLOCK,
            .mode = 0600,
        };
    }
}

static int read_spec(const struct shmipc_producer_options *options, uint32_t hold_for,
                     const struct shmipc_expectation *expected, struct shmipc_spec *spec)
{
    if (options->max_consumers < 1 || options->max_consumers > SHMIPC_MAX_CONSUMERS) {
        return shmipc_result_fail(SHMIPC_E_INVALID, "max_consumers is %u: a ring has 1 to %u",
                                  options->max_consumers, SHMIPC_MAX_CONSUMERS);
    }
    if (options->overflow != SHMIPC_BLOCK && options->overflow != SHMIPC_OVERWRITE) {
        return shmipc_result_fail(SHMIPC_E_INVALID,
                                  "overflow is %u: it is SHMIPC_BLOCK or SHMIPC_OVERWRITE",
                                  options->overflow);
    }
    if (hold_for > options->max_consumers ||
        (hold_for != 0 && options->overflow == SHMIPC_OVERWRITE)) {
        return shmipc_result_fail(SHMIPC_E_INVALID,
                                  "hold_for is %u: it is 0 to the %u consumers of a ring with "
                                  "SHMIPC_BLOCK; one that overwrites keeps nothing for anybody",
                                  hold_for, options->max_consumers);
    }
    if (options->mode > 0777) {
        return shmipc_result_fail(SHMIPC_E_INVALID,
                                  "mode is 0%o: it is the permission bits of a file, as 0600",
                                  options->mode);
    }
    *spec = (struct shmipc_spec){
        .framing = expected->item_len != 0 ? SHMIPC_FRAMING_TYPED : SHMIPC_FRAMING_MESSAGE,
        .overflow =
            options->overflow == SHMIPC_BLOCK ? SHMIPC_OVERFLOW_BLOCK : SHMIPC_OVERFLOW_OVERWRITE,
        .slots = options->max_consumers,
        .item_len = expected->item_len,
        .capacity = options->capacity,
        .schema = expected->schema,
        .schema_len = expected->schema_len,
        .mode = options->mode,
        .hold_for = hold_for,
    };
    if (options->capacity > SHMIPC_MAX_AREA_LEN || shmipc_area_len_for(spec) == 0) {
        return shmipc_result_fail(SHMIPC_E_INVALID, "a capacity of %llu is more than can be mapped",
                                  (unsigned long long)options->capacity);
    }
    return SHMIPC_SUCCESS;
}

static void interrupt(struct shmipc_handle *handle)
{
    shmipc_producer_role_interrupt(&((struct shmipc_producer *)(void *)handle)->role);
}

static int open_role(struct shmipc_producer *self, const char *path,
                     const struct shmipc_producer_options *options, uint32_t hold_for)
{
    struct shmipc_expectation *expected = NULL;
    struct shmipc_spec spec;
    struct shmipc_spin spin;
    struct shmipc_error error;
    int result = shmipc_spin_set(&spin, options->spin_ns);
    if (result == SHMIPC_SUCCESS) {
        result = shmipc_expectation_read(&expected, options->dtype, options->shape, options->axes,
                                         options->item_size);
    }
    if (result == SHMIPC_SUCCESS) {
        result = read_spec(options, hold_for, expected, &spec);
    }
    if (result == SHMIPC_SUCCESS &&
        shmipc_producer_role_open(&self->role, path, &spec, &error) != SHMIPC_OK) {
        result = shmipc_result_keep(&error, SIDE);
    }
    free(expected);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    self->role.spin = spin;
    self->schema = shmipc_schema_copy(&self->role.segment, SIDE, &result);
    if (self->schema == NULL) {
        (void)shmipc_producer_role_close(&self->role, false);
    }
    return result;
}

int shmipc_producer_open(struct shmipc_producer **producer, const char *name,
                         const struct shmipc_producer_options *options)
{
    return shmipc_producer_open_holding(producer, name, options, 0);
}

int shmipc_producer_open_holding(struct shmipc_producer **producer, const char *name,
                                 const struct shmipc_producer_options *options, uint32_t hold_for)
{
    SHMIPC_UNCANCELLED();
    struct shmipc_producer_options defaults;
    char path[SHMIPC_PATH_MAX];
    if (producer == NULL) {
        return shmipc_refuse_null("where the producer is to go");
    }
    *producer = NULL;
    shmipc_producer_options_init(&defaults);
    int result = options == NULL
                     ? SHMIPC_SUCCESS
                     : shmipc_options_check(options, options->abi, options->size, sizeof *options);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    struct shmipc_producer *self =
        shmipc_endpoint_new(sizeof *self, "a producer of", name, path, &result);
    if (self == NULL) {
        return result;
    }
    result = open_role(self, path, options != NULL ? options : &defaults, hold_for);
    if (result != SHMIPC_SUCCESS) {
        free(self);
        return result;
    }
    shmipc_handle_init(&self->handle, PRODUCER, name, self->role.asymmetric,
                       &self->role.segment.forked, interrupt);
    *producer = self;
    return SHMIPC_SUCCESS;
}

/* ---- closing -------------------------------------------------------------------------------- */

int shmipc_producer_interrupt(struct shmipc_producer *producer)
{
    return shmipc_handle_interrupt((struct shmipc_handle *)producer, PRODUCER);
}

int shmipc_producer_close(struct shmipc_producer *producer)
{
    SHMIPC_UNCANCELLED();
    bool already;
    const int result = shmipc_handle_begin_close((struct shmipc_handle *)producer, PRODUCER,
                                                 SHMIPC_TAG_PRODUCER_CLOSED, &already);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    int undelivered = SHMIPC_SUCCESS;
    if (!already) {
        producer->reserved = NULL;
        if (shmipc_producer_role_close(&producer->role, false) == SHMIPC_REMOVED) {
            struct shmipc_error error;
            (void)shmipc_segment_fail_undelivered(&producer->role.segment, &error);
            undelivered = shmipc_result_keep(&error, SIDE);
        }
    }
    shmipc_handle_unlock(&producer->handle);
    return undelivered;
}

void shmipc_producer_free(struct shmipc_producer *producer)
{
    const int result = producer != NULL ? shmipc_producer_close(producer) : SHMIPC_E_INVALID;
    if (result == SHMIPC_SUCCESS || result == SHMIPC_E_REMOVED) {      /* closed, both */
        shmipc_store_relaxed(&producer->handle.tag, SHMIPC_TAG_FREED); /* for a late use */
        free(producer->schema);
        free(producer);
    }
}

/* ---- the rest ------------------------------------------------------------------------------- */

int shmipc_producer_wait_for_consumers(struct shmipc_producer *producer, uint32_t count,
                                       int64_t timeout_ns)
{
    SHMIPC_UNCANCELLED();
    struct shmipc_wait wait = {0};
    enum shmipc_status status = SHMIPC_AGAIN;
    int result = shmipc_handle_enter((struct shmipc_handle *)producer, PRODUCER);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    struct shmipc_producer_role *role = &producer->role;
    result = count <= role->ring.map.slots
                 ? shmipc_check_timeout(timeout_ns)
                 : shmipc_result_fail(SHMIPC_E_INVALID,
                                      "ring \"%s\" has slots for %u consumers, not %u: create it "
                                      "with a larger `max_consumers`",
                                      producer->handle.name, role->ring.map.slots, count);
    const uint64_t deadline_ns = shmipc_deadline_after(timeout_ns);
    while (result == SHMIPC_SUCCESS) {
        status = shmipc_producer_role_wait_attached(role, &wait, count, deadline_ns);
        if (status == SHMIPC_CLOSED) {
            result = shmipc_take_interrupt(&producer->handle, PRODUCER, &role->interrupted);
        } else if (status != SHMIPC_AGAIN) {
            break;
        }
    }
    if (result == SHMIPC_SUCCESS && status == SHMIPC_TIMEOUT) {
        result = shmipc_result_fail(SHMIPC_E_NOT_FOUND,
                                    "%u of the %u consumers waited for are attached to ring "
                                    "\"%s\": are they started, with the same name and SHMIPC_DIR?",
                                    shmipc_producer_role_count_attached(role), count,
                                    producer->handle.name);
    } else if (result == SHMIPC_SUCCESS) {
        result = shmipc_ring_result(&producer->handle, &role->segment, status, SIDE);
    }
    shmipc_handle_leave(&producer->handle);
    return result;
}

int shmipc_producer_unlink(struct shmipc_producer *producer)
{
    SHMIPC_UNCANCELLED();
    int result = shmipc_handle_enter((struct shmipc_handle *)producer, PRODUCER);
    if (result != SHMIPC_SUCCESS) {
        return result;
    }
    struct shmipc_error error;
    if (shmipc_segment_dismiss(&producer->role.segment, &error) != SHMIPC_OK) {
        result = shmipc_result_keep(&error, SIDE);
    }
    shmipc_handle_leave(&producer->handle);
    return result;
}

int shmipc_producer_info(struct shmipc_producer *producer, struct shmipc_info *info)
{
    const int result = info == NULL
                           ? shmipc_refuse_null("info")
                           : shmipc_handle_enter((struct shmipc_handle *)producer, PRODUCER);
    if (result == SHMIPC_SUCCESS) {
        shmipc_info_fill(info, &producer->role.segment, &producer->handle, producer->schema);
        shmipc_handle_leave(&producer->handle);
    }
    return result;
}

int shmipc_producer_stats(struct shmipc_producer *producer, struct shmipc_producer_stats *stats)
{
    const int result = stats == NULL
                           ? shmipc_refuse_null("stats")
                           : shmipc_handle_enter((struct shmipc_handle *)producer, PRODUCER);
    if (result == SHMIPC_SUCCESS) {
        const struct shmipc_producer_role *role = &producer->role;
        const struct shmipc_ring *ring = &role->ring.map;
        const uint64_t committed = role->ring.head_pos - ring->origin_pos;
        *stats = (struct shmipc_producer_stats){
            .committed_len = committed,
            .count = ring->item_stride == 0 ? role->ring.next_seq : committed / ring->item_stride,
            .lag = shmipc_ring_pending_estimate(&role->ring),
            .sleeps = role->sleeps,
            .wakes = role->wakes,
            .reclaimed = role->reclaimed,
            .attached = shmipc_producer_role_count_attached(role),
            .kept = shmipc_ring_count_kept(ring),
            .took_over = role->took_over,
        };
        shmipc_handle_leave(&producer->handle);
    }
    return result;
}
