"""Roles that replay a capture: parsed once, sent as typed records, proved by each consumer."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import shmipc
from shmipc.demo import proof
from shmipc.demo.reporter import Reporter
from shmipc.trading import capture

RING_RECORDS = 32768  # 2 MiB
SEND_RECORDS = 4096
JOIN_SECONDS = 30.0
SHOWN_BAD = 20


def _count_lines(records: NDArray[np.void], kinds: Counter[int]) -> None:
    """Count the lines of each kind: their first records."""
    first = records["kind"][records["flags"] & capture.FIRST != 0]
    kinds.update(dict(enumerate(np.bincount(first, minlength=5).tolist())))


def _by_name(kinds: Counter[int]) -> dict[str, int]:
    return {name: kinds[code] for code, name in capture.KINDS.items()}


def produce(report: Reporter, *, ring: str, path: str, consumers: int) -> dict[str, Any]:
    """Parse `path`, say "ready" with what it holds, then send all of it."""
    summary = capture.Summary()
    began = time.monotonic()
    parts = []
    for part in capture.read_capture(path, chunk=16384, summary=summary):
        parts.append(part)
        report.progress(summary.lines)
    parse_seconds = time.monotonic() - began
    checksum = capture.Checksum()
    for part in parts:
        checksum.update(part)
    lines, counts = capture.count_by_text(path)
    report.send(
        "ready",
        lines=summary.lines,
        records=summary.records,
        kinds=summary.by_name(),
        bad_count=summary.bad_count,
        bad=summary.bad[:SHOWN_BAD],
        damage=summary.damage,
        truncated=summary.truncated,
        symbols=summary.symbols[1:],
        disagreements=capture.disagreements(summary, lines, counts),
        parse_seconds=parse_seconds,
    )
    with shmipc.Producer(
        ring, dtype=capture.EVENT, capacity=RING_RECORDS, max_consumers=consumers
    ) as producer:
        producer.wait_for_consumers(consumers, timeout=JOIN_SECONDS)
        sent = 0
        start_ns = time.monotonic_ns()
        for part in parts:
            for at in range(0, len(part), SEND_RECORDS):
                sent += producer.send_many(part[at : at + SEND_RECORDS])
                report.progress(sent, summary.records)
    return {"sent": sent, "value": checksum.value(), "start_ns": start_ns}


def consume(report: Reporter, *, ring: str) -> dict[str, Any]:
    """Receive a replay; count and checksum every record on the ring's own memory."""
    checksum = capture.Checksum()
    kinds: Counter[int] = Counter()
    copied = 0
    with shmipc.Consumer(ring, timeout=JOIN_SECONDS) as consumer:
        memory = proof.RingMemory(ring)
        while True:
            try:
                frame = consumer.read_batch()
            except shmipc.Closed:
                break
            with frame:
                array = frame.array
                checksum.update(array)
                _count_lines(array, kinds)
                if not memory.holds(array):
                    copied += array.nbytes
                del array
            report.progress(checksum.count)
        lost = consumer.lost
    return {
        "received": checksum.count,
        "value": checksum.value(),
        "kinds": _by_name(kinds),
        "copied": copied,
        "lost": lost,
        "end_ns": time.monotonic_ns(),
    }
