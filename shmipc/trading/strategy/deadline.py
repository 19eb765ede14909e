"""When a wait is over. One for NaN seconds would never be: every comparison with NaN is False."""

from __future__ import annotations

import time

__all__ = ["check_seconds", "deadline"]


def check_seconds(name: str, seconds: float | None) -> None:
    """Raise ValueError where the argument `name` is NaN."""
    if seconds is not None and seconds != seconds:
        raise ValueError(f"{name} is a number of seconds, not {seconds!r}")


def deadline(timeout: float | None) -> float | None:
    """Return when `timeout` seconds are over, in time.monotonic(); None: never.

    Raises ValueError for NaN.
    """
    check_seconds("timeout", timeout)
    return None if timeout is None else time.monotonic() + timeout
