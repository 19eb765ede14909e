/* actors.c: see actors.h. */
#include "actors.h"

#include <string.h>

struct shmipc_producer_role producers[MODEL_MAX_THREADS];
struct shmipc_consumer_role consumers[MODEL_MAX_THREADS];
struct log logs[MODEL_MAX_THREADS];

static struct shmipc_spec spec;
static bool in_place; /* payload is read where it lies: it must not race */

static uint64_t payload_of(uint64_t seq)
{
    return (seq + 1) * UINT64_C(0x0101010101010101);
}

/* The area is mapped once here: a batch that runs over its end goes on at its start. */
static uint64_t *fold(const struct shmipc_ring *ring, const unsigned char *at)
{
    const uint64_t off = (uint64_t)(at - ring->data) & ring->mask;
    return (uint64_t *)(void *)(ring->data + off);
}

static void put_payload(const struct shmipc_ring *ring, unsigned char *at, uint64_t seq)
{
    if (in_place) {
        model_plain_store(fold(ring, at), payload_of(seq));
    } else {
        shmipc_store_relaxed((shmipc_atomic_u64 *)fold(ring, at), payload_of(seq));
    }
}

/* ---- opening ------------------------------------------------------------------------------- */

void remember_producer(int thread, enum point where, enum shmipc_status status)
{
    const struct shmipc_producer_role *producer = &producers[thread];
    struct {
        struct shmipc_ring_producer ring;
        struct log log;
        uint64_t peer_look_ns;
        uint64_t open;
    } known;
    memset(&known, 0, sizeof known);
    known.ring = producer->ring;
    known.log = logs[thread];
    known.peer_look_ns = producer->peer_look_ns;
    known.open = producer->segment.fd >= 0;
    model_checkpoint((uint64_t)where << 8 | status, &known, sizeof known);
}

void remember_consumer(int thread, enum point where, enum shmipc_status status)
{
    struct shmipc_consumer_role *consumer = &consumers[thread];
    struct {
        struct shmipc_ring_consumer ring;
        struct log log;
        uint64_t peer_look_ns;
        uint64_t open;
    } known;
    /* These only choose when to stay off a line: they change no outcome. */
    consumer->ring.look_ticks = 0;
    consumer->ring.lockstep_streak = 0;
    consumer->ring.empty_polls = 0;
    consumer->ring.linger_rest = 0;
    consumer->ring.linger_penalty = 0;
    memset(&known, 0, sizeof known);
    known.ring = consumer->ring;
    known.log = logs[thread];
    known.peer_look_ns = consumer->peer_look_ns;
    known.open = consumer->segment.fd >= 0;
    model_checkpoint((uint64_t)where << 8 | status, &known, sizeof known);
}

enum shmipc_status try_open_producer(int thread)
{
    struct shmipc_error error;
    struct shmipc_producer_role *producer = &producers[thread];
    const enum shmipc_status status = shmipc_producer_role_open(producer, "model", &spec, &error);
    shmipc_spin_init(&producer->spin, 0, false);
    return status;
}

void hold_for(uint32_t count)
{
    spec.hold_for = count;
}

void open_producer(int thread)
{
    kernel_act_as(thread);
    model_check(try_open_producer(thread) == SHMIPC_OK, "a free ring can be produced to");
}

enum shmipc_status open_consumer(int thread, enum shmipc_start start)
{
    struct shmipc_error error;
    struct shmipc_consumer_role *consumer = &consumers[thread];
    kernel_act_as(thread);
    logs[thread].calls++;
    const enum shmipc_status status = shmipc_consumer_role_open(consumer, "model", start, &error);
    shmipc_spin_init(&consumer->spin, 0, false);
    if (status == SHMIPC_OK) {
        logs[thread].first_seq = UINT64_MAX;
        remember_consumer(thread, POINT_OPENED, status);
    }
    return status;
}

