/*
 * opening.h: open a consumer of a ring that may not exist yet, with growing pauses between
 * attempts.
 *
 * Owns:     one attempt and the pause after it; which file the caller has accepted.
 * Must not know: what the caller looks at before it accepts a ring, signals, the GIL.
 *
 * The caller loops, as over the slices of a wait, and between attempts does what a library must not
 * do for it (signals, the GIL, interrupts):
 *
 *   OK, not joined   the file is open and nobody has noticed. If it is what the caller wants (its
 *                    dtype), accept it and call again; else close consumer->segment. So a consumer
 *                    that is refused has taken no slot.
 *   OK, joined       done
 *   AGAIN            paused; call again
 *   anything else    failed; NOT_FOUND: not before the deadline
 */
#ifndef SHMIPC_OPENING_H
#define SHMIPC_OPENING_H

#include "consumer.h"

struct shmipc_opening {
    const char *path;
    enum shmipc_start start;
    uint64_t deadline_ns;
    uint64_t nap_ns;
    bool found;    /* the file is open */
    bool joined;   /* out: attached */
    bool accepted; /* the caller accepts the file that these three name */
    dev_t device;
    ino_t inode;
    struct shmipc_geometry geometry; /* an inode's number may come back with another file */
};

void shmipc_opening_begin(struct shmipc_opening *opening, const char *path, enum shmipc_start start,
                          uint64_t deadline_ns);

/* The file that was found is what the caller wants. The same file is not asked about again. */
void shmipc_opening_accept(struct shmipc_opening *opening,
                           const struct shmipc_consumer_role *consumer);

/* One attempt; after NOT_FOUND and before the deadline, a pause. Blocking; the GIL must not be
 * held. `consumer` must stay where it is until closed; it is closed where this fails. */
enum shmipc_status shmipc_opening_try(struct shmipc_opening *opening,
                                      struct shmipc_consumer_role *consumer,
                                      struct shmipc_error *error);

#endif
