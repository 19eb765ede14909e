"""Any strategy by name: ``python -m shmipc.trading.strategy ENGINE ID MODULE:CLASS``.

That is what ``StrategyManager.spawn`` starts.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from shmipc.trading.strategy.base import BaseStrategy
from shmipc.trading.strategy.command import add_options, run_with

__all__ = ["load_class", "run_named"]


def run_named(argv: Sequence[str] | None = None) -> int:
    """Run the class that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shmipc.trading.strategy")
    parser.add_argument("engine", metavar="ENGINE")
    parser.add_argument("id", metavar="ID")
    parser.add_argument("strategy", metavar="MODULE:CLASS")
    add_options(parser)
    options = parser.parse_args(argv)
    try:
        cls = load_class(options.strategy)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        print(f"{parser.prog}: {options.strategy}: {error}", file=sys.stderr)
        return 2
    return run_with(cls, options.id, options.engine, options)


def load_class(path: str) -> type[BaseStrategy]:
    """Return the subclass of BaseStrategy that ``MODULE:CLASS`` names.

    Raises ValueError, ImportError, AttributeError or TypeError where it names none.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(f"{path!r} is not of the form MODULE:CLASS")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, BaseStrategy)):
        raise TypeError(f"{path!r} is no subclass of BaseStrategy")
    return found
