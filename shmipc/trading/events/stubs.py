"""Write ``records.pyi``, the record types as editors and type checkers see them.

    python -m shmipc.trading.events.stubs                print the stubs
    python -m shmipc.trading.events.stubs --check FILE   exit 1 with a diff where FILE is another

Everything in them comes from :mod:`shmipc.trading.events.dtypes`, as in ``shmipc_events.h``
(:mod:`shmipc.trading.events.cheader`). The output is as ruff leaves it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shmipc.trading.events import dtypes
from shmipc.trading.events.cheader import run

__all__ = ["STUBS", "generate", "main"]

#: Where the package has them.
STUBS = Path(__file__).resolve().parent / "records.pyi"

_TOP = '''\
"""Written by `python -m shmipc.trading.events.stubs` from dtypes.py beside it: change it there."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from shmipc._core import Record
from shmipc.trading.events.dtypes import EventKind

RECORD_TYPES: dict[EventKind, Any]
'''

_BOTTOM = """
def order_book_type(levels: int = ...) -> type[OrderBook]: ...
"""

_ARRAYS = {"<f8": "np.float64", "u1": "np.uint8"}


def _types(field: dtypes.Field) -> tuple[str, str]:
    """Return what a field is read as, and what its type's constructor takes for it."""
    if field.shape:
        return f"NDArray[{_ARRAYS[field.format]}]", "ArrayLike"
    if field.format.startswith("S"):
        return "str", "str | bytes"
    kind = "float" if field.format == "<f8" else "int"
    return kind, kind


def _class(event: dtypes.Event) -> list[str]:
    lines = ["", f"class {event.name}(Record):", f'    """{event.doc}"""', ""]
    for field in event.fields:
        lines.append(f"    {field.name}: {_types(field)[0]}  # {field.doc}")
    lines += ["    def __new__(", "        cls,", "        source: object = None,", "        /,"]
    lines.append("        *,")
    lines += [f"        {field.name}: {_types(field)[1]} = ...," for field in event.fields]
    return [*lines, "    ) -> Self: ..."]


def generate() -> str:
    """Return the text of the stubs."""
    lines = [line for event in dtypes.EVENTS for line in _class(event)]
    return "\n".join([_TOP.rstrip("\n"), *lines, _BOTTOM])


def main(arguments: list[str] | None = None) -> int:
    return run(
        generate(),
        "python -m shmipc.trading.events.stubs",
        "Print records.pyi, the record types for editors and type checkers.",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
