/*
 * locks.h: open-file-description locks on single bytes of a segment's file, and the gate.
 *
 * The bytes are an enum in layout.h. The kernel drops a lock when the last use of that open goes,
 * at the latest when the process dies: there is no heartbeat and no timer. See segment.h.
 *
 * Owns:     taking, dropping and asking for locks.
 * Must not know: what a lock stands for, except the gate.
 */
#ifndef SHMIPC_LOCKS_H
#define SHMIPC_LOCKS_H

#include "segment.h"

/* Take the lock of byte `byte`. False: somebody else has it, or the system refused; errno says
 * which. */
bool shmipc_lock_try(const struct shmipc_segment *segment, uint32_t byte);
/* Was it somebody else's? `reason` is errno. */
bool shmipc_lock_is_taken(int reason);
void shmipc_lock_drop(const struct shmipc_segment *segment, uint32_t byte);
/* Does anybody else hold a lock in [byte, byte + count)? */
bool shmipc_lock_is_held(const struct shmipc_segment *segment, uint32_t byte, uint32_t count);

/* Can the question be asked at all? Without an answer no death would be seen. OS, OK. */
enum shmipc_status shmipc_lock_probe(const struct shmipc_segment *segment,
                                     struct shmipc_error *error);

/* Try for the gate for up to 2 s: it is only ever held for microseconds, unless its holder is
 * stopped. BUSY, CORRUPT (the descriptor is lost), OS, OK. */
enum shmipc_status shmipc_gate_enter(struct shmipc_segment *segment, struct shmipc_error *error);
void shmipc_gate_leave(const struct shmipc_segment *segment);

#endif
