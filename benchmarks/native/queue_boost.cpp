/* Boost.Lockfree spsc_queue, capacity at compile time: it lives whole in memory two processes share.
 * The consumer reads in place (consume_one). */
#include "bench.h"

#include <boost/lockfree/spsc_queue.hpp>
#include <new>

using ring = boost::lockfree::spsc_queue<bench_message, boost::lockfree::capacity<QUEUE_ITEMS>>;

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
    return q->ring_->push(message);
}

static inline size_t queue_get(queue *q, uint64_t seq, uint64_t *differs) {
    return q->ring_->consume_one(
        [=](const bench_message &message) { *differs |= bench_differs(&message, seq); });
}

#include "duel.h"
