"""Items and bytes written in place: commit, abort, and views that outlive both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import discard
from samples import TICK, same, sample
from shmipc import Consumer, Producer

pytestmark = pytest.mark.binding


@pytest.fixture
def ticks() -> Any:
    with Producer("t", dtype=TICK, capacity=64) as producer, Consumer("t", timeout=5) as consumer:
        yield producer, consumer
    discard("t")


AREA = 4096
LARGEST = AREA - 16


@pytest.fixture
def ring() -> Iterator[tuple[Any, Any]]:
    with Producer("m", capacity=AREA) as producer, Consumer("m", timeout=5) as consumer:
        yield producer, consumer
    discard("m")


# ---- items -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "shape"), [("<f8", ()), (TICK, (2,)), ("u1", (5000,))], ids=str)
def test_reserved_items_are_sent_by_the_with_block(dtype: Any, shape: Any) -> None:
    with (
        Producer("t", dtype=dtype, shape=shape, capacity=8) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        for lap in range(7):
            items = sample(dtype, shape, 5, seed=lap)
            with producer.reserve(5) as room:
                assert room.array.shape == (5, *shape)
                assert room.array.dtype == np.dtype(dtype)
                assert len(room) == 5
                room.array[...] = items
                assert consumer.pending == 0
            assert same(consumer.read_batch(timeout=0).array, items)


def test_commit_of_fewer_items_sends_those(ticks: Any) -> None:
    producer, consumer = ticks
    items = sample(TICK, (), 8)
    room = producer.reserve(8)
    room.array[:] = items
    for bad in (0, 9, -1):
        with pytest.raises(ValueError, match="between 1 and 8"):
            room.commit(bad)
    room.commit(3)
    with producer.reserve() as room:
        room.array[...] = items[7]
    frame = consumer.read_batch(timeout=0)
    assert same(frame.array, np.concatenate([items[:3], items[7:]]))
    assert consumer.pending == 0


def test_array_is_read_only_after_commit_and_after_abort(ticks: Any) -> None:
    producer, _ = ticks
    for settle in ("commit", "abort"):
        room = producer.reserve(2)
        array = room.array
        assert array is room.array
        assert array.flags.writeable
        getattr(room, settle)()
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
        with pytest.raises(ValueError, match="already"):
            _ = room.array
        with pytest.raises(BufferError, match="committed or aborted"):
            memoryview(room)


def test_exception_inside_the_block_sends_nothing(ticks: Any) -> None:
    producer, consumer = ticks
    with pytest.raises(ZeroDivisionError), producer.reserve(4) as room:  # noqa: PT012
        room.array[:] = 1
        raise ZeroDivisionError
    assert consumer.pending == 0
    assert producer.send_many(np.zeros(producer.capacity, TICK), timeout=0) == producer.capacity


def test_block_may_commit_or_abort_by_itself(ticks: Any) -> None:
    producer, consumer = ticks
    with producer.reserve(4) as room:
        room.commit(2)
    with producer.reserve(4) as room:
        room.abort()
    assert consumer.pending == 2


@pytest.mark.parametrize("view", ["none", "array", "memoryview"])
def test_producer_closed_inside_a_reservation_is_closed(view: str) -> None:
    producer = Producer("t", dtype="<f8")
    with Consumer("t", timeout=5) as consumer:
        kept: Any = None
        with pytest.raises(shmipc.Closed), producer.reserve(4) as room:  # noqa: PT012
            if view == "array":
                kept = room.array[1:]
                kept[:] = 1.5
            elif view == "memoryview":
                kept = memoryview(room)
            producer.close()
        with pytest.raises(shmipc.Closed):
            consumer.recv(0)
        with pytest.raises(shmipc.Closed):
            room.commit()
        if view == "array":
            kept[0] = 2.5  # reaches nobody, harms nobody
            assert kept.tolist() == [2.5, 1.5, 1.5]
        del producer, room
        if kept is not None:
            assert bytes(kept)[-8:] == np.float64(1.5 if view == "array" else 0).tobytes()


def test_late_write_through_a_kept_slice_does_not_reach_the_next_producer() -> None:
    first = Producer("t", dtype="<u8", capacity=512)
    room = first.reserve(4)
    kept = room.array[:]
    kept[:] = 7
    room.commit()
    with Consumer("t", timeout=5) as consumer:
        first.close()
        with Producer("t", dtype="<u8", capacity=512) as second:
            kept[:] = 666
            assert consumer.read_batch(timeout=0).array.tolist() == [7] * 4
            second.send_many(np.arange(508, dtype="<u8"))
            second.send_many(np.arange(4, dtype="<u8"), timeout=5)
            kept[:] = 667
            assert consumer.read_batch(timeout=0).array[-4:].tolist() == [0, 1, 2, 3]


def test_reserve_of_more_than_the_ring_holds_is_a_value_error(ticks: Any) -> None:
    producer, _ = ticks
    for bad in (producer.capacity + 1, 2**40, 0, -1):
        with pytest.raises(ValueError):  # noqa: PT011
            producer.reserve(bad)
    with producer.reserve(producer.capacity):
        pass
    with pytest.raises(shmipc.Full):
        producer.reserve(1, timeout=0)
    start = time.monotonic()
    with pytest.raises(shmipc.Full):
        producer.reserve(1, timeout=0.05)
    assert time.monotonic() - start >= 0.05


# ---- bytes -------------------------------------------------------------------------------------


def test_reserved_bytes_are_sent_by_the_with_block(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    with producer.reserve(5, kind=9, flags=8) as room:
        assert len(room) == 5
        memoryview(room)[:] = b"bytes"
        assert consumer.pending == 0
    with producer.reserve(0):
        pass
    with producer.reserve(3) as room:
        room.array[:] = [65, 66, 67]
        assert room.array.dtype == np.uint8
    with consumer.read(0) as frame:
        assert (bytes(frame), frame.kind, frame.flags, frame.seq) == (b"bytes", 9, 8, 0)
    assert [consumer.recv(0), consumer.recv(0)] == [b"", b"ABC"]


def test_commit_of_fewer_bytes_sends_those(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    for amount in (0, 1, 99, 100):
        room = producer.reserve(100)
        memoryview(room)[:] = b"x" * 100
        with pytest.raises(ValueError, match="between 0 and 100"):
            room.commit(101)
        room.commit(amount)
        with pytest.raises(ValueError, match="already"):
            room.commit()
        assert consumer.recv(0) == b"x" * amount
        assert consumer.pending == 0


def test_nothing_is_sent_by_an_aborted_reservation(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    room = producer.reserve(LARGEST)
    room.abort()
    room.abort()
    with pytest.raises(LookupError), producer.reserve(LARGEST):
        raise LookupError
    with pytest.warns(ResourceWarning, match="neither committed nor aborted"):
        producer.reserve(10)
    producer.send(b"next", timeout=0)
    with consumer.read(0) as frame:
        assert (bytes(frame), frame.seq) == (b"next", 0)


def test_nothing_else_is_sent_inside_a_reservation(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    with producer.reserve(1):
        for call in (
            lambda: producer.send(b""),
            lambda: producer.try_send(b""),
            lambda: producer.send_many([b""]),
            lambda: producer.send_text(""),
            lambda: producer.reserve(1),
        ):
            with pytest.raises(RuntimeError, match="open reservation"):
                call()  # type: ignore[no-untyped-call]
    assert consumer.recv(0) == b"\0"
