"""Events as columns, for data frames, and columns as events.

A column is named as the field is. A field that holds several values, such as ``bid_prices``, is as
many columns: ``bid_prices_0``, the best level, ``bid_prices_1`` ...; a reserved field is none. Text
is str. Nothing of pandas or polars is imported: both take a dict of columns, and both give columns
that numpy takes.
"""

from __future__ import annotations

import difflib
import numbers
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shmipc.trading.events.dtypes import encode_symbol

__all__ = ["Columns", "columns", "columns_of", "fits", "misfits", "rows_of", "without_reserved"]

Columns = Mapping[str, Any]

_RESERVED = "reserved"
_EXACT_FLOAT = 1 << 53  # from here on a float does not tell one whole number from the next


def columns(events: Any) -> dict[str, NDArray[Any]]:
    """Return the fields of a structured array of events as columns, copied.

    ``pandas.DataFrame(columns(books))`` and ``polars.DataFrame(columns(books))`` take them. Raises
    TypeError for what is no structured array.
    """
    rows = np.atleast_1d(np.asarray(events))
    names = rows.dtype.names
    if names is None:
        raise TypeError(f"columns() takes a structured array of events, not {_what(events)}")
    rows = rows.reshape(-1)
    found: dict[str, NDArray[Any]] = {}
    for name in names:
        if name == _RESERVED:
            continue
        field = rows[name]
        if field.dtype.kind == "S":
            field = np.char.decode(field, "utf-8", "backslashreplace")
        if field.ndim == 1:
            found[name] = field.copy()
            continue
        flat = field.reshape(len(rows), int(np.prod(field.shape[1:])))
        for place in range(flat.shape[1]):
            found[f"{name}_{place}"] = flat[:, place].copy()
    return found


def without_reserved(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Return the same memory without its reserved field: every other field is one column."""
    found: NDArray[np.void] = rows[[name for name in rows.dtype.names or () if name != _RESERVED]]
    return found


# ---- columns as events -------------------------------------------------------------------------


def columns_of(table: Any) -> Columns | None:
    """Return the columns of a dict of columns, a data frame or a table; None: it is none of these.

    The index of a pandas frame is a column if it has a name.
    """
    if isinstance(table, Mapping):
        return table
    if isinstance(table, np.ndarray):
        fields = table.dtype.names
        return None if fields is None else {name: table[name] for name in fields}
    if callable(getattr(table, "collect", None)):  # a lazy frame of polars
        table = table.collect()
    names = getattr(table, "column_names", None)  # pyarrow's, whose `columns` are the data
    names = getattr(table, "columns", None) if names is None else names
    if names is None or isinstance(table, type) or not hasattr(table, "__getitem__"):
        return None
    found = {name: table[name] for name in names}
    index = getattr(table, "index", None)
    name = getattr(index, "name", None)
    if isinstance(name, str):
        found.setdefault(name, index)
    return found


def _fields(dtype: np.dtype[np.void]) -> dict[str, np.dtype[Any]]:
    return {name: dtype[name] for name in dtype.names or () if name != _RESERVED}


def _column_names(dtype: np.dtype[np.void]) -> set[str]:
    names = {_RESERVED}
    for name, field in _fields(dtype).items():
        names.add(name)
        names.update(f"{name}_{place}" for place in range(int(np.prod(field.shape, dtype=int))))
    return names


def fits(given: Columns, dtype: np.dtype[np.void]) -> bool:
    """Is every column of `given` one of `dtype`?"""
    return all(isinstance(name, str) for name in given) and set(given) <= _column_names(dtype)


def misfits(given: Columns, dtype: np.dtype[np.void]) -> list[str]:
    """Return the columns of `given` that `dtype` has not, each with the nearest that it has."""
    known = _column_names(dtype)
    found = []
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), sorted(known - {_RESERVED}), 2, 0.5)
            meant = " or ".join(map(repr, near))
            found.append(f"{name!r}" + (f" (did you mean {meant}?)" if near else ""))
    return found


def rows_of(given: Columns, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Return events of `dtype` from the columns `given`, which fit.

    What is not given is what is not known: NaN, or 0 for a whole number. ``symbol`` and one of the
    times are needed (each time is the other where only one is there), and all of a field that
    holds several values. A column may be one value for all rows. Raises ValueError, which names
    the column, for a value that its field cannot hold exactly.
    """
    several = [name for name, field in _fields(dtype).items() if field.shape]
    needed = {"symbol", *(set(_fields(dtype)) - {"ts_init", "ts_event"} if several else ())}
    missing = sorted(name for name in needed if name not in given and f"{name}_0" not in given)
    if not {"ts_init", "ts_event"} & set(given):
        missing.append("ts_init")
    if missing:
        raise ValueError(f"no column {', '.join(map(repr, missing))}")
    found = {name: _column(given, name, field) for name, field in _fields(dtype).items()}
    for one, other in (("ts_init", "ts_event"), ("ts_event", "ts_init")):
        if found[one] is None:
            found[one] = found[other]
    lengths = {name: len(column) for name, column in found.items() if column is not None}
    wide = {length for length in lengths.values() if length != 1}
    if len(wide) > 1:
        raise ValueError(f"columns of different lengths: {lengths}")
    rows = np.zeros(wide.pop() if wide else 1, dtype)
    for name, field in _fields(dtype).items():
        column = found[name]
        if column is not None:
            rows[name] = column
        elif field.kind == "f":
            rows[name] = np.nan
    return rows


def _column(given: Columns, name: str, field: np.dtype[Any]) -> NDArray[Any] | None:
    """Return the values of one field, or None where they are not given."""
    try:
        if field.shape:
            return _several(given, name, field)
        if name not in given:
            return None
        return _converted(name, given[name], field)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"column {name!r}: {error}") from None


