"""mmbus: a TopicPublisher handle, as its documents advise for hot loops, and a Subscription, with
the write-ahead log off. A full ring raises, and we retry."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from peers import End, Peer


class Mmbus(Peer):
    name = "mmbus"
    package = "mmbus"
    module = "mmbus"

    def _bus(self, link: tuple[str, int, int]) -> Any:
        import mmbus

        name, size, items = link
        return mmbus.Bus(
            name,
            base_dir=os.environ["BENCH_WORKDIR"] + "/mmbus",
            capacity=items,
            slot_size=size,
            wal_enabled=False,
        )

    def sender(self, link: tuple[str, int, int]) -> End:
        import mmbus

        topic = self._bus(link).topic("t")
        publish, full = topic.publish, mmbus.BusFullError

        def send(data: bytes) -> None:
            while True:
                try:
                    publish(data)
                except full:
                    continue
                return

        return End(send, lambda: None, lambda: topic.wait_for_subscribers(1))

    def receiver(self, link: tuple[str, int, int]) -> End:
        subscription = self._bus(link).subscribe("t", timeout_secs=10.0)
        return End(subscription.recv)

    def frame_receiver(self, link: tuple[str, int, int]) -> End:
        subscription = self._bus(link).subscribe("t", timeout_secs=10.0)
        buffer = bytearray(link[1])
        receive_into = subscription.recv_into

        def show(check: Callable[[Any], None]) -> None:
            receive_into(buffer)
            check(buffer)

        return End(show)


PEERS: list[Peer] = [Mmbus()]
