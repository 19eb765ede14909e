/* main.c: see kills.h. Plans the rounds, shares them out to workers, prints a summary as JSON. */
#define _GNU_SOURCE
#include "round.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A survivor that waits for more than 100 ms is late. By design it is 50 ms and the time of a
 * wake-up; the rest is the machine's. Where in the same run a mere sleep, or the kernel's word of a
 * death without any ring, came 20 ms late, or where it is a round in five hundred, it says nothing
 * of us. No load excuses the ceiling. */
#define CEILING_NS UINT64_C(5000000000)
#define LOADED_NS UINT64_C(20000000)
#define TRIES 4 /* for a victim that was not where it should die */

struct target {
    const struct kill_point *point;
    int config;
};

static struct target targets[MOST_KILL_POINTS * CONFIGS];
static int target_count;
static struct tally *tally;
static number_t *next_round;
static struct {
    number_t latest_timer_ns, latest_death_ns;
} * machine;
static uint64_t seed = 1;
static uint64_t kills_wanted = 500;
static uint64_t stop_at = 5; /* failures */
uint64_t patience_ns = UINT64_C(10000000000);
static uint64_t end_ns;    /* of a soak; 0: count kills */
static int planned;        /* targets this run is to cover */
static const char *broken; /* see `struct board` */

static void *share(size_t len)
{
    void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return memory;
}

/* ---- planning ------------------------------------------------------------------------------- */

/* Every label once, then every label in every kind of ring; each part in the seed's order. */
static void plan(void)
{
    bool seen[STEPS] = {false};
    for (int i = 0; i < kill_point_count; i++) {
        for (int config = 0; config < CONFIGS; config++) {
            if (kill_point_is_in(&kill_points[i], config)) {
                targets[target_count++] = (struct target){&kill_points[i], config};
            }
        }
    }
    for (int i = target_count - 1; i > 0; i--) {
        const int j = (int)(mix(seed * 31 + (uint64_t)i) % (uint64_t)(i + 1));
        const struct target other = targets[i];
        targets[i] = targets[j];
        targets[j] = other;
    }
    int first = 0;
    for (int i = 0; i < target_count; i++) {
        if (!seen[targets[i].point->step]) {
            seen[targets[i].point->step] = true;
            const struct target other = targets[first];
            targets[first++] = targets[i];
            targets[i] = other;
        }
    }
    const uint64_t most = kills_wanted * 2 / 3;
    planned = target_count;
    if (end_ns == 0 && (uint64_t)planned > most) {
        planned = (int)most > first ? (int)most : first;
    }
}

static const struct kill_point *pick(uint64_t random, int config, enum who who,
                                     const enum when *whens, int count)
{
    for (uint64_t i = 0; i < (uint64_t)kill_point_count; i++) {
        const struct kill_point *point =
            &kill_points[(random + i * 61) % (uint64_t)kill_point_count];
        for (int j = 0; j < count; j++) {
            if (point->who == who && point->when == whens[j] && kill_point_is_in(point, config)) {
                return point;
            }
        }
    }
    return NULL;
}

static struct kill kill_of(const struct kill_point *point, int config, uint64_t random, int life,
                           bool first_arrival)
{
    struct kill kill = {.point = point, .life = life, .nth = 1};
    if (point->who == CONSUMER) {
        kill.index = 1 + ((config & MANY) != 0 ? (int)(random % CONSUMERS) : 0);
    } else if (point->who == CLEANER) {
        kill.index = CLEANER_INDEX;
    }
    if (point->when == WHEN_STREAM && (!first_arrival || point->step == AT_ANY_MOMENT)) {
        kill.nth = 1 + random / 8 % (point->step == AT_ANY_MOMENT ? 150 : 6);
    } else if (point->step == SHMIPC_AT_CLOSE_PRIVATE_HALF && !first_arrival) {
        kill.nth = 1 + random / 8 % 2;
    }
    return kill;
}

static const enum when STREAM_ONLY[] = {WHEN_STREAM};

