"""One engine and N strategy processes on two cores, lossless: what arrives, and what it costs.

    strategies.py tick|trade COUNT [--strategies N] [--batch ROWS] [--share S]

The engine (a StrategyManager that waits for the slowest) broadcasts COUNT events; every strategy
gets and checks all of them. `delivered_mps` is callbacks a second of all strategies together, from
the engine's 2 % mark to the last event's callback in the last strategy. `engine_ns` is the
engine's processor time for an event, making it, waking and waiting included, over the same events.

With --batch the engine broadcasts arrays of so many rows, else event by event. The engine has the
first core to itself as far as the kernel lets it, a lone strategy the second one. Several run where
the kernel puts them, which keeps both cores busy to the end; pinned to alternate cores they were no
faster. They spin as by default: next to nothing once they have learnt that they sleep anyway.
"""

from __future__ import annotations

import argparse
import mmap
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import common, market

ENGINE = "strategies"
CAPACITY = 1 << 22  # 52,000 trade ticks: the ring is filled several times over


def strategy_class() -> type:
    """A strategy that checks every event, of either kind, in as few steps as that takes."""
    from shmipc.trading.strategy import BaseStrategy

    class Checking(BaseStrategy):
        timeout = 20.0
        due = 0
        total = 0.0
        ended_ns = 0

        def odd(self, number: int) -> None:
            if number != market.LAST or self.ended_ns:
                raise common.Wrong(f"event {number} came where {self.due} was due")
            self.ended_ns = time.monotonic_ns()

    class Ticks(Checking):
        def on_tick(self, tick: Any) -> None:
            number = tick.sequence
            if number != self.due:
                return self.odd(number)
            self.due = number + 1
            self.total += tick.last_price

    class Trades(Checking):
        def on_trade_tick(self, trade: Any) -> None:
            number = trade.trade_id
            if number != self.due:
                return self.odd(number)
            self.due = number + 1
            self.total += trade.price

    return {"tick": Ticks, "trade": Trades}


def follow(made: type, place: int, count: int, cpu: int | None, ended: Any) -> None:
    """A strategy's process."""
    strategy = made(f"s{place}", engine=ENGINE)
    common.quiet()
    strategy.run(cpu=cpu)
    if (strategy.due, strategy.total) != (count, market.total(count)) or not strategy.ended_ns:
        raise common.Wrong(f"saw {strategy.due} of {count} events, total {strategy.total}")
    ended[place] = strategy.ended_ns


def one_by_one(manager: Any, kind: market.Kind, start: int, count: int) -> None:
    """Broadcast events, each from one record that is written anew."""
    event = kind.record(symbol=market.SYMBOL, ts_event=time.time_ns(), ts_init=time.time_ns())
    broadcast = manager.broadcast_event
    values = islice(cycle([float(i) for i in range(market.PERIOD)]), start % market.PERIOD, None)
    if kind.name == "tick":
        for number, value in zip(range(start, start + count), values, strict=False):
            event.sequence = number
            event.last_price = value
            broadcast(event)
    else:
        for number, value in zip(range(start, start + count), values, strict=False):
            event.trade_id = number
            event.price = value
            broadcast(event)


def in_batches(manager: Any, kind: market.Kind, start: int, count: int, rows: int) -> None:
    """Broadcast events in arrays. They are made before; only their numbers are written anew."""
    period = kind.rows(market.PERIOD * rows, start)  # whole batches, the values begin again
    numbers = period[kind.number]
    at = 0
    while at < count:
        if at and at % len(period) == 0:
            numbers += len(period)
        place = at % len(period)
        manager.broadcast_batch(period[place : place + min(rows, count - at)])
        at += rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("event", choices=("tick", "trade"))
    parser.add_argument("count", type=int)
    parser.add_argument("--strategies", type=int, default=1)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    from shmipc.trading.strategy import StrategyManager

    kind = market.Kind(options.event)
    count = max(1000, int(options.count * options.share))
    many = options.strategies
    ended = memoryview(mmap.mmap(-1, 8 * many)).cast("q")
    made = strategy_class()[options.event]
    children = []
    for place in range(many):
        cpu = market.core(common.CONSUMER) if many == 1 else None
        children.append(
            market.fork(lambda place=place, cpu=cpu: follow(made, place, count, cpu, ended))
        )
    common.pin(common.PRODUCER)
    with StrategyManager(ENGINE, capacity=CAPACITY) as manager:
        for place in range(many):
            manager.register_strategy(f"s{place}")
        market.meet(manager, children)
        common.quiet()
        first = count // 50

        def send(start: int, count: int) -> None:
            if options.batch:
                in_batches(manager, kind, start, count, options.batch)
            else:
                one_by_one(manager, kind, start, count)

        send(0, first)
        began, used = time.monotonic_ns(), time.thread_time_ns()
        send(first, count - first)
        used = time.thread_time_ns() - used
        sent = time.monotonic_ns() - began
        manager.broadcast_event(kind.last())
        manager.close()
    market.bury(children)
    seen = count - first
    common.emit(
        delivered_mps=seen * many * 1e3 / (max(ended) - began),
        engine_ns=used / seen,
        sent_mps=seen * 1e3 / sent,
    )


if __name__ == "__main__":
    main()