void make_ring(enum shmipc_framing framing, enum shmipc_overflow overflow, uint32_t slots,
               uint64_t count, int producer)
{
    const bool typed = framing == SHMIPC_FRAMING_TYPED;
    memset(producers, 0, sizeof producers);
    memset(consumers, 0, sizeof consumers);
    memset(logs, 0, sizeof logs);
    in_place = overflow == SHMIPC_OVERFLOW_BLOCK;
    spec = (struct shmipc_spec){.framing = framing,
                                .overflow = overflow,
                                .slots = slots,
                                .item_len = typed ? ITEM_LEN : 0,
                                .schema = ""};
    kernel_create(framing, overflow, slots, spec.item_len,
                  count * (typed ? ITEM_LEN : MESSAGE_SPAN), 0);
    kernel_allow_membarrier(EVERY_THREAD, true);
    shmipc_ring_format(kernel_header);
    if (producer >= 0) {
        open_producer(producer);
    }
}

void close_producer(int thread)
{
    shmipc_producer_role_close(&producers[thread], false);
}

void close_consumer(int thread)
{
    shmipc_consumer_role_close(&consumers[thread]);
}

/* ---- sending ------------------------------------------------------------------------------- */

enum shmipc_status send_next(int thread, bool waits)
{
    struct shmipc_producer_role *producer = &producers[thread];
    struct shmipc_ring_producer *ring = &producer->ring;
    const bool typed = ring->map.item_stride != 0;
    const uint64_t len = typed ? ITEM_LEN : MESSAGE_SPAN;
    struct shmipc_wait wait = {0};
    unsigned char *at;
    logs[thread].calls++;
    enum shmipc_status status = shmipc_ring_reserve(ring, len, &at);
    while (status == SHMIPC_FULL && waits) {
        do {
            status = shmipc_producer_role_wait_room(producer, &wait, len, SHMIPC_NEVER);
            remember_producer(thread, POINT_WAITED, status);
        } while (status == SHMIPC_AGAIN);
        if (status != SHMIPC_OK) {
            return status;
        }
        status = shmipc_ring_reserve(ring, len, &at);
    }
    model_check(status == SHMIPC_OK || status == SHMIPC_FULL, "an honest ring is never corrupt");
    if (status != SHMIPC_OK) {
        remember_producer(thread, POINT_REFUSED, status);
        return status;
    }
    if (typed) {
        put_payload(&ring->map, at, shmipc_ring_seq_of(&ring->map, ring->head_pos));
        shmipc_ring_commit(ring, len);
    } else {
        shmipc_message_header_store(at, 8, 1, 0, ring->next_seq);
        put_payload(&ring->map, at + sizeof(struct shmipc_message_header), ring->next_seq);
        shmipc_ring_commit_messages(ring, len, 1);
    }
    logs[thread].sent++;
    shmipc_producer_role_notify(producer);
    remember_producer(thread, POINT_SENT, status);
    return SHMIPC_OK;
}

