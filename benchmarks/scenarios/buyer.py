"""The strategy of the two measurements from tick to order: it buys at each tick's ask price.

With stamps, a writable memoryview of int64 with two places a tick, it notes when on_tick begins and
when buy has returned, by CLOCK_MONOTONIC: the engine's side may be another program.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from scenarios import common

ROUNDS = 20_000
WARM = 500


def strategy_class(stamps: Any = None) -> type:
    """The class to run; its `seen` counts ticks."""
    from shmipc.trading.strategy import BaseStrategy

    class Buyer(BaseStrategy):
        timeout = 20.0
        seen = 0

        def on_tick(self, tick: Any) -> None:
            self.seen += 1
            self.buy(tick.symbol, 1.0, tick.ask_price)

    class Stamping(BaseStrategy):
        timeout = 20.0
        seen = 0

        def on_tick(self, tick: Any, clock: Any = time.monotonic_ns) -> None:
            entered = clock()
            self.buy(tick.symbol, 1.0, tick.ask_price)
            left = clock()
            stamps[2 * self.seen] = entered
            stamps[2 * self.seen + 1] = left
            self.seen += 1

    return Buyer if stamps is None else Stamping


def check(strategy: Any, rounds: int) -> None:
    """Raise Wrong unless it saw every tick and no order is left open."""
    if strategy.seen != rounds or strategy.orders:
        raise common.Wrong(f"{strategy.seen} ticks, {len(strategy.orders)} orders not filled")


def legs(engine: Any, stamps: Any) -> dict[str, float]:
    """The median of each leg: the engine's (began, sent, came) of every round, and the stamps."""
    began, sent, came = np.asarray(engine, np.int64).reshape(-1, 3)[WARM:].T
    entered, left = np.asarray(stamps, np.int64).reshape(-1, 2)[WARM:].T
    steps = {
        "broadcast": sent - began,
        "tick": entered - began,
        "order": left - entered,
        "callback": came - left,
    }
    return {f"leg_{name}_ns": float(np.median(step)) for name, step in steps.items()}
