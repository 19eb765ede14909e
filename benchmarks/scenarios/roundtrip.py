"""Tick to order to engine: one engine and one strategy, both spinning, each on its own core.

    roundtrip.py [--share S] [--legs] [--collect]

A round: the engine broadcasts a Tick whose ask price is the round's number; the strategy's on_tick
buys at that price; the engine's callback of receive_orders compares the order with what was due.
Then, with the clock stopped, the engine reports the order filled and gives the strategy time to
book that, so both sides' books are as small as they are in a market.

rtt_ns_p50, rtt_each_ns_p99, _p999: single rounds, from before broadcast_event to the callback.
switches_per_k: involuntary context switches of both processes for 1000 rounds.
pauses_per_s, pause_ns: interrupts of this core, found before all that: how often, and for how long,
it took over 1 us to read the clock again. A round on two cores meets 2 x pauses_per_s x its length.

--legs stamps every step in both processes and prints the median of each leg: broadcast_event;
from before it to on_tick; on_tick, which is buy; from there to the engine's callback. The stamps
cost, so its figures are not those of the bar. --collect leaves the garbage collector on in both.
"""

from __future__ import annotations

import argparse
import mmap
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import buyer, common, market
from scenarios.buyer import ROUNDS, WARM

REST_NS = 10_000  # for the strategy to book a fill
PAUSES_NS = 200_000_000
ENGINE = "roundtrip"


def follow(made: type, rounds: int, collect: bool, switches: Any) -> None:
    """The strategy's process."""
    strategy = made("buyer", engine=ENGINE)
    if not collect:
        common.quiet()
    strategy.run(cpu=market.core(common.CONSUMER), spin=float("inf"))
    buyer.check(strategy, rounds)
    switches[0] = switched()


def pauses() -> tuple[float, float]:
    """How many interruptions a second this core has, and their median length in ns."""
    clock = time.perf_counter_ns
    found: list[float] = [0.0]
    begun = then = clock()
    while then < begun + PAUSES_NS:
        now = clock()
        if now - then > 1000:
            found.append(now - then)
        then = now
    return (len(found) - 1) * 1e9 / PAUSES_NS, common.percentile(found, 0.5)


def switched() -> int:
    """Involuntary context switches of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--legs", action="store_true")
    parser.add_argument("--collect", action="store_true")
    options = parser.parse_args()
    from shmipc.trading.events import OrderStatus, Tick
    from shmipc.trading.strategy import StrategyManager

    rounds = WARM + max(1000, int(ROUNDS * options.share))
    stamps = memoryview(mmap.mmap(-1, 16 * rounds)).cast("q") if options.legs else None
    switches = memoryview(mmap.mmap(-1, 8)).cast("q")
    made = buyer.strategy_class(stamps)
    child = market.fork(lambda: follow(made, rounds, options.collect, switches))
    common.pin(common.PRODUCER)
    clock = time.perf_counter_ns
    came_ns = 0
    due = 0.0
    order: Any = None

    def on_order(strategy_id: str, record: Any) -> None:
        nonlocal came_ns, order
        came_ns = clock()
        if record.price != due or record.quantity != 1.0:
            raise common.Wrong(f"an order at {record.price} came where {due} was due")
        order = record.copy()

    steps: list[tuple[int, int, int]] = []
    samples: list[float] = []
    with StrategyManager(ENGINE, spin=float("inf")) as manager:
        manager.register_strategy("buyer")
        market.meet(manager, [child])
        if not options.collect:
            common.quiet()
        pauses_per_s, pause_ns = pauses()
        tick = Tick(symbol=market.SYMBOL, ts_event=time.time_ns(), ts_init=time.time_ns())
        broadcast, receive = manager.broadcast_event, manager.receive_orders
        before = 0
        for number in range(rounds):
            if number == WARM:
                before = switched()
            tick.ask_price = due = float(number)
            began = clock()
            broadcast(tick)
            sent = clock() if stamps is not None else 0
            if receive(on_order, 1, 10.0) != 1:
                raise common.Wrong("no order came")
            samples.append(came_ns - began)
            if stamps is not None:
                steps.append((began, sent, came_ns))
            order.status = OrderStatus.FILLED
            order.filled_quantity = 1.0
            manager.report("buyer", order)
            rest = clock() + REST_NS
            while clock() < rest:
                pass
        here = switched() - before
        manager.close()
    market.bury([child])
    del samples[:WARM]
    thousands = (rounds - WARM) / 1000
    common.emit(
        rtt_ns_p50=common.percentile(samples, 0.5),
        rtt_each_ns_p99=common.percentile(samples, 0.99),
        rtt_each_ns_p999=common.percentile(samples, 0.999),
        switches_per_k=(here + switches[0]) / thousands,
        pauses_per_s=pauses_per_s,
        pause_ns=pause_ns,
    )
    if stamps is not None:
        common.emit(**buyer.legs(steps, stamps))


if __name__ == "__main__":
    main()
