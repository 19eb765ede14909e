"""What a failure must leave alone: a peer in another process, and what this process has open."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from helpers import Peer
from shmipc import Consumer, Frame, Producer, Reservation, _core


class Bystander:
    """A ring of this process with a peer in another one; its traffic must never notice."""

    def __init__(self) -> None:
        self.peer = Peer(
            """
            consumer, answers = Consumer("ping"), Producer("pong")
            say("ready")
            for frame in consumer:
                answers.send(frame)
            answers.close()
            """
        )
        self.producer = Producer("ping")
        self.consumer = Consumer("pong")
        self.peer.expect()
        self.sent = 0

    def check(self) -> None:
        self.sent += 1
        self.producer.send(b"%d" % self.sent)
        assert self.consumer.recv(20) == b"%d" % self.sent

    def close(self) -> None:
        self.producer.close()
        self.peer.finish()
        self.consumer.close()
        self.peer.__exit__(None, None, None)


def belongings() -> tuple[int, int, list[str], list[int]]:
    """Descriptors, mappings of segments, files, and references to our types."""
    directory = Path(os.environ["SHMIPC_DIR"])
    with open("/proc/self/maps") as maps:
        mapped = sum(str(directory) in line for line in maps)
    kinds = (Producer, Consumer, Frame, Reservation, _core.Error)
    references = [sys.getrefcount(kind) for kind in kinds]
    files = sorted(path.name for path in directory.iterdir())
    return len(os.listdir("/proc/self/fd")), mapped, files, references
