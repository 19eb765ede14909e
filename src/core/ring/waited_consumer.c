/* waited_consumer.c: see waited_consumer.h. */
#include "waited_consumer.h"

static bool is_ready(void *self)
{
    struct shmipc_consumer_role *consumer = self;
    return shmipc_ring_readable(&consumer->ring) != SHMIPC_EMPTY;
}

static bool has_news(void *self, uint64_t next_look_ns)
{
    return shmipc_consumer_role_has_news(self, next_look_ns);
}

static const struct shmipc_waited_kind consumer_kind = {is_ready, has_news};

struct shmipc_waited shmipc_waited_consumer(struct shmipc_consumer_role *consumer)
{
    return (struct shmipc_waited){
        .kind = &consumer_kind,
        .self = consumer,
        .sleepers = &consumer->ring.map.shared->data.sleepers,
        .peer_look_ns = &consumer->peer_look_ns,
        .spin = &consumer->spin,
    };
}
