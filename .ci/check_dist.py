"""Check what is in the sdist and in the wheel: ``check_dist.py SDIST WHEEL``."""

from __future__ import annotations

import re
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "native" / "abi"))

import api_symbols

IN_SDIST = (
    "src/core/ring/ring.h",
    "src/binding/base/state.h",
    "src/api/libshmipc.map",
    "shmipc/_core.pyi",
    "shmipc/py.typed",
    "shmipc/include/shmipc.h",
    "shmipc/include/shmipc.hpp",
    "shmipc/include/shmipc_events.h",
    "tests/native/abi/run.py",
    "tests/native/abi/libshmipc-1.abi",
    "tests/native/abi/constants-1.txt",
    "tests/native/c/run.py",
    "tests/native/c/test.h",
    "tests/native/c/vectors/message_ring.txt",
    "tests/trials/fuzz/run.py",
    "tests/trials/fuzz/hook.h",
    "tests/trials/kills/run.py",
    "tests/trials/model/run.py",
    "tests/trials/soak/run.py",
    "tests/conftest.py",
    "tests/support/objects.py",
    "examples/hello.py",
    "benchmarks/run.py",
    "docs/design.md",
    "docs/guarantees.md",
    "docs/strategies.md",
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "setup.py",
    "pyproject.toml",
)
IN_WHEEL = (
    "shmipc/__init__.py",
    "shmipc/_core.pyi",
    "shmipc/py.typed",
    "shmipc/demo/__init__.py",
)
# all that is not Python, and nothing else; <tag> is the interpreter's
NATIVE = {
    "shmipc/_core.<tag>.so",
    *(f"shmipc/include/{path.name}" for path in api_symbols.INCLUDE.iterdir()),
    "shmipc/lib/libshmipc.so",
    "shmipc/lib/pkgconfig/shmipc.pc",
}
LIBRARY = "shmipc/lib/libshmipc.so"
PYTHON = (".py", ".pyi", "/py.typed")
NEVER_IN_SDIST = (".so", ".o", ".pyc", ".pc")
ENTRY_POINT = "[pkg_config]\nshmipc = shmipc.lib.pkgconfig\n"


def sdist_faults(path: str) -> list[str]:
    """Return what is wrong with the source distribution."""
    with tarfile.open(path) as archive:
        packed = {str(PurePosixPath(*PurePosixPath(n).parts[1:])) for n in archive.getnames()}
    faults = [f"sdist lacks {name}" for name in IN_SDIST if name not in packed]
    return faults + [f"sdist has {name}" for name in packed if name.endswith(NEVER_IN_SDIST)]


def wheel_faults(path: str) -> list[str]:
    """Return what is wrong with the wheel: files, entry points, and what the library shows."""
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as directory:
        installed = [name for name in archive.namelist() if not name.endswith("/")]
        faults = [f"wheel lacks {name}" for name in IN_WHEEL if name not in installed]
        top = {name.split("/")[0] for name in installed}
        strangers = {t for t in top if t != "shmipc" and not t.endswith(".dist-info")}
        faults += [f"wheel installs {name}" for name in sorted(strangers)]
        native = {
            re.sub(r"(?<=/_core)\.[^/]+\.so$", ".<tag>.so", name)
            for name in installed
            if name.startswith("shmipc/") and not name.endswith(PYTHON)
        }
        faults += [f"wheel lacks {name}" for name in sorted(NATIVE - native)]
        faults += [f"wheel has {name}" for name in sorted(native - NATIVE)]
        [points] = [name for name in installed if name.endswith("dist-info/entry_points.txt")]
        if ENTRY_POINT not in archive.read(points).decode():
            faults.append("wheel has no entry point of pkg_config")
        if LIBRARY in installed:
            faults += library_faults(Path(archive.extract(LIBRARY, directory)))
    return faults


def library_faults(library: Path) -> list[str]:
    """Return how the library differs from what its header declares."""
    header = api_symbols.HEADER.read_text("utf-8")
    declared = {function.name for function in api_symbols.declared(header)}
    shown = set(api_symbols.exported(library))
    faults = [f"{LIBRARY} lacks {name}" for name in sorted(declared - shown)]
    faults += [f"{LIBRARY} shows {name}" for name in sorted(shown - declared)]
    needed = api_symbols.needed(library)
    return faults + [f"{LIBRARY} needs {name}" for name in needed if "@GLIBC_" not in name]


def main(sdist: str, wheel: str) -> int:
    faults = sdist_faults(sdist) + wheel_faults(wheel)
    print("\n".join(faults) or f"as they should be: {Path(sdist).name}, {Path(wheel).name}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
