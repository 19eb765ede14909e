/*
 * peer.h: what the files of the C peer share. See README.md beside this directory.
 */
#ifndef SHMIPC_CONFORMANCE_PEER_H
#define SHMIPC_CONFORMANCE_PEER_H

#include "shmipc.h"

/* One of each at most; NULL before the first `produce` and `consume`. */
extern struct shmipc_producer *producer;
extern struct shmipc_consumer *consumer;

/* One line. */
void answer(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "ok DONE" or "error NAME DONE TEXT". */
void answer_result(int result, uint64_t done);
const char *result_name(int result);
const char *result_facts(int result);
int64_t nanoseconds(const char *milliseconds);

uint64_t mix(uint64_t x);
uint64_t digest_view(const struct shmipc_view *view);

void do_send(char **words);
void do_take(char **words);
void do_put(const char *name, uint64_t first, uint64_t count);
void do_get(const char *name, uint64_t count);
void do_misuse(const char *what, const char *name);

#endif
