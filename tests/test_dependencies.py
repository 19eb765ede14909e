"""Who may depend on whom, and what every public method has: docs/design.md, as tests."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import shmipc
from shmipc import _core

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "src" / "core"
BINDING = ROOT / "src" / "binding"
API = ROOT / "src" / "api"
PACKAGE = ROOT / "shmipc"
STUB = PACKAGE / "_core.pyi"
HEADER = PACKAGE / "include" / "shmipc_events.h"  # written by a program, from the schema

MAX_LINES = 500

# module of the core -> those it may include; one below another, never the other way
CORE_MAY_INCLUDE = {
    "layout": set(),
    "error": set(),
    "step": set(),
    "atomic": {"layout"},
    "ring": {"atomic", "error", "layout", "step"},
    "wait": {"atomic", "error", "step"},
    "fault": {"atomic"},
    "file_size": {"error"},
    "segment": {"layout", "error", "atomic", "fault", "file_size", "step"},
    "role": {"ring", "segment"},
    "producer": {"role", "wait"},
    "consumer": {"role", "wait"},
    "waitset": {"consumer", "wait"},
}
# C files that implement another file's header
IMPLEMENTS = {
    "damage": "segment",
    "descriptor": "segment",
    "futex": "wait",
    "geometry": "segment",
    "holder": "segment",
    "locks": "segment",
    "mapping": "segment",
    "producer_wait": "producer",
    "ring_consumer": "ring",
}
# file of the public C API -> what it may include: of the API, and "core/..."; one below another
API_MAY_INCLUDE = {
    "cancel.h": set(),
    "copy.h": set(),
    "dtype_word.h": set(),
    "dtype_word.c": {"dtype_word.h"},
    "dtype.h": {"core/error.h"},
    "dtype.c": {"dtype.h", "dtype_word.h", "core/layout.h"},
    "result.h": {"core/error.h", "shmipc.h"},
    "result.c": {"result.h"},
    "handle.h": {"result.h", "core/atomic.h", "core/layout.h"},
    "handle.c": {"handle.h", "cancel.h", "core/segment.h", "core/wait.h"},
    "ends.h": {"handle.h", "core/consumer.h", "core/producer.h"},
    "ends.c": {"ends.h", "dtype.h"},
    "producer.c": {"ends.h", "cancel.h"},
    "sending.h": {"ends.h"},
    "sending.c": {"sending.h", "cancel.h", "copy.h"},
    "reserving.c": {"sending.h"},
    "consumer.c": {"ends.h", "cancel.h"},
    "reading.h": {"ends.h"},
    "reading.c": {"reading.h"},
    "receiving.c": {"reading.h", "cancel.h", "copy.h"},
    "frame.c": {"reading.h", "cancel.h"},
    "waiting.c": {"reading.h", "cancel.h", "core/waitset.h"},
}

# what may be imported from where within the package, by top-level name below shmipc
PACKAGE_MAY_IMPORT = {
    "__init__": {"_core", "_native", "_version", "strategy"},  # the latter when first asked for
    "_version": set(),
    "_native": {"_core"},
    "_names": {"_core"},
    "_unpack": set(),
    "capture": {"__init__", "_unpack"},
    "video": {"__init__"},
    "events": {"_core", "events"},
    "market": {"__init__", "capture", "events", "market"},
    "strategy": {"__init__", "_core", "capture", "events", "market", "strategy"},
    "demo": {
        *("__init__", "_core", "_names", "capture", "video"),
        *("events", "market", "strategy", "demo"),
    },
    "cli": {"__init__", "_core", "_names", "_native", "demo", "capture", "video"},
    "__main__": {"cli"},
}
TOOLS = {"cli", "demo", "__main__"}


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', path.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(CORE.glob("*.[ch]")), ids=lambda path: path.name)
def test_core_file_includes_only_what_lies_below_it(path: Path) -> None:
    module = IMPLEMENTS.get(path.stem, path.stem)
    own = {module} if path.suffix == ".c" else set()
    allowed = CORE_MAY_INCLUDE[module] | own
    ours = {Path(name).stem for name in includes(path) if (CORE / Path(name).name).exists()}
    assert ours <= allowed
    assert not [name for name in includes(path) if (API / Path(name).name).exists()]
    assert not [name for name in includes(path) if "Python" in name or "numpy" in name]
    assert not [name for name in includes(path) if ".." in name]
    if "stdatomic.h" in includes(path):
        assert path.name in {"atomic.h", "layout.h"}


def test_the_cores_order_has_no_cycle() -> None:
    placed: list[str] = []
    while len(placed) < len(CORE_MAY_INCLUDE):
        ready = [
            module
            for module, below in CORE_MAY_INCLUDE.items()
            if module not in placed and below <= set(placed)
        ]
        assert ready
        placed += ready


@pytest.mark.parametrize("path", sorted(CORE.glob("*.c")), ids=lambda path: path.name)
def test_core_touches_shared_words_only_through_atomic_h(path: Path) -> None:
    assert not re.findall(r"\batomic_(?:load|store|exchange|fetch|thread)\w*", path.read_text())


@pytest.mark.parametrize("path", sorted(API.glob("*.[ch]")), ids=lambda path: path.name)
def test_api_file_includes_the_core_and_what_lies_below_it(path: Path) -> None:
    ours = {
        name.replace("../core/", "core/").replace("../../shmipc/include/", "")
        for name in includes(path)
        if ".." in name or (API / name).exists()
    }
    assert ours <= API_MAY_INCLUDE[path.name]
    assert not [name for name in includes(path) if "Python" in name or "numpy" in name]
    assert "stdatomic.h" not in includes(path)
    assert not re.findall(r"\batomic_(?:load|store|exchange|fetch|thread)\w*", path.read_text())


@pytest.mark.parametrize("path", sorted(BINDING.glob("*.[ch]")), ids=lambda path: path.name)
def test_binding_includes_the_core_only_in_its_one_header(path: Path) -> None:
    ours = {name for name in includes(path) if '"' not in name and name.startswith("..")}
    if path.name == "module.h":
        assert ours == {"../core/producer.h", "../core/waitset.h"}
    else:
        assert ours == set()
        assert includes(path).count("module.h") == 1


def package_modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def top_name(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else path.stem


def imported_from_shmipc(path: Path) -> set[str]:
    """Return the top-level modules of the package that this file imports."""
    found = set()
    siblings = {child.stem for child in PACKAGE.iterdir() if child.suffix in {"", ".py", ".pyi"}}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            assert node.module is not None
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "shmipc":
                below = parts[1] if len(parts) > 1 else "__init__"
                found.add(below if below in siblings else "__init__")
    return found


@pytest.mark.parametrize("path", package_modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_package_file_imports_only_what_lies_below_it(path: Path) -> None:
    assert imported_from_shmipc(path) <= PACKAGE_MAY_IMPORT[top_name(path)]


def test_nothing_but_a_tool_imports_a_tool() -> None:
    for path in package_modules():
        if top_name(path) not in TOOLS:
            assert not imported_from_shmipc(path) & TOOLS


def test_extension_does_not_import_the_package() -> None:
    for path in BINDING.glob("*.c"):
        assert not re.findall(r'ImportModule\("shmipc', path.read_text("utf-8")), path.name


TRIALS = ("c", "conformance", "cpp", "fuzz", "kills", "model")


def sources() -> list[Path]:
    return sorted(
        path
        for folder in (
            CORE,
            API,
            BINDING,
            PACKAGE,
            *(ROOT / "tests" / name for name in TRIALS),
        )
        for path in folder.rglob("*")
        if path.suffix in {".c", ".cpp", ".cs", ".h", ".hpp", ".py", ".pyi"} and path != HEADER
    )


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES


# ---- the public face of the extension --------------------------------------------------------


def public_methods() -> list[Any]:
    found = []
    for name, value in vars(_core).items():
        if name.startswith("_"):
            continue
        if isinstance(value, type) and not issubclass(value, BaseException):
            found.append(pytest.param(value, name, id=name))
            for member, descriptor in vars(value).items():
                if not member.startswith("_") or member in {"__enter__", "__exit__"}:
                    found.append(
                        pytest.param(descriptor, f"{name}.{member}", id=f"{name}.{member}")
                    )
        elif callable(value) and not isinstance(value, type):
            found.append(pytest.param(value, name, id=name))
    return found


@pytest.mark.parametrize(("member", "name"), public_methods())
def test_public_member_has_a_docstring_and_a_signature(member: Any, name: str) -> None:
    assert member.__doc__, f"{name} has no docstring"
    if callable(member):
        inspect.signature(member)


@pytest.mark.parametrize(("member", "name"), public_methods())
def test_public_member_has_a_stub(member: Any, name: str) -> None:
    owner, _, attribute = name.rpartition(".")
    body = ast.parse(STUB.read_text("utf-8")).body
    if owner:
        body = next(n for n in body if isinstance(n, ast.ClassDef) and n.name == owner).body
    stubbed = {n.name for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert attribute in stubbed


def test_every_exception_is_exported_with_its_doc() -> None:
    for name, value in vars(_core).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            assert getattr(shmipc, name) is value
            assert value.__doc__
            assert value is _core.Error or issubclass(value, _core.Error)


def test_package_imports_without_its_extras() -> None:
    for name in ("capture", "video", "cli", "demo"):
        importlib.import_module(f"shmipc.{name}")
