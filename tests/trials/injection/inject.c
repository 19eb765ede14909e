/*
 * inject.c: a library to preload that makes the n-th system call of the extension fail.
 *
 * Owns:     wrappers of every call that the core makes and that can fail, a counter, and which call
 *           is to fail how. Only calls out of the watched object count: the interpreter's own go
 *           through untouched.
 * Used by:  tests/trials/injection/injection.py, through ctypes. Not a test program: run.py leaves
 * it alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static void *watched; /* where the extension is loaded */
static long countdown;
static long seen;
static int reason;
static int lasting;
static const char *failed = "";

/* Calls out of the object that contains `address` are counted from now on. */
void inject_watch(const void *address);
/* Make the n-th call from now fail with `error`, and those after it too if `ever_after`. 0: none.
 */
void inject_arm(long n, int error, int ever_after);
/* End it. How many calls were seen. */
long inject_disarm(void);
/* The call that failed, or "". */
const char *inject_failed(void);

static void *object_of(const void *address)
{
    Dl_info info;
    return dladdr(address, &info) != 0 ? info.dli_fbase : NULL;
}

void inject_watch(const void *address)
{
    watched = object_of(address);
}

void inject_arm(long n, int error, int ever_after)
{
    countdown = n;
    seen = 0;
    reason = error;
    lasting = ever_after;
    failed = "";
}

long inject_disarm(void)
{
    countdown = 0;
    return seen;
}

const char *inject_failed(void)
{
    return failed;
}

static int is_to_fail(const char *name, const void *caller)
{
    if (watched == NULL || countdown == 0 || object_of(caller) != watched) {
        return 0;
    }
    seen++;
    if (seen == countdown || (lasting && seen > countdown && strcmp(name, failed) == 0)) {
        failed = name;
        errno = reason;
        return 1;
    }
    return 0;
}

#define FAILS(name) is_to_fail(name, __builtin_return_address(0))
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return FAILS("open") ? -1 : REAL(open)(path, flags, mode);
}

/* The descriptor is gone even where close reports an error. */
int close(int fd)
{
    const int fails = FAILS("close");
    const int result = REAL(close)(fd);
    errno = fails ? reason : errno;
    return fails ? -1 : result;
}

int fstat(int fd, struct stat *status)
{
    return FAILS("fstat") ? -1 : REAL(fstat)(fd, status);
}

int lstat(const char *path, struct stat *status)
{
    return FAILS("lstat") ? -1 : REAL(lstat)(path, status);
}

int access(const char *path, int mode)
{
    return FAILS("access") ? -1 : REAL(access)(path, mode);
}

int statvfs(const char *path, struct statvfs *space)
{
    return FAILS("statvfs") ? -1 : REAL(statvfs)(path, space);
}

int fstatfs(int fd, struct statfs *filesystem)
{
    return FAILS("fstatfs") ? -1 : REAL(fstatfs)(fd, filesystem);
}

int posix_fallocate(int fd, off_t off, off_t len)
{
    return FAILS("posix_fallocate") ? reason : REAL(posix_fallocate)(fd, off, len);
}

int fchmod(int fd, mode_t mode)
{
    return FAILS("fchmod") ? -1 : REAL(fchmod)(fd, mode);
}

ssize_t pread(int fd, void *to, size_t len, off_t off)
{
    return FAILS("pread") ? -1 : REAL(pread)(fd, to, len, off);
}

ssize_t pwrite(int fd, const void *from, size_t len, off_t off)
{
    return FAILS("pwrite") ? -1 : REAL(pwrite)(fd, from, len, off);
}

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
    return FAILS("mmap") ? MAP_FAILED : REAL(mmap)(at, len, prot, flags, fd, off);
}

void *mremap(void *at, size_t old_len, size_t len, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    void *to = va_arg(arguments, void *);
    va_end(arguments);
    return FAILS("mremap") ? MAP_FAILED : REAL(mremap)(at, old_len, len, flags, to);
}

int mprotect(void *at, size_t len, int prot)
{
    return FAILS("mprotect") ? -1 : REAL(mprotect)(at, len, prot);
}

int madvise(void *at, size_t len, int advice)
{
    return FAILS("madvise") ? -1 : REAL(madvise)(at, len, advice);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    return FAILS("linkat") ? -1 : REAL(linkat)(from_dir, from, to_dir, to, flags);
}

int unlink(const char *path)
{
    return FAILS("unlink") ? -1 : REAL(unlink)(path);
}

int fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return FAILS("fcntl") ? -1 : REAL(fcntl)(fd, command, argument);
}

int sigaction(int number, const struct sigaction *action, struct sigaction *before)
{
    return FAILS("sigaction") ? -1 : REAL(sigaction)(number, action, before);
}

int nanosleep(const struct timespec *span, struct timespec *left)
{
    return FAILS("nanosleep") ? -1 : REAL(nanosleep)(span, left);
}

/* membarrier, futex and futex_waitv */
long syscall(long number, ...)
{
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    const char *name = number == SYS_membarrier ? "membarrier"
                       : number == SYS_futex    ? "futex"
                                                : "futex_waitv";
    return is_to_fail(name, __builtin_return_address(0))
               ? -1
               : REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

extern void *__libc_calloc(size_t count, size_t len);

void *calloc(size_t count, size_t len)
{
    if (countdown != 0 && FAILS("calloc")) {
        return NULL;
    }
    return __libc_calloc(count, len);
}
