"""src/api/dtype.c: a dtype that a C program writes becomes the schema that numpy would write."""

from __future__ import annotations

import ctypes
import random
import re
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as numpy_format

import shmipc
from helpers import get_u32, get_u64, segment_path
from samples import ALIGNED, NESTED, SCHEMAS, TICK
from shmipc.trading.events import dtypes
from toolchain import API, C_WARNINGS, CORE, NATIVE_ENV, SANITIZE, c_compiler, compile_with

pytestmark = pytest.mark.once

SOURCES = (API / "dtype.c", API / "dtype_word.c", CORE / "base" / "error.c")
DRIVER = Path(__file__).resolve().parent / "c" / "read_dtypes.c"
MAX_SCHEMA_LEN = 64 * 1024
SCHEMA_LEN, SCHEMA_OFF = 28, 56  # in the segment: src/core/base/layout.h
INVALID = 12

Write = Callable[..., "tuple[bytes, int]"]


class _Error(ctypes.Structure):
    _fields_ = (("status", ctypes.c_int), ("os", ctypes.c_int), ("text", ctypes.c_char * 700))


class Refused(Exception):
    """The text of an error."""


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Return shmipc_schema_write as a function of a dtype and a shape."""
    cc = c_compiler()
    if cc is None:
        pytest.skip("no C compiler: install gcc or clang, or set CC")
    library = tmp_path_factory.mktemp("dtype") / "dtype.so"
    flags = ("-std=c11", "-O2", *C_WARNINGS, "-Wstrict-prototypes", f"-I{CORE}")
    compile_with(cc, *flags, "-shared", "-fPIC", *SOURCES, "-o", library)
    function = ctypes.CDLL(str(library)).shmipc_schema_write
    buffer = ctypes.create_string_buffer(MAX_SCHEMA_LEN + 1)

    def call(dtype: str | bytes | None, shape: tuple[int, ...] = ()) -> tuple[bytes, int]:
        error, length, item_len = _Error(), ctypes.c_uint32(), ctypes.c_uint64()
        status = function(
            dtype.encode() if isinstance(dtype, str) else dtype,
            (ctypes.c_uint64 * len(shape))(*shape),
            ctypes.c_uint32(len(shape)),
            buffer,
            ctypes.c_size_t(len(buffer)),
            ctypes.byref(length),
            ctypes.byref(item_len),
            ctypes.byref(error),
        )
        if status != 0:
            assert status == error.status == INVALID
            raise Refused(error.text.decode(errors="replace"))
        assert buffer.raw[length.value] == 0
        return buffer.raw[: length.value], item_len.value

    return call


def schema_of(dtype: Any, shape: tuple[int, ...] = ()) -> tuple[bytes, int]:
    """Return what a Producer writes for a dtype, and the size of its items."""
    with shmipc.Producer("schema", dtype=dtype, shape=shape, capacity=1):
        path = segment_path("schema")
        start, item_len = get_u64(path, SCHEMA_OFF), get_u64(path, 40)
        return path.read_bytes()[start : start + get_u32(path, SCHEMA_LEN)], item_len


def described(dtype: Any) -> str:
    return repr(numpy_format.dtype_to_descr(np.dtype(dtype)))


DTYPES = [
    *SCHEMAS,
    *((event.dtype, ()) for event in dtypes.EVENTS),
    *((dtypes.order_book_dtype(levels), (2,)) for levels in (1, 3, 1000)),
    (np.dtype([("a", "u1"), ("b", "<f8"), ("c", "<u2")], align=True), ()),
    (np.dtype([("a", "u1"), ("b", [("c", "<u2"), ("d", "u1")], (3,))], align=True), (2, 3)),
    (np.dtype([("a", ALIGNED), ("b", NESTED, (2, 1)), ("c", TICK)], align=True), ()),
    (np.dtype({"names": ["b"], "formats": ["<f8"], "offsets": [40], "itemsize": 64}), ()),
    (np.dtype([("it's", "u1"), ('so "quoted"', "u1"), ("größe", "f2"), ("価格", ">f8")]), ()),
    (np.dtype([("a", "<f8", (1,)), ("b", "S1"), ("c", "<f8", (1, 3)), ("", "V3")]), ()),
    (np.dtype([("t", "<M8[25s]"), ("u", "m8"), ("v", ">M8[as]"), ("w", "<U7")]), (9,)),
    ("V2147483647", ()),
]


@pytest.mark.parametrize(("dtype", "shape"), DTYPES, ids=lambda part: repr(part)[:40])
def test_schema_is_what_python_writes(write: Write, dtype: Any, shape: tuple[int, ...]) -> None:
    if np.dtype(dtype).itemsize > 2**30:
        expected = f"({described(dtype)}, {shape!r})".encode(), np.dtype(dtype).itemsize
    else:
        expected = schema_of(dtype, shape)
    assert write(described(dtype), shape) == expected


@pytest.mark.parametrize("kind", "bfiucSUVMm")
def test_every_format_is_read_as_numpy_reads_it(write: Write, kind: str) -> None:
    known = 0
    of_time = ["[ns]", "[1ns]", "[25s]", "[Y]", "[2147483647M]", "[07W]"]
    sizes = [*map(str, range(33)), "08", "007", "100"]
    units = ["", *(of_time if kind in "Mm" else [])]
    for order in ("", "<", ">", "=", "|"):
        for form in [f"{order}{kind}{size}{unit}" for size in sizes for unit in units]:
            try:
                dtype = np.dtype(form)
            except TypeError:
                dtype = np.dtype("V0")
            if dtype.itemsize == 0 or form.strip(order) in {"f16", "c32"}:
                with pytest.raises(Refused):
                    write(form)
                continue
            known += 1
            expected = f"({dtype.str!r}, ())".encode(), dtype.itemsize
            assert write(form) == write(repr(form)) == write(f" \t'{form}'\n") == expected
    assert known >= 5


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("[('a','f8')]", "[('a', '<f8')]"),
        ('\n[ ( "a" ,\t"f8" , ( 3 , 4 , ) , ) , ]\r\n', "[('a', '<f8', (3, 4))]"),
        ("[('a', 'f8', 3), ('b', 'f8', (3)), ('c', 'f8', ())]",
         "[('a', '<f8', (3,)), ('b', '<f8', (3,)), ('c', '<f8')]"),
        ("[('', 'V2'), ('', '|V3', (2,)), ('a', 'u1'), ('', 'V1')]",
         "[('', '|V8'), ('a', '|u1'), ('', '|V1')]"),
        ("[('a', [('', 'V2'), ('b', '=i2')], (2,)), ('', 'V1'), ]",
         "[('a', [('', '|V2'), ('b', '<i2')], (2,)), ('', '|V1')]"),
        ("[('a', [('a', 'u1')]), ('b', [('a', 'u1')])]",
         "[('a', [('a', '|u1')]), ('b', [('a', '|u1')])]"),
        ("[(\"(', 'a'\", 'u1'), ('a', 'u1')]", "[(\"(', 'a'\", '|u1'), ('a', '|u1')]"),
    ],
)  # fmt: skip
def test_spelling_is_free_and_the_schema_canonical(write: Write, text: str, canonical: str) -> None:
    schema, item_len = write(text)
    assert schema == f"({canonical}, ())".encode()
    dtype = numpy_format.descr_to_dtype(eval(canonical))
    assert (described(dtype), dtype.itemsize) == (canonical, item_len)


# ---- whatever dtypes there are -------------------------------------------------------------------

NAMES = st.text(st.sampled_from("abcxyz_019 -.()[],'\"éßΩж価한"), min_size=1, max_size=6).filter(
    lambda name: not ("'" in name and '"' in name)
)
FORMATS = st.one_of(
    st.sampled_from(["b1", "i1", "u1", "S3", "V5", "<U2", ">U1", "M8", "<m8[D]", ">M8[7us]"]),
    st.builds("{}{}".format, st.sampled_from(["<", ">", "=", "|", ""]),
              st.sampled_from(["i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"])),
)  # fmt: skip
SHAPES = st.lists(st.integers(1, 5), max_size=3).map(tuple)


def padded(fields: list[Any], pads: list[int]) -> list[Any]:
    """Put padding before and after fields; 0 is none."""
    parts: list[Any] = []
    for field, pad in zip([*fields, None], [*pads, *[0] * len(fields), 3], strict=False):
        parts += [("", f"|V{pad}")] * bool(pad) + [field] * (field is not None)
    return parts


def fields_of(formats: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    field = st.tuples(NAMES, formats, SHAPES).map(lambda f: f if f[2] else f[:2])
    several = st.lists(field, min_size=1, max_size=5, unique_by=lambda field: field[0])
    return st.builds(padded, several, st.lists(st.integers(0, 9), max_size=5))


DESCRS = st.recursive(FORMATS, fields_of, max_leaves=12)


def loosely(descr: Any, chance: random.Random) -> str:
    """Write a description in one of the ways that mean the same."""

    def space() -> str:
        return chance.choice(["", "", " ", "\n", "\t "])

    if isinstance(descr, list):
        fields = []
        for name, form, *shape in descr:
            words = [repr(name), loosely(form, chance), *map(repr, shape)]
            comma = chance.choice(["", ","])
            fields.append(
                "(" + space() + f"{space()},{space()}".join(words) + comma + space() + ")"
            )
        return "[" + space() + f"{space()},".join(fields) + chance.choice(["", ", "]) + "]"
    return str(repr(descr))


@settings(max_examples=300, deadline=None)
@given(descr=DESCRS, shape=SHAPES, seed=st.integers(0, 2**32))
def test_any_dtype_is_described_as_numpy_describes_it(
    write: Write, descr: Any, shape: tuple[int, ...], seed: int
) -> None:
    dtype = numpy_format.descr_to_dtype(descr)
    text = loosely(descr, random.Random(seed))
    item_len = dtype.itemsize * int(np.prod(shape, dtype=int))
    canonical = described(dtype)
    assert write(text, shape) == (f"({canonical}, {shape!r})".encode(), item_len)
    assert write(canonical, shape) == write(text, shape)


def test_a_name_may_have_only_characters_that_every_python_prints(write: Write) -> None:
    allowed = 0
    for point in (*range(1, 0x30000), *range(0xE0000, 0xE0200), 0x10FFFF):
        letter = chr(point)
        try:
            name = letter.encode()
        except UnicodeEncodeError:
            name = letter.encode(errors="surrogatepass")
        try:
            schema, _ = write(b'[("' + name + b'", "u1")]')
        except Refused:
            assert point > 0x7F or not letter.isprintable() or letter in '\\"', hex(point)
            continue
        allowed += 1
        assert schema == f"([({letter!r}, '|u1')], ())".encode()
        assert unicodedata.category(letter) != "Cn"
    assert allowed > 20000


@pytest.mark.parametrize("name", [b"\x80", b"\xc3", b"\xc0\xaf", b"\xe4\xbe", b"\xed\xa0\x80",
                                  b"\xf5\x80\x80\x80", b"a\xff", b"\xe0\x80\xaf"])  # fmt: skip
def test_a_name_that_is_no_utf8_is_refused(write: Write, name: bytes) -> None:
    with pytest.raises(Refused, match="may not have this character"):
        write(b"[('" + name + b"', 'u1')]")


# ---- what is refused -----------------------------------------------------------------------------

REFUSED = [
    ("", r"character 1: .*no format.*use b1, i1"),
    ("double", r'character 1: "double" is no format'),
    ("O", "no format"),
    ("f16", "no format"),
    ("f8 f8", "character 4: nothing may come after"),
    ("<f8,", "no format"),
    ("(3,)f8", "no format"),
    ("'<f8", "character 1: this quote is never closed"),
    ("S", "no format"),
    ("S0", "no format"),
    ("[('a', 'u1'), ('b', 'f8', (3, 0))]", "character 31: a field of 0 elements"),
    ("V2147483648", "no format"),
    ("U536870912", "no format"),
    ("S99999999999999999999999999", "no format"),
    ("M8[0s]", "no unit of time: use"),
    ("M8[xs]", "no unit of time"),
    ("M8[s", "no unit of time"),
    ("M8[2147483648s]", "no unit of time"),
    ("M8[us/4]", "no unit of time"),
    ("{'names': ['a']}", "no format"),
    ("[]", "character 2: a record needs a field with a name"),
    ("[('', 'V4')]", "needs a field with a name"),
    ("[('a', [])]", "needs a field with a name"),
    ("[", "here must be a field"),
    ("[,]", "character 2: here must be a field"),
    ("[('a', 'f8'),, ]", "here must be a field"),
    ("[('a', 'f8') ('b', 'f8')]", "character 14: here must be a comma or a ]"),
    ("[('a', 'f8']", r"here must be the \) that ends"),
    ("[('a', 'f8', (3,), 4)]", r"here must be the \) that ends"),
    ("[('a' 'f8')]", "character 7: here must be a comma and the format"),
    ("[('a',)]", "here must be a format in quotes"),
    ("[('a', ('f8', (3,)))]", "here must be a format in quotes"),
    ("[('a', 'f8')] x", "character 15: nothing may come after"),
    ("[('a', 'f8'), ('b', 'u1'), ('a', 'u2')]", "character 29: there is a field of this name"),
    ("[(\"a\", 'f8'), ('a', 'u2')]", "there is a field of this name"),
    ("[(('title', 'a'), 'f8')]", "titles are not supported"),
    ("[(a, 'f8')]", "its name in quotes"),
    ("[('a\\x41', 'f8')]", "character 5: no backslash"),
    ("[('a\tb', 'f8')]", "character 5: a name may not have this character"),
    ("[('', 'f8')]", "padding: give it a name, or the format '|V8'"),
    ("[('', [('a', 'u1')])]", "a field without a name is padding"),
    ("[('a', 'f8', (3,x))]", "a shape is a tuple of numbers"),
    ("[('a', 'f8', (3 4))]", "a shape is a tuple of numbers"),
    ("[('a', 'f8', (-3,))]", "a shape is a tuple of numbers"),
    ("[('a', 'f8', [3])]", "a shape is a tuple of numbers"),
    ("[('a', 'f8', (3.5,))]", "a shape is a tuple of numbers"),
    ("[('a', 'f8', (99999999999999999999999,))]", "more than 2 GiB"),
    ("[('a', 'f8', (65536, 65536))]", "more than 2 GiB"),
    ("[('a', 'V2147483647'), ('b', 'u1')]", "the fields up to here have more than 2 GiB"),
    ("[('a', 'u1'), ('', 'V2147483647')]", "more than 2 GiB"),
    ("[('a', 'u1', (" + "1, " * 32 + "))]", "a shape of more than 31 axes"),
    ("[" + ", ".join(f"('field_{i}', '<f8')" for i in range(4000)) + "]", "longer than 65536"),
]


@pytest.mark.parametrize(("dtype", "text"), REFUSED, ids=lambda part: repr(part)[:40])
def test_what_is_no_dtype_is_refused_with_what_and_where(
    write: Write, dtype: str, text: str
) -> None:
    with pytest.raises(Refused, match=text) as refusal:
        write(dtype)
    assert dtype[:20] in str(refusal.value)


def test_shapes_are_checked(write: Write) -> None:
    assert write("u1", (2**46,)) == (b"('|u1', (70368744177664,))", 2**46)
    assert write("u1", (1,) * 31) == (f"('|u1', {(1,) * 31!r})".encode(), 1)
    for shape, text in [
        ((2**46 + 1,), "too large"),
        ((2**60, 2**60), "too large"),
        ((2**64 - 1, 0), "too large"),
        ((0,), "has no bytes"),
        ((1,) * 32, "a shape of 32 axes"),
    ]:
        with pytest.raises(Refused, match=text):
            write("u1", shape)
    with pytest.raises(Refused, match="is NULL"):
        write(None)


def nested(depth: int) -> str:
    return "[('a', " * depth + "'u1'" + ", (2,))]" + ")]" * (depth - 1)


def test_records_nest_as_deeply_as_python_reads_them(write: Write) -> None:
    deepest = write(nested(31))
    assert deepest == schema_of(numpy_format.descr_to_dtype(eval(nested(31))))
    with pytest.raises(Refused, match="more than 31 deep"):
        write(nested(32))
    with pytest.raises(ValueError, match="nested too deeply"):
        schema_of(numpy_format.descr_to_dtype(eval(nested(32))))
    with pytest.raises(Refused, match="more than 31 deep"):
        write(nested(50_000))


# ---- hostile texts, under the sanitizers ---------------------------------------------------------


def variations(texts: list[str], count: int) -> set[bytes]:
    """Return every beginning of the texts, and `count` random changes of them."""
    chance = random.Random(20261121)
    found = {text.encode()[:end] for text in texts for end in range(len(text.encode()) + 1)}
    words = [word.encode() for word in ("(", ")", "[", "]", ",", "'", '"', "('a',", "(3,)")]
    words += [b"V4", b"f8", b"99", b"M8[ns]", b"|", b" ", b"\xc3", b"\xff", b"\\"]
    for _ in range(count):
        text = bytearray(chance.choice(texts).encode())
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(text) + 1)
            text[at : at + chance.randint(0, 4)] = chance.choice(words)
        found.add(bytes(text))
    return {text.replace(b"\0", b" ").replace(b"\n", b" ") for text in found}


def test_no_text_makes_it_read_or_write_where_it_must_not(tmp_path: Path) -> None:
    cc = c_compiler()
    if cc is None:
        pytest.skip("no C compiler: install gcc or clang, or set CC")
    program = tmp_path / "read_dtypes"
    flags = ("-std=c11", *SANITIZE, *C_WARNINGS, "-Wstrict-prototypes", f"-I{CORE}")
    compile_with(cc, *flags, DRIVER, *SOURCES, "-o", program)
    texts = [*(described(dtype) for dtype, _ in DTYPES), *(text for text, _ in REFUSED)]
    texts = [text for text in texts if len(text) < 2000]
    lines = sorted(variations(texts, 20_000))
    done = subprocess.run(
        [program], input=b"\n".join([*lines, nested(50_000).encode(), b""]),
        capture_output=True, env=NATIVE_ENV, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    understood = int(re.fullmatch(rb"(\d+)\n", done.stdout)[1])  # type: ignore[index]
    assert len(lines) // 200 < understood < len(lines)
