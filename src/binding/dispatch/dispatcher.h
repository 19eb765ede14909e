/*
 * dispatcher.h: what the dispatcher's files share: dispatcher.c (the type), dispatcher_wait.c,
 * subscription.c (rings and handlers, as given to add()), delivery.c (one event),
 * dispatching.c (the loop).
 */
#ifndef SHMIPC_BINDING_DISPATCHER_H
#define SHMIPC_BINDING_DISPATCHER_H

#include "../base/state.h"
#include "../base/handle.h"
#include "../ring/consumer_object.h"
#include "../ring/frame_object.h"
#include "../ring/waiting.h"
#include "../record/record.h"
#include "keys.h"
#include "../../core/ring/waited_consumer.h"

/* Flag of a message that ends in a bitmap of the readers it is meant for. */
#define TARGETED_FLAG 1u
#define TARGETS_LEN (SHMIPC_MAX_CONSUMERS / 8u)

#define STEPS_MAX 4096 /* messages passed in one burst, wanted or not */

/* Who is called for one kind of message. */
struct handler {
    PyTypeObject *type; /* of its records */
    PyObject *callable;
    PyObject *key;    /* the kind as it was given: a batch handler is told */
    PyObject *record; /* reused while nobody keeps it; or NULL */
    PyObject *batch;  /* an ndarray being filled, or kept to be filled again; or NULL */
    unsigned char *batch_data;
    uint64_t batch_room; /* items that fit */
    uint64_t batch_count;
    uint64_t batch_done; /* of those, handed over one by one */
    size_t len;          /* bytes of one event */
    uint16_t kind;
    bool single; /* not a batch handler */
};

/* One ring and what to do with its messages. Counted, because a callable may remove the
 * subscription that called it. Changed under the dispatcher's guard only. */
struct subscription {
    Py_ssize_t refs;
    ConsumerObject *consumer;
    PyObject *on_lost; /* or NULL */
    struct handler *handlers;
    struct handler **gathered; /* those with batch_count > 0, in the order of their first event */
    unsigned char *scratch;    /* overwrite: an event, copied before it is looked at */
    size_t scratch_len;
    struct key_table keys;
    uint64_t from_seq;
    uint64_t lost_told;
    uint32_t handler_count;
    uint32_t gathered_count;
    size_t key_off; /* of the key in an event */
    int32_t reader; /* -1: messages are not targeted in this ring */
    bool filtered;  /* by keys */
    bool batches;
    bool retry;
    bool removed;
    uint8_t index[256]; /* kind -> handler + 1; 0: none, or look through them all */
};

typedef struct {
    PyObject_HEAD
    struct module_state *state;
    struct subscription **subscriptions;
    Py_ssize_t count;
    Py_ssize_t room;
    Py_ssize_t turn;     /* whose turn it is to be first */
    Py_ssize_t key_off;  /* of an event's key; -1: not told */
    Py_ssize_t time_off; /* of its time */
    void *wait_memory;   /* of `set`, for `room` consumers */
    struct shmipc_waitset set;
    struct shmipc_spin spin;
    const unsigned char *current; /* the event being handled, or NULL */
    size_t current_len;
    uint64_t current_seq;
    _Atomic(PyThreadState *) runner; /* the thread inside run(), add() or remove() */
    /* stop() sets it, run() clears it. It carries no data and every loop looks again, so a relaxed
     * look between two events is enough: late by one event at worst. */
    _Atomic(bool) stopping;
} DispatcherObject;

/* ts_init of the event being handled, or 0. */
int64_t dispatcher_current_ts(const DispatcherObject *self);

/* add()'s arguments as a subscription. NULL with an exception. */
struct subscription *subscription_new(struct module_state *state, PyObject *consumer,
                                      PyObject *handlers, PyObject *keys, PyObject *reader,
                                      PyObject *from_seq, bool retry, PyObject *on_lost,
                                      Py_ssize_t key_off);
void subscription_drop(struct subscription *subscription);
/* Take over what the one that this replaces has gathered and not handed over. */
void subscription_inherit(struct subscription *subscription, struct subscription *from);
int subscription_traverse(const struct subscription *subscription, visitproc visit, void *arg);

