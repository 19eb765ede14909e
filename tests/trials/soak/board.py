"""What the soak's processes leave for each other, and what survives a SIGKILL of any of them.

Owns: the scoreboard, a mapped file of 64-bit words with one area a ring and one a worker; the plan
of a ring's episode; and the messages, which are a function of ring and number, so that a reader
knows what it must get. Must not know: what workers do, who kills whom.

A word is written by one process at a time and stored whole, so what a killed process had written
is there. Positions in a stream are "stamps": life << 40 | number. A life is one segment from its
creation to its removal; numbers start at 0 in each. A producer notes ATTEMPT before it commits and
ACKED after, so the ring's true count lies between the two, whenever it dies.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

MAX_RINGS = 16
MAX_WORKERS = 112
WORDS = 512  # of one area
EVENTS = 100  # kept of a worker
EVENT_BASE = 64
NUMBER_BITS = 40
NUMBER_MASK = (1 << NUMBER_BITS) - 1

# words of a ring
(
    LIFE,
    ATTEMPT,
    ACKED,
    RELEASE_TRY,
    RELEASE_ACKED,
    DELIVERED,
    PHASE,
    EPISODE,
) = range(8)
IDLE, RUN, FINISH, DRAIN = range(4)

# words of a worker
GEN, PID, BEAT, ORDER, EVENT_COUNT, FDS_FIRST, FDS_LAST, ANON_FIRST, ANON_LAST, RING = range(10)
COUNTERS = (
    "sent",
    "sent_bytes",
    "received",
    "received_bytes",
    "overwritten",
    "redelivered",
    "unsettled",
    "full_waits",
    "timeouts",
    "producer_died",
    "consumer_died",
    "closed",
    "busy",
    "opened",
    "joined",
    "took_over",
    "reserved",
    "aborted",
    "batches",
    "held",
    "forks",
    "handovers",
    "waits",
    "async_reads",
    "reclaimed",
    "lost",
    "torn",
    "disordered",
)
COUNTER = {name: 16 + index for index, name in enumerate(COUNTERS)}
LEAVE = 1

# kinds of events
TOLD_PRODUCER_DIED, TOLD_CONSUMER_DIED, EVICTED, OPENED = range(1, 5)


class Board:
    """The scoreboard file in `directory`, mapped."""

    def __init__(self, directory: str, create: bool = False) -> None:
        path = os.path.join(directory, "board")
        size = (MAX_RINGS + MAX_WORKERS) * WORDS * 8
        with open(path, "w+b" if create else "r+b") as file:
            if create:
                file.truncate(size)
            self.map = mmap.mmap(file.fileno(), size)
        self.words = memoryview(self.map).cast("Q")

    def ring(self, index: int) -> memoryview:
        return self.words[index * WORDS : (index + 1) * WORDS]

    def worker(self, slot: int) -> memoryview:
        start = (MAX_RINGS + slot) * WORDS
        return self.words[start : start + WORDS]


def note_event(worker: Any, kind: int, ring: int, start_ns: int) -> None:
    """Tell the conductor what happened now, and when the wait that ended so had begun."""
    count = worker[EVENT_COUNT]
    at = EVENT_BASE + (count % EVENTS) * 4
    worker[at] = kind
    worker[at + 1] = ring
    worker[at + 2] = start_ns
    worker[at + 3] = time.monotonic_ns()
    worker[EVENT_COUNT] = count + 1


# ---- plans ---------------------------------------------------------------------------------------

HEADER = struct.Struct("<HHIQII")  # ring, a mark, who sent it, stamp, length, checksum
MARK = 0x5AFE
SIZES = 997
_POOL_LEN = 1 << 21
_POOL = random.Random(20260101).randbytes(_POOL_LEN)
_POOL_VIEW = memoryview(_POOL)


class Plan:
    """One episode of one ring: its kind, its sizes, how it is used."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.made = made
        self.ring: int = made["ring"]
        self.name: str = made["name"]
        self.consumers: int = made["consumers"]
        self.overflow: str = made["overflow"]
        self.capacity: int = made["capacity"]
        self.item: int = made["item"]  # 0: a message ring
        self.pace: float = made["pace"]  # how often a producer pauses
        self.drag: float = made["drag"]  # how often a consumer pauses
        self.durable = self.consumers == 1 and self.overflow == "block"
        rng = random.Random(made["sizes"])
        self.sizes = [self._draw(rng) for _ in range(SIZES)]

    def _draw(self, rng: random.Random) -> int:
        if self.item:
            return self.item
        most = self.largest
        return min(
            most,
            rng.choice(
                (
                    0,
                    rng.randrange(1, HEADER.size),
                    HEADER.size,
                    rng.randrange(HEADER.size, 300),
                    rng.randrange(HEADER.size, 300),
                    rng.randrange(HEADER.size, 300),
                    rng.randrange(300, 3000),
                    most if rng.random() < 0.2 else rng.randrange(64),
                    rng.randrange(most + 1) if rng.random() < 0.3 else rng.randrange(900),
                )
            ),
        )

    @property
    def largest(self) -> int:
        """The largest message that fits this ring."""
        return self.capacity - 16

    @property
    def dtype(self) -> np.dtype[Any] | None:
        if not self.item:
            return None
        return np.dtype(
            [
                ("ring", "<u2"),
                ("mark", "<u2"),
                ("sender", "<u4"),
                ("stamp", "<u8"),
                ("length", "<u4"),
                ("crc", "<u4"),
                ("body", "u1", (self.item - HEADER.size,)),
            ]
        )

    def options(self) -> dict[str, Any]:
        """The keywords of Producer()."""
        given = {
            "capacity": self.capacity,
            "max_consumers": self.consumers,
            "overflow": self.overflow,
        }
        return {**given, "dtype": self.dtype} if self.item else given

    def describe(self) -> str:
        kind = f"typed {self.item} B x {self.capacity}" if self.item else f"{self.capacity} B"
        return f"{kind}, {self.overflow}, consumers={self.consumers}"

    # ---- messages

    def message(self, stamp: int, sender: int) -> bytes:
        """The message of this stamp."""
        number = stamp & NUMBER_MASK
        size = self.sizes[number % SIZES]
        start = (number * 2654435761 + self.ring * 40503) % (_POOL_LEN - size)
        if size < HEADER.size:
            return _POOL[start : start + size]
        body = _POOL_VIEW[start : start + size - HEADER.size]
        head = HEADER.pack(self.ring, MARK, sender, stamp, size, 0)
        crc = zlib.crc32(body, zlib.crc32(head[:20]))
        return b"".join((head[:20], crc.to_bytes(4, "little"), body))

    def fault(self, data: Any, number: int, life: int | None) -> tuple[str | None, int | None]:
        """What is wrong with the bytes of message `number`, or None; and the life they name."""
        size = len(data)
        expected = self.sizes[number % SIZES]
        if size != expected:
            return f"has {size} bytes instead of {expected}", None
        if size < HEADER.size:
            start = (number * 2654435761 + self.ring * 40503) % (_POOL_LEN - size)
            whole = bytes(data) == _POOL[start : start + size]
            return None if whole else f"TORN: {bytes(data)!r}", None
        ring, mark, sender, stamp, length, crc = HEADER.unpack_from(data)
        if zlib.crc32(data[HEADER.size :], zlib.crc32(data[:20])) != crc:
            return f"TORN: checksum (header {ring, mark, sender, stamp, length})", None
        if (ring, mark, stamp & NUMBER_MASK, length) != (self.ring, MARK, number, size):
            found = f"ring {ring} number {stamp & NUMBER_MASK} length {length}"
            return f"is another: {found} from {sender}", None
        if life is not None and stamp >> NUMBER_BITS != life:
            return f"is of life {stamp >> NUMBER_BITS}, not {life}", None
        return None, stamp >> NUMBER_BITS


