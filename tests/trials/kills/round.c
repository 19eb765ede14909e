/* round.c: see round.h. The course of a round: processes start, some die, the survivors are asked
 * for what was promised, successors come, and at the end nothing may be left. */
#define _GNU_SOURCE
#include "round.h"

#include "../../../src/core/segment/locks.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LAP 70 /* messages: more than a ring holds, so whoever sends them is not held back */
#define FEW 10
#define GIVE_UP_NS UINT64_C(1500000000)

static uint64_t dice(struct round *round)
{
    return mix(round->random++);
}

static int consumers_of(const struct round *round)
{
    return (round->order->config & MANY) != 0 ? CONSUMERS : 1;
}

static bool exists(const struct round *round)
{
    return access(round->board->path, F_OK) == 0;
}

/* A ring without a past. */
static void begin_again(struct round *round)
{
    struct board *shared = round->board;
    shared->committed = shared->committing = 0;
    shared->released = shared->releasing = shared->processed = 0;
    shared->holds_slot = 0;
    shared->identified_ns = shared->attached_ns = 0;
    shared->external = 0;
}

/* ---- what survivors owe --------------------------------------------------------------------- */

static bool has_gone_on(const struct round *round, int index)
{
    const struct actor *one = &round->board->actors[index];
    if (round->pids[index] == 0 || one->told_ns > round->board->kill_ns) {
        return true;
    }
    if (round_told_before(round, index)) {
        return one->state == FLOWING;
    }
    if (who_of(index) == CONSUMER) {
        return one->state == FLOWING && one->number >= round->base[index] + FEW;
    }
    /* A durable queue that nobody has attached to since its last consumer left just waits. */
    return one->state == FLOWING &&
           (one->number >= round->base[index] + LAP ||
            (round_is_durable(round) && round->pids[1] == 0 && round->board->holds_slot == 0));
}

static bool settle(struct round *round)
{
    uint64_t since_ns = shmipc_now_ns();
    round->board->total = UINT64_MAX;
    round->board->finish = 0;
    for (;;) {
        int behind = -1;
        const int deaths = reap(round);
        if (deaths < 0) {
            return false;
        }
        if (deaths > 0) {
            since_ns = shmipc_now_ns();
        }
        for (int i = 0; i < ACTORS; i++) {
            behind = has_gone_on(round, i) ? behind : i;
        }
        if (behind < 0 || waits_for_a_comer(round)) {
            return true;
        }
        if (shmipc_now_ns() - since_ns > patience_ns) {
            return round_fail(
                round,
                "actor %d neither went on nor was told (state %d, message %llu, %llu at the "
                "death)",
                behind, (int)round->board->actors[behind].state,
                (unsigned long long)round->board->actors[behind].number,
                (unsigned long long)round->base[behind]);
        }
        kill_at_any_moment(round, 0);
        round_nap();
    }
}

/* ---- the ordinary end ----------------------------------------------------------------------- */

static bool is_flowing(const struct round *round)
{
    for (int i = 0; i <= consumers_of(round); i++) {
        const struct actor *one = &round->board->actors[i];
        if (one->state != FLOWING || one->number < round->base[i] + (i == 0 ? LAP : FEW)) {
            return false;
        }
    }
    return true;
}

static bool all_are(const struct round *round, enum state state)
{
    for (int i = 0; i < ACTORS; i++) {
        if (round->pids[i] != 0 && round->board->actors[i].state != (int)state) {
            return false;
        }
    }
    return true;
}

/* While the producer alone is left: no slot, bit or lock of a consumer. */
static bool look_at_rest(struct round *round)
{
    struct shmipc_segment segment;
    struct shmipc_error error;
    enum shmipc_clean_result result;
    if (shmipc_segment_clean(round->board->path, true, &result, &error) != SHMIPC_OK ||
        result != SHMIPC_CLEAN_ALIVE) {
        return round_fail(round, "cleaning a live ring came to %d", (int)result);
    }
    if (shmipc_segment_open(&segment, round->board->path, &error) != SHMIPC_OK ||
        shmipc_segment_map(&segment, false, &error) != SHMIPC_OK) {
        return round_fail(round, "looking at the ring: %s", error.text);
    }
    const uint32_t slots = segment.geometry.slots;
    const uint64_t bits = segment.header->members.bits[0];
    if (bits != (round_is_durable(round) ? 1u : 0u)) {
        round->tally->bits_left++;
        (void)round_fail(round, "member bits %llx are left", (unsigned long long)bits);
    }
    for (uint32_t slot = 0; slot < slots; slot++) {
        if (segment.header->slots[slot].pid != 0) {
            round->tally->bits_left++;
            (void)round_fail(round, "slot %u still names a process", slot);
        }
    }
    if (shmipc_lock_is_held(&segment, SHMIPC_LOCK_SLOT0, slots) ||
        shmipc_lock_is_held(&segment, SHMIPC_LOCK_GATE, 1)) {
        round->tally->locks_left++;
        (void)round_fail(round, "a lock is left");
    }
    shmipc_segment_close(&segment);
    return round->failure[0] == '\0';
}

