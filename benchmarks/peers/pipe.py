"""multiprocessing.Pipe, one way, with send_bytes and recv_bytes: no pickling."""

from __future__ import annotations

from multiprocessing.context import BaseContext
from typing import Any

from peers import End, Peer


class Pipe(Peer):
    name = "multiprocessing.Pipe"
    module = "multiprocessing"
    frames = 60

    def create(self, context: BaseContext, name: str, size: int, items: int) -> Any:
        return context.Pipe(duplex=False)

    def sender(self, link: Any) -> End:
        return End(link[1].send_bytes, link[1].close)

    def receiver(self, link: Any) -> End:
        return End(link[0].recv_bytes, link[0].close)


PEERS: list[Peer] = [Pipe()]
