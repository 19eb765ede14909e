/* copy.h: memcpy without the call, where the call is most of it. */
#ifndef SHMIPC_API_COPY_H
#define SHMIPC_API_COPY_H

#include <stddef.h>
#include <string.h>

#define SHMIPC_COPY_INLINE_LEN 256u

/* Copy at most SHMIPC_COPY_INLINE_LEN bytes, which may be 0 with a NULL `from`. */
static inline void shmipc_copy_short(void *restrict to, const void *restrict from, size_t len)
{
    unsigned char *out = to;
    const unsigned char *in = from;
    /* Each of constant size, so each is a few instructions; the last ones overlap. */
    if (len > 32) {
        for (; len > 64; len -= 32) {
            memcpy(out, in, 32);
            out += 32;
            in += 32;
            __asm__("" : "+r"(out)); /* or the compiler makes this loop a call of memcpy */
        }
        memcpy(out, in, 32);
        memcpy(out + len - 32, in + len - 32, 32);
    } else if (len >= 16) {
        memcpy(out, in, 16);
        memcpy(out + len - 16, in + len - 16, 16);
    } else if (len >= 8) {
        memcpy(out, in, 8);
        memcpy(out + len - 8, in + len - 8, 8);
    } else if (len >= 4) {
        memcpy(out, in, 4);
        memcpy(out + len - 4, in + len - 4, 4);
    } else if (len > 0) {
        out[0] = in[0];
        out[len / 2] = in[len / 2];
        out[len - 1] = in[len - 1];
    }
}

/* Copy `len` bytes, which may be 0 with a NULL `from`. */
static inline void shmipc_copy(void *restrict to, const void *restrict from, size_t len)
{
    if (len > SHMIPC_COPY_INLINE_LEN) {
        memcpy(to, from, len);
    } else {
        shmipc_copy_short(to, from, len);
    }
}

#endif
