"""Mean reversion: buy what is cheap against its own mean, sell what is dear, leave at the mean.

Enters with an order that rests at the touch, and cancels it when it has not been filled in time
or the reason is gone; leaves with one that takes. There is never more than one order, and none is
sent before the last one is known to be closed.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from shmipc import Full
from shmipc.trading.events import Side, TimeInForce
from shmipc.trading.strategy import BaseStrategy

__all__ = ["MeanReversion"]


class MeanReversion(BaseStrategy):
    """Holds at most `size`, against the last move."""

    symbols = ("BTCUSDT",)
    size = 0.02
    memory = 30.0  #: seconds that mean and deviation remember
    enter = 1.5  #: deviations from the mean at which to enter
    leave = 0.2  #: ... at which to leave again
    patience = 5.0  #: seconds that an entry may rest

    _mean = _variance = 0.0
    _seen = 0  # ts_event of the last trade
    _ready = 0  # ts_event from which the mean is worth something
    _resting_since = 0
    _cancelled = 0  # the order that we asked to cancel

    def on_trade_tick(self, trade: Any) -> None:
        """Follow the trades: what was paid, not what is asked."""
        if not trade.aggressor_side:  # beside the book: not a price that one could have had
            return
        now, price = trade.ts_event, trade.price
        if not 0 < price < math.inf:  # not known: it would stay in the mean for ever
            return
        if not self._seen:
            self._seen, self._ready = now, now + int(self.memory * 1e9)
            self._mean = price
            return
        weight = -math.expm1(-max(1, now - self._seen) / 1e9 / self.memory)
        self._seen = now
        move = price - self._mean
        self._mean += weight * move
        self._variance = (1 - weight) * (self._variance + weight * move * move)

    def on_tick(self, tick: Any) -> None:
        now = tick.ts_event
        if not self._seen or now < self._ready or not self._variance > 0:
            return
        mid = (tick.bid_price + tick.ask_price) / 2
        if not 0 < mid < math.inf:
            mid = math.nan  # not known: no reason for anything but to cancel what is late
        away = (mid - self._mean) / math.sqrt(self._variance)
        held = self.positions[tick.symbol].quantity if tick.symbol in self.positions else 0.0
        try:
            for client_order_id in self.orders:
                late = now - self._resting_since > self.patience * 1e9
                if (late or abs(away) < self.leave) and self._cancelled != client_order_id:
                    self.cancel_order(client_order_id)
                    self._cancelled = client_order_id  # once: the answer is on its way
                return  # whatever comes of it, we hear of it first
            if abs(held) > 1e-9:
                if abs(away) < self.leave or away * held > 0:  # back at the mean, or beyond
                    side, price = self._taking(held, tick)
                    self.send_order(
                        tick.symbol, side, abs(held), price, time_in_force=TimeInForce.IOC
                    )
            elif away < -self.enter:
                self.buy(tick.symbol, self.size, tick.bid_price)
                self._resting_since = now
            elif away > self.enter:
                self.sell(tick.symbol, self.size, tick.ask_price)
                self._resting_since = now
        except Full:  # the engine is behind: a later tick looks again
            pass

    def _taking(self, held: float, tick: Any) -> tuple[Side, float]:
        """Return side and price of an order that ends a position at once."""
        return (Side.SELL, tick.bid_price) if held > 0 else (Side.BUY, tick.ask_price)

    def on_connected(self) -> None:
        """Back after a crash of one side: ask again for what was perhaps never heard."""
        self._cancelled = 0

    def on_stop(self) -> None:
        self.cancel_all()


if __name__ == "__main__":
    sys.exit(MeanReversion.main())
