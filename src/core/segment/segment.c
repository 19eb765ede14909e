/* segment.c: the file's life: created, published, opened, removed. Names: path.c;
 * geometry: geometry.c;
 * the descriptor: descriptor.c; its memory: mapping.c; locks: locks.c; what is wrong with a file:
 * damage.c. */
#define _GNU_SOURCE
#include "segment.h"

#include "descriptor.h"
#include "file_size.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* ---- the file ------------------------------------------------------------------------------ */

static enum shmipc_status fail_for_directory(struct shmipc_error *error, enum shmipc_status status,
                                             const char *dir)
{
    return shmipc_fail(error, status, ENOENT,
                       "the segment directory %s does not exist: create it or set SHMIPC_DIR", dir);
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

enum shmipc_status shmipc_segment_fail_for_proc(struct shmipc_error *error, const char *path)
{
    /* Not ENOENT, which says that the segment is missing. */
    return shmipc_fail(error, SHMIPC_OS, ENOSYS,
                       "/proc is not mounted, or is another pid namespace's: shmipc needs "
                       "/proc/self/fd to open and to name %s. Mount it (mount -t proc proc /proc)",
                       path);
}

static enum shmipc_status remember_mode(struct shmipc_segment *segment, struct shmipc_error *error,
                                        uint64_t *file_len)
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
    segment->mode = (uint32_t)(status.st_mode & 07777);
    *file_len = (uint64_t)status.st_size;
    return SHMIPC_OK;
}

static enum shmipc_status write_all(const struct shmipc_segment *segment, const void *bytes,
                                    size_t len, uint64_t off, struct shmipc_error *error)
{
    const char *from = bytes;
    while (len > 0) {
        const ssize_t done = shmipc_file_pwrite(segment->fd, from, len, off);
        if (done < 0 && errno != EINTR) {
            return errno == EFBIG
                       ? shmipc_fail_for_size(error, segment->path, off + len)
                       : shmipc_fail(error, SHMIPC_OS, errno, "write of %s", segment->path);
        }
        if (done > 0) {
            from += done;
            off += (uint64_t)done;
            len -= (size_t)done;
        }
    }
    return SHMIPC_OK;
}

/* ---- creating ------------------------------------------------------------------------------- */

/* For a file system without O_TMPFILE (gVisor's, some overlays): a name that is no ring's. */
static void open_temporary(struct shmipc_segment *segment, mode_t mode)
{
    char path[SHMIPC_PATH_MAX + SHMIPC_TEMPORARY_MAX];
    uint64_t random;
    do {
        if (syscall(SYS_getrandom, &random, sizeof random, 0) != (long)sizeof random) {
            return;
        }
        (void)snprintf(segment->temporary, sizeof segment->temporary,
                       SHMIPC_TEMPORARY_PREFIX "%016llx.tmp", (unsigned long long)random);
        shmipc_path_temporary(segment->path, segment->temporary, path);
        shmipc_segment_open_fd(segment, path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW,
                               mode);
    } while (segment->fd < 0 && errno == EEXIST);
    segment->named = false; /* nobody knows this name */
    if (segment->fd < 0) {
        segment->temporary[0] = '\0';
    }
}

static enum shmipc_status open_new_file(struct shmipc_segment *segment, const char *dir,
                                        mode_t mode, struct shmipc_error *error)
{
    struct statfs filesystem;
    shmipc_segment_open_fd(segment, dir, O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
    if (segment->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        open_temporary(segment, mode);
    }
    if (segment->fd < 0 && errno == ENOENT) {
        return fail_for_directory(error, SHMIPC_OS, dir);
    }
    if (segment->fd < 0) {
        return shmipc_fail(error, SHMIPC_OS, errno,
                           "cannot create a segment in %s (set SHMIPC_DIR to choose another "
                           "directory)",
                           dir);
    }
    SHMIPC_STEP(CREATE_OPENED);
    if (fstatfs(segment->fd, &filesystem) == 0 && filesystem.f_type == HUGETLBFS_MAGIC) {
        return shmipc_fail(error, SHMIPC_OS, EINVAL,
                           "%s is on a hugetlbfs, whose files cannot be written as a segment is: "
                           "set SHMIPC_DIR to a tmpfs, as /dev/shm is",
                           dir);
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
    shmipc_path_directory(path, dir);
    if (shmipc_area_len_for(spec) == 0) {
        return shmipc_fail(error, SHMIPC_INVALID, 0,
                           "this capacity needs more than %llu bytes of shared memory",
                           (unsigned long long)SHMIPC_MAX_AREA_LEN);
    }
    shmipc_geometry_init(&segment->geometry, spec);
    file_len = segment->geometry.data_off + segment->geometry.area_len;

    status = open_new_file(segment, dir, (mode_t)spec->mode, error);
    if (status != SHMIPC_OK) {
        goto failed;
    }
    result = shmipc_file_reserve(segment->fd, file_len);
    if (result != 0) {
        status = result == ENOSPC ? fail_for_space(error, dir, file_len)
                 : result == EFBIG
                     ? shmipc_fail_for_size(error, segment->path, file_len)
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
        status = remember_mode(segment, error, &file_len);
    }
    if (status == SHMIPC_OK) {
        return SHMIPC_OK;
    }
failed:
    shmipc_segment_close(segment);
    return status;
}

/* Rename from the temporary name, unless the ring's name is taken. In one step where the system
 * can: a death between two would leave both names. */
static int rename_temporary(struct shmipc_segment *segment)
{
    char from[SHMIPC_PATH_MAX + SHMIPC_TEMPORARY_MAX];
    shmipc_path_temporary(segment->path, segment->temporary, from);
    if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, segment->path, RENAME_NOREPLACE) == 0) {
        segment->temporary[0] = '\0';
        return 0;
    }
    if (errno == EEXIST || link(from, segment->path) != 0) {
        return -1;
    }
    shmipc_path_drop_temporary(segment->path, segment->temporary);
    return 0;
}

