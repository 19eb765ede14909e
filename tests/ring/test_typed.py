"""Typed rings: dtypes and shapes, items one by one and in batches, items written in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import Peer, discard, in_thread
from samples import ALIGNED, SCHEMAS, TICK, same, sample
from shmipc import Consumer, Producer

pytestmark = pytest.mark.binding


def take_all(consumer: Any) -> Any:
    """A copy of everything that is ready, however many batches it comes in."""
    parts = []
    while consumer.pending:
        with consumer.read_batch(timeout=0) as frame:
            parts.append(frame.array.copy())
    return np.concatenate(parts)


# ---- schemas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "shape"), SCHEMAS, ids=str)
def test_items_of_any_dtype_and_shape_come_back_equal(dtype: Any, shape: Any) -> None:
    with (
        Producer("t", dtype=dtype, shape=shape, capacity=3) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        assert producer.dtype == consumer.dtype == np.dtype(dtype)
        assert producer.shape == consumer.shape == shape
        assert producer.capacity == consumer.capacity >= 3
        items = sample(dtype, shape, 4 * 3)
        for lap in range(3):
            one, two, three = (items[4 * lap + i : 4 * lap + i + 1] for i in range(3))
            one, two, three = (item.reshape(shape) for item in (one, two, three))
            producer.send(one)
            got = consumer.recv(0)
            assert same(np.asarray(got), np.asarray(one))
            assert got.flags.writeable
            assert got.flags.owndata or got.base is None
            producer.send_many(items[4 * lap + 1 : 4 * lap + 3], timeout=0)
            with consumer.read(0) as frame:
                assert same(frame.array, np.asarray(two))
                assert (len(frame), frame.seq) == (1, 5 * lap + 1)
                assert bytes(frame) == two.tobytes()
            assert same(np.asarray(consumer.recv(0)), np.asarray(three))
            producer.send_many(items[4 * lap + 2 : 4 * lap + 4].tobytes())
            batch = consumer.read_batch(timeout=0)
            assert same(batch.array, items[4 * lap + 2 : 4 * lap + 4])
            assert (len(batch), batch.seq) == (2, 5 * lap + 3)
            batch.release()


def test_subarray_dtype_is_a_shape_in_disguise() -> None:
    with (
        Producer("t", dtype=np.dtype(("<f8", (3,))), shape=(2,)) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        assert (producer.dtype, producer.shape) == (np.dtype("<f8"), (2, 3))
        assert (consumer.dtype, consumer.shape) == (np.dtype("<f8"), (2, 3))
        producer.send(np.ones((2, 3)))
        assert consumer.recv(0).shape == (2, 3)


@pytest.mark.parametrize(("given", "shape"), [(3, (3,)), ([2, 3], (2, 3)), (np.int64(4), (4,))])
def test_shape_may_be_an_int_or_a_list(given: Any, shape: tuple[int, ...]) -> None:
    with Producer("t", dtype="f8", shape=given) as producer, Consumer("t", timeout=5) as consumer:
        assert producer.shape == consumer.shape == shape


def test_zero_axis_items_of_shape_one_are_told_apart() -> None:
    with Producer("t", dtype="<f8", shape=(1,)) as producer, Consumer("t", timeout=5) as consumer:
        with pytest.raises(shmipc.SchemaMismatch):
            producer.send(np.float64(1))
        producer.send(np.ones(1))
        assert consumer.recv(0).shape == (1,)


@pytest.mark.parametrize("dtype", ["O", [("a", "f8"), ("b", "O")], ("O", (2,))])
def test_dtype_with_python_objects_is_a_type_error(dtype: Any) -> None:
    with pytest.raises(TypeError, match="Python objects"):
        Producer("t", dtype=np.dtype(dtype))


def test_dtype_that_cannot_be_described_is_a_type_error() -> None:
    overlapping = np.dtype({"names": ["a", "b"], "formats": ["<u4", "<u2"], "offsets": [0, 0]})
    with pytest.raises(TypeError, match="overlapping"):
        Producer("t", dtype=overlapping)
    with pytest.raises(TypeError):
        Producer("t", dtype="no such dtype")


@pytest.mark.parametrize(
    ("dtype", "shape"), [("S0", ()), ("V0", ()), ("f8", (0,)), ("f8", (3, 0, 2)), ([], ())]
)
def test_item_without_bytes_is_a_value_error(dtype: Any, shape: Any) -> None:
    with pytest.raises(ValueError, match="no bytes"):
        Producer("t", dtype=np.dtype(dtype), shape=shape)


@pytest.mark.parametrize("shape", [(-1,), (2**50,), (2**30, 2**30), (1,) * 64])
def test_impossible_shape_is_a_value_error(shape: Any) -> None:
    with pytest.raises(ValueError, match="shape|large|memory"):  # noqa: RUF043
        Producer("t", dtype="f8", shape=shape)


def test_shape_without_dtype_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="needs a dtype"):
        Producer("t", shape=(3,))


@pytest.mark.parametrize("capacity", [0, -1, 2**46, 2**64])
def test_impossible_capacity_is_a_value_error(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        Producer("t", dtype="f8", capacity=capacity)


def test_capacity_counts_items_and_is_rounded_up() -> None:
    with Producer("t", dtype="<f8", capacity=513) as producer:
        assert producer.capacity == 1024
    with Producer("t", dtype="u1", shape=(1080, 1920, 3)) as producer:
        assert producer.capacity >= 4


# ---- what can be sent ----------------------------------------------------------------------------


@pytest.fixture
def ticks() -> Any:
    with Producer("t", dtype=TICK, capacity=64) as producer, Consumer("t", timeout=5) as consumer:
        yield producer, consumer
    discard("t")


def test_item_may_be_a_numpy_scalar_an_array_or_its_bytes(ticks: Any) -> None:
    producer, consumer = ticks
    items = sample(TICK, (), 1)
    item = items[0]
    assert isinstance(item, np.void)
    for form in (item, items.reshape(()), item.tobytes(), bytearray(item.tobytes())):
        producer.send(form)
        assert consumer.recv(0).tobytes() == item.tobytes()
    producer.send(memoryview(item.tobytes()))
    assert consumer.recv(0).tobytes() == item.tobytes()


def test_plain_numpy_scalar_is_an_item() -> None:
    with Producer("t", dtype="<f8") as producer, Consumer("t", timeout=5) as consumer:
        producer.send(np.float64(2.5))
        assert consumer.recv(0) == 2.5
        with pytest.raises(TypeError, match=r"numpy\.array"):
            producer.send(2.5)
        with pytest.raises(shmipc.SchemaMismatch):
            producer.send(np.float32(2.5))


def test_record_array_is_sent_as_its_dtype(ticks: Any) -> None:
    producer, consumer = ticks
    records = sample(TICK, (), 3).view(np.recarray)
    assert producer.send_many(records) == 3
    assert consumer.read_batch(timeout=0).array.tobytes() == records.tobytes()


@pytest.mark.parametrize("length", [0, 1, TICK.itemsize - 1, TICK.itemsize + 1, 2 * TICK.itemsize])
def test_raw_bytes_of_the_wrong_length_are_a_value_error(ticks: Any, length: int) -> None:
    producer, consumer = ticks
    for form in (bytes(length), memoryview(bytes(length))):
        with pytest.raises(ValueError, match=f"{TICK.itemsize} bytes"):
            producer.send(form)
    assert consumer.pending == 0


def test_raw_bytes_of_many_items_are_sent_whole_or_not_at_all(ticks: Any) -> None:
    producer, consumer = ticks
    items = sample(TICK, (), 5)
    assert producer.send_many(items.tobytes()) == 5
    assert same(consumer.read_batch(timeout=0).array, items)
    with pytest.raises(ValueError, match="bytes"):
        producer.send_many(items.tobytes()[:-1])
    assert consumer.pending == 0


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((), "<f8"),
        np.zeros(1, TICK),
        np.zeros((), TICK.newbyteorder(">")),
        np.zeros((), [("time", "<i8"), ("price", "<f8"), ("size", "<u4"), ("sides", "u1")]),
        np.zeros((), ALIGNED),
        np.zeros(TICK.itemsize, "u1"),
    ],
    ids=["dtype", "shape", "order", "names", "other", "bytes"],
)
def test_other_dtype_or_shape_is_a_schema_mismatch(ticks: Any, wrong: Any) -> None:
    producer, consumer = ticks
    with pytest.raises(shmipc.SchemaMismatch, match="ring 't' takes items of dtype") as error:
        producer.send(wrong)
    assert isinstance(error.value, TypeError)
    assert consumer.pending == 0


@pytest.mark.parametrize("wrong", [np.zeros((), TICK), np.zeros((2, 2), TICK), np.zeros(3, "<f8")])
def test_send_many_of_another_shape_is_a_schema_mismatch(ticks: Any, wrong: Any) -> None:
    with pytest.raises(shmipc.SchemaMismatch):
        ticks[0].send_many(wrong)


def test_send_many_of_a_list_is_a_type_error_that_says_how(ticks: Any) -> None:
    with pytest.raises(TypeError, match=r"numpy\.array"):
        ticks[0].send_many([(1, 2.0, 3, 4)])


def test_kind_and_flags_are_refused_in_a_typed_ring(ticks: Any) -> None:
    item = np.zeros((), TICK)
    for option in ({"kind": 2}, {"flags": 1}):
        for call in (ticks[0].send, ticks[0].try_send):
            with pytest.raises(ValueError, match="fields of the dtype"):
                call(item, **option)
        with pytest.raises(ValueError, match="fields of the dtype"):
            ticks[0].reserve(1, **option)


def test_text_methods_are_refused_in_a_typed_ring(ticks: Any) -> None:
    producer, consumer = ticks
    producer.send(np.zeros((), TICK))
    with pytest.raises(TypeError, match="typed"):
        consumer.recv_text(0)
    with pytest.raises(TypeError):
        producer.send("text")
    with pytest.raises(TypeError):
        producer.send_text(5)
    assert consumer.pending == 1


def test_read_batch_is_refused_in_a_message_ring() -> None:
    with Producer("m"), Consumer("m", timeout=5) as consumer:  # noqa: SIM117
        with pytest.raises(TypeError, match="use read"):
            consumer.read_batch(timeout=0)


def test_typed_item_is_received_into_a_buffer(ticks: Any) -> None:
    producer, consumer = ticks
    items = sample(TICK, (), 1)
    producer.send(items[0])
    target = np.zeros(2, TICK)
    assert consumer.recv_into(target, 0) == TICK.itemsize
    assert target[0] == items[0]
    producer.send(items[0])
    with pytest.raises(ValueError, match="stays unread"):
        consumer.recv_into(bytearray(TICK.itemsize - 1), 0)
    assert consumer.pending == 1


# ---- batches -------------------------------------------------------------------------------------


def test_read_batch_takes_at_most_max(ticks: Any) -> None:
    producer, consumer = ticks
    items = sample(TICK, (), 10)
    producer.send_many(items)
    taken = [consumer.read_batch(n, timeout=0) for n in (1, 3, 100)]
    assert [len(frame) for frame in taken] == [1, 3, 6]
    assert [frame.seq for frame in taken] == [0, 1, 4]
    assert same(np.concatenate([frame.array for frame in taken]), items)
    with pytest.raises(shmipc.Empty):
        consumer.read_batch(timeout=0)
    for bad in (0, -1, 2**64):
        with pytest.raises(ValueError, match="max must be"):
            consumer.read_batch(bad, timeout=0)


def test_read_batch_takes_all_that_is_ready(ticks: Any) -> None:
    producer, consumer = ticks
    items = sample(TICK, (), 10)
    producer.send_many(items[:5])
    consumer.recv(0)
    producer.send_many(items[5:])
    assert consumer.pending == 9
    frame = consumer.read_batch(timeout=0)
    got = frame.array.copy()
    frame.release()
    assert same(got, items[1:])


def test_batch_across_the_end_of_the_area_is_one_array() -> None:
    with Producer("t", dtype="<u8", shape=(5,)) as producer, Consumer("t", timeout=5) as consumer:
        most = producer.capacity
        items = np.arange(5 * most * 4, dtype="<u8").reshape(-1, 5)
        sent = 0
        for step in (most // 2 + 1, most - 3, most, most - 1):
            assert producer.send_many(items[sent : sent + step], timeout=0) == step
            frame = consumer.read_batch(timeout=0)
            assert same(frame.array, items[sent : sent + step])
            assert frame.array.flags.c_contiguous
            frame.release()
            sent += step


@pytest.mark.parametrize("size", [4097, 5000, 8191])
def test_batch_of_large_padded_items_is_strided_and_aligned(size: int) -> None:
    stride = (size + 63) // 64 * 64
    with (
        Producer("t", dtype="u1", shape=(size,), capacity=5) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        for lap in range(6):
            items = sample("u1", (size,), 5, seed=lap)
            assert producer.send_many(items, timeout=0) == 5
            with consumer.read_batch(timeout=0) as frame:
                assert frame.array.strides == (stride, 1)
                assert frame.array.ctypes.data % 64 == 0
                assert same(frame.array, items)
                with memoryview(frame) as view:
                    assert (view.shape, view.strides) == ((5, size), (stride, 1))
                    assert bytes(view) == bytes(frame) == items.tobytes()
                with pytest.raises(BufferError, match="contiguous"):
                    np.frombuffer(frame, "u1")
        producer.send(items[0])
        with consumer.read_batch(timeout=0) as frame:
            assert bytes(frame) == items[0].tobytes()


def test_full_typed_ring_holds_exactly_its_capacity() -> None:
    with Producer("t", dtype="u1", shape=(1000,)) as producer, Consumer("t", timeout=5) as consumer:
        most = producer.capacity
        items = sample("u1", (1000,), most + 5)
        for _ in range(3):
            assert producer.send_many(items, timeout=0) == most
            assert not producer.try_send(items[0])
            with pytest.raises(shmipc.Full):
                producer.send_many(items, timeout=0.01)
            assert producer.lag == consumer.pending == most
            consumer.recv(0)
            assert producer.try_send(items[0])
            assert not producer.try_send(items[0])
            assert same(take_all(consumer)[:-1], items[1:most])


def test_send_many_larger_than_the_ring_waits_for_a_consumer_in_a_thread() -> None:
    with Producer("t", dtype="<i8", capacity=512) as producer, Consumer("t", timeout=5) as consumer:
        items = np.arange(20 * producer.capacity, dtype="<i8")
        joined = in_thread(lambda: producer.send_many(items, timeout=20))
        got: list[Any] = []
        while sum(map(len, got)) < len(items):
            with consumer.read_batch(timeout=20) as frame:
                got.append(frame.array.copy())
        assert joined() == len(items)
        assert same(np.concatenate(got), items)


def test_send_many_larger_than_the_ring_reaches_a_consumer_in_another_process() -> None:
    with Producer("t", dtype="<i8", capacity=512) as producer:
        body = """
            with Consumer("t", timeout=20) as consumer:
                expected = 0
                say("ready")
                while expected < int(args[0]):
                    with consumer.read_batch(timeout=20) as frame:
                        array = frame.array
                        assert (array == np.arange(expected, expected + len(array))).all()
                        expected += len(array)
                        del array
            say("done", expected)
            """
        count = 100 * producer.capacity
        with Peer(body, count) as peer:
            peer.expect()
            assert producer.send_many(np.arange(count, dtype="<i8"), timeout=20) == count
            peer.expect(f"done {count}")
            peer.finish()


def test_empty_batch_sends_nothing(ticks: Any) -> None:
    assert ticks[0].send_many(np.zeros(0, TICK)) == 0
    assert ticks[0].send_many(b"") == 0
    assert ticks[1].pending == 0
