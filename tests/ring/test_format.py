"""docs/format.md is enough: a stranger who knows only that (stranger.py) reads every vector and
live rings, and writes segments that the package reads. And its tables are the format's."""

from __future__ import annotations

import ast
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_layout import GEOMETRY, LINES

import shmipc
import stranger
import stranger_segment
import vectors
from helpers import Peer, eventually, get_u32, get_u64, segment_path
from shmipc import Consumer, Producer

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "format.md"
PAGES = os.sysconf("SC_PAGESIZE") == 4096
SLEEPERS, WANTED = 640, 648


def attach(name: str, start: str = "kept") -> stranger.Consumer:
    return stranger.Consumer(str(segment_path(name)), start)


def drain(consumer: stranger.Consumer, most: int | None = None) -> list[stranger.Item]:
    items: list[stranger.Item] = []
    while len(items) != most and (item := consumer.recv()) is not None:
        items.append(item)
    return items


# ---- the stranger --------------------------------------------------------------------------------


def test_stranger_knows_nothing_of_shmipc() -> None:
    for module in (stranger, stranger_segment):
        assert module.__file__ is not None
        tree = ast.parse(Path(module.__file__).read_text("utf-8"))
        names = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert names <= {
            *("__future__", "collections.abc", "contextlib", "ctypes", "dataclasses", "fcntl"),
            *("mmap", "os", "platform", "re", "stat", "struct", "sys", "time", "stranger_segment"),
        }


@pytest.mark.skipif(not PAGES, reason="vectors have 4096-byte pages")
@pytest.mark.parametrize("name", vectors.NAMES)
def test_stranger_reads_the_vector(name: str) -> None:
    vector = vectors.load(name)
    segment_path("v").write_bytes(vector.filled())
    consumer = attach("v", "earliest")
    assert [(item.numbers, item.data) for item in drain(consumer)] == vector.gets
    assert consumer.ending() == vector.ends
    assert consumer.lost == 0
    consumer.leave()
    assert segment_path("v").exists() == (vector.ends == "died")
    segment_path("v").unlink(missing_ok=True)


# ---- live rings ----------------------------------------------------------------------------------


def test_stranger_gets_every_message_of_a_live_producer_in_order() -> None:
    with Producer("f", capacity=4096, max_consumers=2) as producer:
        consumer = attach("f")
        assert producer.attached == 1
        for number in range(500):  # dozens of laps, and messages over the end of the area
            data = bytes([number % 256]) * (number * 37 % 900)
            producer.send(data, kind=1 + number % 9, flags=number, timeout=0)
            item = consumer.recv()
            assert item == stranger.Item((number, 1 + number % 9, number), data)
        assert consumer.recv() is None
        assert consumer.ending() is None
        assert (producer.lag, consumer.lost) == (0, 0)
        producer.send(b"last")
        producer.close()
        assert consumer.ending() is None  # there is something to read first
        assert drain(consumer)[0].data == b"last"
        assert consumer.ending() == "closed"
        consumer.leave()
    assert not segment_path("f").exists()


def test_stranger_gets_typed_items_over_the_end_of_the_area() -> None:
    dtype = [("id", "<i8"), ("price", "<f8", (3,)), ("side", "S1")]
    with Producer("f", dtype=dtype, shape=(2,), capacity=10, max_consumers=2) as producer:
        consumer = attach("f")
        sent = np.zeros((300, 2), dtype)
        sent["id"], sent["side"] = np.arange(600).reshape(300, 2), b"B"
        for number in range(0, 300, 5):
            producer.send_many(sent[number : number + 5], timeout=0)
            got = drain(consumer)
            assert [item.numbers for item in got] == [(number + i,) for i in range(5)]
            assert b"".join(item.data for item in got) == sent[number : number + 5].tobytes()
        consumer.leave()
        assert producer.attached == 0


def test_stranger_and_a_consumer_of_ours_read_the_same() -> None:
    with (
        Producer("f", capacity=4096, max_consumers=3) as producer,
        Consumer("f", timeout=0) as ours,
    ):
        consumer = attach("f")
        assert get_u64(segment_path("f"), 768) == 0b11
        for number in range(100):
            producer.send(b"%d" % number, timeout=0)
            item = consumer.recv()
            assert item is not None
            assert item.data == ours.recv(0) == b"%d" % number
        consumer.leave()
        assert get_u64(segment_path("f"), 768) == 0b01
        assert producer.attached == 1


