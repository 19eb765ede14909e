"""The events of the strategy layer, field by field: the one definition for Python, C and C++.

Rules this file keeps:

- Every event is naturally aligned, a whole number of 64-byte cache lines long, little-endian, and
  begins with the same 32 bytes: ``symbol``, ``ts_event``, ``ts_init``. Who can read those can route
  any event.
- Times are int64 ns since 1970 (UTC). ``ts_event`` is when it happened, by the clock of whoever it
  happened to (the exchange's, for market data); ``ts_init`` when the event was made or
  received on this machine.
- Prices are in the quote currency, sizes and quantities in the base unit; both float64. A price or
  size that is not known is NaN; a count or a number that is not known is 0.
- 0 is NONE in every enumeration, so that zeroed memory is never a valid event or order.
- A text field keeps one byte for the terminating zero: ``S16`` holds 15 bytes of UTF-8. Longer ones
  are refused (:func:`encode_symbol`), never truncated.

Field names are those that users of nautilus_trader (``ts_event``, ``bid_size``, ``aggressor_side``,
``client_order_id``) and vnpy (``last_price``, ``open_price``, ``turnover``) know.

Here are only dtypes, numbers and what they mean: no C extension, no record types
(``shmipc.trading.events`` adds those). ``shmipc.trading.events.cheader`` writes ``shmipc_events.h``
from it; a test compares the tables of docs/strategies.md with it.
"""

from __future__ import annotations

import dataclasses
from enum import IntEnum

import numpy as np

__all__ = [
    "CUSTOM_KIND_FIRST",
    "DEFAULT_LEVELS",
    "ENUMS",
    "EVENTS",
    "LINE",
    "MAX_LEVELS",
    "PREFIX",
    "SYMBOL_FORMAT",
    "SYMBOL_LEN",
    "VERSION",
    "DocumentedEnum",
    "Event",
    "EventKind",
    "Field",
    "LiquiditySide",
    "OrderAction",
    "OrderStatus",
    "OrderType",
    "Side",
    "TimeInForce",
    "decode_symbol",
    "encode_symbol",
    "make_dtype",
    "make_event",
    "offset_of",
    "order_book_dtype",
]

#: Of these dtypes. Engine and strategies compare it when they meet.
VERSION = 1

LINE = 64  # bytes of a cache line: every event is a multiple
SYMBOL_LEN = 15  # bytes of UTF-8 in a symbol
SYMBOL_FORMAT = f"S{SYMBOL_LEN + 1}"  # of a symbol's field: a zero ends it
DEFAULT_LEVELS = 10  # of an order book, a side
MAX_LEVELS = 1000


class DocumentedEnum(IntEnum):
    """An enumeration whose members may say what they mean, in ``__doc__``."""

    _value_: int

    def __new__(cls, value: int, doc: str = "") -> DocumentedEnum:
        member = int.__new__(cls, value)
        member._value_ = value
        member.__doc__ = doc
        return member


class EventKind(DocumentedEnum):
    """What an event is: the message's kind in the ring."""

    NONE = 0
    TICK = 1
    TRADE_TICK = 2
    ORDER_BOOK = 3
    BAR = 4
    ORDER = 5
    TRADE = 6
    ACCOUNT = 7
    POSITION = 8
    TIMER = 9
    CUSTOM = 10


#: Kinds from here on are the users' own, with a dtype of theirs. Those between are reserved.
CUSTOM_KIND_FIRST = 1024


class Side(DocumentedEnum):
    """Of an order or a fill; of a trade tick, the aggressor's."""

    SELL = -1
    NONE = 0
    BUY = 1


class OrderType(DocumentedEnum):
    """How an order is priced."""

    NONE = 0
    MARKET = 1, "at what the market gives: no price"
    LIMIT = 2, "at price or better"
    STOP_MARKET = 3, "a market order once price is reached"


