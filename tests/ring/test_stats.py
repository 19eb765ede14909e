"""stats() and lags(): what they are, that they cannot be changed, and what their fields mean."""

from __future__ import annotations

import copy
import os
import pickle
from typing import Any

import numpy as np
import pytest

import shmipc
from shmipc import Consumer, Lag, Producer, Stats

CONSUMER_ONLY = ("pending", "lost", "frames")
PRODUCER_ONLY = ("count", "committed_len", "attached", "kept", "reclaimed", "took_over")
BOTH = ("lag", "sleeps", "wakes")


@pytest.fixture(params=["messages", "items"])
def ring(request: pytest.FixtureRequest) -> Any:
    options: dict[str, Any] = {} if request.param == "messages" else {"dtype": "<u8"}
    with (
        Producer("s", max_consumers=2, capacity=4096, **options) as producer,
        Consumer("s", timeout=5) as consumer,
    ):
        yield producer, consumer


def send(producer: Any, count: int) -> None:
    items: Any = np.zeros(count, "<u8") if producer.dtype else [b"12345678"] * count
    producer.send_many(items)


def test_a_side_has_none_for_what_only_the_other_has(ring: Any) -> None:
    producer, consumer = (handle.stats() for handle in ring)
    assert type(producer) is type(consumer) is Stats
    assert [getattr(producer, name) for name in CONSUMER_ONLY] == [None] * 3
    assert [getattr(consumer, name) for name in PRODUCER_ONLY] == [None] * 6
    given = [getattr(producer, name) for name in (*PRODUCER_ONLY, *BOTH)]
    given += [getattr(consumer, name) for name in (*CONSUMER_ONLY, *BOTH)]
    assert all(type(value) in (int, bool) for value in given)
    assert sorted(Stats.__match_args__) == sorted((*CONSUMER_ONLY, *PRODUCER_ONLY, *BOTH))


def test_counters_are_of_messages_or_items_on_both_sides(ring: Any) -> None:
    producer, consumer = ring
    send(producer, 5)
    consumer.recv(0)
    with consumer.read(0):
        assert (consumer.pending, consumer.lag, producer.lag) == (3, 4, 4)
        told = consumer.stats()
        assert (told.pending, told.lag, told.frames, told.lost) == (3, 4, 1, 0)
        told = producer.stats()
        assert (told.count, told.lag, told.attached, told.took_over) == (5, 4, 1, False)
        assert told.committed_len == 5 * (8 if producer.dtype else 32)
        assert producer.lags() == [Lag((consumer.slot, os.getpid(), 4))]
    assert (consumer.pending, consumer.lag, producer.lag, consumer.stats().frames) == (3, 3, 3, 0)


def test_lag_of_a_producer_is_that_of_the_slowest_consumer(ring: Any) -> None:
    producer, slow = ring
    with Consumer("s", timeout=5) as quick:
        send(producer, 3)
        quick.recv(0)
        assert [reader.lag for reader in producer.lags()] == [3, 2]
        assert [reader.slot for reader in producer.lags()] == [slow.slot, quick.slot] == [0, 1]
        assert producer.lag == producer.stats().lag == 3


def test_a_producer_has_no_pending(ring: Any) -> None:
    assert not hasattr(ring[0], "pending")
    assert ring[0].stats().pending is None


def test_what_is_told_is_frozen_and_compares_by_value(ring: Any) -> None:
    producer, consumer = ring
    before = producer.stats()
    for told, name in ((before, "count"), (consumer.stats(), "lag"), (producer.lags()[0], "pid")):
        with pytest.raises(AttributeError):
            setattr(told, name, 1)
        with pytest.raises(TypeError):
            told[0] = 1  # type: ignore[index]
        with pytest.raises(AttributeError):
            told.other = 1
        assert hash(told) == hash(tuple(told))
    assert producer.stats() == before
    send(producer, 1)
    assert producer.stats() != before
    assert before.count == 0


def test_what_is_told_can_be_shown_pickled_and_copied(ring: Any) -> None:
    producer, consumer = ring
    for told in (producer.stats(), consumer.stats(), producer.lags()[0]):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(told, protocol))
            assert again == told
            assert type(again) is type(told)
        assert copy.deepcopy(told) == copy.copy(told) == told
    assert repr(producer.lags()[0]) == f"shmipc.Lag(slot=0, pid={os.getpid()}, lag=0)"
    assert repr(consumer.stats()).startswith("shmipc.Stats(pending=0, lag=0, lost=0, frames=0, ")


def test_lags_unpack_as_slot_pid_and_lag(ring: Any) -> None:
    [(slot, pid, lag)] = ring[0].lags()
    assert (slot, pid, lag) == (0, os.getpid(), 0)


def test_each_field_says_what_it_is() -> None:
    for kind in (Stats, Lag):
        for name in kind.__match_args__:
            assert getattr(kind, name).__doc__
        assert (kind.__doc__ or "").strip()


def test_slot_is_the_consumers_own_and_of_an_open_one() -> None:
    with Producer("s", max_consumers=2), Consumer("s", timeout=5) as first:
        second = Consumer("s", timeout=5)
        assert (first.slot, second.slot) == (0, 1)
        second.close()
        with pytest.raises(shmipc.Closed):
            _ = second.slot


# ---- one item, reserved as it is read ------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_one_reserved_item_has_the_shape_of_one_read(shape: tuple[int, ...]) -> None:
    with Producer("s", dtype="<f8", shape=shape) as producer, Consumer("s", timeout=5) as consumer:
        for n, reserved in ((None, shape), (1, (1, *shape)), (2, (2, *shape))):
            with producer.reserve() if n is None else producer.reserve(n) as room:
                assert room.array.shape == np.asarray(room).shape == reserved
                assert memoryview(room).shape == reserved
                assert len(room) == (n or 1)
                room.array[...] = 7
        with consumer.read(0) as frame:
            assert frame.array.shape == shape
            assert frame.array.tolist() == np.full(shape, 7.0).tolist()
        with consumer.read_batch(timeout=0) as frame:
            assert frame.array.shape == (3, *shape)
            assert (frame.array == 7).all()


def test_a_message_has_no_size_of_its_own() -> None:
    with Producer("s") as producer, Consumer("s", timeout=5) as consumer:
        for call in (lambda: producer.reserve(), lambda: producer.reserve(None, timeout=0)):
            with pytest.raises(TypeError, match=r"say how many bytes, reserve\(n\)"):
                call()
        with producer.reserve(2) as room:
            room.array[:] = [65, 66]
        assert consumer.recv(0) == b"AB"


# ---- iteration -----------------------------------------------------------------------------------


def test_frames_of_a_list_are_released_and_a_loop_may_copy_them() -> None:
    with Producer("s") as producer:
        producer.send_many([b"a", b"b"])
    with Consumer("s", timeout=5) as consumer:
        frames = list(consumer)
        assert len(frames) == 2
        for frame in frames:
            with pytest.raises(ValueError, match="released by the loop"):
                _ = frame.array
    with Producer("s") as producer:
        producer.send_many([b"a", b"b"])
    with Consumer("s", timeout=5) as consumer:
        assert [bytes(frame) for frame in consumer] == [b"a", b"b"]
