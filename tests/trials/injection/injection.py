"""Every allocation and every system call of a whole life of two rings, made to fail one at a time.

Run by test_injection.py in a process of its own: ``injection.py allocations|calls [LIBRARY]``
(with LIBRARY preloaded for ``calls``). After each failure: only an error that we document, nothing
left of it (descriptors, mappings, files, references), the same thing works at once, and a peer in
another process has noticed nothing. Prints one line of JSON with the counts.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import errno
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import shmipc
from shmipc import Consumer, Producer, _core

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
from bystander import Bystander, belongings

ALLOWED = (OSError, MemoryError, shmipc.Error)
DIRECTORY = Path(os.environ["SHMIPC_DIR"])
PIXELS = np.arange(64, dtype="<u2").reshape(8, 8)

# what each call may really report; the first is also tried as lasting from then on
ERRORS = {
    "open": [
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EIO, errno.EINTR),
        errno.ENOENT,
    ],
    "close": [errno.EIO, errno.EINTR],
    "fstat": [errno.EIO, errno.ENOMEM],
    "lstat": [errno.EACCES, errno.ENOMEM],
    "access": [errno.EACCES, errno.EIO],
    "statvfs": [errno.EIO],
    "fstatfs": [errno.EIO],
    "posix_fallocate": [errno.ENOSPC, errno.EFBIG, errno.EINTR, errno.EOPNOTSUPP, errno.EIO],
    "fchmod": [errno.EPERM, errno.EIO],
    "pread": [errno.EIO, errno.EINTR],
    "pwrite": [errno.ENOSPC, errno.EINTR, errno.EIO, errno.EFBIG],
    "mmap": [errno.ENOMEM, errno.EAGAIN, errno.ENFILE, errno.EPERM],
    "mremap": [errno.ENOMEM, errno.EINVAL],
    "mprotect": [errno.ENOMEM],
    "madvise": [errno.EINVAL, errno.EFAULT, errno.ENOMEM],
    "linkat": [errno.EIO, errno.ENOSPC, errno.ENOENT, errno.EPERM, errno.EACCES],
    "unlink": [errno.EPERM, errno.EIO, errno.EROFS],
    "fcntl": [errno.ENOLCK, errno.EAGAIN, errno.EINTR, errno.EINVAL],
    "sigaction": [errno.EINVAL],
    "nanosleep": [errno.EINTR],
    "membarrier": [errno.ENOSYS, errno.EPERM, errno.ENOMEM],
    "futex": [errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.ENOSYS],
    "futex_waitv": [errno.ENOSYS, errno.EPERM, errno.EINTR],
    "calloc": [errno.ENOMEM],
}
# a failure of these leaves the file, or cannot be told from somebody else holding a lock
MAY_LEAVE_A_FILE = {"unlink", "lstat", "fcntl", "fstat"}


def messages() -> None:
    """A whole life of a message ring. Whatever is opened is closed, whatever fails."""
    handles: list[Any] = []
    try:
        producer = Producer("m", capacity=4096, max_consumers=2)
        handles.append(producer)
        consumer = Consumer("m", timeout=0)
        handles.append(consumer)
        producer.send(b"first")
        producer.send_text("second", kind=2)
        producer.send_many([b"third", bytearray(b"fourth")])
        assert producer.try_send(memoryview(b"f.i.f.t.h")[::2])
        with producer.reserve(5) as room:
            memoryview(room)[:] = b"sixth"
        assert shmipc.wait([consumer], 0) == [consumer]
        assert consumer.recv() == b"first"
        assert consumer.recv_text(0) == "second"
        buffer = bytearray(8)
        assert consumer.recv_into(buffer, timeout=0) == 5
        with consumer.read(0) as frame:
            assert bytes(frame) == b"fourth"
        for frame in consumer:
            assert frame.array.tobytes() in (b"fifth", b"sixth")
            if frame.seq == 5:
                break
        del frame
        with contextlib.suppress(shmipc.Empty):
            consumer.recv(0.0002)
        with contextlib.suppress(shmipc.Full):
            producer.send_many([bytes(1000)] * 9, timeout=0.0002)
        consumer.__reduce__()
        assert producer.stats().attached == 1
        assert consumer.stats().pending == 4
        assert repr(producer)
        assert repr(consumer)
        assert _core.inspect_segment(f"{DIRECTORY}/shmipc.m")["slots"] == 2
        assert _core.clean_segment(f"{DIRECTORY}/shmipc.m") == "alive"
        with contextlib.suppress(shmipc.Busy):
            Producer("m", capacity=4096, max_consumers=2)
    finally:
        for handle in handles:
            handle.close()


def items() -> None:
    """A whole life of a typed ring, with a takeover."""
    handles: list[Any] = []
    try:
        producer = Producer("t", dtype="<u2", shape=(8, 8), capacity=16, max_consumers=2)
        handles.append(producer)
        consumer = Consumer("t", timeout=0)
        handles.append(consumer)
        producer.send(PIXELS)
        producer.send_many(np.stack([PIXELS] * 3)[::-1])
        with producer.reserve(2) as room:
            room.__array__()[:] = PIXELS
            with memoryview(room) as writable:
                writable[0, 0, 0] = 0
        target = np.zeros((8, 8), "<u2")
        assert consumer.recv_into(target, 0) == 128
        assert (target == PIXELS).all()
        with consumer.read_batch(3, timeout=0) as batch:
            assert batch.array.shape == memoryview(batch).shape == (3, 8, 8)
        frame = consumer.read(0)
        view = frame.array[2:]
        producer.close()
        producer = Producer("t", dtype="<u2", shape=(8, 8), capacity=16, max_consumers=2)
        handles.append(producer)
        assert view[0, 0] == 16
        del view
        frame.release()
        assert shmipc.wait([consumer], 0) == [consumer]
        consumer.__reduce__()
        with contextlib.suppress(shmipc.SchemaMismatch):
            producer.send(np.zeros(3))
    finally:
        for handle in handles:
            handle.close()


class OthersLostIt(Exception):
    """The interpreter or numpy lost a MemoryError within a call of its own."""


def whose(error: BaseException) -> BaseException:
    """Return OthersLostIt where that is so. What our own methods raise comes out of this file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    elsewhere = trace is not None and trace.tb_frame.f_code.co_filename != __file__
    in_numpy = isinstance(error, AttributeError) and "numpy.dtypes" in str(error)
    if in_numpy or (elsewhere and isinstance(error, SystemError)):
        return OthersLostIt()
    error.__traceback__ = error.__context__ = None
    return error


