/* kernel.c: see kernel.h. */
#include "kernel.h"

#include "checked_atomic.h"
#include "memory.h"
#include "../../../src/core/wait/wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOCKS = 6, FDS_PER_THREAD = 8, MAX_WORDS = 2 };

struct sleep {
    bool asleep;
    bool woken;
    const shmipc_atomic_u32 *words[MAX_WORDS];
};

/* All of it is hashed, so all of it is state. */
static struct kernel {
    bool named;
    bool slices_end;
    bool clock_runs;
    bool membarrier;
    int registered;
    int opened[MODEL_MAX_THREADS];
    int lock_fd[LOCKS]; /* 0: free */
    uint64_t now_ns[MODEL_MAX_THREADS];
    struct sleep sleeps[MODEL_MAX_THREADS];
    struct view lock_view[LOCKS];
} kernel;

static int acting;
static struct shmipc_geometry geometry;
static _Alignas(SHMIPC_LINE) unsigned char segment_bytes[2048];
static _Alignas(SHMIPC_LINE) unsigned char area_bytes[512];
struct shmipc_header *const kernel_header = (struct shmipc_header *)(void *)segment_bytes;

static int self(void)
{
    return model_self() >= 0 ? model_self() : acting;
}

const void *model_kernel_state(size_t *len)
{
    *len = sizeof kernel;
    return &kernel;
}

void kernel_create(enum shmipc_framing framing, enum shmipc_overflow overflow, uint32_t slots,
                   uint64_t item_len, uint64_t area_len, uint64_t origin_pos)
{
    const struct shmipc_spec spec = {.framing = framing,
                                     .overflow = overflow,
                                     .slots = slots,
                                     .item_len = item_len,
                                     .schema = "",
                                     .capacity = 1,
                                     .origin_pos = origin_pos};
    memset(&kernel, 0, sizeof kernel);
    memset(segment_bytes, 0, sizeof segment_bytes);
    memset(area_bytes, 0, sizeof area_bytes);
    shmipc_geometry_init(&geometry, &spec);
    geometry.area_len = area_len; /* less than a page: the core does not mind */
    kernel_header->geometry = geometry;
    kernel.named = true;
    for (int i = 0; i < MODEL_MAX_THREADS; i++) {
        kernel.now_ns[i] = 1;
    }
}

void kernel_act_as(int thread)
{
    acting = thread;
}

void kernel_allow_membarrier(int registered_threads, bool callable)
{
    kernel.registered = registered_threads;
    kernel.membarrier = callable;
}

void kernel_let_clock_run(void)
{
    kernel.clock_runs = true;
}

void kernel_let_slices_end(void)
{
    kernel.slices_end = true;
}

bool kernel_is_named(void)
{
    return kernel.named;
}

bool kernel_has_locks(void)
{
    for (int i = 0; i < LOCKS; i++) {
        if (kernel.lock_fd[i] != 0) {
            return true;
        }
    }
    return false;
}

/* ---- locks --------------------------------------------------------------------------------- */

struct request {
    int fd;
    uint32_t byte;
    uint32_t count;
};

static uint64_t take_lock(void *arg)
{
    const struct request *request = arg;
    if (kernel.lock_fd[request->byte] != 0 && kernel.lock_fd[request->byte] != request->fd) {
        return 0;
    }
    kernel.lock_fd[request->byte] = request->fd;
    memory_receive(self(), &kernel.lock_view[request->byte]);
    return 1;
}

static uint64_t drop_lock(void *arg)
{
    const struct request *request = arg;
    if (kernel.lock_fd[request->byte] == request->fd) {
        kernel.lock_fd[request->byte] = 0;
        memory_publish(self(), &kernel.lock_view[request->byte]);
    }
    return 0;
}

static uint64_t query_lock(void *arg)
{
    const struct request *request = arg;
    for (uint32_t byte = request->byte; byte < request->byte + request->count; byte++) {
        if (kernel.lock_fd[byte] != 0 && kernel.lock_fd[byte] != request->fd) {
            return 1;
        }
        memory_receive(self(), &kernel.lock_view[byte]);
    }
    return 0;
}

static uint64_t drop_all(void *arg)
{
    struct request request = *(const struct request *)arg;
    for (request.byte = 0; request.byte < LOCKS; request.byte++) {
        (void)drop_lock(&request);
    }
    return 0;
}

bool shmipc_lock_try(const struct shmipc_segment *segment, uint32_t byte)
{
    struct request request = {segment->fd, byte, 1};
    return model_system("lock", NULL, take_lock, &request) != 0;
}

void shmipc_lock_drop(const struct shmipc_segment *segment, uint32_t byte)
{
    struct request request = {segment->fd, byte, 1};
    (void)model_system("unlock", NULL, drop_lock, &request);
}

bool shmipc_lock_is_taken(int reason)
{
    (void)reason;
    return true; /* this kernel refuses for no other reason */
}