static void order_alone(struct order *order, const struct target *target, bool first_arrival)
{
    const uint64_t random = order->seed;
    const struct kill_point *point = target->point;
    order->config = target->config;
    order->kills_count = 0;
    if (point->when == WHEN_RECLAIM) {
        const struct kill_point *before =
            pick(mix(random), order->config, CONSUMER, STREAM_ONLY, 1);
        order->kills[order->kills_count++] =
            kill_of(before, order->config, random >> 16, 0, first_arrival);
    }
    if (point->when == WHEN_SUCCEED) {
        const struct kill_point *before =
            pick(mix(random), order->config, PRODUCER, STREAM_ONLY, 1);
        order->kills[order->kills_count++] =
            kill_of(before, order->config, random >> 16, 0, first_arrival);
    }
    order->kills[order->kills_count++] =
        kill_of(point, order->config, random >> 24,
                point->when == WHEN_SUCCEED || point->when >= WHEN_REPLACE ? 1 : 0, first_arrival);
    if (point->when >= WHEN_REPLACE) {
        order->kills[0].life = 1;
        if (point->when == WHEN_REPLACE) {
            order->kills[0].index = 0;
        }
    }
}

/* Two victims: at once, or one after the other, the second perhaps in the first's slot. */
static void order_pair(struct order *order)
{
    static const enum when firsts[] = {WHEN_OPEN, WHEN_STREAM, WHEN_CLOSE, WHEN_LAST};
    static const enum when later[] = {WHEN_STREAM, WHEN_STREAM, WHEN_CLOSE, WHEN_LAST};
    static const enum when after_death[] = {WHEN_SUCCEED, WHEN_STREAM, WHEN_CLOSE, WHEN_LAST};
    const uint64_t random = order->seed;
    const int config = (int)(random % CONFIGS);
    const uint64_t kind = random / 8 % 16;
    order->config = config;
    if (kind < 3) { /* those that need a history */
        const struct target *target = &targets[random / 128 % (uint64_t)target_count];
        if (target->point->when >= WHEN_RECLAIM) {
            order_alone(order, target, false);
            if (order->kills_count == 2 || target->point->when >= WHEN_REPLACE) {
                return;
            }
        }
        order->config = config;
    }
    const bool at_once = kind < 10;
    const enum who one = mix(random + 1) % 2 == 0 ? PRODUCER : CONSUMER;
    const enum who other = at_once && (config & MANY) == 0
                               ? (one == PRODUCER ? CONSUMER : PRODUCER)
                               : (mix(random + 2) % 2 == 0 ? PRODUCER : CONSUMER);
    const struct kill_point *first = at_once ? pick(mix(random + 3), config, one, STREAM_ONLY, 1)
                                             : pick(mix(random + 3), config, one, firsts, 4);
    const struct kill_point *second;
    if (at_once) {
        second = pick(mix(random + 4), config, other, STREAM_ONLY, 1);
    } else if (other == CONSUMER) { /* who survives does not open again */
        second = pick(mix(random + 4), config, other, one == CONSUMER ? firsts : later, 4);
    } else {
        const bool succeeds = one == PRODUCER && first->when == WHEN_STREAM;
        second = pick(mix(random + 4), config, other, succeeds ? after_death : later, 4);
    }
    order->kills[0] = kill_of(first, config, mix(random + 5), 0, false);
    order->kills[1] = kill_of(second, config, mix(random + 6), at_once ? 0 : 1, false);
    if (second->when == WHEN_OPEN) {
        order->kills[1].index = order->kills[0].index;
    }
    if (at_once && order->kills[0].index == order->kills[1].index) {
        if (one == CONSUMER) {
            order->kills[1].index = 1 + order->kills[0].index % CONSUMERS;
        } else {
            order->kills[1].life = 1;
        }
    }
    order->kills_count = 2;
}

/* ---- working -------------------------------------------------------------------------------- */

static uint64_t kills_so_far(void)
{
    return tally->alone + tally->paired;
}

static bool is_done(uint64_t index)
{
    if (tally->failures >= stop_at) {
        return true;
    }
    if (index < (uint64_t)planned) {
        return false;
    }
    return end_ns != 0 ? shmipc_now_ns() >= end_ns : kills_so_far() >= kills_wanted;
}

_Noreturn static void work(int worker, const char *dir)
{
    struct board *shared = share(sizeof *shared);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)snprintf(shared->path, sizeof shared->path, "%s/shmipc.%d", dir, worker);
    for (;;) {
        const uint64_t index = (*next_round)++;
        if (is_done(index)) {
            exit(0);
        }
        for (uint64_t try = 0; try < TRIES; try++) {
            struct order order = {.seed = mix(mix(seed) + index * TRIES + try), .broken = broken};
            if (index < (uint64_t)planned) {
                order_alone(&order, &targets[index], try > 0);
            } else {
                order_pair(&order);
            }
            if (run_round(tally, shared, &order) || index >= (uint64_t)planned) {
                break;
            }
        }
    }
}

