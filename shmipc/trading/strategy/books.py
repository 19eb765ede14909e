"""What reports make of holdings: one rule for the engine's books and the strategy's.

An engine refuses to report a fill without a known price and quantity (:func:`check_trade`). One
that comes all the same, from an engine that is not ours, is logged and not booked: a position that
became NaN would stay so.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from shmipc.trading.events import EventKind, Position
from shmipc.trading.market.positions import apply_trade, fault_of_trade

__all__ = ["Holdings", "book_holding", "check_trade"]

_logger = logging.getLogger("shmipc.trading.strategy")

_TRADE = int(EventKind.TRADE)
_ACCOUNT, _POSITION = int(EventKind.ACCOUNT), int(EventKind.POSITION)


class Holdings(Protocol):
    """Whoever keeps them."""

    positions: dict[str, Any]
    account: Any


def check_trade(trade: Any) -> None:
    """Raise ValueError where the Trade `trade` has no known price or quantity."""
    if fault := fault_of_trade(trade):
        raise ValueError(f"fill {trade.trade_id} of order {trade.client_order_id}: {fault}")


def book_holding(holdings: Holdings, kind: int, record: Any) -> None:
    """Take a Trade, Position or Account into `holdings`."""
    if kind == _TRADE:
        symbol = record.symbol
        if fault := fault_of_trade(record):
            order_id = record.client_order_id
            _logger.error("fill %d of order %d not booked: %s", record.trade_id, order_id, fault)
            return
        position = holdings.positions.get(symbol)
        if position is None:
            position = holdings.positions[symbol] = Position(symbol=symbol)
        apply_trade(position, record)
    elif kind == _POSITION:
        holdings.positions[record.symbol] = record.copy()
    elif kind == _ACCOUNT:
        holdings.account = record.copy()
