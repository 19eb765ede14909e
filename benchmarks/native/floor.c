/* The machine's own floor: what no ring can beat, measured with nothing of a ring in the way.
 *
 *   floor line ROUNDS            one cache line to and fro between two pinned processes, spinning
 *   floor futex ROUNDS           the same, each side asleep in the kernel until woken
 *   floor lines BYTES PASSES     reading lines that the other core has just written: it writes every
 *                                word of the footprint, hands it over, and the clock runs while this
 *                                side reads one word of each line; and the other way round, how
 *                                fast it writes whole lines that this side has just read
 *   floor memcpy SIZE AREA SECONDS_MS   copies of SIZE bytes from three sources in turn to places that
 *                                walk round AREA bytes (AREA = SIZE: one place, hot)
 */
#include "bench.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#define SOURCES 3 /* buffers that frames are copied from, as scenarios/pair.py has them */

struct words {
    alignas(128) uint64_t go;
    alignas(128) uint64_t back;
};

struct job {
    struct words *words;
    struct bench_start *start;
    uint64_t *area;
    uint64_t rounds;
    size_t bytes;
};

/* --- one line ---------------------------------------------------------------------------- */

static inline void await_word(const uint64_t *word, uint64_t value) {
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value)
        ;
}

/* Both directions in one line: the asker writes odd values, the answerer even ones. */
static void run_line(void *context, int role) {
    struct job *job = context;
    uint64_t *line = &job->words->go;
    bench_together(job->start, role);
    if (role == 1) {
        for (uint64_t i = 1; i <= bench_rounds_served(job->rounds); i++) {
            await_word(line, 2 * i - 1);
            __atomic_store_n(line, 2 * i, __ATOMIC_RELEASE);
        }
        return;
    }
    BENCH_TIME_ROUNDS(job->rounds, i, {
        __atomic_store_n(line, 2 * i - 1, __ATOMIC_RELEASE);
        await_word(line, 2 * i);
    });
}

/* --- futex ------------------------------------------------------------------------------- */

static void futex_send(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_await(uint32_t *word, uint32_t value) {
    uint32_t seen;
    while ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != value)
        if (syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0) != 0 && errno != EAGAIN
            && errno != EINTR)
            bench_fail("futex wait failed");
}

static void run_futex(void *context, int role) {
    struct job *job = context;
    uint32_t *go = (uint32_t *)&job->words->go, *back = (uint32_t *)&job->words->back;
    bench_together(job->start, role);
    if (role == 1) {
        for (uint64_t i = 1; i <= bench_rounds_served(job->rounds); i++) {
            futex_await(go, (uint32_t)i);
            futex_send(back, (uint32_t)i);
        }
        return;
    }
    BENCH_TIME_ROUNDS(job->rounds, i, {
        futex_send(go, (uint32_t)i);
        futex_await(back, (uint32_t)i);
    });
}

/* --- lines just written ------------------------------------------------------------------ */

static void print_median(const char *key, double *sample, uint64_t count) {
    qsort(sample, count, sizeof *sample, bench_order);
    printf("%s=%.3f\n", key, sample[count / 2]);
    fflush(stdout);
    free(sample);
}

static void run_lines(void *context, int role) {
    struct job *job = context;
    const size_t lines = job->bytes / BENCH_LINE;
    struct bench_message *area = (struct bench_message *)(void *)job->area;
    double *sample = calloc(job->rounds, sizeof *sample);
    if (!sample)
        bench_fail("out of memory");
    bench_together(job->start, role);
    if (role == 0) {
        for (uint64_t pass = 1; pass <= job->rounds; pass++) {
            const uint64_t then = bench_now_ns();
            for (size_t i = 0; i < lines; i++)
                bench_fill(&area[i], pass + i);
            sample[pass - 1] = (double)lines * 1e3 / (double)(bench_now_ns() - then);
            __atomic_store_n(&job->words->go, pass, __ATOMIC_RELEASE);
            await_word(&job->words->back, pass);
        }
        print_median("written_mps", sample, job->rounds);
        return;
    }
    for (uint64_t pass = 1; pass <= job->rounds; pass++) {
        await_word(&job->words->go, pass);
        const uint64_t then = bench_now_ns();
        uint64_t sum = 0;
        for (size_t i = 0; i < lines; i++)
            sum += area[i].word[0];
        const uint64_t took = bench_now_ns() - then;
        if (sum != lines * pass + lines * (lines - 1) / 2)
            bench_fail("a line came with the wrong content");
        sample[pass - 1] = (double)lines * 1e3 / (double)took;
        __atomic_store_n(&job->words->back, pass, __ATOMIC_RELEASE);
    }
    print_median("rate_mps", sample, job->rounds);
}

/* --- memcpy ------------------------------------------------------------------------------ */

static int run_memcpy(size_t size, size_t area_bytes, uint64_t milliseconds) {
    const size_t places = area_bytes / size ? area_bytes / size : 1;
    char *area = bench_map(places * size), *source = bench_map(SOURCES * size);
    bench_pin(0);
    for (size_t i = 0; i < SOURCES; i++)
        memset(source + i * size, (int)i + 1, size);
    const uint64_t batch = size < 65536 ? 65536 / size : 1;
    uint64_t copies = 0, then = 0, took = 0;
    size_t place = 0, from = 0;
    for (int warm = 1; warm >= 0; warm--) { /* once round untimed, then until the time is up */
        then = bench_now_ns();
        copies = 0;
        do {
            for (uint64_t k = 0; k < batch; k++) {
                char *target = area + place * size;
                memcpy(target, source + from * size, size);
                __asm__ volatile("" : : "r"(target) : "memory");
                copies++;
                place = place + 1 == places ? 0 : place + 1;
                from = from + 1 == SOURCES ? 0 : from + 1;
            }
            took = bench_now_ns() - then;
        } while (warm ? copies < 2 * places : took < milliseconds * 1000000u);
    }
    if (area[0] == 0)
        bench_fail("memcpy copied nothing");
    printf("copy_ns=%.3f\nrate_gbs=%.4f\n", (double)took / (double)copies,
           (double)copies * (double)size / (double)took);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3)
        bench_fail("usage: floor line|futex ROUNDS | lines BYTES PASSES | memcpy SIZE AREA MS");
    alarm(60);
    const char *what = argv[1];
    if (!strcmp(what, "memcpy") && argc == 5)
        return run_memcpy(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10),
                          strtoul(argv[4], NULL, 10));
    struct job job = {.words = bench_map(sizeof(struct words)),
                      .start = bench_map(sizeof(struct bench_start)),
                      .rounds = strtoul(argv[2], NULL, 10)};
    if (!strcmp(what, "line"))
        bench_two_processes(run_line, &job);
    else if (!strcmp(what, "futex"))
        bench_two_processes(run_futex, &job);
    else if (!strcmp(what, "lines") && argc == 4) {
        job.bytes = job.rounds;
        job.rounds = strtoul(argv[3], NULL, 10);
        job.area = bench_map(job.bytes);
        bench_two_processes(run_lines, &job);
    } else
        bench_fail("unknown measurement");
    return 0;
}
