/* machine.c: threads and the search. See machine.h. */
#define _GNU_SOURCE
#include "machine.h"

#include "memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

enum { STACK_LEN = 256 * 1024, MAX_STEPS = 4000, TEXT_LEN = 160 };

enum op_kind { OP_LOAD, OP_STORE, OP_UPDATE, OP_COMPARE, OP_FULL_FENCE, OP_PLAIN, OP_SYSTEM };

struct op {
    enum op_kind kind;
    struct model_site *site;
    const char *text;
    int orders;
    int location;
    enum model_how how;
    uint64_t value;
    uint64_t expected;
    bool done;    /* compare: succeeded */
    bool writes;  /* plain */
    bool (*enabled)(void *);
    uint64_t (*take)(void *);
    void *self;
};

enum thread_state { THREAD_NONE, THREAD_READY, THREAD_DONE, THREAD_DEAD };

struct thread {
    enum thread_state state;
    bool entered;
    struct op op;
    uint64_t result;
    uint64_t history; /* of everything it was told: with the program, all that it is */
    jmp_buf registers;
    ucontext_t context;
};

struct choice {
    uint16_t taken;
    uint16_t count;
};

struct event {
    int thread;
    const struct op *op;
    char text[TEXT_LEN];
};

static unsigned char stacks[MODEL_MAX_THREADS][STACK_LEN] __attribute__((aligned(64)));
static struct thread threads[MODEL_MAX_THREADS];
static jmp_buf scheduler;
static int running = -1; /* -1: nobody; plain memory */
static const struct model_scenario *scenario;
static struct choice choices[MAX_STEPS];
static struct event trace[MAX_STEPS];
static int depth;
static bool failed;
static bool wants_trace;
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

/* ---- threads ------------------------------------------------------------------------------- */

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fail(const char *format, ...)
{
    if (!failed) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(failure, sizeof failure, format, arguments);
        va_end(arguments);
        failed = true;
    }
}

static void enter_thread(void)
{
    const int self = running;
    scenario->threads[self]();
    threads[self].state = THREAD_DONE;
    _longjmp(scheduler, 1);
}

/* Run a thread up to its next step. */
static void resume(int thread)
{
    struct thread *t = &threads[thread];
    running = thread;
    if (_setjmp(scheduler) == 0) {
        if (t->entered) {
            _longjmp(t->registers, 1);
        }
        t->entered = true;
        (void)setcontext(&t->context);
    }
    running = -1;
    if (t->state == THREAD_DONE) {
        memory_end_thread(thread);
    }
}

static uint64_t step(const struct op *op)
{
    struct thread *t = &threads[running];
    t->op = *op;
    if (_setjmp(t->registers) == 0) {
        _longjmp(scheduler, 1);
    }
    t->history = hash_bytes(t->history, &t->result, sizeof t->result);
    return t->result;
}

int model_self(void)
{
    return running;
}

/* ---- accesses ------------------------------------------------------------------------------ */

static void write_real(volatile void *object, uint64_t value, size_t size)
{
    if (size == 8) {
        *(volatile uint64_t *)object = value;
    } else {
        *(volatile uint32_t *)object = (uint32_t)value;
    }
}

static uint64_t read_real(const volatile void *object, size_t size)
{
    return size == 8 ? *(const volatile uint64_t *)object : *(const volatile uint32_t *)object;
}

static int orders_of(struct model_site *site)
{
    site->reached = true;
    return site->weakened ? site->weak_orders : site->orders;
}

uint64_t model_load(struct model_site *site, const volatile void *object, size_t size)
{
    if (running < 0) {
        return read_real(object, size);
    }
    return step(&(struct op){.kind = OP_LOAD,
                             .site = site,
                             .orders = orders_of(site),
                             .location = memory_find(object, size)});
}

void model_store(struct model_site *site, volatile void *object, uint64_t value, size_t size)
{
    if (running < 0) {
        write_real(object, value, size);
        return;
    }
    (void)step(&(struct op){.kind = OP_STORE,
                            .site = site,
                            .orders = orders_of(site),
                            .location = memory_find(object, size),
                            .value = value});
}