def test_stranger_that_is_lapped_goes_on_with_whole_messages_and_knows_what_it_lost() -> None:
    with Producer("f", capacity=4096, max_consumers=1, overflow="overwrite") as producer:
        consumer = attach("f", "earliest")
        got = 0
        for burst in range(20):
            for number in range(burst * 50, burst * 50 + 50):
                producer.send(struct.pack("<Q", number) * (1 + number % 60), timeout=0)
            # Some at a time: what it knows of the head is then older than what lies there.
            for item in drain(consumer, 7 if burst < 19 else None):
                (number,) = struct.unpack_from("<Q", item.data)
                assert item.numbers[0] == number
                assert item.data == struct.pack("<Q", number) * (1 + number % 60)
                got += 1
        assert consumer.lost > 0
        assert got + consumer.lost == 1000
        consumer.leave()


def test_stranger_that_is_lapped_counts_items() -> None:
    with Producer("f", dtype="<u8", capacity=512, overflow="overwrite") as producer:
        consumer = attach("f", "earliest")
        producer.send_many(np.arange(2000, dtype="<u8"))
        assert drain(consumer) == [stranger.Item((1999,), struct.pack("<Q", 1999))]
        assert consumer.lost == 1999
        producer.send_many(np.arange(2000, 2300, dtype="<u8"))
        assert [item.numbers[0] for item in drain(consumer)] == list(range(2000, 2300))
        consumer.leave()


def test_stranger_takes_a_kept_place_where_it_begins() -> None:
    path = segment_path("f")
    with Producer("f", capacity=4096, max_consumers=4, hold_for=3) as producer:
        for number in range(4):
            producer.send(b"%d" % number)
        consumer = attach("f")
        with Consumer("f", timeout=0) as ours:
            latest = attach("f", "latest")
            assert get_u64(path, 768) == 0b111
            assert [consumer.slot, latest.slot] == [0, 2]
            assert producer.stats().kept == 0
            producer.send(b"4")
            assert [item.numbers[0] for item in drain(consumer)] == list(range(5))
            assert [item.numbers[0] for item in drain(latest)] == [4]
            assert [ours.recv(0) for _ in range(5)] == [b"%d" % number for number in range(5)]
        latest.leave()
        consumer.leave()
        assert get_u64(path, 768) == 0
    with Producer("f", capacity=4096, max_consumers=2, hold_for=1) as producer:
        producer.send(b"kept")
    assert path.exists()  # owed
    with pytest.raises(stranger_segment.Refused, match="ended"):
        attach("f", "latest")
    consumer = attach("f")
    assert [item.data for item in drain(consumer)] == [b"kept"]
    assert consumer.ending() == "closed"
    consumer.leave()
    assert not path.exists()


def test_stranger_and_a_consumer_of_ours_are_set_on_the_same_message_when_lapped() -> None:
    options: dict[str, Any] = {"capacity": 4096, "overflow": "overwrite", "max_consumers": 2}
    with Producer("f", **options) as producer, Consumer("f", timeout=0) as ours:
        consumer = attach("f")
        for number in range(200):
            producer.send(struct.pack("<Q", number) * (1 + number % 60))
        producer.send(b"newest")
        assert drain(consumer) == [stranger.Item((200, 1, 0), b"newest")]
        assert ours.recv(0) == b"newest"
        assert consumer.lost == ours.lost == 200
        consumer.leave()


PRODUCE = """
    producer = Producer("f", capacity=4096, max_consumers=int(args[0]), spin=0)
    say("ready")
    for number in range(int(hear())):
        producer.send(b"%d" % number * 20, timeout=20)
    say("sent")
    hear()
    producer.close()
    """


