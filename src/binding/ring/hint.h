/* hint.h: warnings in the log of "shmipc". */
#ifndef SHMIPC_BINDING_HINT_H
#define SHMIPC_BINDING_HINT_H

#include "consumer_object.h"
#include "../../core/ring/waited_consumer.h"

/* A wait's look, once a second, for a consumer whose own frames keep its producer from sending. */
struct vigil {
    uint64_t next_ns; /* 0: not begun, as after {0} */
    uint64_t since_ns;
    uint64_t number; /* of the oldest message kept */
    const struct shmipc_consumer_role *suspect;
    bool told; /* once a wait */
};

/* Two looks found the same: a new reference to the consumer to tell of, else NULL. The handles are
 * entered. */
ConsumerObject *vigil_look(struct vigil *vigil, const struct shmipc_waited *members,
                           uint32_t count);
/* Tell of it, and drop the reference; NULL: of nobody. Runs Python code. -1 with an exception. */
int vigil_tell(const struct vigil *vigil, ConsumerObject *consumer);
/* Both, for one that is entered. */
int vigil_keep(struct vigil *vigil, ConsumerObject *consumer);
/* The ring has not come for a while; `reason` is why not, and names that are alike are told too. -1
 * with an exception. */
int hint_not_found(PyObject *name, const char *path, const char *reason);

#endif
