/*
 * producer.h: the producing role: a ring that has a name, an owner that the kernel knows is alive,
 * and a way to wait for room.
 *
 * Owns:     opening (create, or take over what a dead producer left), closing, notifying, waiting,
 *           reclaiming the slots of dead consumers.
 * Must not know: Python.
 *
 * Threads: one at a time in one handle, but shmipc_producer_role_interrupt, which any thread may
 * call.
 */
#ifndef SHMIPC_PRODUCER_H
#define SHMIPC_PRODUCER_H

#include "role.h"
#include "../wait/wait.h"

struct shmipc_producer_role {
    struct shmipc_ring_producer ring; /* hot; first */
    bool asymmetric;                  /* membarrier does our half of the barrier (wait.h) */
    struct shmipc_spin spin;
    uint64_t wanted_len; /* what the wait in progress needs room for */
    uint64_t peer_look_ns;
    uint64_t sleeps;
    uint64_t wakes;
    uint64_t reclaimed; /* slots of dead consumers */
    uint32_t told_pid;  /* durable: the user knows that this consumer has died; 0: of none */
    uint32_t dead_pid;  /* ... that the last look found dead */
    bool handed_over;   /* a successor is coming: closing does not end the stream */
    bool took_over;     /* this ring was another producer's before */
    shmipc_atomic_u32 interrupted;
    struct shmipc_segment segment;
};

/* Create the ring, or take over one whose producer is gone. `producer` must stay where it is until
 * closed. BUSY: it has a live producer (named); MISMATCH: somebody uses, or still has to read, a
 * ring of another kind; INVALID, CORRUPT, OS. Blocks for microseconds (2 s if the gate's holder is
 * stopped). */
enum shmipc_status shmipc_producer_role_open(struct shmipc_producer_role *producer,
                                             const char *path, const struct shmipc_spec *spec,
                                             struct shmipc_error *error);

/* End the stream: consumers drain, then get CLOSED. Removes the file if nobody is left and nothing
 * is owed. `keep_mapping`: views of the ring live on (made private); unmap later with
 * shmipc_segment_close. In a forked child: only forgets. Idempotent. Always closes. OK, or REMOVED:
 * messages are owed that nobody can read any more, as somebody removed the file. */
enum shmipc_status shmipc_producer_role_close(struct shmipc_producer_role *producer,
                                              bool keep_mapping);

/* Make a blocked wait in another thread return CLOSED. */
void shmipc_producer_role_interrupt(struct shmipc_producer_role *producer);

/* Wake consumers if any sleeps. After every commit. Wait-free while nobody sleeps. OK, or CORRUPT:
 * the file was truncated, and what was committed may be lost. */
static inline enum shmipc_status shmipc_producer_role_notify(struct shmipc_producer_role *producer)
{
    if (shmipc_wait_wanted(&producer->ring.map.shared->data.sleepers, producer->asymmetric)) {
        producer->wakes++;
        shmipc_wait_wake(&producer->ring.map.shared->data.sleepers);
    }
    return shmipc_segment_is_damaged(&producer->segment) ? SHMIPC_CORRUPT : SHMIPC_OK;
}

/* One slice of waiting until `len` bytes can be reserved. OK, TIMEOUT, AGAIN (call again), CLOSED
 * (interrupted), DIED (the durable consumer died and the ring is full: said once of each, from then
 * on a wait is one for its successor), CORRUPT, REMOVED. */
enum shmipc_status shmipc_producer_role_wait_room(struct shmipc_producer_role *producer,
                                                  struct shmipc_wait *wait, uint64_t len,
                                                  uint64_t deadline_ns);

/* The ring is full and the caller does not want to wait: look after dead consumers now and then.
 * OK: room may have come of it, try again. FULL, DIED (once), CORRUPT, REMOVED. */
enum shmipc_status shmipc_producer_role_poll_peers(struct shmipc_producer_role *producer);

/* Does a live consumer hold this slot? A system call if the slot names one. */
bool shmipc_producer_role_is_attached(const struct shmipc_producer_role *producer, uint32_t slot);
/* Consumers attached and alive. System calls. */
uint32_t shmipc_producer_role_count_attached(const struct shmipc_producer_role *producer);

/* Who holds the ring back: the process at the slowest cursor (0: nobody is attached there, and what
 * is kept is for the next one), and how many messages or items that has not released. False: nobody
 * any more. Estimates; a system call. */
bool shmipc_producer_role_slowest(const struct shmipc_producer_role *producer, uint32_t *pid,
                                  uint64_t *lag);

/* One slice of waiting until `count` consumers are attached. OK, TIMEOUT, AGAIN, CLOSED, CORRUPT,
 * REMOVED. */
enum shmipc_status shmipc_producer_role_wait_attached(struct shmipc_producer_role *producer,
                                                      struct shmipc_wait *wait, uint32_t count,
                                                      uint64_t deadline_ns);

#endif
