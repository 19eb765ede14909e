"""The Python systems that are measured: ours and those a user would pick instead.

One module a system, each with `PEERS`, a list of `Peer`. To add one, write such a module and name
it in `MODULES`. A library is imported only in the process that uses it, never before a fork.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any

MODULES = (
    "shmipc_",
    "pipe",
    "mpqueue",
    "zeromq",
    "fasterfifo",
    "iceoryx",
    "kickmsg_",
    "tachyon_",
    "mmbus_",
    "zenoh_",
)


@dataclass
class End:
    """One end of a link in its own process.

    `call` sends one bytes-like message, or receives one: the fastest callable that the system's
    documents advise. `ready` returns when the other end is known to be there.
    """

    call: Callable[..., Any]
    close: Callable[[], object] = lambda: None
    ready: Callable[[], object] = lambda: None


class Peer:
    """A system and how to link two processes with it.

    Attributes:
        name: as printed.
        package: what `pip install` needs; None for the standard library and for ourselves.
        module: what must be importable for it.
        messages, rounds, frames: how many make one repetition: a few tenths of a second.
        ours: whether it is ours.
    """

    name = ""
    package: str | None = None
    module = ""
    messages = 100_000
    rounds = 4_000
    frames = 100
    ours = False
    can_frames = True

    def available(self) -> str | None:
        """None when it can be used here, else why not and how to get it."""
        if importlib.util.find_spec(self.module) is None:
            return f"absent: not installed; pip install {self.package or self.module}"
        return None

    def create(self, context: BaseContext, name: str, size: int, items: int) -> Any:
        """Make, in the parent process, what both ends need to find each other: the link.

        Args:
            context: the multiprocessing context that the ends are started with.
            name: unique to this link and run; letters, digits and `-`.
            size: bytes of the largest message.
            items: how many messages may be under way.
        """
        return name, size, items

    def sender(self, link: Any) -> End:
        """Open the sending end in this process."""
        raise NotImplementedError

    def receiver(self, link: Any) -> End:
        """Open the receiving end in this process."""
        raise NotImplementedError

    def frame_receiver(self, link: Any) -> End:
        """As `receiver`, but `call(check)` shows each frame to `check` where it lies, if it can."""
        end = self.receiver(link)
        receive = end.call

        def show(check: Callable[[Any], None]) -> None:
            check(receive())

        return End(show, end.close, end.ready)


def all_peers() -> list[Peer]:
    """Every peer of every module, ours first."""
    found: list[Peer] = []
    for module in MODULES:
        found.extend(importlib.import_module(f"peers.{module}").PEERS)
    return found


def find(name: str) -> Peer:
    """The peer with this name."""
    for peer in all_peers():
        if peer.name == name:
            return peer
    raise SystemExit(f"no peer is called {name!r}")
