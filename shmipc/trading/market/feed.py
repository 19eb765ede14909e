"""A capture as the events of an engine: one event a line, in the file's order.

    bookTicker      Tick        best bid and ask; last trade, volume and so on from earlier trades
    trade           TradeTick
    depthUpdate     OrderBook   the best levels of the whole book after the update
    REST snapshot   OrderBook   the same, after the book has been put up from it

Rules this file keeps:

- A good line is exactly one event. A truncated or foreign line is none: the summary tells it, with
  its number and the reason. So is a line whose symbol does not fit an event (too long).
- What a tick carries of the trades (last price and size, volume, turnover, open, high, low) is of
  the trades in the lines before it, from the capture's start. Before the first one prices
  and ``last_size`` are NaN, ``volume`` and ``turnover`` 0.
- A trade beside the order book (``X`` is not ``MARKET``: insurance fund, deleveraging) is a
  TradeTick whose ``aggressor_side`` is NONE, because nobody hit the book; it touches none of
  those. Who fills orders from trades must leave it out.
- A snapshot names no symbol. It is of the one symbol that the lines before it name, or if they
  name none, of the first that the capture names. Where they name several it is a bad line.
- An update that the book holds already still is an event: the book, unchanged.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shmipc.trading import capture
from shmipc.trading.events.dtypes import (
    DEFAULT_LEVELS,
    SYMBOL_FORMAT,
    TICK,
    TRADE_TICK,
    EventKind,
    encode_symbol,
    order_book_dtype,
)
from shmipc.trading.market.book import Book

__all__ = ["Events", "feed", "feed_batches"]

#: Events of one kind: an array of its dtype.
Events = tuple[EventKind, NDArray[np.void]]

_CHUNK = 16384  # capture records parsed at a time

_KIND_OF = np.zeros(5, np.uint8)
_KIND_OF[capture.BOOK_TICKER] = EventKind.TICK
_KIND_OF[capture.TRADE] = EventKind.TRADE_TICK
_KIND_OF[[capture.DEPTH, capture.SNAPSHOT]] = EventKind.ORDER_BOOK

_TIMES = ("ts_event", "ts_init")
_FROM_TRADES = (
    "last_price",
    "last_size",
    "volume",
    "turnover",
    "open_price",
    "high_price",
    "low_price",
)


def feed(
    path: str | os.PathLike[str],
    *,
    levels: int = DEFAULT_LEVELS,
    summary: capture.Summary | None = None,
    strict: bool = False,
) -> Iterator[Events]:
    """Yield each event of the capture at `path`: its kind, and an array of one.

    `levels` is that of the order books. `summary` is complete when the iteration ends. Raises
    ``OSError`` where the file cannot be read, :class:`shmipc.trading.capture.CaptureError` where it
    holds no event; with `strict`, also where a line is bad or the file is truncated.
    """
    for kind, events in feed_batches(path, levels=levels, summary=summary, strict=strict):
        for index in range(len(events)):
            yield kind, events[index : index + 1]


def feed_batches(
    path: str | os.PathLike[str],
    *,
    levels: int = DEFAULT_LEVELS,
    summary: capture.Summary | None = None,
    strict: bool = False,
) -> Iterator[Events]:
    """Yield the same events as :func:`feed`, those of one kind that follow each other in one array.

    A long run may come in several arrays. They are contiguous.
    """
    total = capture.Summary() if summary is None else summary
    market = _Market(total, levels)
    waiting: list[NDArray[np.void]] = []  # snapshots only, until a line names a symbol
    for records in capture.read_capture(path, chunk=_CHUNK, summary=total, strict=strict):
        waiting.append(records)
        if len(total.symbols) > 1:
            yield from market.events(np.concatenate(waiting))
            waiting = []
    if waiting:
        yield from market.events(np.concatenate(waiting))
    total.check(path, strict=strict)  # again: lines of no usable symbol are bad by now


class _Day:
    """What the ticks of one symbol carry of its trades."""

    def __init__(self) -> None:
        nan = float("nan")
        self.last = dict.fromkeys(_FROM_TRADES, nan) | {"volume": 0.0, "turnover": 0.0}

    def fill(self, ticks: NDArray[np.void], before: NDArray[Any], trades: NDArray[np.void]) -> None:
        """Write into `ticks` what they carry; each follows as many of `trades` as `before` says."""
        price, size, last = trades["price"], trades["size"], self.last
        columns = {
            "last_price": np.append(last["last_price"], price),
            "last_size": np.append(last["last_size"], size),
            "volume": np.cumsum(np.append(last["volume"], size)),
            "turnover": np.cumsum(np.append(last["turnover"], price * size)),
            "high_price": np.fmax.accumulate(np.append(last["high_price"], price)),
            "low_price": np.fmin.accumulate(np.append(last["low_price"], price)),
        }
        opened = last["open_price"]
        if opened != opened and len(price):
            opened = float(price[0])
        columns["open_price"] = np.append(last["open_price"], np.full(len(price), opened))
        for name, column in columns.items():
            ticks[name] = column[before]
            last[name] = float(column[-1])


class _Market:
    """Books and days of a capture's symbols, and the events made of its records."""

    def __init__(self, summary: capture.Summary, levels: int) -> None:
        self._summary = summary
        self._book_dtype = order_book_dtype(levels)
        self._names: list[bytes | ValueError] = [ValueError("the line names no symbol")]
        self._named: list[int] = []  # symbols in the order in which the lines name them
        self._books: dict[int, Book] = {}
        self._days: dict[int, _Day] = {}

    def events(self, records: NDArray[np.void]) -> Iterator[Events]:
        """Yield the events of `records`, whole lines as the parser gives them."""
        for name in self._summary.symbols[len(self._names) :]:
            try:
                self._names.append(encode_symbol(name))
            except ValueError as error:
                self._names.append(error)
        starts = np.flatnonzero(records["flags"] & capture.FIRST)
        symbols, bad = self._attribute(records[starts])
        if bad:
            ends = np.append(starts[1:], len(records))
            keep = np.ones(len(starts), bool)
            for index, reason in bad.items():
                keep[index] = False
                self._reject(records[starts[index]], int(ends[index] - starts[index]), reason)
            records = records[np.repeat(keep, ends - starts)]
            starts = np.flatnonzero(records["flags"] & capture.FIRST)
            symbols = symbols[keep]
        if not len(starts):
            return
        first = records[starts]
        kinds = _KIND_OF[first["kind"]]
        of_kind = {
            EventKind.TICK: self._ticks(first, symbols),
            EventKind.TRADE_TICK: self._trades(first, symbols),
            EventKind.ORDER_BOOK: self._order_books(records, starts, symbols),
        }
        taken = dict.fromkeys(of_kind, 0)
        edges = [0, *(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), len(kinds)]
        for start, end in itertools.pairwise(edges):
            kind = EventKind(int(kinds[start]))
            at = taken[kind]
            taken[kind] = at + end - start
            yield kind, of_kind[kind][at : at + end - start]

    def _attribute(self, first: NDArray[np.void]) -> tuple[NDArray[Any], dict[int, str]]:
        """Return each line's symbol, and the reason by index of lines that have none to use."""
        symbols = first["symbol"].copy()
        bad = {}
        new = [int(index) for index in np.unique(symbols) if index]
        first_at = {
            symbol: int(np.flatnonzero(symbols == symbol)[0])
            for symbol in new
            if symbol not in self._named
        }
        for index in np.flatnonzero(first["kind"] == capture.SNAPSHOT).tolist():
            before = [*self._named, *(s for s, at in first_at.items() if at < index)]
            if not before:  # the first that comes, if any does
                before = sorted(first_at, key=first_at.__getitem__)[:1]
            if len(before) == 1:
                symbols[index] = before[0]
            else:
                bad[index] = (
                    "snapshot of one of several symbols, and it does not say of which"
                    if before
                    else "snapshot of a symbol that no line names"
                )
        self._named += sorted(first_at, key=first_at.__getitem__)
        for symbol in np.unique(symbols).tolist():
            name = self._names[symbol]
            if isinstance(name, ValueError):
                for index in np.flatnonzero(symbols == symbol).tolist():
                    bad.setdefault(index, str(name))
        return symbols, bad

    def _reject(self, first: np.void, count: int, reason: str) -> None:
        """Move a line that the parser found good, of `count` records, to the bad ones."""
        self._summary.kinds[int(first["kind"])] -= 1
        self._summary.records -= count
        self._summary.reject(int(first["line"]), reason)

    def _name(self, symbols: NDArray[Any]) -> NDArray[Any]:
        """Return the symbols' names as an event's field has them."""
        names = [b"" if isinstance(name, ValueError) else name for name in self._names]
        found: NDArray[Any] = np.array(names, SYMBOL_FORMAT)[symbols]
        return found

    def _ticks(self, first: NDArray[np.void], symbols: NDArray[Any]) -> NDArray[np.void]:
        mine = first["kind"] == capture.BOOK_TICKER
        quotes, of = first[mine], symbols[mine]
        ticks = np.zeros(len(quotes), TICK)
        ticks["symbol"] = self._name(of)
        for name in (*_TIMES, "ask_price", "ask_size"):
            ticks[name] = quotes[name]
        ticks["bid_price"], ticks["bid_size"] = quotes["price"], quotes["size"]
        ticks["sequence"] = quotes["id"]
        on_book = (first["kind"] == capture.TRADE) & (first["flags"] & capture.OFF_BOOK == 0)
        for symbol in np.unique(symbols).tolist():
            at_trades = np.flatnonzero(on_book & (symbols == symbol))
            at_ticks = np.flatnonzero(mine & (symbols == symbol))
            part = np.zeros(len(at_ticks), TICK)
            day = self._days.setdefault(symbol, _Day())
            day.fill(part, np.searchsorted(at_trades, at_ticks), first[at_trades])
            for name in _FROM_TRADES:
                ticks[name][of == symbol] = part[name]
        return ticks

    def _trades(self, first: NDArray[np.void], symbols: NDArray[Any]) -> NDArray[np.void]:
        mine = first["kind"] == capture.TRADE
        prints = first[mine]
        trades = np.zeros(len(prints), TRADE_TICK)
        trades["symbol"] = self._name(symbols[mine])
        for name in (*_TIMES, "price", "size"):
            trades[name] = prints[name]
        trades["trade_id"] = prints["id"]
        on_book = prints["flags"] & capture.OFF_BOOK == 0
        trades["aggressor_side"] = np.where(on_book, prints["side"], 0)
        return trades

    def _order_books(
        self, records: NDArray[np.void], starts: NDArray[Any], symbols: NDArray[Any]
    ) -> NDArray[np.void]:
        first = records[starts]
        of_book = first["kind"] == capture.SNAPSHOT
        mine = np.flatnonzero(of_book | (first["kind"] == capture.DEPTH))
        books = np.zeros(len(mine), self._book_dtype)
        books["symbol"] = self._name(symbols[mine])
        for name in _TIMES:
            books[name] = first[name][mine]
        ends = np.append(starts[1:], len(records))
        for row, line in enumerate(mine.tolist()):
            part = records[starts[line] : ends[line]]
            is_bid, is_ask = part["side"] == capture.BUY, part["side"] == capture.SELL
            prices, sizes = part["price"], part["size"]
            bids = list(zip(prices[is_bid].tolist(), sizes[is_bid].tolist(), strict=True))
            asks = list(zip(prices[is_ask].tolist(), sizes[is_ask].tolist(), strict=True))
            book = self._books.setdefault(int(symbols[line]), Book())
            apply = book.snapshot if of_book[line] else book.update
            apply(int(first["id"][line]), bids, asks)
            book.write(books[row])
        return books
