/* locks.c: see locks.h. */
#define _GNU_SOURCE
#include "locks.h"
#include "descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define GATE_TRIES 2000
#define DROP_TRIES 100
#define GATE_NAP_NS 1000000L

#ifndef F_OFD_SETLK
#error "shmipc needs open-file-description locks (Linux 3.15, glibc 2.20)"
#endif

static struct flock lock_of(short type, uint32_t byte, uint32_t count)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = (off_t)count};
}

/* -1, which every call refuses, once the descriptor is known to be lost. */
static int lock_fd(const struct shmipc_segment *segment)
{
    return shmipc_load_relaxed(&segment->lost) != 0 ? -1 : segment->fd; /* relaxed: as its store */
}

bool shmipc_lock_is_taken(int reason)
{
    return reason == EAGAIN || reason == EACCES;
}

bool shmipc_lock_try(const struct shmipc_segment *segment, uint32_t byte)
{
    struct flock lock = lock_of(F_WRLCK, byte, 1);
    int result;
    do {
        result = fcntl(lock_fd(segment), F_OFD_SETLK, &lock);
    } while (result != 0 && errno == EINTR);
    return result == 0;
}

void shmipc_lock_drop(const struct shmipc_segment *segment, uint32_t byte)
{
    /* A gate that stays locked stops all processes, so a passing failure (a signal, no memory for
     * the kernel's list of locks) is retried. */
    for (int i = 0; i < DROP_TRIES; i++) {
        struct flock lock = lock_of(F_UNLCK, byte, 1);
        if (fcntl(lock_fd(segment), F_OFD_SETLK, &lock) == 0 || errno == EBADF) {
            return;
        }
    }
}

bool shmipc_lock_is_held(const struct shmipc_segment *segment, uint32_t byte, uint32_t count)
{
    struct flock lock = lock_of(F_WRLCK, byte, count);
    /* If the call fails (it never does on a valid descriptor), that must not look like a death. */
    return fcntl(lock_fd(segment), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

enum shmipc_status shmipc_lock_probe(const struct shmipc_segment *segment,
                                     struct shmipc_error *error)
{
    struct flock lock = lock_of(F_WRLCK, SHMIPC_LOCK_GATE, 1);
    if (fcntl(lock_fd(segment), F_OFD_GETLK, &lock) == 0) {
        return SHMIPC_OK;
    }
    return shmipc_fail(error, SHMIPC_OS, errno,
                       "the system does not tell who holds a lock of %s (fcntl F_OFD_GETLK), so "
                       "nobody would notice a peer's death: allow that call, or set SHMIPC_DIR to "
                       "a file system that has it (tmpfs)",
                       segment->path);
}

enum shmipc_status shmipc_gate_enter(struct shmipc_segment *segment, struct shmipc_error *error)
{
    const struct timespec nap = {.tv_nsec = GATE_NAP_NS};
    if (!shmipc_segment_check_fd(segment)) {
        return shmipc_segment_fail_damaged(segment, error);
    }
    for (int i = 0; i < GATE_TRIES; i++) {
        if (shmipc_lock_try(segment, SHMIPC_LOCK_GATE)) {
            SHMIPC_STEP(ATTACH_GATED);
            return SHMIPC_OK;
        }
        const int reason = errno;
        if (!shmipc_lock_is_taken(reason)) {
            return shmipc_fail(error, SHMIPC_OS, reason, "cannot lock %s", segment->path);
        }
        (void)nanosleep(&nap, NULL);
    }
    return shmipc_fail(error, SHMIPC_BUSY, 0,
                       "some process has held the gate of %s for 2 s: is it stopped (SIGSTOP, a "
                       "debugger)?",
                       segment->path);
}

void shmipc_gate_leave(const struct shmipc_segment *segment)
{
    shmipc_lock_drop(segment, SHMIPC_LOCK_GATE);
    SHMIPC_STEP(ATTACH_UNGATED);
}
