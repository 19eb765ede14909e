"""What the demo's processes use to prove what they claim.

Owns the patterns, the order and content checks, the zero-copy test and the percentiles. Knows
nothing of processes or of printing. The zero-copy test asks the kernel (``/proc/self/maps``)
where the segment is mapped, not the library.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shmipc import _names
from shmipc.trading.capture import BOOK_TICKER, EVENT, FIRST, LAST

#: Set in a tick's flags, and as a frame's stamp, when it was sent at a measured pace: only
#: then is its age a latency rather than the time it queued behind others.
PACED = 128

FRAME_SHAPE = (1080, 1920, 3)
_STAMP_MAGIC = 0x6D61_7266_6369_6D73
_STAMP_LEN = 32  # four int64 in the frame's first pixels: magic, number, time, paced
_WORDS_MASK = (1 << 64) - 1


class SequenceProof:
    """Check ticks numbered 0, 1, 2, ... for count, order and content, a batch at a time.

    Every id is compared with the one expected there, and every 64-bit word is added up
    modulo 2**64, so that producer and consumer can compare ``value()``.
    """

    def __init__(self) -> None:
        self.count = 0
        self.fault: str | None = None
        self._total = 0
        self._ramp = np.arange(8192, dtype=np.int64)

    def add(self, records: NDArray[Any]) -> None:
        """Check the next `records`, where they lie."""
        for start in range(0, len(records), len(self._ramp)):
            part = records[start : start + len(self._ramp)]
            expected = self._ramp[: len(part)] + self.count
            if self.fault is None and not np.array_equal(part["id"], expected):
                at = int(np.argmax(part["id"] != expected))
                self.fault = f"expected tick {int(expected[at])}, got {int(part['id'][at])}"
            self._total += int(part.view(np.uint64).sum(dtype=np.uint64))
            self.count += len(part)

    def value(self) -> str:
        """Return count and content sum as one comparable string."""
        return f"{self.count}:{self._total & _WORDS_MASK:016x}"


def make_ticks(n: int) -> NDArray[np.void]:
    """Return `n` quotes numbered from 0, as ``capture.EVENT`` records of 64 bytes."""
    ticks = np.zeros(n, EVENT)
    ticks["id"] = np.arange(n)
    ticks["price"] = 61_800.0 + np.arange(n) % 97 * 0.1
    ticks["ask_price"] = ticks["price"] + 0.1
    ticks["size"] = ticks["ask_size"] = 1.0 + np.arange(n) % 13
    ticks["kind"] = BOOK_TICKER
    ticks["flags"] = FIRST | LAST
    return ticks


def make_pictures(n: int = 3) -> list[NDArray[np.uint8]]:
    """Return `n` different 1080p pictures, every pixel of each known to both sides.

    Three, and not as many as the ring has room for, so that what an earlier lap left in a slot
    never passes for the frame that belongs there.
    """
    height, width, depth = FRAME_SHAPE
    y = np.arange(height, dtype=np.uint32)[:, None, None]
    x = np.arange(width, dtype=np.uint32)[None, :, None]
    c = np.arange(depth, dtype=np.uint32)[None, None, :]
    return [((y * 3 + x * 5 + c * 7 + (y * x >> 6) + k * 85) & 255).astype("u1") for k in range(n)]


def stamp_frame(image: NDArray[np.uint8], number: int, sent_ns: int, paced: bool) -> None:
    """Write the frame's number and time over its first pixels."""
    stamp = image.reshape(-1)[:_STAMP_LEN].view(np.int64)
    stamp[:] = (_STAMP_MAGIC, number, sent_ns, PACED if paced else 0)


def read_stamp(image: NDArray[np.uint8]) -> tuple[int, int, bool] | None:
    """Return the frame's number, time and pace, or None where there is no stamp."""
    magic, number, sent_ns, paced = image.reshape(-1)[:_STAMP_LEN].view(np.int64).tolist()
    return (number, sent_ns, paced == PACED) if magic == _STAMP_MAGIC else None


def picture_matches(image: NDArray[np.uint8], picture: NDArray[np.uint8], *, whole: bool) -> bool:
    """Compare a received frame with its picture: at a few hundred places, or `whole`."""
    if image.shape != picture.shape:
        return False
    if whole:
        flat, expected = image.reshape(-1), picture.reshape(-1)
        return np.array_equal(flat[_STAMP_LEN:], expected[_STAMP_LEN:])
    # the last row, a column to the right of the stamp, and a coarse grid
    return (
        np.array_equal(image[-1, ::61], picture[-1, ::61])
        and np.array_equal(image[::47, -1], picture[::47, -1])
        and np.array_equal(image[90::180, 160::320], picture[90::180, 160::320])
    )


class RingMemory:
    """Where the kernel has mapped a ring's segment into this process."""

    def __init__(self, name: str) -> None:
        path = _names.segment_path(name)
        inode, file_name = os.stat(path).st_ino, os.path.basename(path)
        ranges: list[tuple[int, int]] = []
        with open("/proc/self/maps") as maps:
            for line in maps:
                fields = line.split(maxsplit=5)
                if len(fields) < 6 or int(fields[4]) != inode or file_name not in fields[5]:
                    continue
                start, end = (int(part, 16) for part in fields[0].split("-"))
                if ranges and ranges[-1][1] == start:  # mapped twice, back to back
                    ranges[-1] = (ranges[-1][0], end)
                else:
                    ranges.append((start, end))
        self._ranges = ranges

    def holds(self, array: NDArray[Any]) -> bool:
        """Tell whether all of `array` lies on the ring's memory and none of it is a copy."""
        first = int(array.__array_interface__["data"][0])
        past = first + sum(
            (n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)
        )
        past += array.itemsize
        inside = any(start <= first and past <= end for start, end in self._ranges)
        return inside and not array.flags.owndata and not array.flags.writeable


def percentiles_us(samples_ns: Sequence[int] | NDArray[np.int64]) -> tuple[float, float] | None:
    """Return the median and the 99th percentile in us, or None without samples."""
    if len(samples_ns) == 0:
        return None
    p50, p99 = np.percentile(np.asarray(samples_ns, dtype=np.float64), [50, 99])
    return float(p50) / 1e3, float(p99) / 1e3
