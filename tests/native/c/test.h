/*
 * test.h: a harness for the core's C tests. Each test runs in a process and a SHMIPC_DIR of its
 * own, under a deadline; a crash, a hang or a file left behind fails it like a CHECK.
 */
#ifndef SHMIPC_TEST_H
#define SHMIPC_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct test {
    const char *name;
    void (*run)(void);
};

/* clang-format off: it takes the braces for a block */
#define TEST(function)      \
    {                       \
#function, function \
    }
/* clang-format on */

/* Run all tests, or those whose names are given. The exit status of main. */
int test_main(int argc, char **argv, const struct test *tests, size_t count);

/* For a `main` that does nothing else. */
#define TEST_MAIN(tests)                                                     \
    int main(int argc, char **argv)                                          \
    {                                                                        \
        return test_main(argc, argv, tests, sizeof(tests) / sizeof(*tests)); \
    }

_Noreturn void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* What this test needs is not here: say what, and count it as skipped. */
_Noreturn void test_skip(const char *reason);
void test_check_equal(const char *file, int line, const char *expression, uint64_t found,
                      uint64_t expected);

#define CHECK(condition)                                               \
    do {                                                               \
        if (!(condition)) {                                            \
            test_fail(__FILE__, __LINE__, "not true: %s", #condition); \
        }                                                              \
    } while (0)

/* Two unsigned numbers, statuses or booleans. */
#define CHECK_EQ(found, expected) \
    test_check_equal(__FILE__, __LINE__, #found, (uint64_t)(found), (uint64_t)(expected))

/* "SHMIPC_DIR/shmipc.NAME", in a static buffer. */
const char *test_path(const char *name);
bool test_exists(const char *path);

/* Run `body` in a child process, which then exits with 0; a failed CHECK in it exits with 1. */
pid_t test_fork(void (*body)(void *argument), void *argument);
/* Wait for a child that must succeed. */
void test_join(pid_t pid);
/* End a child as a crash would, and reap it. */
void test_kill(pid_t pid);
/* Reap a child that ended by SIGKILL, by its own hand or another's. */
void test_reap_killed(pid_t pid);

/* A one-way signal between processes. */
struct test_gate {
    int fds[2];
};
void test_gate_init(struct test_gate *gate);
void test_gate_open(const struct test_gate *gate);
void test_gate_pass(const struct test_gate *gate);

/* How many rounds a stress test makes: fewer where a sanitizer makes each slow. */
uint64_t test_rounds(uint64_t plain);

/* A small generator of numbers that look random (xorshift64*). `state` is never 0. */
uint64_t test_random(uint64_t *state);

#endif
