"""Outlet: fill in, stamp, send and keep a record in one call."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from shmipc import Consumer, Producer
from shmipc._core import Dispatcher, Outlet, record_type

pytestmark = pytest.mark.binding

ORDER = np.dtype(
    [
        ("symbol", "S16"),
        ("ts_event", "<i8"),
        ("ts_init", "<i8"),
        ("id", "<i8"),
        ("price", "<f8"),
        ("ts_trigger", "<i8"),
        ("side", "i1"),
    ]
)
Order = record_type(ORDER, "Order", text=("symbol",))


@pytest.fixture
def ring() -> Iterator[tuple[Producer, Consumer]]:
    with (
        Producer("orders", capacity=4096, max_consumers=2) as producer,
        Consumer("orders") as consumer,
    ):
        yield producer, consumer


def received(consumer: Consumer) -> Any:
    with consumer.read(0) as frame:
        assert frame.kind == 7
        return Order(bytes(frame))


def test_the_record_goes_out_with_the_values_and_a_copy_is_kept(
    ring: tuple[Producer, Consumer],
) -> None:
    producer, consumer = ring
    kept: dict[int, Any] = {}
    outlet = Outlet(producer, Order, 7, fields=("id", "price"), kept=kept)
    prepared = Order(symbol="BTCUSDT", side=-1)
    before = bytes(prepared)
    assert outlet(prepared, 5, 2.5) is True
    assert bytes(prepared) == before
    seen = received(consumer)
    assert (seen.symbol, seen.side, seen.id, seen.price) == ("BTCUSDT", -1, 5, 2.5)
    assert kept == {5: seen}
    kept[5].price = 3.0  # a record of one's own


def test_times_are_the_systems_or_the_clocks(ring: tuple[Producer, Consumer]) -> None:
    producer, consumer = ring
    times = ("ts_event", "ts_init")
    before = time.time_ns()
    Outlet(producer, Order, 7, fields=(), times=times)(Order())
    seen = received(consumer)
    assert before <= seen.ts_event == seen.ts_init <= time.time_ns()
    Outlet(producer, Order, 7, fields=(), times=times, clock=lambda: 77)(Order())
    assert received(consumer).ts_init == 77


def test_the_trigger_is_the_event_that_is_being_handled(ring: tuple[Producer, Consumer]) -> None:
    producer, consumer = ring
    dispatcher = Dispatcher(time_off=24)
    outlet = Outlet(producer, Order, 7, fields=(), trigger="ts_trigger", dispatcher=dispatcher)
    with Producer("ticks", capacity=4096, max_consumers=2) as ticks, Consumer("ticks") as reader:
        dispatcher.add(reader, {1: (Order, lambda tick: outlet(Order()))})
        ticks.send(Order(ts_init=123), kind=1)
        assert dispatcher.run(timeout=0) == 1
    assert received(consumer).ts_trigger == 123
    outlet(Order())
    assert received(consumer).ts_trigger == 0


@pytest.mark.parametrize("had", [False, True])
def test_when_full_nothing_is_sent_or_kept(ring: tuple[Producer, Consumer], had: bool) -> None:
    producer, consumer = ring
    kept: dict[int, Any] = {}
    outlet = Outlet(producer, Order, 7, fields=("id",), kept=kept)
    sent = 0
    while outlet(Order(), sent):
        sent += 1
    assert list(kept) == list(range(sent))
    old = kept[0]
    assert outlet(Order(), 0 if had else 9999) is False
    assert len(kept) == sent
    assert kept[0] is old
    for number in range(sent):
        assert received(consumer).id == number


@pytest.mark.parametrize(
    ("values", "error"), [((1, "x"), TypeError), ((1 << 70, 1.0), OverflowError), ((1,), TypeError)]
)
def test_a_bad_value_sends_and_keeps_nothing(
    ring: tuple[Producer, Consumer], values: tuple[Any, ...], error: type[Exception]
) -> None:
    producer, consumer = ring
    kept: dict[int, Any] = {}
    outlet = Outlet(producer, Order, 7, fields=("id", "price"), kept=kept)
    record = Order(id=3)
    with pytest.raises(error):
        outlet(record, *values)
    assert (kept, record.id, consumer.pending) == ({}, 3, 0)


def test_what_is_kept_must_have_a_key_that_can_be_one(ring: tuple[Producer, Consumer]) -> None:
    producer, consumer = ring

    class NoKey(int):
        __hash__ = None  # type: ignore[assignment]

    kept: dict[int, Any] = {}
    with pytest.raises(TypeError, match="hash"):
        Outlet(producer, Order, 7, fields=("id",), kept=kept)(Order(), NoKey(5))
    assert consumer.pending == 0


def test_a_clock_that_raises_sends_nothing(ring: tuple[Producer, Consumer]) -> None:
    producer, consumer = ring
    outlet = Outlet(producer, Order, 7, fields=(), times=("ts_init",), clock=lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        outlet(Order())
    assert consumer.pending == 0


def test_after_close_it_raises(ring: tuple[Producer, Consumer]) -> None:
    producer, _ = ring
    kept: dict[int, Any] = {}
    outlet = Outlet(producer, Order, 7, fields=("id",), kept=kept)
    producer.close()
    with pytest.raises(EOFError):
        outlet(Order(), 1)
    assert kept == {}


def test_bad_arguments_are_refused(ring: tuple[Producer, Consumer]) -> None:
    producer, consumer = ring
    make: Any = Outlet
    with pytest.raises(ValueError, match="no field 'size'"):
        make(producer, Order, 7, fields=("size",))
    with pytest.raises(TypeError, match="takes no time"):
        make(producer, Order, 7, fields=(), times=("price",))
    with pytest.raises(TypeError, match="tuples"):
        make(producer, Order, 7)
    with pytest.raises(TypeError):
        make(consumer, Order, 7, fields=())
    with pytest.raises(TypeError):
        make(producer, dict, 7, fields=())
    with pytest.raises(ValueError, match="kind"):
        make(producer, Order, 0, fields=())
    with pytest.raises(TypeError):
        make(producer, Order, 7, fields=(), kept=[])
    outlet = make(producer, Order, 7, fields=())
    for bad in (5, record_type(ORDER, "Other")()):
        with pytest.raises(TypeError, match="owned record"):
            outlet(bad)
    with Producer("typed", dtype=ORDER, capacity=8) as typed, pytest.raises(TypeError):
        make(typed, Order, 7, fields=())


def test_an_outlet_in_a_cycle_is_collected(ring: tuple[Producer, Consumer]) -> None:
    class Owner:
        def __init__(self) -> None:
            self.kept: dict[int, Any] = {0: self}
            self.outlet = Outlet(ring[0], Order, 7, fields=(), clock=self.now, kept=self.kept)

        def now(self) -> int:
            return 0

    owner = Owner()
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_a_key_that_is_kept_already_is_replaced_and_comes_back_where_nothing_is_sent(
    ring: tuple[Producer, Consumer],
) -> None:
    producer, _ = ring
    kept: dict[int, Any] = {}
    outlet = Outlet(producer, Order, 7, fields=("id", "price"), kept=kept)
    sent = 0.0
    while outlet(Order(), 5, sent + 1.0):
        sent += 1.0
        gc.collect()
    assert sent > 10
    assert kept[5].price == sent
