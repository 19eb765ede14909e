"""The engine's side: who is registered, what is broadcast to whom, and what a latecomer is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from desk import (
    Desk,
    Engine,
    accepted,
    desk,
    discard_rings,
    filled,
    order_of,
    tick,
)
from helpers import segment_path
from shmipc import Closed, Full, Producer, SchemaMismatch
from shmipc.trading.events import (
    Account,
    Bar,
    Custom,
    EventKind,
    Order,
    OrderBook,
    OrderStatus,
    Position,
    Tick,
    Timer,
    TradeTick,
    order_book_type,
)
from shmipc.trading.strategy import BaseStrategy, StrategyManager, UnknownStrategy


class Sees(BaseStrategy):
    """Keeps everything, in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[Any] = []
        self.at_start: Any = None

    def on_start(self) -> None:
        self.at_start = (dict(self.orders), dict(self.positions), self.account)

    def on_tick(self, tick: Any) -> None:
        self.seen.append(tick.copy())

    on_trade_tick = on_order_book = on_bar = on_custom = on_tick


@pytest.fixture
def floor() -> Iterator[Desk]:
    with desk() as made:
        yield made


class TestRegistering:
    def test_a_duplicate_id_is_an_error(self, floor: Desk) -> None:
        floor.manager.register_strategy("a")
        with pytest.raises(ValueError, match="'a' is registered already"):
            floor.manager.register_strategy("a")
        assert len(floor.manager.list_strategies()) == 1

    @pytest.mark.parametrize("name", ["", "a.b", "-a", "a" * 65, "a/b", "ä"])
    def test_a_bad_id_is_an_error(self, floor: Desk, name: str) -> None:
        with pytest.raises(ValueError, match="a name is 1 to 64"):
            floor.manager.register_strategy(name)
        with pytest.raises(ValueError, match="a name is 1 to 64"):
            StrategyManager(name)
        if name:
            with pytest.raises(ValueError, match="a name is 1 to 64"):
                BaseStrategy(name)
        assert floor.manager.list_strategies() == []

    def test_an_unknown_id_is_an_error(self, floor: Desk) -> None:
        for call in (
            lambda: floor.manager.unregister_strategy("ghost"),
            lambda: floor.manager.report("ghost", order_of()),
            lambda: floor.manager.broadcast_event(tick(), filter=["ghost"]),
            lambda: floor.manager.wait_until_connected(["ghost"]),
            lambda: floor.manager.restore("ghost", []),
        ):
            with pytest.raises(UnknownStrategy, match="no strategy 'ghost' is registered"):
                call()
        with pytest.raises(KeyError):
            floor.manager.stop("ghost")

    def test_there_is_a_most(self) -> None:
        with StrategyManager("desk", max_strategies=2) as manager:
            manager.register_strategy("a")
            manager.register_strategy("b")
            with pytest.raises(Full, match="max_strategies=2"):
                manager.register_strategy("c")
            manager.unregister_strategy("a")
            manager.register_strategy("c")
        for count in (0, 1025):
            with pytest.raises(ValueError, match="max_strategies"):
                StrategyManager("desk", max_strategies=count)

    def test_bad_settings_are_errors(self) -> None:
        for options in (
            {"slow": "never"},
            {"patience": 0},
            {"book_levels": 0},
            {"custom": {5: Tick}},
            {"custom": {1024: np.dtype([("a", "<i8")])}},
            {"custom": {1024: Tick.dtype}},
            {"instruments": ["A" * 16]},
        ):
            with pytest.raises(ValueError):  # noqa: PT011
                StrategyManager("desk", **options)
        with pytest.raises(TypeError, match="must be an iterable"):
            StrategyManager("desk", instruments="BTCUSDT")
        with StrategyManager("desk", instruments=["BTCUSDT"]) as manager:
            with pytest.raises(ValueError, match="unknown symbol 'DOGE'"):
                manager.register_strategy("a", ["DOGE"])
            with pytest.raises(TypeError, match="must be an iterable"):
                manager.register_strategy("a", "BTCUSDT")

    def test_a_second_engine_of_the_name_is_busy_and_harms_nobody(self, floor: Desk) -> None:
        strategy = Sees("a")
        floor.join(strategy)
        with pytest.raises(FileExistsError, match="already has a producer"):
            StrategyManager("desk")
        floor.manager.broadcast_event(tick())
        floor.settle()
        assert len(strategy.seen) == 1

    def test_what_a_closed_engine_says(self) -> None:
        manager = StrategyManager("desk")
        manager.register_strategy("a")
        manager.close()
        manager.close()
        with pytest.raises(Closed):
            manager.broadcast_event(tick())
        with pytest.raises(Closed):
            manager.register_strategy("b")
        with pytest.raises(Closed):
            manager.report("a", order_of())

    def test_registered_again_it_gets_the_reports_that_it_had_not_read(self) -> None:
        with StrategyManager("desk") as manager:
            manager.register_strategy("a")
            manager.report("a", order_of())
            manager.unregister_strategy("a")
            assert manager.list_strategies() == []
            assert segment_path("desk.a.reports").exists()
        with desk() as made:
            strategy = Hears("a")
            made.join(strategy)
            assert [order.client_order_id for order in strategy.heard] == [1]

    def test_an_answer_that_nobody_read_is_owed_to_nobody(self, shm_dir: Path) -> None:
        with StrategyManager("desk") as manager:
            manager.register_strategy("a")
            strategy = Sees("a", engine="desk")
            with strategy._run_as(0, None, "raise") as runtime:
                while not runtime.session.asked_at:
                    runtime.step(0)
                while manager.list_strategies()[0].state != "connected":
                    manager.poll()
                runtime.shut()
        assert list(shm_dir.iterdir()) == []

    def test_what_nobody_is_owed_is_removed(self) -> None:
        with StrategyManager("desk") as manager:
            manager.register_strategy("a")
            manager.unregister_strategy("a")
            assert not segment_path("desk.a.reports").exists()
            manager.register_strategy("a")


