"""What an engine and its strategies say to each other, and where.

Three rings join engine NAME and strategy ID; all are message rings whose message kind is an
:class:`EventKind` or a :class:`Control`, and whose payload is the bytes of that event:

- ``NAME.events``: market events, engine to all. Never durable, whatever the number of places.
- ``NAME.ID.orders``: orders and control, strategy to engine. A durable queue.
- ``NAME.ID.reports``: reports, the snapshot and control, engine to strategy. A durable queue.

Joining: the strategy attaches to all three and sends HELLO; the engine answers WELCOME, an
INSTRUMENT for each tradable symbol, a SUBSCRIPTION for each symbol it lets this strategy see, the
snapshot (flagged SNAPSHOT: last ticks and books, open orders, positions, account) and SNAPSHOT_END.
Events below WELCOME's ``seq`` are in the snapshot. A strategy leaves with BYE; an engine that takes
over the rings of one that is gone says ENGINE, and every strategy joins again.

Fields, numbers and ring names of these are in :mod:`shmipc.trading.events.control`.

Here are only names and record types: no ring is opened.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from shmipc._core import Record, record_type
from shmipc.trading.events import (
    RECORD_TYPES,
    Account,
    Bar,
    Custom,
    EventKind,
    Order,
    Position,
    Tick,
    Trade,
    TradeTick,
    order_book_type,
)
from shmipc.trading.events.control import (
    BITMAP_LEN,
    CONTROLS,
    EVENTS_RING,
    ID_LEN,
    MAX_PLACES,
    ORDERS_RING,
    REPORTS_RING,
    Control,
    MessageFlag,
)
from shmipc.trading.events.dtypes import CUSTOM_KIND_FIRST, PREFIX, make_dtype

__all__ = [
    "BITMAP_LEN",
    "CONTROL_TYPES",
    "MARKET_KINDS",
    "MAX_PLACES",
    "REPORT_TYPES",
    "SNAPSHOT",
    "TARGETED",
    "Bye",
    "Control",
    "Engine",
    "Hello",
    "Instrument",
    "Refused",
    "SnapshotEnd",
    "Status",
    "Stop",
    "Subscription",
    "Welcome",
    "check_custom",
    "check_id",
    "events_ring",
    "market_types",
    "orders_ring",
    "reports_ring",
]

TARGETED: Final = int(MessageFlag.TARGETED)
SNAPSHOT: Final = int(MessageFlag.SNAPSHOT)

_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{ID_LEN - 1}}}")

#: The record type of each control message.
CONTROL_TYPES: dict[int, Any] = {
    control.kind: record_type(control.dtype, control.name, text=control.text, module=__name__)
    for control in CONTROLS
}

Hello = CONTROL_TYPES[Control.HELLO]
Status = CONTROL_TYPES[Control.STATUS]
Bye = CONTROL_TYPES[Control.BYE]
Welcome = CONTROL_TYPES[Control.WELCOME]
Instrument = CONTROL_TYPES[Control.INSTRUMENT]
Subscription = CONTROL_TYPES[Control.SUBSCRIPTION]
SnapshotEnd = CONTROL_TYPES[Control.SNAPSHOT_END]
Refused = CONTROL_TYPES[Control.REFUSED]
Engine = CONTROL_TYPES[Control.ENGINE]
Stop = CONTROL_TYPES[Control.STOP]

#: What the engine reports to one strategy.
REPORT_TYPES: dict[int, Any] = {
    EventKind.ORDER: Order,
    EventKind.TRADE: Trade,
    EventKind.ACCOUNT: Account,
    EventKind.POSITION: Position,
}

#: What the engine broadcasts, besides the users' own kinds.
MARKET_KINDS = (
    EventKind.TICK,
    EventKind.TRADE_TICK,
    EventKind.ORDER_BOOK,
    EventKind.BAR,
    EventKind.CUSTOM,
)


def market_types(book_levels: int, custom: dict[int, type[Record]]) -> dict[int, Any]:
    """Return the record type of each kind that an engine with these settings broadcasts."""
    return {
        EventKind.TICK: Tick,
        EventKind.TRADE_TICK: TradeTick,
        EventKind.ORDER_BOOK: order_book_type(book_levels),
        EventKind.BAR: Bar,
        EventKind.CUSTOM: Custom,
        **custom,
    }


def check_id(name: str, what: str) -> str:
    """Return `name`, which names an engine or a strategy.

    Raises ValueError unless it is 1 to 64 of A-Z a-z 0-9 _ -, led by a letter or digit.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} is named by a str, not {type(name).__name__}")
    if _ID.fullmatch(name) is None:
        raise ValueError(
            f"{what} {name!r}: a name is 1 to 64 of A-Z a-z 0-9 _ -, led by a letter or digit"
        )
    return name


def check_custom(custom: Any) -> dict[int, type[Record]]:
    """Return the record types of users' own kinds, given as kind -> dtype or record type.

    Raises ValueError for a kind that is not the users', or a dtype without the 32 bytes that every
    event begins with.
    """
    types: dict[int, type[Record]] = {}
    for kind, given in (custom or {}).items():
        if not CUSTOM_KIND_FIRST <= kind < 1 << 16:
            raise ValueError(
                f"kind {kind!r} of an event of one's own is not in {CUSTOM_KIND_FIRST} to 65535"
            )
        own = isinstance(given, type) and issubclass(given, Record)
        dtype = given.dtype if own else np.dtype(given)
        fields = dtype.fields or {}
        for common in PREFIX:
            expected, offset = _ANY_EVENT[common.name][:2]
            if common.name not in fields or fields[common.name][:2] != (expected, offset):
                raise ValueError(
                    f"kind {kind}: its dtype has no field {common.name!r} ({common.format}) "
                    f"at offset {offset}, as every event has"
                )
        if dtype in (known.dtype for known in RECORD_TYPES.values()):
            raise ValueError(f"kind {kind}: its dtype is that of a predefined event")
        if own and not isinstance(given(bytes(dtype.itemsize)).symbol, str):
            raise ValueError(
                f"kind {kind}: its record type does not have the symbol as text: "
                "record_type(dtype, text=('symbol',))"
            )
        types[int(kind)] = given if own else record_type(dtype, "CustomEvent", text=("symbol",))
    return types


_ANY_EVENT: Any = make_dtype(()).fields  # the common fields, and where they lie


def events_ring(engine: str) -> str:
    """Return the name of the ring that all strategies of `engine` read."""
    return EVENTS_RING % engine


def orders_ring(engine: str, strategy_id: str) -> str:
    """Return the name of the ring that takes a strategy's orders to `engine`."""
    return ORDERS_RING % (engine, strategy_id)


def reports_ring(engine: str, strategy_id: str) -> str:
    """Return the name of the ring that takes reports to a strategy."""
    return REPORTS_RING % (engine, strategy_id)
