"""What a backtest is run over: the events in whatever it is given, in order.

Everything that can be seen at once is checked before the first event; an iterator is checked as
it goes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from shmipc._core import Record, SchemaMismatch
from shmipc.trading.capture import Summary
from shmipc.trading.events import EventKind, kind_of
from shmipc.trading.events.columns import columns_of, fits, misfits, rows_of
from shmipc.trading.market.feed import feed_batches

__all__ = ["events_of"]

_ACCEPTED = (
    "A source is a structured array of events, a record, a data frame or dict of columns that are "
    "named as an event's fields, a list of these, an iterable of (kind, events) pairs, or the path "
    "of a capture"
)

#: Kind, record type, and rows or records of it.
_Part = tuple[int, Any, Any]


def events_of(
    source: Any, types: dict[int, Any], levels: int, *, summary: Summary, strict: bool
) -> Iterator[tuple[int, Any]]:
    """Return the events of `source`, each its kind and a record.

    types: the record type of each kind that can come. levels: of a capture's order books.
    summary: is filled from a capture. strict: what is not whole there is a CaptureError.

    Raises SchemaMismatch for what holds other events or none, ValueError for a value that an event
    cannot have, TypeError for what is no source.
    """
    if isinstance(source, (str, os.PathLike)):
        return _streamed(feed_batches(source, levels=levels, summary=summary, strict=strict), types)
    part = _part(source, types)
    if part is not None:
        return _merged([part])
    if isinstance(source, (list, tuple)):
        if _is_pair(source):
            return _merged([_needed(source, types)])
        if all(_is_table(item) for item in source):
            return _merged([_needed(item, types) for item in source])
        parts = [_needed(item, types) for item in source]
        return itertools.chain.from_iterable(_merged([part]) for part in parts)
    is_none = isinstance(source, (bytes, bytearray)) or not isinstance(source, Iterable)
    if is_none or (isinstance(source, np.ndarray) and source.ndim == 0):
        raise TypeError(f"this is no source: {_short(source)}. {_ACCEPTED}")
    return _streamed(source, types)


def _streamed(source: Iterable[Any], types: dict[int, Any]) -> Iterator[tuple[int, Any]]:
    for item in source:
        yield from _merged([_needed(item, types)])


def _merged(parts: list[_Part]) -> Iterator[tuple[int, Any]]:
    """Yield the events of several parts by ts_init; at one time, in the order of the parts."""
    if len(parts) == 1:
        kind, made, events = parts[0]
        yield from ((kind, made(event)) for event in events)
        return
    times = np.concatenate([events["ts_init"] for _, _, events in parts] or [np.empty(0, "<i8")])
    which = np.repeat(np.arange(len(parts)), [len(events) for _, _, events in parts])
    first = np.cumsum([0, *(len(events) for _, _, events in parts)])
    for at in np.argsort(times, kind="stable").tolist():
        part = int(which[at])
        kind, made, events = parts[part]
        yield kind, made(events[at - first[part]])


def _is_pair(item: Any) -> bool:
    """Is it (kind, events)?"""
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], (int, np.integer))


def _is_table(item: Any) -> bool:
    """Does it hold several events, so that it is merged with others by time?"""
    if isinstance(item, np.ndarray):
        return item.ndim > 0 and item.dtype.names is not None
    return not isinstance(item, (Record, np.void)) and columns_of(item) is not None


def _needed(item: Any, types: dict[int, Any]) -> _Part:
    part = _pair(item, types) if _is_pair(item) else _part(item, types)
    if part is None:
        raise TypeError(f"this is no event: {_short(item)}. {_ACCEPTED}")
    return part


def _pair(pair: tuple[Any, Any], types: dict[int, Any]) -> _Part:
    kind, events = pair
    made = types.get(int(kind))
    if made is None:
        raise SchemaMismatch(f"events of kind {kind!r} are not broadcast: {_known(types)}")
    part = _part(events, {int(kind): made})
    if part is None:
        raise SchemaMismatch(f"events of kind {kind!r} are not {_short(events)}. {_ACCEPTED}")
    return part


def _part(item: Any, types: dict[int, Any]) -> _Part | None:
    """Return the events of one array, record or table; None: it is none of these."""
    if isinstance(item, Record):
        kind, made = _of_dtype(type(item).dtype, types)
        return kind, made, np.frombuffer(bytes(item), made.dtype)
    if isinstance(item, np.ndarray) and item.dtype.kind == "O":
        return None if item.ndim else _part(item.item(), types)
    if isinstance(item, (np.ndarray, np.void)):
        rows = np.atleast_1d(np.asarray(item)).reshape(-1)
        if any(rows.dtype == made.dtype for made in types.values()):
            kind, made = _of_dtype(rows.dtype, types)
            return kind, made, rows
        if not any(_alike(rows.dtype, made.dtype) for made in types.values()):
            _of_dtype(rows.dtype, types)  # raises
        item = rows  # of another layout or byte order: by the fields' names
    given = columns_of(item)
    return None if given is None else _from_columns(given, types)


def _alike(found: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Has `dtype` a field of the same name and shape for each of `found`?"""
    names = found.names or ("",)
    own = dtype.names or ()
    return all(name in own and found[name].shape == dtype[name].shape for name in names)


def _from_columns(given: Any, types: dict[int, Any]) -> _Part:
    """Return the events in columns: of the one kind that has them all."""
    kinds = {int(kind): made for kind, made in types.items() if fits(given, made.dtype)}
    if not kinds:
        nearest = min(types.values(), key=lambda made: len(misfits(given, made.dtype)))
        wrong = misfits(given, nearest.dtype)
        raise SchemaMismatch(
            f"columns that are no fields of {nearest.__name__}, the nearest event: "
            f"{', '.join(wrong[:8])}. {_ACCEPTED}"
        )
    if len(kinds) > 1:
        names = ", ".join(made.__name__ for made in kinds.values())
        raise SchemaMismatch(
            f"the columns {', '.join(map(repr, given))} may be those of {names}: say which by a "
            "pair, such as (EventKind.TICK, columns)"
        )
    [(kind, made)] = kinds.items()
    try:
        return kind, made, rows_of(given, made.dtype)
    except ValueError as error:
        raise ValueError(f"these columns are no {made.__name__} events: {error}") from None


def _of_dtype(dtype: Any, types: dict[int, Any]) -> tuple[int, Any]:
    for kind, made in types.items():
        if made.dtype == dtype:
            return int(kind), made
    found = kind_of(dtype)
    if found == EventKind.ORDER_BOOK:
        (levels,) = dtype["bid_prices"].shape
        raise SchemaMismatch(f"order books of {levels} levels a side: give book_levels={levels}")
    what = f"an array of {_cut(str(dtype))}" if found is None else f"a record of {found.name}"
    raise SchemaMismatch(f"{what} is no market event ({_known(types)}). {_ACCEPTED}")


def _known(types: dict[int, Any]) -> str:
    return ", ".join(made.__name__ for made in types.values())


def _short(value: Any) -> str:
    return f"{type(value).__name__} {_cut(repr(value))}"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