/* In which order they leave: a victim that has to be the last one is. */
static void leaving_order(struct round *round, int *order)
{
    int count = 0;
    for (int i = 0; i < CLEANER_INDEX; i++) {
        order[count++] = i;
    }
    for (int i = count - 1; i > 0; i--) {
        const int j = (int)(dice(round) % (uint64_t)(i + 1));
        const int other = order[i];
        order[i] = order[j];
        order[j] = other;
    }
    int last = dice(round) % 2 == 0 && !round->board->drowsy ? 0 : -1;
    for (int i = 0; i < CLEANER_INDEX; i++) {
        const struct kill *kill = armed(round, i);
        last = kill != NULL && kill->point->when == WHEN_LAST ? i : last;
    }
    for (int i = 1; i < count && round->board->drowsy; i++) {
        if (order[i] == 0) { /* it wakes the others */
            order[i] = order[0];
            order[0] = 0;
        }
    }
    for (int i = 0; i < count - 1; i++) {
        if (order[i] == last) {
            order[i] = order[count - 1];
            order[count - 1] = last;
        }
    }
}

/* 1: everybody has left, 0: somebody died, -1: failed. */
static int leave_in_turn(struct round *round)
{
    int order[ACTORS];
    leaving_order(round, order);
    for (int i = 0; i < CLEANER_INDEX; i++) {
        const uint64_t since_ns = shmipc_now_ns();
        if (round->pids[order[i]] == 0) {
            continue;
        }
        if (order[i] == 0 && i == CLEANER_INDEX - 1 && !look_at_rest(round)) {
            return -1;
        }
        round->board->actors[order[i]].command = LEAVE;
        while (round->pids[order[i]] != 0) {
            const int deaths = reap(round);
            if (deaths != 0) {
                return deaths < 0 ? -1 : 0;
            }
            if (shmipc_now_ns() - since_ns > patience_ns) {
                (void)round_fail(round, "actor %d does not come to an end", order[i]);
                return -1;
            }
            round_nap();
        }
    }
    return 1;
}

/* ---- one life: from a start to deaths or to the end ----------------------------------------- */

static bool has_pending(const struct round *round, bool (*is)(const struct kill *kill))
{
    for (int i = 0; i < ACTORS; i++) {
        const struct kill *kill = armed(round, i);
        if (kill != NULL && round->pids[i] != 0 && is(kill)) {
            return true;
        }
    }
    return false;
}

static bool is_before_the_end(const struct kill *kill)
{
    return kill->point->when != WHEN_CLOSE && kill->point->when != WHEN_LAST;
}

/* Is a slot to be reclaimed? A later consumer would just take the dead one's slot. */
static bool needs_company(const struct round *round)
{
    for (int i = 0; i < round->order->kills_count; i++) {
        if (round->pending[i] && round->order->kills[i].point->when == WHEN_RECLAIM) {
            return true;
        }
    }
    return false;
}

static bool start_all(struct round *round)
{
    struct board *shared = round->board;
    shared->life = round->life;
    shared->kill_ns = 0;
    shared->total = UINT64_MAX;
    shared->finish = 0;
    shared->armed = needs_company(round) ? 0 : 1;
    note_positions(round);
    if (!exists(round)) {
        for (int i = 0; i < ACTORS; i++) {
            if (round->pids[i] != 0 && shared->actors[i].state != ARRIVING) {
                return round_fail(round, "the file is gone, and actor %d is attached to it", i);
            }
        }
        begin_again(round);
    }
    for (int i = 0; i <= consumers_of(round); i++) {
        const uint64_t since_ns = shmipc_now_ns();
        if (round->pids[i] != 0) {
            arm(round, i); /* it survived the last life; this one may have a kill for it */
        } else if (!start(round, i)) {
            return false;
        }
        /* Before anybody attaches to the ring that is to be replaced. */
        while (i == 0 && shared->bigger && shared->actors[0].state == ARRIVING) {
            if (reap(round) != 0 || shmipc_now_ns() - since_ns > patience_ns) {
                return round_fail(round, "the ring was not replaced");
            }
            round_nap();
        }
    }
    return true;
}

