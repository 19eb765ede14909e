"""What the tests of Dispatcher share: two kinds of event, and a ring with a reader."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from shmipc import Consumer, Producer
from shmipc._core import Dispatcher, record_type

EVENT = np.dtype([("symbol", "S16"), ("ts_event", "<i8"), ("ts_init", "<i8"), ("value", "<f8")])
OTHER = np.dtype([("symbol", "S16"), ("number", "<i8")])
Event = record_type(EVENT, "Event", text=("symbol",))
Other = record_type(OTHER, "Other", text=("symbol",))
EVENT_KIND, OTHER_KIND = 1, 300  # one on either side of the table of small kinds


def event(value: float, symbol: str = "A", ts: int = 0) -> Any:
    return Event(symbol=symbol, value=value, ts_init=ts)


def targets(*places: int) -> bytes:
    bits = bytearray(128)
    for place in places:
        bits[place // 8] |= 1 << place % 8
    return bytes(bits)


class Rig:
    """A message ring of events, and a Dispatcher that reads it."""

    def __init__(self, name: str, **options: Any) -> None:
        self.producer = Producer(name, **{"capacity": 1 << 16, "max_consumers": 4, **options})
        self.consumer = Consumer(name)
        self.dispatcher = Dispatcher(spin=0, key_off=0, time_off=24)
        self.seen: list[Any] = []

    def see(self, record: Any) -> None:
        self.seen.append(record.value)

    def send(self, *values: float, symbol: str = "A") -> None:
        for value in values:
            self.producer.send(event(value, symbol), kind=EVENT_KIND)

    def close(self) -> None:
        self.consumer.close()
        self.producer.close()


def run_until_it_raises(dispatcher: Dispatcher, timeout: float) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        dispatcher.run(timeout=timeout)
