"""An engine and its strategies for tests: in one process, stepped by hand, or each in its own.

``Desk`` steps; nothing happens but in ``settle()``. ``Engine`` waits, with deadlines, for
strategies in processes of their own. Those further down are for such processes: ``spawn`` and
``Peer`` import them from here.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from helpers import DEADLINE, Peer
from shmipc import _core
from shmipc.trading.events import Order, OrderStatus, Tick, Trade
from shmipc.trading.strategy import BaseStrategy, StrategyManager
from shmipc.trading.strategy.protocol import orders_ring, reports_ring
from shmipc.trading.strategy.runtime import Runtime


def tick(symbol: str = "BTCUSDT", price: float = 100.0, **fields: Any) -> Any:
    return Tick(symbol=symbol, last_price=price, **fields)


def accepted(order: Any, status: OrderStatus = OrderStatus.ACCEPTED, **fields: Any) -> Any:
    """What an engine would report of an order."""
    report = order.copy()
    report.status = status
    report.order_id = report.order_id or 7
    for name, value in fields.items():
        report[name] = value
    return report


def filled(order: Any, price: float = 100.0, quantity: float | None = None) -> Any:
    """A trade that fills an order."""
    return Trade(
        symbol=order.symbol,
        client_order_id=order.client_order_id,
        order_id=7,
        price=price,
        quantity=order.quantity if quantity is None else quantity,
        side=order.side,
    )


def discard_rings(engine: str, *strategy_ids: str) -> None:
    """Remove durable rings that a test leaves with something owed. Nobody may be in them."""
    for strategy_id in strategy_ids:
        for ring in (orders_ring, reports_ring):
            path = _core.segment_path(ring(engine, strategy_id))
            if os.path.exists(path):
                assert _core.clean_segment(path, discard=True) == "removed"


class Desk:
    """Engine and strategies in this process."""

    def __init__(self, **options: Any) -> None:
        self.manager = StrategyManager("desk", **options)
        self.orders: list[tuple[str, Any]] = []
        self.answer: Callable[[str, Any], None] = lambda strategy_id, order: None
        self.runtimes: dict[str, Runtime] = {}
        self._strategies: list[BaseStrategy] = []
        self._stack = ExitStack()

    def join(
        self,
        strategy: BaseStrategy,
        *,
        symbols: Any = None,
        on_exception: str = "raise",
        register: bool = True,
    ) -> Runtime:
        if register:
            self.manager.register_strategy(strategy.strategy_id, symbols)
        strategy.engine = "desk"
        runtime = self._stack.enter_context(strategy._run_as(0, DEADLINE, on_exception))
        self.runtimes[strategy.strategy_id] = runtime
        self._strategies.append(strategy)
        end = time.monotonic() + DEADLINE
        while not runtime.connected:
            runtime.step(0)
            self.manager.receive_orders(self.take)
            assert time.monotonic() < end
        self.settle()
        return runtime

    def take(self, strategy_id: str, order: Any) -> None:
        self.answer(strategy_id, order)
        self.orders.append((strategy_id, order.copy()))

    def settle(self) -> None:
        while True:
            moved = self.manager.receive_orders(self.take)
            for runtime in self.runtimes.values():
                if not (runtime.stopping or runtime.finished):
                    moved += runtime.step(0)
            if not moved:
                return

    def close(self) -> None:
        for runtime in self.runtimes.values():
            if not runtime.finished:
                runtime.shut()
        self._stack.close()
        self.manager.close()
        discard_rings("desk", *(strategy.strategy_id for strategy in self._strategies))


@contextmanager
def desk(**options: Any) -> Iterator[Desk]:
    made = Desk(**options)
    try:
        yield made
    finally:
        made.close()


class Engine(StrategyManager):
    """A manager that waits for what its strategies do, and fails where they do not."""

    def expect_orders(
        self, count: int, timeout: float = DEADLINE, *, more: bool = False
    ) -> list[tuple[str, Any]]:
        """Receive until there are `count`; then, unless `more` may come, that there are no more."""
        found: list[tuple[str, Any]] = []
        end = time.monotonic() + timeout
        while len(found) < count:
            left = end - time.monotonic()
            assert left > 0, f"{len(found)} of {count} orders came in time"
            self.receive_orders(
                lambda who, order: found.append((who, order.copy())),
                count - len(found) if more else None,
                timeout=left,
            )
        assert len(found) == count
        return found

    def until(self, condition: Callable[[], bool], timeout: float = DEADLINE) -> None:
        """Go on receiving (no orders are expected) until `condition` holds."""
        end = time.monotonic() + timeout

        def surprise(who: str, order: Any) -> None:
            raise AssertionError(f"an order of {who} that nobody waits for: {order}")

        while not condition():
            assert time.monotonic() < end, self.list_strategies()
            self.receive_orders(surprise, timeout=0.01)

    def state(self, strategy_id: str) -> str:
        return next(i.state for i in self.list_strategies() if i.strategy_id == strategy_id)

    def connected(self, *strategy_ids: str) -> None:
        assert self.wait_until_connected(strategy_ids or None, timeout=DEADLINE)


def strategy_peer(name: str, strategy_id: str, *, run: str = "", engine: str = "engine") -> Peer:
    """A process that runs the strategy `name` of this file; it says "done" when run() returns."""
    return Peer(
        f"""
        import desk
        strategy = desk.{name}({strategy_id!r}, engine={engine!r})
        strategy.run({run})
        say("done")
        """
    )


# ---- strategies for other processes --------------------------------------------------------------


def say(*words: object) -> None:
    print(*words, flush=True)


class Quiet(BaseStrategy):
    """Reads ticks and does nothing."""

    def on_tick(self, tick: Any) -> None:
        pass


class CancelsAtTheEnd(BaseStrategy):
    """Orders at the first tick, and withdraws that when it stops."""

    def on_tick(self, tick: Any) -> None:
        if not self.orders:
            self.buy(tick.symbol, 1.0, 1.0)

    def on_stop(self) -> None:
        self.cancel_all()


class Echo(BaseStrategy):
    """For each tick an order at its price, with its sequence as id."""

    def on_tick(self, tick: Any) -> None:
        self.buy(tick.symbol, 1.0, tick.last_price, client_order_id=tick.sequence)


class Teller(BaseStrategy):
    """Says on stdout what it is told."""

    timeout = DEADLINE

    def on_start(self) -> None:
        say("start", len(self.orders), len(self.snapshot.ticks))

    def on_stop(self) -> None:
        say("stop")

    def on_connected(self) -> None:
        say("connected")

    def on_disconnected(self) -> None:
        say("disconnected")

    def on_tick(self, tick: Any) -> None:
        say("tick", tick.sequence)

    def on_order(self, order: Any) -> None:
        say("order", order.client_order_id, OrderStatus(order.status).name)

    def on_trade(self, trade: Any) -> None:
        say("trade", trade.client_order_id, trade.quantity)

    def on_lost(self, count: int) -> None:
        say("lost", count)


class EchoTeller(Teller):
    """Says what it is told, and sends an order for each tick."""

    def on_tick(self, tick: Any) -> None:
        say("tick", tick.sequence)
        self.buy(tick.symbol, 1.0, tick.last_price, client_order_id=tick.sequence)


class KeepsOrdering(EchoTeller):
    """Sends an order every 20 ms, engine or no engine."""

    def on_start(self) -> None:
        self.sent = 0
        self.set_timer("order", 0.02)

    def on_timer(self, timer: Any) -> None:
        self.sent += 1
        self.buy("BTCUSDT", 1.0, 100.0, client_order_id=self.sent)
        say("sent", self.sent)


class Dies(BaseStrategy):
    """Ends its process as the first tick's sequence says: 0 well, else with a status."""

    def on_tick(self, tick: Any) -> None:
        if tick.sequence == 0:
            self.stop()
        else:
            os._exit(tick.sequence)


class DiesAtOnce(BaseStrategy):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        sys.exit(3)


class Configured(BaseStrategy):
    """Orders what its parameters say."""

    size = 1.0
    price = 1.0

    def on_start(self) -> None:
        self.buy("BTCUSDT", self.size, self.price)


class CountsLost(BaseStrategy):
    """In each order: how many ticks it read, and how many it lost."""

    seen = 0

    def on_tick(self, tick: Any) -> None:
        self.seen += 1
        if tick.sequence < 0:
            self.buy("BTCUSDT", float(self.seen), float(self.lost + 1))


def order_of(**fields: Any) -> Any:
    """An Order record, valid but for `fields`."""
    whole = {
        "symbol": "BTCUSDT",
        "client_order_id": 1,
        "price": 100.0,
        "quantity": 1.0,
        "side": 1,
        "order_type": 2,
        "time_in_force": 1,
        "status": 1,
        "action": 1,
    }
    return Order(**{**whole, **fields})
