/*
 * scenarios_fault.c: the list of watched ranges and the SIGBUS handler that walks it, fault.c.
 *
 * Owns:     the kernel that fault.c calls, and what must hold of what it is asked for.
 * Must not know: rings.
 *
 * The kernel is one word, what is mapped and whether our handler is installed. Every call into it
 * takes and releases its lock, so what a thread did before a call is seen by a thread that calls
 * after, and by one that touches a mapping. pthread_once is over before the threads begin.
 */
#define _GNU_SOURCE
#include "checked_atomic.h"
#include "memory.h"
#include "../../../src/core/segment/segment.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int played_sigaction(const struct sigaction *action, struct sigaction *old);
static int played_raise(void);
static void *played_mmap(uintptr_t base, size_t len);
static int played_question(uintptr_t page);
static void *played_calloc(size_t len);
static void played_free(const void *block);

#define SHMIPC_FAULT_BLOCK 2
#define sigaction(number, action, old) ((void)(number), played_sigaction((action), (old)))
#define raise(number) ((void)(number), played_raise())
#define mmap(base, len, prot, flags, fd, off) \
    ((void)(prot), (void)(flags), played_mmap((uintptr_t)(base), (len)))
#define madvise(page, len, advice) ((void)(len), played_question((uintptr_t)(page)))
#define calloc(count, len) ((void)(count), played_calloc(len))
#define free(block) played_free(block)
#define getenv(name) ((void)(name), (const char *)NULL)
#define sysconf(name) ((void)(name), (long)PAGE_LEN)
#define pthread_once(once, routine) ((void)(once), (void)(routine), 0)

enum { PAGE_LEN = 0x10 };

#include "../../../src/core/segment/fault.c"

/* A range that mixes two of these holds an address of C, or ends at nobody's last page. */
enum name { A, B, C, D, RANGES };

struct range {
    uintptr_t base;
    size_t len;
};

static const struct range ranges[RANGES] = {
    [A] = {0x1000, 0x100}, [B] = {0x6000, 0x4000}, [C] = {0x2000, 0x40}, [D] = {0xb000, 0x2000}};

enum { OURS = 1 << RANGES }; /* the lower bits: one for each range that is mapped */

static uint64_t kernel_word;
static uint64_t page_of_c;
static struct shmipc_segment segments[RANGES]; /* of which only the flags are used */
static struct shmipc_fault_watch *watches[RANGES];
static struct block pool[MODEL_MAX_THREADS]; /* what calloc hands to each thread, once */
static struct block nowhere;                 /* where memory that is not zeroed leads */
static bool pool_taken[MODEL_MAX_THREADS];   /* no thread looks at another's */

/* ---- the kernel ----------------------------------------------------------------------------- */

static uint64_t enter_kernel(enum model_how how, uint64_t bits)
{
    if (model_self() < 0) {
        const uint64_t old = kernel_word;
        kernel_word = how == MODEL_OR ? old | bits : old & bits;
        return old;
    }
    return memory_update(model_self(), memory_find(&kernel_word, 8), how, bits,
                         MODEL_ACQUIRE | MODEL_RELEASE);
}

static uint64_t take_or(void *bits)
{
    return enter_kernel(MODEL_OR, *(const uint64_t *)bits);
}

static uint64_t take_and(void *bits)
{
    return enter_kernel(MODEL_AND, *(const uint64_t *)bits);
}

static void other_handler(int number)
{
    (void)number;
    model_refuse("a handler is called that was set back to default since");
}

static int played_sigaction(const struct sigaction *action, struct sigaction *old)
{
    uint64_t bits = 0;
    uint64_t before;
    if (action == NULL || (action->sa_flags & SA_SIGINFO) != 0) {
        bits = action == NULL ? 0 : OURS;
        before = model_system("sigaction", NULL, take_or, &bits);
    } else {
        bits = ~(uint64_t)OURS;
        before = model_system("sigaction, default", NULL, take_and, &bits);
    }
    if (old != NULL) {
        memset(old, 0, sizeof *old);
        if ((before & OURS) != 0) {
            old->sa_flags = SA_SIGINFO;
            old->sa_sigaction = on_sigbus;
        }
    }
    return 0;
}

static int played_raise(void)
{
    uint64_t none = 0;
    model_check((model_system("raise", NULL, take_or, &none) & OURS) == 0,
                "what is not ours ends the process");
    return 0;
}

static uint64_t take_zeros(void *arg)
{
    const enum name *name = arg;
    (void)enter_kernel(MODEL_OR, 0);
    if (*name == C) {
        memory_store(model_self(), memory_find(&page_of_c, 8), 0, 0, MODEL_RELEASE);
    }
    return 0;
}

