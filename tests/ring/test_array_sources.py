"""Arrays that are sent: with gaps, numpy's scalars, and those that mean more than their bytes."""

from __future__ import annotations

import ctypes
import itertools
import sys
import time
import warnings
from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import in_thread
from samples import ALIGNED, NESTED, SCHEMAS, TICK, same, sample
from shmipc import Consumer, Producer
from shmipc._core import Latest

IMAGE = np.arange(12 * 16 * 3, dtype="u1").reshape(12, 16, 3)
NUMBERS = np.arange(120, dtype="<i4").reshape(4, 5, 6)

WITH_GAPS = {
    "window": IMAGE[:9, :9],
    "every other": NUMBERS[::2, ::3, ::2],
    "reversed": NUMBERS[::-1, :, ::-1],
    "transposed": NUMBERS.T,
    "Fortran order": np.asfortranarray(NUMBERS),
    "moved axes": np.moveaxis(IMAGE, -1, 0),
    "broadcast": np.broadcast_to(np.arange(5, dtype="<u2"), (3, 5)),
    "broadcast scalar": np.broadcast_to(np.float64(2.5), (2, 3)),
    "one channel": IMAGE[..., 1],
    "field": sample(TICK, (), 6)["price"],
    "diagonal": np.arange(25.0).reshape(5, 5).diagonal(),
    "odd elements": sample("V7", (), 9)[::-2],
    "complex parts": np.arange(6, dtype="c16").real,
    "structs": sample(TICK, (), 8)[::3],
    "axes of one": NUMBERS[1:2, :, 2:3],
}


@pytest.fixture
def ring() -> Any:
    with Producer("m") as producer, Consumer("m", timeout=5) as consumer:
        yield producer, consumer


# ---- gaps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("array", WITH_GAPS.values(), ids=WITH_GAPS.keys())
def test_array_with_gaps_is_a_message_of_its_elements_in_c_order(ring: Any, array: Any) -> None:
    producer, consumer = ring
    wanted = array.tobytes()
    producer.send(array)
    assert producer.try_send(array)
    producer.send_many([array, b"between", array])
    got = [consumer.recv(0) for _ in range(5)]
    assert got == [wanted, wanted, wanted, b"between", wanted]


