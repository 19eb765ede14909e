"""Dispatcher: events of several rings into calls, chosen by kind, symbol and place in C."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from typing import Any

import numpy as np
import pytest

import shmipc
from dispatching import (
    EVENT,
    EVENT_KIND,
    OTHER_KIND,
    Event,
    Other,
    Rig,
    event,
    targets,
)
from shmipc import Consumer, Producer
from shmipc._core import Dispatcher

pytestmark = pytest.mark.binding


def test_each_event_is_handed_over_in_order(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    rig.send(1, 2, 3)
    assert rig.dispatcher.run(timeout=0) == 3
    assert rig.seen == [1, 2, 3]
    assert rig.dispatcher.run(timeout=0) == 0
    assert rig.consumer.lag == 0


def test_kinds_have_their_own_callables_and_others_are_skipped(rig: Rig) -> None:
    others: list[int] = []
    handlers = {
        EVENT_KIND: (Event, rig.see),
        OTHER_KIND: (Other, lambda record: others.append(record.number)),
    }
    rig.dispatcher.add(rig.consumer, handlers)
    rig.send(1)
    rig.producer.send(Other(number=5), kind=OTHER_KIND)
    rig.producer.send(b"unknown", kind=7)
    rig.producer.send(b"unknown", kind=OTHER_KIND + 1)
    rig.send(2)
    assert rig.dispatcher.run(timeout=0) == 3
    assert (rig.seen, others) == ([1, 2], [5])


def test_more_kinds_than_the_small_table_holds(rig: Rig) -> None:
    seen: list[int] = []
    handlers = {
        kind: (Other, lambda record, kind=kind: seen.append((kind, record.number)))
        for kind in range(1, 400)
    }
    rig.dispatcher.add(rig.consumer, handlers)
    for kind in (1, 254, 255, 256, 399):
        rig.producer.send(Other(number=kind), kind=kind)
    assert rig.dispatcher.run(timeout=0) == 5
    assert seen == [(kind, kind) for kind in (1, 254, 255, 256, 399)]


def test_symbols_not_subscribed_to_are_skipped_and_those_without_one_are_not(rig: Rig) -> None:
    rig.dispatcher.add(
        rig.consumer, {EVENT_KIND: (Event, rig.see)}, keys=[b"A", b"ABCDEFGHIJKLMNO"]
    )
    for value, symbol in enumerate(("A", "B", "ABCDEFGHIJKLMNO", "ABCDEFGHIJKLMN", "AA")):
        rig.send(value, symbol=symbol)
    rig.producer.send(Event(value=9), kind=EVENT_KIND)
    assert rig.dispatcher.run(timeout=0) == 3
    assert rig.seen == [0, 2, 9]


def test_an_empty_choice_of_symbols_is_a_choice(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)}, keys=[])
    rig.send(1)
    assert rig.dispatcher.run(timeout=0) == 0


def test_many_symbols_are_all_found(rig: Rig) -> None:
    chosen = [f"S{i}".encode() for i in range(0, 2000, 2)]
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)}, keys=chosen)
    for start in range(0, 2000, 100):
        for i in range(start, start + 100):
            rig.send(i, symbol=f"S{i}")
        while rig.dispatcher.run(timeout=0):
            pass
    assert rig.seen == list(range(0, 2000, 2))


@pytest.mark.parametrize("bad", [b"A", "A", [b""], [b"0123456789abcdef"], ["A"], [b"A\0"], 5])
def test_bad_symbols_are_refused(rig: Rig, bad: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)}, keys=bad)
    assert rig.dispatcher.consumers == ()


def test_targeted_events_reach_the_places_they_name(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)}, reader=700)
    for value, places in enumerate([(700,), (699, 701), (0, 700, 1023), ()]):
        rig.producer.send(bytes(event(value)) + targets(*places), kind=EVENT_KIND, flags=1)
    rig.send(9)
    assert rig.dispatcher.run(timeout=0) == 3
    assert rig.seen == [0, 2, 9]


def test_events_before_from_seq_are_skipped(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)}, from_seq=2)
    rig.send(0, 1, 2, 3)
    assert rig.dispatcher.run(timeout=0) == 2
    assert rig.seen == [2, 3]


def test_max_stops_in_the_middle_and_loses_nothing(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    rig.send(*range(10))
    assert rig.dispatcher.run(max=3, timeout=0) == 3
    assert rig.seen == [0, 1, 2]
    assert rig.dispatcher.run(max=100, timeout=0) == 7
    assert rig.seen == list(range(10))


def test_what_a_callable_raises_comes_out_and_its_event_counts_as_read(rig: Rig) -> None:
    def fail_at_one(record: Any) -> None:
        rig.seen.append(record.value)
        if record.value == 1:
            raise ZeroDivisionError("of the user")

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, fail_at_one)})
    rig.send(0, 1, 2)
    with pytest.raises(ZeroDivisionError) as raised:
        rig.dispatcher.run(timeout=0)
    assert not hasattr(raised.value, "consumer")
    assert rig.dispatcher.run(timeout=0) == 1
    assert rig.seen == [0, 1, 2]


def test_with_retry_the_event_comes_again_until_the_callable_returns(rig: Rig) -> None:
    attempts: list[float] = []

    def fail_twice(record: Any) -> None:
        attempts.append(record.value)
        if attempts.count(1) in (1, 2) and record.value == 1:
            raise ValueError("not yet")

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, fail_twice)}, retry=True)
    rig.send(0, 1, 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="not yet"):
            rig.dispatcher.run(timeout=0)
        assert rig.consumer.pending == 2
    assert rig.dispatcher.run(timeout=0) == 2
    assert attempts == [0, 1, 1, 1, 2]


def test_with_retry_each_event_is_given_back_before_the_next(rig: Rig) -> None:
    lags: list[int] = []
    rig.dispatcher.add(
        rig.consumer,
        {EVENT_KIND: (Event, lambda _: lags.append(rig.producer.lags()[0][2]))},
        retry=True,
    )
    rig.send(1, 2, 3)
    assert rig.dispatcher.run(timeout=0) == 3
    assert lags == [3, 2, 1]


def test_with_retry_the_event_of_a_closed_durable_queue_comes_to_the_next_consumer(
    ring_name: str,
) -> None:
    rig = Rig(ring_name, max_consumers=1)

    def fail(record: Any) -> None:
        raise ValueError

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, fail)}, retry=True)
    rig.send(7)
    with pytest.raises(ValueError):  # noqa: PT011 - the bare one above
        rig.dispatcher.run(timeout=0)
    rig.consumer.close()
    rig.consumer = Consumer(ring_name)
    assert Event(rig.consumer.read(0)).value == 7
    rig.close()


def test_a_kept_record_reads_within_its_burst_and_is_refused_after(rig: Rig) -> None:
    kept: list[Any] = []
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, kept.append)})
    rig.send(1, 2, 3)
    rig.dispatcher.run(timeout=0)
    assert len({id(record) for record in kept}) == 3
    for record in kept:
        assert record.released
        with pytest.raises(ValueError, match="copy"):
            _ = record.value


def test_a_copy_made_in_the_callable_stays(rig: Rig) -> None:
    kept: list[Any] = []
    rig.dispatcher.add(
        rig.consumer, {EVENT_KIND: (Event, lambda record: kept.append(record.copy()))}
    )
    rig.send(1, 2)
    rig.dispatcher.run(timeout=0)
    rig.send(*range(1000))  # over the same memory
    rig.close()
    assert [record.value for record in kept] == [1, 2]


def test_an_array_of_a_record_keeps_the_rings_memory(rig: Rig) -> None:
    kept: list[Any] = []
    rig.dispatcher.add(
        rig.consumer, {EVENT_KIND: (Event, lambda record: kept.append(np.asarray(record)))}
    )
    rig.send(1, 2)
    rig.dispatcher.run(timeout=0)
    while rig.producer.try_send(event(9), kind=EVENT_KIND):
        pass
    assert [float(array["value"]) for array in kept] == [1, 2]
    assert rig.consumer.lag > 0
    kept.clear()
    assert rig.producer.try_send(event(9), kind=EVENT_KIND)
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    while rig.dispatcher.run(timeout=0):
        pass
    assert set(rig.seen) == {9}
    assert rig.consumer.lag == 0


def test_one_record_object_serves_event_after_event(rig: Rig) -> None:
    if getattr(sys, "_is_gil_enabled", lambda: True)() is False:
        pytest.skip("without the GIL each event has a record of its own")
    ids: set[int] = set()
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, lambda record: ids.add(id(record)))})
    rig.send(*range(50))
    rig.dispatcher.run(timeout=0)
    assert len(ids) == 1


def test_batches_hold_everything_ready_of_a_kind_in_order(rig: Rig) -> None:
    batches: list[tuple[int, Any]] = []
    handlers = {
        EVENT_KIND: (Event, lambda kind, array: batches.append((kind, array)), "batch"),
        OTHER_KIND: (Other, lambda kind, array: batches.append((kind, array)), "batch"),
    }
    rig.dispatcher.add(rig.consumer, handlers, keys=[b"A"])
    rig.send(1, 2)
    rig.producer.send(Other(symbol="A", number=5), kind=OTHER_KIND)
    rig.send(3, symbol="B")
    rig.send(4)
    assert rig.dispatcher.run(timeout=0) == 4
    assert [kind for kind, _ in batches] == [EVENT_KIND, OTHER_KIND]
    assert batches[0][1].dtype == EVENT
    assert batches[0][1]["value"].tolist() == [1, 2, 4]
    assert batches[1][1]["number"].tolist() == [5]


def test_batches_that_are_kept_stay_what_they_were(rig: Rig) -> None:
    kept: list[Any] = []
    rig.dispatcher.add(
        rig.consumer, {EVENT_KIND: (Event, lambda _, array: kept.append(array), "batch")}
    )
    for i in range(50):
        rig.send(*range(i * 10, i * 10 + 10))
        while rig.dispatcher.run(timeout=0):
            pass
    assert np.concatenate(kept)["value"].tolist() == list(range(500))


def test_batches_sent_as_an_array_arrive_as_they_were(rig: Rig) -> None:
    kept: list[Any] = []
    rig.dispatcher.add(
        rig.consumer, {EVENT_KIND: (Event, lambda _, array: kept.append(array.copy()), "batch")}
    )
    rows = np.zeros(5000, EVENT)
    rows["symbol"] = b"A"
    rows["value"] = np.arange(5000)
    sent = 0
    while sent < len(rows):
        with contextlib.suppress(shmipc.Full):
            sent += rig.producer.send_many(rows[sent:], kind=EVENT_KIND, timeout=0)
        while rig.dispatcher.run(timeout=0):
            pass
    assert np.array_equal(np.concatenate(kept), rows)


def test_after_a_batch_that_raised_the_others_of_its_round_come(rig: Rig) -> None:
    numbers: list[int] = []

    def fail(kind: int, array: Any) -> None:
        raise ValueError("batch")

    handlers = {
        EVENT_KIND: (Event, fail, "batch"),
        OTHER_KIND: (Other, lambda _, array: numbers.extend(array["number"]), "batch"),
    }
    rig.dispatcher.add(rig.consumer, handlers)
    rig.send(1)
    rig.producer.send(Other(number=5), kind=OTHER_KIND)
    with pytest.raises(ValueError, match="batch"):
        rig.dispatcher.run(timeout=0)
    assert rig.dispatcher.run(timeout=0) == 1
    assert numbers == [5]


def test_single_events_among_batches_come_one_by_one_and_survive_an_exception(rig: Rig) -> None:
    seen: list[Any] = []

    def fail_at_two(record: Any) -> None:
        seen.append(record.number)
        if record.number == 2:
            raise ValueError("two")

    handlers: Any = {
        EVENT_KIND: (Event, lambda _, array: seen.append(array["value"].tolist()), "batch"),
        OTHER_KIND: (Other, fail_at_two),
    }
    rig.dispatcher.add(rig.consumer, handlers)
    rig.send(0.5)
    for number in (1, 2, 3):
        rig.producer.send(Other(number=number), kind=OTHER_KIND)
    rig.send(1.5)
    with pytest.raises(ValueError, match="two"):
        rig.dispatcher.run(timeout=0)
    assert seen == [[0.5, 1.5], 1, 2]
    assert rig.dispatcher.run(timeout=0) == 1
    assert seen == [[0.5, 1.5], 1, 2, 3]


def test_a_message_of_the_wrong_length_is_told_once_and_passed(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    rig.send(1)
    rig.producer.send(b"short", kind=EVENT_KIND)
    rig.send(2)
    with pytest.raises(shmipc.SchemaMismatch, match="5 bytes") as raised:
        rig.dispatcher.run(timeout=0)
    assert raised.value.consumer is rig.consumer  # type: ignore[attr-defined]
    assert rig.dispatcher.run(timeout=0) == 1
    assert rig.seen == [1, 2]


def test_a_batch_before_a_message_of_the_wrong_length_is_handed_over_first(rig: Rig) -> None:
    values: list[float] = []
    rig.dispatcher.add(
        rig.consumer, {EVENT_KIND: (Event, lambda _, array: values.extend(array["value"]), "batch")}
    )
    rig.send(1)
    rig.producer.send(b"short", kind=EVENT_KIND)
    rig.send(2)
    assert rig.dispatcher.run(timeout=0) == 1
    with pytest.raises(shmipc.SchemaMismatch):
        rig.dispatcher.run(timeout=0)
    assert rig.dispatcher.run(timeout=0) == 1
    assert values == [1, 2]


@pytest.mark.parametrize("batch", [False, True])
def test_what_was_overwritten_is_told_before_what_follows(ring_name: str, batch: bool) -> None:
    rig = Rig(ring_name, overflow="overwrite", capacity=4096)
    told: list[Any] = []
    handler: Any = (
        (Event, lambda _, array: told.extend(array["value"].tolist()), "batch")
        if batch
        else (Event, lambda record: told.append(record.value))
    )
    rig.dispatcher.add(
        rig.consumer, {EVENT_KIND: handler}, on_lost=lambda n: told.append(("lost", n))
    )
    rig.send(0)
    while rig.dispatcher.run(timeout=0):
        pass
    rig.send(*range(1, 501))
    while rig.dispatcher.run(timeout=0):
        pass
    lost = rig.consumer.lost
    assert lost > 300
    assert told == [0, ("lost", lost), *range(lost + 1, 501)]
    rig.close()


def test_in_an_overwrite_ring_a_record_in_the_callable_does_not_change(ring_name: str) -> None:
    rig = Rig(ring_name, overflow="overwrite", capacity=4096)

    def lap(record: Any) -> None:
        before = record.value
        rig.send(*[77.0] * 200)
        rig.seen.append((before, record.value))

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, lap)})
    rig.send(5)
    rig.dispatcher.run(max=1, timeout=0)
    assert rig.seen == [(5, 5)]
    rig.close()


def test_items_of_a_typed_ring_are_of_kind_0(ring_name: str) -> None:
    with Producer(ring_name, dtype=EVENT, capacity=64) as producer, Consumer(ring_name) as consumer:
        values: list[float] = []
        dispatcher = Dispatcher()
        with pytest.raises(ValueError, match="kind 0"):
            dispatcher.add(consumer, {1: (Event, values.append)})
        with pytest.raises(shmipc.SchemaMismatch):
            dispatcher.add(consumer, {0: (Other, values.append)})
        dispatcher.add(consumer, {0: (Event, lambda record: values.append(record.value))})
        rows = np.zeros(10, EVENT)
        rows["value"] = range(10)
        producer.send_many(rows)
        assert dispatcher.run(timeout=0) == 10
        assert values == list(range(10))


@pytest.mark.parametrize(
    "handlers",
    [
        [],
        {1: Event},
        {1: (Event,)},
        {1: (Event, 5)},
        {1: (int, print)},
        {1: (Event, print, "single")},
        {1: (Event, print, 5)},
        {0: (Event, print)},
        {-1: (Event, print)},
        {65536: (Event, print)},
        {"1": (Event, print)},
    ],
)
def test_bad_handlers_are_refused(rig: Rig, handlers: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        rig.dispatcher.add(rig.consumer, handlers)
    assert rig.dispatcher.consumers == ()


def test_bad_arguments_are_refused(rig: Rig) -> None:
    handlers: Any = {EVENT_KIND: (Event, rig.see)}
    with pytest.raises(TypeError, match="Consumers"):
        rig.dispatcher.add(rig.producer, handlers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reader"):
        rig.dispatcher.add(rig.consumer, handlers, reader=1024)
    with pytest.raises(ValueError, match="key_off"):
        Dispatcher().add(rig.consumer, handlers, keys=[b"A"])
    with pytest.raises(ValueError, match="time_off"):
        Dispatcher(time_off=-1)
    with pytest.raises(ValueError, match="batches"):
        rig.dispatcher.add(rig.consumer, {1: (Event, print, "batch")}, retry=True)
    with pytest.raises(TypeError, match="on_lost"):
        rig.dispatcher.add(rig.consumer, handlers, on_lost=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max"):
        rig.dispatcher.run(max=0)
    with pytest.raises(ValueError, match="timeout"):
        rig.dispatcher.run(timeout=-1)


def test_a_dispatcher_in_a_cycle_is_collected(rig: Rig) -> None:
    class Owner:
        def __init__(self) -> None:
            self.dispatcher = Dispatcher()
            self.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, self.on_event)})

        def on_event(self, record: Any) -> None: ...

    owner = Owner()
    rig.send(1)
    owner.dispatcher.run(timeout=0)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
