/* Our ring between two processes. What is passed, and how many at once, is SHMIPC_BENCH_FRAMING of
 * shmipc_adapter.h: typed one by one (1), messages one by one (2), typed in batches (3). Both sides
 * work in place: the producer fills what it reserved, the consumer checks what it peeked at. */
#define BENCH_MESSAGE_ALIGN 8 /* a payload behind its 16-byte header */
#include "bench.h"

#include "shmipc_adapter.h"

struct queue {
    char name[64];
    bool produces;
    struct adapter_producer producer;
    struct adapter_consumer consumer;
};

static void queue_init(struct queue *q) {
    static int serial;
    snprintf(q->name, sizeof q->name, "bench-%d-%d", (int)getpid(), serial++);
}

static void queue_as_producer(struct queue *q) {
    q->produces = true;
    adapter_create(&q->producer, q->name, QUEUE_ITEMS);
}

static void queue_as_consumer(struct queue *q) {
    adapter_attach(&q->consumer, q->name);
}

static void queue_finish(struct queue *q) {
    if (q->produces)
        adapter_end(&q->producer);
    else
        adapter_leave(&q->consumer);
}

static inline size_t queue_put(struct queue *q, uint64_t seq, uint64_t left) {
    const size_t wanted = left < ADAPTER_BATCH ? (size_t)left : ADAPTER_BATCH;
    size_t count = 0;
    struct bench_message *message = adapter_reserve(&q->producer, wanted, &count);
    if (!message)
        return 0;
    for (size_t i = 0; i < count; i++)
        bench_fill(&message[i], seq + i);
    adapter_commit(&q->producer, count);
    return count;
}

static inline size_t queue_get(struct queue *q, uint64_t seq, uint64_t *differs) {
    size_t count = 0;
    const struct bench_message *message = adapter_peek(&q->consumer, ADAPTER_BATCH, &count);
    if (!message)
        return 0;
    for (size_t i = 0; i < count; i++)
        *differs |= bench_differs(&message[i], seq + i);
    adapter_release(&q->consumer, count);
    return count;
}

#define QUEUE_SLEEPS
static inline void queue_get_asleep(struct queue *q, uint64_t seq, uint64_t *differs) {
    while (!queue_get(q, seq, differs))
        adapter_wait(&q->consumer);
}

#include "duel.h"
