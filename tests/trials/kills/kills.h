/*
 * kills.h: death at every step. A round is a ring with real processes on it, some of which kill
 * themselves (SIGKILL) at a label of src/core/base/step.h; then the others must go on or be told, a
 * restarted process must take over, and nothing may be lost, repeated, torn or left behind.
 *
 *   main.c        options, workers, the summary
 *   kill_points.c      who can be killed where, in which rings: what a run must cover
 *   round.c       the parent of one round: who lives and dies when, and what is asked of the rest
 *   crowd.c       its processes: started, armed, reaped
 *   actor.c       what all victims share: the hook, waiting for the parent, the measure of a wait;
 *                 the cleaner
 *   actor_life.c  what a producer and a consumer go through (actor_life.h)
 *   actor_*.c     how they do it by the core's roles; actor_api*: by shmipc.h (actor_api.h)
 *
 * What the processes of a round know of each other lies on a board: memory shared with the parent
 * that outlives any of them. The ring under test is never asked to vouch for itself.
 */
#ifndef SHMIPC_KILLS_H
#define SHMIPC_KILLS_H

#include "../../../src/core/ring/producer.h"
#include "../../../src/core/ring/waited_consumer.h"

#include <sys/types.h>

#ifndef SHMIPC_STEPS
#error "build with -DSHMIPC_STEPS: see run.py"
#endif

/* The steps of the core, and those that lie in its caller. */
enum {
    AT_WRITE_HALF = SHMIPC_STEP_COUNT, /* half of a payload is written */
    AT_WRITE_WHOLE,                    /* all of it; nothing is committed */
    AT_READ_HALF,                      /* half of a payload is read */
    AT_PROCESSED,                      /* read and checked; not released */
    AT_ANY_MOMENT,                     /* killed by the parent, wherever it is: asleep, too */
    STEPS
};
const char *step_name(int step);

enum who { PRODUCER, CONSUMER, CLEANER, WHO_COUNT };
enum phase { OPENING, STREAMING, CLOSING, PHASES };

/* When in a round a kill point is passed, and so how to get there. */
enum when {
    WHEN_OPEN,    /* in the first life */
    WHEN_STREAM,  /* while messages flow */
    WHEN_RECLAIM, /* ... once a consumer has died */
    WHEN_SUCCEED, /* opening what another producer left */
    WHEN_CLOSE,
    WHEN_LAST,    /* closing when everybody else has */
    WHEN_REPLACE, /* a producer that wants another kind of ring finds one that is nobody's */
    WHEN_INHERIT, /* everybody is dead, a producer takes over and keeps slots for consumers to come
                   */
    WHEN_CLEAN    /* everybody is dead, somebody cleans up */
};

/* A ring's kind: framing, policy, one consumer or three. */
enum { TYPED = 1, OVERWRITE = 2, MANY = 4, CONFIGS = 8 };
enum { CONSUMERS = 3, ACTORS = 2 + CONSUMERS, CLEANER_INDEX = 1 + CONSUMERS };

struct kill_point {
    int step;
    enum who who;
    enum when when;
    bool (*in)(int config); /* NULL: in every kind */
};
enum { MOST_KILL_POINTS = 160 };
extern const struct kill_point kill_points[];
extern const int kill_point_count;
bool kill_point_is_in(const struct kill_point *point, int config);
/* Is this point passed where producers keep slots, and perhaps nowhere else? */
bool kill_point_needs_hold(const struct kill_point *point, int config);
/* Is this label passed by nobody in this build? A producer by shmipc.h leaves no views behind. */
bool step_is_absent(int step);
/* A fault in the table (a label that nobody is killed at), or NULL. */
const char *kill_points_fault(void);
/* May `who` pass `step` in this phase at all? */
bool place_exists(int config, enum who who, enum phase phase, int step);

enum state { ABSENT, ARRIVING, FLOWING, FINISHED, LEAVING };
enum command { STAY, LEAVE };

typedef _Atomic(uint64_t) number_t;

struct actor {
    _Atomic(int) state; /* enum state */
    _Atomic(int) phase; /* enum phase */
    _Atomic(int) command;
    _Atomic(int) step; /* armed: die there at the nth arrival in this phase; -1: not */
    int step_phase;
    bool wait_any; /* as for several rings */
    uint64_t nth;
    uint64_t arrivals;
    number_t killed_ns;
    number_t told_ns; /* when this one last learnt that its peer is gone */
    number_t number;  /* of the next message it will send or read */
    char failure[300];
    uint32_t reached[PHASES][STEPS];
};

