"""The order of the rooms, and that no circle remains: docs/design.md, "Rooms", as a test.

A room is a folder. It uses itself and what `ROOMS` names for it, all of which stand before it; so
there is no circle of rooms. Within and between rooms there is no circle of files either: of C
files by the functions and data that they define and name, of Python modules by what they import.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "shmipc/include/shmipc_events.h"  # written by a program, from the schema

MAX_LINES = 500

CORE = ("src/core/base", "src/core/segment", "src/core/wait", "src/core/ring")
BINDING = ("src/binding/base", "src/binding/ring", "src/binding/record", "src/binding/dispatch")
TRADING = ("shmipc/trading", "shmipc/trading/events", "shmipc/trading/market")
TRANSPORT = "shmipc"  # the modules at the top of the package, but for these:
FACADE = "shmipc/__init__.py"  # imports what users name; nothing of the package imports it ...
TOOLS = ("shmipc/cli.py", "shmipc/demo", "shmipc/demo/strategies")  # ... but these, as users do

# room -> what it may use besides itself: rooms that stand before it
ROOMS: dict[str, tuple[str, ...]] = {
    "src/core/base": (),
    "src/core/segment": CORE[:1],
    "src/core/wait": CORE[:1],
    "src/core/ring": CORE[:3],
    "src/api": CORE,
    "src/binding/base": CORE,
    "src/binding/ring": (*CORE, *BINDING[:1]),
    "src/binding/record": (*CORE, *BINDING[:2]),
    "src/binding/dispatch": (*CORE, *BINDING[:3]),
    "src/binding/trading": (*CORE, *BINDING),
    "src/binding": (*CORE, *BINDING, "src/binding/trading"),  # module.c: all the types
    TRANSPORT: (),
    "shmipc/trading": (TRANSPORT,),
    "shmipc/trading/events": (TRANSPORT, *TRADING[:1]),
    "shmipc/trading/market": (TRANSPORT, *TRADING[:2]),
    "shmipc/trading/strategy": (TRANSPORT, *TRADING),
    FACADE: (TRANSPORT, "shmipc/trading/strategy"),
    "shmipc/demo/strategies": (FACADE, TRANSPORT, *TRADING, "shmipc/trading/strategy"),
    "shmipc/demo": (
        *(FACADE, TRANSPORT, *TRADING, "shmipc/trading/strategy", "shmipc/demo/strategies"),
    ),
    "shmipc/cli.py": (FACADE, TRANSPORT, *TRADING, "shmipc/demo"),
    "shmipc/__main__.py": ("shmipc/cli.py",),
}


def room_of(path: Path) -> str:
    """Return the room of a file of src or shmipc."""
    relative = path.relative_to(ROOT)
    return str(relative) if str(relative) in ROOMS else str(relative.parent)


def circle(uses: dict[Path, set[Path]]) -> str:
    """Say which files form a circle; nothing if none do."""
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        return " -> ".join(str(path.relative_to(ROOT)) for path in error.args[1])
    return ""


def outside(path: Path, used: Iterable[Path]) -> list[str]:
    """Return what a file uses that its room may not."""
    allowed = {room_of(path), *ROOMS[room_of(path)]}
    return sorted(str(other.relative_to(ROOT)) for other in used if room_of(other) not in allowed)


def test_every_room_stands_after_those_it_uses() -> None:
    rooms = list(ROOMS)
    for number, (room, below) in enumerate(ROOMS.items()):
        assert set(below) <= set(rooms[:number]), room


# ---- C -------------------------------------------------------------------------------------------

C_FILES = sorted(path for path in (ROOT / "src").rglob("*.[ch]"))
# What a C file gives to others: functions, and data that a header declares. clang-format puts every
# definition at the start of a line.
DEFINITION = re.compile(
    r"^(static )?(?!static|typedef|extern|return|else)"
    r"[A-Za-z][\w \t\*]*?\b(\w+)\s*(?:\(|\[\] ?=|=)",
    re.M,
)


def included(path: Path) -> set[Path]:
    """Return the files of the project that a C file includes."""
    found = set()
    for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text("utf-8"), re.M):
        target = (path.parent / name).resolve()
        if ROOT / "src" in target.parents:
            found.add(target)
        else:
            assert target.is_relative_to(ROOT / "shmipc/include"), f"{path}: {name}"
    return found


@cache
def code_of(path: Path) -> str:
    """Return a C file without comments, texts, prototypes and names of structs."""
    text = re.sub(r"/\*.*?\*/", " ", path.read_text("utf-8"), flags=re.S)
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', text)
    text = re.sub(r"\b(?:struct|union|enum) \w+", "struct", text)
    return re.sub(r"^[A-Za-z][^;{}()=]*\([^;{}]*\);", "", text, flags=re.M)


@cache
def definitions() -> dict[str, Path]:
    """Return where each name that has external linkage is defined."""
    return {
        name: path
        for path in C_FILES
        if path.suffix == ".c"
        for static, name in DEFINITION.findall(code_of(path))
        if not static
    }


@cache
def used_files() -> dict[Path, set[Path]]:
    """Return the C files that each C file uses, by the names that it names."""
    known = definitions()
    uses: dict[Path, set[Path]] = {}
    for path in C_FILES:
        if path.suffix == ".c":
            own = {name for _, name in DEFINITION.findall(code_of(path))}
            words = set(re.findall(r"\b[A-Za-z_]\w+\b", code_of(path))) - own
            uses[path] = {known[word] for word in words & known.keys()}
    return uses


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_c_file_includes_only_what_its_room_may_use(path: Path) -> None:
    assert outside(path, included(path)) == []


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_c_file_names_only_what_its_room_may_use(path: Path) -> None:
    assert outside(path, used_files().get(path, ())) == []


def test_no_headers_include_each_other_in_a_circle() -> None:
    assert circle({path: included(path) for path in C_FILES}) == ""


@pytest.mark.parametrize("part", ["src/core", "src/api", "src/binding"])
def test_no_c_files_use_each_other_in_a_circle(part: str) -> None:
    inside = {path for path in used_files() if path.is_relative_to(ROOT / part)}
    assert circle({path: used_files()[path] & inside for path in inside}) == ""


def test_names_that_files_share_are_found() -> None:
    """The search sees functions, data and docstrings, and does not take a prototype for one."""
    known = {name: str(path.relative_to(ROOT)) for name, path in definitions().items()}
    assert known["shmipc_segment_publish"] == "src/core/segment/segment.c"
    assert known["shmipc_producer_send"] == "src/api/producer_send.c"
    assert known["producer_spec"] == "src/binding/ring/producer_object.c"
    assert "memcpy" not in known


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_binding_knows_python_and_only_atomic_h_touches_shared_words(path: Path) -> None:
    room, text = room_of(path), path.read_text("utf-8")
    system = set(re.findall(r"^\s*#\s*include\s+<([^>]+)>", text, re.M))
    if not room.startswith("src/binding"):
        assert not {name for name in system if "Python" in name or "numpy" in name}
        if path.name not in {"atomic.h", "layout.h"}:
            assert "stdatomic.h" not in system
            assert not re.findall(r"\batomic_(?:load|store|exchange|fetch|thread)\w*", text)


def test_extension_does_not_import_the_package() -> None:
    for path in C_FILES:
        assert not re.findall(r'ImportModule\("shmipc', path.read_text("utf-8")), path


# ---- Python --------------------------------------------------------------------------------------

MODULES = sorted((ROOT / "shmipc").rglob("*.py"))


def file_of(module: str) -> Path | None:
    """Return the file of a module of the package; None for the extension, and what is no module."""
    base = ROOT / module.replace(".", "/")
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


@cache
def imported(path: Path) -> frozenset[Path]:
    """Return the modules of the package that a module imports, now or when first needed."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            assert node.module is not None
            if node.module.split(".")[0] == "shmipc":
                for alias in node.names:
                    one = file_of(f"{node.module}.{alias.name}")
                    extension = alias.name == "_core" or node.module == "shmipc._core"
                    found.add(one or (None if extension else file_of(node.module)))
    return frozenset(module for module in found if module is not None) - {path}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_what_its_room_may_use(path: Path) -> None:
    assert outside(path, imported(path)) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle({path: set(imported(path)) for path in MODULES}) == ""


# ---- size ----------------------------------------------------------------------------------------


def sources() -> list[Path]:
    return sorted(
        path
        for folder in ("src", "shmipc", "tests/native", "tests/trials")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".c", ".cpp", ".cs", ".h", ".hpp", ".py", ".pyi"} and path != HEADER
    )


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES
