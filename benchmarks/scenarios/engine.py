"""Tick to order to engine: a C++ engine and one Python strategy, both spinning, a core each.

    engine.py PROGRAM [--share S] [--legs]

PROGRAM is native/engine_roundtrip.cpp, which says what a round is and takes the times. This process
is the strategy: its on_tick buys at the tick's ask price. The engine compares each order with what
was due; here ticks are counted, and no order may be left open at the end.

rtt_ns_p50, rtt_each_ns_p99, _p999: single rounds, from before the send of the tick until the order
was there and compared.

--legs stamps every step in both processes and prints the median of each leg: the engine's send;
from before it to on_tick; on_tick, which is buy; from there until the engine has compared the
order. The stamps cost, so its figures are not those of the bar.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from launch import read_figures
from scenarios import common, market

ROUNDS = 20_000
WARM = 500  # as the program has it
ENGINE = "engine-roundtrip"


def strategy_class(stamps: Any) -> type:
    """The strategy; with stamps it notes when on_tick begins, and when buy has returned."""
    from shmipc.strategy import BaseStrategy

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
            stamps[self.seen] = (entered, left)
            self.seen += 1

    return Buyer if stamps is None else Stamping


def legs(path: Path, stamps: list[tuple[int, int]]) -> dict[str, float]:
    """The median of each leg, from the engine's times and ours."""
    began, sent, came = np.fromfile(path, np.int64).reshape(-1, 3)[WARM:].T
    entered, left = np.array(stamps[WARM:], np.int64).T
    steps = {
        "broadcast": sent - began,
        "tick": entered - began,
        "order": left - entered,
        "callback": came - left,
    }
    return {f"leg_{name}_ns": float(np.median(step)) for name, step in steps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--legs", action="store_true")
    options = parser.parse_args()
    rounds = max(1000, int(ROUNDS * options.share))
    stamps = [(0, 0)] * (WARM + rounds) if options.legs else None
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_WORKDIR")) as directory:
        times = Path(directory) / "times"
        command = [options.program, ENGINE, str(rounds), *([str(times)] if options.legs else [])]
        engine = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        strategy = strategy_class(stamps)("buyer", engine=ENGINE)
        common.quiet()
        try:
            strategy.run(cpu=market.core(common.CONSUMER), spin=float("inf"))
            out, _ = engine.communicate(timeout=20)
        finally:
            engine.kill()
            engine.wait()
        if engine.returncode:
            raise common.Wrong(f"the engine ended with {engine.returncode}")
        if strategy.seen != WARM + rounds or strategy.orders:
            raise common.Wrong(f"{strategy.seen} ticks, {len(strategy.orders)} orders not filled")
        common.emit(**read_figures(out))
        if stamps is not None:
            common.emit(**legs(times, stamps))


if __name__ == "__main__":
    main()
