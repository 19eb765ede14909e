/* api.c: see api.h. */
#define _GNU_SOURCE
#include "api.h"

#include "memory.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct api_log api_log;

static _Alignas(SHMIPC_LINE) struct shmipc_consumer the_consumer;
static struct shmipc_frame frames[API_FRAMES];
static char schema[8];
static uint64_t lists; /* stands for the lists of leases and frames: the thread inside writes it */
struct shmipc_consumer *const api_consumer = &the_consumer;

uintptr_t api_thread_self(void)
{
    return (uintptr_t)(model_self() < 0 ? 1 : model_self() + 1);
}

static _Noreturn void refuse(const char *what)
{
    fprintf(stderr, "model: %s is not modelled\n", what);
    exit(3);
}

/* ---- what stands in for others --------------------------------------------------------------- */

/* Not seen through by the compiler: it would learn where NULL comes from. */
__attribute__((noinline)) static void *api_alloc(size_t len)
{
    if (len == sizeof the_consumer) {
        return &the_consumer;
    }
    if (len != sizeof *frames) {
        return len <= sizeof schema ? schema : malloc(len);
    }
    model_check(api_log.allocated < API_FRAMES, "frames are used again");
    return api_log.allocated < API_FRAMES ? &frames[api_log.allocated++] : NULL;
}

static void api_free(void *block)
{
    if (block == &the_consumer) {
        api_log.freed++;
        model_free(block, sizeof the_consumer);
    } else if (block >= (void *)frames && block < (void *)(frames + API_FRAMES)) {
        api_log.freed++;
        model_free(block, sizeof *frames);
    } else if (block != schema) {
        free(block);
    }
}

static void api_end(struct shmipc_ring_consumer *ring, struct shmipc_lease *lease)
{
    /* The producer writes over what the frame showed. */
    const struct shmipc_frame *frame =
        (const struct shmipc_frame *)(const void *)((const char *)lease -
                                                    offsetof(struct shmipc_frame, lease));
    model_plain_store(&lists, 1);
    model_plain_store((volatile uint64_t *)frame->view.data, 0);
    api_log.ended++;
    shmipc_ring_end(ring, lease);
}

static void api_take(struct shmipc_ring_consumer *ring, const struct shmipc_message *message,
                     struct shmipc_lease *lease)
{
    model_plain_store(&lists, 0);
    api_log.taken++;
    shmipc_ring_take(ring, message, lease);
}

enum loop { LOOP_LOCK, LOOP_CALLERS, LOOP_CLOSE, LOOP_FRAME };

struct awaited {
    int thread;
    enum loop loop;
};

static const shmipc_atomic_thread *busy_word(void)
{
    const struct shmipc_handle *handle = api_log.handle;
    return &((const struct shmipc_entry *)model_latest(&handle->current, 8))->busy;
}

static bool has_come(void *arg)
{
    const struct awaited *awaited = arg;
    const struct shmipc_handle *handle = api_log.handle;
    switch (awaited->loop) {
    case LOOP_LOCK:
        return model_latest(&handle->lock, 4) == 0;
    case LOOP_CALLERS:
        return model_latest(&handle->callers, 4) == 0;
    default:
        break;
    }
    return model_latest(busy_word(), 8) == 0 ||
           (awaited->loop == LOOP_FRAME && model_latest(api_log.waits, 4) != 0) ||
           (api_log.retries && !api_log.retried[awaited->thread]);
}

static void see(int thread, const volatile void *word, size_t size)
{
    (void)memory_load(thread, memory_find(word, size), 0, 0);
}

/* Every store is seen at last. */
static uint64_t look_up(void *arg)
{
    const struct awaited *awaited = arg;
    const struct shmipc_handle *handle = api_log.handle;
    switch (awaited->loop) {
    case LOOP_LOCK:
        see(awaited->thread, &handle->lock, 4);
        break;
    case LOOP_CALLERS:
        see(awaited->thread, &handle->callers, 4);
        break;
    case LOOP_FRAME:
        see(awaited->thread, api_log.waits, 4);
        /* fall through */
    case LOOP_CLOSE:
        api_log.retried[awaited->thread] =
            api_log.retried[awaited->thread] || model_latest(busy_word(), 8) != 0;
        see(awaited->thread, busy_word(), 8);
        break;
    }
    return 0;
}

static void pause_in(enum loop loop)
{
    struct awaited awaited = {model_self(), loop};
    (void)model_system("looks again", has_come, look_up, &awaited);
    /* A thread that looks again remembers nothing of the last look. */
    if (loop != LOOP_CALLERS) {
        const uint64_t known[2] = {(uint64_t)loop, (uint64_t)api_log.place[awaited.thread]};
        model_checkpoint(2, known, sizeof known);
    }
}

