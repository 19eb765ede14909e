/*
 * shmipc.h: messages, typed records and frames between processes through shared memory, from C.
 *
 * The same code that the Python package runs, in the same rings: a producer here, a consumer there.
 * C11, and C++17 as it is (shmipc.hpp has the comfort). Linux, x86-64 and arm64.
 *
 *     cc engine.c $(python -m shmipc --cflags --libs) -o engine
 *
 * A **ring** has a name, one producer, and one or more consumers, each with a cursor of its own
 * over one copy of the data. A *message ring* carries byte strings of any length, each with a
 * `kind` and `flags`; a *typed ring* carries fixed items of a dtype, which numpy reads in place.
 *
 * **Results.** Every function that can fail returns a `enum shmipc_result`: 0 is success. What it
 * promises then has happened; after any other result nothing has been sent, taken or lost.
 * shmipc_result_text() has a sentence for each; shmipc_last_error() the facts: what was found, what
 * was expected, what to do. NULL, a handle of another kind, a closed handle and a call from a
 * second thread are results too, never undefined behaviour. A handle that was *freed* is the one
 * exception, as with any pointer.
 *
 * **Threads.** A handle serves one thread at a time. Which thread that is may change between calls,
 * without ado (the first call of another thread costs microseconds); two calls at once are
 * SHMIPC_E_MISUSE for the second. What is not bound to this: the functions said to be callable from
 * any thread. Different handles never disturb each other. Nothing here is async-signal-safe but the
 * two interrupt functions. No function is a cancellation point: a thread that pthread_cancel()
 * marks, also one that waits in here, ends after the call has returned (to end a wait, interrupt
 * it). With PTHREAD_CANCEL_ASYNCHRONOUS none may be called.
 *
 * **Lifetime.** What shmipc_consumer_peek() and its like point at stays as it is until the next
 * shmipc_consumer_release(), _release_n(), _next(), _recv() or _close() of that handle. What
 * a struct shmipc_frame points at stays until shmipc_frame_release(), even after the consumer was
 * closed and freed. What shmipc_producer_reserve() points at may be written until it is committed
 * or aborted, or the producer is closed. In a ring with SHMIPC_OVERWRITE the producer may write
 * over what a consumer looks at: copy first, then ask shmipc_consumer_is_intact().
 *
 * **Waiting.** Timeouts are nanoseconds: SHMIPC_FOREVER waits, 0 polls. A wait polls for a while,
 * then sleeps in the kernel. No wait outlives the process that could end it: when a peer dies,
 * whoever waits for it is told within about 50 ms.
 *
 * **Processes.** A handle belongs to the process that opened it. A forked child must open its own;
 * the parent's are SHMIPC_E_MISUSE there, and closing or freeing them only forgets them.
 *
 * **Signals.** SIGBUS: a segment that is truncated while mapped (truncate(2) by somebody with
 * the right to) is SHMIPC_E_CORRUPT, not a crash. For that a handler is installed at the first
 * open, which passes on whatever is not ours; SHMIPC_SIGBUS=default in the environment leaves it
 * out.
 *
 * **Environment.** SHMIPC_DIR: where rings are (default /dev/shm).
 */
#ifndef SHMIPC_H
#define SHMIPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHMIPC_ABI_VERSION 1

