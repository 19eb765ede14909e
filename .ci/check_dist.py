"""Check what is in the sdist and in the wheel: ``check_dist.py SDIST WHEEL``."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import PurePosixPath

IN_SDIST = (
    "src/core/ring.h",
    "src/binding/module.h",
    "shmipc/_core.pyi",
    "shmipc/py.typed",
    "shmipc/include/shmipc_events.h",
    "tests/c/run.py",
    "tests/c/test.h",
    "tests/c/vectors/message_ring.txt",
    "tests/fuzz/run.py",
    "tests/fuzz/hook.h",
    "tests/kills/run.py",
    "tests/model/run.py",
    "tests/soak/run.py",
    "tests/conftest.py",
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
    "shmipc/include/shmipc_events.h",
)
NEVER_IN_SDIST = (".so", ".o", ".pyc")


def main(sdist: str, wheel: str) -> int:
    with tarfile.open(sdist) as archive:
        packed = {str(PurePosixPath(*PurePosixPath(n).parts[1:])) for n in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        installed = set(archive.namelist())
    faults = [f"sdist lacks {name}" for name in IN_SDIST if name not in packed]
    faults += [f"sdist has {name}" for name in packed if name.endswith(NEVER_IN_SDIST)]
    faults += [f"wheel lacks {name}" for name in IN_WHEEL if name not in installed]
    top = {name.split("/")[0] for name in installed}
    strangers = {t for t in top if t != "shmipc" and not t.endswith(".dist-info")}
    faults += [f"wheel installs {name}" for name in sorted(strangers)]
    sources = {name for name in installed if name.endswith((".c", ".h"))}
    faults += [f"wheel has {name}" for name in sorted(sources - set(IN_WHEEL))]
    if not any(name.startswith("shmipc/_core.") and name.endswith(".so") for name in installed):
        faults.append("wheel lacks the extension")
    print("\n".join(faults) or f"{len(packed)} files in the sdist, {len(installed)} in the wheel")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
