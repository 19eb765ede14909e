"""Processes that the engine started: watched, restarted, ended.

Rules this file keeps:

- No thread: whoever owns a Supervisor calls :meth:`Supervisor.check` now and then.
- A process that ends too soon again is started ever later: 0.1 s, doubled each time up to 30 s, and
  0.1 s again after one that lived for 60 s.
- A process that does not end when asked is killed when its grace is over.
- Every end is in ``exits``. Nobody is left a zombie.
- A child is signalled through its pidfd: its number may be another's once somebody has reaped it.
- A start that fails (no memory, no more processes) is no exception out of :meth:`Supervisor.check`:
  it is logged and tried again, as a death would be.
- A strategy outlives an engine that crashes, and joins the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from shmipc.trading.strategy.deadline import check_seconds
from shmipc.trading.strategy.holders import is_dead
from shmipc.trading.strategy.interpreter import find_python

__all__ = ["Exit", "Restart", "Supervisor"]

Restart = Literal["never", "on-failure", "always"]

_logger = logging.getLogger("shmipc.trading.strategy")

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
    code: int | None  #: exit status; None: killed by a signal, or taken by another part of us
    signal: int | None  #: that killed it
    restart_in: float | None  #: seconds; None: it is not started again

    def __str__(self) -> str:
        if self.signal is None and self.code is None:
            how = "its status was taken by somebody else in this process"
        elif self.signal is None:
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
    pinned: int | None = None  # its pidfd; None: this kernel, or a seccomp filter, gives none
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
        python: str | None = None,
    ) -> int:
        """Start `target` ("module:Class") in a process of its own; return its pid."""
        if restart not in RESTARTS:
            raise ValueError(f"restart is one of {', '.join(RESTARTS)}, not {restart!r}")
        if self.pid(strategy_id) is not None:
            raise ValueError(f"strategy {strategy_id!r} is running: stop it first")
        _check_target(target)
        command = [
            find_python(python),
            "-m",
            "shmipc.trading.strategy",
            self._engine,
            strategy_id,
            target,
            *options,
            "--parameters",
            json.dumps(dict(parameters)),
        ]
        child = _Child(strategy_id, command, restart)
        self._start(child)
        self._children[strategy_id] = child
        assert child.process is not None
        return child.process.pid

    def _start(self, child: _Child) -> None:
        child.start_at = None
        child.started = time.monotonic()
        child.process = subprocess.Popen(
            child.command,
            stdin=subprocess.DEVNULL,
            env=_environment(),
            cwd=None if _here() else "/",  # Python does not start in a directory that was deleted
        )
        with contextlib.suppress(OSError, AttributeError):  # then Popen's word has to do
            child.pinned = os.pidfd_open(child.process.pid)

    def _start_again(self, child: _Child, now: float) -> None:
        try:
            self._start(child)
        except OSError as error:
            child.start_at = now + child.delay
            child.delay = min(2 * child.delay, LONGEST_DELAY)
            _logger.error(
                "strategy %s could not be started (%s): tried again in %g s",
                *(child.strategy_id, error, child.start_at - now),
            )
        else:
            child.restarts += 1

    def check(self) -> None:
        """Take note of who has ended, start who is due, kill whose grace is over."""
        now = time.monotonic()
        for child in self._children.values():
            process = child.process
            if process is not None:
                ended, status = _ending(child, process)
                if ended:
                    self._note_exit(child, process, status, now)
                elif child.kill_at is not None and now >= child.kill_at:
                    child.kill_at = None
                    _signal(child, signal.SIGKILL)
            elif child.start_at is not None and now >= child.start_at:
                self._start_again(child, now)

    def _note_exit(
        self, child: _Child, process: subprocess.Popen[bytes], status: int | None, now: float
    ) -> None:
        lived = now - child.started
        child.process = child.kill_at = None
        if child.pinned is not None:
            os.close(child.pinned)
            child.pinned = None
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
                status if status is not None and status >= 0 else None,
                -status if status is not None and status < 0 else None,
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
        _signal(child, signal.SIGTERM if grace > 0 else signal.SIGKILL)
        # a stopped process (SIGSTOP) would answer SIGTERM only when it goes on
        child.kill_at = time.monotonic() + grace
        return True

    def kill(self, strategy_id: str) -> bool:
        """Kill a process; it is started again if its policy says so. False: it does not run."""
        child = self._children.get(strategy_id)
        if child is None or child.process is None:
            return False
        _signal(child, signal.SIGKILL)
        return True


def _ending(child: _Child, process: subprocess.Popen[bytes]) -> tuple[bool, int | None]:
    """Has a child ended, and with which status (below 0: minus the signal; None: not known)?"""
    if child.pinned is None:
        return process.poll() is not None, process.returncode
    if not is_dead(child.pinned):
        return False, None
    try:
        found = os.waitid(os.P_PIDFD, child.pinned, os.WEXITED | os.WNOHANG)
    except ChildProcessError:  # a SIGCHLD handler, or a wait for any child, was there before us
        process.returncode = 0  # so that Popen does not ask for that number again
        return True, None
    assert found is not None
    status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
    process.returncode = status
    return True, status


def _signal(child: _Child, number: signal.Signals) -> None:
    """Send a signal to a child that runs. One that has ended is noted by check()."""
    assert child.process is not None
    try:
        if child.pinned is None:
            child.process.send_signal(number)  # looks first whether it is still ours
        else:
            signal.pidfd_send_signal(child.pinned, number)
    except ProcessLookupError:
        pass
    except OSError as error:  # it runs as another user now
        _logger.error("strategy %s: %s cannot be sent: %s", child.strategy_id, number.name, error)


def _check_target(target: str) -> None:
    """Find mistakes here, not in a process that dies again and again. Does not import it."""
    module, _, name = target.partition(":")
    if not module or not name:
        raise ValueError(f"a strategy is named as 'module:Class', not {target!r}")
    if module == "__main__":
        raise ValueError(f"{target!r}: another process cannot import __main__; name its module")
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"there is no module {module!r}", name=module)


def _here() -> list[str]:
    """Return the working directory; none where it was deleted."""
    try:
        return [os.getcwd()]
    except OSError:
        return []


def _environment() -> dict[str, str]:
    """Return this environment, with what can be imported here importable there."""
    here = _here()
    paths = [part for path in sys.path for part in ([path] if path else here)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
