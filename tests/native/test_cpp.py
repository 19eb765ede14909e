"""shmipc.hpp: its tests (tests/native/cpp), built with every compiler there is, and peers in
Python."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as numpy_format

from helpers import DEADLINE, Peer, discard
from shmipc import Consumer, Producer
from toolchain import (
    INCLUDE,
    NATIVE_ENV,
    SANITIZE,
    build_library,
    build_with,
    c_compiler,
    compile_with,
    cxx_compilers,
    installed_library,
)

ROOT = Path(__file__).resolve().parents[2]
CPP = Path(__file__).resolve().parent / "cpp"
EXAMPLE = ROOT / "examples" / "ticks.cpp"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
STANDARDS = ("-std=c++17", "-std=c++20")
COMPILERS = cxx_compilers()
# every compiler runs the tests, in one of the standards; it looks at the others
RUNS = list(zip(COMPILERS, STANDARDS, strict=False))

TICK = np.dtype([("time", "i8"), ("price", "f8"), ("size", "f4"), ("side", "i1")], align=True)

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not COMPILERS, reason="no C++ compiler: install g++ or clang++"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    installed = installed_library()
    cc = c_compiler()
    if installed is None and cc is None:
        pytest.skip("no libshmipc.so, and no C compiler to build it with")
    return installed or build_library(str(cc), tmp_path_factory.mktemp("lib"))


def build(
    compiler: str,
    library: Path,
    out: Path,
    flags: Sequence[str],
    *sources: Path,
    link: Sequence[str] = (),
) -> Path:
    flags = [*WARNINGS, "-pthread", f"-I{INCLUDE}", *flags]
    found = (f"-L{library.parent}", f"-Wl,-rpath,{library.parent}", "-lshmipc")
    return build_with(compiler, flags, sources, out, *found, *link)


def run(program: Path, *arguments: object) -> str:
    """Run it to a good end; return what it prints."""
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, env=environment(),
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    return {**NATIVE_ENV, "SHMIPC_DIR": os.environ["SHMIPC_DIR"]}


@pytest.fixture(scope="module")
def program(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cpp") / "main"
    return build(COMPILERS[0], library, out, STANDARDS[:1], *sorted(CPP.glob("*.cpp")))


def count_tests(*paths: Path) -> int:
    return sum(len(re.findall(r"^TEST\(", path.read_text("utf-8"), re.MULTILINE)) for path in paths)


# ---- the tests in C++ ----------------------------------------------------------------------------


def test_cpp_suite_passes(program: Path) -> None:
    assert run(program) == f"{count_tests(*CPP.glob('*.cpp'))} tests passed\n"


@pytest.mark.parametrize("compiler", COMPILERS[1:])
def test_cpp_suite_passes_as_cpp20(compiler: str, library: Path, tmp_path: Path) -> None:
    sources = sorted(CPP.glob("*.cpp"))
    program = build(compiler, library, tmp_path / "main", STANDARDS[1:], *sources)
    assert run(program) == f"{count_tests(*sources)} tests passed\n"


def test_cpp_suite_passes_under_the_sanitizers(tmp_path: Path) -> None:
    cc, compiler = c_compiler(), COMPILERS[-1]
    if cc is None:
        pytest.skip("no C compiler")
    if "clang" in compiler:
        cc = "clang"  # the sanitizers of one compiler
    library = build_library(cc, tmp_path, SANITIZE)
    sources = sorted(CPP.glob("*.cpp"))
    program = build(compiler, library, tmp_path / "main", (STANDARDS[1], *SANITIZE), *sources)
    assert run(program) == f"{count_tests(*sources)} tests passed\n"


def test_error_codes_need_no_exceptions(library: Path, tmp_path: Path) -> None:
    sources = (CPP / "codes.cpp", CPP / "main.cpp")
    flags = ("-fno-exceptions", STANDARDS[0])
    program = build(COMPILERS[0], library, tmp_path / "main", flags, *sources)
    assert run(program) == f"{count_tests(*sources)} tests passed\n"
    done = subprocess.run(
        [program, "consume", "no/name"], capture_output=True, text=True, env=environment()
    )
    assert done.returncode < 0
    assert re.search(r"shmipc: .*no/name.* \(result 11\)", done.stderr)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("standard", STANDARDS)
def test_no_compiler_warns(compiler: str, standard: str) -> None:
    """Where the tests were not built already: see RUNS."""
    sources = sorted(CPP.glob("*.cpp")) if (compiler, standard) not in RUNS else [EXAMPLE]
    compile_with(compiler, standard, *WARNINGS, f"-I{INCLUDE}", "-fsyntax-only", *sources)


def test_every_header_stands_by_itself(tmp_path: Path) -> None:
    headers = sorted(path.name for path in INCLUDE.glob("shmipc*.h*"))
    assert {"shmipc.h", "shmipc.hpp", "shmipc_events.h"} <= set(headers)
    for header in headers:
        (tmp_path / f"{header}.cpp").write_text(f'#include <{header}>\n#include "{header}"\n')
    sources = [tmp_path / f"{header}.cpp" for header in headers]
    flags = (STANDARDS[0], *WARNINGS, f"-I{INCLUDE}", "-fsyntax-only")
    compile_with(COMPILERS[-1], *flags, *sources)


def test_errors_are_the_same_in_a_plugin_and_its_host(library: Path, tmp_path: Path) -> None:
    """Both have hidden visibility, so each has an error category of its own."""
    hidden = (STANDARDS[0], "-fvisibility=hidden", "-fvisibility-inlines-hidden")
    folder = CPP / "plugin"
    plugins = [
        build(
            compiler,
            library,
            tmp_path / f"{compiler}.so",
            (*hidden, "-fPIC"),
            source,
            link=["-shared"],
        )
        for compiler in COMPILERS
        for source in [folder / "plugin.cpp"]
    ]
    for compiler in COMPILERS:
        host = build(
            compiler, library, tmp_path / "host", hidden, folder / "host.cpp", link=["-ldl"]
        )
        assert run(host, *plugins) == f"{len(plugins)} plugins\n"


MISTAKES = {
    "a field out of order": (
        "struct R { int a; int b; }; SHMIPC_RECORD(R, b, a);",
        "name the fields of a record in their order",
    ),
    "a field twice": (
        "struct R { int a; }; SHMIPC_RECORD(R, a, a);",
        "name the fields of a record in their order",
    ),
    "a pointer to the heap": (
        "struct R { std::string a; }; SHMIPC_RECORD(R, a);",
        "a record is a plain struct",
    ),
    "a struct without SHMIPC_RECORD": (
        "struct R { int a; }; auto f() { return shmipc::dtype_of<R>(); }",
        "this type has no dtype: describe it",
    ),
    "a number that numpy does not share": (
        "auto f() { return shmipc::dtype_of<long double>(); }",
        "no size or form that numpy shares",
    ),
    "an item that is no plain bytes": (
        'void f() { shmipc::Producer<std::string> out("ring"); }',
        "an item is plain bytes",
    ),
    "another item": (
        "struct R {}; void f(shmipc::Producer<double> &out, R r) { out.send(r); }",
        "an item of this ring is a T",
    ),
    "a pointer without a length": (
        "void f(shmipc::Producer<> &out, int *p) { out.send(p); }",
        "how long is it",
    ),
    "a field of characters": (
        "struct R { char id[16]; }; void f(shmipc::Producer<> &out, R &r) { out.send(r.id); }",
        "an array of characters may be text or bytes: send_text",
    ),
    "a literal": (
        'void f(shmipc::Producer<> &out) { out.send("text", 7, 0, 0); }',
        "an array of characters may be text or bytes: send_text",
    ),
    "a literal that is tried": (
        'void f(shmipc::Producer<> &out) { out.try_send("text"); }',
        "an array of characters may be text or bytes: send_text",
    ),
    "a wide literal": (
        'void f(shmipc::Producer<> &out) { out.send(L"text"); }',
        "an array of characters may be text or bytes: send_text",
    ),
    "a view of a message that needs more alignment": (
        "struct alignas(32) R { int a; }; auto f(shmipc::Message m) { return m.as<R>().a; }",
        "messages are aligned to 16 bytes, and this type needs more",
    ),
    "a look at a message that needs more alignment": (
        "struct alignas(32) R { int a; }; bool f(shmipc::Message m) { return m.try_as<R>(); }",
        "messages are aligned to 16 bytes, and this type needs more",
    ),
    "a reserved object that needs more alignment": (
        "struct alignas(32) R { int a; }; "
        "void f(shmipc::Reservation<void> &room) { room.as<R>() = {}; }",
        "messages are aligned to 16 bytes, and this type needs more",
    ),
    "an item that is an array of a fixed length": (
        'void f() { shmipc::Producer<float[3]> out("ring"); }',
        "items of N elements are of std::array<T, N>",
    ),
    "a base class with fields": (
        "struct B { int a; }; struct R : B { int b; }; SHMIPC_RECORD(R, a, b);",
        "of a base class with fields make the first member",
    ),
    "fields of another access": (
        "class R { public: int a; private: int b; }; SHMIPC_RECORD(R, a);",
        "all of them public or all not",
    ),
    "more fields than a record has": (
        "struct R {"
        + "".join(f"int a{i};" for i in range(257))
        + f"}}; SHMIPC_RECORD(R, {', '.join(f'a{i}' for i in range(257))});",
        "a record has 256 fields at most",
    ),
    "a vector of bits as items": (
        "void f(shmipc::Producer<bool> &out, std::vector<bool> v) { out.send_n(v); }",
        "items must lie one after the other in memory",
    ),
    "a vector of bits as a message": (
        "void f(shmipc::Producer<> &out, std::vector<bool> v) { out.send(v); }",
        "the elements of this range do not lie one after the other",
    ),
    "a copy of an item larger than a stack": (
        "using R = std::array<double, 1 << 20>; auto f(shmipc::Consumer<R> &in) { in.recv(); }",
        "would be copied through the stack: use recv_into",
    ),
    "a copy of such an item that may fail": (
        "using R = std::array<double, 1 << 20>; auto f(shmipc::Consumer<R> &in) { in.try_recv(); }",
        "would be copied through the stack: use recv_into",
    ),
}


@pytest.fixture(scope="module")
def precompiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A header of shmipc.hpp alone; the compiler that is given it finds its .gch."""
    header = tmp_path_factory.mktemp("precompiled") / "first.hpp"
    header.write_text("#include <shmipc.hpp>\n")
    flags = (STANDARDS[0], f"-I{INCLUDE}", "-x", "c++-header")
    compile_with(COMPILERS[-1], *flags, header, "-o", f"{header}.gch")
    return header


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_does_not_compile_and_is_told(
    mistake: str, precompiled: Path, tmp_path: Path
) -> None:
    code, text = MISTAKES[mistake]
    source = tmp_path / "mistake.cpp"
    source.write_text(f"#include <shmipc.hpp>\n{code}\n")
    flags = (STANDARDS[0], f"-I{INCLUDE}", "-include", precompiled, "-fsyntax-only")
    with pytest.raises(AssertionError, match=text):
        compile_with(COMPILERS[-1], *flags, source)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_record_may_have_256_fields(compiler: str, library: Path, tmp_path: Path) -> None:
    names = [f"a{i}" for i in range(256)]
    source = tmp_path / "wide.cpp"
    source.write_text(
        "#include <shmipc.hpp>\n#include <cstdio>\n"
        f"struct R {{ {''.join(f'std::int32_t {name};' for name in names)} }};\n"
        f"SHMIPC_RECORD(R, {', '.join(names)});\n"
        'int main() { std::printf("%s", shmipc::dtype_of<R>().text.c_str()); }\n'
    )
    told = run(build(compiler, library, tmp_path / "wide", STANDARDS[:1], source))
    assert ast.literal_eval(told) == [(name, "<i4") for name in names]


