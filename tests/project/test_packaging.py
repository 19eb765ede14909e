"""What is installed is what pyproject.toml promises."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import subprocess
import sys
from pathlib import Path

import pytest

import shmipc

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]


def test_version_is_the_distributions() -> None:
    try:
        found = importlib.metadata.version("shmipc")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed: run from a checkout")
    assert shmipc.__version__ == found


def test_package_is_typed() -> None:
    files = importlib.resources.files("shmipc")
    assert files.joinpath("py.typed").is_file()
    assert files.joinpath("_core.pyi").is_file()
    assert files.joinpath("trading", "events", "records.pyi").is_file()


def test_importing_starts_nothing_and_prints_nothing() -> None:
    code = "import shmipc, sys, threading; assert threading.active_count() == 1"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["list"]])
def test_module_runs_as_a_program(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shmipc", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_example_is_a_program_that_says_what_it_shows() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        source = path.read_text("utf-8")
        assert source.startswith('"""'), path
        assert '__name__ == "__main__"' in source or "import shmipc" in source, path
