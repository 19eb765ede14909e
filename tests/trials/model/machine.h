/*
 * machine.h: a machine with C11's weak memory, and every way it can run a small program.
 *
 * Owns:     threads as coroutines, memory as lists of messages, what each thread may still read,
 *           plain accesses that race, the search through every schedule and every permitted read.
 * Must not know: rings. Scenarios (scenario_*.c) say what runs and what must hold.
 *
 * The memory is the view machine of RC11 without its reads from the future: each location is the
 * list of its writes in modification order; a thread's view says how far along each list it has
 * seen; a load takes any message not older than the view. A release publishes the view with the
 * message, an acquire takes it over; fences do so for the relaxed accesses around them; a full
 * fence meets one global view. What in-order threads cannot show, a load that is satisfied after
 * a later store of its own thread, is caught as a data race: plain accesses (payload under
 * "block") must be ordered by happens-before both ways. And a store goes to the end of its list,
 * so one that is not ordered after all that is there, and could come earlier, fails the run, but
 * where the scenario lets the stores of a location cross: there every place is tried.
 *
 * The search is exhaustive for a scenario: depth first over (which thread, which message), by
 * replay, cut where a state (what every thread has been told so far, what memory still holds) was
 * seen before. States are told apart by a 64-bit hash.
 */
#ifndef SHMIPC_MODEL_MACHINE_H
#define SHMIPC_MODEL_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_MAX_THREADS = 5, MODEL_MAX_LOCATIONS = 56 };

enum model_orders {
    MODEL_ACQUIRE = 1,
    MODEL_RELEASE = 2,
    MODEL_FULL = 7, /* a fence: both, and the global view */
    MODEL_LIGHT = 8 /* the compiler's barrier */
};

enum model_how { MODEL_OR, MODEL_AND, MODEL_ADD, MODEL_SUB, MODEL_EXCHANGE };

struct model_site {
    const char *file;
    int line;
    const char *function;
    const char *text;
    int orders;
    bool reached;
    bool weakened;
    int weak_orders;
};

/* ---- for checked_atomic.h ------------------------------------------------------------------ */

uint64_t model_load(struct model_site *site, const volatile void *object, size_t size);
void model_store(struct model_site *site, volatile void *object, uint64_t value, size_t size);
uint64_t model_update(struct model_site *site, volatile void *object, enum model_how how,
                      uint64_t value, size_t size);
bool model_compare(struct model_site *site, volatile void *object, uint64_t *expected,
                   uint64_t value, size_t size);
void model_fence(struct model_site *site);
void model_light(struct model_site *site);
void model_fence_copied(struct model_site *site);

/* ---- for the kernel that the model plays ---------------------------------------------------- */

/* One indivisible step of the system: `enabled` (or NULL) says whether it can be taken now. */
uint64_t model_system(const char *text, bool (*enabled)(void *), uint64_t (*take)(void *),
                      void *self);
int model_self(void); /* the running thread */
uint64_t model_latest(const volatile void *object, size_t size);
void model_fence_of(int thread); /* a full barrier in another thread's stead */
bool model_is_alive(int thread); /* neither done nor killed */
bool model_has_run(int thread);  /* alive, done or killed */

void model_refuse(const char *what); /* this run ends as a failure */

/* ---- for scenarios ------------------------------------------------------------------------- */

/* Payload that must not race, and payload that may ("overwrite"). */
void model_plain_store(volatile uint64_t *at, uint64_t value);
uint64_t model_plain_load(const volatile uint64_t *at);

/* What the thread knows is in these bytes: forget which way it came to know it. */
void model_checkpoint(uint64_t where, const void *bytes, size_t len);

/* From set_up: plain memory that the threads of one process share, beside the locations: a state
 * is another one where it differs. At most six stretches. */
void model_hash_also(const void *bytes, size_t len);
/* ... by which claims are decided, and nothing else. */
void model_hash_claims(const void *bytes, size_t len);

/* From set_up: stores to `object` come in any order that the threads' views allow. Elsewhere two
 * that are not ordered fail the run. */
void model_let_stores_cross(const volatile void *object, size_t size);

/* From set_up: a word that nobody stores to here: looking at it is no step. At most four. */
void model_hold_still(const volatile void *object);
bool model_is_still(const volatile void *object);

/* A step: all that was ever stored there happened before, and nobody touches it again. */
void model_free(const void *block, size_t len);

/* A step: wait for the end of all other threads (pthread_join). */
void model_join(void);

/* From set_up: files are truncated in this scenario, so a segment's `damaged` flag takes steps too.
 */
void model_let_files_be_cut(void);

void model_check(bool holds, const char *claim);

struct model_scenario {
    const char *name;
    const char *claim;
    void (*set_up)(void); /* before the threads: plain memory, nobody else */
    void (*threads[MODEL_MAX_THREADS])(void);
    int mortal;                   /* bit set of threads that may be killed at any step */
    void (*at_end)(void);         /* all threads done or dead */
    void (*at_death)(int thread); /* the kernel's part */
};

struct model_group {
    const struct model_scenario *scenarios;
    size_t count;
};

extern const struct model_group model_traffic;
extern const struct model_group model_ends;
extern const struct model_group model_fault;
extern const struct model_group model_handle;
extern const struct model_group model_frame;

/* What else is hashed: the state of the kernel that the model plays. */
const void *model_kernel_state(size_t *len);

#endif
