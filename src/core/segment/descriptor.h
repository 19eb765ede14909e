/*
 * descriptor.h: the descriptor of a segment's file: opened, listed for fork, kept alive by an
 * anchor, compared with the file before it is trusted, dropped.
 *
 * Owns:     struct shmipc_segment's fd, anchor and links; the list of all open segments.
 * Must not know: what is in the file.
 */
#ifndef SHMIPC_DESCRIPTOR_H
#define SHMIPC_DESCRIPTOR_H

#include "segment.h"

/* open(2) into segment->fd and enlist for fork, as one step. -1 with errno. */
void shmipc_segment_open_fd(struct shmipc_segment *segment, const char *path, int flags,
                            mode_t mode);
/* The same file once more, by another open. The caller closes it. -1 with errno. */
int shmipc_segment_open_again(const struct shmipc_segment *segment);
/* Keep the open that has the locks, even if other code closes its descriptor. False with errno. */
bool shmipc_segment_anchor(struct shmipc_segment *segment);
/* Is `fd` still what we opened? False also once it is detached. A system call. */
bool shmipc_segment_check_fd(struct shmipc_segment *segment);

/* Forks since this program's first open: differs from an earlier answer in a forked child. */
uint32_t shmipc_fork_count(void);

/* Drop the descriptor and the anchor, and with them every lock; the mapping stays. */
void shmipc_segment_detach(struct shmipc_segment *segment);

#endif
