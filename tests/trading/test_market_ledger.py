"""The ledger: positions and profit, held against sums that know no average price."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmipc.trading.events.dtypes import ACCOUNT, ORDER, POSITION, TRADE, Side
from shmipc.trading.market.ledger import Ledger


def fill(
    side: int, price: float, quantity: float, fee: float = 0.0, symbol: bytes = b"XY"
) -> np.void:
    row = np.zeros(1, TRADE)[0]
    row["symbol"], row["side"], row["price"], row["quantity"] = symbol, side, price, quantity
    row["commission"], row["ts_event"], row["ts_init"] = fee, 7, 8
    return row


def held(*fills: tuple[int, float, float]) -> tuple[float, float, float]:
    """Return quantity, average price and realized profit after `fills`."""
    ledger = Ledger()
    for each in fills:
        ledger.on_trade("s", fill(*each))
    row = ledger.position("s", "XY")
    return float(row["quantity"]), float(row["average_price"]), float(row["realized_pnl"])


BUY, SELL = int(Side.BUY), int(Side.SELL)


def test_adding_moves_the_average_and_realizes_nothing() -> None:
    assert held((BUY, 100.0, 1.0), (BUY, 110.0, 3.0)) == (4.0, 107.5, 0.0)
    assert held((SELL, 100.0, 1.0), (SELL, 110.0, 3.0)) == (-4.0, 107.5, 0.0)


def test_reducing_realizes_and_leaves_the_average() -> None:
    assert held((BUY, 100.0, 2.0), (SELL, 103.0, 1.0)) == (1.0, 100.0, 3.0)
    assert held((SELL, 100.0, 2.0), (BUY, 103.0, 1.0)) == (-1.0, 100.0, -3.0)


def test_closing_leaves_no_average() -> None:
    quantity, average, realized = held((BUY, 100.0, 0.3), (SELL, 90.0, 0.1), (SELL, 90.0, 0.2))
    assert quantity == 0.0  # though 0.3 - 0.1 - 0.2 is not, in doubles
    assert average == 0.0
    assert realized == pytest.approx(-3.0)


def test_turning_round_starts_anew_at_the_fills_price() -> None:
    assert held((BUY, 100.0, 2.0), (SELL, 105.0, 5.0)) == (-3.0, 105.0, 10.0)
    assert held((SELL, 100.0, 2.0), (BUY, 105.0, 5.0)) == (3.0, 105.0, -10.0)


def test_account_sums_what_the_strategy_holds() -> None:
    ledger = Ledger(balance=1000.0, leverage=10.0, currency="EUR")
    ledger.on_trade("s", fill(BUY, 100.0, 2.0, 0.5))
    ledger.on_trade("s", fill(SELL, 110.0, 1.0, 0.25))
    ledger.on_trade("s", fill(SELL, 50.0, 4.0, 0.25, b"Z"))
    ledger.on_trade("other", fill(BUY, 1.0, 1.0, 9.0))
    ledger.mark("XY", 120.0)
    ledger.mark("Z", 45.0)
    row = ledger.account("s")
    assert row.dtype == ACCOUNT
    assert row["symbol"] == b"EUR"
    assert row["commission"] == 1.0
    assert row["balance"] == 1000.0 + 10.0 - 1.0
    assert row["equity"] == row["balance"] + 20.0 + 20.0
    assert row["margin"] == (120.0 + 4 * 45.0) / 10.0
    assert ledger.symbols("s") == ["XY", "Z"]
    position = ledger.position("s", "Z")
    assert position.dtype == POSITION
    assert (position["trade_count"], position["ts_event"], position["ts_init"]) == (1, 7, 8)
    assert position["unrealized_pnl"] == 20.0


def test_what_has_no_mark_is_not_known_rather_than_zero() -> None:
    ledger = Ledger()
    ledger.on_trade("s", fill(BUY, 100.0, 1.0))
    assert math.isnan(ledger.position("s", "XY")["unrealized_pnl"])
    assert math.isnan(ledger.account("s")["equity"])
    ledger.mark("XY", 101.0)
    ledger.mark("XY", math.nan)
    assert ledger.position("s", "XY")["unrealized_pnl"] == 1.0
    ledger.on_trade("s", fill(SELL, 100.0, 1.0))
    assert ledger.account("s")["equity"] == 100_000.0


def test_strategy_that_never_traded_has_an_empty_position() -> None:
    ledger = Ledger(balance=5.0)
    row = ledger.position("nobody", "XY")
    assert (row["quantity"], row["realized_pnl"], row["unrealized_pnl"]) == (0.0, 0.0, 0.0)
    assert row["average_price"] == 0.0
    assert ledger.account("nobody")["equity"] == 5.0
    assert ledger.symbols("nobody") == []


def test_row_of_another_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match="TRADE"):
        Ledger().on_trade("s", np.zeros(1, ORDER)[0])


FILLS = st.lists(
    st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 500), st.integers(1, 20)), max_size=40
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(FILLS, st.integers(1, 500))
def test_profit_is_money_earned_and_value_held(
    fills: list[tuple[int, int, int]], mark: int
) -> None:
    """Whatever the average: realized + unrealized == what was paid and got + what is held."""
    ledger = Ledger(balance=0.0)
    ledger.mark("XY", mark / 4)
    cash, quantity, fees = Fraction(0), Fraction(0), Fraction(0)
    cost = Fraction(0)  # of what is held: the average is cost over quantity
    for side, price, lots in fills:
        ledger.on_trade("s", fill(side, price / 4, lots / 10, price / 1000))
        amount = Fraction(lots, 10) * side
        cash -= amount * Fraction(price, 4)
        fees += Fraction(price, 1000)
        if quantity * amount >= 0:
            cost += amount * Fraction(price, 4)
        elif abs(amount) <= abs(quantity):
            cost *= (quantity + amount) / quantity
        else:
            cost = (quantity + amount) * Fraction(price, 4)
        quantity += amount
    row = ledger.position("s", "XY")
    profit = float(cash + quantity * Fraction(mark, 4))
    assert row["quantity"] == pytest.approx(float(quantity), abs=1e-9)
    assert row["realized_pnl"] + row["unrealized_pnl"] == pytest.approx(profit, abs=1e-6)
    assert row["realized_pnl"] == pytest.approx(float(cash + cost), abs=1e-6)
    assert row["trade_count"] == len(fills)
    assert ledger.account("s")["equity"] == pytest.approx(profit - float(fees), abs=1e-6)
    if quantity:
        assert row["average_price"] == pytest.approx(float(cost / quantity), rel=1e-9)
    else:
        assert row["average_price"] == 0.0
