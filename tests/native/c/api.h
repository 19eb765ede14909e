/* api.h: the shortest ways to use shmipc.h in a test. All of them use the ring "x". */
#ifndef SHMIPC_TEST_API_H
#define SHMIPC_TEST_API_H

#include "../../../shmipc/include/shmipc.h"
#include "test.h"

#include <pthread.h>

#define SECOND_NS INT64_C(1000000000)
#define PATIENCE_NS (20 * SECOND_NS)

/* A result, with the library's words where it is another. */
#define CHECK_RESULT(call, expected)                                                   \
    do {                                                                               \
        const int found_ = (call);                                                     \
        if (found_ != (expected)) {                                                    \
            test_fail(__FILE__, __LINE__, "%s: %d (%s; %s), not %d", #call, found_,    \
                      shmipc_result_text(found_), shmipc_last_error(), (int)expected); \
        }                                                                              \
    } while (0)
#define DONE(call) CHECK_RESULT(call, SHMIPC_SUCCESS)

/* The last error's text holds `part`. */
void api_said(const char *file, int line, const char *part);
#define SAID(part) api_said(__FILE__, __LINE__, part)

struct api_pair {
    struct shmipc_producer *producer;
    struct shmipc_consumer *consumer;
};

/* A message ring; a typed ring if `dtype` is given. No spinning. */
struct shmipc_producer *api_producer(const char *dtype, uint64_t capacity, uint32_t consumers,
                                     enum shmipc_overflow_policy overflow);
struct shmipc_consumer *api_consumer(void);
struct api_pair api_open(const char *dtype, uint64_t capacity, uint32_t consumers,
                         enum shmipc_overflow_policy overflow);
void api_free(struct api_pair *pair);

pthread_t api_start(void *(*body)(void *argument), void *argument);
void api_join(pthread_t thread);

/* Send `len` bytes that follow from `number`, as kind 1; check that a view holds them. */
void api_send(struct shmipc_producer *producer, uint64_t number, size_t len);
void api_check(const struct shmipc_view *view, uint64_t number, size_t len);

#endif
