/*
 * endpoint.h: the two ends of a ring as a user of shmipc.h holds them.
 *
 * Owns:     struct shmipc_producer and struct shmipc_consumer, what both do alike: options, facts,
 *           deadlines, the texts of a ring's failures.
 */
#ifndef SHMIPC_API_ENDPOINT_H
#define SHMIPC_API_ENDPOINT_H

#include "../core/ring/consumer.h"
#include "../core/ring/producer.h"
#include "handle.h"

#define SHMIPC_MAX_WAITED (1u << 20) /* consumers in one shmipc_wait */

struct shmipc_producer {
    struct shmipc_handle handle; /* first */
    /* The open reservation: items (typed) or payload bytes (message) at most; NULL: none. */
    unsigned char *reserved;
    uint64_t reserved_amount;
    struct shmipc_producer_role role;
    char *schema; /* "" in a message ring */
};

/* A lease on ring memory, and what it shows. Lives in its consumer's lists. */
struct shmipc_frame {
    _Alignas(SHMIPC_LINE) shmipc_atomic_u32 tag; /* as a handle's: one can be taken for the other */
    struct shmipc_consumer *consumer;
    struct shmipc_view view;
    struct shmipc_lease lease;
    struct shmipc_frame *next; /* in `returned` or `spare` */
};

typedef _Atomic(struct shmipc_frame *) shmipc_atomic_frame;

/* What lies between read_pos and end_pos. */
struct shmipc_stretch {
    uint64_t count; /* messages or items; 0: nothing */
    uint64_t end_pos;
    uint64_t next_seq; /* message ring: of the message at end_pos */
};

struct shmipc_consumer {
    struct shmipc_handle handle;  /* first */
    struct shmipc_stretch peeked; /* what the last peek showed */
    uint64_t seq_pos;             /* typed ring: the item at this position has number seq_at_pos */
    uint64_t seq_at_pos;
    uint32_t empty_looks;
    struct shmipc_consumer_role role;
    char *schema;
    /* Frames. `returned` is pushed to by any thread; the rest belongs to the thread inside, or that
     * holds the lock with the owner kept out. */
    shmipc_atomic_frame returned;
    struct shmipc_frame *spare;
    uint64_t frames;         /* not yet released */
    bool detach_pending;     /* closed while frames were held: the last one detaches */
    shmipc_atomic_u32 holds; /* the user's handle and each frame; the last one frees the struct */
    shmipc_atomic_u32 waits; /* the owner waits inside, and takes returned frames itself */
};

/* ---- options -------------------------------------------------------------------------------- */

/* What a caller expects a ring to carry: schema text and size. On the heap: too large for a small
 * thread's stack. */
struct shmipc_expectation {
    char schema[SHMIPC_MAX_SCHEMA_LEN + 1];
    uint32_t schema_len;
    uint64_t item_len; /* 0: a message ring */
};

/* "": a message ring. *expected is to be freed, whatever comes of it. A result. */
int shmipc_expectation_read(struct shmipc_expectation **expected, const char *dtype,
                            const uint64_t *shape, uint32_t axes, uint64_t item_size);
/* SHMIPC_E_OS, its words kept. */
int shmipc_refuse_memory(const char *what, const char *name);
int shmipc_options_check(const void *options, uint32_t abi, uint32_t size, uint32_t known_size);
int shmipc_spin_set(struct shmipc_spin *spin, int64_t spin_ns);
/* Zeroed memory for one end of the ring `name`, and the path of its segment. NULL: *result says
 * why. */
void *shmipc_endpoint_new(size_t len, const char *what, const char *name,
                          char path[SHMIPC_PATH_MAX], int *result);

/* ---- facts ---------------------------------------------------------------------------------- */

/* A copy of the segment's schema with a zero behind it, or NULL with the result kept. */
char *shmipc_schema_copy(const struct shmipc_segment *segment, enum shmipc_side side, int *result);
void shmipc_info_fill(struct shmipc_info *info, const struct shmipc_segment *segment,
                      const struct shmipc_handle *handle, const char *schema);

/* ---- failing -------------------------------------------------------------------------------- */

/* The result of a status that a ring gave, its words kept. */
int shmipc_ring_result(const struct shmipc_handle *handle, const struct shmipc_segment *segment,
                       enum shmipc_status status, enum shmipc_side side);
static inline int shmipc_refuse_null(const char *what)
{
    return shmipc_result_fail(SHMIPC_E_INVALID, "%s is NULL", what);
}

/* ---- deadlines ------------------------------------------------------------------------------ */

/* A result: negative timeouts but SHMIPC_FOREVER are INVALID. */
int shmipc_refuse_timeout(int64_t timeout_ns);
static inline int shmipc_check_timeout(int64_t timeout_ns)
{
    return SHMIPC_LIKELY(timeout_ns >= SHMIPC_FOREVER) ? SHMIPC_SUCCESS
                                                       : shmipc_refuse_timeout(timeout_ns);
}

/* The deadline of a checked timeout that begins now. */
uint64_t shmipc_deadline_after(int64_t timeout_ns);

/* What is left of a checked timeout for the next of several waits. *deadline_ns: 0 before the
 * first.
 */
int64_t shmipc_timeout_left(int64_t timeout_ns, uint64_t *deadline_ns);
static inline bool shmipc_is_over(int64_t timeout_ns, uint64_t *deadline_ns)
{
    return shmipc_timeout_left(timeout_ns, deadline_ns) == 0;
}

/* The core ended a wait with CLOSED, perhaps because another thread interrupted it: find out why,
 * and clear the interrupt. SUCCESS: no reason for the user: go on. INTERRUPTED: shmipc_*_interrupt
 * was called. CLOSED: this handle is being closed. */
int shmipc_take_interrupt(struct shmipc_handle *handle, uint32_t tag,
                          shmipc_atomic_u32 *interrupted);

/* ---- frames -----------------------------------------------------------------------------------
 */

/* End the leases of frames that other threads released. The caller is inside, or has the owner
 * kept out. */
void shmipc_frames_collect(struct shmipc_consumer *consumer);
/* Drop one hold; the last one frees. */
void shmipc_consumer_drop(struct shmipc_consumer *consumer);

#endif
