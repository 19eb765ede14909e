"""An engine: a simulated exchange that broadcasts a market and fills the orders of strategies.

    python examples/exchange.py --capture FILE --strategies momentum mean_reversion market_maker

Start strategies in other terminals, before or after, in any order::

    python examples/momentum.py --engine exchange --id momentum

or let the exchange start them itself (``--spawn``). Without ``--capture`` the market is a random
walk.
"""

import argparse
import itertools
import sys
import time
from collections import Counter

from shmipc import StrategyManager
from shmipc.trading.capture import CaptureError, Summary
from shmipc.trading.market import Exchange, Ledger
from shmipc.trading.market.feed import feed
from shmipc.trading.market.synthetic import synthetic


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="exchange")
    parser.add_argument("--capture", metavar="FILE")
    parser.add_argument("--strategies", nargs="+", metavar="ID", default=["momentum"])
    parser.add_argument("--spawn", action="store_true", help="start MODULE.py of each id here")
    parser.add_argument("--events", type=int, default=20_000, metavar="N", help="of a random walk")
    parser.add_argument("--rate", type=float, default=20_000, metavar="R", help="events a second")
    options = parser.parse_args()
    summary = Summary()  # of the capture: what was read of it, and what could not be
    if options.capture:
        market = feed(options.capture, summary=summary)
    else:
        market = synthetic(options.events, tick_size=2.0)
    try:
        first = list(itertools.islice(market, 1))  # what is no capture, before anybody is started
    except (OSError, CaptureError) as error:
        print(f"exchange: {error}", file=sys.stderr)
        return 1

    exchange, ledger, fills = Exchange(), Ledger(), Counter()
    with StrategyManager(options.name, instruments=["BTCUSDT"]) as manager:

        def report(reports):
            for strategy_id, row in reports:
                if "trade_id" in row.dtype.names:
                    ledger.on_trade(strategy_id, row)
                    fills[strategy_id] += 1
                manager.report(strategy_id, row)

        def take(strategy_id, order):
            report(exchange.on_order(strategy_id, order))

        for strategy_id in options.strategies:
            manager.register_strategy(strategy_id)
            if options.spawn:
                name = "".join(word.title() for word in strategy_id.split("_"))
                manager.spawn(strategy_id, f"{strategy_id}:{name}")
        if not manager.wait_until_connected(timeout=60):
            print("not every strategy has come", file=sys.stderr)
            return 1

        due, events = time.monotonic(), 0
        for kind, row in itertools.chain(first, market):
            due, events = due + 1 / options.rate, events + 1
            if (left := due - time.monotonic()) > 0:
                manager.receive_orders(take, timeout=left)
            report(exchange.on_event(kind, row))
            row["ts_init"] = time.time_ns()
            manager.broadcast_event(row)
            manager.receive_orders(take)
        manager.drain(timeout=30)
        if options.spawn:  # they cancel what is open, and we hear it
            for strategy_id in options.strategies:
                manager.stop(strategy_id)
        manager.receive_orders(take)

        for strategy in manager.list_strategies():
            held = ledger.holding(strategy.strategy_id, "BTCUSDT")
            print(
                f"{strategy.strategy_id}: {strategy.orders} orders, "
                f"{fills[strategy.strategy_id]} fills, position {held.quantity:+.3f}, "
                f"profit {held.realized_pnl - held.commission:+.2f}, lost {strategy.lost}"
            )
        print(f"{events:,} events")
        if options.capture:
            print(f"{options.capture}: {summary}")
        manager.close(discard=True)  # the end of the day: nothing is left for the next engine
    return 0


if __name__ == "__main__":
    sys.exit(main())