bool shmipc_lock_is_held(const struct shmipc_segment *segment, uint32_t byte, uint32_t count)
{
    struct request request = {segment->fd, byte, count};
    return model_system("is it locked?", NULL, query_lock, &request) != 0;
}

static bool gate_is_free(void *arg)
{
    (void)arg;
    return kernel.lock_fd[SHMIPC_LOCK_GATE] == 0;
}

enum shmipc_status shmipc_gate_enter(struct shmipc_segment *segment, struct shmipc_error *error)
{
    struct request request = {segment->fd, SHMIPC_LOCK_GATE, 1};
    (void)error;
    (void)model_system("enter the gate", gate_is_free, take_lock, &request);
    return SHMIPC_OK;
}

void shmipc_gate_leave(const struct shmipc_segment *segment)
{
    shmipc_lock_drop(segment, SHMIPC_LOCK_GATE);
}

const char *shmipc_holder_note(const struct shmipc_segment *segment, uint32_t pid)
{
    (void)segment;
    (void)pid;
    return "";
}

void kernel_bury(int thread)
{
    for (int byte = 0; byte < LOCKS; byte++) {
        if (kernel.lock_fd[byte] != 0 && kernel.lock_fd[byte] / FDS_PER_THREAD == thread + 1) {
            kernel.lock_fd[byte] = 0;
            memory_publish(thread, &kernel.lock_view[byte]);
        }
    }
    kernel.sleeps[thread].asleep = false;
}

/* ---- the segment --------------------------------------------------------------------------- */

static uint64_t look_for_name(void *arg)
{
    (void)arg;
    return kernel.named;
}

static uint64_t drop_name(void *arg)
{
    (void)arg;
    kernel.named = false;
    return 0;
}

enum shmipc_status shmipc_segment_open(struct shmipc_segment *segment, const char *path,
                                       struct shmipc_error *error)
{
    (void)path, (void)error;
    memset(segment, 0, sizeof *segment);
    segment->fd = -1;
    if (model_system("open", NULL, look_for_name, NULL) == 0) {
        return SHMIPC_NOT_FOUND;
    }
    segment->fd = (self() + 1) * FDS_PER_THREAD + kernel.opened[self()]++;
    segment->geometry = geometry;
    return SHMIPC_OK;
}

enum shmipc_status shmipc_segment_check_owner(const struct shmipc_segment *segment,
                                              struct shmipc_error *error)
{
    (void)segment, (void)error;
    return SHMIPC_OK;
}

enum shmipc_status shmipc_segment_set_mode(struct shmipc_segment *segment, uint32_t mode,
                                           struct shmipc_error *error)
{
    (void)segment, (void)mode, (void)error;
    return SHMIPC_OK;
}

enum shmipc_status shmipc_segment_map(struct shmipc_segment *segment, bool writable,
                                      struct shmipc_error *error)
{
    (void)writable, (void)error;
    segment->header = kernel_header;
    segment->data = area_bytes;
    return SHMIPC_OK;
}

bool shmipc_segment_is_named(const struct shmipc_segment *segment)
{
    (void)segment;
    return model_system("stat", NULL, look_for_name, NULL) != 0;
}

bool shmipc_segment_unlink(const struct shmipc_segment *segment)
{
    (void)segment;
    (void)model_system("unlink", NULL, drop_name, NULL);
    return true;
}

void shmipc_segment_detach(struct shmipc_segment *segment)
{
    struct request request = {segment->fd, 0, LOCKS};
    if (segment->fd >= 0) {
        (void)model_system("close", NULL, drop_all, &request);
        segment->fd = -1;
    }
}

void shmipc_segment_close(struct shmipc_segment *segment)
{
    shmipc_segment_detach(segment);
    segment->header = NULL;
}

uint32_t shmipc_fork_count(void)
{
    return 0;
}

void shmipc_segment_privatize(struct shmipc_segment *segment)
{
    (void)segment;
}

static _Noreturn void refuse(const char *what)
{
    fprintf(stderr, "model: %s is not modelled\n", what);
    exit(3);
}

enum shmipc_status shmipc_segment_create(struct shmipc_segment *segment, const char *path,
                                         const struct shmipc_spec *spec, struct shmipc_error *error)
{
    (void)segment, (void)path, (void)spec, (void)error;
    refuse("creating a segment");
}

enum shmipc_status shmipc_segment_publish(struct shmipc_segment *segment,
                                          struct shmipc_error *error)
{
    (void)segment, (void)error;
    refuse("publishing a segment");
}

enum shmipc_status shmipc_segment_read_schema(const struct shmipc_segment *segment, char *schema,
                                              struct shmipc_error *error)
{
    (void)segment, (void)schema, (void)error;
    return SHMIPC_OK;
}