def _several(given: Columns, name: str, field: np.dtype[Any]) -> NDArray[Any]:
    (count,) = field.shape
    if name in given:
        values = np.array([_numbers(row) for row in given[name]], "f8").reshape(-1, count)
        if len(values) != len(given[name]):
            raise ValueError(f"not {count} values a row")
        return values
    parts = [given[f"{name}_{place}"] for place in range(count) if f"{name}_{place}" in given]
    if len(parts) < count:
        raise ValueError(f"{len(parts)} of its {count} columns {name}_0 to {name}_{count - 1}")
    return np.column_stack([_numbers(part) for part in parts])


def _converted(name: str, values: Any, field: np.dtype[Any]) -> NDArray[Any]:
    if field.kind == "S":
        return _texts(name, values, field.itemsize - 1)
    if field.kind == "f":
        return _numbers(values)
    return _integers(values, field, is_time=name.startswith("ts_"))


def _texts(name: str, values: Any, most: int) -> NDArray[Any]:
    def encoded(value: Any) -> bytes:
        if name == "symbol":
            return encode_symbol(value)
        raw = value.encode() if isinstance(value, str) else bytes(value)
        if len(raw) > most:
            raise ValueError(f"{value!r} has {len(raw)} bytes; the field holds {most}")
        return raw

    listed = np.atleast_1d(np.asarray(values)).tolist()
    known = {value: encoded(value) for value in dict.fromkeys(listed)}
    return np.array([known[value] for value in listed], f"S{most + 1}")


def _numbers(values: Any) -> NDArray[Any]:
    array = np.atleast_1d(np.asarray(values))
    if array.dtype.kind == "O":
        array = np.array([np.nan if value is None else _number(value) for value in array], "f8")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"numbers are needed, not {array.dtype}")
    return array.astype("f8")


def _number(value: Any) -> float:
    if not isinstance(value, numbers.Number):
        raise TypeError(f"{value!r} is no number")
    return float(value)  # type: ignore[arg-type]


def _integers(values: Any, field: np.dtype[Any], *, is_time: bool) -> NDArray[Any]:
    array = np.atleast_1d(np.asarray(values))
    if is_time and array.dtype.kind == "O" and hasattr(values, "dtype"):
        array = np.atleast_1d(np.asarray(values, "M8[ns]"))  # a frame's times of a time zone
    if is_time and array.dtype.kind == "M":
        if np.isnat(array).any():
            raise ValueError("a time is missing (NaT)")
        array = _nanoseconds(array)
    if array.dtype.kind == "f":
        if not (np.abs(array) < _EXACT_FLOAT).all() or (array != np.trunc(array)).any():
            raise ValueError("whole numbers are needed, as integers: a float is not exact")
        array = array.astype("i8")
    if array.dtype.kind == "O":
        array = np.array([operator.index(value) for value in array])
    if array.dtype.kind not in "iu":
        raise TypeError(f"whole numbers are needed, not {array.dtype}")
    limits = np.iinfo(field)
    if len(array) and not limits.min <= int(array.min()) <= int(array.max()) <= limits.max:
        raise ValueError(f"a value is not in {limits.min} to {limits.max}")
    return array


def _nanoseconds(times: NDArray[Any]) -> NDArray[Any]:
    converted = times.astype("M8[ns]")
    if (converted.astype(times.dtype) != times).any():
        raise ValueError("a time does not fit in int64 ns since 1970")
    return converted.astype("i8")


def _what(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    return f"{type(value).__name__}" + (f" of {dtype}" if dtype is not None else "")
