"""tachyon-ipc: one Bus each way; send copies in, receiving copies out; frames are read in place.
A full bus raises, and we retry."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from peers import End, Peer

# Its consumer gives room back in batches: a ring of 21 frames fills up for good while the consumer
# waits, although it has read them all. So the ring holds more than that, whatever is asked for.
HELD_BACK = 40


class Tachyon(Peer):
    name = "tachyon-ipc"
    package = "tachyon-ipc"
    module = "tachyon"
    messages = 100_000
    rounds = 4_000

    def _path(self, link: tuple[str, int, int]) -> str:
        return f"{os.environ['BENCH_WORKDIR']}/{link[0]}.sock"

    def sender(self, link: tuple[str, int, int]) -> End:
        import tachyon

        deadline = time.monotonic() + 10
        while True:
            try:
                bus = tachyon.Bus.connect(self._path(link))
                break
            except (OSError, tachyon.TachyonError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        bus.__enter__()
        offer = bus.send

        def send(data: bytes) -> None:
            while True:
                try:
                    offer(data)
                except tachyon.TachyonError:  # full; a closed bus ends at the run's deadline
                    continue
                return

        return End(send, lambda: bus.__exit__(None, None, None))

    def _listen(self, link: tuple[str, int, int]) -> Any:
        import tachyon

        _, size, items = link
        capacity = 1 << ((size + 128) * max(items, HELD_BACK) - 1).bit_length()
        bus = tachyon.Bus.listen(self._path(link), capacity)
        bus.__enter__()
        return bus

    def receiver(self, link: tuple[str, int, int]) -> End:
        bus = self._listen(link)
        following = iter(bus).__next__
        return End(lambda: following().data, lambda: bus.__exit__(None, None, None))

    def frame_receiver(self, link: tuple[str, int, int]) -> End:
        bus = self._listen(link)

        def show(check: Callable[[Any], None]) -> None:
            with bus.recv_zero_copy() as received, memoryview(received) as memory:
                check(memory)

        return End(show, lambda: bus.__exit__(None, None, None))


PEERS: list[Peer] = [Tachyon()]