enum until {
    UNTIL_FLOWING,  /* everybody is busy */
    UNTIL_FINISHED, /* everybody has read everything, and stays */
    UNTIL_LEFT
};

/* 1: it got that far, 0: somebody died and the others know, -1: failed. */
static int live(struct round *round, enum until until)
{
    if (!start_all(round)) {
        return -1;
    }
    const uint64_t life_ns = shmipc_now_ns();
    for (;;) {
        const int deaths = reap(round);
        const uint64_t span_ns = shmipc_now_ns() - life_ns;
        if (deaths != 0) {
            return deaths < 0 || !settle(round) ? -1 : 0;
        }
        if (round->board->armed == 0 && all_are(round, FLOWING)) {
            round->board->armed = 1;
        }
        kill_at_any_moment(round, life_ns);
        const bool wait_on = has_pending(round, is_before_the_end) && span_ns < GIVE_UP_NS;
        if (!wait_on && round->board->finish == 0 && is_flowing(round)) {
            if (until == UNTIL_FLOWING) {
                return 1;
            }
            round->board->finish = 1;
        }
        if (round->board->finish != 0 && all_are(round, FINISHED)) {
            const int left = until == UNTIL_FINISHED ? 1 : leave_in_turn(round);
            return left == 0 && !settle(round) ? -1 : left;
        }
        if (span_ns > 2 * patience_ns) {
            (void)round_fail(round, "the stream does not get on (finish %d, states %d %d %d %d)",
                             (int)round->board->finish, (int)round->board->actors[0].state,
                             (int)round->board->actors[1].state, (int)round->board->actors[2].state,
                             (int)round->board->actors[3].state);
            return -1;
        }
        round_nap();
    }
}

/* One process alone, armed or not; it must end. */
static bool run_alone(struct round *round, int index)
{
    const uint64_t since_ns = shmipc_now_ns();
    round->board->life = round->life;
    round->board->armed = 1;
    if (!start(round, index)) {
        return false;
    }
    while (round->pids[index] != 0) {
        if (reap(round) < 0) {
            return false;
        }
        if (shmipc_now_ns() - since_ns > patience_ns ||
            (index == 0 && round->board->actors[0].state == FLOWING)) {
            return round_fail(round, "actor %d passed its label", index);
        }
        round_nap();
    }
    return true;
}

/* Everybody dies; then somebody cleans up, or takes the ring for another one. */
static bool prepare_ruins(struct round *round)
{
    const enum when when = round->order->kills[0].point->when;
    const bool drained = when == WHEN_REPLACE || dice(round) % 2 == 0;
    return live(round, drained ? UNTIL_FINISHED : UNTIL_FLOWING) == 1 && kill_all(round);
}

static bool run_ruins(struct round *round)
{
    const enum when when = round->order->kills[0].point->when;
    if (!prepare_ruins(round)) {
        return round_fail(round, "there are no ruins");
    }
    round->life = 1;
    if (when == WHEN_CLEAN) {
        if (!run_alone(round, CLEANER_INDEX)) {
            return false;
        }
        if (dice(round) % 2 == 0) {
            round->life++;
            return run_alone(round, CLEANER_INDEX) &&
                   (!exists(round) || round_fail(round, "cleaned, and still there"));
        }
    } else {
        round->board->bigger = when == WHEN_REPLACE;
        if (!run_alone(round, 0)) {
            return false;
        }
    }
    if (when == WHEN_REPLACE) {
        begin_again(round);
    }
    round->life++;
    return live(round, UNTIL_LEFT) == 1;
}

static bool run_lives(struct round *round)
{
    const enum when when =
        round->order->kills_count > 0 ? round->order->kills[0].point->when : WHEN_STREAM;
    if (when >= WHEN_REPLACE) {
        return run_ruins(round);
    }
    for (round->life = 0; round->life < 8; round->life++) {
        const int ended = live(round, UNTIL_LEFT);
        if (ended != 0) {
            return ended > 0;
        }
    }
    return round_fail(round, "it does not come to an end");
}