def save_plan(directory: str, plan: Plan) -> None:
    path = Path(directory) / f"plan.{plan.ring}"
    path.with_suffix(".new").write_text(json.dumps(plan.made))
    path.with_suffix(".new").replace(path)


def load_plan(directory: str, ring: int) -> Plan:
    return Plan(json.loads((Path(directory) / f"plan.{ring}").read_text()))


def draw_plan(rng: random.Random, ring: int) -> Plan:
    """A ring of any sort: small ones are full most of the time."""
    item = 0
    if rng.random() < 0.35:
        item = rng.choice((32, 64, 104, 504, 4032, 4096, 8192))
        capacity = rng.choice((1, 4, 16, 64, 1000))
        if capacity * item > 1 << 20:
            capacity = 16
    else:
        capacity = rng.choice((4096, 4096, 8192, 65536, 1 << 18, 1 << 20))
    overflow = "overwrite" if rng.random() < 0.3 else "block"
    consumers = 1 if overflow == "block" and rng.random() < 0.45 else rng.randrange(2, 5)
    return Plan(
        {
            "ring": ring,
            "name": f"r{ring}",
            "consumers": consumers,
            "overflow": overflow,
            "capacity": capacity,
            "item": item,
            "pace": rng.choice((0.0, 0.002, 0.02, 0.2)),
            "drag": rng.choice((0.0, 0.0, 0.002, 0.02)),
            "sizes": rng.randrange(1 << 30),
        }
    )
