"""Who holds the events up, and the end of them.

Rules this file keeps:

- Memory under a live process is never given away: whoever does not read is killed first, and the
  core then lets its cursor go.
- Nobody is killed by a number. The process is pinned by a pidfd, and the kernel shows in its
  descriptors the lock of the very place that holds the events up, and the lock of a strategy's ring
  of orders (holders.py). HELLO, and the pids in the rings, are not believed.
- Nobody is said to be evicted before it is dead, or its place free. A signal that was sent is only
  that: a process in a frozen container takes it when it is thawed.
- Where eviction cannot be, that is told once for each place, with what to do, and every broadcast
  that meets it says so. Nothing here raises an OSError once the engine runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import signal
from collections.abc import Iterable

from shmipc import _core
from shmipc._core import Full, Lag, Producer
from shmipc.trading.strategy.holders import (
    LOCK_PRODUCER,
    LOCK_SLOT0,
    Locks,
    file_identity,
    find_holder,
    is_dead,
)
from shmipc.trading.strategy.link import Link
from shmipc.trading.strategy.protocol import events_ring, orders_ring

__all__ = ["Evictor", "NotEvicted", "check_pidfds", "slowest"]

_logger = logging.getLogger("shmipc.trading.strategy")

_Place = tuple[int, int]  # slot, and pid as its holder knows itself
_OTHERWISE = "or choose slow='wait' or slow='overwrite'"


class NotEvicted(Full):
    """The ring of events is full, and who holds it up cannot be evicted. Nothing was sent."""


@dataclasses.dataclass
class _Killed:
    """A process that SIGKILL was sent to, and whose end is not known yet."""

    link: Link
    pid: int
    pinned: int


def slowest(events: Producer) -> Lag | None:
    """Return the lag of the reader that is furthest behind, or None."""
    return max(events.lags(), key=lambda reader: reader.lag, default=None)


def check_pidfds() -> None:
    """Raise OSError, with the reason and the cure, where processes cannot be pinned."""
    try:
        pinned = os.pidfd_open(os.getpid())
        try:
            signal.pidfd_send_signal(pinned, 0)
        finally:
            os.close(pinned)
    except AttributeError:
        raise OSError(
            errno.ENOSYS,
            f"slow='evict' needs pidfd_open, which this Python was built without: use another, "
            f"{_OTHERWISE}",
        ) from None
    except OSError as error:
        raise OSError(
            error.errno,
            "slow='evict' needs the system calls pidfd_open and pidfd_send_signal, and one is "
            f"refused here ({error.strerror}; a seccomp filter, or a kernel before 5.3): allow "
            f"both, {_OTHERWISE}",
        ) from error


class Evictor:
    """Ends strategies that do not read. One engine's."""

    def __init__(self, engine: str, events: Producer) -> None:
        """Raises OSError, with the cure, where no process could ever be proven to be one."""
        self._engine = engine
        self._events = events
        self._path = _core.segment_path(events_ring(engine))
        found = file_identity(self._path)
        if found is None:
            raise OSError(
                errno.ENOSYS,
                "slow='evict' must see which process holds which lock, and /proc/self/fdinfo does "
                f"not show this one's: mount /proc (Linux 4.1 or later), {_OTHERWISE}",
            )
        self._identity = found
        self._killed: dict[_Place, _Killed] = {}
        self._told: dict[_Place, str] = {}

    def evict(self, links: Iterable[Link]) -> str | None:
        """Kill the process of the strategy that is furthest behind.

        None: it was done, or need not be. Else why it cannot be.
        """
        self.look()
        behind = slowest(self._events)
        if behind is None or behind[2] == 0:
            return None
        slot, pid, _ = behind
        place = (slot, pid)
        killed = self._killed.get(place)
        if killed is not None:
            return self._tell(
                place,
                f"strategy {killed.link.strategy_id!r} (pid {pid}) was killed and is not dead yet: "
                "its container is frozen, or it hangs in the kernel. Thaw it, or end its "
                "container; the engine goes on by itself then",
            )
        why = self._kill(place, list(links))
        return None if why is None else self._tell(place, why)

    def look(self) -> None:
        """Take note of who has died since it was killed."""
        if not self._killed:
            return
        held = {(reader.slot, reader.pid) for reader in self._events.lags()}
        for place, killed in list(self._killed.items()):
            if place in held and not is_dead(killed.pinned):
                continue
            os.close(killed.pinned)
            del self._killed[place]
            self._told.pop(place, None)
            link = killed.link
            if link.state == "killed":  # else: it is back already
                link.state, link.pid = "evicted", killed.pid
            _logger.warning(
                "strategy %s (pid %d) evicted: it did not read", link.strategy_id, killed.pid
            )

    def close(self) -> None:
        self.look()
        for killed in self._killed.values():
            os.close(killed.pinned)
        self._killed.clear()

    # ---- who it is -----------------------------------------------------------------------------

    def _kill(self, place: _Place, links: list[Link]) -> str | None:
        slot, pid = place
        events = self._name(self._path)
        found = find_holder(pid, lambda locks: locks.hold(events, LOCK_SLOT0 + slot))
        readers = {(reader.slot, reader.pid) for reader in self._events.lags()}
        if place not in readers:  # it has gone by itself
            if found is not None:
                os.close(found[0])
            return None
        if found is None:
            return (
                f"{self._who(place, links)} does not read, and no process that can be seen from "
                f"here is proven to be it: it runs in another pid namespace, or as another user. "
                "Start strategies where the engine sees them (docker run --pid=host, or the "
                f"engine's --pid=container:NAME; shareProcessNamespace in a pod), {_OTHERWISE}"
            )
        pinned, locks = found
        if locks.hold(events, LOCK_PRODUCER):
            why = f"{self._who(place, links)} does not read, and runs in the engine's own process"
        elif (link := self._strategy_with(locks, links)) is None:
            why = (
                f"a reader (pid {pid}) does not read, and is none of this engine's strategies: "
                "end it, or let it read"
            )
        else:
            try:
                signal.pidfd_send_signal(pinned, signal.SIGKILL)
            except ProcessLookupError:
                pass  # gone by itself: as good as killed
            except OSError as error:
                os.close(pinned)
                return (
                    f"strategy {link.strategy_id!r} (pid {pid}) does not read and cannot be killed "
                    f"({error.strerror}): run it as the engine's user, {_OTHERWISE}"
                )
            link.state, link.pid = "killed", pid
            self._killed[place] = _Killed(link, pid, pinned)
            return None
        os.close(pinned)
        return why

    def _strategy_with(self, locks: Locks, links: list[Link]) -> Link | None:
        """Return the strategy whose ring of orders is written by whoever has these locks."""
        for link in links:
            path = _core.segment_path(orders_ring(self._engine, link.strategy_id))
            if locks.hold(self._name(path), LOCK_PRODUCER):
                return link
        return None

    def _name(self, path: str) -> str:
        """Return a file's name beside its locks; "" of one that is not there."""
        with contextlib.suppress(OSError):
            return self._identity(path)
        return ""

    def _who(self, place: _Place, links: list[Link]) -> str:
        slot, pid = place
        names = [link.strategy_id for link in links if (link.slot, link.pid) == place]
        who = f"strategy {names[0]!r}" if names else f"the reader at place {slot}"
        return f"{who} (pid {pid}, as it says)"

    def _tell(self, place: _Place, why: str) -> str:
        """Log it if it is news of this place."""
        held = {(reader.slot, reader.pid) for reader in self._events.lags()}
        self._told = {known: told for known, told in self._told.items() if known in held}
        if self._told.get(place) != why:
            self._told[place] = why
            _logger.error("engine %s cannot evict: %s", self._engine, why)
        return why
