/* result.c: see result.h. */
#include "result.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#ifndef SHMIPC_VERSION
#error "say which version this is: -DSHMIPC_VERSION='\"1.2.3\"', as setup.py does"
#endif

static _Thread_local struct shmipc_error last;

const char *shmipc_last_error(void)
{
    return last.text;
}

int shmipc_last_errno(void)
{
    return last.os_error;
}

uint32_t shmipc_abi_version(void)
{
    return SHMIPC_ABI_VERSION;
}

const char *shmipc_version(void)
{
    return SHMIPC_VERSION;
}

const char *shmipc_result_text(int result)
{
    switch ((enum shmipc_result)result) {
    case SHMIPC_SUCCESS:
        return "done";
    case SHMIPC_E_EMPTY:
        return "there is nothing to read yet";
    case SHMIPC_E_FULL:
        return "the ring is full: its slowest consumer has not released enough; nothing was sent";
    case SHMIPC_E_CLOSED:
        return "the stream has ended and was read, or this handle was closed";
    case SHMIPC_E_PRODUCER_DIED:
        return "the producer died without closing; everything it committed was read";
    case SHMIPC_E_CONSUMER_DIED:
        return "the ring is full and its consumer died without closing; nothing was sent";
    case SHMIPC_E_NOT_FOUND:
        return "there is no such ring, no producer or not enough consumers, within the timeout";
    case SHMIPC_E_BUSY:
        return "a live process holds this role";
    case SHMIPC_E_MISMATCH:
        return "the ring is of another kind, dtype, shape or size";
    case SHMIPC_E_CORRUPT:
        return "shared memory holds what no correct peer writes";
    case SHMIPC_E_TOO_LARGE:
        return "too large: it would never fit the ring, or does not fit the buffer";
    case SHMIPC_E_INVALID:
        return "an argument is not valid";
    case SHMIPC_E_MISUSE:
        return "a second thread, a forked child, or a call out of order";
    case SHMIPC_E_INTERRUPTED:
        return "the wait was interrupted; nothing was lost";
    case SHMIPC_E_OVERRUN:
        return "what was viewed has been overwritten meanwhile";
    case SHMIPC_E_OS:
        return "the system refused";
    case SHMIPC_E_REMOVED:
        return "the ring's file was removed while in use: who opens its name now meets elsewhere";
    case SHMIPC_E_ABI:
        return "the program was built for another version of libshmipc";
    }
    return "no result of shmipc's";
}

int shmipc_result_of(enum shmipc_status status, enum shmipc_side side)
{
    switch (status) {
    case SHMIPC_OK:
        return SHMIPC_SUCCESS;
    case SHMIPC_EMPTY:
        return SHMIPC_E_EMPTY;
    case SHMIPC_FULL:
        return SHMIPC_E_FULL;
    case SHMIPC_TIMEOUT:
        return side == SHMIPC_SIDE_PRODUCER ? SHMIPC_E_FULL : SHMIPC_E_EMPTY;
    case SHMIPC_AGAIN:
        return SHMIPC_E_INTERRUPTED;
    case SHMIPC_CLOSED:
        return SHMIPC_E_CLOSED;
    case SHMIPC_DIED:
        return side == SHMIPC_SIDE_PRODUCER ? SHMIPC_E_CONSUMER_DIED : SHMIPC_E_PRODUCER_DIED;
    case SHMIPC_NOT_FOUND:
        return SHMIPC_E_NOT_FOUND;
    case SHMIPC_BUSY:
        return SHMIPC_E_BUSY;
    case SHMIPC_MISMATCH:
        return SHMIPC_E_MISMATCH;
    case SHMIPC_CORRUPT:
        return SHMIPC_E_CORRUPT;
    case SHMIPC_REMOVED:
        return SHMIPC_E_REMOVED;
    case SHMIPC_TOO_LARGE:
        return SHMIPC_E_TOO_LARGE;
    case SHMIPC_INVALID:
        return SHMIPC_E_INVALID;
    case SHMIPC_OS:
        return SHMIPC_E_OS;
    }
    return SHMIPC_E_CORRUPT; /* not reached: gcc checks that every status has its case */
}

int shmipc_result_keep(const struct shmipc_error *error, enum shmipc_side side)
{
    memcpy(&last, error, sizeof last);
    if (error->status != SHMIPC_OS) {
        last.os_error = 0;
    }
    return shmipc_result_of(error->status, side);
}

void shmipc_result_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(last.text, sizeof last.text, format, arguments);
    va_end(arguments);
    last.os_error = 0;
}
