"""Read an exchange capture into typed records, once.

The format, plain, gzip or zstd (told apart by the first bytes, not by the file's name): one line
an event, ``<local receive time, ns since 1970> <JSON>``, the JSON as Binance's combined stream
sent it: ``bookTicker``, ``trade`` and ``depthUpdate`` events, and REST order-book snapshots
between them.

Rules this file keeps:

- Every line ends up in exactly one place: under its kind, or among the bad lines with its
  number and the reason. ``summary.lines == sum(summary.kinds.values()) + summary.bad_count``.
- No price, size or level of a good line is dropped. A ``depthUpdate`` or a snapshot becomes one
  record a level, the first and the last of its line flagged.
- A line is good as a whole or bad as a whole: a bad one leaves no records behind.
- The text is foreign input. No line raises out of :func:`read_capture`. Failing to open or to read
  the file does (``OSError``), and so does a file in which there is no event at all
  (:class:`CaptureError`): an empty answer to a wrong question would pass for a quiet market.
- Half a file is read as far as it goes, and ``summary.truncated`` says so.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from shmipc._core import Error
from shmipc.trading._unpack import BOM, GZIP, ZSTD, Text, Unreadable, describe

__all__ = [
    "BOOK_TICKER",
    "BUY",
    "DEPTH",
    "EVENT",
    "FIRST",
    "KINDS",
    "LAST",
    "NONE",
    "OFF_BOOK",
    "SELL",
    "SNAPSHOT",
    "TRADE",
    "BadLine",
    "CaptureError",
    "Checksum",
    "Summary",
    "count_by_text",
    "disagreements",
    "parse_line",
    "read_capture",
]

Records = NDArray[np.void]

#: Kind codes. 0 is no kind, so that zeroed memory is never a valid event.
NONE, BOOK_TICKER, TRADE, DEPTH, SNAPSHOT = range(5)
KINDS = {BOOK_TICKER: "bookTicker", TRADE: "trade", DEPTH: "depthUpdate", SNAPSHOT: "snapshot"}

#: Sides: of a trade, the aggressor's; of a book level, whose level it is. 0 is no side.
BUY, SELL = 1, -1

#: Flags. FIRST and LAST mark the records of one line; OFF_BOOK a trade whose ``X`` is not MARKET.
FIRST, LAST, OFF_BOOK = 1, 2, 4

#: One record: 64 bytes, naturally aligned, little-endian. Times are ns since 1970.
#: ``price``/``size`` are a trade's, a level's, or the best bid of a bookTicker; only a
#: bookTicker uses ``ask_price``/``ask_size``. ``id`` is the update id or the trade id.
#: ``symbol`` is an index into ``Summary.symbols`` (0: the line names none), so that a symbol
#: of any length or script stays whole.
EVENT = np.dtype(
    [
        ("ts_event", "<i8"),
        ("ts_init", "<i8"),
        ("id", "<i8"),
        ("price", "<f8"),
        ("size", "<f8"),
        ("ask_price", "<f8"),
        ("ask_size", "<f8"),
        ("line", "<u4"),
        ("kind", "u1"),
        ("side", "i1"),
        ("flags", "u1"),
        ("symbol", "u1"),
    ]
)
assert EVENT.itemsize == 64

MAX_LINE_LEN = 16 << 20  # a snapshot of 5000 levels is about 0.2 MB
MAX_BAD_KEPT = 1000  # bad lines kept with their reason; all are counted
_SHOWN_BAD = 3  # of them in a line for people
_MAX_SYMBOLS = 255  # what the record's u1 can tell apart, 0 left out
_MAX_LINES = (1 << 32) - 1  # what the record's u4 can number
_INT64_MAX = (1 << 63) - 1
_DECIMAL = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")


class BadLine(ValueError):
    """A line that is not an event of this format; the message is the reason."""


class CaptureError(Error, ValueError):
    """There is no event in the file; or, with ``strict``, not all of it is events."""


#: What a capture is, for who gave something else.
_ACCEPTED = (
    "A capture is text, plain or packed by gzip or zstd, one event a line: "
    "'<receive time in ns> <JSON as the exchange sent it>'"
)


@dataclasses.dataclass
class Summary:
    """What a capture held, filled while :func:`read_capture` is iterated.

    ``str()`` of it is one line for people.
    """

    lines: int = 0
    records: int = 0
    kinds: Counter[int] = dataclasses.field(default_factory=Counter)  #: good lines by kind
    bad: list[tuple[int, str]] = dataclasses.field(default_factory=list)  #: (line, reason)
    bad_count: int = 0  #: all bad lines, also those beyond the MAX_BAD_KEPT kept in ``bad``
    damage: str | None = None  #: why the packed data could not be read to its end
    #: The file ends too early: its packed data does, or its last line has no end and is no event.
    truncated: bool = False
    packing: str = ""  #: "gzip", "zstd", or "": plain
    symbols: list[str] = dataclasses.field(default_factory=lambda: [""])
    head: bytes = b""  #: the first bytes of the text

    def reject(self, line: int, reason: str) -> None:
        """Count line number `line` as bad, with its reason."""
        self.bad_count += 1
        if len(self.bad) < MAX_BAD_KEPT:
            self.bad.append((line, reason))

    def by_name(self) -> dict[str, int]:
        """Return the number of good lines of each kind, by the kind's name."""
        return {name: self.kinds[code] for code, name in KINDS.items()}

    @property
    def events(self) -> int:
        """How many events were found: the good lines."""
        return sum(self.kinds.values())

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {name}" for name, count in self.by_name().items() if count)
        told = [f"{self.lines:,} lines read: {self.events:,} events" + f" ({kinds})" * bool(kinds)]
        told[0] += f", {self.bad_count:,} bad" if self.bad_count else ", none bad"
        told += [f"line {line}: {reason}" for line, reason in sorted(self.bad)[:_SHOWN_BAD]]
        if self.bad_count > _SHOWN_BAD:
            told.append(f"and {self.bad_count - _SHOWN_BAD:,} more bad lines")
        if self.truncated:
            told.append(f"TRUNCATED: {self.damage or 'its last line is cut'}")
        return "; ".join(told)

    def check(self, path: str | os.PathLike[str], *, strict: bool = False) -> None:
        """Raise CaptureError where no event was found; with `strict`, where not all is events."""
        what = f"it looks like {describe(self.head)}" if self.head.strip() else "it is empty"
        if strict and (self.bad_count or self.truncated):
            told = f"is not whole: {self}" + f"; {what}" * (not self.events)
        elif not self.events:
            told = f"holds no event: {self.damage or what}"
            if self.bad:
                line, reason = self.bad[0]
                told += f" ({self.lines:,} lines; line {line}: {reason})"
        else:
            return
        raise CaptureError(f"{os.fspath(path)!r} {told}. {_ACCEPTED}")


