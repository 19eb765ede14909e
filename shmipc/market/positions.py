"""What a fill makes of a position: one rule for the engine and the strategy.

Average price method: fills that enlarge a position move its average price, fills that reduce it
realize profit against that price, and a fill through zero opens the other side at its own price.
A position that is flat has average price 0.
"""

from __future__ import annotations

from typing import Any

__all__ = ["apply_trade"]

_DUST = 1e-12  # what is left of 0.1 + 0.2 - 0.3 is no position


def apply_trade(position: Any, trade: Any) -> None:
    """Add the Trade record `trade` to the owned Position record `position`."""
    held: float = position.quantity
    change: float = trade.side * trade.quantity
    price: float = trade.price
    average: float = position.average_price
    total = held + change
    if abs(total) < _DUST:
        total = 0.0
    if held * change >= 0.0:
        if total:
            average = (average * held + price * change) / total
    else:
        closed = min(abs(held), abs(change))
        position.realized_pnl += closed * (price - average) * (1.0 if held > 0 else -1.0)
        if total == 0.0:
            average = 0.0
        elif total * held < 0.0:
            average = price
    position.quantity = total
    position.average_price = average
    position.commission += trade.commission
    position.trade_count += 1
    position.ts_event = trade.ts_event
    position.ts_init = trade.ts_init