class Hears(BaseStrategy):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard: list[Any] = []

    def on_order(self, order: Any) -> None:
        self.heard.append(order.copy())


class TestBroadcasting:
    def test_each_kind_comes_to_its_callback_in_order(self, floor: Desk) -> None:
        strategy = Sees("a")
        floor.join(strategy)
        sent = [
            tick(price=1.5),
            TradeTick(symbol="BTCUSDT", price=2.5),
            OrderBook(symbol="BTCUSDT", sequence=3),
            Bar(symbol="BTCUSDT", close_price=4.5),
            Custom(symbol="BTCUSDT", name="signal", code=5),
        ]
        for event in sent:
            floor.manager.broadcast_event(event)
        floor.settle()
        assert strategy.seen == sent

    def test_on_ticker_is_on_tick(self, floor: Desk) -> None:
        class Old(BaseStrategy):
            got = 0

            def on_ticker(self, tick: Any) -> None:
                self.got += 1

        strategy = Old("old")
        floor.join(strategy)
        floor.manager.broadcast_event(tick())
        floor.settle()
        assert strategy.got == 1

    def test_rows_items_and_records_are_alike(self, floor: Desk) -> None:
        strategy = Sees("a")
        floor.join(strategy)
        rows = np.zeros(4, Tick.dtype)
        rows["symbol"] = b"BTCUSDT"
        rows["sequence"] = range(4)
        floor.manager.broadcast_event(Tick(rows[0]))
        floor.manager.broadcast_event(rows[1])
        floor.manager.broadcast_event(rows[2:3])
        floor.manager.broadcast_event(rows[3:4].reshape(()))
        assert floor.manager.broadcast_batch(rows) == 4
        assert floor.manager.broadcast_batch(rows[::2]) == 2
        assert floor.manager.broadcast_batch([rows[0], Bar(), TradeTick(), rows[1:2]]) == 4
        assert floor.manager.broadcast_batch(rows[:0]) == 0
        floor.settle()
        got = [(type(event).__name__, getattr(event, "sequence", None)) for event in strategy.seen]
        ticks = [("Tick", n) for n in (0, 1, 2, 3, 0, 1, 2, 3, 0, 2, 0)]
        assert got == [*ticks, ("Bar", None), ("TradeTick", None), ("Tick", 1)]

    @pytest.mark.parametrize(
        "event",
        [
            pytest.param(np.zeros(1, np.dtype([("a", "<i8")])), id="a dtype of something else"),
            pytest.param(np.zeros(2, Tick.dtype), id="two events"),
            pytest.param(np.zeros(1, order_book_type(5).dtype), id="a book of other levels"),
            pytest.param(b"x" * 128, id="bytes of the right length"),
            pytest.param(Order(), id="an order"),
            pytest.param(Timer(), id="a timer"),
            pytest.param(None, id="None"),
            pytest.param({"symbol": "BTCUSDT"}, id="a dict"),
        ],
    )
    def test_an_event_of_the_wrong_dtype_is_an_error_and_nothing_is_sent(
        self, floor: Desk, event: Any
    ) -> None:
        strategy = Sees("a")
        floor.join(strategy)
        with pytest.raises(SchemaMismatch):
            floor.manager.broadcast_event(event)
        with pytest.raises(TypeError):
            floor.manager.broadcast_event(event, filter=["a"])
        if not (isinstance(event, np.ndarray) and event.dtype == Tick.dtype):
            with pytest.raises(TypeError):
                floor.manager.broadcast_batch([tick(), event])
        floor.manager.broadcast_event(tick(price=7.0))
        floor.settle()
        assert [event.last_price for event in strategy.seen] == [7.0]

    def test_only_subscribed_symbols_come(self, floor: Desk) -> None:
        own = Sees("own", symbols=["BTCUSDT"])
        given = Sees("given")
        both = Sees("both", symbols=["BTCUSDT"])
        every = Sees("every")
        floor.join(own)
        floor.join(given, symbols=["ETHUSDT"])
        floor.join(both, symbols=["BTCUSDT", "ETHUSDT"])
        floor.join(every)
        for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSD", "BTCUSDTX", ""):
            floor.manager.broadcast_event(Tick(symbol=symbol))
        floor.settle()
        assert [event.symbol for event in own.seen] == ["BTCUSDT", ""]
        assert [event.symbol for event in given.seen] == ["ETHUSDT", ""]
        assert [event.symbol for event in both.seen] == ["BTCUSDT", ""]
        assert len(every.seen) == 5

    def test_a_symbol_that_the_engine_does_not_have_is_an_error(self) -> None:
        unknown = pytest.raises(ValueError, match="unknown symbol 'DOGE'")
        with desk(instruments=["BTCUSDT"]) as made, unknown:
            made.join(Sees("a", symbols=["DOGE"]))
        with desk() as made, pytest.raises(ValueError, match="asks for 'ETHUSDT'"):
            made.join(Sees("a", symbols=["ETHUSDT"]), symbols=["BTCUSDT"])

    def test_a_filter_picks_strategies(self, floor: Desk) -> None:
        names = [f"s{number}" for number in range(5)]
        strategies = {name: Sees(name) for name in names}
        for strategy in strategies.values():
            floor.join(strategy)
        floor.manager.broadcast_event(tick(sequence=1), filter=["s1", "s4"])
        floor.manager.broadcast_event(tick(sequence=2), filter=lambda name: name < "s2")
        floor.manager.broadcast_event(tick(sequence=3), filter=[])
        floor.manager.broadcast_event(tick(sequence=4))
        with pytest.raises(TypeError, match="must be an iterable"):
            floor.manager.broadcast_event(tick(), filter="s1")
        floor.settle()
        got = {name: [event.sequence for event in s.seen] for name, s in strategies.items()}
        assert got == {"s0": [2, 4], "s1": [1, 2, 4], "s2": [4], "s3": [4], "s4": [1, 4]}
        assert len(bytes(strategies["s1"].seen[0])) == Tick.dtype.itemsize

    def test_events_of_ones_own(self) -> None:
        dtype = np.dtype(
            [("symbol", "S16"), ("ts_event", "<i8"), ("ts_init", "<i8"), ("spread", "<f8", (4,))]
        )

        class Own(Sees):
            custom = {2000: dtype}  # noqa: RUF012

        with desk(custom={2000: dtype}) as made:
            strategy, other = Own("own"), Sees("other")
            made.join(strategy)
            made.join(other)
            row = np.zeros(1, dtype)
            row["spread"] = [[1, 2, 3, 4]]
            made.manager.broadcast_event(row)
            made.manager.broadcast_event(tick())
            made.settle()
            assert strategy.seen[0].spread.tolist() == [1, 2, 3, 4]
            assert [len(s.seen) for s in (strategy, other)] == [2, 1]

    def test_books_of_other_depths(self) -> None:
        with desk(book_levels=3) as made:
            strategy = Sees("a")
            made.join(strategy)
            book = order_book_type(3)(symbol="BTCUSDT", bid_count=2)
            book.bid_prices = [5.0, 4.0, 0.0]
            made.manager.broadcast_event(book)
            made.settle()
            assert strategy.seen == [book]
            with pytest.raises(SchemaMismatch, match="book_levels=3"):
                made.manager.broadcast_event(OrderBook())

    def test_on_batch_gets_everything_and_nothing_else_is_called(self, floor: Desk) -> None:
        class Batch(Sees):
            def on_batch(self, kind: int, records: Any) -> None:
                self.seen.append((kind, records))

        strategy = Batch("a", symbols=["BTCUSDT"])
        floor.join(strategy)
        rows = np.zeros(100, Tick.dtype)
        rows["symbol"] = b"BTCUSDT"
        rows["symbol"][::10] = b"ETHUSDT"
        rows["sequence"] = range(100)
        floor.manager.broadcast_batch(rows)
        floor.manager.broadcast_event(Bar(symbol="BTCUSDT"))
        floor.settle()
        ticks = np.concatenate([part for kind, part in strategy.seen if kind == EventKind.TICK])
        assert np.array_equal(ticks, rows[rows["symbol"] == b"BTCUSDT"])
        assert [kind for kind, _ in strategy.seen][-1] == EventKind.BAR
        kept = strategy.seen[0][1].copy()
        for _ in range(1000):
            floor.manager.broadcast_batch(rows)
            floor.settle()
        assert np.array_equal(strategy.seen[0][1], kept), "arrays stay"


