/* gil.c: see gil.h. */
#include "state.h"
#include "gil.h"
#include "handle.h"
#include "../../core/wait/wait.h"

#include <sys/syscall.h>
#include <unistd.h>

/* A thread that is not the process's first comes back this often all the same: it may have started
 * the interpreter of a program that embeds it, and run the signal handlers. */
#define AWAY_NS UINT64_C(1000000000)

void gil_leave(struct gil_absence *absence)
{
    absence->until_ns = 0;
    absence->at_the_end = Py_IsFinalizing();
    absence->thread = PyEval_SaveThread();
}

#ifdef Py_GIL_DISABLED
bool gil_stay_away(struct gil_absence *absence)
{
    (void)absence;
    return false; /* see check_signals: what waits for this thread is not only handlers */
}
#else
bool gil_stay_away(struct gil_absence *absence)
{
    if (syscall(SYS_gettid) == getpid()) {
        return false;
    }
    const uint64_t now_ns = shmipc_now_ns();
    if (absence->until_ns == 0) {
        absence->until_ns = shmipc_deadline_ns(now_ns, AWAY_NS);
    }
    return now_ns < absence->until_ns;
}
#endif

void gil_return(struct gil_absence *absence)
{
#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)
    if (Py_IsFinalizing() && !absence->at_the_end) {
        PyThread_exit_thread(); /* what PyEval_RestoreThread would do, but for the crash */
    }
#endif
    PyEval_RestoreThread(absence->thread);
}
