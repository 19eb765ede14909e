"""An order book of price levels, kept from a snapshot and the updates around it.

Rules this file keeps:

- A level is a price and the whole size there, as the exchange says it; a size of 0 removes it.
  Sizes are absolute, so an update applied twice changes nothing.
- A level whose price or size is not known (NaN, and what else is none) says nothing: what the book
  has there stays.
- Updates carry the id of the last change they hold. One that is not newer than the book is
  dropped: the book already holds it.
- A snapshot replaces the book. The updates that came before it and are newer than it are applied
  again, because a snapshot asked for over REST arrives later than the stream that it belongs to.
- Until a snapshot comes, the book is what the updates alone tell: partial, and ``complete`` is
  False. It may be crossed then; nothing here puts that straight.

The capture's format carries no id of the preceding update through the parser, so a gap (an update
lost to a truncated line) is not seen here: its levels stay as they were until each is updated.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

import numpy as np

from shmipc.trading.market.bounds import is_price, is_size

__all__ = ["Book"]

Level = tuple[float, float]  # price, size

KEPT_UPDATES = 512  # for a snapshot that comes late; at 50 ms each, 25 seconds


class Side:
    """The levels of one side: sizes by price, and the prices in ascending order."""

    def __init__(self) -> None:
        self.sizes: dict[float, float] = {}
        self.prices: list[float] = []

    def replace(self, levels: Iterable[Level]) -> None:
        """Make `levels` all there is."""
        self.sizes.clear()
        self.prices.clear()
        self.change(levels)

    def change(self, levels: Iterable[Level]) -> None:
        """Set the size of each of `levels`; 0 removes it, and what is not known changes nothing."""
        sizes, prices = self.sizes, self.prices
        for price, size in levels:
            if not (is_price(price) and is_size(size)):
                continue  # NaN in `prices` would undo their order
            if size > 0:
                if price not in sizes:
                    insort(prices, price)
                sizes[price] = size
            elif sizes.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]


class Book:
    """Bids and asks of one symbol."""

    def __init__(self) -> None:
        self.bids = Side()
        self.asks = Side()
        self.sequence = 0  #: id of the last change that the book holds
        self.complete = False  #: a snapshot has come
        self._kept: deque[tuple[int, list[Level], list[Level]]] = deque(maxlen=KEPT_UPDATES)

    def update(self, sequence: int, bids: list[Level], asks: list[Level]) -> bool:
        """Apply an update whose last change is `sequence`; return False if it is an old one."""
        self._kept.append((sequence, bids, asks))
        if sequence <= self.sequence:
            return False
        self.bids.change(bids)
        self.asks.change(asks)
        self.sequence = sequence
        return True

    def snapshot(self, sequence: int, bids: list[Level], asks: list[Level]) -> None:
        """Replace the book by a snapshot as of `sequence`, and apply what is newer again."""
        self.bids.replace(bids)
        self.asks.replace(asks)
        self.sequence = sequence
        self.complete = True
        kept, self._kept = self._kept, deque(maxlen=KEPT_UPDATES)
        for update in kept:
            self.update(*update)

    def best_bids(self, levels: int) -> list[Level]:
        """Return up to `levels` bids, highest first."""
        sizes = self.bids.sizes
        return [(price, sizes[price]) for price in reversed(self.bids.prices[-levels:])]

    def best_asks(self, levels: int) -> list[Level]:
        """Return up to `levels` asks, lowest first."""
        sizes = self.asks.sizes
        return [(price, sizes[price]) for price in self.asks.prices[:levels]]

    def write(self, row: np.void) -> None:
        """Write the best levels into `row`, an order book of any number of levels, zeroed."""
        levels = len(row["bid_prices"])
        row["sequence"] = self.sequence
        for name, side in (("bid", self.best_bids(levels)), ("ask", self.best_asks(levels))):
            count = len(side)
            row[f"{name}_count"] = count
            if count:
                row[f"{name}_prices"][:count], row[f"{name}_sizes"][:count] = zip(
                    *side, strict=True
                )
