"""One strategy that takes events as arrays, one engine that broadcasts arrays: two processes.

    onbatch.py tick|trade [--share S]

The rate is events over the time from the engine's 2 % mark to the strategy's last event. In each
array the numbers of first and last event must follow on, and the column of values is added up: all
of them must come to what was sent. The array is the strategy's own copy, made by the Dispatcher.
"""

from __future__ import annotations

import argparse
import mmap
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import common, market

COUNT = 20_000_000
ENGINE = "onbatch"


def strategy_class(kind: market.Kind) -> type:
    """The strategy that takes arrays."""
    from shmipc.trading.strategy import BaseStrategy

    numbers, values = kind.number, kind.value

    class Columns(BaseStrategy):
        timeout = 20.0
        due = 0
        total = 0.0
        batches = 0
        ended_ns = 0

        def on_batch(self, code: int, records: Any) -> None:
            column = records[numbers]
            first, last = int(column[0]), int(column[-1])
            count = len(column)
            if last == market.LAST:
                self.ended_ns = time.monotonic_ns()
                count -= 1
                if count == 0:
                    return
                last = int(column[-2])
            if first != self.due or last != first + count - 1:
                raise common.Wrong(f"events {first} to {last} came where {self.due} was due")
            self.due += count
            self.batches += 1
            self.total += float(records[values].sum())  # that of the last event is 0

    return Columns


def follow(made: type, count: int, told: Any) -> None:
    """The strategy's process."""
    strategy = made("columns", engine=ENGINE)
    common.quiet()
    strategy.run(cpu=market.core(common.CONSUMER))
    if (strategy.due, strategy.total) != (count, market.total(count)) or not strategy.ended_ns:
        raise common.Wrong(f"saw {strategy.due} of {count} events, total {strategy.total}")
    told[0], told[1] = strategy.ended_ns, strategy.batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("event", choices=("tick", "trade"))
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    from shmipc.trading.strategy import StrategyManager

    kind = market.Kind(options.event)
    count = int(COUNT * options.share)
    told = memoryview(mmap.mmap(-1, 16)).cast("q")
    made = strategy_class(kind)
    child = market.fork(lambda: follow(made, count, told))
    common.pin(common.PRODUCER)
    with StrategyManager(ENGINE) as manager:
        manager.register_strategy("columns")
        market.meet(manager, [child])
        common.quiet()
        rows = kind.rows(market.PERIOD * 4)  # whole periods: the values stay
        numbers = rows[kind.number]
        began, first, at = 0, count // 50, 0
        while at < count:
            if at >= first and not began:
                began, first = time.monotonic_ns(), at
            manager.broadcast_batch(rows[: count - at])
            numbers += len(rows)
            at += len(rows)
        manager.broadcast_event(kind.last())
        manager.close()
    market.bury([child])
    common.emit(
        rate_mps=(count - first) * 1e3 / (told[0] - began), events_a_batch=count / max(1, told[1])
    )


if __name__ == "__main__":
    main()
