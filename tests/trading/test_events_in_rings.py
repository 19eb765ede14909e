"""Rows of an array as messages, the lag of each consumer, and the last record of each symbol."""

from __future__ import annotations

import os

import numpy as np
import pytest

import shmipc
from dispatching import (
    EVENT,
    OTHER,
    Event,
    Rig,
    event,
)
from shmipc import Consumer, Producer
from shmipc._core import Latest


def test_send_many_makes_each_row_of_an_array_a_message_of_the_kind(rig: Rig) -> None:
    rows = np.zeros(3, OTHER)
    rows["number"] = [1, 2, 3]
    assert rig.producer.send_many(rows, kind=9, flags=4) == 3
    for number in (1, 2, 3):
        with rig.consumer.read(0) as frame:
            assert (frame.kind, frame.flags, bytes(frame)) == (9, 4, rows[number - 1].tobytes())
    assert rig.producer.send_many([b"a"], kind=8) == 1
    assert rig.consumer.read(0).kind == 8
    assert rig.producer.send_many(rows[:0]) == 0


def test_send_many_of_rows_tells_how_many_went_when_the_ring_is_full(rig: Rig) -> None:
    rows = np.zeros(5000, EVENT)
    sent = rig.producer.send_many(rows, timeout=0)
    assert 0 < sent < 5000
    assert rig.consumer.pending == sent
    with pytest.raises(shmipc.Full) as raised:
        rig.producer.send_many(rows, timeout=0)
    assert raised.value.sent == 0  # type: ignore[attr-defined]


def test_send_many_of_rows_larger_than_the_ring_is_refused(rig: Rig) -> None:
    rows = np.zeros(2, np.dtype([("a", "V70000")]))
    with pytest.raises(ValueError, match="larger"):
        rig.producer.send_many(rows)


def test_send_many_with_a_kind_in_a_typed_ring_is_refused(ring_name: str) -> None:
    with (
        Producer(ring_name, dtype=EVENT, capacity=8) as producer,
        pytest.raises(ValueError, match="typed"),
    ):
        producer.send_many(np.zeros(1, EVENT), kind=3)


def test_lags_tell_each_consumer_apart(rig: Rig, ring_name: str) -> None:
    second = Consumer(ring_name)
    rig.send(1, 2, 3)
    rig.consumer.recv(0)
    assert rig.producer.lags() == [(0, os.getpid(), 2), (1, os.getpid(), 3)]
    second.close()
    assert rig.producer.lags() == [(0, os.getpid(), 2)]


def test_lags_count_items_of_a_typed_ring(ring_name: str) -> None:
    with (
        Producer(ring_name, dtype=EVENT, capacity=64, max_consumers=2) as producer,
        Consumer(ring_name) as consumer,
    ):
        producer.send_many(np.zeros(5, EVENT))
        consumer.recv(0)
        assert producer.lags() == [(0, os.getpid(), 4)]


def test_latest_keeps_the_last_of_each_symbol() -> None:
    latest = Latest(EVENT.itemsize)
    latest.update(event(1, "A"))
    latest.update(event(2, "B"))
    latest.update(bytes(event(3, "A")))
    latest.update(Event(value=4))  # without a symbol
    assert len(latest) == 2
    assert [Event(raw).value for raw in latest.values()] == [3, 2]
    found = latest.get(b"A")
    assert found is not None
    assert Event(found).value == 3
    assert latest.get(b"C") is None


def test_latest_of_an_array_is_its_last_rows() -> None:
    generator = np.random.default_rng(5)
    rows = np.zeros(20_000, EVENT)
    rows["symbol"] = [f"S{i}".encode() for i in generator.integers(0, 700, len(rows))]
    rows["value"] = np.arange(len(rows))
    latest = Latest(EVENT.itemsize)
    for part in np.array_split(rows, 7):
        latest.update(part)
    expected = {row["symbol"]: row["value"] for row in rows}
    assert {Event(raw).symbol.encode(): Event(raw).value for raw in latest.values()} == expected


def test_latest_refuses_records_of_another_length() -> None:
    latest = Latest(EVENT.itemsize)
    with pytest.raises(ValueError, match="bytes"):
        latest.update(b"short")
    with pytest.raises(ValueError, match="bytes"):
        latest.update(np.zeros(2, OTHER))
    with pytest.raises(TypeError):
        latest.update(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="record_len"):
        Latest(8)
    assert len(latest) == 0
