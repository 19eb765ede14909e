/*
 * error.h: what a call of the core returns.
 *
 * Owns:     the status codes, and a struct with the text of a failure: what was found, what was
 *           expected, what to do.
 * Must not know: Python. src/binding/base/errors.c maps a status to an exception, in one table.
 */
#ifndef SHMIPC_ERROR_H
#define SHMIPC_ERROR_H

enum shmipc_status {
    SHMIPC_OK = 0,
    SHMIPC_EMPTY,     /* nothing to read now */
    SHMIPC_FULL,      /* no room now */
    SHMIPC_TIMEOUT,   /* the deadline passed */
    SHMIPC_AGAIN,     /* a slice of a wait is over: look at signals, then call again */
    SHMIPC_CLOSED,    /* the stream has ended and was drained, or this handle was closed */
    SHMIPC_DIED,      /* the peer's process ended without closing */
    SHMIPC_NOT_FOUND, /* no such segment */
    SHMIPC_BUSY,      /* somebody alive holds the role */
    SHMIPC_MISMATCH,  /* the segment is of another kind, dtype, shape or size */
    SHMIPC_CORRUPT,   /* bytes in shared memory that we never write, or a descriptor is lost */
    SHMIPC_TOO_LARGE, /* would not fit even an empty ring */
    SHMIPC_INVALID,   /* a bad argument */
    SHMIPC_OS,        /* the system refused; see os_error */
    SHMIPC_REMOVED    /* somebody removed the segment's file while it was in use */
};

struct shmipc_error {
    enum shmipc_status status;
    int os_error; /* errno, when status is SHMIPC_OS */
    char text[700];
};

/* For "%d item%s": the ending of a plural. */
#define SHMIPC_S(count) ((count) == 1 ? "" : "s")

/* Fill `error` and return `status`, so that a caller can write `return shmipc_fail(...)`. */
enum shmipc_status shmipc_fail(struct shmipc_error *error, enum shmipc_status status, int os_error,
                               const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