static int link_unnamed(const struct shmipc_segment *segment)
{
    char from[64];
    (void)snprintf(from, sizeof from, "/proc/self/fd/%d", segment->fd);
    return linkat(AT_FDCWD, from, AT_FDCWD, segment->path, AT_SYMLINK_FOLLOW);
}

enum shmipc_status shmipc_segment_publish(struct shmipc_segment *segment,
                                          struct shmipc_error *error)
{
    if ((segment->temporary[0] != '\0' ? rename_temporary(segment) : link_unnamed(segment)) == 0) {
        segment->named = true;
        SHMIPC_STEP(CREATE_NAMED);
        return SHMIPC_OK;
    }
    const int reason = errno;
    if (reason == ENOENT && access("/proc/self/fd", F_OK) != 0 && errno == ENOENT) {
        return shmipc_segment_fail_for_proc(error, segment->path);
    }
    return shmipc_fail(error, reason == EEXIST ? SHMIPC_BUSY : SHMIPC_OS, reason,
                       "cannot name the segment %s", segment->path);
}

/* ---- opening -------------------------------------------------------------------------------- */

/* Say why open(2) failed. */
static enum shmipc_status fail_to_open(const char *path, int reason, struct shmipc_error *error)
{
    struct stat status;
    if (reason == ELOOP) {
        return shmipc_fail(error, SHMIPC_OS, reason,
                           "%s is a symbolic link, which is never followed", path);
    }
    if (reason == EROFS) {
        return shmipc_fail(error, SHMIPC_OS, reason,
                           "%s is on a file system mounted read-only: consumers need to write too "
                           "(each keeps its cursor in the file), so mount it writable",
                           path);
    }
    if (reason == EACCES && lstat(path, &status) == 0) {
        return shmipc_fail(error, SHMIPC_OS, reason,
                           "%s has mode 0%o and owner %u, and user %u may not read and write it: "
                           "consumers need both (each keeps its cursor in the file). Create it "
                           "with mode=0o660 and a common group, or 0o666",
                           path, (unsigned)(status.st_mode & 07777), (unsigned)status.st_uid,
                           (unsigned)geteuid());
    }
    return shmipc_fail(error, SHMIPC_OS, reason, "cannot open %s", path);
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
        shmipc_path_directory(path, dir);
        if (access(dir, F_OK) == 0) {
            return shmipc_fail(error, SHMIPC_NOT_FOUND, ENOENT, "there is no ring %s", path);
        }
        return fail_for_directory(error, SHMIPC_NOT_FOUND, dir);
    }
    return fail_to_open(path, errno, error);
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
    status = remember_mode(segment, error, &file_len);
    if (status == SHMIPC_OK) {
        status = shmipc_segment_read_geometry(segment, file_len, damaged, error);
    }
    if (*damaged) {
        segment->geometry.slots = SHMIPC_MAX_CONSUMERS; /* as many locks as there can be */
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

enum shmipc_status shmipc_segment_check_owner(const struct shmipc_segment *segment,
                                              struct shmipc_error *error)
{
    if (segment->owner == geteuid()) {
        return SHMIPC_OK;
    }
    return shmipc_fail(error, SHMIPC_OS, EPERM,
                       "%s belongs to user %u (mode 0%o), who could read and change what user %u "
                       "sends: use another name, set SHMIPC_DIR to a directory of your own (mode "
                       "0700), or have its owner remove it",
                       segment->path, (unsigned)segment->owner, (unsigned)segment->mode,
                       (unsigned)geteuid());
}

enum shmipc_status shmipc_segment_set_mode(struct shmipc_segment *segment, uint32_t mode,
                                           struct shmipc_error *error)
{
    if (fchmod(segment->fd, (mode_t)mode) != 0) {
        return shmipc_fail(error, SHMIPC_OS, errno, "chmod of %s", segment->path);
    }
    segment->mode = mode;
    return SHMIPC_OK;
}

enum shmipc_status shmipc_segment_dismiss(struct shmipc_segment *segment,
                                          struct shmipc_error *error)
{
    if (!shmipc_segment_is_named(segment)) {
        return SHMIPC_OK;
    }
    if (!shmipc_segment_check_fd(segment)) {
        return shmipc_segment_fail_damaged(segment, error);
    }
    if (fchmod(segment->fd, (mode_t)(segment->mode | S_ISVTX)) != 0 ||
        !shmipc_segment_unlink(segment)) {
        return shmipc_fail(error, SHMIPC_OS, errno, "cannot remove %s", segment->path);
    }
    return SHMIPC_OK;
}