static inline struct handler *subscription_handler(struct subscription *subscription, uint16_t kind)
{
    const uint8_t place = kind < 256 ? subscription->index[kind] : 0;
    if (SHMIPC_LIKELY(place != 0)) {
        return &subscription->handlers[place - 1];
    }
    for (uint32_t i = kind < 256 ? 255 : 0; i < subscription->handler_count; i++) {
        if (subscription->handlers[i].kind == kind) {
            return &subscription->handlers[i];
        }
    }
    return NULL;
}

/* Has an event a key that this reader chose, or none, or does it take them all? */
static inline bool subscription_chose(const struct subscription *subscription,
                                      const struct handler *handler, const unsigned char *data)
{
    if (!subscription->filtered || handler->len < subscription->key_off + KEY_LEN) {
        return true;
    }
    const struct event_key key = key_of(data + subscription->key_off);
    return key_is_none(key) || key_find(&subscription->keys, key) != NULL;
}

/* Call for what is ready in one ring, at most `most` events; *stepped: messages passed, called for
 * or not. The number called for, or -1 with an exception: `.consumer` on it says where, if it is
 * the ring's and not a callable's. */
Py_ssize_t subscription_dispatch(DispatcherObject *dispatcher, struct subscription *subscription,
                                 Py_ssize_t most, bool *stepped);

/* One message as its reader sees it. */
struct event {
    struct handler *handler; /* NULL: not wanted */
    const unsigned char *data;
    bool gone;    /* overwritten while it was looked at: peek again */
    bool refused; /* of the wrong length: to be stepped over when that has been said */
};

/* A look at one message: whether to go on with the burst, or with this message. */
enum glance { GLANCE_FAILED = -1, GLANCE_EMPTY, GLANCE_SKIP, GLANCE_WANTED };

/* ---- delivery.c ------------------------------------------------------------------------------ */

/* Look at the next message, stepping over what nobody wants. */
enum glance subscription_glance(struct subscription *subscription, struct shmipc_message *message,
                                struct event *event);
/* Step over a message without releasing it yet; release what was stepped over. */
void subscription_step_over(ConsumerObject *consumer, const struct shmipc_message *message);
void subscription_release(ConsumerObject *consumer);
/* Tell on_lost of what was overwritten since the last time. -1 with its exception. */
int subscription_tell_lost(struct subscription *subscription);
/* Was this subscription removed, or its consumer closed, by what it called? */
bool subscription_must_end(const struct subscription *subscription);
/* Call for one event. `frame`: the lease it lies under; NULL: it is copied. -1 with an exception.
 */
int handler_call(DispatcherObject *self, const struct event *event,
                 const struct shmipc_message *message, FrameObject *frame);

/* ---- gathering.c ----------------------------------------------------------------------------- */

/* As subscription_dispatch, of a subscription that has batch handlers. */
Py_ssize_t subscription_dispatch_batches(DispatcherObject *self, struct subscription *subscription,
                                         Py_ssize_t most, bool *stepped);

/* Say on the exception now set that it is this ring's. */
void subscription_blame(const struct subscription *subscription);

/* ---- gathering.c ---------------------------------------------------------------------------- */

/* ---- dispatcher_wait.c ----------------------------------------------------------------------- */

/* Nothing was ready. Has some ring something to report: its end, its producer's death? -1 with an
 * exception: yes. */
int dispatcher_look_at_peers(DispatcherObject *self);
/* Let signal handlers run. -1 if one raised, or in a forked child. */
int dispatcher_run_signals(DispatcherObject *self);
/* Wait until some ring has something. 1: look again. 0: the time is over, or stop(). -1: an
 * exception. */
int dispatcher_wait(DispatcherObject *self, struct patience *patience);

/* ---- batch.c -------------------------------------------------------------------------------- */

/* A new array of `items` records; *data is its memory. */
PyObject *batch_new(PyObject *dtype, uint64_t items, unsigned char **data);
/* The first `items` of it: a view, or a copy where a view would keep much memory for little. */
PyObject *batch_first(PyObject *batch, uint64_t items);

extern PyType_Spec dispatcher_spec;

#endif