class TestSnapshot:
    def test_a_latecomer_is_told_how_things_stand(self, floor: Desk) -> None:
        manager = floor.manager
        manager.register_strategy("late")
        for price in (1.0, 2.0, 3.0):
            manager.broadcast_event(tick("BTCUSDT", price))
            manager.broadcast_event(tick("ETHUSDT", price * 10))
        manager.broadcast_event(OrderBook(symbol="BTCUSDT", sequence=8))
        manager.broadcast_batch(np.atleast_1d(np.asarray(tick("XRPUSDT", 5.0))))
        manager.report("late", accepted(order_of(client_order_id=1)))
        manager.report("late", accepted(order_of(client_order_id=2)))
        manager.report("late", accepted(order_of(client_order_id=1), OrderStatus.FILLED))
        manager.report("late", filled(order_of(client_order_id=1), 50.0))
        manager.report("late", Account(symbol="USDT", balance=77.0))
        strategy = Sees("late")
        floor.join(strategy, register=False)
        snapshot = strategy.snapshot
        assert {name: last.last_price for name, last in snapshot.ticks.items()} == {
            "BTCUSDT": 3.0,
            "ETHUSDT": 30.0,
            "XRPUSDT": 5.0,
        }
        assert snapshot.books["BTCUSDT"].sequence == 8
        orders, positions, account = strategy.at_start
        assert list(orders) == [2]
        assert positions["BTCUSDT"].quantity == 1.0
        assert account.balance == 77.0
        assert strategy.seen == [], "what is in the snapshot is not an event again"
        manager.broadcast_event(tick(price=4.0))
        floor.settle()
        assert [event.last_price for event in strategy.seen] == [4.0]

    def test_an_event_while_it_joins_comes_once(self, floor: Desk) -> None:
        """Attached and asked, but not yet answered: in the snapshot. Answered: an event."""
        floor.manager.register_strategy("a")
        strategy = Sees("a", engine="desk")
        with strategy._run_as(0, None, "raise") as runtime:
            while not runtime.session.asked_at:
                runtime.step(0)
            floor.manager.broadcast_event(tick(price=1.0))
            while floor.manager.list_strategies()[0].state != "connected":
                floor.manager.poll()
            floor.manager.broadcast_event(tick(price=2.0))
            while not strategy.seen:
                runtime.step(0)
            assert strategy.snapshot.ticks["BTCUSDT"].last_price == 1.0
            assert [event.last_price for event in strategy.seen] == [2.0]
            runtime.shut()
        floor.manager.poll()

    def test_it_shows_only_what_a_strategy_may_see(self, floor: Desk) -> None:
        floor.manager.broadcast_event(tick("BTCUSDT"))
        floor.manager.broadcast_event(tick("ETHUSDT"))
        strategy = Sees("a")
        floor.join(strategy, symbols=["ETHUSDT"])
        assert list(strategy.snapshot.ticks) == ["ETHUSDT"]

    def test_instruments_are_named_with_what_is_known_of_them(self) -> None:
        named = {"BTCUSDT": {"price_increment": 0.1, "size_increment": 0.001}, "ETHUSDT": {}}
        with desk(instruments=named) as made:
            strategy = Sees("a")
            made.join(strategy)
            assert list(strategy.instruments) == ["BTCUSDT", "ETHUSDT"]
            assert strategy.instruments["BTCUSDT"].price_increment == 0.1

    def test_one_larger_than_the_ring_of_reports_arrives_whole(self) -> None:
        with desk(report_capacity=4096) as made:
            for number in range(500):
                made.manager.broadcast_event(tick(f"S{number}", float(number)))
            strategy = Sees("a")
            made.join(strategy)
            assert len(strategy.snapshot.ticks) == 500
            assert strategy.snapshot.ticks["S499"].last_price == 499.0

    def test_what_a_former_engine_knew_can_be_restored(self, floor: Desk) -> None:
        floor.manager.register_strategy("a")
        floor.manager.restore(
            "a", [accepted(order_of(client_order_id=9)), Position(symbol="ETHUSDT", quantity=2.0)]
        )
        strategy = Hears("a")
        floor.join(strategy, register=False)
        assert list(strategy.orders) == [9]
        assert strategy.positions["ETHUSDT"].quantity == 2.0
        assert strategy.heard == []
        strategy.cancel_order(9)
        floor.settle()
        assert [order.client_order_id for _, order in floor.orders] == [9]