@pytest.mark.parametrize("consumers", [1, 2])
def test_producer_waits_for_the_strangers_cursor_and_is_woken(consumers: int) -> None:
    path = segment_path("f")
    with Peer(PRODUCE, consumers) as peer:
        peer.expect()
        consumer = attach("f")
        peer.tell("2000")
        got: list[stranger.Item] = []
        # Asleep, it marks its word and says which cursor it wants; a wake-up that finds it between
        # two slices of its sleep wakes nobody, so there are many.
        while len(got) < 2000:
            if consumer.woken == 0:
                eventually(lambda: get_u32(path, SLEEPERS) % 2 == 1)
                head, tail = get_u64(path, 128), get_u64(path, 256)
                assert 4096 - 128 < head - consumer.read <= 4096
                assert consumer.cursor < get_u64(path, WANTED) <= head + 128 - 4096
                assert tail <= consumer.cursor
            item = consumer.recv()
            while item is not None:
                got.append(item)
                item = consumer.recv()
        peer.expect("sent")
        assert [item.data for item in got] == [b"%d" % number * 20 for number in range(2000)]
        assert [item.numbers[0] for item in got] == list(range(2000))
        assert consumer.woken > 0
        peer.tell()
        peer.finish()
        assert consumer.ending() == "closed"
        consumer.leave()
    assert not path.exists()


def test_stranger_is_told_of_a_death_after_all_that_was_sent() -> None:
    with Peer(PRODUCE, 2) as peer:
        peer.expect()
        consumer = attach("f")
        peer.tell("3")
        peer.expect("sent")
        peer.kill()
        assert consumer.ending() is None
        assert len(drain(consumer)) == 3
        assert consumer.ending() == "died"
        with Producer("f", capacity=4096, max_consumers=2) as producer:  # takes the ring over
            assert consumer.ending() is None
            producer.send(b"more")
            item = consumer.recv()
            assert item == stranger.Item((3, 1, 0), b"more")
        assert consumer.ending() == "closed"
        consumer.leave()


def test_dead_stranger_is_evicted_and_a_durable_ring_keeps_its_place() -> None:
    with Producer("f", capacity=4096, max_consumers=2) as producer:
        consumer = attach("f")
        consumer.die()
        for number in range(300):
            producer.send(b"%d" % number * 10, timeout=10)
        assert producer.stats().reclaimed == 1
        assert get_u64(segment_path("f"), 768) == 0
    with Producer("f", capacity=4096) as producer:
        for number in range(5):
            producer.send(b"%d" % number)
        consumer = attach("f")
        assert [consumer.recv(), consumer.recv()] == [
            stranger.Item((number, 1, 0), b"%d" % number) for number in range(2)
        ]
        consumer.die()
        with Consumer("f", timeout=0) as ours:
            assert [ours.recv(0) for _ in range(3)] == [b"2", b"3", b"4"]


def test_stranger_resumes_where_a_consumer_of_ours_stopped() -> None:
    with Producer("f", capacity=4096) as producer:
        for number in range(5):
            producer.send(b"%d" % number)
        with Consumer("f", timeout=0) as ours:
            ours.recv(0)
        with Consumer("f", timeout=0), pytest.raises(stranger_segment.Refused, match="taken"):
            attach("f")
        consumer = attach("f")
        with pytest.raises(shmipc.Busy):
            Consumer("f", timeout=0)
        assert [item.data for item in drain(consumer)] == [b"1", b"2", b"3", b"4"]
        consumer.leave()
    assert not segment_path("f").exists()


