"""What the captured market shows of one symbol, and what simulated orders have taken of it.

Rules this file keeps:

- The levels are those of the last order book, with the best bid and ask of the last tick put on top
  where the tick is the newer one (by ``sequence``): levels better than a touch are gone, and the
  touch has the tick's size. An exchange sends ticks at once and order books every 50 ms.
- What an order took of a level stays taken until the capture shows another size there, or none:
  a level that is only shown again is not new liquidity.
- ``shown`` tells "nothing there" (0) from "too deep to be seen" (None).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from shmipc.events.schema import Side

__all__ = ["LEAST", "Liquidity", "ShownSide"]

#: A quantity below this is nothing: what is left of sums of decimals.
LEAST = 1e-9

Level = tuple[float, float]  # price, size


class ShownSide:
    """The bids (`sign` -1) or the asks (`sign` 1): ``sign * price`` grows with depth."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._levels: list[Level] = []  # best first
        self._sizes: dict[float, float] = {}
        self._deepest = -math.inf  # sign * price down to which all is shown
        self._taken: dict[float, float] = {}

    def show(self, levels: list[Level], *, all_of_it: bool, touch: Level | None = None) -> None:
        """Show `levels`, best first, and on top of them `touch`; `all_of_it`: nothing is deeper.

        A touch whose price is NaN is not known; one of size 0 says that the side is empty.
        """
        deepest = self._sign * levels[-1][0] if levels else -math.inf
        if all_of_it:
            deepest = math.inf
        if touch is not None and touch[0] == touch[0]:
            rank = self._sign * touch[0]
            if touch[1] > 0:
                levels = [touch, *(level for level in levels if self._sign * level[0] > rank)]
                deepest = max(deepest, rank)
            else:
                levels, deepest = [], math.inf
        sizes = dict(levels)
        for price in list(self._taken):
            if sizes.get(price) != self._sizes.get(price):
                del self._taken[price]
        self._levels, self._sizes, self._deepest = levels, sizes, deepest

    def show_touch(self, touch: Level) -> None:
        """Show `touch` on top of what is shown; levels that are better are gone."""
        if not self._levels or self._levels[0][0] != touch[0] or not touch[1] > 0:
            deepest = self._deepest
            self.show(self._levels, all_of_it=False, touch=touch)
            self._deepest = max(self._deepest, deepest)
        elif self._levels[0] != touch:  # the common case: another size
            self._levels[0] = touch
            self._sizes[touch[0]] = touch[1]
            self._taken.pop(touch[0], None)

    def shown(self, price: float) -> float | None:
        """Return what is left at `price`: 0 where no level is shown, None where none could be."""
        size = self._sizes.get(price)
        if size is None:
            return 0.0 if self._sign * price <= self._deepest else None
        return max(0.0, size - self._taken.get(price, 0.0))

    def within(self, limit: float) -> Iterator[Level]:
        """Yield what is left of each level, from the best price to `limit`."""
        for price, size in self._levels:
            if self._sign * price > self._sign * limit:
                return
            left = size - self._taken.get(price, 0.0)
            if left > LEAST:
                yield price, left

    def take(self, price: float, quantity: float) -> None:
        """Note that `quantity` of the level at `price` is taken."""
        self._taken[price] = self._taken.get(price, 0.0) + quantity


class Liquidity:
    """Both sides of one symbol."""

    def __init__(self) -> None:
        self.bids = ShownSide(-1)
        self.asks = ShownSide(1)
        self._book_sequence = 0
        self._tick_sequence = 0
        self._touch: tuple[Level | None, Level | None] = (None, None)

    def opposite(self, side: int) -> ShownSide:
        """Return the side that an order of `side` trades with."""
        return self.asks if side == Side.BUY else self.bids

    def own(self, side: int) -> ShownSide:
        """Return the side on which an order of `side` rests."""
        return self.bids if side == Side.BUY else self.asks

    def on_tick(
        self, sequence: int, bid: float, ask: float, bid_size: float, ask_size: float
    ) -> bool:
        """Show a tick's touch; return False if the book is newer."""
        self._tick_sequence = sequence
        self._touch = (bid, bid_size), (ask, ask_size)
        if sequence < self._book_sequence:
            return False
        self.bids.show_touch((bid, bid_size))
        self.asks.show_touch((ask, ask_size))
        return True

    def on_order_book(
        self,
        sequence: int,
        bid_count: int,
        bid_prices: NDArray[Any],
        bid_sizes: NDArray[Any],
        ask_count: int,
        ask_prices: NDArray[Any],
        ask_sizes: NDArray[Any],
    ) -> None:
        """Show an order book of any number of levels."""
        self._book_sequence = sequence
        is_old = sequence < self._tick_sequence
        for side, touch, count, prices, sizes in (
            (self.bids, self._touch[0], bid_count, bid_prices, bid_sizes),
            (self.asks, self._touch[1], ask_count, ask_prices, ask_sizes),
        ):
            levels = list(zip(prices[:count].tolist(), sizes[:count].tolist(), strict=True))
            whole = count < len(prices)
            side.show(levels, all_of_it=whole, touch=touch if is_old else None)
