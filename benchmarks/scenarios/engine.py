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
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from launch import read_figures
from scenarios import buyer, common, market
from scenarios.buyer import ROUNDS, WARM  # as the program has them

ENGINE = "engine-roundtrip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--legs", action="store_true")
    options = parser.parse_args()
    rounds = max(1000, int(ROUNDS * options.share))
    stamps = np.zeros(2 * (WARM + rounds), np.int64).data if options.legs else None
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_WORKDIR")) as directory:
        times = Path(directory) / "times"
        command = [options.program, ENGINE, str(rounds), *([str(times)] if options.legs else [])]
        engine = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        strategy = buyer.strategy_class(stamps)("buyer", engine=ENGINE)
        common.quiet()
        try:
            strategy.run(cpu=market.core(common.CONSUMER), spin=float("inf"))
            out, _ = engine.communicate(timeout=20)
        finally:
            engine.kill()
            engine.wait()
        if engine.returncode:
            raise common.Wrong(f"the engine ended with {engine.returncode}")
        buyer.check(strategy, WARM + rounds)
        common.emit(**read_figures(out))
        if stamps is not None:
            common.emit(**buyer.legs(np.fromfile(times, np.int64), stamps))


if __name__ == "__main__":
    main()
