"""Broadcasting: one copy of each event in one ring, whatever the number of strategies.

Rules this file keeps:

- Everything is checked before anything is sent: dtypes, and that every text ends in its field. A
  record's texts are looked at by the send itself.
- An event is one type look-up, one send, and one note of the last record a symbol; who reads it is
  nobody's business here. Only where the ring is full does anything else happen.
- While it waits for room, the manager looks after the rest (:meth:`Broadcasting._service`), so
  that a strategy that joins meanwhile is not what it waits for.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from shmipc import Full, SchemaMismatch
from shmipc._core import Latest, check_texts
from shmipc.trading.events import EventKind
from shmipc.trading.strategy.deadline import deadline
from shmipc.trading.strategy.eviction import Evictor, NotEvicted, check_pidfds, slowest
from shmipc.trading.strategy.link import Link, UnknownStrategy, open_ring
from shmipc.trading.strategy.protocol import (
    BITMAP_LEN,
    REPORT_TYPES,
    TARGETED,
    Control,
    Engine,
    events_ring,
    market_types,
)

__all__ = ["Broadcasting", "Filter", "Slow"]

Slow = Literal["wait", "overwrite", "evict"]
Filter = Callable[[str], bool] | Iterable[str]
_Route = tuple[int, Callable[[Any], object]]

_logger = logging.getLogger("shmipc.trading.strategy")

_SLICE_SECONDS = 0.05  # of waiting for room, between two looks at the rest


class Broadcasting:
    """The part of an engine that sends events."""

    name: str
    _links: dict[str, Link]

    def _open_events(
        self,
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
        self._routes: dict[type, _Route] = {}
        self._routes_of_dtypes: dict[np.dtype[Any], _Route] = {}
        self._types = {made.dtype: made for made in types.values()}
        for kind, made in types.items():
            latest = self._latest.get(int(kind))
            route = (int(kind), _forget if latest is None else latest.update)
            self._routes[made] = self._routes_of_dtypes[made.dtype] = route
        self._stall: tuple[float, int] | None = None  # since when, and how much was sent then
        self._blocked: str | None = None  # why who is in the way cannot be evicted
        self._events = open_ring(
            events_ring(self.name),
            capacity=capacity,
            max_consumers=max(2, places),  # one would make a durable queue
            overflow="overwrite" if slow == "overwrite" else "block",
            spin=spin,
        )
        self._evictor: Evictor | None = None
        if slow == "evict":
            try:
                self._evictor = Evictor(self.name, self._events)
            except BaseException:
                self._events.close()
                raise
        self._try_send: Callable[..., bool] = self._events.try_send
        self._note: Any = None  # that must go out before any event
        if self._events.stats().took_over:
            now = time.time_ns()
            self._note = Engine(ts_event=now, ts_init=now, engine_session=session)
            self._try_send = _no_room
            with contextlib.suppress(Full):
                self._send_note(0.0)

    def broadcast_event(
        self, event: Any, filter: Filter | None = None, timeout: float | None = None
    ) -> None:
        """Send an event to all strategies, or to those that `filter` names or says True of.

        event: a record, or a numpy item or array of one, of a market event's dtype.
        timeout: seconds to wait for a slow strategy. None: for ever, or until it is evicted; where
            it cannot be, for the engine's `patience`.

        Raises Full when the time is over (NotEvicted, a Full, where eviction is the policy and
        cannot be), SchemaMismatch (a TypeError) for another dtype, ValueError for a text that does
        not end in its field (a symbol of 16 bytes), and UnknownStrategy for an id in `filter`.
        Nothing was sent then.
        """
        route = self._routes.get(type(event))
        if route is None:
            event, route = self._convert(event)
        if filter is not None:
            if type(event) in self._routes:
                check_texts(type(event), event)
            self._broadcast_to(event, route[0], filter, timeout)
            return
        if not self._try_send(event, kind=route[0]):
            self._send(event, route[0], timeout)
        route[1](event)

    def broadcast_batch(self, events: Any, timeout: float | None = None) -> int:
        """Send the events of a structured array, or of an iterable of events of any kinds, in
        order.

        Returns how many there were. All are checked before one is sent; then as
        broadcast_event(), but Full may come when some are sent: ``.sent`` says how many.
        """
        end = deadline(timeout)
        if isinstance(events, np.ndarray) and events.ndim == 1 and events.dtype.names is not None:
            return self._broadcast_array(events, end)
        checked: list[tuple[Any, _Route]] = []
        for event in events:
            route = self._routes.get(type(event))
            if route is None:
                event, route = self._convert(event)
            else:
                check_texts(type(event), event)
            checked.append((event, route))
        for sent, (event, route) in enumerate(checked):
            if not self._try_send(event, kind=route[0]):
                left = None if end is None else max(0.0, end - time.monotonic())
                try:
                    self._send(event, route[0], left)
                except Full as error:
                    error.sent = sent  # type: ignore[attr-defined]
                    raise
            route[1](event)
        return len(checked)

    def _broadcast_array(self, events: Any, end: float | None) -> int:
        route = self._routes_of_dtypes.get(events.dtype)
        if route is None:
            raise self._mismatch(events.dtype)
        made = self._types[events.dtype]
        events = np.ascontiguousarray(events)
        check_texts(made, events)
        sent = 0

        def send(left: float) -> bool:
            nonlocal sent
            sent += self._events.send_many(events[sent:], kind=route[0], timeout=left)
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

    def _broadcast_to(self, event: Any, kind: int, filter: Filter, timeout: float | None) -> None:
        """Send to some: with a bitmap of their places behind the event."""
        if callable(filter):
            chosen = [link for link in self._links.values() if filter(link.strategy_id)]
        elif isinstance(filter, str):
            raise TypeError(
                f"filter must be an iterable of ids, or say True of an id, not str; did you mean "
                f"({filter!r},)?"
            )
        else:
            chosen = [self._link(strategy_id) for strategy_id in filter]
        if not chosen:
            return
        targets = bytearray(BITMAP_LEN)
        for link in chosen:
            targets[link.place >> 3] |= 1 << (link.place & 7)
        self._send(bytes(event) + targets, kind, timeout, TARGETED)  # its texts were checked

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
        known = ", ".join(made.__name__ for made in self._routes)
        return SchemaMismatch(f"not an event of this engine ({known}): {found}")

    # ---- a full ring ---------------------------------------------------------------------------

    def _send(self, data: Any, kind: int, timeout: float | None, flags: int = 0) -> None:
        def send(left: float) -> None:
            self._events.send(data, kind=kind, flags=flags, timeout=left)

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
        self._events.send(self._note, kind=Control.ENGINE, timeout=timeout)
        self._note = None
        self._try_send = self._events.try_send

    def _evict_if_due(self, now: float) -> str | None:
        """Nothing could be sent. If that has been so for too long, end who is in the way.

        Returns why that cannot be, from the time on when it is due.
        """
        sent = self._events.stats().count
        if self._stall is None or self._stall[1] != sent:
            self._stall = (now, sent)
            self._blocked = None
        if self._evictor is None or now - self._stall[0] < self.patience:
            return self._blocked
        self._blocked = self._evictor.evict(self._everyone())
        self._stall = (now, sent)  # to look again
        return self._blocked

    def _who_is_slow(self) -> str:
        behind = slowest(self._events)
        if behind is None:
            return "the ring of events is full"
        slot, pid, lag = behind
        names = [link.strategy_id for link in self._links.values() if link.slot == slot]
        who = f"strategy {names[0]!r}" if names else "a reader"
        return f"the ring of events is full: {who} (pid {pid}) is {lag} events behind"

    # ---- the rest of the engine ----------------------------------------------------------------

    def _link(self, strategy_id: str) -> Link:
        link = self._links.get(strategy_id)
        if link is None:
            raise UnknownStrategy(f"no strategy {strategy_id!r} is registered")
        return link

    def _everyone(self) -> Iterable[Link]:
        raise NotImplementedError

    def _service(self, now: float) -> None:
        raise NotImplementedError


def _no_room(event: Any, *, kind: int) -> bool:
    """Stands for try_send while a note is to go out before."""
    return False


def _forget(event: Any) -> None:
    """Of most kinds nothing is remembered."""
