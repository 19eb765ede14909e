"""Keeps a changing population of workers, kills, stops and restarts them, and judges the whole.

Owns: processes, orders, episodes of rings, deaths and what survivors noted of them. Must not know:
what a worker does with its ring. Every random decision comes from the seed; what the machine makes
of it does not repeat.
"""

from __future__ import annotations

import bisect
import ctypes
import gc
import os
import random
import signal
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from board import (
    ACKED,
    ATTEMPT,
    BEAT,
    DELIVERED,
    DRAIN,
    EPISODE,
    EVENT_BASE,
    EVENT_COUNT,
    EVENTS,
    EVICTED,
    FINISH,
    GEN,
    IDLE,
    LEAVE,
    LIFE,
    MAX_RINGS,
    NUMBER_BITS,
    NUMBER_MASK,
    OPENED,
    ORDER,
    PHASE,
    PID,
    RELEASE_ACKED,
    RELEASE_TRY,
    RING,
    RUN,
    TOLD_CONSUMER_DIED,
    TOLD_PRODUCER_DIED,
    Board,
    Plan,
    draw_plan,
    save_plan,
)
from places import Slot, waited_for_processor
from reader import ViolationError, need
from residents import work
from workers import HANDED_OVER, take_ring

import shmipc
from shmipc import _core

# Seconds of the conductor's clock: a loaded machine may stop us all, and that is nobody's hang.
HANG = 30.0  # without a heartbeat, not counting what the worker waited for a processor
END = 60.0  # for a ring to come to its end
TOLD = 20.0  # after a death, by the wall's clock, by which a survivor must have been told
PR_SET_CHILD_SUBREAPER = 36
RESIDENTS = ("resident", "async", "steady")
TICK = 0.02


class Show:
    """One ring and its episodes."""

    def __init__(self, index: int, words: Any) -> None:
        self.index, self.words = index, words
        self.plan: Plan | None = None
        self.slots: list[Slot] = []
        self.end_at = 0.0
        self.phase_since = 0.0
        self.deaths: dict[str, list[int]] = {"producer": [], "consumer": []}