static void *played_mmap(uintptr_t base, size_t len)
{
    enum name name = A;
    while (name < RANGES && (ranges[name].base != base || ranges[name].len != len)) {
        name++;
    }
    model_check(name < RANGES, "zeros are laid over a range that was watched, as it was");
    model_check(name == C || name == D, "zeros are laid where a file was truncated");
    (void)model_system("mmap", NULL, take_zeros, &name);
    return (void *)base;
}

/* C is truncated, the others are whole or not there any more. */
static int played_question(uintptr_t page)
{
    enum name name = A;
    uint64_t none = 0;
    while (name < RANGES && ranges[name].base + ranges[name].len - PAGE_LEN != page) {
        name++;
    }
    model_check(name < RANGES, "a range that was watched is probed, as it was");
    (void)model_system("is the page there?", NULL, take_or, &none);
    errno = EFAULT;
    return name == C ? -1 : 0;
}

/* ---- memory --------------------------------------------------------------------------------- */

/* As a block could be found by a thread that comes too early: watching everything, leading nowhere.
 */
static void soil(struct block *block)
{
    for (int i = 0; i < BLOCK_WATCHES; i++) {
        block->watches[i].state = WATCH_LIVE;
        block->watches[i].base = 0;
        block->watches[i].len = UINT64_MAX;
        block->watches[i].damaged = &segments[A].damaged;
    }
    block->next = &nowhere;
}

static void zero_word(const volatile void *word)
{
    memory_store(model_self(), memory_find(word, 8), 0, 0, 0);
}

static uint64_t take_block(void *arg)
{
    struct block *block = arg;
    for (int i = 0; i < BLOCK_WATCHES; i++) {
        zero_word(&block->watches[i].state);
        zero_word(&block->watches[i].base);
        zero_word(&block->watches[i].len);
        zero_word(&block->watches[i].damaged);
    }
    zero_word(&block->next);
    return 0;
}

static void *played_calloc(size_t len)
{
    const int self = model_self();
    model_check(len == sizeof pool[self] && !pool_taken[self], "the list grows by one block");
    if (pool_taken[self]) {
        return NULL;
    }
    pool_taken[self] = true;
    (void)model_system("calloc", NULL, take_block, &pool[self]);
    return &pool[self];
}

static void played_free(const void *block)
{
    model_check((const void *)(uintptr_t)model_latest(&first_block.next, 8) != block,
                "no block of the list is freed");
}

/* ---- what threads do ------------------------------------------------------------------------ */

static void watch(enum name name)
{
    model_check(shmipc_fault_watch((void *)ranges[name].base, ranges[name].len,
                                   &segments[name].damaged, &watches[name]) &&
                    watches[name] != NULL,
                "there is room for a watch");
}

static void prepare(void)
{
    kernel_word = 0;
    page_of_c = 7;
    chain = CHAIN_PREVIOUS;
    memset(&first_block, 0, sizeof first_block);
    memset(segments, 0, sizeof segments);
    memset(watches, 0, sizeof watches);
    memset(pool_taken, 0, sizeof pool_taken);
    for (int i = 0; i < MODEL_MAX_THREADS; i++) {
        soil(&pool[i]);
    }
    soil(&nowhere);
    nowhere.next = NULL;
    install();
    model_let_files_be_cut();
}

static void watch_a_and_c(void)
{
    prepare();
    watch(A);
    watch(C);
}

static void replace_a_by_b(void)
{
    shmipc_fault_unwatch(watches[A]);
    watch(B);
}

static void watch_b(void)
{
    watch(B);
}

static void watch_d(void)
{
    watch(D);
}

static void watch_a(void)
{
    prepare();
    watch(A);
}

static void watch_b_for_a_while(void)
{
    watch(B);
    shmipc_fault_unwatch(watches[B]);
}

static void fault_in_c(void)
{
    model_check(repair(ranges[C].base + 5), "a fault in a watched range is repaired");
}

static void raise_for_c(void)
{
    model_check(repair(0), "a fault in a watched range is found when its address is not told");
}

static void fault_elsewhere(void)
{
    model_check(!repair(0x500), "a fault outside every watched range is not ours");
}

/* The order of segment.c: watched, then mapped; unwatched, then unmapped. */
static void map_d(void)
{
    uint64_t bit = UINT64_C(1) << D;
    watch(D);
    (void)model_system("mmap, a file", NULL, take_or, &bit);
}

static bool d_is_mapped(void *arg)
{
    (void)arg;
    return (model_latest(&kernel_word, 8) >> D & 1) != 0;
}

static bool d_is_unmapped(void *arg)
{
    return !d_is_mapped(arg);
}

static void fault_in_d(void)
{
    uint64_t none = 0;
    (void)model_system("a touch of what was truncated", d_is_mapped, take_or, &none);
    model_check(repair(ranges[D].base + 5), "a range is watched once it is mapped");
}

static void prepare_mapped_d(void)
{
    prepare();
    map_d();
}