uint64_t committed(void)
{
    const uint64_t head = model_latest(&kernel_header->commit.head_pos, 8);
    return head / (spec.item_len != 0 ? ITEM_LEN : MESSAGE_SPAN);
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void meet_claims(int thread, uint64_t seq, uint64_t payload)
{
    struct log *log = &logs[thread];
    const struct shmipc_consumer_role *consumer = &consumers[thread];
    model_check(payload == payload_of(seq), "no message is torn or stale");
    if (log->first_seq == UINT64_MAX) {
        log->first_seq = seq;
    } else if (in_place) {
        model_check(seq == log->next_seq, "no message is lost, repeated or out of order");
    } else {
        model_check(seq >= log->next_seq, "no message is repeated or out of order");
    }
    log->next_seq = seq + 1;
    log->received++;
    if (in_place) {
        model_check(consumer->ring.lost == 0, "a blocking ring loses nothing");
    }
}

/* Copy, look whether it held, advance, release. False: overtaken, read again. */
static bool consume(int thread, const struct shmipc_message *message)
{
    struct shmipc_consumer_role *consumer = &consumers[thread];
    const struct shmipc_ring *ring = &consumer->ring.map;
    const uint64_t seq =
        ring->item_stride != 0 ? shmipc_ring_seq_of(ring, message->pos) : message->seq;
    uint64_t payload = 0;
    if (in_place) {
        payload = model_plain_load(fold(ring, message->data));
    } else {
        shmipc_copy_speculative(&payload, message->data, sizeof payload);
        if (!shmipc_ring_intact(ring, message->pos)) {
            shmipc_ring_resync(&consumer->ring);
            return false;
        }
    }
    meet_claims(thread, seq, payload);
    shmipc_ring_advance(&consumer->ring, message);
    logs[thread].released++;
    shmipc_consumer_role_release(consumer);
    return true;
}

enum shmipc_status receive_next(int thread, bool waits)
{
    struct shmipc_consumer_role *consumer = &consumers[thread];
    struct shmipc_wait wait = {0};
    logs[thread].calls++;
    for (;;) {
        struct shmipc_message message;
        enum shmipc_status status = shmipc_ring_peek(&consumer->ring, &message);
        if (status == SHMIPC_OK) {
            const bool done = consume(thread, &message);
            remember_consumer(thread, POINT_READ, done ? SHMIPC_OK : SHMIPC_EMPTY);
            if (done) {
                return SHMIPC_OK;
            }
            continue;
        }
        while (status == SHMIPC_EMPTY && waits) {
            do {
                status = shmipc_consumer_role_wait_data(consumer, &wait, SHMIPC_NEVER);
                remember_consumer(thread, POINT_WAITED, status);
            } while (status == SHMIPC_AGAIN);
            if (status == SHMIPC_OK) {
                break;
            }
        }
        if (status != SHMIPC_OK) {
            model_check(status != SHMIPC_CORRUPT, "an honest ring is never corrupt");
            logs[thread].end = status;
            remember_consumer(thread, POINT_REFUSED, status);
            return status;
        }
    }
}

enum shmipc_status receive_batch(int thread)
{
    struct shmipc_consumer_role *consumer = &consumers[thread];
    const struct shmipc_ring *ring = &consumer->ring.map;
    struct shmipc_message message;
    uint64_t count = 0;
    logs[thread].calls++;
    const enum shmipc_status status =
        shmipc_ring_peek_batch(&consumer->ring, UINT64_MAX, &message, &count);
    if (status == SHMIPC_OK) {
        for (uint64_t i = 0; i < count; i++) {
            const uint64_t seq = shmipc_ring_seq_of(ring, message.pos) + i;
            meet_claims(thread, seq, model_plain_load(fold(ring, message.data + i * ITEM_LEN)));
        }
        shmipc_ring_advance(&consumer->ring, &message);
        logs[thread].released += count;
        shmipc_consumer_role_release(consumer);
    }
    model_check(status != SHMIPC_CORRUPT, "an honest ring is never corrupt");
    remember_consumer(thread, POINT_READ, status);
    return status;
}

/* ---- what several scenarios begin with or do --------------------------------------------------
 */

void make_queue(void)
{
    make_ring(SHMIPC_FRAMING_MESSAGE, SHMIPC_OVERFLOW_BLOCK, 1, 2, 0);
    (void)open_consumer(1, SHMIPC_START_RESUME);
}

void fence_all(void)
{
    kernel_allow_membarrier(0, false);
    producers[0].asymmetric = false;
    consumers[1].asymmetric = false;
}

void make_fenced_queue(void)
{
    make_queue();
    fence_all();
}

void make_broadcast(void)
{
    make_ring(SHMIPC_FRAMING_TYPED, SHMIPC_OVERFLOW_BLOCK, 2, 2, 0);
    (void)open_consumer(1, SHMIPC_START_LATEST);
    (void)open_consumer(2, SHMIPC_START_LATEST);
}

void make_full_broadcast(void)
{
    make_broadcast();
    (void)send_next(0, false);
    (void)send_next(0, false);
}

void make_open_broadcast(void)
{
    make_ring(SHMIPC_FRAMING_TYPED, SHMIPC_OVERFLOW_BLOCK, 2, 2, 0);
}

void send_one(void)
{
    model_check(send_next(0, true) == SHMIPC_OK, "a waiting producer gets room");
}

void send_two(void)
{
    send_one();
    send_one();
}

void first_polls_one(void)
{
    (void)receive_next(1, false);
}

void second_polls_one(void)
{
    (void)receive_next(2, false);
}
