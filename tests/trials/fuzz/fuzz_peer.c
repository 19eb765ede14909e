/*
 * fuzz_peer.c: a libFuzzer target. We work on a live ring while the peer stores anything anywhere,
 * also between any two accesses of one operation.
 *
 * An input is a script: two bytes that choose the ring, then operations of ours and stores of the
 * peer. Whatever comes, an operation ends, allocates nothing, stays within the mapping and returns
 * one of the statuses that it may return.
 */
#define _GNU_SOURCE
#include "stage.h"

#include "../../../src/core/segment/locks.h"

#include <string.h>
#include <unistd.h>

enum { OPERATIONS_MAX = 64 };

/* What the caller of a reserve holds until it commits or gives up. */
struct reservation {
    unsigned char *at;
    uint64_t len;
    bool open;
};

static bool is_one_of(enum shmipc_status status, const enum shmipc_status *allowed)
{
    while (*allowed != SHMIPC_OS && *allowed != status) {
        allowed++;
    }
    return *allowed != SHMIPC_OS;
}

/* The list of statuses ends with one that none of these may return. */
#define REQUIRE_ONE_OF(status, ...) \
    REQUIRE(is_one_of((status), (const enum shmipc_status[]){__VA_ARGS__, SHMIPC_OS}))

/* ---- producing ------------------------------------------------------------------------------ */

static bool is_typed(const struct stage *stage)
{
    return stage->producer.ring.map.item_stride != 0;
}

/* A length that a caller may ask for: the caller checks it against the area, as the binding does.
 */
static uint64_t wanted_len(struct stage *stage)
{
    const uint16_t raw = script_u16(&stage->script);
    const uint64_t area = stage->area_len;
    if (is_typed(stage)) {
        const uint64_t stride = stage->producer.ring.map.item_stride;
        return (1 + raw % (area / stride)) * stride;
    }
    return shmipc_message_span(raw % (area - sizeof(struct shmipc_message_header) + 1));
}

static void write_and_commit(struct stage *stage, unsigned char *at, uint64_t len)
{
    struct shmipc_ring_producer *ring = &stage->producer.ring;
    const uint64_t head_pos = ring->head_pos;
    if (is_typed(stage)) {
        memset(at, (int)(head_pos & 0xff), len);
        shmipc_ring_commit(ring, len);
    } else {
        const uint64_t payload = len - sizeof(struct shmipc_message_header);
        shmipc_message_header_store(at, (uint32_t)payload, 1, 0, ring->next_seq);
        memset(at + sizeof(struct shmipc_message_header), (int)(head_pos & 0xff), payload);
        shmipc_ring_commit_messages(ring, len, 1);
    }
    shmipc_producer_role_notify(&stage->producer);
    REQUIRE(ring->head_pos == head_pos + len); /* ours alone, whatever the shared one says */
}

static void reserve(struct stage *stage, struct reservation *reservation)
{
    unsigned char *at = NULL;
    const uint64_t len = wanted_len(stage);
    const enum shmipc_status status = shmipc_ring_reserve(&stage->producer.ring, len, &at);
    REQUIRE_ONE_OF(status, SHMIPC_OK, SHMIPC_FULL, SHMIPC_CORRUPT);
    if (status == SHMIPC_OK) {
        *reservation = (struct reservation){at, len, true};
    }
}

static void send(struct stage *stage)
{
    struct reservation reservation = {0};
    reserve(stage, &reservation);
    if (reservation.open) {
        write_and_commit(stage, reservation.at, reservation.len);
    }
}

/* As send_many does: several messages in the room that is left, committed as one. */
static void send_run(struct stage *stage)
{
    struct shmipc_ring_producer *ring = &stage->producer.ring;
    const uint64_t span = wanted_len(stage);
    uint64_t len = 0;
    uint64_t count = 0;
    while (count < 16 && shmipc_ring_room(ring) >= len + span) {
        unsigned char *at = ring->map.data + ((ring->head_pos + len) & ring->map.mask);
        memset(at, 1, span);
        shmipc_message_header_store(at, (uint32_t)(span - 16), 1, 0, ring->next_seq + count);
        len += span;
        count++;
    }
    if (count > 0) {
        shmipc_ring_commit_messages(ring, len, count);
    }
}

/* Most waits must not sleep, or the fuzzer would. */
static uint64_t deadline(struct stage *stage)
{
    return script_u8(&stage->script) == 255 ? shmipc_now_ns() + 1000 : 0;
}

