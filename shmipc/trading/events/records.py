"""The record type of each event. What editors and type checkers know of them is ``records.pyi``,
which ``shmipc.trading.events.stubs`` writes from the event dtypes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from shmipc._core import record_type
from shmipc.trading.events.dtypes import DEFAULT_LEVELS, EVENTS, EventKind, order_book_dtype

__all__ = [
    "RECORD_TYPES",
    "Account",
    "Bar",
    "Custom",
    "Order",
    "OrderBook",
    "Position",
    "Tick",
    "Timer",
    "Trade",
    "TradeTick",
    "order_book_type",
]

#: The record type of each kind. An order book's is that of ``DEFAULT_LEVELS``.
RECORD_TYPES: dict[EventKind, Any] = {
    EventKind(event.kind): record_type(
        event.dtype, event.name, text=event.text, module="shmipc.trading.events"
    )
    for event in EVENTS
}

Tick = RECORD_TYPES[EventKind.TICK]
TradeTick = RECORD_TYPES[EventKind.TRADE_TICK]
OrderBook = RECORD_TYPES[EventKind.ORDER_BOOK]
Bar = RECORD_TYPES[EventKind.BAR]
Order = RECORD_TYPES[EventKind.ORDER]
Trade = RECORD_TYPES[EventKind.TRADE]
Account = RECORD_TYPES[EventKind.ACCOUNT]
Position = RECORD_TYPES[EventKind.POSITION]
Timer = RECORD_TYPES[EventKind.TIMER]
Custom = RECORD_TYPES[EventKind.CUSTOM]


@cache
def order_book_type(levels: int = DEFAULT_LEVELS) -> Any:
    """Return the record type of an order book of `levels` levels a side."""
    if levels == DEFAULT_LEVELS:
        return OrderBook
    return record_type(order_book_dtype(levels), "OrderBook", text=("symbol",))
