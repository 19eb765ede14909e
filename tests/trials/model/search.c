/* search.c: every run of every scenario. See machine.h. */
#define _GNU_SOURCE
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_STEPS = 4000 };

struct choice {
    uint16_t taken;
    uint16_t count;
};

static const struct model_scenario *scenario;
static struct choice choices[MAX_STEPS];
static char trace[MAX_STEPS][RUN_TEXT_LEN];
static int depth;
static bool traces;
static char failure[256];
static uint64_t run_count;
static uint64_t step_count;

/* ---- states seen before -------------------------------------------------------------------- */

static uint64_t *seen_states;
static size_t seen_room;
static size_t seen_count;

static bool seen_insert(uint64_t *table, size_t room, uint64_t key)
{
    size_t at = key & (room - 1);
    while (table[at] != 0) {
        if (table[at] == key) {
            return false;
        }
        at = (at + 1) & (room - 1);
    }
    table[at] = key;
    return true;
}

static bool seen_add(uint64_t key)
{
    key |= key == 0;
    if (seen_count * 2 >= seen_room) {
        const size_t room = seen_room == 0 ? (size_t)1 << 16 : seen_room * 2;
        uint64_t *table = calloc(room, sizeof *table);
        if (table == NULL) {
            fprintf(stderr, "model: out of memory for states\n");
            exit(3);
        }
        for (size_t i = 0; i < seen_room; i++) {
            if (seen_states[i] != 0) {
                (void)seen_insert(table, room, seen_states[i]);
            }
        }
        free(seen_states);
        seen_states = table;
        seen_room = room;
    }
    if (!seen_insert(seen_states, seen_room, key)) {
        return false;
    }
    seen_count++;
    return true;
}

/* ---- the search ---------------------------------------------------------------------------- */

/* Take choice number `choice` of those that count_all counts, in the same order. */
static void take_choice(int choice)
{
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        const int own = run_choices(thread);
        if (choice < own) {
            run_step(thread, choice);
            return;
        }
        choice -= own;
        if (run_may_kill(thread) && choice-- == 0) {
            run_kill(thread);
            return;
        }
    }
}

static int count_all(void)
{
    int count = 0;
    int open = 0;
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        const int own = run_choices(thread);
        open += own;
        count += own + run_may_kill(thread);
    }
    return open == 0 ? 0 : count;
}

/* Follow the choices up to `*prefix`, then take the first of each until the end, a failure or a
 * state seen before. */
static const char *run_once(int *prefix)
{
    run_count++;
    run_begin(scenario);
    for (depth = 0; run_failure() == NULL; depth++) {
        const int count = count_all();
        if (count == 0) {
            run_end();
            break;
        }
        if (depth + 1 >= MAX_STEPS) {
            return "goes on for ever";
        }
        if (depth >= *prefix) {
            if (count > 1 && !seen_add(run_hash())) {
                break;
            }
            choices[depth] = (struct choice){0, (uint16_t)count};
            *prefix = depth + 1;
        }
        step_count++;
        run_trace = traces ? trace[depth] : NULL;
        take_choice(choices[depth].taken);
    }
    return run_failure();
}

/* False: some run failed, and the trace tells how. */
static bool explore(void)
{
    int prefix = 0;
    run_count = 0;
    step_count = 0;
    seen_count = 0;
    if (seen_room != 0) {
        memset(seen_states, 0, seen_room * sizeof *seen_states);
    }
    do {
        const char *fault = run_once(&prefix);
        if (fault != NULL) {
            (void)snprintf(failure, sizeof failure, "%s", fault);
            traces = true; /* once more, to tell how */
            (void)run_once(&prefix);
            traces = false;
            return false;
        }
        while (prefix > 0 && choices[prefix - 1].taken + 1 == choices[prefix - 1].count) {
            prefix--;
        }
        if (prefix > 0) {
            choices[prefix - 1].taken++;
        }
    } while (prefix > 0);
    return true;
}

/* ---- the program ----------------------------------------------------------------------------- */

extern struct model_site *const __start_model_sites[];
extern struct model_site *const __stop_model_sites[];

static const char *file_name(const struct model_site *site)
{
    const char *slash = strrchr(site->file, '/');
    return slash != NULL ? slash + 1 : site->file;
}

/* "FILE:LINE:TEXT=ORDERS": an inline function's site exists once a file that uses it. */
static int weaken(const char *wanted, int orders)
{
    int count = 0;
    for (struct model_site *const *at = __start_model_sites; at < __stop_model_sites; at++) {
        struct model_site *site = *at;
        char name[256];
        (void)snprintf(name, sizeof name, "%s:%d:%s", file_name(site), site->line, site->text);
        if (strcmp(name, wanted) == 0) {
            site->weakened = true;
            site->weak_orders = orders;
            count++;
        }
    }
    return count;
}

static void print_sites(void)
{
    for (struct model_site *const *at = __start_model_sites; at < __stop_model_sites; at++) {
        struct model_site *site = *at;
        printf("site\t%s:%d:%s\t%s\t%d\t%d\n", file_name(site), site->line, site->text,
               site->function, site->orders, site->reached);
    }
}

static const struct model_scenario *find_scenario(size_t i)
{
    const struct model_group *const groups[] = {&model_traffic, &model_ends, &model_fault,
                                                &model_handle, &model_frame};
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        if (i < groups[g]->count) {
            return &groups[g]->scenarios[i];
        }
        i -= groups[g]->count;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const char *only = NULL;
    bool lists = false;
    int found = 0;
    int failures = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--scenario") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else if (strcmp(argv[i], "--list") == 0) {
            lists = true;
        } else if (strcmp(argv[i], "--weaken") == 0 && i + 2 < argc) {
            if (weaken(argv[i + 1], atoi(argv[i + 2])) == 0) {
                fprintf(stderr, "model: no such site: %s\n", argv[i + 1]);
                return 2;
            }
            i += 2;
        } else {
            fprintf(stderr,
                    "usage: model [--list] [--scenario NAME] [--weaken FILE:LINE:TEXT ORDERS]\n");
            return 2;
        }
    }
    for (size_t i = 0; (scenario = find_scenario(i)) != NULL; i++) {
        struct timespec before;
        struct timespec after;
        if (only != NULL && strcmp(only, scenario->name) != 0) {
            continue;
        }
        found++;
        if (lists) {
            printf("scenario\t%s\tholds\t0\t0\t0\t0\t%s\n", scenario->name, scenario->claim);
            continue;
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &before);
        const bool holds = explore();
        (void)clock_gettime(CLOCK_MONOTONIC, &after);
        printf("scenario\t%s\t%s\t%llu\t%llu\t%zu\t%.2f\t%s\n", scenario->name,
               holds ? "holds" : "FAILED", (unsigned long long)run_count,
               (unsigned long long)step_count, seen_count,
               (double)(after.tv_sec - before.tv_sec) +
                   (double)(after.tv_nsec - before.tv_nsec) * 1e-9,
               holds ? scenario->claim : failure);
        if (!holds) {
            failures++;
            for (int d = 0; d < depth; d++) {
                printf("trace\t%4d %s\n", d, trace[d]);
            }
        }
        (void)fflush(stdout);
    }
    print_sites();
    return found == 0 ? 2 : failures > 0;
}
