"""StrategyManager.stop() of strategies that the engine did not spawn."""

from __future__ import annotations

import os
import signal

import pytest

from desk import Engine, accepted, strategy_peer, tick
from helpers import DEADLINE
from shmipc.trading.events import OrderAction
from shmipc.trading.strategy import UnknownStrategy


def test_one_that_was_not_spawned_is_asked() -> None:
    with Engine() as engine, strategy_peer("Teller", "s") as peer:
        engine.register_strategy("s")
        engine.connected("s")
        assert engine.stop("s", grace=DEADLINE)
        for line in ("connected", "start 0 0", "stop", "done"):
            peer.expect(line)
        peer.finish()
        engine.until(lambda: engine.state("s") == "stopped")
        assert engine.stop("s"), "it runs no more"
        with strategy_peer("Teller", "s") as successor:
            engine.connected("s")
            successor.expect("connected")
            assert engine.stop("s", grace=DEADLINE)


def test_what_it_orders_at_its_end_is_received() -> None:
    with Engine() as engine, strategy_peer("CancelsAtTheEnd", "s") as peer:
        engine.register_strategy("s")
        engine.connected("s")
        engine.broadcast_event(tick())
        [(_, order)] = engine.expect_orders(1)
        engine.report("s", accepted(order))
        assert engine.stop("s", grace=DEADLINE)
        peer.finish()
        [(_, last)] = engine.expect_orders(1)
        assert last.action == OrderAction.CANCEL


def test_one_that_does_not_listen_is_told_of() -> None:
    with Engine() as engine, strategy_peer("Quiet", "s") as peer:
        engine.register_strategy("s")
        engine.connected("s")
        os.kill(peer.pid, signal.SIGSTOP)
        assert not engine.stop("s", grace=0.1)
        peer.kill()
        with strategy_peer("Quiet", "s") as successor:
            engine.until(lambda: engine.list_strategies()[0].pid == successor.pid)
            engine.broadcast_event(tick())
            assert engine.drain(DEADLINE), "what the dead one was asked is not for its successor"
            assert engine.state("s") == "connected"
            assert successor.process.poll() is None


def test_one_that_never_came_or_is_not_known() -> None:
    with Engine() as engine:
        engine.register_strategy("s")
        assert engine.stop("s")
        with pytest.raises(UnknownStrategy):
            engine.stop("t")
