/* api.c: see api.h. */
#include "api.h"

#include <string.h>

#define LONGEST 4096

void api_said(const char *file, int line, const char *part)
{
    if (strstr(shmipc_last_error(), part) == NULL) {
        test_fail(file, line, "\"%s\" does not say \"%s\"", shmipc_last_error(), part);
    }
}

struct shmipc_producer *api_producer(const char *dtype, uint64_t capacity, uint32_t consumers,
                                     enum shmipc_overflow_policy overflow)
{
    struct shmipc_producer_options options;
    struct shmipc_producer *producer;
    shmipc_producer_options_init(&options);
    options.dtype = dtype;
    options.capacity = capacity;
    options.max_consumers = consumers;
    options.overflow = overflow;
    options.spin_ns = 0;
    DONE(shmipc_producer_open(&producer, "x", &options));
    return producer;
}

struct shmipc_consumer *api_consumer(void)
{
    struct shmipc_consumer_options options;
    struct shmipc_consumer *consumer;
    shmipc_consumer_options_init(&options);
    options.timeout_ns = PATIENCE_NS;
    options.spin_ns = 0;
    DONE(shmipc_consumer_open(&consumer, "x", &options));
    return consumer;
}

struct api_pair api_open(const char *dtype, uint64_t capacity, uint32_t consumers,
                         enum shmipc_overflow_policy overflow)
{
    struct api_pair pair;
    pair.producer = api_producer(dtype, capacity, consumers, overflow);
    pair.consumer = api_consumer();
    return pair;
}

void api_free(struct api_pair *pair)
{
    shmipc_producer_free(pair->producer);
    shmipc_consumer_free(pair->consumer);
}

pthread_t api_start(void *(*body)(void *argument), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, argument) == 0);
    return thread;
}

void api_join(pthread_t thread)
{
    CHECK(pthread_join(thread, NULL) == 0);
}

static void fill(unsigned char *bytes, uint64_t number, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (unsigned char)(number * 31 + i * 7 + (i >> 8));
    }
}

void api_send(struct shmipc_producer *producer, uint64_t number, size_t len)
{
    unsigned char bytes[LONGEST];
    CHECK(len <= LONGEST);
    fill(bytes, number, len);
    DONE(shmipc_producer_send(producer, bytes, len, 1, 0, PATIENCE_NS));
}

void api_check(const struct shmipc_view *view, uint64_t number, size_t len)
{
    unsigned char bytes[LONGEST];
    CHECK(len <= LONGEST);
    fill(bytes, number, len);
    CHECK_EQ(view->len, len);
    CHECK(memcmp(view->data, bytes, len) == 0);
}
