"""Intake: what strategies send, and what is reported to them.

Rules this file keeps:

- One strategy's orders come in their order, each until a callback has returned for it: at least
  once.
- What the engine can refuse by itself is refused here and reaches no callback.
- What a strategy does wrong, or its end, is never an exception here; only the callback's come out.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from shmipc._core import Closed, Dispatcher, Error, Full, ProducerDied, SchemaMismatch, check_texts
from shmipc.trading.events import EventKind, Order, OrderAction
from shmipc.trading.events.dtypes import VERSION
from shmipc.trading.events.order_rules import PRICED_TYPES, SIDES, TIMES_IN_FORCE
from shmipc.trading.strategy.books import check_trade
from shmipc.trading.strategy.broadcast import Broadcast
from shmipc.trading.strategy.deadline import check_seconds, deadline
from shmipc.trading.strategy.link import Link
from shmipc.trading.strategy.protocol import (
    REPORT_TYPES,
    SNAPSHOT,
    Bye,
    Control,
    Hello,
    Refused,
    SnapshotEnd,
    Status,
    Subscription,
    Welcome,
)
from shmipc.trading.strategy.roster import Roster

__all__ = ["SERVICE_SECONDS", "Intake"]

_logger = logging.getLogger("shmipc.trading.strategy")

SERVICE_SECONDS = 0.05  # between two looks at the rest of the engine
_INF = math.inf
_NEW = int(OrderAction.NEW)
_TRADE = int(EventKind.TRADE)
_KINDS_OF_REPORTS = {made: int(kind) for kind, made in REPORT_TYPES.items()}
_TYPES_OF_REPORTS = {made.dtype: made for made in REPORT_TYPES.values()}


class _OrderWaits(Exception):
    """This order has to stay where it is: poll() met it, or its strategy does not read reports."""


def _leave_it(strategy_id: str, order: Any) -> None:
    raise _OrderWaits


class Intake:
    """Listens to the strategies of one engine, and answers them."""

    def __init__(
        self,
        roster: Roster,
        broadcast: Broadcast,
        service: Callable[[float], object],
        *,
        instruments: dict[str, Any],
        spin: float | None,
        session: int,
    ) -> None:
        """`service`: looks after the rest of the engine, at a time of the monotonic clock."""
        self._roster = roster
        self._broadcast = broadcast
        self._service = service
        self._instruments = instruments
        self._session = session
        self._dispatcher = Dispatcher(spin=spin)
        self._owners: dict[int, Link] = {}  # id() of an open ring of orders -> whose it is
        self._callback: Callable[[str, Any], object] = _leave_it
        self._received = 0
        self._next_service = 0.0

    def serve_soon(self) -> None:
        """Have the rest of the engine looked after when orders are next asked for."""
        self._next_service = 0.0

    def receive_orders(
        self,
        callback: Callable[[str, Any], object],
        max: int | None = None,
        timeout: float | None = 0.0,
    ) -> int:
        """As StrategyManager.receive_orders."""
        self._callback = callback
        before = self._received
        now = time.monotonic()
        end = None if timeout is None else now + timeout
        while True:
            if now >= self._next_service:
                self._next_service = now + SERVICE_SECONDS
                self._service(now)
            left = SERVICE_SECONDS if end is None else end - now
            if left <= 0.0:
                self._dispatch(max, 0.0)
                return self._received - before
            check_seconds("timeout", timeout)
            self._dispatch(max, left if left < SERVICE_SECONDS else SERVICE_SECONDS)
            if self._received > before:
                return self._received - before
            now = time.monotonic()

    def report(self, strategy_id: str, record: Any) -> None:
        """As StrategyManager.report."""
        link = self._roster.link(strategy_id)
        kind = _KINDS_OF_REPORTS.get(type(record))
        if kind is None:
            kind, record = _report_of(record)
        if kind == _TRADE:
            check_trade(record)
        link.send(record, kind)
        link.book(kind, record)

    def restore(self, strategy_id: str, records: Iterable[Any]) -> None:
        """As StrategyManager.restore."""
        link = self._roster.link(strategy_id)
        checked = [_report_of(record) for record in records]
        for kind, record in checked:
            check_texts(type(record), record)
            if kind == _TRADE:
                check_trade(record)
        for kind, record in checked:
            link.book(kind, record)

    def poll(self) -> None:
        """As StrategyManager.poll."""
        self._callback = _leave_it
        self._service(time.monotonic())
        self._dispatch(None, 0.0)

    def wait(self, timeout: float | None = None) -> bool:
        """As StrategyManager.wait."""
        end = deadline(timeout)
        self._callback = _leave_it
        while True:
            now = time.monotonic()
            self._service(now)
            left = SERVICE_SECONDS if end is None else min(SERVICE_SECONDS, end - now)
            if not self._dispatch(None, max(0.0, left)):
                return True
            if left <= 0.0:
                return False

    def wait_until_connected(
        self, strategy_ids: Iterable[str] | None = None, timeout: float | None = None
    ) -> bool:
        """As StrategyManager.wait_until_connected."""
        links = [self._roster.link(name) for name in strategy_ids or self._roster.links]
        return self._poll_until(lambda: all(link.state == "connected" for link in links), timeout)

    def drain(self, timeout: float | None = None) -> bool:
        """As StrategyManager.drain."""

        def is_drained() -> bool:
            here = [link for link in self._roster.links.values() if link.state == "connected"]
            return not any(reader.lag for reader in self._broadcast.ring.lags()) and not any(
                link.waiting or link.unread for link in here
            )

        return self._poll_until(is_drained, timeout)

    def _poll_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        end = deadline(timeout)
        while True:
            self.poll()
            if condition():
                return True
            if end is not None and time.monotonic() >= end:
                return False
            time.sleep(0.002)

    # ---- from strategies -----------------------------------------------------------------------

    def _dispatch(self, most: int | None, timeout: float) -> bool:
        """Take what is ready. False: an order waits for receive_orders()."""
        before = self._received
        waits = False
        for turn in itertools.count():  # who cuts a round short is not first in the next
            try:
                self._dispatcher.run(most, timeout)
                break
            except _OrderWaits:
                waits = True
            except Error as error:
                link = self._owners.get(id(getattr(error, "consumer", None)))
                if link is None:
                    raise  # the callback's
                self._source_failed(link, error)
            timeout = 0.0
            if most is not None:
                most -= self._received - before
                before = self._received
            if turn >= len(self._owners) or most == 0:
                break
        return not waits

    def _source_failed(self, link: Link, error: Error) -> None:
        """A strategy left, died, or sent what is no order. Its ring was read to the end."""
        if isinstance(error, SchemaMismatch):  # that message was skipped
            link.errors += 1
            _logger.error("strategy %s: %s", link.strategy_id, error)
            return
        self.drop(link)
        if not isinstance(error, (Closed, ProducerDied)):
            link.complain(error)
        link.let_go(died=not isinstance(error, Closed))

    def add(self, link: Link) -> None:
        """Listen to a strategy, if its ring of orders has come."""
        if link.try_open():
            assert link.orders is not None
            self._owners[id(link.orders)] = link
            self._dispatcher.add(link.orders, self._handlers(link), retry=True)

    def drop(self, link: Link) -> None:
        """Listen to it no more."""
        if link.orders is not None and self._owners.pop(id(link.orders), None) is not None:
            self._dispatcher.remove(link.orders)

    def _handlers(self, link: Link) -> dict[int, Any]:
        strategy_id = link.strategy_id

        books = link.open
        instruments = self._instruments

        def refuse(order: Any, why: str) -> None:
            try:
                link.refuse(order, why)
            except Full:  # who floods us with nonsense and hears nothing waits by itself
                raise _OrderWaits from None
            link.received += 1

        def on_order(order: Any) -> None:
            client_order_id = order.client_order_id
            try:
                check_texts(Order, order)
            except ValueError:  # it is of a program that fills in the bytes itself
                refuse(order, "a text without an end")
                return
            is_new = order.action == _NEW
            if not (  # a shortcut: it only accepts; refusal() decides
                is_new
                and client_order_id > 0
                and client_order_id not in books
                and 0.0 < order.quantity < _INF
                and -_INF < order.price < _INF
                and order.side in SIDES
                and order.order_type in PRICED_TYPES
                and order.time_in_force in TIMES_IN_FORCE
                and (not instruments or order.symbol in instruments)
            ):
                why = link.refusal(order)
                if why is not None:
                    refuse(order, why)
                    return
            if is_new:
                books[client_order_id] = order.copy()
            try:
                self._callback(strategy_id, order)
            except BaseException:
                if is_new:
                    books.pop(client_order_id, None)
                raise
            link.received += 1
            self._received += 1

        def on_status(status: Any) -> None:
            link.lost = status.lost
            link.errors = status.errors

        def on_bye(bye: Any) -> None:
            link.errors = bye.errors
            link.state = "stopped"

        return {
            EventKind.ORDER: (Order, on_order),
            Control.HELLO: (Hello, lambda hello: self._welcome(link, hello)),
            Control.STATUS: (Status, on_status),
            Control.BYE: (Bye, on_bye),
        }

    # ---- to a strategy that joins --------------------------------------------------------------

    def _welcome(self, link: Link, hello: Any) -> None:
        """Answer HELLO: who it is here, and how things stand."""
        now = time.time_ns()
        session = hello.session
        link.forget_answers()
        link.pid, link.slot, link.session = hello.pid, hello.slot, session
        if hello.version != VERSION:
            text = f"its events have version {hello.version}, the engine's {VERSION}"
            refused = Refused(ts_event=now, ts_init=now, session=session, text=text)
            link.send(refused, Control.REFUSED, control=True)
            return
        link.state = "connected"
        link.lost = link.errors = 0
        answer = Welcome(
            ts_event=now,
            ts_init=now,
            session=session,
            engine_session=self._session,
            seq=self._broadcast.ring.stats().count,
            place=link.place,
            version=VERSION,
            book_levels=self._broadcast.book_levels,
            instruments=len(self._instruments) if self._instruments else -1,
            symbols=-1 if link.symbols is None else len(link.symbols),
        )
        link.send(answer, Control.WELCOME, control=True)
        for instrument in self._instruments.values():
            link.send(instrument, Control.INSTRUMENT, control=True)
        for symbol in link.symbols or ():
            told = Subscription(symbol=symbol, ts_event=now, ts_init=now, session=session)
            link.send(told, Control.SUBSCRIPTION, control=True)
        for kind, record in self._snapshot(link):
            link.send(record, kind, SNAPSHOT, control=True)
        end = SnapshotEnd(ts_event=now, ts_init=now, session=session)
        link.send(end, Control.SNAPSHOT_END, control=True)

    def _snapshot(self, link: Link) -> Iterable[tuple[int, Any]]:
        yield from self._broadcast.latest(link.symbols)
        for order in link.open.values():
            yield EventKind.ORDER, order
        for position in link.positions.values():
            yield EventKind.POSITION, position
        if link.account is not None:
            yield EventKind.ACCOUNT, link.account


def _report_of(record: Any) -> tuple[int, Any]:
    """Return kind and record of a report in any of its forms."""
    if isinstance(record, (np.void, np.ndarray)) and record.size == 1:
        made = _TYPES_OF_REPORTS.get(record.dtype)
        if made is not None:
            return _KINDS_OF_REPORTS[made], made(np.ascontiguousarray(record).reshape(())[()])
    elif type(record) in _KINDS_OF_REPORTS:
        return _KINDS_OF_REPORTS[type(record)], record
    found = getattr(record, "dtype", type(record))
    raise SchemaMismatch(f"a report is an Order, Trade, Account or Position, not {found}")
