"""What runs a strategy: it joins, dispatches, keeps time, counts errors, and leaves.

The loop over events is in C (:class:`shmipc.Dispatcher`); a market event's handler is the
strategy's own bound method. Python here runs once a burst.

Rules this file keeps:

- Only kinds whose callback the subclass overrides have a handler; the others are skipped in C.
- What a callback raises is counted, told to ``on_error`` and then raised, logged or made the end,
  as the policy says. What a ring raises is no callback's.
- An engine that died has its events read to the end before the strategy joins again; so has one
  that closed, before the strategy ends.
- Books are up to date when a callback is called.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from shmipc._core import Closed, Consumer, Dispatcher, Frame, NotFound, ProducerDied
from shmipc.trading.events import EventKind, OrderStatus, Timer, encode_symbol
from shmipc.trading.events.dtypes import offset_of
from shmipc.trading.strategy.deadline import check_seconds
from shmipc.trading.strategy.protocol import MARKET_KINDS, REPORT_TYPES, Control, Engine, Stop
from shmipc.trading.strategy.session import Session, has_live_engine
from shmipc.trading.strategy.timers import NEVER, Timers

__all__ = ["POLICIES", "Runtime"]

POLICIES = ("raise", "log", "stop")

_logger = logging.getLogger("shmipc.trading.strategy")

_BURST = 64  # events, at most, between two looks at timers that are set
_CHORES_NS = 100_000_000  # between two STATUS
_NAMES: dict[int, str] = {
    EventKind.TICK: "on_tick",
    EventKind.TRADE_TICK: "on_trade_tick",
    EventKind.ORDER_BOOK: "on_order_book",
    EventKind.BAR: "on_bar",
    EventKind.CUSTOM: "on_custom",
    EventKind.ORDER: "on_order",
    EventKind.TRADE: "on_trade",
    EventKind.ACCOUNT: "on_account",
    EventKind.POSITION: "on_position",
}


class Runtime:
    """One run of one strategy. Stepped by its loop, or by a backtest."""

    def __init__(
        self,
        strategy: Any,
        *,
        spin: float | None,
        timeout: float | None,
        on_exception: str,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Prepare a run of `strategy`, a BaseStrategy (which stands on this file).

        `clock`: what time it is, where time is that of events and not the machine's.
        """
        if on_exception not in POLICIES:
            raise ValueError(f"on_exception is one of {', '.join(POLICIES)}, not {on_exception!r}")
        check_seconds("timeout", timeout)
        self.finished = False  #: nothing more to do
        self.session = Session(
            strategy.engine,
            strategy.strategy_id,
            custom=strategy._custom_types,
            order_capacity=strategy.order_capacity,
            spin=spin,
        )
        self.timers = Timers(catch_up=clock is not None)
        self.timer_clock = clock or time.monotonic_ns
        self.clock = clock or time.time_ns
        self.dispatched = 0  # events and reports
        self._strategy = strategy
        self._base = next(c for c in type(strategy).__mro__ if c.__module__ == _BASE_MODULE)
        self._dispatcher = Dispatcher(
            spin=spin, key_off=offset_of("symbol"), time_off=offset_of("ts_init")
        )
        self._timeout = timeout
        self._on_exception = on_exception
        self._connected = False
        self._started = False
        self._stopping = False
        self._burst: int | None = _BURST
        self._closed = False  # the events, by an engine that went as it should
        self._changing = False  # another engine has taken a ring over
        self._sources: list[Consumer] = []
        self._asked_with: frozenset[int] = frozenset()  # open orders when HELLO was sent
        self._away_since = time.monotonic()
        self._next_chores_ns = 0
        self._on_report = {kind: self._override(_NAMES[kind]) for kind in REPORT_TYPES}

    @property
    def connected(self) -> bool:
        return self._connected

    # ---- the loop ------------------------------------------------------------------------------

    def run(self) -> None:
        """Step until there is nothing more to do, then leave."""
        try:
            while not (self._stopping or self.finished):
                self.step(0.1)
        finally:
            self.shut()

    def step(self, timeout: float) -> int:
        """Dispatch what is ready, wait up to `timeout` for it; return how many there were."""
        now = self.timer_clock()
        if now >= self.timers.next_ns:
            self._fire_timers(now)
            if self._stopping:
                return 0
        if self.timers.next_ns - now < timeout * 1e9:
            timeout = max(0.0, (self.timers.next_ns - now) * 1e-9)
        if not self._connected:
            return self._join(timeout)
        count = 0
        try:
            most = None if self.timers.next_ns == NEVER else self._burst
            count = self._dispatcher.run(most, timeout)
        except Exception as error:
            source = getattr(error, "consumer", None)
            if source is not None and any(source is ours for ours in self._sources):
                self._source_failed(source, error)
            else:
                count = 1  # at least the one that failed
                self.failed(error)
        self.dispatched += count
        if len(self._sources) < 2:
            self._finish_with_engine()
        elif time.monotonic_ns() >= self._next_chores_ns:
            self._chores()
        return count

    def stop(self) -> None:
        """End the loop after the callback that is running now. From any thread or signal."""
        self._stopping = True
        self._dispatcher.stop()

    @property
    def stopping(self) -> bool:
        return self._stopping

    def shut(self) -> None:
        """Call on_stop, say BYE, close everything."""
        strategy = self._strategy
        try:
            if self._started:
                self._started = False
                self.guard(strategy.on_stop)
        finally:
            if self.session.joined:
                self._chores()
            strategy._detach()
            self.session.close(strategy.errors)
            self.finished = True

    def guard(self, callback: Callable[..., Any], *arguments: Any) -> None:
        """Call; what it raises is dealt with as the policy says."""
        try:
            callback(*arguments)
        except Exception as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """A callback raised `error`: count, tell, and do as the policy says."""
        strategy = self._strategy
        strategy.errors += 1
        strategy.on_error(error)
        if self._on_exception == "raise":
            raise error
        _logger.error("strategy %s: a callback raised", strategy.strategy_id, exc_info=error)
        if self._on_exception == "stop":
            self.stop()

    def _fire_timers(self, now: int) -> None:
        strategy = self._strategy
        while not self._stopping and (due := self.timers.pop_due(now)) is not None:
            at = self.clock()
            record = Timer(
                name=due.name,
                ts_event=at - max(0, now - due.due_ns),
                ts_init=at,
                interval_ns=due.interval_ns,
                count=due.count,
            )
            strategy.timer_passed_over = due.passed_over
            self.guard(strategy.on_timer, record)

    def _chores(self) -> None:
        self._next_chores_ns = time.monotonic_ns() + _CHORES_NS
        strategy = self._strategy
        self.session.tell_status(strategy.lost, self.dispatched, strategy.errors)

    # ---- joining and leaving -------------------------------------------------------------------

    def _join(self, timeout: float) -> int:
        session = self.session
        asked_at = session.asked_at
        joined = session.step(timeout)
        if session.asked_at != asked_at:
            self._asked_with = frozenset(self._strategy.orders)
        if joined:
            self._connect()
        elif self._timeout is not None and time.monotonic() - self._away_since >= self._timeout:
            raise NotFound(2, f"strategy {session.strategy_id!r} could not join: {session.absence}")
        return 0

    def _connect(self) -> None:
        """The handshake is done: put up the books, tell the strategy, begin to dispatch."""
        session, strategy = self.session, self._strategy
        symbols = self._subscribed()
        records = [REPORT_TYPES[kind](bytes(report)) for kind, report in session.old_reports]
        for (kind, _), record in zip(session.old_reports, records, strict=True):
            strategy._book(kind, record)
        forgotten = strategy._take_snapshot(session, self._asked_with)
        self._add_sources(symbols)
        self._connected = True
        self._next_chores_ns = 0
        strategy._attach(session, self._dispatcher, self.clock)
        self.guard(strategy.on_connected)
        if not self._started:
            self._started = True
            self.guard(strategy.on_start)
        for record in records:
            if self._stopping:
                return
            kind, report = session.old_reports.pop(0)
            try:
                self._report(kind, record)
            finally:
                if isinstance(report, Frame):
                    report.release()
        for order in forgotten:
            order.status = OrderStatus.EXPIRED
            order.text = "the engine does not know it"
            order.ts_event = order.ts_init = self.clock()
            self._report(EventKind.ORDER, order)

    def _report(self, kind: int, record: Any) -> None:
        callback = self._on_report[kind]
        if callback is not None:
            self.guard(callback, record)

    def _subscribed(self) -> list[bytes] | None:
        """Return the symbols whose events this strategy gets; None: all."""
        session = self.session
        wanted: Iterable[str] | None = self._strategy.symbols
        allowed = session.symbols
        if wanted is None:
            wanted = allowed
        else:
            for symbol in wanted:
                if session.instruments and symbol not in session.instruments:
                    raise ValueError(
                        f"unknown symbol {symbol!r}: engine {session.engine!r} does not name it"
                    )
                if allowed is not None and symbol not in allowed:
                    raise ValueError(
                        f"strategy {session.strategy_id!r} asks for {symbol!r}, but its engine "
                        f"registered it for {', '.join(sorted(allowed)) or 'no symbol'}"
                    )
        return None if wanted is None else [encode_symbol(symbol) for symbol in wanted]

    def _add_sources(self, symbols: list[bytes] | None) -> None:
        session = self.session
        assert session.events is not None
        assert session.reports is not None
        self._sources = [session.reports, session.events]
        self._dispatcher.add(
            session.reports,
            {
                **{kind: (made, self._report_handler(kind)) for kind, made in REPORT_TYPES.items()},
                Control.ENGINE: (Engine, lambda note: self._changed(session.reports, note)),
                Control.STOP: (Stop, self._asked_to_stop),
            },
        )
        self._dispatcher.add(
            session.events,
            {
                **self._market_handlers(),
                Control.ENGINE: (Engine, lambda note: self._changed(session.events, note)),
            },
            keys=symbols,
            reader=session.welcome.place,
            from_seq=session.welcome.seq,
            on_lost=self._lost,
        )

    def _market_handlers(self) -> dict[int, tuple[Any, ...]]:
        types = self.session.market_types()
        if batch := self._override("on_batch"):
            self._burst = None  # a batch is one call
            return {kind: (made, batch, "batch") for kind, made in types.items()}
        handlers: dict[int, tuple[Any, ...]] = {}
        for kind, made in types.items():
            name = _NAMES[kind] if kind in MARKET_KINDS else "on_custom"
            callback = self._override(name)
            if callback is None and name == "on_tick":
                callback = self._override("on_ticker")
            if callback is not None:
                handlers[kind] = (made, callback)
        return handlers

    def _override(self, name: str) -> Callable[..., Any] | None:
        """Return the strategy's own callback of this name, or None where it has none."""
        callback: Callable[..., Any] = getattr(self._strategy, name)
        inherited = getattr(callback, "__func__", None) is getattr(self._base, name)
        return None if inherited else callback

    def _report_handler(self, kind: int) -> Callable[[Any], None]:
        book = self._strategy._book
        callback = self._on_report[kind]
        if callback is None:
            return lambda record: book(kind, record)

        def handle(record: Any, call: Callable[..., Any] = callback) -> None:
            book(kind, record)
            call(record)

        return handle

    def _lost(self, count: int) -> None:
        self._strategy.lost += count
        self._strategy.on_lost(count)

    def _changed(self, source: Consumer | None, note: Any) -> None:
        """Another engine took this ring over, and does not know us: what follows is not for us."""
        if note.engine_session != self.session.welcome.engine_session and source is not None:
            self._drop(source)
            self._changing = True

    def _asked_to_stop(self, note: Any) -> None:
        """The engine wants this run to end, or wanted that of one before us."""
        if note.session == self.session.asked_at:
            self.stop()

    def _finish_with_engine(self) -> None:
        """A ring has ended. When the other one is read to its end too, go."""
        events = self.session.events
        if self._changing and events in self._sources:
            # the note may have been overwritten
            assert events is not None
            if events.overflow == "overwrite" or events.pending == 0:
                self._disconnect()
        elif not self._sources and self._connected:
            self._end() if self._closed else self._disconnect()

    def _drop(self, source: Consumer) -> None:
        self._dispatcher.remove(source)
        self._sources.remove(source)

    def _source_failed(self, source: Any, error: Exception) -> None:
        """A ring ended, or is damaged, or brought an unknown event."""
        if isinstance(error, TypeError):  # SchemaMismatch: that message was skipped
            self.failed(error)
            return
        if not isinstance(error, (Closed, ProducerDied)):
            raise error
        session = self.session
        self._drop(source)
        if source is session.events:
            self._closed = isinstance(error, Closed)
        elif isinstance(error, Closed) and has_live_engine(session.engine):
            self._end()  # unregistered

    def _end(self) -> None:
        self.finished = True
        self._disconnect()

    def _disconnect(self) -> None:
        for source in self._sources:
            self._dispatcher.remove(source)
        self._sources.clear()
        self.session.leave()
        self._connected = self._closed = self._changing = False
        self._away_since = time.monotonic()
        self.guard(self._strategy.on_disconnected)


_BASE_MODULE = "shmipc.trading.strategy.base"
