/*
 * consumer.h: the consuming role: one cursor of a named ring, held under a lock that the kernel
 * drops when the process dies.
 *
 * Owns:     attaching, leaving, telling the producer of room it waits for, waiting for data, and
 *           which death its user was told of. Waiting on several: waited_consumer.h. Opening one
 *           that may not exist yet: opening.h.
 * Must not know: Python.
 *
 * Threads: one at a time in one handle, but shmipc_consumer_role_interrupt, which any thread may
 * call, and the end of a lease, which the caller must keep apart from other uses of the same
 * handle.
 */
#ifndef SHMIPC_CONSUMER_H
#define SHMIPC_CONSUMER_H

#include "role.h"
#include "../wait/wait.h"

struct shmipc_consumer_role {
    struct shmipc_ring_consumer ring; /* hot; first */
    bool asymmetric;                  /* membarrier does our half of the barrier (wait.h) */
    struct shmipc_spin spin;
    uint64_t peer_look_ns;
    uint64_t sleeps;
    uint64_t wakes;
    bool told_of_death;  /* the user knows that the producer of told_epoch has died */
    uint64_t told_epoch; /* identity.epoch of that producer */
    uint64_t dead_epoch; /* ... of the one that the last look found dead */
    shmipc_atomic_u32 interrupted;
    struct shmipc_segment segment;
};

/* First half of an open: the file is open and checked, and no other process can tell. A caller that
 * wants another ring (another dtype) ends it by shmipc_segment_close, and has taken no slot.
 * NOT_FOUND, CORRUPT, OS. `consumer` must stay where it is until closed. */
enum shmipc_status shmipc_consumer_role_find(struct shmipc_consumer_role *consumer,
                                             const char *path, struct shmipc_error *error);
/* Second half: attach. NOT_FOUND: the ring went meanwhile, or has ended and has nothing for us:
 * find it again later. BUSY: every slot is taken by a live consumer. INVALID: a durable ring has no
 * "latest". CORRUPT, OS. Closed again where this fails. */
enum shmipc_status shmipc_consumer_role_join(struct shmipc_consumer_role *consumer,
                                             enum shmipc_start start, struct shmipc_error *error);

/* Both halves, tried once, for a caller that accepts any ring. */
enum shmipc_status shmipc_consumer_role_open(struct shmipc_consumer_role *consumer,
                                             const char *path, enum shmipc_start start,
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
        shmipc_wait_wanted(&consumer->ring.map.shared->space.sleepers, consumer->asymmetric)) {
        shmipc_consumer_role_wake_producer(consumer, old_pos);
    }
}

/* Poll for data, briefly where the caller is going to wait. No system call. OK, EMPTY, CORRUPT. */
static inline enum shmipc_status
shmipc_consumer_role_poll_briefly(struct shmipc_consumer_role *consumer, bool is_to_wait)
{
    const int polls = is_to_wait ? shmipc_spin_brief_polls(&consumer->spin) : 1;
    enum shmipc_status status = SHMIPC_EMPTY;
    for (int poll = 0; poll < polls && status == SHMIPC_EMPTY; poll++) {
        status = shmipc_ring_readable(&consumer->ring);
    }
    return status;
}

/* One slice of waiting for data. OK, TIMEOUT, AGAIN (call again), CLOSED, DIED, CORRUPT, REMOVED.
 * DIED is said once of each producer; from then on a wait is one for its successor. CLOSED is said
 * each time. */
enum shmipc_status shmipc_consumer_role_wait_data(struct shmipc_consumer_role *consumer,
                                                  struct shmipc_wait *wait, uint64_t deadline_ns);

/* Nothing is ready and the caller does not want to wait: has the stream ended? OK: data came.
 * EMPTY, CLOSED, DIED (once), CORRUPT, REMOVED. The lock is looked at no more than once in
 * SHMIPC_SLICE_NS. */
enum shmipc_status shmipc_consumer_role_poll_peer(struct shmipc_consumer_role *consumer);

/* Does the producer wait for room that this consumer's oldest lease keeps from it, while there is
 * nothing to read? Then, unless the lease ends, both wait for ever. `number` is that of the oldest
 * message or item kept. A hint: what stays so from one wait's slice to another is so. */
bool shmipc_consumer_role_blocks_producer(struct shmipc_consumer_role *consumer, uint64_t *number);

/* One slice of waiting until a live producer holds the ring, which it may have closed before. OK,
 * TIMEOUT, AGAIN, CLOSED (interrupted), CORRUPT. */
enum shmipc_status shmipc_consumer_role_wait_producer(struct shmipc_consumer_role *consumer,
                                                      struct shmipc_wait *wait,
                                                      uint64_t deadline_ns);

/* Is there data, the end, an error, or an interrupt? `next_look_ns`: look at the producer's lock
 * too, and if that says nothing, not again before this time; 0: do not. */
bool shmipc_consumer_role_has_news(struct shmipc_consumer_role *consumer, uint64_t next_look_ns);

#endif
