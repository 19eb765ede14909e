/* kill_points.c: see kills.h. Which process passes which label, when, in which kinds of ring. */
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
const struct kill_point kill_points[] = {
    /* a producer makes a ring */
    AT(CREATE_OPENED, PRODUCER, WHEN_OPEN, NULL),
    AT(CREATE_RESERVED, PRODUCER, WHEN_OPEN, NULL),
    AT(CREATE_GEOMETRY, PRODUCER, WHEN_OPEN, NULL),
    AT(CREATE_WRITTEN, PRODUCER, WHEN_OPEN, NULL),
    AT(MAP_RESERVED, PRODUCER, WHEN_OPEN, NULL),
    AT(MAP_ANCHORED, PRODUCER, WHEN_OPEN, NULL),
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
    AT(MAP_ANCHORED, PRODUCER, WHEN_SUCCEED, NULL),
    AT(MAP_OPENED, PRODUCER, WHEN_SUCCEED, NULL),
    AT(MAP_DONE, PRODUCER, WHEN_SUCCEED, NULL),
    AT(TAKEOVER_LOCKED, PRODUCER, WHEN_SUCCEED, NULL),
    AT(TAKEOVER_MODE, PRODUCER, WHEN_SUCCEED, NULL),
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
    AT(CLOSE_UNANCHORED, PRODUCER, WHEN_REPLACE, NULL),
    AT(CLOSE_UNMAPPED, PRODUCER, WHEN_REPLACE, NULL),
    AT(CREATE_NAMED, PRODUCER, WHEN_REPLACE, NULL),
    /* a consumer comes */
    AT(ATTACH_OPENED, CONSUMER, WHEN_OPEN, NULL),
    AT(ATTACH_CHECKED, CONSUMER, WHEN_OPEN, NULL),
    AT(ATTACH_GATED, CONSUMER, WHEN_OPEN, NULL),
    AT(MAP_RESERVED, CONSUMER, WHEN_OPEN, NULL),
    AT(MAP_ANCHORED, CONSUMER, WHEN_OPEN, NULL),
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
    AT(RECLAIM_GATED, PRODUCER, WHEN_RECLAIM, shared_block),
    AT(RECLAIM_LOCKED, PRODUCER, WHEN_RECLAIM, shared_block),
    AT(LEAVE_PID, PRODUCER, WHEN_RECLAIM, shared_block),
    AT(LEAVE_BIT, PRODUCER, WHEN_RECLAIM, shared_block),
    AT(RECLAIM_LEFT, PRODUCER, WHEN_RECLAIM, shared_block),
    AT(RECLAIM_UNLOCKED, PRODUCER, WHEN_RECLAIM, shared_block),
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
    AT(CLOSE_UNANCHORED, PRODUCER, WHEN_CLOSE, NULL),
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
    AT(CLOSE_UNANCHORED, CONSUMER, WHEN_CLOSE, NULL),
    AT(CLOSE_UNMAPPED, CONSUMER, WHEN_CLOSE, NULL),
    /* somebody cleans up after all of them */
    AT(ATTACH_OPENED, CLEANER, WHEN_CLEAN, NULL),
    AT(ATTACH_CHECKED, CLEANER, WHEN_CLEAN, NULL),
    AT(ATTACH_GATED, CLEANER, WHEN_CLEAN, NULL),
    AT(CLEAN_GATED, CLEANER, WHEN_CLEAN, NULL),
    AT(MAP_RESERVED, CLEANER, WHEN_CLEAN, NULL),
    AT(MAP_ANCHORED, CLEANER, WHEN_CLEAN, NULL),
    AT(MAP_OPENED, CLEANER, WHEN_CLEAN, NULL),
    AT(MAP_DONE, CLEANER, WHEN_CLEAN, NULL),
    AT(CLEAN_MAPPED, CLEANER, WHEN_CLEAN, NULL),
    AT(UNLINK_NAMED, CLEANER, WHEN_CLEAN, NULL),
    AT(UNLINK_DONE, CLEANER, WHEN_CLEAN, NULL),
    AT(CLEAN_DONE, CLEANER, WHEN_CLEAN, NULL),
    AT(ATTACH_UNGATED, CLEANER, WHEN_CLEAN, NULL),
    AT(CLOSE_DETACHED, CLEANER, WHEN_CLEAN, NULL),
    AT(CLOSE_UNANCHORED, CLEANER, WHEN_CLEAN, NULL),
    AT(CLOSE_UNMAPPED, CLEANER, WHEN_CLEAN, NULL),
};
/* clang-format on */
const int kill_point_count = sizeof kill_points / sizeof *kill_points;

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

bool kill_point_is_in(const struct kill_point *point, int config)
{
    return !step_is_absent(point->step) && (point->in == NULL || point->in(config));
}

bool kill_point_needs_hold(const struct kill_point *point, int config)
{
    /* A consumer that attaches wakes a sleeping producer: without a kept slot nothing makes it
     * wait. */
    const bool wakes =
        point->who == CONSUMER && point->when == WHEN_OPEN &&
        (point->step == SHMIPC_AT_WAKE_COUNTED || point->step == SHMIPC_AT_WAKE_DONE);
    return shared_block(config) &&
           (wakes || point->when == WHEN_INHERIT || point->step == SHMIPC_AT_ATTACH_USED ||
            (point->step >= SHMIPC_AT_KEEP_LOCKED && point->step <= SHMIPC_AT_KEEP_UNLOCKED));
}

static enum phase phase_of(enum when when)
{
    switch (when) {
    case WHEN_STREAM:
    case WHEN_RECLAIM:
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
    for (int i = 0; i < kill_point_count; i++) {
        if (kill_points[i].step == step && kill_points[i].who == who &&
            phase_of(kill_points[i].when) == phase && kill_point_is_in(&kill_points[i], config)) {
            return true;
        }
    }
    return false;
}

const char *kill_points_fault(void)
{
    for (int step = 0; step < STEPS; step++) {
        bool found = false;
        for (int i = 0; i < kill_point_count; i++) {
            found = found || kill_points[i].step == step;
        }
        if (!found) {
            return step_names[step];
        }
    }
    return NULL;
}
