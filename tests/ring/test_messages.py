"""Message rings in one process: framing, buffers, timeouts, batches, the end of a stream."""

from __future__ import annotations

import array
import math
import queue
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import discard, in_thread
from shmipc import Consumer, Producer

pytestmark = pytest.mark.binding

AREA = 4096
LARGEST = AREA - 16


@pytest.fixture
def ring() -> Iterator[tuple[Any, Any]]:
    with Producer("m", capacity=AREA) as producer, Consumer("m", timeout=5) as consumer:
        yield producer, consumer
    discard("m")


# ---- framing -------------------------------------------------------------------------------------


def test_one_send_is_one_recv(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    for text in (b"a", b"bc", b"def"):
        producer.send(text)
    assert [consumer.recv(0) for _ in range(3)] == [b"a", b"bc", b"def"]
    with pytest.raises(shmipc.Empty):
        consumer.recv(0)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000, LARGEST - 1, LARGEST])
def test_message_of_any_size_that_fits_comes_back_whole(ring: tuple[Any, Any], size: int) -> None:
    producer, consumer = ring
    for lap in range(5):
        data = bytes((lap + i) % 251 for i in range(size))
        producer.send(data, timeout=0)
        assert consumer.recv(0) == data


@pytest.mark.parametrize("size", [LARGEST + 1, AREA, 10 * AREA])
def test_message_larger_than_the_ring_is_a_value_error_that_tells_the_largest(
    ring: tuple[Any, Any], size: int
) -> None:
    producer, consumer = ring
    for send in (producer.send, producer.try_send, lambda data: producer.send_many([data])):
        with pytest.raises(ValueError, match=rf"{size} bytes never fits ring 'm'.*{LARGEST}"):
            send(bytes(size))
    with pytest.raises(ValueError, match="never fits"):
        producer.reserve(size)
    producer.send(b"after")
    assert consumer.recv(0) == b"after"


