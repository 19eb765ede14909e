/* Concurrency Kit ck_ring, single producer and consumer, items by value (CK_RING_PROTOTYPE). The
 * producer writes in place (reserve, commit); ck_ring has only a copying dequeue. */
#include "bench.h"

#include <ck_ring.h>

CK_RING_PROTOTYPE(message, bench_message)

struct queue {
    struct ck_ring *ring;
    struct bench_message *slot;
};

static void queue_init(struct queue *q) {
    q->ring = bench_map(sizeof *q->ring);
    q->slot = bench_map(QUEUE_ITEMS * sizeof *q->slot);
    ck_ring_init(q->ring, QUEUE_ITEMS);
}
static void queue_as_producer(struct queue *q) {
    (void)q;
}
static void queue_as_consumer(struct queue *q) {
    (void)q;
}
static void queue_finish(struct queue *q) {
    (void)q;
}

static inline size_t queue_put(struct queue *q, uint64_t seq, uint64_t left) {
    (void)left;
    struct bench_message *message =
        ck_ring_enqueue_reserve_spsc_message(q->ring, q->slot);
    if (!message)
        return 0;
    bench_fill(message, seq);
    ck_ring_enqueue_commit_spsc(q->ring);
    return 1;
}

static inline size_t queue_get(struct queue *q, uint64_t seq, uint64_t *differs) {
    struct bench_message message;
    if (!CK_RING_DEQUEUE_SPSC(message, q->ring, q->slot, &message))
        return 0;
    *differs |= bench_differs(&message, seq);
    return 1;
}

#include "duel.h"
