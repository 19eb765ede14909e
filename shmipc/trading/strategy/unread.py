"""What an engine that goes leaves unread in the durable rings of a strategy."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from shmipc._core import Closed, Consumer, Corrupt, Empty, Error, Frame, ProducerDied
from shmipc.trading.events import EventKind
from shmipc.trading.strategy.protocol import REPORT_TYPES, SNAPSHOT

__all__ = ["Left", "count_unread", "unread_orders", "unread_reports"]


class Left(NamedTuple):
    """What waits for the next engine of a name, and for a strategy."""

    orders: int = 0  #: sent by it, cancellations and changes too, and not received
    reports: int = 0  #: made to it, and not read

    def __str__(self) -> str:
        parts = (
            (self.orders, "order", "that it sent and that were not received"),
            (self.reports, "report", "that it has not read"),
        )
        return " and ".join(
            f"{count} {noun}{'s' if count != 1 else ''} {what}"
            for count, noun, what in parts
            if count
        )


def unread_orders(reader: Consumer) -> int:
    """Count the orders in a ring, and leave them. `reader` is closed."""
    return count_unread(reader, frozenset((EventKind.ORDER,)))


def unread_reports(name: str) -> int:
    """Count the reports in a ring, and leave them. 0 where somebody reads it."""
    try:
        reader = Consumer(name, timeout=0)
    except (Error, OSError):  # its strategy has it, or it is gone
        return 0
    return count_unread(reader, frozenset(REPORT_TYPES))


def count_unread(reader: Consumer, kinds: frozenset[int]) -> int:
    """Count the messages of those kinds that stand in a ring, and leave all. `reader` is closed."""
    seen: list[Frame] = []  # held until abandon(): a released frame counts as read
    with contextlib.suppress(Closed, Corrupt, Empty, ProducerDied):
        while True:
            seen.append(reader.read(timeout=0))
    count = sum(1 for frame in seen if frame.kind in kinds and not frame.flags & SNAPSHOT)
    reader.abandon()
    return count
