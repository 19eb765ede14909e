"""faster-fifo: a circular buffer under a process-shared mutex; put and get, pickling as it does."""

from __future__ import annotations

from multiprocessing.context import BaseContext
from typing import Any

from peers import End, Peer


class FasterFifo(Peer):
    name = "faster-fifo"
    package = "faster-fifo"
    module = "faster_fifo"
    rounds = 2_000

    def create(self, context: BaseContext, name: str, size: int, items: int) -> Any:
        from faster_fifo import Queue

        return Queue(max_size_bytes=(size + 128) * items)

    def sender(self, link: Any) -> End:
        return End(link.put)

    def receiver(self, link: Any) -> End:
        return End(link.get)


PEERS: list[Peer] = [FasterFifo()]
