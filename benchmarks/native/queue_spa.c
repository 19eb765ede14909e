/* PipeWire's spa_ringbuffer: two byte indices over a buffer of the user's, here in shared memory.
 * Both sides work in place, as its users do. */
#include "bench.h"

#include <spa/utils/ringbuffer.h>

struct queue {
    struct spa_ringbuffer *ring;
    struct bench_message *slot;
};

#define QUEUE_BYTES ((uint32_t)(QUEUE_ITEMS * sizeof(struct bench_message)))

static void queue_init(struct queue *q) {
    q->ring = bench_map(sizeof *q->ring);
    q->slot = bench_map(QUEUE_BYTES);
    spa_ringbuffer_init(q->ring);
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

static inline struct bench_message *slot_at(struct queue *q, uint32_t index) {
    return &q->slot[index % QUEUE_BYTES / sizeof(struct bench_message)];
}

static inline size_t queue_put(struct queue *q, uint64_t seq, uint64_t left) {
    (void)left;
    uint32_t index;
    if (spa_ringbuffer_get_write_index(q->ring, &index) >= (int32_t)QUEUE_BYTES)
        return 0;
    bench_fill(slot_at(q, index), seq);
    spa_ringbuffer_write_update(q->ring, (int32_t)(index + sizeof(struct bench_message)));
    return 1;
}

static inline size_t queue_get(struct queue *q, uint64_t seq, uint64_t *differs) {
    uint32_t index;
    if (spa_ringbuffer_get_read_index(q->ring, &index) < (int32_t)sizeof(struct bench_message))
        return 0;
    *differs |= bench_differs(slot_at(q, index), seq);
    spa_ringbuffer_read_update(q->ring, (int32_t)(index + sizeof(struct bench_message)));
    return 1;
}

#include "duel.h"
