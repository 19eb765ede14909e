/* crowd.c: see round.h. The processes of a round: started, armed, reaped, killed. */
#define _GNU_SOURCE
#include "round.h"

#ifdef KILLS_API
#include "actor_api.h"
#endif

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS 150000

bool round_fail(struct round *round, const char *format, ...)
{
    va_list arguments;
    if (round->failure[0] == '\0') {
        va_start(arguments, format);
        (void)vsnprintf(round->failure, sizeof round->failure, format, arguments);
        va_end(arguments);
    }
    return false;
}

void round_nap(void)
{
    const struct timespec span = {.tv_nsec = LOOK_NS};
    (void)nanosleep(&span, NULL);
}

/* ---- starting ------------------------------------------------------------------------------- */

enum who who_of(int index)
{
    return index == 0 ? PRODUCER : index == CLEANER_INDEX ? CLEANER : CONSUMER;
}

static int phase_of(const struct kill *kill)
{
    switch (kill->point->when) {
    case WHEN_STREAM:
    case WHEN_RECLAIM:
        return STREAMING;
    case WHEN_CLOSE:
    case WHEN_LAST:
        return CLOSING;
    default:
        return OPENING;
    }
}

const struct kill *armed(const struct round *round, int index)
{
    for (int i = 0; i < round->order->kills_count; i++) {
        const struct kill *kill = &round->order->kills[i];
        if (round->pending[i] && kill->index == index && kill->life <= round->life) {
            return kill;
        }
    }
    return NULL;
}

void arm(struct round *round, int index)
{
    struct actor *one = &round->board->actors[index];
    const struct kill *kill = armed(round, index);
    one->step = -1;
    one->step_phase = kill != NULL ? phase_of(kill) : 0;
    one->nth = kill != NULL ? kill->nth : 0;
    one->arrivals = 0;
    one->wait_any = mix(round->order->seed + (uint64_t)index) % 3 == 0;
    if (kill != NULL && kill->point->step >= SHMIPC_AT_WAIT_MARKED &&
        kill->point->step <= SHMIPC_AT_WAIT_ANY_SLEPT) {
        one->wait_any = kill->point->step >= SHMIPC_AT_WAIT_ANY_MARKED;
    }
    one->step = kill != NULL ? kill->point->step : -1;
}

bool start(struct round *round, int index)
{
    struct actor *one = &round->board->actors[index];
    one->state = ARRIVING;
    one->phase = OPENING;
    one->command = STAY;
    arm(round, index);
    one->killed_ns = 0;
    one->told_ns = 0;
    one->number = 0;
    const pid_t pid = fork();
    if (pid == 0) {
        actor_begin(round->board, index);
#ifdef KILLS_API
        if (who_of(index) == PRODUCER) {
            be_api_producer();
        }
        if (who_of(index) == CONSUMER && round->board->api_consumers) {
            be_api_consumer();
        }
#endif
        switch (who_of(index)) {
        case PRODUCER:
            be_producer();
        case CONSUMER:
            be_consumer();
        default:
            be_cleaner();
        }
    }
    if (pid < 0) {
        return round_fail(round, "fork failed");
    }
    round->pids[index] = pid;
    round->base[index] = 0;
    return true;
}

/* ---- waiting for who was killed on the way in ---------------------------------------------------
 */

bool waits_for_a_comer(const struct round *round)
{
    struct shmipc_segment segment;
    struct shmipc_error error;
    struct shmipc_ring ring;
    bool waits = false;
    if (!round->board->hold ||
        shmipc_segment_open(&segment, round->board->path, &error) != SHMIPC_OK) {
        return false;
    }
    if (shmipc_segment_map(&segment, false, &error) == SHMIPC_OK) {
        shmipc_ring_attach(&ring, &segment);
        waits = shmipc_ring_count_kept(&ring) > 0;
    }
    shmipc_segment_close(&segment);
    return waits;
}

/* ---- dying ---------------------------------------------------------------------------------- */

void note_positions(struct round *round)
{
    for (int i = 0; i < ACTORS; i++) {
        round->base[i] = round->board->actors[i].number;
    }
}

static void count_kill(struct round *round, int index)
{
    for (int i = 0; i < round->order->kills_count; i++) {
        const struct kill *kill = &round->order->kills[i];
        if (round->pending[i] && kill == armed(round, index)) {
            round->pending[i] = false;
            round->kills_done++;
            round->tally->by_step[kill->point->step]++;
            round->board->spent += kill->point->who == CONSUMER &&
                                   kill->point->step >= SHMIPC_AT_ATTACH_USED &&
                                   kill->point->step <= SHMIPC_AT_ATTACH_JOINED;
            round->tally->covered[kill->point - kill_points][round->order->config]++;
            return;
        }
    }
}

int reap(struct round *round)
{
    int deaths = 0;
    for (int i = 0; i < ACTORS; i++) {
        struct actor *one = &round->board->actors[i];
        int status;
        if (round->pids[i] == 0 || waitpid(round->pids[i], &status, WNOHANG) != round->pids[i]) {
            continue;
        }
        round->pids[i] = 0;
        one->state = ABSENT;
        if (i == 0) {
            round->board->arriving = 0;
        }
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && one->killed_ns != 0) {
            count_kill(round, i);
            deaths++;
        } else if (WIFSIGNALED(status)) {
            (void)round_fail(round, "actor %d ended by signal %d", i, WTERMSIG(status));
        } else if (WEXITSTATUS(status) != 0) {
            (void)round_fail(round, "actor %d: %s", i, one->failure);
        }
    }
    if (deaths > 0) {
        note_positions(round);
    }
    return round->failure[0] != '\0' ? -1 : deaths;
}

static void kill_by_hand(struct round *round, int index)
{
    struct actor *one = &round->board->actors[index];
    const uint64_t now_ns = shmipc_now_ns();
    one->killed_ns = now_ns;
    round->board->kill_ns = now_ns;
    round->board->external = 1;
    (void)kill(round->pids[index], SIGKILL);
}

void kill_at_any_moment(struct round *round, uint64_t life_ns)
{
    for (int i = 0; i < ACTORS; i++) {
        const struct actor *one = &round->board->actors[i];
        if (round->pids[i] != 0 && one->step == AT_ANY_MOMENT && one->killed_ns == 0 &&
            one->state == FLOWING && round->board->armed != 0 &&
            shmipc_now_ns() - life_ns > one->nth * 20000) {
            kill_by_hand(round, i);
        }
    }
}

bool kill_all(struct round *round)
{
    for (int i = 0; i < ACTORS; i++) {
        if (round->pids[i] != 0) {
            kill_by_hand(round, i);
            round->everybody++;
        }
    }
    for (int i = 0; i < ACTORS; i++) {
        int status;
        if (round->pids[i] != 0 && waitpid(round->pids[i], &status, 0) == round->pids[i]) {
            round->pids[i] = 0;
            round->board->actors[i].state = ABSENT;
            if (!WIFSIGNALED(status)) {
                (void)round_fail(round, "actor %d: %s", i, round->board->actors[i].failure);
            }
        }
    }
    return round->failure[0] == '\0';
}

bool round_told_before(const struct round *round, int index)
{
    const struct board *shared = round->board;
    const uint64_t told_ns = shared->actors[index].told_ns;
    if (who_of(index) == CONSUMER) {
        return round->pids[0] == 0 && told_ns > shared->identified_ns;
    }
    return round_is_durable(round) && round->pids[1] == 0 && told_ns > shared->attached_ns;
}