ssize_t shmipc_segment_pread(const struct shmipc_segment *segment, void *to, size_t len,
                             uint64_t off)
{
    (void)segment, (void)to, (void)len, (void)off;
    refuse("a schema"); /* rings here have none */
}

enum shmipc_status shmipc_segment_examine(struct shmipc_segment *segment)
{
    (void)segment;
    return SHMIPC_OK; /* nothing truncates the file here: tests/native/c/test_truncation.c does */
}

enum shmipc_status shmipc_segment_fail_damaged(const struct shmipc_segment *segment,
                                               struct shmipc_error *error)
{
    (void)segment;
    (void)error;
    refuse("a damaged segment");
}

enum shmipc_status shmipc_segment_open_damaged(struct shmipc_segment *segment, const char *path,
                                               bool *damaged, struct shmipc_error *error)
{
    *damaged = false;
    return shmipc_segment_open(segment, path, error);
}

/* ---- waiting ------------------------------------------------------------------------------- */

uint64_t shmipc_now_ns(void)
{
    kernel.now_ns[self()] += kernel.clock_runs ? SHMIPC_SPIN_FLOOR_NS : 0;
    return kernel.now_ns[self()];
}

bool shmipc_wait_register(void)
{
    return (kernel.registered >> self() & 1) != 0;
}

static uint64_t bar_thread(void *arg)
{
    const int thread = *(const int *)arg;
    if (thread == self() || (kernel.registered >> thread & 1) != 0) {
        model_fence_of(thread);
    }
    return 0;
}

bool shmipc_membarrier(void)
{
    struct model_site *site = MODEL_SITE("membarrier", MODEL_FULL);
    if (!kernel.membarrier) {
        return false;
    }
    site->reached = site->reached || model_self() >= 0;
    if (site->weakened) {
        return true;
    }
    int thread = self();
    (void)model_system("membarrier begins", NULL, bar_thread, &thread);
    for (thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        if (thread != self() && model_has_run(thread)) {
            (void)model_system("membarrier reaches a thread", NULL, bar_thread, &thread);
        }
    }
    thread = self();
    (void)model_system("membarrier ends", NULL, bar_thread, &thread);
    return true;
}

struct nap {
    shmipc_atomic_u32 *const *words;
    const uint32_t *marks;
    uint32_t count;
};

static uint64_t fall_asleep(void *arg)
{
    const struct nap *nap = arg;
    struct sleep *sleep = &kernel.sleeps[self()];
    for (uint32_t i = 0; i < nap->count; i++) {
        if ((uint32_t)model_latest(nap->words[i], 4) != nap->marks[i]) {
            return 0;
        }
    }
    memset(sleep, 0, sizeof *sleep);
    sleep->asleep = true;
    for (uint32_t i = 0; i < nap->count; i++) {
        sleep->words[i] = nap->words[i];
    }
    return 1;
}

/* Nobody alive could go on: all that is left is the end of somebody's slice. */
static bool is_quiet(void)
{
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        if (model_is_alive(thread) &&
            (!kernel.sleeps[thread].asleep || kernel.sleeps[thread].woken)) {
            return false;
        }
    }
    return true;
}

static bool can_wake(void *arg)
{
    const struct sleep *sleep = arg;
    return sleep->woken || (kernel.slices_end && is_quiet());
}

static uint64_t wake_up(void *arg)
{
    struct sleep *sleep = arg;
    if (!sleep->woken) {
        kernel.now_ns[self()] += SHMIPC_SLICE_NS;
    }
    memset(sleep, 0, sizeof *sleep);
    return 0;
}

void shmipc_wait_sleep_any(shmipc_atomic_u32 *const *words, const uint32_t *marks, uint32_t count,
                           uint64_t span_ns)
{
    struct nap nap = {words, marks, count};
    (void)span_ns;
    if (count > MAX_WORDS) {
        refuse("a sleep on that many words");
    }
    if (model_system("futex_wait", NULL, fall_asleep, &nap) != 0) {
        (void)model_system("asleep", can_wake, wake_up, &kernel.sleeps[self()]);
    }
}

void shmipc_wait_sleep(shmipc_atomic_u32 *word, uint32_t mark, uint64_t span_ns)
{
    shmipc_wait_sleep_any(&word, &mark, 1, span_ns);
}

static uint64_t wake_all(void *arg)
{
    const shmipc_atomic_u32 *word = arg;
    for (int thread = 0; thread < MODEL_MAX_THREADS; thread++) {
        struct sleep *sleep = &kernel.sleeps[thread];
        for (int i = 0; i < MAX_WORDS; i++) {
            sleep->woken = sleep->woken || (sleep->asleep && sleep->words[i] == word);
        }
    }
    return 0;
}

void shmipc_futex_wake(shmipc_atomic_u32 *word)
{
    (void)model_system("futex_wake", NULL, wake_all, word);
}

void shmipc_wait_nap(uint64_t span_ns)
{
    (void)span_ns;
    refuse("a nap");
}
