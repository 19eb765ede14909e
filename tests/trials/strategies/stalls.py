"""SIGSTOP of one strategy of several, under each policy for slow ones.

Owns: who is stopped when, and what each policy promises. "wait": a broadcast ends with Full, nobody
loses anything, all go on afterwards. "overwrite": the engine never waits, the stopped one counts
what it missed. "evict": the engine waits for its patience, then the stopped one is dead, and comes
back.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from board import LAST, LOST, SEEN, Board, Told, need, violations
from engine import Exchange, Market, await_all

from shmipc import Full
from shmipc.trading.strategy import StrategyManager

CAPACITY = 1 << 20  # of events: small, so that a stall is soon felt
SLACK = 2.0  # seconds: the machine is shared
AT_ONCE = 0.5  # seconds within which what never waits is done, on a shared machine
SOON = 30.0
VICTIM = 1
FULL_AFTER = 0.3  # seconds, a broadcast's timeout


class Stall:
    """One engine under one policy, its strategies, and the one that is stopped."""

    def __init__(self, slow: str, options: Any, directory: Path) -> None:
        directory.mkdir()
        self.slow, self.options, self.directory = slow, options, directory
        self.stopped = 0
        self.names = [f"s{place}" for place in range(options.strategies)]
        self.victim = self.names[VICTIM]
        self.board = Board(directory, places=options.strategies)
        self.manager = StrategyManager(slow, slow=slow, patience=1.0, capacity=CAPACITY)  # type: ignore[arg-type]
        self.exchange = Exchange(self.manager)
        rate = min(options.rate, 20_000)
        self.market = Market(self.manager, self.exchange, rate, options.period)

    def run(self) -> list[tuple[str, str]]:
        try:
            for place, name in enumerate(self.names):
                self.manager.spawn(
                    name,
                    "actors:EachTick" if place % 2 else "actors:Batches",
                    restart="on-failure",
                    parameters={
                        "directory": str(self.directory),
                        "place": place,
                        "order_every": 500,
                        "lossy": self.slow == "overwrite",
                    },
                )
            await_all(self.manager)
            self.market.start()
            self.go_on(0.5)
            rows: list[tuple[str, str]] = getattr(self, self.slow)()
            self.go_on(0.5)
            need(self.market.settle(), f"not all is read: {self.manager.list_strategies()}")
        finally:
            if self.stopped:
                with suppress(ProcessLookupError):
                    os.kill(self.stopped, signal.SIGCONT)
            self.manager.close()
        found = violations(self.directory)
        need(not found, "".join(found))
        self.judge_ends()
        return rows

    # ---- the policies --------------------------------------------------------------------------

    def wait(self) -> list[tuple[str, str]]:
        self.stop()
        end = time.monotonic() + SOON
        blocked = 0.0
        while not blocked:
            need(time.monotonic() < end, "a stopped strategy never held the engine back")
            begun = time.monotonic()
            try:
                self.market.broadcast(time.monotonic_ns(), timeout=FULL_AFTER)
            except Full as error:
                blocked = time.monotonic() - begun
                need(self.victim in str(error), f"Full does not say who is slow: {error}")
        need(
            blocked < FULL_AFTER + SLACK, f"Full only after {blocked:.2f} s, asked for {FULL_AFTER}"
        )
        need(blocked >= FULL_AFTER, f"Full after {blocked:.2f} s, asked for {FULL_AFTER}")
        self.others_have_all()
        sent = self.market.sent
        for _ in range(3):  # it stays so
            try:
                self.market.broadcast(time.monotonic_ns(), timeout=FULL_AFTER)
            except Full:
                pass
            else:
                need(False, "a broadcast found room behind a stopped strategy")
        need(self.market.sent == sent, "Full, but something was sent")
        os.kill(self.pid(), signal.SIGCONT)
        self.go_on(self.options.seconds)
        return [("wait: a broadcast of 0.3 s ended with Full", f"after {blocked:.2f} s")]

    def overwrite(self) -> list[tuple[str, str]]:
        self.stop()
        self.market.blocked_ns = 0
        ring = CAPACITY // 144
        begun = self.market.sent
        end = time.monotonic() + SOON
        while self.market.sent - begun < 4 * ring:
            need(time.monotonic() < end, "too slow to lap a stopped strategy")
            self.go_on(0.1)
        longest = self.market.blocked_ns / 1e9
        need(longest < AT_ONCE, f"a broadcast took {longest:.2f} s where none may wait")
        self.others_have_all()
        os.kill(self.pid(), signal.SIGCONT)
        self.go_on(self.options.seconds)
        need(self.market.settle(), "the strategies never caught up")
        area = self.board.area(VICTIM)
        need(area[LOST] > ring, f"only {area[LOST]} lost after {4 * ring} of a ring of {ring}")
        need(
            area[LOST] + area[SEEN] == self.market.sent,
            f"lost {area[LOST]}, seen {area[SEEN]}, broadcast {self.market.sent}",
        )
        told = [info.lost for info in self.manager.list_strategies()]
        need(told[VICTIM] == area[LOST], f"the engine was told of {told}, lost are {area[LOST]}")
        for place in range(len(self.names)):
            lost = self.board.area(place)[LOST]
            need(place == VICTIM or lost == 0, f"s{place} lost {lost}")
        return [
            ("overwrite: the stopped one lost", f"{area[LOST]:,} of {self.market.sent:,}, counted"),
            ("overwrite: longest broadcast", f"{longest * 1e3:.1f} ms"),
        ]

    def evict(self) -> list[tuple[str, str]]:
        pid = self.stop()
        states = []
        end = time.monotonic() + SOON
        while not self.manager.exits:
            need(time.monotonic() < end, "a stopped strategy was never evicted")
            self.go_on(0.02)
            states.append(self.info().state)
        longest = self.market.blocked_ns / 1e9
        patience = self.manager.patience
        need(longest >= patience * 0.9, f"evicted after {longest:.2f} s, patience is {patience}")
        need(longest < patience + SLACK, f"blocked for {longest:.2f} s, patience is {patience}")
        need("evicted" in states, f"its state went through {states}")
        need(not os.path.exists(f"/proc/{pid}"), f"process {pid} is still there")
        ending = self.manager.exits[0]
        need(ending.strategy_id == self.victim and ending.signal == signal.SIGKILL, str(ending))
        need(len(self.manager.exits) == 1, f"others ended: {self.manager.exits}")
        self.others_have_all()
        while self.info().state != "connected":
            need(time.monotonic() < end, f"never back: {self.info()}")
            self.go_on(0.02)
        need(self.info().restarts == 1 and self.pid() != pid, f"{self.info()}")
        self.go_on(self.options.seconds)
        return [("evict: patience 1 s, engine blocked for", f"{longest:.2f} s")]

    # ---- what they need ------------------------------------------------------------------------

    def info(self) -> Any:
        return self.manager.list_strategies()[VICTIM]

    def pid(self) -> int:
        return int(self.info().pid)

    def stop(self) -> int:
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)
        self.stopped = pid
        while self.state(pid) != "T":
            time.sleep(0.001)
        return pid

    def state(self, pid: int) -> str:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    def go_on(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.market.step()
        self.market.due_ns = max(self.market.due_ns, time.monotonic_ns())

    def others_have_all(self) -> None:
        """All but the stopped one have read the last event; nobody has lost any."""
        end = time.monotonic() + SOON
        others = [place for place in range(len(self.names)) if place != VICTIM]
        while any(self.board.area(place)[LAST] != self.market.sent - 1 for place in others):
            last = [self.board.area(place)[LAST] for place in others]
            need(time.monotonic() < end, f"others are at {last}, {self.market.sent} were sent")
            time.sleep(0.01)

    def judge_ends(self) -> None:
        """Everybody ended, having seen the last event, with every order received once."""
        for name in self.names:
            told = Told(self.directory / f"journal.{name}")
            need(told.ended, f"{name} did not end as it should")
            need(told.ended[-1]["next"] == self.market.sent, f"{name}: {told.ended[-1]}")
            need(told.ended[-1]["errors"] == 0, f"{name}: {told.ended[-1]}")
            received = self.exchange.received[name]
            need(not +(received - told.tried), f"{name}: {received - told.tried} were not sent")
            missing = [key for key in told.sent if key[0] == 1 and received[key] != 1]
            need(not missing, f"{name}: orders {missing} were not received once")


def run(options: Any, directory: str) -> list[tuple[str, str]]:
    rows = []
    for slow in ("wait", "overwrite", "evict"):
        rows += Stall(slow, options, Path(directory) / slow).run()
    return [
        ("strategies", f"{options.strategies}, one of them stopped (SIGSTOP)"),
        *rows,
        ("others: events lost, orders lost or twice", "0, 0"),
    ]
