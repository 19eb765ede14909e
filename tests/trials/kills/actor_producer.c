/* actor_producer.c: see kills.h. A producer of numbered messages by the core's roles. */
#define _GNU_SOURCE
#include "actor_life.h"

#include <unistd.h>

#define PATIENCE_NS UINT64_C(20000000000)

static struct shmipc_producer_role producer;

static uint64_t next_number(void)
{
    return is_typed() ? shmipc_ring_seq_of(&producer.ring.map, producer.ring.head_pos)
                      : producer.ring.next_seq;
}

/* Whoever takes over finds exactly what was committed. */
static uint64_t take_over(void)
{
    const uint64_t number = next_number();
    const uint64_t committed = board->committed;
    const uint64_t most = board->external != 0 ? (uint64_t)board->committing : committed;
    if (number < committed) {
        board->missing += committed - number;
        actor_fail("the ring goes on at message %llu, but %llu were committed",
                   (unsigned long long)number, (unsigned long long)committed);
    }
    if (number > most) {
        actor_fail("the ring goes on at message %llu, but only %llu were committed",
                   (unsigned long long)number, (unsigned long long)most);
    }
    if (number != 0 && !producer.took_over) {
        actor_fail("message %llu of a ring that was not taken over", (unsigned long long)number);
    }
    if (is_broken("repeat") && producer.took_over && number > 0) {
        producer.ring.next_seq--; /* as a predecessor's number that was read too early would */
    }
    return number;
}

static void open_it(void)
{
    struct shmipc_spec spec;
    struct shmipc_error error;
    spec_of(board, &spec);
    const enum shmipc_status status =
        shmipc_producer_role_open(&producer, board->path, &spec, &error);
    if (status != SHMIPC_OK) {
        actor_fail("open came to status %d: %s", (int)status, error.text);
    }
    shmipc_spin_init(&producer.spin, actor_random() % 2 * 20000, true);
}

/* Room, however long it takes; NULL if told to leave meanwhile. */
static unsigned char *reserve(uint64_t span)
{
    unsigned char *at = NULL;
    uint64_t start_ns = 0;
    enum shmipc_status status;
    while ((status = shmipc_ring_reserve(&producer.ring, span, &at)) != SHMIPC_OK) {
        struct shmipc_wait wait = {0};
        if (status != SHMIPC_FULL) {
            actor_fail("reserve came to status %d", (int)status);
        }
        start_ns = start_ns != 0 ? start_ns : shmipc_now_ns();
        const uint64_t deadline_ns = shmipc_now_ns() + PATIENCE_NS;
        do {
            status = shmipc_producer_role_wait_room(&producer, &wait, span, deadline_ns);
            if (actor->command == LEAVE) {
                return NULL;
            }
        } while (status == SHMIPC_AGAIN);
        if (status == SHMIPC_DIED && is_durable()) {
            actor_told(start_ns);
            start_ns = 0;
            actor_nap(200000);
        } else if (status != SHMIPC_OK) {
            actor_fail("waiting for room came to status %d", (int)status);
        }
    }
    if (start_ns != 0) {
        actor_waited(start_ns);
    }
    return at;
}

static bool send_messages(uint64_t count)
{
    const uint64_t first = producer.ring.next_seq;
    uint64_t span = 0;
    for (uint64_t i = 0; i < count; i++) {
        span += shmipc_message_span(payload_len(board->config, first + i));
    }
    unsigned char *at = reserve(span);
    if (at == NULL) {
        return false;
    }
    board->committing = board->committed + count;
    if (is_broken("early")) {
        shmipc_ring_commit_messages(&producer.ring, span, count); /* before it is written */
    }
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t number = first + i;
        const uint64_t len = payload_len(board->config, number);
        shmipc_message_header_store(at, (uint32_t)len, (uint16_t)(1 + number % 7), (uint16_t)number,
                                    number);
        sender_write(at + sizeof(struct shmipc_message_header), number, len);
        at += shmipc_message_span(len);
    }
    actor_step(AT_WRITE_WHOLE);
    if (!is_broken("early")) {
        shmipc_ring_commit_messages(&producer.ring, span, count);
    }
    return true;
}

static bool send_items(uint64_t count)
{
    const uint64_t stride = producer.ring.map.item_stride;
    unsigned char *at = reserve(count * stride);
    if (at == NULL) {
        return false;
    }
    const uint64_t first = next_number();
    board->committing = board->committed + count;
    if (is_broken("early")) {
        shmipc_ring_commit(&producer.ring, count * stride);
    }
    for (uint64_t i = 0; i < count; i++) {
        sender_write(at + i * stride, first + i, ITEM_LEN);
    }
    actor_step(AT_WRITE_WHOLE);
    if (!is_broken("early")) {
        shmipc_ring_commit(&producer.ring, count * stride);
    }
    return true;
}

/* False: told to leave while the ring was full. */
static bool send_some(uint64_t count)
{
    for (uint64_t i = 0; i < count && !is_typed(); i++) {
        if (payload_len(board->config, producer.ring.next_seq + i) > 1000) {
            count = 1; /* a long one goes alone */
        }
    }
    if (!(is_typed() ? send_items(count) : send_messages(count))) {
        return false;
    }
    shmipc_producer_role_notify(&producer);
    board->sent += count;
    actor->number = board->committed;
    return true;
}

static void close_it(void)
{
    if (is_broken("stays")) {
        _exit(0);
    }
    shmipc_producer_role_interrupt(&producer);
    shmipc_producer_role_close(&producer, board->keep_mapping);
}

_Noreturn void be_producer(void)
{
    static const struct sender by_role = {
        .open = open_it,
        .take_over = take_over,
        .send = send_some,
        .close = close_it,
    };
    live_by_sending(&by_role);
    if (board->keep_mapping) {
        shmipc_segment_close(&producer.segment);
    }
    _exit(0);
}
