"""Explore every scenario of the model, then weaken every ordering of the core, one at a time.

``python tests/trials/model/run.py [--cc CC] [--json FILE] [--no-weaken]``. Needs a C compiler.
Exits non-zero if a scenario fails, if some ordering can be weakened without any scenario failing,
or if an access with an order is reached by no scenario.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[2] / "src" / "core"
API = CORE.parent / "api"

# The core as it is, but for what kernel.c plays. scenarios_fault.c includes fault.c.
# The API's handles and frames are included by api.c.
PURE_API = ("dtype", "dtype_word", "result")
PLAYED = {"segment", "descriptor", "mapping", "damage", "fault", "holder", "locks", "futex"}
FLAGS = ("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function")

ACQUIRE, RELEASE, FULL, LIGHT = 1, 2, 7, 8
# an order -> what it can be weakened to, by name
WEAKER = {
    ACQUIRE: {"acquire -> relaxed": 0},
    RELEASE: {"release -> relaxed": 0},
    ACQUIRE | RELEASE: {"acquire dropped": RELEASE, "release dropped": ACQUIRE},
    FULL: {"full -> acquire + release": ACQUIRE | RELEASE},
    LIGHT: {"compiler barrier -> none": 0},
}


# (file, function, text) -> why an order stays that this machine cannot show to be needed. The
# argument is in handle.h. Should a scenario come to show it, it is told as needed; only those that
# are quickly explored are tried.
ARGUED = {
    ("handle.h", "shmipc_handle_try_enter", "barrier_light"):
        "a load hoisted above H1 is taken before a barrier and H1 stored after it: no step here",
    ("handle.h", "shmipc_handle_try_enter", "load_acquire(&mine->busy)"):
        "H0 is for a later thread of the same name; each thread here has a name of its own",
    ("handle.c", "is_common", "load_acquire(&handle->current)"):
        "an exchange here takes the newest message, never one that a reordered store leaves",
    ("handle.c", "shmipc_handle_keep_out", "store_release(&handle->current)"):
        "likewise",
    ("handle.c", "move_in", "store_release(&handle->current)"):
        "likewise",
    ("handle.c", "move_in", "store_release(&handle->admitted)"):
        "read by the thread that stored it; T4 as in readmit",
}  # fmt: skip
QUICK_SECONDS = 1.0


@dataclass
class Result:
    """One scenario, explored to its end or to its first failure."""

    scenario: str
    holds: bool
    runs: int
    steps: int
    states: int
    seconds: float
    text: str
    trace: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Site:
    """An access of the core that asks for an order."""

    name: str
    function: str
    orders: int


def argument_key(site: Site) -> tuple[str, str, str]:
    file, _, text = site.name.split(":", 2)
    return file, site.function, text


def is_argued(site: Site) -> bool:
    return argument_key(site) in ARGUED


def build(cc: str, out: Path) -> Path:
    sources = [path for path in sorted(CORE.rglob("*.c")) if path.stem not in PLAYED]
    sources += [API / f"{name}.c" for name in PURE_API]
    sources += sorted(HERE.glob("*.c"))
    program = out / "model"
    command = [
        cc, *FLAGS, f"-I{CORE}", f"-I{API}", f"-I{HERE}",
        "-DSHMIPC_JOIN_LIMIT=3",
        "-DSHMIPC_NEWEST_LOOKS=1",
        '-DSHMIPC_VERSION="model"',
        "-include", str(HERE / "checked_atomic.h"),
        "-o", str(program), *map(str, sources),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return program


def explore(program: Path, *options: str) -> tuple[list[Result], list[tuple[Site, bool]]]:
    """Run the program; return what it found and its sites with whether each was reached."""
    done = subprocess.run([program, *options], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{program} {options}: status {done.returncode}\n{done.stderr}")
    results: list[Result] = []
    reached: dict[Site, bool] = {}
    for line in done.stdout.splitlines():
        kind, *rest = line.split("\t")
        if kind == "scenario":
            name, verdict, runs, steps, states, seconds, text = rest
            results.append(
                Result(name, verdict == "holds", int(runs), int(steps), int(states),
                       float(seconds), text)
            )  # fmt: skip
        elif kind == "trace":
            results[-1].trace.append(rest[0])
        elif kind == "site":
            name, function, orders, was_reached = rest
            site = Site(name, function, int(orders))
            reached[site] = reached.get(site, False) or was_reached == "1"
    return results, list(reached.items())


def refute(program: Path, site: Site, orders: int, scenarios: list[str]) -> Result | None:
    """Weaken one site; return the first scenario that fails, or None."""
    for scenario in scenarios:
        results, _ = explore(program, "--scenario", scenario, "--weaken", site.name, str(orders))
        if not results[0].holds:
            return results[0]
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cc", default=os.environ.get("CC", "cc"))
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--no-weaken", action="store_true", help="only explore the core as it is")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        program = build(options.cc, Path(scratch))
        names, _ = explore(program, "--list")
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            explored = list(
                pool.map(lambda name: explore(program, "--scenario", name.scenario), names)
            )
            results = [result for found, _ in explored for result in found]
            for result in results:
                verdict = "holds" if result.holds else "FAILS"
                print(f"{verdict} {result.scenario}: {result.text} ({result.states:,} states, "
                      f"{result.steps:,} steps, {result.seconds:.1f} s)", flush=True)  # fmt: skip
                for line in result.trace:
                    print("   ", line)
            sites: dict[Site, list[Result]] = {}
            for found, reached in explored:
                for site, was_reached in reached:
                    by = sites.setdefault(site, [])
                    if was_reached:
                        by += found
            ordered = {site: by for site, by in sites.items() if site.orders != 0}
            unreached = [site.name for site, by in ordered.items() if not by]
            jobs = {}
            for site, by in ordered.items():
                limit = QUICK_SECONDS if is_argued(site) else math.inf
                cheapest = [
                    r.scenario for r in sorted(by, key=lambda r: r.seconds) if r.seconds < limit
                ]
                for what, orders in WEAKER[site.orders].items():
                    if by and not options.no_weaken:
                        jobs[site, what] = pool.submit(refute, program, site, orders, cheapest)
            survivors = []
            necessary = []
            for (site, what), job in jobs.items():
                result = job.result()
                if result is None and is_argued(site):
                    print(f"argued {site.name} ({site.function}): {what}", flush=True)
                elif result is None:
                    survivors.append(f"{site.name} ({site.function}): {what}")
                    print(f"NOT NEEDED {survivors[-1]}", flush=True)
                else:
                    necessary.append(
                        {"site": site.name, "weakened": what, "scenario": result.scenario,
                         "violation": result.text}
                    )  # fmt: skip
                    print(f"needed {site.name} ({site.function}): {what}: {result.scenario}: "
                          f"{result.text}", flush=True)  # fmt: skip
    for name in unreached:
        print(f"NOT REACHED {name}")
    stale = ARGUED.keys() - {argument_key(site) for site in sites}
    for key in sorted(stale):
        print(f"ARGUED, BUT NOT THERE {key}")
    figures = {
        "scenarios": len(results),
        "states": sum(result.states for result in results),
        "steps": sum(result.steps for result in results),
        "orderings_shown_necessary": len(necessary),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(
            json.dumps(
                {**figures, "results": [asdict(r) for r in results], "necessary": necessary},
                indent=1,
            )
        )
    failed = [result for result in results if not result.holds]
    return 1 if failed or survivors or unreached or stale else 0


if __name__ == "__main__":
    sys.exit(main())
