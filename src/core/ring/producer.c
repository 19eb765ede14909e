/* producer.c: opening and closing. Waiting, and who attaches and dies: producer_wait.c. See
 * producer.h. */
#define _GNU_SOURCE
#include "producer.h"

#include "../segment/descriptor.h"
#include "../segment/holder.h"
#include "../segment/locks.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OPEN_TRIES 100 /* races with creators and removers of the same name */

/* ---- open ---------------------------------------------------------------------------------- */

static void identify(struct shmipc_producer_role *producer)
{
    struct shmipc_identity_line *identity = &producer->ring.map.shared->identity;
    /* A predecessor may have died asleep. Only a producer sleeps here, and that is us, awake. */
    shmipc_store_relaxed(&producer->ring.map.shared->space.sleepers, 0u);
    SHMIPC_STEP(IDENTIFY_SPACE);
    const uint64_t epoch = shmipc_load_relaxed(&identity->epoch);
    shmipc_store_relaxed(&identity->epoch, epoch + 1);
    SHMIPC_STEP(IDENTIFY_EPOCH);
    shmipc_store_relaxed(&identity->producer_pid, (uint32_t)getpid());
    SHMIPC_STEP(IDENTIFY_PID);
    /* Relaxed: a consumer that still sees the end sees an end that was. */
    shmipc_store_relaxed(&identity->closed, 0u);
    SHMIPC_STEP(IDENTIFY_OPEN);
}

/* NULL, or what is wrong with the schema that lies in the file, of the length asked for. Read in
 * small parts: it can be longer than a thread's stack. */
static const char *schema_mismatch(const struct shmipc_segment *segment,
                                   const struct shmipc_spec *spec, struct shmipc_error *error)
{
    const struct shmipc_geometry *found = &segment->geometry;
    char part[512];
    if (found->schema_hash != shmipc_schema_hash(spec->schema, spec->schema_len)) {
        return spec->schema_len == 0 ? "a damaged schema" : "another dtype or shape";
    }
    for (size_t done = 0; done < spec->schema_len;) {
        const size_t left = spec->schema_len - done;
        const size_t len = left < sizeof part ? left : sizeof part;
        const ssize_t got = shmipc_segment_pread(segment, part, len, found->schema_off + done);
        if (got < 0) {
            (void)shmipc_fail(error, SHMIPC_OS, errno, "cannot read %s", segment->path);
        }
        if (got != (ssize_t)len || memcmp(part, spec->schema + done, len) != 0) {
            return "a damaged schema";
        }
        done += len;
    }
    return NULL;
}

/* NULL, or how an existing ring differs from the request. `error` is set, to OS, if it could not be
 * read. */
static const char *mismatch(const struct shmipc_segment *segment, const struct shmipc_spec *spec,
                            struct shmipc_error *error)
{
    const struct shmipc_geometry *found = &segment->geometry;
    if (found->framing != (uint32_t)spec->framing) {
        return found->framing == SHMIPC_FRAMING_TYPED ? "a typed ring (it has a dtype)"
                                                      : "a message ring (it has no dtype)";
    }
    if (found->overflow != (uint32_t)spec->overflow) {
        return found->overflow == SHMIPC_OVERFLOW_BLOCK ? "overflow=\"block\""
                                                        : "overflow=\"overwrite\"";
    }
    if (found->slots != spec->slots) {
        return "another max_consumers=";
    }
    if (spec->capacity != 0 && found->area_len < shmipc_area_len_for(spec)) {
        return "a smaller capacity";
    }
    if (found->schema_len != spec->schema_len || found->item_len != spec->item_len) {
        return "another dtype or shape";
    }
    return schema_mismatch(segment, spec, error);
}

/* May the producer keep slots for consumers to come? */
static bool may_keep(const struct shmipc_ring *ring)
{
    return !ring->durable && !ring->overwrite;
}

/* Behind the gate of a ring that was taken over: make `hold_for` slots attached or kept, from here
 * on. A slot whose consumer died counts as free, and its cursor is not waited for any more. */
static void keep_places(const struct shmipc_producer_role *producer, uint32_t hold_for)
{
    const struct shmipc_segment *segment = &producer->segment;
    const struct shmipc_ring *ring = &producer->ring.map;
    uint32_t wanted = may_keep(ring) ? hold_for : 0;
    for (uint32_t slot = 0; slot < ring->slots && wanted > 0; slot++) {
        wanted -= shmipc_ring_is_kept(ring, slot) ||
                  shmipc_lock_is_held(segment, SHMIPC_LOCK_SLOT0 + slot, 1);
    }
    for (uint32_t slot = 0; slot < ring->slots && wanted > 0; slot++) {
        if (shmipc_ring_is_kept(ring, slot) ||
            !shmipc_lock_try(segment, SHMIPC_LOCK_SLOT0 + slot)) {
            continue;
        }
        SHMIPC_STEP(KEEP_LOCKED);
        shmipc_ring_keep(ring, slot, producer->ring.head_pos);
        wanted--;
        shmipc_lock_drop(segment, SHMIPC_LOCK_SLOT0 + slot);
        SHMIPC_STEP(KEEP_UNLOCKED);
    }
}

