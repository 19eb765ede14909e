"""Market maker: a bid and an ask around the fair price, leaning against what it holds.

One order a side, never more: a quote that has moved is modified, not sent anew, and asked for once
until the answer is there. All quotes are post-only, so it never takes. A side that would bring the
position beyond its bound is withdrawn.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from shmipc import Full
from shmipc.trading.events import OrderAction, Side, TimeInForce
from shmipc.trading.strategy import BaseStrategy

__all__ = ["MarketMaker"]


class MarketMaker(BaseStrategy):
    """Quotes `size` on each side and holds at most `most`."""

    symbols = ("BTCUSDT",)
    size = 0.01
    most = 0.05  #: long or short
    tick_size = 0.1
    width = 0.5  #: basis points from the fair price to a quote
    skew = 0.5  #: basis points by which a full position shifts both quotes
    tolerance = 0.2  #: basis points that a quote may be off before it is moved
    pause = 0.1  #: seconds between two looks

    _next_look = 0  # ts_event

    def on_connected(self) -> None:
        """Take over what is open, also from before a crash."""
        self._asked: set[int] = set()  # orders with a request under way
        self._quotes = {order.side: number for number, order in self.orders.items()}

    def on_tick(self, tick: Any) -> None:
        now = tick.ts_event
        both = tick.bid_size + tick.ask_size
        if now < self._next_look or not both > 0:
            return
        # the side with less size is the one that will give way
        fair = (tick.bid_price * tick.ask_size + tick.ask_price * tick.bid_size) / both
        if not 0 < fair < math.inf:  # a price or a size is not known
            return
        self._next_look = now + int(self.pause * 1e9)
        held = self.positions[tick.symbol].quantity if tick.symbol in self.positions else 0.0
        fair -= fair * 1e-4 * self.skew * held / self.most
        away = fair * 1e-4 * self.width
        try:
            self._quote(tick.symbol, Side.BUY, min(fair - away, tick.bid_price), held)
            self._quote(tick.symbol, Side.SELL, max(fair + away, tick.ask_price), held)
        except Full:  # the engine is behind: look again in a moment
            pass

    def _quote(self, symbol: str, side: int, price: float, held: float) -> None:
        """Have one order of `side` at `price`, or none."""
        price = round(round(price / self.tick_size) * self.tick_size, 8)
        number = self._quotes.get(side)
        order = None if number is None else self.orders.get(number)
        if number in self._asked:
            return  # one thing after the other
        if side * held + self.size > self.most + 1e-9:
            if order is not None:
                self.cancel_order(order.client_order_id)
                self._asked.add(order.client_order_id)
        elif order is None:
            self._quotes[side] = self.send_order(
                symbol, side, self.size, price, time_in_force=TimeInForce.POST_ONLY
            )
        elif abs(order.price - price) > price * 1e-4 * self.tolerance:
            self.modify_order(order.client_order_id, price=price)
            self._asked.add(order.client_order_id)

    def on_order(self, order: Any) -> None:
        if order.action != OrderAction.NEW or order.client_order_id not in self.orders:
            self._asked.discard(order.client_order_id)  # answered, or nothing left to ask

    def on_stop(self) -> None:
        self.cancel_all()


if __name__ == "__main__":
    sys.exit(MarketMaker.main())