struct board {
    int config;
    uint64_t seed;
    char path[SHMIPC_PATH_MAX];
    bool bigger;        /* the producer asks for more room than the ring on file has */
    bool keep_mapping;  /* close as when views are left */
    bool drowsy;        /* consumers that have read all sleep in the core until they leave */
    bool late;          /* consumers come when the ring is full */
    bool hold;          /* producers keep a slot for each consumer */
    _Atomic(int) spent; /* kept slots, perhaps, by consumers killed before they had joined */
    bool api_consumers; /* they read by shmipc.h (actor_api.h); its producers are always so */
    const char *broken; /* a fault built into the harness, to see that it is found */
    _Atomic(int) life;
    _Atomic(int) armed;    /* from now on labels kill */
    _Atomic(int) finish;   /* stop sending; read up to `total` */
    _Atomic(int) external; /* somebody was killed between a step and its entry here */
    number_t total;        /* UINT64_MAX until known */
    number_t committed;    /* messages that a commit has made visible */
    number_t committing;   /* ... that the one in progress will */
    number_t released;     /* by a durable queue's consumer */
    number_t releasing;
    number_t processed;
    _Atomic(int) producers;  /* that have come so far */
    _Atomic(int) arriving;   /* one is about to open the ring */
    _Atomic(int) holds_slot; /* a durable queue's consumer has said who it is */
    number_t identified_ns;  /* when the last producer had its number */
    number_t attached_ns;    /* ... and the last consumer its name in the ring */
    number_t kill_ns;        /* the last death in this life */
    /* sums */
    number_t sent, received, lost, torn, repeated, missing;
    number_t longest_ns, waits, late_waits;
    struct actor actors[ACTORS];
};

/* ---- actor.c: in a victim ------------------------------------------------------------------- */

extern struct board *board;
extern struct actor *actor;
/* Messages that the ring holds as committed, asked at each commit; NULL: board->committing. */
extern uint64_t (*actor_committed)(void);

void actor_begin(struct board *shared, int index);
_Noreturn void actor_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A step outside the core. */
void actor_step(int step);
void actor_phase(enum phase phase);
void actor_nap(uint64_t span_ns);
uint64_t actor_random(void);
/* From `start_ns` to now this one could not go on. Counted from the last death at the earliest. */
void actor_waited(uint64_t start_ns);
void actor_told(uint64_t start_ns);
/* Finished: stay until told to leave (true) or to go on (false). */
bool actor_idle(void);

/* What message `number` is: every byte follows from its number. */
enum { LONGEST_PAYLOAD = 1600, ITEM_LEN = 72 };
uint64_t payload_len(int config, uint64_t number);
void payload_write(unsigned char *at, uint64_t number, uint64_t from, uint64_t to, uint64_t len);
/* NULL, or what is wrong with it; `found` is the number it claims. */
const char *payload_fault(const unsigned char *at, uint64_t len, uint64_t expected_len,
                          uint64_t *found);

void spec_of(const struct board *shared, struct shmipc_spec *spec);
_Noreturn void be_producer(void);
_Noreturn void be_consumer(void);
_Noreturn void be_cleaner(void);

/* ---- round.c -------------------------------------------------------------------------------- */

struct kill {
    const struct kill_point *point;
    int index; /* the actor */
    uint64_t nth;
    int life; /* the first one in which it is armed */
};

struct order {
    int config;
    uint64_t seed;
    int kills_count;
    struct kill kills[3];
    const char *broken;
    bool verbose;
};

struct tally {
    number_t rounds, failures, alone, paired, everybody, sent, received, lost, torn, repeated,
        missing, longest_ns, waits, late, late_rounds, files_left, locks_left, bits_left;
    number_t by_step[STEPS];
    number_t covered[MOST_KILL_POINTS][CONFIGS];
    number_t reached[CONFIGS][WHO_COUNT][PHASES][STEPS];
};

uint64_t mix(uint64_t value);
/* True: every planned victim died where it should. */
bool run_round(struct tally *tally, struct board *shared, const struct order *order);

#endif
