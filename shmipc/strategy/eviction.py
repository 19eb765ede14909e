"""Who holds the events up, and the end of them.

Rules this file keeps:

- Memory under a live process is never given away: whoever does not read is killed first, and the
  core then lets its cursor go.
- Nobody is killed by a number alone: the process is pinned by a pidfd, and after that must still
  hold the place that it held before, be the one that said HELLO from it or that holds the
  strategy's ring of orders, and have the ring of events in its memory. (The number that a process
  of another pid namespace has written there is somebody else's here.)
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

from shmipc import Corrupt, NotFound, Producer, _core
from shmipc.strategy.link import Link
from shmipc.strategy.protocol import events_ring, orders_ring

__all__ = ["evict_slowest", "slowest"]


def slowest(events: Producer) -> tuple[int, int, int] | None:
    """Return slot, pid and lag of the reader that is furthest behind, or None."""
    return max(events.lags(), key=lambda reader: reader[2], default=None)


def evict_slowest(engine: str, events: Producer, links: Iterable[Link]) -> Link | None:
    """Kill the process of the strategy that is furthest behind. None: it is none of ours."""
    behind = slowest(events)
    if behind is None or behind[2] == 0:
        return None
    slot, pid, _ = behind
    link = _strategy_at(engine, slot, pid, links)
    if link is None or pid == os.getpid():
        return None
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return None  # it has gone by itself
    try:
        if (slot, pid) not in [reader[:2] for reader in events.lags()]:
            return None
        if not _maps(pid, _core.segment_path(events_ring(engine))):
            return None
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except ProcessLookupError:
        return None
    finally:
        os.close(process)
    link.state, link.pid = "evicted", pid
    return link


def _maps(pid: int, path: str) -> bool:
    """Is this file in the memory of that process?"""
    try:
        inode = str(os.stat(path).st_ino)
        with open(f"/proc/{pid}/maps") as maps:
            return any(line.split()[4] == inode for line in maps)
    except OSError:  # it has gone, or is not ours to look at, nor to kill
        return False


def _strategy_at(engine: str, slot: int, pid: int, links: Iterable[Link]) -> Link | None:
    for link in links:
        if link.slot == slot and link.pid == pid:
            return link
    for link in links:  # one that has not said HELLO yet, or whose HELLO is not read yet
        try:
            path = _core.segment_path(orders_ring(engine, link.strategy_id))
            found = _core.inspect_segment(path)
        except (NotFound, Corrupt):
            continue
        if found["producer_alive"] and found["producer_pid"] == pid:
            return link
    return None
