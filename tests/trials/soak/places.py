"""A worker's place as the conductor sees it, and what the kernel says of a process.

Must not know: what is done with places.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any


def waited_for_processor(pid: int) -> float:
    """Seconds that this process could have run and was not let."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Slot:
    """A place for a worker: who has it, and since when."""

    def __init__(self, number: int, role: str, ring: int, area: Any) -> None:
        self.number, self.role, self.ring, self.area = number, role, ring, area
        self.pid = 0
        self.generation = 0
        self.start_at = 0.0  # not before
        self.beat = (0, 0.0, 0.0)  # the heartbeat, since when, and the wait for a processor then
        self.stopped_until, self.stopped_pid = 0.0, 0
        self.seen_events = 0
        self.stops: deque[tuple[int, int]] = deque(maxlen=50)  # SIGSTOP to SIGCONT, ns
        self.wanted = True

    def __str__(self) -> str:
        return f"{self.role} {self.number} of ring {self.ring} (pid {self.pid})"
