/*
 * round.h: a round as its parent sees it. round.c has its course, crowd.c its processes.
 */
#ifndef SHMIPC_KILLS_ROUND_H
#define SHMIPC_KILLS_ROUND_H

#include "kills.h"

extern uint64_t patience_ns; /* for what must happen; main.c */

struct round {
    struct tally *tally;
    struct board *board;
    const struct order *order;
    pid_t pids[ACTORS];
    uint64_t base[ACTORS]; /* where each stood at the last death */
    bool pending[3];       /* kills that have not happened */
    int kills_done;
    int everybody; /* killed by hand, all at once */
    int life;
    uint64_t random;
    char failure[600];
};

/* Keeps the first; false. */
bool round_fail(struct round *round, const char *format, ...) __attribute__((format(printf, 2, 3)));
void round_nap(void);
enum who who_of(int index);
static inline bool round_is_durable(const struct round *round)
{
    return (round->order->config & (OVERWRITE | MANY)) == 0;
}
/* A death is told once. Who died since, before the ring knew it, was never anybody's peer. */
bool round_told_before(const struct round *round, int index);
/* The kill that this actor is armed with in this life, or NULL. */
const struct kill *armed(const struct round *round, int index);
/* Tell the process in this actor where to die in this life. */
void arm(struct round *round, int index);
bool start(struct round *round, int index);
/* Is a slot kept for a consumer that was killed before it had joined? Then everybody waits for
 * its next life. */
bool waits_for_a_comer(const struct round *round);
/* Deaths since the last look; -1: something went wrong. */
int reap(struct round *round);
void note_positions(struct round *round);
void kill_at_any_moment(struct round *round, uint64_t life_ns);
/* Everybody, at once. */
bool kill_all(struct round *round);

#endif
