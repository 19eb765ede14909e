"""A C program feeds 64-byte items into a typed ring; Python reads all that is ready, in place.

    batch.py BUILD_DIR ITEMS [--share S]

The rate is items over the time from the 2 % mark to the last. Every batch is checked with numpy on
the ring's own memory: first and last sequence follow on, and the column of sequences sums to what
consecutive numbers sum to, so a lost, repeated or swapped-in item shows. In each batch the last
column of its first and last item is compared as well.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import common

COUNT = 20_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("items", type=int)
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    import shmipc

    common.pin(common.CONSUMER)
    count = int(COUNT * options.share)
    name = f"batch-{os.getpid()}"
    ticks = subprocess.Popen(
        [options.build / "ticks", name, str(options.items), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert ticks.stdin
    assert ticks.stdout
    if ticks.stdout.readline() != b"ready\n":
        raise SystemExit("the C producer did not start")
    consumer = shmipc.Consumer(name, timeout=10)
    common.quiet()
    ticks.stdin.write(b"g")
    ticks.stdin.flush()
    mark, begun, then, done, batches = count // 50, 0, 0, 0, 0
    clock = time.perf_counter_ns
    while done < count:
        frame = consumer.read_batch(timeout=10)
        items = frame.array  # (n, 8), uint64
        column = items[:, 0]
        n = len(column)
        first, last = int(column[0]), int(column[-1])
        if first != done or last != done + n - 1 or int(column.sum()) != n * (first + last) // 2:
            raise common.Wrong(f"the batch at {done} is not the one that was due")
        if int(items[0, 7]) != first + 7 or int(items[-1, 7]) != last + 7:
            raise common.Wrong(f"an item of the batch at {done} has other content")
        del items, column
        frame.release()
        done += n
        batches += 1
        if not then and done >= mark:
            then, begun = clock(), done
    took = clock() - then
    ticks.stdin.close()
    if ticks.wait(10) != 0:
        raise SystemExit("the C producer failed")
    consumer.close()
    common.emit(rate_mps=(count - begun) * 1e3 / took, items_a_batch=count / batches)


if __name__ == "__main__":
    main()
