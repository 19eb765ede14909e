"""Records: fields read where they lie, for as long as their frame is leased; owned ones written."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import DEADLINE, in_thread, run_clean
from shmipc import Consumer, Producer, Record, record_type

pytestmark = pytest.mark.binding

PLAIN = np.dtype([("a", "<i4"), ("b", "<f8"), ("s", "S6"), ("t", "S6")])
Plain = record_type(PLAIN, "Plain", text=("t",), module=__name__)


@pytest.fixture
def ring() -> Iterator[tuple[Producer, Consumer]]:
    with Producer("r", dtype=PLAIN, capacity=64) as producer, Consumer("r", timeout=0) as consumer:
        yield producer, consumer


def leased(ring: tuple[Producer, Consumer], **fields: Any) -> tuple[shmipc.Frame, Record]:
    ring[0].send(Plain(**fields))
    frame = ring[1].read(0)
    return frame, Plain(frame)


# ---- making them -----------------------------------------------------------------------------


def test_record_is_made_from_what_has_its_bytes() -> None:
    given = Plain(a=3, b=1.5, s=b"raw", t="text")
    raw = bytes(given)
    array = np.frombuffer(raw, PLAIN)
    for source in (given, raw, bytearray(raw), memoryview(raw), array[0], array[0:1].reshape(())):
        made = Plain(source)
        assert made == given
        assert Plain(source, a=4, t="").a == 4
        made.a = 9
        assert given.a == 3


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (b"short", ValueError),
        (np.zeros(1, PLAIN), ValueError),
        (np.zeros((), [("x", "V24")]), shmipc.SchemaMismatch),
        (record_type([("x", "V24")])(), shmipc.SchemaMismatch),
        (np.float64(1), TypeError),
        ("text", TypeError),
        (5, TypeError),
    ],
)
def test_record_is_not_made_from_anything_else(source: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Plain(source)


def test_record_types_cannot_be_changed_and_records_not_be_of_another() -> None:
    record: Any = Plain()
    other = record_type([("x", "<i8", (100,))])
    meta: Any = type(Plain)
    for call in (
        Record,
        lambda: type("Sub", (Plain,), {}),
        lambda: meta("Sub", (Record,), {}),
        lambda: type.__new__(meta, "Sub", (Record,), {}),
        lambda: setattr(record, "__class__", other),
        lambda: setattr(Plain, "a", other.x),  # type: ignore[attr-defined]
        lambda: type("Sub", (Record,), {})(),
        lambda: hash(record),
        lambda: record < record,
        lambda: Plain(1, 2),
    ):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("<f8",), TypeError),
        (([],), TypeError),
        (([("x", "O")],), TypeError),
        (([("x", "S0")],), TypeError),
        ((PLAIN, 5), TypeError),
        ((PLAIN, "T", "t"), TypeError),
        (("nonsense",), TypeError),
    ],
)
def test_impossible_record_types_are_refused(args: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        record_type(*args)


def test_text_must_name_fields_of_bytes() -> None:
    for text in (["a"], ["nosuch"], [5]):
        with pytest.raises(ValueError, match="text="):
            record_type(PLAIN, text=text)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        record_type(PLAIN, text="t")


# CPython 3.13 without a GIL makes types immortal once a second thread has been started.
types_die = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="types are immortal here"
)


@types_die
def test_record_type_of_a_dtype_is_one_while_it_is_used() -> None:
    kind = record_type(PLAIN)
    assert kind is record_type(np.dtype(PLAIN.descr))
    assert kind is not record_type(PLAIN, "Plain")
    assert issubclass(kind, Record)
    assert record_type(PLAIN, "Named").__module__ == __name__
    gone = weakref.ref(record_type([("only_here", "u1")]))
    gc.collect()
    assert gone() is None


def test_descriptors_describe_their_field() -> None:
    field = vars(Plain)["b"]
    assert (field.__name__, field.__objclass__) == ("b", Plain)
    assert "float64 at byte 4" in field.__doc__
    assert Plain.b is field  # type: ignore[attr-defined]
    assert "'b'" in repr(field)


# ---- as objects ------------------------------------------------------------------------------


def test_equality_is_of_dtype_and_values() -> None:
    kind = record_type([("f", "<f8"), ("g", ">f4"), ("m", "<f8", (2,)), ("c", "<c8"), ("b", "?")])
    other = record_type(kind.dtype, "Other")
    record = kind(f=1.5, m=[1, 2])
    assert record == other(record)
    assert record == record.copy()
    assert (record != record.copy()) is False
    assert record != kind(f=1.5, m=[1, 3])
    assert kind(f=0.0, g=0.0, m=[0, 0], c=0) == kind(f=-0.0, g=-0.0, m=[-0.0, 0], c=-0.0)
    assert kind(f=math.nan, m=math.nan) == kind(f=math.nan, m=math.nan)
    assert kind(f=math.nan) != kind(f=1.0)
    assert record != Plain()
    assert record != (1.5, 0.0)
    assert (record == Plain()) is False


def test_equality_does_not_see_padding() -> None:
    dtype = np.dtype({"names": ["a", "b"], "formats": ["u1", "<u4"], "offsets": [1, 4]})
    kind = record_type(dtype)
    assert kind(b"\xff\1\xff\xff" + bytes(4)) == kind(b"\0\1\0\0" + bytes(4))
    assert kind(b"\xff\1\xff\xff" + bytes(4)) != kind(b"\xff\2\xff\xff" + bytes(4))


def test_equality_does_not_see_what_follows_a_text() -> None:
    kind = record_type([("t", "S4")], text=["t"])
    assert kind(b"a\0bc") == kind(b"a\0\0\0") != kind(b"ab\0\0")
    raw = record_type([("t", "S4")])
    assert raw(b"a\0bc") != raw(b"a\0\0\0")


def test_repr_length_truth_and_values() -> None:
    record = Plain(a=1, t="x")
    assert repr(record) == "Plain(a=1, b=0.0, s=b'', t='x')"
    assert len(record) == 4
    assert record
    assert list(record) == [1, 0.0, b"", "x"]


def test_array_of_a_record_is_its_memory() -> None:
    record = Plain(a=1)
    array = np.asarray(record)
    array["a"] = 7
    assert (array.shape, array.dtype, record.a) == ((), PLAIN, 7)
    copied = np.array(record)
    copied["a"] = 8
    assert record.a == 7
    assert np.stack([record, record.copy()])["a"].tolist() == [7, 7]
    many = np.zeros(2, PLAIN)
    many[1] = np.asarray(record)
    assert many["a"].tolist() == [0, 7]
    other = [("a", "<f4"), ("b", "<f8"), ("s", "S6"), ("t", "S6")]
    assert record.__array__(other)["a"] == 7
    assert record.__array__(copy=True).base is None
    with pytest.raises(ValueError, match="without a copy"):
        record.__array__(other, copy=False)
    del record
    assert array["a"] == 7


def test_copies_and_pickles_are_owned_and_of_the_same_type(
    ring: tuple[Producer, Consumer],
) -> None:
    frame, record = leased(ring, a=5, t="text")
    copies: list[Callable[[Any], Any]] = [
        copy.copy,
        copy.deepcopy,
        lambda r: r.copy(),
        lambda r: Plain(r),
        *(lambda r, p=p: pickle.loads(pickle.dumps(r, p)) for p in range(6)),
    ]
    made = [call(record) for call in copies]
    frame.release()
    for one in made:
        assert type(one) is Plain
        assert one == Plain(a=5, t="text")
        one.a = 6
        assert one.a == 6
    assert pickle.loads(pickle.dumps(Plain)) is Plain
    assert copy.deepcopy(Plain) is Plain
    for call in copies:
        with pytest.raises(ValueError, match="released"):
            call(record)


def test_type_that_cannot_be_imported_is_pickled_as_its_dtype() -> None:
    kind = record_type(PLAIN, "Nowhere", text=["t"])
    first, second = pickle.loads(pickle.dumps([kind(t="x"), kind(a=1)]))
    assert first == kind(t="x")
    assert type(first) is type(second)
    assert (type(first).__name__, first.t) == ("Nowhere", "x")
    default = record_type(PLAIN)
    assert type(pickle.loads(pickle.dumps(default()))) is default
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(kind(t="x")), capture_output=True
    )
    assert done.stdout == b"Nowhere(a=0, b=0.0, s=b'', t='x')\n", done.stderr


def test_hostile_pickles_are_refused() -> None:
    for args in [(Plain, b"short"), (int, bytes(24)), (Record, bytes(32)), (5, b"")]:
        with pytest.raises(ValueError, match="no record"):
            shmipc._core._restore_record(*args)  # type: ignore[attr-defined]


# ---- on the ring's memory --------------------------------------------------------------------


def test_leased_record_reads_the_rings_memory(ring: tuple[Producer, Consumer]) -> None:
    ring[0].send(Plain(a=5, b=1.5, s=b"raw", t="text"))
    frame = ring[1].read(0)
    record = Plain(frame)
    array = np.asarray(record)
    assert list(record) == [5, 1.5, b"raw", "text"]
    assert array.__array_interface__["data"] == frame.array.__array_interface__["data"]
    assert list(frame.record)[:3] == [5, 1.5, b"raw"]
    assert type(frame.record) is record_type(PLAIN)
    assert frame.record == record
    assert not record.released
    with pytest.raises(ValueError, match="read-only"):
        array["a"] = 1
    for call in (
        lambda: setattr(record, "a", 1),
        lambda: record.__setitem__("a", 1),
        lambda: record.assign(1),
        lambda: record.assign(),
        lambda: Plain(frame, a=1),
    ):
        with pytest.raises(TypeError, match=r"copy\(\)"):
            call()


def test_released_record_refuses_to_be_read(ring: tuple[Producer, Consumer]) -> None:
    frame, record = leased(ring, a=5)
    frame.release()
    assert record.released
    assert repr(record) == "<released Plain>"
    assert len(record) == 4
    for call in (
        lambda: record.a, lambda: record.t, lambda: record.s, lambda: record["b"],
        lambda: list(record), lambda: bytes(record), lambda: np.asarray(record),
        lambda: record == Plain(), lambda: Plain() == record, lambda: record.copy(),
        lambda: ring[0].send(record), lambda: Plain(frame), lambda: frame.record,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="released"):
            call()


def test_arrays_of_a_record_keep_its_lease(ring: tuple[Producer, Consumer]) -> None:
    dtype = np.dtype([("m", "<f8", (2,)), ("n", [("x", "<i4")]), ("c", "<c8")])
    with Producer("m", dtype=dtype, capacity=8) as producer, Consumer("m", timeout=0) as consumer:
        kind = record_type(dtype)
        producer.send(kind(m=[1, 2], n=(3,)))
        frame = consumer.read(0)
        record = frame.record
        assert record.c == 0
        views: list[Callable[[Any], Any]] = [np.asarray, lambda r: r.m[1:], lambda r: r.n]
        for view in views:
            held = view(record)
            assert not held.flags.writeable
            with pytest.raises(BufferError):
                frame.release()
            del held
        kept, nested = record.m, record.n
        with frame:
            pass  # ends softly: the views hold it
        assert record.released
        with pytest.raises(ValueError, match="released"):
            _ = record.c
        with pytest.raises(ValueError, match="released"):
            _ = record.m
        consumer.close()
        del frame, record
        gc.collect()
        assert kept.tolist() == [1, 2]
        assert nested["x"] == 3
        del kept, nested


def test_record_alone_does_not_keep_the_lease(ring: tuple[Producer, Consumer]) -> None:
    frame, record = leased(ring, a=1)
    frame.release()
    frame2, record2 = leased(ring, a=2)
    del frame2  # the record holds its frame: nobody has released it
    gc.collect()
    assert (record.released, record2.a) == (True, 2)
    ring[1].close()
    assert record2.a == 2
    assert ring[1].closed


def test_record_may_be_released_while_another_thread_reads_it(
    ring: tuple[Producer, Consumer],
) -> None:
    frame, record = leased(ring, a=7, t="text")
    reading = threading.Event()

    def read_on() -> None:
        while True:
            assert (record.a, record.t) == (7, "text")
            reading.set()

    join = in_thread(read_on)
    assert reading.wait(DEADLINE)
    frame.release()
    ring[1].close()
    with pytest.raises(ValueError, match="released"):
        join()


def test_records_of_a_loop_end_with_their_turn(ring: tuple[Producer, Consumer]) -> None:
    items = np.zeros(3, PLAIN)
    items["a"] = range(3)
    ring[0].send_many(items)
    before = None
    for i, frame in enumerate(ring[1]):
        record = frame.record
        assert before is None or before.released
        assert record.a == frame.array["a"] == i
        before = record
        if i == 2:
            break
    frame.release()


def test_frame_must_be_of_one_item_of_the_records_dtype(ring: tuple[Producer, Consumer]) -> None:
    ring[0].send_many(np.zeros(2, PLAIN))
    with ring[1].read_batch(timeout=0) as batch:
        for call in (lambda: batch.record, lambda: Plain(batch)):
            with pytest.raises(ValueError, match="array"):
                call()
    _, record = leased(ring)
    with Producer("o", dtype="<f8", capacity=4) as producer, Consumer("o", timeout=0) as consumer:
        producer.send(np.float64(1))
        with consumer.read(0) as frame:
            with pytest.raises(TypeError, match="no fields"):
                _ = frame.record
            with pytest.raises(shmipc.SchemaMismatch):
                Plain(frame)
        with pytest.raises(shmipc.SchemaMismatch):
            producer.send(record)


def test_records_travel_as_messages() -> None:
    with Producer("m", capacity=4096) as producer, Consumer("m", timeout=0) as consumer:
        record = Plain(a=1, t="x")
        producer.send(record, kind=7)
        assert producer.try_send(record)
        assert producer.send_many([record, record]) == 2
        with consumer.read(0) as frame:
            assert (frame.kind, bytes(frame)) == (7, bytes(record))
            held = Plain(frame)
            assert held == record
            with pytest.raises(TypeError, match="messages"):
                _ = frame.record
            with pytest.raises(ValueError, match="has 1 byte, and this message"):
                record_type([("x", "u1")])(frame)
            producer.send(held)
        assert [consumer.recv(0) for _ in range(4)] == [bytes(record)] * 4


def test_records_travel_as_items(ring: tuple[Producer, Consumer]) -> None:
    ring[0].send(record_type(PLAIN)(a=1))
    assert ring[0].try_send(Plain(a=2))
    assert [ring[1].recv(0)["a"] for _ in range(2)] == [1, 2]
    with pytest.raises(shmipc.SchemaMismatch):
        ring[0].send(record_type([("x", f"V{PLAIN.itemsize}")])())
    with pytest.raises(TypeError):
        ring[0].send_many(Plain())


def test_overwritten_record_is_told_by_its_frame() -> None:
    with (
        Producer("w", dtype=PLAIN, capacity=8, overflow="overwrite") as producer,
        Consumer("w", timeout=0) as consumer,
    ):
        producer.send(Plain(a=1))
        frame = consumer.read(0)
        assert (frame.record.a, frame.intact) == (1, True)
        for i in range(producer.capacity + 1):
            producer.send(Plain(a=i))
        assert isinstance(frame.record.a, int)
        assert not frame.intact
        frame.release()


# ---- life ------------------------------------------------------------------------------------


class Keeper(Consumer):
    kept: Any


@types_die
def test_cycles_through_records_and_types_are_collected() -> None:
    with Producer("r", dtype=PLAIN, capacity=8) as producer:
        consumer = Keeper("r", timeout=0)
        producer.send(Plain())
        consumer.kept = consumer.read(0).record
        consumer.close()
        gone = weakref.ref(consumer)
        del consumer
        gc.collect()
        assert gone() is None
    kinds = [record_type(PLAIN, f"T{i}", text=["t"]) for i in range(50)]
    dead = [weakref.ref(kind) for kind in kinds]
    records = [kind(t="x") for kind in kinds]
    del kinds
    gc.collect()
    assert all(ref() is not None for ref in dead)
    del records
    gc.collect()
    assert all(ref() is None for ref in dead)


def test_field_outlives_its_type() -> None:
    kind = record_type([("x", "u1")], "Gone")
    field = vars(kind)["x"]
    del kind
    gc.collect()
    with pytest.raises(TypeError):
        field.__get__(Plain())
    assert field.__get__(field.__objclass__(x=3)) == 3


def test_interpreter_ends_well_with_records_alive() -> None:
    run_clean(
        """
        kind = record_type([("a", "<i8"), ("t", "S8")], "Kept", text=["t"])
        producer = Producer("e", dtype=kind.dtype, capacity=4)
        consumer = Consumer("e", timeout=0)
        producer.send(kind(a=1, t="x"))
        frame = consumer.read(0)
        kept = [frame.record, kind(frame), kind(), np.asarray(frame.record), kind.a]
        kept.append(kept)
        producer.unlink()
        consumer.close(); producer.close()
        """
    )
