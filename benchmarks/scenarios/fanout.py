"""What one `send` of 64 bytes costs the producer with 1 and with 20 consumers attached.

    fanout.py block|overwrite [--share S]

All handles are in one process. The producer sends a burst (timed), then every consumer drains it
and compares every message (untimed); the two rings take turns. The ring holds four bursts, so the
producer has to look at the consumers' cursors again every few bursts, and that is in the figure.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import common

TURNS = 60
BURST = 1000
MANY = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overflow", choices=("block", "overwrite"))
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    import shmipc

    common.pin(common.PRODUCER)
    due = list(common.messages(BURST))
    rings = {}
    for key, count in (("one", 1), ("many", MANY)):
        name = f"fanout-{options.overflow}-{key}"
        producer = shmipc.Producer(
            name, capacity=4 * BURST * 96, max_consumers=MANY, overflow=options.overflow
        )
        rings[key] = (producer, [shmipc.Consumer(name, start="latest") for _ in range(count)])
    samples: dict[str, list[float]] = {key: [] for key in rings}
    common.quiet()
    for _ in range(max(10, int(TURNS * options.share))):
        for key, (producer, consumers) in rings.items():
            send = producer.send
            then = time.perf_counter_ns()
            for message in due:
                send(message)
            samples[key].append((time.perf_counter_ns() - then) / BURST)
            for consumer in consumers:
                receive = consumer.recv
                for message in due:
                    if receive(0) != message:
                        raise common.Wrong("a consumer got another message than was due")
    common.emit(**{f"{key}_ns": statistics.median(taken) for key, taken in samples.items()})
    for producer, consumers in rings.values():
        for consumer in consumers:
            consumer.close()
        producer.close()


if __name__ == "__main__":
    main()