def test_zero_length_messages_do_not_jam_the_ring(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    for _ in range(3):
        for _ in range(AREA // 16):
            producer.send(b"", timeout=0)
        assert not producer.try_send(b"")
        for _ in range(AREA // 16):
            assert consumer.recv(0) == b""


def test_capacity_is_rounded_up_and_told() -> None:
    with Producer("m", capacity=5000) as producer:
        assert producer.capacity == 8192
    with Producer("m") as producer:
        assert producer.capacity == 1 << 20


def test_kind_flags_and_sequence_travel_with_the_message(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    producer.send(b"x")
    producer.send(b"y", kind=65535, flags=65535)
    assert producer.try_send(b"z", kind=7, flags=0)
    seen = []
    for _ in range(3):
        with consumer.read(0) as frame:
            seen.append((bytes(frame), frame.kind, frame.flags, frame.seq))
    assert seen == [(b"x", 1, 0, 0), (b"y", 65535, 65535, 1), (b"z", 7, 0, 2)]


@pytest.mark.parametrize("kind", [0, -1, 65536, 2**64])
def test_kind_out_of_range_is_a_value_error(ring: tuple[Any, Any], kind: int) -> None:
    with pytest.raises(ValueError, match="kind must be between 1 and 65535"):
        ring[0].send(b"", kind=kind)


@pytest.mark.parametrize("flags", [-1, 65536])
def test_flags_out_of_range_are_a_value_error(ring: tuple[Any, Any], flags: int) -> None:
    with pytest.raises(ValueError, match="flags must be between 0 and 65535"):
        ring[0].send(b"", flags=flags)


@pytest.mark.parametrize("bad", ["1", 1.5, b"1"])
def test_kind_that_is_no_integer_is_a_type_error(ring: tuple[Any, Any], bad: object) -> None:
    with pytest.raises(TypeError):
        ring[0].send(b"", kind=bad)


def test_wrong_arguments_are_type_errors(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    for call in (
        lambda: producer.send(),
        lambda: producer.send(b"", 1),
        lambda: producer.send(b"", king=1),
        lambda: producer.send(b"", data=b""),
        lambda: consumer.recv(1, 2),
        lambda: consumer.recv(time=1),
        lambda: consumer.recv(0, timeout=0),
        lambda: consumer.read_batch(),
        lambda: Producer(),  # type: ignore[call-arg]
        lambda: Producer("m", "f8"),  # type: ignore[call-arg]
        lambda: Producer(b"m"),  # type: ignore[arg-type]
        lambda: Consumer("m", "latest"),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError):
            call()


# ---- what can be sent ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"12345678",
        bytearray(b"12345678"),
        memoryview(b"12345678"),
        memoryview(bytearray(b"x12345678y"))[1:9],
        memoryview(b"12345678").cast("Q"),
        array.array("d", [1.5]),
        np.arange(8, dtype="u1"),
        np.arange(6.0).reshape(2, 3),
        np.float64(2.5),
        np.asfortranarray(np.arange(4.0)),
    ],
    ids=lambda data: type(data).__name__,
)
def test_any_contiguous_buffer_can_be_sent(ring: tuple[Any, Any], data: Any) -> None:
    producer, consumer = ring
    producer.send(data)
    producer.send_many([data, data])
    assert [consumer.recv(0) for _ in range(3)] == [bytes(memoryview(data))] * 3


def test_read_only_array_can_be_sent(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    data = np.arange(4, dtype="<u2")
    data.flags.writeable = False
    producer.send(data)
    assert consumer.recv(0) == data.tobytes()


def test_frame_can_be_sent_on(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    producer.send(b"onwards")
    with consumer.read(0) as frame:
        producer.send(frame)
    assert consumer.recv(0) == b"onwards"


def test_str_is_a_type_error_that_names_send_text(ring: tuple[Any, Any]) -> None:
    for send in (ring[0].send, ring[0].try_send, lambda text: ring[0].send_many([text])):
        with pytest.raises(TypeError, match="send_text"):
            send("text")
    with pytest.raises(TypeError, match=r"send\(\)"):
        ring[0].send_many("text")


@pytest.mark.parametrize("data", [None, 1, 1.5, [1], {"a": 1}, object()])
def test_what_is_no_buffer_is_a_type_error(ring: tuple[Any, Any], data: object) -> None:
    with pytest.raises(TypeError, match="any buffer"):
        ring[0].send(data)


def test_buffer_is_free_again_after_send(ring: tuple[Any, Any]) -> None:
    data = bytearray(b"grow")
    ring[0].send(data)
    ring[0].send_many([data])
    data.extend(b" me")  # BufferError if an export were left


@pytest.mark.parametrize("text", ["", "plain", "žluťoučký 🐎", "nul\0inside"])
def test_text_comes_back_as_text(ring: tuple[Any, Any], text: str) -> None:
    producer, consumer = ring
    producer.send_text(text, kind=3, flags=4)
    producer.send_text(text)
    with consumer.read(0) as frame:
        assert (bytes(frame), frame.kind, frame.flags) == (text.encode(), 3, 4)
    assert consumer.recv_text(0) == text


def test_send_text_of_bytes_is_a_type_error(ring: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError, match="use send"):
        ring[0].send_text(b"bytes")
    with pytest.raises(UnicodeEncodeError):
        ring[0].send_text("\ud800")


def test_recv_text_of_no_text_leaves_the_message(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    producer.send(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        consumer.recv_text(0)
    assert consumer.recv(0) == b"\xff\xfe"


# ---- recv_into -----------------------------------------------------------------------------------


def test_recv_into_fills_the_front_of_the_buffer(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    producer.send_many([b"abc", b"", b"de"])
    buffer = bytearray(b"......")
    assert consumer.recv_into(buffer, 0) == 3
    assert consumer.recv_into(bytearray(), timeout=0) == 0
    assert consumer.recv_into(memoryview(buffer)[4:], 0) == 2
    assert buffer == b"abc.de"


def test_recv_into_buffer_that_is_too_small_keeps_the_message(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    producer.send(b"12345")
    small = bytearray(4)
    with pytest.raises(ValueError, match="5 bytes, the buffer 4"):
        consumer.recv_into(small, 0)
    assert small == bytes(4)
    exact = np.zeros(5, "u1")
    assert consumer.recv_into(exact, 0) == 5
    assert exact.tobytes() == b"12345"


def test_recv_into_refuses_what_it_cannot_write(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    producer.send(b"kept")
    frozen = np.zeros(8, "u1")
    frozen.flags.writeable = False
    for bad in (b"read-only", memoryview(b"read-only"), frozen, "text", 5, None):
        with pytest.raises(TypeError, match="writable buffer"):
            consumer.recv_into(bad, 0)
    with pytest.raises(ValueError, match="C-contiguous"):
        consumer.recv_into(np.zeros(16, "u1")[::2], 0)
    assert consumer.recv(0) == b"kept"


# ---- full, empty, timeouts -----------------------------------------------------------------------


def test_send_keeps_unread_message_when_ring_is_full(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    sent = 0
    while producer.try_send(sent.to_bytes(4, "little") * 25):
        sent += 1
    assert sent == AREA // 128
    with pytest.raises(shmipc.Full) as full:
        producer.send(b"one more", timeout=0)
    assert isinstance(full.value, queue.Full)
    for number in range(sent):
        assert consumer.recv(0) == number.to_bytes(4, "little") * 25


def test_empty_is_queue_empty(ring: tuple[Any, Any]) -> None:
    with pytest.raises(queue.Empty):
        ring[1].recv(0)


@pytest.mark.parametrize("spin", [None, 0, 0.001, math.inf])
def test_timeout_takes_as_long_as_asked(spin: float | None) -> None:
    with (
        Producer("m", capacity=AREA, spin=spin) as producer,
        Consumer("m", timeout=5, spin=spin) as consumer,
    ):
        for wait in (consumer.recv, consumer.read):
            start = time.monotonic()
            with pytest.raises(shmipc.Empty):
                wait(timeout=0.08)
            assert 0.08 <= time.monotonic() - start < 5
        producer.send(bytes(LARGEST))
        start = time.monotonic()
        with pytest.raises(shmipc.Full):
            producer.send(b"", timeout=0.08)
        assert 0.08 <= time.monotonic() - start < 5
        consumer.recv(0)


@pytest.mark.parametrize("bad", [-1, -0.001, math.nan, -math.inf])
def test_negative_timeout_is_a_value_error(ring: tuple[Any, Any], bad: float) -> None:
    producer, consumer = ring
    for call in (
        lambda: consumer.recv(bad),
        lambda: consumer.recv_text(bad),
        lambda: consumer.read(timeout=bad),
        lambda: consumer.recv_into(bytearray(9), bad),
        lambda: producer.send(b"", timeout=bad),
        lambda: producer.send_many([b""], timeout=bad),
        lambda: producer.reserve(1, timeout=bad),
        lambda: producer.wait_for_consumers(timeout=bad),
        lambda: shmipc.wait([consumer], bad),
        lambda: Consumer("m", timeout=bad),
        lambda: Producer("other", spin=bad),
    ):
        with pytest.raises(ValueError, match="number of seconds"):
            call()


def test_timeout_that_is_no_number_is_a_type_error(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    for call in (lambda: consumer.recv("1"), lambda: producer.send(b"", timeout="1")):
        with pytest.raises(TypeError):
            call()  # type: ignore[no-untyped-call]


def test_bad_timeout_is_refused_although_a_message_is_ready(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    producer.send(b"ready")
    with pytest.raises(ValueError, match="number of seconds"):
        consumer.recv(-1)
    assert consumer.recv(0) == b"ready"


@pytest.mark.parametrize("forever", [None, math.inf, 1e300])
def test_infinite_timeout_waits_until_it_comes(ring: tuple[Any, Any], forever: Any) -> None:
    producer, consumer = ring
    joined = in_thread(lambda: consumer.recv(forever))
    producer.send(b"at last")
    assert joined() == b"at last"


# ---- send_many -----------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [list, tuple, iter, lambda items: (i for i in items)])
def test_send_many_takes_any_iterable(ring: tuple[Any, Any], container: Any) -> None:
    producer, consumer = ring
    items = [b"a", bytearray(b"bb"), np.frombuffer(b"ccc", "u1"), b""]
    assert producer.send_many(container(items)) == 4
    with consumer.read(0) as frame:
        assert (frame.seq, frame.kind, frame.flags) == (0, 1, 0)
    assert [consumer.recv(0) for _ in range(3)] == [b"bb", b"ccc", b""]
    assert producer.send_many([]) == 0


def test_send_many_sends_what_came_before_the_generator_raised(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring

    def items() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise LookupError("midway")

    with pytest.raises(LookupError, match="midway"):
        producer.send_many(items())
    producer.send(b"three")
    assert [consumer.recv(0) for _ in range(3)] == [b"one", b"two", b"three"]


def test_send_many_sends_what_came_before_a_bad_item(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    for bad, error in (("text", TypeError), (bytes(AREA), ValueError), (None, TypeError)):
        with pytest.raises(error):
            producer.send_many([b"good", bad, b"never"])
        assert consumer.recv(0) == b"good"
        assert consumer.pending == 0


def test_send_many_of_no_iterable_is_a_type_error(ring: tuple[Any, Any]) -> None:
    for bad in (None, 5, b"bytes"):
        with pytest.raises(TypeError):
            ring[0].send_many(bad)


def test_send_many_returns_how_many_when_time_is_up(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring
    items = [i.to_bytes(4, "little") * 28 for i in range(100)]  # 128 bytes each in the ring
    for timeout in (0, 0.02):
        assert producer.send_many(items, timeout=timeout) == AREA // 128
        with pytest.raises(shmipc.Full):
            producer.send_many(items, timeout=timeout)
        assert [consumer.recv(0) for _ in range(AREA // 128)] == items[: AREA // 128]
    assert consumer.pending == 0


def test_send_many_of_more_than_the_ring_holds_waits_for_the_consumer(
    ring: tuple[Any, Any],
) -> None:
    producer, consumer = ring
    items = [bytes([i % 256]) * (i % 300) for i in range(2000)]
    joined = in_thread(lambda: producer.send_many(iter(items), timeout=20))
    assert [consumer.recv(20) for _ in items] == items
    assert joined() == len(items)


def test_generator_given_to_send_many_may_not_send_itself(ring: tuple[Any, Any]) -> None:
    producer, consumer = ring

    def items() -> Iterator[bytes]:
        yield b"first"
        producer.send(b"nested")

    with pytest.raises(RuntimeError):
        producer.send_many(items())
    assert consumer.recv(0) == b"first"


def test_generator_given_to_send_many_may_close_the_producer() -> None:
    producer = Producer("m", capacity=AREA)
    with Consumer("m", timeout=5) as consumer:

        def items() -> Iterator[bytes]:
            yield b"first"
            producer.close()
            yield b"second"

        with pytest.raises(shmipc.Closed):
            producer.send_many(items())
        assert producer.closed
        assert [bytes(frame) for frame in consumer] == [b"first"]
    discard("m")
