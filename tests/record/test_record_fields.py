"""The fields of records: each code and alignment, what is refused, numpy's word for the rest."""

from __future__ import annotations

import gc
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from shmipc import record_type

pytestmark = pytest.mark.binding

PLAIN = np.dtype([("a", "<i4"), ("b", "<f8"), ("s", "S6"), ("t", "S6")])
Plain = record_type(PLAIN, "Plain", text=("t",))

# of each code: the dtype, values it takes, what it refuses with OverflowError, with TypeError
CODES: list[tuple[str, list[Any], list[Any], list[Any]]] = [
    ("?", [True, False], [2, -1], [None, "x", 1.0]),
    ("i1", [-128, 127, True], [-129, 128], [1.0, "1", None]),
    ("<i2", [-(2**15), 2**15 - 1], [2**15, -(2**15) - 1], [1.5]),
    ("<i4", [-(2**31), 2**31 - 1], [2**31, -(2**31) - 1], [1.5]),
    ("<i8", [-(2**63), 2**63 - 1], [2**63, -(2**63) - 1], [1.5]),
    ("u1", [0, 255], [-1, 256], [1.0]),
    ("<u2", [0, 65535], [-1, 65536], [1.0]),
    ("<u4", [0, 2**32 - 1], [-1, 2**32], [1.0]),
    ("<u8", [0, 2**64 - 1], [-1, 2**64], [1.0]),
    ("<f4", [0.0, -1.5, math.inf, 3], [1e39, 10**400], ["1", None, b"1", 1j]),
    ("<f8", [0.0, -1.5, -math.inf, 3], [10**400], ["1", None, b"1", 1j]),
    (">i2", [-2, 2**15 - 1], [2**15], [1.5]),
    (">u8", [1, 2**64 - 1], [-1, 2**64], [1.5]),
    (">f4", [1.5, -2.0], [1e39], ["1"]),
    (">f8", [1.5, -2.0], [10**400], ["1"]),
    ("<f2", [1.5, -65504.0, math.inf], [65520, -1e6], ["1", None]),
    ("<c8", [1 + 2j, 3.0], [], ["1", b"1"]),
    ("<c16", [1 + 2j], [], ["1"]),
    ("<U3", ["", "abc", "\u20ac"], [], [b"abc", 5]),
    ("<M8[ns]", [np.datetime64("2020-01-01T00:00:00", "ns")], [], []),
    ("<m8[s]", [np.timedelta64(5, "s")], [], []),
    ("g", [np.longdouble("1.5")], [], ["1.5"]),
    ("S3", [b"", b"abc", b"a\0b"], [], ["abc", 5, None]),
]


@pytest.mark.parametrize("offset", [0, 1, 8])
@pytest.mark.parametrize(("code", "good", "big", "wrong"), CODES, ids=[c[0] for c in CODES])
def test_field_of_every_code_at_every_alignment(
    code: str, good: list[Any], big: list[Any], wrong: list[Any], offset: int
) -> None:
    size = np.dtype(code).itemsize
    dtype = np.dtype(
        {"names": ["x"], "formats": [code], "offsets": [offset], "itemsize": offset + size + 3}
    )
    kind = record_type(dtype)
    array = np.zeros((), dtype)
    record = kind()
    for value in good:
        record.x = value
        array["x"] = value
        assert record.x == record["x"] == array["x"]
        assert code == "g" or bytes(record) == array.tobytes()  # g has bytes of no meaning
        assert kind(array).x == record.x
        assert kind(array) == record
    before = bytes(record)
    for bad, error in [(b, OverflowError) for b in big] + [(b, TypeError) for b in wrong]:
        with pytest.raises(error):
            record.x = bad
        with pytest.raises(error):
            record.assign(bad)
        with pytest.raises(error):
            kind(x=bad)
    assert bytes(record) == before


def test_values_are_of_pythons_own_types_where_it_has_them() -> None:
    fields = [
        ("i", "<i4", int), ("w", ">u2", int), ("f", "<f4", float), ("h", "<f2", float),
        ("b", "?", bool), ("s", "S3", bytes), ("u", "U3", str), ("c", "<c8", complex),
        ("d", "<M8[ns]", np.datetime64), ("v", "V3", np.void),
    ]  # fmt: skip
    record = record_type([field[:2] for field in fields])()
    for name, _, kind in fields:
        assert type(record[name]) is kind