class Conductor:
    """The whole soak. `run()` returns when the time is over; ViolationError says what broke."""

    def __init__(self, directory: str, seed: int, rings: int, seconds: float) -> None:
        assert rings <= MAX_RINGS
        self.directory = directory
        self.rng = random.Random(seed)
        self.seconds = seconds
        self.board = Board(directory, create=True)
        self.shows = [Show(index, self.board.ring(index)) for index in range(rings)]
        self.history: deque[str] = deque(maxlen=600)
        self.counts: Counter[str] = Counter()
        self.waits: dict[str, list[float]] = {}
        self.kinds: Counter[str] = Counter()
        self.started = self.seen = time.monotonic()
        self.clock = 0.0
        self.free = list(range(100))
        self.orphans: deque[int] = deque(maxlen=100)  # reaped lately
        self.slots: list[Slot] = []
        for role in RESIDENTS:
            self.add_slot(role, 0)
        libc = ctypes.CDLL(None, use_errno=True)
        need(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0, "no child subreaper here")

    def log(self, text: str) -> None:
        self.history.append(f"{time.monotonic() - self.started:9.3f} {text}")

    # ---- processes

    def add_slot(self, role: str, ring: int) -> Slot:
        number = self.free.pop(0)
        slot = Slot(number, role, ring, self.board.worker(number))
        slot.generation = slot.area[GEN]
        slot.seen_events = slot.area[EVENT_COUNT]
        slot.area[RING] = ring
        self.slots.append(slot)
        return slot

    def drop_slot(self, slot: Slot) -> None:
        self.slots.remove(slot)
        self.free.append(slot.number)  # last, so that a number rests before it is used again

    def start(self, slot: Slot) -> None:
        slot.generation += 1
        slot.area[GEN] = slot.generation
        slot.area[ORDER] = 0
        slot.area[PID] = 0
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                arguments = (self.directory, slot.number, slot.generation, slot.role, slot.ring)
                status = work(*arguments)
            finally:
                os._exit(status)
        slot.area[PID] = pid
        slot.pid = pid
        self.note_beat(slot)
        slot.stopped_until = 0.0
        self.counts["processes"] += 1
        self.log(f"start {slot}")

    def kill(self, slots: list[Slot]) -> None:
        """SIGKILL, all at once."""
        slots = [slot for slot in slots if slot.pid]
        now_ns = time.monotonic_ns()
        for slot in slots:
            os.kill(slot.pid, signal.SIGKILL)
            self.log(f"kill {slot}")
        for slot in slots:
            pid, status = os.waitpid(slot.pid, 0)
            if os.WIFSIGNALED(status):
                self.counts[f"killed {slot.role}s"] += 1
                self.shows[slot.ring].deaths[slot.role].append(now_ns)
            self.ended(slot, pid, status, killed=True)
        if len(slots) > 1:
            self.counts["kills of several at once"] += 1

    def ended(self, slot: Slot, pid: int, status: int, killed: bool = False) -> None:
        if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
            return
        code = os.waitstatus_to_exitcode(status)
        successor = slot.area[PID]
        self.log(f"end {slot} status {code}")
        slot.pid = 0
        if successor not in (0, pid, *self.orphans):
            slot.pid = successor  # handed over to a spawned process
            self.note_beat(slot)
            self.counts["processes"] += 1
            self.log(f"goes on as {slot}")
        else:
            slot.area[GEN] = slot.generation = slot.generation + 1  # an unknown heir must go
        need(
            code in (0, HANDED_OVER) or (killed and code == -signal.SIGKILL),
            f"{slot.role} of ring {slot.ring} (pid {pid}) ended with {code}",
        )
        rest = self.rng.uniform(4, 7) if self.rng.random() < 0.15 else self.rng.random() ** 2 * 0.5
        slot.start_at = time.monotonic() + rest

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            slot = next((slot for slot in self.slots if slot.pid == pid), None)
            if slot is not None:
                self.ended(slot, pid, status)
            else:  # an orphan: a forked child, or the heir of one killed while handing over
                code = os.waitstatus_to_exitcode(status)
                self.counts["orphans"] += 1
                self.orphans.append(pid)
                need(code in (0, HANDED_OVER), f"orphan {pid} ended with {code}")

    def stop(self, slot: Slot, seconds: float) -> None:
        if slot.pid and not slot.stopped_until:
            os.kill(slot.pid, signal.SIGSTOP)
            slot.stopped_until, slot.stopped_pid = time.monotonic() + seconds, slot.pid
            slot.stops.append((time.monotonic_ns(), 1 << 62))
            self.counts["SIGSTOPs"] += 1
            self.log(f"stop {slot} for {seconds:.2f} s")

    def go_on(self, slot: Slot) -> None:
        slot.stopped_until = 0.0
        slot.stops[-1] = (slot.stops[-1][0], time.monotonic_ns())
        self.note_beat(slot)
        if slot.stopped_pid == slot.pid:
            os.kill(slot.pid, signal.SIGCONT)

    # ---- watching

    def note_beat(self, slot: Slot) -> None:
        slot.beat = (slot.area[BEAT], self.clock, waited_for_processor(slot.pid))

    def tick(self) -> None:
        """Move our clock, by no more than 0.2 s: what is longer, we were not let run."""
        now = time.monotonic()
        self.clock += min(now - self.seen, 0.2)
        self.seen = now

    def watch(self) -> None:
        now = time.monotonic()
        self.tick()
        self.reap()
        for slot in self.slots:
            if slot.stopped_until and (now >= slot.stopped_until or not slot.pid):
                self.go_on(slot)
            self.take_events(slot)
            beat, since, waited = slot.beat
            if slot.area[BEAT] != beat or not slot.pid or slot.stopped_until:
                self.note_beat(slot)
            elif self.clock - since - waited_for_processor(slot.pid) + waited > HANG:
                self.counts["hung"] += 1
                self.ask_for_traces([slot])
                raise ViolationError(f"hang: {slot} has not moved for {HANG} s")
        for path in Path(self.directory).glob("violation.*"):
            raise ViolationError(f"{path.name}: {path.read_text()}")

    def ask_for_traces(self, slots: list[Slot]) -> None:
        for slot in slots:
            if slot.pid:
                for name in ("stat", "wchan", "schedstat", "syscall", "cmdline"):
                    with suppress(OSError):
                        self.log(f"{slot} {name} {Path(f'/proc/{slot.pid}/{name}').read_bytes()!r}")
                os.kill(slot.pid, signal.SIGUSR1)
        time.sleep(5)

    def take_events(self, slot: Slot) -> None:
        count = slot.area[EVENT_COUNT]
        for index in range(max(slot.seen_events, count - EVENTS), count):
            at = EVENT_BASE + (index % EVENTS) * 4
            kind, ring, start_ns, at_ns = (slot.area[at + i] for i in range(4))
            self.judge_event(slot, kind, ring, start_ns, at_ns)
        slot.seen_events = count

    def judge_event(self, slot: Slot, kind: int, ring: int, start_ns: int, at_ns: int) -> None:
        """How long a survivor waited, from the SIGKILL or from the start of its wait if later."""
        role, what = {
            TOLD_PRODUCER_DIED: ("producer", "consumer told ProducerDied"),
            TOLD_CONSUMER_DIED: ("consumer", "producer told ConsumerDied"),
            EVICTED: ("consumer", "dead consumer let go by a waiting producer"),
            OPENED: ("producer", "successor has the dead producer's ring"),
        }[kind]
        deaths = self.shows[ring].deaths[role]
        place = bisect.bisect_right(deaths, at_ns)
        if place == 0:
            return
        death = deaths[place - 1]
        if kind == OPENED and death < start_ns:
            return  # it came later: there was nothing to wait for
        since = max(death, start_ns)
        others = self.slots if kind == EVICTED else [slot]  # who may have held it as well
        stops = [stop for other in others for stop in other.stops]
        if any(begin < at_ns and end > since for begin, end in stops):
            return  # stopped meanwhile
        seconds = max(0.0, (at_ns - since) / 1e9)
        self.waits.setdefault(what, []).append(seconds)
        need(seconds < TOLD, f"{slot}: {what} only after {seconds:.1f} s")

    # ---- episodes

    def begin(self, show: Show) -> None:
        words = show.words
        plan = show.plan = draw_plan(self.rng, show.index)
        save_plan(self.directory, plan)
        for word in (ACKED, ATTEMPT, DELIVERED, RELEASE_TRY, RELEASE_ACKED):
            words[word] = words[LIFE] << NUMBER_BITS
        words[EPISODE] += 1
        # ring 0 has the steady producer; others wait for it to close, and take over
        roles = ["producer"] * self.rng.choice((0, 1) if show.index == 0 else (1, 1, 2))
        roles += ["consumer"] * self.rng.randrange(1, plan.consumers + 1)
        show.slots = [self.add_slot(role, show.index) for role in roles]
        words[PHASE] = RUN
        show.end_at = time.monotonic() + self.rng.uniform(4, 25)
        self.counts["rings"] += 1
        kind = "typed" if plan.item else "message"
        self.kinds[f"{kind}, {'durable' if plan.durable else plan.overflow}"] += 1
        self.log(f"ring {show.index} begins: {plan.describe()}, {roles}")

    def progress(self, show: Show) -> None:
        """Take a ring through its end: producer closes, all drain, nothing is left."""
        now = time.monotonic()
        phase = show.words[PHASE]
        if phase == RUN and now >= show.end_at:
            for slot in self.slots:
                if slot.stopped_until:
                    self.go_on(slot)
            self.enter(show, FINISH)
        elif phase == FINISH:
            if any(slot.pid for slot in show.slots if slot.role == "producer"):
                return
            with suppress(shmipc.Busy):  # the steady producer has it yet
                self.close_ring(show)
                self.enter(show, DRAIN)
        elif phase == DRAIN:
            running = any(slot.pid for slot in show.slots)
            if not running and not self.segments(show):
                for slot in show.slots:
                    self.take_events(slot)
                    self.drop_slot(slot)
                show.slots = []
                self.check_end(show)
                self.enter(show, IDLE)
        if phase in (FINISH, DRAIN) and self.clock - show.phase_since > END:
            self.ask_for_traces(self.slots)
            left = [str(slot) for slot in show.slots if slot.pid]
            raise ViolationError(
                f"ring {show.index} does not end: phase {phase}, running {left}, "
                f"files {self.segments(show)}"
            )

    def enter(self, show: Show, phase: int) -> None:
        show.words[PHASE] = phase
        show.phase_since = self.clock
        self.log(f"ring {show.index} phase {phase}")

    def segments(self, show: Show) -> list[str]:
        assert show.plan is not None
        names = os.listdir(os.environ["SHMIPC_DIR"])
        return [name for name in names if name == f"shmipc.{show.plan.name}"]

    def close_ring(self, show: Show) -> None:
        """Whatever happened to the producers, somebody must end the stream."""
        assert show.plan is not None
        if not self.segments(show):
            return
        with shmipc.Producer(show.plan.name, **show.plan.options()) as producer:
            take_ring(show.plan, producer, show.words)

    def check_end(self, show: Show) -> None:
        assert show.plan is not None
        if show.plan.durable:
            acked, released = show.words[ACKED], show.words[RELEASE_ACKED]
            need(
                acked == released,
                f"durable ring {show.index} ended with {acked & NUMBER_MASK} sent and "
                f"{released & NUMBER_MASK} released",
            )

    # ---- mischief

    def disturb(self) -> None:
        rng = self.rng
        running = [show for show in self.shows if show.words[PHASE] == RUN]
        mortal = [slot for show in running for slot in show.slots if slot.pid]
        if not mortal:
            return
        draw = rng.random()
        if draw < 0.030:
            self.kill([rng.choice(mortal)])
        elif draw < 0.034:
            self.kill(rng.sample(mortal, min(len(mortal), rng.randrange(2, 5))))
        elif draw < 0.037:
            self.kill(rng.choice(running).slots)
        elif draw < 0.057:
            anybody = [slot for slot in self.slots if slot.pid and slot not in mortal]
            slot = rng.choice(mortal + [s for s in anybody if s.role in RESIDENTS])
            if self.shows[slot.ring].words[PHASE] == RUN or slot.role in RESIDENTS[:2]:
                self.stop(slot, rng.choice((0.01, 0.1, 0.3, 1.2)))
        elif draw < 0.065:
            slot = rng.choice(mortal)
            slot.area[ORDER] = LEAVE
            self.counts["told to leave"] += 1

    # ---- the whole

    def run(self) -> None:
        gc.freeze()
        end = self.started + self.seconds
        next_word = self.started + 60
        while True:
            now = time.monotonic()
            self.watch()
            for show in self.shows:
                if show.words[PHASE] == IDLE and now < end:
                    self.begin(show)
                elif show.words[PHASE] != IDLE:
                    if now >= end:
                        show.end_at = min(show.end_at, now)
                    self.progress(show)
            if now >= end and all(show.words[PHASE] == IDLE for show in self.shows):
                break
            for slot in list(self.slots):
                if not slot.pid and now >= slot.start_at and self.should_run(slot):
                    self.start(slot)
            if now < end:
                self.disturb()
            if now >= next_word:
                next_word += 60
                print(f"{now - self.started:6.0f} s {dict(self.counts)}", flush=True)
            time.sleep(TICK)
        self.dismiss()

    def should_run(self, slot: Slot) -> bool:
        if slot.role in RESIDENTS:
            return True
        show = self.shows[slot.ring]
        phase = show.words[PHASE]
        if slot.role == "producer":
            return bool(phase == RUN)
        # somebody must drain what a durable queue holds
        return bool(phase == RUN or (show.plan and show.plan.durable and self.segments(show)))

    def dismiss(self) -> None:
        """The residents leave; then nothing and nobody may be left."""
        for slot in self.slots:
            slot.area[ORDER] = LEAVE
        end = self.clock + END
        while any(slot.pid for slot in self.slots):
            need(self.clock < end, "residents do not leave")
            self.watch()
            time.sleep(TICK)
        time.sleep(0.5)  # forked children sleep no longer than that
        self.reap()
        with suppress(ChildProcessError):
            pid, _ = os.waitpid(-1, os.WNOHANG)
            self.counts["processes left"] = 1
            need(pid != 0, "a process is left")
            self.counts["processes left"] = 0
        left = sorted(os.listdir(os.environ["SHMIPC_DIR"]))
        self.counts["files left"] = len(left)
        need(left == [], f"files left: {left}")

    def clear(self) -> None:
        """After a violation: end who is left."""
        for slot in self.slots:
            for pid in {slot.pid, slot.area[PID]} - {0}:
                with suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 5
        with suppress(ChildProcessError):
            while time.monotonic() < end:
                os.waitpid(-1, os.WNOHANG)
                time.sleep(0.01)

    def dump(self, file: Any) -> None:
        """What is known, for whoever looks for the fault."""
        for show in self.shows:
            words = show.words
            names = ("life", "attempt", "acked", "release_try", "release_acked", "delivered")
            values = {
                n: f"{words[i] >> NUMBER_BITS}:{words[i] & NUMBER_MASK}"
                for i, n in enumerate(names)
                if i
            }
            plan = show.plan.describe() if show.plan else "-"
            print(f"ring {show.index} phase {words[PHASE]} life {words[LIFE]} {values}", file=file)
            print(f"    {plan}", file=file)
            if show.plan:
                with suppress(Exception):
                    print(f"    {_core.inspect_segment(self.path(show))}", file=file)
        for slot in self.slots:
            print(f"{slot} beat {slot.area[BEAT]} stopped {bool(slot.stopped_until)}", file=file)
        for path in sorted(Path(self.directory).glob("traces.*")):
            if path.stat().st_size:
                print(f"{path.name}:\n{path.read_text()[-3000:]}", file=file)
        print("history:", *self.history, sep="\n", file=file)

    def path(self, show: Show) -> str:
        assert show.plan is not None
        return os.path.join(os.environ["SHMIPC_DIR"], f"shmipc.{show.plan.name}")