static enum shmipc_status create(struct shmipc_producer_role *producer, const char *path,
                                 const struct shmipc_spec *spec, struct shmipc_error *error)
{
    struct shmipc_segment *segment = &producer->segment;
    enum shmipc_status status = shmipc_segment_create(segment, path, spec, error);
    if (status != SHMIPC_OK) {
        return status;
    }
    status = shmipc_segment_map(segment, true, error);
    if (status == SHMIPC_OK) {
        shmipc_ring_attach(&producer->ring.map, segment);
        shmipc_ring_format(segment->header);
        SHMIPC_STEP(CREATE_FORMATTED);
        for (uint32_t slot = 0; slot < spec->hold_for && may_keep(&producer->ring.map); slot++) {
            shmipc_ring_keep(&producer->ring.map, slot, spec->origin_pos);
        }
        status = shmipc_ring_take_over(&producer->ring);
    }
    if (status == SHMIPC_OK) {
        identify(producer);
        /* The lock before the name: nobody ever sees this ring without its producer. */
        if (!shmipc_lock_try(segment, SHMIPC_LOCK_PRODUCER)) {
            status = shmipc_fail(error, SHMIPC_OS, errno, "%s does not support locks", path);
        }
    }
    if (status == SHMIPC_OK) {
        SHMIPC_STEP(CREATE_LOCKED);
        status = shmipc_segment_publish(segment, error);
    }
    if (status != SHMIPC_OK) {
        shmipc_segment_close(segment);
    }
    return status;
}

/* Behind the gate of an existing segment. AGAIN: it was unlinked, create one. */
static enum shmipc_status take_over(struct shmipc_producer_role *producer,
                                    const struct shmipc_spec *spec, struct shmipc_error *error)
{
    struct shmipc_segment *segment = &producer->segment;
    enum shmipc_status status;
    const char *found;
    char wider[80];

    if (!shmipc_segment_is_named(segment)) {
        return SHMIPC_AGAIN;
    }
    status = shmipc_segment_map(segment, true, error);
    if (status != SHMIPC_OK) {
        return status;
    }
    shmipc_ring_attach(&producer->ring.map, segment);
    if (!shmipc_lock_try(segment, SHMIPC_LOCK_PRODUCER)) {
        if (!shmipc_lock_is_taken(errno)) {
            return shmipc_fail(error, SHMIPC_OS, errno, "cannot lock %s", segment->path);
        }
        const uint32_t pid = shmipc_load_relaxed(&segment->header->identity.producer_pid);
        return shmipc_fail(error, SHMIPC_BUSY, EEXIST,
                           "%s already has a producer, process %u%s: a ring has one. Close that "
                           "one, or use another name",
                           segment->path, pid, shmipc_holder_note(segment, pid));
    }
    SHMIPC_STEP(TAKEOVER_LOCKED);
    error->status = SHMIPC_OK;
    found = mismatch(segment, spec, error);
    if (error->status == SHMIPC_OS) {
        return SHMIPC_OS; /* no reason to replace the ring */
    }
    if (found == NULL && (segment->mode & 0777 & ~spec->mode) != 0) {
        (void)snprintf(wider, sizeof wider, "mode 0%o, which permits more than mode 0%o",
                       (unsigned)(segment->mode & 0777), (unsigned)spec->mode);
        found = wider;
    }
    if (found == NULL) {
        status =
            shmipc_segment_set_mode(segment, spec->mode, error); /* it may have been narrower */
        if (status != SHMIPC_OK) {
            return status;
        }
        SHMIPC_STEP(TAKEOVER_MODE);
        status = shmipc_ring_take_over(&producer->ring);
        if (status == SHMIPC_CORRUPT) {
            return shmipc_fail(error, status, 0,
                               "%s is damaged: its positions contradict each other. Remove it "
                               "(`shmipc clean --discard`)",
                               segment->path);
        }
        SHMIPC_STEP(TAKEOVER_READ);
        producer->took_over = true;
        identify(producer);
        keep_places(producer, spec->hold_for);
        return SHMIPC_OK;
    }
    shmipc_lock_drop(segment, SHMIPC_LOCK_PRODUCER);
    SHMIPC_STEP(TAKEOVER_REFUSED);
    if (shmipc_segment_is_shared(segment) || shmipc_segment_is_owed(segment)) {
        return shmipc_fail(error, SHMIPC_MISMATCH, 0,
                           "%s exists with %s, and %s. Ask for the same, use another name, or "
                           "remove it (`shmipc clean --discard`) once nobody needs it",
                           segment->path, found,
                           shmipc_segment_is_shared(segment) ? "consumers are attached to it"
                                                             : "its consumer has not read it all");
    }
    if (!shmipc_segment_unlink(segment)) { /* not in use: replace it */
        return shmipc_fail(error, SHMIPC_OS, errno,
                           "%s exists with %s; nobody needs it, but it cannot be removed",
                           segment->path, found);
    }
    SHMIPC_STEP(TAKEOVER_REPLACED);
    return SHMIPC_AGAIN;
}

