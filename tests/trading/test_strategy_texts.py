"""A text that fills its field to the last byte is refused wherever an event enters."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from desk import Desk, accepted, desk, filled, order_of, tick
from shmipc import BaseStrategy, Consumer, Dispatcher, Producer, _core, record_type, run_backtest
from shmipc.trading.events import Custom, EventKind, Order, Tick
from shmipc.trading.market.exchange import Exchange
from shmipc.trading.strategy import StrategyManager
from shmipc.trading.strategy.protocol import check_custom

LONG = "A-SYMBOL-OF-MANY-BYTES"
REFUSED = r"field 'symbol' of a {} \(row {}\).*without a terminating zero"


def rows(made: Any = Tick, count: int = 3, bad: int = 1) -> Any:
    """Events as numpy makes them of a table: it cuts the long symbol to the field's 16 bytes."""
    array = np.zeros(count, made.dtype)
    array["symbol"] = "BTCUSDT"
    array["symbol"][bad] = LONG
    assert len(array["symbol"][bad]) == 16
    return array


def record(made: Any = Tick) -> Any:
    return made(rows(made)[1])


class Counts(BaseStrategy):
    seen = 0

    def on_tick(self, tick: Any) -> None:
        self.seen += 1


BROADCASTS: list[Callable[[StrategyManager], Any]] = [
    lambda engine: engine.broadcast_event(record()),
    lambda engine: engine.broadcast_event(rows()[1]),
    lambda engine: engine.broadcast_event(rows()[1:2]),
    lambda engine: engine.broadcast_event(record(), filter=["s"]),
    lambda engine: engine.broadcast_event(rows()[1], filter=["s"]),
    lambda engine: engine.broadcast_batch(rows()),
    lambda engine: engine.broadcast_batch([tick(), record()]),
    lambda engine: engine.broadcast_batch(iter([tick(), rows()[1]])),
]


@pytest.mark.parametrize("broadcast", BROADCASTS, ids=range(len(BROADCASTS)))
def test_a_broadcast_refuses_it_and_sends_nothing(
    broadcast: Callable[[StrategyManager], Any],
) -> None:
    strategy = Counts("s")
    with desk() as made:
        made.join(strategy)
        with pytest.raises(ValueError, match=r"field 'symbol' of a Tick.*terminating zero"):
            broadcast(made.manager)
        made.settle()
        assert strategy.seen == 0


def test_every_text_is_looked_at() -> None:
    event = np.zeros((), Custom.dtype)
    event["text"] = "x" * 64
    with (
        StrategyManager("engine") as engine,
        pytest.raises(ValueError, match="field 'text' of a Custom"),
    ):
        engine.broadcast_event(event)


def ordered(made: Desk) -> Any:
    strategy = Counts("s")
    runtime = made.join(strategy)
    strategy.buy("BTCUSDT", 1.0, 100.0)
    made.settle()
    assert runtime.connected
    return made.orders[-1][1]


def test_a_report_is_refused_and_not_booked() -> None:
    with desk() as made:
        order = ordered(made)
        bad = filled(order)
        np.asarray(bad)["symbol"] = LONG
        for report in (bad, np.asarray(bad), np.asarray(bad).reshape(1)):
            with pytest.raises(ValueError, match=REFUSED.format("Trade", 0)):
                made.manager.report("s", report)
            with pytest.raises(ValueError, match=REFUSED.format("Trade", 0)):
                made.manager.restore("s", [filled(order), report])
        assert made.manager._roster.links["s"].positions == {}


def test_a_report_that_has_to_wait_is_refused_too() -> None:
    with StrategyManager("engine", report_capacity=4096) as engine:
        engine.register_strategy("s")
        order = order_of()
        while not engine._roster.links["s"].waiting:
            engine.report("s", accepted(order))
        bad = accepted(order)
        np.asarray(bad)["text"] = "x" * 32
        with pytest.raises(ValueError, match="field 'text' of a Order"):
            engine.report("s", bad)
        assert len(engine._roster.links["s"].waiting) == 1
        engine.close(discard=True)


def test_an_order_of_a_foreign_strategy_is_rejected_at_the_engine() -> None:
    """One in C can fill in all 16 bytes."""
    strategy = Counts("s")
    with desk() as made:
        made.join(strategy)
        heard: list[Any] = []
        strategy.on_order = lambda order: heard.append(order.copy())  # type: ignore[method-assign]
        bad = order_of(client_order_id=5)
        np.asarray(bad)["symbol"] = LONG
        runtime = made.runtimes["s"]
        assert runtime.session.orders is not None
        runtime.session.orders.send(bytes(bad), kind=EventKind.ORDER)
        made.settle()
        assert made.orders == []
        assert 5 not in made.manager._roster.links["s"].open
        assert 5 not in strategy.orders
        assert made.manager.list_strategies()[0].orders == 1


def test_a_backtest_refuses_it_in_any_source(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    for source in (rows(), [rows()], [(EventKind.TICK, rows())]):
        for exchange in (None, Exchange()):
            strategy = Counts("s")
            with pytest.raises(ValueError, match="terminating zero"):
                run_backtest(strategy, source, exchange=exchange)
            assert strategy.seen == 1


def test_the_exchange_refuses_it() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Exchange().on_event(EventKind.TICK, rows()[1])


def test_a_ring_and_an_outlet_refuse_a_record() -> None:
    order = order_of()
    with Producer("r", capacity=4096) as producer, Consumer("r") as consumer:
        with pytest.raises(ValueError, match=REFUSED.format("Tick", 0)):
            producer.send(record())
        outlet = _core.Outlet(producer, Order, 5, fields=("price",), dispatcher=Dispatcher())
        np.asarray(order)["symbol"] = LONG
        with pytest.raises(ValueError, match=REFUSED.format("Order", 0)):
            outlet(order, 1.0)
        assert consumer.pending == 0
    made = record_type(Tick.dtype, text=("symbol",))
    with Producer("t", dtype=Tick.dtype, capacity=4) as typed, Consumer("t") as consumer:
        with pytest.raises(ValueError, match="terminating zero"):
            typed.send(made(rows()[1]))
        typed.send(rows()[1])  # plain bytes in a typed ring: their owner's business
        consumer.read().release()
        assert consumer.pending == 0


def test_an_event_of_ones_own_has_its_symbol_as_text() -> None:
    plain = record_type([*Custom.dtype.descr[:3], ("more", "<f8", (4,))])
    with pytest.raises(ValueError, match=r"record_type\(dtype, text=\('symbol',\)\)"):
        check_custom({2000: plain})


def test_check_texts_takes_records_and_arrays() -> None:
    _core.check_texts(Tick, rows()[:1])
    _core.check_texts(Tick, tick())
    with pytest.raises(ValueError, match=REFUSED.format("Tick", 1)):
        _core.check_texts(Tick, rows())
    with pytest.raises(ValueError, match="bytes are no records"):
        _core.check_texts(Order, rows(Custom))
    with pytest.raises(TypeError):
        _core.check_texts(Tick, b"")
    with pytest.raises(TypeError):
        _core.check_texts(int, tick())  # type: ignore[arg-type]
