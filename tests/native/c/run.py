"""Build and run the C tests of core and C API: ``python tests/native/c/run.py [--cc CC]
VARIANT...``.

Needs a C compiler and nothing else. A variant is a set of flags; see VARIANTS. For another
processor, name a cross compiler and an emulator of its user mode; the programs are linked
statically then, so that no libraries of that processor are looked for::

    python tests/native/c/run.py --cc aarch64-linux-gnu-gcc --emulator qemu-aarch64 plain fenced
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from objects import compile_objects

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[2] / "src"
HARNESS = tuple(HERE / name for name in ("test.c", "rig.c", "crew.c", "api.c"))

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Werror")
BASE = ("-std=c11", "-g", "-pthread", '-DSHMIPC_VERSION="0"', *WARNINGS)
VARIANTS = {
    "plain": ("-O2",),
    "asan": ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
             "-fno-omit-frame-pointer"),
    "tsan": ("-O1", "-fsanitize=thread"),
    # a kernel or container that refuses membarrier(2)
    "fenced": ("-O2", "-DSHMIPC_NO_MEMBARRIER"),
}  # fmt: skip
ENVIRONMENT = {
    "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=66",
}


def suites() -> list[str]:
    """Return the names of the test programs."""
    return sorted(path.stem for path in HERE.glob("test_*.c"))


def find_compiler() -> str | None:
    """Return $CC, or the first compiler on the path."""
    wanted = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next((cc for cc in wanted if shutil.which(cc)), None)


def build(cc: str, variant: str, out: Path, *, static: bool = False) -> dict[str, Path]:
    """Compile everything into `out`; return program paths by suite."""
    flags = (*VARIANTS[variant], f'-DTEST_SOURCE_DIR="{HERE}"')
    link = ("-static",) if static else ()
    if static:
        flags = (*flags, "-DTEST_STATIC")  # libc's malloc cannot be replaced
    common = [*sorted(SOURCE.glob("core/*/*.c")), *sorted(SOURCE.glob("api/*.c")), *HARNESS]
    tests = [HERE / f"{name}.c" for name in suites()]
    sources = [*tests, *common]
    objects = dict(zip(sources, compile_objects([cc, *BASE, *flags], sources, out), strict=True))
    programs = {}
    for test in tests:
        programs[test.stem] = out / test.stem
        parts = [objects[source] for source in (test, *common)]
        command = [cc, *BASE, *flags, *link, *map(str, parts), "-o", str(programs[test.stem])]
        subprocess.run(command, check=True)
    return programs


def run(program: Path, emulator: str | None = None) -> tuple[int, str]:
    """Run one test program; return its status and output."""
    environment = {**ENVIRONMENT, **os.environ}
    if emulator is not None:
        environment["TEST_EMULATED"] = "1"  # for what an emulator cannot do, and says so badly
    command = [str(program)] if emulator is None else [emulator, str(program)]
    for _ in range(2):
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if "unexpected memory mapping" not in done.stdout:
            break
        # ThreadSanitizer's shadow does not fit the most random address layouts
        command = ["setarch", platform.machine(), "-R", str(program)]
    return done.returncode, done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", help=f"of {', '.join(VARIANTS)}; default: plain")
    parser.add_argument("--cc", default=find_compiler(), help="compiler (default: $CC, cc)")
    parser.add_argument("--out", type=Path, help="keep the programs in this directory")
    parser.add_argument("--emulator", help="run the programs under this (qemu-aarch64 ...)")
    options = parser.parse_args()
    options.variants = options.variants or ["plain"]
    for variant in options.variants:
        if variant not in VARIANTS:
            parser.error(f"no variant {variant}")
    if options.cc is None:
        parser.error("no C compiler found: install one or set CC")
    if options.emulator is not None and shutil.which(options.emulator) is None:
        parser.error(f"no {options.emulator} found: install it (Debian: qemu-user)")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="c-tests-") as scratch:
        for variant in options.variants:
            started = time.monotonic()
            try:
                out = (options.out or Path(scratch)) / variant
                programs = build(options.cc, variant, out, static=options.emulator is not None)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                return 1
            for suite, program in programs.items():
                status, output = run(program, options.emulator)
                last = output.strip().splitlines()[-1] if output.strip() else "no output"
                print(f"{options.cc} {variant} {suite}: {last}", flush=True)
                if status != 0:
                    failed += 1
                    print(output, flush=True)
                else:
                    for line in output.splitlines():
                        if line.startswith("skipped: "):
                            print(f"  {line}", flush=True)
            print(f"{options.cc} {variant}: {time.monotonic() - started:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
