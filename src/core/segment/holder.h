/*
 * holder.h: who holds a lock, for the text of an error.
 *
 * Owns:     the look into /proc.
 * Must not know: why somebody asks. Nothing is decided by the answer.
 */
#ifndef SHMIPC_HOLDER_H
#define SHMIPC_HOLDER_H

#include "segment.h"

/* The pid that the holder of a lock has written is what it calls itself, maybe in another pid
 * namespace. HERE: a process of this number maps this file, as we see processes; ELSEWHERE: none
 * does; UNKNOWN: we may not look. Ask while the lock is held; only for words. Reads /proc. */
enum shmipc_holder { SHMIPC_HOLDER_UNKNOWN, SHMIPC_HOLDER_HERE, SHMIPC_HOLDER_ELSEWHERE };
enum shmipc_holder shmipc_holder_find(const struct shmipc_segment *segment, uint32_t pid);
/* What to say after "process PID": that it is another namespace's, or "". */
const char *shmipc_holder_note(const struct shmipc_segment *segment, uint32_t pid);

#endif
