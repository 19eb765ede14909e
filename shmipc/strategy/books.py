"""What reports make of holdings: one rule for the engine's books and the strategy's."""

from __future__ import annotations

from typing import Any, Protocol

from shmipc.events import EventKind, Position
from shmipc.market.positions import apply_trade

__all__ = ["Holdings", "book_holding"]

_TRADE = int(EventKind.TRADE)
_ACCOUNT, _POSITION = int(EventKind.ACCOUNT), int(EventKind.POSITION)


class Holdings(Protocol):
    """Whoever keeps them."""

    positions: dict[str, Any]
    account: Any


def book_holding(holdings: Holdings, kind: int, record: Any) -> None:
    """Take a Trade, Position or Account into `holdings`."""
    if kind == _TRADE:
        symbol = record.symbol
        position = holdings.positions.get(symbol)
        if position is None:
            position = holdings.positions[symbol] = Position(symbol=symbol)
        apply_trade(position, record)
    elif kind == _POSITION:
        holdings.positions[record.symbol] = record.copy()
    elif kind == _ACCOUNT:
        holdings.account = record.copy()
