"""What is not known (NaN, an infinity, a size below 0) fills nothing and stays nowhere.

Through everything that compares prices and sizes: the exchange, books, the ledger, positions.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desk import desk
from market_rig import BUY, NONE, SECOND, SELL, TAKER, Market, order
from shmipc.trading.events import Account, EventKind, Position, Trade
from shmipc.trading.events.dtypes import (
    BAR,
    ORDER_BOOK,
    TICK,
    TRADE,
    TRADE_TICK,
    OrderType,
    TimeInForce,
)
from shmipc.trading.market import bounds
from shmipc.trading.market.book import Book
from shmipc.trading.market.exchange import Exchange, Report
from shmipc.trading.market.ledger import Ledger
from shmipc.trading.market.positions import apply_trade, fault_of_trade
from shmipc.trading.market.synthetic import synthetic
from shmipc.trading.strategy import BaseStrategy

NAN, INF = math.nan, math.inf
NO_PRICES = [NAN, INF, -INF, 1e300, -1e300]
NO_SIZES = [NAN, INF, -INF, -1.0, -5e-324, 1e300]


class Trader(BaseStrategy):
    """Keeps what it hears."""

    def __init__(self, strategy_id: str) -> None:
        super().__init__(strategy_id)
        self.heard: list[Any] = []

    def on_trade(self, trade: Any) -> None:
        self.heard.append(trade.copy())


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 1.0, 9.9e99])
def test_what_is_finite_is_known(value: float) -> None:
    assert bounds.is_price(value)
    assert bounds.is_price(-value)
    assert bounds.is_size(value)


@pytest.mark.parametrize("value", NO_PRICES)
def test_what_is_no_price_is_not_known(value: float) -> None:
    assert not bounds.is_price(value)


@pytest.mark.parametrize("value", NO_SIZES)
def test_what_is_no_size_is_not_known(value: float) -> None:
    assert not bounds.is_size(value)


class TestExchange:
    @pytest.mark.parametrize("price", NO_PRICES)
    @pytest.mark.parametrize("side", [BUY, SELL])
    def test_a_trade_at_no_price_fills_no_resting_order(self, price: float, side: int) -> None:
        market = Market([(9.0, 1.0)], [(11.0, 1.0)])
        market.send("a", 1, side, 1.0, 10.0)
        assert market.trade(price, 5.0, -side).fills == []
        assert market.trade(10.0, 5.0, -side).fills == [("a", 1, 10.0, 1.0, 1)]

    @pytest.mark.parametrize("size", NO_SIZES)
    def test_a_trade_of_no_size_fills_no_resting_order(self, size: float) -> None:
        market = Market([(9.0, 1.0)], [(11.0, 1.0)])
        market.send("a", 1, BUY, 1.0, 10.0)
        assert market.trade(9.5, size, SELL).fills == []

    @pytest.mark.parametrize("price", NO_PRICES)
    def test_a_level_at_no_price_is_none(self, price: float) -> None:
        market = Market([(9.0, 1.0)], [(price, 1.0), (11.0, 2.0)])
        assert market.send("a", 1, BUY, 5.0).fills == [("a", 1, 11.0, 2.0, TAKER)]
        market.book([(9.0, 1.0)], [(10.0, 1.0), (price, 2.0), (12.0, 1.0)])
        assert market.send("a", 2, BUY, 5.0).fills == [
            ("a", 2, 10.0, 1.0, TAKER),
            ("a", 2, 12.0, 1.0, TAKER),
        ]

    @pytest.mark.parametrize("price", NO_PRICES)
    def test_nothing_is_filled_where_no_level_has_a_price(self, price: float) -> None:
        market = Market([(price, 1.0)], [(price, 1.0)])
        for number, side in enumerate((BUY, SELL), 1):
            assert market.send("a", number, side, 1.0).fills == []
            rests = market.send("a", number + 10, side, 1.0, 10.0)
            assert (rests.fills, rests.states) == ([], [("a", number + 10, "ACCEPTED", 0.0)])
            market.cancel("a", number + 10)

    @pytest.mark.parametrize("price", NO_PRICES)
    def test_not_all_is_shown_from_a_level_at_no_price_on(self, price: float) -> None:
        market = Market([(9.0, 1.0), (price, 1.0), (7.0, 1.0)], [(11.0, 1.0)])
        market.send("a", 1, BUY, 1.0, 8.0)  # how much is before it is not known
        assert market.trade(8.0, 50.0, SELL).fills == []
        assert market.trade(7.5, 50.0, SELL).fills == [("a", 1, 8.0, 1.0, 1)]

    @pytest.mark.parametrize("size", NO_SIZES)
    def test_of_a_level_of_no_size_nothing_is_taken(self, size: float) -> None:
        market = Market([(9.0, 1.0)], [(10.0, size), (11.0, 2.0)])
        assert market.send("a", 1, BUY, 5.0).fills == [("a", 1, 11.0, 2.0, TAKER)]

    @pytest.mark.parametrize("size", NO_SIZES)
    def test_a_size_that_is_not_known_is_what_it_was(self, size: float) -> None:
        market = Market([(9.0, 1.0)], [(10.0, 3.0), (11.0, 2.0)])
        market.book([(9.0, 1.0)], [(10.0, size), (11.0, 2.0)])
        assert market.send("a", 1, BUY, 1.0).fills == [("a", 1, 10.0, 1.0, TAKER)]
        market.tick(9.0, 1.0, 10.0, size)  # what was taken stays taken
        assert market.send("a", 2, BUY, 5.0).fills == [
            ("a", 2, 10.0, 2.0, TAKER),
            ("a", 2, 11.0, 2.0, TAKER),
        ]

    @pytest.mark.parametrize("price", NO_PRICES)
    def test_a_touch_at_no_price_leaves_what_is_shown(self, price: float) -> None:
        market = Market([(9.0, 1.0)], [(11.0, 2.0)])
        market.tick(price, 7.0, price, 7.0)
        assert market.send("a", 1, BUY, 9.0).fills == [("a", 1, 11.0, 2.0, TAKER)]
        assert market.send("a", 2, SELL, 9.0).fills == [("a", 2, 9.0, 1.0, TAKER)]

    @pytest.mark.parametrize("size", NO_SIZES)
    def test_a_touch_of_no_size_is_no_empty_side(self, size: float) -> None:
        market = Market([(9.0, 1.0)], [(11.0, 2.0), (12.0, 3.0)])
        market.tick(9.0, size, 12.0, size)  # 11 is gone
        assert market.send("a", 1, BUY, 9.0).fills == [("a", 1, 12.0, 3.0, TAKER)]
        assert market.send("a", 2, SELL, 9.0).fills == [("a", 2, 9.0, 1.0, TAKER)]

    def test_a_size_of_minus_zero_empties_the_side(self) -> None:
        market = Market([(9.0, 1.0)], [(11.0, 2.0)])
        market.tick(9.0, 1.0, 11.0, -0.0)
        assert market.send("a", 1, BUY, 9.0).fills == []

    def test_a_fok_order_counts_what_is_known(self) -> None:
        market = Market([(9.0, 1.0)], [(10.0, 1.0), (NAN, 100.0), (10.5, INF)])
        assert market.send("a", 1, BUY, 5.0, 11.0, time_in_force=TimeInForce.FOK).fills == []

    @pytest.mark.parametrize("value", [NAN, INF, -INF, 1e300, -1.0, 0.0, -0.0])
    def test_an_order_of_no_price_or_quantity_is_refused(self, value: float) -> None:
        market = Market([(9.0, 1.0)], [(11.0, 1.0)])
        texts = market.send("a", 1, BUY, 1.0, value, order_type=OrderType.LIMIT).texts
        assert texts == ["price is not positive"]
        assert market.send("a", 1, BUY, value, 10.0).texts == ["quantity is not positive"]

    @pytest.mark.parametrize("fee", [NAN, INF, -INF, 5.0])
    def test_a_fee_that_is_none_is_refused(self, fee: float) -> None:
        with pytest.raises(ValueError, match="maker_fee"):
            Exchange(maker_fee=fee)
        with pytest.raises(ValueError, match="taker_fee"):
            Exchange(taker_fee=fee)


# ---- anything in any field -----------------------------------------------------------------------

ANY = st.one_of(
    st.floats(allow_subnormal=True),
    st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 5e-324, 1e308, -1e308, 1.0]),
    st.integers(1, 12).map(float),
)
ORDERS = st.tuples(
    st.just("order"),
    st.sampled_from([BUY, SELL]),
    st.sampled_from([0.5, 2.0, 1e9, 1e90]) | ANY,
    st.none() | st.integers(1, 12).map(float) | ANY,
    st.sampled_from(list(TimeInForce)[1:]),
)
MODIFIES = st.tuples(st.just("modify"), st.integers(1, 8), ANY, ANY)
EVENTS = st.one_of(
    st.tuples(st.just("trade"), ANY, ANY, st.sampled_from([BUY, SELL, NONE])),
    st.tuples(st.just("tick"), *[ANY] * 13),
    st.tuples(
        st.just("book"),
        st.integers(0, 4),
        st.integers(0, 4),
        *[st.lists(ANY, min_size=4, max_size=4)] * 4,
    ),
    st.tuples(st.just("bar"), *[ANY] * 7),
)


def event_of(what: str, values: list[Any], sequence: int) -> tuple[EventKind, np.void]:
    """Return an event with `values` in its prices and sizes."""
    if what == "trade":
        row = np.zeros(1, TRADE_TICK)[0]
        row["price"], row["size"], row["aggressor_side"] = values
        kind = EventKind.TRADE_TICK
    elif what == "book":
        row = np.zeros(1, ORDER_BOOK)[0]
        row["bid_count"], row["ask_count"] = values[:2]
        for name, column in zip(
            ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes"), values[2:], strict=True
        ):
            row[name][:4] = column
        row["sequence"] = sequence
        kind = EventKind.ORDER_BOOK
    else:
        dtype, kind = (TICK, EventKind.TICK) if what == "tick" else (BAR, EventKind.BAR)
        row = np.zeros(1, dtype)[0]
        floats = [name for name in dtype.names or () if dtype[name] == np.dtype("<f8")]
        for name, value in zip(floats, values, strict=False):
            row[name] = value
        if what == "tick":
            row["sequence"] = sequence
    row["symbol"], row["ts_event"] = b"XY", SECOND
    return kind, row


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(EVENTS | ORDERS | MODIFIES, max_size=30))
def test_whatever_the_market_says_all_that_is_reported_and_held_is_finite(
    steps: list[Any],
) -> None:
    exchange, ledger = Exchange(), Ledger()
    strategy_side = Position(symbol="XY")

    def take(reports: list[Report]) -> None:
        for _, row in reports:
            if row.dtype == TRADE:
                assert math.isfinite(row["price"])
                assert 0.0 < row["quantity"] < INF
                assert math.isfinite(row["commission"])
                ledger.on_trade("s", row)
                apply_trade(strategy_side, Trade(row))

    for number, (what, *values) in enumerate(steps, 1):
        if what == "order":
            side, quantity, price, time_in_force = values
            row = order(number, side, quantity, NAN if price is None else price)
            row["time_in_force"] = time_in_force
            take(exchange.on_order("s", row))
        elif what == "modify":
            row = order(values[0], BUY, values[1], values[2], action=3)
            take(exchange.on_order("s", row))
        else:
            kind, row = event_of(what, values, number)
            take(exchange.on_event(kind, row))
            if what == "tick":
                ledger.mark("XY", float(row["bid_price"]))
        for _, row in exchange.open_orders():
            assert math.isfinite(row["price"])
            assert 0.0 <= row["filled_quantity"] <= row["quantity"]
    held = ledger.position("s", "XY")
    money = ledger.account("s")
    for name in ("quantity", "average_price", "realized_pnl", "commission"):
        assert math.isfinite(held[name]), name
        assert math.isfinite(getattr(strategy_side, name)), name
    assert math.isfinite(money["balance"])
    assert math.isfinite(money["commission"])
    if "XY" in ledger._marks:
        assert math.isfinite(money["equity"])
        assert math.isfinite(money["margin"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.tuples(ANY, ANY), max_size=6), max_size=8))
def test_a_book_stays_sorted_and_known_whatever_it_is_told(updates: list[Any]) -> None:
    book = Book()
    for number, levels in enumerate(updates, 1):
        if number % 3:
            book.update(number, levels, levels)
        else:
            book.snapshot(number, levels, levels)
        bids, asks = book.best_bids(100), book.best_asks(100)
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert all(bounds.is_price(price) and 0.0 < size < INF for price, size in bids + asks)
        row = np.zeros(1, ORDER_BOOK)[0]
        book.write(row)
        assert np.isfinite(row["bid_prices"]).all()


def test_a_level_that_is_not_known_changes_nothing_in_a_book() -> None:
    book = Book()
    book.update(1, [(9.0, 1.0), (8.0, 1.0)], [])
    for size in NO_SIZES:
        book.update(book.sequence + 1, [(9.0, size)], [])
    for price in NO_PRICES:
        book.update(book.sequence + 1, [(price, 1.0)], [])
        book.update(book.sequence + 1, [(price, 0.0)], [])
    assert book.best_bids(9) == [(9.0, 1.0), (8.0, 1.0)]
    book.update(book.sequence + 1, [(9.0, 0.0)], [])
    assert book.best_bids(9) == [(8.0, 1.0)]


# ---- fills and what is held ----------------------------------------------------------------------

NO_FILLS = [
    *[("price", {"price": price}) for price in NO_PRICES],
    *[("quantity", {"quantity": size}) for size in (*NO_SIZES, 0.0)],
    ("commission", {"commission": INF}),
]


def fill(**fields: Any) -> Any:
    values = {"symbol": "XY", "side": BUY, "price": 100.0, "quantity": 1.0, "trade_id": 17}
    return Trade(client_order_id=3, **{**values, **fields})


@pytest.mark.parametrize(("name", "fields"), NO_FILLS)
def test_the_ledger_refuses_a_fill_that_is_not_known(name: str, fields: dict[str, float]) -> None:
    ledger = Ledger()
    ledger.on_trade("s", fill())
    before = ledger.position("s", "XY").tobytes()
    with pytest.raises(ValueError, match=f"fill 17 of order 3: its {name} is"):
        ledger.on_trade("s", fill(**fields))
    assert ledger.position("s", "XY").tobytes() == before
    with pytest.raises(ValueError, match="fill 17"):
        ledger.on_trade("s", fill(symbol="NEW", **fields))
    assert ledger.symbols("s") == ["XY"]


@pytest.mark.parametrize(("name", "fields"), NO_FILLS)
def test_an_engine_that_reports_such_a_fill_is_told_and_nothing_is_sent(
    name: str, fields: dict[str, float]
) -> None:
    with desk() as made:
        trader = Trader("trader")
        made.join(trader)
        with pytest.raises(ValueError, match=name):
            made.manager.report("trader", fill(**fields))
        with pytest.raises(ValueError, match=name):
            made.manager.restore("trader", [fill(), fill(**fields)])
        made.settle()
        assert trader.heard == []
        assert trader.positions == made.manager._roster.links["trader"].positions == {}


@pytest.mark.parametrize(("name", "fields"), NO_FILLS)
def test_a_strategy_logs_such_a_fill_of_another_engine_and_keeps_its_position(
    name: str, fields: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    with desk() as made:
        trader = Trader("trader")
        made.join(trader)
        made.manager.report("trader", fill())
        with caplog.at_level(logging.ERROR, "shmipc.trading.strategy"):
            made.manager._roster.links["trader"].send(fill(**fields), int(EventKind.TRADE))
            made.settle()
        assert f"fill 17 of order 3 not booked: its {name} is" in caplog.text
        assert len(trader.heard) == 2, "on_trade gets it"
        assert trader.positions["XY"].quantity == 1.0
        assert trader.positions["XY"].average_price == 100.0


def test_a_commission_that_is_not_known_adds_none() -> None:
    ledger = Ledger()
    ledger.on_trade("s", fill(commission=0.5))
    ledger.on_trade("s", fill(commission=NAN))
    assert fault_of_trade(fill(commission=NAN)) == ""
    assert ledger.position("s", "XY")["commission"] == 0.5
    assert ledger.account("s")["balance"] == 100_000.0 - 0.5


def test_an_average_that_was_not_known_does_not_outlive_a_flat_position() -> None:
    held = Position(symbol="XY", quantity=0.0, average_price=NAN)
    apply_trade(held, fill(price=100.0))
    apply_trade(held, fill(price=110.0))
    assert (held.quantity, held.average_price) == (2.0, 105.0)


@pytest.mark.parametrize("mark", NO_PRICES)
def test_a_mark_that_is_not_known_leaves_the_last(mark: float) -> None:
    ledger = Ledger()
    ledger.on_trade("s", fill())
    ledger.mark("XY", 101.0)
    ledger.mark("XY", mark)
    assert ledger.account("s")["equity"] == 100_001.0


@pytest.mark.parametrize(
    ("name", "values"),
    [("balance", NAN), ("balance", INF), *[("leverage", v) for v in (NAN, INF, 0.0, -1.0)]],
)
def test_a_ledger_of_no_balance_or_leverage_is_refused(name: str, values: float) -> None:
    with pytest.raises(ValueError, match=name):
        Ledger(**{name: values})


@pytest.mark.parametrize("value", [NAN, INF, -INF, 0.0, -1.0])
def test_a_random_market_of_no_price_or_tick_size_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="price"):
        next(synthetic(1, price=value))
    with pytest.raises(ValueError, match="tick_size"):
        next(synthetic(1, tick_size=value))


def test_a_price_of_more_ticks_than_can_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="ticks"):
        next(synthetic(1, price=1e99, tick_size=1e-99))


def test_an_account_that_is_not_known_is_kept_as_it_was_said() -> None:
    with desk() as made:
        trader = Trader("trader")
        made.join(trader)
        made.manager.report("trader", Account(symbol="USDT", equity=NAN))
        made.settle()
        assert math.isnan(trader.account.equity)
