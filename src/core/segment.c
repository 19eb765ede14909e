/* segment.c: the file's life: created, published, opened, removed. Names and geometry: geometry.c;
 * the descriptor: descriptor.c; its memory: mapping.c; locks: locks.c; what is wrong with a file:
 * damage.c. */
#define _GNU_SOURCE
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- the file ------------------------------------------------------------------------------ */

static void directory_of(const char *path, char dir[SHMIPC_PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        (void)snprintf(dir, SHMIPC_PATH_MAX, ".");
        return;
    }
    const size_t len = slash != path ? (size_t)(slash - path) : 1;
    memcpy(dir, path, len);
    dir[len] = '\0';
}

static enum shmipc_status fail_for_space(struct shmipc_error *error, const char *dir,
                                         uint64_t file_len)
{
    struct statvfs space;
    const uint64_t free_len =
        statvfs(dir, &space) == 0 ? (uint64_t)space.f_bavail * (uint64_t)space.f_frsize : 0;
    return shmipc_fail(
        error, SHMIPC_OS, ENOSPC,
        "%s has no room for this segment: %llu bytes asked, %llu free. Ask for a "
        "smaller capacity, remove stale segments with `shmipc clean`, set SHMIPC_DIR "
        "to a larger tmpfs, or in Docker raise --shm-size",
        dir, (unsigned long long)file_len, (unsigned long long)free_len);
}

static enum shmipc_status remember_identity(struct shmipc_segment *segment,
                                            struct shmipc_error *error, uint64_t *file_len)
{
    struct stat status;
    if (fstat(segment->fd, &status) != 0) {
        return shmipc_fail(error, SHMIPC_OS, errno, "fstat of %s", segment->path);
    }
    if (!S_ISREG(status.st_mode)) {
        return shmipc_fail(error, SHMIPC_CORRUPT, 0,
                           "%s is not a regular file, so not a segment: remove it or use another "
                           "name",
                           segment->path);
    }
    segment->device = status.st_dev;
    segment->inode = status.st_ino;
    segment->mode = (uint32_t)(status.st_mode & 07777);
    *file_len = (uint64_t)status.st_size;
    return SHMIPC_OK;
}

static enum shmipc_status write_all(const struct shmipc_segment *segment, const void *bytes,
                                    size_t len, uint64_t off, struct shmipc_error *error)
{
    const char *from = bytes;
    while (len > 0) {
        const ssize_t done = pwrite(segment->fd, from, len, (off_t)off);
        if (done < 0 && errno != EINTR) {
            return shmipc_fail(error, SHMIPC_OS, errno, "write of %s", segment->path);
        }
        if (done > 0) {
            from += done;
            off += (uint64_t)done;
            len -= (size_t)done;
        }
    }
    return SHMIPC_OK;
}

enum shmipc_status shmipc_segment_create(struct shmipc_segment *segment, const char *path,
                                         const struct shmipc_spec *spec, struct shmipc_error *error)
{
    char dir[SHMIPC_PATH_MAX];
    enum shmipc_status status;
    uint64_t file_len;
    int result;

    memset(segment, 0, sizeof *segment);
    segment->fd = -1;
    (void)snprintf(segment->path, sizeof segment->path, "%s", path);
    directory_of(path, dir);
    if (shmipc_area_len_for(spec) == 0) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "this capacity needs more than %llu bytes of shared memory",
                           (unsigned long long)SHMIPC_MAX_AREA_LEN);
    }
    shmipc_geometry_init(&segment->geometry, spec);
    file_len = segment->geometry.data_off + segment->geometry.area_len;

    shmipc_segment_open_fd(segment, dir, O_TMPFILE | O_RDWR | O_CLOEXEC, (mode_t)spec->mode);
    if (segment->fd < 0) {
        return shmipc_fail(error, SHMIPC_OS, errno,
                           errno == EOPNOTSUPP || errno == EISDIR
                               ? "%s cannot hold unnamed files (O_TMPFILE): set SHMIPC_DIR to a "
                                 "tmpfs, as /dev/shm is"
                               : "cannot create a segment in %s (set SHMIPC_DIR to choose another "
                                 "directory)",
                           dir);
    }
    SHMIPC_STEP(CREATE_OPENED);
    do {
        result = posix_fallocate(segment->fd, 0, (off_t)file_len);
    } while (result == EINTR);
    if (result != 0) {
        status = result == ENOSPC || result == EFBIG
                     ? fail_for_space(error, dir, file_len)
                     : shmipc_fail(error, SHMIPC_OS, result, "cannot reserve %llu bytes in %s",
                                   (unsigned long long)file_len, dir);
        goto failed;
    }
    SHMIPC_STEP(CREATE_RESERVED);
    if (fchmod(segment->fd, (mode_t)spec->mode) != 0) { /* past the umask: mode= is the truth */
        status = shmipc_fail(error, SHMIPC_OS, errno, "chmod of a segment in %s", dir);
        goto failed;
    }
    status = write_all(segment, &segment->geometry, sizeof segment->geometry, 0, error);
    SHMIPC_STEP(CREATE_GEOMETRY);
    if (status == SHMIPC_OK) {
        status =
            write_all(segment, spec->schema, spec->schema_len, segment->geometry.schema_off, error);
    }
    if (status == SHMIPC_OK) {
        SHMIPC_STEP(CREATE_WRITTEN);
        status = remember_identity(segment, error, &file_len);
    }
    if (status == SHMIPC_OK) {
        return SHMIPC_OK;
    }
