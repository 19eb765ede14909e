"""An event from the ring to a strategy's callback that reads three fields, in one process.

    dispatch.py [--share S]

Engine and strategy are in this process. The engine broadcasts a burst (not timed); then the
strategy takes it, one callback an event: that is timed, as nanoseconds an event. In turns with it a
loop calls a Python function that does nothing, f(x); from its time that of the empty loop is taken
off, which makes the bar harder. The burst lies in the core's own caches: what a line costs that
another core wrote is in `roundtrip` and `strategies`. Before the clock runs every event of a burst
is compared with what was sent.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import common, market

TURNS = 200
BURST = 1000
ENGINE = "dispatch"


def strategies() -> dict[str, Any]:
    """A strategy for each event: one that reads, and one that reads and keeps what it has read."""
    from shmipc.trading.strategy import BaseStrategy

    class Ticks(BaseStrategy):
        def on_tick(self, tick: Any) -> None:
            _bid = tick.bid_price
            _ask = tick.ask_price
            _last = tick.last_price

    class Trades(BaseStrategy):
        def on_trade_tick(self, trade: Any) -> None:
            _price = trade.price
            _size = trade.size
            _number = trade.trade_id

    class Seen(BaseStrategy):
        numbers: Any = None

        def on_tick(self, tick: Any) -> None:
            self.numbers.append((tick.sequence, tick.last_price))

        def on_trade_tick(self, trade: Any) -> None:
            self.numbers.append((trade.trade_id, trade.price))

    return {"tick": Ticks("tick"), "trade": Trades("trade"), "seen": Seen("seen")}


def nothing(x: Any) -> None:
    """The function that a callback is compared with."""


def call_nothing(passes: range) -> int:
    """Time the loop that calls it."""
    f = nothing
    then = time.perf_counter_ns()
    for x in passes:
        f(x)
    return time.perf_counter_ns() - then


def loop(passes: range) -> int:
    """Time the loop alone."""
    then = time.perf_counter_ns()
    for _ in passes:
        pass
    return time.perf_counter_ns() - then


def take(step: Any, count: int) -> int:
    """Time a strategy's steps until it has had `count` events."""
    had = 0
    then = time.perf_counter_ns()
    while had < count:
        had += step(1.0)
    return time.perf_counter_ns() - then


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    from contextlib import ExitStack

    from shmipc.trading.strategy import StrategyManager

    common.pin(common.PRODUCER)
    samples: dict[str, list[float]] = {"call": []}
    with ExitStack() as stack:
        manager = {}
        steps = {}
        for name, strategy in strategies().items():
            engine = strategy.engine = f"{ENGINE}-{name}"
            manager[name] = stack.enter_context(StrategyManager(engine, capacity=1 << 20))
            manager[name].register_strategy(name)
            runtime = stack.enter_context(strategy._run_as(None, 10.0, "raise"))
            stack.callback(runtime.shut)
            while not strategy.connected:
                runtime.step(0.0)
                manager[name].poll()
            steps[name] = runtime.step
            if name == "seen":
                prove(manager[name], strategy, runtime.step)
        kinds = {name: market.Kind(name) for name in ("tick", "trade")}
        rows = {name: kind.rows(BURST) for name, kind in kinds.items()}
        common.quiet()
        passes = range(BURST)
        for _ in range(max(10, int(TURNS * options.share))):
            empty = loop(passes)
            samples["call"].append((call_nothing(passes) - empty) / BURST)
            for name in kinds:
                manager[name].broadcast_batch(rows[name])
                samples.setdefault(name, []).append(take(steps[name], BURST) / BURST)
    common.emit(**{f"{name}_ns": statistics.median(taken) for name, taken in samples.items()})


def prove(manager: Any, strategy: Any, step: Any) -> None:
    """Compare a burst of each event with what was sent."""
    for name in ("tick", "trade"):
        strategy.numbers = []
        manager.broadcast_batch(market.Kind(name).rows(BURST))
        take(step, BURST)
        if strategy.numbers != [(i, float(i % market.PERIOD)) for i in range(BURST)]:
            raise common.Wrong(f"another {name} than was sent")


if __name__ == "__main__":
    main()
