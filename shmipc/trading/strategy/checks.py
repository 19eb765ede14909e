"""Mistakes in a strategy's class that would otherwise show as silence: callbacks never called.

Rules this file keeps:

- Found when the class is made; what is set on an object, or left out of its making, when it starts.
- An error names the class, what would come of it, and the nearest right name.
- A name that begins with ``on_`` and resembles no callback may be a helper: a warning.
"""

from __future__ import annotations

import difflib
import inspect
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

__all__ = ["check_class", "check_object", "check_parameter", "check_symbols"]

_MARKET = ("on_tick", "on_ticker", "on_trade_tick", "on_order_book", "on_bar", "on_custom")
_ALIKE = 0.75  # of difflib's ratio: on_trades is on_trade, on_signal is nothing of ours


def check_symbols(given: Iterable[str] | None, what: str = "symbols") -> tuple[str, ...] | None:
    """Return symbols as a tuple, or None, which stands for all.

    Raises TypeError for a str, ValueError where there are none.
    """
    if given is None:
        return None
    if isinstance(given, (str, bytes)):
        kind = type(given).__name__
        raise TypeError(
            f"{what} must be an iterable of str, not {kind}; did you mean ({given!r},)?"
        )
    chosen = tuple(given)
    if not chosen:
        raise ValueError(f"{what} is empty, so that no event would come: None means all")
    return chosen


def check_class(cls: type, base: type) -> None:
    """Raise TypeError or ValueError where a subclass of `base` has a mistake. Once a class."""
    for part in cls.__mro__:
        if part in base.__mro__ or (part is not cls and issubclass(part, base)):
            continue
        _check_names(cls.__name__, vars(part), base)
        symbols: Any = vars(part).get("symbols")
        if hasattr(symbols, "__len__"):
            check_symbols(symbols, f"{cls.__name__}.symbols")
    batch, tick = _owner(cls, "on_batch", base), _owner(cls, "on_tick", base)
    for name in _MARKET:
        owner = _owner(cls, name, base)
        if owner is not None and batch is not None and issubclass(owner, batch):
            _refuse_beside_batch(cls.__name__, name)
    owner = _owner(cls, "on_ticker", base)
    if owner is not None and tick is not None and issubclass(owner, tick):
        raise TypeError(
            f"{cls.__name__} has on_tick and on_ticker, which mean the same, and on_ticker would "
            "never be called: keep one"
        )


def check_object(strategy: Any, base: type) -> None:
    """Raise where a strategy cannot be run as it was made."""
    cls = type(strategy)
    if "_custom_types" not in vars(strategy):
        raise RuntimeError(
            f"{cls.__name__}.__init__ does not call super().__init__(): let it take *args and "
            "**kwargs, and begin with super().__init__(*args, **kwargs)"
        )
    _check_names(cls.__name__, vars(strategy), base)
    if _owner(cls, "on_batch", base) is not None or "on_batch" in vars(strategy):
        for name in _MARKET:
            if name in vars(strategy):
                _refuse_beside_batch(cls.__name__, name)


def check_parameter(cls: type, base: type, name: str) -> None:
    """Raise TypeError unless the class has an attribute or an annotation of this name."""
    known = _parameters(cls, base)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"{cls.__name__} has no parameter {name!r}{hint}")


def _parameters(cls: type, base: type) -> set[str]:
    names = {name for name in dir(cls) if not callable(getattr(cls, name, None))}
    for part in cls.__mro__:
        if part not in base.__mro__:
            names.update(_annotations(part))
    return {name for name in names if not name.startswith("_")}


def _annotations(cls: type) -> Iterable[str]:
    if sys.version_info >= (3, 14):  # they are evaluated when asked for, and may name what is not
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    found: Mapping[str, Any] = vars(cls).get("__annotations__", {})
    return found


def _callbacks(base: type) -> list[str]:
    return [name for name, value in vars(base).items() if name[:3] == "on_" and callable(value)]


def _owner(cls: type, name: str, base: type) -> type | None:
    """Return the class that a callback is of, or None where it is the base's own.

    What a subclass has beside a callback that it inherits may replace it on purpose; what is beside
    one in its own class, or below it, was written to be called.
    """
    if getattr(cls, name) is getattr(base, name):
        return None
    return next(part for part in cls.__mro__ if name in vars(part))


def _check_names(cls: str, members: Mapping[str, Any], base: type) -> None:
    callbacks = _callbacks(base)
    for name, value in members.items():
        function = getattr(value, "__func__", value)  # of a staticmethod, a bound method
        if not name.startswith("on_") or not callable(function):
            continue
        if name not in callbacks:
            _refuse_name(cls, name, callbacks)
        for is_kind, what in (
            (inspect.iscoroutinefunction, "a coroutine function (async def)"),
            (inspect.isasyncgenfunction, "an asynchronous generator"),
            (inspect.isgeneratorfunction, "a generator (it has a yield)"),
        ):
            if is_kind(function):
                raise TypeError(
                    f"{cls}.{name} is {what}: a callback is only called, so nothing of it would "
                    "run. Make it a plain def"
                )


def _refuse_name(cls: str, name: str, callbacks: list[str]) -> None:
    near = difflib.get_close_matches(name, callbacks, 1, _ALIKE)
    if near:
        raise TypeError(
            f"{cls}.{name} is no callback and would never be called: did you mean {near[0]}? (The "
            "name of a helper begins with something else than on_)"
        )
    warnings.warn(
        f"{cls}.{name} is no callback, and shmipc never calls it: callbacks are "
        f"{', '.join(callbacks)}",
        stacklevel=5,
    )


def _refuse_beside_batch(cls: str, name: str) -> NoReturn:
    raise TypeError(
        f"{cls} has on_batch, which gets every market event, and {name}, which would never be "
        "called: keep one"
    )
