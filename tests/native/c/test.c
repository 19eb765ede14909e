/* test.c: see test.h. */
#define _GNU_SOURCE
#include "test.h"

#include "../../../src/core/segment/segment.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SLOW 1
#endif
#endif

#define TEST_DEADLINE_S 180
#define GATE_DEADLINE_MS 30000
#define SKIPPED 77 /* exit status */

static void report(const char *file, int line, const char *format, va_list arguments)
{
    char text[600];
    (void)vsnprintf(text, sizeof text, format, arguments);
    (void)fprintf(stderr, "%s:%d: %s\n", file, line, text);
}

void test_fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    report(file, line, format, arguments);
    va_end(arguments);
    _exit(1);
}

void test_skip(const char *reason)
{
    (void)fprintf(stderr, "skipped: %s\n", reason);
    _exit(SKIPPED);
}

void test_check_equal(const char *file, int line, const char *expression, uint64_t found,
                      uint64_t expected)
{
    if (found != expected) {
        test_fail(file, line, "%s is %llu (0x%llx), expected %llu (0x%llx)", expression,
                  (unsigned long long)found, (unsigned long long)found,
                  (unsigned long long)expected, (unsigned long long)expected);
    }
}

const char *test_path(const char *name)
{
    static char path[SHMIPC_PATH_MAX];
    struct shmipc_error error;
    CHECK_EQ(shmipc_segment_path(name, strlen(name), path, &error), SHMIPC_OK);
    return path;
}

bool test_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

uint64_t test_rounds(uint64_t plain)
{
#ifdef SLOW
    return plain / 8 + 1;
#else
    return plain;
#endif
}

uint64_t test_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* ---- processes ------------------------------------------------------------------------------ */

pid_t test_fork(void (*body)(void *argument), void *argument)
{
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        body(argument);
        _exit(0);
    }
    return pid;
}

static int reap(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) != pid) {
        CHECK(errno == EINTR);
    }
    return status;
}

void test_join(pid_t pid)
{
    const int status = reap(pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

void test_reap_killed(pid_t pid)
{
    const int status = reap(pid);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGKILL);
}

void test_kill(pid_t pid)
{
    CHECK_EQ(kill(pid, SIGKILL), 0);
    test_reap_killed(pid);
}

void test_gate_init(struct test_gate *gate)
{
    CHECK_EQ(pipe(gate->fds), 0);
}

void test_gate_open(const struct test_gate *gate)
{
    CHECK_EQ(write(gate->fds[1], "x", 1), 1);
}

void test_gate_pass(const struct test_gate *gate)
{
    struct pollfd readable = {.fd = gate->fds[0], .events = POLLIN};
    char byte;
    CHECK_EQ(poll(&readable, 1, GATE_DEADLINE_MS),
             1); /* 0: the process that should open it failed */
    CHECK_EQ(read(gate->fds[0], &byte, 1), 1);
}

/* ---- running -------------------------------------------------------------------------------- */

/* Entries in `dir`, which are removed. */
static int empty_directory(const char *dir, const char *test_name)
{
    int found = 0;
    DIR *stream = opendir(dir);
    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            (void)fprintf(stderr, "%s left %s behind\n", test_name, entry->d_name);
            (void)unlinkat(dirfd(stream), entry->d_name, 0);
            found++;
        }
    }
    if (stream != NULL) {
        (void)closedir(stream);
    }
    return found;
}

/* The child's exit status, or -1 if it crashed or ran past the deadline. Whatever it started is
 * gone on return. */
static int supervise(pid_t pid, const char *name)
{
    const struct timespec nap = {.tv_nsec = 2 * 1000 * 1000};
    const time_t end = time(NULL) + TEST_DEADLINE_S;
    int status = 0;
    pid_t done;
    while ((done = waitpid(pid, &status, WNOHANG)) == 0 && time(NULL) < end) {
        (void)nanosleep(&nap, NULL);
    }
    (void)kill(-pid, SIGKILL); /* grandchildren, where the test was ended by a failure */
    if (done == 0) {
        (void)fprintf(stderr, "%s did not end within %d s\n", name, TEST_DEADLINE_S);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        return -1;
    }
    if (WIFSIGNALED(status)) {
        (void)fprintf(stderr, "%s ended by signal %d\n", name, WTERMSIG(status));
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* 0: passed, SKIPPED, anything else: failed. */
static int run_one(const struct test *test)
{
    char dir[256];
    int status;
    (void)snprintf(dir, sizeof dir, "%s/shmipc-c-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(dir) == NULL || setenv("SHMIPC_DIR", dir, 1) != 0) {
        perror("a temporary directory");
        return -1;
    }
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)setpgid(0, 0);
        test->run();
        exit(0); /* not _exit: the leak check runs at exit */
    }
    status = pid > 0 ? supervise(pid, test->name) : -1;
    if (empty_directory(dir, test->name) != 0) {
        status = -1;
    }
    (void)rmdir(dir);
    (void)printf("%s %s\n", status == 0 ? "ok  " : status == SKIPPED ? "skip" : "FAIL", test->name);
    return status;
}

int test_main(int argc, char **argv, const struct test *tests, size_t count)
{
    int passed = 0;
    int skipped = 0;
    int ran = 0;
    for (size_t i = 0; i < count; i++) {
        bool wanted = argc < 2;
        for (int j = 1; j < argc; j++) {
            wanted = wanted || strcmp(argv[j], tests[i].name) == 0;
        }
        if (wanted) {
            const int status = run_one(&tests[i]);
            ran++;
            passed += status == 0 ? 1 : 0;
            skipped += status == SKIPPED ? 1 : 0;
        }
    }
    (void)printf("%d of %d passed", passed, ran);
    if (skipped > 0) {
        (void)printf(", %d skipped", skipped);
    }
    (void)printf("\n");
    return passed + skipped == ran && ran > 0 ? 0 : 1;
}
