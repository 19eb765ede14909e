/* file_size.c: see file_size.h. */
#define _GNU_SOURCE
#include "file_size.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* What SIGXFSZ was to this thread before. */
struct held {
    sigset_t mask;
    bool pending; /* already, and so somebody else's to take */
};

static void size_signal(sigset_t *set)
{
    (void)sigemptyset(set);
    (void)sigaddset(set, SIGXFSZ);
}

static void hold(struct held *held)
{
    sigset_t signals;
    size_signal(&signals);
    (void)pthread_sigmask(SIG_BLOCK, &signals, &held->mask);
    held->pending = sigpending(&signals) == 0 && sigismember(&signals, SIGXFSZ) == 1;
}

/* `reason`: an errno. EFBIG left a signal pending, which was sent to this very thread. */
static void let_go(const struct held *held, int reason)
{
    if (reason == EFBIG && !held->pending) {
        const struct timespec none = {0};
        sigset_t signals;
        size_signal(&signals);
        while (sigtimedwait(&signals, NULL, &none) < 0 && errno == EINTR) {
        }
    }
    (void)pthread_sigmask(SIG_SETMASK, &held->mask, NULL);
}

int shmipc_file_reserve(int fd, uint64_t file_len)
{
    struct held held;
    int result;
    hold(&held);
    do {
        result = posix_fallocate(fd, 0, (off_t)file_len);
    } while (result == EINTR);
    let_go(&held, result);
    return result;
}

ssize_t shmipc_file_pwrite(int fd, const void *bytes, size_t len, uint64_t off)
{
    struct held held;
    hold(&held);
    const ssize_t done = pwrite(fd, bytes, len, (off_t)off);
    const int reason = errno;
    let_go(&held, done < 0 ? reason : 0);
    errno = reason;
    return done;
}

enum shmipc_status shmipc_fail_for_size(struct shmipc_error *error, const char *path,
                                        uint64_t file_len)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < file_len) {
        return shmipc_fail(error, SHMIPC_OS, EFBIG,
                           "this process may not make files of more than %llu bytes (RLIMIT_FSIZE, "
                           "`ulimit -f`), and %s takes %llu: raise the limit, or ask for a smaller "
                           "capacity",
                           (unsigned long long)limit.rlim_cur, path, (unsigned long long)file_len);
    }
    return shmipc_fail(error, SHMIPC_OS, EFBIG,
                       "%s would take %llu bytes, more than a file of this file system can have: "
                       "ask for a smaller capacity, or set SHMIPC_DIR to a tmpfs",
                       path, (unsigned long long)file_len);
}
