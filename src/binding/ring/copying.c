/* copying.c: bytes into ring memory and out of it; long copies give up the GIL. */
#include "../base/handle.h"
#include "copying.h"
#include "../../core/ring/ring.h"

void copy_in(unsigned char *to, const unsigned char *from, size_t len)
{
    if (len < COPY_WITHOUT_GIL_LEN) {
        memcpy(to, from, len);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    memcpy(to, from, len);
    Py_END_ALLOW_THREADS
}

void copy_out(void *to, const unsigned char *from, size_t len)
{
    if (len < COPY_WITHOUT_GIL_LEN) {
        shmipc_copy_speculative(to, from, len);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    shmipc_copy_speculative(to, from, len);
    Py_END_ALLOW_THREADS
}
