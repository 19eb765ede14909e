"""What libshmipc.so shows is what shmipc.h declares, and what the last release had is still so."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

import shmipc

pytestmark = pytest.mark.once

ABI = Path(__file__).resolve().parent / "abi"


def load_runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shmipc_abi", ABI / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


runner = load_runner()
symbols = runner.symbols
needs_tools = pytest.mark.skipif(runner.missing() is not None, reason=str(runner.missing()))


@pytest.fixture(scope="module")
def library() -> Path:
    if shutil.which("nm") is None:
        pytest.skip("no nm: apt install binutils")
    return Path(shmipc.get_library_dirs()[0], "libshmipc.so")


@pytest.fixture(scope="module")
def declared() -> list[str]:
    return [function.name for function in symbols.declared(symbols.HEADER.read_text("utf-8"))]


# ---- header, version script, library ---------------------------------------------------------


def test_version_script_lists_what_the_header_declares(declared: list[str]) -> None:
    listed = symbols.listed(symbols.VERSION_SCRIPT.read_text("utf-8"))
    assert sorted(listed) == sorted(declared)
    assert len(set(declared)) == len(declared) > 40


def test_library_shows_what_the_header_declares_and_nothing_else(
    library: Path, declared: list[str]
) -> None:
    assert sorted(symbols.exported(library)) == sorted(declared)


def test_library_needs_nothing_but_libc(library: Path) -> None:
    needed = symbols.needed(library)
    assert needed
    assert [name for name in needed if "@GLIBC_" not in name] == []


def test_installed_header_is_this_one() -> None:
    assert Path(shmipc.get_include(), "shmipc.h").read_text() == symbols.HEADER.read_text()


def test_function_that_cannot_be_read_is_an_error() -> None:
    assert symbols.declared("SHMIPC_API int\nshmipc_f(void) SHMIPC_NOEXCEPT;\n") == [
        ("int", "shmipc_f", "void")
    ]
    with pytest.raises(ValueError, match="1 functions are marked, 0"):
        symbols.declared("SHMIPC_API int shmipc_f(int (*callback)(void) {}")


# ---- the last release ------------------------------------------------------------------------


@needs_tools
def test_interface_is_that_of_the_last_release(tmp_path: Path) -> None:
    broken, _ = runner.check(tmp_path, runner.build(tmp_path), symbols.HEADER)
    assert broken == [], "\n".join(broken)


@needs_tools
@pytest.mark.parametrize("what", [row[0] for row in runner.BREAKS])
def test_break_of_the_interface_is_found(what: str, tmp_path: Path) -> None:
    header = dict(runner.broken_headers(symbols.HEADER.read_text("utf-8")))[what]
    library = runner.stub(tmp_path, header)
    broken, _ = runner.check(tmp_path, library, tmp_path / "include" / "shmipc.h")
    assert broken


@needs_tools
@pytest.mark.parametrize("what", [row[0] for row in runner.ADDITIONS])
def test_addition_to_the_interface_is_told_and_let_pass(what: str, tmp_path: Path) -> None:
    headers = runner.extended_headers(symbols.HEADER.read_text("utf-8"))
    header, name = next((text, name) for named, text, name in headers if named == what)
    library = runner.stub(tmp_path, header)
    broken, added = runner.check(tmp_path, library, tmp_path / "include" / "shmipc.h")
    assert broken == []
    assert name in "".join(added)


@needs_tools
def test_dumps_say_nothing_of_the_machine_they_were_made_on() -> None:
    for path in (runner.DUMP, runner.CONSTANTS):
        text = path.read_text("utf-8")
        assert "/tmp" not in text
        assert str(Path.home()) not in text
        assert "line=" not in text
