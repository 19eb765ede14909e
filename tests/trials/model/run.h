/*
 * run.h: one run of a scenario, step by step, for the search.
 *
 * Owns:     the order of calls: begin, then steps and kills while there are choices, then end.
 * Must not know: which choices were taken before.
 */
#ifndef SHMIPC_MODEL_RUN_H
#define SHMIPC_MODEL_RUN_H

#include "machine.h"

enum { RUN_TEXT_LEN = 160 };

void run_begin(const struct model_scenario *scenario);
int run_choices(int thread); /* ways in which the thread can take its next step; 0: it cannot */
void run_step(int thread, int choice);
bool run_may_kill(int thread);
void run_kill(int thread);
void run_end(void); /* nobody can go on: fails if somebody would */

/* All that decides what can happen from here. */
uint64_t run_hash(void);

/* Plain memory that threads share (process.c), which a thread may look at in any of its steps. */
void process_reset(void);
bool process_has_memory(void);
uint64_t process_hash(uint64_t seed, bool claims);

/* NULL, or the first claim that did not hold. */
const char *run_failure(void);

/* Where the next step is described (RUN_TEXT_LEN); NULL: nowhere. */
extern char *run_trace;

#endif