class Checksum:
    """An order-sensitive digest of records and their count, updated where the records lie.

    Producer and consumers each compute it over what they sent or received, in batches of any
    size; equal values mean the same records in the same order. No copy is made.
    """

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def update(self, records: Records) -> None:
        """Add `records` (C-contiguous, of any length) in their order."""
        if len(records):
            self._hash.update(_bytes_of(records))
            self.count += len(records)

    def value(self) -> str:
        """Return count and digest as one comparable string."""
        return f"{self.count}:{self._hash.hexdigest()}"


def _bytes_of(records: Records) -> memoryview:
    """Return the bytes of a contiguous 1-d array of records, without a copy."""
    if not records.flags.c_contiguous:
        raise ValueError("records must be C-contiguous to be checksummed without a copy")
    return records.view(np.uint8).data


def read_capture(
    path: str | os.PathLike[str],
    *,
    chunk: int = 65536,
    summary: Summary | None = None,
    strict: bool = False,
) -> Iterator[Records]:
    """Parse the capture at `path`, yielding arrays of ``EVENT`` records in the file's order.

    Each array holds whole lines and at least `chunk` records, the last one what is left. Pass a
    `summary` to learn the counts and the bad lines; it is complete when the iteration ends.
    Raises ``OSError`` where the file cannot be opened or read, :class:`CaptureError` where it is
    of another form or its end is reached without an event; with `strict`, also where a line is bad
    or the file is truncated.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, not {chunk}")
    total = Summary() if summary is None else summary
    symbols = {name: index for index, name in enumerate(total.symbols)}
    pending: list[tuple[Any, ...]] = []
    with open(path, "rb") as file:
        text = Text(file)
        is_bad = False  # the line at hand, in the end the last
        try:
            for raw, whole in _lines(text):
                total.lines += 1
                try:
                    if not whole:
                        raise BadLine(f"cut short: {text.damage or 'longer than 16 MiB'}")
                    kind, rows = parse_line(raw, total.lines, symbols)
                except BadLine as error:
                    is_bad = True
                    total.reject(total.lines, str(error))
                    if strict:
                        break
                    continue
                is_bad = False
                if len(symbols) > len(total.symbols):
                    total.symbols.extend(list(symbols)[len(total.symbols) :])
                total.kinds[kind] += 1
                total.records += len(rows)
                pending += rows
                if len(pending) >= chunk:
                    yield np.array(pending, EVENT)
                    pending = []
        except Unreadable as error:
            raise CaptureError(f"{os.fspath(path)!r} is {error}. {_ACCEPTED}") from None
    total.packing, total.damage, total.head = text.packing, text.damage, text.head
    total.truncated = text.damage is not None or (is_bad and not text.is_ended)
    if pending:
        yield np.array(pending, EVENT)
    total.check(path, strict=strict)


def parse_line(raw: bytes, line: int, symbols: dict[str, int]) -> tuple[int, list[tuple[Any, ...]]]:
    """Return the kind of one line and its records, as tuples in the order of ``EVENT``.

    `line` is its number. `symbols` maps a symbol to its index and is extended by a new one.
    Raises :class:`BadLine` with the reason for whatever is not such a line.
    """
    if not raw.strip():
        raise BadLine("empty line")
    if line > _MAX_LINES:
        raise BadLine("line number does not fit in 32 bits")
    stamp, _, body = raw.removeprefix(BOM).partition(b" ")
    if not stamp.isdigit() or not body:
        raise BadLine("does not start with a receive time in ns and a space")
    ts_init = int(stamp) if len(stamp) < 20 else -1
    if not 0 <= ts_init <= _INT64_MAX:
        raise BadLine("receive time does not fit in 63 bits")
    try:
        message = json.loads(body.decode())
    except UnicodeDecodeError:
        raise BadLine("JSON is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise BadLine(f"JSON is cut or malformed: {str(error)[:120]}") from None
    if isinstance(message, dict) and "data" in message:
        message = message["data"]
    if not isinstance(message, dict):
        raise BadLine("JSON is not an object")
    return _parse_message(message, ts_init, line, symbols)


def _parse_message(
    data: dict[str, Any], ts_init: int, line: int, symbols: dict[str, int]
) -> tuple[int, list[tuple[Any, ...]]]:
    event = data.get("e")
    ts_event = _whole(data, "T", _INT64_MAX // 1_000_000) * 1_000_000
    if event == "bookTicker":
        quote = [_decimal(data, key) for key in "bBaA"]
        row = (ts_event, ts_init, _whole(data, "u"), *quote, line)
        return BOOK_TICKER, [(*row, BOOK_TICKER, 0, FIRST | LAST, _symbol(data, symbols))]
    if event == "trade":
        if not isinstance(data.get("m"), bool):
            raise BadLine("field 'm' is missing or not true or false")
        side = SELL if data["m"] else BUY  # m: the buyer was the maker, so the seller aggressed
        flags = FIRST | LAST | (0 if data.get("X") == "MARKET" else OFF_BOOK)
        row = (ts_event, ts_init, _whole(data, "t"), _decimal(data, "p"), _decimal(data, "q"))
        return TRADE, [(*row, 0.0, 0.0, line, TRADE, side, flags, _symbol(data, symbols))]
    if event == "depthUpdate":
        levels = _levels(data, "b", BUY) + _levels(data, "a", SELL)
        kind, update = DEPTH, _whole(data, "u")
        symbol = _symbol(data, symbols)
    elif event is None and "lastUpdateId" in data:
        levels = _levels(data, "bids", BUY) + _levels(data, "asks", SELL)
        kind, update, symbol = SNAPSHOT, _whole(data, "lastUpdateId"), 0
    else:
        raise BadLine(f"unknown event {str(event)[:40]!r}")
    if not levels:  # an update that changes nothing is still an event: one record without a side
        levels = [(0.0, 0.0, 0)]
    marks = [0] * len(levels)
    marks[0] |= FIRST
    marks[-1] |= LAST
    return kind, [
        (ts_event, ts_init, update, price, size, 0.0, 0.0, line, kind, side, mark, symbol)
        for (price, size, side), mark in zip(levels, marks, strict=True)
    ]


def _whole(data: dict[str, Any], key: str, most: int = _INT64_MAX) -> int:
    value = data.get(key)
    if type(value) is not int or not 0 <= value <= most:
        raise BadLine(f"field {key!r} is missing or not a whole number that fits")
    return value


def _number(text: object) -> float:
    """Return the decimal `text` as the nearest double; BadLine if it is not a plain decimal."""
    if type(text) is not str or not _DECIMAL.fullmatch(text):
        raise BadLine(f"{str(text)[:40]!r} is not a decimal number in quotes")
    value = float(text)
    assert math.isfinite(value)  # at most 20 digits before the point
    return value


def _decimal(data: dict[str, Any], key: str) -> float:
    if key not in data:
        raise BadLine(f"field {key!r} is missing")
    return _number(data[key])


def _levels(data: dict[str, Any], key: str, side: int) -> list[tuple[float, float, int]]:
    levels = data.get(key)
    if not isinstance(levels, list):
        raise BadLine(f"field {key!r} is missing or not a list of levels")
    found = []
    for level in levels:
        if not isinstance(level, list) or len(level) != 2:
            raise BadLine(f"a level of {key!r} is not a [price, size] pair")
        found.append((_number(level[0]), _number(level[1]), side))
    return found


def _symbol(data: dict[str, Any], symbols: dict[str, int]) -> int:
    name = data.get("s")
    if not isinstance(name, str) or not name:
        raise BadLine("field 's' is missing or not a symbol")
    index = symbols.get(name)
    if index is None:
        if len(symbols) > _MAX_SYMBOLS:
            raise BadLine(f"more than {_MAX_SYMBOLS} symbols in one capture")
        index = symbols[name] = len(symbols)
    return index


def _lines(text: Text) -> Iterator[tuple[bytes, bool]]:
    """Yield each line without its newline, and whether it is whole (not over-long, not cut)."""
    rest: list[bytes] = []  # what has been read of the line that is not complete yet
    rest_len = 0
    for block in text.blocks():
        first, *more = block.split(b"\n")
        for piece in more:
            whole = rest_len + len(first) <= MAX_LINE_LEN
            yield (b"".join((*rest, first)) if whole else b""), whole
            rest, rest_len, first = [], 0, piece
        rest_len += len(first)
        if rest_len <= MAX_LINE_LEN:
            rest.append(first)
    if rest_len:
        yield b"".join(rest), rest_len <= MAX_LINE_LEN and text.damage is None


def count_by_text(path: str | os.PathLike[str]) -> tuple[int, dict[str, int]]:
    """Count lines, and lines of each kind, by substring alone: no JSON, none of the code above.

    An independent reading to hold :func:`read_capture` against; see :func:`disagreements`.
    Raises ``OSError`` where the file cannot be read.
    """
    marks = {KINDS[SNAPSHOT]: re.compile(rb'"lastUpdateId"\s*:')}
    for kind in (BOOK_TICKER, TRADE, DEPTH):
        marks[KINDS[kind]] = re.compile(rb'"e"\s*:\s*"%s"' % KINDS[kind].encode())
    lines, counts = 0, dict.fromkeys(KINDS.values(), 0)
    with open(path, "rb") as plain:
        head = plain.read(4)
    with gzip.open(path) if head.startswith(GZIP) else _open_plain(path, head) as file:
        try:
            for line in file:
                lines += 1
                for name, mark in marks.items():
                    counts[name] += mark.search(line) is not None
        except (EOFError, zlib.error, gzip.BadGzipFile):
            pass  # read_capture says so as Summary.damage
    return lines, counts


def _open_plain(path: str | os.PathLike[str], head: bytes) -> BinaryIO:
    """Open a file for its lines: the text in it, where it begins as zstd data does."""
    if head != ZSTD:
        return open(path, "rb")
    with open(path, "rb") as file:
        return io.BytesIO(b"".join(Text(file).blocks()))


def disagreements(summary: Summary, lines: int, counts: dict[str, int]) -> list[str]:
    """Compare a parse with :func:`count_by_text`; return what does not agree, in words.

    A bad line may still carry its kind's mark, so a kind may be seen in the text at most as
    many times more often as there are bad lines; without bad lines the counts must be equal.
    """
    found = []
    if summary.damage is None and lines != summary.lines:
        found.append(f"{summary.lines} lines parsed, {lines} in the text")
    for name, parsed in summary.by_name().items():
        if not parsed <= counts[name] <= parsed + summary.bad_count:
            found.append(f"{parsed} {name} lines parsed, {counts[name]} in the text")
    return found
