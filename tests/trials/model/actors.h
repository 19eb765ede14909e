/*
 * actors.h: what the threads of the scenarios do: the roles' calls in the order in which the
 * binding makes them, with payload that tells which message it is.
 *
 * Owns:     the handles of all threads, sending, receiving, and the claims every message must meet.
 * Must not know: one scenario from another.
 */
#ifndef SHMIPC_MODEL_ACTORS_H
#define SHMIPC_MODEL_ACTORS_H

#include "checked_atomic.h"
#include "kernel.h"
#include "../../../src/core/ring/producer.h"
#include "../../../src/core/ring/waited_consumer.h"

enum { MESSAGE_SPAN = 32, ITEM_LEN = 8, EVERY_THREAD = (1 << MODEL_MAX_THREADS) - 1 };

/* One handle of each kind a thread. */
extern struct shmipc_producer_role producers[MODEL_MAX_THREADS];
extern struct shmipc_consumer_role consumers[MODEL_MAX_THREADS];

/* What a thread has seen; at_end reads it. Reset by make_ring. */
struct log {
    uint64_t calls; /* made so far: where in its script the thread is */
    uint64_t sent;
    uint64_t received;
    uint64_t first_seq; /* of the first message received */
    uint64_t next_seq;
    uint64_t released; /* messages whose release was begun */
    enum shmipc_status end;
};
extern struct log logs[MODEL_MAX_THREADS];

/* A ring of `count` messages or items, with the producer open as thread `producer`. */
void make_ring(enum shmipc_framing framing, enum shmipc_overflow overflow, uint32_t slots,
               uint64_t count, int producer);
/* Open with slots kept for `count`; try_open_producer and what follows do, until make_ring. */
void hold_for(uint32_t count);
void open_producer(int thread);
enum shmipc_status try_open_producer(int thread);
enum shmipc_status open_consumer(int thread, enum shmipc_start start);
void close_producer(int thread);
void close_consumer(int thread);

/* Send the next one; waits for room, or returns FULL if `waits` is false. */
enum shmipc_status send_next(int thread, bool waits);
/* Receive one; waits, or returns EMPTY. */
enum shmipc_status receive_next(int thread, bool waits);
/* All that is ready in a typed ring as one batch, then released. */
enum shmipc_status receive_batch(int thread);

/* Between two calls, or in a wait's loop, all that a thread knows is its handle, its log, where it
 * is and what the call came to. */
enum point { POINT_OPENED, POINT_WAITED, POINT_REFUSED, POINT_SENT, POINT_READ };
void remember_producer(int thread, enum point where, enum shmipc_status status);
void remember_consumer(int thread, enum point where, enum shmipc_status status);

/* A durable queue of two messages; a ring of two items, for two consumers: nobody attached to it,
 * both attached, both attached and full. */
void make_queue(void);
void make_fenced_queue(void); /* where membarrier is refused */
void make_open_broadcast(void);
void make_broadcast(void);
void make_full_broadcast(void);
void fence_all(void);

/* Thread 0 sends, and waits for room; threads 1 and 2 look once. */
void send_one(void);
void send_two(void);
void first_polls_one(void);
void second_polls_one(void);

/* Every committed message is in the log of this durable or broadcast consumer, or still unread. */
uint64_t committed(void);

#endif
