/*
 * fault.h: what happens when a file is truncated while we have it mapped.
 *
 * Owns:     this process's SIGBUS handler, and the list of mapped ranges that it consults.
 * Must not know: what is mapped there, or how a caller reports the damage.
 *
 * A process that may write a segment's file may also truncate it (`cp x /dev/shm/shmipc.ring`
 * does), and the next touch of a page that is gone is a SIGBUS. That cannot be prevented: seals
 * exist only for memfds, which have no name in a directory. So it is handled: on a fault inside a
 * watched range, the range's flag is set, the *whole* range is replaced by private zeros, and the
 * instruction that faulted goes on over these. Nobody crashes; the callers look at the flag after
 * they have copied or published and report Corrupt instead of zeros.
 *
 * Any other SIGBUS goes to the handler that was there before ours, or ends the process as it would
 * have. Ours is installed when the first segment is mapped, and again at a later one if somebody
 * has set SIGBUS back to its default meanwhile; a handler installed over ours is left in place, and
 * ours works as long as that one chains. Python's faulthandler chains: it prints its traceback,
 * then raises SIGBUS for its predecessor, a signal without an address; then every watched range is
 * probed.
 *
 * SHMIPC_SIGBUS=default in the environment, read once, leaves SIGBUS alone: a truncated segment
 * then kills the process. It also does where a thread has SIGBUS blocked (the kernel calls no
 * handler), and where the zeros cannot be had (RLIMIT_DATA).
 *
 * Pairing (private to the process)
 *   F1 watch: state, release fence, fields,  <-> G1 handler: state acquire, fields, acquire fence,
 *      state release                                state again
 *        a seqlock's shape: a handler never combines the fields of two ranges. Weaker: it could
 *        lay zeros over memory that is somebody else's.
 *   F2 handler: flag relaxed, then mmap      <-> G2 a copy, then: acquire fence, flag relaxed
 *        the kernel orders the flag before the zeros that it puts into the page tables; whoever
 *        copies zeros that another thread's handler laid must not have looked at the flag before.
 *        For zeros of a thread's own handler, which ran in between, the compiler's part would do.
 *   F3 unwatch: state release                <-> G3 the next claim: exchange acquire
 *        the next holder's fields come after the last one's. Weaker: a last one's field could
 *        come after, and be read as the next one's for good.
 * Each order is shown to be necessary by tests/trials/model.
 */
#ifndef SHMIPC_FAULT_H
#define SHMIPC_FAULT_H

#include "../base/atomic.h"

#include <stdbool.h>
#include <stddef.h>

struct shmipc_fault_watch; /* one watched range */

/* Watch the `len` bytes at `base`: a fault there sets *damaged to 1. `watch` is for unwatch; NULL
 * where SIGBUS is left alone. False: no memory. Any thread; a first call installs the handler. */
bool shmipc_fault_watch(void *base, size_t len, shmipc_atomic_u32 *damaged,
                        struct shmipc_fault_watch **watch);

/* Before the range is unmapped. Wait-free. Safe on NULL. */
void shmipc_fault_unwatch(struct shmipc_fault_watch *watch);

#endif
