"""A time limit that is NaN is refused: no comparison with it would ever end the wait."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from desk import desk
from shmipc import Full, StrategyManager
from shmipc.trading.events import Tick
from shmipc.trading.strategy import BaseStrategy

NAN = math.nan

WAITS: dict[str, Callable[[StrategyManager], object]] = {
    "receive_orders": lambda manager: manager.receive_orders(print, timeout=NAN),
    "wait": lambda manager: manager.wait(timeout=NAN),
    "wait_until_connected": lambda manager: manager.wait_until_connected(timeout=NAN),
    "drain": lambda manager: manager.drain(timeout=NAN),
    "broadcast_batch": lambda manager: manager.broadcast_batch([], timeout=NAN),
    "broadcast to some": lambda manager: manager.broadcast_event(
        Tick(symbol="XY"), ["s"], timeout=NAN
    ),
    "unregister": lambda manager: manager.unregister_strategy("s", grace=NAN),
    "close": lambda manager: manager.close(grace=NAN),
}


@pytest.mark.parametrize("name", WAITS)
def test_an_engine_refuses_it_and_stays_as_it_is(name: str) -> None:
    with desk() as made:
        made.manager.register_strategy("s")
        with pytest.raises(ValueError, match=r"(timeout|grace) is a number of seconds, not nan"):
            WAITS[name](made.manager)
        assert [info.strategy_id for info in made.manager.list_strategies()] == ["s"]


def test_an_engine_refuses_it_where_a_broadcast_has_to_wait() -> None:
    class Sleeps(BaseStrategy):
        """Reads nothing but what it is stepped for."""

        def on_tick(self, tick: Any) -> None:
            """Has it sent to us."""

    with desk(capacity=4096) as made:
        made.join(Sleeps("s"))
        rows = np.zeros(100, Tick.dtype)
        with pytest.raises(Full):
            made.manager.broadcast_batch(rows, timeout=0)
        with pytest.raises(ValueError, match="timeout"):
            made.manager.broadcast_event(rows[0], timeout=NAN)


def test_a_strategy_refuses_it(shm_dir: Path) -> None:
    with pytest.raises(ValueError, match="timeout is a number of seconds"):
        BaseStrategy("s").run(timeout=NAN)
    assert list(shm_dir.iterdir()) == []
