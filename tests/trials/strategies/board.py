"""What a strategy leaves behind that its own SIGKILL cannot take: words in a file, a journal.

Owns: the layout of the words, the lines of a journal, and reading them. Must not know: who is
killed.

A journal line is written before or after what it tells of, by one write(2): what a killed process
had written is there. Lines: ``T action id`` about to send, ``S action id`` sent, ``F trade_id`` a
fill seen, ``L count`` events lost, ``X engine number`` the last event of an engine; ``J`` and
``Z``, the books at joining and at the end, as JSON.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

#: Words of one process. Then, for each window of time, the longest delay of an event, in ns; then,
#: how long the process waited for a processor.
INCARNATION, SEEN, GAPS, LAST, STARTED_NS, LOST, ORDERS = range(7)
SILENT = 7  # in the engine's area: no more orders are to be sent
EPOCHS = 8  # in the engine's area: two words for each engine, sent at most and at least
HEADER = 256
WINDOW_NS = 50_000_000
WINDOWS = 1 << 15  # 27 minutes
WAITS = HEADER + WINDOWS
WORDS = WAITS + WINDOWS

EPOCH = "epoch"  # file: the monotonic time of window 0


class ViolationError(AssertionError):
    """shmipc has broken a promise."""


def need(condition: object, text: str) -> None:
    if not condition:
        raise ViolationError(text)


class Board:
    """The words of all strategies of one trial."""

    def __init__(self, directory: str | Path, places: int = 0) -> None:
        """`places`: how many strategies; the board is made. 0: it is there."""
        self.directory = Path(directory)
        path = self.directory / "board"
        if places:
            (self.directory / EPOCH).write_text(str(time.monotonic_ns()))
            with open(path, "wb") as file:
                file.truncate((places + 1) * WORDS * 8)  # the last is the engine's
        self.epoch_ns = int((self.directory / EPOCH).read_text())
        with open(path, "r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def area(self, place: int) -> Any:
        place %= len(self._words) // WORDS  # -1: the engine's
        return self._words[place * WORDS : (place + 1) * WORDS]

    def window(self, at_ns: int) -> int:
        return min(WINDOWS - 1, max(0, (at_ns - self.epoch_ns) // WINDOW_NS))

    def waits(self, place: int, from_ns: int, to_ns: int) -> int:
        """Return for how long a process waited for a processor at most from one time to another."""
        first, last = self.window(from_ns), self.window(to_ns) + 1
        return sum(self.area(place)[WAITS + first : WAITS + last + 1])

    def delays(self, place: int, from_ns: int, to_ns: int) -> list[int]:
        """Return the longest delay in each window from one time to another; 0: nothing came."""
        first, last = self.window(from_ns), self.window(to_ns)
        area = self.area(place)
        return [area[HEADER + window] for window in range(first, last + 1)]


class Processor:
    """How long this process has waited for a processor: noted when a window begins."""

    def __init__(self, area: Any) -> None:
        self._area = area
        self._file = os.open("/proc/self/schedstat", os.O_RDONLY)
        self._waited = self._read()

    def _read(self) -> int:
        return int(os.pread(self._file, 100, 0).split()[1])

    def note(self, window: int) -> None:
        waited = self._read()
        if 0 <= window < WINDOWS:
            self._area[WAITS + window] += waited - self._waited
        self._waited = waited


class Journal:
    """Appends lines, each with one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._file, b"\n")  # after what a killed predecessor may have begun

    def write(self, letter: str, *words: object) -> None:
        os.write(self._file, f"{letter} {' '.join(map(str, words))}\n".encode())

    def write_json(self, letter: str, value: Any) -> None:
        os.write(self._file, f"{letter} {json.dumps(value)}\n".encode())


class Told:
    """What a strategy's journal says."""

    def __init__(self, path: Path) -> None:
        self.tried: Counter[tuple[int, int]] = Counter()
        self.sent: Counter[tuple[int, int]] = Counter()
        self.fills: Counter[int] = Counter()
        self.joined: list[dict[str, Any]] = []
        self.ended: list[dict[str, Any]] = []
        self.lost = 0
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines():
            letter, _, rest = line.partition(" ")
            if letter in ("T", "S"):
                action, client_order_id = map(int, rest.split())
                (self.tried if letter == "T" else self.sent)[action, client_order_id] += 1
            elif letter == "F":
                self.fills[int(rest)] += 1
            elif letter == "L":
                self.lost += int(rest)
            elif letter in ("J", "Z"):
                (self.joined if letter == "J" else self.ended).append(json.loads(rest))


def violations(directory: str | Path) -> list[str]:
    """Return what strategies found wrong themselves."""
    return [path.read_text() for path in sorted(Path(directory).glob("violation.*"))]
