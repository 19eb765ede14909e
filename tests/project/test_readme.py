"""What README.md prints runs as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

README = Path(__file__).resolve().parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


PRINTED = [
    "(1080, 1920, 3) 127.0\n",
    "[(b'BTCUSDT', 103., 0.01)]\n",
    "brightness 9.0 lost 9\n",
]


@pytest.mark.parametrize(("code", "printed"), list(zip(blocks("python"), PRINTED, strict=True)))
def test_python_in_readme_runs_as_printed(code: str, printed: str, tmp_path: Path) -> None:
    script = tmp_path / "readme.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == printed


def test_readme_opens_with_an_example_of_ten_lines() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) <= 10


def test_readme_has_one_command_for_each_job() -> None:
    text = README.read_text("utf-8")
    for marker in ("demo-command", "test-command"):
        found = re.findall(rf"<!-- {marker} -->\n```sh\n(.*?)```", text, re.DOTALL)
        assert len(found) == 1
        assert len(found[0].strip().splitlines()) == 1


def test_cpp_in_readme_is_the_example() -> None:
    """What compiles and runs it is in tests/native/test_cpp.py; CI runs the two commands as
    printed."""
    [code] = blocks("cpp")
    assert code == (README.parent / "examples" / "ticks.cpp").read_text("utf-8")


def test_readme_has_two_commands_for_cpp() -> None:
    found = re.findall(
        r"<!-- cpp-command -->\n```sh\n(.*?)```", README.read_text("utf-8"), re.DOTALL
    )
    assert len(found) == 1
    assert len(found[0].strip().splitlines()) == 2
