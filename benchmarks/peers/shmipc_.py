"""shmipc itself, through its public interface only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peers import End, Peer


class Shmipc(Peer):
    """A message ring, one by one. `spin` is how long a wait spins before it sleeps."""

    module = "shmipc"
    ours = True
    messages = 400_000
    rounds = 20_000
    frames = 300

    def __init__(self, name: str, spin: float | None) -> None:
        self.name = name
        self.spin: dict[str, Any] = {} if spin is None else {"spin": spin}
        if spin == 0:
            self.rounds = 4_000
            self.can_frames = False

    def available(self) -> str | None:
        reason = super().available()
        return "absent: not installed; pip install ." if reason else None

    def _bytes(self, link: tuple[str, int, int]) -> int:
        _, size, items = link
        return (size + 64) * items

    def sender(self, link: tuple[str, int, int]) -> End:
        import shmipc

        producer = shmipc.Producer(link[0], capacity=self._bytes(link), **self.spin)
        return End(producer.send, producer.close, producer.wait_for_consumers)

    def receiver(self, link: tuple[str, int, int]) -> End:
        import shmipc

        consumer = shmipc.Consumer(link[0], timeout=10, **self.spin)
        return End(consumer.recv, consumer.close)

    def frame_receiver(self, link: tuple[str, int, int]) -> End:
        import shmipc

        consumer = shmipc.Consumer(link[0], timeout=10, **self.spin)
        read = consumer.read

        def show(check: Callable[[Any], None]) -> None:
            with read() as frame:
                check(frame)

        return End(show, consumer.close)


class ShmipcFrames(Shmipc):
    """1080p frames as items of a typed ring, read in place as arrays."""

    def sender(self, link: tuple[str, int, int]) -> End:
        import shmipc

        _, size, items = link
        producer = shmipc.Producer(link[0], dtype="u1", shape=(size,), capacity=items, **self.spin)
        return End(producer.send, producer.close, producer.wait_for_consumers)

    def frame_receiver(self, link: tuple[str, int, int]) -> End:
        import shmipc

        consumer = shmipc.Consumer(link[0], timeout=10, **self.spin)
        read = consumer.read

        def show(check: Callable[[Any], None]) -> None:
            frame = read()
            check(frame.array)
            frame.release()

        return End(show, consumer.close)


PEERS: list[Peer] = [
    Shmipc("shmipc, spinning", float("inf")),
    Shmipc("shmipc", None),
    Shmipc("shmipc, asleep", 0),
    ShmipcFrames("shmipc typed", None),
]