uint64_t model_update(struct model_site *site, volatile void *object, enum model_how how,
                      uint64_t value, size_t size)
{
    if (running < 0) {
        const uint64_t old = read_real(object, size);
        write_real(object,
                   how == MODEL_EXCHANGE ? value
                   : how == MODEL_OR     ? old | value
                                         : old & value,
                   size);
        return old;
    }
    return step(&(struct op){.kind = OP_UPDATE,
                             .site = site,
                             .orders = orders_of(site),
                             .location = memory_find(object, size),
                             .how = how,
                             .value = value});
}

bool model_compare(struct model_site *site, volatile void *object, uint64_t *expected,
                   uint64_t value, size_t size)
{
    if (running < 0) {
        const uint64_t old = read_real(object, size);
        if (old != *expected) {
            *expected = old;
            return false;
        }
        write_real(object, value, size);
        return true;
    }
    const int self = running;
    const uint64_t found = step(&(struct op){.kind = OP_COMPARE,
                                             .site = site,
                                             .orders = orders_of(site),
                                             .location = memory_find(object, size),
                                             .expected = *expected,
                                             .value = value});
    *expected = found;
    return threads[self].op.done;
}

void model_fence(struct model_site *site)
{
    if (running < 0) {
        return;
    }
    const int orders = orders_of(site);
    if ((orders & MODEL_FULL) == MODEL_FULL) {
        (void)step(&(struct op){.kind = OP_FULL_FENCE, .site = site, .orders = orders});
    } else {
        memory_fence(running, orders); /* moves nothing that others see: no step of its own */
    }
}

void model_light(struct model_site *site, bool asymmetric)
{
    if (running < 0) {
        return;
    }
    const int orders = orders_of(site);
    if (!asymmetric) {
        const int fence = orders == MODEL_LIGHT ? MODEL_FULL : MODEL_ACQUIRE | MODEL_RELEASE;
        (void)step(&(struct op){.kind = OP_FULL_FENCE, .site = site, .orders = fence});
    } else if (orders == MODEL_LIGHT) {
        memory_compiler_barrier(running);
    }
}

void model_plain_store(volatile uint64_t *at, uint64_t value)
{
    if (running < 0) {
        *at = value;
        return;
    }
    (void)step(&(struct op){.kind = OP_PLAIN,
                            .text = "plain store",
                            .writes = true,
                            .location = memory_find(at, 8),
                            .value = value});
}

uint64_t model_plain_load(const volatile uint64_t *at)
{
    if (running < 0) {
        return *at;
    }
    return step(&(struct op){.kind = OP_PLAIN, .text = "plain load", .location = memory_find(at, 8)});
}

uint64_t model_system(const char *text, bool (*enabled)(void *), uint64_t (*take)(void *),
                      void *self)
{
    if (running < 0) {
        return take(self);
    }
    return step(&(struct op){
        .kind = OP_SYSTEM, .text = text, .enabled = enabled, .take = take, .self = self});
}

uint64_t model_latest(const volatile void *object, size_t size)
{
    return running < 0 && scenario == NULL ? read_real(object, size)
                                           : memory_latest(memory_find(object, size));
}

void model_fence_of(int thread)
{
    if (threads[thread].state != THREAD_NONE) { /* who is done passed through the scheduler */
        memory_fence(thread, MODEL_FULL);
    }
}

bool model_is_alive(int thread)
{
    return threads[thread].state == THREAD_READY;
}

bool model_has_run(int thread)
{
    return threads[thread].state != THREAD_NONE;
}

void model_checkpoint(uint64_t where, const void *bytes, size_t len)
{
    if (running >= 0) {
        threads[running].history = hash_bytes(where + 1, bytes, len);
    }
}

void model_refuse(const char *what)
{
    fail("%s", what);
}

