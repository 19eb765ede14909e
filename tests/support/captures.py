"""Captures for tests: the real one, ones made here, and a reading that shares no code with feed.

The reading has its own JSON, its own carried sums and its own book, a dictionary that is sorted
for every event.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shmipc.trading.events.dtypes import ORDER_BOOK, TICK, TRADE_TICK, EventKind

DATA = Path(
    os.environ.get("SHMIPC_TEST_DATA")
    or Path(__file__).resolve().parents[2].parent / "shared" / "data"
)
REAL = DATA / "binance-usdm-btcusdt-20240808.gz"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"no real capture at {REAL}")

LEVELS = 10
DTYPES = {
    EventKind.TICK: TICK,
    EventKind.TRADE_TICK: TRADE_TICK,
    EventKind.ORDER_BOOK: ORDER_BOOK,
}


# ---- an independent reading --------------------------------------------------------------------


def top(side: dict[float, float], *, highest_first: bool) -> tuple[int, list[float], list[float]]:
    """Return count, prices and sizes of the best levels, padded with 0."""
    best = sorted(side, reverse=highest_first)[:LEVELS]
    padding = [0.0] * (LEVELS - len(best))
    return len(best), best + padding, [side[p] for p in best] + padding


def read_naively(lines: list[bytes]) -> Iterator[tuple[EventKind, tuple[Any, ...]]]:
    """Yield the kind and the fields of each line's event, in the order of the dtype."""
    nan = math.nan
    last, last_size, opened, high, low, volume, turnover = nan, nan, nan, nan, nan, 0.0, 0.0
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    sequence = 0
    updates: list[dict[str, Any]] = []
    texts = [line.split(b" ", 1) for line in lines]
    messages = [(received, json.loads(text)) for received, text in texts]
    [symbol] = {data["data"]["s"].encode() for _, data in messages if "data" in data}
    for received, data in messages:
        data = data.get("data", data)
        head = (symbol, data["T"] * 10**6, int(received))
        if data.get("e") == "bookTicker":
            touch = [float(data[key]) for key in "baBA"]
            carried = (volume, turnover, opened, high, low)
            yield EventKind.TICK, (*head, last, last_size, *touch, *carried, data["u"])
        elif data.get("e") == "trade":
            price, size = float(data["p"]), float(data["q"])
            on_book = data["X"] == "MARKET"
            side = 0 if not on_book else -1 if data["m"] else 1
            yield EventKind.TRADE_TICK, (*head, price, size, data["t"], side)
            if on_book:
                opened = price if math.isnan(opened) else opened
                high = price if math.isnan(high) or price > high else high
                low = price if math.isnan(low) or price < low else low
                last, last_size = price, size
                volume += size
                turnover += price * size
        else:
            pending = [data]
            if "lastUpdateId" in data:
                sequence = data["lastUpdateId"]
                bids = {float(p): float(q) for p, q in data["bids"] if float(q)}
                asks = {float(p): float(q) for p, q in data["asks"] if float(q)}
                pending = updates
            else:
                updates.append(data)
            for update in pending:
                if update["u"] <= sequence:
                    continue
                sequence = update["u"]
                for side_of, changes in ((bids, update["b"]), (asks, update["a"])):
                    for price_text, size_text in changes:
                        side_of.pop(float(price_text), None)
                        if float(size_text):
                            side_of[float(price_text)] = float(size_text)
            bid_count, *bid = top(bids, highest_first=True)
            ask_count, *ask = top(asks, highest_first=False)
            yield EventKind.ORDER_BOOK, (*head, sequence, bid_count, ask_count, *bid, *ask)


# ---- a capture made here -----------------------------------------------------------------------


def line(stream: str, data: dict[str, Any], at: int) -> bytes:
    return b"%d %s" % (at, json.dumps({"stream": f"xyusdt@{stream}", "data": data}).encode())


def ticker(at: int, *, symbol: str = "XYUSDT", update: int = 1) -> bytes:
    touch = {"b": "9.90", "B": "2", "a": "10.00", "A": "3.5"}
    return line("bookTicker", {"e": "bookTicker", "u": update, "s": symbol, **touch, "T": at}, at)


def trade(at: int, price: str, size: str, *, market: str = "MARKET", maker: bool = False) -> bytes:
    data = {"e": "trade", "T": at, "s": "XYUSDT", "t": at, "p": price, "q": size}
    return line("trade", {**data, "X": market, "m": maker}, at)


def depth(at: int, update: int, bids: Any = (), asks: Any = (), symbol: str = "XYUSDT") -> bytes:
    levels = {"b": list(bids), "a": list(asks)}
    return line("depth", {"e": "depthUpdate", "T": at, "s": symbol, "u": update, **levels}, at)


def snapshot(at: int, update: int, bids: Any = (), asks: Any = ()) -> bytes:
    data = {"lastUpdateId": update, "T": at, "bids": list(bids), "asks": list(asks)}
    return b"%d %s" % (at, json.dumps(data).encode())


def made_capture(count: int, seed: int) -> list[bytes]:
    """Return the lines of a capture: with deletions, late snapshots, trades beside the book."""
    chance = random.Random(seed)
    lines, update = [], 100

    def levels(most: int) -> list[list[str]]:
        prices = chance.sample(range(900, 1100), chance.randint(0, most))
        return [
            [f"{p / 10:.1f}", chance.choice(["0.000", f"{chance.random():.3f}"])] for p in prices
        ]

    for at in range(1, count + 1):
        draw = chance.random()
        if at == count // 3 or at == 2 * count // 3:  # older than some of what is before it
            lines.append(snapshot(at, update - 7, levels(50), levels(50)))
        elif draw < 0.5:
            lines.append(ticker(at, update=update))
        elif draw < 0.75:
            market = "MARKET" if chance.random() < 0.9 else "INSURANCE_FUND"
            price, size = f"{chance.randint(90, 110)}.5", f"{chance.randint(1, 9)}.125"
            lines.append(trade(at, price, size, market=market, maker=chance.random() < 0.5))
        else:
            update += chance.choice([0, 1, 3])  # 0: an update that the book has already
            lines.append(depth(at, update, levels(12), levels(12)))
    return lines


#: Lines that are no events.
BAD = {
    "cut": ticker(7)[:-20],
    "foreign": b"7 " + json.dumps({"data": {"e": "kline", "T": 1, "s": "XYUSDT"}}).encode(),
    "empty": b"",
    "binary": bytes(range(1, 10)),
    "symbol too long": ticker(7, symbol="A" * 16),
    "symbol with a control character": ticker(7, symbol="A\tB"),
}
