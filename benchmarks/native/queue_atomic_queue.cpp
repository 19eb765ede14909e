/* atomic_queue::AtomicQueue2 with SPSC=true (its fast paths for one producer and one consumer), for
 * items of any size: a state byte and a slot each. It lives whole in shared memory. */
#include "bench.h"

#include <atomic_queue/atomic_queue.h>
#include <new>

using ring = atomic_queue::AtomicQueue2<bench_message, QUEUE_ITEMS, true, true, false, true>;

struct queue {
    ring *ring_;
};

static void queue_init(queue *q) {
    q->ring_ = new (bench_map(sizeof(ring))) ring();
}
static void queue_as_producer(queue *) {}
static void queue_as_consumer(queue *) {}
static void queue_finish(queue *) {}

static inline size_t queue_put(queue *q, uint64_t seq, uint64_t) {
    bench_message message;
    bench_fill(&message, seq);
    return q->ring_->try_push(message);
}

static inline size_t queue_get(queue *q, uint64_t seq, uint64_t *differs) {
    bench_message message;
    if (!q->ring_->try_pop(message))
        return 0;
    *differs |= bench_differs(&message, seq);
    return 1;
}

#include "duel.h"
