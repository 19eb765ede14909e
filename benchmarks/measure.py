"""How a figure is got: interleaved repetitions, each bracketed by a bare cache line.

A virtual machine's cores are moved about: for seconds or minutes two of them are siblings of one
physical core, or share a cache, or lie in different parts of the chip, and a round trip differs by
a factor of four or more between these. Figures taken in one placement say nothing beside figures
taken in another. So a bare cache-line ping-pong is run between any two measurements, and a
repetition is dropped when the line before or after it was far from the run's usual value: below,
because that flatters, and above, because a ratio of the two would be of nothing. Candidates take
turns within every repetition: what the machine does meanwhile, it does to all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

from launch import Failed, Figures

PLACEMENT = 2  # a bracket further than this factor from the run's median is another placement
SLOW_SHARE = 0.5  # a repetition at less than this share of the candidate's best speed is slow


@dataclass(frozen=True)
class Metric:
    """What a figure is, and which way is better."""

    unit: str
    higher_is_better: bool = False


METRICS = {
    "rtt_ns_p50": Metric("ns"),
    "rtt_each_ns_p99": Metric("ns"),
    "rtt_each_ns_p999": Metric("ns"),
    "rate_mps": Metric("M/s", True),
    "written_mps": Metric("M/s", True),
    "rate_fps": Metric("frames/s", True),
    "rate_gbs": Metric("GB/s", True),
    "copy_ns": Metric("ns"),
    "call_ns": Metric("ns"),
    "delivered_mps": Metric("M/s", True),
    "engine_ns": Metric("ns"),
    "switches_per_k": Metric("a 1000"),
    "pauses_per_s": Metric("a s"),
    "pause_ns": Metric("ns"),
    "leg_broadcast_ns": Metric("ns"),
    "leg_tick_ns": Metric("ns"),
    "leg_order_ns": Metric("ns"),
    "leg_callback_ns": Metric("ns"),
    "core_percent": Metric("% of a core"),
}


@dataclass
class Case:
    """One candidate in one measurement.

    Attributes:
        group: the table it appears in.
        name: the candidate, as printed.
        side: "ours", "floor" or "peer".
        run: takes one repetition and returns its figures, or raises Failed.
        every: run in every k-th repetition only (the slow ones).
        absent: why it cannot run at all; then it is never started.
    """

    group: str
    name: str
    side: str
    run: Callable[[], Figures]
    every: int = 1
    absent: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.group, self.name


@dataclass
class Repetition:
    """One run of one case: its figures or its error, and the cache line on either side of it."""

    group: str
    name: str
    number: int
    figures: Figures
    error: str | None
    line_before_ns: float
    line_after_ns: float
    kept: bool = True


@dataclass
class Summary:
    """What is left of one metric of one case after all repetitions."""

    median: float
    worst: float
    best: float
    spread: float  # (largest - smallest) / median
    slow: float  # share of repetitions far from the best
    count: int


@dataclass
class Results:
    """Everything a run produced; the tables, the bars and the JSON are views of this."""

    cases: list[Case]
    repetitions: list[Repetition] = field(default_factory=list)
    usual_line_ns: float = 0.0
    elsewhere: float = 0.0  # share of brackets taken in another placement of the cores

    def values(self, group: str, name: str, metric: str) -> list[float]:
        """The kept figures of a case, in the order they were taken."""
        return [
            repetition.figures[metric]
            for repetition in self.repetitions
            if (repetition.group, repetition.name) == (group, name)
            and repetition.kept
            and metric in repetition.figures
        ]

    def summary(self, group: str, name: str, metric: str) -> Summary | None:
        """Median, worst, best, spread and share of slow runs; None without a kept figure."""
        return summarise(self.values(group, name, metric), METRICS[metric].higher_is_better)

    def median(self, group: str, name: str, metric: str) -> float | None:
        summary = self.summary(group, name, metric)
        return summary.median if summary else None

    def metrics_of(self, case: Case) -> list[str]:
        """The metrics this case yielded, in the order of METRICS."""
        seen = {
            key
            for repetition in self.repetitions
            if (repetition.group, repetition.name) == case.key
            for key in repetition.figures
        }
        return [metric for metric in METRICS if metric in seen]

    def state(self, case: Case) -> str | None:
        """Why a case has no figures, or how often it failed; None when all went well."""
        if case.absent:
            return case.absent
        mine = [r for r in self.repetitions if (r.group, r.name) == case.key]
        errors = [r.error for r in mine if r.error]
        if errors:
            return f"failed {len(errors)} of {len(mine)}: {errors[-1]}"
        if mine and not any(repetition.kept for repetition in mine):
            return f"all {len(mine)} repetitions dropped: the cores were placed otherwise"
        return None

    def as_json(self) -> dict[str, object]:
        """Every repetition and every summary, ready for json.dump."""
        return {
            "usual_line_ns": self.usual_line_ns,
            "elsewhere": self.elsewhere,
            "cases": [
                {
                    "group": case.group,
                    "name": case.name,
                    "side": case.side,
                    "state": self.state(case),
                    "summary": {
                        metric: asdict(summary)
                        for metric in self.metrics_of(case)
                        if (summary := self.summary(case.group, case.name, metric))
                    },
                }
                for case in self.cases
            ],
            "repetitions": [asdict(repetition) for repetition in self.repetitions],
        }


def summarise(values: list[float], higher_is_better: bool) -> Summary | None:
    """Condense the repetitions of one figure."""
    if not values:
        return None
    best, worst = (max, min) if higher_is_better else (min, max)
    top = best(values)
    speeds = [(v / top if higher_is_better else top / v) if v and top else 1.0 for v in values]
    median = statistics.median(values)
    return Summary(
        median=median,
        worst=worst(values),
        best=top,
        spread=(max(values) - min(values)) / median if median else 0.0,
        slow=sum(speed < SLOW_SHARE for speed in speeds) / len(speeds),
        count=len(values),
    )


def run_all(
    cases: Iterable[Case],
    repetitions: int,
    line: Callable[[], float],
    progress: Callable[[str], None],
) -> Results:
    """Take all repetitions of all cases in turns, with `line` between any two.

    A case that failed in its first two repetitions is not started again: a peer that hangs until
    its deadline would otherwise take the run with it.
    """
    results = Results(list(cases))
    failures: dict[tuple[str, str], int] = {}
    lines = [line()]
    begun = time.monotonic()
    for number in range(repetitions):
        for case in results.cases:
            if case.absent or number % case.every or failures.get(case.key, 0) >= 2:
                continue
            elapsed = time.monotonic() - begun
            progress(f"{elapsed:5.0f} s  {number + 1}/{repetitions}  {case.group}: {case.name}")
            figures: Figures = {}
            error = None
            try:
                figures = case.run()
            except Failed as failed:
                error = str(failed)
                failures[case.key] = failures.get(case.key, 0) + 1
            before = lines[-1]
            lines.append(line())
            results.repetitions.append(
                Repetition(case.group, case.name, number, figures, error, before, lines[-1])
            )
    progress("")
    results.usual_line_ns = usual = statistics.median_low(lines)

    def elsewhere(taken: float) -> bool:
        return not usual / PLACEMENT <= taken <= usual * PLACEMENT

    results.elsewhere = sum(map(elsewhere, lines)) / len(lines)
    for repetition in results.repetitions:
        around = repetition.line_before_ns, repetition.line_after_ns
        repetition.kept = not any(map(elsewhere, around))
    return results
