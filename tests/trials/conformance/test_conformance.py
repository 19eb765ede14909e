"""Every pair of languages that is installed here, over the same rings: tests/trials/conformance, in
short.

`pytest -m soak` runs all of it, with sanitizers, and with faults put in on purpose.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

CONFORMANCE = Path(__file__).resolve().parent
SHORT = ("sizes", "kinds", "records", "close", "hold", "overrun", "kill_consumer", "misuse")


def conform(*arguments: str, seconds: float = 110) -> str:
    done = subprocess.run(
        [sys.executable, str(CONFORMANCE / "run.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    return done.stdout


def missing(language: str) -> str | None:
    """What a language needs and is not here, as run.py would say."""
    needs = {"c": ("cc",), "cpp": ("cc", "c++"), "csharp": ("cc", "mcs", "mono")}[language]
    absent = [name for name in needs if shutil.which(name) is None]
    return f"{language} needs {', '.join(absent)}" if absent else None


def test_python_agrees_with_what_is_worked_out() -> None:
    assert "1 pairs:" in conform("--languages", "python")


@pytest.mark.parametrize("language", ["c", "cpp", "csharp"])
def test_language_and_python_find_the_same_bytes(language: str) -> None:
    absent = missing(language)
    if absent is not None:
        pytest.skip(absent)
    chosen = [f"--only={pair}/{name}" for name in SHORT for pair in ("*-python", f"*-{language}")]
    said = conform("--languages", f"python,{language}", *chosen)
    assert "4 pairs:" in said


def test_csharp_example_runs_as_its_readme_says(tmp_path: Path) -> None:
    absent = missing("csharp")
    if absent is not None:
        pytest.skip(absent)
    example = tmp_path / "csharp"
    shutil.copytree(CONFORMANCE.parents[2] / "examples" / "csharp", example)
    text = (example / "README.md").read_text("utf-8")
    compile_it = next(line for line in text.splitlines() if line.startswith("mcs "))
    consume = next(line for line in text.splitlines() if line.startswith("LD_LIBRARY_PATH="))
    send = text.split("```python\n")[1].split("```")[0]
    # the python of these tests, and not the system's
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (scripts / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}
    built = subprocess.run(compile_it, shell=True, cwd=example, capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, ""), built
    for produce in (consume.replace("consume ticks", "produce ticks 1000"), send):
        consumer = subprocess.Popen(
            consume, shell=True, cwd=example, env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            if produce is send:
                subprocess.run([sys.executable, "-c", send], check=True, timeout=60)
            else:
                subprocess.run(
                    produce, shell=True, cwd=example, env=environment, check=True, timeout=60
                )
            said, _ = consumer.communicate(timeout=60)
        finally:
            consumer.kill()
            consumer.wait()
        assert consumer.returncode == 0
        assert said.startswith("1000 ticks in order, mean price 100")


def test_faults_in_a_peer_are_found() -> None:
    absent = missing("c")
    if absent is not None:
        pytest.skip(absent)
    said = conform("--self-test", "--only", "c-python/sizes", "--only", "python-c/kinds")
    assert "2 of" in said


@pytest.mark.soak
def test_all_pairs() -> None:
    print(conform(seconds=600))


@pytest.mark.soak
def test_c_and_cpp_under_sanitizers() -> None:
    print(conform("--sanitize", seconds=600))


@pytest.mark.soak
def test_all_faults_are_found() -> None:
    print(conform("--self-test", seconds=1500))