#define SHMIPC_API __attribute__((visibility("default")))
#define SHMIPC_CHECKED SHMIPC_API __attribute__((warn_unused_result))
#ifdef __cplusplus
#define SHMIPC_NOEXCEPT noexcept
extern "C" {
#pragma GCC diagnostic push /* a function may have the name of a struct, whatever -Wshadow says */
#pragma GCC diagnostic ignored "-Wshadow"
#else
#define SHMIPC_NOEXCEPT
#endif

/* ---- results -------------------------------------------------------------------------------- */

enum shmipc_result {
    SHMIPC_SUCCESS = 0,
    SHMIPC_E_EMPTY = 1,  /* nothing to read, or not within the timeout */
    SHMIPC_E_FULL = 2,   /* no room, or not within the timeout; nothing was sent */
    SHMIPC_E_CLOSED = 3, /* the stream ended and was read to its end, or this handle is closed */
    SHMIPC_E_PRODUCER_DIED = 4, /* its process ended without closing; all it committed was read */
    SHMIPC_E_CONSUMER_DIED = 5, /* the ring is full and its only reader's process has ended */
    SHMIPC_E_NOT_FOUND = 6,     /* no such ring, or not within the timeout; too few consumers */
    SHMIPC_E_BUSY = 7,          /* a live process holds the role (the text names it) */
    SHMIPC_E_MISMATCH = 8,      /* the ring is of another kind, dtype, shape or size */
    SHMIPC_E_CORRUPT = 9,       /* bytes in shared memory that shmipc never writes */
    SHMIPC_E_TOO_LARGE = 10,    /* would never fit: the ring (sending), your buffer (recv) */
    SHMIPC_E_INVALID = 11,      /* a bad argument: NULL, out of range, not a handle of this kind */
    SHMIPC_E_MISUSE = 12,       /* a second thread, a forked child, a call out of order */
    SHMIPC_E_INTERRUPTED = 13,  /* shmipc_*_interrupt() ended the wait; call again if you like */
    SHMIPC_E_OVERRUN = 14, /* SHMIPC_OVERWRITE: what was viewed has been overwritten; discard it */
    SHMIPC_E_OS = 15,      /* the system refused: shmipc_last_errno() */
    SHMIPC_E_ABI = 16,     /* header and library do not go together */
    SHMIPC_E_REMOVED = 17  /* the ring's file was removed in use: close on both sides, open again */
};

/* A sentence for a result; never NULL. Any thread. */
SHMIPC_API const char *shmipc_result_text(int result) SHMIPC_NOEXCEPT;

/* What went wrong in the last failed call of this thread, in words: the name, what was found, what
 * was expected, what to do. Not kept for SHMIPC_E_EMPTY, _FULL, _INTERRUPTED and _OVERRUN, which
 * say all there is to say. Valid until the thread's next failure. Never NULL. Where a runtime may
 * go on in another thread (Go), call and ask in one C function: docs/c-api.md, Threads. */
SHMIPC_API const char *shmipc_last_error(void) SHMIPC_NOEXCEPT;
/* The errno behind a SHMIPC_E_OS of this thread, or 0. */
SHMIPC_API int shmipc_last_errno(void) SHMIPC_NOEXCEPT;

/* ---- versions ------------------------------------------------------------------------------- */

/* The library's SHMIPC_ABI_VERSION. A program built for another is refused at every open
 * (SHMIPC_E_ABI), and by the loader (symbol versions). */
SHMIPC_API uint32_t shmipc_abi_version(void) SHMIPC_NOEXCEPT;
/* The package's version, "1.2.3". */
SHMIPC_API const char *shmipc_version(void) SHMIPC_NOEXCEPT;

/* ---- what both sides know of a ring --------------------------------------------------------- */

#define SHMIPC_FOREVER INT64_C(-1)       /* a timeout; a spin: never sleep */
#define SHMIPC_SPIN_ADAPTIVE INT64_C(-2) /* up to 20 us, less while that does not help */

enum shmipc_overflow_policy {
    SHMIPC_BLOCK = 1,    /* the producer waits for the slowest consumer; who joined loses nothing */
    SHMIPC_OVERWRITE = 2 /* it never waits; who is lapped goes on at the newest, and counts */
};

/* Facts of a ring. The texts live as long as the handle. */
struct shmipc_info {
    const char *name;
    const char *schema;     /* typed: "(dtype, shape)" as it stands in the segment; message: "" */
    uint64_t capacity;      /* typed: items; message: bytes, of which each message takes 16 more */
    uint64_t item_size;     /* typed: bytes of an item; message: 0 */
    uint64_t item_stride;   /* typed: bytes from one item to the next; message: 0 */
    uint32_t overflow;      /* enum shmipc_overflow_policy */
    uint32_t max_consumers; /* that can be attached at once */
    uint32_t slot;          /* number of a consumer's slot, from 0; a producer: 0 */
    uint32_t typed;         /* 1: a typed ring, 0: a message ring */
};

/* What can be read, in place, or was copied. */
struct shmipc_view {
    const void *data; /* aligned to 8 bytes at least in a typed ring whose stride is, to 16 in a
                         message ring */
    uint64_t len;     /* bytes from the first to the end of the last */
    uint64_t count;   /* typed: items; message: 1 */
    uint64_t stride;  /* typed: bytes from one item to the next; message: 0 */
    uint64_t seq;     /* number of the message or of the first item since the ring began */
    uint16_t kind;    /* message: 1 to 65535, the sender's; typed: 0 */
    uint16_t flags;   /* message: the sender's; typed: 0 */
    uint32_t reserved;
};

/* ---- the producer --------------------------------------------------------------------------- */

struct shmipc_producer;

struct shmipc_producer_options {
    uint32_t abi;  /* SHMIPC_ABI_VERSION */
    uint32_t size; /* of this struct */
    /* NULL: a message ring. Else an item's dtype in numpy's notation: "<f8", or a list of fields
     * "[('time', '<i8'), ('price', '<f8'), ('levels', '<f8', (10,))]". */
    const char *dtype;
    const uint64_t *shape; /* typed: extents of one item, `axes` of them; NULL: one element */
    uint32_t axes;
    uint32_t
        max_consumers;  /* 1 to 1024. 1 with SHMIPC_BLOCK is a durable queue: it keeps everything
                         * until its consumer released it, across restarts of either side */
    uint64_t item_size; /* typed: what you take for an item's size, checked against the dtype; 0:
                           unchecked */
    uint64_t capacity;  /* items or bytes, rounded up; 0: about 1 MiB, at least 4 items */
    int64_t spin_ns;    /* to poll before sleeping; 0: sleep at once; SHMIPC_FOREVER;
                           SHMIPC_SPIN_ADAPTIVE */
    uint32_t overflow;  /* enum shmipc_overflow_policy */
    uint32_t mode;      /* permission bits of the segment's file, whatever the umask */
};

/* abi and size set, a message ring, one consumer, SHMIPC_BLOCK, mode 0600, SHMIPC_SPIN_ADAPTIVE. */
SHMIPC_API void
shmipc_producer_options_init(struct shmipc_producer_options *options) SHMIPC_NOEXCEPT;

/* Create the ring `name`, or take it over where a producer that is gone stopped. `options`: NULL
 * for the defaults. *producer is NULL unless this succeeds. Blocks for microseconds.
 *
 * SHMIPC_E_BUSY: it has a live producer. _MISMATCH: it exists otherwise and is in use. _INVALID: a
 * name that is not [A-Za-z0-9][A-Za-z0-9._-]{0,199}, a dtype that cannot be read, an option out of
 * range. _CORRUPT: the file is no segment. _OS: ENOSPC says which directory is full, EFBIG that
 * RLIMIT_FSIZE is in the way, ENOMEM, EACCES ... */
SHMIPC_CHECKED int
shmipc_producer_open(struct shmipc_producer **producer, const char *name,
                     const struct shmipc_producer_options *options) SHMIPC_NOEXCEPT;

/* The same, and keep everything from message 0 on until `hold_for` consumers have joined: 0 to
 * options->max_consumers, SHMIPC_BLOCK only, else SHMIPC_E_INVALID. Each of them gets all of it,
 * however late it comes, also after close. While slots are kept, sending waits as for a slow
 * consumer. A ring that is taken over keeps from then on what is missing. */
SHMIPC_CHECKED int shmipc_producer_open_holding(struct shmipc_producer **producer, const char *name,
                                                const struct shmipc_producer_options *options,
                                                uint32_t hold_for) SHMIPC_NOEXCEPT;

/* Copy one message, or one item (kind and flags 0, len the item's size), into the ring. Committed
 * when this succeeds; a SIGKILL at any moment leaves it sent or not sent, never in part. `kind`: 1
 * to 65535. `data` may be NULL if `len` is 0. Lock-free while there is room.
 *
 * SHMIPC_E_FULL; _CONSUMER_DIED: full, and the durable queue's reader has died; _TOO_LARGE;
 * _MISMATCH: the length is not an item's; _INVALID; _CORRUPT; _CLOSED; _MISUSE: a reservation is
 * open ... */
SHMIPC_CHECKED int shmipc_producer_send(struct shmipc_producer *producer, const void *data,
                                        size_t len, uint32_t kind, uint32_t flags,
                                        int64_t timeout_ns) SHMIPC_NOEXCEPT;

/* Typed ring: copy `count` items that lie one after the other (item_size apart), in as few commits
 * as the room allows. *sent (may be NULL) says how many were sent, also when this fails. */
SHMIPC_CHECKED int shmipc_producer_send_n(struct shmipc_producer *producer, const void *items,
                                          uint64_t count, int64_t timeout_ns,
                                          uint64_t *sent) SHMIPC_NOEXCEPT;

/* Message ring: copy `count` messages (data, len, kind, flags of each view), in as few commits as
 * the room allows. *sent (may be NULL) says how many were sent, also when this fails. */
SHMIPC_CHECKED int shmipc_producer_send_messages(struct shmipc_producer *producer,
                                                 const struct shmipc_view *messages, size_t count,
                                                 int64_t timeout_ns, size_t *sent) SHMIPC_NOEXCEPT;

/* Message ring: room for a message of `len` bytes, contiguous and 16-byte aligned, to be written in
 * place at *data. Nobody sees it before the commit. One reservation at a time; nothing else is sent
 * meanwhile. */
SHMIPC_CHECKED int shmipc_producer_reserve(struct shmipc_producer *producer, size_t len,
                                           int64_t timeout_ns, void **data) SHMIPC_NOEXCEPT;
/* Publish its first `len` bytes. Wait-free. */
SHMIPC_CHECKED int shmipc_producer_commit(struct shmipc_producer *producer, size_t len,
                                          uint32_t kind, uint32_t flags) SHMIPC_NOEXCEPT;

/* Typed ring: room for `count` items, item_stride apart, at *data. */
SHMIPC_CHECKED int shmipc_producer_reserve_n(struct shmipc_producer *producer, uint64_t count,
                                             int64_t timeout_ns, void **data) SHMIPC_NOEXCEPT;
/* Publish the first `count` of them, with one store. Wait-free. */
SHMIPC_CHECKED int shmipc_producer_commit_n(struct shmipc_producer *producer,
                                            uint64_t count) SHMIPC_NOEXCEPT;

/* Give the reservation up: nothing is sent. Succeeds where there is none. */
SHMIPC_API int shmipc_producer_abort(struct shmipc_producer *producer) SHMIPC_NOEXCEPT;

/* Wait until `count` consumers are attached and alive; SHMIPC_E_NOT_FOUND after the timeout. */
SHMIPC_CHECKED int shmipc_producer_wait_for_consumers(struct shmipc_producer *producer,
                                                      uint32_t count,
                                                      int64_t timeout_ns) SHMIPC_NOEXCEPT;

/* Remove the ring's name now. Who is attached goes on; the next producer starts a new ring. */
SHMIPC_API int shmipc_producer_unlink(struct shmipc_producer *producer) SHMIPC_NOEXCEPT;

/* Make the wait in progress in another thread, or else the next one, return SHMIPC_E_INTERRUPTED.
 * Any thread; async-signal-safe; the handle must not be freed meanwhile. */
SHMIPC_API int shmipc_producer_interrupt(struct shmipc_producer *producer) SHMIPC_NOEXCEPT;

/* End the stream: consumers read what is committed, then get SHMIPC_E_CLOSED. A reservation is
 * aborted. The file goes when nobody is attached and nothing is owed to a durable consumer. Any
 * thread: another that is inside is interrupted (its call returns SHMIPC_E_CLOSED) and awaited.
 * From then on every call of this handle is SHMIPC_E_CLOSED. Idempotent. SHMIPC_E_REMOVED: closed,
 * and messages that no consumer had read are lost: somebody had removed the file. */
SHMIPC_API int shmipc_producer_close(struct shmipc_producer *producer) SHMIPC_NOEXCEPT;
/* Close, and free the handle: no thread may use it after, or be in it now. NULL is allowed. */
SHMIPC_API void shmipc_producer_free(struct shmipc_producer *producer) SHMIPC_NOEXCEPT;

SHMIPC_API int shmipc_producer_info(struct shmipc_producer *producer,
                                    struct shmipc_info *info) SHMIPC_NOEXCEPT;

struct shmipc_producer_stats {
    uint64_t committed_len; /* bytes committed since the ring began, headers and padding included */
    uint64_t count;         /* messages or items committed since the ring began */
    uint64_t lag;           /* messages or items committed and not yet released by the slowest
                             * consumer (an estimate) */
    uint64_t sleeps;        /* waits of this handle that slept */
    uint64_t wakes;         /* system calls of this handle to wake consumers */
    uint64_t reclaimed;     /* slots of dead consumers that this handle has reclaimed */
    uint32_t attached;      /* consumers, alive */
    uint32_t kept;          /* slots kept for consumers that have not joined */
    uint32_t took_over;     /* 1: this ring was another producer's before */
    uint32_t reserved;
};
SHMIPC_API int shmipc_producer_stats(struct shmipc_producer *producer,
                                     struct shmipc_producer_stats *stats) SHMIPC_NOEXCEPT;

/* ---- the consumer --------------------------------------------------------------------------- */

struct shmipc_consumer;
struct shmipc_frame;

enum shmipc_start_at {
    SHMIPC_RESUME = 0,  /* a durable queue resumes at the first unreleased; else LATEST */
    SHMIPC_LATEST = 1,  /* the next message to come; a durable queue refuses that */
    SHMIPC_EARLIEST = 2 /* the oldest one retained */
};

struct shmipc_consumer_options {
    uint32_t abi;  /* SHMIPC_ABI_VERSION */
    uint32_t size; /* of this struct */
    /* What you expect: NULL takes any ring. Otherwise as in struct shmipc_producer_options, and a
     * ring of another dtype, shape or item size is SHMIPC_E_MISMATCH. "" expects a message ring. */
    const char *dtype;
    const uint64_t *shape;
    uint32_t axes;
    uint32_t start; /* enum shmipc_start_at */
    uint64_t item_size;
    int64_t timeout_ns; /* to wait for the ring to exist */
    int64_t spin_ns;
};

/* abi and size set, any ring, SHMIPC_FOREVER, SHMIPC_SPIN_ADAPTIVE. */
SHMIPC_API void
shmipc_consumer_options_init(struct shmipc_consumer_options *options) SHMIPC_NOEXCEPT;

/* Attach to the ring `name`, waiting for it to exist. *consumer is NULL unless this succeeds.
 * SHMIPC_E_NOT_FOUND after the timeout; _BUSY: all its slots are taken; _MISMATCH; _INVALID;
 * _CORRUPT; _OS. */
SHMIPC_CHECKED int
shmipc_consumer_open(struct shmipc_consumer **consumer, const char *name,
                     const struct shmipc_consumer_options *options) SHMIPC_NOEXCEPT;

/* The next message or item, in place; it stays the next until it is released. Never waits.
 * SHMIPC_E_EMPTY; _CLOSED: the end; _PRODUCER_DIED; _CORRUPT. Lock-free. */
SHMIPC_CHECKED int shmipc_consumer_peek(struct shmipc_consumer *consumer,
                                        struct shmipc_view *view) SHMIPC_NOEXCEPT;

/* Typed ring: all items that are ready, up to `max` (0: no limit), as one stretch in place. */
SHMIPC_CHECKED int shmipc_consumer_peek_n(struct shmipc_consumer *consumer, uint64_t max,
                                          struct shmipc_view *view) SHMIPC_NOEXCEPT;

/* Message ring: all messages that are ready, up to `max`, each in place. *count says how many. */
SHMIPC_CHECKED int shmipc_consumer_peek_messages(struct shmipc_consumer *consumer,
                                                 struct shmipc_view *views, size_t max,
                                                 size_t *count) SHMIPC_NOEXCEPT;

/* Release everything the last peek showed. SHMIPC_E_MISUSE: nothing was peeked. SHMIPC_E_OVERRUN:
 * released, but it was overwritten while you looked (only with SHMIPC_OVERWRITE). Wait-free while
 * the producer is awake. */
SHMIPC_API int shmipc_consumer_release(struct shmipc_consumer *consumer) SHMIPC_NOEXCEPT;
/* Release the first `count` messages or items of it; what is left must be peeked at again. */
SHMIPC_API int shmipc_consumer_release_n(struct shmipc_consumer *consumer,
                                         uint64_t count) SHMIPC_NOEXCEPT;

/* Both in one call: release what the last peek showed, if anything, then peek at the next. What
 * it results in is the peek's, but for SHMIPC_E_OVERRUN: the release's, and nothing is peeked at.
 */
SHMIPC_CHECKED int shmipc_consumer_next(struct shmipc_consumer *consumer,
                                        struct shmipc_view *view) SHMIPC_NOEXCEPT;

/* Is what the last peek showed still what was committed? Always, but with SHMIPC_OVERWRITE. Ask
 * after the copy. */
SHMIPC_API bool shmipc_consumer_is_intact(struct shmipc_consumer *consumer) SHMIPC_NOEXCEPT;

/* Copy the next message or item into `buffer` and release it; whole, also with SHMIPC_OVERWRITE.
 * `view` (may be NULL) tells its length, kind, flags and number; its data is `buffer`.
 * SHMIPC_E_TOO_LARGE: longer than `len`; it stays unread, view->len says what is needed. _EMPTY,
 * _CLOSED, _PRODUCER_DIED, _CORRUPT, _MISUSE. */
SHMIPC_CHECKED int shmipc_consumer_recv(struct shmipc_consumer *consumer, void *buffer, size_t len,
                                        struct shmipc_view *view,
                                        int64_t timeout_ns) SHMIPC_NOEXCEPT;

/* Wait until there is something to peek at. SHMIPC_E_EMPTY after the timeout; else as peek. */
SHMIPC_CHECKED int shmipc_consumer_wait(struct shmipc_consumer *consumer,
                                        int64_t timeout_ns) SHMIPC_NOEXCEPT;

/* Wait until a live producer holds the ring: after SHMIPC_E_PRODUCER_DIED or SHMIPC_E_CLOSED, for
 * its successor. SHMIPC_E_NOT_FOUND after the timeout. */
SHMIPC_CHECKED int shmipc_consumer_wait_for_producer(struct shmipc_consumer *consumer,
                                                     int64_t timeout_ns) SHMIPC_NOEXCEPT;

/* Wait until any of `count` consumers has data, an end or an error to report; ready[i] becomes 1
 * for those, 0 for the others. All handles are in use by the calling thread meanwhile. */
SHMIPC_CHECKED int shmipc_wait(struct shmipc_consumer *const *consumers, size_t count,
                               unsigned char *ready, int64_t timeout_ns) SHMIPC_NOEXCEPT;

/* Take the next message or item (read), or all items that are ready up to `max` (read_n, typed
 * ring), out of the stream and keep it in place: a frame. Several may be held; the ring cannot use
 * the memory from the oldest one on. SHMIPC_E_MISUSE while something is peeked. */
SHMIPC_CHECKED int shmipc_consumer_read(struct shmipc_consumer *consumer,
                                        struct shmipc_frame **frame,
                                        int64_t timeout_ns) SHMIPC_NOEXCEPT;
SHMIPC_CHECKED int shmipc_consumer_read_n(struct shmipc_consumer *consumer, uint64_t max,
                                          struct shmipc_frame **frame,
                                          int64_t timeout_ns) SHMIPC_NOEXCEPT;

/* Any thread, until it is released. */
SHMIPC_API int shmipc_frame_view(const struct shmipc_frame *frame,
                                 struct shmipc_view *view) SHMIPC_NOEXCEPT;
SHMIPC_API bool shmipc_frame_is_intact(const struct shmipc_frame *frame) SHMIPC_NOEXCEPT;
/* Release the memory, in any order, from any thread, before or after the consumer was closed or
 * freed. The frame is gone then. NULL is allowed. */
SHMIPC_API void shmipc_frame_release(struct shmipc_frame *frame) SHMIPC_NOEXCEPT;

/* As for the producer. */
SHMIPC_API int shmipc_consumer_interrupt(struct shmipc_consumer *consumer) SHMIPC_NOEXCEPT;
/* Leave. What is not released goes to the next consumer of a durable queue. Frames stay readable,
 * and the slot is kept for them. Any thread, idempotent, as for the producer. */
SHMIPC_API int shmipc_consumer_close(struct shmipc_consumer *consumer) SHMIPC_NOEXCEPT;
SHMIPC_API void shmipc_consumer_free(struct shmipc_consumer *consumer) SHMIPC_NOEXCEPT;

SHMIPC_API int shmipc_consumer_info(struct shmipc_consumer *consumer,
                                    struct shmipc_info *info) SHMIPC_NOEXCEPT;

struct shmipc_consumer_stats {
    uint64_t pending; /* messages or items committed and not yet read (an estimate, as the next) */
    uint64_t lag;     /* committed and not yet released: pending and what frames hold */
    uint64_t lost;    /* overwritten before they were released or copied, as reading on has shown */
    uint64_t sleeps;  /* waits of this handle that slept */
    uint64_t wakes;   /* system calls of this handle to wake the producer */
    uint64_t frames;  /* held */
};
SHMIPC_API int shmipc_consumer_stats(struct shmipc_consumer *consumer,
                                     struct shmipc_consumer_stats *stats) SHMIPC_NOEXCEPT;

#ifdef __cplusplus
#pragma GCC diagnostic pop
}
#endif

#endif
