"""Which process holds a byte of a ring's file locked: the kernel's word, not a number's.

A pid in shared memory is a number that somebody wrote. It may be of another pid namespace, or of a
process that is gone, and then it is somebody else's here. What cannot be mistaken: a process that a
pidfd pins, in whose descriptors the kernel shows the lock (``/proc/PID/fdinfo``).

Rules this file keeps:

- A number only says where to look first. What is returned is proven by the locks.
- ``/proc`` may be another namespace's: a pinned process is looked up there under the number that
  the kernel gives for its pidfd in this very ``/proc``.
- What was read counts only if the process still lived afterwards: until then nobody else can have
  had its number.
- What cannot be read (another user's process, one that has gone) proves nothing, and is no error.

Must not know: strategies, policies, signals.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator

__all__ = ["LOCK_PRODUCER", "LOCK_SLOT0", "Locks", "file_identity", "find_holder", "is_dead"]

#: Bytes of a segment's file that carry locks (docs/format.md): the producer's, the first slot's.
LOCK_PRODUCER = 1
LOCK_SLOT0 = 2


class Locks:
    """Open-file-description locks that one process holds: ranges of bytes, by file."""

    def __init__(self) -> None:
        self._ranges: set[tuple[str, int, int]] = set()

    def read(self, path: str) -> None:
        """Add those of one file of an fdinfo directory."""
        with contextlib.suppress(OSError), open(path) as info:
            for line in info:
                words = line.split()
                if words[:1] == ["lock:"] and words[2:3] == ["OFDLCK"] and "WRITE" in words:
                    end = -1 if words[-1] == "EOF" else int(words[-1])
                    self._ranges.add((words[-3], int(words[-2]), end))

    def hold(self, file: str, byte: int) -> bool:
        """Is this byte of this file (as :func:`file_identity` names it) among them?"""
        return any(
            file == held and first <= byte and (end < 0 or byte <= end)
            for held, first, end in self._ranges
        )


def file_identity(path: str) -> Callable[[str], str] | None:
    """Return what names files as the kernel does beside their locks, or None.

    `path`: a file of which this process holds a lock. The files that the result is asked for are
    of the same directory. None: the kernel does not show our own lock, so it can show nobody's.
    """
    try:
        own = os.stat(path)
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found = os.fstat(int(number))
                if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
                    locks = Locks()
                    locks.read(f"/proc/self/fdinfo/{number}")
                    for file, _, _ in locks._ranges:
                        device = file.rpartition(":")[0]
                        return lambda other: f"{device}:{os.stat(other).st_ino}"
    except OSError:
        pass
    return None


def find_holder(pid: int, proves: Callable[[Locks], bool]) -> tuple[int, Locks] | None:
    """Return a pidfd of the process whose locks are those that `proves` wants, and its locks.

    `pid`: its number as it knows it itself. None: no process that can be seen here is proven to be
    it. The caller closes the pidfd.
    """
    for pinned in _candidates(pid):
        locks = _locks_of(pinned)
        if locks is not None and proves(locks):
            return pinned, locks
        os.close(pinned)
    return None


def is_dead(pinned: int) -> bool:
    """Has the process of this pidfd ended?"""
    poller = select.poll()
    poller.register(pinned, select.POLLIN)
    return bool(poller.poll(0))


def _candidates(pid: int) -> Iterator[int]:
    """Pin the process of this number, then those that have it in a namespace below this one."""
    with contextlib.suppress(OSError):
        yield os.pidfd_open(pid)
    with contextlib.suppress(OSError):
        for entry in os.listdir("/proc"):
            if entry.isdecimal() and int(entry) != pid and _inner_pid(entry) == pid:
                with contextlib.suppress(OSError):
                    pinned = os.pidfd_open(int(entry))
                    if _number_in_proc(pinned) == int(entry):
                        yield pinned
                    else:  # our /proc is another namespace's
                        os.close(pinned)


def _inner_pid(entry: str) -> int:
    """Return the number that a process of /proc knows itself by, or -1."""
    with contextlib.suppress(OSError), open(f"/proc/{entry}/status") as status:
        for line in status:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return -1


def _number_in_proc(pinned: int) -> int:
    """Return under which number a pinned process stands in /proc; 0 or less: under none."""
    with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{pinned}") as info:
        for line in info:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return -1


def _locks_of(pinned: int) -> Locks | None:
    """Return the locks of a pinned process, or None where nothing certain is known."""
    number = _number_in_proc(pinned)
    if number <= 0:
        return None
    locks = Locks()
    directory = f"/proc/{number}/fdinfo"
    try:
        for descriptor in os.listdir(directory):
            locks.read(f"{directory}/{descriptor}")
    except OSError:
        return None
    return None if is_dead(pinned) else locks
