/*
 * stage.h: a live ring in memory of our own, and a peer who stores what he likes into it.
 *
 * Owns:     the memory (header between the sanitizer's red zones, data mapped twice between pages
 *           that nobody may touch), the private structs of both roles, the peer's script.
 * Must not know: which operations are tried on the ring (fuzz_peer.c).
 *
 * Nothing is created or mapped while an input runs, so tens of thousands run in a second.
 */
#ifndef SHMIPC_FUZZ_STAGE_H
#define SHMIPC_FUZZ_STAGE_H

#include "../../../src/core/ring/producer.h"
#include "../../../src/core/ring/waited_consumer.h"
#include "script.h"

enum { CONSUMERS = 3, LEASES = 4, AREA_MAX = 16384 };

struct stage_consumer {
    struct shmipc_consumer_role core;
    struct shmipc_lease leases[LEASES];
    struct shmipc_message leased[LEASES];
    bool is_leased[LEASES];
    bool joined;
    bool may_hold_locks;
};

struct stage {
    struct script script;
    struct shmipc_header *shared;
    const unsigned char *data; /* as consumers see it: read-only */
    uint64_t area_len;
    struct shmipc_producer_role producer;
    struct stage_consumer consumers[CONSUMERS];
    uint32_t slot_of[CONSUMERS];
};

/* The one stage, as the first bytes of the script want it: framing, policy, slots, origin. */
struct stage *stage_open(const uint8_t *bytes, size_t len);

/* Have the peer store something now, or before one of the next accesses of ours. */
void stage_hostile_store(struct stage *stage);

/* Around every operation: it must end after a bounded number of accesses, and allocate nothing. */
void stage_begin(void);
void stage_end(void);

/* What must hold whatever the peer does. */
void stage_check_producer(const struct stage *stage);
void stage_check_consumer(const struct stage *stage, const struct stage_consumer *consumer);
/* A message that was handed out lies within the area: every byte of it can be read. */
void stage_check_message(const struct stage *stage, const struct shmipc_message *message);

/* (Re)build the private structs on the shared memory as it is. */
enum shmipc_status stage_attach_producer(struct stage *stage);
void stage_attach_consumer(struct stage *stage, uint32_t index);

#endif
