"""Every pair of languages over the same rings: python tests/trials/conformance/run.py [--only
PATTERN]

Needs the installed package, a C and a C++ compiler, and mono for C#; a language that is not
installed here is left out, and that is said. Ends with status 1 if a pair did not agree with what
expected.py works out.

    run.py --only 'c-csharp'            one pair: producer, consumer
    run.py --only '*/kill*'             some scenarios of all pairs
    run.py --languages python,c         fewer languages
    run.py --sanitize                   C, C++ and the library under ASan and UBSan
    run.py --self-test                  break the peers on purpose: is each fault found?

Owns: the command line, the matrix. README.md has the protocol that a peer speaks.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fnmatch
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import deaths
import faults
from crowd import RESULTS, SEEN, Violation
from language import LANGUAGES, Language, Workshop
from world import Scenario, World

import scenarios

SHM = "/dev/shm"
SCENARIOS: dict[str, Scenario] = {**scenarios.SCENARIOS, **faults.SCENARIOS, **deaths.SCENARIOS}
ALONE = frozenset((*faults.ALONE, *scenarios.ALONE))  # about one language: run where it is both


@dataclass
class Outcome:
    """What became of one pair."""

    pair: tuple[str, str]
    seconds: float = 0.0
    passed: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", help="PRODUCER-CONSUMER[/SCENARIO], with * ?")
    parser.add_argument("--languages", help=f"of {','.join(x.name for x in LANGUAGES)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--library", type=Path, help="the directory of the libshmipc.so to run")
    parser.add_argument("--sanitize", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="each scenario, with its time")
    return parser.parse_args()


def chosen(pair: tuple[str, str], only: Iterable[str] | None) -> list[str]:
    """The scenarios that this pair runs."""
    names = [n for n in SCENARIOS if n not in ALONE or pair[0] == pair[1]]
    if only is None:
        return names
    wanted = []
    for pattern in only:
        of_pair, _, of_scenario = pattern.partition("/")
        if fnmatch.fnmatch("-".join(pair), of_pair):
            wanted += [n for n in names if fnmatch.fnmatch(n, of_scenario or "*")]
    return wanted


def run_pair(
    pair: tuple[str, str],
    names: list[str],
    commands: dict[str, list[str]],
    seed: int,
    verbose: bool = False,
) -> Outcome:
    outcome = Outcome(pair)
    lacks = {language.name: language.lacks for language in LANGUAGES}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(
        prefix="shmipc-conf-", dir=SHM if os.access(SHM, os.W_OK) else None
    ) as directory:
        world = World(commands, pair, lacks, Path(directory), seed)
        for name in names:
            at = time.monotonic()
            try:
                try:
                    SCENARIOS[name](world)
                    left = sorted(os.listdir(directory))
                    if left:
                        raise Violation(f"left behind: {left}")
                except BaseException:
                    world.end(well=False)
                    raise
                outcome.passed.append(name)
            except Violation as violation:
                outcome.failed.append((name, str(violation)))
            except Exception:
                outcome.failed.append((name, traceback.format_exc()))
            for path in Path(directory).iterdir():
                path.unlink()
            if verbose:
                print(f"  {'-'.join(pair)}/{name} {time.monotonic() - at:.2f} s", flush=True)
        try:
            world.end(well=True)
        except Violation as violation:
            outcome.failed.append(("end", str(violation)))
    outcome.seconds = time.monotonic() - begun
    return outcome


def prepare(languages: list[Language], shop: Workshop) -> dict[str, list[str]]:
    """Build all peers."""
    if any("cc" in language.needs for language in languages):
        shop.library()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        built = list(pool.map(lambda language: language.build(shop), languages))
    return {language.name: command for language, command in zip(languages, built, strict=True)}


def present(names: str | None, sanitize: bool) -> list[Language]:
    """The languages to run; says which are left out."""
    found = []
    for language in LANGUAGES:
        if names is not None and language.name not in names.split(","):
            continue
        missing = language.missing()
        if missing is None and sanitize and not language.sanitized:
            missing = "not under sanitizers"
        if missing is None:
            found.append(language)
        else:
            print(f"left out: {language.name}: {missing}")
    return found


def run_all(
    commands: dict[str, list[str]],
    only: Iterable[str] | None,
    seed: int,
    workers: int,
    verbose: bool = False,
) -> list[Outcome]:
    pairs = [(producer, consumer) for producer in commands for consumer in commands]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = [
            pool.submit(run_pair, pair, names, commands, seed, verbose)
            for pair in pairs
            if (names := chosen(pair, only))
        ]
        return [future.result() for future in futures]


def show(outcomes: list[Outcome], names: list[str], seconds: float) -> None:
    by_pair = {outcome.pair: outcome for outcome in outcomes}
    width = max(12, *(len(name) + 2 for name in names))
    print("\nproducer \\ consumer".ljust(22) + "".join(name.rjust(width) for name in names))
    for producer in names:
        cells = []
        for consumer in names:
            outcome = by_pair.get((producer, consumer))
            cell = "-"
            if outcome is not None:
                count = len(outcome.passed) + len(outcome.failed)
                cell = f"{len(outcome.passed)}/{count}" + (" !" if outcome.failed else "")
            cells.append(cell.rjust(width))
        print(producer.ljust(21) + "".join(cells))
    for outcome in outcomes:
        for name, why in outcome.failed:
            print(f"\nFAILED {'-'.join(outcome.pair)}/{name}: {why}")
    failed = sum(len(outcome.failed) for outcome in outcomes)
    passed = sum(len(outcome.passed) for outcome in outcomes)
    print(f"\n{len(outcomes)} pairs: {passed} passed, {failed} failed, {seconds:.0f} s", flush=True)


def results_not_seen(languages: list[Language]) -> list[tuple[str, list[str]]]:
    """Each language must have reported each result that it has, or nothing was shown of it."""
    found = []
    for language in languages:
        left = RESULTS - language.lacks - SEEN.get(language.name, set())
        if left:
            found.append((language.name, sorted(left)))
    return found


def main() -> int:
    options = parse()
    if options.self_test:
        import mutants

        return mutants.self_test(options.seed, options.library, options.only)
    languages = present(options.languages, options.sanitize)
    with tempfile.TemporaryDirectory(prefix="shmipc-conf-") as out:
        begun = time.monotonic()
        shop = Workshop(Path(out), options.sanitize, library_dir=options.library)
        commands = prepare(languages, shop)
        print(f"built {', '.join(commands)} in {time.monotonic() - begun:.0f} s", flush=True)
        begun = time.monotonic()
        outcomes = run_all(commands, options.only, options.seed, options.workers, options.verbose)
        show(outcomes, list(commands), time.monotonic() - begun)
    unseen = [] if options.only else results_not_seen(languages)
    for language, results in unseen:
        print(f"FAILED: nothing made {language} report {', '.join(results)}")
    if not outcomes:
        print("nothing was chosen", file=sys.stderr)
        return 2
    return 1 if unseen or any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
