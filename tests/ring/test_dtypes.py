"""What a typed ring's dtype may be: its description, and what is refused with which advice."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import recfunctions

import shmipc
from helpers import discard, segment_path
from samples import ALIGNED, NESTED, SCHEMAS, same, sample
from shmipc import Consumer, Producer

ADDED = [
    *("bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn"),
    *("float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
]


def added(name: str) -> Any:
    package = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    if not hasattr(package, name):
        pytest.skip(f"this ml_dtypes has no {name}")
    return np.dtype(getattr(package, name))


# ---- descriptions --------------------------------------------------------------------------------

TITLED = np.dtype([(("the title", "a"), "<f4"), ("b", ">u2", (2, 1))])
RECORD = np.dtype((np.record, [("a", "<f4"), ("b", "S3")]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "dtype", [*(np.dtype(dtype) for dtype, _ in SCHEMAS), TITLED, RECORD, NESTED], ids=str
)
def test_description_is_the_one_of_npy_files(dtype: Any) -> None:
    with Producer("t", dtype=dtype) as producer, Consumer("t", timeout=5) as consumer:
        written = repr((np.lib.format.dtype_to_descr(dtype), ())).encode()
        assert written in segment_path("t").read_bytes()
        assert producer.dtype is dtype
        assert consumer.dtype == dtype


def test_subarray_of_structs_with_padding_keeps_its_offsets() -> None:
    dtype = np.dtype([("x", "u1"), ("rows", ALIGNED, (2,)), ("y", "<f8")], align=True)
    items = sample(dtype, (), 2)
    with Producer("t", dtype=dtype) as producer, Consumer("t", timeout=5) as consumer:
        producer.send_many(items)
        assert consumer.dtype == dtype
        assert same(consumer.read_batch(timeout=0).array, items)


# ---- metadata ------------------------------------------------------------------------------------

NOTE = {"unit": "m"}
WITH_METADATA: dict[str, Any] = {
    "scalar": np.dtype("<f8", metadata=NOTE),
    "field": np.dtype([("a", np.dtype("<f8", metadata=NOTE)), ("b", "<i4")]),
    "nested field": np.dtype([("x", [("a", np.dtype("<M8[ns]", metadata=NOTE))], (2,))]),
    "sub-array": np.dtype([("a", np.dtype("<f8", metadata=NOTE), (3,))]),
    "struct": np.dtype([("a", "<f8"), ("b", "<i4")], metadata=NOTE),
    "text": np.dtype("S8", metadata=NOTE),
}


@pytest.mark.parametrize("dtype", WITH_METADATA.values(), ids=WITH_METADATA.keys())
def test_metadata_is_left_behind_without_a_word(dtype: Any) -> None:
    items = np.zeros(2, dtype)
    with (
        warnings.catch_warnings(),
        Producer("t", dtype=dtype) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        warnings.simplefilter("error")
        assert producer.dtype == consumer.dtype == dtype
        assert b"unit" not in segment_path("t").read_bytes()
        producer.send(items[0])
        producer.send_many(items)
        assert same(consumer.recv(0), items[0:1].reshape(()))
        with consumer.read_batch(timeout=0) as frame:
            assert (np.asarray(frame) == items).all()


# ---- lengths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        (str, "'U8'"),
        (bytes, "'S8'"),
        ("U", "'U8'"),
        ("V", "'V8'"),
        ([("name", str), ("price", "<f8")], "'U8', to field 'name'"),
        ([("x", [("name", "S")], (2,)), ("price", "<f8")], "'S8', to field 'name'"),
    ],
    ids=str,
)
def test_text_without_a_length_is_refused_with_one(dtype: Any, advice: str) -> None:
    with pytest.raises(ValueError, match=f"no bytes: give one, as {advice}"):
        Producer("t", dtype=dtype)
    assert not segment_path("t").exists()


# ---- what cannot be described --------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout",
    [
        {"names": ["a", "b"], "formats": ["<u4", "<u2"], "offsets": [0, 0]},
        {"names": ["a", "b"], "formats": ["<u4", "<u2"], "offsets": [2, 0]},
    ],
    ids=["overlapping", "reordered"],
)
def test_the_advice_for_overlapping_and_reordered_fields_works(layout: Any) -> None:
    dtype = np.dtype(layout)
    with pytest.raises(TypeError, match=r"numpy\.lib\.recfunctions\.repack_fields"):
        Producer("t", dtype=dtype)
    repack: Any = recfunctions.repack_fields
    with (
        Producer("t", dtype=repack(dtype)) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        array = np.zeros(2, dtype)
        array["a"] = 7
        producer.send_many(repack(array))
        assert consumer.recv(0)["a"] == 7
        consumer.recv(0)


def test_the_advice_for_a_dtype_of_another_package_works() -> None:
    package = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    array = np.arange(3).astype(package.int4)
    with pytest.raises(TypeError, match=r"'V1' and array\.view\('V1'\)"):
        Producer("t", dtype=array.dtype)
    with Producer("t", dtype="V1") as producer, Consumer("t", timeout=5) as consumer:
        producer.send_many(array.view("V1"))
        with consumer.read_batch(timeout=0) as frame:
            assert frame.array.view(package.int4).tolist() == array.tolist()


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy 1 has none")
def test_variable_width_strings_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="fixed-size dtype"):
        Producer("t", dtype=np.dtypes.StringDType())


# ---- ml_dtypes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ADDED)
def test_small_float_is_a_dtype_as_any_other(name: str) -> None:
    dtype = added(name)
    items = np.array([1, 0.5, 2, 4]).astype(dtype)
    with Producer("t", dtype=dtype) as producer, Consumer("t", timeout=5) as consumer:
        assert consumer.dtype == dtype
        producer.send(items[0])
        producer.send_many(items[::-1])
        producer.send_many(items.tobytes())
        got = consumer.recv(0)
        assert (got.dtype, got) == (dtype, 1)
        with consumer.read_batch(timeout=0) as frame:
            assert same(frame.array, np.concatenate([items[::-1], items]))
            assert same(np.asarray(frame), frame.array)
            with pytest.raises(BufferError, match=r"cannot say dtype"):
                memoryview(frame)
            with pytest.raises(BufferError, match=r"DLPack"):
                frame.__dlpack__(max_version=(1, 0), copy=None)
        for other in ("<i2", "?", "<f4") if dtype.itemsize > 1 else ("?", "<i2", "<f4"):
            with pytest.raises(shmipc.SchemaMismatch):
                producer.send(np.zeros((), other))
            producer.send(items[0])
            with pytest.raises(shmipc.SchemaMismatch):
                consumer.recv_into(np.zeros(8, other), 0)
            consumer.recv(0)
        producer.send(items[0])
        target = np.zeros(1, dtype)
        assert consumer.recv_into(target, 0) == dtype.itemsize
        assert target[0] == 1


def test_small_floats_may_be_fields_and_shapes() -> None:
    dtype = np.dtype([("t", "<i8"), ("x", added("bfloat16"), (2, 2)), ("y", added("float8_e5m2"))])
    with (
        Producer("t", dtype=dtype, shape=(3,)) as producer,
        Consumer("t", timeout=5) as consumer,
    ):
        items = np.zeros((3,), dtype)
        items["x"] = 2.5
        items["y"] = 0.5
        producer.send(items)
        assert b"('x', 'bfloat16', (2, 2))" in segment_path("t").read_bytes()
        got = consumer.recv(0)
        assert same(got, items)
        assert got["x"].dtype == added("bfloat16")


def test_small_floats_of_two_names_are_two_dtypes() -> None:
    one, other = added("float8_e5m2"), added("float8_e4m3fn")
    with Producer("t", dtype=one) as producer:
        for wrong in (np.zeros((), other), np.zeros(1, other)[0]):
            with pytest.raises(shmipc.SchemaMismatch, match="float8_e4m3fn"):
                producer.send(wrong)


def child(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_consumer_that_has_not_imported_the_package_gets_the_dtype() -> None:
    with Producer("t", dtype=added("bfloat16")) as producer:
        producer.send(np.ones((), producer.dtype))
        output = child(
            "from shmipc import Consumer\n"
            "with Consumer('t', start='earliest', timeout=5) as c: print(c.dtype, c.recv(0))"
        )
        assert output == "bfloat16 1\n"


def test_consumer_without_the_package_is_told_to_install_it(tmp_path: Path) -> None:
    with Producer("t", dtype=added("bfloat16")):
        output = child(
            "import sys; sys.modules['ml_dtypes'] = None\n"
            "from shmipc import Consumer\n"
            "try: Consumer('t', timeout=5)\n"
            "except ImportError as error: print(error)"
        )
        assert "bfloat16" in output
        assert "pip install ml_dtypes" in output
        assert "Traceback" not in output
    discard("t")
