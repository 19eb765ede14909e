/*
 * role.h: what both roles, and a process that only inspects, need of a segment and its ring.
 *
 * Owns:     the step from a mapped segment to a ring; who is attached; what is owed; cleaning up.
 * Must not know: how a role waits; Python.
 *
 * Pairing (beyond the tables of ring.h and wait.h)
 *   W6 closed: release, by the producer  <-> R6 closed: acquire, then one more look at the head
 *        a consumer that sees the end sees every commit before it. Weaker: a consumer reports the
 * end of a stream whose last messages it has not read. identity.producer_pid, identity.epoch,
 * slots[i].pid: relaxed. They name somebody in a message or say that a slot was taken; liveness and
 * exclusion are the locks', whose system calls order them. interrupted (private): relaxed store by
 * close(), ordered by the fence in shmipc_wait_wake; relaxed loads by the thread inside. It is seen
 * in the next slice at the latest, and at once by a sleeper: the wake-up follows it (K4).
 */
#ifndef SHMIPC_ROLE_H
#define SHMIPC_ROLE_H

#include "ring.h"
#include "../segment/segment.h"

/* Private copies of a mapped segment's geometry. */
void shmipc_ring_attach(struct shmipc_ring *ring, const struct shmipc_segment *segment);

/* Is anybody else attached, in any role? Stays true only behind the gate. */
bool shmipc_segment_is_shared(const struct shmipc_segment *segment);

/* Does a durable queue hold messages that its consumer has not released, or a ring messages for a
 * kept slot? True of a truncated durable queue: nobody can tell any more. Asked behind the gate,
 * after the locks of both roles were found free, or the ring closed: these order what is read. */
bool shmipc_segment_is_owed(const struct shmipc_segment *segment);

enum shmipc_clean_result {
    SHMIPC_CLEAN_REMOVED,
    SHMIPC_CLEAN_ALIVE,   /* somebody is attached: left alone */
    SHMIPC_CLEAN_PENDING, /* nobody is, but messages are owed: left alone unless `discard` */
    SHMIPC_CLEAN_DAMAGED, /* nobody is, and nobody can be again: left alone unless `discard` */
    SHMIPC_CLEAN_FOREIGN  /* not a segment that this release can read: left alone */
};

/* Remove the segment at `path` if nothing alive holds it. OK with `result` set, NOT_FOUND, OS,
 * BUSY (the gate). */
enum shmipc_status shmipc_segment_clean(const char *path, bool discard,
                                        enum shmipc_clean_result *result,
                                        struct shmipc_error *error);
/* What shmipc_segment_clean would find now. Removes nothing. */
enum shmipc_status shmipc_segment_foresee(const char *path, bool discard,
                                          enum shmipc_clean_result *result,
                                          struct shmipc_error *error);

#endif
