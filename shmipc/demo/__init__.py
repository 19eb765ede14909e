"""``python -m shmipc demo``: the main job, seen at once, with every claim checked.

Separate processes hand each other frames and ticks; a table says how fast, and whether
everything arrived. Whatever happens, :func:`run` returns an exit status, ends every process it
started and leaves nothing in the segment directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

from shmipc import _names
from shmipc.demo import desk, scenarios
from shmipc.demo.crew import Crew, CrewError, Worker
from shmipc.demo.table import Progress, Row, render

__all__ = ["Options", "run"]

#: How the time given to measuring is split; the rest of a run is starting processes.
_SHARES = {"frames": 0.3, "single": 0.15, "spin": 0.1, "sleep": 0.1, "batches": 0.15, "many": 0.2}
DEFAULT_SECONDS = 5.0
QUICK_SECONDS = 0.6

Step = tuple[str, Callable[[scenarios.Stage], Row]]


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user asked for."""

    capture: str | None = None
    strategies: int | None = None
    consumers: int = 3
    video: str | None = None
    max_frames: int | None = None
    seconds: float = DEFAULT_SECONDS
    as_json: bool = False
    quiet: bool = False


def _steps(options: Options) -> list[Step]:
    path, film = options.capture, options.video
    if path is not None or film is not None:
        steps: list[Step] = []
        if path is not None:
            steps.append(
                (
                    f"replaying {os.path.basename(path)}",
                    lambda stage: scenarios.replay(stage, path, options.consumers),
                )
            )
        if film is not None:
            steps.append(
                (
                    f"decoding {os.path.basename(film)}",
                    lambda stage: scenarios.video(stage, film, options.max_frames),
                )
            )
        return steps
    spent = {name: share * options.seconds for name, share in _SHARES.items()}
    return [
        ("1080p frames", lambda stage: scenarios.frames(stage, spent["frames"])),
        ("ticks one by one", lambda stage: scenarios.single(stage, spent["single"])),
        (
            "ticks there and back",
            lambda stage: scenarios.round_trip(stage, spent["spin"], sleeping=False),
        ),
        (
            "ticks there and back, sleeping",
            lambda stage: scenarios.round_trip(stage, spent["sleep"], sleeping=True),
        ),
        ("ticks in batches", lambda stage: scenarios.batches(stage, spent["batches"])),
        ("one to many", lambda stage: scenarios.fan_out(stage, spent["many"])),
    ]


def _sweep(prefix: str) -> list[str]:
    """Remove what this run has left in the segment directory; return the names."""
    directory = _names.segment_dir()
    if not os.path.isdir(directory):
        return []
    left = [name for name in os.listdir(directory) if name.startswith(f"shmipc.{prefix}-")]
    for name in left:
        with contextlib.suppress(FileNotFoundError):  # its last process has just removed it
            os.unlink(os.path.join(directory, name))
    return left


def _perform(options: Options, rows: list[Row], progress: Progress, prefix: str) -> None:
    """Run every step, adding its row to `rows`."""

    def on_progress(worker: Worker, report: dict[str, Any]) -> None:
        if worker.label.endswith("produce") or worker.label == "ping":
            progress.update(report["done"], report["total"])

    steps = _steps(options)
    with Crew(on_progress) as crew:
        stage = scenarios.Stage(crew, prefix)
        for number, (title, perform) in enumerate(steps, 1):
            progress.step(f"[{number}/{len(steps)}] {title} ...")
            rows.append(perform(stage))


def run(options: Options) -> int:
    """Run the demo and print what it found; return 0 only if every check passed.

    1: a check failed, a process died or failed, or none gave a sign of life. 130: Ctrl-C.
    """
    if options.strategies is not None:
        return desk.run(
            strategies=options.strategies,
            path=options.capture,
            seconds=options.seconds,
            as_json=options.as_json,
            quiet=options.quiet,
        )
    began = time.monotonic()
    # short enough for any name limit, and nobody else's: this process, and chance
    prefix = f"demo-{os.getpid()}-{secrets.token_hex(4)}"
    rows: list[Row] = []
    progress = Progress(quiet=options.quiet)
    error: str | None = None
    interrupted = False
    try:
        _perform(options, rows, progress, prefix)
    except (CrewError, OSError) as failure:
        error = str(failure)
    except KeyboardInterrupt:
        error, interrupted = "interrupted", True
    finally:
        progress.clear()
        left = _sweep(prefix)
    seconds = time.monotonic() - began
    checks = sum(len(row.checks) for row in rows)
    failed = sum(len(row.failures) for row in rows)
    if error is None and left:
        error = f"left in {_names.segment_dir()}: {', '.join(left)} (removed now)"
    ok = error is None and failed == 0
    if options.as_json:
        found = {"ok": ok, "error": error, "seconds": round(seconds, 3), "checks": checks}
        print(json.dumps({**found, "rows": [row.as_json() for row in rows]}, indent=1))
    elif rows:
        print(render(rows))
        print()
    if error is not None:
        print(f"shmipc demo: {error}", file=sys.stderr)
    if not options.as_json:
        if ok:
            print(
                f"All {checks} checks passed in {seconds:.1f} s: nothing lost, nothing left "
                f"in {_names.segment_dir()}."
            )
        elif failed:
            print(f"FAILED: {failed} of {checks} checks failed.")
    return 130 if interrupted else 0 if ok else 1
