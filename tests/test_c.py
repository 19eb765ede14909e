"""The C tests of the core, built and run without Python: see tests/c."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import shmipc

C = Path(__file__).resolve().parent / "c"


def load_runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shmipc_c_tests", C / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load_runner()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    compiler = runner.find_compiler()
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang, or set CC")
    built: dict[str, Path] = runner.build(compiler, "plain", tmp_path_factory.mktemp("c"))
    return built


@pytest.mark.parametrize("suite", runner.suites())
def test_c_suite_passes(suite: str, programs: dict[str, Path]) -> None:
    status, output = runner.run(programs[suite])
    assert status == 0, output


def read_vector() -> dict[int, int]:
    """Return the bytes of the vector by offset; those it leaves open are absent."""
    expected: dict[int, int] = dict.fromkeys(range(8192), 0)
    for line in (C / "vectors" / "message_ring.txt").read_text("utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        offset, _, tokens = text.partition(":")
        for at, token in enumerate(tokens.split(), int(offset, 16)):
            if token == "..":
                del expected[at]
            else:
                expected[at] = int(token, 16)
    return expected


@pytest.mark.skipif(sys.byteorder != "little", reason="the vector is little-endian")
def test_segment_made_from_python_has_the_bytes_of_the_vector(shm_dir: Path) -> None:
    expected = read_vector()
    with shmipc.Producer("vector", capacity=4096, consumers=2) as producer:
        producer.send(b"hello", kind=7, flags=3)
        found = (shm_dir / "shmipc.vector").read_bytes()
    if found[0x40:0x48] != (4096).to_bytes(8, "little"):
        pytest.skip("the vector is of a machine with 4096-byte pages")
    assert {at: found[at] for at in expected} == expected