@pytest.mark.parametrize("array", WITH_GAPS.values(), ids=WITH_GAPS.keys())
def test_array_with_gaps_is_an_item(array: Any) -> None:
    with (
        Producer("t", dtype=array.dtype, shape=array.shape) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        producer.send(array)
        assert producer.try_send(array)
        for _ in range(2):
            assert same(consumer.recv(0), np.ascontiguousarray(array))


@pytest.mark.parametrize("array", WITH_GAPS.values(), ids=WITH_GAPS.keys())
def test_array_with_gaps_is_a_run_of_items(array: Any) -> None:
    with (
        Producer("t", dtype=array.dtype, shape=array.shape[1:], capacity=16) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        assert producer.send_many(array) == len(array)
        with consumer.read_batch(timeout=0) as frame:
            assert same(frame.array, np.ascontiguousarray(array))


@pytest.mark.parametrize("size", [4095, 4097, 300_000])
def test_items_with_gaps_are_padded_and_cut_into_runs_as_others(size: int) -> None:
    with (
        Producer("t", dtype="u1", shape=(size,), capacity=8) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        items = sample("u1", (2 * size,), 10)[::-2, ::2]
        assert producer.send_many(items[:3]) == 3
        assert producer.send_many(items[3:]) == 2  # of two: the array has five
        with consumer.read_batch(timeout=0) as frame:
            assert same(frame.array, items.copy())


def test_run_with_gaps_longer_than_the_ring_goes_on_where_it_was() -> None:
    with Producer("t", dtype="<i8", capacity=512) as producer, Consumer("t", timeout=5) as consumer:
        numbers = np.arange(4 * producer.capacity)[::-2]
        sent = producer.send_many(numbers, timeout=0)
        assert sent == producer.capacity
        got = [consumer.read_batch(timeout=0).array.copy()]
        assert producer.send_many(numbers[sent:], timeout=0) == len(numbers) - sent
        got.append(consumer.read_batch(timeout=0).array.copy())
        assert same(np.concatenate(got), numbers.copy())


def test_large_message_with_gaps_comes_whole() -> None:
    with Producer("m", capacity=8 << 20) as producer, Consumer("m", timeout=5) as consumer:
        image = sample("u1", (1080, 1920, 3), 1)[0][::-1, 1:-1, ::2]
        producer.send(image)
        assert consumer.recv(0) == image.tobytes()


@pytest.mark.parametrize(
    "view",
    [memoryview(b"12345678")[::2], memoryview(b"12345678")[::-3], memoryview(NUMBERS)[::2]],
    ids=["every other", "reversed", "rows"],
)
def test_memoryview_with_gaps_is_sent_as_bytes_has_it(ring: Any, view: Any) -> None:
    ring[0].send(view)
    assert ring[1].recv(0) == bytes(view)


def test_memoryview_of_bytes_with_gaps_is_an_item() -> None:
    with Producer("t", dtype="<u4") as producer, Consumer("t", timeout=5) as consumer:
        view = memoryview(b"1.2.3.4.5.6.7.8.")[::2]
        assert producer.send_many(view) == 2
        producer.send(view[4:])
        got = [consumer.recv(0).tobytes() for _ in range(3)]
        assert got == [b"1234", b"5678", b"5678"]


def test_shape_that_is_set_while_a_send_waits_changes_nothing() -> None:
    with Producer("t", dtype="<i8", capacity=512) as producer, Consumer("t", timeout=5) as consumer:
        room = producer.capacity
        array = np.arange(4 * room, dtype="<i8")[::2]
        wanted = array.copy()
        joined = in_thread(lambda: producer.send_many(array, timeout=20))
        while consumer.pending < room:
            time.sleep(0.001)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            array.shape = (2, room)  # a new shape in place: the old one's memory is freed
        got: list[Any] = []
        while sum(map(len, got)) < len(wanted):
            with consumer.read_batch(timeout=20) as frame:
                got.append(frame.array.copy())
        assert joined() == len(wanted)
        assert same(np.concatenate(got), wanted)


@pytest.mark.parametrize("step", [2, -1, -3])
def test_rows_of_a_structured_array_with_gaps_are_messages(ring: Any, step: int) -> None:
    producer, consumer = ring
    rows = sample(TICK, (), 9)[::step]
    assert producer.send_many(rows) == len(rows)
    assert [consumer.recv(0) for _ in rows] == [row.tobytes() for row in rows]


def test_latest_takes_rows_and_buffers_with_gaps() -> None:
    rows = np.zeros(6, [("symbol", "S16"), ("price", "<f8")])
    rows["symbol"] = [b"a", b"b", b"a", b"b", b"a", b"b"]
    rows["price"] = range(6)
    latest = Latest(24)
    latest.update(rows[::-2])  # b 5, b 3, b 1
    assert [np.frombuffer(r, rows.dtype)["price"][0] for r in latest.values()] == [1]
    one = np.frombuffer(rows[4].tobytes(), "u1").repeat(2)[::2]
    latest.update(one)
    assert latest.get(b"a") == rows[4].tobytes()


def test_record_is_made_from_bytes_with_gaps() -> None:
    kind = shmipc.record_type(TICK)
    raw = sample(TICK, (), 1).tobytes()
    spread = bytes(itertools.chain.from_iterable((byte, 0) for byte in raw))
    assert bytes(kind(memoryview(spread)[::2])) == raw


def test_reservation_takes_an_array_with_gaps() -> None:
    with Producer("t", dtype="<i4", shape=(5, 6)) as producer, Consumer("t", timeout=5) as consumer:
        with producer.reserve(2) as room:
            room.array[:] = NUMBERS[::-3]
        with consumer.read_batch(timeout=0) as frame:
            assert same(frame.array, NUMBERS[::-3].copy())


# ---- byte order, axes ----------------------------------------------------------------------------


def test_other_byte_order_is_a_mismatch_and_the_advice_works() -> None:
    with Producer("t", dtype="<f8", shape=(3,)) as producer, Consumer("t", timeout=5) as consumer:
        swapped = np.arange(3, dtype=">f8")
        with pytest.raises(shmipc.SchemaMismatch, match="astype"):
            producer.send(swapped)
        producer.send(swapped.astype(producer.dtype))
        assert consumer.recv(0).tolist() == [0, 1, 2]


def test_array_of_no_axes_is_one_element(ring: Any) -> None:
    with Producer("t", dtype="<f8") as producer, Consumer("t", timeout=5) as consumer:
        producer.send(np.array(2.5))
        assert consumer.recv(0) == 2.5
        with pytest.raises(shmipc.SchemaMismatch, match="shape"):
            producer.send_many(np.array(2.5))
    ring[0].send(np.array(2.5))
    assert ring[1].recv(0) == np.float64(2.5).tobytes()


# ---- numpy's scalars -----------------------------------------------------------------------------

ELEMENTS = [
    *(dtype for dtype, _ in SCHEMAS),
    *("S8", "<U8", ">U8", ">M8[ns]", ">c8", ">f2", "g", NESTED, ALIGNED),
]


@pytest.mark.parametrize("dtype", ELEMENTS, ids=str)
def test_element_of_an_array_is_an_item(dtype: Any) -> None:
    items = sample(dtype, (), 3) if dtype != "g" else np.arange(3, dtype="g")
    with Producer("t", dtype=dtype) as producer, Consumer("t", timeout=5) as consumer:
        for item in items:
            assert isinstance(item, np.generic)
            producer.send(item)
            assert producer.try_send(item)
            for _ in range(2):
                assert (consumer.recv(0) == item).all()


@pytest.mark.parametrize("dtype", ["S8", "<U8", ">U8"])
@pytest.mark.parametrize("text", ["", "a", "abcdefgh"])
def test_text_that_numpy_gave_out_without_its_zeros_has_them_again(dtype: str, text: str) -> None:
    array = np.array([text], dtype)
    with Producer("t", dtype=dtype) as producer, Consumer("t", timeout=5) as consumer:
        producer.send(array[0])
        assert same(consumer.recv(0), array[0:1].reshape(()))


@pytest.mark.parametrize(
    ("dtype", "scalar"),
    [
        ("S4", np.bytes_(b"12345")),
        ("<U4", np.str_("12345")),
        ("<f8", np.float32(1)),
        ("<f8", np.bytes_(b"12345678")),
        ("u1", np.int8(1)),
        ("?", np.uint8(2)),
        ("<M8[ns]", np.datetime64("2020", "s")),
        ("S4", np.str_("1234")),
        (TICK, np.void(bytes(TICK.itemsize))),
    ],
    ids=str,
)
def test_scalar_of_another_dtype_is_a_schema_mismatch(dtype: Any, scalar: Any) -> None:
    with Producer("t", dtype=dtype) as producer, Consumer("t", timeout=5) as consumer:
        with pytest.raises(shmipc.SchemaMismatch, match="astype"):
            producer.send(scalar)
        assert consumer.pending == 0


def test_memoryview_of_bools_is_no_plain_bytes() -> None:
    with Producer("t", dtype="<u4") as producer:  # noqa: SIM117
        with pytest.raises(shmipc.SchemaMismatch):
            producer.send(memoryview(np.ones(4, "?")))


# ---- what means more than its bytes --------------------------------------------------------------

MASKED = np.ma.array([1.0, -9999.0, 3.0], mask=[0, 1, 0])


class Quantity(np.ndarray):  # type: ignore[type-arg]
    """As the arrays of astropy, unyt and quantities: values, and a unit beside them."""

    def __array_finalize__(self, other: object) -> None:
        self.unit = getattr(other, "unit", "m")


class Labelled(np.ndarray):  # type: ignore[type-arg]
    """A subclass as many: whatever it knows besides, its values are in its bytes."""

    label = "x"


STRIPPED: dict[str, tuple[Any, str]] = {
    "masked": (MASKED, "filled"),
    "masked, nothing masked": (np.ma.array([1.0, 2.0, 3.0]), "filled"),
    "unit": (np.arange(3.0).view(Quantity), "unit"),
}


@pytest.mark.parametrize(("array", "advice"), STRIPPED.values(), ids=STRIPPED.keys())
def test_array_with_a_mask_or_unit_is_a_type_error_wherever_it_enters(
    ring: Any, array: Any, advice: str
) -> None:
    producer, consumer = ring
    record = shmipc.record_type([("a", "<f8", (3,)), ("n", "<i8")])()
    rows = np.zeros(3, "<f8,<f8").view(type(array))
    pair = shmipc.record_type("<f8,<f8")
    with (
        Producer("t", dtype="<f8", shape=(3,)) as typed,
        Producer("s", dtype="<f8") as scalars,
        Consumer("t", timeout=5) as typed_consumer,
    ):
        typed.send(np.zeros(3))
        producer.send(bytes(24))
        for call in (
            lambda: producer.send(array),
            lambda: producer.try_send(array),
            lambda: producer.send_many(array),
            lambda: producer.send_many(rows),
            lambda: producer.send_many([array]),
            lambda: producer.send_many(iter([array])),
            lambda: typed.send(array),
            lambda: typed.try_send(array),
            lambda: typed.send_many(array[None]),
            lambda: scalars.send_many(array),
            lambda: consumer.recv_into(array, 0),
            lambda: typed_consumer.recv_into(array, 0),
            lambda: setattr(record, "a", array),
            lambda: record.assign(array),
            lambda: setattr(record, "a", [0.0, array[:1].reshape(()), 2.0]),
            lambda: type(record)(a=array),
            lambda: setattr(record, "n", array[:1].astype("i8").reshape(())),
            lambda: type(record)(array),
            lambda: pair(rows[:1].reshape(())),
            lambda: Latest(24).update(array),
        ):
            with pytest.raises(TypeError, match=advice):
                call()
        assert (typed_consumer.recv(0) == 0).all()
        assert consumer.recv(0) == bytes(24)
        assert (consumer.pending, typed_consumer.pending, scalars.lag) == (0, 0, 0)
        assert record == type(record)()


def test_masked_elements_are_a_type_error(ring: Any) -> None:
    record = shmipc.record_type([("a", "<f8"), ("i", "<i4"), ("h", "<f2"), ("t", "<M8[ns]")])()
    structs = np.ma.array(sample(TICK, (), 2), mask=[(0, 1, 0, 0), (0, 0, 0, 0)])
    with Producer("t", dtype="<f8") as producer, Producer("s", dtype=TICK) as ticks:
        for send in (ring[0].send, producer.send, lambda item: ring[0].send_many([item])):
            with pytest.raises(TypeError, match="filled"):
                send(np.ma.masked)
        with pytest.raises(TypeError, match="filled"):
            ticks.send(structs[0])
    for name in ("a", "i", "h", "t"):
        with pytest.raises(TypeError, match="filled"):
            record[name] = np.ma.masked
    assert ring[1].pending == 0


def test_the_advice_for_masked_arrays_works(ring: Any) -> None:
    ring[0].send(MASKED.filled(np.nan))
    assert np.frombuffer(ring[1].recv(0))[[0, 2]].tolist() == [1, 3]
    ring[0].send(np.asarray(np.arange(3.0).view(Quantity)))
    assert np.frombuffer(ring[1].recv(0)).tolist() == [0, 1, 2]


def char_array() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.char.array(["ab", "c"])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).view(Labelled),
        np.arange(6.0).reshape(2, 3).view(np.matrix),
        np.rec.array([(1, 2.0), (3, 4.0)], dtype=[("mask", "<i4"), ("unit", "<f8")]),
        char_array(),
    ],
    ids=lambda array: type(array).__name__,
)
def test_subclass_whose_meaning_is_in_its_bytes_can_be_sent(ring: Any, array: Any) -> None:
    plain = np.asarray(array)
    ring[0].send(array)
    assert ring[1].recv(0) == plain.tobytes()
    with (
        Producer("t", dtype=plain.dtype, shape=plain.shape) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        producer.send(array)
        assert same(consumer.recv(0), plain)


def test_memory_map_of_a_file_can_be_sent(ring: Any, tmp_path: Any) -> None:
    array = np.memmap(tmp_path / "file", "<f8", "w+", shape=(4,))
    array[:] = range(4)
    ring[0].send(array[::2])
    assert np.frombuffer(ring[1].recv(0)).tolist() == [0, 2]


def test_objects_are_a_type_error_in_every_guise(ring: Any) -> None:
    objects = np.array([b"a", None], object)
    guises = [
        objects,
        objects[::-1],
        np.zeros(2, [("a", "O"), ("b", "f8")]),
        memoryview(objects),
        memoryview(objects)[::-1],
        (ctypes.py_object * 2)(),
        memoryview((ctypes.py_object * 2)()),
    ]
    if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):
        guises.append(np.array(["a", "bb"], np.dtypes.StringDType()))
    for guise in guises:
        for send in (ring[0].send, ring[0].try_send, lambda data: ring[0].send_many([data])):
            with pytest.raises(TypeError, match="Python objects"):
                send(guise)
    assert ring[1].pending == 0


