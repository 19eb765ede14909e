"""Nothing grows: memory, references, descriptors, mappings, files, in many rounds of each call,
also of those that fail. With -m soak: 100,000 rounds of opening and closing.

A debug build of CPython (sys.gettotalrefcount) counts references too, but not those that a release
build of numpy takes and releases: so only where numpy has no part.
"""

from __future__ import annotations

import gc
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmipc
from shmipc import Consumer, Producer, record_type

pytestmark = pytest.mark.debug

AREA = 4096
ROUNDS = [
    pytest.param(1000, id="short"),
    pytest.param(100_000, id="long", marks=pytest.mark.soak),
]


def resources() -> dict[str, int]:
    """What this process holds."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        rss = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/maps") as maps:
        ours = sum("shmipc." in line or "deleted" in line for line in maps)
    held = {
        "rss": rss,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "mappings of rings": ours,
        "files": len(list(Path(os.environ["SHMIPC_DIR"]).iterdir())),
        "blocks": sys.getallocatedblocks(),
    }
    if hasattr(sys, "gettotalrefcount"):
        held["references"] = sys.gettotalrefcount()
    return held


def grows(work: Callable[[], Any], rounds: int, warm_up: int = 200) -> dict[str, int]:
    """By how much each grows over `rounds` rounds, once the first have filled what is cached."""
    for _ in range(warm_up):
        work()
    before = resources()
    for _ in range(rounds):
        work()
    after = resources()
    return {what: after[what] - before[what] for what in before}


def assert_nothing_grows(work: Callable[[], Any], rounds: int, numpy: bool = True) -> None:
    grown = grows(work, rounds)
    for _ in range(5):  # the interpreter's caches fill more slowly each time; a leak does not
        if grown["blocks"] < rounds * 3 // 4 and grown["rss"] < 2 << 20:
            break
        grown = grows(work, rounds, warm_up=0)
    print(rounds, "rounds:", grown)
    for what in ("descriptors", "mappings of rings", "files"):
        assert grown[what] == 0, grown
    # One object, or one reference, a round would be `rounds` of them.
    assert grown["blocks"] < rounds * 3 // 4, grown
    assert numpy or abs(grown.get("references", 0)) < rounds // 4, grown
    assert grown["rss"] < 2 << 20, grown


def open_and_close_messages() -> None:
    with Producer("l", capacity=AREA) as producer, Consumer("l", timeout=0) as consumer:
        producer.send(b"message")
        assert consumer.recv(0) == b"message"
        producer.send(b"kept")
        view = memoryview(consumer.read(0))
        consumer.close()
        del view


def open_and_close_items() -> None:
    with (
        Producer("t", dtype=[("a", "<u4"), ("b", "<f8", (2,))], shape=(3,), capacity=8) as producer,
        Consumer("t", timeout=0) as consumer,
    ):
        producer.send(np.zeros((3,), producer.dtype))
        view = consumer.read(0).array
        consumer.close()
        del view


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("work", [open_and_close_messages, open_and_close_items])
def test_opening_and_closing_leaves_nothing(work: Callable[[], None], rounds: int) -> None:
    assert_nothing_grows(work, rounds, numpy=work is open_and_close_items)


def fails(error: type[BaseException] | tuple[type[BaseException], ...]) -> Callable[..., None]:
    def call(function: Callable[[], Any]) -> None:
        with pytest.raises(error):
            function()

    return call


class Raises:
    def __float__(self) -> float:
        raise ZeroDivisionError

    def __index__(self) -> int:
        raise ZeroDivisionError

    def __iter__(self) -> Any:
        raise ZeroDivisionError


def open_in_vain() -> None:
    wrong: list[Callable[[], Any]] = [
        lambda: Producer("/"),
        lambda: Producer("l", dtype="O"),
        lambda: Producer("l", dtype="<u8", shape=Raises()),  # type: ignore[arg-type]
        lambda: Producer("l", dtype="<u8", shape=(0,)),
        lambda: Producer("l", capacity=Raises()),  # type: ignore[arg-type]
        lambda: Producer("l", spin=Raises()),  # type: ignore[arg-type]
        lambda: Producer("l", overflow="maybe"),  # type: ignore[call-overload]
        lambda: Producer("l", capacity=1 << 50),
        lambda: Consumer("absent", timeout=0),
        lambda: Consumer("absent", timeout=Raises()),  # type: ignore[arg-type]
        lambda: Consumer("absent", start="never"),  # type: ignore[arg-type]
    ]
    for call in wrong:
        fails((ValueError, TypeError, ZeroDivisionError, OSError))(call)
    with Producer("l", dtype="<u8"), Consumer("l", timeout=0):
        for call in (
            lambda: Producer("l", dtype="<u8"),
            lambda: Producer("l"),
            lambda: Consumer("l", timeout=0),
        ):
            fails((shmipc.Busy, shmipc.SchemaMismatch))(call)


def test_opening_in_vain_leaves_nothing() -> None:
    assert_nothing_grows(open_in_vain, 600)


def test_every_call_on_messages_leaves_nothing() -> None:
    with (
        Producer("l", capacity=AREA, max_consumers=2) as producer,
        Consumer("l", timeout=0) as consumer,
    ):
        buffer = bytearray(64)

        def work() -> None:
            producer.send(b"a", kind=7, flags=3)
            producer.send(bytearray(b"b"), timeout=1)
            producer.send_text("text")
            producer.send_many([b"c", memoryview(b"d")])
            producer.send_many(iter([b"e"]))
            assert producer.try_send(b"z")
            with producer.reserve(4) as room:
                memoryview(room)[:] = b"four"
            producer.reserve(9).abort()
            with suppress(LookupError), producer.reserve(9):
                raise LookupError
            assert consumer.recv(0) == b"a"
            assert consumer.recv_into(buffer, 0) == 1
            assert consumer.recv_text(0) == "text"
            with consumer.read(0) as frame:
                assert (bytes(frame), frame.kind, frame.seq >= 0) == (b"c", 1, True)
            view = memoryview(consumer.read(0))[:]
            iterator = iter(consumer)
            assert bytes(next(iterator)) == b"e"
            assert shmipc.wait([consumer], 0) == [consumer]
            del view, iterator
            while consumer.pending:
                consumer.recv(0)
            _ = (
                repr(producer),
                repr(consumer),
                producer.stats(),
                consumer.stats(),
                producer.attached,
            )

        assert_nothing_grows(work, 1000, numpy=False)


def test_every_call_on_items_leaves_nothing() -> None:
    with Producer("l", dtype="<u8", capacity=512) as producer, Consumer("l", timeout=0) as consumer:
        items = np.arange(8, dtype="<u8")

        def work() -> None:
            producer.send(np.uint64(1))
            producer.send(items[0:1].reshape(()))
            producer.send_many(items)
            producer.send_many(memoryview(items))
            with producer.reserve(4) as room:
                room.array[:] = 5
            assert consumer.recv(0) == 1
            with consumer.read(0) as frame:
                assert frame.array.shape == ()
            kept = consumer.read_batch(3, timeout=0).array[1:]
            with consumer.read_batch(timeout=0) as batch:
                assert len(batch) == 17
            del kept

        assert_nothing_grows(work, 1000)


def test_every_array_with_gaps_leaves_nothing() -> None:
    with (
        Producer("l", dtype="<u8", shape=(2,)) as producer,
        Consumer("l", timeout=0) as consumer,
        Producer("m") as messages,
        Consumer("m", timeout=0) as bytes_consumer,
    ):
        items = np.arange(16, dtype="<u8").reshape(4, 4)

        def work() -> None:
            producer.send(items[0, ::2])
            producer.send_many(items[:, ::2])
            producer.send_many(memoryview(items.tobytes() * 2)[::2])
            for data in (items[::2], memoryview(items)[::-1], items.T):
                messages.send(data)
                assert len(bytes_consumer.recv(0)) == data.nbytes
            producer.send(np.array([b"\1" * 8] * 2).view("<u8"))
            assert consumer.recv(0).tolist() == [0, 2]
            while consumer.pending:
                consumer.read_batch(timeout=0)

        assert_nothing_grows(work, 1000)


def test_every_export_leaves_nothing() -> None:
    with (
        Producer("l", dtype="<u8") as producer,
        Consumer("l", timeout=0) as consumer,
        Producer("t", dtype="<M8[s]") as times,
        Consumer("t", timeout=0) as time_consumer,
    ):

        def work() -> None:
            with producer.reserve(2) as room:
                np.asarray(room)[:] = memoryview(room)[0] + np.from_dlpack(room)[0]
                kept = room.__array__("f4"), room.__array__(copy=True)
            frame = consumer.read_batch(timeout=0)
            kept += (np.asarray(frame), memoryview(frame), bytes(frame), frame.__array__("f4"))
            kept += (frame.__dlpack__(copy=True), frame.__dlpack__(copy=True, max_version=(1, 0)))
            fails(BufferError)(frame.release)
            fails(BufferError)(frame.__dlpack__)
            fails(BufferError)(lambda: frame.__dlpack__(dl_device=(2, 0)))
            fails(TypeError)(lambda: frame.__dlpack__(dl_device=2))
            fails(ValueError)(lambda: frame.__array__("f4", copy=False))
            fails(TypeError)(lambda: frame.__array__("no such dtype"))
            del kept
            frame.release()
            fails(BufferError)(lambda: memoryview(frame))
            fails(BufferError)(lambda: bytes(frame))
            fails(ValueError)(frame.__array__)
            times.send(np.datetime64(5, "s"))
            frame = time_consumer.read(0)
            assert np.asarray(frame) == np.datetime64(5, "s")
            fails(BufferError)(lambda: memoryview(frame))
            fails(BufferError)(lambda: frame.__dlpack__(copy=True))

        assert_nothing_grows(work, 1000)


def test_dtypes_and_their_descriptions_leave_nothing() -> None:
    noted = np.dtype([("a", np.dtype("<f8", metadata={"x": 1}), (2,)), (("t", "b"), "S3")])
    reordered = np.dtype({"names": ["a", "b"], "formats": ["<u4", "<u2"], "offsets": [2, 0]})

    def work() -> None:
        with Producer("l", dtype=noted, capacity=4), Consumer("l", timeout=5):
            pass
        fails(ValueError)(lambda: Producer("l", dtype=[("a", str), ("b", "f8")]))
        fails(TypeError)(lambda: Producer("l", dtype=reordered))

    assert_nothing_grows(work, 300)


def test_records_and_their_types_leave_nothing() -> None:
    dtype = np.dtype([("a", "<i8"), ("t", "S16"), ("m", "<f4", (2,)), ("n", [("x", ">u2")])])
    kind = record_type(dtype, "Kind", text=["t"])
    with Producer("l", dtype=dtype, capacity=64) as producer, Consumer("l", timeout=0) as consumer:

        def work() -> None:
            once = record_type([("f", "<f8"), ("s", "S5")], "Once", text=("s",))
            assert once(s="text") == pickle.loads(pickle.dumps(once(s="text")))
            record = kind(a=2**40, t="text", m=[1, 2], n=(3,))
            record.assign(2**41, "other")
            for wrong in (lambda: record.assign(1, "x" * 16), lambda: kind(m="x"), kind.a.__get__):  # type: ignore[attr-defined]
                fails((ValueError, TypeError))(wrong)
            producer.send(record)
            frame = consumer.read(0)
            lease = kind(frame)
            assert lease == record == frame.record == lease.copy() == kind(bytes(record))
            kept = [*lease, np.asarray(lease), repr(lease)]
            fails(BufferError)(frame.release)
            del kept
            producer.send(lease)
            frame.release()
            fails(ValueError)(lambda: lease.a)
            fails(ValueError)(lambda: kind(frame))
            consumer.recv(0)

        assert_nothing_grows(work, 2000)


def test_every_refusal_leaves_nothing() -> None:
    with (
        Producer("l", capacity=AREA) as producer,
        Consumer("l", timeout=0) as consumer,
        Producer("t", dtype="<u8") as typed,
        Consumer("t", timeout=0) as items,
    ):
        room: Any = None
        wrong: list[Callable[[], Any]] = [
            lambda: producer.send("str"),  # type: ignore[call-overload]
            lambda: producer.send(5),  # type: ignore[call-overload]
            lambda: producer.send(np.zeros(3, "O")),
            lambda: producer.send(np.ma.masked),
            lambda: producer.send(memoryview(np.zeros(3, "O"))[::2]),
            lambda: producer.send_many(np.ma.zeros(3)),
            lambda: producer.send(bytes(5000)),
            lambda: producer.send(b"", kind=0),
            lambda: producer.send(b"", kind=Raises()),  # type: ignore[arg-type]
            lambda: producer.send(b"", nonsense=1),  # type: ignore[call-arg]
            lambda: producer.send_many(Raises()),
            lambda: producer.send_many([b"", 5]),  # type: ignore[list-item]
            lambda: producer.send_many(iter([5])),  # type: ignore[list-item]
            lambda: producer.reserve(1 << 40),
            lambda: producer.wait_for_consumers(1, timeout=-1),
            lambda: consumer.recv(timeout=Raises()),  # type: ignore[arg-type]
            lambda: consumer.recv_into(b"read-only", 0),  # type: ignore[arg-type]
            lambda: consumer.recv_into(np.zeros((4, 4), "u1").T[1:], 0),
            lambda: consumer.recv_into(np.zeros(3, "O"), 0),
            lambda: consumer.recv_into(memoryview(np.zeros(3, "O")), 0),
            lambda: items.recv_into(np.zeros(3, "f8"), 0),
            lambda: items.recv_into(memoryview(np.zeros(3, "f8")), 0),
            lambda: shmipc.wait([5]),  # type: ignore[list-item]
            lambda: shmipc.wait(consumer),  # type: ignore[arg-type]
            lambda: typed.send(np.float32(1)),
            lambda: typed.send_many(np.zeros((2, 2), "<u8")),
            lambda: typed.send(b"short"),
            lambda: typed.send(memoryview(bytes(6))[::2]),
            lambda: typed.send(np.bytes_(b"12345678")),
            lambda: typed.reserve(0),
            lambda: items.recv_text(0),
            lambda: items.read(0),
            lambda: consumer.read_batch(timeout=0),
        ]

        def work() -> None:
            for call in wrong:
                fails((ValueError, TypeError, ZeroDivisionError, shmipc.Empty))(call)
            while consumer.pending:
                consumer.recv(0)
            while producer.try_send(bytes(1000)):
                pass
            fails(shmipc.Full)(lambda: producer.send(b"", timeout=0))
            fails(shmipc.Full)(lambda: producer.send_many(iter([bytes(1000)]), timeout=0))
            while consumer.pending:
                consumer.recv(0)
            nonlocal room
            room = producer.reserve(1)
            fails(RuntimeError)(lambda: producer.send(b""))
            room.commit()
            fails(ValueError)(room.commit)
            fails(BufferError)(lambda: memoryview(room))
            room = None
            frame = consumer.read(0)
            view = memoryview(frame)
            fails(BufferError)(frame.release)
            view.release()
            frame.release()
            fails(ValueError)(lambda: frame.array)

        assert_nothing_grows(work, 1000)
