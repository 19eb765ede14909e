"""The bars: each claim of the project as a ratio of two figures of the same run."""

from __future__ import annotations

from dataclasses import dataclass

from build import CAPACITIES
from cases import (
    API,
    DISPATCH,
    FRAME_COPY,
    FUTEX,
    LINE,
    LINES,
    NATIVE_ROUND,
    NOARGS,
    NOTHING,
    OUR_RINGS,
    QUEUES,
    ROUND,
    STRATEGIES,
    queue_case_name,
    strategies_case_name,
)
from measure import METRICS, Results

# programs of the group `api`: how the API is used, the core's own, at most how much longer it takes
API_BARS = (
    ("api-messages-place", "shmipc-message", 1.3),
    ("api-messages", "shmipc-message", 1.3),
    ("api-next", "shmipc-message", 1.3),
    ("api-items-place", "shmipc-typed", 1.3),
    ("api-items", "shmipc-typed", 1.3),
    ("api-batches", "shmipc-batch", 1.05),
)
DELIVERED_MPS = {1: 0.8, 3: 1.8, 10: 4.0, 20: 5.0}  # strategies -> callbacks a second, together


@dataclass
class Bar:
    """One row: `ours` against `other`, which must be `at most` or `at least` `bar` times it."""

    what: str
    ours: float | None
    other: float | None
    other_name: str
    unit: str
    bar: float
    at_most: bool

    @property
    def ratio(self) -> float | None:
        if self.ours is None or not self.other:
            return None
        return self.ours / self.other

    @property
    def met(self) -> bool | None:
        if self.ratio is None:
            return None
        return self.ratio <= self.bar if self.at_most else self.ratio >= self.bar

    def as_json(self) -> dict[str, object]:
        return {**vars(self), "ratio": self.ratio, "met": self.met}


def _best(results: Results, group: str, names: list[str], metric: str) -> tuple[float | None, str]:
    """The best median among the named cases, and whose it is."""
    medians = [(m, name) for name in names if (m := results.median(group, name, metric))]
    if not medians:
        return None, "-"
    return (max if METRICS[metric].higher_is_better else min)(medians)


def _names(results: Results, group: str, side: str) -> list[str]:
    return [case.name for case in results.cases if (case.group, case.side) == (group, side)]


def _ns_each(results: Results, group: str, label: str) -> float | None:
    """What a message takes one way, at the better capacity: the rate's inverse."""
    names = [queue_case_name(label, items) for items in CAPACITIES]
    rate = _best(results, group, names, "rate_mps")[0]
    return 1e3 / rate if rate else None