def test_numpy_scalars_are_taken_as_values() -> None:
    record = record_type([("i", "<i4"), ("f", "<f8"), ("b", "?"), ("s", "S3")])()
    record.assign(np.int64(5), np.float32(1.5), np.True_, np.bytes_(b"xy"))
    assert list(record) == [5, 1.5, True, b"xy"]


class Loud:
    def __float__(self) -> float:
        raise ZeroDivisionError

    __index__ = __float__  # type: ignore[assignment]


def test_what_a_conversion_raises_comes_out_and_changes_nothing() -> None:
    record = Plain(a=1, b=2.0)
    for call in (
        lambda: record.assign(7, Loud()),
        lambda: setattr(record, "a", Loud()),
        lambda: setattr(record, "b", Loud()),
    ):
        with pytest.raises(ZeroDivisionError):
            call()
    assert list(record) == [1, 2.0, b"", ""]


def test_text_is_str_and_never_cut() -> None:
    record = Plain(t="h\u00e9llo"[:4], s=b"sixsix")
    assert record.t == "h\u00e9ll"
    record.t = b"bytes"
    assert record.t == "bytes"
    for bad in ("sixsix", "\u20ac\u20ac", "a\0b", b"a\0", b"sixsix", "\ud800"):
        with pytest.raises(ValueError, match=r"holds at most|zero byte|surrogates"):
            record.t = bad
    for bad in (5, None, bytearray(b"x")):
        with pytest.raises(TypeError):
            record.t = bad
    with pytest.raises(ValueError, match="at most 6 bytes"):
        record.s = b"seven77"
    assert list(record) == [0, 0.0, b"sixsix", "bytes"]
    record.t = ""
    assert bytes(record)[-6:] == bytes(6)


@pytest.mark.parametrize("size", [1, 5, 16, 17, 300])
def test_text_of_any_bytes_can_be_read(size: int) -> None:
    kind = record_type([("t", f"S{size}")], text=["t"])
    for raw in (b"", b"\xff", b"ab\0cd", b"x" * size, b"\xe2\x82"):
        raw = raw[:size]
        for _ in range(3):
            expected = raw.split(b"\0")[0].decode(errors="backslashreplace")
            assert kind(raw.ljust(size, b"\0")).t == expected


def test_many_texts_are_told_apart() -> None:
    kind = record_type([("t", "S16"), ("u", "S4")], text=["t", "u"])
    names = [f"S{i}" for i in range(1000)]
    for _ in range(2):
        for name in names:
            assert list(kind(t=name, u=name[-3:])) == [name, name[-3:]]


def test_subarrays_are_views_of_the_records_memory() -> None:
    kind = record_type([("n", "u1"), ("m", "<f8", (2, 3)), ("i", "<u2", (2,)), ("s", "S2", (2,))])
    record = kind(m=[[1, 2, 3], [4, 5, 6]], i=[1, 65535], s=[b"a", b"bc"])
    assert record.m.shape == (2, 3)
    assert not record.m.flags.aligned
    assert record.m.tolist() == [[1, 2, 3], [4, 5, 6]]
    record.m[1, 2] = 9
    record["m"] += 1
    assert np.asarray(record)["m"].tolist() == [[2, 3, 4], [5, 6, 10]]
    record.m = 0.5  # broadcast, as numpy does
    kept = record.m
    before = bytes(record)
    for name, bad, error in [
        ("m", [1, 2], ValueError), ("m", "abc", TypeError), ("m", [[1j] * 3] * 2, TypeError),
        ("i", [1, 65536], OverflowError), ("i", [-1, 0], OverflowError),
        ("i", [2**70, 0], OverflowError), ("i", [1.5, 2], TypeError), ("i", ["1", "2"], TypeError),
        ("s", [b"abc", b""], ValueError), ("s", ["a", "b"], TypeError),
    ]:  # fmt: skip
        with pytest.raises(error):
            setattr(record, name, bad)
    assert bytes(record) == before
    del record
    gc.collect()
    assert kept.tolist() == [[0.5] * 3] * 2


