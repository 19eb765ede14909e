"""What is no segment of version 1 by docs/format.md is refused by the stranger and by the package
alike, and so is what contradicts itself."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_layout import GEOMETRY

import shmipc
import stranger
import stranger_segment
from helpers import put_u64, segment_path
from shmipc import Consumer, Producer


def attach(name: str, start: str = "latest") -> stranger.Consumer:
    return stranger.Consumer(str(segment_path(name)), start)


def read_as_a_stranger(name: str) -> None:
    consumer = attach(name, "earliest")
    try:
        while consumer.recv() is not None:
            pass
    finally:
        consumer.die()


def read_ours(name: str) -> None:
    with Consumer(name, timeout=0, start="earliest") as consumer:
        while True:
            consumer.recv(0)


def write(name: str, **options: Any) -> stranger.Writer:
    return stranger.Writer(str(segment_path(name)), **options)


# ---- what both refuse ----------------------------------------------------------------------------

LIES: list[tuple[str, int]] = [
    ("version", 0),
    ("version", 2),
    ("byte_order", 0x04030201),
    ("framing", 0),
    ("framing", 3),
    ("overflow", 0),
    ("overflow", 3),
    ("slots", 0),
    ("slots", 1),
    ("slots", 3),
    ("slots", 1025),
    ("schema_len", 1),
    ("schema_len", 65537),
    ("schema_hash", 1),
    ("item_len", 0),
    ("item_len", 7),
    ("item_len", 2**63),
    ("item_stride", 0),
    ("item_stride", 9),
    ("schema_off", 896),
    ("schema_off", 2**64 - 1),
    ("data_off", 0),
    ("data_off", 4095),
    ("data_off", 8192),
    ("data_off", 2**31),
    ("area_len", 0),
    ("area_len", 2048),
    ("area_len", 8192),
    ("area_len", 12288),
    ("area_len", 2**63),
    ("magic", 0),
]


def verdict(attempt: Callable[[], Any]) -> bool:
    """Is the ring taken? It must be or be refused, and nothing else."""
    try:
        attempt()
    except (stranger_segment.Refused, shmipc.Corrupt):
        return False
    return True


@pytest.mark.parametrize(("field", "value"), LIES)
@pytest.mark.parametrize("typed", [False, True])
def test_lie_in_the_geometry_is_refused_by_both(field: str, value: int, typed: bool) -> None:
    options: dict[str, Any] = {"dtype": "<u8"} if typed else {}
    with Producer("f", capacity=100, max_consumers=2, **options) as producer:
        producer.send(bytes(8))
        content = bytearray(segment_path("f").read_bytes())
    offset, code = GEOMETRY[field]
    was = bytes(content)
    if field == "magic":
        content[0] ^= 1
    else:
        struct.pack_into("<" + code, content, offset, value)
    path = segment_path("g")
    path.write_bytes(content)

    def ours() -> None:
        Consumer("g", timeout=0, start="earliest").close()

    unseen = not typed and field.startswith("schema_") and field != "schema_off" and value != 65537
    taken = was == content or unseen  # a message ring's schema is nobody's business
    assert verdict(lambda: attach("g", "earliest").leave()) == verdict(ours) == taken
    path.unlink(missing_ok=True)


def test_both_refuse_a_file_that_is_cut_or_has_holes() -> None:
    with Producer("f", capacity=100, max_consumers=2) as producer:
        producer.send(bytes(8))
        content = segment_path("f").read_bytes()
    for length in (0, 50, 96, 4096, len(content) - 1, len(content) + 4096):
        segment_path("g").write_bytes(content[:length].ljust(length, b"\0"))
        assert not verdict(lambda: attach("g"))
        assert not verdict(lambda: Consumer("g", timeout=0))
    with open(segment_path("g"), "wb") as file:
        file.write(content[:4096])
        file.truncate(len(content))
    assert not verdict(lambda: attach("g"))
    assert not verdict(lambda: Consumer("g", timeout=0))
    segment_path("g").unlink()


DTYPES: list[Any] = [
    "<f8",
    "u1",
    "S16",
    "<U4",
    "<M8[ns]",
    "?",
    "V7",
    "<c16",
    [("a", "<u4"), ("b", ">f8", (2, 3)), ("it's", "S3")],
    np.dtype([("a", "u1"), ("b", "<i4"), ("c", "u1")], align=True),
    [(("title", "name"), "<i2"), ("nested", [("x", "<f4"), ("y", "<f4", (2,))], (3,))],
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_stranger_understands_every_schema(dtype: Any, shape: tuple[int, ...]) -> None:
    with Producer("f", dtype=dtype, shape=shape) as producer:
        consumer = attach("f")
        item = np.zeros(shape, dtype)
        assert consumer.segment.geometry.item_len == item.nbytes
        producer.send(item.tobytes())
        got = consumer.recv()
        assert got is not None
        assert got.data == item.tobytes()
        consumer.leave()


@pytest.mark.parametrize(
    "schema",
    [
        "('<u8', ())x",
        "('<u8', ()",
        "('<u8', (1))",
        "('<u8', (-1,))",
        "('<u8', (1,), 2)",
        "('<u8')",
        "'<u8'",
        "[('<u8', ())]",
        "('<u8', (__import__('os').getpid(),))",
        "('<u8' , (1 ** 1,))",
        "('\\ud800', ())",
        "('<u8', (" + "1" * 21 + ",))",
        "(" * 70 + ")" * 70,
        "('<u4', ())",
        "([('a', '|O')], ())",
        "",
    ],
)
def test_schema_outside_the_grammar_is_refused_by_both(schema: str) -> None:
    write("f", slots=2, area_len=4096, schema=schema, item_len=8).die()
    assert not verdict(lambda: attach("f", "earliest"))
    assert not verdict(lambda: Consumer("f", timeout=0))
    segment_path("f").unlink()


def test_lying_positions_are_damage_to_both() -> None:
    for offset, value in (
        (128, 8),
        (128, 8192),
        (128, 2**63),
        (256, 4096),
        (4096, 0),
        (4096, 2**32),
    ):
        for name in ("f", "g"):
            writer = write(name, slots=2, area_len=4096)
            writer.send(b"some bytes")
            writer.die()
            put_u64(segment_path(name), offset, value)
        with pytest.raises(stranger_segment.Damaged):
            read_as_a_stranger("f")
        with pytest.raises(shmipc.Corrupt):
            read_ours("g")
        for name in ("f", "g"):
            segment_path(name).unlink(missing_ok=True)