void model_check(bool holds, const char *claim)
{
    if (!holds) {
        fail("%s", claim);
    }
}

/* ---- the search ---------------------------------------------------------------------------- */

static bool is_open(const struct thread *t)
{
    return t->state == THREAD_READY && (t->op.kind != OP_SYSTEM || t->op.enabled == NULL ||
                                        t->op.enabled(t->op.self));
}

static int count_choices(int thread)
{
    const struct thread *t = &threads[thread];
    if (!is_open(t)) {
        return 0;
    }
    switch (t->op.kind) {
    case OP_LOAD:
        return memory_load_choices(thread, t->op.location);
    case OP_COMPARE:
        return memory_compare_choices(thread, t->op.location, t->op.expected);
    default:
        return 1;
    }
}

static void note_step(int thread, const char *what)
{
    if (!wants_trace) {
        return;
    }
    const struct thread *t = &threads[thread];
    const struct model_site *site = t->op.site;
    const char *file = site != NULL ? strrchr(site->file, '/') : NULL;
    (void)snprintf(trace[depth].text, TEXT_LEN, "thread %d: %s%s%s:%d %s -> %#llx", thread, what,
                   site != NULL ? (file != NULL ? file + 1 : site->file) : t->op.text,
                   site != NULL ? "" : "", site != NULL ? site->line : 0,
                   site != NULL ? site->text : "",
                   (unsigned long long)(t->op.kind == OP_STORE || t->op.writes ? t->op.value
                                                                               : t->result));
}

static void perform(int thread, int choice)
{
    struct thread *t = &threads[thread];
    struct op *op = &t->op;
    const char *race = NULL;
    t->result = 0;
    switch (op->kind) {
    case OP_LOAD:
        t->result = memory_load(thread, op->location, choice, op->orders);
        break;
    case OP_STORE:
        memory_store(thread, op->location, op->value, op->orders);
        break;
    case OP_UPDATE:
        t->result = memory_update(thread, op->location, op->how, op->value, op->orders);
        break;
    case OP_COMPARE:
        t->result = memory_compare(thread, op->location, choice, op->expected, op->value,
                                   op->orders, &op->done);
        break;
    case OP_FULL_FENCE:
        memory_fence(thread, op->orders);
        break;
    case OP_PLAIN:
        race = op->writes ? memory_plain_store(thread, op->location, op->value)
                          : memory_plain_load(thread, op->location, &t->result);
        break;
    case OP_SYSTEM:
        running = thread;
        t->result = op->take(op->self);
        running = -1;
        break;
    }
    note_step(thread, "");
    if (race != NULL) {
        fail("data race: %s", race);
        return;
    }
    resume(thread);
}

static void kill_thread(int thread)
{
    note_step(thread, "KILLED before ");
    threads[thread].state = THREAD_DEAD;
    scenario->at_death(thread);
    memory_end_thread(thread);
}

static bool may_die(int thread)
{
    return threads[thread].state == THREAD_READY && (scenario->mortal >> thread & 1) != 0;
}

/* Take choice number `choice` of those that count_all counts, in the same order. */
static void take_choice(int choice)
{
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        const int own = count_choices(thread);
        if (choice < own) {
            perform(thread, choice);
            return;
        }
        choice -= own;
        if (may_die(thread) && choice-- == 0) {
            kill_thread(thread);
            return;
        }
    }
}

static int count_all(void)
{
    int count = 0;
    int open = 0;
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        const int own = count_choices(thread);
        open += own;
        count += own + may_die(thread);
    }
    return open == 0 ? 0 : count;
}

static uint64_t hash_state(void)
{
    size_t len;
    const void *kernel = model_kernel_state(&len);
    uint64_t hash = hash_bytes(1, kernel, len);
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        const struct thread *t = &threads[thread];
        const uint64_t words[2] = {(uint64_t)t->state,
                                   t->state == THREAD_READY ? t->history : 0};
        hash = hash_bytes(hash, words, sizeof words);
    }
    return memory_hash(hash);
}

