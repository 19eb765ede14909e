"""The strategies of an engine: those that are registered, and those that are leaving."""

from __future__ import annotations

from collections.abc import Iterable

from shmipc._core import Closed
from shmipc.trading.strategy.link import Link, UnknownStrategy

__all__ = ["Roster"]


class Roster:
    """Who belongs to one engine, until it is closed."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.links: dict[str, Link] = {}  # registered
        self.leaving: dict[str, Link] = {}  # unregistered, with a process that has not ended
        self.closed = True

    def check_open(self) -> None:
        """Raise Closed once the engine is."""
        if self.closed:
            raise Closed(f"engine {self.engine!r} is closed")

    def link(self, strategy_id: str) -> Link:
        """Return the strategy of that id. Raises UnknownStrategy, Closed."""
        self.check_open()
        link = self.leaving.get(strategy_id) or self.links.get(strategy_id)
        if link is None:
            raise UnknownStrategy(f"no strategy {strategy_id!r} is registered")
        return link

    def everyone(self) -> Iterable[Link]:
        """Return all of them."""
        return (*self.links.values(), *self.leaving.values())
