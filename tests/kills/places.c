/* places.c: see kills.h. Which process passes which label, when, in which kinds of ring. */
#include "kills.h"

#include <string.h>

static bool block(int config)
{
    return (config & OVERWRITE) == 0;
}
static bool overwrite(int config)
{
    return (config & OVERWRITE) != 0;
}
static bool message(int config)
{
    return (config & TYPED) == 0;
}
static bool shared_block(int config)
{
    return block(config) && (config & MANY) != 0;
}
static bool durable(int config)
{
    return block(config) && (config & MANY) == 0;
}
static bool transient(int config)
{
    return !durable(config);
}

#define AT(step, ...)                 \
    {                                 \
        SHMIPC_AT_##step, __VA_ARGS__ \
    }
/* clang-format off: a table */
const struct place places[] = {
    /* a producer makes a ring */
    AT(CREATE_OPENED, PRODUCER, WHEN_OPEN, NULL),
    AT(CREATE_RESERVED, PRODUCER, WHEN_OPEN, NULL),
    AT(CREATE_GEOMETRY, PRODUCER, WHEN_OPEN, NULL),
    AT(CREATE_WRITTEN, PRODUCER, WHEN_OPEN, NULL),
    AT(MAP_RESERVED, PRODUCER, WHEN_OPEN, NULL),
    AT(MAP_OPENED, PRODUCER, WHEN_OPEN, NULL),
    AT(MAP_DONE, PRODUCER, WHEN_OPEN, NULL),
    AT(CREATE_FORMATTED, PRODUCER, WHEN_OPEN, NULL),
    AT(KEEP_CURSOR, PRODUCER, WHEN_OPEN, shared_block),
    AT(KEEP_PID, PRODUCER, WHEN_OPEN, shared_block),
    AT(KEEP_BIT, PRODUCER, WHEN_OPEN, shared_block),
    AT(IDENTIFY_SPACE, PRODUCER, WHEN_OPEN, NULL),
    AT(IDENTIFY_EPOCH, PRODUCER, WHEN_OPEN, NULL),
    AT(IDENTIFY_PID, PRODUCER, WHEN_OPEN, NULL),
    AT(IDENTIFY_OPEN, PRODUCER, WHEN_OPEN, NULL),
    AT(CREATE_LOCKED, PRODUCER, WHEN_OPEN, NULL),
    AT(CREATE_NAMED, PRODUCER, WHEN_OPEN, NULL),
    /* ... or takes one over */
    AT(ATTACH_OPENED, PRODUCER, WHEN_SUCCEED, NULL),
    AT(ATTACH_CHECKED, PRODUCER, WHEN_SUCCEED, NULL),
    AT(ATTACH_GATED, PRODUCER, WHEN_SUCCEED, NULL),
    AT(MAP_RESERVED, PRODUCER, WHEN_SUCCEED, NULL),
    AT(MAP_OPENED, PRODUCER, WHEN_SUCCEED, NULL),
    AT(MAP_DONE, PRODUCER, WHEN_SUCCEED, NULL),
    AT(TAKEOVER_LOCKED, PRODUCER, WHEN_SUCCEED, NULL),
    AT(TAKEOVER_READ, PRODUCER, WHEN_SUCCEED, NULL),
    AT(IDENTIFY_SPACE, PRODUCER, WHEN_SUCCEED, NULL),
    AT(IDENTIFY_EPOCH, PRODUCER, WHEN_SUCCEED, NULL),
    AT(IDENTIFY_PID, PRODUCER, WHEN_SUCCEED, NULL),
    AT(IDENTIFY_OPEN, PRODUCER, WHEN_SUCCEED, NULL),
    AT(ATTACH_UNGATED, PRODUCER, WHEN_SUCCEED, NULL),
    AT(KEEP_LOCKED, PRODUCER, WHEN_INHERIT, shared_block),
    AT(KEEP_CURSOR, PRODUCER, WHEN_INHERIT, shared_block),
    AT(KEEP_PID, PRODUCER, WHEN_INHERIT, shared_block),
    AT(KEEP_BIT, PRODUCER, WHEN_INHERIT, shared_block),
    AT(KEEP_UNLOCKED, PRODUCER, WHEN_INHERIT, shared_block),
    AT(TAKEOVER_REFUSED, PRODUCER, WHEN_REPLACE, NULL),
    AT(UNLINK_NAMED, PRODUCER, WHEN_REPLACE, NULL),
    AT(UNLINK_DONE, PRODUCER, WHEN_REPLACE, NULL),
    AT(TAKEOVER_REPLACED, PRODUCER, WHEN_REPLACE, NULL),
    AT(CLOSE_DETACHED, PRODUCER, WHEN_REPLACE, NULL),
    AT(CLOSE_UNMAPPED, PRODUCER, WHEN_REPLACE, NULL),
    AT(CREATE_NAMED, PRODUCER, WHEN_REPLACE, NULL),
    /* a consumer comes */
    AT(ATTACH_OPENED, CONSUMER, WHEN_OPEN, NULL),
    AT(ATTACH_CHECKED, CONSUMER, WHEN_OPEN, NULL),
    AT(ATTACH_GATED, CONSUMER, WHEN_OPEN, NULL),
    AT(MAP_RESERVED, CONSUMER, WHEN_OPEN, NULL),
    AT(MAP_OPENED, CONSUMER, WHEN_OPEN, NULL),
    AT(MAP_DONE, CONSUMER, WHEN_OPEN, NULL),
    AT(ATTACH_SLOT, CONSUMER, WHEN_OPEN, NULL),
    AT(ATTACH_USED, CONSUMER, WHEN_OPEN, shared_block),
    AT(JOIN_CURSOR, CONSUMER, WHEN_OPEN, transient),
    AT(JOIN_BIT, CONSUMER, WHEN_OPEN, transient),
    AT(JOIN_LOOKED, CONSUMER, WHEN_OPEN, transient),
    AT(ATTACH_JOINED, CONSUMER, WHEN_OPEN, NULL),
    AT(ATTACH_PID, CONSUMER, WHEN_OPEN, NULL),
    AT(WAKE_FENCED, CONSUMER, WHEN_OPEN, NULL),
    AT(WAKE_COUNTED, CONSUMER, WHEN_OPEN, block),
    AT(WAKE_DONE, CONSUMER, WHEN_OPEN, block),
    AT(ATTACH_WOKEN, CONSUMER, WHEN_OPEN, NULL),
    AT(ATTACH_UNGATED, CONSUMER, WHEN_OPEN, NULL),
    /* sending */
    AT(REFILL_SCANNED, PRODUCER, WHEN_STREAM, NULL),
    AT(REFILL_TAIL, PRODUCER, WHEN_STREAM, NULL),
    AT(REFILL_RETIRED, PRODUCER, WHEN_STREAM, overwrite),
    AT(REFILL_FENCED, PRODUCER, WHEN_STREAM, shared_block),
    AT(RESERVED, PRODUCER, WHEN_STREAM, NULL),
    AT(HEADER_HALF, PRODUCER, WHEN_STREAM, message),
    {AT_WRITE_HALF, PRODUCER, WHEN_STREAM, NULL},
    {AT_WRITE_WHOLE, PRODUCER, WHEN_STREAM, NULL},
    AT(COMMIT_NOTE_POS, PRODUCER, WHEN_STREAM, message),
    AT(COMMIT_NOTE_SEQ, PRODUCER, WHEN_STREAM, message),
    AT(COMMIT_HEAD, PRODUCER, WHEN_STREAM, NULL),
    AT(WAKE_FENCED, PRODUCER, WHEN_STREAM, NULL),
    AT(WAKE_COUNTED, PRODUCER, WHEN_STREAM, NULL),
    AT(WAKE_DONE, PRODUCER, WHEN_STREAM, NULL),
    AT(WAIT_WANTED, PRODUCER, WHEN_STREAM, block),
    AT(WAIT_MARKED, PRODUCER, WHEN_STREAM, block),
    AT(WAIT_ANNOUNCED, PRODUCER, WHEN_STREAM, block),
    AT(WAIT_LOOKED, PRODUCER, WHEN_STREAM, block),
    AT(WAIT_SLEPT, PRODUCER, WHEN_STREAM, block),
    {AT_ANY_MOMENT, PRODUCER, WHEN_STREAM, NULL},
    AT(EVICT_GATED, PRODUCER, WHEN_EVICT, shared_block),
    AT(EVICT_LOCKED, PRODUCER, WHEN_EVICT, shared_block),
    AT(LEAVE_PID, PRODUCER, WHEN_EVICT, shared_block),
    AT(LEAVE_BIT, PRODUCER, WHEN_EVICT, shared_block),
    AT(EVICT_LEFT, PRODUCER, WHEN_EVICT, shared_block),
    AT(EVICT_UNLOCKED, PRODUCER, WHEN_EVICT, shared_block),
    /* receiving */
    AT(READ_RELOADED, CONSUMER, WHEN_STREAM, NULL),
    AT(READ_RESYNCED, CONSUMER, WHEN_STREAM, overwrite),
    {AT_READ_HALF, CONSUMER, WHEN_STREAM, NULL},
    AT(READ_ADVANCED, CONSUMER, WHEN_STREAM, NULL),
    AT(READ_LEASED, CONSUMER, WHEN_STREAM, NULL),
    {AT_PROCESSED, CONSUMER, WHEN_STREAM, NULL},
    AT(RELEASE_ENDED, CONSUMER, WHEN_STREAM, NULL),
    AT(RELEASE_CURSOR, CONSUMER, WHEN_STREAM, NULL),
    AT(WAKE_WANTED, CONSUMER, WHEN_STREAM, block),
    AT(WAKE_FENCED, CONSUMER, WHEN_STREAM, block),
    AT(WAKE_COUNTED, CONSUMER, WHEN_STREAM, block),
    AT(WAKE_DONE, CONSUMER, WHEN_STREAM, block),
    AT(WAIT_MARKED, CONSUMER, WHEN_STREAM, NULL),
    AT(WAIT_ANNOUNCED, CONSUMER, WHEN_STREAM, NULL),
    AT(WAIT_LOOKED, CONSUMER, WHEN_STREAM, NULL),
    AT(WAIT_SLEPT, CONSUMER, WHEN_STREAM, NULL),
    AT(WAIT_ANY_MARKED, CONSUMER, WHEN_STREAM, NULL),
    AT(WAIT_ANY_LOOKED, CONSUMER, WHEN_STREAM, NULL),
    AT(WAIT_ANY_SLEPT, CONSUMER, WHEN_STREAM, NULL),
    {AT_ANY_MOMENT, CONSUMER, WHEN_STREAM, NULL},
    /* a producer goes */
    AT(INTERRUPTED, PRODUCER, WHEN_CLOSE, NULL),
    AT(CLOSE_PRIVATE_HALF, PRODUCER, WHEN_CLOSE, NULL),
    AT(CLOSE_PRIVATE, PRODUCER, WHEN_CLOSE, NULL),
    AT(CLOSE_STORED, PRODUCER, WHEN_CLOSE, NULL),
    AT(WAKE_FENCED, PRODUCER, WHEN_CLOSE, NULL),
    AT(WAKE_COUNTED, PRODUCER, WHEN_CLOSE, NULL),
    AT(WAKE_DONE, PRODUCER, WHEN_CLOSE, NULL),
    AT(CLOSE_WOKEN, PRODUCER, WHEN_CLOSE, NULL),
    AT(ATTACH_GATED, PRODUCER, WHEN_CLOSE, NULL),
    AT(CLOSE_GATED, PRODUCER, WHEN_CLOSE, NULL),
    AT(CLOSE_PID, PRODUCER, WHEN_CLOSE, NULL),
    AT(CLOSE_UNLOCKED, PRODUCER, WHEN_CLOSE, NULL),
    AT(UNLINK_NAMED, PRODUCER, WHEN_LAST, NULL),
    AT(UNLINK_DONE, PRODUCER, WHEN_LAST, NULL),
    AT(ATTACH_UNGATED, PRODUCER, WHEN_CLOSE, NULL),
    AT(CLOSE_DETACHED, PRODUCER, WHEN_CLOSE, NULL),
    AT(CLOSE_UNMAPPED, PRODUCER, WHEN_CLOSE, NULL),
    /* a consumer goes */
    AT(INTERRUPTED, CONSUMER, WHEN_CLOSE, NULL),
    AT(LEAVE_PID, CONSUMER, WHEN_CLOSE, NULL),
    AT(LEAVE_BIT, CONSUMER, WHEN_CLOSE, transient),
    AT(WAKE_FENCED, CONSUMER, WHEN_CLOSE, NULL),
    AT(CLOSE_WOKEN, CONSUMER, WHEN_CLOSE, NULL),
    AT(ATTACH_GATED, CONSUMER, WHEN_CLOSE, NULL),
    AT(CLOSE_GATED, CONSUMER, WHEN_CLOSE, NULL),
    AT(CLOSE_UNLOCKED, CONSUMER, WHEN_CLOSE, NULL),
    AT(UNLINK_NAMED, CONSUMER, WHEN_LAST, NULL),
    AT(UNLINK_DONE, CONSUMER, WHEN_LAST, NULL),
    AT(ATTACH_UNGATED, CONSUMER, WHEN_CLOSE, NULL),
    AT(CLOSE_DETACHED, CONSUMER, WHEN_CLOSE, NULL),
    AT(CLOSE_UNMAPPED, CONSUMER, WHEN_CLOSE, NULL),
    /* somebody cleans up after all of them */
    AT(ATTACH_OPENED, CLEANER, WHEN_CLEAN, NULL),
    AT(ATTACH_CHECKED, CLEANER, WHEN_CLEAN, NULL),
    AT(ATTACH_GATED, CLEANER, WHEN_CLEAN, NULL),
    AT(CLEAN_GATED, CLEANER, WHEN_CLEAN, NULL),
    AT(MAP_RESERVED, CLEANER, WHEN_CLEAN, NULL),
    AT(MAP_OPENED, CLEANER, WHEN_CLEAN, NULL),
    AT(MAP_DONE, CLEANER, WHEN_CLEAN, NULL),
    AT(CLEAN_MAPPED, CLEANER, WHEN_CLEAN, NULL),
    AT(UNLINK_NAMED, CLEANER, WHEN_CLEAN, NULL),
    AT(UNLINK_DONE, CLEANER, WHEN_CLEAN, NULL),
    AT(CLEAN_DONE, CLEANER, WHEN_CLEAN, NULL),
    AT(ATTACH_UNGATED, CLEANER, WHEN_CLEAN, NULL),
    AT(CLOSE_DETACHED, CLEANER, WHEN_CLEAN, NULL),
    AT(CLOSE_UNMAPPED, CLEANER, WHEN_CLEAN, NULL),
};
/* clang-format on */
const int place_count = sizeof places / sizeof *places;

