/* segment.c: the file's life and its mapping. Names and geometry: geometry.c; locks: locks.c;
 * what is wrong with a file: damage.c. */
#define _GNU_SOURCE
#include "segment.h"

#include "file_size.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define PREFAULT_MAX_LEN (UINT64_C(64) << 20)

#ifndef MADV_POPULATE_READ /* Linux 5.14; older kernels refuse it and fault later instead */
#define MADV_POPULATE_READ 22
#endif

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
static void open_listed(struct shmipc_segment *segment, const char *path, int flags, mode_t mode)
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

    open_listed(segment, dir, O_TMPFILE | O_RDWR | O_CLOEXEC, (mode_t)spec->mode);
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
    open_listed(segment, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
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
