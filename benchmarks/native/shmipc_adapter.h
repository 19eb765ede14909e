/* Our ring as the harness sees it: the only file here that knows the core's C names.
 *
 * SHMIPC_BENCH_FRAMING chooses what is passed:
 *   1  typed ring of 64-byte items, one by one
 *   2  message ring, 64-byte payloads, one by one
 *   3  typed ring, in batches: at most ADAPTER_BATCH items a commit, all that is ready a release
 *
 * Every commit and every release is followed by the look for sleepers that a real user's has.
 */
#ifndef SHMIPC_ADAPTER_H
#define SHMIPC_ADAPTER_H

#include "bench.h"

#include "../../src/core/ring/consumer.h"
#include "../../src/core/ring/producer.h"

#ifndef SHMIPC_BENCH_FRAMING
#error "say what is passed: -DSHMIPC_BENCH_FRAMING=1, 2 or 3"
#endif
#if SHMIPC_BENCH_FRAMING == 3
#define ADAPTER_BATCH 256
#else
#define ADAPTER_BATCH 1
#endif
#define ADAPTER_IS_MESSAGES (SHMIPC_BENCH_FRAMING == 2)

struct adapter_producer {
    struct shmipc_producer_role role;
};

struct adapter_consumer {
    struct shmipc_consumer_role role;
    struct shmipc_message seen; /* what peek showed and release gives back */
};

static inline void adapter_path(const char *name, char path[SHMIPC_PATH_MAX]) {
    struct shmipc_error error;
    if (shmipc_segment_path(name, strlen(name), path, &error) != SHMIPC_OK)
        bench_fail(error.text);
}

/* What Python's Producer writes for dtype="<u8", shape=(8,): a consumer there needs only the name,
 * and gets arrays of shape (n, 8). */
#define ADAPTER_SCHEMA "('<u8', (8,))"

/* A new ring of at least `items` messages, for one consumer, nothing ever lost. */
static inline void adapter_create(struct adapter_producer *producer, const char *name,
                                  size_t items) {
    char path[SHMIPC_PATH_MAX];
    struct shmipc_error error;
    struct shmipc_spec spec = {
        .framing = ADAPTER_IS_MESSAGES ? SHMIPC_FRAMING_MESSAGE : SHMIPC_FRAMING_TYPED,
        .overflow = SHMIPC_OVERFLOW_BLOCK,
        .slots = 1,
        .item_len = ADAPTER_IS_MESSAGES ? 0 : sizeof(struct bench_message),
        .capacity = ADAPTER_IS_MESSAGES
                        ? items * shmipc_message_span(sizeof(struct bench_message))
                        : items,
        .schema = ADAPTER_IS_MESSAGES ? NULL : ADAPTER_SCHEMA,
        .schema_len = ADAPTER_IS_MESSAGES ? 0 : (uint32_t)strlen(ADAPTER_SCHEMA),
        .mode = 0600,
    };
    adapter_path(name, path);
    memset(producer, 0, sizeof *producer);
    if (shmipc_producer_role_open(&producer->role, path, &spec, &error) != SHMIPC_OK)
        bench_fail(error.text);
    shmipc_spin_init(&producer->role.spin, 0, false);
}

/* The ring of that name, as soon as there is one. */
static inline void adapter_attach(struct adapter_consumer *consumer, const char *name) {
    char path[SHMIPC_PATH_MAX];
    struct shmipc_error error;
    enum shmipc_status status;
    adapter_path(name, path);
    memset(consumer, 0, sizeof *consumer);
    while ((status = shmipc_consumer_role_open(&consumer->role, path, SHMIPC_START_RESUME, &error))
           == SHMIPC_NOT_FOUND)
        usleep(100);
    if (status != SHMIPC_OK)
        bench_fail(error.text);
    shmipc_spin_init(&consumer->role.spin, 0, false);
}

/* End the stream; what was committed can still be read. */
static inline void adapter_end(struct adapter_producer *producer) {
    shmipc_producer_role_close(&producer->role, false);
}

/* Leave; the last one out of an ended ring removes its file. */
static inline void adapter_leave(struct adapter_consumer *consumer) {
    shmipc_consumer_role_close(&consumer->role);
}

/* Room for up to `wanted` messages, in place; NULL when there is none. Items of a typed ring lie
 * one after the other; of a message ring there is room for one. */
static inline struct bench_message *adapter_reserve(struct adapter_producer *producer,
                                                    size_t wanted, size_t *count) {
    struct shmipc_ring_producer *ring = &producer->role.ring;
    const uint64_t size = sizeof(struct bench_message);
    unsigned char *at = NULL;
#if ADAPTER_IS_MESSAGES
    if (shmipc_ring_reserve(ring, shmipc_message_span(size), &at) != SHMIPC_OK)
        return NULL;
    shmipc_message_header_store(at, (uint32_t)size, 1, 0, ring->next_seq);
    at += sizeof(struct shmipc_message_header);
    (void)wanted;
    *count = 1;
#else
    if (shmipc_ring_reserve(ring, size, &at) != SHMIPC_OK)
        return NULL;
    const uint64_t room = wanted > 1 ? shmipc_ring_room(ring) / size : 1;
    *count = room < wanted ? (size_t)room : wanted;
#endif
    return (struct bench_message *)(void *)at;
}

static inline void adapter_commit(struct adapter_producer *producer, size_t count) {
#if ADAPTER_IS_MESSAGES
    shmipc_ring_commit_messages(&producer->role.ring,
                                shmipc_message_span(sizeof(struct bench_message)), count);
#else
    shmipc_ring_commit(&producer->role.ring, count * sizeof(struct bench_message));
#endif
    shmipc_producer_role_notify(&producer->role);
}

/* What is ready, up to `wanted` messages, in place; NULL when nothing is. */
static inline const struct bench_message *adapter_peek(struct adapter_consumer *consumer,
                                                       size_t wanted, size_t *count) {
#if SHMIPC_BENCH_FRAMING == 3
    uint64_t ready = 0;
    if (shmipc_ring_peek_batch(&consumer->role.ring, wanted, &consumer->seen, &ready) != SHMIPC_OK)
        return NULL;
    *count = (size_t)ready;
#else
    (void)wanted;
    if (shmipc_ring_peek(&consumer->role.ring, &consumer->seen) != SHMIPC_OK)
        return NULL;
    *count = 1;
#endif
    return (const struct bench_message *)(const void *)consumer->seen.data;
}

static inline void adapter_release(struct adapter_consumer *consumer, size_t count) {
    (void)count;
    shmipc_ring_advance(&consumer->role.ring, &consumer->seen);
    shmipc_consumer_role_release(&consumer->role);
}

/* Sleep until there is something to peek at; the caller has just found nothing. */
static inline void adapter_wait(struct adapter_consumer *consumer) {
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    do
        status = shmipc_consumer_role_wait_data(&consumer->role, &wait, SHMIPC_NEVER);
    while (status == SHMIPC_AGAIN);
    if (status != SHMIPC_OK)
        bench_fail("the wait for data ended badly");
}

#endif
