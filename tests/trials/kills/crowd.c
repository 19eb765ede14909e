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
    switch (kill->place->when) {
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
    struct seat *place = &round->board->seats[index];
    const struct kill *kill = armed(round, index);
    place->step = -1;
    place->step_phase = kill != NULL ? phase_of(kill) : 0;
    place->nth = kill != NULL ? kill->nth : 0;
    place->arrivals = 0;
    place->wait_any = mix(round->order->seed + (uint64_t)index) % 3 == 0;
    if (kill != NULL && kill->place->step >= SHMIPC_AT_WAIT_MARKED &&
        kill->place->step <= SHMIPC_AT_WAIT_ANY_SLEPT) {
        place->wait_any = kill->place->step >= SHMIPC_AT_WAIT_ANY_MARKED;
    }
    place->step = kill != NULL ? kill->place->step : -1;
}

bool start(struct round *round, int index)
{
    struct seat *place = &round->board->seats[index];
    place->state = ARRIVING;
    place->phase = OPENING;
    place->command = STAY;
    arm(round, index);
    place->killed_ns = 0;
    place->told_ns = 0;
    place->number = 0;
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
        round->base[i] = round->board->seats[i].number;
    }
}

static void count_kill(struct round *round, int index)
{
    for (int i = 0; i < round->order->kills_count; i++) {
        const struct kill *kill = &round->order->kills[i];
        if (round->pending[i] && kill == armed(round, index)) {
            round->pending[i] = false;
            round->kills_done++;
            round->tally->by_step[kill->place->step]++;
            round->board->spent += kill->place->who == CONSUMER &&
                                   kill->place->step >= SHMIPC_AT_ATTACH_USED &&
                                   kill->place->step <= SHMIPC_AT_ATTACH_JOINED;
            round->tally->covered[kill->place - places][round->order->config]++;
            return;
        }
    }
}

int reap(struct round *round)
{
    int deaths = 0;
    for (int i = 0; i < ACTORS; i++) {
        struct seat *place = &round->board->seats[i];
        int status;
        if (round->pids[i] == 0 || waitpid(round->pids[i], &status, WNOHANG) != round->pids[i]) {
            continue;
        }
        round->pids[i] = 0;
        place->state = ABSENT;
        if (i == 0) {
            round->board->arriving = 0;
        }
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && place->killed_ns != 0) {
            count_kill(round, i);
            deaths++;
        } else if (WIFSIGNALED(status)) {
            (void)round_fail(round, "seat %d ended by signal %d", i, WTERMSIG(status));
        } else if (WEXITSTATUS(status) != 0) {
            (void)round_fail(round, "seat %d: %s", i, place->failure);
        }
    }
    if (deaths > 0) {
        note_positions(round);
    }
    return round->failure[0] != '\0' ? -1 : deaths;
}

static void kill_by_hand(struct round *round, int index)
{
    struct seat *place = &round->board->seats[index];
    const uint64_t now_ns = shmipc_now_ns();
    place->killed_ns = now_ns;
    round->board->kill_ns = now_ns;
    round->board->external = 1;
    (void)kill(round->pids[index], SIGKILL);
}

void kill_at_any_moment(struct round *round, uint64_t life_ns)
{
    for (int i = 0; i < ACTORS; i++) {
        const struct seat *place = &round->board->seats[i];
        if (round->pids[i] != 0 && place->step == AT_ANY_MOMENT && place->killed_ns == 0 &&
            place->state == FLOWING && round->board->armed != 0 &&
            shmipc_now_ns() - life_ns > place->nth * 20000) {
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
            round->board->seats[i].state = ABSENT;
            if (!WIFSIGNALED(status)) {
                (void)round_fail(round, "seat %d: %s", i, round->board->seats[i].failure);
            }
        }
    }
    return round->failure[0] == '\0';
}

bool round_told_before(const struct round *round, int index)
{
    const struct board *shared = round->board;
    const uint64_t told_ns = shared->seats[index].told_ns;
    if (who_of(index) == CONSUMER) {
        return round->pids[0] == 0 && told_ns > shared->identified_ns;
    }
    return round_is_durable(round) && round->pids[1] == 0 && told_ns > shared->attached_ns;
}
