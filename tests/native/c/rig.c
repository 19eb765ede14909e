/* rig.c: see rig.h. */
#include "rig.h"

#include <string.h>

struct shmipc_spec rig_message_spec(uint32_t slots)
{
    return (struct shmipc_spec){.framing = SHMIPC_FRAMING_MESSAGE,
                                .overflow = SHMIPC_OVERFLOW_BLOCK,
                                .slots = slots,
                                .capacity = 1,
                                .mode = 0600};
}

struct shmipc_spec rig_typed_spec(uint32_t slots, uint64_t item_len, uint64_t items)
{
    return (struct shmipc_spec){.framing = SHMIPC_FRAMING_TYPED,
                                .overflow = SHMIPC_OVERFLOW_BLOCK,
                                .slots = slots,
                                .item_len = item_len,
                                .capacity = items,
                                .schema = "schema",
                                .schema_len = 6,
                                .mode = 0600};
}

void rig_open(struct rig *rig, const struct shmipc_spec *spec)
{
    struct shmipc_error error;
    CHECK_EQ(shmipc_segment_create(&rig->segment, test_path("rig"), spec, &error), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_map(&rig->segment, true, &error), SHMIPC_OK);
    memset(&rig->producer, 0, sizeof rig->producer);
    shmipc_ring_attach(&rig->producer.map, &rig->segment);
    shmipc_ring_format(rig->segment.header);
    CHECK_EQ(shmipc_ring_take_over(&rig->producer), SHMIPC_OK);
}

void rig_close(struct rig *rig)
{
    shmipc_segment_close(&rig->segment);
}

void rig_attach(const struct rig *rig, struct shmipc_ring_consumer *consumer)
{
    memset(consumer, 0, sizeof *consumer);
    shmipc_ring_attach(&consumer->map, &rig->segment);
}

void rig_join(const struct rig *rig, struct shmipc_ring_consumer *consumer, uint32_t slot,
              enum shmipc_start start)
{
    rig_attach(rig, consumer);
    CHECK_EQ(shmipc_ring_join(consumer, slot, start), SHMIPC_OK);
}

static unsigned char pattern(uint64_t seed, uint64_t i)
{
    return (unsigned char)((seed * 167 + 13) ^ (i * 31) ^ (i >> 8) ^ (seed >> 8));
}

void rig_fill(unsigned char *at, uint64_t len, uint64_t seed)
{
    for (uint64_t i = 0; i < len; i++) {
        at[i] = pattern(seed, i);
    }
}

bool rig_matches(const unsigned char *at, uint64_t len, uint64_t seed)
{
    for (uint64_t i = 0; i < len; i++) {
        if (at[i] != pattern(seed, i)) {
            return false;
        }
    }
    return true;
}

enum shmipc_status rig_send(struct shmipc_ring_producer *producer, uint64_t len)
{
    unsigned char *at = NULL;
    const uint64_t span = shmipc_message_span(len);
    const enum shmipc_status status = shmipc_ring_reserve(producer, span, &at);
    if (status == SHMIPC_OK) {
        shmipc_message_header_store(at, (uint32_t)len, 1, 0, producer->next_seq);
        rig_fill(at + sizeof(struct shmipc_message_header), len, producer->next_seq);
        shmipc_ring_commit_messages(producer, span, 1);
    }
    return status;
}

uint64_t rig_item_number(const struct shmipc_ring_producer *producer)
{
    return shmipc_ring_seq_of(&producer->map, producer->head_pos);
}

enum shmipc_status rig_put(struct shmipc_ring_producer *producer)
{
    unsigned char *at = NULL;
    const enum shmipc_status status = shmipc_ring_reserve(producer, producer->map.item_stride, &at);
    if (status == SHMIPC_OK) {
        rig_fill(at, producer->map.item_len, rig_item_number(producer));
        shmipc_ring_commit(producer, producer->map.item_stride);
    }
    return status;
}

void rig_expect(struct shmipc_ring_consumer *consumer, uint64_t len, uint64_t seq)
{
    struct shmipc_message message;
    CHECK_EQ(shmipc_ring_peek(consumer, &message), SHMIPC_OK);
    CHECK_EQ(message.seq, seq);
    CHECK_EQ(message.len, len);
    CHECK(rig_matches(message.data, message.len, seq));
    CHECK(shmipc_ring_intact(&consumer->map, message.pos));
    shmipc_ring_advance(consumer, &message);
    (void)shmipc_ring_publish_cursor(consumer);
}

void rig_expect_item(struct shmipc_ring_consumer *consumer, uint64_t number)
{
    struct shmipc_message message;
    CHECK_EQ(shmipc_ring_peek(consumer, &message), SHMIPC_OK);
    message.seq = 0;
    CHECK_EQ(shmipc_ring_seq_of(&consumer->map, message.pos), number);
    CHECK_EQ(message.len, consumer->map.item_len);
    CHECK(rig_matches(message.data, message.len, number));
    CHECK(shmipc_ring_intact(&consumer->map, message.pos));
    shmipc_ring_advance(consumer, &message);
    (void)shmipc_ring_publish_cursor(consumer);
}

void rig_expect_status(struct shmipc_ring_consumer *consumer, enum shmipc_status status)
{
    struct shmipc_message message;
    CHECK_EQ(shmipc_ring_peek(consumer, &message), status);
}
