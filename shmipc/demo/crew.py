"""The demo's other processes: start them, give them orders, hear them, never wait in vain.

Every wait here ends: with the reports asked for, or with a :class:`CrewError` that names the
process that died, that said it failed, or that was silent for too long.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

__all__ = ["Crew", "CrewError", "Worker"]

STALL_SECONDS = 20.0  # silence of all processes that means one of them is stuck
# not -m: the package imports the worker's module, which runpy warns about
_WORKER = "import sys; from shmipc.demo.worker import main; sys.exit(main())"
_STOP_SECONDS = 5.0  # how long processes may take to leave by themselves


class CrewError(Exception):
    """A process of the crew died, failed or was silent for too long."""


class Worker:
    """One process of the crew."""

    def __init__(self, number: int, environment: dict[str, str]) -> None:
        self.label = f"process {number}"
        self.events: deque[dict[str, Any]] = deque()
        self._partial = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.pid = self.process.pid

    def order(self, role: str, **args: Any) -> None:
        """Tell the process to take up `role`; its label becomes the role's name."""
        self.label = role
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"role": role, "args": args}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: the next wait reports how

    def feed(self, data: bytes) -> None:
        """Take what the process wrote and split it into events."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        self.events.extend(json.loads(line) for line in lines)

    def obituary(self) -> str:
        """Say how the process ended."""
        try:
            status = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return f"{self.label} (pid {self.pid}) closed its reports and hangs"
        if status < 0:
            try:
                cause = f"killed by {signal.Signals(-status).name}"
            except ValueError:
                cause = f"killed by signal {-status}"
        else:
            cause = f"exit status {status}"
        return f"{self.label} (pid {self.pid}) died: {cause}"


class Crew:
    """The processes of one demo run; a context manager that leaves none behind."""

    def __init__(self, on_progress: Callable[[Worker, dict[str, Any]], None]) -> None:
        self.workers: list[Worker] = []
        self.stall_seconds = STALL_SECONDS
        self._on_progress = on_progress
        self._selector = selectors.DefaultSelector()
        package_dir = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        paths = [package_dir, os.environ.get("PYTHONPATH", "")]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "OPENBLAS_NUM_THREADS": "1",  # numpy starts faster without threads nobody uses
            "OMP_NUM_THREADS": "1",
        }

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def grow(self, n: int) -> list[Worker]:
        """Have at least `n` processes, all ready for orders; return the first `n`."""
        new = []
        while len(self.workers) < n:
            worker = Worker(len(self.workers) + 1, self._environment)
            self.workers.append(worker)
            assert worker.process.stdout is not None
            self._selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            new.append(worker)
        self.gather(new, "hello")
        return self.workers[:n]

    def gather(self, workers: Iterable[Worker], event: str = "done") -> list[dict[str, Any]]:
        """Wait until each of `workers` has reported `event`; return the reports in that order.

        Raises CrewError when any process of the crew dies or fails meanwhile, or when all are
        silent for ``stall_seconds``.
        """
        waiting = list(workers)
        found: dict[int, dict[str, Any]] = {}
        heard = time.monotonic()
        while True:
            for worker in self.workers:
                self._dispatch(worker)
            for worker in waiting:
                if worker.pid not in found and worker.events:
                    report = worker.events[0]
                    if report["event"] != event:
                        raise CrewError(f"{worker.label}: unexpected report {report['event']!r}")
                    found[worker.pid] = worker.events.popleft()
            if len(found) == len(waiting):
                return [found[worker.pid] for worker in waiting]
            ready = self._selector.select(timeout=0.5)
            for key, _ in ready:
                self._hear(key)
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > self.stall_seconds:
                late = [w for w in waiting if w.pid not in found]
                names = ", ".join(f"{w.label} (pid {w.pid})" for w in late[:3])
                more = f" and {len(late) - 3} more" if len(late) > 3 else ""
                raise CrewError(f"no sign of life for {self.stall_seconds:g} s: {names}{more}")

    def _hear(self, key: selectors.SelectorKey) -> None:
        worker: Worker = key.data
        data = os.read(key.fd, 1 << 16)
        if not data:
            self._selector.unregister(key.fileobj)
            raise CrewError(worker.obituary())
        worker.feed(data)

    def _dispatch(self, worker: Worker) -> None:
        """Act on progress and failures; leave the reports somebody waits for."""
        kept: deque[dict[str, Any]] = deque()
        for report in worker.events:
            if report["event"] == "progress":
                self._on_progress(worker, report)
            elif report["event"] == "error":
                # who merely noticed that a peer is gone is not the one to name
                for peer in self.workers:
                    if peer is not worker and peer.process.poll() is not None:
                        raise CrewError(peer.obituary())
                raise CrewError(f"{worker.label}: {report['message']}")
            else:
                kept.append(report)
        worker.events = kept

    def close(self) -> None:
        """End all processes: by themselves if they can, by SIGKILL if they do not."""
        for worker in self.workers:
            assert worker.process.stdin is not None
            with contextlib.suppress(OSError):  # it has died already
                worker.process.stdin.close()
        deadline = time.monotonic() + _STOP_SECONDS
        for worker in self.workers:
            try:
                worker.process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            assert worker.process.stdout is not None
            worker.process.stdout.close()
        self.workers.clear()
        self._selector.close()
