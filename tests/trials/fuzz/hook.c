/* hook.c: see hook.h. */
#include "script.h"

#include <unistd.h>

uint64_t fuzz_accesses;
uint64_t fuzz_next = UINT64_MAX;

void fuzz_misaligned(void)
{
    const bool access_is_aligned = false;
    REQUIRE(access_is_aligned);
}

/* syscall(2), by another name: every sleep is over at once, every barrier is granted. The peer may
 * act where a process would have slept. */
long fuzz_syscall(long number, ...)
{
    (void)number;
    fuzz_access(true);
    return 0;
}
