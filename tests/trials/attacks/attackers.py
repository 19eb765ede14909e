"""Strategies that end badly at a chosen point. Spawned by test_strategy_attacks.py.

``marker`` is a file: where it is there already, the end has been met once and is not met again.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from shmipc.trading.strategy import BaseStrategy


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Once(BaseStrategy):
    """An order for each tick, its sequence as id; and one chance to die."""

    marker = ""
    point = ""
    at = 0
    forked = 0

    def reached(self, point: str, number: int = 0) -> bool:
        if point != self.point or number != self.at or os.path.exists(self.marker):
            return False
        Path(self.marker).touch()
        return True

    def on_connected(self) -> None:
        if self.reached("on_connected"):
            die()
        send = self._send_new

        def dying(order: Any, number: int, *values: Any) -> bool:
            if self.reached("before the send", number):
                die()
            sent = send(order, number, *values)
            if self.reached("after the send", number):
                die()
            return sent

        self._send_new = dying  # type: ignore[method-assign]

    def on_start(self) -> None:
        if self.reached("on_start"):
            die()

    def on_tick(self, tick: Any) -> None:
        if self.reached("on_tick", tick.sequence):
            die()
        self.buy(tick.symbol, 1.0, 10.0, client_order_id=tick.sequence)

    def on_order(self, order: Any) -> None:
        if self.reached("on_order", order.client_order_id):
            die()


class Forks(Once):
    """Has a child that outlives it."""

    def on_start(self) -> None:
        if not os.path.exists(self.marker):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            Path(self.marker).write_text(str(child))


class ForksAndGoesOn(BaseStrategy):
    """Its child uses what is the parent's."""

    marker = ""

    def on_tick(self, tick: Any) -> None:
        child = os.fork()
        if child == 0:
            try:
                self.buy(tick.symbol, 1.0, 10.0, client_order_id=1000)
                said = "sent"
            except Exception as error:
                said = type(error).__name__
            Path(self.marker).write_text(said)
            os._exit(0)
        os.waitpid(child, 0)
        self.buy(tick.symbol, 1.0, 10.0, client_order_id=tick.sequence)


class NeverReads(BaseStrategy):
    """Is in its first event for ever."""

    def on_tick(self, tick: Any) -> None:
        while True:
            time.sleep(10)


class AlwaysRaises(BaseStrategy):
    """Raises in every callback, on_error but for the last."""

    def _raise(self, *arguments: Any) -> None:
        raise RuntimeError("on purpose")

    on_connected = on_start = on_stop = on_disconnected = _raise
    on_tick = on_order = on_trade = on_timer = on_lost = _raise


class SlowBatches(BaseStrategy):
    """Takes its time for each array; how many events of each kind it got is written at the end."""

    marker = ""

    def on_start(self) -> None:
        self.counts: dict[int, int] = {}

    def on_batch(self, kind: int, records: Any) -> None:
        time.sleep(0.2)
        self.counts[int(kind)] = self.counts.get(kind, 0) + len(records)

    def on_stop(self) -> None:
        Path(self.marker).write_text(str(sorted(self.counts.items())))