def test_nested_structs_are_numpys() -> None:
    inner = np.dtype([("x", "<f8"), ("y", "u1", (2,))])
    record = record_type([("n", "u1"), ("inner", inner), ("list", inner, (2,))])(
        inner=(1.5, (2, 3))
    )
    assert isinstance(record.inner, np.void)
    assert record.inner["x"] == 1.5
    record.inner["y"][1] = 9
    record.list[1] = (2.5, (4, 5))
    assert record.inner.tolist()[1].tolist() == [2, 9]
    assert record.list["x"].tolist() == [0, 2.5]
    before = bytes(record)
    with pytest.raises(ValueError, match="abc"):
        record.inner = "abc"
    with pytest.raises(OverflowError):
        record.inner = (1, (2**70, 0))
    assert bytes(record) == before


def test_field_named_as_an_attribute_is_reached_by_subscript() -> None:
    names = ["copy", "dtype", "assign", "released", "__class__", "__del__", "a b", "\u20ac"]
    record = record_type([(name, "u1") for name in names])(copy=1, released=7)
    record["dtype"] = 2
    record.assign(3)
    assert record.copy() == record
    assert record.released is False
    assert list(record.dtype.names or ()) == names
    assert [record[name] for name in names] == [3, 2, 0, 7, 0, 0, 0, 0]
    assert getattr(record, "a b") == 0


def test_unknown_fields_are_refused() -> None:
    record = Plain()
    for call, error in [
        (lambda: record.nosuch, AttributeError),
        (lambda: setattr(record, "nosuch", 1), AttributeError),
        (lambda: record["nosuch"], KeyError),
        (lambda: record[0], TypeError),
        (lambda: Plain(nosuch=1), TypeError),
        (lambda: record.assign(1, 2.0, b"", "", 5), TypeError),
        (lambda: delattr(record, "a"), TypeError),
        (lambda: record.__delitem__("a"), TypeError),
        (lambda: Plain.a.__get__(record_type(PLAIN)()), TypeError),  # type: ignore[attr-defined]
    ]:
        with pytest.raises(error):
            call()


# ---- against numpy ---------------------------------------------------------------------------

SCALARS = hypothesis_numpy.scalar_dtypes() | hypothesis_numpy.byte_string_dtypes(max_len=20)
STRUCTS = hypothesis_numpy.array_dtypes(SCALARS, max_size=6, allow_subarrays=True)
NESTED = hypothesis_numpy.array_dtypes(SCALARS | STRUCTS, max_size=4, allow_subarrays=True)
ROUNDS = settings(derandomize=True, deadline=None, max_examples=200)


def plain(value: Any) -> Any:
    """The value as Python has it; NaN and NaT as words, so that they equal themselves."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return (type(value), str(value))


def some_bytes(dtype: np.dtype[Any], seed: int) -> bytes:
    """Random bytes, half of the time only zeros and ones."""
    random = np.random.default_rng(seed)
    return bytes(random.integers(0, (256, 2)[seed % 2], dtype.itemsize, dtype=np.uint8))


@ROUNDS
@given(dtype=STRUCTS | NESTED, align=st.booleans(), seed=st.integers(0, 2**32))
def test_fields_of_any_dtype_read_as_numpy_reads_them(
    dtype: np.dtype[Any], align: bool, seed: int
) -> None:
    if align:
        dtype = np.dtype(dtype.descr, align=True)
    raw = some_bytes(dtype, seed)
    array = np.frombuffer(raw, dtype)[0]
    record = record_type(dtype)(raw)
    assert plain(tuple(record)) == plain(array)
    assert [plain(record[name]) for name in dtype.names or ()] == plain(array)
    assert bytes(record) == raw
    assert record == record_type(dtype, "Other")(array)


@ROUNDS
@given(dtype=STRUCTS | NESTED, seed=st.integers(0, 2**32))
def test_fields_of_any_dtype_take_the_values_that_they_give(
    dtype: np.dtype[Any], seed: int
) -> None:
    record = record_type(dtype)(some_bytes(dtype, seed))
    again = record_type(dtype)()
    again.assign(*record)
    assert plain(tuple(again)) == plain(tuple(record))
    again = record_type(dtype)()
    for name in dtype.names or ():
        again[name] = record[name]
    assert plain(tuple(again)) == plain(tuple(record))


@pytest.mark.parametrize("code", ["<U2", ">U2"])
def test_bytes_that_are_no_characters_are_an_error(code: str) -> None:
    record = record_type([("u", code)])(b"\0\xff\xff\0" * 2)
    with pytest.raises(ValueError, match="no character"):
        _ = record.u