class TestReports:
    def test_they_come_to_one_strategy_only(self, floor: Desk) -> None:
        a, b = Hears("a"), Hears("b")
        floor.join(a)
        floor.join(b)
        floor.manager.report("a", order_of(client_order_id=4))
        floor.settle()
        assert [order.client_order_id for order in a.heard] == [4]
        assert b.heard == []

    @pytest.mark.parametrize("record", [tick(), None, b"", np.zeros(2, Order.dtype), Timer()])
    def test_what_is_no_report_is_an_error(self, floor: Desk, record: Any) -> None:
        floor.manager.register_strategy("a")
        with pytest.raises(SchemaMismatch):
            floor.manager.report("a", record)
        with pytest.raises(SchemaMismatch):
            floor.manager.restore("a", [order_of(), record])
        assert floor.manager.list_strategies()[0].open_orders == 0

    def test_beyond_the_ring_they_wait_and_beyond_the_limit_it_is_full(self) -> None:
        with desk(report_capacity=4096) as made:
            strategy = Hears("a")
            made.join(strategy)
            made.manager._roster.links["a"].backlog_limit = 50
            sent = 0
            with pytest.raises(Full, match="'a' does not read"):  # noqa: PT012
                while True:
                    sent += 1
                    made.manager.report("a", order_of(client_order_id=sent))
            assert made.manager.list_strategies()[0].waiting_reports == 50
            assert sent not in made.manager._roster.links["a"].open
            while made.manager.list_strategies()[0].waiting_reports:
                made.settle()
                made.manager.poll()
            made.settle()
            assert [order.client_order_id for order in strategy.heard] == list(range(1, sent))


