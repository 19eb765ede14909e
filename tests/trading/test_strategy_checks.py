"""A callback that would never be called is found when the class is made, or when it starts."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import pytest

from desk import desk, tick
from shmipc import run_backtest
from shmipc.trading.events import Tick
from shmipc.trading.strategy import BaseStrategy, StrategyManager


def make(**members: Any) -> type[BaseStrategy]:
    return type("Probe", (BaseStrategy,), members)


async def coroutine(self: Any, event: Any) -> None:
    pass


def generator(self: Any, event: Any) -> Any:
    yield


async def asynchronous_generator(self: Any, event: Any) -> Any:
    yield


def plain(self: Any, *arguments: Any) -> None:
    pass


class TestWhenTheClassIsMade:
    @pytest.mark.parametrize(
        ("wrong", "right"),
        [
            ("on_trades", "on_trade"),
            ("on_ticks", "on_tick"),
            ("on_orderbook", "on_order_book"),
            ("on_connect", "on_connected"),
            ("on_starts", "on_start"),
            ("on_positions", "on_position"),
        ],
    )
    def test_a_misnamed_callback_is_told_its_right_name(self, wrong: str, right: str) -> None:
        with pytest.raises(TypeError, match=rf"Probe\.{wrong} .*did you mean {right}\?"):
            make(**{wrong: plain})

    def test_a_name_like_none_is_a_warning(self) -> None:
        with pytest.warns(UserWarning, match=r"Probe\.on_signal is no callback.*on_tick"):
            make(on_signal=plain)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make(on_tick=plain, onward=plain, on_exception="log", _on_signal=plain)

    @pytest.mark.parametrize(
        ("function", "what"),
        [
            (coroutine, "a coroutine"),
            (generator, "a generator"),
            (asynchronous_generator, "an asynchronous generator"),
        ],
    )
    def test_what_would_not_run_when_called_is_an_error(self, function: Any, what: str) -> None:
        with pytest.raises(TypeError, match=rf"Probe\.on_tick is {what}.*plain def"):
            make(on_tick=function)
        with pytest.raises(TypeError, match=r"Probe\.on_stop is"):
            make(on_stop=staticmethod(function))

    def test_a_mixin_is_looked_at_too(self) -> None:
        mixin = type("Mixin", (), {"on_trades": plain})
        with pytest.raises(TypeError, match="did you mean on_trade"):
            type("Probe", (mixin, BaseStrategy), {})

    @pytest.mark.parametrize("name", ["on_tick", "on_ticker", "on_bar", "on_custom"])
    def test_on_batch_beside_what_it_takes_the_events_of(self, name: str) -> None:
        with pytest.raises(TypeError, match=f"on_batch.*{name}, which would never"):
            make(on_batch=plain, **{name: plain})
        with pytest.raises(TypeError, match=f"on_batch.*{name}, which would never"):
            type("Child", (make(on_batch=plain),), {name: plain})
        type("Child", (make(**{name: plain}),), {"on_batch": plain})  # instead of the inherited one
        make(on_batch=plain, on_order=plain, on_timer=plain)

    def test_on_tick_beside_on_ticker(self) -> None:
        with pytest.raises(TypeError, match="on_tick and on_ticker"):
            make(on_tick=plain, on_ticker=plain)
        with pytest.raises(TypeError, match="on_tick and on_ticker"):
            type("Child", (make(on_tick=plain),), {"on_ticker": plain})
        type("Child", (make(on_ticker=plain),), {"on_tick": plain})

    def test_symbols(self) -> None:
        with pytest.raises(TypeError, match=r"Probe\.symbols .*did you mean \('X',\)\?"):
            make(symbols="X")
        with pytest.raises(ValueError, match=r"Probe\.symbols is empty.*None means all"):
            make(symbols=())
        make(symbols=None)
        make(symbols=["X"])


class TestWhenItStarts:
    def test_symbols_of_the_constructor(self) -> None:
        with pytest.raises(ValueError, match="symbols is empty"):
            make()("s", symbols=[])
        with pytest.raises(TypeError, match="did you mean"):
            make()("s", symbols="X")

    def test_symbols_of_the_engine(self) -> None:
        with StrategyManager("engine") as engine:
            with pytest.raises(ValueError, match="symbols is empty"):
                engine.register_strategy("s", symbols=[])
            with pytest.raises(TypeError, match=r"did you mean \('X',\)"):
                engine.register_strategy("s", symbols="X")
            assert engine.list_strategies() == []
        with pytest.raises(TypeError, match=r"instruments must be an iterable"):
            StrategyManager("engine", instruments="X")

    def test_a_forgotten_super_init(self) -> None:
        class Forgets(BaseStrategy):
            def __init__(self) -> None:
                self.size = 1.0

        strategy = Forgets()
        assert "not connected" in repr(strategy)
        with pytest.raises(RuntimeError, match=r"Forgets\.__init__ does not call super"):
            strategy.run(timeout=0)
        with pytest.raises(RuntimeError, match=r"Forgets\.__init__ does not call super"):
            run_backtest(strategy, np.zeros(1, Tick.dtype))

    def test_what_is_set_on_the_object(self) -> None:
        for name, function, said in (
            ("on_trades", plain, "did you mean on_trade"),
            ("on_order", coroutine, "plain def"),
            ("on_tick", plain, "on_tick, which would never"),
        ):
            strategy = make(on_batch=plain)("s")
            setattr(strategy, name, function)
            with pytest.raises(TypeError, match=said):
                strategy.run(timeout=0)


class Annotated(BaseStrategy):
    size: int
    seen: ClassVar[int] = 0
    limit = 1.5

    def on_tick(self, tick: Any) -> None:
        self.buy("BTCUSDT", self.size, self.limit)


class TestParameters:
    def test_one_that_is_only_annotated_is_one(self) -> None:
        strategy = Annotated("s", size=3)
        assert strategy.parameters == {"size": 3}
        with desk() as made:
            made.join(strategy)
            made.manager.broadcast_event(tick())
            made.settle()
            assert made.orders[0][1].quantity == 3.0

    def test_one_that_is_inherited_is_one(self) -> None:
        child = type("Child", (Annotated,), {})
        assert child("s", size=2, limit=1.0).parameters == {"size": 2, "limit": 1.0}

    @pytest.mark.parametrize("name", ["sise", "on_tick", "buy", "_now", "_pad", "connected_"])
    def test_others_are_none(self, name: str) -> None:
        with pytest.raises(TypeError, match=f"Annotated has no parameter '{name}'"):
            Annotated("s", **{name: 1})

    def test_the_nearest_is_named(self) -> None:
        with pytest.raises(TypeError, match="did you mean 'size'"):
            Annotated("s", sise=1)
