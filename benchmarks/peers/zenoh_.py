"""eclipse-zenoh, two peers on a local socket with its shared-memory transport on, nothing else
discovered, publishing with congestion control "block". Frames are allocated in its shared memory,
as its documents advise; 64-byte messages are below the size at which it uses that."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from peers import End, Peer


class Zenoh(Peer):
    name = "eclipse-zenoh shared memory"
    package = "eclipse-zenoh"
    module = "zenoh"
    messages = 30_000
    rounds = 1_500
    frames = 60

    session: Any = None  # one a process, for all its links, as a program has it

    def _session(self, name: str, listen: bool) -> Any:
        import zenoh

        if self.session:
            return self.session
        endpoint = f"unixsock-stream/{os.environ['BENCH_WORKDIR']}/{name}.zenoh"
        config = zenoh.Config()
        config.insert_json5("mode", '"peer"')
        config.insert_json5("scouting/multicast/enabled", "false")
        config.insert_json5("transport/shared_memory/enabled", "true")
        config.insert_json5("listen/endpoints", json.dumps([endpoint] if listen else []))
        config.insert_json5("connect/endpoints", json.dumps([] if listen else [endpoint]))
        deadline = time.monotonic() + 10
        while True:
            try:
                self.session = zenoh.open(config)
                return self.session
            except zenoh.ZError:
                if listen or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def sender(self, link: tuple[str, int, int]) -> End:
        import zenoh

        name, size, items = link
        session = self._session(name, listen=True)
        publisher = session.declare_publisher(
            f"bench/{name}", congestion_control=zenoh.CongestionControl.BLOCK, express=True
        )
        put = publisher.put
        if size >= 65536:
            provider = zenoh.shm.ShmProvider.default_backend(size * (items + 2))
            policy = zenoh.shm.BlockOn(zenoh.shm.GarbageCollect())

            def send(data: bytes) -> None:
                buffer = provider.alloc(size, policy)
                buffer[:] = data
                put(buffer)
        else:
            send = put

        def ready() -> None:
            deadline = time.monotonic() + 10
            while not publisher.matching_status:
                if time.monotonic() > deadline:
                    raise TimeoutError("no subscriber matched")
                time.sleep(0.01)

        return End(send, session.close, ready)

    def _subscriber(self, link: tuple[str, int, int]) -> tuple[Any, Any]:
        import zenoh

        name, _, items = link
        session = self._session(name, listen=False)
        subscriber = session.declare_subscriber(
            f"bench/{name}", zenoh.handlers.FifoChannel(max(items, 1))
        )
        return session, subscriber

    def receiver(self, link: tuple[str, int, int]) -> End:
        session, subscriber = self._subscriber(link)
        receive = subscriber.recv
        return End(lambda: receive().payload.to_bytes(), session.close)

    def frame_receiver(self, link: tuple[str, int, int]) -> End:
        session, subscriber = self._subscriber(link)
        receive = subscriber.recv

        def show(check: Callable[[Any], None]) -> None:
            check(receive().payload.to_bytes())

        return End(show, session.close)


PEERS: list[Peer] = [Zenoh()]
