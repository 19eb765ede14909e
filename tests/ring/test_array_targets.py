"""recv_into: what of another library's memory may be filled, and with what."""

from __future__ import annotations

import array
import ctypes
import sys
from typing import Any

import numpy as np
import pytest

import shmipc
from samples import ALIGNED, SCHEMAS, TICK, same, sample
from shmipc import Consumer, Producer

OBJECTS: dict[str, Any] = {
    "objects": lambda: np.empty(4, object),
    "structs": lambda: np.empty(4, [("a", "O"), ("b", "<f8")]),
    "nested structs": lambda: np.empty(4, [("x", [("a", "O", (2,))]), ("b", "<f8")]),
    "memoryview": lambda: memoryview(np.empty(4, object)),
    "memoryview of structs": lambda: memoryview(np.empty(4, [("a", "O"), ("b", "<f8")])),
    "ctypes": lambda: (ctypes.py_object * 4)(),
}
if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):
    OBJECTS["strings"] = lambda: np.empty(4, np.dtypes.StringDType())


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS.keys())
@pytest.mark.parametrize("overflow", ["block", "overwrite"])
@pytest.mark.parametrize("dtype", [None, "<f8"], ids=["messages", "items"])
def test_objects_are_not_overwritten_with_bytes(dtype: Any, overflow: Any, make: Any) -> None:
    with (
        Producer("t", dtype=dtype, overflow=overflow) as producer,
        Consumer("t", start="earliest", timeout=5) as consumer,
    ):
        producer.send(np.float64(2.5))
        with pytest.raises(TypeError, match="Python objects|takes items of"):  # noqa: RUF043
            consumer.recv_into(make(), 0)
        assert consumer.pending == 1
        assert np.frombuffer(consumer.recv(0)) == 2.5


@pytest.mark.parametrize("overflow", ["block", "overwrite"])
@pytest.mark.parametrize(
    "target",
    [
        np.empty(1, "<i8"),
        np.empty(1, ">f8"),
        np.empty(2, "<f4"),
        np.empty(1, "<M8[ns]"),
        np.empty(8, "?"),
        np.empty(1, "S8"),
        np.empty(2, "<U1"),
        np.empty(1, [("a", "<f8")]),
        memoryview(np.empty(1, "<i8")),
        array.array("q", [0]),
        (ctypes.c_int64 * 1)(),
    ],
    ids=lambda target: f"{type(target).__name__} {getattr(target, 'dtype', '')}",
)
def test_items_are_not_reinterpreted_as_another_dtype(overflow: Any, target: Any) -> None:
    raw = target.tobytes() if hasattr(target, "tobytes") else bytes(target)
    with (
        Producer("t", dtype="<f8", overflow=overflow) as producer,
        Consumer("t", start="earliest", timeout=5) as consumer,
    ):
        producer.send(np.float64(2.5))
        with pytest.raises(shmipc.SchemaMismatch, match=r"consumer\.dtype") as error:
            consumer.recv_into(target, 0)
        assert isinstance(error.value, TypeError)
        assert raw == (target.tobytes() if hasattr(target, "tobytes") else bytes(target))
        assert consumer.recv(0) == 2.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: bytearray(8),
        lambda: memoryview(bytearray(8)),
        lambda: memoryview(bytearray(9))[1:].cast("b"),
        lambda: memoryview(bytearray(8)).cast("c"),
        lambda: np.zeros(8, "u1"),
        lambda: np.zeros((2, 4), "i1"),
        lambda: np.zeros(8, "V1"),
        lambda: np.zeros((), "V8"),
        lambda: (ctypes.c_ubyte * 8)(),
        lambda: array.array("B", bytes(8)),
        lambda: np.zeros((), "<f8"),
        lambda: np.zeros(1, "<f8"),
        lambda: memoryview(np.zeros(1)),
        lambda: array.array("d", [0]),
        lambda: (ctypes.c_double * 1)(),
    ],
)
def test_plain_bytes_and_the_rings_own_dtype_are_filled(make: Any) -> None:
    target = make()
    with Producer("t", dtype="<f8") as producer, Consumer("t", timeout=5) as consumer:
        producer.send(np.float64(2.5))
        assert consumer.recv_into(target, 0) == 8
        assert bytes(target)[:8] == np.float64(2.5).tobytes()


@pytest.mark.parametrize(("dtype", "shape"), SCHEMAS, ids=str)
def test_array_of_the_items_dtype_is_filled_in_its_shape(dtype: Any, shape: Any) -> None:
    items = sample(dtype, shape, 1)
    with (
        Producer("t", dtype=dtype, shape=shape) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        for form in (shape, (1, *shape), (items.size,), (items.size + 3,)):
            producer.send_many(items)
            target = np.zeros(form, dtype)
            assert consumer.recv_into(target, 0) == items.nbytes
            assert same(target.reshape(-1)[: items.size], items.reshape(-1))
        if shape:
            producer.send_many(items)
            with pytest.raises(shmipc.SchemaMismatch, match="shape"):
                consumer.recv_into(np.zeros((*shape, 1, 1), dtype), 0)
            assert consumer.recv(0).shape == shape


def test_item_of_another_arrangement_is_a_schema_mismatch() -> None:
    with Producer("t", dtype="<f8", shape=(2, 3)) as producer, Consumer("t", timeout=5) as consumer:
        producer.send(np.zeros((2, 3)))
        with pytest.raises(shmipc.SchemaMismatch, match="shape"):
            consumer.recv_into(np.zeros((3, 2)), 0)
        assert consumer.pending == 1
        consumer.recv(0)


def test_structs_of_another_layout_are_a_schema_mismatch() -> None:
    with Producer("t", dtype=TICK) as producer, Consumer("t", timeout=5) as consumer:
        producer.send(np.zeros((), TICK))
        for other in (ALIGNED, TICK.newbyteorder(">"), np.dtype("<i8,<f8,<u4,u1")):
            with pytest.raises(shmipc.SchemaMismatch):
                consumer.recv_into(np.zeros(1, other), 0)
        assert consumer.recv_into(np.zeros(1, TICK), 0) == TICK.itemsize


def test_message_fills_an_array_of_any_dtype() -> None:
    with Producer("m") as producer, Consumer("m", timeout=5) as consumer:
        producer.send(np.arange(4.0))
        target = np.zeros((2, 2))
        assert consumer.recv_into(target, 0) == 32
        assert target.tolist() == [[0, 1], [2, 3]]


def test_item_is_received_into_a_reservation_of_the_next_ring() -> None:
    with (
        Producer("a", dtype="<M8[ns]") as first,
        Producer("b", dtype="<M8[ns]") as second,
        Producer("c", dtype="<f8") as third,
        Consumer("a", timeout=5) as source,
        Consumer("b", timeout=5) as target,
    ):
        first.send(np.datetime64("2020-01-01", "ns"))
        with third.reserve() as room:
            with pytest.raises(shmipc.SchemaMismatch):
                source.recv_into(room, 0)
            room.abort()
        with second.reserve() as room:
            assert source.recv_into(room, 0) == 8
        assert target.recv(0) == np.datetime64("2020-01-01", "ns")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ of Python classes is of 3.12")
def test_buffer_of_a_python_class_that_is_bytes_is_filled() -> None:
    memory = bytearray(8)

    class Target:
        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(memory)

    with Producer("t", dtype="<f8") as producer, Consumer("t", timeout=5) as consumer:
        producer.send(np.float64(2.5))
        assert consumer.recv_into(Target(), 0) == 8  # type: ignore[arg-type]
        assert memory == np.float64(2.5).tobytes()
