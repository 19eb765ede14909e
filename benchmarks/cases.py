"""Every case of every group: what is started, how long it may take, and under which name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import launch
from build import CAPACITIES, Built
from launch import Failed, Figures
from measure import Case
from peers import all_peers, find

GROUPS = {
    "floor": "the machine's own floor, in C",
    "c": "64 bytes, C to C",
    "api": "64 bytes, C to C: libshmipc.so beside the core compiled in",
    "sleep": "round trips when the waiter may sleep",
    "calls": "send + recv of 64 bytes in one Python process",
    "pingpong": "64 bytes to and fro between two Python processes",
    "oneway": "64 bytes one way, Python to Python, one by one",
    "batch": "C producer to Python read_batch, 64-byte items",
    "frames": "1080p frames copied in and looked at in place, Python to Python",
    "zerocopy": "read() and release() of one message, in place",
    "fanout": "one send with 1 and with 20 consumers attached",
    "idle": "a consumer that waits",
    "dispatch": "an event from the ring to on_tick, three fields read, one process",
    "strategies": "one engine, N strategy processes, two cores, nothing lost",
    "onbatch": "one strategy that takes events as arrays",
    "roundtrip": "tick to order to engine, one strategy",
    "engine": "tick to order to engine, a C++ engine and one Python strategy",
}

LINE = "bare cache line to and fro"
FUTEX = "raw futex ping-pong"
LINES = {
    256 * 1024: "lines another core has just written, 256 KiB",
    1024 * 1024: "lines another core has just written, 1 MiB",
    6 * 1024 * 1024: "lines another core has just written, 6 MiB",
}
FRAME_BYTES = 1080 * 1920 * 3
FRAME_AREA = 1 << (4 * FRAME_BYTES - 1).bit_length()  # our area for 4 frames: a power of two
FRAME_COPY = "memcpy of frames over the ring's footprint"
NOARGS = "two empty METH_NOARGS calls"
SHAPE = "an empty FASTCALL and an empty METH_NOARGS call"
CALLS = {"noargs": NOARGS, "shape": SHAPE, "message": "shmipc message", "typed": "shmipc typed"}

QUEUES = {
    "boost": "Boost.Lockfree spsc_queue",
    "readerwriterqueue": "readerwriterqueue (threads)",
    "circularbuffer": "readerwritercircularbuffer (threads)",
    "ck_ring": "Concurrency Kit ck_ring",
    "spa": "PipeWire spa_ringbuffer",
    "atomic_queue": "atomic_queue AtomicQueue2 SPSC",
}
OUR_RINGS = {
    "shmipc-typed": "shmipc typed",
    "shmipc-message": "shmipc message",
    "shmipc-batch": "shmipc typed, in batches",
}
# how libshmipc.so is used, each after the core's own that it is measured against
API = {
    "shmipc-message": "the core, messages",
    "api-messages-place": "API, messages: reserve + commit, peek + release",
    "api-messages": "API, messages: send, peek + release",
    "api-next": "API, messages: send, next",
    "api-messages-copy": "API, messages: send, recv",
    "shmipc-typed": "the core, items",
    "api-items-place": "API, items: reserve_n + commit_n, peek + release",
    "api-items": "API, items: send, peek + release",
    "shmipc-batch": "the core, batches",
    "api-batches": "API, batches: reserve_n + commit_n, peek_n + release",
}

NOTHING = "a Python call f(x) that does nothing"
DISPATCH = {"call": NOTHING, "tick": "Tick, 128 B", "trade": "TradeTick, 64 B"}
# strategies -> events an engine broadcasts
STRATEGIES = {1: 1_000_000, 3: 600_000, 10: 300_000, 20: 200_000}
BATCH_ROWS = 256
ROUND = "tick to order to engine"
NATIVE_ROUND = "tick to order to C++ engine"


def strategies_case_name(strategies: int, event: str = "trade", batch: bool = False) -> str:
    """Some strategies, one kind of event, broadcast one by one or in arrays: as printed."""
    count = "1 strategy" if strategies == 1 else f"{strategies} strategies"
    how = f", arrays of {BATCH_ROWS}" if batch else ", one by one"
    return f"{count}, {DISPATCH[event]}{how}"


def queue_case_name(label: str, items: int) -> str:
    """A queue at one capacity, as printed."""
    return f"{label}, {items}"


@dataclass
class Maker:
    """Builds the cases; holds what they all need."""

    built: dict[str, Built]
    directory: Path
    share: float  # of the usual amount of work in one repetition
    deadline: float

    def _count(self, usual: int) -> str:
        return str(max(1000, int(usual * self.share)))

    def native(self, program: str, *arguments: str) -> tuple[Callable[[], Figures], str | None]:
        """A run of a compiled program, and why there is none."""
        built = self.built[program]
        command = [str(built.path), *arguments]
        return partial(launch.run, command, deadline=self.deadline), built.reason

    def script(self, name: str, *arguments: str) -> Callable[[], Figures]:
        """A run of one of `scenarios`."""
        path = Path(__file__).resolve().parent / "scenarios" / f"{name}.py"
        command = [sys.executable, str(path), *arguments]
        return partial(launch.run, command, deadline=self.deadline)

    @property
    def share_option(self) -> tuple[str, str]:
        return "--share", str(self.share)

    def line(self) -> Callable[[], float]:
        """The bracket between any two cases."""
        run, reason = self.native("floor", "line", "8000")
        if reason:
            raise SystemExit(f"the floor program is needed for every measurement: {reason}")
        return lambda: run()["rtt_ns_p50"]

    def floor(self) -> list[Case]:
        wanted = [
            (LINE, ("line", self._count(50_000))),
            (FUTEX, ("futex", self._count(5_000))),
            *((name, ("lines", str(size), "60")) for size, name in LINES.items()),
            ("memcpy 64 B, hot", ("memcpy", "64", "64", "20")),
            ("memcpy 4 KiB, hot", ("memcpy", "4096", "4096", "20")),
            ("memcpy 6.2 MB, hot", ("memcpy", str(FRAME_BYTES), str(FRAME_BYTES), "100")),
            (FRAME_COPY, ("memcpy", str(FRAME_BYTES), str(FRAME_AREA), "200")),
        ]
        cases = []
        for name, arguments in wanted:
            run, reason = self.native("floor", *arguments)
            if name == FRAME_COPY:
                run = partial(_as_frame_rate, run)
            cases.append(Case("floor", name, "floor", run, absent=reason))
        return cases

    def _duels(self, group: str, side: str, programs: dict[str, str]) -> list[Case]:
        cases = []
        for program, label in programs.items():
            for items in CAPACITIES:
                name = f"{program}-{items}"
                oneway, reason = self.native(name, "oneway", self._count(4_000_000))
                pingpong, _ = self.native(name, "pingpong", self._count(30_000))
                both = partial(_both, oneway, pingpong, items == CAPACITIES[0])
                cases.append(Case(group, queue_case_name(label, items), side, both, absent=reason))
        return cases

    def c(self) -> list[Case]:
        return self._duels("c", "ours", OUR_RINGS) + self._duels("c", "peer", QUEUES)

    def api(self) -> list[Case]:
        cases = []
        for program, label in API.items():
            side = "ours" if program.startswith("api-") else "floor"
            cases += self._duels("api", side, {program: label})
        return cases

    def sleep(self) -> list[Case]:
        asleep, reason = self.native(
            f"shmipc-message-{CAPACITIES[0]}", "pingpong-asleep", self._count(5_000)
        )
        cases = [Case("sleep", "shmipc in C, asleep", "ours", asleep, absent=reason)]
        for name in ("shmipc, asleep", "shmipc", "shmipc, spinning"):
            cases.append(self._peer_case("sleep", "pingpong", name, f"{name}, Python"))
        return cases

    def calls(self) -> list[Case]:
        """One process takes turns between all four bodies; each case reads its own figure."""
        reason = self.built["emptycall"].reason
        ours = find("shmipc").available()
        extra = ("--without-shmipc",) if ours else ()
        script = self.script("calls", str(self.directory), *self.share_option, *extra)
        turn = _Turn(script, len(CALLS) - (2 if ours else 0))
        cases = []
        for key, name in CALLS.items():
            side = "floor" if name in (NOARGS, SHAPE) else "ours"
            absent = reason or (ours if side == "ours" else None)
            cases.append(Case("calls", name, side, partial(turn.take, f"{key}_ns"), absent=absent))
        return cases

    def _peer_case(self, group: str, test: str, peer_name: str, name: str | None = None) -> Case:
        peer = find(peer_name)
        return Case(
            group,
            name or peer.name,
            "ours" if peer.ours else "peer",
            self.script("pair", test, peer.name, *self.share_option),
            every=1 if peer.ours or peer_name in ("pyzmq ipc://", "multiprocessing.Pipe") else 2,
            absent=peer.available(),
        )

    def _pair(self, test: str) -> list[Case]:
        return [
            self._peer_case(test, test, peer.name)
            for peer in all_peers()
            if (peer.can_frames if test == "frames" else peer.name != "shmipc typed")
        ]

    def pingpong(self) -> list[Case]:
        return self._pair("pingpong")

    def oneway(self) -> list[Case]:
        return self._pair("oneway")

    def frames(self) -> list[Case]:
        return self._pair("frames")

    def _ours(self, group: str, name: str, script: str, *arguments: str, every: int = 1) -> Case:
        absent = find("shmipc").available()
        run = self.script(script, *arguments)
        return Case(group, name, "ours", run, every=every, absent=absent)

    def batch(self) -> list[Case]:
        return [
            self._ours(
                "batch",
                queue_case_name("shmipc", items),
                "batch",
                str(self.directory),
                str(items),
                *self.share_option,
            )
            for items in CAPACITIES
        ]

    def zerocopy(self) -> list[Case]:
        turn = _Turn(self.script("zerocopy", *self.share_option), 2)
        return self._turns("zerocopy", turn, {"small": "64 bytes", "frame": "1080p frame, 6.2 MB"})

    def fanout(self) -> list[Case]:
        cases = []
        for overflow in ("block", "overwrite"):
            turn = _Turn(self.script("fanout", overflow, *self.share_option), 2)
            names = {"one": f"1 consumer, {overflow}", "many": f"20 consumers, {overflow}"}
            cases += self._turns("fanout", turn, names)
        return cases

    def _turns(self, group: str, turn: _Turn, names: dict[str, str]) -> list[Case]:
        absent = find("shmipc").available()
        return [
            Case(group, name, "ours", partial(turn.take, f"{key}_ns"), absent=absent)
            for key, name in names.items()
        ]

    def idle(self) -> list[Case]:
        seconds = "2" if self.share == 1 else "0.5"
        return [self._ours("idle", "shmipc", "idle", "--seconds", seconds, every=4)]

    def dispatch(self) -> list[Case]:
        turn = _Turn(self.script("dispatch", *self.share_option), len(DISPATCH))
        cases = self._turns("dispatch", turn, DISPATCH)
        cases[0].side = "floor"
        return cases

    def strategies(self) -> list[Case]:
        cases = []
        for event in ("trade", "tick"):
            for batch in (False, True):
                for many, count in STRATEGIES.items():
                    arguments = [event, str(count), "--strategies", str(many), *self.share_option]
                    if batch:
                        arguments += ["--batch", str(BATCH_ROWS)]
                    name = strategies_case_name(many, event, batch)
                    every = 1 if event == "trade" else 4
                    cases.append(
                        self._ours("strategies", name, "strategies", *arguments, every=every)
                    )
        return cases

    def onbatch(self) -> list[Case]:
        return [
            self._ours("onbatch", DISPATCH[event], "onbatch", event, *self.share_option)
            for event in ("trade", "tick")
        ]

    def roundtrip(self) -> list[Case]:
        wanted = {
            ROUND: ((), 1),
            f"{ROUND}, garbage collector on": (("--collect",), 2),
            f"{ROUND}, stamped at every step": (("--legs",), 4),
        }
        return [
            self._ours("roundtrip", name, "roundtrip", *arguments, *self.share_option, every=every)
            for name, (arguments, every) in wanted.items()
        ]

    def engine(self) -> list[Case]:
        built = self.built["engine_roundtrip"]
        cases = []
        for name, arguments, every in (
            (NATIVE_ROUND, (), 1),
            (f"{NATIVE_ROUND}, stamped at every step", ("--legs",), 4),
        ):
            case = self._ours(
                *("engine", name, "engine", str(built.path), *arguments, *self.share_option),
                every=every,
            )
            case.absent = built.reason or case.absent
            cases.append(case)
        return cases


def _as_frame_rate(run: Callable[[], Figures]) -> Figures:
    """A copy of one frame as frames a second."""
    return {"rate_fps": 1e9 / run()["copy_ns"]}


def _both(
    oneway: Callable[[], Figures], pingpong: Callable[[], Figures], with_rounds: bool
) -> Figures:
    """One way, and to and fro at the smaller capacity: for one round trip it does not matter."""
    return {**oneway(), **(pingpong() if with_rounds else {})}


class _Turn:
    """One run of a script that yields the figures of several cases, shared between them."""

    def __init__(self, script: Callable[[], Figures], cases: int) -> None:
        self._script = script
        self._cases = cases
        self._left = 0
        self._outcome: Figures | Failed = {}

    def take(self, key: str) -> Figures:
        """This case's figure; the first of a turn's cases to ask runs the script."""
        if not self._left:
            self._left = self._cases
            try:
                self._outcome = self._script()
            except Failed as failed:
                self._outcome = failed
        self._left -= 1
        if isinstance(self._outcome, Failed):
            raise self._outcome
        return {"call_ns": self._outcome[key]}


def make_cases(maker: Maker, groups: list[str]) -> list[Case]:
    """The cases of the groups; the floor always comes along, every ratio needs it."""
    wanted = ["floor", *(group for group in GROUPS if group in groups and group != "floor")]
    return [case for group in wanted for case in getattr(maker, group)()]