static void note_longest(number_t *longest_ns, uint64_t span_ns)
{
    if (span_ns > *longest_ns) {
        *longest_ns = span_ns;
    }
}

/* How late the kernel tells a process that only waits for it of a child's death: from the child's
 * own kill(2) to the end of its pipe. */
static uint64_t time_a_death(number_t *killed_ns)
{
    int ends[2];
    char byte;
    if (pipe(ends) != 0) {
        return 0;
    }
    const pid_t pid = fork();
    if (pid == 0) {
        *killed_ns = shmipc_now_ns();
        (void)kill(getpid(), SIGKILL);
    }
    (void)close(ends[1]);
    (void)!read(ends[0], &byte, 1);
    const uint64_t now_ns = shmipc_now_ns();
    (void)close(ends[0]);
    (void)waitpid(pid, NULL, 0);
    return now_ns - *killed_ns;
}

/* What this machine, in this run, makes of a sleep and of a death without us. */
_Noreturn static void watch_the_machine(void)
{
    number_t *killed_ns = share(sizeof *killed_ns);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        const struct timespec span = {.tv_nsec = 20000000};
        const uint64_t start_ns = shmipc_now_ns();
        (void)nanosleep(&span, NULL);
        note_longest(&machine->latest_timer_ns, shmipc_now_ns() - start_ns - 20000000);
        note_longest(&machine->latest_death_ns, time_a_death(killed_ns));
    }
}

/* ---- the summary ---------------------------------------------------------------------------- */

static uint64_t print_steps(const char *title, bool killed)
{
    uint64_t count = 0;
    (void)printf("  \"%s\": {", title);
    for (int step = 0; step < STEPS; step++) {
        if ((tally->by_step[step] != 0) == killed && !step_is_absent(step)) {
            (void)printf("%s\"%s\": %llu", count++ == 0 ? "" : ", ", step_name(step),
                         (unsigned long long)tally->by_step[step]);
        }
    }
    (void)printf("},\n");
    return count;
}

static uint64_t print_uncovered(void)
{
    uint64_t count = 0;
    (void)printf("  \"not_killed_at\": [");
    for (int i = 0; i < planned; i++) {
        const struct target *target = &targets[i];
        if (tally->covered[target->point - kill_points][target->config] == 0) {
            (void)printf("%s\"%s who %d when %d config %d\"", count++ == 0 ? "" : ", ",
                         step_name(target->point->step), (int)target->point->who,
                         (int)target->point->when, target->config);
        }
    }
    (void)printf("],\n");
    return count;
}

/* Labels that were passed where the table says nobody passes them. */
static void print_unplanned(void)
{
    bool first = true;
    (void)printf("  \"passed_outside_the_table\": [");
    for (int who = 0; who < WHO_COUNT; who++) {
        for (int phase = 0; phase < PHASES; phase++) {
            for (int step = 0; step < STEPS; step++) {
                for (int config = 0; config < CONFIGS; config++) {
                    if (tally->reached[config][who][phase][step] != 0 &&
                        !place_exists(config, (enum who)who, (enum phase)phase, step)) {
                        (void)printf("%s\"%s who %d phase %d config %d\"", first ? "" : ", ",
                                     step_name(step), who, phase, config);
                        first = false;
                        break;
                    }
                }
            }
        }
    }
    (void)printf("],\n");
}

static int count_labels(void)
{
    int count = 0;
    for (int step = 0; step < STEPS; step++) {
        count += !step_is_absent(step);
    }
    return count;
}

#define PRINT(name) (void)printf("  \"%s\": %llu,\n", #name, (unsigned long long)tally->name)

