"""pyzmq, a PAIR over ipc://, with its default high-water mark. Frames are sent and received with
copy=False, as its documents advise for large messages."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from peers import End, Peer


class ZeroMQ(Peer):
    name = "pyzmq ipc://"
    package = "pyzmq"
    module = "zmq"

    def _socket(self, name: str, bind: bool) -> Any:
        import zmq

        socket: Any = zmq.Context.instance().socket(zmq.PAIR)
        address = f"ipc://{os.environ['BENCH_WORKDIR']}/{name}.zmq"
        if bind:
            socket.bind(address)
        else:
            socket.connect(address)
        return socket

    def sender(self, link: tuple[str, int, int]) -> End:
        socket = self._socket(link[0], bind=True)
        if link[1] < 65536:
            return End(socket.send, socket.close)
        return End(lambda data: socket.send(data, copy=False), socket.close)

    def receiver(self, link: tuple[str, int, int]) -> End:
        socket = self._socket(link[0], bind=False)
        return End(socket.recv, socket.close)

    def frame_receiver(self, link: tuple[str, int, int]) -> End:
        socket = self._socket(link[0], bind=False)

        def show(check: Callable[[Any], None]) -> None:
            check(socket.recv(copy=False).buffer)

        return End(show, socket.close)


PEERS: list[Peer] = [ZeroMQ()]
