"""A random market, for when there is no capture: the same kinds of events, from a seed.

Rules this file keeps:

- The same arguments give the same events, byte for byte: nothing comes from the clock.
- It is a market that could be: bid below ask, an order book's top is the last tick's touch, a
  trade is at the touch that it hits and not larger than what is there, times and sequences grow.
- The mix is about a capture's: of 100 events 70 ticks, 23 trades, 7 order books.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from shmipc.trading.events.dtypes import (
    DEFAULT_LEVELS,
    TICK,
    TRADE_TICK,
    EventKind,
    Side,
    encode_symbol,
    order_book_dtype,
)
from shmipc.trading.market.bounds import MOST
from shmipc.trading.market.feed import Events

__all__ = ["synthetic"]

_START_NS = 1_723_161_255_000_000_000
_MEAN_GAP_NS = 3_700_000  # between events, as in a busy market
_TRADES, _BOOKS = 0.3, 0.09  # parts of the steps; each trade is followed by its tick
_LOT = 0.001


def synthetic(
    count: int,
    *,
    seed: int = 0,
    symbol: str = "BTCUSDT",
    price: float = 61800.0,
    tick_size: float = 0.1,
    levels: int = DEFAULT_LEVELS,
) -> Iterator[Events]:
    """Yield `count` events: their kind, and an array of one.

    Raises ValueError where `symbol` is none, `price` or `tick_size` is not above 0 and finite, or
    `price` leaves no room for a book below it.
    """
    for name, value in (("price", price), ("tick_size", tick_size)):
        if not 0.0 < value < MOST:
            raise ValueError(f"{name} is above 0 and finite, not {value!r}")
    if price / tick_size >= 1 << 53:
        raise ValueError(
            f"a price of {price!r} has more ticks of {tick_size!r} than can be counted"
        )
    walk = _Walk(random.Random(seed), encode_symbol(symbol), price, tick_size, levels)
    return (walk.step() for _ in range(count))


class _Walk:
    """A touch that moves at random, and what is seen of it. Prices are counted in ticks."""

    def __init__(
        self, chance: random.Random, symbol: bytes, price: float, tick_size: float, levels: int
    ) -> None:
        self._chance = chance
        self._symbol = symbol
        self._tick_size = tick_size
        self._decimals = max(0, 2 - math.floor(math.log10(tick_size)))
        self._book_dtype = order_book_dtype(levels)
        self._levels = levels
        self._bid = round(price / tick_size)
        self._lowest = 4 * levels  # no level is deeper below the bid
        if self._bid <= self._lowest:
            raise ValueError(f"{levels} levels of {tick_size} do not fit below a price of {price}")
        self._sizes = {Side.BUY: self._size(), Side.SELL: self._size()}
        self._now = _START_NS
        self._sequence = 0
        self._trade_id = 0
        self._trend = 0.0
        self._last = (math.nan, math.nan)  # price and size of the last trade
        self._sums = (0.0, 0.0)  # volume and turnover
        self._day = (math.nan, math.nan, math.nan)  # open, high, low
        self._tick_is_due = True  # the touch has changed

    def step(self) -> tuple[EventKind, NDArray[np.void]]:
        """Return the next event."""
        self._now += 1 + int(self._chance.expovariate(1 / _MEAN_GAP_NS))
        at = self._chance.random()
        if self._tick_is_due or at >= _TRADES + _BOOKS:
            return EventKind.TICK, self._tick()
        if at < _TRADES:
            return EventKind.TRADE_TICK, self._trade()
        return EventKind.ORDER_BOOK, self._order_book()

    def _size(self) -> float:
        return round(_LOT + self._chance.expovariate(0.5), 3)

    def _price(self, ticks: int) -> float:
        return round(ticks * self._tick_size, self._decimals)

    def _move(self, ticks: int) -> None:
        self._bid = max(self._lowest + 1, self._bid + ticks)
        self._sizes = {Side.BUY: self._size(), Side.SELL: self._size()}

    def _tick(self) -> NDArray[np.void]:
        if not self._tick_is_due:
            self._trend = 0.995 * self._trend + self._chance.gauss(0.0, 0.01)
            if self._chance.random() < 0.05:
                self._move(1 if self._chance.random() < 0.5 + self._trend else -1)
            else:
                self._sizes[self._chance.choice((Side.BUY, Side.SELL))] = self._size()
        self._tick_is_due = False
        self._sequence += 1
        touch = (
            self._price(self._bid),
            self._price(self._bid + 1),
            self._sizes[Side.BUY],
            self._sizes[Side.SELL],
        )
        times = (self._now, self._now)
        row = (self._symbol, *times, *self._last, *touch, *self._sums, *self._day, self._sequence)
        ticks = np.zeros(1, TICK)
        ticks[0] = row
        return ticks

    def _trade(self) -> NDArray[np.void]:
        side = Side.BUY if self._chance.random() < 0.5 + self._trend else Side.SELL
        there = self._sizes[Side(-side)]
        whole = self._chance.random() < 0.2
        size = there if whole else max(_LOT, round(there * self._chance.random(), 3))
        price = self._price(self._bid + 1 if side == Side.BUY else self._bid)
        self._trade_id += 1
        self._last = (price, size)
        self._sums = (self._sums[0] + size, self._sums[1] + price * size)
        opened, high, low = self._day
        self._day = (
            (price, price, price)
            if self._trade_id == 1
            else (opened, max(high, price), min(low, price))
        )
        left = round(there - size, 3)
        if left >= _LOT:
            self._sizes[Side(-side)] = left
        else:  # the level is gone
            self._move(int(side))
        self._tick_is_due = True
        row = (self._symbol, self._now, self._now, price, size, self._trade_id, side)
        trades = np.zeros(1, TRADE_TICK)  # zeros between the fields too
        trades[0] = row
        return trades

    def _order_book(self) -> NDArray[np.void]:
        self._sequence += 1
        book = np.zeros(1, self._book_dtype)
        row = book[0]
        row["symbol"] = self._symbol
        row["ts_event"] = row["ts_init"] = self._now
        row["sequence"] = self._sequence
        for name, side, best in (("bid", Side.BUY, self._bid), ("ask", Side.SELL, self._bid + 1)):
            ticks, size = best, self._sizes[side]
            row[f"{name}_count"] = self._levels
            for level in range(self._levels):
                row[f"{name}_prices"][level] = self._price(ticks)
                row[f"{name}_sizes"][level] = size
                ticks -= side * self._chance.randint(1, 4)
                size = self._size()
        return book
