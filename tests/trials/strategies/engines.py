"""Kill -9 of the engine, again and again, while its strategies run and send.

Owns: who is killed when, and the judgement: every strategy joins the next engine, has seen what the
former one broadcast to its last event, and no order is lost; twice comes at most the one order that
the engine had in hand when it was killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from board import EPOCHS, SILENT, Board, Told, need, violations

HERE = Path(__file__).resolve().parent
ENGINE = HERE / "engine_process.py"
SOON = 60.0
NEW = 1


class Trial:
    """Strategies that outlive their engines."""

    def __init__(self, options: Any, directory: str) -> None:
        self.options, self.directory = options, Path(directory)
        self.rng = random.Random(options.seed)
        self.names = [f"s{place}" for place in range(options.strategies)]
        self.board = Board(directory, places=options.strategies)
        self.strategies: list[subprocess.Popen[bytes]] = []
        self.engine: subprocess.Popen[bytes] | None = None
        self.away: list[float] = []

    def run(self) -> list[tuple[str, str]]:
        try:
            self.play()
        finally:
            for process in (*self.strategies, self.engine):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()
        return self.judge()

    def play(self) -> None:
        paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        for place, name in enumerate(self.names):
            parameters = {"directory": str(self.directory), "place": place}
            kind = "actors:SurvivorOfBatches" if place % 2 else "actors:Survivor"
            command = [sys.executable, "-m", "shmipc.trading.strategy", "survivors", name, kind]
            command += ["--parameters", json.dumps(parameters)]
            self.strategies.append(subprocess.Popen(command, env=environment))
        for epoch in range(self.options.kills + 1):
            begun = time.monotonic()
            self.start(epoch)
            self.away.append(time.monotonic() - begun)
            time.sleep(self.rng.uniform(0.3, 1.0))
            assert self.engine is not None
            if epoch < self.options.kills:
                self.engine.kill()
                self.engine.wait()
                time.sleep(self.rng.choice((0, 0.02, 0.3)))
        self.board.area(-1)[SILENT] = 1
        time.sleep(0.2)
        self.engine.send_signal(signal.SIGTERM)
        need(self.engine.wait(SOON) == 0, "the last engine did not end well")
        for process, name in zip(self.strategies, self.names, strict=True):
            need(process.wait(SOON) == 0, f"{name} ended with {process.returncode}")

    def start(self, epoch: int) -> None:
        """Start an engine; wait until it broadcasts, all strategies having joined."""
        options = self.options
        arguments = (self.directory, epoch, options.strategies, options.rate, options.period)
        self.engine = subprocess.Popen([sys.executable, str(ENGINE), *map(str, arguments)])
        end = time.monotonic() + SOON
        while self.board.area(-1)[EPOCHS + 2 * epoch] == 0:
            need(self.engine.poll() is None, f"engine {epoch} ended early")
            need(time.monotonic() < end, f"engine {epoch} has not all its strategies")
            found = violations(self.directory)
            need(not found, "".join(found))
            time.sleep(0.01)

    # ---- judgement -----------------------------------------------------------------------------

    def judge(self) -> list[tuple[str, str]]:
        received: dict[str, Counter[tuple[int, int]]] = {name: Counter() for name in self.names}
        for line in (self.directory / "received").read_text().splitlines():
            name, action, client_order_id = line.split()
            received[name][int(action), int(client_order_id)] += 1
        engine = self.board.area(-1)
        events = total = twice = 0
        for epoch in range(self.options.kills + 1):
            before, after = engine[EPOCHS + 2 * epoch], engine[EPOCHS + 2 * epoch + 1]
            ends = {name: told_ends(self.directory, name).get(epoch) for name in self.names}
            need(len(set(ends.values())) == 1, f"engine {epoch}: its last event was {ends}")
            last = ends[self.names[0]]
            need(last is not None, f"nobody saw an event of engine {epoch}")
            need(
                after - 1 <= last < before, f"engine {epoch} sent {after} to {before}, seen {last}"
            )
            events += last + 1
        for name in self.names:
            told = Told(self.directory / f"journal.{name}")
            need(len(told.ended) == 1, f"{name} ended {len(told.ended)} times")
            need(told.ended[0]["errors"] == 0, f"{name}: {told.ended[0]}")
            for key in told.sent:
                if key[0] == NEW:
                    total += 1
                    need(received[name][key] >= 1, f"{name}: order {key} was lost")
                    twice += received[name][key] - 1
            invented = [key for key in received[name] if key not in told.tried]
            need(not invented, f"{name}: {invented} were never sent")
        kills = self.options.kills
        need(twice <= kills, f"{twice} orders came twice; {kills} engines were killed")
        return [
            ("strategies, half of them on_batch", str(len(self.names))),
            ("engines killed and followed by the next", str(kills)),
            ("... all had joined it after, longest", f"{max(self.away):.2f} s"),
            ("events broadcast, seen by all to the last", f"{events:,}"),
            ("new orders, sent also while no engine was there", f"{total:,}"),
            ("... lost, invented", "0, 0"),
            ("... twice: in a dying engine's hand", f"{twice} (bar: {kills})"),
        ]


def told_ends(directory: Path, name: str) -> dict[int, int]:
    """Return the number of the last event that a strategy saw of each engine."""
    ends: dict[int, int] = {}
    for line in (directory / f"journal.{name}").read_text().splitlines():
        if line.startswith("X "):
            epoch, last = map(int, line.split()[1:])
            ends[epoch] = last
    return ends
