"""Everything at once, for as long as asked: python tests/trials/soak/run.py --seconds 60 --seed 1

Owns: the command line, the segment directory, the report. Ends with status 1 and a dump if shmipc
broke a promise. Needs the installed extension.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import summary
from conductor import Conductor
from residents import work

SHM = "/dev/shm"
# Hints of a long wait: on a loaded machine they are in order, and stderr is for violations.
logging.getLogger("shmipc").addHandler(logging.NullHandler())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0: drawn, and printed")
    parser.add_argument("--rings", type=int, default=6)
    parser.add_argument("--report", type=Path, help="write a report in Markdown")
    return parser.parse_args()


def main() -> int:
    options = parse()
    seed = options.seed or int.from_bytes(os.urandom(3), "big") + 1
    os.environ["SOAK_SEED"] = str(seed)
    os.environ["SOAK_RINGS"] = str(options.rings)
    print(f"soak: seed {seed}, {options.rings} rings, {options.seconds:.0f} s", flush=True)
    with ExitStack() as stack:
        parent = SHM if os.access(SHM, os.W_OK) else None
        # not where segments are: it is judged to be empty at the end
        segments = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="shmipc-soak-", dir=parent)
        )
        work_directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="shmipc-soak-"))
        os.environ["SHMIPC_DIR"] = segments
        conductor = Conductor(work_directory, seed, options.rings, options.seconds)
        begun, commit = time.time(), summary.commit()
        try:
            conductor.run()
            summary.judge_residents(conductor)
        except BaseException as error:
            conductor.dump(sys.stderr)
            for path in Path(work_directory).glob("violation.*"):
                print(f"\n{path.name}: {path.read_text()}", file=sys.stderr)
            print(f"\nVIOLATION with seed {seed}: {error}", file=sys.stderr, flush=True)
            conductor.clear()
            return 1
        text = summary.render(conductor, seed, begun, commit)
        print(text)
        if options.report is not None:
            options.report.write_text(text)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:  # the heir of a worker, with its handle on stdin
        directory, slot, generation, role, ring = sys.argv[2:]
        frozen = sys.stdin.buffer.read()
        os._exit(work(directory, int(slot), int(generation), role, int(ring), frozen))
    sys.exit(main())
