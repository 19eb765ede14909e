"""Compile the C and C++ programs of `native/`: plain `cc`/`c++ -O2`, nothing tuned to a machine.

Each program is compiled on its own, so that a missing header costs one row of the tables: the row
then says which Debian package has it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
NATIVE = HERE / "native"
CORE = HERE.parent / "src" / "core"
API_WAYS = (
    "messages",
    "messages-place",
    "messages-copy",
    "items",
    "items-place",
    "batches",
    "next",
)
CAPACITIES = (1024, 16384)  # items of 64 bytes: 64 KiB, within a core's cache, and 1 MiB, beyond it

SPA = "/usr/include/spa-0.2"  # Debian keeps PipeWire's plain headers in a directory of their own
_WARNINGS = ["-Wall", "-Wextra"]


@dataclass(frozen=True)
class Program:
    """One executable (or extension) and what it is compiled from."""

    name: str
    source: str
    header: str | None = None  # what it needs beyond libc ...
    package: str | None = None  # ... and the Debian package that has it
    defines: tuple[str, ...] = ()
    core: bool = False  # src/core is compiled in
    library: bool = False  # links the libshmipc.so that is installed
    extension: bool = False


@dataclass(frozen=True)
class Built:
    """Where a program is, or why there is none (`absent: ...` or `failed: ...`)."""

    path: Path | None
    reason: str | None = None


def programs() -> list[Program]:
    """Every program, the queues once for each capacity."""
    found = [
        Program("floor", "floor.c"),
        Program("emptycall", "emptycall.c", header="Python.h", extension=True),
        Program("ticks", "ticks.c", core=True, defines=("SHMIPC_BENCH_FRAMING=3",)),
        Program("engine_roundtrip", "engine_roundtrip.cpp", library=True),
    ]
    for items in CAPACITIES:
        size = f"QUEUE_ITEMS={items}"
        for queue, source, header, package in (
            ("boost", "queue_boost.cpp", "boost/lockfree/spsc_queue.hpp", "libboost-dev"),
            (
                "readerwriterqueue",
                "queue_readerwriterqueue.cpp",
                "readerwriterqueue/readerwriterqueue.h",
                "libreaderwriterqueue-dev",
            ),
            (
                "circularbuffer",
                "queue_circularbuffer.cpp",
                "readerwriterqueue/readerwritercircularbuffer.h",
                "libreaderwriterqueue-dev",
            ),
            ("ck_ring", "queue_ck_ring.c", "ck_ring.h", "libck-dev"),
            ("spa", "queue_spa.c", "spa/utils/ringbuffer.h", "libspa-0.2-dev"),
            (
                "atomic_queue",
                "queue_atomic_queue.cpp",
                "atomic_queue/atomic_queue.h",
                "libatomic-queue-dev",
            ),
        ):
            found.append(Program(f"{queue}-{items}", source, header, package, (size,)))
        for framing, number in (("typed", 1), ("message", 2), ("batch", 3)):
            found.append(
                Program(
                    f"shmipc-{framing}-{items}",
                    "queue_shmipc.c",
                    defines=(size, f"SHMIPC_BENCH_FRAMING={number}"),
                    core=True,
                )
            )
        for number, way in enumerate(API_WAYS, 1):
            defines = (size, f"QUEUE_API={number}")
            found.append(
                Program(f"api-{way}-{items}", "queue_shmipc_api.c", defines=defines, library=True)
            )
    return found


def _library_flags() -> list[str]:
    """What `python -m shmipc --cflags --libs` says; raises ImportError or OSError without it."""
    import shmipc

    flags = [f"-I{shmipc.get_include()}"]
    for directory in shmipc.get_library_dirs():
        flags += [f"-L{directory}", f"-Wl,-rpath,{directory}"]
    return [*flags, "-lshmipc"]


def _compile(program: Program, directory: Path) -> Built:
    cxx = program.source.endswith(".cpp")
    variable, name = ("CXX", "c++") if cxx else ("CC", "cc")
    compiler = shutil.which(os.environ.get(variable, name))
    if compiler is None:
        return Built(None, f"absent: no {name}; apt install {'g++' if cxx else 'gcc'}")
    if program.core and (fault := (directory / "core" / "fault")).exists():
        return Built(None, fault.read_text())
    try:
        library = _library_flags() if program.library else []
    except (ImportError, OSError, AttributeError) as error:
        return Built(None, f"absent: no libshmipc.so: pip install . ({error})")
    include = ["-isystem", SPA]
    include += [f"-I{sysconfig.get_paths()['include']}"] if program.extension else []
    if program.header:
        probe = subprocess.run(
            [compiler, "-E", "-x", "c++" if cxx else "c", *include, "-"],
            input=f"#include <{program.header}>\n",
            capture_output=True,
            text=True,
        )
        if probe.returncode:
            hint = f"apt install {program.package}" if program.package else "install its headers"
            return Built(None, f"absent: no <{program.header}>; {hint}")
    target = directory / (
        program.name + sysconfig.get_config_var("EXT_SUFFIX") if program.extension else program.name
    )
    command = [compiler, "-std=c++17" if cxx else "-std=c11", "-O2", *_WARNINGS, *include]
    command += ["-pthread", *(f"-D{define}" for define in program.defines)]
    if program.extension:
        command += ["-fPIC", "-shared"]
    command += [str(NATIVE / program.source), "-o", str(target), *library]
    if program.core:
        command += [f"-I{CORE}", *(str(path) for path in sorted((directory / "core").glob("*.o")))]
    outcome = subprocess.run(command, capture_output=True, text=True)
    if outcome.returncode:
        return Built(None, _why(outcome.stderr))
    return Built(target)


def _compile_core(directory: Path) -> None:
    """Compile src/core once for all that link it; if that fails, leave the reason in `fault`."""
    objects = directory / "core"
    objects.mkdir()
    sources = [str(path) for path in sorted(CORE.rglob("*.c"))]
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not sources:
        (objects / "fault").write_text("absent: src/core is not in this tree")
    elif compiler:
        command = [compiler, "-std=c11", "-O2", "-pthread", f"-I{CORE}", "-c", *sources]
        outcome = subprocess.run(command, capture_output=True, text=True, cwd=objects)
        if outcome.returncode:
            (objects / "fault").write_text(_why(outcome.stderr))


def _why(stderr: str) -> str:
    errors = [line for line in stderr.splitlines() if "error" in line]
    return f"failed: does not compile: {(errors or ['no reason given'])[0][:200]}"


def build(directory: Path) -> dict[str, Built]:
    """Compile everything into `directory`; never raises for a program that does not compile."""
    _compile_core(directory)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        wanted = programs()
        outcomes = pool.map(lambda program: _compile(program, directory), wanted)
        return {program.name: built for program, built in zip(wanted, outcomes, strict=True)}
