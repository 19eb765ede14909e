"""Rings that are nobody else's business: those of a backtest.

Rules this file keeps:

- A name is 128 random bits. A pid repeats (it is 1 in every container), and so does a counter.
- What a killed backtest left is discarded by the next one. Only rings whose name has this file's
  form and that no live process holds: the kernel's locks say so.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets

from shmipc import _core
from shmipc._core import Error

__all__ = ["discard_leftovers", "private_name"]

_BYTES = 16
_NAME = re.compile(rf"backtest-[0-9a-f]{{{2 * _BYTES}}}")


def private_name() -> str:
    """Return an engine's name that no other has, or ever had."""
    return f"backtest-{secrets.token_hex(_BYTES)}"


def discard_leftovers() -> None:
    """Remove the rings of private engines whose processes are gone, with what is unread in them."""
    directory, first = os.path.split(_core.segment_path("backtest-"))
    for entry in os.listdir(directory):
        engine = entry[len(first) - len("backtest-") :].split(".", 1)[0]
        if entry.startswith(first) and _NAME.fullmatch(engine):
            with contextlib.suppress(Error, OSError):  # another user's, or removed meanwhile
                _core.clean_segment(os.path.join(directory, entry), discard=True)
