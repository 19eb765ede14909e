"""The strategies of the replay: each wants a part of the market, and sums up what it gets.

Owns: checksums of events, field by field in their order. Must not know: what they should be.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

from reading import FIELDS, ORDER_BOOK, TICK, TRADE_TICK

from shmipc.trading.strategy import BaseStrategy


def pack(kind: int, values: Any) -> bytes:
    """Return the values of an event's fields as bytes; a NaN is one NaN."""
    parts = [struct.pack("<i", kind)]
    for value in values:
        if isinstance(value, str):
            parts.append(value.encode())
        elif isinstance(value, bytes):
            parts.append(value)
        elif isinstance(value, int):
            parts.append(struct.pack("<q", value))
        elif isinstance(value, float):
            parts.append(struct.pack("<d", value if value == value else float("nan")))
        else:
            parts.append(struct.pack(f"<{len(value)}d", *value))
    return b"|".join(parts)


class Sums:
    """A count and a checksum for all events, and for each kind."""

    def __init__(self) -> None:
        self._all = hashlib.sha256()
        self._of: dict[int, Any] = defaultdict(hashlib.sha256)
        self._counts: dict[int, int] = defaultdict(int)

    def add(self, kind: int, values: Any) -> None:
        packed = pack(kind, values)
        self._all.update(packed)
        self._of[kind].update(packed)
        self._counts[kind] += 1

    def text(self, in_order: bool) -> str:
        """Return them in words. in_order: with that over all kinds, as they came."""
        lines = [f"{k} {self._counts[k]} {self._of[k].hexdigest()}" for k in sorted(self._counts)]
        if in_order:
            lines.append(f"all {sum(self._counts.values())} {self._all.hexdigest()}")
        return "\n".join(lines)


class Listener(BaseStrategy):
    """Adds up; what came is written at the end."""

    directory = ""
    in_order = True

    def on_start(self) -> None:
        self.sums = Sums()

    def add(self, kind: int, record: Any) -> None:
        self.sums.add(kind, [getattr(record, name) for name in FIELDS[kind]])

    def on_stop(self) -> None:
        path = Path(self.directory) / f"{self.strategy_id}.sums"
        path.write_text(self.sums.text(self.in_order))


class Ticks(Listener):
    def on_tick(self, tick: Any) -> None:
        self.add(TICK, tick)


class Ticker(Listener):
    def on_ticker(self, tick: Any) -> None:
        self.add(TICK, tick.copy())


class Trades(Listener):
    def on_trade_tick(self, trade_tick: Any) -> None:
        self.add(TRADE_TICK, trade_tick)


class TradesAndBooks(Trades):
    def on_order_book(self, book: Any) -> None:
        self.add(ORDER_BOOK, book)


class All(TradesAndBooks, Ticks):
    symbols = ("BTCUSDT",)


class BatchOfAll(Listener):
    in_order = False

    def on_batch(self, kind: int, records: Any) -> None:
        columns = [records[name].tolist() for name in FIELDS[kind]]
        for values in zip(*columns, strict=True):
            self.sums.add(kind, values)


class OtherSymbol(All):
    symbols = ("ETHUSDT",)


class OrdersOnly(Listener):
    """Overrides no market event's callback."""

    def on_order(self, order: Any) -> None:
        raise AssertionError("nobody has sent an order")
