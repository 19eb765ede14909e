"""Compare the binary interface of libshmipc.so with the last release's.

    python3 tests/native/abi/run.py              fail for all that is removed or changed, tell
    additions python3 tests/native/abi/run.py --self-test  break the header in every known way; all
    must be found python3 tests/native/abi/run.py --renew      write the dumps anew: at a release,
    for a new ABI version

Two files are the last release's word: ``libshmipc-1.abi``, functions and the types they use, as
abidw reads them from debug information; and ``constants-1.txt``, the values of enumerators and
macros, which programs have compiled in and no function shows. Neither has a path or a place in a
file in it. For x86-64: the other processor has the same sizes and alignments.

Needs a C compiler, nm, and abidw and abidiff (Debian: abigail-tools).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import api_symbols as symbols

HERE = Path(__file__).resolve().parent
DUMP = HERE / "libshmipc-1.abi"
CONSTANTS = HERE / "constants-1.txt"

# Types that are not in our headers are nobody's business, and where anything stands is not either.
READ = (
    *("--drop-private-types", "--drop-undefined-syms", "--exported-interfaces-only"),
    *("--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--no-elf-needed"),
    *("--no-parameter-names", "--type-id-style", "hash"),
)

# what is broken, the text of the header that is, and what it becomes
BREAKS = (
    ("a function removed", r"SHMIPC_CHECKED int shmipc_consumer_recv\([^;]*;", ""),
    ("a field narrower", r"uint64_t seq;", "uint32_t seq;"),
    ("a field of another kind", r"const void \*data; ", "uint64_t data;"),
    ("a field renamed", r"uint64_t reclaimed;", "uint64_t gone;"),
    ("a field removed", r"uint64_t frames;", ""),
    ("a field more", r"uint64_t frames;", "uint64_t frames, more;"),
    ("two fields swapped", r"(?s)uint32_t slot;(.*)uint32_t typed;", r"uint32_t typed;\1uint32_t "
     "slot;"),
    ("a parameter wider", r"size_t len, uint32_t kind, uint32_t flags,\n", "size_t len, uint64_t "
     "kind, uint32_t flags,\n"),
    ("a parameter signed", r"uint32_t count,(\s+)int64_t timeout_ns", r"int32_t count,\1int64_t "
     "timeout_ns"),
    ("a parameter more", r"uint64_t max,(\s+)struct shmipc_view \*view", r"uint64_t max, int how,"
     r"\1struct shmipc_view *view"),
    ("a result wider", r"SHMIPC_API uint32_t shmipc_abi_version", "SHMIPC_API uint64_t "
     "shmipc_abi_version"),
    ("an enumerator moved", r"SHMIPC_E_FULL = 2,", "SHMIPC_E_FULL = 22,"),
    ("an enumerator removed", r"SHMIPC_LATEST = 1,", ""),
    ("a macro changed", r"SHMIPC_FOREVER INT64_C\(-1\)", "SHMIPC_FOREVER INT64_C(-9)"),
)  # fmt: skip
# what is not: told, and let pass
ADDITIONS = (
    ("nothing", r"\A", "", ""),
    ("a function more", r"(SHMIPC_API uint32_t shmipc_abi_version)",
     r"SHMIPC_API int shmipc_more(int x) SHMIPC_NOEXCEPT;\n\1", "shmipc_more"),
    ("an enumerator more", r"SHMIPC_E_ABI = 16", "SHMIPC_E_ABI = 16, \n    SHMIPC_E_MORE = 17",
     "SHMIPC_E_MORE"),
    ("a structure more", r"(struct shmipc_info \{)", r"struct shmipc_more { int x; };\n\1", ""),
)  # fmt: skip


class Failed(Exception):
    """A tool did not do its work."""


def find_compiler() -> str | None:
    """Return $CC, or the first compiler on the path."""
    wanted = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next((cc for cc in wanted if shutil.which(cc)), None)


def missing() -> str | None:
    """Say what this machine lacks for the comparison, if it does."""
    if platform.machine() != "x86_64":
        return "the dumps are those of x86-64"
    if find_compiler() is None:
        return "no C compiler: install gcc or clang, or set CC"
    absent = [tool for tool in ("nm", "abidw", "abidiff") if not shutil.which(tool)]
    return f"{' and '.join(absent)}: apt install abigail-tools binutils" if absent else None


def run(*command: str | Path, cwd: Path, may_be: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a tool in C's words; its status may have the bits of `may_be`."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode & ~may_be:
        raise Failed(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def link(where: Path, script: Path, include: Path, *objects: str | Path) -> Path:
    """Compile and link what is given as setup.py does; return the library."""
    compiler = find_compiler()
    assert compiler is not None
    library = where / "libshmipc.so"
    run(
        *(compiler, "-std=c11", "-O1", "-pthread", "-fPIC", "-shared", "-fvisibility=hidden"),
        *("-Wl,-soname,libshmipc.so", f"-Wl,--version-script={script}", f"-I{include}"),
        *(*objects, "-o", library),
        cwd=where,
    )
    return library


def build(where: Path) -> Path:
    """Build the library of this tree; only src/api, which has the interface, with debug symbols."""
    compiler = find_compiler()
    assert compiler is not None
    flags = ("-std=c11", "-O1", "-pthread", "-fPIC", "-fvisibility=hidden", "-gdwarf-4", "-c")
    objects = []
    for source in sorted((symbols.ROOT / "src" / "api").glob("*.c")):
        objects.append(where / f"{source.stem}.o")
        run(
            *(compiler, *flags, '-DSHMIPC_VERSION="0"', "-Ishmipc/include"),
            *(source.relative_to(symbols.ROOT), "-o", objects[-1]),
            cwd=symbols.ROOT,
        )
    core = sorted((symbols.ROOT / "src" / "core").rglob("*.c"))
    return link(where, symbols.VERSION_SCRIPT, symbols.INCLUDE, *objects, *core)


def stub(where: Path, header: str) -> Path:
    """Build a library that has what the text of a header declares, and does nothing."""
    include = where / "include"
    include.mkdir(parents=True)
    (include / "shmipc.h").write_text(header)
    functions = symbols.declared(header)
    source = ['#include "shmipc.h"', '#pragma GCC diagnostic ignored "-Wreturn-type"']
    source += [f"{f.returns} {f.name}({f.parameters}) SHMIPC_NOEXCEPT {{}}" for f in functions]
    (where / "stub.c").write_text("\n".join([*source, ""]))
    names = {function.name for function in functions}
    script = symbols.VERSION_SCRIPT.read_text()
    for name in symbols.listed(script):
        script = script if name in names else script.replace(f" {name};", "")
    for name in names - set(symbols.listed(script)):
        script += f"SHMIPC_1.999 {{ global: {name}; }} SHMIPC_1;\n"
    (where / "stub.map").write_text(script)
    return link(where, where / "stub.map", include, "-gdwarf-4", "stub.c")


def dump(library: Path, include: Path, target: Path) -> Path:
    """Write the interface of a library, as far as the headers in `include` show it."""
    run("abidw", *READ, "--headers-dir", include, "--out-file", target, library, cwd=library.parent)
    return target


def values(header: str, where: Path) -> dict[str, str]:
    """Return the constants of a header's text by name, as the compiler sees them."""
    compiler = find_compiler()
    assert compiler is not None
    include = where / "constants"
    include.mkdir()
    (include / "shmipc.h").write_text(header)
    rows = [
        f'    printf("{name} = %lld\\n", (long long)({name}));'
        for name in symbols.constants(header)
    ]
    program = ['#include "shmipc.h"', "#include <stdio.h>", "int main(void) {", *rows, "}", ""]
    (include / "main.c").write_text("\n".join(program))
    run(compiler, "-std=c11", "-o", "main", "main.c", cwd=include)
    return read_values(run("./main", cwd=include).stdout)


