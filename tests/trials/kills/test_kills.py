"""Death at every step: the kills of tests/trials/kills, and that a release knows nothing of
them."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from shmipc import _core

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[3]
CORE = ROOT / "src" / "core"
HOOK = b"shmipc_step_hook"
LABEL = re.compile(r"^[ \t]*SHMIPC_STEP\((\w+)\);\n", re.MULTILINE)


def load_runner() -> ModuleType:
    path = ROOT / "tests" / "trials" / "kills" / "run.py"
    spec = importlib.util.spec_from_file_location("shmipc_kills", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


runner = load_runner()


@pytest.fixture
def compiler() -> str:
    found: str | None = runner.find_compiler()
    if found is None:
        pytest.skip("no C compiler: install gcc or clang, or set CC")
    return found


def core_sources() -> list[Path]:
    return sorted(path for path in CORE.rglob("*.[ch]") if path.name != "step.h")


# ---- the kills -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "kills"),
    [((), 500), ((runner.FENCED,), 100), (runner.API, 500)],
    ids=["core", "fenced", "api"],
)
def test_nobody_dies_at_the_cost_of_others(
    compiler: str, tmp_path: Path, flags: tuple[str, ...], kills: int
) -> None:
    program = runner.build(compiler, tmp_path, *flags)
    summary, said, status = runner.run(program, "--kills", kills, "--workers", 6)
    assert status == 0, said + repr(summary)
    assert summary["alone"] + summary["paired"] >= kills
    assert summary["labels_without_a_kill"] == {}
    assert min(summary["kills_by_label"].values()) >= 1
    assert len(summary["kills_by_label"]) == summary["labels"]
    assert summary["received"] > 1_000
    for name in ("missing", "repeated", "torn", "files_left", "locks_left", "bits_left"):
        assert summary[name] == 0, name


@pytest.mark.soak
@pytest.mark.parametrize("api", [False, True], ids=["core", "api"])
def test_faults_put_in_on_purpose_are_found(compiler: str, api: bool) -> None:
    assert runner.self_test(compiler, api=api)


def test_api_is_killed_at_every_label_but_those_of_views_left_behind() -> None:
    text = (ROOT / "tests" / "trials" / "kills" / "kill_points.c").read_text("utf-8")
    absent = text.split("bool step_is_absent", 1)[1].split("\n}\n", 1)[0]
    assert set(re.findall(r"SHMIPC_AT_(\w+)", absent)) == {"CLOSE_PRIVATE", "CLOSE_PRIVATE_HALF"}


# ---- labels --------------------------------------------------------------------------------------


def test_every_label_has_a_name_and_every_name_a_label() -> None:
    named = re.findall(r"\bX\(([A-Z_]+)\)", (CORE / "base" / "step.h").read_text("utf-8"))
    used = [label for path in core_sources() for label in LABEL.findall(path.read_text("utf-8"))]
    assert len(named) == len(set(named))
    assert set(used) == set(named)
    assert len(named) > 70


def test_a_label_is_a_line_of_its_own() -> None:
    for path in core_sources():
        text = path.read_text("utf-8")
        assert len(LABEL.findall(text)) == text.count("SHMIPC_STEP("), path.name


# ---- a release -----------------------------------------------------------------------------------


def compiled(compiler: str, core: Path, source: str, *flags: str) -> bytes:
    """Compile as setup.py does; return the object file."""
    target = core / "out.o"
    command = [compiler, "-std=c11", "-O3", "-fvisibility=hidden", "-fno-plt", *flags]
    subprocess.run([*command, "-c", source, "-o", str(target)], check=True, cwd=core)
    return target.read_bytes()


def test_release_is_the_same_machine_code_as_without_labels(compiler: str, tmp_path: Path) -> None:
    core = tmp_path / "core"
    shutil.copytree(CORE, core)
    sources = sorted(str(path.relative_to(CORE)) for path in CORE.rglob("*.c"))
    with_labels = {name: compiled(compiler, core, name) for name in sources}
    hooked = compiled(compiler, core, "ring/ring.c", "-DSHMIPC_STEPS")
    for path in core.rglob("*.[ch]"):
        text = re.sub(r'#include "(?:../base/)?step.h"\n', "", path.read_text("utf-8"))
        path.write_text(LABEL.sub("", text), "utf-8")
    (core / "base" / "step.h").unlink()
    for name in sources:
        assert compiled(compiler, core, name) == with_labels[name], name
        assert HOOK not in with_labels[name]
    assert HOOK in hooked


def test_extension_has_no_hook() -> None:
    assert HOOK not in Path(_core.__file__).read_bytes()
