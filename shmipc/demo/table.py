"""What the demo shows: the rows of its table, the progress line, the JSON."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, TextIO

__all__ = ["Progress", "Row", "columns", "human_bytes", "human_count", "render"]


@dataclasses.dataclass
class Row:
    """One scenario's outcome."""

    title: str
    processes: str  #: "1 -> 20"
    messages: int = 0  #: sent by the producer
    unit: str = "msg"
    per_second: float = 0.0
    bytes_per_second: float = 0.0
    percentiles_us: tuple[float, float] | None = None
    latency_of: str = "one way"  #: what the percentiles measure
    copied: int = 0  #: bytes the readers copied out of the ring
    lost: int = 0
    checks: list[tuple[str, bool]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def check(self, claim: str, ok: bool) -> None:
        """Record that `claim` was checked and whether it held."""
        self.checks.append((claim, bool(ok)))

    @property
    def failures(self) -> list[str]:
        """The claims that did not hold."""
        return [claim for claim, ok in self.checks if not ok]

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON types."""
        return {**dataclasses.asdict(self), "failures": self.failures}


def human_count(n: float) -> str:
    """Return a count in a form people read: 812, 45.3 k, 12.1 M."""
    for limit, divisor, suffix in ((1e4, 1.0, ""), (1e6, 1e3, " k"), (1e9, 1e6, " M")):
        if n < limit:
            return f"{n:.0f}" if divisor == 1.0 else f"{n / divisor:.1f}{suffix}"
    return f"{n / 1e9:.2f} G"


def human_bytes(n: float) -> str:
    """Return a number of bytes in a form people read, in powers of 1000."""
    for limit, divisor, suffix in ((1e3, 1, "B"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB")):
        if n < limit:
            return f"{n / divisor:.0f} {suffix}"
    return f"{n / 1e9:.2f} GB"


def _human_us(us: float) -> str:
    if us < 1000:
        return f"{us:.1f} us" if us < 100 else f"{us:.0f} us"
    return f"{us / 1000:.1f} ms"


_HEADER = (
    "scenario",
    "processes",
    "messages",
    "rate",
    "data",
    "p50",
    "p99",
    "latency",
    "copied by readers",
    "lost",
    "checks",
)
_LEFT = {"scenario", "processes", "latency"}


def _cells(row: Row) -> tuple[str, ...]:
    p50, p99 = map(_human_us, row.percentiles_us) if row.percentiles_us else ("-", "-")
    passed = len(row.checks) - len(row.failures)
    return (
        row.title,
        row.processes,
        f"{row.messages:,}",
        f"{human_count(row.per_second)} {row.unit}/s",
        f"{human_bytes(row.bytes_per_second)}/s",
        p50,
        p99,
        row.latency_of if row.percentiles_us else "-",
        human_bytes(row.copied),
        str(row.lost),
        f"{passed} of {len(row.checks)}" + ("" if not row.failures else " FAILED"),
    )


def render(rows: list[Row]) -> str:
    """Return the table of `rows`, its notes, and every check that failed."""
    table = [_HEADER, *map(_cells, rows)]
    widths = [max(len(cells[i]) for cells in table) for i in range(len(_HEADER))]
    lines = [
        "  ".join(
            cell.ljust(width) if name in _LEFT else cell.rjust(width)
            for name, cell, width in zip(_HEADER, cells, widths, strict=True)
        ).rstrip()
        for cells in table
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    notes = [f"  {row.title}: {note}" for row in rows for note in row.notes]
    failed = [f"  FAILED  {row.title}: {claim}" for row in rows for claim in row.failures]
    return "\n".join(lines + ([""] if notes or failed else []) + notes + failed)


def columns(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a plain table: the first column to the left, the others to the right."""
    table = [header, *rows]
    widths = [max(len(cells[i]) for cells in table) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in table
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


class Progress:
    """The line that shows that something is going on, on `stream`.

    On a terminal it is one line that is rewritten; elsewhere one plain line a step.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._tty = self._stream.isatty()
        self._quiet = quiet
        self._step = ""
        self._shown = False

    def step(self, text: str) -> None:
        """Begin the step `text`."""
        self._step = text
        self._write(text)

    def update(self, done: int, total: int | None = None) -> None:
        """Show how far the step has come; only on a terminal."""
        if self._tty:
            self._write(f"{self._step}  {done:,}" + (f" of {total:,}" if total else ""))

    def clear(self) -> None:
        """Take the line away."""
        if self._tty and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False

    def _write(self, text: str) -> None:
        if not self._quiet:
            self._stream.write(f"\r\x1b[K{text}" if self._tty else f"{text}\n")
            self._stream.flush()
            self._shown = True
