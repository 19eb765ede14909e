"""What engines and strategies say to each other besides events: kinds, fields, flags, ring names.

Rules this file keeps:

- A control message begins with the 32 bytes of every event and is whole cache lines long. Its
  symbol is empty (but INSTRUMENT's and SUBSCRIPTION's), so that no filter drops it.
- An answer carries the session of the HELLO it answers: what is left from before a crash is told
  apart by that.

Here are only dtypes, numbers and names, as in :mod:`shmipc.trading.events.dtypes`.
``shmipc.trading.strategy.protocol`` makes records of them, ``shmipc.trading.events.cheader`` C
structs; docs/strategies.md says who says what when, and a test compares its table with this file.
"""

from __future__ import annotations

from enum import IntEnum

from shmipc.trading.events.dtypes import DocumentedEnum, Event, Field, make_dtype, make_event

__all__ = [
    "BITMAP_LEN",
    "CONTROLS",
    "ENUMS",
    "EVENTS_RING",
    "ID_LEN",
    "MAX_PLACES",
    "ORDERS_RING",
    "REPORTS_RING",
    "Control",
    "MessageFlag",
]

BITMAP_LEN = 128  # bytes of places, at the end of a TARGETED message
MAX_PLACES = BITMAP_LEN * 8
ID_LEN = 64  # bytes in the name of an engine, or of a strategy

#: Names of rings, of engine and strategy. The same in C's printf.
EVENTS_RING = "%s.events"
ORDERS_RING = "%s.%s.orders"
REPORTS_RING = "%s.%s.reports"


class MessageFlag(DocumentedEnum):
    """Flags of a message. They may be combined."""

    TARGETED = 1, "its last bytes are a bitmap of the places that it is for"
    SNAPSHOT = 2, "this says how things stand; nothing has happened"


class Control(DocumentedEnum):
    """What a control message is: the message's kind in the ring."""

    HELLO = 512, "strategy: asks to join"
    STATUS = 513, "strategy: how it fares"
    BYE = 514, "strategy: leaves as it should"
    WELCOME = 515, "engine: the answer to HELLO"
    INSTRUMENT = 516, "engine: a symbol that can be traded"
    SUBSCRIPTION = 517, "engine: a symbol whose events the strategy may see"
    SNAPSHOT_END = 518, "engine: the snapshot is whole"
    REFUSED = 519, "engine: the strategy may not join"
    ENGINE = 520, "engine: another one goes on with this ring"
    STOP = 521, "engine: the strategy is to end, as it does at SIGTERM"


#: All enumerations of this file.
ENUMS: tuple[type[IntEnum], ...] = (MessageFlag, Control)

_SESSION = Field("session", "<i8", "of the strategy, a number that no other start of it has")
_ANSWERED = Field("session", "<i8", "of the HELLO that this answers")
_ENGINE_SESSION = Field("engine_session", "<i8", "of the engine, a number no other start of it has")


def _control(kind: Control, doc: str, *fields: Field) -> Event:
    return make_event(kind, make_dtype(fields), fields, doc)


CONTROLS = (
    _control(
        Control.HELLO,
        "A strategy asks to join.",
        _SESSION,
        Field("pid", "<i8", "of its process"),
        Field("slot", "<i4", "of its cursor in the ring of events"),
        Field("version", "<i4", "of its event dtypes"),
    ),
    _control(
        Control.STATUS,
        "How a strategy fares, now and then.",
        Field("lost", "<i8", "events overwritten before it read them"),
        Field("events", "<i8", "that it has handled, reports included"),
        Field("errors", "<i8", "exceptions in its callbacks"),
    ),
    _control(
        Control.BYE,
        "A strategy leaves as it should.",
        _SESSION,
        Field("errors", "<i8", "exceptions in its callbacks"),
    ),
    _control(
        Control.WELCOME,
        "The answer to HELLO.",
        _ANSWERED,
        _ENGINE_SESSION,
        Field("seq", "<i8", "number of the first event that is not in the snapshot"),
        Field("place", "<i4", "the strategy's bit in bitmaps"),
        Field("version", "<i4", "of the engine's event dtypes"),
        Field("book_levels", "<i4", "of its order books, a side"),
        Field("instruments", "<i4", "how many INSTRUMENT follow; -1: all symbols can be traded"),
        Field("symbols", "<i4", "how many SUBSCRIPTION follow; -1: it may see all symbols"),
    ),
    _control(
        Control.INSTRUMENT,
        "A symbol that can be traded.",
        Field("price_increment", "<f8", "quote currency; 0: not known"),
        Field("size_increment", "<f8", "base unit; 0: not known"),
    ),
    _control(
        Control.SUBSCRIPTION,
        "A symbol whose events the strategy may see.",
        _ANSWERED,
    ),
    _control(Control.SNAPSHOT_END, "The snapshot is whole.", _ANSWERED),
    _control(
        Control.REFUSED,
        "The engine does not let the strategy join.",
        _ANSWERED,
        Field("text", "S128", "why, in words, zero-terminated"),
    ),
    _control(Control.ENGINE, "Another engine goes on with this ring: join again.", _ENGINE_SESSION),
    _control(
        Control.STOP,
        "The strategy is to end, if this is its session.",
        Field("session", "<i8", "of the HELLO of the run that is to end; of another: not for it"),
    ),
)
