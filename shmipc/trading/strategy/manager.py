"""StrategyManager: the engine's side. Who is registered, whose process runs, and the end of it all.

Rules this file keeps:

- Events are sent by a Broadcast, orders and reports pass through an Intake; both know who is there
  by the Roster. What they need looked after (rings
  that appear, reports that wait, processes to watch) is done here, no more than every 50 ms, from
  inside ``receive_orders``, ``wait``, ``poll`` and a broadcast that finds the ring full.
- Nothing here starts a thread. Nothing waits for one strategy but a broadcast, where ``slow`` says
  so.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shmipc import _core
from shmipc._core import Error, Full
from shmipc.trading.events import encode_symbol
from shmipc.trading.events.dtypes import DEFAULT_LEVELS
from shmipc.trading.strategy.broadcast import Broadcast, Filter, Slow
from shmipc.trading.strategy.checks import check_symbols
from shmipc.trading.strategy.deadline import check_seconds
from shmipc.trading.strategy.intake import Intake
from shmipc.trading.strategy.link import Link, StrategyInfo, UnknownStrategy
from shmipc.trading.strategy.protocol import (
    MAX_PLACES,
    Instrument,
    check_custom,
    check_id,
    orders_ring,
    reports_ring,
)
from shmipc.trading.strategy.roster import Roster
from shmipc.trading.strategy.supervisor import Exit, Restart, Supervisor
from shmipc.trading.strategy.unread import Left

__all__ = ["StrategyManager"]

_logger = logging.getLogger("shmipc.trading.strategy")


class StrategyManager:
    """The engine of a number of strategies, each in its own process.

    ::

        with StrategyManager("engine") as manager:
            manager.register_strategy("momentum")
            while market.is_open():
                manager.broadcast_event(market.next_tick())
                manager.receive_orders(lambda strategy_id, order: ...)

    name: the strategies' ``engine``.
    slow: what a strategy that does not keep up means for the others. "wait": a broadcast waits
        until there is room. "overwrite": it never waits, and who is lapped is told how many events
        it lost. "evict": it waits `patience` seconds, then kills the slowest strategy's process.
    capacity: bytes of the ring of events; an event takes 16 more than it is long.
    max_strategies: how many can be registered at once, 1 to 1024.
    instruments: the symbols that can be traded, as an iterable, or a mapping to fields of
        Instrument. None: not named, so that all can be.
    book_levels: of the order books broadcast, a side.
    custom: events of one's own, kind (from 1024 on) -> dtype or record type.
    spin: seconds to poll before sleeping; inf never sleeps.
    order_capacity, report_capacity: bytes of the rings of each strategy, the former of those
        spawned.
    """

    def __init__(
        self,
        name: str = "engine",
        *,
        slow: Slow = "wait",
        patience: float = 1.0,
        capacity: int = 1 << 24,
        max_strategies: int = 64,
        instruments: Iterable[str] | Mapping[str, Mapping[str, float]] | None = None,
        book_levels: int = DEFAULT_LEVELS,
        custom: Mapping[int, Any] | None = None,
        spin: float | None = None,
        order_capacity: int = 1 << 20,
        report_capacity: int = 1 << 20,
    ) -> None:
        self.name = check_id(name, "an engine")
        if not 1 <= max_strategies <= MAX_PLACES:
            raise ValueError(f"max_strategies is 1 to {MAX_PLACES}, not {max_strategies!r}")
        self.max_strategies = max_strategies
        self._order_capacity = order_capacity
        self._report_capacity = report_capacity
        self._spin = spin
        self._instruments = _instruments(instruments)
        #: What was left unread in the rings of strategies that were unregistered or closed.
        self.left: dict[str, Left] = {}
        self._places = itertools.cycle(range(MAX_PLACES))
        self._supervisor = Supervisor(self.name)
        self._session = time.time_ns()
        self._roster = Roster(self.name)
        self._broadcast = Broadcast(
            self._roster,
            self._service,
            slow=slow,
            patience=patience,
            capacity=capacity,
            places=max_strategies,
            book_levels=book_levels,
            custom=check_custom(custom),
            spin=spin,
            session=self._session,
        )
        self._intake = Intake(
            self._roster,
            self._broadcast,
            self._service,
            instruments=self._instruments,
            spin=spin,
            session=self._session,
        )
        self._roster.closed = False

    @property
    def slow(self) -> Slow:
        """What a strategy that does not keep up means for the others."""
        return self._broadcast.slow

    @property
    def patience(self) -> float:
        """Seconds that a broadcast waits for one before it is evicted."""
        return self._broadcast.patience

    @property
    def book_levels(self) -> int:
        """Levels a side of the order books broadcast."""
        return self._broadcast.book_levels

    # ---- who is there --------------------------------------------------------------------------

    def register_strategy(self, strategy_id: str, symbols: Iterable[str] | None = None) -> None:
        """Let the strategy of this id join, now or later, and see events of `symbols` (None: all).

        Raises ValueError if it is registered already, or for a name or symbol that is none, Full
        when there are `max_strategies`.
        """
        self._roster.check_open()
        check_id(strategy_id, "a strategy")
        if strategy_id in self._roster.links:
            raise ValueError(f"strategy {strategy_id!r} is registered already")
        if strategy_id in self._roster.leaving:
            raise ValueError(
                f"strategy {strategy_id!r} is leaving: its process runs, or its last orders are "
                "not received yet"
            )
        if len(self._roster.links) + len(self._roster.leaving) >= self.max_strategies:
            raise Full(f"max_strategies={self.max_strategies} allows no more of them")
        chosen = check_symbols(symbols)
        for symbol in chosen or ():
            encode_symbol(symbol)
            if self._instruments and symbol not in self._instruments:
                raise ValueError(f"unknown symbol {symbol!r}: it is not among the instruments")
        taken = {link.place for link in self._roster.everyone()}
        self._roster.links[strategy_id] = Link(
            self.name,
            strategy_id,
            next(place for place in self._places if place not in taken),
            chosen,
            report_capacity=self._report_capacity,
            instruments=self._instruments,
            spin=self._spin,
            session=self._session,
        )
        self._intake.serve_soon()

    def unregister_strategy(self, strategy_id: str, grace: float = 5.0) -> None:
        """Let the strategy go: its run() ends. Does not wait for that.

        One that was spawned gets SIGTERM, and SIGKILL after `grace` seconds; what it sends until
        then (cancellations in on_stop, say) is received and can be reported on. Orders that are
        not received, and reports that are not read, are kept for the day when it is registered
        again. Raises UnknownStrategy.
        """
        self._roster.check_open()
        check_seconds("grace", grace)
        link = self._roster.links.pop(strategy_id, None)
        if link is None:
            raise UnknownStrategy(f"no strategy {strategy_id!r} is registered")
        if self._supervisor.stop(strategy_id, grace):
            self._roster.leaving[strategy_id] = link
        else:
            self._close_link(link)

    def list_strategies(self) -> list[StrategyInfo]:
        """Return how each registered strategy fares."""
        self._roster.check_open()
        self._broadcast.look()
        lags = {reader.slot: reader.lag for reader in self._broadcast.ring.lags()}
        return [
            StrategyInfo(
                strategy_id=link.strategy_id,
                state=link.state,
                pid=link.pid or self._supervisor.pid(link.strategy_id) or 0,
                lag=lags.get(link.slot, 0),
                lost=link.lost,
                orders=link.received,
                open_orders=len(link.open),
                waiting_reports=len(link.waiting),
                errors=link.errors,
                restarts=self._supervisor.restarts(link.strategy_id),
                symbols=link.symbols,
            )
            for link in self._roster.links.values()
        ]

    # ---- events --------------------------------------------------------------------------------

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
        events = self._broadcast
        route = events.routes.get(type(event))
        if route is None or filter is not None or not events.try_send(event, kind=route[0]):
            events.send_event(event, filter, timeout)
        else:
            route[1](event)

    def broadcast_batch(self, events: Any, timeout: float | None = None) -> int:
        """Send the events of a structured array, or of an iterable of events of any kinds, in
        order.

        Returns how many there were. All are checked before one is sent; then as
        broadcast_event(), but Full may come when some are sent: ``.sent`` says how many.
        """
        return self._broadcast.send_batch(events, timeout)

    # ---- orders and reports --------------------------------------------------------------------

    def receive_orders(
        self,
        callback: Callable[[str, Any], object],
        max: int | None = None,
        timeout: float | None = 0.0,
    ) -> int:
        """Call ``callback(strategy_id, order)`` for orders that are ready; return how many.

        Waits up to `timeout` seconds for the first (None: for ever). The record is valid until the
        callback returns. If the callback raises, that comes out of here and the order stays: it
        comes again. Orders that cannot be (a duplicate id, an unknown symbol or order, no
        quantity) are rejected here. Who joins and leaves is looked after as well.
        """
        return self._intake.receive_orders(callback, max, timeout)

    def report(self, strategy_id: str, record: Any) -> None:
        """Send an Order, Trade, Account or Position to one strategy; kept until it has read it.

        It is taken into the books of open orders and positions that a joining strategy is told.
        Never waits: what does not fit into the ring waits here. Raises Full when 65,536 reports
        do, UnknownStrategy, SchemaMismatch (a TypeError), ValueError for a Trade whose price or
        quantity is not known or a text that does not end in its field; nothing was sent or booked
        then.
        """
        self._intake.report(strategy_id, record)

    def restore(self, strategy_id: str, records: Iterable[Any]) -> None:
        """Take records into the books without reporting them: what a former engine had known.

        Raises UnknownStrategy, SchemaMismatch, ValueError as report(); nothing was taken then.
        """
        self._intake.restore(strategy_id, records)

    def poll(self) -> None:
        """Look after who joins and leaves, processes, and reports that wait. Never waits.

        An engine that calls receive_orders() often need not. Orders are left where they are.
        """
        self._intake.poll()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until receive_orders() has an order. False: not within `timeout` seconds.

        Who joins and leaves, and processes, are looked after meanwhile.
        """
        return self._intake.wait(timeout)

    def wait_until_connected(
        self, strategy_ids: Iterable[str] | None = None, timeout: float | None = None
    ) -> bool:
        """Wait until these strategies (all that are registered) are connected. False: not in time.

        Orders stay for receive_orders(). A strategy whose orders from before a crash are unread
        is not connected until they are received: it asked behind them.
        """
        return self._intake.wait_until_connected(strategy_ids, timeout)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all strategies have read all events and reports. False: not in time."""
        return self._intake.drain(timeout)

    # ---- processes -----------------------------------------------------------------------------

    def spawn(
        self,
        strategy_id: str,
        target: str,
        *,
        restart: Restart = "on-failure",
        cpu: int | None = None,
        spin: float | None = None,
        timeout: float | None = None,
        on_exception: str | None = None,
        symbols: Iterable[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        python: str | None = None,
    ) -> int:
        """Start the strategy `target`, "module:Class", in a process of its own; return its pid.

        Registers it first if it is not. `parameters` go to its constructor, as JSON; `cpu`, `spin`,
        `timeout` and `on_exception` to its run(). When it ends it is started again, as `restart`
        says ("never", "on-failure", "always"), after 0.1 s, doubling up to 30 s; ``exits`` is the
        log. `python` is the interpreter, found in PATH unless it is a path; None: this one. The
        working directory is this one, or "/" where this one was deleted.

        Raises ValueError if it runs already or `target` is not of that form, ModuleNotFoundError,
        RuntimeError in a frozen program, or one that embeds Python, where no interpreter is known,
        FileNotFoundError where there is no `python`.
        """
        self._roster.check_open()
        options = [f"--order-capacity={self._order_capacity}"]
        for name, value in (
            ("cpu", cpu),
            ("spin", spin),
            ("timeout", timeout),
            ("on-exception", on_exception),
        ):
            if value is not None:
                options.append(f"--{name}={value}")
        registered = strategy_id in self._roster.links
        if not registered:
            self.register_strategy(strategy_id, symbols)
        elif symbols is not None:
            options.append(f"--symbols={','.join(symbols)}")
        try:
            return self._supervisor.spawn(
                strategy_id,
                target,
                restart=restart,
                options=options,
                parameters=parameters or {},
                python=python,
            )
        except BaseException:
            if not registered:
                self.unregister_strategy(strategy_id)
            raise

    def stop(self, strategy_id: str, grace: float = 5.0) -> bool:
        """Have a strategy end as it should: on_stop, and run() returns. Waits for that.

        One that was spawned gets SIGTERM, SIGKILL after `grace` seconds, and is not restarted. Any
        other is asked by a message, and waited for up to `grace` seconds; who started it may start
        it again, and it is registered as before. Orders that it sends at its end are left for
        receive_orders().

        Returns True: it runs no more. False: it was not spawned here, and has not ended in time.
        Raises UnknownStrategy.
        """
        self._roster.check_open()
        if self._supervisor.stop(strategy_id, grace):
            self._await_ends([strategy_id])
            return True
        link = self._roster.links.get(strategy_id)
        if link is None:
            if strategy_id in self._supervisor:
                return True
            raise UnknownStrategy(f"no strategy {strategy_id!r} is registered")
        self.poll()  # a HELLO that was not read yet
        end = time.monotonic() + grace
        if link.ask_to_stop():
            while link.runs():
                if time.monotonic() >= end:
                    return False
                time.sleep(0.002)
                self.poll()
            self.poll()  # its BYE
        return True

    def kill(self, strategy_id: str) -> None:
        """SIGKILL a spawned strategy; it is started again if its `restart` says so."""
        if strategy_id not in self._supervisor:
            raise UnknownStrategy(f"strategy {strategy_id!r} was not spawned by this engine")
        self._supervisor.kill(strategy_id)

    @property
    def exits(self) -> list[Exit]:
        """Every end of a spawned process, oldest first."""
        return self._supervisor.exits

    def _await_ends(self, strategy_ids: Iterable[str]) -> None:
        names = list(strategy_ids)
        while any(self._supervisor.pid(name) is not None for name in names):
            self._service(time.monotonic())
            time.sleep(0.002)

    # ---- housekeeping --------------------------------------------------------------------------

    def _service(self, now: float) -> None:
        """Open rings that have appeared, send reports that wait, watch processes."""
        for link in self._roster.links.values():
            if link.orders is None:
                self._intake.add(link)
            if link.waiting:
                link.flush()
        self._broadcast.look()
        self._supervisor.check()
        for name, link in list(self._roster.leaving.items()):
            if self._supervisor.pid(name) is None and link.orders is None:
                self._close_link(self._roster.leaving.pop(name))

    def _close_link(self, link: Link) -> None:
        self._intake.drop(link)
        lost, left = link.close()
        if lost:
            _logger.error("%d reports for strategy %s did not fit", lost, link.strategy_id)
        if any(left):
            self.left[link.strategy_id] = left

    def close(self, grace: float = 5.0, *, discard: bool = False) -> dict[str, Left]:
        """End spawned strategies (SIGTERM, SIGKILL after `grace` seconds), then the rings.
        Idempotent.

        Returns how many orders and reports are left in the rings, by strategy, of those with any;
        ``left`` has it too, and the log says it unless they are discarded. They are kept for the
        next engine of this name, which executes those orders, and for the strategies: stop() the
        strategies and receive_orders() before, or `discard` what is left. What a strategy
        that is not ours sends when it hears of the end (it reads what is there, and ends by
        itself) comes after the count.
        """
        if self._roster.closed:
            return self.left
        check_seconds("grace", grace)
        names = [*self._roster.links, *self._roster.leaving]
        try:
            spawned = [name for name in names if self._supervisor.stop(name, grace)]
            self._await_ends(spawned)
            self.poll()
        finally:
            self._roster.closed = True
            self._broadcast.close()
            for link in self._roster.everyone():
                self._close_link(link)
            self._roster.links.clear()
            self._roster.leaving.clear()
            for name in names if discard else ():
                for ring in (orders_ring, reports_ring):
                    with contextlib.suppress(Error, OSError):  # gone, or a strategy is still there
                        _core.clean_segment(_core.segment_path(ring(self.name, name)), discard=True)
            for name, left in () if discard else self.left.items():
                _logger.warning(
                    "strategy %s: kept for the next engine of this name: %s", name, left
                )
        return self.left

    def __enter__(self) -> StrategyManager:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _instruments(
    given: Iterable[str] | Mapping[str, Mapping[str, float]] | None,
) -> dict[str, Any]:
    """Return the Instrument record of each symbol that can be traded."""
    if isinstance(given, (str, bytes)):
        check_symbols(given, "instruments")
    named: Mapping[str, Mapping[str, float]]
    named = given if isinstance(given, Mapping) else {symbol: {} for symbol in given or ()}
    now = time.time_ns()
    return {
        symbol: Instrument(symbol=encode_symbol(symbol), ts_event=now, ts_init=now, **fields)
        for symbol, fields in named.items()
    }
