/*
 * rig.h: a ring on an unnamed segment, and the shortest ways to put messages in and take them out.
 * What a role adds (names, locks, waiting) is not in it: test_roles.c has that.
 */
#ifndef SHMIPC_TEST_RIG_H
#define SHMIPC_TEST_RIG_H

#include "../../../src/core/ring/role.h"
#include "test.h"

struct rig {
    struct shmipc_segment segment;
    struct shmipc_ring_producer producer;
};

/* Block, one page, `slots` consumers. */
struct shmipc_spec rig_message_spec(uint32_t slots);
struct shmipc_spec rig_typed_spec(uint32_t slots, uint64_t item_len, uint64_t items);

void rig_open(struct rig *rig, const struct shmipc_spec *spec);
void rig_close(struct rig *rig);

/* Join slot `slot`, which must succeed. */
void rig_join(const struct rig *rig, struct shmipc_ring_consumer *consumer, uint32_t slot,
              enum shmipc_start start);
/* Prepare a consumer for shmipc_ring_join. */
void rig_attach(const struct rig *rig, struct shmipc_ring_consumer *consumer);

/* Bytes that differ from message to message and from position to position. */
void rig_fill(unsigned char *at, uint64_t len, uint64_t seed);
bool rig_matches(const unsigned char *at, uint64_t len, uint64_t seed);

/* Send one message whose bytes are made from its sequence number; or one item, from its number. */
enum shmipc_status rig_send(struct shmipc_ring_producer *producer, uint64_t len);
enum shmipc_status rig_put(struct shmipc_ring_producer *producer);
uint64_t rig_item_number(const struct shmipc_ring_producer *producer);

/* Peek, check the bytes against `seq`, advance, publish the cursor. */
void rig_expect(struct shmipc_ring_consumer *consumer, uint64_t len, uint64_t seq);
void rig_expect_item(struct shmipc_ring_consumer *consumer, uint64_t number);
void rig_expect_status(struct shmipc_ring_consumer *consumer, enum shmipc_status status);

#endif