enum shmipc_status shmipc_producer_role_open(struct shmipc_producer_role *producer,
                                             const char *path, const struct shmipc_spec *spec,
                                             struct shmipc_error *error)
{
    enum shmipc_status status = SHMIPC_AGAIN;
    memset(producer, 0, sizeof *producer);
    producer->segment.fd = -1;
    producer->asymmetric = shmipc_wait_register();
    for (int i = 0; i < OPEN_TRIES && status == SHMIPC_AGAIN; i++) {
        status = shmipc_segment_open(&producer->segment, path, error);
        if (status == SHMIPC_NOT_FOUND) {
            status = create(producer, path, spec, error);
            if (status == SHMIPC_BUSY) {
                status = SHMIPC_AGAIN; /* another process was first: try again */
            }
            continue;
        }
        if (status != SHMIPC_OK) {
            return status;
        }
        status = shmipc_segment_check_owner(&producer->segment, error);
        if (status == SHMIPC_OK) {
            status = shmipc_gate_enter(&producer->segment, error);
        }
        if (status == SHMIPC_OK) {
            status = take_over(producer, spec, error);
            shmipc_gate_leave(&producer->segment);
        }
        if (status != SHMIPC_OK) {
            shmipc_segment_close(&producer->segment);
        }
    }
    if (status == SHMIPC_OK && shmipc_segment_is_damaged(&producer->segment)) {
        status = shmipc_segment_fail_damaged(&producer->segment, error);
        shmipc_segment_close(&producer->segment);
    }
    if (status == SHMIPC_AGAIN) {
        return shmipc_fail(error, SHMIPC_BUSY, EEXIST,
                           "%s keeps being created and removed by others: use another name", path);
    }
    return status;
}

/* ---- close --------------------------------------------------------------------------------- */

void shmipc_producer_role_interrupt(struct shmipc_producer_role *producer)
{
    /* Relaxed: the fence in shmipc_wait_wake orders it before the look for sleepers. */
    shmipc_store_relaxed(&producer->interrupted, 1u);
    SHMIPC_STEP(INTERRUPTED);
    shmipc_wait_wake(&producer->ring.map.shared->space.sleepers);
}

enum shmipc_status shmipc_producer_role_close(struct shmipc_producer_role *producer,
                                              bool keep_mapping)
{
    struct shmipc_segment *segment = &producer->segment;
    enum shmipc_status status = SHMIPC_OK;
    if (segment->fd >= 0 && segment->header != NULL) {
        struct shmipc_header *shared = segment->header;
        struct shmipc_error ignored;
        if (keep_mapping) {
            shmipc_segment_privatize(segment); /* before anybody else can become the producer */
            SHMIPC_STEP(CLOSE_PRIVATE);
        }
        if (!producer->handed_over) {
            /* W6 <-> R6: a consumer that sees the end also sees every message before it. */
            shmipc_store_release(&shared->identity.closed, 1u);
            SHMIPC_STEP(CLOSE_STORED);
            shmipc_wait_wake(&shared->data.sleepers);
            SHMIPC_STEP(CLOSE_WOKEN);
        }
        if (shmipc_gate_enter(segment, &ignored) == SHMIPC_OK) {
            SHMIPC_STEP(CLOSE_GATED);
            shmipc_store_relaxed(&shared->identity.producer_pid, 0u);
            SHMIPC_STEP(CLOSE_PID);
            shmipc_lock_drop(segment, SHMIPC_LOCK_PRODUCER);
            SHMIPC_STEP(CLOSE_UNLOCKED);
            /* A truncated file may owe messages; a removed one can deliver none. */
            const bool removed = shmipc_segment_examine(segment) == SHMIPC_REMOVED;
            const bool shared_still = shmipc_segment_is_shared(segment);
            if (!shared_still && removed && shmipc_segment_is_owed(segment)) {
                status = SHMIPC_REMOVED;
            } else if (!shared_still && !producer->handed_over &&
                       !shmipc_segment_is_owed(segment)) {
                (void)shmipc_segment_unlink(segment);
            }
            shmipc_gate_leave(segment);
        }
    }
    if (keep_mapping) {
        shmipc_segment_detach(segment);
    } else {
        shmipc_segment_close(segment);
    }
    return status;
}