static void produce(struct stage *stage, uint8_t what, struct reservation *reservation)
{
    struct shmipc_producer_role *producer = &stage->producer;
    struct shmipc_wait wait = {0};
    uint64_t slowest = 0;
    uint32_t slot = 0;
    producer->peer_look_ns = 0; /* as if enough time had passed: the clock decides nothing here */
    switch (what) {
    case 0:
    case 1:
    case 2:
        if (!reservation->open) {
            send(stage);
        }
        break;
    case 3:
        if (!reservation->open) {
            reserve(stage, reservation);
        }
        break;
    case 4:
        if (reservation->open) {
            write_and_commit(stage, reservation->at, reservation->len);
            reservation->open = false;
        }
        break;
    case 5:
        reservation->open = false;
        break;
    case 6:
        (void)shmipc_ring_pending_estimate(&producer->ring);
        break;
    case 7:
        if (shmipc_ring_slowest(&producer->ring.map, &slowest, &slot)) {
            REQUIRE(slot < producer->ring.map.slots);
        }
        break;
    case 8: {
        const uint64_t len = wanted_len(stage);
        const enum shmipc_status status =
            shmipc_producer_role_wait_room(producer, &wait, len, deadline(stage));
        REQUIRE_ONE_OF(status, SHMIPC_OK, SHMIPC_TIMEOUT, SHMIPC_AGAIN, SHMIPC_DIED,
                       SHMIPC_CORRUPT);
        REQUIRE(status != SHMIPC_OK || shmipc_ring_room(&producer->ring) >= len);
        break;
    }
    case 9:
        REQUIRE_ONE_OF(shmipc_producer_role_poll_peers(producer), SHMIPC_OK, SHMIPC_FULL,
                       SHMIPC_DIED, SHMIPC_CORRUPT);
        break;
    case 10:
        REQUIRE(shmipc_producer_role_count_attached(producer) <= producer->ring.map.slots);
        REQUIRE_ONE_OF(shmipc_producer_role_wait_attached(producer, &wait, 2, 0), SHMIPC_OK,
                       SHMIPC_TIMEOUT, SHMIPC_CORRUPT);
        break;
    case 11:
        if (!reservation->open && !is_typed(stage)) {
            send_run(stage);
        }
        break;
    default:
        (void)shmipc_segment_is_owed(&producer->segment);
        (void)shmipc_segment_is_shared(&producer->segment);
        break;
    }
}

/* ---- consuming ------------------------------------------------------------------------------ */

static void join(struct stage *stage, uint32_t index, bool earliest)
{
    struct stage_consumer *consumer = &stage->consumers[index];
    const uint32_t slot = stage->slot_of[index];
    stage_attach_consumer(stage, index);
    consumer->may_hold_locks = true;
    if (!shmipc_lock_try(&consumer->core.segment, SHMIPC_LOCK_SLOT0 + slot)) {
        return;
    }
    const enum shmipc_status status = shmipc_ring_join(
        &consumer->core.ring, slot, earliest ? SHMIPC_START_EARLIEST : SHMIPC_START_LATEST);
    REQUIRE_ONE_OF(status, SHMIPC_OK, SHMIPC_CORRUPT);
    consumer->joined = status == SHMIPC_OK;
    if (consumer->joined) {
        shmipc_store_relaxed(&consumer->core.ring.slot->pid, 1u);
    } else {
        shmipc_lock_drop(&consumer->core.segment, SHMIPC_LOCK_SLOT0 + slot);
    }
}

/* Peek, and what comes of it: look, step over, keep, throw away. */
static void read_one(struct stage *stage, struct stage_consumer *consumer, uint8_t what)
{
    static unsigned char copy[AREA_MAX];
    struct shmipc_ring_consumer *ring = &consumer->core.ring;
    struct shmipc_message message = {0};
    uint64_t count = 1;
    const bool batch = what % 2 != 0 && ring->map.item_stride != 0;
    const uint64_t max = batch ? 1 + script_u8(&stage->script) : 1;
    const enum shmipc_status status = batch ? shmipc_ring_peek_batch(ring, max, &message, &count)
                                            : shmipc_ring_peek(ring, &message);
    REQUIRE_ONE_OF(status, SHMIPC_OK, SHMIPC_EMPTY, SHMIPC_CORRUPT);
    if (status != SHMIPC_OK) {
        return;
    }
    stage_check_message(stage, &message);
    REQUIRE(count >= 1 && count <= max);
    REQUIRE(message.span <= ring->head_pos_cached - ring->read_pos);
    shmipc_copy_speculative(copy, message.data, message.len);
    if (!shmipc_ring_intact(&ring->map, message.pos)) {
        shmipc_ring_resync(ring);
        return;
    }
    const uint8_t lease = what / 2 % LEASES;
    if (what < 4) {
        shmipc_ring_advance(ring, &message);
        shmipc_consumer_role_release(&consumer->core);
    } else if (what < 8 && !consumer->is_leased[lease]) {
        shmipc_ring_take(ring, &message, &consumer->leases[lease]);
        consumer->leased[lease] = message;
        consumer->is_leased[lease] = true;
    }
}

static void end_lease(struct stage *stage, struct stage_consumer *consumer, uint8_t lease)
{
    if (!consumer->is_leased[lease]) {
        return;
    }
    stage_check_message(stage, &consumer->leased[lease]);
    shmipc_ring_end(&consumer->core.ring, &consumer->leases[lease]);
    consumer->is_leased[lease] = false;
    shmipc_consumer_role_release(&consumer->core);
}

