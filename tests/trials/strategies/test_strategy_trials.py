"""Strategies on trial, for seconds: killed, stopped, and fed the real capture.

`pytest -m soak` runs them for long. tests/trials/strategies/run.py does the work.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TRIALS = Path(__file__).resolve().parent / "run.py"


def trial(*arguments: object, seconds: float = 100) -> str:
    done = subprocess.run(
        [sys.executable, str(TRIALS), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    return done.stdout


def test_killed_strategies_cost_the_others_nothing_and_come_back() -> None:
    said = trial(
        *("kills", "--kills", 5, "--strategies", 6, "--rate", 20_000),
        *("--interval", 0.5, "--quiet", 1, "--capacity", 1 << 20, "--seed", 7),
    )
    assert "gaps, losses, disorder" in said


def test_stopped_strategy_is_dealt_with_as_the_policy_says() -> None:
    assert "evict: patience 1 s" in trial("stalls", "--strategies", 4, "--seconds", 0.5)


def test_every_event_of_the_real_capture_reaches_who_wants_it() -> None:
    said = trial("capture")
    if "skipped" in said:
        pytest.skip(said.strip().splitlines()[-1].strip())
    assert "TradesAndBooks" in said


def test_killed_engines_are_followed_by_the_next_and_no_order_is_lost() -> None:
    said = trial("engines", "--kills", 3, "--strategies", 4, "--rate", 10_000)
    assert "seen by all to the last" in said


@pytest.mark.soak
def test_a_hundred_engines() -> None:
    print(trial("engines", "--kills", 100, "--rate", 20_000, seconds=600))


@pytest.mark.soak
def test_fifty_kills_at_a_hundred_thousand_events_a_second() -> None:
    print(trial("kills", "--strategies", 20, "--kills", 50, "--rate", 100_000, seconds=600))


@pytest.mark.soak
def test_long_stalls() -> None:
    print(trial("stalls", "--strategies", 12, "--seconds", 20, seconds=600))


@pytest.mark.soak
def test_faults_put_in_on_purpose_are_found() -> None:
    print(trial("--self-test", seconds=1500))