# ---- dtypes --------------------------------------------------------------------------------------

LEG = np.dtype([("id", "u1"), ("weight", "f8")], align=True)
NUMPY: dict[str, Any] = {
    "Tick": TICK,
    "Leg": LEG,
    "Mixed": np.dtype(
        [
            *(("flag", "?"), ("letter", "S1"), ("name", "S11"), ("raw", "u1"), ("i1", "i1")),
            *(("u2", "u2"), ("code", "S5"), ("grid", "i4", (2, 3)), ("points", "f4", (3, 2))),
            *(("legs", LEG, (2,)), ("more", LEG, (1,)), ("names", "S4", (3,)), ("u8", "u8")),
        ],
        align=True,
    ),
    "Partly": np.dtype(
        {"names": ["seen", "last"], "formats": ["i4", "i2"], "offsets": [4, 16], "itemsize": 24}
    ),
    "Large": np.dtype([("number", "u4"), ("rest", "u4", (1024,))], align=True),
    "Wide": np.dtype([(f"a{i}", "i4") for i in range(1, 65)]),
    "bool": np.dtype("?"),
    "char": np.dtype("S1"),
    "long long": np.dtype("i8"),
    "unsigned short": np.dtype("u2"),
    "Side": np.dtype("i1"),
    "array": np.dtype(("f8", (3, 2))),
    "text": np.dtype("S9"),
}


