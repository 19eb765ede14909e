/* Our ring through its public C API: what a program that links libshmipc.so gets, each function a
 * call into a shared library. QUEUE_API chooses how:
 *
 *   1  messages: send;             peek, release       (copied in, looked at in place)
 *   2  messages: reserve, commit;  peek, release       (in place on both sides)
 *   3  messages: send;             recv                (copied in, copied out)
 *   4  items:    send;             peek, release
 *   5  items:    reserve_n(1), commit_n(1);  peek, release
 *   6  items, in batches: reserve_n, commit_n;  peek_n, release
 *   7  messages: send;             next                (copied in, looked at in place)
 *
 * queue_shmipc.c plays the same match with the core compiled in: 2, 5 and 6 do what it does. */
#define BENCH_MESSAGE_ALIGN 8 /* a payload behind its 16-byte header */
#include "bench.h"

#include <shmipc.h>

#ifndef QUEUE_API
#error "say how: -DQUEUE_API=1 to 7"
#endif
#define QUEUE_IS_TYPED (QUEUE_API >= 4 && QUEUE_API <= 6)
#define QUEUE_BATCH (QUEUE_API == 6 ? 256u : 1u)

struct queue {
    char name[64];
    struct shmipc_producer *producer;
    struct shmipc_consumer *consumer;
};

static void queue_init(struct queue *q)
{
    static int serial;
    snprintf(q->name, sizeof q->name, "bench-%d-%d", (int)getpid(), serial++);
}

static void queue_must(int result)
{
    if (result != SHMIPC_SUCCESS)
        bench_fail(shmipc_last_error());
}

static void queue_as_producer(struct queue *q)
{
    struct shmipc_producer_options options;
    static const uint64_t shape[] = {8};
    shmipc_producer_options_init(&options);
    options.capacity = (uint64_t)QUEUE_ITEMS * (QUEUE_IS_TYPED ? 1 : 16 + BENCH_LINE);
    options.spin_ns = 0;
    if (QUEUE_IS_TYPED) {
        options.dtype = "<u8";
        options.shape = shape;
        options.axes = 1;
        options.item_size = sizeof(struct bench_message);
    }
    queue_must(shmipc_producer_open(&q->producer, q->name, &options));
}

static void queue_as_consumer(struct queue *q)
{
    struct shmipc_consumer_options options;
    shmipc_consumer_options_init(&options);
    options.spin_ns = 0;
    queue_must(shmipc_consumer_open(&q->consumer, q->name, &options));
}

static void queue_finish(struct queue *q)
{
    shmipc_producer_free(q->producer);
    shmipc_consumer_free(q->consumer);
    q->producer = NULL;
    q->consumer = NULL;
}

/* 1 when that worked, 0 when the ring is full or empty. */
static inline size_t queue_done(int result, int not_yet)
{
    if (result == SHMIPC_SUCCESS)
        return 1;
    if (result != not_yet)
        bench_fail(shmipc_last_error());
    return 0;
}

static inline size_t queue_put(struct queue *q, uint64_t seq, uint64_t left)
{
#if QUEUE_API == 2
    void *at;
    (void)left;
    if (!queue_done(shmipc_producer_reserve(q->producer, sizeof(struct bench_message), 0, &at),
                    SHMIPC_E_FULL))
        return 0;
    bench_fill((struct bench_message *)at, seq);
    queue_must(shmipc_producer_commit(q->producer, sizeof(struct bench_message), 1, 0));
    return 1;
#elif QUEUE_API == 5 || QUEUE_API == 6
    const uint64_t count = left < QUEUE_BATCH ? left : QUEUE_BATCH;
    void *at;
    if (!queue_done(shmipc_producer_reserve_n(q->producer, count, 0, &at), SHMIPC_E_FULL))
        return 0;
    struct bench_message *message = (struct bench_message *)at;
    for (uint64_t i = 0; i < count; i++)
        bench_fill(&message[i], seq + i);
    queue_must(shmipc_producer_commit_n(q->producer, count));
    return (size_t)count;
#else
    struct bench_message message;
    (void)left;
    bench_fill(&message, seq);
    return queue_done(
        shmipc_producer_send(q->producer, &message, sizeof message, QUEUE_IS_TYPED ? 0 : 1, 0, 0),
        SHMIPC_E_FULL);
#endif
}

static inline size_t queue_get(struct queue *q, uint64_t seq, uint64_t *differs)
{
#if QUEUE_API == 3
    struct bench_message message;
    if (!queue_done(shmipc_consumer_recv(q->consumer, &message, sizeof message, NULL, 0),
                    SHMIPC_E_EMPTY))
        return 0;
    *differs |= bench_differs(&message, seq);
    return 1;
#else
    struct shmipc_view view;
#if QUEUE_API == 6
    const int result = shmipc_consumer_peek_n(q->consumer, QUEUE_BATCH, &view);
#elif QUEUE_API == 7
    const int result = shmipc_consumer_next(q->consumer, &view);
#else
    const int result = shmipc_consumer_peek(q->consumer, &view);
#endif
    if (!queue_done(result, SHMIPC_E_EMPTY))
        return 0;
    const struct bench_message *message = (const struct bench_message *)view.data;
    for (uint64_t i = 0; i < view.count; i++)
        *differs |= bench_differs(&message[i], seq + i);
#if QUEUE_API != 7
    queue_must(shmipc_consumer_release(q->consumer));
#endif
    return (size_t)view.count;
#endif
}

#include "duel.h"