static void unmap_d(void)
{
    uint64_t others = ~(UINT64_C(1) << D);
    shmipc_fault_unwatch(watches[D]);
    (void)model_system("munmap", NULL, take_and, &others);
}

static void fault_where_d_was(void)
{
    uint64_t none = 0;
    (void)model_system("a touch of what is mapped there now", d_is_unmapped, take_or, &none);
    model_check(!repair(ranges[D].base + 5), "nothing is watched any more once it is unmapped");
}

static void copy_from_c(void)
{
    static struct model_site copy = {__FILE__, __LINE__, __func__, "the copy", 0, false, false, 0};
    const uint64_t word = model_load(&copy, &page_of_c, sizeof page_of_c);
    model_check(word != 0 || shmipc_segment_is_damaged(&segments[C]),
                "zeros where the file was truncated are told from data");
}

/* There was a handler before ours, and then somebody set SIGBUS to its default. */
static void set_back(void)
{
    prepare();
    previous.sa_flags = 0;
    previous.sa_handler = other_handler;
    kernel_word = 0;
}

static void send_sigbus(void)
{
    uint64_t none = 0;
    if ((model_system("a SIGBUS is sent", NULL, take_or, &none) & OURS) != 0) {
        siginfo_t info;
        memset(&info, 0, sizeof info);
        info.si_code = SI_USER;
        on_sigbus(SIGBUS, &info, NULL);
    }
}

/* ---- what holds in the end ------------------------------------------------------------------ */

static bool is_damaged(enum name name)
{
    return model_latest(&segments[name].damaged, 4) != 0;
}

static void check_watched(enum name name)
{
    const struct shmipc_fault_watch *watch = watches[name];
    model_check(model_latest(&watch->state, 8) % WATCH_STATES == WATCH_LIVE &&
                    model_latest(&watch->base, 8) == ranges[name].base &&
                    model_latest(&watch->len, 8) == ranges[name].len &&
                    model_latest(&watch->damaged, 8) ==
                        (uint64_t)(uintptr_t)&segments[name].damaged,
                "a range is watched in an entry of its own");
}

static void only_c_is_damaged(void)
{
    model_check(is_damaged(C), "the flag of what was truncated is set");
    model_check(!is_damaged(A) && !is_damaged(B) && !is_damaged(D), "no other flag is set");
    check_watched(B);
}

static void b_and_d_are_watched(void)
{
    model_check(watches[B] != watches[D], "no entry is given twice");
    check_watched(B);
    check_watched(D);
    model_check(!is_damaged(A) && !is_damaged(B) && !is_damaged(D), "no other flag is set");
}

static void d_is_watched(void)
{
    check_watched(D);
}

static const struct model_scenario scenarios[] = {
    {"fault-replace",
     "an entry of the list changes hands while another range faults",
     watch_a_and_c,
     {replace_a_by_b, fault_in_c},
     0,
     only_c_is_damaged,
     NULL},
    {"fault-probe",
     "... and the fault comes without its address",
     watch_a_and_c,
     {replace_a_by_b, raise_for_c},
     0,
     only_c_is_damaged,
     NULL},
    {"fault-elsewhere",
     "... and the fault is not ours",
     watch_a_and_c,
     {replace_a_by_b, fault_elsewhere},
     0,
     NULL,
     NULL},
    {"fault-claim",
     "two threads watch at once, one where it unwatched",
     watch_a_and_c,
     {replace_a_by_b, watch_d},
     0,
     b_and_d_are_watched,
     NULL},
    {"fault-inherit",
     "a thread watches where another has watched",
     watch_a,
     {watch_b_for_a_while, watch_d},
     0,
     d_is_watched,
     NULL},
    {"fault-grow",
     "two threads add to the list at once",
     watch_a_and_c,
     {watch_b, watch_d},
     0,
     b_and_d_are_watched,
     NULL},
    {"fault-walk",
     "the list grows while a range faults",
     watch_a_and_c,
     {watch_b, fault_in_c, watch_d},
     0,
     only_c_is_damaged,
     NULL},
    {"fault-map",
     "a range faults as soon as it is mapped",
     watch_a_and_c,
     {map_d, fault_in_d, replace_a_by_b},
     0,
     NULL,
     NULL},
    {"fault-unmap",
     "a fault in what was mapped over a former range",
     prepare_mapped_d,
     {unmap_d, fault_where_d_was, watch_b},
     0,
     NULL,
     NULL},
    {"fault-zeros",
     "a thread copies while another's handler lays zeros",
     watch_a_and_c,
     {fault_in_c, copy_from_c},
     0,
     NULL,
     NULL},
    {"fault-chain",
     "SIGBUS is set back to default, then ours again",
     set_back,
     {watch_b, send_sigbus},
     0,
     NULL,
     NULL},
};

const struct model_group model_fault = {scenarios, sizeof scenarios / sizeof scenarios[0]};
