"""What a fill makes of a position: one rule for the engine and the strategy.

Average price method: fills that enlarge a position move its average price, fills that reduce it
realize profit against that price, and a fill through zero opens the other side at its own price.
A position that is flat has average price 0.

A fill has a known price and quantity, or it is none (:func:`fault_of_trade`): a NaN would stay in
the position for ever. A commission that is not known (NaN) adds none.
"""

from __future__ import annotations

import math
from typing import Any

from shmipc.trading.market.bounds import MOST, is_price

__all__ = ["apply_trade", "fault_of_trade"]

_DUST = 1e-12  # what is left of 0.1 + 0.2 - 0.3 is no position


def fault_of_trade(trade: Any) -> str:
    """Return why the Trade record `trade` is no fill that a position can take, or nothing."""
    if not is_price(trade.price):
        return f"its price is {trade.price!r}; the price of a fill is finite and below {MOST:g}"
    if not 0.0 < trade.quantity < MOST:
        return f"its quantity is {trade.quantity!r}; that of a fill is above 0 and below {MOST:g}"
    if math.isinf(trade.commission):
        return f"its commission is {trade.commission!r}; it is finite, or NaN: not known"
    return ""


def apply_trade(position: Any, trade: Any) -> None:
    """Add the Trade record `trade`, which has no fault, to the owned Position record `position`.

    What an engine's own report left unknown in it (NaN) stays so.
    """
    held: float = position.quantity
    change: float = trade.side * trade.quantity
    price: float = trade.price
    average: float = position.average_price
    total = held + change
    if abs(total) < _DUST:
        total = 0.0
    if held * change >= 0.0:
        if not held:  # flat: an average that was reported means nothing
            average = price if total else 0.0
        elif total:
            average = (average * held + price * change) / total
    elif held == held:
        closed = min(abs(held), abs(change))
        position.realized_pnl += closed * (price - average) * (1.0 if held > 0 else -1.0)
        if total == 0.0:
            average = 0.0
        elif total * held < 0.0:
            average = price
    position.quantity = total
    position.average_price = average
    if not math.isnan(trade.commission):
        position.commission += trade.commission
    position.trade_count += 1
    position.ts_event = trade.ts_event
    position.ts_init = trade.ts_init
