"""``python -m shmipc demo --strategies N``: a simulated exchange, an engine, and N strategies.

Each strategy is a process. The capture (or a seeded random market) is played as fast as fits into
the seconds given; one strategy is killed half way and comes back under its id. Then every claim is
checked: what each strategy saw is what was broadcast, every order was taken once, fills add up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from shmipc import _core
from shmipc.demo.table import Progress, columns
from shmipc.demo.watched import CLASSES, Witness
from shmipc.trading import capture
from shmipc.trading.events import EventKind, OrderAction, decode_symbol
from shmipc.trading.market.exchange import Exchange
from shmipc.trading.market.feed import feed
from shmipc.trading.market.ledger import Ledger
from shmipc.trading.market.synthetic import synthetic
from shmipc.trading.strategy import StrategyManager

__all__ = ["run"]

SYNTHETIC_EVENTS = 20_000
JOIN_SECONDS = 60.0
ORPHAN_SECONDS = 10.0  # for a strategy to go by itself where the demo was killed
DRAIN_SECONDS = 30.0
SHOWN_BAD = 5


@dataclasses.dataclass
class _Account:
    """What the engine knows of one strategy."""

    orders: int = 0
    cancels: int = 0
    fills: int = 0
    latencies_us: list[float] = dataclasses.field(default_factory=list)
    ids: Counter[int] = dataclasses.field(default_factory=Counter)


class _Desk:
    """The engine's loop: the market into the exchange and to the strategies, and back."""

    def __init__(self, manager: StrategyManager, symbols: list[str]) -> None:
        self.manager = manager
        self.symbols = symbols
        self.exchange = Exchange()
        self.ledger = Ledger()
        self.accounts: defaultdict[str, _Account] = defaultdict(_Account)
        self.witness = Witness()
        self.broadcast_ns = 0

    def take_order(self, strategy_id: str, order: Any) -> None:
        """Hand an order to the exchange; note how long it was on its way from its tick."""
        account = self.accounts[strategy_id]
        if order.action == OrderAction.NEW:
            account.orders += 1
            account.ids[order.client_order_id] += 1
            if order.ts_trigger:
                account.latencies_us.append((time.time_ns() - order.ts_trigger) / 1e3)
        else:
            account.cancels += 1
        self.report(self.exchange.on_order(strategy_id, order))

    def report(self, reports: list[tuple[str, Any]]) -> None:
        """Send the exchange's reports to those whom they concern."""
        for strategy_id, row in reports:
            if "trade_id" in row.dtype.names:
                self.accounts[strategy_id].fills += 1
                self.ledger.on_trade(strategy_id, row)
            self.manager.report(strategy_id, row)

    def publish(self, kind: EventKind, row: Any) -> None:
        """Let an event happen: at the exchange first, then for everybody to see."""
        self.report(self.exchange.on_event(kind, row))
        row["ts_init"] = time.time_ns()
        if kind == EventKind.TICK:
            bid, ask = float(row["bid_price"][0]), float(row["ask_price"][0])
            self.ledger.mark(decode_symbol(row["symbol"][0]), (bid + ask) / 2)
        self.witness.add(kind, row.tobytes())
        before = time.thread_time_ns()
        self.manager.broadcast_event(row)
        self.broadcast_ns += time.thread_time_ns() - before

    def play(self, events: list[tuple[EventKind, Any]], seconds: float) -> Iterator[int]:
        """Publish `events` at the pace that takes `seconds`; yield how many were."""
        first = int(events[0][1]["ts_init"][0])
        span = max(1, int(events[-1][1]["ts_init"][0]) - first)
        due = [
            (int(row["ts_init"][0]) - first) / span * seconds for _, row in events
        ]  # before publish() changes it
        began = time.monotonic()
        for number, ((kind, row), at) in enumerate(zip(events, due, strict=True), 1):
            while (left := began + at - time.monotonic()) > 0:
                self.manager.receive_orders(self.take_order, timeout=left)
            self.publish(kind, row)
            self.manager.receive_orders(self.take_order)
            yield number


def _load(path: str | None, summary: capture.Summary) -> list[tuple[EventKind, Any]]:
    if path is not None:
        return list(feed(path, summary=summary))
    return list(synthetic(SYNTHETIC_EVENTS, seed=1, tick_size=2.0))


def run(*, strategies: int, path: str | None, seconds: float, as_json: bool, quiet: bool) -> int:
    """Play the market to `strategies` strategies for about `seconds`; return the exit status.

    Raises OSError where the capture cannot be read, CaptureError where it holds no event.
    """
    progress = Progress(quiet=quiet)
    summary = capture.Summary()
    progress.step("reading the market ...")
    try:
        events = _load(path, summary)
    finally:
        progress.clear()
    symbols = sorted({decode_symbol(row["symbol"][0]) for _, row in events})
    logging.getLogger("shmipc.trading.strategy").setLevel(logging.CRITICAL)  # exits are shown below
    name = f"demo-{os.getpid()}-{secrets.token_hex(4)}"
    found: dict[str, Any] = {}
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="shmipc-demo-") as directory,
            StrategyManager(name, instruments=symbols, max_strategies=strategies) as manager,
        ):
            desk = _Desk(manager, symbols)
            found = _trade(desk, strategies, events, seconds, Path(directory), progress)
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
        progress.clear()
        _sweep(name)
    found["lines"] = {**summary.by_name(), "bad": summary.bad_count} if path else {}
    found["bad"] = summary.bad[:SHOWN_BAD]
    found["damage"] = summary.damage
    found["truncated"] = summary.truncated
    found["capture"] = str(summary) if path else None
    failures = [claim for claim, held in found["checks"] if not held]
    print(json.dumps(found, indent=1) if as_json else _render(found, failures))
    return 1 if failures else 0


