"""What `read()` and `release()` of one message cost, for 64 bytes and for a 1080p frame.

    zerocopy.py [--share S]

One process. The ring is filled through `reserve` (untimed; for frames only the first and last
bytes are written), then every message in it is read in place and released; only that is timed, in
turns between the sizes. A figure is the median over the turns of nanoseconds a message. In an
untimed pass every message is compared, end to end for the small ones.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import common

TURNS = 200
HELD = 7  # messages in the ring at once, for both sizes: the same loop over the same number


def fill(producer: Any, size: int) -> None:
    """Put HELD messages into the ring without copying a payload."""
    for number in range(HELD):
        with producer.reserve(size) as place:
            memory = memoryview(place).cast("B")
            memory[:8] = memory[size - 8 : size] = number.to_bytes(8, "little")
            memory.release()


def check(consumer: Any, size: int) -> None:
    """Read what `fill` wrote and compare it."""
    for number in range(HELD):
        with consumer.read() as frame:
            memory = memoryview(frame).cast("B")
            want = number.to_bytes(8, "little")
            if len(memory) != size or memory[:8] != want or memory[-8:] != want:
                raise common.Wrong(f"message {number} of {size} bytes is not what was written")
            memory.release()


def timed(consumer: Any) -> float:
    """Nanoseconds for one read and release."""
    read = consumer.read
    then = time.perf_counter_ns()
    for _ in range(HELD):
        read().release()
    return (time.perf_counter_ns() - then) / HELD


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    import shmipc

    common.pin(common.PRODUCER)
    ends = {}
    for key, size in (("small", common.SIZE), ("frame", common.FRAME_BYTES)):
        producer = shmipc.Producer(f"zerocopy-{key}", capacity=(size + 64) * (HELD + 1))
        ends[key] = (producer, shmipc.Consumer(f"zerocopy-{key}"), size)
    samples: dict[str, list[float]] = {key: [] for key in ends}
    for producer, consumer, size in ends.values():
        fill(producer, size)
        check(consumer, size)
    common.quiet()
    for _ in range(max(20, int(TURNS * options.share))):
        for key, (producer, consumer, size) in ends.items():
            fill(producer, size)
            samples[key].append(timed(consumer))
    common.emit(**{f"{key}_ns": statistics.median(taken) for key, taken in samples.items()})
    for producer, consumer, _ in ends.values():
        consumer.close()
        producer.close()


if __name__ == "__main__":
    main()
