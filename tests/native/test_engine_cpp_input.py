"""examples/engine.cpp: captures that are none, are read in part, or never end; prices that are not
known."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from captures import made_capture, ticker
from helpers import DEADLINE
from native_engine import Start, engines
from toolchain import (
    C_WARNINGS,
    INCLUDE,
    NATIVE_ENV,
    SANITIZE,
    build_library,
    build_with,
    c_compiler,
    cxx_compilers,
)

pytestmark = pytest.mark.once

FILLS = Path(__file__).resolve().parent / "cpp" / "engine" / "fills.cpp"


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with engines() as start:
        yield start


def refusal(start: Start, path: Path) -> str:
    """What the engine says of a capture that it cannot play."""
    engine = start(path, "--flat-out")
    _, err = engine.process.communicate(timeout=DEADLINE)
    assert engine.process.returncode == 1
    assert err.startswith("engine: ")
    return err


# ---- no capture at all ---------------------------------------------------------------------------


def test_line_without_end_is_an_error(start: Start) -> None:
    assert "/dev/zero is no capture: a line has no end" in refusal(start, Path("/dev/zero"))


def test_directory_is_an_error(start: Start, tmp_path: Path) -> None:
    assert refusal(start, tmp_path) == f"engine: cannot read {tmp_path}: Is a directory\n"


def test_missing_file_is_an_error(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert refusal(start, path) == f"engine: cannot open {path}: No such file or directory\n"


NO_CAPTURES = {
    "nothing": (b"", "0 lines, 0 of them bad"),
    "a page": (
        b"<!DOCTYPE html>\n<html>\n</html>\n",
        "3 lines, 3 of them bad (the first: line 1: ",
    ),
    "a table": (b"time,price\n1,2\n", "2 lines, 2 of them bad"),
    "UTF-16": (ticker(1).decode().encode("utf-16"), " of them bad (the first: line 1: "),
    "an array": (b"\x93NUMPY\x01\x00" + bytes(1000), "1 lines, 1 of them bad"),
    "another packer's": (b"\x28\xb5\x2f\xfd" + bytes(range(256)), " of them bad"),
}


@pytest.mark.parametrize("what", NO_CAPTURES)
def test_file_without_an_event_is_an_error(what: str, start: Start, tmp_path: Path) -> None:
    content, told = NO_CAPTURES[what]
    path = tmp_path / "capture"
    path.write_bytes(content)
    said = refusal(start, path)
    assert said.startswith(f"engine: {path} has no event: ")
    assert told in said


def test_nothing_was_asked_for_and_nothing_is_played(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(ticker(1))
    assert start(path, "--flat-out", "--max-events", 0).finish().startswith("0 events in ")


# ---- a capture in part ---------------------------------------------------------------------------


def test_mark_of_utf8_costs_no_line(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(made_capture(10, seed=1)))
    out = start(path, "--flat-out").finish()
    assert out.startswith("10 events in ")
    assert out.endswith(" of 10 lines, 0 of them bad\n")


def test_damage_behind_the_last_line_is_told(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "capture.gz"
    packed = bytearray(gzip.compress(b"\n".join(made_capture(10, seed=1)) + b"\n"))
    packed[-8] ^= 1  # of the checksum
    path.write_bytes(packed)
    engine = start(path, "--flat-out")
    out, _ = engine.process.communicate(timeout=DEADLINE)  # gzip complains on stderr
    assert engine.process.returncode == 0
    assert out.startswith("10 events in ")
    assert out.endswith("; the file is cut or damaged: this is not all of it\n")


def test_engine_hears_sigterm_in_the_middle_of_a_line(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    engine = start(path, "--flat-out")
    with path.open("wb", buffering=0) as pipe:
        pipe.write(b"1700000000000000000 {")
        engine.process.send_signal(signal.SIGTERM)
        assert engine.finish().startswith("0 events in ")


# ---- prices --------------------------------------------------------------------------------------


def test_no_order_is_filled_at_a_price_that_is_not_known(tmp_path: Path) -> None:
    cc = c_compiler()
    if cc is None or not cxx_compilers():
        pytest.skip("no C or C++ compiler: install gcc and g++")
    library = build_library(cc, tmp_path)
    flags = ("-std=c++17", *C_WARNINGS, *SANITIZE, f"-I{INCLUDE}")
    link = (library, f"-Wl,-rpath,{tmp_path}")
    program = build_with(cxx_compilers()[0], flags, [FILLS], tmp_path / "fills", *link)
    done = subprocess.run([program], capture_output=True, text=True, env=NATIVE_ENV, timeout=60)
    tests = FILLS.read_text("utf-8").count("\nTEST(")
    assert (done.returncode, done.stdout) == (0, f"{tests} tests passed\n"), done.stderr
