"""The bytes of a segment, compared with tables written by hand.

src/core/base/layout.h asserts the same offsets in C. A change here is a change of the format
version.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from helpers import segment_path
from shmipc import Consumer, Producer

PAGE = os.sysconf("SC_PAGESIZE")

# name: (offset, struct code)
GEOMETRY = {
    "magic": (0, "8s"),
    "version": (8, "I"),
    "byte_order": (12, "I"),
    "framing": (16, "I"),
    "overflow": (20, "I"),
    "slots": (24, "I"),
    "schema_len": (28, "I"),
    "schema_hash": (32, "Q"),
    "item_len": (40, "Q"),
    "item_stride": (48, "Q"),
    "schema_off": (56, "Q"),
    "data_off": (64, "Q"),
    "area_len": (72, "Q"),
    "origin_pos": (80, "Q"),
    "created_ns": (88, "Q"),
}
LINES = {
    "head_pos": (128, "Q"),
    "note0_pos": (144, "Q"),
    "note0_seq": (152, "Q"),
    "note1_pos": (160, "Q"),
    "note1_seq": (168, "Q"),
    "tail_pos": (256, "Q"),
    "producer_pid": (384, "I"),
    "closed": (388, "I"),
    "epoch": (392, "Q"),
    "data_sleepers": (512, "I"),
    "space_sleepers": (640, "I"),
    "space_wanted_pos": (648, "Q"),
    "members": (768, "Q"),
    "cursor0_pos": (896, "Q"),
    "pid0": (904, "I"),
    "cursor1_pos": (1024, "Q"),
    "pid1": (1032, "I"),
}
FNV_OFFSET, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3


def fields(path: Path, table: dict[str, tuple[int, str]]) -> dict[str, object]:
    content = path.read_bytes()
    return {
        name: struct.unpack_from("<" + code, content, offset)[0]
        for name, (offset, code) in table.items()
    }


def fnv(data: bytes) -> int:
    value = FNV_OFFSET
    for byte in data:
        value = (value ^ byte) * FNV_PRIME % 2**64
    return value


def test_hash_is_fnv_1a() -> None:
    assert fnv(b"foobar") == 0x85944171F73967E8


def test_geometry_of_a_message_ring() -> None:
    before = time.time_ns()
    with Producer("l", capacity=5000, max_consumers=3, overflow="overwrite"):
        found = fields(segment_path("l"), GEOMETRY)
        assert before - 10**9 <= found.pop("created_ns") <= time.time_ns() + 10**9  # type: ignore[operator]
        assert found == {
            "magic": b"\x89SHMIPC\n",
            "version": 1,
            "byte_order": 0x01020304,
            "framing": 1,
            "overflow": 2,
            "slots": 3,
            "schema_len": 0,
            "schema_hash": FNV_OFFSET,
            "item_len": 0,
            "item_stride": 0,
            "schema_off": 896 + 3 * 128,
            "data_off": PAGE,
            "area_len": max(8192, PAGE),
            "origin_pos": 0,
        }
        assert segment_path("l").stat().st_size == PAGE + max(8192, PAGE)


def test_geometry_of_a_typed_ring() -> None:
    dtype = [("a", "<u4"), ("b", ">f8")]
    schema = b"([('a', '<u4'), ('b', '>f8')], (500,))"
    with Producer("l", dtype=dtype, shape=(500,), capacity=3):
        found = fields(segment_path("l"), GEOMETRY)
        del found["created_ns"]
        assert found == {
            "magic": b"\x89SHMIPC\n",
            "version": 1,
            "byte_order": 0x01020304,
            "framing": 2,
            "overflow": 1,
            "slots": 1,
            "schema_len": len(schema),
            "schema_hash": fnv(schema),
            "item_len": 6000,
            "item_stride": 6016,
            "schema_off": 896 + 128,
            "data_off": PAGE,
            "area_len": max(32768, PAGE),
            "origin_pos": 0,
        }
        assert segment_path("l").read_bytes()[1024 : 1024 + len(schema)] == schema


def test_data_follows_as_many_whole_pages_as_slots_need() -> None:
    for slots in (1, 24, 25, 256, 1024):
        with Producer("l", max_consumers=slots, capacity=1):
            found = fields(segment_path("l"), GEOMETRY)
            assert found["schema_off"] == 896 + 128 * slots
            assert found["data_off"] == -(-(896 + 128 * slots) // PAGE) * PAGE


def test_every_position_lies_where_the_table_says() -> None:
    pid = os.getpid()
    with Producer("l", capacity=4096, max_consumers=2) as producer:
        path = segment_path("l")
        nothing = {name: 0 for name in LINES if name not in ("producer_pid", "epoch")}
        found = fields(path, LINES)
        assert (found.pop("producer_pid"), found.pop("epoch")) == (pid, 1)
        assert found == nothing
        with Consumer("l", timeout=0) as first, Consumer("l", timeout=0):
            producer.send(b"x" * 17)
            assert first.recv(0) == b"x" * 17
            producer.send(b"y")
            found = fields(path, LINES)
            notes = {
                (found.pop("note0_pos"), found.pop("note0_seq")),
                (found.pop("note1_pos"), found.pop("note1_seq")),
            }
            assert notes == {(48, 1), (80, 2)}
            assert found == {
                "head_pos": 80,
                "tail_pos": 0,
                "producer_pid": pid,
                "closed": 0,
                "epoch": 1,
                "data_sleepers": 0,
                "space_sleepers": 0,
                "space_wanted_pos": 0,
                "members": 0b11,
                "cursor0_pos": 48,
                "pid0": pid,
                "cursor1_pos": 0,
                "pid1": pid,
            }
            producer.close()
            found = fields(path, LINES)
            assert (found["closed"], found["producer_pid"]) == (1, 0)
    assert not path.exists()


def test_takeover_counts_epochs_and_retirement_moves_the_tail() -> None:
    with Producer("l", capacity=4096, max_consumers=2) as first:
        path = segment_path("l")
        for _ in range(300):
            first.send(bytes(16))
        found = fields(path, LINES)
        assert found["head_pos"] == 9600
        assert 9600 - 4096 <= int(str(found["tail_pos"])) <= 9600
        assert int(str(found["tail_pos"])) % 32 == 0
        with Consumer("l", timeout=0):
            first.close()
            with Producer("l", capacity=4096, max_consumers=2):
                assert fields(path, LINES)["epoch"] == 2


def test_durable_queue_is_a_member_from_the_start() -> None:
    with Producer("l", capacity=4096) as producer:
        found = fields(segment_path("l"), LINES)
        assert (found["members"], found["pid0"], found["cursor0_pos"]) == (1, 0, 0)
        with Consumer("l", timeout=0) as consumer:
            producer.send(b"x")
            consumer.recv(0)
            found = fields(segment_path("l"), LINES)
            assert (found["members"], found["pid0"]) == (1, os.getpid())
            assert found["cursor0_pos"] == 32


def test_messages_are_these_bytes() -> None:
    with Producer("l", capacity=4096) as producer, Consumer("l", timeout=0) as consumer:
        producer.send(b"hello, ring", kind=0x1234, flags=0xABCD)
        producer.send(b"")
        producer.send_many([bytes(range(16)), b"\xff"])
        content = segment_path("l").read_bytes()[PAGE:]
        expected = bytes.fromhex(
            "0b000000 3412 cdab 0000000000000000"
            "68656c6c 6f2c 2072 696e670000000000"
            "00000000 0100 0000 0100000000000000"
            "10000000 0100 0000 0200000000000000"
            "00010203 0405 0607 08090a0b0c0d0e0f"
            "01000000 0100 0000 0300000000000000"
            "ff000000 0000 0000 0000000000000000"
        )
        assert content[: len(expected)] == expected
        assert not any(content[len(expected) :])
        for _ in range(4):
            consumer.recv(0)


def test_message_across_the_end_of_the_area_goes_on_at_its_start() -> None:
    with Producer("l", capacity=4096) as producer, Consumer("l", timeout=0) as consumer:
        if producer.capacity != 4096:
            pytest.skip("pages are larger here")
        producer.send(bytes(4096 - 16 - 48))
        consumer.recv(0)
        data = bytes(range(100, 200))
        producer.send(data)
        content = segment_path("l").read_bytes()[PAGE:]
        assert content[4096 - 48 : 4096 - 32] == struct.pack("<IHHQ", 100, 1, 0, 1)
        assert content[4096 - 32 :] + content[:68] == data
        assert consumer.recv(0) == data


def test_items_follow_each_other_by_the_stride() -> None:
    with Producer("l", dtype="<u2", shape=(3,)) as producer, Consumer("l", timeout=0) as consumer:
        producer.send_many(np.arange(6, dtype="<u2").reshape(2, 3))
        assert segment_path("l").read_bytes()[PAGE : PAGE + 16] == struct.pack(
            "<8H", 0, 1, 2, 3, 4, 5, 0, 0
        )
        consumer.read_batch(timeout=0).release()


def test_large_items_are_padded_to_64_bytes() -> None:
    with Producer("l", dtype="u1", shape=(5000,)) as producer, Consumer("l", timeout=0) as consumer:
        producer.send_many(np.full((2, 5000), 7, "u1"))
        content = segment_path("l").read_bytes()[PAGE:]
        assert content[:5000] == content[5056:10056] == b"\7" * 5000
        assert not any(content[5000:5056])
        consumer.read_batch(timeout=0).release()
