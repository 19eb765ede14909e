"""Kill -9 of one strategy of many, again and again, while the market runs.

Owns: who is killed when, and the judgement: survivors miss nothing and wait for nobody, the killed
one is back under its id with its orders and positions, every order arrives once.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from board import SEEN, WINDOW_NS, Board, Told, need, violations
from engine import Exchange, Market, await_all

from shmipc.trading.events import OrderAction
from shmipc.trading.strategy import StrategyManager

ADDED_NS = 100_000_000  # delay that a kill may add
SETTLE_NS = 500_000_000  # after a restart, for the restarted one to catch up
BACK = 60.0  # seconds for a killed one to be back


@dataclass
class Kill:
    strategy_id: str
    place: int
    pid: int
    at_ns: int
    gone_ns: int = 0  # the engine saw it disconnected
    back_ns: int = 0  # ... and connected again
    new_pid: int = 0


@dataclass(order=True)
class Delay:
    """The longest of an event in one window, for one strategy."""

    raw: int
    net: int  # less what it or the engine waited for a processor
    name: str
    at_ns: int  # of the board's clock

    def __str__(self) -> str:
        at = f"{self.name} at {self.at_ns / 1e9:.2f} s"
        return f"{self.raw / 1e6:.1f} ms, net {self.net / 1e6:.1f} ({at})"


class Trial:
    """One engine, its strategies, and the kills."""

    def __init__(self, options: Any, directory: str) -> None:
        self.options, self.directory = options, directory
        self.rng = random.Random(options.seed)
        self.names = [f"s{place:02}" for place in range(options.strategies)]
        self.board = Board(directory, places=options.strategies)
        self.kills: list[Kill] = []
        self.states: dict[str, str] = {}
        self.quiet_ns = self.first_kill_ns = self.end_ns = 0
        self.engine_cpu = 0.0

    def run(self) -> list[tuple[str, str]]:
        options = self.options
        self.manager = StrategyManager("market", capacity=options.capacity)
        try:
            self.exchange = Exchange(self.manager)
            self.market = Market(
                self.manager, self.exchange, options.rate, options.period, self.board
            )
            self.play()
        finally:
            self.manager.close()
        return self.judge()

    def play(self) -> None:
        options = self.options
        for place, name in enumerate(self.names):
            single = place < options.singles
            self.manager.spawn(
                name,
                "actors:EachTick" if single else "actors:Batches",
                restart="on-failure",
                parameters={
                    "directory": self.directory,
                    "place": place,
                    "batch": len(self.market.batch),
                    "order_every": max(1, int(options.rate / options.orders)),
                },
            )
        await_all(self.manager)
        begun_cpu, begun_ns = time.process_time(), time.monotonic_ns()
        self.market.start()
        self.go_on_until(begun_ns + int(1e9))  # warm up
        self.quiet_ns = time.monotonic_ns()
        self.go_on_until(self.quiet_ns + int(options.quiet * 1e9))
        self.first_kill_ns = time.monotonic_ns()
        while len(self.kills) < options.kills:
            self.kill_one()
            pause = options.interval * self.rng.uniform(0.5, 1.5)
            self.go_on_until(time.monotonic_ns() + int(pause * 1e9))
        end = time.monotonic() + BACK
        while any(not kill.back_ns for kill in self.kills):
            need(time.monotonic() < end, f"never back: {[k for k in self.kills if not k.back_ns]}")
            self.go_on_until(time.monotonic_ns() + int(5e7))
        self.end_ns = time.monotonic_ns()
        self.engine_cpu = (time.process_time() - begun_cpu) / ((self.end_ns - begun_ns) / 1e9)
        need(self.market.settle(), f"not all is read: {self.manager.list_strategies()}")
        self.infos = {info.strategy_id: info for info in self.manager.list_strategies()}

    def go_on_until(self, end_ns: int) -> None:
        look_ns = 0
        while True:
            now = time.monotonic_ns()
            if now >= look_ns:
                self.watch(now)
                look_ns = now + 20_000_000
            if now >= end_ns:
                return
            self.market.step()

    def watch(self, now: int) -> None:
        """Note who has left and who is back, as the engine tells it."""
        for info in self.manager.list_strategies():
            before = self.states.get(info.strategy_id)
            self.states[info.strategy_id] = info.state
            mine = [kill for kill in self.kills if kill.strategy_id == info.strategy_id]
            kill = mine[-1] if mine else None
            if kill is None:
                continue
            if info.state == "disconnected" and not kill.gone_ns:
                kill.gone_ns = now
            elif info.state == "connected" and before == "disconnected":
                kill.back_ns, kill.new_pid = now, info.pid
        found = violations(self.directory)
        need(not found, "".join(found))

    def kill_one(self) -> None:
        here = [
            info
            for info in self.manager.list_strategies()
            if info.state == "connected"
            and not any(k.strategy_id == info.strategy_id and not k.back_ns for k in self.kills)
        ]
        if not here:
            return
        info = self.rng.choice(here)
        os.kill(info.pid, signal.SIGKILL)
        place = self.names.index(info.strategy_id)
        self.kills.append(Kill(info.strategy_id, place, info.pid, time.monotonic_ns()))

    # ---- judgement -----------------------------------------------------------------------------

    def judge(self) -> list[tuple[str, str]]:
        market = self.market
        singles = min(self.options.singles, len(self.names))
        killed = len({kill.strategy_id for kill in self.kills})
        rate = market.sent / ((self.end_ns - self.quiet_ns) / 1e9 + 1)
        for kill in self.kills:
            need(kill.gone_ns, f"the engine never saw {kill} disconnected")
            need(kill.new_pid not in (0, kill.pid), f"{kill}: the same process is back?")
        seen = sum(self.board.area(place)[SEEN] for place in range(len(self.names)))
        delays = self.judge_delays()
        orders = self.judge_orders()
        back = sorted(kill.back_ns - kill.at_ns for kill in self.kills)
        rows = [
            ("strategies", f"{len(self.names)}, {singles} of them on_tick, the rest on_batch"),
            ("events broadcast", f"{market.sent:,}"),
            ("... a second", f"{rate:,.0f}, in batches of {len(market.batch)}"),
            ("events seen, all strategies", f"{seen:,}"),
            ("gaps, losses, disorder", "0"),
            ("kills", f"{len(self.kills)}, of {killed} strategies"),
            ("... back under its id after, median, longest", spread(back)),
            *delays,
            ("longest broadcast", f"{market.blocked_ns / 1e6:.1f} ms"),
            ("latest batch", f"{market.late_ns / 1e6:.1f} ms after it was due"),
            ("engine's processor", f"{self.engine_cpu:.0%} of one"),
            *orders,
        ]
        return rows

    def judge_delays(self) -> list[tuple[str, str]]:
        """Compare what survivors waited with and without kills."""
        quiet = self.delays(self.quiet_ns, self.first_kill_ns - WINDOW_NS)
        norm, norm_net = max(quiet), max(quiet, key=lambda delay: delay.net)
        killing = self.delays(self.first_kill_ns, self.end_ns)
        worst, worst_net = max(killing), max(killing, key=lambda delay: delay.net)
        need(
            worst_net.net <= norm_net.net + ADDED_NS,
            f"late: {worst_net}; the norm is {norm_net}; "
            f"kills: {[(k.strategy_id, self.at(k.at_ns), self.at(k.back_ns)) for k in self.kills]}"
            f"\n{self.market.notes[:10]}",
        )
        killing.sort()
        picks = [killing[int(len(killing) * share)].raw / 1e6 for share in (0.5, 0.99, 0.999)]
        return [
            ("latest event of all without kills (the norm)", str(norm)),
            ("latest event of a survivor, with kills", str(worst)),
            ("... less the time in line for a processor", f"{worst_net} (bar: 100 ms more)"),
            (
                "... worst of each 50 ms, median / p99 / p99.9",
                " / ".join(f"{pick:.1f}" for pick in picks) + " ms",
            ),
        ]

    def at(self, time_ns: int) -> float:
        return round((time_ns - self.board.epoch_ns) / 1e9, 2)

    def delays(self, begin_ns: int, end_ns: int) -> list[Delay]:
        """Return the longest delay of each window of each strategy that was there then."""
        found = []
        for place, name in enumerate(self.names):
            away = [
                (kill.at_ns - WINDOW_NS, (kill.back_ns or self.end_ns) + SETTLE_NS)
                for kill in self.kills
                if kill.place == place
            ]
            for index, raw in enumerate(self.board.delays(place, begin_ns, end_ns)):
                at = self.board.epoch_ns + (self.board.window(begin_ns) + index) * WINDOW_NS
                if not any(begin <= at < end for begin, end in away):
                    waits = [self.board.waits(who, at - raw, at) for who in (place, -1)]
                    net = max(0, raw - sum(waits))
                    found.append(Delay(raw, net, name, at - self.board.epoch_ns))
        return found

    def judge_orders(self) -> list[tuple[str, str]]:
        new = int(OrderAction.NEW)
        total = received_total = unsure = repeats = fills = compared = 0
        for name in self.names:
            told = Told(Path(self.directory) / f"journal.{name}")
            received = self.exchange.received[name]
            for key, count in received.items():
                need(
                    count <= told.tried[key],
                    f"{name}: order {key} received {count} times, sent {told.tried[key]}",
                )
            for key, count in told.sent.items():
                total += count
                if key[0] == new:
                    need(received[key] == 1, f"{name}: order {key} sent, received {received[key]}")
            unsure += sum((told.tried - told.sent).values())
            received_total += sum(received.values())
            missing = self.exchange.fills[name] - set(told.fills)
            need(not missing, f"{name}: fills {sorted(missing)[:5]} were never told")
            need(not set(told.fills) - self.exchange.fills[name], f"{name}: invented fills")
            fills += len(told.fills)
            repeats += sum(told.fills.values()) - len(told.fills)
            compared += self.judge_books(name, told)
            need(
                told.ended[-1]["next"] == self.market.sent,
                f"{name} ended at {told.ended[-1]}, {self.market.sent} were sent",
            )
        return [
            ("orders sent, journalled as sent", f"{total:,}"),
            (
                "... received once",
                f"{received_total:,} (some were killed before they journalled it)",
            ),
            ("... killed between the journal's two lines", f"{unsure:,}"),
            ("orders lost, twice, invented", "0, 0, 0"),
            ("fills told / told again after a kill", f"{fills:,} / {repeats:,}"),
            ("books at joining, equal to the engine's", f"{compared}"),
        ]

    def judge_books(self, name: str, told: Told) -> int:
        """Compare each snapshot, and the end, with the exchange's own books."""
        compared = 0
        for joined in told.joined:
            expected = self.exchange.books_before.get((name, joined["incarnation"]))
            if expected is not None:
                compared += 1
                need(books_of(joined) == expected, f"{name} joined with {joined}, not {expected}")
        found, expected = books_of(told.ended[-1]), self.exchange.books(name)
        need(found == expected, f"{name} ended with {found}, the engine has {expected}")
        return compared


def books_of(told: dict[str, Any]) -> dict[str, Any]:
    return {"open": told["open"], "positions": told["positions"]}


def spread(times: list[int]) -> str:
    """Of sorted times in ns."""
    return f"{times[len(times) // 2] / 1e9:.2f} s, {times[-1] / 1e9:.2f} s" if times else "-"
