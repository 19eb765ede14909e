"""The life of a handle: the end of a stream, what it tells, and misuse."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import shmipc
from helpers import discard, segment_path
from shmipc import Consumer, Producer

pytestmark = pytest.mark.binding

AREA = 4096


@pytest.fixture
def ring() -> Iterator[tuple[Any, Any]]:
    with Producer("m", capacity=AREA) as producer, Consumer("m", timeout=5) as consumer:
        yield producer, consumer
    discard("m")


# ---- the end of a stream -------------------------------------------------------------------------


def test_consumer_drains_a_closed_ring_then_gets_closed() -> None:
    with Producer("m") as producer, Consumer("m", timeout=5) as consumer:
        producer.send_many([b"a", b"b"])
        producer.close()
        assert [consumer.recv(), consumer.recv()] == [b"a", b"b"]
        for call in (consumer.recv, consumer.read, lambda: consumer.recv(0)):
            with pytest.raises(shmipc.Closed) as closed:
                call()
            assert isinstance(closed.value, EOFError)


def test_iteration_ends_at_the_end_of_the_stream() -> None:
    with Producer("m") as producer, Consumer("m", timeout=5) as consumer:
        producer.send_many([b"a", b"b"])
        producer.close()
        assert [bytes(frame) for frame in consumer] == [b"a", b"b"]
        assert list(consumer) == []


def test_iteration_ends_when_its_body_closes_the_consumer() -> None:
    with Producer("m", max_consumers=2) as producer, Consumer("m", timeout=5) as consumer:
        producer.send_many([b"a", b"b"])
        seen = []
        for frame in consumer:
            seen.append(bytes(frame))
            consumer.close()
        del frame
        assert seen == [b"a"]


def test_closed_handles_refuse_and_close_again_quietly() -> None:
    with Producer("m") as producer, Consumer("m", timeout=5) as consumer:
        producer.close()
        consumer.close()
        for call in (
            lambda: producer.send(b""),
            lambda: producer.try_send(b""),
            lambda: producer.send_many([b""]),
            lambda: producer.reserve(1),
            lambda: producer.stats(),
            lambda: producer.lag,
            lambda: producer.unlink(),
            lambda: producer.wait_for_consumers(timeout=0),
            lambda: producer.__enter__(),
            lambda: consumer.recv(0),
            lambda: consumer.read(0),
            lambda: consumer.recv_into(bytearray(1), 0),
            lambda: consumer.lag,
            lambda: consumer.pending,
            lambda: consumer.stats(),
            lambda: iter(consumer),
            lambda: shmipc.wait([consumer], 0),
        ):
            with pytest.raises(shmipc.Closed, match="closed"):
                call()
        assert producer.closed
        assert consumer.closed
        producer.close()
        consumer.close()


def test_leaked_handle_is_a_resource_warning(shm_dir: Any) -> None:
    producer = Producer("m")
    consumer = Consumer("m", timeout=5)
    with pytest.warns(ResourceWarning, match="unclosed Consumer of ring 'm'"):
        del consumer
    with pytest.warns(ResourceWarning, match="unclosed Producer of ring 'm'"):
        del producer
    assert list(shm_dir.iterdir()) == []


# ---- what a handle tells -------------------------------------------------------------------------


def test_counters_follow_the_messages(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    producer.send_many([b"a"] * 5)
    assert (producer.lag, consumer.pending, consumer.lag) == (5, 5, 5)
    consumer.recv(0)
    frame = consumer.read(0)
    assert (producer.lag, consumer.pending, consumer.lag) == (4, 3, 4)
    told = producer.stats()
    assert (told.count, told.committed_len, told.lag) == (5, 160, 4)
    assert (told.attached, told.reclaimed, told.took_over) == (1, 0, False)
    told = consumer.stats()
    assert (told.pending, told.lag, told.frames, told.lost) == (3, 4, 1, 0)
    frame.release()
    assert (producer.lag, consumer.lag, consumer.lost) == (3, 3, 0)


def test_repr_tells_name_role_and_state(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    producer.send(b"four")
    assert repr(producer) == "<shmipc.Producer 'm' of messages, open>"
    assert repr(consumer) == "<shmipc.Consumer 'm' of messages, attached>"
    frame = consumer.read(0)
    assert repr(frame) == "<shmipc.Frame of 4 bytes of ring 'm', leased>"
    frame.release()
    assert repr(frame) == "<shmipc.Frame of 4 bytes of ring 'm', released>"
    producer.send(b"1")
    assert repr(consumer.read(0)) == "<shmipc.Frame of 1 byte of ring 'm', leased>"
    with producer.reserve(1) as reservation:
        assert repr(reservation) == "<shmipc.Reservation of 1 byte in ring 'm', open>"
    with producer.reserve(3) as reservation:
        assert repr(reservation) == "<shmipc.Reservation of 3 bytes in ring 'm', open>"
    assert repr(reservation) == "<shmipc.Reservation of 3 bytes in ring 'm', settled>"
    producer.close()
    consumer.close()
    assert repr(producer) == "<shmipc.Producer 'm' of messages, closed>"
    assert repr(consumer) == "<shmipc.Consumer 'm' of messages, closed>"


def test_repr_of_a_typed_ring_has_the_shape_of_its_items_if_they_have_one() -> None:
    for shape, words in (((), "float64"), ((3,), "float64 (3,)")):
        with Producer("t", dtype="f8", shape=shape) as producer, Consumer("t", timeout=5):
            assert repr(producer) == f"<shmipc.Producer 't' of {words}, open>"
            with producer.reserve(1) as reservation:
                assert repr(reservation) == "<shmipc.Reservation of 1 item in ring 't', open>"
                reservation.abort()
            with producer.reserve(2) as reservation:
                assert repr(reservation) == "<shmipc.Reservation of 2 items in ring 't', open>"
                reservation.abort()


def test_repr_of_a_handle_that_was_never_opened_has_its_name_once() -> None:
    assert repr(Producer.__new__(Producer)) == "<shmipc.Producer, never opened>"


def test_one_byte_is_told_in_the_singular() -> None:
    one = shmipc.record_type([("a", "u1"), ("b", "S1")])
    with Producer("t", dtype="u1") as typed, pytest.raises(ValueError, match="of 1 byte, not 2 b"):
        typed.send(b"12")
    with Producer("m", capacity=AREA) as producer, Consumer("m", timeout=5) as consumer:
        producer.send(b"1")
        with pytest.raises(ValueError, match="the message has 1 byte, the buffer 0"):
            consumer.recv_into(bytearray())
        with pytest.raises(ValueError, match=r"has 2 bytes, and this message of ring 'm' has 1$"):
            one(consumer.read(0))
        with pytest.raises(ValueError, match="field 'b' holds at most 1 byte, not the 2"):
            one(b=b"12")
        with pytest.raises(shmipc.Busy, match=r"its 1 consumer already \(process"):
            Consumer("m", timeout=0)


def test_attributes_of_a_message_ring(ring: tuple[Any, Any]) -> None:
    for handle in ring:
        assert (handle.name, handle.dtype, handle.shape) == ("m", None, ())
        assert (handle.capacity, handle.overflow, handle.closed) == (AREA, "block", False)
        with pytest.raises(AttributeError):
            handle.name = "other"
    assert (ring[0].max_consumers, ring[0].attached) == (1, 1)


def test_handle_whose_init_failed_is_harmless() -> None:
    for kind in (Producer, Consumer):
        handle: Any = kind.__new__(kind)
        assert "never opened" in repr(handle)
        assert handle.closed
        handle.close()
        for call in (handle.stats, handle.__enter__, lambda handle=handle: handle.lag):
            with pytest.raises(RuntimeError, match="never opened"):
                call()
        with pytest.raises(ValueError, match="a name is"):
            handle.__init__("/")


def test_handles_can_be_subclassed() -> None:
    class Feed(Producer):
        note = "mine"

    class Reader(Consumer):
        def recv(self, timeout: float | None = None) -> Any:
            return super().recv(timeout)[::-1]

    with Feed("m") as producer, Reader("m", timeout=5) as consumer:
        producer.extra = 1  # type: ignore[attr-defined]
        producer.send(b"abc")
        assert consumer.recv(0) == b"cba"
        assert shmipc.wait([consumer], 0) == []


def test_opening_a_handle_twice_is_a_runtime_error(ring: tuple[Any, Any]) -> None:
    for handle in ring:
        with pytest.raises(RuntimeError, match="open already"):
            handle.__init__("m")


# ---- weak references -----------------------------------------------------------------------------


def test_weak_references_end_with_what_they_refer_to() -> None:
    class Feed(Producer): ...

    for kind in (Producer, Feed):
        producer: Any = kind("m", capacity=AREA)
        consumer: Any = Consumer("m", timeout=5)
        producer.send(b"x")
        frame: Any = consumer.read(0)
        reservation: Any = producer.reserve(1)
        reservation.abort()
        ended: list[str] = []
        everything = weakref.WeakSet([producer, consumer, frame, reservation])
        references = [weakref.ref(one) for one in everything]
        for one in everything:
            weakref.finalize(one, ended.append, type(one).__name__)
        assert {reference() for reference in references} == set(everything)
        del one
        frame.release()
        consumer.close()
        producer.close()
        assert len(everything) == 4
        del frame, reservation, consumer, producer
        assert len(everything) == 0
        assert [reference() for reference in references] == [None] * 4
        assert sorted(ended) == sorted([kind.__name__, "Consumer", "Frame", "Reservation"])


def test_leaked_handle_is_closed_before_its_weak_references_end() -> None:
    producer = Producer("m")
    name = segment_path("m")
    seen: list[bool] = []
    weakref.finalize(producer, lambda: seen.append(name.exists()))
    with pytest.warns(ResourceWarning):
        del producer
    assert seen == [False]
