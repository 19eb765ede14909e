"""An engine in a process of its own, to be killed: DIRECTORY EPOCH STRATEGIES RATE PERIOD.

Owns: its record of what it took and of what it broadcast. Events of engine number `epoch` have
sequence numbers from ``epoch << 40`` on. It ends well on SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from board import EPOCHS, Board
from engine import Exchange, Market

from shmipc.trading.events import OrderAction
from shmipc.trading.strategy import StrategyManager


def main() -> None:
    directory, epoch, strategies = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rate, period = float(sys.argv[4]), float(sys.argv[5])
    area = Board(directory).area(-1)
    word = EPOCHS + 2 * epoch
    journal = os.open(directory / "received", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))

    class Journalled(Exchange):
        def on_order(self, strategy_id: str, order: Any) -> None:
            line = f"{strategy_id} {int(OrderAction(order.action))} {order.client_order_id}\n"
            os.write(journal, line.encode())
            super().on_order(strategy_id, order)

    with StrategyManager("survivors", capacity=1 << 20) as manager:
        for place in range(strategies):
            manager.register_strategy(f"s{place}")
        exchange = Journalled(manager)
        market = Market(manager, exchange, rate, period)
        market.batch["sequence"] += epoch << 40
        while any(info.state != "connected" for info in manager.list_strategies()):
            manager.receive_orders(exchange.on_order, timeout=0.01)
        market.start()
        while not stopped:
            if time.monotonic_ns() >= market.due_ns:
                area[word] = market.sent + len(market.batch)  # at most
                market.step()
                area[word + 1] = market.sent  # at least
            else:
                market.step()
        assert market.settle()


if __name__ == "__main__":
    main()