static void consume(struct stage *stage, uint32_t index, uint8_t what)
{
    struct stage_consumer *consumer = &stage->consumers[index];
    struct shmipc_consumer_role *core = &consumer->core;
    struct shmipc_wait wait = {0};
    core->peer_look_ns = 0;
    if (!consumer->joined) {
        join(stage, index, what % 2 != 0);
        return;
    }
    switch (what) {
    case 8:
        end_lease(stage, consumer, 0);
        break;
    case 9:
        end_lease(stage, consumer, 1 + script_u8(&stage->script) % (LEASES - 1));
        break;
    case 10:
        (void)shmipc_ring_unread_estimate(&core->ring);
        (void)shmipc_ring_lag_estimate(&core->ring);
        break;
    case 11:
        REQUIRE_ONE_OF(shmipc_consumer_role_poll_peer(core), SHMIPC_OK, SHMIPC_EMPTY, SHMIPC_CLOSED,
                       SHMIPC_DIED, SHMIPC_CORRUPT);
        break;
    case 12:
        REQUIRE_ONE_OF(shmipc_consumer_role_wait_data(core, &wait, deadline(stage)), SHMIPC_OK,
                       SHMIPC_TIMEOUT, SHMIPC_AGAIN, SHMIPC_CLOSED, SHMIPC_DIED, SHMIPC_CORRUPT);
        break;
    case 13:
        shmipc_ring_resync(&core->ring);
        break;
    case 14: /* leaving; or dying, which leaves the bit and the pid behind */
        if (script_u8(&stage->script) % 2 == 0) {
            shmipc_ring_leave(&core->ring.map, core->ring.slot_index);
        }
        shmipc_lock_drop(&core->segment, SHMIPC_LOCK_SLOT0 + core->ring.slot_index);
        consumer->joined = false;
        break;
    case 15:
        (void)shmipc_ring_publish_cursor(&core->ring);
        break;
    default:
        read_one(stage, consumer, what);
        break;
    }
}

/* ---- both ----------------------------------------------------------------------------------- */

static void wait_for_any(struct stage *stage)
{
    struct shmipc_waited joined[CONSUMERS];
    shmipc_atomic_u32 *words[CONSUMERS];
    uint32_t marks[CONSUMERS];
    bool ready[CONSUMERS];
    struct shmipc_waitset set = {.members = joined, .words = words, .marks = marks, .ready = ready};
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        if (stage->consumers[i].joined) {
            joined[set.count++] = shmipc_waited_consumer(&stage->consumers[i].core);
        }
    }
    shmipc_waitset_begin(&set);
    REQUIRE_ONE_OF(shmipc_waitset_slice(&set, deadline(stage)), SHMIPC_OK, SHMIPC_TIMEOUT,
                   SHMIPC_AGAIN);
}

static bool take_over(struct stage *stage, bool close_first)
{
    if (close_first) {
        /* A peer's gate would make this wait for 2 s: nobody holds one here. */
        shmipc_producer_role_close(&stage->producer, false);
    }
    const enum shmipc_status status = stage_attach_producer(stage);
    REQUIRE_ONE_OF(status, SHMIPC_OK, SHMIPC_CORRUPT);
    return status == SHMIPC_OK;
}

static void close_consumer(struct stage *stage, uint32_t index)
{
    if (stage->consumers[index].joined) {
        shmipc_consumer_role_close(&stage->consumers[index].core);
        stage->consumers[index].joined = false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct stage *stage = stage_open(bytes, len);
    struct reservation reservation = {0};
    bool producing = true;
    for (int i = 0; i < OPERATIONS_MAX && stage->script.left > 0; i++) {
        const uint8_t code = script_u8(&stage->script);
        const uint8_t what = code >> 4;
        const uint32_t index = code & 3;
        if ((code & 15) >= 12) { /* the peer's turn */
            stage_hostile_store(stage);
            continue;
        }
        stage_begin();
        if ((code & 15) < 4 && producing) {
            if (what == 13 || what == 14) {
                producing = take_over(stage, what == 14);
                reservation.open = false;
            } else {
                produce(stage, what, &reservation);
            }
        } else if ((code & 15) < 4) {
            producing = take_over(stage, false);
        } else if (index == 3 && what < 8) {
            wait_for_any(stage);
        } else if (index == 3) {
            close_consumer(stage, what % CONSUMERS);
        } else {
            consume(stage, index, what);
        }
        stage_end();
        if (producing) {
            stage_check_producer(stage);
        }
        for (uint32_t k = 0; k < CONSUMERS; k++) {
            if (stage->consumers[k].joined) {
                stage_check_consumer(stage, &stage->consumers[k]);
            }
        }
    }
    return 0;
}
