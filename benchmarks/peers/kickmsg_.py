"""kickmsg publish-subscribe. Its publisher never waits: it overwrites what a subscriber has not
read. So that nothing is lost, as everywhere here, the receiver acknowledges every quarter of the
ring through a second region, and the sender keeps within it. Receiving polls: the fastest way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from peers import End, Peer


class Kickmsg(Peer):
    name = "kickmsg"
    package = "kickmsg"
    module = "kickmsg"
    messages = 100_000
    rounds = 10_000

    def _open(self, name: str, size: int, items: int) -> Any:
        import kickmsg

        config = kickmsg.Config()
        config.max_subscribers = 1
        config.sub_ring_capacity = items
        config.pool_size = 2 * items
        config.max_payload_size = size
        return kickmsg.SharedRegion.create_or_open(
            f"/bench-{name}", kickmsg.ChannelType.PubSub, config
        )

    def sender(self, link: tuple[str, int, int]) -> End:
        import kickmsg

        name, size, items = link
        region, acks = self._open(*link), self._open(name + "-acks", 8, 8)
        publisher, acknowledged = kickmsg.Publisher(region), kickmsg.Subscriber(acks).try_receive
        publish, allocate = publisher.send, publisher.allocate
        room, quarter = items, items // 4

        def make_room() -> None:
            nonlocal room
            while acknowledged() is None:
                pass
            room += quarter

        def send(data: bytes) -> None:
            nonlocal room
            if not room:
                make_room()
            room -= 1
            publish(data)

        def send_frame(data: bytes) -> None:
            nonlocal room
            if not room:
                make_room()
            room -= 1
            slot: Any = allocate()
            memoryview(slot)[:size] = data
            slot.publish(size)

        def ready() -> None:
            deadline = time.monotonic() + 10
            while not region.stats().live_rings:
                if time.monotonic() > deadline:
                    raise TimeoutError("no subscriber came")

        def close() -> None:
            region.unlink()
            acks.unlink()

        return End(send if size < 65536 else send_frame, close, ready)

    def _receiver(self, link: tuple[str, int, int], in_place: bool) -> End:
        import kickmsg

        name, _, items = link
        region, acks = self._open(*link), self._open(name + "-acks", 8, 8)
        subscriber = kickmsg.Subscriber(region)
        poll, view = subscriber.try_receive, subscriber.try_receive_view
        acknowledge = kickmsg.Publisher(acks).send
        quarter = items // 4
        taken = 0

        def count() -> None:
            nonlocal taken
            taken += 1
            if taken == quarter:
                taken = 0
                acknowledge(b"ack")

        def receive() -> Any:
            message: Any = poll()
            while message is None:
                message = poll()
            count()
            return message

        def show(check: Callable[[Any], None]) -> None:
            sample = view()
            while sample is None:
                sample = view()
            with sample, memoryview(sample) as memory:
                check(memory)
            count()

        def ready() -> None:
            deadline = time.monotonic() + 10
            while not acks.stats().live_rings:
                if time.monotonic() > deadline:
                    raise TimeoutError("no sender came")

        return End(show if in_place else receive, lambda: None, ready)

    def receiver(self, link: tuple[str, int, int]) -> End:
        return self._receiver(link, in_place=False)

    def frame_receiver(self, link: tuple[str, int, int]) -> End:
        return self._receiver(link, in_place=True)


PEERS: list[Peer] = [Kickmsg()]
