"""Measure shmipc beside the machine's own floor and the systems a user would pick instead.

    python benchmarks/run.py [--quick] [--only GROUP ...] [--json FILE] [--plots DIR]

One run takes all candidates in turns on two pinned cores and prints ratios first. See README.md
beside this file for what each group is and how to read it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bars import bars
from build import build
from cases import GROUPS, Maker, make_cases
from measure import run_all
from report import report

QUICK_REPETITIONS = 2
QUICK_SHARE = 0.1
LEFT_BY_PEERS = ("*.zenoh", "iox2_*", "bench-pair-*")  # by those that were killed, in /dev/shm


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test: about a minute")
    parser.add_argument("--repetitions", type=int, help="of every case (default 20)")
    parser.add_argument(
        "--only", nargs="+", choices=list(GROUPS), metavar="GROUP", help="these and the floor"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every repetition here")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw (needs matplotlib)")
    parser.add_argument("--list", action="store_true", help="say what would run, and stop")
    return parser.parse_args()


def two_cores() -> str:
    """The first two cores this process may use, for BENCH_CORES."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("two cores are needed: a producer's and a consumer's")
    return f"{cores[0]},{cores[1]}"


@contextmanager
def workplace() -> Iterator[Path]:
    """Fresh directories for programs and segments; all gone afterwards, peers' leavings included.

    SHMIPC_DIR lies in /dev/shm, where segments lie in real use, if there is one.
    """
    shm = Path("/dev/shm")
    shm = shm if os.access(shm, os.W_OK) else Path(tempfile.gettempdir())
    iceoryx = Path("/tmp/iceoryx2")
    had_iceoryx = iceoryx.exists()
    before = set(shm.iterdir())
    segments = Path(tempfile.mkdtemp(prefix="shmipc-bench-", dir=shm))
    directory = Path(tempfile.mkdtemp(prefix="shmipc-bench-"))
    os.environ["SHMIPC_DIR"] = str(segments)
    os.environ["BENCH_WORKDIR"] = str(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(segments, ignore_errors=True)
        for pattern in LEFT_BY_PEERS:
            for path in set(shm.glob(pattern)) - before:
                if path.is_file() and path.stat().st_uid == os.getuid():
                    path.unlink(missing_ok=True)
        if not had_iceoryx:
            shutil.rmtree(iceoryx, ignore_errors=True)


def progress(text: str) -> None:
    """One line on a terminal, overwritten; nothing in a log."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    model = ""
    try:
        for row in Path("/proc/cpuinfo").read_text().splitlines():
            if row.startswith("model name"):
                model = row.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def main() -> int:
    options = arguments()
    repetitions = options.repetitions or (QUICK_REPETITIONS if options.quick else 20)
    if repetitions < 1:
        raise SystemExit("--repetitions must be at least 1")
    if options.plots and importlib.util.find_spec("matplotlib") is None:
        raise SystemExit("--plots needs matplotlib: pip install matplotlib")
    groups = options.only or list(GROUPS)
    os.environ["BENCH_CORES"] = two_cores()
    with workplace() as directory:
        programs = build(directory)
        maker = Maker(
            built=programs,
            directory=directory,
            share=QUICK_SHARE if options.quick else 1.0,
            deadline=10.0 if options.quick else 30.0,
        )
        cases = make_cases(maker, groups)
        if options.list:
            for case in cases:
                print(f"{case.group:9} {case.side:6} {case.name}  {case.absent or ''}".rstrip())
            return 0
        about = machine()
        print(
            f"{about['cpu']}, kernel {about['kernel']}, Python {about['python']}; cores "
            f"{os.environ['BENCH_CORES']}; {repetitions} repetitions in turns"
        )
        results = run_all(cases, repetitions, maker.line(), progress)
    print(report(results))
    if options.json:
        document = {
            "machine": about,
            "bars": [bar.as_json() for bar in bars(results)],
            **results.as_json(),
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
        print(f"every repetition: {options.json}")
    if options.plots:
        from plots import plot

        print(f"{len(plot(results, options.plots))} plots: {options.plots}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
