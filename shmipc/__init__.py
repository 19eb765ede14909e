"""Messages, typed records and frames between processes, through shared memory.

A :class:`Producer` writes the ring of a name, :class:`Consumer` objects in other processes read
it, each with its own cursor over one copy of the data. Reads without a copy are
:class:`Frame` leases: the numpy array is the shared memory, and the memory stays while the array
does. See the README for guarantees, and ``python -m shmipc demo`` to see it work.
"""

from __future__ import annotations

from pkgutil import extend_path

# After `pip install .`, a Python started in the checkout finds this directory first, and the
# compiled _core only in the installed one: look in both.
__path__ = extend_path(__path__, __name__)

from shmipc._core import (
    Busy,
    Closed,
    Consumer,
    ConsumerDied,
    Corrupt,
    Empty,
    Error,
    Frame,
    Full,
    NotFound,
    PeerDied,
    Producer,
    ProducerDied,
    Reservation,
    SchemaMismatch,
    wait,
)
from shmipc._version import __version__

__all__ = [
    "Busy",
    "Closed",
    "Consumer",
    "ConsumerDied",
    "Corrupt",
    "Empty",
    "Error",
    "Frame",
    "Full",
    "NotFound",
    "PeerDied",
    "Producer",
    "ProducerDied",
    "Reservation",
    "SchemaMismatch",
    "__version__",
    "wait",
]
