"""Backtests: the same callbacks in the same order as live, on the clock of the events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captures import made_capture
from desk import accepted, desk, filled
from shmipc import SchemaMismatch, run_backtest
from shmipc.trading.events import (
    Bar,
    EventKind,
    OrderBook,
    OrderStatus,
    Tick,
    TradeTick,
    order_book_type,
)
from shmipc.trading.market.feed import feed
from shmipc.trading.strategy import BaseStrategy, backtest

SECOND = 10**9


def ticks(count: int, symbol: bytes = b"BTCUSDT", start: int = SECOND, step: int = SECOND) -> Any:
    rows = np.zeros(count, Tick.dtype)
    rows["symbol"] = symbol
    rows["sequence"] = range(count)
    rows["ts_init"] = start + np.arange(count) * step
    rows["last_price"] = 100.0 + np.arange(count) % 7
    return rows


class Journal(BaseStrategy):
    """Writes down every callback; buys at every third tick, cancels every other order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lines: list[tuple[Any, ...]] = []
        self.first = 0

    def on_start(self) -> None:
        self.lines.append(("start",))

    def on_stop(self) -> None:
        self.lines.append(("stop",))

    def on_tick(self, tick: Any) -> None:
        self.lines.append(("tick", tick.symbol, tick.sequence))
        if tick.sequence % 3 == 0:
            number = self.buy(tick.symbol, 1.0, tick.last_price)
            self.first = self.first or number
            if tick.sequence % 2:
                self.cancel_order(number)

    def on_trade_tick(self, trade_tick: Any) -> None:
        self.lines.append(("trade_tick", trade_tick.trade_id))

    def on_order(self, order: Any) -> None:
        self.lines.append(("order", order.client_order_id - self.first, order.status, order.action))

    def on_trade(self, trade: Any) -> None:
        held = self.positions[trade.symbol].quantity
        self.lines.append(("trade", trade.client_order_id - self.first, trade.price, held))


class FillsNext:
    """An exchange that accepts, and fills at the next tick of the symbol; cancels if it can."""

    def __init__(self) -> None:
        self.open: dict[int, tuple[str, Any]] = {}

    def on_order(self, who: str, order: Any) -> list[tuple[str, Any]]:
        if order.action == 2:
            known = self.open.pop(order.client_order_id, None)
            status = OrderStatus.CANCELED if known else OrderStatus.REJECTED
            return [(who, accepted(order, status))]
        self.open[order.client_order_id] = (who, order.copy())
        return [(who, accepted(order))]

    def on_event(self, kind: int, event: Any) -> list[tuple[str, Any]]:
        reports: list[tuple[str, Any]] = []
        if kind == EventKind.TICK:
            for number, (who, order) in list(self.open.items()):
                if order.symbol == event.symbol:
                    del self.open[number]
                    reports += [
                        (who, filled(order, event.last_price)),
                        (who, accepted(order, OrderStatus.FILLED)),
                    ]
        return reports


def live(strategy: BaseStrategy, events: list[Any], exchange: FillsNext) -> None:
    """The same by hand: an engine's loop, event by event."""
    with desk() as made:
        manager = made.manager

        def report(reports: list[tuple[str, Any]]) -> None:
            for who, record in reports:
                manager.report(who, record)

        made.answer = lambda who, order: report(exchange.on_order(who, order))
        made.join(strategy)
        for kind, event in events:
            report(exchange.on_event(kind, event))
            made.settle()
            manager.broadcast_event(event)
            made.settle()


class TestSameAsLive:
    def test_callbacks_and_their_order(self) -> None:
        prints = np.zeros(20, TradeTick.dtype)
        prints["symbol"] = b"BTCUSDT"
        prints["trade_id"] = range(20)
        prints["ts_init"] = SECOND + np.arange(20) * 2 * SECOND
        rows = ticks(40)
        tested = Journal("j")
        result = run_backtest(tested, [rows, prints], exchange=FillsNext())
        merged = sorted(
            [(int(row["ts_init"]), 0, EventKind.TICK, Tick(row)) for row in rows]
            + [(int(row["ts_init"]), 1, EventKind.TRADE_TICK, TradeTick(row)) for row in prints],
            key=lambda item: item[:2],
        )
        lived = Journal("j")
        live(lived, [item[2:] for item in merged], FillsNext())
        assert tested.lines == lived.lines
        kinds = {line[0] for line in tested.lines}
        assert kinds == {"start", "stop", "tick", "trade_tick", "order", "trade"}
        assert result.events == 60
        assert len(result.trades) == 7
        assert result.positions["BTCUSDT"].quantity == 7.0
        assert (result.start_ns, result.end_ns) == (SECOND, 40 * SECOND)

    def test_in_a_process_of_its_own_it_is_the_same_again(self) -> None:
        from desk import Engine, strategy_peer

        rows = ticks(200)
        result = run_backtest(Configurable("c"), rows)
        with Engine("engine") as engine, strategy_peer("Echo", "s") as peer:
            engine.register_strategy("s")
            engine.connected("s")
            rows["sequence"] += 1
            engine.broadcast_batch(rows)
            orders = engine.expect_orders(200)
            assert peer.process.poll() is None
        assert [order.price for _, order in orders] == result.orders["price"].tolist()
        assert result.orders["ts_trigger"].tolist() == rows["ts_init"].tolist()