static void begin_run(void)
{
    memory_reset();
    memset(threads, 0, sizeof threads);
    scenario->set_up();
    for (int i = 0; i < MODEL_MAX_THREADS && scenario->threads[i] != NULL; i++) {
        struct thread *t = &threads[i];
        t->state = THREAD_READY;
        memory_add_thread(i);
        (void)getcontext(&t->context);
        t->context.uc_stack.ss_sp = stacks[i];
        t->context.uc_stack.ss_size = STACK_LEN;
        t->context.uc_link = NULL;
        makecontext(&t->context, enter_thread, 0);
    }
    for (int i = 0; i < MODEL_MAX_THREADS && scenario->threads[i] != NULL; i++) {
        resume(i);
    }
}

static void end_run(void)
{
    for (int i = 0; i < MODEL_MAX_THREADS; i++) {
        if (threads[i].state == THREAD_READY) {
            fail("thread %d waits for ever: %s", i,
                 threads[i].op.site != NULL ? threads[i].op.site->text : threads[i].op.text);
        }
    }
    if (!failed && scenario->at_end != NULL) {
        scenario->at_end();
    }
}

static void run_once(int *prefix)
{
    run_count++;
    begin_run();
    for (depth = 0; !failed; depth++) {
        const int count = count_all();
        if (count == 0) {
            end_run();
            return;
        }
        if (depth + 1 >= MAX_STEPS) {
            fail("no end after %d steps", MAX_STEPS);
            return;
        }
        if (depth >= *prefix) {
            if (count > 1 && !seen_add(hash_state())) {
                return;
            }
            choices[depth] = (struct choice){0, (uint16_t)count};
            *prefix = depth + 1;
        }
        step_count++;
        take_choice(choices[depth].taken);
    }
}

static void explore(void)
{
    int prefix = 0;
    failed = false;
    run_count = 0;
    step_count = 0;
    seen_count = 0;
    if (seen_room != 0) {
        memset(seen_states, 0, seen_room * sizeof *seen_states);
    }
    do {
        run_once(&prefix);
        if (failed) {
            wants_trace = true; /* once more, to tell how */
            char kept[sizeof failure];
            memcpy(kept, failure, sizeof kept);
            failed = false;
            run_once(&prefix);
            memcpy(failure, kept, sizeof kept);
            failed = true;
            wants_trace = false;
            return;
        }
        while (prefix > 0 && choices[prefix - 1].taken + 1 == choices[prefix - 1].count) {
            prefix--;
        }
        if (prefix > 0) {
            choices[prefix - 1].taken++;
        }
    } while (prefix > 0);
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
            fprintf(stderr, "usage: model [--list] [--scenario NAME] [--weaken FILE:LINE:TEXT ORDERS]\n");
            return 2;
        }
    }
    for (int i = 0; i < model_scenario_count; i++) {
        struct timespec before;
        struct timespec after;
        scenario = &model_scenarios[i];
        if (only != NULL && strcmp(only, scenario->name) != 0) {
            continue;
        }
        found++;
        if (lists) {
            printf("scenario\t%s\tholds\t0\t0\t0\t0\t%s\n", scenario->name, scenario->claim);
            continue;
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &before);
        explore();
        (void)clock_gettime(CLOCK_MONOTONIC, &after);
        printf("scenario\t%s\t%s\t%llu\t%llu\t%zu\t%.2f\t%s\n", scenario->name,
               failed ? "FAILED" : "holds", (unsigned long long)run_count,
               (unsigned long long)step_count, seen_count,
               (double)(after.tv_sec - before.tv_sec) +
                   (double)(after.tv_nsec - before.tv_nsec) * 1e-9,
               failed ? failure : scenario->claim);
        if (failed) {
            failures++;
            for (int d = 0; d <= depth; d++) {
                printf("trace\t%4d %s\n", d, trace[d].text);
            }
        }
        (void)fflush(stdout);
    }
    print_sites();
    return found == 0 ? 2 : failures > 0;
}