def test_the_dtype_of_a_struct_is_that_of_numpys_aligned_dtype(program: Path) -> None:
    found = {}
    for line in run(program, "dtypes").splitlines():
        name, descr, shape, size = line.split("\t")
        found[name] = (descr, tuple(map(int, shape.split())), int(size))
    expected = {
        name: (repr(numpy_format.dtype_to_descr(dtype.base)), dtype.shape, dtype.itemsize)
        for name, dtype in NUMPY.items()
    }
    assert found == expected
    for descr, _, _ in found.values():
        assert repr(ast.literal_eval(descr)) == descr


# ---- with Python at the other end ----------------------------------------------------------------


class Side:
    """A program of C++ at one end of a ring; ends, killed if need be, with the with block."""

    def __init__(self, program: Path, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [program, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment()
        )

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, output

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_python_reads_the_records_of_cpp(program: Path) -> None:
    parts = []
    with Side(program, "produce", "ticks", 5000) as side, Consumer("ticks", timeout=DEADLINE) as c:
        assert c.dtype == TICK
        while sum(map(len, parts)) < 5000:
            with c.read_batch(timeout=DEADLINE) as frame:
                parts.append(frame.array.copy())
        assert side.end() == (0, "")
    ticks = np.concatenate(parts)
    number = np.arange(5000)
    assert (ticks["time"] == number).all()
    assert (ticks["price"] == number / 2).all()
    assert (ticks["size"] == number % 100).all()
    assert (ticks["side"] == number % 3 - 1).all()


def test_cpp_reads_the_records_of_python(program: Path) -> None:
    number = np.arange(5000)
    ticks = np.zeros(5000, TICK)
    ticks["time"], ticks["price"], ticks["side"] = number, number * 0.5, number % 3 - 1
    with Producer("ticks", dtype=TICK) as p, Side(program, "consume", "ticks") as side:
        p.wait_for_consumers(1, timeout=DEADLINE)
        p.send_many(ticks, timeout=DEADLINE)
        p.close()
        total = float((ticks["price"] * ticks["side"] + ticks["time"]).sum())
        assert side.end() == (0, f"5000 {total:.1f}\n")


def test_messages_go_to_cpp_and_back(program: Path) -> None:
    sizes = [0, 1, 15, 16, 17, 1000, 70_000]
    with (
        Producer("there") as p,
        Side(program, "echo", "there", "back") as side,
        Consumer("back", timeout=DEADLINE) as c,
    ):
        for number, size in enumerate(sizes * 20):
            data = bytes((number + i) % 256 for i in range(size))
            p.send(data, kind=1 + number, flags=65535 - number, timeout=DEADLINE)
            with c.read(timeout=DEADLINE) as frame:
                assert bytes(frame) == data
                assert (frame.kind, frame.flags) == (1 + number, 65535 - number)
                assert frame.seq == number
        p.close()
        assert side.end() == (0, "")


def test_cpp_refuses_pythons_ring_of_another_dtype_and_names_both(program: Path) -> None:
    with Producer("ticks", dtype="<f8", shape=(3,)), Side(program, "consume", "ticks") as side:
        status, text = side.end()
    assert status == 3
    assert text.startswith("8 ")
    assert "('<f8', (3,))" in text
    assert "[('time', '<i8'), ('price', '<f8')" in text


def test_cpp_is_told_that_the_producer_died(program: Path) -> None:
    body = """
        dtype = np.dtype([("time", "i8"), ("price", "f8"), ("size", "f4"), ("side", "i1")],
                         align=True)
        producer = Producer("ticks", dtype=dtype)
        producer.wait_for_consumers(1, timeout=20)
        producer.send_many(np.zeros(7, dtype))
        say("ready")
        hear()
        """
    with Side(program, "consume", "ticks") as side, Peer(body) as peer:
        peer.expect()
        peer.kill()
        status, text = side.end()
        assert (status, text[:2]) == (3, "4 ")
    discard("ticks")


# ---- the example ---------------------------------------------------------------------------------


def test_the_readmes_example_runs_and_python_reads_its_ring(library: Path, tmp_path: Path) -> None:
    program = build(COMPILERS[0], library, tmp_path / "ticks", STANDARDS[:1], EXAMPLE)
    assert len(EXAMPLE.read_text("utf-8").splitlines()) <= 30
    with Side(program, "consume") as consumer, Side(program, "produce") as producer:
        assert producer.end()[0] == 0
        status, text = consumer.end()
        assert status == 0
        assert re.fullmatch(r"1000000 ticks, turnover [\d.]+\n", text)
    with Side(program, "produce") as producer, Consumer("ticks", timeout=DEADLINE) as c:
        number = 0
        while number < 1_000_000:
            with c.read_batch(timeout=DEADLINE) as frame:
                assert frame.array["time"][0] == number
                number += len(frame)
        assert producer.end()[0] == 0
