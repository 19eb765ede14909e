"""A strategy's three rings, and how it joins its engine.

Away -> asked -> joined, and back to away when the engine dies. A step does what can be done now and
never waits longer than it is told to, so a strategy's timers go on while it is away.

Rules this file keeps:

- The ring of orders stays open from the first joining to the end: orders sent while the engine is
  away are in it, and arrive once.
- Reports left from before a crash are held as leases until they are delivered: if this process dies
  before that, they are there again. Only where they fill the ring so that the engine cannot answer
  are they copied.
- While it waits for WELCOME it lets events go, so that a joining strategy never holds the engine
  up. An event that is let go was seen before the reports were found empty, and the engine says
  WELCOME before it sends an event that the snapshot has not got: so none is lost.
- The events ring and the reports are left alone while no live engine holds them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from typing import Any

from shmipc import _core
from shmipc._core import (
    Busy,
    Closed,
    Consumer,
    ConsumerDied,
    Corrupt,
    Empty,
    Error,
    Frame,
    NotFound,
    Producer,
    ProducerDied,
    Removed,
)
from shmipc.trading.events import EventKind
from shmipc.trading.events.dtypes import VERSION
from shmipc.trading.strategy.protocol import (
    CONTROL_TYPES,
    REPORT_TYPES,
    SNAPSHOT,
    Bye,
    Control,
    Hello,
    Status,
    events_ring,
    market_types,
    orders_ring,
    reports_ring,
)

__all__ = ["Session", "Snapshot", "has_live_engine"]

_LOOK_SECONDS = 0.05  # how often to look for an engine
_BUSY_SECONDS = 1.0  # a process that was killed may hold its rings a moment longer
_STALL_SECONDS = 0.2  # without an answer: make room in the ring of reports
_UNREAD_CONTROL = 16  # messages that the engine has not read: no STATUS on top


@dataclasses.dataclass
class Snapshot:
    """How things stood when the strategy joined. Records of one's own."""

    ticks: dict[str, Any] = dataclasses.field(default_factory=dict)  #: the last Tick a symbol
    books: dict[str, Any] = dataclasses.field(default_factory=dict)  #: the last OrderBook a symbol
    orders: dict[int, Any] = dataclasses.field(default_factory=dict)  #: open, by client_order_id
    positions: dict[str, Any] = dataclasses.field(default_factory=dict)  #: by symbol
    account: Any = None


