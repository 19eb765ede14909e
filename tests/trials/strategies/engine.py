"""The engine of the trials: a paced market, and a simple exchange that keeps books of its own.

Owns: when events are due, what becomes of an order, and the record of both. An order of quantity 1
is filled at once, one of quantity 2 stays open. Must not know: who is killed or stopped.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any

import numpy as np
from board import Board, Processor, need

from shmipc.trading.events import OrderAction, OrderStatus, Tick, Trade
from shmipc.trading.strategy import StrategyManager

SYMBOLS = (b"S0", b"S1", b"S2")
SLOW_NS = 30_000_000  # a broadcast worth a note
PATIENCE = 60.0  # seconds for a broadcast: what never ends is a violation


class Exchange:
    """Takes orders, reports fills, and knows what every strategy should know."""

    def __init__(self, manager: StrategyManager) -> None:
        self.manager = manager
        self.received: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
        self.fills: dict[str, set[int]] = defaultdict(set)
        self.open: dict[str, set[int]] = defaultdict(set)
        self.positions: dict[str, Counter[str]] = defaultdict(Counter)
        self.incarnations: dict[str, int] = {}
        #: (strategy, incarnation) -> its books just before the first order of that incarnation
        self.books_before: dict[tuple[str, int], dict[str, Any]] = {}
        self._trade_id = 0

    def books(self, strategy_id: str) -> dict[str, Any]:
        return {
            "open": sorted(self.open[strategy_id]),
            "positions": dict(self.positions[strategy_id]),
        }

    def on_order(self, strategy_id: str, order: Any) -> None:
        client_order_id = order.client_order_id
        incarnation = int(order.price)
        if order.action == OrderAction.NEW and self.incarnations.get(strategy_id) != incarnation:
            self.incarnations[strategy_id] = incarnation
            self.books_before[strategy_id, incarnation] = self.books(strategy_id)
        self.received[strategy_id][order.action, client_order_id] += 1
        if order.action == OrderAction.CANCEL:
            self.open[strategy_id].discard(client_order_id)
            self.report(strategy_id, order, OrderStatus.CANCELED)
        elif order.quantity == 2.0:
            self.open[strategy_id].add(client_order_id)
            self.report(strategy_id, order, OrderStatus.ACCEPTED)
        else:
            self.report(strategy_id, order, OrderStatus.FILLED)
            self.fill(strategy_id, order)

    def report(self, strategy_id: str, order: Any, status: OrderStatus) -> None:
        answer: Any = order.copy()
        answer.status = status
        answer.order_id = order.client_order_id
        self.manager.report(strategy_id, answer)

    def fill(self, strategy_id: str, order: Any) -> None:
        self._trade_id += 1
        self.positions[strategy_id][order.symbol] += int(order.side * order.quantity)
        self.fills[strategy_id].add(self._trade_id)
        trade = Trade(
            symbol=order.symbol,
            client_order_id=order.client_order_id,
            trade_id=self._trade_id,
            price=order.price,
            quantity=order.quantity,
            side=order.side,
        )
        self.manager.report(strategy_id, trade)


def await_all(manager: StrategyManager) -> None:
    """Wait until all strategies have joined; none may end meanwhile."""
    end = time.monotonic() + PATIENCE
    while not manager.wait_until_connected(timeout=0.2):
        need(not manager.exits, f"a strategy has ended: {[str(one) for one in manager.exits]}")
        need(time.monotonic() < end, f"not all have joined: {manager.list_strategies()}")


class Market:
    """Broadcasts `rate` ticks a second, a batch each `period` seconds, and takes orders between."""

    def __init__(
        self,
        manager: StrategyManager,
        exchange: Exchange,
        rate: float,
        period: float,
        board: Board | None = None,
    ) -> None:
        self.manager, self.exchange = manager, exchange
        self.sent = 0
        self.late_ns = 0  # the most by which a batch was begun late
        self.blocked_ns = 0  # the longest broadcast
        self.busy_ns = 0  # spent in broadcasts
        self.notes: list[str] = []  # broadcasts that took long
        self.period_ns = int(period * 1e9)
        count = max(1, round(rate * period))
        self.batch = np.zeros(count, Tick.dtype)
        self.batch["symbol"] = [SYMBOLS[i % len(SYMBOLS)] for i in range(count)]
        self.batch["last_price"] = 100.0
        self.batch["sequence"] = np.arange(count)
        self.due_ns = 0
        self._board = board
        self._window = 0
        if board is not None:
            self._processor = Processor(board.area(-1))

    def start(self) -> None:
        """From now on events are due."""
        self.due_ns = time.monotonic_ns()

    def step(self) -> None:
        """Broadcast what is due, or take orders until something is."""
        now = time.monotonic_ns()
        if self._board is not None and self._board.window(now) != self._window:
            self._window = self._board.window(now)
            self._processor.note(self._window)
        if now < self.due_ns:
            self.manager.receive_orders(
                self.exchange.on_order, timeout=min(0.05, (self.due_ns - now) / 1e9)
            )
            return
        self.late_ns = max(self.late_ns, now - self.due_ns)
        self.broadcast(self.due_ns)
        self.due_ns += self.period_ns
        self.manager.receive_orders(self.exchange.on_order, timeout=0)

    def broadcast(self, due_ns: int, timeout: float = PATIENCE) -> int:
        """Send one batch; return how long that took."""
        self.batch["ts_event"] = due_ns
        begun = time.monotonic_ns()
        try:
            sent = self.manager.broadcast_batch(self.batch, timeout=timeout)
        except Exception as error:
            sent = getattr(error, "sent", 0)
            self.sent += sent
            self.batch["sequence"] += sent
            raise
        took = time.monotonic_ns() - begun
        self.blocked_ns = max(self.blocked_ns, took)
        self.busy_ns += took
        if took > SLOW_NS:
            self.note(begun, took)
        self.sent += sent
        self.batch["sequence"] += sent
        return took

    def note(self, begun_ns: int, took: int) -> None:
        behind = {
            info.strategy_id: (info.state, info.lag)
            for info in self.manager.list_strategies()
            if info.lag > len(self.batch) or info.state != "connected"
        }
        begun = (begun_ns - (self._board.epoch_ns if self._board else 0)) / 1e9
        self.notes.append(f"at {begun:.2f} s a broadcast took {took / 1e6:.0f} ms; then {behind}")

    def settle(self, seconds: float = 30.0) -> bool:
        """Take orders until everybody has read everything and is silent. False: not in time."""
        end = time.monotonic() + seconds
        silent_since = time.monotonic()
        while time.monotonic() < end:
            if self.manager.receive_orders(self.exchange.on_order, timeout=0.05):
                silent_since = time.monotonic()
            behind = any(
                info.lag or info.waiting_reports for info in self.manager.list_strategies()
            )
            if behind:
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > 0.5:
                return self.manager.drain(timeout=5)
        return False
