"""One process of the demo: take orders on stdin, report on stdout, both as lines of JSON.

An order is ``{"role": NAME, "args": {...}}``; a role is a function of :data:`ROLES` that gets a
Reporter and its arguments and returns what it found. A report is one of

- ``{"event": "hello"}`` once, when the process can take orders;
- ``{"event": "ready", ...}`` when a role says so;
- ``{"event": "progress", "done": n}`` now and then;
- ``{"event": "done", "result": {...}}`` or ``{"event": "error", "message": "..."}``.

The end of stdin ends the process, also in the middle of a role: whoever started it is gone.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import shmipc
from shmipc.demo import frames, replay, ticks
from shmipc.demo.reporter import Reporter
from shmipc.video import VideoError

__all__ = ["main"]

_EXIT_SECONDS = 3.0  # how long a role may take to close its handles once stdin has ended


Role = Callable[..., dict[str, Any]]


ROLES: dict[str, Role] = {
    "frames.produce": frames.produce,
    "frames.consume": frames.consume,
    "video.produce": frames.produce_video,
    "video.consume": frames.consume_video,
    "single.produce": ticks.produce_singly,
    "single.consume": ticks.consume_singly,
    "ping": ticks.ping,
    "pong": ticks.pong,
    "batch.produce": ticks.produce_batches,
    "batch.consume": ticks.consume_batches,
    "capture.produce": replay.produce,
    "capture.consume": replay.consume,
}


def describe(error: BaseException) -> str:
    """Return `error` in one line; where it came from as well if it is not an expected kind."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (shmipc.Error, OSError, ImportError, VideoError)):
        return text
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({os.path.basename(where.filename)}:{where.lineno})"


class _Orders:
    """The orders that came in, and the end of them."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.busy = False
        self._main = threading.main_thread().ident

    def listen(self) -> None:
        """Read stdin to its end in a thread of its own, then stop the main thread."""
        for line in sys.stdin.buffer:
            self.queue.put(line)
        self.queue.put(None)
        if self.busy and self._main is not None:
            signal.pthread_kill(self._main, signal.SIGINT)
            time.sleep(_EXIT_SECONDS)
            os._exit(3)


def main() -> int:
    """Serve orders until stdin ends; return the exit status."""
    report = Reporter(os.dup(1))
    os.dup2(2, 1)  # a stray print must not corrupt the reports
    orders = _Orders()
    try:
        threading.Thread(target=orders.listen, daemon=True).start()
        report.send("hello")
        while (line := orders.queue.get()) is not None:
            order = json.loads(line)
            orders.busy = True
            try:
                result = ROLES[order["role"]](report, **order["args"])
            except Exception as error:
                report.send("error", message=describe(error))
            else:
                report.send("done", result=result)
            orders.busy = False
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return 0