static bool print_summary(uint64_t span_ns, uint64_t left)
{
    (void)printf("{\n  \"seed\": %llu,\n  \"seconds\": %.1f,\n", (unsigned long long)seed,
                 (double)span_ns / 1e9);
    (void)printf("  \"labels\": %d,\n  \"kill_points\": %d,\n  \"points_planned\": %d,\n",
                 count_labels(), target_count, planned);
    (void)printf("  \"kills\": %llu,\n", (unsigned long long)kills_so_far());
    PRINT(alone);
    PRINT(paired);
    PRINT(everybody);
    PRINT(rounds);
    PRINT(sent);
    PRINT(received);
    PRINT(lost);
    PRINT(missing);
    PRINT(repeated);
    PRINT(torn);
    PRINT(waits);
    PRINT(late);
    PRINT(late_rounds);
    (void)printf("  \"longest_wait_ms\": %.1f,\n  \"latest_timer_ms\": %.1f,\n"
                 "  \"latest_bare_death_ms\": %.1f,\n",
                 (double)tally->longest_ns / 1e6, (double)machine->latest_timer_ns / 1e6,
                 (double)machine->latest_death_ns / 1e6);
    (void)print_steps("kills_by_label", true);
    const uint64_t labels_left = print_steps("labels_without_a_kill", false);
    const uint64_t points_left = print_uncovered();
    print_unplanned();
    PRINT(locks_left);
    PRINT(bits_left);
    (void)printf("  \"files_left\": %llu,\n", (unsigned long long)(tally->files_left + left));
    const bool in_time =
        tally->longest_ns < CEILING_NS &&
        (tally->late_rounds <= 2 + tally->rounds / 500 || machine->latest_timer_ns > LOADED_NS ||
         machine->latest_death_ns > LOADED_NS);
    const bool ok =
        tally->failures == 0 && labels_left == 0 && points_left == 0 && left == 0 && in_time;
    PRINT(failures);
    (void)printf("  \"ok\": %s\n}\n", ok ? "true" : "false");
    return ok;
}

static uint64_t number_of(const char *text)
{
    char *end;
    errno = 0;
    const uint64_t value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || text == end) {
        (void)fprintf(stderr, "not a number: %s\n", text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    char dir[256];
    int workers = 4;
    const uint64_t start_ns = shmipc_now_ns();
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0) {
            seed = number_of(argv[i + 1]);
        } else if (strcmp(argv[i], "--kills") == 0) {
            kills_wanted = number_of(argv[i + 1]);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            end_ns = start_ns + number_of(argv[i + 1]) * UINT64_C(1000000000);
        } else if (strcmp(argv[i], "--workers") == 0) {
            workers = (int)number_of(argv[i + 1]);
        } else if (strcmp(argv[i], "--stop-at") == 0) {
            stop_at = number_of(argv[i + 1]);
        } else if (strcmp(argv[i], "--patience") == 0) {
            patience_ns = number_of(argv[i + 1]) * UINT64_C(1000000000);
        } else if (strcmp(argv[i], "--break") == 0) {
            broken = argv[i + 1];
        } else {
            (void)fprintf(stderr, "kills [--seed S] [--kills N | --seconds S] [--workers W]\n"
                                  "      [--patience S] [--stop-at FAILURES]\n"
                                  "      [--break early|repeat|hasty|trusting|stays|slow]\n");
            return 2;
        }
    }
    if (kill_points_fault() != NULL || kill_point_count > MOST_KILL_POINTS || workers < 1 ||
        workers > 64) {
        (void)fprintf(stderr, "nobody is to die at %s\n", kill_points_fault());
        return 2;
    }
    (void)snprintf(dir, sizeof dir, "%s/shmipc-kills-XXXXXX", shmipc_segment_dir());
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        return 2;
    }
    tally = share(sizeof *tally);
    next_round = share(sizeof *next_round);
    machine = share(sizeof *machine);
    plan();
    const pid_t watch = fork();
    if (watch == 0) {
        watch_the_machine();
    }
    pid_t pids[64];
    for (int i = 0; i < workers; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            work(i, dir);
        }
    }
    for (int i = 0; i < workers; i++) {
        int status;
        if (waitpid(pids[i], &status, 0) != pids[i] || status != 0) {
            tally->failures++;
            (void)fprintf(stderr, "FAILED: worker %d ended with status %x\n", i, status);
        }
    }
    (void)kill(watch, SIGKILL);
    (void)waitpid(watch, NULL, 0);
    const uint64_t left = rmdir(dir) == 0 ? 0 : 1;
    return print_summary(shmipc_now_ns() - start_ns, left) ? 0 : 1;
}
