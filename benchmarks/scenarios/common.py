"""What the measuring scripts share: roles and cores, messages that prove themselves, percentiles.

A script is run as `python scenarios/NAME.py ...` with the benchmarks directory on `sys.path`; it
prints `key=value` lines and exits non-zero when a check fails.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

PRODUCER, CONSUMER = 0, 1
SIZE = 64
FRAME_SHAPE = (1080, 1920, 3)
FRAME_BYTES = 1080 * 1920 * 3
FRAMES_IN_RING = 4

# A prime number of distinct messages: a ring that repeats, skips or swaps them is caught, and they
# fit in a core's own cache.
_KINDS = 509
PAYLOADS = [(b"%08d" % kind) * (SIZE // 8) for kind in range(_KINDS)]
_PROBES = 64


class Wrong(Exception):
    """A message came out of order, or with other bytes than were sent."""


def pin(role: int) -> None:
    """Bind this process to the core of its role: BENCH_CORES="producer's,consumer's"."""
    cores = os.environ.get("BENCH_CORES", "0,1").split(",")
    os.sched_setaffinity(0, {int(cores[role])})


def quiet() -> None:
    """No garbage collection while the clock runs."""
    gc.collect()
    gc.disable()


def messages(count: int, start: int = 0) -> Iterator[bytes]:
    """The `count` messages from number `start` on."""
    return islice(cycle(PAYLOADS), start % _KINDS, start % _KINDS + count)


def frame_sources() -> list[bytes]:
    """Three frames that differ in every byte: a camera driver's own buffers."""
    return [bytes([value]) * FRAME_BYTES for value in (17, 101, 203)]


def frame_differs(buffer: Any, number: int) -> bool:
    """Whether a frame is not number `number` of the stream; looks at 64 places, end to end."""
    seen = memoryview(buffer).cast("B") if not hasattr(buffer, "reshape") else buffer.reshape(-1)
    if len(seen) != FRAME_BYTES:
        return True
    want = (17, 101, 203)[number % 3]
    step = (FRAME_BYTES - 1) // (_PROBES - 1)
    return any(seen[place * step] != want for place in range(_PROBES))


def percentile(samples: list[float], share: float) -> float:
    """The sample below which `share` of them lie."""
    return sorted(samples)[min(int(len(samples) * share), len(samples) - 1)]


def emit(**figures: float) -> None:
    """Print figures for the run to collect."""
    for key, value in figures.items():
        print(f"{key}={value:.6g}")
    sys.stdout.flush()
