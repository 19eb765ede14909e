/* descriptor.c: the descriptor that holds a segment's locks: opened, listed for fork, let go. See
 * segment.h. */
#define _GNU_SOURCE
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- fork ---------------------------------------------------------------------------------- */

/* A forked child shares our open file descriptions, so its copies of the descriptors would keep
 * our locks alive after our death. The child's handler closes them and marks the handles. */
static pthread_mutex_t open_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct shmipc_segment *open_segments;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static shmipc_atomic_u32 forks; /* that lie between the first open and this process */

static void before_fork(void)
{
    (void)pthread_mutex_lock(&open_mutex);
}

static void after_fork_in_parent(void)
{
    (void)pthread_mutex_unlock(&open_mutex);
}

static void after_fork_in_child(void)
{
    /* Relaxed, as its loads: this thread is the only one there is; those to come start after. */
    shmipc_store_relaxed(&forks, shmipc_load_relaxed(&forks) + 1);
    for (struct shmipc_segment *segment = open_segments; segment != NULL; segment = segment->next) {
        segment->forked = true;
        if (segment->fd >= 0) {
            (void)close(segment->fd);
            segment->fd = -1;
        }
    }
    (void)pthread_mutex_unlock(&open_mutex);
}

uint32_t shmipc_fork_count(void)
{
    return shmipc_load_relaxed(&forks);
}

static void watch_forks(void)
{
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* open(2) and enlist as one step, so that no fork falls between them. */
void shmipc_segment_open_fd(struct shmipc_segment *segment, const char *path, int flags,
                            mode_t mode)
{
    (void)pthread_once(&fork_once, watch_forks);
    (void)pthread_mutex_lock(&open_mutex);
    do {
        segment->fd = open(path, flags, mode);
    } while (segment->fd < 0 && errno == EINTR);
    if (segment->fd >= 0) {
        segment->previous = NULL;
        segment->next = open_segments;
        if (open_segments != NULL) {
            open_segments->previous = segment;
        }
        open_segments = segment;
        segment->listed = true;
    }
    (void)pthread_mutex_unlock(&open_mutex);
}

/* The mutex is held. */
static void delist(struct shmipc_segment *segment)
{
    if (!segment->listed) {
        return;
    }
    segment->listed = false;
    if (segment->previous != NULL) {
        segment->previous->next = segment->next;
    } else if (open_segments == segment) {
        open_segments = segment->next;
    }
    if (segment->next != NULL) {
        segment->next->previous = segment->previous;
    }
    segment->previous = NULL;
    segment->next = NULL;
}

/* The mutex is held. */
static void detach(struct shmipc_segment *segment)
{
    if (segment->listed && segment->fd >= 0) { /* an unlisted struct has no descriptor of ours */
        (void)close(segment->fd);
        segment->fd = -1;
        SHMIPC_STEP(CLOSE_DETACHED);
    }
}

void shmipc_segment_detach(struct shmipc_segment *segment)
{
    /* Under the mutex: a child forked here must see the descriptor open and listed, or neither. */
    (void)pthread_mutex_lock(&open_mutex);
    detach(segment);
    (void)pthread_mutex_unlock(&open_mutex);
}

void shmipc_segment_close(struct shmipc_segment *segment)
{
    /* Under the mutex, all of it: a child forked here may close its copy of the struct, and must
     * not find it half undone: unlisted with its mark missing, or unmapped with its address. */
    (void)pthread_mutex_lock(&open_mutex);
    detach(segment);
    delist(segment);
    shmipc_fault_unwatch(segment->watch);
    segment->watch = NULL;
    if (segment->base != NULL) {
        (void)munmap(segment->base, segment->map_len);
        SHMIPC_STEP(CLOSE_UNMAPPED);
        segment->base = NULL;
        segment->header = NULL;
        segment->data = NULL;
    }
    (void)pthread_mutex_unlock(&open_mutex);
}
