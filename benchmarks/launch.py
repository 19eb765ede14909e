"""Start one measuring program, in its own process group, with a deadline; read what it prints.

Programs print `key=value` lines; anything else they say on stdout is ignored. A program that
fails, hangs or crashes becomes a `Failed` with the last thing it said, and takes nobody with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

Figures = dict[str, float]


class Failed(Exception):
    """A measuring program ended badly; the message says how."""


def _last_words(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "said nothing"


def run(
    command: Sequence[str], *, deadline: float, environment: dict[str, str] | None = None
) -> Figures:
    """Run `command` for at most `deadline` seconds and return the figures it printed.

    Raises:
        Failed: it could not start, ran past the deadline, exited non-zero or printed no figure.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    except OSError as error:
        raise Failed(f"could not start: {error}") from error
    try:
        out, err = process.communicate(timeout=deadline)
    except subprocess.TimeoutExpired:
        raise Failed(f"hung: killed after {deadline:g} s") from None
    finally:
        # Whatever of its group is left (a hung side, a stray helper) goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    if process.returncode < 0:
        raise Failed(f"died of {signal.Signals(-process.returncode).name}: {_last_words(err)}")
    if process.returncode > 0:
        raise Failed(f"exit status {process.returncode}: {_last_words(err)}")
    figures = read_figures(out)
    if not figures:
        raise Failed("printed no figure")
    return figures


def read_figures(text: str) -> Figures:
    """The `key=value` lines of a program's output; other lines are not ours."""
    figures: Figures = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.isidentifier():
            try:
                figures[key] = float(value)
            except ValueError:
                continue
    return figures
