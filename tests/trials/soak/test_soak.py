"""The soak: everything at once, killed and restarted at random, every message accounted for.

`pytest -m soak` runs it for SOAK_SECONDS (300) with SOAK_SEED. tests/trials/soak/run.py does the
work.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

SOAK = Path(__file__).resolve().parent / "run.py"
SETTLE = 90  # seconds for its end, of which it needs one or two


def soak(seconds: float, seed: int, report: Path | None = None) -> str:
    command = [sys.executable, str(SOAK), "--seconds", str(seconds), "--seed", str(seed)]
    done = subprocess.run(
        command if report is None else [*command, "--report", str(report)],
        capture_output=True,
        text=True,
        timeout=seconds + SETTLE,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def test_everything_at_once_loses_nothing_and_hangs_nobody(tmp_path: Path) -> None:
    report = tmp_path / "soak.md"
    said = soak(18, 20260101, report)
    assert report.read_text() in said
    assert "| SIGKILLs: producers | 0 |" not in said
    assert "| SIGKILLs: consumers | 0 |" not in said
    assert "| received, by all consumers | 0 |" not in said


@pytest.mark.soak
def test_everything_at_once_for_long() -> None:
    seed = int(os.environ.get("SOAK_SEED", "1"))
    print(soak(float(os.environ.get("SOAK_SECONDS", "300")), seed))
