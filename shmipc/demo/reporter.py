"""What one process of the demo reports to the one that gives the orders: lines of JSON."""

from __future__ import annotations

import json
import os
import time
from typing import Any

__all__ = ["PROGRESS_SECONDS", "Reporter"]

PROGRESS_SECONDS = 0.25  # often enough to look alive, too rare to disturb a measurement


class Reporter:
    """Writes reports for the process that gives the orders."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._next = 0.0

    def send(self, event: str, **fields: Any) -> None:
        """Write one report; a vanished reader is the end of this process."""
        data = json.dumps({"event": event, **fields}).encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]

    def progress(self, done: int, total: int | None = None) -> None:
        """Report `done` (of `total`) unless that was done a moment ago."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PROGRESS_SECONDS
            self.send("progress", done=done, total=total)
