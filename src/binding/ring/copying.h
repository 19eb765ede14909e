/* copying.h: bytes into ring memory and out of it. */
#ifndef SHMIPC_BINDING_COPYING_H
#define SHMIPC_BINDING_COPYING_H

#include "../base/state.h"
#include "../../core/ring/ring.h"

/* Copies at least this long give up the GIL: 20 us or so of memcpy. */
#define COPY_WITHOUT_GIL_LEN ((size_t)256 * 1024)

void copy_in_without_gil(unsigned char *to, const unsigned char *from, size_t len);
void copy_out_without_gil(void *to, const unsigned char *from, size_t len);

static inline void copy_in(unsigned char *to, const unsigned char *from, size_t len)
{
    if (SHMIPC_LIKELY(len < COPY_WITHOUT_GIL_LEN)) {
        memcpy(to, from, len);
    } else {
        copy_in_without_gil(to, from, len);
    }
}

/* Copy ring memory, which a producer may be overwriting. */
static inline void copy_out(void *to, const unsigned char *from, size_t len)
{
    if (SHMIPC_LIKELY(len < COPY_WITHOUT_GIL_LEN)) {
        shmipc_copy_speculative(to, from, len);
    } else {
        copy_out_without_gil(to, from, len);
    }
}

#endif