class TestWaiting:
    def test_wait_returns_at_once_for_orders_and_false_in_time(self, floor: Desk) -> None:
        strategy = Sees("a")
        floor.join(strategy)
        assert not floor.manager.wait(0.0)
        began = time.monotonic()
        assert not floor.manager.wait(0.15)
        assert time.monotonic() - began >= 0.15
        strategy.buy("BTCUSDT", 1.0, 1.0)
        assert floor.manager.wait(0.0)
        assert floor.manager.wait(None)
        floor.settle()

    def test_an_idle_engine_sleeps(self, floor: Desk) -> None:
        for number in range(20):
            floor.join(Sees(f"s{number}"))
        before, began = time.process_time(), time.monotonic()
        floor.manager.wait(1.0)
        floor.manager.receive_orders(floor.take, timeout=1.0)
        share = (time.process_time() - before) / (time.monotonic() - began)
        assert share < 0.2, f"{share:.0%} of a core"

    def test_poll_leaves_orders_where_they_are(self, floor: Desk) -> None:
        strategy = Sees("a")
        floor.join(strategy)
        number = strategy.buy("BTCUSDT", 1.0, 1.0)
        for _ in range(3):
            floor.manager.poll()
        assert floor.manager.list_strategies()[0].open_orders == 0
        floor.settle()
        assert [order.client_order_id for _, order in floor.orders] == [number]


def test_a_message_that_is_no_order_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with Engine() as engine:
        engine.register_strategy("a")
        with Producer("engine.a.orders", max_consumers=1) as forged:
            forged.send(b"nonsense", kind=EventKind.ORDER)
            forged.send(b"nonsense", kind=999)
            forged.send(order_of(client_order_id=3), kind=EventKind.ORDER)
            assert engine.expect_orders(1)[0][1].client_order_id == 3
            assert engine.list_strategies()[0].errors == 1
        engine.until(lambda: engine._roster.links["a"].orders is None)
    assert "nonsense" not in caplog.text
    assert "has kind" in caplog.text
    discard_rings("engine", "a")


def test_a_strategy_of_another_schema_is_refused() -> None:
    from shmipc import Error
    from shmipc.trading.strategy import session

    with desk() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "VERSION", 999)
        with pytest.raises(Error, match="version 999"):
            made.join(Sees("a"))
