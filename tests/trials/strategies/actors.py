"""The strategies of the trials: they check every event they get, and trade a little.

Owns: what a strategy can judge by itself: that sequence numbers go on without a gap from its
snapshot on, how late each event is, that what was lost is counted. What it finds wrong goes into a
file, ``violation.<id>``, and its process goes on. Must not know: who is killed or stopped.

An event's ``sequence`` is its number, ``ts_event`` the monotonic time at which it was due.
"""

from __future__ import annotations

import time
from pathlib import Path
from time import monotonic_ns
from typing import Any

from board import (
    GAPS,
    HEADER,
    INCARNATION,
    LAST,
    LOST,
    ORDERS,
    SEEN,
    SILENT,
    STARTED_NS,
    WINDOW_NS,
    WINDOWS,
    Board,
    Journal,
    Processor,
)

from shmipc import Full
from shmipc.trading.events import OrderAction, Side
from shmipc.trading.strategy import BaseStrategy

OPEN_ORDERS = 6  # more are cancelled, oldest first


class Watcher(BaseStrategy):
    """What all of them have in common."""

    directory = ""
    place = 0
    order_every = 0  # events between two orders; 0: none
    batch = 1  # events that come together: the board is told after so many
    lossy = False  # gaps are what on_lost says they are
    symbol = "S0"

    def on_start(self) -> None:
        self.board = Board(self.directory)
        self.area = self.board.area(self.place)
        self.journal = Journal(Path(self.directory) / f"journal.{self.strategy_id}")
        self.area[INCARNATION] += 1
        ticks = self.snapshot.ticks.values()
        self.expected = max((tick.sequence + 1 for tick in ticks), default=0)
        self.skipped = 0
        self.began = self.expected
        self.worst = self.window = 0
        self.processor = Processor(self.area)
        self.last_id = 0
        self.asked: set[int] = set()
        self.next_order = self.expected + 1 + self.place % 7
        self.journal.write_json("J", {**self.books(), "next": self.expected})
        if set(self.orders) != set(self.snapshot.orders):
            self.complain(f"{sorted(self.orders)} open, {sorted(self.snapshot.orders)} in snapshot")
        self.area[STARTED_NS] = time.monotonic_ns()

    def on_stop(self) -> None:
        self.journal.write_json(
            "Z",
            {
                **self.books(),
                "next": self.expected,
                "began": self.began,
                "lost": self.lost,
                "skipped": self.skipped,
                "errors": self.errors,
            },
        )

    def books(self) -> dict[str, Any]:
        return {
            "incarnation": self.area[INCARNATION],
            "open": sorted(self.orders),
            "positions": {name: held.quantity for name, held in self.positions.items()},
        }

    def on_lost(self, count: int) -> None:
        self.area[LOST] += count
        self.journal.write("L", count)
        if not self.lossy:
            self.complain(f"lost {count} events")

    def on_error(self, error: Exception) -> None:
        self.complain(f"a callback raised {error!r}")

    def on_trade(self, trade: Any) -> None:
        self.journal.write("F", trade.trade_id)

    def complain(self, text: str) -> None:
        with open(Path(self.directory) / f"violation.{self.strategy_id}", "a") as file:
            file.write(f"{self.strategy_id}: {text}\n")

    # ---- events --------------------------------------------------------------------------------

    def check(self, first: int, last: int, count: int, due_ns: int) -> None:
        """Events `first` to `last` have come, the oldest of them due at `due_ns`."""
        now = time.monotonic_ns()
        area = self.area
        if first != self.expected or last - first + 1 != count:
            self.check_gap(first, last, count)
        self.expected = last + 1
        area[LAST] = last
        area[SEEN] += count
        window = (now - self.board.epoch_ns) // WINDOW_NS
        if window != self.window:
            self.window = window
            self.worst = 0
            self.processor.note(window)
        if now - due_ns > self.worst and 0 <= window < WINDOWS:
            self.worst = now - due_ns
            area[HEADER + window] = self.worst
        if self.order_every and last >= self.next_order:
            self.next_order = last + self.order_every
            self.trade()

    def check_gap(self, first: int, last: int, count: int) -> None:
        missing = first - self.expected + last - first + 1 - count
        self.skipped += missing
        if not self.lossy or missing < 0:
            self.area[GAPS] += 1
            self.complain(f"{count} events {first} to {last} came where {self.expected} was due")

    # ---- orders --------------------------------------------------------------------------------

    def trade(self) -> None:
        if len(self.orders) > OPEN_ORDERS and self.last_id:  # a new one first: it names us
            oldest = next((one for one in sorted(self.orders) if one not in self.asked), None)
            if oldest is not None:
                self.asked.add(oldest)
                self.tell_and_send(OrderAction.CANCEL, oldest)
                return
        self.last_id = self.area[ORDERS] + 1  # goes on where a killed predecessor was
        self.tell_and_send(OrderAction.NEW, self.last_id)

    def tell_and_send(self, action: int, client_order_id: int) -> None:
        number = self.area[ORDERS]
        self.area[ORDERS] = number + 1
        self.journal.write("T", int(action), client_order_id)
        try:
            if action == OrderAction.CANCEL:
                self.cancel_order(client_order_id)
            else:
                self.send_order(
                    self.symbol,
                    Side.BUY if number % 3 else Side.SELL,
                    2.0 if number % 4 == 0 else 1.0,  # 2: stays open; see engine.py
                    float(self.area[INCARNATION]),
                    client_order_id=client_order_id,
                )
        except Full:
            return  # not sent, and the journal does not say it was
        self.journal.write("S", int(action), client_order_id)


