"""Processes that the engine started: watched, restarted, ended.

Rules this file keeps:

- No thread: whoever owns a Supervisor calls :meth:`Supervisor.check` now and then.
- A process that ends too soon again is started ever later: 0.1 s, doubled each time up to 30 s, and
  0.1 s again after one that lived for 60 s.
- A process that does not end when asked is killed when its grace is over.
- Every end is in ``exits``. Nobody is left a zombie.
- A strategy outlives an engine that crashes, and joins the next one.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from shmipc.strategy.deadline import check_seconds

__all__ = ["Exit", "Restart", "Supervisor"]

Restart = Literal["never", "on-failure", "always"]

FIRST_DELAY = 0.1  # seconds
LONGEST_DELAY = 30.0
LONG_LIFE = 60.0
RESTARTS: tuple[Restart, ...] = ("never", "on-failure", "always")


@dataclasses.dataclass(frozen=True)
class Exit:
    """The end of a process that the engine had started."""

    strategy_id: str
    pid: int
    time: float  #: as time.time() tells it
    lived: float  #: seconds
    code: int | None  #: exit status; None: killed by a signal
    signal: int | None  #: that killed it
    restart_in: float | None  #: seconds; None: it is not started again

    def __str__(self) -> str:
        if self.signal is None:
            how = f"exit status {self.code}"
        else:
            try:
                how = f"killed by {signal.Signals(self.signal).name}"
            except ValueError:
                how = f"killed by signal {self.signal}"
        then = "" if self.restart_in is None else f", again in {self.restart_in:g} s"
        return f"{self.strategy_id} (pid {self.pid}) after {self.lived:.1f} s: {how}{then}"


@dataclasses.dataclass
class _Child:
    strategy_id: str
    command: list[str]
    restart: Restart
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    delay: float = FIRST_DELAY
    start_at: float | None = None  # monotonic; None: is running, or not to be started
    kill_at: float | None = None  # monotonic: its grace is over
    leaving: bool = False
    restarts: int = 0


class Supervisor:
    """The processes of one engine's strategies."""

    def __init__(self, engine: str) -> None:
        self.exits: list[Exit] = []
        self._engine = engine
        self._children: dict[str, _Child] = {}

    def __contains__(self, strategy_id: str) -> bool:
        return strategy_id in self._children

    def pid(self, strategy_id: str) -> int | None:
        """Return the process of a strategy that runs, or None."""
        child = self._children.get(strategy_id)
        return child.process.pid if child is not None and child.process is not None else None

    def restarts(self, strategy_id: str) -> int:
        """Return how often a strategy was started again."""
        child = self._children.get(strategy_id)
        return 0 if child is None else child.restarts

    def spawn(
        self,
        strategy_id: str,
        target: str,
        *,
        restart: Restart,
        options: Iterable[str],
        parameters: Mapping[str, Any],
    ) -> int:
        """Start `target` ("module:Class") in a process of its own; return its pid."""
        if restart not in RESTARTS:
            raise ValueError(f"restart is one of {', '.join(RESTARTS)}, not {restart!r}")
        if self.pid(strategy_id) is not None:
            raise ValueError(f"strategy {strategy_id!r} is running: stop it first")
        _check_target(target)
        command = [
            sys.executable,
            "-m",
            "shmipc.strategy",
            self._engine,
            strategy_id,
            target,
            *options,
            "--parameters",
            json.dumps(dict(parameters)),
        ]
        child = _Child(strategy_id, command, restart)
        self._children[strategy_id] = child
        self._start(child)
        assert child.process is not None
        return child.process.pid

    def _start(self, child: _Child) -> None:
        child.start_at = None
        child.started = time.monotonic()
        child.process = subprocess.Popen(
            child.command, stdin=subprocess.DEVNULL, env=_environment()
        )

    def check(self) -> None:
        """Take note of who has ended, start who is due, kill whose grace is over."""
        now = time.monotonic()
        for child in self._children.values():
            process = child.process
            if process is not None:
                if process.poll() is not None:
                    self._note_exit(child, process, now)
                elif child.kill_at is not None and now >= child.kill_at:
                    process.kill()
                    child.kill_at = None
            elif child.start_at is not None and now >= child.start_at:
                child.restarts += 1
                self._start(child)

    def _note_exit(self, child: _Child, process: subprocess.Popen[bytes], now: float) -> None:
        status = process.returncode
        lived = now - child.started
        child.process = child.kill_at = None
        again = not child.leaving and (
            child.restart == "always" or (child.restart == "on-failure" and status != 0)
        )
        delay = FIRST_DELAY if lived >= LONG_LIFE else child.delay
        if again:
            child.start_at = now + delay
            child.delay = min(2 * delay, LONGEST_DELAY)
        self.exits.append(
            Exit(
                child.strategy_id,
                process.pid,
                time.time(),
                lived,
                status if status >= 0 else None,
                -status if status < 0 else None,
                delay if again else None,
            )
        )

    def stop(self, strategy_id: str, grace: float) -> bool:
        """Ask a process to end for good; it is killed after `grace` s. False: none runs."""
        check_seconds("grace", grace)
        child = self._children.get(strategy_id)
        if child is None:
            return False
        child.leaving = True
        child.start_at = None
        if child.process is None:
            return False
        child.process.send_signal(signal.SIGTERM if grace > 0 else signal.SIGKILL)
        # a stopped process (SIGSTOP) would answer SIGTERM only when it goes on
        child.kill_at = time.monotonic() + grace
        return True

    def kill(self, strategy_id: str) -> bool:
        """Kill a process; it is started again if its policy says so. False: it does not run."""
        child = self._children.get(strategy_id)
        if child is None or child.process is None:
            return False
        child.process.kill()
        return True


def _check_target(target: str) -> None:
    """Find mistakes here, not in a process that dies again and again. Does not import it."""
    module, _, name = target.partition(":")
    if not module or not name:
        raise ValueError(f"a strategy is named as 'module:Class', not {target!r}")
    if module == "__main__":
        raise ValueError(f"{target!r}: another process cannot import __main__; name its module")
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"there is no module {module!r}", name=module)


def _environment() -> dict[str, str]:
    """Return this environment, with what can be imported here importable there."""
    paths = [path or os.getcwd() for path in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
