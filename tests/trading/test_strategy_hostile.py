"""What a hostile or broken client can do to an engine through its rings: nothing to the others.

The client is a hand-made Producer in place of a strategy, or a file. The engine is in this process,
and so is a second, honest client that must not notice.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from desk import desk, discard_rings, order_of, tick
from helpers import SLOT0, Peer, segment_path
from shmipc import Consumer, Corrupt, Full, Producer
from shmipc.trading.events import EventKind, Order, Side
from shmipc.trading.strategy import StrategyManager
from shmipc.trading.strategy.protocol import (
    CONTROL_TYPES,
    Control,
    Hello,
    orders_ring,
    reports_ring,
)

ORDER = int(EventKind.ORDER)


class Floor:
    """An engine with a client "bad", whose ring is up to the test, and an honest one."""

    def __init__(self, **options: Any) -> None:
        self.manager = StrategyManager("floor", **options)
        self.orders: list[tuple[str, Any]] = []
        for name in ("bad", "honest"):
            self.manager.register_strategy(name)
        self.honest = Producer(orders_ring("floor", "honest"), max_consumers=1, capacity=1 << 16)
        self.sent = 0

    def receive(self, rounds: int = 3) -> None:
        for _ in range(rounds):
            self.manager.poll()  # looks for rings, whatever the time is
            self.manager.receive_orders(lambda who, order: self.orders.append((who, order.copy())))

    def honest_is_served(self) -> None:
        self.sent += 1
        self.honest.send(order_of(client_order_id=self.sent), kind=ORDER)
        self.receive()
        mine = [order.client_order_id for who, order in self.orders if who == "honest"]
        assert mine == list(range(1, self.sent + 1))
        self.manager.broadcast_event(tick())

    def of_bad(self) -> list[Any]:
        return [order for who, order in self.orders if who == "bad"]

    def info(self, place: int = 0) -> Any:
        return self.manager.list_strategies()[place]

    def close(self) -> None:
        self.honest.close()
        self.receive()
        self.manager.close()


@pytest.fixture
def floor() -> Iterator[Floor]:
    made = Floor()
    yield made
    made.close()
    for ring in (orders_ring, reports_ring):
        segment_path(ring("floor", "bad")).unlink(missing_ok=True)
    discard_rings("floor", "honest")


def bad_orders(**options: Any) -> Producer:
    return Producer(
        orders_ring("floor", "bad"), **{"capacity": 1 << 16, "max_consumers": 1, **options}
    )


# ---- bytes ---------------------------------------------------------------------------------------


def test_no_bytes_of_any_kind_raise_or_reach_others(
    floor: Floor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    rng = random.Random(1)
    kinds = [*range(1, 12), *range(511, 523), 1024, 65535]
    values: dict[str, list[Any]] = {
        "symbol": ["A", "", "B" * 15],
        "client_order_id": [1, 0, -1, 2**63 - 1, -(2**63), 7, 8, 9],
        "quantity": [1.0, float("nan"), -1.0, float("inf"), 0.0, 1e308],
        "price": [1.0, float("nan"), float("-inf"), 0.0],
        "side": [0, 1, -1, 5, -128],
        "order_type": [0, 1, 2, 3, 4, 5, 255],
        "time_in_force": [0, 1, 5, 6, 77],
        "status": [0, 1, 4, 255],
        "action": [0, 1, 1, 1, 2, 3, 4, 255],
    }
    with bad_orders(capacity=1 << 20) as bad:
        for turn in range(4_000):
            if rng.random() < 0.5:
                order = order_of(**{name: rng.choice(some) for name, some in values.items()})
                raw, kind = bytes(order), ORDER
            else:
                kind = rng.choice(kinds)
                made = CONTROL_TYPES.get(kind)
                size = made.dtype.itemsize if made and rng.random() < 0.7 else rng.randrange(300)
                raw = rng.choice([rng.randbytes(size), bytes(size), b"\xff" * size])
            bad.try_send(raw, kind=kind, flags=rng.choice([0, 0, 1, 2, 255]))
            if turn % 100 == 0:
                floor.receive(1)
        floor.honest_is_served()
        assert floor.info().errors != 0 or caplog.records == []
    for order in floor.of_bad():
        if order.action == 1:
            assert order.side in (Side.BUY, Side.SELL)
            assert 0 < order.quantity < float("inf")
            assert order.client_order_id > 0
            assert 1 <= order.order_type <= 4
            assert 1 <= order.time_in_force <= 5
            assert order.order_type == 1 or np.isfinite(order.price)
    assert len(floor.of_bad()) > 20


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("side", 5, "side"),
        ("side", 0, "side"),
        ("order_type", 0, "order type"),
        ("order_type", 5, "order type"),
        ("time_in_force", 0, "time in force"),
        ("time_in_force", 6, "time in force"),
    ],
)
def test_enumerations_are_refused_where_they_are_none(
    floor: Floor, field: str, value: int, why: str
) -> None:
    with bad_orders() as bad:
        bad.send(order_of(**{field: value}), kind=ORDER)
        floor.receive()
        assert floor.of_bad() == []
        assert floor.info().orders == 1
        report = Order(segment_reports(floor)[-1])
        assert why in report.text


def segment_reports(floor: Floor) -> list[bytes]:
    from shmipc import Empty

    found = []
    with Consumer(reports_ring("floor", "bad")) as reader:
        while True:
            try:
                found.append(reader.recv(timeout=0))
            except Empty:
                return found


def test_who_says_hello_for_ever_and_hears_nothing_fills_no_memory() -> None:
    floor = Floor(instruments=[f"S{i}" for i in range(100)], report_capacity=4096)
    floor.manager.broadcast_event(tick("S1"))
    with bad_orders() as bad:
        for session in range(1, 501):
            bad.send(Hello(session=session, pid=1, slot=0, version=1), kind=Control.HELLO)
            floor.receive(1)
        assert floor.info().waiting_reports < 200
        floor.sent = 0
    floor.honest.send(order_of(symbol="S1"), kind=ORDER)
    floor.receive()
    assert [who for who, _ in floor.orders] == ["honest"]
    floor.close()
    discard_rings("floor", "bad", "honest")


def test_bye_of_somebody_who_goes_on_is_believed_no_longer_than_it_is_true(floor: Floor) -> None:
    with bad_orders() as bad:
        for kind in (Control.BYE, Control.HELLO, Control.BYE):
            bad.send(bytes(CONTROL_TYPES[kind].dtype.itemsize), kind=kind)
            floor.receive()
        bad.send(order_of(), kind=ORDER)
        floor.receive()
        assert len(floor.of_bad()) == 1


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 4096, 100_000])
def test_foreign_file_in_place_of_the_orders_stops_nobody(
    floor: Floor, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = segment_path(orders_ring("floor", "bad"))
    path.write_bytes(random.Random(size).randbytes(size))
    floor.honest_is_served()
    floor.honest_is_served()
    assert len([record for record in caplog.records if "bad" in record.getMessage()]) <= 1
    path.unlink()
    with bad_orders() as bad:  # and when it is gone all is well
        bad.send(order_of(), kind=ORDER)
        floor.receive()
        assert len(floor.of_bad()) == 1


def test_directory_in_place_of_the_orders_stops_nobody(floor: Floor) -> None:
    path = segment_path(orders_ring("floor", "bad"))
    path.mkdir()
    floor.honest_is_served()
    path.rmdir()


def test_ring_of_another_sort_in_place_of_the_orders_stops_nobody(floor: Floor) -> None:
    with bad_orders(dtype=Order.dtype, capacity=1024) as bad:
        bad.send(np.zeros((), Order.dtype))
        floor.honest_is_served()
        floor.honest_is_served()
    floor.honest_is_served()


def test_orders_that_are_cut_stop_nobody(floor: Floor) -> None:
    bad = bad_orders()
    bad.send(order_of(), kind=ORDER)
    floor.receive()
    bad.send(order_of(client_order_id=2), kind=ORDER)
    os.truncate(segment_path(orders_ring("floor", "bad")), 100)
    floor.honest_is_served()
    floor.honest_is_served()
    bad.close()


def test_reports_that_are_cut_stop_nobody(floor: Floor) -> None:
    with bad_orders() as bad:
        floor.receive()
        os.truncate(segment_path(reports_ring("floor", "bad")), 100)
        with pytest.raises(Corrupt):
            floor.manager.report("bad", order_of())
        bad.send(Hello(session=1, pid=1, slot=0, version=1), kind=Control.HELLO)
        bad.send(order_of(side=0), kind=ORDER)
        bad.send(order_of(), kind=ORDER)
        floor.honest_is_served()
        assert len(floor.of_bad()) == 1
        assert floor.manager.drain(timeout=5)


def test_reports_that_are_cut_while_some_wait_stop_nobody() -> None:
    floor = Floor(report_capacity=4096)
    for number in range(100):
        floor.manager.report("bad", order_of(client_order_id=number + 1))
    assert floor.info().waiting_reports > 0
    path = segment_path(reports_ring("floor", "bad"))
    os.truncate(path, 100)
    floor.honest_is_served()
    floor.close()
    path.unlink(missing_ok=True)
    discard_rings("floor", "honest")


def test_events_that_are_cut_are_an_error_of_the_broadcast_alone(tmp_path: Path) -> None:
    with desk() as made:
        made.manager.register_strategy("s")
        os.truncate(segment_path("desk.events"), 100)
        with pytest.raises(Corrupt):
            made.manager.broadcast_event(tick())
        made.manager.receive_orders(made.take)
    segment_path("desk.events").unlink(missing_ok=True)


# ---- eviction ------------------------------------------------------------------------------------


def test_a_pid_that_belongs_to_somebody_else_is_not_killed() -> None:
    """As when /dev/shm is shared with a container: its processes have other numbers there."""
    floor = Floor(slow="evict", patience=0.1, capacity=4096)
    with Peer("say('ready'); hear(); say('alive'); hear()") as innocent, bad_orders() as bad:
        innocent.expect()
        reader = Consumer("floor.events")
        slot = reader.slot
        with open(segment_path("floor.events"), "rb+") as file:
            file.seek(SLOT0 + 128 * slot + 8)
            file.write(innocent.pid.to_bytes(4, "little"))
        hello = Hello(session=1, pid=innocent.pid, slot=slot, version=1)
        bad.send(hello, kind=Control.HELLO)
        floor.receive()
        with pytest.raises(Full):
            floor.manager.broadcast_batch([tick()] * 1000, timeout=1)
        assert floor.info().state == "connected"
        innocent.tell()
        innocent.expect("alive")
        reader.close()
    floor.close()
    discard_rings("floor", "bad", "honest")
