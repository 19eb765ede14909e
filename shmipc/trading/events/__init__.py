"""Market events, orders and fills: record types over ring memory, and their kinds.

``Tick``, ``TradeTick``, ``OrderBook``, ``Bar``, ``Order``, ``Trade``, ``Account``, ``Position``,
``Timer`` and ``Custom`` are record types (:func:`shmipc.record_type`): an attribute reads its field
where it lies in the ring. ``Tick(symbol="BTCUSDT", last_price=61000.5)`` makes one of one's own,
which can be written to; what is not given is 0. ``Tick.dtype`` is numpy's, for whole arrays.

:mod:`shmipc.trading.events.dtypes` has the fields, their units and the enumerations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shmipc.trading.events.columns import columns
from shmipc.trading.events.dtypes import (
    CUSTOM_KIND_FIRST,
    DEFAULT_LEVELS,
    EventKind,
    LiquiditySide,
    OrderAction,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
    decode_symbol,
    encode_symbol,
    order_book_dtype,
)
from shmipc.trading.events.records import (
    RECORD_TYPES,
    Account,
    Bar,
    Custom,
    Order,
    OrderBook,
    Position,
    Tick,
    Timer,
    Trade,
    TradeTick,
    order_book_type,
)

__all__ = [
    "CUSTOM_KIND_FIRST",
    "DEFAULT_LEVELS",
    "RECORD_TYPES",
    "Account",
    "Bar",
    "Custom",
    "EventKind",
    "LiquiditySide",
    "Order",
    "OrderAction",
    "OrderBook",
    "OrderStatus",
    "OrderType",
    "Position",
    "Side",
    "Tick",
    "TimeInForce",
    "Timer",
    "Trade",
    "TradeTick",
    "columns",
    "decode_symbol",
    "encode_symbol",
    "order_book_type",
]

_KINDS = {made.dtype: kind for kind, made in RECORD_TYPES.items()}


def kind_of(dtype: np.dtype[Any]) -> EventKind | None:
    """Return the kind of events of `dtype` (an order book's of any levels), or None."""
    kind = _KINDS.get(dtype)
    if kind is None and dtype.names is not None and "bid_prices" in dtype.names:
        shape = dtype["bid_prices"].shape
        if len(shape) == 1 and shape[0] > 0 and order_book_dtype(shape[0]) == dtype:
            return EventKind.ORDER_BOOK
    return kind