class TimeInForce(DocumentedEnum):
    """How long an order stands."""

    NONE = 0
    GTC = 1, "good till cancelled"
    IOC = 2, "immediate or cancel"
    FOK = 3, "fill or kill"
    DAY = 4, "until the end of the trading day"
    POST_ONLY = 5, "good till cancelled, refused if it would trade at once"


class OrderStatus(DocumentedEnum):
    """Where an order stands. From FILLED on it is closed."""

    NONE = 0
    SUBMITTED = 1, "sent, nothing heard"
    ACCEPTED = 2, "working"
    PARTIALLY_FILLED = 3, "working, with a part of it done"
    FILLED = 4, "all of it done"
    CANCELED = 5, "taken back; filled_quantity stays done"
    REJECTED = 6, "refused: text says why"
    EXPIRED = 7, "ended by its time in force"


class OrderAction(DocumentedEnum):
    """What a strategy asks the engine to do."""

    NONE = 0
    NEW = 1
    CANCEL = 2
    MODIFY = 3


class LiquiditySide(DocumentedEnum):
    """Whether a fill took liquidity or made it."""

    NONE = 0
    MAKER = 1
    TAKER = 2


ENUMS: tuple[type[IntEnum], ...] = (
    EventKind,
    Side,
    OrderType,
    TimeInForce,
    OrderStatus,
    OrderAction,
    LiquiditySide,
)


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of an event."""

    name: str
    format: str  #: numpy's
    doc: str  #: what it is, and in which unit
    shape: tuple[int, ...] = ()


#: The fields that every event begins with.
PREFIX = (
    Field("symbol", SYMBOL_FORMAT, "the exchange's spelling, zero-terminated"),
    Field("ts_event", "<i8", "ns since 1970 UTC, when it happened"),
    Field("ts_init", "<i8", "ns since 1970 UTC, when it was made or received here"),
)


def make_dtype(fields: tuple[Field, ...]) -> np.dtype[np.void]:
    """Return the dtype of the common prefix and `fields`, as long as whole cache lines.

    Raises ValueError where a field would not be naturally aligned: order them so that none is.
    """
    packed = np.dtype([(field.name, field.format, field.shape) for field in PREFIX + fields])
    assert packed.names is not None
    assert packed.fields is not None
    for name in packed.names:
        field, offset = packed.fields[name][:2]
        if offset % field.base.alignment:
            raise ValueError(f"field {name!r} at offset {offset} is not naturally aligned")
    return np.dtype(
        {
            "names": list(packed.names),
            "formats": [packed.fields[name][0] for name in packed.names],
            "offsets": [packed.fields[name][1] for name in packed.names],
            "itemsize": -(-packed.itemsize // LINE) * LINE,
        }
    )


def offset_of(name: str) -> int:
    """Return where a field of the common prefix lies, in bytes: the same in every event."""
    packed = np.dtype([(field.name, field.format, field.shape) for field in PREFIX])
    assert packed.fields is not None
    return packed.fields[name][1]


_TICK = (
    Field("last_price", "<f8", "of the last trade, quote currency"),
    Field("last_size", "<f8", "of the last trade, base unit"),
    Field("bid_price", "<f8", "best bid, quote currency"),
    Field("ask_price", "<f8", "best ask, quote currency"),
    Field("bid_size", "<f8", "at the best bid, base unit"),
    Field("ask_size", "<f8", "at the best ask, base unit"),
    Field("volume", "<f8", "traded in the session, base unit"),
    Field("turnover", "<f8", "traded in the session, quote currency"),
    Field("open_price", "<f8", "first of the session, quote currency"),
    Field("high_price", "<f8", "highest of the session, quote currency"),
    Field("low_price", "<f8", "lowest of the session, quote currency"),
    Field("sequence", "<i8", "the exchange's number of this update"),
)

_TRADE_TICK = (
    Field("price", "<f8", "quote currency"),
    Field("size", "<f8", "base unit"),
    Field("trade_id", "<i8", "the exchange's number of this trade"),
    Field("aggressor_side", "i1", "Side: who took"),
)


def _order_book(levels: int) -> tuple[Field, ...]:
    return (
        Field("sequence", "<i8", "the exchange's number of this update"),
        Field("bid_count", "<u4", "levels filled in bid_prices and bid_sizes"),
        Field("ask_count", "<u4", "levels filled in ask_prices and ask_sizes"),
        Field("bid_prices", "<f8", "highest first, quote currency", (levels,)),
        Field("bid_sizes", "<f8", "base unit", (levels,)),
        Field("ask_prices", "<f8", "lowest first, quote currency", (levels,)),
        Field("ask_sizes", "<f8", "base unit", (levels,)),
    )


def order_book_dtype(levels: int = DEFAULT_LEVELS) -> np.dtype[np.void]:
    """Return the dtype of an order book of `levels` price levels a side, best first.

    ``bid_count`` and ``ask_count`` say how many are filled; the rest is 0. Raises ValueError
    outside 1 to 1000.
    """
    if not 1 <= levels <= MAX_LEVELS:
        raise ValueError(f"an order book has 1 to {MAX_LEVELS} levels a side, not {levels}")
    return make_dtype(_order_book(levels))


_BAR = (
    Field("open_price", "<f8", "quote currency"),
    Field("high_price", "<f8", "quote currency"),
    Field("low_price", "<f8", "quote currency"),
    Field("close_price", "<f8", "quote currency"),
    Field("volume", "<f8", "traded in the interval, base unit"),
    Field("turnover", "<f8", "traded in the interval, quote currency"),
    Field("interval_ns", "<i8", "ns, length of the interval; ts_event is its end"),
    Field("count", "<i8", "trades in the interval"),
    Field("open_interest", "<f8", "of a derivative at the end, contracts"),
)

_ORDER = (
    Field("client_order_id", "<i8", "the strategy's number of the order, above 0"),
    Field("order_id", "<i8", "the exchange's number of the order"),
    Field("price", "<f8", "limit or trigger, quote currency; NaN: none"),
    Field("quantity", "<f8", "asked for, base unit, above 0"),
    Field("filled_quantity", "<f8", "done of it, base unit"),
    Field("average_price", "<f8", "of what is done, quote currency"),
    Field("ts_trigger", "<i8", "ts_init of the event that led to it, ns; 0: none"),
    Field("side", "i1", "Side"),
    Field("order_type", "u1", "OrderType"),
    Field("time_in_force", "u1", "TimeInForce"),
    Field("status", "u1", "OrderStatus"),
    Field("action", "u1", "OrderAction"),
    Field("reserved", "u1", "0", (3,)),
    Field("text", "S32", "why, in words, zero-terminated"),
)

_TRADE = (
    Field("client_order_id", "<i8", "the strategy's number of the order"),
    Field("order_id", "<i8", "the exchange's number of the order"),
    Field("trade_id", "<i8", "the exchange's number of this fill"),
    Field("price", "<f8", "quote currency"),
    Field("quantity", "<f8", "base unit, above 0"),
    Field("commission", "<f8", "paid (below 0: received), quote currency"),
    Field("side", "i1", "Side"),
    Field("liquidity_side", "u1", "LiquiditySide"),
)

_ACCOUNT = (
    Field("balance", "<f8", "money without open positions, in the account's currency"),
    Field("equity", "<f8", "balance and unrealized profit, in the account's currency"),
    Field("margin", "<f8", "held by orders and positions, in the account's currency"),
    Field("commission", "<f8", "paid so far, in the account's currency"),
)

_POSITION = (
    Field("quantity", "<f8", "base unit; above 0 long, below 0 short"),
    Field("average_price", "<f8", "of what is held, quote currency"),
    Field("realized_pnl", "<f8", "profit of what was closed, quote currency"),
    Field("unrealized_pnl", "<f8", "profit of what is held, quote currency"),
    Field("commission", "<f8", "paid so far, quote currency"),
    Field("trade_count", "<i8", "fills so far"),
)

_TIMER = (
    Field("name", "S16", "the timer's, zero-terminated"),
    Field("interval_ns", "<i8", "ns, from one time to the next"),
    Field("count", "<i8", "times it came due, this one included"),
)

_CUSTOM = (
    Field("name", "S16", "of what this is, zero-terminated"),
    Field("code", "<i8", "the engine's"),
    Field("values", "<f8", "the engine's", (8,)),
    Field("text", "S64", "the engine's, zero-terminated"),
)

TICK = make_dtype(_TICK)
TRADE_TICK = make_dtype(_TRADE_TICK)
ORDER_BOOK = order_book_dtype()
BAR = make_dtype(_BAR)
ORDER = make_dtype(_ORDER)
TRADE = make_dtype(_TRADE)
ACCOUNT = make_dtype(_ACCOUNT)
POSITION = make_dtype(_POSITION)
TIMER = make_dtype(_TIMER)
CUSTOM = make_dtype(_CUSTOM)


@dataclasses.dataclass(frozen=True)
class Event:
    """One event, or one control message."""

    name: str  #: of its record type, and with ``shmipc_`` before it of its C struct
    kind: IntEnum  #: an EventKind, or a Control
    dtype: np.dtype[np.void]
    text: tuple[str, ...]  #: the fields of bytes that are text
    doc: str
    fields: tuple[Field, ...]  #: in the dtype's order, the common ones first


def make_event(
    kind: IntEnum, dtype: np.dtype[np.void], fields: tuple[Field, ...], doc: str
) -> Event:
    """Return the event of `kind`; `dtype` is that of `fields`, the common ones left out."""
    fields = PREFIX + fields
    text = tuple(field.name for field in fields if field.format.startswith("S"))
    return Event(kind.name.title().replace("_", ""), kind, dtype, text, doc, fields)


EVENTS = (
    make_event(EventKind.TICK, TICK, _TICK, "Best bid and ask, last trade, the session so far."),
    make_event(EventKind.TRADE_TICK, TRADE_TICK, _TRADE_TICK, "One trade of the market."),
    make_event(
        EventKind.ORDER_BOOK,
        ORDER_BOOK,
        _order_book(DEFAULT_LEVELS),
        "Price levels, best first. What lies beyond the counts is 0.",
    ),
    make_event(EventKind.BAR, BAR, _BAR, "Prices and volume of one interval."),
    make_event(EventKind.ORDER, ORDER, _ORDER, "What a strategy asks for, and what became of it."),
    make_event(EventKind.TRADE, TRADE, _TRADE, "One fill of an order."),
    make_event(EventKind.ACCOUNT, ACCOUNT, _ACCOUNT, "Money; symbol is the currency."),
    make_event(EventKind.POSITION, POSITION, _POSITION, "What one strategy holds of one symbol."),
    make_event(EventKind.TIMER, TIMER, _TIMER, "A timer that has come due."),
    make_event(EventKind.CUSTOM, CUSTOM, _CUSTOM, "Whatever an engine makes of it."),
)


def encode_symbol(symbol: str | bytes) -> bytes:
    """Return `symbol` as the bytes of an event's field.

    Raises ValueError where it is empty, longer than SYMBOL_LEN bytes of UTF-8, or holds a control
    character; TypeError where it is neither str nor bytes.
    """
    if isinstance(symbol, str):
        raw = symbol.encode()
    elif isinstance(symbol, bytes):
        raw = symbol
    else:
        raise TypeError(f"a symbol is a str, not {type(symbol).__name__}")
    if not 0 < len(raw) <= SYMBOL_LEN:
        raise ValueError(
            f"symbol {symbol!r} has {len(raw)} bytes; an event holds 1 to {SYMBOL_LEN}. "
            "Use the exchange's short name, or map it to one before it enters"
        )
    if any(byte < 0x20 or byte == 0x7F for byte in raw):
        raise ValueError(f"symbol {symbol!r} holds a control character")
    return raw


def decode_symbol(raw: bytes) -> str:
    """Return the symbol in an event's field, as record types do; what is no UTF-8 is escaped."""
    return bytes(raw).split(b"\0", 1)[0].decode(errors="backslashreplace")
