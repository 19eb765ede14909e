/* descriptor.c: the descriptor that holds a segment's locks: opened, listed for fork, kept alive by
 * an anchor, compared before it is trusted, dropped. See descriptor.h. */
#define _GNU_SOURCE
#include "descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NO_ADVICE 0x7ffe /* no madvise(2) has it: EINVAL */

static pthread_mutex_t open_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct shmipc_segment *open_segments;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static shmipc_atomic_u32 forks; /* that lie between the first open and this process */

/* ---- is it still our descriptor? ------------------------------------------------------------ */

/* Does the number still stand for the file that we opened? Other code may have closed it
 * (os.closerange, a daemonising library) and opened something else. Async-signal-safe. */
static bool is_ours(const struct shmipc_segment *segment)
{
    struct stat status;
    if (fstat(segment->fd, &status) != 0) {
        return errno != EBADF; /* fstat failed: that does not mean that it was closed */
    }
    return status.st_dev == segment->device && status.st_ino == segment->inode;
}

/* Relaxed: the flag says that a number is not to be used, and nothing is read by it. Set by the
 * thread that uses the handle, or under the mutex by one that was given the same number. */
static void mark_lost(struct shmipc_segment *segment)
{
    shmipc_store_relaxed(&segment->lost, (uint32_t)segment->fd + 1);
}

static bool is_lost(const struct shmipc_segment *segment)
{
    return shmipc_load_relaxed(&segment->lost) != 0; /* relaxed: see mark_lost */
}

bool shmipc_segment_check_fd(struct shmipc_segment *segment)
{
    if (segment->fd >= 0 && !is_lost(segment) && !is_ours(segment)) {
        mark_lost(segment);
    }
    return segment->fd >= 0 && !is_lost(segment);
}

/* The mutex is held. The system gave us `fd`, so the number was free: a segment of ours that has it
 * has lost its descriptor, and could not detect that if both are opens of one file. */
static void take_number(int fd)
{
    for (struct shmipc_segment *other = open_segments; other != NULL; other = other->next) {
        if (other->fd == fd) {
            mark_lost(other);
        }
    }
}

/* ---- fork ---------------------------------------------------------------------------------- */

/* A forked child shares our open file descriptions, so its copies of the descriptors would keep
 * our locks alive after our death. The child's handler closes them and marks the handles. Anchors
 * it has not (MADV_DONTFORK): where they were is a hole that something else may fill. An emulator
 * of user mode (qemu) drops that advice and says 0; it says 0 to advice that does not exist, too,
 * and by that it is known. There the child has the anchors, and unmaps them. */
static bool advice_ignored; /* written with open_mutex held; read in a child, by its only thread */

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
        if (advice_ignored && segment->anchor != NULL) {
            (void)munmap(segment->anchor, (size_t)sysconf(_SC_PAGESIZE));
        }
        segment->anchor = NULL;
        if (shmipc_segment_check_fd(segment)) {
            (void)close(segment->fd);
        }
        segment->fd = -1;
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

/* ---- opening -------------------------------------------------------------------------------- */

/* The mutex is held. */
static int open_new(const char *path, int flags, mode_t mode)
{
    int fd;
    do {
        fd = open(path, flags, mode);
    } while (fd < 0 && errno == EINTR);
    if (fd >= 0) {
        take_number(fd);
    }
    return fd;
}

/* What is compared later. False: the system will not say; the descriptor is closed. */
static bool identify(struct shmipc_segment *segment)
{
    struct stat status;
    if (fstat(segment->fd, &status) == 0) {
        segment->device = status.st_dev;
        segment->inode = status.st_ino;
        segment->owner = status.st_uid;
        segment->named = status.st_nlink != 0;
        return true;
    }
    const int reason = errno;
    (void)close(segment->fd);
    segment->fd = -1;
    errno = reason;
    return false;
}

void shmipc_segment_open_fd(struct shmipc_segment *segment, const char *path, int flags,
                            mode_t mode)
{
    (void)pthread_once(&fork_once, watch_forks);
    /* One step, so that no fork falls between opening and enlisting. */
    (void)pthread_mutex_lock(&open_mutex);
    segment->fd = open_new(path, flags, mode);
    if (segment->fd >= 0 && identify(segment)) {
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

int shmipc_segment_open_again(const struct shmipc_segment *segment)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", segment->fd);
    (void)pthread_mutex_lock(&open_mutex);
    const int fd = open_new(path, O_RDWR | O_CLOEXEC, 0);
    (void)pthread_mutex_unlock(&open_mutex);
    return fd;
}

bool shmipc_segment_anchor(struct shmipc_segment *segment)
{
    /* Under the mutex: a child forked between the two calls would inherit the mapping. */
    (void)pthread_mutex_lock(&open_mutex);
    const size_t page_len = (size_t)sysconf(_SC_PAGESIZE);
    void *anchor = mmap(NULL, page_len, PROT_NONE, MAP_SHARED, segment->fd, 0);
    if (anchor != MAP_FAILED && madvise(anchor, page_len, MADV_DONTFORK) != 0) {
        const int reason = errno;
        (void)munmap(anchor, page_len);
        errno = reason;
        anchor = MAP_FAILED;
    }
    advice_ignored = anchor != MAP_FAILED && madvise(anchor, page_len, NO_ADVICE) == 0;
    segment->anchor = anchor != MAP_FAILED ? anchor : NULL;
    (void)pthread_mutex_unlock(&open_mutex);
    return anchor != MAP_FAILED;
}

/* ---- closing -------------------------------------------------------------------------------- */

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
        if (shmipc_segment_check_fd(segment)) {
            (void)close(segment->fd);
        }
        segment->fd = -1;
        SHMIPC_STEP(CLOSE_DETACHED);
    }
    if (segment->anchor != NULL) {
        (void)munmap(segment->anchor, (size_t)sysconf(_SC_PAGESIZE));
        segment->anchor = NULL;
        SHMIPC_STEP(CLOSE_UNANCHORED);
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
    if (segment->listed && !segment->forked) {
        shmipc_path_drop_temporary(segment->path, segment->temporary);
    }
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
