"""The real capture, every event of it, to strategies that want different parts of it.

Owns: who subscribes to what, and the comparison with an independent reading (reading.py): counts
and checksums that depend on order and on every field.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from board import need
from engine import await_all
from listeners import Sums
from reading import ORDER_BOOK, TICK, TRADE_TICK, read

from shmipc.trading.market.feed import feed_batches
from shmipc.trading.strategy import StrategyManager

DATA = Path(
    os.environ.get("SHMIPC_TEST_DATA")
    or Path(__file__).resolve().parents[3].parent / "shared" / "data"
)
REAL = DATA / "binance-usdm-btcusdt-20240808.gz"
REPLAY_SECONDS = 120.0

#: class in listeners.py -> the kinds it must get, and whether between kinds the order counts
LISTENERS = {
    "All": ((TICK, TRADE_TICK, ORDER_BOOK), True),
    "Ticks": ((TICK,), True),
    "Ticker": ((TICK,), True),
    "Trades": ((TRADE_TICK,), True),
    "TradesAndBooks": ((TRADE_TICK, ORDER_BOOK), True),
    "BatchOfAll": ((TICK, TRADE_TICK, ORDER_BOOK), False),
    "OtherSymbol": ((), True),
    "OrdersOnly": ((), True),
}


def run(options: Any, directory: str) -> list[tuple[str, str]]:
    if not REAL.exists():
        return [("skipped", f"no real capture at {REAL}")]
    names = [list(LISTENERS)[i % len(LISTENERS)] for i in range(max(8, options.strategies))]
    expected = [Sums() for _ in LISTENERS]
    counts: Counter[int] = Counter()
    for kind, values in read(REAL):
        counts[kind] += 1
        for sums, (kinds, _) in zip(expected, LISTENERS.values(), strict=True):
            if kind in kinds:
                sums.add(kind, values)
    with StrategyManager("replay", slow="wait") as manager:
        for place, name in enumerate(names):
            manager.spawn(
                f"{name}-{place}",
                f"listeners:{name}",
                restart="never",
                parameters={"directory": directory},
            )
        await_all(manager)
        begun = time.monotonic()
        sent: Counter[int] = Counter()
        for kind, events in feed_batches(REAL):
            sent[int(kind)] += manager.broadcast_batch(events, timeout=REPLAY_SECONDS)
            manager.receive_orders(lambda strategy_id, order: None)
        need(manager.drain(REPLAY_SECONDS), f"not all is read: {manager.list_strategies()}")
        seconds = time.monotonic() - begun
    need(sent == counts, f"the feed had {sent}, the file has {counts}")
    rows = [
        ("events in the file, by an independent reading", f"{sum(counts.values()):,}"),
        ("... ticks, trades, books", " ".join(f"{counts[k]:,}" for k in sorted(counts))),
        ("broadcast and read by all, with parsing", f"{seconds:.1f} s"),
    ]
    for place, name in enumerate(names):
        kinds, in_order = LISTENERS[name]
        found = (Path(directory) / f"{name}-{place}.sums").read_text()
        wanted = expected[list(LISTENERS).index(name)].text(in_order)
        need(found == wanted, f"{name} got\n{found}\nbut the file has\n{wanted}")
        count = sum(counts[kind] for kind in kinds)
        rows.append((name, f"{count:,} events, checksum {wanted.split()[-1][:12]} as in the file"))
    return rows