class Configurable(BaseStrategy):
    def on_tick(self, tick: Any) -> None:
        self.buy(tick.symbol, 1.0, tick.last_price)


class TestTime:
    def test_it_is_the_events(self) -> None:
        class Looks(BaseStrategy):
            def on_start(self) -> None:
                self.times = [self.time_ns()]

            def on_tick(self, tick: Any) -> None:
                self.times.append(self.time_ns())
                self.buy(tick.symbol, 1.0, 1.0)

        strategy = Looks("s")
        result = run_backtest(strategy, ticks(3))
        assert strategy.times == [SECOND, SECOND, 2 * SECOND, 3 * SECOND]
        assert result.orders["ts_init"].tolist() == [SECOND, 2 * SECOND, 3 * SECOND]

    def test_a_time_that_jumps_by_half_a_century_fires_a_timer_once(self) -> None:
        class Timed(Journal):
            def on_start(self) -> None:
                self.set_timer("a", 1.0)

            def on_tick(self, tick: Any) -> None:
                self.lines.append(("tick", tick.sequence))

            def on_timer(self, timer: Any) -> None:
                self.lines.append((timer.name, timer.count, self.timer_passed_over))

        rows = ticks(3)
        rows["ts_init"] = [0, 1_700_000_000 * SECOND, 1_700_000_002 * SECOND]
        strategy = Timed()
        run_backtest(strategy, rows)
        assert strategy.lines == [
            ("tick", 0),
            ("a", 1, 1_700_000_000 - 1),
            ("tick", 1),
            ("a", 2, 0),
            ("a", 3, 0),
            ("tick", 2),
            ("stop",),
        ]

    def test_one_that_is_set_anew_each_time_does_not_live_through_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backtest, "MOST_AT_ONCE", 10)

        class Chain(Journal):
            def on_start(self) -> None:
                self.set_timer("a", 1.0, repeat=False)

            def on_tick(self, tick: Any) -> None:
                pass

            def on_timer(self, timer: Any) -> None:
                self.lines.append((self.time_ns(),))
                self.set_timer("a", 1.0, repeat=False)

        rows = ticks(2)
        rows["ts_init"] = [0, 1_700_000_000 * SECOND]
        strategy = Chain()
        run_backtest(strategy, rows)
        times = [time for (time,) in strategy.lines[:-1]]
        assert times == [n * SECOND for n in range(1, 11)] + [1_700_000_000 * SECOND]

    def test_timers_fire_between_events_each_at_its_time(self) -> None:
        class Timed(BaseStrategy):
            def on_start(self) -> None:
                self.lines: list[tuple[str, int]] = []
                self.set_timer("a", 0.4)
                self.set_timer("b", 1.0, repeat=False)

            def on_tick(self, tick: Any) -> None:
                self.lines.append(("tick", self.time_ns()))

            def on_timer(self, timer: Any) -> None:
                assert timer.ts_event == timer.ts_init == self.time_ns()
                self.lines.append((timer.name, self.time_ns()))

        strategy = Timed("s")
        run_backtest(strategy, ticks(3))
        tenth = SECOND // 10
        assert strategy.lines == [
            ("tick", 10 * tenth),
            ("a", 14 * tenth),
            ("a", 18 * tenth),
            ("b", 20 * tenth),
            ("tick", 20 * tenth),
            ("a", 22 * tenth),
            ("a", 26 * tenth),
            ("a", 30 * tenth),
            ("tick", 30 * tenth),
        ]

    def test_it_never_goes_back(self) -> None:
        rows = ticks(3)
        rows["ts_init"] = [5 * SECOND, 3 * SECOND, 6 * SECOND]

        class Looks(BaseStrategy):
            times: tuple[int, ...] = ()

            def on_tick(self, tick: Any) -> None:
                self.times += (self.time_ns() // SECOND,)

        strategy = Looks("s")
        run_backtest(strategy, rows)
        assert strategy.times == (5, 5, 6)


class TestSources:
    def test_arrays_pairs_and_classes(self) -> None:
        rows = ticks(5)
        pairs = [(EventKind.TICK, rows[:3]), (EventKind.BAR, np.zeros(2, Bar.dtype))]
        assert run_backtest(Configurable, rows).events == 5
        assert run_backtest(Configurable, rows[:0]).events == 0
        assert run_backtest(Configurable, []).events == 0
        assert run_backtest(Configurable, iter(pairs)).events == 5
        assert run_backtest(Configurable, pairs).events == 5
        assert run_backtest(Configurable, ((EventKind.TICK, row) for row in rows)).events == 5

    @pytest.mark.parametrize("as_text", [True, False])
    def test_a_capture_by_its_path(self, tmp_path: Path, as_text: bool) -> None:
        path = tmp_path / "capture"
        path.write_bytes(b"\n".join(made_capture(600, 3)))
        by_path, by_feed = Journal("j"), Journal("j")
        result = run_backtest(by_path, str(path) if as_text else path, exchange=FillsNext())
        assert result.events == run_backtest(by_feed, feed(path), exchange=FillsNext()).events
        assert by_path.lines == by_feed.lines
        assert {"tick", "trade_tick", "trade"} <= {line[0] for line in by_path.lines}
        with pytest.raises(FileNotFoundError):
            run_backtest(Journal("j"), tmp_path / "nothing")

    def test_symbols_and_levels(self) -> None:
        both = [ticks(5), ticks(5, b"ETHUSDT")]
        result = run_backtest(Configurable, both, symbols=["ETHUSDT"])
        assert set(result.orders["symbol"]) == {b"ETHUSDT"}
        books = np.zeros(2, order_book_type(3).dtype)
        assert run_backtest(Configurable, books, book_levels=3).events == 2
        with pytest.raises(SchemaMismatch):
            run_backtest(Configurable, books)

    def test_what_holds_no_events_is_an_error_and_nothing_is_left(self, shm_dir: Path) -> None:
        for source in (
            np.zeros(3),
            np.zeros(3, np.dtype([("a", "<i8")])),
            [ticks(1), np.zeros(3)],
            [(EventKind.BAR, ticks(1))],
            [(99, ticks(1))],
        ):
            with pytest.raises(SchemaMismatch):
                run_backtest(Configurable, source)
            assert list(shm_dir.iterdir()) == []


class TestEnds:
    def test_what_a_callback_raises_comes_out_and_nothing_is_left(self, shm_dir: Path) -> None:
        class Fails(BaseStrategy):
            def on_tick(self, tick: Any) -> None:
                self.buy(tick.symbol, 1.0, 1.0)
                raise LookupError(tick.sequence)

        strategy = Fails("s", engine="mine")
        with pytest.raises(LookupError):
            run_backtest(strategy, ticks(3))
        assert list(shm_dir.iterdir()) == []
        assert strategy.engine == "mine"
        result = run_backtest(strategy, ticks(3), on_exception="log")
        assert (result.errors, result.events, len(result.orders)) == (3, 3, 3)

    def test_stop_ends_it_at_that_event(self) -> None:
        class Stops(BaseStrategy):
            def on_tick(self, tick: Any) -> None:
                if tick.sequence == 2:
                    self.stop()

            def on_stop(self) -> None:
                self.sell("BTCUSDT", 1.0)

        result = run_backtest(Stops, ticks(10))
        assert result.events == 3
        assert result.orders["side"].tolist() == [-1], "orders of on_stop count"

    def test_the_same_again_gives_the_same(self) -> None:
        found = [run_backtest(Journal("j"), ticks(50), exchange=FillsNext()) for _ in range(2)]
        for field in ("price", "quantity", "commission"):
            assert found[0].trades[field].tolist() == found[1].trades[field].tolist()

    def test_on_batch_works_too(self) -> None:
        class Batch(BaseStrategy):
            count = 0

            def on_batch(self, kind: int, records: Any) -> None:
                self.count += len(records)

        strategy = Batch("b")
        run_backtest(strategy, [ticks(10), np.zeros(3, OrderBook.dtype)])
        assert strategy.count == 13