def _end(number: int, frame: FrameType | None) -> None:
    """On SIGTERM, leave as well as on Ctrl-C: the strategies are processes of their own."""
    sys.exit(128 + number)


def _trade(
    desk: _Desk,
    strategies: int,
    events: list[tuple[EventKind, Any]],
    seconds: float,
    directory: Path,
    progress: Progress,
) -> dict[str, Any]:
    manager = desk.manager
    names = [
        f"{kind}-{number}"
        for number, kind in zip(range(1, strategies + 1), itertools.cycle(CLASSES))
    ]
    progress.step(f"starting {strategies} strategies ...")
    for strategy_id in names:
        made = CLASSES[strategy_id.rpartition("-")[0]]
        manager.spawn(
            strategy_id,
            f"{made.__module__}:{made.__name__}",
            timeout=ORPHAN_SECONDS,
            parameters={"proof": str(directory / strategy_id)},
        )
    checks: list[tuple[str, bool]] = []
    checks.append(
        ("every strategy joined", manager.wait_until_connected(names, timeout=JOIN_SECONDS))
    )
    victim = names[-1]
    progress.step(f"playing {len(events):,} events ...")
    began = time.monotonic()
    for number in desk.play(events, seconds):
        if number % 1024 == 0:
            progress.update(number, len(events))
        if number == len(events) // 2 + 1:
            manager.kill(victim)
    played = time.monotonic() - began
    end = time.monotonic() + DRAIN_SECONDS
    while not manager.drain(timeout=0.05) and time.monotonic() < end:
        manager.receive_orders(desk.take_order)
    back = _wait_for_return(desk, victim)
    checks.append((f"{victim} was killed, started again, and is back", back))
    infos = {info.strategy_id: info for info in manager.list_strategies()}
    for strategy_id in names:
        manager.stop(strategy_id)
        manager.receive_orders(desk.take_order)
    sent = desk.witness.as_json()
    rows = []
    for strategy_id in names:
        account, info = desk.accounts[strategy_id], infos[strategy_id]
        proof = directory / strategy_id
        told: dict[str, Any] = {"seen": {}, "lost": None}
        if proof.exists():
            told = json.loads(proof.read_text())
        if strategy_id != victim:
            checks.append((f"{strategy_id} saw every event, in order", told["seen"] == sent))
            checks.append((f"{strategy_id} lost none", told["lost"] == 0))
        checks.append((f"each order of {strategy_id} came once", set(account.ids.values()) <= {1}))
        held = [desk.ledger.holding(strategy_id, symbol).quantity for symbol in desk.symbols]
        money = desk.ledger.account(strategy_id)
        times = sorted(account.latencies_us)
        rows.append(
            {
                "strategy": strategy_id,
                "events": sum(count for count, _ in told["seen"].values()),
                "lost": told["lost"],
                "orders": account.orders,
                "cancels, changes": account.cancels,
                "fills": account.fills,
                "position": round(sum(held), 8),
                "profit": round(float(money["equity"]) - 100_000.0, 2),
                "fees": round(float(money["commission"]), 2),
                "tick to order p50 us": statistics.median(times) if times else None,
                "p99 us": times[int(len(times) * 0.99)] if times else None,
                "restarts": info.restarts,
            }
        )
    return {
        "events": len(events),
        "kinds": {name: count for name, (count, _) in desk.witness.seen.items()},
        "seconds": round(played, 3),
        "engine_us_per_event": round(desk.broadcast_ns / len(events) / 1e3, 3),
        "exits": [str(end) for end in manager.exits if end.code != 0],
        "strategies": rows,
        "checks": checks,
    }


def _wait_for_return(desk: _Desk, victim: str) -> bool:
    """Wait until a killed strategy has been started again and has joined."""
    end = time.monotonic() + JOIN_SECONDS
    while time.monotonic() < end:
        desk.manager.receive_orders(desk.take_order, timeout=0.05)
        for info in desk.manager.list_strategies():
            if info.strategy_id == victim and info.restarts > 0 and info.state == "connected":
                return True
    return False


def _sweep(name: str) -> None:
    """Remove what a run that was broken off has left."""
    directory = _core.segment_dir()
    if os.path.isdir(directory):
        for entry in os.listdir(directory):
            if entry.startswith(f"shmipc.{name}."):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(directory, entry))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return (
        f"{value:,.1f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else value
    )


def _render(found: dict[str, Any], failures: list[str]) -> str:
    rows = found["strategies"]
    header = tuple(rows[0])
    lines = [columns(header, [tuple(_cell(row[name]) for name in header) for row in rows])]
    kinds = ", ".join(f"{count:,} {name}" for name, count in found["kinds"].items())
    lines.append("")
    lines.append(
        f"{found['events']:,} events ({kinds}) in {found['seconds']:.1f} s; a broadcast, and the "
        f"waking of who slept, took {found['engine_us_per_event']:.1f} us of the engine's time."
    )
    if found["capture"]:
        lines.append(f"the capture: {found['capture']}")
    lines += [f"exit: {end}" for end in found["exits"][:SHOWN_BAD]]
    lines += [f"FAILED: {claim}" for claim in failures]
    if not failures:
        lines.append(f"All {len(found['checks'])} checks passed.")
    return "\n".join(lines)
