"""The simulated exchange, by hand: price, time, queues, conditions, cancellation, modification."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from market_rig import BUY, DAY, MAKER, NONE, SECOND, SELL, TAKER, Market, order, said
from shmipc.trading import events
from shmipc.trading.events.dtypes import (
    BAR,
    ORDER,
    TRADE,
    TRADE_TICK,
    EventKind,
    OrderAction,
    OrderStatus,
    OrderType,
    TimeInForce,
)
from shmipc.trading.market.exchange import Exchange


@pytest.fixture
def market() -> Market:
    """Bids 9 x 5 and 8 x 5, asks 10 x 2, 11 x 3 and 12 x 4."""
    return Market([(9.0, 5.0), (8.0, 5.0)], [(10.0, 2.0), (11.0, 3.0), (12.0, 4.0)])


# ---- taking ------------------------------------------------------------------------------------


def test_market_order_takes_level_by_level(market: Market) -> None:
    got = market.send("a", 1, BUY, 4.0)
    assert got.fills == [("a", 1, 10.0, 2.0, TAKER), ("a", 1, 11.0, 2.0, TAKER)]
    assert got.states == [("a", 1, "ACCEPTED", 0.0), ("a", 1, "FILLED", 4.0)]
    got = market.send("a", 2, SELL, 6.0)
    assert got.fills == [("a", 2, 9.0, 5.0, TAKER), ("a", 2, 8.0, 1.0, TAKER)]


def test_market_order_expires_where_the_market_ends(market: Market) -> None:
    got = market.send("a", 1, BUY, 20.0)
    assert sum(quantity for *_, quantity, _ in got.fills) == 9.0
    assert got.states[-1] == ("a", 1, "EXPIRED", 9.0)
    assert market.open() == []


def test_report_has_the_average_price_and_the_commission(market: Market) -> None:
    market.exchange = Exchange(maker_fee=0.1, taker_fee=0.5)
    market.book([(9.0, 5.0)], [(10.0, 2.0), (11.0, 3.0)])
    rows = [row for _, row in market.exchange.on_order("a", order(1, BUY, 4.0, ts_trigger=77))]
    assert [row["average_price"].item() for row in rows if row.dtype == ORDER][1:] == [10.5]
    assert [row["ts_trigger"].item() for row in rows if row.dtype == ORDER] == [77, 77]
    assert [row["commission"].item() for row in rows if row.dtype == TRADE] == [10.0, 11.0]
    market.send("a", 2, BUY, 1.0, 9.0)
    market.trade(8.0, 1.0, SELL)
    assert math.isnan(rows[0]["average_price"])


def test_limit_order_takes_to_its_limit_and_rests_with_what_is_left(market: Market) -> None:
    got = market.send("a", 1, BUY, 4.0, 10.0)
    assert got.fills == [("a", 1, 10.0, 2.0, TAKER)]
    assert got.states[-1] == ("a", 1, "PARTIALLY_FILLED", 2.0)
    assert market.open() == [("a", 1, "PARTIALLY_FILLED", 2.0)]


def test_immediate_or_cancel_expires_with_what_is_left(market: Market) -> None:
    got = market.send("a", 1, BUY, 4.0, 10.0, time_in_force=TimeInForce.IOC)
    assert got.fills == [("a", 1, 10.0, 2.0, TAKER)]
    assert got.states[-1] == ("a", 1, "EXPIRED", 2.0)


def test_fill_or_kill_trades_whole_or_not_at_all(market: Market) -> None:
    got = market.send("a", 1, BUY, 5.5, 11.0, time_in_force=TimeInForce.FOK)
    assert got.fills == []
    assert got.states[-1] == ("a", 1, "EXPIRED", 0.0)
    got = market.send("a", 2, BUY, 5.0, 11.0, time_in_force=TimeInForce.FOK)
    assert got.states[-1] == ("a", 2, "FILLED", 5.0)
    got = market.send("a", 3, SELL, 10.5, time_in_force=TimeInForce.FOK)
    assert got.states[-1] == ("a", 3, "EXPIRED", 0.0)


def test_what_is_taken_stays_taken_until_the_capture_shows_another_size(market: Market) -> None:
    market.send("a", 1, BUY, 1.5)
    got = market.send("b", 1, BUY, 1.0)  # another strategy finds what is left
    assert got.fills == [("b", 1, 10.0, 0.5, TAKER), ("b", 1, 11.0, 0.5, TAKER)]
    market.book([(9.0, 5.0)], [(10.0, 2.0), (11.0, 3.0)])  # the same again: nothing new
    got = market.send("a", 2, BUY, 1.0)
    assert got.fills == [("a", 2, 11.0, 1.0, TAKER)]
    market.book([(9.0, 5.0)], [(10.0, 1.75), (11.0, 3.0)])  # 10 is refreshed, 11 is not
    got = market.send("a", 3, BUY, 9.0)
    assert got.fills == [("a", 3, 10.0, 1.75, TAKER), ("a", 3, 11.0, 1.5, TAKER)]


def test_tick_with_another_size_refreshes_the_touch(market: Market) -> None:
    market.tick(9.0, 5.0, 10.0, 2.0)
    market.send("a", 1, BUY, 2.0)
    market.tick(9.0, 4.0, 10.0, 2.0)
    assert market.send("a", 2, BUY, 1.0).fills == [("a", 2, 11.0, 1.0, TAKER)]
    market.tick(9.0, 4.0, 10.0, 1.5)
    assert market.send("a", 3, BUY, 1.0).fills == [("a", 3, 10.0, 1.0, TAKER)]


def test_level_that_went_and_came_back_is_new(market: Market) -> None:
    market.send("a", 1, BUY, 2.0)
    market.book([(9.0, 5.0)], [(11.0, 3.0)])
    market.book([(9.0, 5.0)], [(10.0, 2.0), (11.0, 3.0)])
    assert market.send("a", 2, BUY, 1.0).fills == [("a", 2, 10.0, 1.0, TAKER)]


def test_tick_newer_than_the_book_moves_the_touch(market: Market) -> None:
    market.tick(9.5, 1.0, 11.0, 0.5)  # the ask of 10 is gone, 11 has shrunk
    got = market.send("a", 1, BUY, 1.0)
    assert got.fills == [("a", 1, 11.0, 0.5, TAKER), ("a", 1, 12.0, 0.5, TAKER)]
    assert market.send("a", 2, SELL, 1.5).fills == [
        ("a", 2, 9.5, 1.0, TAKER),
        ("a", 2, 9.0, 0.5, TAKER),
    ]
    # a book from before the tick gives depth, but not its touch
    market.book([(9.0, 4.0), (8.0, 5.0)], [(10.0, 2.0), (12.0, 6.0)], sequence=1)
    # ... and what was taken of the touch is not there again; 9.0 has another size, so it is new
    assert market.send("a", 3, SELL, 4.5).fills == [
        ("a", 3, 9.0, 4.0, TAKER),
        ("a", 3, 8.0, 0.5, TAKER),
    ]
    assert market.send("a", 4, BUY, 3.0).fills == [("a", 4, 12.0, 3.0, TAKER)]


def test_tick_older_than_the_book_changes_nothing(market: Market) -> None:
    market.book([(9.0, 5.0)], [(10.0, 2.0)], sequence=1000)
    market.tick(5.0, 1.0, 6.0, 1.0)
    assert market.send("a", 1, BUY, 1.0).fills == [("a", 1, 10.0, 1.0, TAKER)]


def test_touch_that_is_not_known_or_not_there(market: Market) -> None:
    market.tick(math.nan, math.nan, 10.5, 1.0)
    assert market.send("a", 1, SELL, 1.0).fills == [("a", 1, 9.0, 1.0, TAKER)]
    market.tick(0.0, 0.0, 10.5, 1.0)
    assert market.send("a", 2, SELL, 1.0).states[-1] == ("a", 2, "EXPIRED", 0.0)


# ---- resting -----------------------------------------------------------------------------------


def test_order_waits_behind_what_was_there_before_it(market: Market) -> None:
    market.send("a", 1, BUY, 2.0, 9.0)
    assert market.trade(9.0, 4.0, SELL).fills == []
    assert market.trade(9.0, 1.5, SELL).fills == [("a", 1, 9.0, 0.5, MAKER)]
    assert market.trade(9.0, 9.0, SELL).fills == [("a", 1, 9.0, 1.5, MAKER)]
    assert market.open() == []


def test_queue_shrinks_when_less_is_shown_and_never_grows(market: Market) -> None:
    market.send("a", 1, BUY, 2.0, 9.0)
    market.book([(9.0, 1.0), (8.0, 5.0)], [(10.0, 2.0)])
    market.book([(9.0, 50.0), (8.0, 5.0)], [(10.0, 2.0)])  # those came later
    assert market.trade(9.0, 2.0, SELL).fills == [("a", 1, 9.0, 1.0, MAKER)]


def test_queue_is_gone_when_the_level_is_gone(market: Market) -> None:
    market.send("a", 1, BUY, 2.0, 9.0)
    market.tick(8.0, 5.0, 10.0, 2.0)
    assert market.trade(9.0, 0.5, SELL).fills == [("a", 1, 9.0, 0.5, MAKER)]


def test_order_too_deep_to_be_seen_waits_for_all_that_will_be_shown() -> None:
    deep = [(float(price), 1.0) for price in range(20, 10, -1)]
    market = Market(deep, [(30.0, 1.0)])
    market.send("a", 1, BUY, 1.0, 5.0)
    assert market.trade(5.0, 100.0, SELL).fills == []
    market.book([(6.0, 1.0), (5.0, 3.0)], [(30.0, 1.0)])
    assert market.trade(5.0, 3.5, SELL).fills == [("a", 1, 5.0, 0.5, MAKER)]


def test_earlier_order_is_filled_first_at_one_price(market: Market) -> None:
    market.send("a", 1, BUY, 1.0, 9.5)
    market.send("b", 1, BUY, 1.0, 9.5)
    market.send("c", 1, BUY, 1.0, 9.5)
    assert market.trade(9.5, 1.5, SELL).fills == [
        ("a", 1, 9.5, 1.0, MAKER),
        ("b", 1, 9.5, 0.5, MAKER),
    ]


def test_what_was_shown_between_two_orders_is_between_them(market: Market) -> None:
    market.send("a", 1, BUY, 1.0, 9.0)  # behind 5
    market.book([(9.0, 8.0), (8.0, 5.0)], [(10.0, 2.0)])
    market.send("b", 1, BUY, 1.0, 9.0)  # behind 8, and a
    got = market.trade(9.0, 8.5, SELL)
    assert got.fills == [("a", 1, 9.0, 1.0, MAKER)]
    assert market.trade(9.0, 1.0, SELL).fills == [("b", 1, 9.0, 0.5, MAKER)]


def test_better_price_is_filled_before_an_earlier_order(market: Market) -> None:
    market.send("a", 1, BUY, 1.0, 9.2)
    market.send("b", 1, BUY, 1.0, 9.4)
    market.send("a", 2, SELL, 1.0, 9.8)
    market.send("b", 2, SELL, 1.0, 9.6)
    assert market.trade(9.0, 1.5, SELL).fills == [
        ("b", 1, 9.4, 1.0, MAKER),
        ("a", 1, 9.2, 0.5, MAKER),
    ]
    assert market.trade(9.7, 9.0, BUY).fills == [("b", 2, 9.6, 1.0, MAKER)]


def test_trade_that_does_not_reach_fills_nothing(market: Market) -> None:
    market.send("a", 1, BUY, 1.0, 9.5)
    assert market.trade(9.6, 9.0, SELL).fills == []
    assert market.trade(9.5, 9.0, BUY).fills == []  # an aggressor who buys hits asks
    assert market.trade(9.5, 9.0, NONE).fills == []  # beside the book


def test_trade_from_before_the_order_does_not_fill_it(market: Market) -> None:
    market.tick(9.0, 5.0, 10.0, 2.0, ts=5 * SECOND)
    market.send("a", 1, BUY, 1.0, 9.5)
    assert market.trade(9.5, 1.0, SELL, ts=4 * SECOND).fills == []
    assert market.trade(9.5, 1.0, SELL, ts=5 * SECOND).fills == [("a", 1, 9.5, 1.0, MAKER)]


def test_book_that_crosses_an_order_fills_it_at_its_own_price(market: Market) -> None:
    market.send("a", 1, BUY, 3.0, 9.5)
    market.send("b", 1, BUY, 3.0, 9.5)
    got = market.tick(9.0, 1.0, 9.4, 4.0)
    assert got.fills == [("a", 1, 9.5, 3.0, MAKER), ("b", 1, 9.5, 1.0, MAKER)]
    assert market.tick(9.0, 2.0, 9.4, 4.0).fills == []  # the ask is the same, and taken
    assert market.tick(9.0, 1.0, 9.5, 9.0).fills == [("b", 1, 9.5, 2.0, MAKER)]


def test_orders_do_not_trade_with_each_other(market: Market) -> None:
    market.send("a", 1, BUY, 1.0, 9.6)
    got = market.send("b", 1, SELL, 1.0, 9.4)
    assert got.fills == []
    assert len(market.open()) == 2


# ---- conditions, cancellation, modification ----------------------------------------------------


def test_post_only_is_refused_where_it_could_trade(market: Market) -> None:
    got = market.send("a", 1, BUY, 1.0, 10.0, time_in_force=TimeInForce.POST_ONLY)
    assert got.states == [("a", 1, "REJECTED", 0.0)]
    assert got.texts == ["post-only order would trade"]
    got = market.send("a", 2, BUY, 1.0, 9.9, time_in_force=TimeInForce.POST_ONLY)
    assert got.states == [("a", 2, "ACCEPTED", 0.0)]


def test_day_order_expires_when_the_day_ends(market: Market) -> None:
    market.send("a", 1, BUY, 1.0, 9.5, time_in_force=TimeInForce.DAY)
    market.send("a", 2, BUY, 1.0, 9.5)
    assert market.tick(9.0, 5.0, 10.0, 2.0, ts=DAY - 1).states == []
    got = market.tick(9.0, 5.0, 10.0, 2.0, ts=DAY)
    assert got.states == [("a", 1, "EXPIRED", 0.0)]
    assert market.open() == [("a", 2, "ACCEPTED", 0.0)]


def test_cancelled_order_is_gone(market: Market) -> None:
    market.send("a", 1, BUY, 1.0, 9.5)
    assert market.cancel("a", 1).states == [("a", 1, "CANCELED", 0.0)]
    assert market.trade(9.5, 1.0, SELL).fills == []
    got = market.cancel("a", 1)
    assert got.states == [("a", 1, "REJECTED", 0.0)]
    assert got.texts == ["no such open order"]


def test_order_of_another_strategy_is_not_touched(market: Market) -> None:
    market.send("a", 1, BUY, 1.0, 9.5)
    assert market.cancel("b", 1).texts == ["no such open order"]
    assert market.open() == [("a", 1, "ACCEPTED", 0.0)]


def test_smaller_quantity_keeps_the_place(market: Market) -> None:
    market.send("a", 1, BUY, 3.0, 9.5)
    market.send("b", 1, BUY, 1.0, 9.5)
    market.modify("a", 1, 1.0, 9.5)
    assert market.trade(9.5, 1.5, SELL).fills == [
        ("a", 1, 9.5, 1.0, MAKER),
        ("b", 1, 9.5, 0.5, MAKER),
    ]


@pytest.mark.parametrize(("quantity", "price"), [(2.0, 9.5), (1.0, 9.4)])
def test_larger_quantity_or_other_price_gives_up_the_place(
    market: Market, quantity: float, price: float
) -> None:
    market.send("a", 1, BUY, 1.0, 9.5)
    market.send("b", 1, BUY, 1.0, 9.5)
    market.modify("a", 1, quantity, price)
    market.modify("a", 1, quantity, 9.5)
    assert market.trade(9.5, 1.5, SELL).fills[0] == ("b", 1, 9.5, 1.0, MAKER)


def test_modified_price_may_trade_at_once(market: Market) -> None:
    market.send("a", 1, BUY, 3.0, 9.5)
    got = market.modify("a", 1, 3.0, 10.0)
    assert got.fills == [("a", 1, 10.0, 2.0, TAKER)]
    assert market.open() == [("a", 1, "PARTIALLY_FILLED", 2.0)]


def test_what_a_modification_does_not_say_stays(market: Market) -> None:
    market.send("a", 1, BUY, 3.0, 9.5)
    for row in (order(1, BUY, 0.0, 9.4), order(1, BUY, math.nan, 0.0)):
        row["action"] = OrderAction.MODIFY
        [(_, report)] = market.exchange.on_order("a", row)
        assert (report["quantity"], report["price"]) == (3.0, 9.4)
        assert report["action"] == OrderAction.MODIFY


def test_modification_to_what_is_filled_ends_the_order(market: Market) -> None:
    market.send("a", 1, BUY, 4.0, 10.0)
    assert market.modify("a", 1, 2.0, 10.0).states == [("a", 1, "CANCELED", 2.0)]


def test_modification_that_cannot_be_done_reports_the_order_as_it_stands(market: Market) -> None:
    market.send("a", 1, BUY, 1.0, 9.5, time_in_force=TimeInForce.POST_ONLY)
    got = market.modify("a", 1, 1.0, 10.0)
    assert got.states == [("a", 1, "ACCEPTED", 0.0)]
    assert got.texts == ["post-only order would trade"]
    assert market.modify("a", 1, -1.0, 9.5).texts == ["quantity is not positive"]
    assert market.modify("a", 1, 1.0, math.inf).texts == ["price is not positive"]
    assert market.modify("a", 7, 1.0, 9.5).states == [("a", 7, "REJECTED", 0.0)]
    assert market.trade(9.5, 1.0, SELL).fills == [("a", 1, 9.5, 1.0, MAKER)]


def test_orders_of_one_who_is_gone_are_cancelled(market: Market) -> None:
    market.send("a", 1, BUY, 1.0, 9.5)
    market.send("b", 1, BUY, 1.0, 9.5)
    market.send("a", 2, SELL, 1.0, 9.9)
    got = said(market.exchange.cancel_all("a", "strategy is gone"))
    assert got.states == [("a", 1, "CANCELED", 0.0), ("a", 2, "CANCELED", 0.0)]
    assert got.texts == ["strategy is gone"] * 2
    assert market.open() == [("b", 1, "ACCEPTED", 0.0)]
    with pytest.raises(ValueError, match="31 bytes"):
        market.exchange.cancel_all("b", "x" * 32)
    assert [strategy for strategy, _ in market.exchange.open_orders("a")] == []


REFUSED = {
    "no market for this symbol": {"symbol": b"OTHER"},
    "client_order_id is not positive": {"client_order_id": 0},
    "client_order_id is in use": {"client_order_id": 99},
    "side is neither BUY nor SELL": {"side": 0},
    "quantity is not positive": {"quantity": math.nan},
    "price is not positive": {"price": -1.0},
    "unknown time in force": {"time_in_force": 0},
    "order type is not supported": {"order_type": OrderType.STOP_MARKET},
    "a market order cannot rest": {
        "order_type": OrderType.MARKET,
        "time_in_force": TimeInForce.POST_ONLY,
    },
    "unknown action": {"action": 9},
}


@pytest.mark.parametrize("text", REFUSED)
def test_order_that_is_none_is_rejected_with_the_reason(market: Market, text: str) -> None:
    market.send("a", 99, BUY, 1.0, 9.5)
    fields = {"client_order_id": 1, "side": BUY, "quantity": 1.0, "price": 9.5} | REFUSED[text]
    got = market.send("a", **fields)  # type: ignore[arg-type]
    assert got.texts == [text]  # whole: the field cuts what is longer
    assert got.states == [("a", fields["client_order_id"], "REJECTED", 0.0)]
    assert len(market.open()) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"quantity": 0.0},
        {"quantity": -1.0},
        {"quantity": math.inf},
        {"price": math.inf},
        {"price": math.nan, "order_type": OrderType.LIMIT},
        {"order_type": OrderType.NONE},
        {"order_type": OrderType.STOP_MARKET},
        {"time_in_force": 77},
        {"side": 3},
        {"client_order_id": -4},
        {"action": OrderAction.NONE},
    ],
)
def test_no_nonsense_is_accepted(market: Market, fields: dict[str, Any]) -> None:
    fields = {"client_order_id": 1, "side": BUY, "quantity": 1.0, "price": 9.5} | fields
    assert [status for _, _, status, _ in market.send("a", **fields).states] == ["REJECTED"]


def test_record_of_another_dtype_is_a_type_error(market: Market) -> None:
    with pytest.raises(TypeError, match="ORDER"):
        market.exchange.on_order("a", np.zeros(1, TRADE)[0])
    with pytest.raises(TypeError, match="TICK"):
        market.exchange.on_event(EventKind.TICK, np.zeros(1, TRADE_TICK)[0])
    assert market.exchange.on_event(EventKind.BAR, np.zeros(1, BAR)[0]) == []


@pytest.mark.parametrize(
    "form", [lambda row: row, np.asarray, lambda row: np.asarray(row)[None], events.Order]
)
def test_records_and_voids_and_arrays_of_one_are_taken(market: Market, form: Any) -> None:
    [(_, report)] = market.exchange.on_order("a", form(order(1, BUY, 1.0, 9.5)))
    assert report["status"] == OrderStatus.ACCEPTED
    assert type(report) is np.void
