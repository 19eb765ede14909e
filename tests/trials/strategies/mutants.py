"""Faults put into a copy of the package on purpose: each trial must find those that are its own.

Owns: the faults. A fault that no longer fits the code is an error: write it anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import shmipc

HERE = Path(__file__).resolve().parent
PACKAGE = Path(shmipc._core.__file__).parent
SECONDS = 200.0

KILLS = ("kills", "--kills", "4", "--strategies", "5", "--singles", "2", "--rate", "20000")
KILLS += ("--interval", "0.5", "--quiet", "1", "--capacity", str(1 << 20))
STALLS = ("stalls", "--strategies", "3", "--seconds", "0.3")
CAPTURE = ("capture",)
ENGINES = ("engines", "--kills", "3", "--strategies", "4", "--rate", "10000")


@dataclass(frozen=True)
class Mutant:
    """A fault, and the trial that must find it."""

    fault: str
    file: str
    old: str
    new: str
    trial: tuple[str, ...]


SEQ = "from_seq=session.welcome.seq"
SEND = "if not self._send_new(order, client_order_id, price, quantity):"
TRY_SEND = "    def _try_send(self, record: Any, kind: int, flags: int) -> bool:\n"
TAKEN = "            client_order_id = order.client_order_id\n"

MUTANTS = (
    Mutant("the first event is skipped", "trading/strategy/runtime.py", SEQ, SEQ + " + 1", KILLS),
    Mutant(
        "the snapshot has no open orders",
        "trading/strategy/intake.py",
        "for order in link.open.values():",
        "for order in ():",
        KILLS,
    ),
    Mutant(
        "the snapshot has no positions",
        "trading/strategy/intake.py",
        "for position in link.positions.values():",
        "for position in ():",
        KILLS,
    ),
    Mutant(
        "an order is sent twice",
        "trading/strategy/orders.py",
        SEND,
        "self._send_new(order, client_order_id, price, quantity)\n        " + SEND,
        KILLS,
    ),
    Mutant(
        "one order in seven is dropped by the engine",
        "trading/strategy/intake.py",
        TAKEN,
        TAKEN + "            if client_order_id % 7 == 0:\n                return\n",
        KILLS,
    ),
    Mutant(
        "the engine naps for 0.3 s when a strategy has died",
        "trading/strategy/link.py",
        "        if died:\n",
        "        if died:\n            time.sleep(0.3)\n",
        KILLS,
    ),
    Mutant(
        "one fill in a hundred is not told",
        "trading/strategy/link.py",
        TRY_SEND,
        TRY_SEND
        + "        if kind == 6 and record.trade_id % 100 == 0:\n            return True\n",
        KILLS,
    ),
    Mutant(
        "nobody is started again",
        "trading/strategy/supervisor.py",
        "        if again:\n",
        "        if False:\n",
        KILLS,
    ),
    Mutant(
        "lost events are not told",
        "trading/strategy/runtime.py",
        "        self._strategy.on_lost(count)\n",
        "        pass\n",
        STALLS,
    ),
    Mutant(
        "patience lasts four times as long",
        "trading/strategy/broadcast.py",
        "now - self._stall[0] < self.patience",
        "now - self._stall[0] < 4 * self.patience",
        STALLS,
    ),
    Mutant(
        "nobody is said to be evicted",
        "trading/strategy/eviction.py",
        'link.state, link.pid = "evicted", killed.pid',
        "pass",
        STALLS,
    ),
    Mutant(
        "a broadcast waits for 3 s more than it may",
        "trading/strategy/broadcast.py",
        "if end is not None and now < end:",
        "if end is not None and now < end + 3:",
        STALLS,
    ),
    Mutant(
        "the feed drops an event",
        "trading/market/feed.py",
        "yield kind, of_kind[kind][at : at + end - start]",
        "yield kind, of_kind[kind][at : at + end - start - (at == 500)]",
        CAPTURE,
    ),
    Mutant(
        "the feed's book has wrong sizes now and then",
        "trading/market/book.py",
        "                sizes[price] = size\n",
        "                sizes[price] = size + (len(sizes) % 97 == 0)\n",
        CAPTURE,
    ),
    Mutant(
        "a strategy that joins again skips an event",
        "trading/strategy/runtime.py",
        SEQ,
        SEQ + " + self._started",
        ENGINES,
    ),
    Mutant(
        "an engine forgets the first order that it finds",
        "trading/strategy/intake.py",
        "        if link.try_open():\n",
        "        if link.try_open():\n"
        "            if link.orders.pending:\n                link.orders.recv(0)\n",
        ENGINES,
    ),
)


def is_found(mutant: Mutant, scratch: Path) -> bool:
    """Does the trial fail with this fault?"""
    shutil.copytree(PACKAGE, scratch / "shmipc")
    path = scratch / "shmipc" / mutant.file
    text = path.read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise RuntimeError(f"{mutant.file} has changed: this mutant must be written anew: {mutant}")
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), *mutant.trial],
        cwd=scratch,  # where `python -m` looks first
        env={**os.environ, "PYTHONPATH": str(scratch)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    words = [line for line in done.stderr.splitlines() if line.startswith("VIOLATION")]
    print("   ", (words or ["(nothing said)"])[0][:200], flush=True)
    return done.returncode == 1 and bool(words)


def self_test() -> bool:
    """True if every fault is found."""
    missed = 0
    for mutant in MUTANTS:
        print(f"{mutant.file}: {mutant.fault}", flush=True)
        with tempfile.TemporaryDirectory(prefix="shmipc-mutant-") as scratch:
            missed += not is_found(mutant, Path(scratch))
    print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} found")
    return missed == 0
