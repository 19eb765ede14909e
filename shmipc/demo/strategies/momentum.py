"""Momentum: go with the price while its fast mean leads its slow one.

Takes liquidity: every order is a limit order at the other side's touch, immediate or cancel, so
none is ever left behind. At most one is on its way at a time, and the position is the only state
that counts: a fill that was partial, or none, is made up for at a later tick.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from shmipc import Full
from shmipc.trading.events import Side, TimeInForce
from shmipc.trading.strategy import BaseStrategy

__all__ = ["Momentum"]


class Momentum(BaseStrategy):
    """Holds `size` long, `size` short, or nothing."""

    symbols = ("BTCUSDT",)
    size = 0.02
    fast = 2.0  #: seconds that the fast mean remembers
    slow = 20.0  #: ... and the slow one
    enter = 0.6  #: basis points that the fast mean must lead by
    leave = 0.1  #: ... and below which the position is given up
    pause = 1.0  #: seconds between orders, at least

    _fast = _slow = 0.0
    _seen = 0  # ts_event of the last tick
    _not_before = 0  # ts_event of the next order, at the earliest

    def on_tick(self, tick: Any) -> None:
        now = tick.ts_event
        mid = (tick.bid_price + tick.ask_price) / 2
        if not 0 < mid < math.inf:  # one side is empty, or not known
            return
        if not self._seen:  # means are worth something once the slow one has seen enough
            self._fast = self._slow = mid
            self._seen, self._not_before = now, now + int(self.slow * 1e9)
            return
        # means over time, not over ticks: a burst of ticks is one moment
        gap = max(0, now - self._seen) / 1e9
        self._seen = now
        self._fast += (mid - self._fast) * -math.expm1(-gap / self.fast)
        self._slow += (mid - self._slow) * -math.expm1(-gap / self.slow)
        if now < self._not_before or self.orders:
            return
        held = self.positions[tick.symbol].quantity if tick.symbol in self.positions else 0.0
        change = self._target(held) - held
        if abs(change) < 1e-9:
            return
        side, price = (Side.BUY, tick.ask_price) if change > 0 else (Side.SELL, tick.bid_price)
        try:
            self.send_order(tick.symbol, side, abs(change), price, time_in_force=TimeInForce.IOC)
        except Full:  # the engine is behind; a later tick asks again, if it is still true then
            return
        self._not_before = now + int(self.pause * 1e9)

    def _target(self, held: float) -> float:
        """Return the position to have."""
        lead = (self._fast / self._slow - 1) * 1e4
        if abs(lead) > self.enter:
            return math.copysign(self.size, lead)
        if abs(lead) < self.leave or lead * held < 0:
            return 0.0
        return held


if __name__ == "__main__":
    sys.exit(Momentum.main())
