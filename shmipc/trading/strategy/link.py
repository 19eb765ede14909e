"""One strategy as its engine knows it: two rings, its books, and what it may do.

Rules this file keeps:

- The engine never waits for a strategy here. Reports that do not fit into the ring wait in the
  engine, in their order, up to a limit; beyond that it is ``Full``, and that report was not made.
- The books are those of the reports: an order is open from the moment the engine takes it until it
  is reported closed. They outlive the strategy's process, so that it finds them when it comes back.
- An order that the engine can refuse by itself never reaches its user.
- Damage to its rings is its own: it is logged once, and raised only from ``report()`` to it.
- The ring of orders is opened when it appears. Once its strategy is gone and everything is read it
  is given up, and removed if the strategy died and could not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections import deque
from typing import Any, Literal

from shmipc import _core
from shmipc._core import (
    Busy,
    Consumer,
    ConsumerDied,
    Corrupt,
    Error,
    Full,
    NotFound,
    Producer,
    Removed,
    SchemaMismatch,
    check_texts,
)
from shmipc.trading.events import (
    EventKind,
    OrderAction,
    OrderStatus,
)
from shmipc.trading.events.dtypes import SYMBOL_LEN
from shmipc.trading.events.order_rules import (
    fault_of_amounts,
    fault_of_change,
    fault_of_choices,
)
from shmipc.trading.strategy.books import book_holding
from shmipc.trading.strategy.protocol import (
    Control,
    Engine,
    Stop,
    check_id,
    orders_ring,
    reports_ring,
)
from shmipc.trading.strategy.unread import Left, unread_orders, unread_reports

__all__ = ["Link", "State", "StrategyInfo", "UnknownStrategy", "open_ring"]

State = Literal["registered", "connected", "disconnected", "stopped", "killed", "evicted"]

_logger = logging.getLogger("shmipc.trading.strategy")

_LET_GO_SECONDS = 1.0  # that strategies have to notice that their engine died
_BACKLOG_LIMIT = 1 << 16  # reports that wait in the engine for one strategy

_NEW, _CANCEL, _MODIFY = int(OrderAction.NEW), int(OrderAction.CANCEL), int(OrderAction.MODIFY)
_SUBMITTED, _REJECTED = int(OrderStatus.SUBMITTED), int(OrderStatus.REJECTED)
_FILLED = int(OrderStatus.FILLED)
_ORDER = int(EventKind.ORDER)


class UnknownStrategy(Error, KeyError):
    """No strategy is registered under this id."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclasses.dataclass(frozen=True)
class StrategyInfo:
    """A line of ``StrategyManager.list_strategies()``."""

    strategy_id: str
    #: "registered" (never seen), "connected", "disconnected" (died), "stopped" (left as it should),
    #: "killed" (because it was too slow, and not dead yet) or "evicted" (the same, and dead).
    state: State
    pid: int  #: of the process last seen; 0: none was
    lag: int  #: events broadcast and not yet read; 0 unless connected
    lost: int  #: events overwritten before it read them, as it last said
    orders: int  #: received from it: new ones, cancellations and changes
    open_orders: int
    waiting_reports: int  #: that its ring has no room for yet
    errors: int  #: exceptions in its callbacks, as it last said
    restarts: int  #: by the supervisor
    symbols: tuple[str, ...] | None  #: that it may see; None: all


def open_ring(name: str, **options: Any) -> Producer:
    """Open a ring to send by. Where it has another shape its readers may let it go first."""
    end = time.monotonic() + _LET_GO_SECONDS
    while True:
        try:
            return Producer(name, **options)
        except SchemaMismatch:
            if time.monotonic() >= end:
                raise
        time.sleep(0.01)


