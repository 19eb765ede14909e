"""A strategy as a program: its arguments, its exit status. BaseStrategy stands on this file."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from shmipc._core import Error
from shmipc.trading.strategy.runtime import POLICIES

__all__ = ["add_options", "run_class", "run_with"]


def run_class(cls: Any, argv: Sequence[str] | None = None) -> int:
    """Run a subclass of BaseStrategy as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(description=(cls.__doc__ or cls.__name__).splitlines()[0])
    parser.add_argument("--engine", metavar="NAME", help=f"default: {cls.engine}")
    parser.add_argument("--id", metavar="ID", help=f"default: {cls.strategy_id or cls.__name__}")
    add_options(parser)
    options = parser.parse_args(argv)
    return run_with(cls, options.id, options.engine, options)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every strategy's program understands."""
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


def run_with(
    cls: Any,
    strategy_id: str | None,
    engine: str | None,
    options: argparse.Namespace,
) -> int:
    """Run an instance of `cls`; return the exit status."""
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
