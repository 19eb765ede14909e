/* What every native program here shares: time, pinning, a start line, percentiles, messages.
 *
 * Valid as C11 and as C++17, so that one harness serves queues of both languages. Shared words are
 * touched through the compiler's __atomic builtins for the same reason.
 */
#ifndef BENCH_H
#define BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <signal.h>

#ifdef __cplusplus
#define BENCH_NORETURN [[noreturn]]
#else
#include <stdalign.h>
#include <stdbool.h>
#define BENCH_NORETURN _Noreturn
#endif

#define BENCH_LINE 64
#define BENCH_ROUNDS_IN_BLOCK 16

#ifndef BENCH_MESSAGE_ALIGN
#define BENCH_MESSAGE_ALIGN BENCH_LINE /* a line each, in queues that store them as they are */
#endif

/* The 64-byte message. Every word follows from the sequence, so order and content are one check. */
struct bench_message {
    alignas(BENCH_MESSAGE_ALIGN) uint64_t word[8];
};

static inline void bench_fill(struct bench_message *message, uint64_t seq) {
    for (unsigned i = 0; i < 8; i++)
        message->word[i] = seq + i;
}

/* Non-zero when the message is not the one with this sequence. */
static inline uint64_t bench_differs(const struct bench_message *message, uint64_t seq) {
    uint64_t differs = 0;
    for (unsigned i = 0; i < 8; i++)
        differs |= message->word[i] ^ (seq + i);
    return differs;
}

BENCH_NORETURN static inline void bench_fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static inline uint64_t bench_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Core of a role (0 the producer's, 1 the consumer's), from BENCH_CORES="a,b". */
static inline int bench_core(int role) {
    const char *cores = getenv("BENCH_CORES");
    int core[2] = {0, 1};
    if (cores && sscanf(cores, "%d,%d", &core[0], &core[1]) != 2)
        bench_fail("BENCH_CORES must be two core numbers: a,b");
    return core[role];
}

static inline void bench_pin(int role) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)bench_core(role), &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        bench_fail("sched_setaffinity failed: two cores are needed");
}

/* Zeroed memory that a fork shares, at one address on both sides, present before the clock runs. */
static inline void *bench_map(size_t bytes) {
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (map == MAP_FAILED)
        bench_fail("mmap failed");
    return map;
}

/* Both sides leave this line together: each raises its flag and waits for the other's. */
struct bench_start {
    alignas(128) uint32_t ready[2];
};

static inline void bench_together(struct bench_start *start, int role) {
    __atomic_store_n(&start->ready[role], 1u, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&start->ready[!role], __ATOMIC_ACQUIRE))
        sched_yield();
}

/* Runs the two roles pinned in two processes: role 1 in a child that dies with its parent. */
static inline void bench_two_processes(void (*run)(void *context, int role), void *context) {
    fflush(stdout);
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0)
        bench_fail("fork failed");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        bench_pin(1);
        run(context, 1);
        fflush(stdout);
        _exit(0);
    }
    bench_pin(0);
    run(context, 0);
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0)
        bench_fail("the other side failed");
}

static inline int bench_order(const void *a, const void *b) {
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Prints KEY_p50, KEY_p99 of the samples, which it sorts. */
static inline void bench_print_percentiles(const char *key, double *sample, size_t count) {
    qsort(sample, count, sizeof *sample, bench_order);
    printf("%s_p50=%.2f\n%s_p99=%.2f\n", key, sample[count / 2], key, sample[count * 99 / 100]);
}

/* Times `rounds` round trips twice: one by one for the tail, whose clock reads weigh on the
 * median; and in blocks of 16 for the median, rtt_ns_p50. `body` uses the round number `i`, from 1. */
#define BENCH_TIME_ROUNDS(rounds, i, body)                                                        \
    do {                                                                                          \
        double *sample_ = (double *)calloc((rounds), sizeof(double));                             \
        uint64_t i = 1, then_ = 0, now_ = 0;                                                      \
        if (!sample_)                                                                             \
            bench_fail("out of memory");                                                          \
        for (uint64_t k_ = 0; k_ < 1000; k_++, i++) { /* warm up */                               \
            body;                                                                                 \
        }                                                                                         \
        then_ = bench_now_ns();                                                                   \
        for (uint64_t k_ = 0; k_ < (rounds); k_++, i++) {                                         \
            body;                                                                                 \
            now_ = bench_now_ns();                                                                \
            sample_[k_] = (double)(now_ - then_);                                                 \
            then_ = now_;                                                                         \
        }                                                                                         \
        bench_print_percentiles("rtt_each_ns", sample_, (size_t)(rounds));                        \
        then_ = bench_now_ns();                                                                   \
        for (uint64_t b_ = 0; b_ < (rounds) / BENCH_ROUNDS_IN_BLOCK; b_++) {                      \
            for (unsigned k_ = 0; k_ < BENCH_ROUNDS_IN_BLOCK; k_++, i++) {                        \
                body;                                                                             \
            }                                                                                     \
            now_ = bench_now_ns();                                                                \
            sample_[b_] = (double)(now_ - then_) / BENCH_ROUNDS_IN_BLOCK;                         \
            then_ = now_;                                                                         \
        }                                                                                         \
        bench_print_percentiles("rtt_ns", sample_, (size_t)(rounds) / BENCH_ROUNDS_IN_BLOCK);     \
        free(sample_);                                                                            \
    } while (0)

/* How many rounds the answering side must serve for BENCH_TIME_ROUNDS(rounds). */
static inline uint64_t bench_rounds_served(uint64_t rounds) {
    return 1000 + rounds + rounds / BENCH_ROUNDS_IN_BLOCK * BENCH_ROUNDS_IN_BLOCK;
}

#endif
