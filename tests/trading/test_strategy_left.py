"""An engine that goes says what it leaves in the rings."""

from __future__ import annotations

import logging

import pytest

from desk import BaseStrategy, Engine, accepted, desk, discard_rings, order_of
from shmipc.trading.events import Side
from shmipc.trading.strategy import Left, StrategyManager


class OrdersAtTheEnd(BaseStrategy):
    def on_stop(self) -> None:
        self.buy("BTCUSDT", 1.0, 1.0)
        self.sell("BTCUSDT", 1.0, 2.0)


def test_orders_of_on_stop_are_counted_and_left_for_the_next_engine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Engine("engine")
    engine.spawn("s", "test_strategy_left:OrdersAtTheEnd")
    engine.connected()
    with caplog.at_level(logging.WARNING):
        assert engine.close() == {"s": Left(orders=2, reports=0)}
    assert engine.left == engine.close() == {"s": Left(2, 0)}
    assert "strategy s: kept for the next engine of this name: 2 orders that it sent" in caplog.text
    with Engine("engine") as successor:
        successor.register_strategy("s")
        assert [order.side for _, order in successor.expect_orders(2)] == [Side.BUY, Side.SELL]


def test_reports_are_counted_and_nothing_is_lost_by_counting() -> None:
    engine = StrategyManager("desk")
    engine.register_strategy("s")
    for number in range(1, 4):
        engine.report("s", accepted(order_of(client_order_id=number)))
    assert engine.close() == {"s": Left(orders=0, reports=3)}
    strategy = OrdersAtTheEnd("s")
    heard: list[int] = []
    strategy.on_order = (  # type: ignore[method-assign]
        lambda order: heard.append(order.client_order_id)
    )
    with desk() as made:
        made.join(strategy)
        assert heard == [1, 2, 3]


def test_nothing_left_is_nothing_told(caplog: pytest.LogCaptureFixture) -> None:
    with desk() as made:
        strategy = OrdersAtTheEnd("s")
        made.join(strategy)
        made.runtimes["s"].shut()
        made.settle()
        assert made.manager.close() == {}
    assert caplog.text == ""


def test_what_is_discarded_is_counted_but_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = StrategyManager("engine")
    engine.register_strategy("s")
    engine.report("s", accepted(order_of()))
    assert engine.close(discard=True) == {"s": Left(0, 1)}
    assert caplog.text == ""


def test_a_strategy_that_is_unregistered_leaves_its_own() -> None:
    with StrategyManager("engine") as engine:
        engine.register_strategy("s")
        engine.report("s", accepted(order_of()))
        engine.unregister_strategy("s")
        assert engine.left == {"s": Left(0, 1)}
    discard_rings("engine", "s")
