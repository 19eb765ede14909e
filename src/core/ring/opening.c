/* opening.c: see opening.h. */
#include "opening.h"

#include <string.h>

#define FIRST_NAP_NS UINT64_C(500000)
#define LONGEST_NAP_NS UINT64_C(10000000)

void shmipc_opening_begin(struct shmipc_opening *opening, const char *path, enum shmipc_start start,
                          uint64_t deadline_ns)
{
    memset(opening, 0, sizeof *opening);
    opening->path = path;
    opening->start = start;
    opening->deadline_ns = deadline_ns;
    opening->nap_ns = FIRST_NAP_NS;
}

void shmipc_opening_accept(struct shmipc_opening *opening,
                           const struct shmipc_consumer_role *consumer)
{
    opening->accepted = true;
    opening->device = consumer->segment.device;
    opening->inode = consumer->segment.inode;
    opening->geometry = consumer->segment.geometry;
}

static bool is_accepted(const struct shmipc_opening *opening, const struct shmipc_segment *segment)
{
    return opening->accepted && segment->device == opening->device &&
           segment->inode == opening->inode &&
           memcmp(&segment->geometry, &opening->geometry, sizeof opening->geometry) == 0;
}

enum shmipc_status shmipc_opening_try(struct shmipc_opening *opening,
                                      struct shmipc_consumer_role *consumer,
                                      struct shmipc_error *error)
{
    enum shmipc_status status = SHMIPC_OK;
    if (!opening->found) {
        status = shmipc_consumer_role_find(consumer, opening->path, error);
        opening->found = status == SHMIPC_OK;
        if (status == SHMIPC_OK && !is_accepted(opening, &consumer->segment)) {
            return SHMIPC_OK;
        }
    }
    if (status == SHMIPC_OK) {
        status = shmipc_consumer_role_join(consumer, opening->start, error);
        opening->joined = status == SHMIPC_OK;
        opening->found = opening->joined;
    }
    const uint64_t now_ns = shmipc_now_ns();
    if (status != SHMIPC_NOT_FOUND || now_ns >= opening->deadline_ns) {
        return status;
    }
    const uint64_t left_ns = opening->deadline_ns - now_ns;
    shmipc_wait_nap(left_ns < opening->nap_ns ? left_ns : opening->nap_ns);
    opening->nap_ns = opening->nap_ns * 2 < LONGEST_NAP_NS ? opening->nap_ns * 2 : LONGEST_NAP_NS;
    return SHMIPC_AGAIN;
}
