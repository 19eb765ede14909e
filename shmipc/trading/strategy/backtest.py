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
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shmipc import _core
from shmipc._core import Error, check_texts
from shmipc.trading.capture import Summary
from shmipc.trading.events import Order, Trade
from shmipc.trading.events.columns import without_reserved
from shmipc.trading.events.dtypes import DEFAULT_LEVELS
from shmipc.trading.strategy.base import BaseStrategy
from shmipc.trading.strategy.checks import check_object
from shmipc.trading.strategy.manager import StrategyManager
from shmipc.trading.strategy.private import discard_leftovers, private_name
from shmipc.trading.strategy.protocol import check_custom, market_types, orders_ring, reports_ring
from shmipc.trading.strategy.runtime import Runtime
from shmipc.trading.strategy.sources import events_of
from shmipc.trading.strategy.timers import MOST_AT_ONCE

__all__ = ["BacktestResult", "Exchange", "run_backtest"]

_logger = logging.getLogger("shmipc.trading.strategy")

_CAPACITY = 1 << 20  # bytes of a ring: events are read one by one


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
    #: What the strategy asked for, in order: ORDER's fields, the reserved one left out, so that
    #: pandas.DataFrame takes it as it is. :func:`shmipc.trading.events.columns` makes text of its
    #: bytes.
    orders: NDArray[np.void] = dataclasses.field(default_factory=lambda: _array(Order, []))
    #: What became of it: the Order reports, likewise.
    reports: NDArray[np.void] = dataclasses.field(default_factory=lambda: _array(Order, []))
    #: Its fills.
    trades: NDArray[np.void] = dataclasses.field(default_factory=lambda: _array(Trade, []))
    #: At the end, by symbol.
    positions: dict[str, Any] = dataclasses.field(default_factory=dict)
    errors: int = 0  #: exceptions that callbacks raised
    #: Of a capture: what was read of it, bad lines with their reasons, whether it is truncated.
    source: Summary | None = None


def run_backtest(
    strategy: BaseStrategy | type[BaseStrategy],
    source: Any,
    *,
    exchange: Exchange | None = None,
    symbols: Iterable[str] | None = None,
    instruments: Iterable[str] | Mapping[str, Mapping[str, float]] | None = None,
    book_levels: int = DEFAULT_LEVELS,
    on_exception: str | None = None,
    capacity: int | None = None,
    strict: bool = False,
) -> BacktestResult:
    """Run `strategy` over the events of `source`.

    strategy: an instance, or its class. An instance that has run already runs again with fresh
        books and timers; what it keeps in attributes of its own is as it left it.
    source: a structured array of events; a record; a data frame or a dict of columns that are
        named as an event's fields; a list of these (tables are merged by ``ts_init``, records come
        as they are listed); an iterable of records or (kind, events) pairs, in the order given;
        or the path of a capture.
    exchange: what fills orders. None: they are recorded, and nothing becomes of them.
    symbols, instruments, book_levels: as an engine's.
    on_exception: as in BaseStrategy.run().
    capacity: bytes of each of the three rings between engine and strategy. None: 1 MiB (more
        where an event is large), and the strategy's ``order_capacity`` for its orders.
    strict: a capture with bad lines, or that is truncated, is a CaptureError. Otherwise they are
        logged, and ``source`` of the result tells them.

    Raises SchemaMismatch for a source of other events, ValueError for values that an event cannot
    have, TypeError for what is no source, strategy or exchange, CaptureError for a file without an
    event, RuntimeError for a strategy that is running, and what a callback raised.
    """
    strategy = _checked(strategy)
    if exchange is not None:
        _check_exchange(exchange)
    custom = check_custom(type(strategy).custom)
    types = market_types(book_levels, custom)
    summary = Summary()
    records = events_of(source, types, book_levels, summary=summary, strict=strict)
    backtest = _Backtest(strategy, exchange)
    order_capacity = strategy.order_capacity
    if capacity is not None:
        strategy.order_capacity = capacity
    largest = max(made.dtype.itemsize for made in types.values())
    discard_leftovers()
    engine, strategy.engine = strategy.engine, private_name()
    try:
        with StrategyManager(
            strategy.engine,
            max_strategies=1,
            instruments=instruments,
            book_levels=book_levels,
            custom=custom,  # the same record types as those of `records`
            spin=0,
            capacity=max(_CAPACITY, 8 * largest) if capacity is None else capacity,
            report_capacity=_CAPACITY if capacity is None else capacity,
        ) as manager:
            manager.register_strategy(strategy.strategy_id, symbols)
            policy = strategy.on_exception if on_exception is None else on_exception
            with strategy._run_as(0, None, policy, backtest.now) as runtime:
                backtest.run(manager, runtime, records)
    finally:
        for ring in (orders_ring, reports_ring):
            path = _core.segment_path(ring(strategy.engine, strategy.strategy_id))
            with contextlib.suppress(Error):
                _core.clean_segment(path, discard=True)
        strategy.engine = engine
        strategy.order_capacity = order_capacity
    found = backtest.result()
    if isinstance(source, (str, os.PathLike)):
        found.source = summary
        if summary.bad_count or summary.truncated:
            _logger.warning("backtest over %s: %s", os.fspath(source), summary)
    return found


def _checked(strategy: Any) -> BaseStrategy:
    """Return the strategy to run, made from its class where that is given."""
    if isinstance(strategy, type) and issubclass(strategy, BaseStrategy):
        strategy = strategy()
    if not isinstance(strategy, BaseStrategy):
        what = strategy if isinstance(strategy, type) else type(strategy)
        raise TypeError(
            f"strategy is a BaseStrategy or a subclass of it, not {what.__name__}"
            + (": it does not inherit from BaseStrategy" if isinstance(strategy, type) else "")
        )
    check_object(strategy, BaseStrategy)
    if strategy._runtime is not None:
        raise RuntimeError(
            f"strategy {strategy.strategy_id!r} is running: give run_backtest one of its own"
        )
    return strategy


def _check_exchange(exchange: Any) -> None:
    if isinstance(exchange, type):
        raise TypeError(f"exchange is an instance, not a class: {exchange.__name__}()")
    for name in ("on_event", "on_order"):
        if not callable(getattr(exchange, name, None)):
            raise TypeError(
                f"exchange has on_event(kind, row) and on_order(strategy_id, order), but "
                f"{type(exchange).__name__} has no {name}"
            )


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

    def _report(self, manager: StrategyManager, reports: Iterable[tuple[str, Any]] | None) -> None:
        for strategy_id, report in reports or ():
            manager.report(strategy_id, report)
            for made, kept in self._reports.items():
                if report.dtype == made.dtype:
                    kept.append(made(report))


def _array(made: Any, records: list[Any]) -> NDArray[np.void]:
    rows: NDArray[np.void] = np.frombuffer(b"".join(map(bytes, records)), made.dtype).copy()
    return without_reserved(rows)
