/* crew.c: see crew.h. */
#define _GNU_SOURCE
#include "crew.h"

#include <unistd.h>

struct test_gate ready;
static struct shmipc_error error;

void open_producer(struct shmipc_producer_role *producer, const struct shmipc_spec *spec)
{
    const enum shmipc_status status =
        shmipc_producer_role_open(producer, test_path("x"), spec, &error);
    if (status != SHMIPC_OK) {
        test_fail(__FILE__, __LINE__, "status %d: %s", (int)status, error.text);
    }
    shmipc_spin_init(&producer->spin, 0, false);
}

void open_consumer(struct shmipc_consumer_role *consumer, enum shmipc_start start)
{
    const enum shmipc_status status =
        shmipc_consumer_role_open(consumer, test_path("x"), start, &error);
    if (status != SHMIPC_OK) {
        test_fail(__FILE__, __LINE__, "status %d: %s", (int)status, error.text);
    }
    shmipc_spin_init(&consumer->spin, 0, false);
}

enum shmipc_status await_data(struct shmipc_consumer_role *consumer, uint64_t span_ns)
{
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    const uint64_t deadline_ns = shmipc_now_ns() + span_ns;
    do {
        status = shmipc_consumer_role_wait_data(consumer, &wait, deadline_ns);
    } while (status == SHMIPC_AGAIN);
    return status;
}

enum shmipc_status await_room(struct shmipc_producer_role *producer, uint64_t len, uint64_t span_ns)
{
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    const uint64_t deadline_ns = shmipc_now_ns() + span_ns;
    do {
        status = shmipc_producer_role_wait_room(producer, &wait, len, deadline_ns);
    } while (status == SHMIPC_AGAIN);
    return status;
}

void await_attached(struct shmipc_producer_role *producer, uint32_t count)
{
    struct shmipc_wait wait = {0};
    enum shmipc_status status;
    const uint64_t deadline_ns = shmipc_now_ns() + PATIENCE;
    do {
        status = shmipc_producer_role_wait_attached(producer, &wait, count, deadline_ns);
    } while (status == SHMIPC_AGAIN);
    CHECK_EQ(status, SHMIPC_OK);
}

void send_one(struct shmipc_producer_role *producer)
{
    while (rig_send(&producer->ring, 40) == SHMIPC_FULL) {
        CHECK_EQ(await_room(producer, 64, PATIENCE), SHMIPC_OK);
    }
    shmipc_producer_role_notify(producer);
}

void receive_one(struct shmipc_consumer_role *consumer, uint64_t seq)
{
    CHECK_EQ(await_data(consumer, PATIENCE), SHMIPC_OK);
    struct shmipc_message message;
    CHECK_EQ(shmipc_ring_peek(&consumer->ring, &message), SHMIPC_OK);
    CHECK_EQ(message.seq, seq);
    CHECK(rig_matches(message.data, message.len, seq));
    shmipc_ring_advance(&consumer->ring, &message);
    shmipc_consumer_role_release(consumer);
}

void be_a_consumer(void *argument)
{
    struct shmipc_consumer_role consumer;
    (void)argument;
    open_consumer(&consumer, SHMIPC_START_RESUME);
    test_gate_open(&ready);
    for (;;) {
        pause();
    }
}

void be_a_producer(void *argument)
{
    const struct shmipc_spec *spec = argument;
    struct shmipc_producer_role producer;
    open_producer(&producer, spec);
    send_one(&producer);
    send_one(&producer);
    test_gate_open(&ready);
    for (;;) {
        pause();
    }
}
