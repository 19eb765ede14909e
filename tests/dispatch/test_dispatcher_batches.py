"""Dispatcher: batches are what handing over one by one would have been."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from dispatching import EVENT, EVENT_KIND, OTHER_KIND, Event, Other, Rig, event, targets
from shmipc import Consumer, Producer, SchemaMismatch
from shmipc._core import Dispatcher

pytestmark = pytest.mark.binding


def test_batches_are_what_one_by_one_would_be_whatever_lies_between() -> None:
    draw = random.Random(7)
    singly: list[tuple[int, float]] = []
    batched: list[tuple[int, float]] = []
    with (
        Producer("ring", capacity=1 << 18, max_consumers=4) as producer,
        Consumer("ring") as one,
        Consumer("ring") as other,
    ):
        single, batch = Dispatcher(key_off=0), Dispatcher(key_off=0)
        choice: dict[str, Any] = {"keys": [b"A", b"BB"], "reader": 3, "from_seq": 40}
        single.add(
            one,
            {
                EVENT_KIND: (Event, lambda record: singly.append((EVENT_KIND, record.value))),
                OTHER_KIND: (Other, lambda record: singly.append((OTHER_KIND, record.number))),
            },
            **choice,
        )
        names = {EVENT_KIND: "value", OTHER_KIND: "number"}

        def see(kind: int, array: Any) -> None:
            batched.extend((kind, value) for value in array[names[kind]].tolist())

        batch.add(
            other, {EVENT_KIND: (Event, see, "batch"), OTHER_KIND: (Other, see, "batch")}, **choice
        )
        for number in range(3000):
            symbol = draw.choice(["A"] * 20 + ["", "BB", "C"])
            record = Other(symbol=symbol, number=number)
            kind = OTHER_KIND
            if number // 100 % 2 == 0:  # long runs of either kind
                record, kind = event(number, symbol), EVENT_KIND
            rare = draw.random()
            if rare < 0.05:
                target = targets(3) if rare < 0.02 else targets(4)
                producer.send(bytes(record) + target, kind=kind, flags=1)
            elif rare < 0.08:
                producer.send(record, kind=9)
            else:
                producer.send(record, kind=kind, flags=2 if rare > 0.95 else 0)
            if rare > 0.99:
                while single.run(timeout=0):
                    pass
                while batch.run(timeout=0):
                    pass
        while single.run(timeout=0):
            pass
        while batch.run(timeout=0):
            pass
    assert len(singly) > 2000
    for kind in names:
        assert [seen for seen in batched if seen[0] == kind] == [
            seen for seen in singly if seen[0] == kind
        ]


def test_a_batch_that_is_full_is_handed_over_and_the_rest_follows() -> None:
    rows = np.zeros(12_000, EVENT)
    rows["value"] = np.arange(len(rows))
    kept: list[Any] = []
    with (
        Producer("ring", capacity=1 << 20, max_consumers=4) as producer,
        Consumer("ring") as consumer,
    ):
        dispatcher = Dispatcher()
        dispatcher.add(
            consumer, {EVENT_KIND: (Event, lambda _, array: kept.append(array), "batch")}
        )
        assert producer.send_many(rows, kind=EVENT_KIND) == len(rows)
        while dispatcher.run(timeout=0):
            pass
    assert len(kept) > 1
    assert np.array_equal(np.concatenate(kept), rows)


def test_a_targeted_event_without_its_targets_is_of_the_wrong_length_in_a_run_too() -> None:
    with (
        Producer("ring", capacity=1 << 16, max_consumers=4) as producer,
        Consumer("ring") as consumer,
    ):
        kept: list[float] = []
        dispatcher = Dispatcher()
        dispatcher.add(
            consumer,
            {EVENT_KIND: (Event, lambda _, array: kept.extend(array["value"].tolist()), "batch")},
            reader=0,
        )
        for number in range(6):
            producer.send(event(number), kind=EVENT_KIND, flags=int(number == 3))
        assert dispatcher.run(timeout=0) == 3
        with pytest.raises(SchemaMismatch):
            dispatcher.run(timeout=0)
        assert dispatcher.run(timeout=0) == 2
    assert kept == [0, 1, 2, 4, 5]


def test_what_is_not_handed_over_counts_as_unread() -> None:
    """So whoever waits until all is read does not wait in vain for what a stop() then drops."""
    rig = Rig("unread")
    lags: list[int] = []

    def look(kind: int, array: Any) -> None:
        lags.append(rig.producer.lags()[0][2])
        rig.dispatcher.stop()

    handlers = {EVENT_KIND: (Event, look, "batch"), OTHER_KIND: (Other, look, "batch")}
    rig.dispatcher.add(rig.consumer, handlers)
    rig.send(1, 2, 3)
    rig.producer.send(Other(number=5), kind=OTHER_KIND)
    assert rig.dispatcher.run(timeout=0) == 3
    assert rig.producer.lags()[0][2] == 4
    assert rig.dispatcher.run(timeout=0) == 1
    assert lags == [4, 4]
    assert rig.producer.lags()[0][2] == 0
    rig.close()


def test_a_batch_that_raised_is_read() -> None:
    rig = Rig("raised")

    def fail(kind: int, array: Any) -> None:
        raise ValueError("on purpose")

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, fail, "batch")})
    rig.send(1, 2, 3)
    with pytest.raises(ValueError, match="on purpose"):
        rig.dispatcher.run(timeout=0)
    assert rig.producer.lags()[0][2] == 0
    rig.close()


def test_a_batch_leaves_its_producer_most_of_the_ring() -> None:
    rig = Rig("room", capacity=1 << 14)
    sizes: list[int] = []
    handlers = {EVENT_KIND: (Event, lambda _, array: sizes.append(len(array)), "batch")}
    rig.dispatcher.add(rig.consumer, handlers)
    rig.send(*range(250))
    while rig.dispatcher.run(timeout=0):
        pass
    assert sum(sizes) == 250
    assert max(sizes) <= (1 << 14) // 4 // 56
    rig.close()
