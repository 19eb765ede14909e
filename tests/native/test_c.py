"""The C tests of the core, built and run without Python: see tests/native/c."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.once

C = Path(__file__).resolve().parent / "c"


def load_runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shmipc_c_tests", C / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load_runner()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    compiler = runner.find_compiler()
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang, or set CC")
    built: dict[str, Path] = runner.build(compiler, "plain", tmp_path_factory.mktemp("c"))
    return built


@pytest.mark.parametrize("suite", runner.suites())
def test_c_suite_passes(suite: str, programs: dict[str, Path]) -> None:
    status, output = runner.run(programs[suite])
    assert status == 0, output