/* handle.c waits for the lock, or holding it for the callers. */
static void pause_in_handle(void)
{
    const int lock = memory_find(&api_log.handle->lock, 4);
    pause_in(memory_latest(lock) != 0 && memory_writer(lock) == model_self() ? LOOP_CALLERS
                                                                             : LOOP_LOCK);
}

static void nap_in(const char *function)
{
    if (strcmp(function, "shmipc_handle_begin_close") != 0) {
        refuse(function);
    }
    pause_in(LOOP_CLOSE);
}

#define sched_yield() (pause_in_handle(), 0)
#define shmipc_wait_nap(span_ns) ((void)(span_ns), nap_in(__func__))
#define malloc(len) api_alloc(len)
#define aligned_alloc(alignment, len) ((void)(alignment), api_alloc(len))
#define free(block) api_free(block)
#define shmipc_ring_end(ring, lease) api_end((ring), (lease))
#define shmipc_ring_take(ring, message, lease) api_take((ring), (message), (lease))

#include "../../../src/api/consumer_handle.c"
#include "../../../src/api/consumer_peek.c"
#include "../../../src/api/consumer_recv.c"
#include "../../../src/api/consumer_wait.c"
#include "../../../src/api/endpoint.c"
#include "../../../src/api/frame_read.c"
#include "../../../src/api/handle.c"

#define shmipc_handle_pause(turns) ((void)(turns), pause_in(LOOP_FRAME))

#include "../../../src/api/frame_release.c"

/* ---- a scenario's beginning ------------------------------------------------------------------ */

void api_reset(struct shmipc_handle *handle)
{
    memset(&api_log, 0, sizeof api_log);
    memset(&the_consumer, 0, sizeof the_consumer);
    memset(frames, 0, sizeof frames);
    api_log.handle = handle;
    model_hash_claims(&api_log, sizeof api_log);
}

void api_retry_once(void)
{
    api_log.retries = true;
}

void api_share(void)
{
    /* Not the counts and the names: they change no outcome. */
    model_hash_also(&the_consumer.peeked, offsetof(struct shmipc_consumer, role.sleeps) -
                                              offsetof(struct shmipc_consumer, peeked));
    model_hash_also(&the_consumer.returned,
                    sizeof the_consumer - offsetof(struct shmipc_consumer, returned));
    model_hash_also(frames, sizeof frames);
    model_hash_also(&the_consumer.handle.closed, offsetof(struct shmipc_handle, callers) -
                                                     offsetof(struct shmipc_handle, closed));
    api_log.waits = &the_consumer.waits;
    model_let_stores_cross(&the_consumer.role.interrupted, 4);
    model_let_stores_cross(&the_consumer.handle.called_out, 4);
}

void api_open_consumer(void)
{
    struct shmipc_consumer_options options;
    struct shmipc_consumer *opened;
    shmipc_consumer_options_init(&options);
    options.spin_ns = 0;
    kernel_act_as(0);
    model_check(shmipc_consumer_open(&opened, "model", &options) == SHMIPC_SUCCESS,
                "a free ring can be consumed from");
    /* The peer lives, and nobody waits for room: other scenarios' business. */
    the_consumer.role.peer_look_ns = UINT64_MAX / 2;
    model_hold_still(&kernel_header->identity.closed);
    model_hold_still(&kernel_header->space.sleepers);
}

struct shmipc_frame *api_read_frame(void)
{
    struct shmipc_frame *frame;
    model_check(shmipc_consumer_read(api_consumer, &frame, SHMIPC_FOREVER) == SHMIPC_SUCCESS,
                "what was sent can be read");
    return frame;
}

/* ---- steps ---------------------------------------------------------------------------------- */

static uint64_t take_begin(void *arg)
{
    const int self = *(const int *)arg;
    api_log.met[self] = false;
    for (int other = 0; other < MODEL_MAX_THREADS; other++) {
        if (other != self && api_log.calls[other]) {
            api_log.met[other] = true;
            api_log.met[self] = true;
        }
    }
    api_log.calls[self] = true;
    return 0;
}

void api_begin_call(void)
{
    int self = model_self();
    (void)model_system("a call begins", NULL, take_begin, &self);
}

void api_end_call(void)
{
    api_log.calls[model_self()] = false;
    api_reach();
}

void api_reach(void)
{
    const int place = ++api_log.place[model_self()];
    /* As in remember_consumer. */
    the_consumer.role.ring.look_ticks = 0;
    the_consumer.role.ring.lockstep_streak = 0;
    the_consumer.role.ring.empty_polls = 0;
    the_consumer.role.ring.linger_rest = 0;
    the_consumer.role.ring.linger_penalty = 0;
    the_consumer.empty_looks = 0;
    model_checkpoint(1, &place, sizeof place);
}

bool api_met_another(void)
{
    return api_log.met[model_self()];
}
