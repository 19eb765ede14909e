/* machine.c: the threads and their steps. See machine.h; the search over them is search.c. */
#define _GNU_SOURCE
#include "machine.h"

#include "memory.h"
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

enum { STACK_LEN = 256 * 1024 };

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
    bool done;   /* compare: succeeded */
    bool writes; /* plain */
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

static unsigned char stacks[MODEL_MAX_THREADS][STACK_LEN] __attribute__((aligned(64)));
static struct thread threads[MODEL_MAX_THREADS];
static jmp_buf scheduler;
static int running = -1; /* -1: nobody; plain memory */
static const struct model_scenario *scenario;
static bool files_are_cut;
static bool failed;
static char failure[256];

char *run_trace;

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
    t->history = hash_word(t->history, t->result);
    /* It goes on to read what it likes of that; what has changed since it last acquired something
     * it could not read without a race. */
    if (process_has_memory() && (op->kind == OP_SYSTEM || (op->orders & MODEL_ACQUIRE) != 0)) {
        t->history = process_hash(t->history, false);
    }
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

/* The flag of a file truncated while mapped: where nothing does that, it takes no step. */
static bool is_still(const struct model_site *site)
{
    return !files_are_cut && strstr(site->text, "segment->damaged)") != NULL;
}

uint64_t model_load(struct model_site *site, const volatile void *object, size_t size)
{
    if (running < 0 || is_still(site) || model_is_still(object)) {
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
    model_check(!model_is_still(object), "nobody stores to a word that is held still");
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
        const uint64_t results[] = {[MODEL_OR] = old | value,
                                    [MODEL_AND] = old & value,
                                    [MODEL_ADD] = old + value,
                                    [MODEL_SUB] = old - value,
                                    [MODEL_EXCHANGE] = value};
        write_real(object, results[how], size);
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

/* Only where it has something to order, lest it makes up for a fence that is missing elsewhere. */
void model_fence_copied(struct model_site *site)
{
    if (files_are_cut) {
        model_fence(site);
    }
}

void model_light(struct model_site *site)
{
    if (running >= 0 && orders_of(site) == MODEL_LIGHT) {
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
    return step(
        &(struct op){.kind = OP_PLAIN, .text = "plain load", .location = memory_find(at, 8)});
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
        memory_remote_fence(thread, MODEL_FULL);
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

void model_let_files_be_cut(void)
{
    files_are_cut = true;
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

/* ---- a run ------------------------------------------------------------------------------------
 */

static bool is_open(const struct thread *t)
{
    return t->state == THREAD_READY &&
           (t->op.kind != OP_SYSTEM || t->op.enabled == NULL || t->op.enabled(t->op.self));
}

int run_choices(int thread)
{
    const struct thread *t = &threads[thread];
    if (!is_open(t)) {
        return 0;
    }
    switch (t->op.kind) {
    case OP_LOAD:
        return memory_load_choices(thread, t->op.location);
    case OP_STORE:
        return memory_store_choices(thread, t->op.location);
    case OP_COMPARE:
        return memory_compare_choices(thread, t->op.location, t->op.expected);
    default:
        return 1;
    }
}

static void describe(int thread, char *text, size_t room)
{
    const struct thread *t = &threads[thread];
    const struct model_site *site = t->op.site;
    const char *file = site != NULL ? strrchr(site->file, '/') : NULL;
    const bool wrote = t->op.kind == OP_STORE || t->op.writes;
    const unsigned long long value = wrote ? t->op.value : t->result;
    if (site == NULL) {
        (void)snprintf(text, room, "thread %d: %s -> %#llx", thread, t->op.text, value);
    } else {
        (void)snprintf(text, room, "thread %d: %s:%d %s -> %#llx", thread,
                       file != NULL ? file + 1 : site->file, site->line, site->text, value);
    }
}

void run_step(int thread, int choice)
{
    struct thread *t = &threads[thread];
    struct op *op = &t->op;
    const char *race = NULL;
    t->result = 0;
    if (op->kind != OP_FULL_FENCE && op->kind != OP_SYSTEM && memory_is_freed(op->location)) {
        fail("what was freed is used");
    }
    switch (op->kind) {
    case OP_LOAD:
        t->result = memory_load(thread, op->location, choice, op->orders);
        break;
    case OP_STORE:
        memory_store(thread, op->location, choice, op->value, op->orders);
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
        memory_compiler_barrier(thread); /* no load is hoisted above a call into the system */
        running = thread;
        t->result = op->take(op->self);
        running = -1;
        break;
    }
    if (run_trace != NULL) {
        describe(thread, run_trace, RUN_TEXT_LEN);
    }
    if (race != NULL) {
        fail("data race: %s", race);
        return;
    }
    resume(thread);
}

void run_kill(int thread)
{
    if (run_trace != NULL) {
        (void)snprintf(run_trace, RUN_TEXT_LEN, "thread %d: killed", thread);
    }
    threads[thread].state = THREAD_DEAD;
    scenario->at_death(thread);
    memory_end_thread(thread);
}

bool run_may_kill(int thread)
{
    return threads[thread].state == THREAD_READY && (scenario->mortal >> thread & 1) != 0;
}

uint64_t run_hash(void)
{
    size_t len;
    const void *kernel = model_kernel_state(&len);
    uint64_t hash = hash_bytes(1, kernel, len);
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        const struct thread *t = &threads[thread];
        const uint64_t words[2] = {(uint64_t)t->state, t->state == THREAD_READY ? t->history : 0};
        hash = hash_bytes(hash, words, sizeof words);
    }
    return memory_hash(process_hash(hash, true));
}

void run_begin(const struct model_scenario *what)
{
    if (scenario != what) {
        memory_forget();
    }
    scenario = what;
    failed = false;
    files_are_cut = false;
    memory_reset();
    process_reset();
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

void run_end(void)
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

const char *run_failure(void)
{
    return failed ? failure : NULL;
}
