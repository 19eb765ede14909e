/* moodycamel::ReaderWriterQueue. It allocates its blocks on the heap: two threads, not processes.
 * try_enqueue never allocates; the consumer reads in place (peek, then pop). */
#define QUEUE_IN_THREADS
#include "bench.h"

#include <readerwriterqueue/readerwriterqueue.h>

struct queue {
    moodycamel::ReaderWriterQueue<bench_message> *ring_;
};

static void queue_init(queue *q) {
    q->ring_ = new moodycamel::ReaderWriterQueue<bench_message>(QUEUE_ITEMS);
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
    const bench_message *message = q->ring_->peek();
    if (!message)
        return 0;
    *differs |= bench_differs(message, seq);
    q->ring_->pop();
    return 1;
}

#include "duel.h"