failed:
    shmipc_segment_close(segment);
    return status;
}

enum shmipc_status shmipc_segment_publish(struct shmipc_segment *segment,
                                          struct shmipc_error *error)
{
    char from[64];
    (void)snprintf(from, sizeof from, "/proc/self/fd/%d", segment->fd);
    if (linkat(AT_FDCWD, from, AT_FDCWD, segment->path, AT_SYMLINK_FOLLOW) == 0) {
        SHMIPC_STEP(CREATE_NAMED);
        return SHMIPC_OK;
    }
    return shmipc_fail(error, errno == EEXIST ? SHMIPC_BUSY : SHMIPC_OS, errno,
                       errno == ENOENT ? "cannot name the segment %s: is /proc mounted?"
                                       : "cannot name the segment %s",
                       segment->path);
}

static enum shmipc_status open_file(struct shmipc_segment *segment, const char *path,
                                    struct shmipc_error *error)
{
    memset(segment, 0, sizeof *segment);
    (void)snprintf(segment->path, sizeof segment->path, "%s", path);
    shmipc_segment_open_fd(segment, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                           0);
    if (segment->fd >= 0) {
        return SHMIPC_OK;
    }
    if (errno == ENOENT) {
        char dir[SHMIPC_PATH_MAX];
        directory_of(path, dir);
        if (access(dir, F_OK) == 0) {
            return shmipc_fail(error, SHMIPC_NOT_FOUND, ENOENT, "there is no ring %s", path);
        }
        return shmipc_fail(error, SHMIPC_OS, ENOENT,
                           "the segment directory %s does not exist: create it or set SHMIPC_DIR",
                           dir);
    }
    return shmipc_fail(
        error, SHMIPC_OS, errno,
        errno == ELOOP ? "%s is a symbolic link, which is never followed" : "cannot open %s", path);
}

enum shmipc_status shmipc_segment_open_damaged(struct shmipc_segment *segment, const char *path,
                                               bool *damaged, struct shmipc_error *error)
{
    uint64_t file_len = 0;
    enum shmipc_status status = open_file(segment, path, error);
    *damaged = false;
    if (status != SHMIPC_OK) {
        return status;
    }
    SHMIPC_STEP(ATTACH_OPENED);
    status = remember_identity(segment, error, &file_len);
    if (status == SHMIPC_OK) {
        status = shmipc_segment_read_geometry(segment, file_len, damaged, error);
    }
    if (*damaged) {
        segment->geometry.slots = SHMIPC_MAX_CONSUMERS; /* so many locks there may be */
        return SHMIPC_OK;
    }
    if (status != SHMIPC_OK) {
        shmipc_segment_close(segment);
        return status;
    }
    SHMIPC_STEP(ATTACH_CHECKED);
    return SHMIPC_OK;
}

enum shmipc_status shmipc_segment_open(struct shmipc_segment *segment, const char *path,
                                       struct shmipc_error *error)
{
    bool damaged;
    enum shmipc_status status = shmipc_segment_open_damaged(segment, path, &damaged, error);
    if (status == SHMIPC_OK && damaged) {
        shmipc_segment_close(segment);
        status = SHMIPC_CORRUPT; /* `error` says of what kind */
    }
    return status;
}

enum shmipc_status shmipc_segment_read_schema(const struct shmipc_segment *segment, char *schema,
                                              struct shmipc_error *error)
{
    const struct shmipc_geometry *geometry = &segment->geometry;
    const size_t len = geometry->schema_len;
    const ssize_t got = shmipc_segment_pread(segment, schema, len, geometry->schema_off);
    if (got < 0) {
        return shmipc_fail(error, SHMIPC_OS, errno, "cannot read %s", segment->path);
    }
    if (got != (ssize_t)len || shmipc_schema_hash(schema, len) != geometry->schema_hash) {
        return shmipc_fail(error, SHMIPC_CORRUPT, 0,
                           "%s is damaged: its schema does not match its hash. Remove it (`shmipc "
                           "clean --discard`)",
                           segment->path);
    }
    return SHMIPC_OK;
}

bool shmipc_segment_is_named(const struct shmipc_segment *segment)
{
    struct stat status;
    return lstat(segment->path, &status) == 0 && status.st_ino == segment->inode &&
           status.st_dev == segment->device;
}

bool shmipc_segment_unlink(const struct shmipc_segment *segment)
{
    if (!shmipc_segment_is_named(segment)) {
        return true;
    }
    SHMIPC_STEP(UNLINK_NAMED);
    if (unlink(segment->path) != 0) {
        return false;
    }
    SHMIPC_STEP(UNLINK_DONE);
    return true;
}
