"""What the captured market shows of one symbol, and what simulated orders have taken of it.

Rules this file keeps:

- The levels are those of the last order book, with the best bid and ask of the last tick put on top
  where the tick is the newer one (by ``sequence``): levels better than a touch are gone, and the
  touch has the tick's size. An exchange sends ticks at once and order books every 50 ms.
- What an order took of a level stays taken until the capture shows another size there, or none:
  a level that is only shown again is not new liquidity.
- ``shown`` tells "nothing there" (0) from "too deep to be seen" or "not known" (None).
- What is not known (:mod:`shmipc.trading.market.bounds`) is as it was. A level whose price is not
  known is none, and not all is shown from there on. One whose size is not known has the size that
  was shown at its price before; if none was, it is there, and nothing can be taken of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from shmipc.trading.events.dtypes import Side
from shmipc.trading.market.bounds import MOST, is_price, is_size

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

        A touch whose price is not known says nothing; one of size 0 says that the side is empty.
        """
        known = [(price, self._size(price, size)) for price, size in levels if is_price(price)]
        if len(known) < len(levels):
            all_of_it = False
            whole = next(at for at, (price, _) in enumerate(levels) if not is_price(price))
        else:
            whole = len(known)
        deepest = self._sign * known[whole - 1][0] if whole else -math.inf
        self._replace(known, math.inf if all_of_it else deepest, touch)

    def show_touch(self, touch: Level) -> None:
        """Show `touch` on top of what is shown; levels that are better are gone."""
        price, size = touch
        if self._levels and self._levels[0][0] == price and 0.0 < size < MOST:
            if self._levels[0] != touch:  # the common case: another size
                self._levels[0] = touch
                self._sizes[price] = size
                self._taken.pop(price, None)
        else:
            self._replace(self._levels, self._deepest, touch)

    def _size(self, price: float, size: float) -> float:
        """Return `size`, or where it is not known the one shown before; NaN: none was."""
        return size if is_size(size) else self._sizes.get(price, math.nan)

    def _replace(self, levels: list[Level], deepest: float, touch: Level | None) -> None:
        """Make `levels`, which are known, and on top of them `touch`, all that is shown."""
        if touch is not None and is_price(touch[0]):
            price, size = touch
            rank = self._sign * price
            if size == 0.0:
                levels, deepest = [], math.inf
            else:
                deeper = [level for level in levels if self._sign * level[0] > rank]
                levels = [(price, self._size(price, size)), *deeper]
                deepest = max(deepest, rank)
        sizes = dict(levels)
        for price in list(self._taken):
            if sizes.get(price) != self._sizes.get(price):
                del self._taken[price]
        self._levels, self._sizes, self._deepest = levels, sizes, deepest

    def shown(self, price: float) -> float | None:
        """Return what is left at `price`: 0 where no level is shown, None where that is unknown."""
        size = self._sizes.get(price)
        if size is None:
            return 0.0 if self._sign * price <= self._deepest else None
        left = size - self._taken.get(price, 0.0)
        return None if math.isnan(left) else max(0.0, left)

    def within(self, limit: float) -> Iterator[Level]:
        """Yield what is left of each level, from the best price to `limit`."""
        for price, size in self._levels:
            if self._sign * price > self._sign * limit:
                return
            left = size - self._taken.get(price, 0.0)
            if left > LEAST:  # False where the size is not known
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
