"""A strategy over an array or a capture, in one process and one thread.

It is the live code: a StrategyManager, the strategy's own runtime, and rings between them under a
name of their own, stepped in turn. So callbacks come as they would live.

Rules this file keeps:

- Each event: timers that come due before it, the exchange's fills from it, then the event; and
  each time everything that follows from it, orders and their reports, before anything else happens.
- Time is that of the events (``ts_init``), for ``time_ns()``, timers and orders. It never goes
  back.
- The rings are removed afterwards, whatever happens; where the process was killed, by the next
  backtest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shmipc import Error, SchemaMismatch, _core
from shmipc._core import check_texts
from shmipc.events import Order, Trade
from shmipc.events.schema import DEFAULT_LEVELS
from shmipc.market.feed import feed_batches
from shmipc.strategy.base import BaseStrategy
from shmipc.strategy.checks import check_object
from shmipc.strategy.manager import StrategyManager
from shmipc.strategy.private import discard_leftovers, private_name
from shmipc.strategy.protocol import check_custom, market_types, orders_ring, reports_ring
from shmipc.strategy.runtime import Runtime
from shmipc.strategy.timers import MOST_AT_ONCE

__all__ = ["BacktestResult", "Exchange", "run_backtest"]


class Exchange(Protocol):
    """Something that fills orders: what it returns are reports, each with whose it is."""

    def on_event(self, kind: int, row: Any, /) -> Iterable[tuple[str, Any]]:
        """Take a market event."""

    def on_order(self, strategy_id: str, order: Any, /) -> Iterable[tuple[str, Any]]:
        """Take an order, cancellation or change."""


@dataclasses.dataclass
class BacktestResult:
    """What came of it."""

    strategy: BaseStrategy
    events: int = 0  #: of the source
    start_ns: int = 0  #: ``ts_init`` of the first event
    end_ns: int = 0  #: and of the last
    #: What the strategy asked for, as ORDER rows, in order.
    orders: NDArray[np.void] = dataclasses.field(default_factory=lambda: np.empty(0, Order.dtype))
    #: What became of it: the Order reports.
    reports: NDArray[np.void] = dataclasses.field(default_factory=lambda: np.empty(0, Order.dtype))
    #: Its fills.
    trades: NDArray[np.void] = dataclasses.field(default_factory=lambda: np.empty(0, Trade.dtype))
    #: At the end, by symbol.
    positions: dict[str, Any] = dataclasses.field(default_factory=dict)
    errors: int = 0  #: exceptions that callbacks raised


def run_backtest(
    strategy: BaseStrategy | type[BaseStrategy],
    source: Any,
    *,
    exchange: Exchange | None = None,
    symbols: Iterable[str] | None = None,
    instruments: Iterable[str] | Mapping[str, Mapping[str, float]] | None = None,
    book_levels: int = DEFAULT_LEVELS,
    on_exception: str | None = None,
) -> BacktestResult:
    """Run `strategy` over the events of `source`.

    source: a structured array of events, a list of such arrays (merged by ``ts_init``), an
        iterable of (kind, array) pairs, in the order given, or the path of a capture.
    exchange: what fills orders. None: they are recorded, and nothing becomes of them.
    symbols, instruments, book_levels: as an engine's.
    on_exception: as in BaseStrategy.run().

    Raises SchemaMismatch for an array that holds no events, and what a callback raised.
    """
    if isinstance(strategy, type):
        strategy = strategy()
    check_object(strategy, BaseStrategy)
    types = market_types(book_levels, check_custom(type(strategy).custom))
    backtest = _Backtest(strategy, exchange)
    discard_leftovers()
    engine, strategy.engine = strategy.engine, private_name()
    try:
        with StrategyManager(
            strategy.engine,
            max_strategies=1,
            instruments=instruments,
            book_levels=book_levels,
            custom=type(strategy).custom,
            spin=0,
        ) as manager:
            manager.register_strategy(strategy.strategy_id, symbols)
            policy = strategy.on_exception if on_exception is None else on_exception
            with strategy._run_as(0, None, policy, backtest.now) as runtime:
                backtest.run(manager, runtime, _records(source, types, book_levels))
    finally:
        for ring in (orders_ring, reports_ring):
            path = _core.segment_path(ring(strategy.engine, strategy.strategy_id))
            with contextlib.suppress(Error):
                _core.clean_segment(path, discard=True)
        strategy.engine = engine
    return backtest.result()


class _Backtest:
    """One run: the clock, and who is stepped when."""

    def __init__(self, strategy: BaseStrategy, exchange: Exchange | None) -> None:
        self._strategy = strategy
        self._exchange = exchange
        self._now = time.time_ns()
        self._orders: list[Any] = []
        self._reports: dict[Any, list[Any]] = {Order: [], Trade: []}
        self._found = BacktestResult(strategy)

    def now(self) -> int:
        return self._now

    def run(
        self, manager: StrategyManager, runtime: Runtime, records: Iterator[tuple[int, Any]]
    ) -> None:
        found = self._found
        try:
            for kind, record in records:
                ts = record.ts_init
                if found.events == 0:
                    self._now = found.start_ns = ts
                    self._join(manager, runtime)
                self._advance(manager, runtime, ts)
                if runtime.stopping:
                    break
                found.events += 1
                check_texts(type(record), record)
                if self._exchange is not None:
                    self._report(manager, self._exchange.on_event(kind, record))
                    self._settle(manager, runtime)
                manager.broadcast_event(record)
                self._settle(manager, runtime)
                if runtime.stopping:
                    break
            if found.events == 0:
                self._join(manager, runtime)
        finally:
            found.end_ns = self._now
            runtime.shut()
        manager.receive_orders(self._take_order(manager))

    def result(self) -> BacktestResult:
        found = self._found
        found.orders = _array(Order, self._orders)
        found.reports = _array(Order, self._reports[Order])
        found.trades = _array(Trade, self._reports[Trade])
        found.positions = self._strategy.positions
        found.errors = self._strategy.errors
        return found

    def _join(self, manager: StrategyManager, runtime: Runtime) -> None:
        while not runtime.connected:
            runtime.step(0.0)
            manager.poll()
        self._settle(manager, runtime)

    def _advance(self, manager: StrategyManager, runtime: Runtime, ts: int) -> None:
        """Let time go on to `ts`, from one timer to the next."""
        timers, steps = runtime.timers, 0
        if timers.next_ns <= ts:
            timers.pass_over(ts)
        while timers.next_ns <= ts and not runtime.stopping:
            # those that are set anew each time they come due: at the end of the jump, at last
            self._now = max(self._now, timers.next_ns) if steps < MOST_AT_ONCE else ts
            self._settle(manager, runtime)
            steps += 1
        self._now = max(self._now, ts)

    def _settle(self, manager: StrategyManager, runtime: Runtime) -> None:
        """Let everything happen that follows from what has happened."""
        take_order = self._take_order(manager)
        while not runtime.stopping:
            if not runtime.step(0.0) + manager.receive_orders(take_order):
                return

    def _take_order(self, manager: StrategyManager) -> Any:
        def take(strategy_id: str, order: Any) -> None:
            self._orders.append(order.copy())
            if self._exchange is not None:
                self._report(manager, self._exchange.on_order(strategy_id, order))

        return take

    def _report(self, manager: StrategyManager, reports: Iterable[tuple[str, Any]]) -> None:
        for strategy_id, report in reports:
            manager.report(strategy_id, report)
            for made, kept in self._reports.items():
                if report.dtype == made.dtype:
                    kept.append(made(report))


def _records(source: Any, types: dict[int, Any], levels: int) -> Iterator[tuple[int, Any]]:
    """Return the events of a source, in order."""
    if isinstance(source, (str, os.PathLike)):
        source = feed_batches(source, levels=levels)
    if isinstance(source, np.ndarray):
        source = [source]
    if isinstance(source, (list, tuple)) and all(isinstance(part, np.ndarray) for part in source):
        return _merged([(*_of_dtype(part, types), part) for part in source])
    return _streamed(source, types)


def _merged(parts: list[tuple[int, Any, Any]]) -> Iterator[tuple[int, Any]]:
    """Yield the events of several arrays by ts_init; at one time, in the order of the arrays."""
    if len(parts) == 1:
        kind, made, events = parts[0]
        yield from ((kind, made(event)) for event in events)
        return
    times = np.concatenate([events["ts_init"] for _, _, events in parts] or [np.empty(0, "<i8")])
    which = np.repeat(np.arange(len(parts)), [len(events) for _, _, events in parts])
    first = np.cumsum([0, *(len(events) for _, _, events in parts)])
    for at in np.argsort(times, kind="stable").tolist():
        part = int(which[at])
        kind, made, events = parts[part]
        yield kind, made(events[at - first[part]])


def _streamed(source: Iterable[Any], types: dict[int, Any]) -> Iterator[tuple[int, Any]]:
    for kind, events in source:
        made = types.get(int(kind))
        rows = np.atleast_1d(np.asarray(events))
        if made is None or rows.dtype != made.dtype:
            raise SchemaMismatch(f"events of kind {kind!r} are not of dtype {rows.dtype}")
        for event in rows:
            yield int(kind), made(event)


def _of_dtype(events: Any, types: dict[int, Any]) -> tuple[int, Any]:
    for kind, made in types.items():
        if made.dtype == events.dtype:
            return int(kind), made
    raise SchemaMismatch(f"an array of {events.dtype} holds no market events")


def _array(made: Any, records: list[Any]) -> NDArray[np.void]:
    array: NDArray[np.void] = np.frombuffer(b"".join(map(bytes, records)), made.dtype).copy()
    return array
