/*
 * waited_consumer.h: consumers as members of a set of waits (wait/waitset.h).
 *
 * Owns:     what such a member is: the ring's data word, its reader, its producer.
 * Must not know: the set.
 */
#ifndef SHMIPC_WAITED_CONSUMER_H
#define SHMIPC_WAITED_CONSUMER_H

#include "../wait/waitset.h"
#include "consumer.h"

/* The member that stands for `consumer`, which stays attached while the set waits. */
struct shmipc_waited shmipc_waited_consumer(struct shmipc_consumer_role *consumer);

/* The other way. */
static inline struct shmipc_consumer_role *
shmipc_consumer_of_waited(const struct shmipc_waited *member)
{
    return member->self;
}

#endif
