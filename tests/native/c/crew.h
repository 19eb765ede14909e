/*
 * crew.h: producers and consumers with names, and child processes that play one. All of them use
 * the ring "x".
 */
#ifndef SHMIPC_TEST_CREW_H
#define SHMIPC_TEST_CREW_H

#include "../../../src/core/ring/producer.h"
#include "../../../src/core/ring/waited_consumer.h"
#include "rig.h"

#define SECOND UINT64_C(1000000000)
#define PATIENCE (20 * SECOND)

/* Opened by a child once it is what it should be. `main` makes it. */
extern struct test_gate ready;

/* Open without spinning; must succeed. */
void open_producer(struct shmipc_producer_role *producer, const struct shmipc_spec *spec);
void open_consumer(struct shmipc_consumer_role *consumer, enum shmipc_start start);

/* What a wait comes to, however many slices it takes. */
enum shmipc_status await_data(struct shmipc_consumer_role *consumer, uint64_t span_ns);
enum shmipc_status await_room(struct shmipc_producer_role *producer, uint64_t len,
                              uint64_t span_ns);
void await_attached(struct shmipc_producer_role *producer, uint32_t count);

/* One message, waiting as long as it takes; the received one must have this sequence number. */
void send_one(struct shmipc_producer_role *producer);
void receive_one(struct shmipc_consumer_role *consumer, uint64_t seq);

/* Bodies for test_fork: attach (a producer sends two messages), open `ready`, stay until killed. */
void be_a_consumer(void *argument);
void be_a_producer(void *argument); /* a struct shmipc_spec */

#endif
