/* moodycamel::BlockingReaderWriterCircularBuffer, polled: fixed capacity, heap memory, two threads. */
#define QUEUE_IN_THREADS
#include "bench.h"

#include <readerwriterqueue/readerwritercircularbuffer.h>

struct queue {
    moodycamel::BlockingReaderWriterCircularBuffer<bench_message> *ring_;
};

static void queue_init(queue *q) {
    q->ring_ = new moodycamel::BlockingReaderWriterCircularBuffer<bench_message>(QUEUE_ITEMS);
}
static void queue_as_producer(queue *) {}
static void queue_as_consumer(queue *) {}
static void queue_finish(queue *) {}

static inline size_t queue_put(queue *q, uint64_t seq, uint64_t) {
    bench_message message;
    bench_fill(&message, seq);
    return q->ring_->try_enqueue(message);
}

static inline size_t queue_get(queue *q, uint64_t seq, uint64_t *differs) {
    bench_message message;
    if (!q->ring_->try_dequeue(message))
        return 0;
    *differs |= bench_differs(&message, seq);
    return 1;
}

#include "duel.h"
