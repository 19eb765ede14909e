"""A strategy's timers: named, in ns of whatever clock the caller reads.

A repeating timer that is late skips the periods it missed (``catch_up=False``, for a clock that
runs by itself) or fires for each of them (for a clock that jumps from event to event), unless there
are more than ``MOST_AT_ONCE``: then it fires once. How many it passed over is told with the next.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math

from shmipc.trading.events import encode_symbol

__all__ = ["MOST_AT_ONCE", "NEVER", "Due", "Timers"]

#: Times that a timer fires for one jump of a clock. For a timer of 1 s that is a pause of 11 days;
#: a capture whose times begin with a 0 jumps by half a century.
MOST_AT_ONCE = 1_000_000
NEVER = 1 << 63  # later than any int64 time


@dataclasses.dataclass(frozen=True)
class Due:
    """A timer that has come due."""

    name: str
    due_ns: int
    interval_ns: int
    count: int  #: how often it has come due, this time included
    passed_over: int = 0  #: periods that ended since the last time, and were not fired for


@dataclasses.dataclass
class _Timer:
    name: str
    interval_ns: int
    repeat: bool
    count: int = 0
    passed_over: int = 0


class Timers:
    """Timers ordered by when they come due."""

    def __init__(self, *, catch_up: bool = False) -> None:
        self.next_ns = NEVER  #: when the next one comes due
        self._catch_up = catch_up
        self._heap: list[tuple[int, int, _Timer]] = []
        self._named: dict[str, _Timer] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._named)

    def set(self, name: str, seconds: float, now_ns: int, repeat: bool = True) -> None:
        """Start a timer; one of the same name is replaced. ValueError unless `seconds` > 0."""
        if not isinstance(name, str):
            raise TypeError(f"a timer's name is a str, not {type(name).__name__}")
        try:
            encode_symbol(name)
        except ValueError as error:
            raise ValueError(str(error).replace("symbol", "timer", 1).split(".")[0]) from None
        if not (math.isfinite(seconds) and 1e-9 <= seconds < 1e9):
            raise ValueError(f"a timer of {seconds!r} s: it must be positive and finite")
        timer = _Timer(name, round(seconds * 1e9), repeat)
        self._named[name] = timer
        self._push(now_ns + timer.interval_ns, timer)

    def cancel(self, name: str) -> bool:
        """Stop a timer. False: there is none of that name."""
        found = self._named.pop(name, None) is not None
        self._tidy()
        return found

    def pop_due(self, now_ns: int) -> Due | None:
        """Return the timer that came due first, if one has by `now_ns`."""
        if now_ns < self.next_ns:
            return None
        due_ns, _, timer = heapq.heappop(self._heap)
        timer.count += 1
        passed_over, timer.passed_over = timer.passed_over, 0
        if timer.repeat:
            next_ns = due_ns + timer.interval_ns
            if next_ns <= now_ns:
                late = (now_ns - due_ns) // timer.interval_ns
                if not self._catch_up:
                    passed_over += late
                    next_ns = now_ns + timer.interval_ns
                elif late > MOST_AT_ONCE:
                    passed_over += late
                    next_ns += late * timer.interval_ns
            self._push(next_ns, timer)
        else:
            del self._named[timer.name]
            self._tidy()
        return Due(timer.name, due_ns, timer.interval_ns, timer.count, passed_over)

    def pass_over(self, now_ns: int) -> None:
        """Have timers that would fire more than MOST_AT_ONCE times by `now_ns` fire once.

        For a clock that is stepped from one time to the next: pop_due() sees no jump then.
        """
        for index, (due_ns, number, timer) in enumerate(self._heap):
            late = (now_ns - due_ns) // timer.interval_ns
            if timer.repeat and late > MOST_AT_ONCE:
                timer.passed_over += late
                self._heap[index] = (due_ns + late * timer.interval_ns, number, timer)
        heapq.heapify(self._heap)
        self._tidy()

    def _push(self, due_ns: int, timer: _Timer) -> None:
        heapq.heappush(self._heap, (due_ns, next(self._numbers), timer))
        self._tidy()

    def _tidy(self) -> None:
        """Drop cancelled and replaced timers from the front, and see which is next."""
        heap = self._heap
        while heap and self._named.get(heap[0][2].name) is not heap[0][2]:
            heapq.heappop(heap)
        self.next_ns = heap[0][0] if heap else NEVER
