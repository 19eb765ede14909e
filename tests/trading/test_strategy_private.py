"""Backtests never meet: not live ones, not those that were killed, whatever their pids are."""

from __future__ import annotations

import signal
from pathlib import Path

from helpers import DEADLINE, Peer
from shmipc import Producer
from shmipc.trading.strategy.private import discard_leftovers, private_name

#: As the first process of a container, whose pid is 1 every time.
BACKTEST = """
import os
os.getpid = lambda: 1
import numpy as np
from shmipc import BaseStrategy, run_backtest
from shmipc.trading.events import Tick

class Probe(BaseStrategy):
    def on_tick(self, tick):
        self.buy("BTCUSDT", 1.0, 100.0)
        {then}

rows = np.zeros(2, Tick.dtype)
rows["symbol"] = b"BTCUSDT"
rows["ts_init"] = [1, 2]
say("done", run_backtest(Probe, rows).events)
"""
HANGS = BACKTEST.format(then='say("ready"); hear()')
GOES_ON = BACKTEST.format(then="pass")


def test_one_runs_beside_another_of_the_same_pid() -> None:
    with Peer(HANGS) as hangs:
        hangs.expect()
        with Peer(GOES_ON) as goes_on:
            goes_on.expect("done 2")
            goes_on.finish()
        hangs.tell()
        hangs.expect()
        hangs.tell()
        hangs.expect("done 2")
        hangs.finish()


def test_one_runs_after_another_of_the_same_pid_was_killed(shm_dir: Path) -> None:
    with Peer(HANGS) as killed:
        killed.expect()
        killed.kill()
        assert killed.process.wait(DEADLINE) == -signal.SIGKILL
    assert len(list(shm_dir.iterdir())) == 3
    with Peer(GOES_ON) as goes_on:
        goes_on.expect("done 2")
        goes_on.finish()
    assert list(shm_dir.iterdir()) == [], "it has discarded what the killed one left"


def test_only_rings_of_private_engines_that_nobody_holds_are_discarded(shm_dir: Path) -> None:
    name = f"{private_name()}.events"
    with Producer(name, capacity=4096) as live, Producer("backtest-1.s.orders", capacity=4096):
        discard_leftovers()
        assert len(list(shm_dir.iterdir())) == 2
        assert live.name == name


def test_no_name_comes_twice() -> None:
    assert len({private_name() for _ in range(1000)}) == 1000
