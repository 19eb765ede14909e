"""Strategies on trial: python tests/trials/strategies/run.py [kills|stalls|capture|engines] [--seed
S]

Owns: the command line, the segment directory, the report. Ends with status 1 if shmipc broke a
promise. Needs the installed extension; runs all four where none is named.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from board import violations

TRIALS = ("kills", "stalls", "capture", "engines")
MOST_ENGINES = 100
SHM = "/dev/shm"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trial", nargs="?", choices=TRIALS)
    parser.add_argument("--strategies", type=int, help="default: 20, 5, 8, 6")
    parser.add_argument("--rate", type=float, default=100_000, help="events a second")
    parser.add_argument("--period", type=float, default=0.002, help="seconds from batch to batch")
    parser.add_argument("--orders", type=float, default=20, help="a second, each strategy")
    parser.add_argument("--singles", type=int, default=5, help="strategies that get on_tick")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds from kill to kill")
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds before the first kill")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each stall")
    parser.add_argument("--capacity", type=int, default=1 << 24, help="bytes of the events ring")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--self-test", action="store_true", help="are faults found?")
    return parser.parse_args()


def trial(name: str, options: argparse.Namespace, directory: str) -> list[tuple[str, str]]:
    if name == "kills":
        import kills

        options.strategies = options.strategies or 20
        return kills.Trial(options, directory).run()
    if name == "stalls":
        import stalls

        options.strategies = options.strategies or 5
        return stalls.run(options, directory)
    if name == "engines":
        import engines

        options.strategies = options.strategies or 6
        options.kills = min(options.kills, MOST_ENGINES)
        return engines.Trial(options, directory).run()
    import replay

    options.strategies = options.strategies or 8
    return replay.run(options, directory)


def show(name: str, rows: list[tuple[str, Any]], seconds: float) -> None:
    print(f"\n{name}: {seconds:.1f} s, {os.cpu_count()} cores")
    width = max(len(what) for what, _ in rows)
    for what, figure in rows:
        print(f"  {what:<{width}}  {figure}")
    sys.stdout.flush()


def main() -> int:
    options = parse()
    if options.self_test:
        import mutants

        return 0 if mutants.self_test() else 1
    chosen = options.strategies
    for name in TRIALS if options.trial is None else (options.trial,):
        options.strategies = chosen
        with ExitStack() as stack:
            parent = SHM if os.access(SHM, os.W_OK) else None
            segments = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="shmipc-trial-", dir=parent)
            )
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="shmipc-trial-"))
            os.environ["SHMIPC_DIR"] = segments
            begun = time.monotonic()
            try:
                rows = trial(name, options, directory)
                left = sorted(os.listdir(segments))
                assert not left, f"segments left behind: {left}"
                found = violations(directory)
                assert not found, "".join(found)
            except Exception as error:
                print(f"\nVIOLATION in {name}, seed {options.seed}: {error}", file=sys.stderr)
                for text in violations(directory):
                    print(text, file=sys.stderr)
                if not isinstance(error, AssertionError):
                    raise
                return 1
            show(name, rows, time.monotonic() - begun)
    return 0


if __name__ == "__main__":
    sys.exit(main())
