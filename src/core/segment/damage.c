/* damage.c: what is wrong with a segment's file: found when it is opened, or while it is in use.
 * See segment.h; fault.h for a touch of what was truncated. */
#define _GNU_SOURCE
#include "segment.h"

#include "descriptor.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* A creator reserves every block. In a file with holes a mere read takes memory that nobody has
 * granted, and is a SIGBUS where there is none. Only tmpfs counts blocks so that this can be told
 * (elsewhere they may be compressed). */
static bool has_holes(const struct shmipc_segment *segment)
{
    struct statfs filesystem;
    struct stat status;
    return fstatfs(segment->fd, &filesystem) == 0 && filesystem.f_type == TMPFS_MAGIC &&
           fstat(segment->fd, &status) == 0 && status.st_blocks < (status.st_size + 511) / 512;
}

ssize_t shmipc_segment_pread(const struct shmipc_segment *segment, void *to, size_t len,
                             uint64_t off)
{
    ssize_t got;
    do {
        got = pread(segment->fd, to, len, (off_t)off);
    } while (got < 0 && errno == EINTR);
    return got;
}

enum shmipc_status shmipc_segment_read_geometry(struct shmipc_segment *segment, uint64_t file_len,
                                                bool *damaged, struct shmipc_error *error)
{
    static const struct shmipc_geometry zeros;
    struct shmipc_geometry *geometry = &segment->geometry;
    const char *path = segment->path;
    *damaged = false;
    const ssize_t got = shmipc_segment_pread(segment, geometry, sizeof *geometry, 0);
    if (got < 0) {
        return shmipc_fail(error, SHMIPC_OS, errno, "cannot read %s", path);
    }
    if (got == 0 || memcmp(geometry, &zeros, (size_t)got) == 0) {
        *damaged = true;
        return shmipc_fail(error, SHMIPC_CORRUPT, 0,
                           "%s is no shmipc segment, or was truncated: it has no header. Remove it "
                           "(`shmipc clean --discard`) or use another name",
                           path);
    }
    if (memcmp(geometry->magic, SHMIPC_MAGIC, SHMIPC_MAGIC_LEN) != 0) {
        return shmipc_fail(error, SHMIPC_CORRUPT, 0,
                           "%s is no shmipc segment: remove the file or use another name", path);
    }
    const bool numbered = got >= (ssize_t)offsetof(struct shmipc_geometry, framing) &&
                          (geometry->version != 0 || geometry->byte_order != 0);
    if (numbered &&
        (geometry->version != SHMIPC_FORMAT_VERSION || geometry->byte_order != SHMIPC_BYTE_ORDER)) {
        return shmipc_fail(
            error, SHMIPC_CORRUPT, 0,
            "%s has segment format %u, this shmipc reads %u: use the same release on "
            "both sides, or remove the file once nobody uses it",
            path, geometry->version, SHMIPC_FORMAT_VERSION);
    }
    const char *fault = numbered && got == (ssize_t)sizeof *geometry
                            ? shmipc_geometry_fault(geometry, file_len)
                            : "it was truncated within its header";
    if (fault == NULL && has_holes(segment)) {
        fault = "it has holes, where a segment has all its memory reserved";
    }
    if (fault != NULL) {
        *damaged = true;
        return shmipc_fail(error, SHMIPC_CORRUPT, 0,
                           "%s is damaged: %s. Remove it (`shmipc clean --discard`)", path, fault);
    }
    return SHMIPC_OK;
}

enum shmipc_status shmipc_segment_examine(struct shmipc_segment *segment)
{
    const uint64_t file_len = segment->geometry.data_off + segment->geometry.area_len;
    struct stat status;
    if (shmipc_segment_state(segment) == SHMIPC_CORRUPT || segment->header == NULL ||
        !shmipc_segment_check_fd(segment)) {
        return shmipc_segment_state(segment);
    }
    /* If fstat fails, the file is not reported as truncated. The geometry is plain bytes: nobody
     * writes them once the file has a name. */
    const bool asked = fstat(segment->fd, &status) == 0;
    if ((asked && (uint64_t)status.st_size != file_len) ||
        memcmp(&segment->header->geometry, &segment->geometry, sizeof segment->geometry) != 0) {
        shmipc_store_relaxed(&segment->damaged, 1u); /* by the thread that will look at it */
    }
    if (asked && segment->named && status.st_nlink == 0 && (status.st_mode & S_ISVTX) == 0) {
        segment->removed = true;
    }
    return shmipc_segment_state(segment);
}

enum shmipc_status shmipc_segment_fail_damaged(const struct shmipc_segment *segment,
                                               struct shmipc_error *error)
{
    const uint32_t lost = shmipc_load_relaxed(&segment->lost); /* relaxed: for the text */
    if (!shmipc_segment_is_damaged(segment) && lost != 0) {
        return shmipc_fail(error, SHMIPC_CORRUPT, 0,
                           "descriptor %u of ring %s was closed by other code in this process "
                           "(os.closerange, a daemonising library): close this handle and open it "
                           "again",
                           lost - 1, segment->path);
    }
    if (!shmipc_segment_is_damaged(segment) && segment->removed) {
        return shmipc_fail(error, SHMIPC_REMOVED, 0,
                           "the file %s was removed while in use (rm, systemd-tmpfiles, systemd's "
                           "RemoveIPC): whoever opens that name now gets another ring. Close this "
                           "handle and its peers, and open them again; under systemd set "
                           "RemoveIPC=no in logind.conf",
                           segment->path);
    }
    return shmipc_fail(error, SHMIPC_CORRUPT, 0,
                       "%s was truncated while in use, and what was in it is gone. Close it on all "
                       "sides and remove it (`shmipc clean --discard`)",
                       segment->path);
}

enum shmipc_status shmipc_segment_fail_undelivered(const struct shmipc_segment *segment,
                                                   struct shmipc_error *error)
{
    return shmipc_fail(error, SHMIPC_REMOVED, 0,
                       "the file %s was removed while in use (rm, systemd-tmpfiles, systemd's "
                       "RemoveIPC), and messages that no consumer had read went with it: this "
                       "producer is closed, but send them again. Under systemd set RemoveIPC=no in "
                       "logind.conf",
                       segment->path);
}