static void add_up(struct round *round)
{
    struct tally *tally = round->tally;
    struct board *shared = round->board;
    tally->rounds++;
    tally->failures += round->failure[0] != '\0';
    tally->everybody += (uint64_t)round->everybody;
    const uint64_t kills = (uint64_t)round->kills_done;
    if (kills + (uint64_t)round->everybody == 1) {
        tally->alone++;
    } else {
        tally->paired += kills;
    }
    tally->sent += shared->sent;
    tally->received += shared->received;
    tally->lost += shared->lost;
    tally->torn += shared->torn;
    tally->repeated += shared->repeated;
    tally->missing += shared->missing;
    tally->waits += shared->waits;
    tally->late += shared->late_waits;
    tally->late_rounds += shared->late_waits != 0;
    uint64_t longest_ns = tally->longest_ns;
    while (shared->longest_ns > longest_ns &&
           !atomic_compare_exchange_weak(&tally->longest_ns, &longest_ns, shared->longest_ns)) {
    }
    for (int i = 0; i < ACTORS; i++) {
        for (int phase = 0; phase < PHASES; phase++) {
            for (int step = 0; step < STEPS; step++) {
                tally->reached[shared->config][who_of(i)][phase][step] +=
                    shared->actors[i].reached[phase][step];
            }
        }
    }
}

bool run_round(struct tally *tally, struct board *shared, const struct order *order)
{
    struct round round = {.tally = tally, .board = shared, .order = order, .random = order->seed};
    char path[SHMIPC_PATH_MAX];
    (void)snprintf(path, sizeof path, "%s", shared->path);
    memset(shared, 0, sizeof *shared);
    (void)snprintf(shared->path, sizeof shared->path, "%s", path);
    shared->config = order->config;
    shared->seed = order->seed;
    shared->broken = order->broken;
    shared->keep_mapping = dice(&round) % 2 == 0;
    shared->drowsy = dice(&round) % 2 == 0;
    shared->api_consumers = mix(order->seed + 7) % 2 == 0;
    shared->hold = (order->config & (OVERWRITE | MANY)) == MANY && mix(order->seed + 9) % 2 == 0;
    for (int i = 0; i < order->kills_count; i++) {
        const struct kill_point *point = order->kills[i].point;
        round.pending[i] = true;
        shared->keep_mapping = shared->keep_mapping || point->step == SHMIPC_AT_CLOSE_PRIVATE ||
                               point->step == SHMIPC_AT_CLOSE_PRIVATE_HALF;
        if (point->step == SHMIPC_AT_WAKE_COUNTED || point->step == SHMIPC_AT_WAKE_DONE) {
            shared->late = shared->late || (point->who == CONSUMER && point->when == WHEN_OPEN);
            shared->drowsy = shared->drowsy || point->when == WHEN_CLOSE;
        }
        shared->hold = shared->hold || kill_point_needs_hold(point, order->config);
    }
    for (int i = 0; i < order->kills_count; i++) {
        const struct kill_point *point = order->kills[i].point;
        shared->drowsy &= point->who != PRODUCER || point->when != WHEN_LAST;
    }
    if (!run_lives(&round)) {
        (void)round_fail(&round, "it did not end as it should");
    }
    for (int i = 0; i < ACTORS; i++) {
        if (round.pids[i] != 0) {
            (void)round_fail(&round, "actor %d is still there", i);
        }
    }
    if (round.failure[0] == '\0' && exists(&round)) {
        tally->files_left++;
        (void)round_fail(&round, "the file is left behind");
    }
    add_up(&round);
    if (round.failure[0] != '\0') {
        char text[900];
        int len =
            snprintf(text, sizeof text,
                     "%s, %s, %s, seed %llu:", (order->config & TYPED) != 0 ? "typed" : "message",
                     (order->config & OVERWRITE) != 0 ? "overwrite" : "block",
                     (order->config & MANY) != 0 ? "3 consumers" : "1 consumer",
                     (unsigned long long)order->seed);
        for (int i = 0; i < order->kills_count && len < 700; i++) {
            len += snprintf(text + len, sizeof text - (size_t)len, " actor %d at %s (%llu)",
                            order->kills[i].index, step_name(order->kills[i].point->step),
                            (unsigned long long)order->kills[i].nth);
        }
        (void)fprintf(stderr, "FAILED: %s: %s\n", text, round.failure);
        (void)kill_all(&round);
        (void)unlink(shared->path);
        return true;
    }
    int left = 0;
    for (int i = 0; i < order->kills_count; i++) {
        left += round.pending[i];
    }
    return left == 0;
}
