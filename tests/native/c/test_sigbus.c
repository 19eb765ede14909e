/* Every SIGBUS that is none of our business, and handlers that came before or after ours. */
#define _GNU_SOURCE
#include "rig.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_HANDLER_BEFORE_US 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_HANDLER_BEFORE_US 1
#endif
#endif

static off_t page(void)
{
    return (off_t)sysconf(_SC_PAGESIZE);
}

/* ---- the process ends as it would have ------------------------------------------------------ */

static unsigned char *map_foreign_cut(void)
{
    const int fd = open(getenv("SHMIPC_DIR"), O_TMPFILE | O_RDWR, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, page()), 0);
    unsigned char *at = mmap(NULL, (size_t)page(), PROT_READ, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    CHECK_EQ(ftruncate(fd, 0), 0);
    return at;
}

static void open_a_rig(void)
{
    static bool is_open; /* one struct is opened once */
    static struct rig rig;
    struct shmipc_spec spec = rig_message_spec(1);
    const struct rlimit none = {0, 0};
    CHECK_EQ(setrlimit(RLIMIT_CORE, &none), 0);
    if (!is_open) {
        is_open = true;
        rig_open(&rig, &spec);
    }
}

static void die_of_a_foreign_fault(void *argument)
{
    (void)argument;
    open_a_rig();
    volatile unsigned char *at = map_foreign_cut();
    (void)*at;
}

static void die_of_a_sent_signal(void *argument)
{
    (void)argument;
    open_a_rig();
    CHECK_EQ(kill(getpid(), SIGBUS), 0);
}

static void die_of_a_raised_signal(void *argument)
{
    (void)argument;
    open_a_rig();
    CHECK_EQ(raise(SIGBUS), 0);
}

static void ignore_a_sent_signal_and_die_of_a_fault(void *argument)
{
    CHECK(signal(SIGBUS, SIG_IGN) != SIG_ERR);
    open_a_rig();
    CHECK_EQ(kill(getpid(), SIGBUS), 0);
    CHECK_EQ(raise(SIGBUS), 0);
    die_of_a_foreign_fault(argument);
}

static void die_of_our_own_where_it_was_asked_for(void *argument)
{
    struct shmipc_spec spec = rig_message_spec(1);
    static struct rig rig;
    (void)argument;
    CHECK_EQ(setenv("SHMIPC_SIGBUS", "default", 1), 0);
    open_a_rig();
    rig_open(&rig, &spec);
    CHECK_EQ(ftruncate(rig.segment.fd, 0), 0);
    rig.segment.data[0] = 1;
}

/* A program that reset SIGBUS gets ours again with the next segment, and the default behind it. */
static void die_after_a_reset(void *argument)
{
    static struct rig rig;
    struct shmipc_spec spec = rig_message_spec(1);
    open_a_rig();
    CHECK(signal(SIGBUS, SIG_DFL) != SIG_ERR);
    rig_open(&rig, &spec);
    CHECK_EQ(ftruncate(rig.segment.fd, 0), 0);
    rig.segment.data[0] = 1;
    CHECK(shmipc_segment_is_damaged(&rig.segment));
    die_of_a_foreign_fault(argument);
}

static void test_foreign_bus_error_ends_the_process_as_ever(void)
{
    static void (*const deaths[])(void *) = {die_of_a_foreign_fault,
                                             die_of_a_sent_signal,
                                             die_of_a_raised_signal,
                                             ignore_a_sent_signal_and_die_of_a_fault,
                                             die_of_our_own_where_it_was_asked_for,
                                             die_after_a_reset};
    for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++) {
        int status = 0;
        const pid_t pid = test_fork(deaths[i], NULL);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
#ifdef HAS_HANDLER_BEFORE_US /* it reports, and exits */
        CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) != 0);
#else
        CHECK(WIFSIGNALED(status));
        CHECK_EQ(WTERMSIG(status), SIGBUS);
