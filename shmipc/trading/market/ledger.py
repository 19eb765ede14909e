"""Positions and profit of each strategy, from its fills.

Rules this file keeps:

- What a fill makes of a position is the rule of :mod:`shmipc.trading.market.positions`.
- ``realized_pnl`` and ``unrealized_pnl`` are without commission, which is summed beside them.
  ``balance = start + realized - commission`` and ``equity = balance + unrealized``.
- Where a position has no mark yet, what depends on the mark is NaN: unknown, not 0.
- Everything is in one currency, that of the prices. Contracts are linear: profit is price
  difference times quantity.
"""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from shmipc.trading.events.dtypes import ACCOUNT, POSITION, TRADE, decode_symbol, encode_symbol
from shmipc.trading.market.bounds import MOST, is_price
from shmipc.trading.market.positions import apply_trade, fault_of_trade
from shmipc.trading.market.rows import make_row

__all__ = ["Holding", "Ledger"]


@dataclasses.dataclass(slots=True)
class Holding:
    """What one strategy holds of one symbol, and what it has made of it."""

    quantity: float = 0.0  #: below 0: short
    average_price: float = 0.0
    realized_pnl: float = 0.0
    commission: float = 0.0
    trade_count: int = 0
    ts_event: int = 0  #: of its last fill
    ts_init: int = 0

    def unrealized_pnl(self, mark: float) -> float:
        """Return the profit that closing at `mark` would realize."""
        return (mark - self.average_price) * self.quantity if self.quantity else 0.0


class Ledger:
    """The holdings of all strategies. Feed it their trades and the market's prices."""

    def __init__(
        self, *, balance: float = 100_000.0, leverage: float = 20.0, currency: str = "USDT"
    ) -> None:
        """Each strategy starts with `balance`; margin is notional through `leverage`.

        Raises ValueError for a balance that is not finite, or a leverage that is not above 0.
        """
        if not is_price(balance):
            raise ValueError(f"balance is a finite amount of money, not {balance!r}")
        if not 0.0 < leverage < MOST:
            raise ValueError(f"leverage is above 0 and finite, not {leverage!r}")
        self._start = balance
        self._leverage = leverage
        self._currency = encode_symbol(currency)
        self._holdings: dict[str, dict[str, Holding]] = {}
        self._marks: dict[str, float] = {}

    def mark(self, symbol: str, price: float) -> None:
        """Set the price at which positions in `symbol` are valued.

        One that is not known (NaN, infinite) leaves it as it was.
        """
        if is_price(price):
            self._marks[symbol] = price

    def on_trade(self, strategy_id: str, trade: Any) -> None:
        """Add a fill: a record, numpy void or array of one.

        Raises TypeError if it is of another dtype, ValueError where its price or quantity is not
        known; nothing changes then.
        """
        row = np.asarray(trade)
        if row.dtype != TRADE:
            raise TypeError(f"a fill is of dtype TRADE, not {row.dtype}")
        fill = SimpleNamespace(**dict(zip(TRADE.names or (), row.item(), strict=True)))
        if fault := fault_of_trade(fill):
            raise ValueError(f"fill {fill.trade_id} of order {fill.client_order_id}: {fault}")
        apply_trade(self.holding(strategy_id, decode_symbol(fill.symbol)), fill)

    def holding(self, strategy_id: str, symbol: str) -> Holding:
        """Return what `strategy_id` holds of `symbol`."""
        return self._holdings.setdefault(strategy_id, {}).setdefault(symbol, Holding())

    def symbols(self, strategy_id: str) -> list[str]:
        """Return the symbols that `strategy_id` has traded, in order of their first fill."""
        return list(self._holdings.get(strategy_id, ()))

    def position(self, strategy_id: str, symbol: str) -> np.void:
        """Return a POSITION row."""
        held = self._holdings.get(strategy_id, {}).get(symbol, Holding())
        values = (
            encode_symbol(symbol),
            held.ts_event,
            held.ts_init,
            held.quantity,
            held.average_price,
            held.realized_pnl,
            held.unrealized_pnl(self._marks.get(symbol, math.nan)),
            held.commission,
            held.trade_count,
        )
        return make_row(POSITION, values)

    def account(self, strategy_id: str) -> np.void:
        """Return an ACCOUNT row: the sums over all that `strategy_id` holds."""
        holdings = self._holdings.get(strategy_id, {})
        balance, unrealized, commission, notional = self._start, 0.0, 0.0, 0.0
        ts_event = ts_init = 0
        for symbol, held in holdings.items():
            balance += held.realized_pnl - held.commission
            commission += held.commission
            if held.quantity:
                mark = self._marks.get(symbol, math.nan)
                unrealized += held.unrealized_pnl(mark)
                notional += abs(held.quantity) * mark
            ts_event, ts_init = max(ts_event, held.ts_event), max(ts_init, held.ts_init)
        values = (
            self._currency,
            ts_event,
            ts_init,
            balance,
            balance + unrealized,
            notional / self._leverage,
            commission,
        )
        return make_row(ACCOUNT, values)