def test_field_whose_name_has_an_o_is_no_object(ring: Any) -> None:
    rows = np.zeros(2, [("Open", "<f8"), ("O", "<i4")])
    ring[0].send(memoryview(rows))
    assert ring[1].recv(0) == rows.tobytes()


def test_array_of_objects_is_an_iterable_of_messages(ring: Any) -> None:
    assert ring[0].send_many(np.array([b"a", b"bb"], object)) == 2
    assert [ring[1].recv(0), ring[1].recv(0)] == [b"a", b"bb"]


def test_released_frame_or_memoryview_says_so(ring: Any) -> None:
    producer, consumer = ring
    producer.send(b"gone")
    frame = consumer.read(0)
    frame.release()
    with pytest.raises(BufferError, match="released"):
        producer.send(frame)
    view = memoryview(np.zeros(2, "<f8"))
    view.release()
    with pytest.raises(ValueError, match="released"):
        producer.send(view)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ of Python classes is of 3.12")
def test_buffer_of_a_python_class_is_sent(ring: Any) -> None:
    class Strided:
        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(b"12345678")[::2]

    ring[0].send(Strided())
    assert ring[1].recv(0) == b"1357"


# ---- between rings -------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "shape"), SCHEMAS, ids=str)
def test_frames_are_sent_on_as_the_items_that_they_are(dtype: Any, shape: Any) -> None:
    items = sample(dtype, shape, 3)
    with (
        Producer("a", dtype=dtype, shape=shape) as first,
        Producer("b", dtype=dtype, shape=shape) as second,
        Producer("m", capacity=1 << 20) as messages,
        Producer("o", dtype="<i8", shape=(2,)) as other,
        Consumer("a", timeout=5) as source,
        Consumer("b", timeout=5) as target,
        Consumer("m", timeout=5) as message_target,
    ):
        first.send_many(items)
        with source.read(0) as frame:
            second.send(frame)
            messages.send(frame)
            with pytest.raises((shmipc.SchemaMismatch, ValueError), match="takes items of"):
                other.send(frame)
        with source.read_batch(timeout=0) as frame:
            assert second.send_many(frame) == 2
            messages.send(frame)
        with target.read_batch(timeout=0) as frame:
            assert same(frame.array, items)
        assert message_target.recv(0) == items[:1].tobytes()
        assert message_target.recv(0) == items[1:].tobytes()
