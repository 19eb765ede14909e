"""Messages, typed records and frames between processes, through shared memory.

A :class:`Producer` writes the ring of a name, :class:`Consumer` objects in other processes read
it, each with its own cursor over one copy of the data. Reads without a copy are
:class:`Frame` leases: the numpy array is the shared memory, and the memory stays while the array
does. See the README for guarantees, and ``python -m shmipc demo`` to see it work.
"""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

# After `pip install .`, a Python started in the checkout finds this directory first, and the
# compiled _core only in the installed one: look in both.
__path__ = extend_path(__path__, __name__)

from shmipc._core import (
    Busy,
    Closed,
    Consumer,
    ConsumerDied,
    Corrupt,
    Dispatcher,
    Empty,
    Error,
    Frame,
    Full,
    Lag,
    NotFound,
    PeerDied,
    Producer,
    ProducerDied,
    Record,
    Removed,
    Reservation,
    SchemaMismatch,
    Stats,
    record_type,
    wait,
)
from shmipc._native import get_include, get_library_dirs
from shmipc._version import __version__

if TYPE_CHECKING:
    from shmipc.trading.strategy import BaseStrategy, StrategyManager, run_backtest

__all__ = [
    "BaseStrategy",
    "Busy",
    "Closed",
    "Consumer",
    "ConsumerDied",
    "Corrupt",
    "Dispatcher",
    "Empty",
    "Error",
    "Frame",
    "Full",
    "Lag",
    "NotFound",
    "PeerDied",
    "Producer",
    "ProducerDied",
    "Record",
    "Removed",
    "Reservation",
    "SchemaMismatch",
    "Stats",
    "StrategyManager",
    "__version__",
    "get_include",
    "get_library_dirs",
    "record_type",
    "run_backtest",
    "wait",
]


def __getattr__(name: str) -> Any:
    """Import the strategy layer, and with it numpy, when it is first asked for."""
    if name not in ("BaseStrategy", "StrategyManager", "run_backtest"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import shmipc.trading.strategy

    value = globals()[name] = getattr(shmipc.trading.strategy, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