def bars(results: Results) -> list[Bar]:
    """Every bar, whether or not this run has the figures for it."""
    median = results.median
    rows: list[Bar] = []

    def row(
        what: str,
        ours: float | None,
        other: float | None,
        other_name: str,
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        limit = at_most if at_most is not None else at_least
        assert limit is not None
        rows.append(Bar(what, ours, other, other_name, unit, limit, at_most is not None))

    line = median("floor", LINE, "rtt_ns_p50")
    row(
        "send + recv of 64 B in one process",
        median("calls", "shmipc message", "call_ns"),
        median("calls", NOARGS, "call_ns"),
        NOARGS,
        "ns",
        at_most=3,
    )
    spinning = median("pingpong", "shmipc, spinning", "rtt_ns_p50")
    row("64 B ping-pong, Python, spinning, p50", spinning, line, LINE, "ns", at_most=3)

    ours_name = _best(results, "oneway", _names(results, "oneway", "ours"), "rate_mps")
    what = "64 B one way, Python to Python, one by one"
    for peer in ("pyzmq ipc://", "multiprocessing.Pipe"):
        other = median("oneway", peer, "rate_mps")
        row(what, ours_name[0], other, peer, "M/s", at_least=12)
    rival = _best(results, "oneway", _names(results, "oneway", "peer"), "rate_mps")
    row(what, ours_name[0], rival[0], f"fastest peer: {rival[1]}", "M/s", at_least=1)

    batch = _best(results, "batch", _names(results, "batch", "ours"), "rate_mps")[0]
    written = LINES[1024 * 1024]
    what = "C producer to Python read_batch, 64 B items"
    row(what, batch, median("floor", written, "rate_mps"), written, "M/s", at_least=0.65)
    queues = [queue_case_name(label, items) for label in QUEUES.values() for items in CAPACITIES]
    fastest = _best(results, "c", queues, "rate_mps")
    row(what, batch, fastest[0], f"fastest C queue: {fastest[1]}", "M/s", at_least=1)

    ours_c = [
        queue_case_name(OUR_RINGS[key], items)
        for key in ("shmipc-typed", "shmipc-message")
        for items in CAPACITIES
    ]
    ours_rate, ours_case = _best(results, "c", ours_c, "rate_mps")
    what = f"our C ring, 64 B one way ({ours_case})"
    row(what, ours_rate, fastest[0], f"fastest C queue: {fastest[1]}", "M/s", at_least=1.15)
    summary = results.summary("c", ours_case, "rate_mps")
    row(
        "... its slowest repetition",
        summary.worst if summary else None,
        ours_rate,
        "its own median",
        "M/s",
        at_least=0.6,
    )
    ours_rtt, rtt_case = _best(results, "c", ours_c, "rtt_ns_p50")
    row(f"our C ring, ping-pong ({rtt_case})", ours_rtt, line, LINE, "ns", at_most=1.5)

    for ours_program, core_program, most in API_BARS:
        label, core = API[ours_program], API[core_program]
        taken = [_ns_each(results, "api", name) for name in (label, core)]
        row(f"{label}, one way", *taken, core, "ns", at_most=most)
        if ours_program != "api-batches":  # one message in flight is no batch
            rounds = [
                median("api", queue_case_name(name, CAPACITIES[0]), "rtt_ns_p50")
                for name in (label, core)
            ]
            row(f"{label}, ping-pong", *rounds, core, "ns", at_most=most)

    futex = median("floor", FUTEX, "rtt_ns_p50")
    what = "ping-pong when the waiter sleeps"
    for name in ("shmipc in C, asleep", "shmipc, asleep, Python"):
        row(
            f"{what} ({name})", median("sleep", name, "rtt_ns_p50"), futex, FUTEX, "ns", at_most=1.3
        )
    row(
        "ping-pong within the spin budget, Python",
        median("sleep", "shmipc, Python", "rtt_ns_p50"),
        median("sleep", "shmipc, spinning, Python", "rtt_ns_p50"),
        "always spinning",
        "ns",
        at_most=1.3,
    )
    small = median("zerocopy", "64 bytes", "call_ns")
    frame = median("zerocopy", "1080p frame, 6.2 MB", "call_ns")
    row("zero-copy read of a 6.2 MB frame", frame, small, "of 64 bytes", "ns", at_most=1.5)
    row("zero-copy read of a 6.2 MB frame", frame, 1000.0, "one microsecond", "ns", at_most=1)
    ours_frames = _best(results, "frames", _names(results, "frames", "ours"), "rate_fps")
    row(
        f"1080p frames copied in by send ({ours_frames[1]})",
        ours_frames[0],
        median("floor", FRAME_COPY, "rate_fps"),
        FRAME_COPY,
        "frames/s",
        at_least=0.9,
    )
    for overflow in ("block", "overwrite"):
        row(
            f"publish to 20 consumers, {overflow}",
            median("fanout", f"20 consumers, {overflow}", "call_ns"),
            median("fanout", f"1 consumer, {overflow}", "call_ns"),
            "publish to one",
            "ns",
            at_most=1.3,
        )
    row(
        "an idle consumer blocked in recv",
        median("idle", "shmipc", "core_percent"),
        100.0,
        "a whole core",
        "%",
        at_most=0.01,
    )
    for event in ("tick", "trade"):
        row(
            f"{DISPATCH[event]}, from the ring to its callback, three fields read",
            median("dispatch", DISPATCH[event], "call_ns"),
            median("dispatch", NOTHING, "call_ns"),
            NOTHING,
            "ns",
            at_most=7,
        )
    for many, least in DELIVERED_MPS.items():
        name = strategies_case_name(many)
        delivered = median("strategies", name, "delivered_mps")
        row(f"delivered: {name}", delivered, least, f"{least:g} M/s", "M/s", at_least=1)
    few, most = min(STRATEGIES), max(STRATEGIES)
    for batch in (False, True):
        row(
            f"an event costs the engine: {strategies_case_name(most, batch=batch)}",
            median("strategies", strategies_case_name(most, batch=batch), "engine_ns"),
            median("strategies", strategies_case_name(few, batch=batch), "engine_ns"),
            "with 1 strategy",
            "ns",
            at_most=1.3,
        )
    rate = median("onbatch", DISPATCH["trade"], "rate_mps")
    row(f"on_batch, {DISPATCH['trade']}", rate, 50.0, "50 M/s", "M/s", at_least=1)
    row(ROUND, median("roundtrip", ROUND, "rtt_ns_p50"), line, LINE, "ns", at_most=10)
    native = median("engine", NATIVE_ROUND, "rtt_ns_p50")
    row(NATIVE_ROUND, native, line, LINE, "ns", at_most=8)
    return rows
