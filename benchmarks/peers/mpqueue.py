"""multiprocessing.Queue: put and get, as every program has it (a feeder thread and pickling)."""

from __future__ import annotations

from multiprocessing.context import BaseContext
from typing import Any

from peers import End, Peer


class Queue(Peer):
    name = "multiprocessing.Queue"
    module = "multiprocessing"
    messages = 30_000
    rounds = 2_000
    frames = 60

    def create(self, context: BaseContext, name: str, size: int, items: int) -> Any:
        return context.Queue(items)

    def sender(self, link: Any) -> End:
        def close() -> None:
            link.close()
            link.join_thread()

        return End(link.put, close)

    def receiver(self, link: Any) -> End:
        return End(link.get, link.close)


PEERS: list[Peer] = [Queue()]
