"""The demo's strategies, each with a witness: what it saw, to be held against what was sent.

``StrategyManager.spawn`` starts these by name. At its end a strategy writes what it saw to the file
``proof``; the engine adds up what it sent in the same way.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from shmipc.demo.strategies.market_maker import MarketMaker
from shmipc.demo.strategies.mean_reversion import MeanReversion
from shmipc.demo.strategies.momentum import Momentum
from shmipc.trading.events import EventKind
from shmipc.trading.strategy import BaseStrategy

__all__ = ["CLASSES", "WatchedMarketMaker", "WatchedMeanReversion", "WatchedMomentum", "Witness"]


class Witness:
    """Counts and an order-sensitive checksum of events, by kind."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[int, int]] = {}

    def add(self, kind: EventKind, event: bytes) -> None:
        """Take an event's bytes."""
        count, checksum = self.seen.get(kind.name, (0, 0))
        self.seen[kind.name] = (count + 1, zlib.crc32(event, checksum))

    def as_json(self) -> dict[str, list[int]]:
        """Return count and checksum of each kind."""
        return {name: list(pair) for name, pair in self.seen.items()}


class _Watched(BaseStrategy):
    """Sees every kind of event, and trades as the class beside it does."""

    proof = ""  #: the file to write to at the end

    def __init__(self, *arguments: Any, **parameters: Any) -> None:
        super().__init__(*arguments, **parameters)
        self.symbols = None  # all that the engine has
        self.witness = Witness()

    def on_tick(self, tick: Any) -> None:
        self.witness.add(EventKind.TICK, bytes(tick))
        super().on_tick(tick)

    def on_trade_tick(self, trade_tick: Any) -> None:
        self.witness.add(EventKind.TRADE_TICK, bytes(trade_tick))
        super().on_trade_tick(trade_tick)

    def on_order_book(self, book: Any) -> None:
        self.witness.add(EventKind.ORDER_BOOK, bytes(book))
        super().on_order_book(book)

    def on_stop(self) -> None:
        super().on_stop()
        if self.proof:
            found = {"seen": self.witness.as_json(), "lost": self.lost, "errors": self.errors}
            Path(self.proof).write_text(json.dumps(found))


class WatchedMomentum(_Watched, Momentum):
    """Momentum, watched."""


class WatchedMeanReversion(_Watched, MeanReversion):
    """MeanReversion, watched."""


class WatchedMarketMaker(_Watched, MarketMaker):
    """MarketMaker, watched."""


CLASSES: dict[str, type[BaseStrategy]] = {
    "momentum": WatchedMomentum,
    "reversion": WatchedMeanReversion,
    "maker": WatchedMarketMaker,
}
