"""Item types of every sort, and items of them."""

from __future__ import annotations

from typing import Any

import numpy as np

TICK = np.dtype([("time", "<i8"), ("price", "<f8"), ("size", "<u4"), ("side", "u1")])
ALIGNED = np.dtype([("side", "u1"), ("price", "<f8"), ("name", "S3")], align=True)
NESTED = np.dtype([("id", "<u2"), ("levels", TICK, (3,)), ("grid", "<f4", (2, 2))])

SCHEMAS: list[tuple[Any, Any]] = [
    ("u1", ()),
    ("<f8", ()),
    (">f8", ()),
    (">i4", (3,)),
    ("<c16", (2,)),
    ("?", (7,)),
    ("<f2", (5, 1)),
    ("S5", ()),
    ("<U3", (2,)),
    ("V9", ()),
    ("<M8[ns]", ()),
    ("<m8[us]", (2,)),
    (TICK, ()),
    (TICK, (4,)),
    (ALIGNED, ()),
    (NESTED, ()),
    (">u2", (24, 32, 3)),
    ("u1", (4095,)),
    ("u1", (4096,)),
    ("u1", (4097,)),
    ("<f8", (3, 5, 7, 11)),
]


def sample(dtype: Any, shape: Any, count: int, seed: int = 7) -> np.ndarray[Any, Any]:
    """`count` items of random bytes that are valid values of the dtype."""
    dtype = np.dtype(dtype)
    length = dtype.itemsize * int(np.prod(shape, dtype=int)) * count
    raw = np.random.default_rng(seed).integers(33, 100, length, dtype="u1")
    if dtype.kind == "?" or dtype.kind == "b":
        raw &= 1
    if dtype.kind == "U":
        raw = (raw.view("<u1") & 0x3F).astype("<u4")[: length // 4].view("u1")
    return raw.view(dtype).reshape((count, *shape))  # type: ignore[no-any-return]


def same(one: Any, other: Any) -> bool:
    return bool(
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )
