/* role.c: see role.h. */
#include "role.h"

#include "../segment/locks.h"

#include <errno.h>

void shmipc_ring_attach(struct shmipc_ring *ring, const struct shmipc_segment *segment)
{
    const struct shmipc_geometry *geometry = &segment->geometry;
    ring->shared = segment->header;
    ring->data = segment->data;
    ring->area_len = geometry->area_len;
    ring->mask = geometry->area_len - 1;
    ring->item_len = geometry->item_len;
    ring->item_stride = geometry->item_stride;
    ring->origin_pos = geometry->origin_pos;
    ring->slots = geometry->slots;
    ring->overwrite = geometry->overflow == SHMIPC_OVERFLOW_OVERWRITE;
    ring->durable = shmipc_geometry_is_durable(geometry);
}

bool shmipc_segment_is_shared(const struct shmipc_segment *segment)
{
    return shmipc_lock_is_held(segment, SHMIPC_LOCK_PRODUCER, 1 + segment->geometry.slots);
}

bool shmipc_segment_is_owed(const struct shmipc_segment *segment)
{
    struct shmipc_ring ring;
    shmipc_ring_attach(&ring, segment);
    if (ring.durable && shmipc_segment_is_damaged(segment)) {
        return true;
    }
    const uint64_t head = shmipc_load_relaxed(&ring.shared->commit.head_pos);
    for (uint32_t slot = 0; slot < ring.slots && !ring.overwrite; slot++) {
        if ((ring.durable || shmipc_ring_is_kept(&ring, slot)) &&
            shmipc_load_relaxed(&ring.shared->slots[slot].cursor_pos) != head) {
            return true;
        }
    }
    return false;
}

/* What cleaning comes to, behind the gate of an open segment. */
static enum shmipc_status judge(struct shmipc_segment *segment, bool damaged, bool discard,
                                enum shmipc_clean_result *result, struct shmipc_error *error)
{
    if (shmipc_segment_is_shared(segment)) {
        *result = SHMIPC_CLEAN_ALIVE;
        return SHMIPC_OK;
    }
    SHMIPC_STEP(CLEAN_GATED);
    const enum shmipc_status status =
        damaged ? SHMIPC_OK : shmipc_segment_map(segment, false, error);
    if (status != SHMIPC_OK) {
        return status;
    }
    SHMIPC_STEP(CLEAN_MAPPED);
    if (discard) {
        *result = SHMIPC_CLEAN_REMOVED;
    } else if (damaged || shmipc_segment_examine(segment) == SHMIPC_CORRUPT) {
        *result = SHMIPC_CLEAN_DAMAGED;
    } else {
        *result = shmipc_segment_is_owed(segment) ? SHMIPC_CLEAN_PENDING : SHMIPC_CLEAN_REMOVED;
    }
    return SHMIPC_OK;
}

static enum shmipc_status clean(const char *path, bool discard, bool dry_run,
                                enum shmipc_clean_result *result, struct shmipc_error *error)
{
    struct shmipc_segment segment;
    bool damaged;
    enum shmipc_status status = shmipc_segment_open_damaged(&segment, path, &damaged, error);
    *result = SHMIPC_CLEAN_FOREIGN;
    if (status != SHMIPC_OK) {
        return status == SHMIPC_CORRUPT ? SHMIPC_OK : status;
    }
    status = shmipc_gate_enter(&segment, error);
    if (status == SHMIPC_OK) {
        status = judge(&segment, damaged, discard, result, error);
        if (status == SHMIPC_OK && *result == SHMIPC_CLEAN_REMOVED && !dry_run) {
            if (!shmipc_segment_unlink(&segment)) {
                status = shmipc_fail(error, SHMIPC_OS, errno, "cannot remove %s", path);
            }
            SHMIPC_STEP(CLEAN_DONE);
        }
        shmipc_gate_leave(&segment);
    }
    shmipc_segment_close(&segment);
    return status;
}

enum shmipc_status shmipc_segment_clean(const char *path, bool discard,
                                        enum shmipc_clean_result *result,
                                        struct shmipc_error *error)
{
    return clean(path, discard, false, result, error);
}

enum shmipc_status shmipc_segment_foresee(const char *path, bool discard,
                                          enum shmipc_clean_result *result,
                                          struct shmipc_error *error)
{
    return clean(path, discard, true, result, error);
}