#endif
    }
}

static volatile sig_atomic_t handled;
static void *volatile handled_at;

static void count_and_exit_at_the_third(int number)
{
    if (++handled == 3) {
        _exit(number == SIGBUS ? 42 : 1);
    }
}

static void repair_it(int number, siginfo_t *info, void *context)
{
    (void)context;
    handled_at = info->si_addr;
    handled = handled + (number == SIGBUS ? 1 : 100);
    if (mmap(info->si_addr, (size_t)page(), PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1,
             0) == MAP_FAILED) {
        _exit(1);
    }
}

static void call_a_plain_handler(void *argument)
{
    CHECK(signal(SIGBUS, count_and_exit_at_the_third) != SIG_ERR);
    open_a_rig();
    CHECK_EQ(kill(getpid(), SIGBUS), 0);
    CHECK_EQ(raise(SIGBUS), 0);
    CHECK_EQ(handled, 2);
    die_of_a_foreign_fault(argument); /* the third */
}

static void call_a_handler_that_repairs(void *argument)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO};
    static struct rig rig;
    struct shmipc_spec spec = rig_message_spec(1);
    (void)argument;
    action.sa_sigaction = repair_it;
    CHECK_EQ(sigaction(SIGBUS, &action, NULL), 0);
    open_a_rig();
    volatile unsigned char *at = map_foreign_cut();
    CHECK_EQ(*at, 0);
    CHECK_EQ(handled, 1);
    CHECK(handled_at == at);
    rig_open(&rig, &spec);
    CHECK_EQ(ftruncate(rig.segment.fd, 0), 0);
    CHECK_EQ(rig.segment.data[0], 0);
    CHECK_EQ(handled, 1); /* this one was ours */
    CHECK(shmipc_segment_is_damaged(&rig.segment));
}

static void test_handler_that_was_there_first_gets_what_is_not_ours(void)
{
    int status = 0;
    const pid_t pid = test_fork(call_a_plain_handler, NULL);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 42);
    test_join(test_fork(call_a_handler_that_repairs, NULL));
}

/* As Python's faulthandler does: its own report, then the predecessor by a plain raise. */
static struct sigaction before_latecomer;

static void report_and_raise(int number)
{
    handled++;
    (void)sigaction(number, &before_latecomer, NULL);
    (void)raise(number);
}

static void fault_under_a_latecomer(void *argument)
{
    struct sigaction action = {.sa_flags = SA_NODEFER};
    static struct rig rig;
    struct shmipc_spec spec = rig_message_spec(1);
    open_a_rig();
    rig_open(&rig, &spec);
    action.sa_handler = report_and_raise;
    CHECK_EQ(sigaction(SIGBUS, &action, &before_latecomer), 0);
    CHECK_EQ(ftruncate(rig.segment.fd, 0), 0);
    CHECK_EQ(rig.segment.data[0], 0);
    CHECK_EQ(handled, 1);
    CHECK(shmipc_segment_is_damaged(&rig.segment));
    if (argument != NULL) {
        CHECK_EQ(sigaction(SIGBUS, &action, &before_latecomer), 0);
        die_of_a_foreign_fault(NULL);
    }
}

static void test_handler_that_came_later_and_chains_by_raise_reaches_ours(void)
{
    int status = 0;
    if (getenv("TEST_EMULATED") != NULL) {
        test_skip("an emulator faults itself where the system answers EFAULT");
    }
    test_join(test_fork(fault_under_a_latecomer, NULL));
    const pid_t pid = test_fork(fault_under_a_latecomer, &status);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) != 0);
}

static const struct test tests[] = {
    TEST(test_foreign_bus_error_ends_the_process_as_ever),
    TEST(test_handler_that_was_there_first_gets_what_is_not_ours),
    TEST(test_handler_that_came_later_and_chains_by_raise_reaches_ours),
};

TEST_MAIN(tests)