class Link:
    """The engine's end of one strategy."""

    def __init__(
        self,
        engine: str,
        strategy_id: str,
        place: int,
        symbols: tuple[str, ...] | None,
        *,
        report_capacity: int,
        instruments: dict[str, Any],
        spin: float | None,
        session: int,
    ) -> None:
        self.strategy_id = check_id(strategy_id, "a strategy")
        self.place = place
        self.symbols = symbols
        self.state: State = "registered"
        self.pid = 0
        self.session = 0  # of its last HELLO
        self.slot = -1  # of its cursor in the events ring; -1: none
        self.lost = self.errors = self.received = 0
        self.open: dict[int, Any] = {}
        self.positions: dict[str, Any] = {}
        self.account: Any = None
        self.orders: Consumer | None = None
        self.waiting: deque[tuple[bytes, int, int]] = deque()
        self.backlog_limit = _BACKLOG_LIMIT
        self._trouble = ""  # that was logged last
        self._instruments = instruments
        self._spin = spin
        self._orders_name = orders_ring(engine, strategy_id)
        self._orders_path = _core.segment_path(self._orders_name)
        self.reports = open_ring(
            reports_ring(engine, strategy_id), capacity=report_capacity, max_consumers=1, spin=spin
        )
        found = self.reports.stats()
        self._sent = found.count
        self._last_report = self._sent  # how many were sent when the last was that is no control
        if found.took_over:
            now = time.time_ns()
            note = Engine(ts_event=now, ts_init=now, engine_session=session)
            self.send(note, Control.ENGINE, control=True)

    # ---- to the strategy -----------------------------------------------------------------------

    def send(self, record: Any, kind: int, flags: int = 0, *, control: bool = False) -> None:
        """Send, or let it wait its turn. Full: too many wait already."""
        try:
            sent = (not self.waiting or self.flush()) and self._try_send(record, kind, flags)
        except (Corrupt, Removed) as error:
            if not control:
                raise
            self.complain(error)
            return
        if not sent:
            if len(self.waiting) >= self.backlog_limit and not control:
                raise Full(
                    f"strategy {self.strategy_id!r} does not read: {len(self.waiting)} reports "
                    "wait for it"
                )
            if not isinstance(record, bytes):
                check_texts(type(record), record)
            self.waiting.append((bytes(record), kind, flags))

    def forget_answers(self) -> None:
        """Drop answers to a HELLO that wait: whoever says HELLO again does not want them."""
        reports = [one for one in self.waiting if one[1] < Control.HELLO and not one[2]]
        self.waiting = deque(reports)

    def flush(self) -> bool:
        """Send what waits. True: nothing does any more."""
        waiting = self.waiting
        try:
            while waiting:
                if not self._try_send(*waiting[0]):
                    return False
                waiting.popleft()
        except (Corrupt, Removed) as error:
            self.complain(error)
            waiting.clear()
        return True

    def _try_send(self, record: Any, kind: int, flags: int) -> bool:
        try:
            if not self.reports.try_send(record, kind=kind, flags=flags):
                return False
        except ConsumerDied:  # full, and nobody there: its successor will read
            return False
        self._sent += 1
        if kind < Control.HELLO and not flags:
            self._last_report = self._sent
        return True

    def book(self, kind: int, record: Any) -> None:
        """Take a report into the books."""
        if kind == _ORDER:
            client_order_id = record.client_order_id
            status = record.status
            if record.action != _NEW and status == _REJECTED:
                return
            if status >= _FILLED:
                self.open.pop(client_order_id, None)
            else:
                self.open[client_order_id] = record.copy()
        else:
            book_holding(self, kind, record)

    # ---- from the strategy ---------------------------------------------------------------------

    def refusal(self, order: Any) -> str | None:
        """Return why this order is refused, in at most 31 bytes, or None."""
        action = order.action
        client_order_id = order.client_order_id
        if action == _CANCEL:
            return None if client_order_id in self.open else "unknown order"
        if action == _MODIFY:
            return fault_of_change(order) if client_order_id in self.open else "unknown order"
        if action != _NEW:
            return "unknown action"
        fault = fault_of_amounts(order)
        if fault is not None:
            return fault
        if client_order_id in self.open:
            return "client_order_id is in use"
        if client_order_id <= 0:
            return "client_order_id is not positive"
        if self._instruments and order.symbol not in self._instruments:
            return "unknown symbol"
        return fault_of_choices(order)

    def refuse(self, order: Any, why: str) -> None:
        """Report an order as rejected. It changes no book: a refused id may be another's, open."""
        answer = order.copy()
        answer.symbol = bytes(order)[:SYMBOL_LEN].split(b"\0")[0]  # truncated where no zero ends it
        answer.status = _REJECTED
        answer.text = why
        answer.ts_event = answer.ts_init = time.time_ns()
        try:
            self.send(answer, _ORDER)
        except (Corrupt, Removed) as error:
            self.complain(error)

    def complain(self, error: Exception) -> None:
        """Log what is wrong with this strategy's rings, once."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            _logger.error("strategy %s: %s", self.strategy_id, error)

    # ---- its ring of orders --------------------------------------------------------------------

    def try_open(self) -> bool:
        """Open the ring of orders if it is there. True: it was opened now."""
        if self.orders is not None or not os.path.exists(self._orders_path):
            return False
        try:
            self.orders = Consumer(self._orders_name, timeout=0, spin=self._spin)
            if self.orders.dtype is not None:
                self.orders.close()
                self.orders = None
                raise SchemaMismatch(f"{self._orders_path} is a ring of items, not of messages")
        except (NotFound, Busy):  # going, or its last reader still is
            return False
        except (Error, OSError) as error:
            self.complain(error)
            return False
        return True

    def let_go(self, died: bool) -> None:
        """The strategy has left, or died, and everything was read."""
        if self.orders is not None:
            self.orders.close()
            self.orders = None
        if died:
            with contextlib.suppress(Error, OSError):  # taken over, or removed, meanwhile
                _core.clean_segment(self._orders_path)
        self.slot = -1
        if self.state == "connected":
            self.state = "disconnected" if died else "stopped"

    def ask_to_stop(self) -> bool:
        """Ask the run that said HELLO last to end. False: none is connected."""
        if self.state != "connected":
            return False
        now = time.time_ns()
        note = Stop(ts_event=now, ts_init=now, session=self.session)
        self.send(note, Control.STOP, control=True)
        return True

    def runs(self) -> bool:
        """Is its ring of orders held by a process that has not closed it?"""
        try:
            found = _core.inspect_segment(self._orders_path)
        except (Error, OSError):
            return False
        return bool(found["producer_alive"]) and not found["closed"]

    @property
    def unread(self) -> int:
        """Return how many reports are in its ring."""
        try:
            return self.reports.lag
        except (Corrupt, Removed) as error:
            self.complain(error)
            return 0

    def close(self) -> tuple[int, Left]:
        """Close both rings. Returns how many reports are lost, because they did not fit, and what
        is left in the rings.

        The ring of reports is removed unless some of them are unread.
        """
        self.flush()
        lost = sum(1 for _, kind, flags in self.waiting if kind < Control.HELLO and not flags)
        unread = False
        try:
            unread = self._last_report > self._sent - self.reports.lag
            if not unread and self.reports.attached == 0:
                self.reports.unlink()
        except Error:  # truncated or closed: nothing can be sent
            pass
        reports = unread_reports(self.reports.name) if unread else 0
        try:
            self.reports.close()
        except Removed as error:
            self.complain(error)
        self.try_open()
        orders = 0
        if self.orders is not None:
            orders = unread_orders(self.orders)
        self.let_go(died=os.path.exists(self._orders_path))
        return lost, Left(orders, reports)
