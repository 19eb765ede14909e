/* waiting.h: seconds into deadlines; waits without the GIL. */
#ifndef SHMIPC_BINDING_WAITING_H
#define SHMIPC_BINDING_WAITING_H

#include "consumer_object.h"
#include "producer_object.h"

/* How long a call may take in all. The clock is first read when the call has to wait. */
struct patience {
    uint64_t span_ns;     /* SHMIPC_NEVER: for ever; 0: not at all */
    uint64_t deadline_ns; /* 0: not known yet */
    bool tries;           /* Full becomes an answer: it needs no text */
};

/* timeout= in seconds; NULL or None waits for ever. -1 with an exception. */
int parse_timeout(PyObject *seconds, struct patience *patience);
uint64_t patience_deadline(struct patience *patience);
int parse_spin(PyObject *seconds, struct shmipc_spin *spin);
/* Let signal handlers run. -1 if one raised, or if this is a forked child now. */
int check_signals(HandleObject *handle);
/* Data at read_pos, or an exception: Empty after the timeout, Closed, ProducerDied, Corrupt, or
 * what a signal handler raised. The handle is entered. */
int wait_for_data(ConsumerObject *consumer, struct patience *patience);
/* What was read had been overwritten: may the call try again? -1 with an exception. */
int after_lap(ConsumerObject *consumer, struct patience *patience);
/* `len` bytes of room, or an exception. */
int wait_for_room(ProducerObject *producer, uint64_t len, struct patience *patience);
/* Until a live producer holds the ring, or an exception: NotFound after the timeout. */
int wait_for_live_producer(ConsumerObject *consumer, struct patience *patience);
int wait_for_attached(ProducerObject *producer, uint32_t count, struct patience *patience);
PyObject *module_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
