/* test_file_size.c: the process's limit on file sizes, whose signal ends it by default. */
#define _GNU_SOURCE
#include "../../../src/core/segment/file_size.h"
#include "api.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LIMIT 65536u

static void set_limit(rlim_t len)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = len;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static bool is_pending(void)
{
    sigset_t pending;
    CHECK(sigpending(&pending) == 0);
    return sigismember(&pending, SIGXFSZ) == 1;
}

static bool is_blocked(void)
{
    sigset_t mask;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0);
    return sigismember(&mask, SIGXFSZ) == 1;
}

static void block(void)
{
    sigset_t mask;
    CHECK(sigemptyset(&mask) == 0 && sigaddset(&mask, SIGXFSZ) == 0);
    CHECK(pthread_sigmask(SIG_BLOCK, &mask, NULL) == 0);
}

/* A ring that is too large is refused in words, and one that is not is made. */
static void refuse_a_large_ring(void)
{
    struct shmipc_producer_options options;
    struct shmipc_producer *producer;
    shmipc_producer_options_init(&options);
    options.capacity = 1 << 20;
    CHECK_RESULT(shmipc_producer_open(&producer, "x", &options), SHMIPC_E_OS);
    CHECK_EQ(shmipc_last_errno(), EFBIG);
    SAID("RLIMIT_FSIZE");
    SAID("65536 bytes");
    SAID("shmipc.x takes");
    options.capacity = 4096;
    DONE(shmipc_producer_open(&producer, "x", &options));
    shmipc_producer_free(producer);
}

static void test_limit_is_an_error_and_no_signal(void)
{
    set_limit(LIMIT);
    refuse_a_large_ring(); /* by default the signal would end this process */
    CHECK(!is_pending() && !is_blocked());
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

static void test_users_handler_hears_nothing_of_it(void)
{
    CHECK(signal(SIGXFSZ, count_signal) != SIG_ERR);
    set_limit(LIMIT);
    refuse_a_large_ring();
    CHECK_EQ(signals, 0);
    CHECK(raise(SIGXFSZ) == 0); /* and is still there for what is not ours */
    CHECK_EQ(signals, 1);
}

static void test_users_pending_signal_stays(void)
{
    block();
    set_limit(LIMIT);
    refuse_a_large_ring();
    CHECK(is_blocked() && !is_pending());
    CHECK(raise(SIGXFSZ) == 0 && is_pending());
    refuse_a_large_ring();
    CHECK(is_blocked() && is_pending());
}

static void test_ignored_signal_stays_ignored(void)
{
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    set_limit(LIMIT);
    refuse_a_large_ring();
    CHECK(!is_pending() && !is_blocked());
    CHECK(signal(SIGXFSZ, SIG_DFL) == SIG_IGN);
}

/* The limit may be lowered by another thread between reserving and writing. */
static void test_write_past_a_lowered_limit_is_an_error(void)
{
    const char *path = test_path("x");
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && unlink(path) == 0);
    CHECK_EQ(shmipc_file_reserve(fd, LIMIT), 0);
    set_limit(4096);
    CHECK_EQ(shmipc_file_pwrite(fd, "whole", 5, 4091), 5);
    errno = 0;
    CHECK(shmipc_file_pwrite(fd, "none", 4, 4096) == -1 && errno == EFBIG);
    CHECK_EQ(shmipc_file_reserve(fd, 2 * LIMIT), EFBIG);
    CHECK(!is_pending() && !is_blocked());
    CHECK(close(fd) == 0);
}

static void test_file_systems_own_limit_is_not_called_the_processs(void)
{
    struct shmipc_error error;
    CHECK_EQ(shmipc_fail_for_size(&error, "/dir/shmipc.x", LIMIT), SHMIPC_OS);
    CHECK_EQ(error.os_error, EFBIG);
    CHECK(strstr(error.text, "/dir/shmipc.x") != NULL && strstr(error.text, "RLIMIT") == NULL);
}

int main(int argc, char **argv)
{
    static const struct test tests[] = {
        TEST(test_limit_is_an_error_and_no_signal),
        TEST(test_users_handler_hears_nothing_of_it),
        TEST(test_users_pending_signal_stays),
        TEST(test_ignored_signal_stays_ignored),
        TEST(test_write_past_a_lowered_limit_is_an_error),
        TEST(test_file_systems_own_limit_is_not_called_the_processs),
    };
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
