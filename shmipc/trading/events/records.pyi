"""Written by `python -m shmipc.trading.events.stubs` from dtypes.py beside it: change it there."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from shmipc._core import Record
from shmipc.trading.events.dtypes import EventKind

RECORD_TYPES: dict[EventKind, Any]

class Tick(Record):
    """Best bid and ask, last trade, the session so far."""

    symbol: str  # the exchange's spelling, zero-terminated
    ts_event: int  # ns since 1970 UTC, when it happened
    ts_init: int  # ns since 1970 UTC, when it was made or received here
    last_price: float  # of the last trade, quote currency
    last_size: float  # of the last trade, base unit
    bid_price: float  # best bid, quote currency
    ask_price: float  # best ask, quote currency
    bid_size: float  # at the best bid, base unit
    ask_size: float  # at the best ask, base unit
    volume: float  # traded in the session, base unit
    turnover: float  # traded in the session, quote currency
    open_price: float  # first of the session, quote currency
    high_price: float  # highest of the session, quote currency
    low_price: float  # lowest of the session, quote currency
    sequence: int  # the exchange's number of this update
    def __new__(
        cls,
        source: object = None,
        /,
        *,
        symbol: str | bytes = ...,
        ts_event: int = ...,
        ts_init: int = ...,
        last_price: float = ...,
        last_size: float = ...,
        bid_price: float = ...,
        ask_price: float = ...,
        bid_size: float = ...,
        ask_size: float = ...,
        volume: float = ...,
        turnover: float = ...,
        open_price: float = ...,
        high_price: float = ...,
        low_price: float = ...,
        sequence: int = ...,
    ) -> Self: ...

class TradeTick(Record):
    """One trade of the market."""

    symbol: str  # the exchange's spelling, zero-terminated
    ts_event: int  # ns since 1970 UTC, when it happened
    ts_init: int  # ns since 1970 UTC, when it was made or received here
    price: float  # quote currency
    size: float  # base unit
    trade_id: int  # the exchange's number of this trade
    aggressor_side: int  # Side: who took
    def __new__(
        cls,
        source: object = None,
        /,
        *,
        symbol: str | bytes = ...,
        ts_event: int = ...,
        ts_init: int = ...,
        price: float = ...,
        size: float = ...,
        trade_id: int = ...,
        aggressor_side: int = ...,
    ) -> Self: ...

class OrderBook(Record):
    """Price levels, best first. What lies beyond the counts is 0."""

    symbol: str  # the exchange's spelling, zero-terminated
    ts_event: int  # ns since 1970 UTC, when it happened
    ts_init: int  # ns since 1970 UTC, when it was made or received here
    sequence: int  # the exchange's number of this update
    bid_count: int  # levels filled in bid_prices and bid_sizes
    ask_count: int  # levels filled in ask_prices and ask_sizes
    bid_prices: NDArray[np.float64]  # highest first, quote currency
    bid_sizes: NDArray[np.float64]  # base unit
    ask_prices: NDArray[np.float64]  # lowest first, quote currency
    ask_sizes: NDArray[np.float64]  # base unit
    def __new__(
        cls,
        source: object = None,
        /,
        *,
        symbol: str | bytes = ...,
        ts_event: int = ...,
        ts_init: int = ...,
        sequence: int = ...,
        bid_count: int = ...,
        ask_count: int = ...,
        bid_prices: ArrayLike = ...,
        bid_sizes: ArrayLike = ...,
        ask_prices: ArrayLike = ...,
        ask_sizes: ArrayLike = ...,
    ) -> Self: ...

class Bar(Record):
    """Prices and volume of one interval."""

    symbol: str  # the exchange's spelling, zero-terminated
    ts_event: int  # ns since 1970 UTC, when it happened
    ts_init: int  # ns since 1970 UTC, when it was made or received here
    open_price: float  # quote currency
    high_price: float  # quote currency
    low_price: float  # quote currency
    close_price: float  # quote currency
    volume: float  # traded in the interval, base unit
    turnover: float  # traded in the interval, quote currency
    interval_ns: int  # ns, length of the interval; ts_event is its end
    count: int  # trades in the interval
    open_interest: float  # of a derivative at the end, contracts
    def __new__(
        cls,
        source: object = None,
        /,
        *,
        symbol: str | bytes = ...,
        ts_event: int = ...,
        ts_init: int = ...,
        open_price: float = ...,
        high_price: float = ...,
        low_price: float = ...,
        close_price: float = ...,
        volume: float = ...,
        turnover: float = ...,
        interval_ns: int = ...,
        count: int = ...,
        open_interest: float = ...,
    ) -> Self: ...

class Order(Record):
    """What a strategy asks for, and what became of it."""

    symbol: str  # the exchange's spelling, zero-terminated
    ts_event: int  # ns since 1970 UTC, when it happened
    ts_init: int  # ns since 1970 UTC, when it was made or received here
    client_order_id: int  # the strategy's number of the order, above 0
    order_id: int  # the exchange's number of the order
    price: float  # limit or trigger, quote currency; NaN: none
    quantity: float  # asked for, base unit, above 0
    filled_quantity: float  # done of it, base unit
    average_price: float  # of what is done, quote currency
    ts_trigger: int  # ts_init of the event that led to it, ns; 0: none
    side: int  # Side
    order_type: int  # OrderType
    time_in_force: int  # TimeInForce
    status: int  # OrderStatus
    action: int  # OrderAction
    reserved: NDArray[np.uint8]  # 0
    text: str  # why, in words, zero-terminated
    def __new__(
        cls,
        source: object = None,
        /,
        *,
        symbol: str | bytes = ...,
        ts_event: int = ...,
        ts_init: int = ...,
        client_order_id: int = ...,
        order_id: int = ...,
        price: float = ...,
        quantity: float = ...,
        filled_quantity: float = ...,
        average_price: float = ...,
        ts_trigger: int = ...,
        side: int = ...,
        order_type: int = ...,
        time_in_force: int = ...,
        status: int = ...,
        action: int = ...,
        reserved: ArrayLike = ...,
        text: str | bytes = ...,
    ) -> Self: ...

class Trade(Record):
    """One fill of an order."""

    symbol: str  # the exchange's spelling, zero-terminated
    ts_event: int  # ns since 1970 UTC, when it happened
    ts_init: int  # ns since 1970 UTC, when it was made or received here
    client_order_id: int  # the strategy's number of the order
    order_id: int  # the exchange's number of the order
    trade_id: int  # the exchange's number of this fill
    price: float  # quote currency
    quantity: float  # base unit, above 0
    commission: float  # paid (below 0: received), quote currency
    side: int  # Side
    liquidity_side: int  # LiquiditySide
    def __new__(
        cls,
        source: object = None,
        /,
        *,
        symbol: str | bytes = ...,
        ts_event: int = ...,
        ts_init: int = ...,
        client_order_id: int = ...,
        order_id: int = ...,
        trade_id: int = ...,
        price: float = ...,
        quantity: float = ...,
        commission: float = ...,
        side: int = ...,
        liquidity_side: int = ...,
    ) -> Self: ...

class Account(Record):
    """Money; symbol is the currency."""

    symbol: str  # the exchange's spelling, zero-terminated
    ts_event: int  # ns since 1970 UTC, when it happened
    ts_init: int  # ns since 1970 UTC, when it was made or received here
    balance: float  # money without open positions, in the account's currency
    equity: float  # balance and unrealized profit, in the account's currency
    margin: float  # held by orders and positions, in the account's currency
    commission: float  # paid so far, in the account's currency
    def __new__(
        cls,
        source: object = None,
        /,
        *,
        symbol: str | bytes = ...,
        ts_event: int = ...,
        ts_init: int = ...,
        balance: float = ...,
        equity: float = ...,
        margin: float = ...,
        commission: float = ...,
    ) -> Self: ...

class Position(Record):
    """What one strategy holds of one symbol."""

    symbol: str  # the exchange's spelling, zero-terminated
    ts_event: int  # ns since 1970 UTC, when it happened
    ts_init: int  # ns since 1970 UTC, when it was made or received here
    quantity: float  # base unit; above 0 long, below 0 short
    average_price: float  # of what is held, quote currency
    realized_pnl: float  # profit of what was closed, quote currency
    unrealized_pnl: float  # profit of what is held, quote currency
    commission: float  # paid so far, quote currency
    trade_count: int  # fills so far
    def __new__(
        cls,
        source: object = None,
        /,
        *,
        symbol: str | bytes = ...,
        ts_event: int = ...,
        ts_init: int = ...,
        quantity: float = ...,
        average_price: float = ...,
        realized_pnl: float = ...,
        unrealized_pnl: float = ...,
        commission: float = ...,
        trade_count: int = ...,
    ) -> Self: ...

class Timer(Record):
    """A timer that has come due."""

    symbol: str  # the exchange's spelling, zero-terminated
    ts_event: int  # ns since 1970 UTC, when it happened
    ts_init: int  # ns since 1970 UTC, when it was made or received here
    name: str  # the timer's, zero-terminated
    interval_ns: int  # ns, from one time to the next
    count: int  # times it came due, this one included
    def __new__(
        cls,
        source: object = None,
        /,
        *,
        symbol: str | bytes = ...,
        ts_event: int = ...,
        ts_init: int = ...,
        name: str | bytes = ...,
        interval_ns: int = ...,
        count: int = ...,
    ) -> Self: ...

class Custom(Record):
    """Whatever an engine makes of it."""

    symbol: str  # the exchange's spelling, zero-terminated
    ts_event: int  # ns since 1970 UTC, when it happened
    ts_init: int  # ns since 1970 UTC, when it was made or received here
    name: str  # of what this is, zero-terminated
    code: int  # the engine's
    values: NDArray[np.float64]  # the engine's
    text: str  # the engine's, zero-terminated
    def __new__(
        cls,
        source: object = None,
        /,
        *,
        symbol: str | bytes = ...,
        ts_event: int = ...,
        ts_init: int = ...,
        name: str | bytes = ...,
        code: int = ...,
        values: ArrayLike = ...,
        text: str | bytes = ...,
    ) -> Self: ...

def order_book_type(levels: int = ...) -> type[OrderBook]: ...
