"""Compilers of this machine, and libshmipc.so, for tests of what is used from C and C++."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import shmipc
from objects import compile_objects

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "src" / "core"
API = ROOT / "src" / "api"
INCLUDE = ROOT / "shmipc" / "include"

C_WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SANITIZE = (
    *("-g", "-O0", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
NATIVE_ENV = {
    **os.environ,
    "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def c_compiler() -> str | None:
    """Return $CC, or the first C compiler on the path."""
    wanted = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next((cc for cc in wanted if shutil.which(cc)), None)


def c_compilers() -> list[str]:
    """Return gcc and clang, or $CC, as far as they are installed."""
    wanted = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang"]
    return [cc for cc in wanted if shutil.which(cc)]


def cxx_compilers() -> list[str]:
    """Return g++ and clang++, or $CXX, as far as they are installed."""
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    return [cxx for cxx in wanted if shutil.which(cxx)]


def compile_with(compiler: str, *arguments: object) -> None:
    """Run a compiler; an AssertionError with what it says if it fails, or says anything."""
    command = [compiler, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"{' '.join(command)}\n{done.stderr}"


def build_with(
    compiler: str, flags: Sequence[object], sources: Sequence[Path], out: Path, *link: object
) -> Path:
    """Compile each source (once for all tests), link them to `out`; return it.

    An AssertionError with what the compiler says if it fails, or says anything.
    """
    with TemporaryDirectory(prefix="shmipc-objects-") as folder:
        try:
            objects = compile_objects([compiler, *map(str, flags)], sources, Path(folder))
        except RuntimeError as error:
            raise AssertionError(str(error)) from None
        compile_with(compiler, *flags, *objects, *link, "-o", out)
    return out


def installed_library() -> Path | None:
    """Return the libshmipc.so that the package brings, if it does."""
    folders = getattr(shmipc, "get_library_dirs", list)()
    paths = [Path(folder) / "libshmipc.so" for folder in folders]
    return next((path for path in paths if path.exists()), None)


def build_library(cc: str, folder: Path, flags: Sequence[str] = ("-O3",)) -> Path:
    """Build libshmipc.so in `folder` as the package does; return its path."""
    return build_with(
        cc,
        [
            *("-std=c11", *flags, "-fPIC", "-fvisibility=hidden", "-pthread"),
            *(f"-I{CORE}", f"-I{INCLUDE}", '-DSHMIPC_VERSION="0.0.0"'),
        ],
        [*sorted(CORE.rglob("*.c")), *sorted(API.rglob("*.c"))],
        folder / "libshmipc.so",
        *("-shared", f"-Wl,--version-script={API / 'libshmipc.map'}"),
        *("-Wl,-soname,libshmipc.so", "-Wl,-z,nodelete"),
    )