static const char *const step_names[STEPS] = {
#define NAME(name) #name,
    SHMIPC_STEPS_OF(NAME)
#undef NAME
        "WRITE_HALF",
    "WRITE_WHOLE", "READ_HALF", "PROCESSED", "ANY_MOMENT"};

const char *step_name(int step)
{
    return step_names[step];
}

bool step_is_absent(int step)
{
#ifdef KILLS_API
    return step == SHMIPC_AT_CLOSE_PRIVATE || step == SHMIPC_AT_CLOSE_PRIVATE_HALF;
#else
    (void)step;
    return false;
#endif
}

bool place_is_in(const struct place *place, int config)
{
    return !step_is_absent(place->step) && (place->in == NULL || place->in(config));
}

bool place_needs_hold(const struct place *place, int config)
{
    /* Who comes while its producer sleeps wakes it: without a kept place nobody makes it wait. */
    const bool wakes =
        place->who == CONSUMER && place->when == WHEN_OPEN &&
        (place->step == SHMIPC_AT_WAKE_COUNTED || place->step == SHMIPC_AT_WAKE_DONE);
    return shared_block(config) &&
           (wakes || place->when == WHEN_INHERIT || place->step == SHMIPC_AT_ATTACH_USED ||
            (place->step >= SHMIPC_AT_KEEP_LOCKED && place->step <= SHMIPC_AT_KEEP_UNLOCKED));
}

static enum phase phase_of(enum when when)
{
    switch (when) {
    case WHEN_STREAM:
    case WHEN_EVICT:
        return STREAMING;
    case WHEN_CLOSE:
    case WHEN_LAST:
        return CLOSING;
    default:
        return OPENING;
    }
}

bool place_exists(int config, enum who who, enum phase phase, int step)
{
    for (int i = 0; i < place_count; i++) {
        if (places[i].step == step && places[i].who == who && phase_of(places[i].when) == phase &&
            place_is_in(&places[i], config)) {
            return true;
        }
    }
    return false;
}

const char *places_fault(void)
{
    for (int step = 0; step < STEPS; step++) {
        bool found = false;
        for (int i = 0; i < place_count; i++) {
            found = found || places[i].step == step;
        }
        if (!found) {
            return step_names[step];
        }
    }
    return NULL;
}