class Sweep:
    """Runs a scenario under failures and keeps the books."""

    def __init__(self, scenario: Callable[[], None], bystander: Bystander) -> None:
        self.scenario = scenario
        self.bystander = bystander
        self.outcomes: collections.Counter[str] = collections.Counter()
        scenario()
        gc.collect()
        self.before = belongings()

    def judge(self, error: BaseException | None, site: str) -> None:
        if error is not None and not isinstance(error, (*ALLOWED, OthersLostIt)):
            raise AssertionError(f"{site}: {error!r}") from error
        self.outcomes[type(error).__name__ if error is not None else "went on"] += 1
        del error
        gc.collect()
        if site.split()[0] in MAY_LEAVE_A_FILE:
            for name in ("m", "t"):
                path = DIRECTORY / f"shmipc.{name}"
                if path.exists():
                    assert _core.clean_segment(path, discard=True) == "removed", site
        after = belongings()
        assert after == self.before, f"{site}: {self.before} became {after}"
        self.bystander.check()


def fail_allocations(scenario: Callable[[], None], bystander: Bystander) -> dict[str, Any]:
    import _testcapi

    sweep = Sweep(scenario, bystander)

    def attempt(n: int) -> BaseException | None:
        _testcapi.set_nomemory(n, n + 1)
        try:
            scenario()
        except BaseException as error:
            _testcapi.remove_mem_hooks()
            return whose(error)
        finally:
            _testcapi.remove_mem_hooks()
        return None

    unharmed = n = 0
    while unharmed < 60:  # so many that failed to fail: the scenario allocates no more
        n += 1
        error = attempt(n)
        unharmed = unharmed + 1 if error is None else 0
        sweep.judge(error, f"allocation {n}")
        del error
        scenario()  # and at once again
    # whatever a failure leaks grows with every round; the interpreter's caches settle meanwhile
    rounds = []
    for _ in range(5):
        gc.collect()
        blocks = sys.getallocatedblocks()
        for k in range(1, n):
            attempt(k)
        gc.collect()
        rounds.append(sys.getallocatedblocks() - blocks)
    grown = min(rounds)
    assert grown < n // 2, f"{n} failed allocations left {grown} blocks"
    return {"injected": n - unharmed, "grown": grown, "outcomes": sweep.outcomes}


def fail_calls(scenario: Callable[[], None], bystander: Bystander) -> dict[str, Any]:
    library = ctypes.CDLL(sys.argv[2])
    library.inject_failed.restype = ctypes.c_char_p
    library.inject_watch(ctypes.cast(ctypes.CDLL(_core.__file__).PyInit__core, ctypes.c_void_p))
    sweep = Sweep(scenario, bystander)

    def attempt(n: int, number: int, lasting: bool) -> str:
        error: BaseException | None = None
        library.inject_arm(n, number, lasting)
        try:
            scenario()
        except BaseException as caught:
            caught.__traceback__ = caught.__context__ = None
            error = caught
        finally:
            library.inject_disarm()
        site: str = library.inject_failed().decode()
        if site:
            sweep.judge(error, f"{site} call {n} {errno.errorcode[number]} {lasting=}")
        return site

    injected: collections.Counter[str] = collections.Counter()
    n = 0
    while True:
        n += 1
        site = attempt(n, errno.EIO, False)
        if not site:
            break
        injected[site] += 1
        for number in ERRORS[site]:
            injected[attempt(n, number, False)] += 1
        if site not in {"fcntl", "close", "fstat"}:  # a gate that nobody can lock takes 2 s each
            injected[attempt(n, ERRORS[site][0], True)] += 1
        scenario()
    injected.pop("", None)
    return {"sites": n - 1, "injected": injected.total(), "by call": injected,
            "outcomes": sweep.outcomes}  # fmt: skip


def main() -> None:
    bystander = Bystander()
    sweep = {"allocations": fail_allocations, "calls": fail_calls}[sys.argv[1]]
    try:
        result = {body.__name__: sweep(body, bystander) for body in (messages, items)}
    finally:
        bystander.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
