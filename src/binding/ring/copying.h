/* copying.h: bytes into ring memory and out of it. */
#ifndef SHMIPC_BINDING_COPYING_H
#define SHMIPC_BINDING_COPYING_H

#include "../base/state.h"

/* Copies at least this long give up the GIL: 20 us or so of memcpy. */
#define COPY_WITHOUT_GIL_LEN ((size_t)256 * 1024)

void copy_in(unsigned char *to, const unsigned char *from, size_t len);
/* Copy ring memory, which a producer may be overwriting. */
void copy_out(void *to, const unsigned char *from, size_t len);

#endif
