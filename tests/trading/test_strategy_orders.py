"""Orders: what a strategy may send, what the engine gets of it, and what both know of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from desk import Desk, accepted, desk, filled, order_of, tick
from shmipc import Full
from shmipc.trading.events import (
    Account,
    Order,
    OrderAction,
    OrderStatus,
    OrderType,
    Position,
    Side,
    TimeInForce,
)
from shmipc.trading.strategy import BaseStrategy


class Trader(BaseStrategy):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard: list[Any] = []

    def on_order(self, order: Any) -> None:
        self.heard.append(order.copy())

    def on_trade(self, trade: Any) -> None:
        self.heard.append(trade.copy())

    def on_account(self, account: Any) -> None:
        self.heard.append(account.copy())

    def on_position(self, position: Any) -> None:
        self.heard.append(position.copy())


@pytest.fixture
def floor() -> Iterator[tuple[Desk, Trader]]:
    with desk(instruments=["BTCUSDT", "ETHUSDT"]) as made:
        trader = Trader("trader")
        made.join(trader)
        yield made, trader


class TestSending:
    def test_a_limit_order_arrives_as_it_was_sent(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        before = trader.time_ns()
        number = trader.send_order("BTCUSDT", Side.BUY, 0.5, 61000.5)
        made.settle()
        [(who, order)] = made.orders
        assert who == "trader"
        assert (order.symbol, order.side, order.quantity, order.price) == (
            "BTCUSDT",
            Side.BUY,
            0.5,
            61000.5,
        )
        assert order.client_order_id == number
        assert order.order_type == OrderType.LIMIT
        assert order.time_in_force == TimeInForce.GTC
        assert order.action == OrderAction.NEW
        assert order.status == OrderStatus.SUBMITTED
        assert before <= order.ts_init <= trader.time_ns()
        assert order.filled_quantity == 0.0
        assert order.text == ""

    def test_without_a_price_it_is_a_market_order(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        trader.sell("ETHUSDT", 2)
        made.settle()
        order = made.orders[0][1]
        assert (order.order_type, order.time_in_force, order.side) == (
            OrderType.MARKET,
            TimeInForce.IOC,
            Side.SELL,
        )
        assert math.isnan(order.price)

    def test_a_prepared_order_leaves_nothing_behind(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        trader.buy("BTCUSDT", 1.0, 5.0)
        trader.sell("BTCUSDT", 2.0, 6.0)
        trader.buy("ETHUSDT", 3.0, 7.0, time_in_force=TimeInForce.POST_ONLY)
        trader.buy("BTCUSDT", 4.0, 8.0)
        trader.buy("BTCUSDT", 5.0, 9.0, order_type=OrderType.STOP_MARKET)
        made.settle()
        assert [
            (o.symbol, o.side, o.quantity, o.price, o.order_type, o.time_in_force)
            for _, o in made.orders
        ] == [
            ("BTCUSDT", 1, 1.0, 5.0, OrderType.LIMIT, TimeInForce.GTC),
            ("BTCUSDT", -1, 2.0, 6.0, OrderType.LIMIT, TimeInForce.GTC),
            ("ETHUSDT", 1, 3.0, 7.0, OrderType.LIMIT, TimeInForce.POST_ONLY),
            ("BTCUSDT", 1, 4.0, 8.0, OrderType.LIMIT, TimeInForce.GTC),
            ("BTCUSDT", 1, 5.0, 9.0, OrderType.STOP_MARKET, TimeInForce.GTC),
        ]
        assert [trader.orders[o.client_order_id] == o for _, o in made.orders] == [True] * 5

    def test_ids_rise_and_are_above_all_former_ones(self, floor: tuple[Desk, Trader]) -> None:
        _, trader = floor
        former = trader.time_ns() - 10**9
        numbers = [trader.buy("BTCUSDT", 1.0, 1.0) for _ in range(100)]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > former
        assert trader.buy("BTCUSDT", 1.0, 1.0, client_order_id=5) == 5
        assert trader.buy("BTCUSDT", 1.0, 1.0) > numbers[-1]

    def test_an_order_knows_the_event_that_set_it_off(self) -> None:
        class Reacts(Trader):
            def on_tick(self, tick: Any) -> None:
                self.buy(tick.symbol, 1.0, tick.last_price)

        with desk() as made:
            made.join(Reacts("reacts"))
            made.manager.broadcast_event(tick(ts_init=123456789))
            made.settle()
            assert made.orders[0][1].ts_trigger == 123456789

    def test_full_is_an_error_and_nothing_is_booked(self) -> None:
        with desk() as made:
            trader = Trader("trader", order_capacity=4096)
            made.join(trader)
            sent = []
            with pytest.raises(Full, match="behind"):  # noqa: PT012
                while True:
                    sent.append(trader.buy("BTCUSDT", 1.0, 1.0))
            assert list(trader.orders) == sent
            with pytest.raises(Full, match="CANCEL"):
                trader.cancel_order(sent[0])
            made.settle()
            assert [order.client_order_id for _, order in made.orders] == sent
            assert trader.buy("BTCUSDT", 1.0, 1.0) > sent[-1]

    def test_outside_a_run_nothing_can_be_sent(self) -> None:
        trader = Trader("trader")
        with pytest.raises(RuntimeError, match="not running"):
            trader.buy("BTCUSDT", 1.0, 1.0)
        with pytest.raises(RuntimeError, match="not running"):
            trader.set_timer("a", 1.0)
        assert trader.orders == {}


BAD = [
    pytest.param(ValueError, "unknown symbol", {"symbol": "DOGEUSDT"}, id="unknown symbol"),
    pytest.param(ValueError, "16 bytes", {"symbol": "A" * 16}, id="long symbol"),
    pytest.param(ValueError, "symbol", {"symbol": ""}, id="empty symbol"),
    pytest.param(TypeError, "symbol", {"symbol": 5}, id="symbol of no str"),
    pytest.param(TypeError, "symbol", {"symbol": ["BTCUSDT"]}, id="unhashable symbol"),
    pytest.param(ValueError, "quantity", {"quantity": math.nan}, id="NaN quantity"),
    pytest.param(ValueError, "quantity", {"quantity": -1.0}, id="negative quantity"),
    pytest.param(ValueError, "quantity", {"quantity": 0}, id="no quantity"),
    pytest.param(ValueError, "quantity", {"quantity": math.inf}, id="infinite quantity"),
    pytest.param(TypeError, "quantity", {"quantity": "1"}, id="quantity of text"),
    pytest.param(TypeError, "quantity", {"quantity": None}, id="None quantity"),
    pytest.param(ValueError, "price", {"price": math.nan}, id="NaN price"),
    pytest.param(ValueError, "price", {"price": -math.inf}, id="infinite price"),
    pytest.param(TypeError, "price", {"price": "100"}, id="price of text"),
    pytest.param(ValueError, "side", {"side": Side.NONE}, id="no side"),
    pytest.param(ValueError, "side", {"side": 2}, id="a side that is none"),
    pytest.param(TypeError, "side", {"side": "buy"}, id="side of text"),
    pytest.param(
        ValueError, "LIMIT needs a price", {"price": None, "order_type": 2}, id="LIMIT, no price"
    ),
    pytest.param(ValueError, "takes no price", {"order_type": 1}, id="MARKET with a price"),
    pytest.param(ValueError, "OrderType", {"order_type": 0}, id="NONE as order type"),
    pytest.param(ValueError, "OrderType", {"order_type": 99}, id="unknown order type"),
    pytest.param(TypeError, "order_type", {"order_type": "limit"}, id="order type of text"),
    pytest.param(ValueError, "TimeInForce", {"time_in_force": 0}, id="NONE as time in force"),
    pytest.param(TypeError, "time_in_force", {"time_in_force": []}, id="time in force of a list"),
    pytest.param(
        ValueError, "post-only", {"price": None, "time_in_force": 5}, id="post-only market order"
    ),
    pytest.param(ValueError, "open order", {"client_order_id": 77}, id="duplicate id"),
    pytest.param(ValueError, "client_order_id", {"client_order_id": 0}, id="id 0"),
    pytest.param(ValueError, "client_order_id", {"client_order_id": -5}, id="negative id"),
    pytest.param(ValueError, "client_order_id", {"client_order_id": 1 << 60}, id="large id"),
    pytest.param(TypeError, "client_order_id", {"client_order_id": "5"}, id="id of text"),
    pytest.param(TypeError, "client_order_id", {"client_order_id": True}, id="id of bool"),
]


@pytest.mark.parametrize(("error", "match", "change"), BAD)
def test_bad_input_is_an_error_and_nothing_is_sent_or_lost(
    floor: tuple[Desk, Trader], error: type[Exception], match: str, change: dict[str, Any]
) -> None:
    made, trader = floor
    trader.buy("BTCUSDT", 1.0, 1.0, client_order_id=77)
    good = {"symbol": "BTCUSDT", "side": 1, "quantity": 1.0, "price": 100.0}
    with pytest.raises(error, match=match):
        trader.send_order(**{**good, **change})
    assert list(trader.orders) == [77]
    last = trader.send_order(**good)  # type: ignore[arg-type]
    made.settle()
    assert [order.client_order_id for _, order in made.orders] == [77, last]
    assert trader.heard == []


def test_numpy_numbers_will_do(floor: tuple[Desk, Trader]) -> None:
    made, trader = floor
    trader.send_order("BTCUSDT", np.int8(-1), np.float64(2.5), np.float32(0.5))
    made.settle()
    order = made.orders[0][1]
    assert (order.side, order.quantity, order.price) == (-1, 2.5, 0.5)


class TestChanging:
    def test_cancel_and_change_arrive_with_what_is_known(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        made.answer = lambda who, order: made.manager.report(who, accepted(order))
        number = trader.buy("BTCUSDT", 2.0, 100.0)
        made.settle()
        trader.modify_order(number, quantity=3.0)
        trader.modify_order(number, price=101.0)
        trader.cancel_order(number)
        made.answer = lambda who, order: None
        made.settle()
        asked = [order for _, order in made.orders[1:]]
        assert [(o.action, o.client_order_id, o.order_id) for o in asked] == [
            (OrderAction.MODIFY, number, 7),
            (OrderAction.MODIFY, number, 7),
            (OrderAction.CANCEL, number, 7),
        ]
        assert [(o.quantity, o.price) for o in asked] == [(3.0, 100.0), (2.0, 101.0), (2.0, 100.0)]
        assert trader.orders[number].quantity == 2.0, "nothing changes until it is reported"

    def test_cancel_all_of_one_symbol(self, floor: tuple[Desk, Trader]) -> None:
        _, trader = floor
        a = trader.buy("BTCUSDT", 1.0, 1.0)
        b = trader.buy("ETHUSDT", 1.0, 1.0)
        assert trader.cancel_all("ETHUSDT") == [b]
        assert trader.cancel_all() == [a, b]

    @pytest.mark.parametrize(
        ("error", "change"),
        [
            (ValueError, {}),
            (ValueError, {"quantity": 0.0}),
            (ValueError, {"quantity": math.nan}),
            (ValueError, {"price": math.inf}),
            (ValueError, {"quantity": 0.5}),
            (TypeError, {"price": "1"}),
        ],
    )
    def test_a_bad_change_is_an_error(
        self, floor: tuple[Desk, Trader], error: type[Exception], change: dict[str, Any]
    ) -> None:
        made, trader = floor
        made.answer = lambda who, order: made.manager.report(
            who, accepted(order, OrderStatus.PARTIALLY_FILLED, filled_quantity=0.5)
        )
        number = trader.buy("BTCUSDT", 1.0, 100.0)
        made.settle()
        with pytest.raises(error):
            trader.modify_order(number, **change)
        made.settle()
        assert len(made.orders) == 1

    def test_an_unknown_order_cannot_be_cancelled_or_changed(
        self, floor: tuple[Desk, Trader]
    ) -> None:
        made, trader = floor
        with pytest.raises(ValueError, match="12345"):
            trader.cancel_order(12345)
        with pytest.raises(ValueError, match="12345"):
            trader.modify_order(12345, quantity=1.0)
        made.settle()
        assert made.orders == []


class TestBooks:
    def test_an_order_is_open_until_it_is_reported_closed(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        number = trader.buy("BTCUSDT", 2.0, 100.0)
        assert trader.orders[number].status == OrderStatus.SUBMITTED
        made.settle()
        order = made.orders[0][1]
        made.manager.report("trader", accepted(order))
        made.settle()
        assert trader.orders[number].status == OrderStatus.ACCEPTED
        assert made.manager.list_strategies()[0].open_orders == 1
        made.manager.report("trader", accepted(order, OrderStatus.FILLED))
        made.settle()
        assert trader.orders == {}
        assert made.manager.list_strategies()[0].open_orders == 0
        assert [heard.status for heard in trader.heard] == [
            OrderStatus.ACCEPTED,
            OrderStatus.FILLED,
        ]

    def test_a_refused_cancellation_closes_nothing(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        number = trader.buy("BTCUSDT", 2.0, 100.0)
        trader.cancel_order(number)
        made.settle()
        cancel = made.orders[1][1]
        made.manager.report("trader", accepted(cancel, OrderStatus.REJECTED))
        made.settle()
        assert list(trader.orders) == [number]
        assert made.manager.list_strategies()[0].open_orders == 1

    def test_fills_make_positions_on_both_sides(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        for side, quantity, price in ((1, 2.0, 100.0), (1, 2.0, 110.0), (-1, 1.0, 120.0)):
            order = order_of(side=side, quantity=quantity)
            made.manager.report("trader", filled(order, price))
        made.settle()
        position = trader.positions["BTCUSDT"]
        assert (position.quantity, position.average_price) == (3.0, 105.0)
        assert (position.realized_pnl, position.trade_count) == (15.0, 3)
        made.manager.report("trader", filled(order_of(side=-1, quantity=4.0), 95.0))
        made.settle()
        position = trader.positions["BTCUSDT"]
        assert (position.quantity, position.average_price) == (-1.0, 95.0)
        assert position.realized_pnl == 15.0 - 30.0

    def test_the_engines_word_on_a_position_counts(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        made.manager.report("trader", filled(order_of()))
        made.manager.report("trader", Position(symbol="BTCUSDT", quantity=9.0))
        made.manager.report("trader", Account(symbol="USDT", balance=5.0))
        made.settle()
        assert trader.positions["BTCUSDT"].quantity == 9.0
        assert trader.account.balance == 5.0
        assert [type(heard).__name__ for heard in trader.heard] == ["Trade", "Position", "Account"]

    def test_records_in_the_books_are_not_ring_memory(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        number = trader.buy("BTCUSDT", 2.0, 100.0)
        made.settle()
        made.manager.report("trader", accepted(made.orders[0][1]))
        made.settle()
        kept = trader.orders[number]
        kept.quantity = 5.0  # would be a TypeError on ring memory
        assert not kept.released


class TestTheEngineRefuses:
    """What an engine is sent by a strategy that does not check."""

    @pytest.mark.parametrize(
        ("text", "change"),
        [
            ("client_order_id is in use", {"client_order_id": 77}),
            ("client_order_id is not positive", {"client_order_id": -1}),
            ("unknown symbol", {"symbol": "DOGEUSDT"}),
            ("quantity is not positive", {"quantity": math.nan}),
            ("quantity is not positive", {"quantity": -1.0}),
            ("quantity is not positive", {"quantity": 0.0}),
            ("quantity is not positive", {"quantity": math.inf}),
            ("price is not finite", {"price": math.nan}),
            ("a market order has no price", {"order_type": 1}),
            ("unknown side", {"side": 0}),
            ("unknown side", {"side": 5}),
            ("unknown order type", {"order_type": 0}),
            ("unknown order type", {"order_type": 9}),
            ("unknown time in force", {"time_in_force": 0}),
            ("unknown time in force", {"time_in_force": 77}),
            ("unknown action", {"action": 9}),
            ("unknown order", {"action": 2}),
            ("unknown order", {"action": 3}),
            ("quantity is not positive", {"client_order_id": 77, "action": 3, "quantity": -1.0}),
        ],
    )
    def test_and_says_why_and_the_callback_never_sees_it(
        self, floor: tuple[Desk, Trader], text: str, change: dict[str, Any]
    ) -> None:
        made, trader = floor
        trader.buy("BTCUSDT", 1.0, 1.0, client_order_id=77)
        made.settle()
        made.manager.report("trader", accepted(made.orders[0][1]))
        made.settle()
        assert trader._runtime.session.orders.try_send(order_of(**change), kind=5)
        made.settle()
        assert [order.client_order_id for _, order in made.orders] == [77]
        answer = trader.heard[-1]
        assert answer.status == OrderStatus.REJECTED
        assert answer.text == text
        assert answer.client_order_id == change.get("client_order_id", 1)
        assert list(trader.orders) == [77], "the order that is open stays open"
        assert made.manager.list_strategies()[0].open_orders == 1

    def test_who_floods_it_and_does_not_listen_waits_alone(self) -> None:
        with desk(report_capacity=4096) as made:
            trader, other = Trader("trader", order_capacity=4096), Trader("other")
            made.join(trader)
            made.join(other)
            link = made.manager._roster.links["trader"]
            link.backlog_limit = 10
            bad = order_of(quantity=-1.0)
            for _ in range(100):
                trader._runtime.session.orders.try_send(bad, kind=5)
                made.manager.receive_orders(made.take)
            assert len(link.waiting) == 10
            other.buy("BTCUSDT", 1.0, 1.0)
            made.manager.receive_orders(made.take)
            made.manager.receive_orders(made.take)
            assert [who for who, _ in made.orders] == ["other"]
            made.settle()
            assert len(trader.heard) >= 10


def test_an_order_whose_callback_raises_comes_again(floor: tuple[Desk, Trader]) -> None:
    made, trader = floor
    first = trader.buy("BTCUSDT", 1.0, 1.0)
    second = trader.buy("BTCUSDT", 1.0, 1.0)

    def fails(who: str, order: Any) -> None:
        raise LookupError("the database is away")

    for _ in range(2):
        with pytest.raises(LookupError):
            made.manager.receive_orders(fails)
    assert made.manager.list_strategies()[0].orders == 0
    assert made.manager.list_strategies()[0].open_orders == 0
    made.settle()
    assert [order.client_order_id for _, order in made.orders] == [first, second]


def test_reports_of_numpy_rows_are_as_good_as_records(floor: tuple[Desk, Trader]) -> None:
    made, trader = floor
    rows = np.zeros(2, Order.dtype)
    rows["symbol"] = b"BTCUSDT"
    rows["client_order_id"] = [4, 5]
    rows["status"] = OrderStatus.ACCEPTED
    rows["action"] = OrderAction.NEW
    made.manager.report("trader", rows[0])
    made.manager.report("trader", rows[1:2])
    made.settle()
    assert [heard.client_order_id for heard in trader.heard] == [4, 5]
    assert list(trader.orders) == [4, 5]


def test_max_limits_how_many_orders_are_taken_at_once(floor: tuple[Desk, Trader]) -> None:
    made, trader = floor
    for _ in range(5):
        trader.buy("BTCUSDT", 1.0, 1.0)
    assert made.manager.receive_orders(made.take, max=2) == 2
    assert made.manager.receive_orders(made.take) == 3
