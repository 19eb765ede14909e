"""What a soak says in the end. Owns: the report's words. Must not know: how figures come about."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from board import ANON_FIRST, ANON_LAST, COUNTER, FDS_FIRST, FDS_LAST, MAX_WORKERS
from reader import need

FD_GROWTH = 24  # descriptors: a resident holds a few rings more at one moment than at another
ANON_GROWTH = 64 << 10  # KiB


def judge_residents(conductor: Any) -> None:
    """What lived long may not have grown."""
    for slot in conductor.slots:
        area = slot.area
        fds = area[FDS_LAST] - area[FDS_FIRST]
        anon = area[ANON_LAST] - area[ANON_FIRST]
        need(fds <= FD_GROWTH, f"{slot} has {fds} descriptors more than after its warm-up")
        need(anon <= ANON_GROWTH, f"{slot} has {anon} KiB more than after its warm-up")


def total(conductor: Any, name: str) -> int:
    words = range(MAX_WORKERS)
    return sum(conductor.board.worker(slot)[COUNTER[name]] for slot in words)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def commit() -> str:
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def table(rows: list[tuple[str, Any]]) -> list[str]:
    lines = ["| what | figure |", "|---|---|"]
    for name, value in rows:
        lines.append(f"| {name} | {f'{value:,}' if isinstance(value, int) else value} |")
    return [*lines, ""]


def render(conductor: Any, seed: int, begun: float, commit: str) -> str:
    counts = conductor.counts
    sums = {name: total(conductor, name) for name in COUNTER}
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(begun))
    seconds = time.monotonic() - conductor.started
    lines = [
        "# Soak",
        "",
        "Written by `tests/trials/soak/run.py`: random producers and consumers in processes",
        "of their own, killed, stopped, restarted, forked and handed over, over rings of every",
        "sort at once. Every message carries ring, number, length and checksum; counters that",
        "outlive a process say what was acknowledged. A violation ends the run, so the zeros below",
        "are what a run that ended well has shown.",
        "",
    ]
    lines += table(
        [
            ("date (UTC)", when),
            ("commit", commit),
            ("machine", f"{os.cpu_count()} cores, {platform.machine()}, shared with other work"),
            ("kernel", platform.release()),
            ("Python", platform.python_version()),
            ("duration", f"{seconds:,.0f} s"),
            ("niceness of the run", os.nice(0)),
            ("seed", str(seed)),
            ("rings at once", len(conductor.shows)),
            ("rings from beginning to end", counts["rings"]),
            *((f"... {kind}", count) for kind, count in sorted(conductor.kinds.items())),
            ("processes started", counts["processes"]),
            ("SIGKILLs: producers", counts["killed producers"]),
            ("SIGKILLs: consumers", counts["killed consumers"]),
            ("... several at once", counts["kills of several at once"]),
            ("SIGSTOPs", counts["SIGSTOPs"]),
            ("forked children with live handles", sums["forks"]),
            ("handles pickled to spawned processes", sums["handovers"]),
        ]
    )
    lines += ["## Messages", ""]
    lines += table(
        [
            ("sent", sums["sent"]),
            ("... bytes", sums["sent_bytes"]),
            ("received, by all consumers", sums["received"]),
            ("... bytes", sums["received_bytes"]),
            ("lost", sums["lost"]),
            ("torn", sums["torn"]),
            ("out of order, or twice in one reader", sums["disordered"]),
            ("redelivered by durable queues, all unreleased", sums["redelivered"]),
            ("overwritten in overwrite rings (gaps, equal to `.lost`)", sums["overwritten"]),
            ("overwritten under a view, `.intact` said so", sums["unsettled"]),
            ("reservations, aborted", f"{sums['reserved']:,}, {sums['aborted']:,}"),
            ("batches read", sums["batches"]),
            ("times frames were kept", sums["held"]),
            ("rounds of wait() over several rings", sums["waits"]),
            ("reads from asyncio", sums["async_reads"]),
        ]
    )
    lines += ["## Survivors", ""]
    lines += table(
        [
            ("producers opened, of them taken over", f"{sums['opened']:,}, {sums['took_over']:,}"),
            ("consumers joined", sums["joined"]),
            ("told ProducerDied", sums["producer_died"]),
            ("told ConsumerDied", sums["consumer_died"]),
            ("dead consumers' slots reclaimed", sums["reclaimed"]),
            ("ends of streams", sums["closed"]),
            ("Busy at opening", sums["busy"]),
            ("sends that found the ring full until their timeout", sums["full_waits"]),
            ("processes that hung", counts["hung"]),
        ]
    )
    lines += [
        "Waits, in milliseconds, from the SIGKILL or, if that was later, from the start of the",
        "wait. Those of workers that were stopped meanwhile are left out.",
        "",
        "| what | count | p50 | p99 | max |",
        "|---|---|---|---|---|",
    ]
    for what, waits in sorted(conductor.waits.items()):
        cells = [percentile(waits, share) * 1e3 for share in (0.5, 0.99, 1.0)]
        lines.append(f"| {what} | {len(waits):,} | " + " | ".join(f"{c:.1f}" for c in cells) + " |")
    lines += ["", "## Left behind", ""]
    lines += table(
        [
            ("segment files", counts["files left"]),
            ("processes", counts["processes left"]),
            *residents(conductor),
        ]
    )
    return "\n".join(lines).rstrip() + "\n"


def residents(conductor: Any) -> list[tuple[str, str]]:
    rows = []
    names = {
        "resident": "consumer of many rings by wait()",
        "async": "consumer of many rings in asyncio",
        "steady": "producer of ring after ring",
    }
    for slot in conductor.slots:
        area = slot.area
        rows.append(
            (
                f"{names[slot.role]}: descriptors, anonymous memory after warm-up and at the end",
                f"{area[FDS_FIRST]} and {area[FDS_LAST]}, {area[ANON_FIRST] / 1024:.1f} and "
                f"{area[ANON_LAST] / 1024:.1f} MiB",
            )
        )
    return rows