def test_observer_sees_a_ring_and_nobody_sees_him() -> None:
    with Producer("f", capacity=4096, max_consumers=2) as producer, Consumer("f", timeout=0):
        producer.send(b"seen by all")
        before = segment_path("f").read_bytes()
        fd = os.open(segment_path("f"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        g = stranger_segment.read_geometry(fd)
        assert (g.framing, g.overflow, g.slots) == (1, 1, 2)
        assert [stranger_segment.is_held(fd, byte) for byte in range(4)] == [
            False,
            True,
            True,
            False,
        ]
        tail, head = (struct.unpack("<Q", os.pread(fd, 8, offset))[0] for offset in (256, 128))
        assert (tail, head) == (0, 32)
        length, kind, _, seq = struct.unpack("<IHHQ", os.pread(fd, 16, g.data_off + tail))
        assert (os.pread(fd, length, g.data_off + tail + 16), kind, seq) == (b"seen by all", 1, 0)
        os.close(fd)
        assert segment_path("f").read_bytes() == before
        assert producer.attached == 1


# ---- its writer ----------------------------------------------------------------------------------


def write(name: str, **options: Any) -> stranger.Writer:
    return stranger.Writer(str(segment_path(name)), **options)


@pytest.mark.skipif(not PAGES, reason="vectors have 4096-byte pages")
def test_stranger_writes_vectors_byte_for_byte() -> None:
    writer = write("v", slots=2, area_len=4096)
    writer.send(b"hello", kind=7, flags=3)
    assert vectors.load("message_ring").differences(segment_path("v").read_bytes()) == []
    writer.die()
    segment_path("v").unlink()
    schema = "([('a', '<u4'), ('b', '>f8')], (3,))"
    writer = write("v", slots=3, area_len=4096, schema=schema, item_len=36)
    for number in range(4):
        writer.put(bytes(range(number * 36, number * 36 + 36)))
    assert vectors.load("typed_ring").differences(segment_path("v").read_bytes()) == []
    writer.die()
    segment_path("v").unlink()


@pytest.mark.parametrize("origin", [0, 2**64 - 1024])
def test_package_reads_what_the_stranger_wrote(origin: int) -> None:
    writer = write("f", slots=1, area_len=1 << 16, origin=origin)
    sent = [bytes([number]) * (number * 5) for number in range(100)]
    for data in sent[:50]:
        writer.send(data, kind=3, flags=9)
    with Consumer("f", timeout=0) as consumer:  # while its producer lives
        assert [consumer.recv(0) for _ in range(50)] == sent[:50]
        with pytest.raises(shmipc.Empty):
            consumer.recv(0)
        with pytest.raises(shmipc.Busy, match=f"process {os.getpid()}"):
            Producer("f")
        for data in sent[50:]:
            writer.send(data, kind=3, flags=9)
    writer.close()
    with Consumer("f", timeout=0) as consumer:
        for number in range(50, 100):
            with consumer.read(0) as frame:
                assert (frame.seq, frame.kind, frame.flags) == (number, 3, 9)
                assert bytes(frame) == sent[number]
        with pytest.raises(shmipc.Closed):
            consumer.recv(0)
    assert not segment_path("f").exists()


def test_producer_of_ours_goes_on_where_the_stranger_died() -> None:
    writer = write("f", slots=1, area_len=4096, schema="('<u8', (2,))", item_len=16)
    writer.put(struct.pack("<2Q", 1, 2))
    writer.die()
    with Producer("f", dtype="<u8", shape=2) as producer, Consumer("f", timeout=0) as consumer:
        producer.send(np.array([3, 4], "<u8"))
        with consumer.read_batch(timeout=0) as batch:
            assert batch.array.tolist() == [[1, 2], [3, 4]]


# ---- the document --------------------------------------------------------------------------------

CODES = {"u32": "I", "u64": "Q", "8 bytes": "8s"}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without the table's own."""
    section = DOCUMENT.read_text("utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_documents_geometry_is_the_formats() -> None:
    found = {row[2].strip("`"): (int(row[0]), CODES[row[1]]) for row in rows("2. The geometry")}
    assert found == GEOMETRY
    assert stranger_segment.GEOMETRY.size == 96


def test_documents_fields_are_the_formats() -> None:
    found: dict[str, tuple[int, str]] = {}
    for offset, kind, name, *_ in rows("3. Positions"):
        if name == "reserved" or not kind:
            continue
        match = re.fullmatch(r"(\d+)( \+ 128 i)?", offset)
        assert match is not None
        names = re.findall(r"`([^`]+)`", name)
        if len(names) == 3:  # a note: its pos and seq
            for number, field in enumerate(names[1:]):
                found[f"{names[0]}.{field}"] = (int(offset) + 8 * number, "Q")
        else:
            for slot in range(2) if match[2] else range(1):
                code = CODES[kind.removeprefix("16 ")]
                found[names[0].replace("[i]", f"[{slot}]")] = (int(match[1]) + 128 * slot, code)
    spelled = {
        **{f"notes[{i}].{name}": f"note{i}_{name}" for i in range(2) for name in ("pos", "seq")},
        **{f"slots[{i}].cursor_pos": f"cursor{i}_pos" for i in range(2)},
        **{f"slots[{i}].pid": f"pid{i}" for i in range(2)},
        "data.sleepers": "data_sleepers",
        "space.sleepers": "space_sleepers",
        "space.wanted_pos": "space_wanted_pos",
    }
    assert {spelled.get(name, name): where for name, where in found.items()} == LINES


def test_document_says_of_its_rules_whom_they_are_for() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert text.count("[others]") > 20
    assert text.count("[own]") > 10
    for label in ("W1", "W2", "W3", "W4", "W5", "W6"):
        assert re.search(rf"^\| {label} R{label[1]} \|", text, re.MULTILINE), label
