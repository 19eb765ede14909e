/* mapping.c: a segment's memory: header and data area, the latter twice. See segment.h. */
#define _GNU_SOURCE
#include "segment.h"

#include "descriptor.h"
#include "locks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PREFAULT_MAX_LEN (UINT64_C(64) << 20)

#ifndef MADV_POPULATE_READ /* Linux 5.14; older kernels refuse it and fault later instead */
#define MADV_POPULATE_READ 22
#endif

static bool map_parts(const struct shmipc_segment *segment, unsigned char *base, int data_prot,
                      int fd)
{
    const size_t head_len = (size_t)segment->geometry.data_off;
    const size_t area_len = (size_t)segment->geometry.area_len;
    const int flags = MAP_SHARED | MAP_FIXED;
    return mmap(base, head_len, PROT_READ | PROT_WRITE, flags, fd, 0) != MAP_FAILED &&
           mmap(base + head_len, area_len, data_prot, flags, fd, (off_t)head_len) != MAP_FAILED &&
           mmap(base + head_len + area_len, area_len, data_prot, flags, fd, (off_t)head_len) !=
               MAP_FAILED;
}

/* mmap says EAGAIN where memory is to be locked (mlockall(MCL_FUTURE)) beyond RLIMIT_MEMLOCK. */
static enum shmipc_status fail_to_map(const struct shmipc_segment *segment, int reason,
                                      struct shmipc_error *error)
{
    const unsigned long long len = (unsigned long long)segment->map_len;
    if (reason == EAGAIN) {
        return shmipc_fail(error, SHMIPC_OS, reason,
                           "cannot lock the %llu bytes of %s in memory, as mlockall(MCL_FUTURE) "
                           "asks for: raise RLIMIT_MEMLOCK (ulimit -l) or ask for a smaller "
                           "capacity",
                           len, segment->path);
    }
    if (reason == ENOMEM) {
        return shmipc_fail(error, SHMIPC_OS, reason,
                           "no address space for the %llu bytes of %s: raise RLIMIT_AS (ulimit "
                           "-v) or ask for a smaller capacity",
                           len, segment->path);
    }
    return shmipc_fail(error, SHMIPC_OS, reason, "cannot map %s", segment->path);
}

/* Map through an open of its own. A mapping holds the open it was made from, and a forked child has
 * all our mappings: made from the open that has our locks, they would keep our roles alive in the
 * child after our death. */
static enum shmipc_status map_through_second_open(const struct shmipc_segment *segment,
                                                  int data_prot, struct shmipc_error *error)
{
    const int fd = shmipc_segment_open_again(segment);
    if (fd < 0 && errno == ENOENT) { /* what our own descriptor leads to is always there */
        return shmipc_segment_fail_for_proc(error, segment->path);
    }
    if (fd < 0) {
        return shmipc_fail(error, SHMIPC_OS, errno, "cannot open %s once more, to map it",
                           segment->path);
    }
    SHMIPC_STEP(MAP_OPENED);
    const bool mapped = map_parts(segment, segment->base, data_prot, fd);
    const int reason = errno;
    (void)close(fd);
    return mapped ? SHMIPC_OK : fail_to_map(segment, reason, error);
}

enum shmipc_status shmipc_segment_map(struct shmipc_segment *segment, bool writable,
                                      struct shmipc_error *error)
{
    const size_t head_len = (size_t)segment->geometry.data_off;
    const size_t area_len = (size_t)segment->geometry.area_len;
    enum shmipc_status status = shmipc_lock_probe(segment, error);
    if (status != SHMIPC_OK) {
        return status;
    }
    segment->map_len = head_len + 2 * area_len;
    unsigned char *base =
        mmap(NULL, segment->map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return fail_to_map(segment, errno, error);
    }
    segment->base = base;
    SHMIPC_STEP(MAP_RESERVED);
    if (!shmipc_segment_anchor(segment)) {
        return fail_to_map(segment, errno, error);
    }
    SHMIPC_STEP(MAP_ANCHORED);
    status = map_through_second_open(segment, writable ? PROT_READ | PROT_WRITE : PROT_READ, error);
    if (status != SHMIPC_OK) {
        return status;
    }
    if (!shmipc_fault_watch(base, segment->map_len, &segment->damaged, &segment->watch)) {
        return shmipc_fail(error, SHMIPC_OS, ENOMEM, "no memory to watch over %s", segment->path);
    }
    segment->header = (struct shmipc_header *)(void *)base;
    segment->data = base + head_len;
    SHMIPC_STEP(MAP_DONE);
    if (area_len <= PREFAULT_MAX_LEN) {
        /* The blocks exist; this fills our page tables, so that no first touch faults later. */
        (void)madvise(base, segment->map_len, MADV_POPULATE_READ);
    }
    return SHMIPC_OK;
}

/* ---- a private copy ------------------------------------------------------------------------- */

/* Replace the `len` bytes at `at` by memory of this process's own, with what is mapped there now;
 * with zeros where the file was truncated. Shared and anonymous, so that it can be mapped twice.
 * Needs no descriptor, no /proc and no permission. False: no memory; all is as it was. */
static bool copy_over(const struct shmipc_segment *segment, unsigned char *at, size_t len)
{
    unsigned char *copy =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) {
        return false;
    }
    if (!shmipc_segment_is_damaged(segment)) { /* a copy of what was truncated would fault */
        memcpy(copy, at, len);
    }
    if (mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED) {
        (void)munmap(copy, len);
        return false;
    }
    return true;
}

void shmipc_segment_privatize(struct shmipc_segment *segment)
{
    const size_t len = (size_t)segment->geometry.area_len;
    unsigned char *at = segment->data;
    if (at == NULL) {
        return;
    }
    bool done = copy_over(segment, at, len);
    if (done) {
        SHMIPC_STEP(CLOSE_PRIVATE_HALF);
        /* An old length of 0 maps the same memory once more. Where that is refused, a second copy:
         * views are contiguous, so none looks at both. */
        done = mremap(at, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, at + len) != MAP_FAILED ||
               copy_over(segment, at + len, len);
    }
    if (!done) {
        /* No memory: nobody else's bytes are to be shown as ours, and none of ours are to reach
         * anybody. What is shared stays as it is, readable. */
        (void)mprotect(at, 2 * len, PROT_READ);
    }
    SHMIPC_STEP(CLOSE_PRIVATE_HALF);
}