class EachTick(Watcher):
    """Gets its events one by one."""

    def on_start(self) -> None:
        super().on_start()
        self.noted = self.expected
        self.latest = 0

    def on_tick(self, tick: Any) -> None:
        number = tick.sequence
        due_ns = tick.ts_event
        if number != self.expected:
            self.note()
            self.check(number, number, 1, due_ns)
            self.noted = number + 1
            return
        self.expected = number + 1
        late = monotonic_ns() - due_ns
        if late > self.latest:
            self.latest = late
        if self.expected % self.batch == 0:
            self.note()

    def note(self) -> None:
        """Tell the board of the events since the last time."""
        expected, latest = self.expected, self.latest
        if expected > self.noted:
            self.expected, self.latest = self.noted, 0
            now = monotonic_ns()
            self.check(self.noted, expected - 1, expected - self.noted, now - latest)
            self.noted = expected


class Batches(Watcher):
    """Gets its events as arrays."""

    def on_batch(self, kind: int, ticks: Any) -> None:
        self.check(
            int(ticks["sequence"][0]),
            int(ticks["sequence"][-1]),
            len(ticks),
            int(ticks["ts_event"][0]),
        )
        numbers = ticks["sequence"]
        if not self.lossy and not (numbers[1:] - numbers[:-1] == 1).all():
            self.complain(f"events out of order in a batch from {numbers[0]} to {numbers[-1]}")


class Survivor(EachTick):
    """Goes through many engines; sends also while there is none."""

    started = False

    def on_start(self) -> None:
        super().on_start()
        self.started = True
        self.begin()
        self.set_timer("order", 0.01)

    def on_connected(self) -> None:
        if self.started:
            self.begin()

    def begin(self) -> None:
        """Expect what follows the snapshot, or an engine's first event."""
        ticks = self.snapshot.ticks.values()
        self.expected = self.noted = max((tick.sequence + 1 for tick in ticks), default=-1)

    def on_disconnected(self) -> None:
        self.note()
        last = self.expected - 1
        self.journal.write("X", last >> 40, last & (1 << 40) - 1)

    def on_timer(self, timer: Any) -> None:
        if not self.board.area(-1)[SILENT]:
            self.trade()

    def check_gap(self, first: int, last: int, count: int) -> None:
        if self.expected != -1 or first & (1 << 40) - 1 or last - first + 1 != count:
            super().check_gap(first, last, count)


class SurvivorOfBatches(Survivor):
    """The same with arrays."""

    on_batch = Batches.on_batch
