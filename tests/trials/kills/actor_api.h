/*
 * actor_api.h: victims that know shmipc.h alone, and do everything through its functions: see
 * kills.h. Built with -DKILLS_API (run.py --api): then every producer is one of these, and a
 * consumer in every other round.
 *
 * Their judges may look inside: what a ring says of itself through the API is compared with the
 * board, and the number of a message yet to come is known to the core alone.
 */
#ifndef SHMIPC_KILLS_ACTOR_API_H
#define SHMIPC_KILLS_ACTOR_API_H

#include "kills.h"

#include "../../../src/api/endpoint.h"

/* How long one call may wait: orders of the parent are looked for between calls. */
#define API_WAIT_NS INT64_C(60000000)

/* The board's path as the API takes it: a directory in the environment, and this name. */
const char *api_ring_name(void);

_Noreturn void be_api_producer(void);
_Noreturn void be_api_consumer(void);

#endif
