"""What the scenarios of the strategy layer share: events that prove themselves, and processes.

Event number i carries its number and the value i % 1009, a float. A strategy compares every number
with the one that is due and adds up the values, which is exact; the last event has number -1. A
strategy is a forked process, started before the engine's process has done anything else.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from scenarios import common
from scenarios.common import Wrong

PERIOD = 1009  # values of events repeat after so many: a prime
LAST = -1
SYMBOL = "BTCUSDT"


class Kind:
    """One of the two events measured: the names of the fields that prove it, and its callback."""

    def __init__(self, name: str) -> None:
        from shmipc.trading.events import EventKind, Tick, TradeTick

        self.name = name
        self.record: Any = {"tick": Tick, "trade": TradeTick}[name]
        self.number = {"tick": "sequence", "trade": "trade_id"}[name]
        self.value = {"tick": "last_price", "trade": "price"}[name]
        self.code = {"tick": EventKind.TICK, "trade": EventKind.TRADE_TICK}[name]

    def rows(self, count: int, start: int = 0) -> Any:
        """The `count` events from number `start` on, as one structured array."""
        rows = np.zeros(count, self.record.dtype)
        rows["symbol"] = SYMBOL.encode()
        rows["ts_event"] = rows["ts_init"] = time.time_ns()
        rows[self.number] = np.arange(start, start + count)
        rows[self.value] = rows[self.number] % PERIOD
        return rows

    def last(self) -> Any:
        """The event that says there are no more."""
        record = self.record(symbol=SYMBOL)
        setattr(record, self.number, LAST)
        return record


def total(count: int) -> float:
    """What the values of the first `count` events add up to."""
    whole, rest = divmod(count, PERIOD)
    return float(whole * (PERIOD * (PERIOD - 1) // 2) + rest * (rest - 1) // 2)


def fork(run: Callable[[], None]) -> int:
    """Do `run` in a child process; its pid. Its status is 0 if nothing was raised."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        run()
        status = 0
    except BaseException as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def meet(manager: Any, children: list[int], timeout: float = 20.0) -> None:
    """Wait until as many strategies have joined as there are children."""
    end = time.monotonic() + timeout
    while sum(s.state == "connected" for s in manager.list_strategies()) < len(children):
        if time.monotonic() > end:
            raise SystemExit(f"the strategies did not join: {manager.list_strategies()}")
        check(children)
        manager.receive_orders(unexpected, timeout=0.01)


def unexpected(strategy_id: str, order: Any) -> None:
    """No strategy of these scenarios sends an order, but in `roundtrip`."""
    raise Wrong(f"an order of {strategy_id}")


def check(children: list[int]) -> None:
    """Fail if one of the children has ended."""
    for child in children:
        if os.waitpid(child, os.WNOHANG)[0]:
            raise Wrong("a strategy ended early")


def bury(children: list[int]) -> None:
    """Wait for the end of all children; fail unless all are content."""
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(statuses):
        raise Wrong(f"strategies ended with {statuses}")


def core(role: int) -> int:
    """The core of a role."""
    return int(os.environ.get("BENCH_CORES", "0,1").split(",")[role])


__all__ = ["Kind", "bury", "check", "common", "core", "fork", "meet", "total", "unexpected"]
