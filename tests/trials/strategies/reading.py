"""An independent reading of a capture: what its events are, without shmipc's parser or feed.

Owns: lines to events by plain JSON and dictionaries. Must not import shmipc: it is what shmipc is
measured against.

A line is a stamp (ns), a space, and JSON. A bookTicker is a tick, a trade a trade tick, a
depthUpdate or a REST snapshot an order book of the best levels after it. A tick also carries what
the trades before it were.
"""

from __future__ import annotations

import gzip
import heapq
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TICK, TRADE_TICK, ORDER_BOOK = 1, 2, 3
LEVELS = 10

#: The fields of each kind, in the order in which read() gives their values.
FIELDS = {
    TICK: [
        "symbol",
        "ts_event",
        "ts_init",
        "last_price",
        "last_size",
        "bid_price",
        "ask_price",
        "bid_size",
        "ask_size",
        "volume",
        "turnover",
        "open_price",
        "high_price",
        "low_price",
        "sequence",
    ],
    TRADE_TICK: ["symbol", "ts_event", "ts_init", "price", "size", "trade_id", "aggressor_side"],
    ORDER_BOOK: [
        "symbol",
        "ts_event",
        "ts_init",
        "sequence",
        "bid_count",
        "ask_count",
        "bid_prices",
        "bid_sizes",
        "ask_prices",
        "ask_sizes",
    ],
}

Event = tuple[int, tuple[Any, ...]]


class Day:
    """Of the trades so far."""

    def __init__(self) -> None:
        self.price = self.size = self.open = self.high = self.low = math.nan
        self.volume = self.turnover = 0.0

    def trade(self, price: float, size: float) -> None:
        self.price, self.size = price, size
        if math.isnan(self.open):
            self.open = self.high = self.low = price
        self.high, self.low = max(self.high, price), min(self.low, price)
        self.volume += size
        self.turnover += price * size


class Depth:
    """All levels, by price."""

    def __init__(self) -> None:
        self.sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        self.updates: list[dict[str, Any]] = []
        self.last = 0

    def update(self, data: dict[str, Any]) -> None:
        self.updates.append(data)
        self.apply(data)

    def apply(self, data: dict[str, Any]) -> None:
        if data["u"] > self.last:
            for side, levels in zip(self.sides, (data["b"], data["a"]), strict=True):
                for price, size in levels:
                    if float(size):
                        side[float(price)] = float(size)
                    else:
                        side.pop(float(price), None)
            self.last = data["u"]

    def snapshot(self, data: dict[str, Any]) -> None:
        for side, levels in zip(self.sides, (data["bids"], data["asks"]), strict=True):
            side.clear()
            side.update((float(price), float(size)) for price, size in levels)
        self.last = data["lastUpdateId"]
        for update in self.updates:
            self.apply(update)

    def values(self) -> tuple[Any, ...]:
        bids, asks = self.sides
        best = (heapq.nlargest(LEVELS, bids), heapq.nsmallest(LEVELS, asks))
        columns = []
        for prices, sizes in zip(best, self.sides, strict=True):
            spare = [0.0] * (LEVELS - len(prices))
            columns += [[*prices, *spare], [*(sizes[price] for price in prices), *spare]]
        return (self.last, len(best[0]), len(best[1]), *columns)


def read(path: Path) -> Iterator[Event]:
    """Yield kind and values of each event, in the file's order. Of one symbol."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [line.split(" ", 1) for line in file]
    parsed = [(int(stamp), json.loads(text)) for stamp, text in lines]
    parsed = [(stamp, data.get("data", data)) for stamp, data in parsed]
    symbol = next(data["s"] for _, data in parsed if "s" in data)
    day, depth = Day(), Depth()
    for stamp, data in parsed:
        prefix = (symbol, data["T"] * 1_000_000, stamp)
        kind = data.get("e", "snapshot")
        if kind == "bookTicker":
            quote = [float(data[name]) for name in ("b", "a", "B", "A")]
            sums = (day.volume, day.turnover, day.open, day.high, day.low)
            yield TICK, (*prefix, day.price, day.size, *quote, *sums, data["u"])
        elif kind == "trade":
            price, size = float(data["p"]), float(data["q"])
            on_book = data["X"] == "MARKET"
            side = (-1 if data["m"] else 1) if on_book else 0
            if on_book:
                day.trade(price, size)
            yield TRADE_TICK, (*prefix, price, size, data["t"], side)
        else:
            if kind == "snapshot":
                depth.snapshot(data)
            else:
                depth.update(data)
            yield ORDER_BOOK, (*prefix, *depth.values())