class Session:
    """One strategy's end of the protocol."""

    def __init__(
        self,
        engine: str,
        strategy_id: str,
        *,
        custom: dict[int, type[Any]],
        order_capacity: int,
        spin: float | None,
    ) -> None:
        self.engine = engine
        self.strategy_id = strategy_id
        self.joined = False
        self.welcome: Any = None  # the record, once joined
        self.snapshot = Snapshot()
        self.instruments: dict[str, Any] = {}
        self.symbols: set[str] | None = None  # that the engine lets us see; None: all
        self.old_reports: list[tuple[int, Any]] = []  # (kind, lease or copy), not yet delivered
        self.events: Consumer | None = None
        self.reports: Consumer | None = None
        self.orders: Producer | None = None
        self.asked_at = 0  # when HELLO was sent; 0: not yet
        self.absence = "not looked yet"
        self.registered = False
        self._custom = custom
        self._order_capacity = order_capacity
        self._spin = spin
        self._session = 0
        self._next_look = 0.0
        self._busy_since: float | None = None
        self._heard = 0.0
        self._told = (0, 0, 0)

    # ---- joining -------------------------------------------------------------------------------

    def step(self, timeout: float) -> bool:
        """Go on joining for up to `timeout` seconds. True: joined.

        Raises Busy when another process runs under this id, Error when the engine refuses.
        """
        end = time.monotonic() + timeout
        try:
            if self.reports is None and not self._attach(end):
                return False
            if not self.asked_at and not self._ask(end):
                return False
            return self._hear(end)
        except (Closed, ProducerDied):
            self.leave()
            return False

    def _attach(self, end: float) -> bool:
        now = time.monotonic()
        if now < self._next_look:
            time.sleep(max(0.0, min(end, self._next_look) - now))
            return False
        self._next_look = now + _LOOK_SECONDS
        if not self._engine_is_there():
            return False
        try:
            self.reports = Consumer(self._name(reports_ring), timeout=0, spin=self._spin)
            if self.orders is None:
                self.orders = Producer(
                    self._name(orders_ring),
                    capacity=self._order_capacity,
                    max_consumers=1,
                    spin=self._spin,
                )
            self.events = Consumer(
                events_ring(self.engine), start="latest", timeout=0, spin=self._spin
            )
        except NotFound:  # it went as we came
            self.leave()
            return False
        except Busy as error:
            self.leave()
            self._busy_since = self._busy_since or now
            if now - self._busy_since < _BUSY_SECONDS:
                return False
            raise Busy(
                error.errno,
                f"strategy {self.strategy_id!r} of engine {self.engine!r} cannot join; another "
                f"process runs under this id, or all places are taken: {error.strerror}",
            ) from error
        self._busy_since = None
        return True

    def _engine_is_there(self) -> bool:
        self.registered = False
        if not has_live_engine(self.engine):
            self.absence = f"there is no engine {self.engine!r}: no live process broadcasts here"
        elif not _has_live_producer(self._name(reports_ring)):
            self.absence = (
                f"engine {self.engine!r} runs, but strategy {self.strategy_id!r} is not "
                f"registered: register_strategy({self.strategy_id!r}) there"
            )
        else:
            self.absence = f"engine {self.engine!r} does not answer: does it call receive_orders?"
            self.registered = True
        return self.registered

    def _ask(self, end: float) -> bool:
        assert self.orders is not None
        assert self.events is not None
        self._session = max(self._session + 1, time.time_ns())
        hello = Hello(
            ts_event=self._session,
            ts_init=self._session,
            session=self._session,
            pid=os.getpid(),
            slot=self.events.slot,
            version=VERSION,
        )
        if not self._try_send(hello, Control.HELLO):  # behind; or it has died, and this one is new
            self._drop_events(self.events.pending)
            time.sleep(max(0.0, min(0.005, end - time.monotonic())))
            return False
        self.asked_at = self._session
        self._heard = time.monotonic()
        self.welcome = None
        self.snapshot = Snapshot()
        self.instruments = {}
        self.symbols = None
        return True

    def _hear(self, end: float) -> bool:
        """Read reports up to SNAPSHOT_END."""
        assert self.reports is not None
        assert self.events is not None
        while not self.joined:
            unseen = self.events.pending
            now = time.monotonic()
            try:
                frame = self.reports.read(timeout=max(0.0, min(0.01, end - now)))
            except Empty:
                if self.welcome is None:
                    self._drop_events(unseen)
                if now - self._heard > _STALL_SECONDS:
                    self._copy_old_reports()
                if now >= end:
                    return False
                continue
            self._heard = now
            self._take(frame)
        return True

    def _take(self, frame: Any) -> None:
        kind = frame.kind
        control = CONTROL_TYPES.get(kind)
        if control is not None:
            if len(frame) == control.dtype.itemsize:  # else: another version's; REFUSED will say
                self._take_control(kind, control(bytes(frame)))
            frame.release()
        elif frame.flags & SNAPSHOT:
            if self.welcome is not None:
                self._take_snapshot(kind, frame)
            frame.release()
        elif kind in REPORT_TYPES:
            self.old_reports.append((kind, frame))
        else:
            frame.release()

    def _take_control(self, kind: int, record: Any) -> None:
        if kind in (Control.WELCOME, Control.REFUSED):
            if record.session == self._session:
                if kind == Control.REFUSED:
                    raise Error(
                        f"engine {self.engine!r} refuses {self.strategy_id!r}: {record.text}"
                    )
                self.welcome = record
                self.symbols = None if record.symbols < 0 else set()
        elif self.welcome is None:
            pass  # an answer to one who is gone
        elif kind == Control.INSTRUMENT:
            self.instruments[record.symbol] = record
        elif kind == Control.SUBSCRIPTION and self.symbols is not None:
            self.symbols.add(record.symbol)
        elif kind == Control.SNAPSHOT_END and record.session == self._session:
            self.joined = True

    def _take_snapshot(self, kind: int, frame: Any) -> None:
        record_type = REPORT_TYPES.get(kind) or self.market_types()[kind]
        record = record_type(bytes(frame))
        if kind == EventKind.TICK:
            self.snapshot.ticks[record.symbol] = record
        elif kind == EventKind.ORDER_BOOK:
            self.snapshot.books[record.symbol] = record
        elif kind == EventKind.ORDER:
            self.snapshot.orders[record.client_order_id] = record
        elif kind == EventKind.POSITION:
            self.snapshot.positions[record.symbol] = record
        elif kind == EventKind.ACCOUNT:
            self.snapshot.account = record

    def market_types(self) -> dict[int, Any]:
        """Return the record type of each kind that the engine broadcasts. Joined, or nearly."""
        return market_types(self.welcome.book_levels, self._custom)

    def _drop_events(self, count: int) -> None:
        assert self.events is not None
        for _ in range(count):
            try:
                self.events.read(timeout=0).release()
            except Empty:
                return

    def _copy_old_reports(self) -> None:
        for index, (kind, report) in enumerate(self.old_reports):
            if isinstance(report, Frame):
                self.old_reports[index] = (kind, bytes(report))
                report.release()

    # ---- joined --------------------------------------------------------------------------------

    def tell_status(self, lost: int, events: int, errors: int) -> None:
        """Send STATUS if it changed; not where the engine leaves orders unread."""
        told = (lost, events, errors)
        if told != self._told and self.orders is not None:
            if self.orders.lag > _UNREAD_CONTROL:
                return
            now = time.time_ns()
            status = Status(ts_event=now, ts_init=now, lost=lost, events=events, errors=errors)
            if self._try_send(status, Control.STATUS):
                self._told = told

    def leave(self) -> None:
        """Let events and reports go; the next step begins anew. Orders can still be sent."""
        self.joined = False
        self.asked_at = 0
        if self.events is not None:
            self.events.close()
        if self.reports is not None:
            self.reports.abandon()
        for _, report in self.old_reports:  # not delivered: unread, and there again next time
            if isinstance(report, Frame):
                with contextlib.suppress(Corrupt):
                    report.release()
        self.old_reports = [old for old in self.old_reports if not isinstance(old[1], Frame)]
        self.events = self.reports = None

    def close(self, errors: int = 0) -> None:
        """Say BYE if somebody is there to hear it, and close everything."""
        said = self.joined
        self.leave()
        if self.orders is not None:
            if said:
                now = time.time_ns()
                bye = Bye(ts_event=now, ts_init=now, session=self._session, errors=errors)
                self._try_send(bye, Control.BYE)
            self._take_back_control()
            self.orders.close()
            self.orders = None

    def _take_back_control(self) -> None:
        """If no engine reads our ring, and nothing but control is unread in it, empty it.

        It would be kept for the next engine, as orders are.
        """
        assert self.orders is not None
        if not self.orders.lag:
            return
        try:
            reader = Consumer(self._name(orders_ring), timeout=0)
        except (NotFound, Busy, Corrupt):
            return
        unread: list[Frame] = []
        with contextlib.suppress(Empty, Corrupt, Removed):
            while not unread or unread[-1].kind >= Control.HELLO:
                unread.append(reader.read(timeout=0))
        if all(frame.kind >= Control.HELLO for frame in unread):
            with contextlib.suppress(Corrupt):
                for frame in unread:
                    frame.release()
        reader.abandon()

    def _try_send(self, record: Any, kind: Control) -> bool:
        assert self.orders is not None
        try:
            return self.orders.try_send(record, kind=kind)
        except ConsumerDied:
            return False

    def _name(self, ring: Any) -> str:
        name: str = ring(self.engine, self.strategy_id)
        return name


def has_live_engine(engine: str) -> bool:
    """Does a live process broadcast under this name?"""
    return _has_live_producer(events_ring(engine))


def _has_live_producer(name: str) -> bool:
    try:
        found = _core.inspect_segment(_core.segment_path(name))
    except (NotFound, Corrupt):
        return False
    return bool(found["producer_alive"]) and not found["closed"]
