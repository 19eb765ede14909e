"""The results of shmipc.h by the exceptions that Python raises for them. Owns that table."""

from __future__ import annotations

import shmipc

# the first that fits names the result; ValueError is also what Python says to TOO_LARGE
NAMES: tuple[tuple[type[BaseException], str], ...] = (
    (shmipc.Empty, "EMPTY"),
    (shmipc.Full, "FULL"),
    (shmipc.Closed, "CLOSED"),
    (shmipc.ProducerDied, "PRODUCER_DIED"),
    (shmipc.ConsumerDied, "CONSUMER_DIED"),
    (shmipc.NotFound, "NOT_FOUND"),
    (shmipc.Busy, "BUSY"),
    (shmipc.SchemaMismatch, "MISMATCH"),
    (shmipc.Corrupt, "CORRUPT"),
    (shmipc.Removed, "REMOVED"),
    (ValueError, "INVALID"),
    (TypeError, "INVALID"),
    (RuntimeError, "MISUSE"),
    (OSError, "OS"),
)
ERRORS = tuple(kind for kind, _ in NAMES)


def name_of(error: BaseException) -> str:
    return next(name for kind, name in NAMES if isinstance(error, kind))
