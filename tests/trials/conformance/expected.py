"""What a stream must look like, worked out here: two peers that agree are no proof.

Owns: the generator and the digest of README.md, once more, for whole streams at a time; records by
their fields. Shares no code with any peer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

U64 = np.uint64
FORMAT = "<QdfihHBb10s3i4x"  # of a record
DTYPE = (
    "[('id', '<u8'), ('price', '<f8'), ('ratio', '<f4'), ('quantity', '<i4'), ('level', '<i2'), "
    "('code', '<u2'), ('side', '|u1'), ('sign', '|i1'), ('tag', '|S10'), "
    "('levels', '<i4', (3,)), ('', '|V4')]"
)


def mix(x: Any) -> Any:
    """splitmix64's step and finalizer, of an array of uint64."""
    z = np.asarray(x, U64) + U64(0x9E3779B97F4A7C15)
    z ^= z >> U64(30)
    z *= U64(0xBF58476D1CE4E5B9)
    z ^= z >> U64(27)
    z *= U64(0x94D049BB133111EB)
    return z ^ (z >> U64(31))


@dataclass(frozen=True)
class Plan:
    """Messages `first` to `first + count` of the stream `seed`: lengths, kinds, flags, bytes."""

    seed: int
    count: int
    low: int = 0
    high: int = 0
    first: int = 0
    kind: int = -1
    flags: int = -1

    def after(self, count: int, more: int | None = None) -> Plan:
        """What follows the first `count` of these."""
        left = self.count - count if more is None else more
        return replace(self, first=self.first + count, count=left)

    def head(self, count: int) -> Plan:
        return replace(self, count=count)

    def words(self) -> str:
        """As `send` takes them."""
        return (
            f"{self.seed} {self.first} {self.count} {self.low} {self.high} {self.kind} {self.flags}"
        )


@dataclass(frozen=True)
class Stream:
    """The digest of each message, and its length."""

    digests: Any
    lengths: Any

    def total(self, runs: list[tuple[int, int]] | None = None) -> int:
        """Of those in `runs` of (first, count), or of all; modulo 2^64."""
        if runs is None:
            return int(self.digests.sum(dtype=U64))
        return sum(int(self.digests[a : a + n].sum(dtype=U64)) for a, n in runs) & (2**64 - 1)

    def bytes(self, runs: list[tuple[int, int]] | None = None) -> int:
        if runs is None:
            return int(self.lengths.sum())
        return sum(int(self.lengths[a : a + n].sum()) for a, n in runs)


def stream(plan: Plan, seq: int | None = None) -> Stream:
    """What a consumer must see of it; `seq`: the number that the ring gave its first message."""
    numbers = np.arange(plan.first, plan.first + plan.count, dtype=U64)
    starts = mix(numbers + U64(plan.seed))
    lengths = U64(plan.low) + (starts >> U64(8)) % U64(plan.high - plan.low + 1)
    kinds = U64(1) + (starts >> U64(32)) % U64(65535) if plan.kind < 0 else U64(plan.kind)
    flags = starts >> U64(48) if plan.flags < 0 else U64(plan.flags)
    counts = (lengths + U64(7)) >> U64(3)  # words of each
    ends = np.cumsum(counts)
    total = int(ends[-1]) if plan.count else 0
    owner = np.repeat(np.arange(plan.count), counts.astype(np.int64))
    places = np.arange(total, dtype=U64) - np.repeat(ends - counts, counts.astype(np.int64))
    words = mix(starts[owner] + U64(1) + places)
    tails = np.flatnonzero(lengths & U64(7))
    last = (ends[tails] - U64(1)).astype(np.int64)
    words[last] &= (U64(1) << (U64(8) * (lengths[tails] & U64(7)))) - U64(1)
    sums = np.zeros(total + 1, U64)
    np.cumsum(mix(words ^ mix(places)), out=sums[1:])
    ends = ends.astype(np.int64)
    sums = lengths + sums[ends] - sums[ends - counts.astype(np.int64)]
    seqs = numbers if seq is None else np.arange(seq, seq + plan.count, dtype=U64)
    return Stream(mix(mix(mix(seqs) ^ (kinds << U64(16) | flags)) ^ sums), lengths)


def record(number: int) -> bytes:
    """The bytes of record `number`."""
    r = int(mix(np.array([number], U64))[0])
    raw = r.to_bytes(8, "little")
    price, level, quantity = struct.unpack("<i", raw[:4])[0], raw[2:4], raw[4:8]
    return struct.pack(
        FORMAT,
        r,
        price / 64,
        struct.unpack("<h", raw[:2])[0] / 4,
        struct.unpack("<i", quantity)[0],
        struct.unpack("<h", level)[0],
        struct.unpack("<H", raw[3:5])[0],
        raw[5],
        struct.unpack("<b", raw[6:7])[0],
        b"T%d" % (r >> 50),
        *(struct.unpack("<i", raw[1:5])[0], -1, number),
    )


def record_line(number: int, seq: int) -> str:
    """As `get` prints it."""
    fields = list(struct.unpack(FORMAT, record(number)))
    fields[1], fields[2] = int(fields[1] * 64), int(fields[2] * 4)
    fields[8] = fields[8].rstrip(b"\0").decode()
    return ",".join(map(str, (seq, *fields)))


def schema(dtype: str, shape: tuple[int, ...]) -> str:
    """The text that stands in a typed ring for a dtype that numpy knows."""
    import ast

    given = ast.literal_eval(dtype) if dtype.startswith("[") else dtype
    found = np.lib.format.descr_to_dtype(given)
    return f"({np.lib.format.dtype_to_descr(found)!r}, {shape!r})"
