"""A strategy as a program: its own (``MyStrategy.main()``), or any class by name.

``python -m shmipc.trading.strategy ENGINE ID MODULE:CLASS`` is what ``StrategyManager.spawn``
starts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shmipc import Error
from shmipc.trading.strategy.runtime import POLICIES

if TYPE_CHECKING:
    from shmipc.trading.strategy.base import BaseStrategy

__all__ = ["load_class", "run_class", "run_named"]


def run_class(cls: type[BaseStrategy], argv: Sequence[str] | None = None) -> int:
    """Run a strategy as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(description=(cls.__doc__ or cls.__name__).splitlines()[0])
    parser.add_argument("--engine", metavar="NAME", help=f"default: {cls.engine}")
    parser.add_argument("--id", metavar="ID", help=f"default: {cls.strategy_id or cls.__name__}")
    _add_options(parser)
    options = parser.parse_args(argv)
    return _run(cls, options.id, options.engine, options)


def run_named(argv: Sequence[str] | None = None) -> int:
    """Run the class that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shmipc.trading.strategy")
    parser.add_argument("engine", metavar="ENGINE")
    parser.add_argument("id", metavar="ID")
    parser.add_argument("strategy", metavar="MODULE:CLASS")
    _add_options(parser)
    options = parser.parse_args(argv)
    try:
        cls = load_class(options.strategy)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        print(f"{parser.prog}: {options.strategy}: {error}", file=sys.stderr)
        return 2
    return _run(cls, options.id, options.engine, options)


def load_class(path: str) -> type[BaseStrategy]:
    """Return the subclass of BaseStrategy that ``MODULE:CLASS`` names.

    Raises ValueError, ImportError, AttributeError or TypeError where it names none.
    """
    from shmipc.trading.strategy.base import BaseStrategy

    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(f"{path!r} is not of the form MODULE:CLASS")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, BaseStrategy)):
        raise TypeError(f"{path!r} is no subclass of BaseStrategy")
    return found


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--symbols", metavar="A,B", help="only events of these symbols")
    parser.add_argument("--cpu", type=int, metavar="N", help="run on this CPU only")
    parser.add_argument(
        "--spin", type=float, metavar="S", help="seconds to poll before sleeping; inf: never sleep"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="seconds to wait for the engine (default: no end)",
    )
    parser.add_argument("--on-exception", choices=POLICIES)
    parser.add_argument(
        "--parameters", type=json.loads, default={}, metavar="JSON", help="constructor arguments"
    )
    parser.add_argument("--order-capacity", type=int, metavar="BYTES", help=argparse.SUPPRESS)


def _run(
    cls: type[BaseStrategy],
    strategy_id: str | None,
    engine: str | None,
    options: argparse.Namespace,
) -> int:
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    parameters = dict(options.parameters)
    if options.order_capacity is not None:
        parameters["order_capacity"] = options.order_capacity
    symbols = None if options.symbols is None else options.symbols.split(",")
    strategy = cls(strategy_id, engine=engine, symbols=symbols, **parameters)
    try:
        strategy.run(options.cpu, options.spin, options.timeout, options.on_exception)
    except (Error, OSError) as error:
        if strategy.errors:  # a callback's: its traceback is wanted
            raise
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
