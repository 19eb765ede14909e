/*
 * api.h: the real handles and frames of src/api under the model.
 *
 * Owns:     names for the machine's threads, which are coroutines of one thread of the system's;
 *           what stands in for the allocator and for giving the processor away; a consumer with
 *           its frames.
 * Must not know: one scenario from another.
 *
 * A loop that gives the processor away and looks again does nothing until what it waits for has
 * come, so it takes its next step then. `api_retry_once` lets each thread go round once more
 * before that, where what it does in the loop could disturb.
 */
#ifndef SHMIPC_MODEL_API_H
#define SHMIPC_MODEL_API_H

#include "actors.h"

/* In handle.h the declaration says (void), the callers say (). */
#define shmipc_thread_self(arguments) API_SELF_##arguments
#define API_SELF_void api_unused_self(void)
#define API_SELF_ api_thread_self()

uintptr_t api_thread_self(void);

#include "../../../src/api/endpoint.h"

enum { API_FRAMES = 3 };

extern struct shmipc_consumer *const api_consumer;

/* What the threads of a scenario know in common; told apart like the consumer's own memory. */
extern struct api_log {
    struct shmipc_handle *handle;
    const shmipc_atomic_u32 *waits; /* NULL: nobody waits inside */
    int allocated;                  /* frames */
    int freed;                      /* ... and the consumer */
    int taken;                      /* leases */
    int ended;
    bool retries;
    bool retried[MODEL_MAX_THREADS];
    bool calls[MODEL_MAX_THREADS]; /* is in a call */
    bool met[MODEL_MAX_THREADS];   /* was in it when another was in one */
    int place[MODEL_MAX_THREADS];  /* in its script */
} api_log;

/* From set_up, first and last. The handle is what threads wait for; `bytes` as in hash_also. */
void api_reset(struct shmipc_handle *handle);
void api_share(void);
void api_retry_once(void);

/* Thread 0's consumer of the ring that actors.h made, and messages of it in frames. */
void api_open_consumer(void);
struct shmipc_frame *api_read_frame(void);

/* Around a call: did another thread make one meanwhile? */
void api_begin_call(void);
void api_end_call(void);
bool api_met_another(void);

/* Between two calls: a thread knows nothing but where it is. */
void api_reach(void);

#endif