def read_values(text: str) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in text.splitlines())


def compare(new: Path, now: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return what has been removed or changed since the release, and what has been added."""
    flags = ("--harmless", "--no-show-locs")
    broken, added = [], []
    # 4: something differs; 8: and nothing built before can work
    if run("abidiff", "--no-added-syms", *flags, DUMP, new, cwd=HERE, may_be=12).returncode:
        broken.append(run("abidiff", *flags, DUMP, new, cwd=HERE, may_be=12).stdout)
    elif (done := run("abidiff", DUMP, new, cwd=HERE, may_be=4)).returncode:
        added.append(done.stdout)
    then = read_values(CONSTANTS.read_text())
    for name in sorted({*then, *now}):
        if name not in then:
            added.append(f"{name} = {now[name]}")
        elif then[name] != now.get(name):
            broken.append(f"{name} was {then[name]}, is {now.get(name, 'gone')}")
    return broken, added


def check(where: Path, library: Path, header: Path) -> tuple[list[str], list[str]]:
    """Compare a library, and the header that goes with it, with the last release's."""
    new = dump(library, header.parent, where / "new.abi")
    return compare(new, values(header.read_text(), where))


def renew(where: Path) -> None:
    """Make what this tree builds the last release's word."""
    dump(build(where), symbols.INCLUDE, DUMP)
    found = values(symbols.HEADER.read_text(), where)
    CONSTANTS.write_text("".join(f"{name} = {value}\n" for name, value in found.items()))


def broken_headers(header: str) -> Iterator[tuple[str, str]]:
    """Yield what is broken, and the header's text then."""
    for what, pattern, instead in BREAKS:
        yield what, _changed(header, pattern, instead)


def extended_headers(header: str) -> Iterator[tuple[str, str, str]]:
    """Yield what is added, the header's text then, and a name that must be told."""
    for what, pattern, instead, name in ADDITIONS:
        yield what, _changed(header, pattern, instead), name


def _changed(header: str, pattern: str, instead: str) -> str:
    text, count = re.subn(pattern, instead, header)
    if count != 1:
        raise Failed(f"{pattern} is {count} times in the header: mend BREAKS or ADDITIONS")
    return text


def self_test(where: Path) -> int:
    """Break the interface in every known way; return how many were not found."""
    text = symbols.HEADER.read_text()
    missed = 0
    for number, (what, header) in enumerate(broken_headers(text)):
        directory = where / f"broken-{number}"
        library = stub(directory, header)
        broken, _ = check(directory, library, directory / "include" / "shmipc.h")
        print(f"{what}: {'found' if broken else 'MISSED'}")
        missed += not broken
    for number, (what, header, name) in enumerate(extended_headers(text)):
        directory = where / f"extended-{number}"
        library = stub(directory, header)
        broken, added = check(directory, library, directory / "include" / "shmipc.h")
        passed = not broken and name in "".join(added)
        print(f"{what}, added: {'passed' if passed else 'NOT PASSED'}")
        missed += not passed
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--renew", action="store_true", help="write the dumps anew")
    choice.add_argument("--self-test", action="store_true", help="break it on purpose")
    options = parser.parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        if options.renew:
            renew(where)
            return 0
        if options.self_test:
            return 1 if self_test(where) else 0
        broken, added = check(where, build(where), symbols.HEADER)
    if added:
        print("Added since the last release (renew the dumps at the next):", *added, sep="\n")
    if broken:
        print("REMOVED OR CHANGED since the last release:", *broken, sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
