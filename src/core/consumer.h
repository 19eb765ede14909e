/*
 * consumer.h: the consuming role: one cursor of a named ring, held under a lock that the kernel
 * drops when the process dies.
 *
 * Owns:     attaching, leaving, telling the producer of room it waits for, waiting for data on one
 *           ring or several.
 * Must not know: Python.
 *
 * Threads: one at a time in one handle, but shmipc_consumer_role_interrupt, which any thread may
 * call, and the end of a lease, which the caller must keep apart from other uses of the same
 * handle.
 */
#ifndef SHMIPC_CONSUMER_H
#define SHMIPC_CONSUMER_H

#include "role.h"
#include "wait.h"

enum shmipc_start_option { SHMIPC_START_DEFAULT, SHMIPC_START_AT_LATEST, SHMIPC_START_AT_EARLIEST };

struct shmipc_consumer_role {
    struct shmipc_ring_consumer ring; /* hot; first */
    bool asymmetric;                  /* membarrier does our half of the barrier (wait.h) */
    struct shmipc_spin spin;
    uint64_t peer_look_ns;
    uint64_t sleeps;
    uint64_t wakes;
    shmipc_atomic_u32 interrupted;
    struct shmipc_segment segment;
};

/* Attach to an existing ring; tried once. NOT_FOUND: no such ring, or one that has ended and has
 * nothing for us: try again later. BUSY: every slot is taken by a live consumer. INVALID: a durable
 * ring has no "latest". CORRUPT, OS. `consumer` must stay where it is until closed. */
enum shmipc_status shmipc_consumer_role_open(struct shmipc_consumer_role *consumer,
                                             const char *path, enum shmipc_start_option start,
                                             struct shmipc_error *error);

/* Leave. Everything not released goes to the next consumer of a durable ring. The last one out of
 * a ring that was closed, or whose producer is dead, removes the file, unless messages are owed. No
 * lease may be left. In a forked child: only forgets. */
void shmipc_consumer_role_close(struct shmipc_consumer_role *consumer);

void shmipc_consumer_role_interrupt(struct shmipc_consumer_role *consumer);

/* Slow half of release: the producer sleeps; wake it if our step from `old_pos` to the cursor was
 * the one it waits for. */
void shmipc_consumer_role_wake_producer(struct shmipc_consumer_role *consumer, uint64_t old_pos);

/* Publish the cursor. Wait-free while the producer is awake. */
static inline void shmipc_consumer_role_release(struct shmipc_consumer_role *consumer)
{
    const uint64_t old_pos = consumer->ring.cursor_pos;
    if (shmipc_ring_publish_cursor(&consumer->ring) &&
        shmipc_wait_wanted(&consumer->ring.ring.shared->space.sleepers, consumer->asymmetric)) {
        shmipc_consumer_role_wake_producer(consumer, old_pos);
    }
}

/* One slice of waiting for data. OK, TIMEOUT, AGAIN (call again), CLOSED, DIED, CORRUPT,
 * REMOVED. */
enum shmipc_status shmipc_consumer_role_wait_data(struct shmipc_consumer_role *consumer,
                                                  struct shmipc_wait *wait, uint64_t deadline_ns);

/* Nothing is ready and the caller does not want to wait: has the stream ended? OK: data came.
 * EMPTY, CLOSED, DIED, CORRUPT, REMOVED. The lock is looked at no more than once in
 * SHMIPC_SLICE_NS. */
enum shmipc_status shmipc_consumer_role_poll_peer(struct shmipc_consumer_role *consumer);

/* Poll until any of `count` consumers has data or something to report, at most about `span_ns`. OK
 * or EMPTY. No system call, and no look at a peer's lock: shmipc_consumers_wait_any does that. */
enum shmipc_status shmipc_consumers_spin_any(struct shmipc_consumer_role *const *consumers,
                                             uint32_t count, uint64_t span_ns);

/* One slice of waiting until any of `count` consumers has data, has ended or is damaged; ready[i]
 * says which.
 * OK, TIMEOUT, AGAIN. `words` and `marks` are scratch for `count` entries each. */
enum shmipc_status shmipc_consumers_wait_any(struct shmipc_consumer_role *const *consumers,
                                             uint32_t count, bool *ready, shmipc_atomic_u32 **words,
                                             uint32_t *marks, uint64_t deadline_ns);

#endif
