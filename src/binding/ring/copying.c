/* copying.c: bytes into ring memory and out of it; long copies give up the GIL. */
#include "../base/handle.h"
#include "copying.h"
#include "../../core/ring/ring.h"

void copy_in_without_gil(unsigned char *to, const unsigned char *from, size_t len)
{
    Py_BEGIN_ALLOW_THREADS
    memcpy(to, from, len);
    Py_END_ALLOW_THREADS
}

void copy_out_without_gil(void *to, const unsigned char *from, size_t len)
{
    Py_BEGIN_ALLOW_THREADS
    shmipc_copy_speculative(to, from, len);
    Py_END_ALLOW_THREADS
}
