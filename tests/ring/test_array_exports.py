"""Frames and reservations as other libraries read them: buffers, __array__, DLPack."""

from __future__ import annotations

import gc
import importlib
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from samples import SCHEMAS, TICK, same, sample
from shmipc import Consumer, Producer, record_type

# what a format cannot say: times have none, V is padding in it, titles and what follows the last
# field are left out
NO_FORMAT: list[tuple[Any, Any]] = [
    ("<M8[ns]", ()),
    ("<m8[us]", (2,)),
    ("V9", ()),
    (np.dtype([("a", "<i4"), ("t", "<M8[s]")]), ()),
    (np.dtype([(("title", "a"), "<i4")]), (2,)),
    (np.dtype([("a:b", "<i4")]), ()),
    (np.dtype({"names": ["a"], "formats": ["<f8"], "offsets": [0], "itemsize": 16}), ()),
]
NUMPY = tuple(int(part) for part in np.__version__.split(".")[:2])
needs_versioned = pytest.mark.skipif(
    NUMPY < (2, 1), reason="numpy gives read-only memory through DLPack since 2.1"
)


@pytest.fixture
def numbers() -> Any:
    """A ring of (2, 3) float64 with two items in it."""
    with (
        Producer("t", dtype="<f8", shape=(2, 3)) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        producer.send_many(np.arange(12.0).reshape(2, 2, 3))
        yield producer, consumer
        while consumer.pending:
            consumer.recv(0)


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


# ---- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "shape"), SCHEMAS, ids=str)
def test_frame_is_an_array_of_the_rings_dtype_and_shape(dtype: Any, shape: Any) -> None:
    items = sample(dtype, shape, 4)
    with (
        Producer("t", dtype=dtype, shape=shape) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        producer.send_many(items)
        for frame, wanted in (
            (consumer.read(0), items[0:1].reshape(shape)),
            (consumer.read_batch(timeout=0), items[1:]),
        ):
            with frame:
                array = np.asarray(frame)
                assert same(array, wanted)
                assert not array.flags.writeable
                assert address(array) == address(frame.array)
                assert (np.array(frame) == wanted).all()
                assert bytes(frame) == wanted.tobytes()
                del array


@pytest.mark.parametrize(("dtype", "shape"), SCHEMAS, ids=str)
def test_memoryview_of_a_frame_has_its_format_and_shape(dtype: Any, shape: Any) -> None:
    items = sample(dtype, shape, 4)
    with (
        Producer("t", dtype=dtype, shape=shape) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        producer.send_many(items)
        with consumer.read_batch(timeout=0) as frame:
            if (dtype, shape) in NO_FORMAT:
                with pytest.raises(BufferError, match=r"cannot say dtype .* \.array"):
                    memoryview(frame)
            else:
                with memoryview(frame) as view, memoryview(items) as wanted:
                    assert (view.format, view.shape) == (wanted.format, wanted.shape)
                    assert (view.readonly, view.itemsize) == (True, wanted.itemsize)
                    assert view.tobytes() == items.tobytes()


@pytest.mark.parametrize(("dtype", "shape"), NO_FORMAT, ids=str)
def test_dtype_without_a_format_is_an_array_and_bytes_all_the_same(dtype: Any, shape: Any) -> None:
    items = sample(dtype, shape, 2)
    with (
        Producer("t", dtype=dtype, shape=shape) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        producer.send_many(items)
        with consumer.read_batch(timeout=0) as frame:
            assert same(np.asarray(frame), items)
            assert bytes(frame) == items.tobytes()
            for _ in range(2):
                with pytest.raises(BufferError, match=r"cannot say dtype"):
                    memoryview(frame)
        with producer.reserve(2) as room:
            np.asarray(room)[:] = items
            with pytest.raises(BufferError, match=r"cannot say dtype"):
                memoryview(room)
        with consumer.read_batch(timeout=0) as frame:
            assert (frame.array == items).all()


def test_numpy_computes_with_a_frame(numbers: Any) -> None:
    with numbers[1].read_batch(timeout=0) as frame:
        assert np.mean(frame) == 5.5
        assert np.sum(frame, axis=0).tolist() == [[6, 8, 10], [12, 14, 16]]
        assert np.asarray(frame, dtype="f4").dtype == np.float32
        assert np.asarray(frame)[1, 1, 2] == memoryview(frame)[1, 1, 2] == 11
        assert len(frame) == len(memoryview(frame)) == 2


def test_frame_of_messages_is_bytes() -> None:
    with Producer("m") as producer, Consumer("m", timeout=5) as consumer:
        producer.send(b"12345678")
        with consumer.read(0) as frame:
            with memoryview(frame) as view:
                assert (view.format, view.shape, view.readonly) == ("B", (8,), True)
                assert view.cast("I").tolist() == np.frombuffer(b"12345678", "I").tolist()
            assert bytes(frame) == b"12345678"
            assert same(np.asarray(frame), np.frombuffer(b"12345678", "u1"))
            assert same(frame.__array__("u2"), np.frombuffer(b"12345678", "u1").astype("u2"))


@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.parametrize("dtype", [None, "<f8", float, np.dtype("f8"), "<f4"])
def test_array_method_copies_as_numpy_asks(numbers: Any, dtype: Any, copy: Any) -> None:
    with numbers[1].read(0) as frame:
        wanted = frame.array.astype(dtype or "<f8")
        if dtype == "<f4" and copy is False:
            with pytest.raises(ValueError, match="without a copy"):
                frame.__array__(dtype, copy=copy)
            return
        array = frame.__array__(dtype, copy=copy)
        assert same(array, wanted)
        copied = dtype == "<f4" or copy is True
        assert array.flags.writeable == copied
        assert (address(array) == address(frame.array)) != copied


@pytest.mark.skipif(NUMPY < (2, 0), reason="copy= of asarray is of numpy 2")
def test_numpy_2_is_told_that_it_needs_a_copy(numbers: Any) -> None:
    with numbers[1].read(0) as frame:
        assert address(np.asarray(frame, copy=False)) == address(frame.array)
        assert np.asarray(frame, copy=True).flags.writeable
        with pytest.raises(ValueError, match="copy"):
            np.asarray(frame, dtype="<f4", copy=False)


def torch_of(frame: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return importlib.import_module("torch").from_dlpack(frame)


VIEWS: dict[str, Any] = {
    "asarray": np.asarray,
    "slice of asarray": lambda frame: np.asarray(frame)[1:, :],
    "__array__": lambda frame: frame.__array__(),
    "memoryview": memoryview,
    "slice of a memoryview": lambda frame: memoryview(memoryview(frame))[:1],
    "array of a memoryview": lambda frame: np.asarray(memoryview(frame)),
    "from_dlpack": np.from_dlpack,
    "torch": torch_of,
}


NEEDS: dict[str, Any] = {
    "from_dlpack": needs_versioned,
    "torch": pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS.get(name, ())) for name in VIEWS])
def test_view_keeps_the_lease_until_it_dies(name: str, numbers: Any) -> None:
    producer, consumer = numbers
    frame = consumer.read(0)
    view = VIEWS[name](frame)
    with pytest.raises(BufferError, match="alive"):
        frame.release()
    with frame:
        pass
    while producer.try_send(np.zeros((2, 3))):
        pass
    seen = np.asarray(view).reshape(-1)[-3:].tolist()
    assert seen in ([3, 4, 5], [0, 1, 2])
    del view
    gc.collect()
    assert not frame.intact
    assert producer.try_send(np.zeros((2, 3)))
    for refused in (np.asarray, VIEWS["__array__"]):
        with pytest.raises(ValueError, match="released"):
            refused(frame)
    for refused in (memoryview, bytes, VIEWS["from_dlpack"]):
        with pytest.raises(BufferError, match="released"):
            refused(frame)


def test_frame_refuses_to_be_written_through_a_buffer(numbers: Any) -> None:
    with numbers[1].read(0) as frame:
        with pytest.raises(TypeError):
            memoryview(frame)[0, 0] = 1.0
        with pytest.raises(ValueError, match="read-only"):
            np.asarray(frame)[:] = 1
        with pytest.raises(TypeError, match="writable buffer"):
            numbers[1].recv_into(frame, 0)


def test_lease_outlives_frame_and_consumer() -> None:
    producer = Producer("t", dtype="<f8", shape=(3,))
    consumer = Consumer("t", timeout=5)
    producer.send(np.arange(3.0))
    kept = [np.asarray(consumer.read(0))]
    kept.append(memoryview(kept[0]))
    consumer.close()
    producer.close()
    gc.collect()
    assert kept[0].tolist() == kept[1].tolist() == [0, 1, 2]


# ---- reservations --------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "shape"), SCHEMAS, ids=str)
def test_reservation_is_written_as_an_array(dtype: Any, shape: Any) -> None:
    items = sample(dtype, shape, 3)
    with (
        Producer("t", dtype=dtype, shape=shape) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        with producer.reserve(3) as room:
            array = np.asarray(room)
            assert (array.dtype, array.shape) == (items.dtype, items.shape)
            array[:] = items
        with consumer.read_batch(timeout=0) as frame:
            assert (frame.array == items).all()


def test_number_is_written_into_every_item(numbers: Any) -> None:
    producer, consumer = numbers
    with producer.reserve(2) as room:
        np.asarray(room)[:] = 1.5
        with memoryview(room) as view:
            assert (view.format, view.shape, view.readonly) == ("d", (2, 2, 3), False)
            view[1, 1, 2] = 2.5
    with consumer.read_batch(timeout=0) as frame:
        assert frame.array[2:].tolist() == [[[1.5] * 3] * 2, [[1.5] * 3, [1.5, 1.5, 2.5]]]


def test_settled_reservation_gives_no_view(numbers: Any) -> None:
    producer, _ = numbers
    with producer.reserve() as room:
        np.asarray(room)[:] = 0
    for view in (np.asarray, VIEWS["__array__"], np.from_dlpack):
        with pytest.raises(ValueError, match="committed or aborted"):
            view(room)
    with pytest.raises(BufferError, match="committed or aborted"):
        memoryview(room)


def test_views_of_a_reservation_outlive_the_producer_without_reaching_the_ring() -> None:
    with Producer("t", dtype="<f8") as producer:
        consumer = Consumer("t", timeout=5)
        room = producer.reserve(1)
        views = [np.asarray(room), memoryview(room)]
        views[0][0] = 2.5
        room.commit()
    views[0][0] = 3.5
    assert views[1].tolist() == [3.5]
    assert consumer.recv(0) == 2.5
    consumer.close()


# ---- DLPack --------------------------------------------------------------------------------------


@needs_versioned
def test_numpy_reads_a_frame_through_dlpack_and_cannot_write(numbers: Any) -> None:
    with numbers[1].read_batch(timeout=0) as frame:
        assert frame.__dlpack_device__() == (1, 0)
        array = np.from_dlpack(frame)
        assert same(array, np.arange(12.0).reshape(2, 2, 3))
        assert not array.flags.writeable
        assert address(array) == address(frame.array)
        copied = np.from_dlpack(frame, copy=True)
        copied[:] = 0
        assert frame.array[1, 1, 2] == 11
        del array


def test_reader_of_old_dlpack_is_refused_read_only_memory_with_a_cure(numbers: Any) -> None:
    with numbers[1].read(0) as frame:
        for call in (
            frame.__dlpack__,
            lambda: frame.__dlpack__(max_version=(0, 8)),
            lambda: frame.__dlpack__(stream=None, max_version=None),
        ):
            with pytest.raises(BufferError, match=r"array\.copy\(\)"):
                call()

        class Old:
            """As libraries that know DLPack 0."""

            def __dlpack__(self, **_: Any) -> Any:
                return frame.__dlpack__(copy=True)

            def __dlpack_device__(self) -> Any:
                return frame.__dlpack_device__()

        array = np.from_dlpack(Old())
        assert same(array, frame.array)
        assert address(array) != address(frame.array)


def test_reservation_is_written_through_dlpack(numbers: Any) -> None:
    producer, consumer = numbers
    with producer.reserve() as room:

        class Old:
            def __dlpack__(self, **_: Any) -> Any:
                return room.__dlpack__()

            def __dlpack_device__(self) -> Any:
                return room.__dlpack_device__()

        array = np.from_dlpack(Old())
        assert address(array) == address(room.array)
        del array
        if NUMPY >= (2, 1):
            array = np.from_dlpack(room)
            assert array.flags.writeable
            array[:] = 7
            del array
        else:
            room.array[:] = 7
    with consumer.read_batch(timeout=0) as frame:
        assert (frame.array[2] == 7).all()


@needs_versioned
def test_reader_that_may_ignore_read_only_is_warned(numbers: Any) -> None:
    with numbers[1].read(0) as frame:
        with pytest.warns(UserWarning, match="copy=True"):
            frame.__dlpack__(max_version=(1, 0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            frame.__dlpack__(max_version=(1, 0), copy=None)
            frame.__dlpack__(max_version=(1, 0), copy=True)
            with pytest.raises(UserWarning):
                frame.__dlpack__(max_version=(1, 0))


@needs_versioned
@NEEDS["torch"]
def test_torch_shares_a_frame_with_a_warning_and_copies_without(numbers: Any) -> None:
    torch = importlib.import_module("torch")
    with numbers[1].read_batch(timeout=0) as frame:
        with pytest.warns(UserWarning, match="read-only"):
            shared = torch.from_dlpack(frame)
        assert shared.data_ptr() == address(frame.array)
        assert shared.tolist() == frame.array.tolist()
        copied = torch.from_dlpack(frame, copy=True)
        copied += 1
        assert frame.array[0, 0, 0] == 0
        assert torch.tensor(frame.array).tolist() == shared.tolist()
        del shared


@pytest.mark.parametrize("dtype", [">f8", "S5", "<U3", "V9", "<M8[ns]", TICK, "g", ">i4"], ids=str)
def test_dtype_that_dlpack_has_not_is_refused(dtype: Any) -> None:
    items = sample(dtype, (), 1) if dtype != "g" else np.ones(1, "g")
    with Producer("t", dtype=dtype) as producer, Consumer("t", timeout=5) as consumer:
        producer.send_many(items)
        with consumer.read(0) as frame, pytest.raises(BufferError, match="dtype"):
            frame.__dlpack__(max_version=(1, 0), copy=None)


@needs_versioned
@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u4", "i8", "f2", "f4", "c8", "c16"])
def test_every_dtype_that_dlpack_has_is_given(dtype: str) -> None:
    items = np.ones(3, dtype)
    with Producer("t", dtype=dtype) as producer, Consumer("t", timeout=5) as consumer:
        producer.send_many(items)
        with consumer.read_batch(timeout=0) as frame:
            assert same(np.from_dlpack(frame), items)


def test_what_dlpack_is_asked_wrongly_is_an_error(numbers: Any) -> None:
    with numbers[1].read(0) as frame:
        with pytest.raises(BufferError, match="CPU"):
            frame.__dlpack__(dl_device=(2, 0), copy=True)
        for bad in ({"dl_device": 1}, {"max_version": 1}, {"max_version": ("a", 0)}, {"more": 1}):
            with pytest.raises(TypeError):
                frame.__dlpack__(copy=True, **bad)
        frame.__dlpack__(dl_device=(1, 0), copy=True)
        with pytest.raises(TypeError):
            frame.__dlpack__(None)


@needs_versioned
def test_jax_reads_a_frame(numbers: Any) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with numbers[1].read(0) as frame, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = importlib.import_module("jax.numpy").from_dlpack(frame, copy=True)
        assert np.asarray(array).tolist() == frame.array.tolist()
        del array, jax


# ---- records -------------------------------------------------------------------------------------


def test_record_of_a_frame_is_an_array_as_before() -> None:
    with Producer("t", dtype=TICK) as producer, Consumer("t", timeout=5) as consumer:
        producer.send(sample(TICK, (), 1)[0])
        with consumer.read(0) as frame:
            record = record_type(TICK)(frame)
            assert same(np.asarray(record), np.asarray(frame))
            with pytest.raises(ValueError, match="without a copy"):
                record.__array__("S3", copy=False)
