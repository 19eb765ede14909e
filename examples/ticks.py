"""Typed records in batches: the strategy's array is the engine's memory.

The dtype travels with the ring, so the consumer needs only the name. All ticks that are ready
come as one structured array, and numpy works on whole columns of it.
"""

import multiprocessing
import secrets

import numpy as np

import shmipc

TICK = np.dtype([("ts", "<i8"), ("price", "<f8"), ("size", "<f8"), ("side", "<i8")])
TICKS = 200_000


def trade(name: str) -> None:
    """Add up the turnover, a batch at a time."""
    turnover, ticks, batches = 0.0, 0, 0
    with shmipc.Consumer(name, timeout=10) as consumer:
        while True:
            try:
                batch = consumer.read_batch(timeout=10)
            except shmipc.Closed:
                break
            with batch:
                turnover += float(np.dot(batch.array["price"], batch.array["size"]))
                ticks += len(batch.array)
                batches += 1
    assert ticks == TICKS
    print(f"{ticks:,} ticks in {batches:,} batches, turnover {turnover:,.0f}")


def main() -> None:
    name = f"ticks-{secrets.token_hex(4)}"
    strategy = multiprocessing.get_context("spawn").Process(target=trade, args=(name,))
    strategy.start()
    block = np.zeros(1000, TICK)
    block["price"] = 61_800 + np.arange(1000) % 10 * 0.1
    block["size"] = 0.5
    block["side"] = 1
    with shmipc.Producer(name, dtype=TICK, capacity=8192) as engine:
        engine.wait_for_consumers(1, timeout=10)
        for number in range(TICKS // len(block)):
            block["ts"] = np.arange(1000) + number * 1000
            engine.send_many(block)
    strategy.join(20)
    assert strategy.exitcode == 0, strategy.exitcode


if __name__ == "__main__":
    main()
