/*
 * kernel.h: the system that a modelled ring runs on: one segment, its locks, futexes, membarrier.
 *
 * Owns:     what stands in for segment.c, locks.c and futex.c. What we assume of the real ones:
 *           taking a free lock (or finding it free) makes visible what its last holder did before
 * it let go or died; futex_wait compares and falls asleep in one step with regard to futex_wake;
 * membarrier runs a full barrier in each thread of each registered process, one after the other. No
 * sleep ends by itself, but once nobody else could go on, in scenarios that count on the 50 ms look
 * at a peer. Must not know: what a scenario proves.
 */
#ifndef SHMIPC_MODEL_KERNEL_H
#define SHMIPC_MODEL_KERNEL_H

#include "machine.h"
#include "../../../src/core/segment/descriptor.h"
#include "../../../src/core/segment/holder.h"
#include "../../../src/core/segment/locks.h"

/* A new segment, with nobody attached. `area_len`: 32 bytes and more, a power of two. */
void kernel_create(enum shmipc_framing framing, enum shmipc_overflow overflow, uint32_t slots,
                   uint64_t item_len, uint64_t area_len, uint64_t origin_pos);

/* Roles opened in set_up belong to this thread. */
void kernel_act_as(int thread);

void kernel_allow_membarrier(int registered_threads, bool callable);
void kernel_let_slices_end(void);
void kernel_let_clock_run(void); /* a step at every look; it stands still otherwise */

/* A killed thread's part: its locks go. */
void kernel_bury(int thread);

bool kernel_is_named(void);
bool kernel_has_locks(void);

extern struct shmipc_header *const kernel_header;

#endif
