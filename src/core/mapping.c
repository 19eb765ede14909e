/* mapping.c: a segment's memory: header and data area, the latter twice. See segment.h. */
#define _GNU_SOURCE
#include "segment.h"

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

/* A second open of the same file, to map through. A mapping holds the open it was made from, and a
 * forked child has all our mappings: made from the open that has our locks, they would keep our
 * roles alive in the child after our death. */
static int open_for_mapping(const struct shmipc_segment *segment)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", segment->fd);
    int fd;
    do {
        fd = open(path, O_RDWR | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

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

enum shmipc_status shmipc_segment_map(struct shmipc_segment *segment, bool writable,
                                      struct shmipc_error *error)
{
    const struct shmipc_geometry *geometry = &segment->geometry;
    const size_t head_len = (size_t)geometry->data_off;
    const size_t area_len = (size_t)geometry->area_len;
    const int data_prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    const size_t total = head_len + 2 * area_len;
    unsigned char *base =
        mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return shmipc_fail(error, SHMIPC_OS, errno,
                           "cannot reserve %llu bytes of address space for %s",
                           (unsigned long long)total, segment->path);
    }
    segment->base = base;
    segment->map_len = total;
    SHMIPC_STEP(MAP_RESERVED);
    const int fd = open_for_mapping(segment);
    if (fd < 0) {
        return shmipc_fail(error, SHMIPC_OS, errno,
                           errno == ENOENT
                               ? "cannot open %s once more through /proc/self/fd: is /proc mounted?"
                               : "cannot open %s once more, to map it",
                           segment->path);
    }
    SHMIPC_STEP(MAP_OPENED);
    const bool mapped = map_parts(segment, base, data_prot, fd);
    const int reason = errno;
    (void)close(fd);
    if (!mapped) {
        return shmipc_fail(error, SHMIPC_OS, reason, "cannot map %s", segment->path);
    }
    if (!shmipc_fault_watch(base, total, &segment->damaged, &segment->watch)) {
        return shmipc_fail(error, SHMIPC_OS, ENOMEM, "no memory to watch over %s", segment->path);
    }
    segment->header = (struct shmipc_header *)(void *)base;
    segment->data = base + head_len;
    SHMIPC_STEP(MAP_DONE);
    if (area_len <= PREFAULT_MAX_LEN) {
        /* The blocks exist; this fills our page tables, so that no first touch faults later. */
        (void)madvise(base, total, MADV_POPULATE_READ);
    }
    return SHMIPC_OK;
}

void shmipc_segment_privatize(struct shmipc_segment *segment)
{
    const size_t area_len = (size_t)segment->geometry.area_len;
    const int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    if (segment->data == NULL || segment->fd < 0) {
        return;
    }
    /* What was cut is not worth copying, and a copy of it would fault. */
    const int fd = shmipc_segment_is_damaged(segment) ? -1 : open_for_mapping(segment);
    for (int half = 0; half < 2; half++) {
        unsigned char *at = segment->data + (size_t)half * area_len;
        if (mmap(at, area_len, PROT_READ | PROT_WRITE, flags, fd,
                 (off_t)segment->geometry.data_off) == MAP_FAILED) {
            /* Better empty pages than none, or somebody else's. */
            (void)mmap(at, area_len, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
        }
        SHMIPC_STEP(CLOSE_PRIVATE_HALF);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}
