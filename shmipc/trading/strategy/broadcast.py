"""Broadcasting: one copy of each event in one ring, whatever the number of strategies.

Rules this file keeps:

- Everything is checked before anything is sent: dtypes, and that every text ends in its field. A
  record's texts are looked at by the send itself.
- An event is one type look-up, one send, and one note of the last record a symbol; who reads it is
  nobody's business here. Only where the ring is full does anything else happen.
- While it waits for room, the engine looks after the rest (`service`), so that a strategy that
  joins meanwhile is not what it waits for.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Literal

import numpy as np

from shmipc._core import Full, Latest, SchemaMismatch, check_texts
from shmipc.trading.events import EventKind
from shmipc.trading.strategy.deadline import deadline
from shmipc.trading.strategy.eviction import Evictor, NotEvicted, check_pidfds, slowest
from shmipc.trading.strategy.link import open_ring
from shmipc.trading.strategy.protocol import (
    BITMAP_LEN,
    REPORT_TYPES,
    TARGETED,
    Control,
    Engine,
    events_ring,
    market_types,
)
from shmipc.trading.strategy.roster import Roster

__all__ = ["Broadcast", "Filter", "Slow"]

Slow = Literal["wait", "overwrite", "evict"]
Filter = Callable[[str], bool] | Iterable[str]
_Route = tuple[int, Callable[[Any], object]]

_logger = logging.getLogger("shmipc.trading.strategy")

_SLICE_SECONDS = 0.05  # of waiting for room, between two looks at the rest


class Broadcast:
    """The ring of one engine's events.

    ``StrategyManager.broadcast_event`` uses `routes` and `try_send` itself, where nothing else is
    to be done.
    """

    def __init__(
        self,
        roster: Roster,
        service: Callable[[float], object],
        *,
        slow: Slow,
        patience: float,
        capacity: int,
        places: int,
        book_levels: int,
        custom: dict[int, type[Any]],
        spin: float | None,
        session: int,
    ) -> None:
        """`service`: looks after the rest of the engine, at a time of the monotonic clock."""
        self._roster = roster
        self._service = service
        if slow not in ("wait", "overwrite", "evict"):
            raise ValueError(f"slow is 'wait', 'overwrite' or 'evict', not {slow!r}")
        if not patience > 0:
            raise ValueError(f"patience is a positive number of seconds, not {patience!r}")
        if slow == "evict":
            check_pidfds()
        self.slow = slow
        self.patience = patience
        self.book_levels = book_levels
        types = market_types(book_levels, custom)
        self._latest = {
            int(kind): Latest(types[kind].dtype.itemsize)
            for kind in (EventKind.TICK, EventKind.ORDER_BOOK)
        }
        #: type of record -> kind, and what remembers it
        self.routes: dict[type, _Route] = {}
        self._routes_of_dtypes: dict[np.dtype[Any], _Route] = {}
        self._types = {made.dtype: made for made in types.values()}
        self._types_of_kinds = {kind: types[EventKind(kind)] for kind in self._latest}
        for kind, made in types.items():
            latest = self._latest.get(int(kind))
            route = (int(kind), _forget if latest is None else latest.update)
            self.routes[made] = self._routes_of_dtypes[made.dtype] = route
        self._stall: tuple[float, int] | None = None  # since when, and how much was sent then
        self._blocked: str | None = None  # why who is in the way cannot be evicted
        self.ring = open_ring(
            events_ring(roster.engine),
            capacity=capacity,
            max_consumers=max(2, places),  # one would make a durable queue
            overflow="overwrite" if slow == "overwrite" else "block",
            spin=spin,
        )
        self.evictor: Evictor | None = None
        if slow == "evict":
            try:
                self.evictor = Evictor(roster.engine, self.ring)
            except BaseException:
                self.ring.close()
                raise
        #: True: sent. Never waits.
        self.try_send: Callable[..., bool] = self.ring.try_send
        self._note: Any = None  # that must go out before any event
        if self.ring.stats().took_over:
            now = time.time_ns()
            self._note = Engine(ts_event=now, ts_init=now, engine_session=session)
            self.try_send = _no_room
            with contextlib.suppress(Full):
                self._send_note(0.0)

    def send_event(
        self, event: Any, filter: Filter | None = None, timeout: float | None = None
    ) -> None:
        """Send one event: as StrategyManager.broadcast_event."""
        route = self.routes.get(type(event))
        if route is None:
            event, route = self._convert(event)
        if filter is not None:
            if type(event) in self.routes:
                check_texts(type(event), event)
            self._send_to(event, route[0], filter, timeout)
            return
        if not self.try_send(event, kind=route[0]):
            self.send(event, route[0], timeout)
        route[1](event)

    def send_batch(self, events: Any, timeout: float | None = None) -> int:
        """Send several: as StrategyManager.broadcast_batch."""
        end = deadline(timeout)
        if isinstance(events, np.ndarray) and events.ndim == 1 and events.dtype.names is not None:
            return self._send_array(events, end)
        checked: list[tuple[Any, _Route]] = []
        for event in events:
            route = self.routes.get(type(event))
            if route is None:
                event, route = self._convert(event)
            else:
                check_texts(type(event), event)
            checked.append((event, route))
        for sent, (event, route) in enumerate(checked):
            if not self.try_send(event, kind=route[0]):
                left = None if end is None else max(0.0, end - time.monotonic())
                try:
                    self.send(event, route[0], left)
                except Full as error:
                    error.sent = sent  # type: ignore[attr-defined]
                    raise
            route[1](event)
        return len(checked)

    def _send_array(self, events: Any, end: float | None) -> int:
        route = self._routes_of_dtypes.get(events.dtype)
        if route is None:
            raise self._mismatch(events.dtype)
        made = self._types[events.dtype]
        events = np.ascontiguousarray(events)
        check_texts(made, events)
        sent = 0

        def send(left: float) -> bool:
            nonlocal sent
            sent += self.ring.send_many(events[sent:], kind=route[0], timeout=left)
            return sent == len(events)

        try:
            if len(events):
                self._push(send, None if end is None else max(0.0, end - time.monotonic()))
        except Full as error:
            error.sent = sent  # type: ignore[attr-defined]
            raise
        finally:
            if sent:
                route[1](events[:sent])
        return sent

    def _send_to(self, event: Any, kind: int, filter: Filter, timeout: float | None) -> None:
        """Send to some: with a bitmap of their places behind the event."""
        if callable(filter):
            chosen = [link for link in self._roster.links.values() if filter(link.strategy_id)]
        elif isinstance(filter, str):
            raise TypeError(
                f"filter must be an iterable of ids, or say True of an id, not str; did you mean "
                f"({filter!r},)?"
            )
        else:
            chosen = [self._roster.link(strategy_id) for strategy_id in filter]
        if not chosen:
            return
        targets = bytearray(BITMAP_LEN)
        for link in chosen:
            targets[link.place >> 3] |= 1 << (link.place & 7)
        self.send(bytes(event) + targets, kind, timeout, TARGETED)  # its texts were checked

    # ---- what is no record ---------------------------------------------------------------------

    def _convert(self, event: Any) -> tuple[Any, _Route]:
        """Return the one event in a numpy item or array, as a buffer, and where it goes."""
        if isinstance(event, (np.void, np.ndarray)) and event.size == 1:
            route = self._routes_of_dtypes.get(event.dtype)
            if route is not None:
                event = np.ascontiguousarray(event).reshape(1)
                check_texts(self._types[event.dtype], event)
                return event, route
        raise self._mismatch(getattr(event, "dtype", type(event)), getattr(event, "size", 1))

    def _mismatch(self, found: Any, size: Any = 1) -> Exception:
        if isinstance(found, np.dtype) and found in self._routes_of_dtypes:
            return SchemaMismatch(f"one event, not {size}: use broadcast_batch for several")
        if any(found == made.dtype for made in REPORT_TYPES.values()):
            return SchemaMismatch("this is for one strategy: report() it")
        if isinstance(found, np.dtype) and "bid_prices" in (found.names or ()):
            return SchemaMismatch(
                f"this engine's order books have book_levels={self.book_levels} levels a side"
            )
        known = ", ".join(made.__name__ for made in self.routes)
        return SchemaMismatch(f"not an event of this engine ({known}): {found}")

    # ---- a full ring ---------------------------------------------------------------------------

    def send(self, data: Any, kind: int, timeout: float | None, flags: int = 0) -> None:
        """Send a buffer as it is, with room or without."""

        def send(left: float) -> None:
            self.ring.send(data, kind=kind, flags=flags, timeout=left)

        self._push(send, timeout)

    def _push(self, send: Callable[[float], bool | None], timeout: float | None) -> None:
        """Call `send` until it is done (False: some of it is), with room or without."""
        end = deadline(timeout)
        while True:
            left = _SLICE_SECONDS if end is None else end - time.monotonic()
            try:
                if self._note is not None:
                    self._send_note(max(0.0, min(_SLICE_SECONDS, left)))
                if send(max(0.0, min(_SLICE_SECONDS, left))) is not False:
                    return
            except Full:
                now = time.monotonic()
                self._service(now)
                blocked = self._evict_if_due(now)
                if end is not None and now < end:
                    continue
                if blocked is not None:
                    raise NotEvicted(f"the ring of events is full: {blocked}") from None
                if end is not None:
                    raise Full(self._who_is_slow()) from None

    def _send_note(self, timeout: float) -> None:
        """Say that another engine goes on with this ring; events may follow."""
        self.ring.send(self._note, kind=Control.ENGINE, timeout=timeout)
        self._note = None
        self.try_send = self.ring.try_send

    def _evict_if_due(self, now: float) -> str | None:
        """Nothing could be sent. If that has been so for too long, end who is in the way.

        Returns why that cannot be, from the time on when it is due.
        """
        sent = self.ring.stats().count
        if self._stall is None or self._stall[1] != sent:
            self._stall = (now, sent)
            self._blocked = None
        if self.evictor is None or now - self._stall[0] < self.patience:
            return self._blocked
        self._blocked = self.evictor.evict(self._roster.everyone())
        self._stall = (now, sent)  # to look again
        return self._blocked

    def _who_is_slow(self) -> str:
        behind = slowest(self.ring)
        if behind is None:
            return "the ring of events is full"
        slot, pid, lag = behind
        names = [link.strategy_id for link in self._roster.links.values() if link.slot == slot]
        who = f"strategy {names[0]!r}" if names else "a reader"
        return f"the ring of events is full: {who} (pid {pid}) is {lag} events behind"

    # ---- what the rest of the engine asks -------------------------------------------------------

    def latest(self, symbols: Collection[str] | None) -> Iterator[tuple[int, bytes]]:
        """Yield kind and bytes of the newest event of each kind that is remembered and symbol."""
        for kind, latest in self._latest.items():
            for raw in latest.values():
                if symbols is None or self._types_of_kinds[kind](raw).symbol in symbols:
                    yield kind, raw

    def look(self) -> None:
        """Take note of who has died since it was evicted."""
        if self.evictor is not None:
            self.evictor.look()

    def close(self) -> None:
        """Close the ring. Idempotent."""
        if self.evictor is not None:
            self.evictor.close()
        self.ring.close()


def _no_room(event: Any, *, kind: int) -> bool:
    """Stands for try_send while a note is to go out before."""
    return False


def _forget(event: Any) -> None:
    """Of most kinds nothing is remembered."""
