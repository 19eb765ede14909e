/* actor.c: see kills.h. What every victim is made of: the hook that kills, and the measures. */
#define _GNU_SOURCE
#include "kills.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LATE_NS UINT64_C(100000000) /* what the README promises */

struct board *board;
struct actor *actor;
uint64_t (*actor_committed)(void);
static uint64_t random_state;

uint64_t mix(uint64_t value) /* splitmix64 */
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

uint64_t actor_random(void)
{
    return mix(random_state++);
}

void actor_begin(struct board *shared, int index)
{
    /* Nobody of a round outlives its parent. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    board = shared;
    actor = &shared->actors[index];
    random_state = mix(shared->seed + (uint64_t)index * 1000 + (uint64_t)shared->life);
}

void actor_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(actor->failure, sizeof actor->failure, format, arguments);
    va_end(arguments);
    _exit(1);
}

/* ---- dying ---------------------------------------------------------------------------------- */

static void die(void)
{
    const uint64_t now_ns = shmipc_now_ns();
    actor->killed_ns = now_ns;
    board->kill_ns = now_ns;
    (void)kill(getpid(), SIGKILL);
    for (;;) {
        (void)pause();
    }
}

/* What has just become true of the ring is noted before anybody dies of it. */
static void keep_books(int step)
{
    if (step == SHMIPC_AT_COMMIT_HEAD) {
        board->committed =
            actor_committed != NULL ? actor_committed() : (uint64_t)board->committing;
    } else if (step == SHMIPC_AT_RELEASE_CURSOR && (board->config & (OVERWRITE | MANY)) == 0) {
        board->released = board->releasing;
    } else if (step == SHMIPC_AT_ATTACH_PID) {
        board->holds_slot = 1;
        board->attached_ns = shmipc_now_ns();
    } else if (step == SHMIPC_AT_IDENTIFY_EPOCH) {
        board->identified_ns = shmipc_now_ns();
    } else if (step == SHMIPC_AT_LEAVE_PID) {
        board->holds_slot = 0;
    }
}

void actor_step(int step)
{
    if (actor == NULL) {
        return; /* the parent looks at a ring, too */
    }
    keep_books(step);
    actor->reached[actor->phase][step]++;
    if (actor->step == step && actor->step_phase == actor->phase && board->armed != 0 &&
        ++actor->arrivals >= actor->nth) {
        die();
    }
}

void shmipc_step_hook(enum shmipc_step step)
{
    actor_step((int)step);
}

void actor_phase(enum phase phase)
{
    actor->phase = (int)phase;
}

/* ---- waiting -------------------------------------------------------------------------------- */

void actor_nap(uint64_t span_ns)
{
    const struct timespec span = {.tv_nsec = (long)span_ns};
    (void)nanosleep(&span, NULL);
}

void actor_waited(uint64_t start_ns)
{
    const uint64_t now_ns = shmipc_now_ns();
    const uint64_t kill_ns = board->kill_ns;
    if (kill_ns == 0 || now_ns <= kill_ns) {
        return;
    }
    const uint64_t span_ns = now_ns - (kill_ns > start_ns ? kill_ns : start_ns);
    uint64_t longest_ns = board->longest_ns;
    while (span_ns > longest_ns &&
           !atomic_compare_exchange_weak(&board->longest_ns, &longest_ns, span_ns)) {
    }
    board->waits++;
    if (span_ns > LATE_NS) {
        board->late_waits++;
    }
}

void actor_told(uint64_t start_ns)
{
    actor_waited(start_ns);
    if (start_ns != 0) {
        actor->told_ns = shmipc_now_ns();
    }
}

bool actor_idle(void)
{
    actor->state = FINISHED;
    for (;;) {
        if (actor->command == LEAVE) {
            return true;
        }
        if (board->finish == 0) {
            actor->state = FLOWING;
            return false;
        }
        actor_nap(100000);
    }
}

/* ---- payloads ------------------------------------------------------------------------------- */

uint64_t payload_len(int config, uint64_t number)
{
    const uint64_t random = mix(number ^ 77);
    if ((config & TYPED) != 0) {
        return ITEM_LEN;
    }
    return random % 32 == 0 ? 1024 + random / 32 % 500 : 48 + random / 32 % 250;
}

static uint64_t checksum(uint64_t number, const unsigned char *body, uint64_t len)
{
    uint64_t hash = mix(number);
    for (uint64_t i = 0; i < len; i++) {
        hash = (hash ^ body[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

void payload_write(unsigned char *at, uint64_t number, uint64_t from, uint64_t to, uint64_t len)
{
    unsigned char whole[LONGEST_PAYLOAD];
    uint64_t word = 0;
    for (uint64_t i = 16; i < len; i++) {
        word = i % 8 == 0 ? mix(number * 512 + i) : word >> 8;
        whole[i] = (unsigned char)word;
    }
    const uint64_t sum = checksum(number, whole + 16, len - 16);
    memcpy(whole, &number, 8);
    memcpy(whole + 8, &sum, 8);
    memcpy(at + from, whole + from, to - from);
}

const char *payload_fault(const unsigned char *at, uint64_t len, uint64_t expected_len,
                          uint64_t *found)
{
    uint64_t sum;
    memcpy(found, at, 8);
    memcpy(&sum, at + 8, 8);
    if (len != expected_len) {
        return "of another length";
    }
    return checksum(*found, at + 16, len - 16) == sum ? NULL : "of other bytes";
}

void spec_of(const struct board *shared, struct shmipc_spec *spec)
{
    const bool typed = (shared->config & TYPED) != 0;
    *spec = (struct shmipc_spec){
        .framing = typed ? SHMIPC_FRAMING_TYPED : SHMIPC_FRAMING_MESSAGE,
        .overflow =
            (shared->config & OVERWRITE) != 0 ? SHMIPC_OVERFLOW_OVERWRITE : SHMIPC_OVERFLOW_BLOCK,
        .slots = (shared->config & MANY) != 0 ? CONSUMERS : 1,
        .item_len = typed ? ITEM_LEN : 0,
        .capacity = shared->bigger ? (typed ? 100 : 8192) : (typed ? 50 : 4096),
        .schema = typed ? "a schema" : NULL,
        .schema_len = typed ? 8 : 0,
        .mode = 0600,
        .hold_for = shared->hold ? CONSUMERS : 0,
    };
}

_Noreturn void be_cleaner(void)
{
    struct shmipc_error error;
    enum shmipc_clean_result result;
    actor->state = ARRIVING;
    actor_phase(OPENING);
    const enum shmipc_status status = shmipc_segment_clean(board->path, true, &result, &error);
    if (status == SHMIPC_NOT_FOUND) {
        _exit(0); /* a predecessor got as far as that */
    }
    if (status != SHMIPC_OK || result != SHMIPC_CLEAN_REMOVED) {
        actor_fail("clean came to status %d, result %d: %s", (int)status, (int)result,
                   status != SHMIPC_OK ? error.text : "");
    }
    _exit(0);
}
