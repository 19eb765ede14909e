/*
 * result.h: from the core's statuses to the public results, and the words kept for
 * shmipc_last_error.
 *
 * Owns:     the one table from status to result, this thread's last error.
 * Must not know: handles, rings.
 */
#ifndef SHMIPC_API_RESULT_H
#define SHMIPC_API_RESULT_H

#include "../../shmipc/include/shmipc.h"
#include "../core/base/error.h"

enum shmipc_side { SHMIPC_SIDE_PRODUCER, SHMIPC_SIDE_CONSUMER };

/* The result of `status` for a call of this side. */
int shmipc_result_of(enum shmipc_status status, enum shmipc_side side);

/* Keep `error` for shmipc_last_error; return its result. */
int shmipc_result_keep(const struct shmipc_error *error, enum shmipc_side side);

/* Keep words of our own. */
void shmipc_result_say(const char *format, ...) __attribute__((format(printf, 1, 2), cold));
/* ... and return `result`. A macro, so that compilers and analyzers see that it is not SUCCESS. */
#define shmipc_result_fail(result, ...) (shmipc_result_say(__VA_ARGS__), (result))

#endif
