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

Rules this file keeps:

- A control record begins with the 32 bytes of every event and is whole cache lines long. Its
  symbol is empty (but INSTRUMENT's and SUBSCRIPTION's), so that no filter drops it.
- An answer carries the session of the HELLO it answers: what is left from before a crash is told
  apart by that.

Here are only names and dtypes: no ring is opened.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any, Final

import numpy as np

from shmipc._core import Record, record_type
from shmipc.events import (
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
from shmipc.events.schema import CUSTOM_KIND_FIRST, LINE

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
    "Subscription",
    "Welcome",
    "check_custom",
    "check_id",
    "events_ring",
    "market_types",
    "orders_ring",
    "reports_ring",
]

#: Message flags. TARGETED: the payload ends in a bitmap of the places it is for. SNAPSHOT: this
#: says how things stand; nothing has happened.
TARGETED: Final = 1
SNAPSHOT: Final = 2

BITMAP_LEN: Final = 128  # bytes, of a targeted message
MAX_PLACES: Final = BITMAP_LEN * 8

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Control(IntEnum):
    """Kinds of the messages that are no events."""

    HELLO = 512
    STATUS = 513
    BYE = 514
    WELCOME = 515
    INSTRUMENT = 516
    SUBSCRIPTION = 517
    SNAPSHOT_END = 518
    REFUSED = 519
    ENGINE = 520


def _control(name: str, fields: list[tuple[Any, ...]], text: tuple[str, ...] = ()) -> Any:
    prefix: list[tuple[Any, ...]] = [("symbol", "S16"), ("ts_event", "<i8"), ("ts_init", "<i8")]
    packed = np.dtype(prefix + fields)
    if spare := -packed.itemsize % LINE:
        packed = np.dtype([*prefix, *fields, ("reserved", "u1", (spare,))])
    return record_type(packed, name, text=("symbol", *text), module=__name__)


#: A strategy asks to join; `slot` is that of its cursor in the events ring.
Hello = _control("Hello", [("session", "<i8"), ("pid", "<i8"), ("slot", "<i4"), ("version", "<i4")])
#: How a strategy fares, now and then.
Status = _control("Status", [("lost", "<i8"), ("events", "<i8"), ("errors", "<i8")])
#: A strategy leaves as it should.
Bye = _control("Bye", [("session", "<i8"), ("errors", "<i8")])
#: The answer to HELLO. `seq`: of the first event that is not in the snapshot. `instruments` and
#: `symbols` say how many INSTRUMENT and SUBSCRIPTION follow; -1: none are named, all will do.
Welcome = _control(
    "Welcome",
    [
        ("session", "<i8"),
        ("engine_session", "<i8"),
        ("seq", "<i8"),
        ("place", "<i4"),
        ("version", "<i4"),
        ("book_levels", "<i4"),
        ("instruments", "<i4"),
        ("symbols", "<i4"),
    ],
)
#: A symbol that can be traded. An increment that is not known is 0.
Instrument = _control("Instrument", [("price_increment", "<f8"), ("size_increment", "<f8")])
#: A symbol whose events the engine lets this strategy see.
Subscription = _control("Subscription", [("session", "<i8")])
#: The snapshot is whole.
SnapshotEnd = _control("SnapshotEnd", [("session", "<i8")])
#: The engine does not let the strategy join.
Refused = _control("Refused", [("session", "<i8"), ("text", "S128")], ("text",))
#: Another engine goes on with this ring.
Engine = _control("Engine", [("engine_session", "<i8")])

CONTROL_TYPES: dict[int, Any] = {
    Control.HELLO: Hello,
    Control.STATUS: Status,
    Control.BYE: Bye,
    Control.WELCOME: Welcome,
    Control.INSTRUMENT: Instrument,
    Control.SUBSCRIPTION: Subscription,
    Control.SNAPSHOT_END: SnapshotEnd,
    Control.REFUSED: Refused,
    Control.ENGINE: Engine,
}

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
        for (name, offset), format in zip(_PREFIX.items(), ("S16", "<i8", "<i8"), strict=True):
            if name not in fields or fields[name][:2] != (np.dtype(format), offset):
                raise ValueError(
                    f"kind {kind}: its dtype has no field {name!r} ({format}) at offset {offset}, "
                    "as every event has"
                )
        if dtype in (known.dtype for known in RECORD_TYPES.values()):
            raise ValueError(f"kind {kind}: its dtype is that of an event of the schema")
        types[int(kind)] = given if own else record_type(dtype, "CustomEvent", text=("symbol",))
    return types


_PREFIX = {"symbol": 0, "ts_event": 16, "ts_init": 24}


def events_ring(engine: str) -> str:
    """Return the name of the ring that all strategies of `engine` read."""
    return f"{engine}.events"


def orders_ring(engine: str, strategy_id: str) -> str:
    """Return the name of the ring that takes a strategy's orders to `engine`."""
    return f"{engine}.{strategy_id}.orders"


def reports_ring(engine: str, strategy_id: str) -> str:
    """Return the name of the ring that takes reports to a strategy."""
    return f"{engine}.{strategy_id}.reports"
