"""hold_for: a ring keeps what is sent from message 0 on until so many consumers have joined."""

from __future__ import annotations

import json
import multiprocessing
from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import Peer, segment_path
from shmipc import Consumer, Producer, _core, cli

DRAIN = """
    consumer = Consumer("h", start=None if args[0] == "None" else args[0], timeout=20)
    got = []
    try:
        while True:
            got.append(consumer.recv(20))
    except Closed:
        say(len(got), got == [b"%d" % number for number in range(len(got))])
    """


def drain(consumer: Any) -> list[bytes]:
    got = []
    while True:
        try:
            got.append(consumer.recv(0))
        except (shmipc.Empty, shmipc.Closed):
            return got


@pytest.mark.parametrize("starts", [(None, None), ("earliest", None), ("earliest", "earliest")])
def test_thousand_messages_before_anybody_joins_reach_both(starts: tuple[str | None, ...]) -> None:
    sent = [b"%d" % number for number in range(1000)]
    with Producer("h", max_consumers=2, capacity=1 << 16, hold_for=2) as producer:
        producer.send_many(sent)
        assert producer.attached == 0
        assert producer.lag == 1000
        for start in starts:
            with Consumer("h", start=start, timeout=0) as consumer:
                assert drain(consumer) == sent
        producer.send_many([b"x"] * 5000, timeout=0)  # both have joined, and left
        assert producer.stats().kept == 0


def test_without_it_what_is_sent_before_anybody_joins_is_nobodys() -> None:
    with Producer("h", max_consumers=2, capacity=1 << 16) as producer:
        producer.send_many([b"early"] * 1000)
        with Consumer("h", timeout=0) as consumer:
            assert drain(consumer) == []


def test_typed_ring_keeps_items() -> None:
    with Producer("h", dtype="<u4", max_consumers=3, hold_for=2) as producer:
        producer.send_many(np.arange(1000, dtype="<u4"))
        for _ in range(2):
            with Consumer("h", timeout=0) as consumer, consumer.read_batch(timeout=0) as batch:
                assert batch.array.tolist() == list(range(1000))
                assert batch.seq == 0


def test_send_waits_for_who_has_not_joined_as_for_a_slow_one() -> None:
    with Producer("h", max_consumers=2, capacity=4096, hold_for=1) as producer:
        sent = 0
        with pytest.raises(shmipc.Full):  # noqa: PT012
            while True:
                producer.send(b"%d" % sent, timeout=0)
                sent += 1
        assert sent == 4096 // 32
        with Consumer("h", timeout=0) as consumer:
            assert drain(consumer) == [b"%d" % number for number in range(sent)]
        producer.send(b"room", timeout=0)


def test_ring_outlives_close_until_those_it_holds_for_have_read_it() -> None:
    with Producer("h", max_consumers=3, hold_for=2) as producer:
        producer.send(b"0")
    path = segment_path("h")
    assert path.exists()
    assert cli.main(["clean"]) == 0
    assert path.exists()
    with pytest.raises(shmipc.NotFound):
        Consumer("h", start="latest", timeout=0)
    for _ in range(2):
        assert path.exists()
        with Consumer("h", timeout=0) as consumer:
            assert consumer.recv(0) == b"0"
            with pytest.raises(shmipc.Closed):
                consumer.recv(0)
    assert not path.exists()


def test_clean_discards_what_nobody_came_for(capsys: pytest.CaptureFixture[str]) -> None:
    with Producer("h", max_consumers=2, hold_for=1) as producer:
        producer.send(b"0")
    assert cli.main(["clean"]) == 0
    assert "h: kept: durable or held" in capsys.readouterr().out
    assert cli.main(["clean", "--discard"]) == 0
    assert not segment_path("h").exists()


def test_processes_that_come_late_get_everything() -> None:
    with Producer("h", max_consumers=2, hold_for=2, capacity=1 << 16) as producer:
        for number in range(100):
            producer.send(b"%d" % number)
        with Peer(DRAIN, None) as one, Peer(DRAIN, "earliest") as other:
            producer.wait_for_consumers(2, timeout=20)
            for number in range(100, 200):
                producer.send(b"%d" % number)
            producer.close()
            assert one.hear().split() == ["200", "True"]
            assert other.hear().split() == ["200", "True"]
            one.finish()
            other.finish()
    assert not segment_path("h").exists()


def test_successor_goes_on_holding() -> None:
    body = """
        producer = Producer("h", max_consumers=3, hold_for=2)
        producer.send(b"0")
        say("sent")
        hear()
        """
    with Peer(body) as peer:
        peer.expect("sent")
        peer.kill()
    with Producer("h", max_consumers=3) as producer:
        assert producer.stats().kept == 2
        producer.send(b"1")
        with Consumer("h", timeout=0) as consumer:
            assert drain(consumer) == [b"0", b"1"]
        with Consumer("h", timeout=0) as consumer:
            assert drain(consumer) == [b"0", b"1"]


def test_takeover_holds_from_then_on_what_is_missing() -> None:
    with Producer("h", max_consumers=3) as producer, Consumer("h", timeout=0) as there:
        producer.send(b"before")
        producer.close()
        with Producer("h", max_consumers=3, hold_for=3) as producer:
            assert producer.stats().kept == 2
            producer.send(b"after")
            with Consumer("h", timeout=0) as one, Consumer("h", timeout=0) as other:
                assert drain(one) == drain(other) == [b"after"]
            assert drain(there) == [b"before", b"after"]


def test_kept_places_are_shown_as_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with Producer("h", max_consumers=3, hold_for=3) as producer, Consumer("h", timeout=0):
        assert producer.attached == 1
        assert [reader.slot for reader in producer.lags()] == [0]
        assert producer.wait_for_consumers(1, timeout=0) == 1
        stats = producer.stats()
        assert (stats.attached, stats.kept) == (1, 2)
        consumers = _core.inspect_segment(segment_path("h"))["consumers"]
        assert [(c["slot"], c["alive"], c["kept"]) for c in consumers] == [
            (0, True, False),
            (1, False, True),
            (2, False, True),
        ]
        assert [c["pid"] for c in consumers[1:]] == [0, 0]
        assert cli.main(["list"]) == 0
        assert "1 of 3, 2 kept" in capsys.readouterr().out
        assert cli.main(["list", "--json"]) == 0
        assert str(0xFFFFFFFF) not in json.dumps(json.loads(capsys.readouterr().out))


def test_all_places_taken_is_busy_whether_they_were_kept_or_not() -> None:
    with (
        Producer("h", max_consumers=2, hold_for=1),
        Consumer("h", timeout=0),
        Consumer("h", timeout=0),
        pytest.raises(shmipc.Busy),
    ):
        Consumer("h", timeout=0)


def test_durable_queue_holds_for_its_one_consumer_anyhow() -> None:
    for hold_for in (0, 1):
        with Producer("h", hold_for=hold_for) as producer:
            producer.send(b"0")
            assert producer.stats().kept == 0
            with Consumer("h", timeout=0) as consumer:
                assert drain(consumer) == [b"0"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"hold_for": 1, "overflow": "overwrite"}, "hold_for= needs overflow='block'"),
        ({"hold_for": 3, "max_consumers": 2}, "hold_for"),
        ({"hold_for": 2}, "hold_for"),
        ({"hold_for": -1}, "hold_for"),
    ],
)
def test_what_cannot_be_held_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Producer("h", **options)
    assert not segment_path("h").exists()


def produce(producer: Any) -> None:
    with producer:
        producer.send(b"1")
        assert producer.stats().kept == 1


def test_pickled_producer_opens_no_new_hold() -> None:
    """The ring is there, with its kept slots: a consumer that joined and left takes none again."""
    producer = Producer("h", max_consumers=3, hold_for=2)
    producer.send(b"0")
    with Consumer("h", timeout=0) as consumer:
        assert drain(consumer) == [b"0"]
    process = multiprocessing.get_context("spawn").Process(target=produce, args=(producer,))
    process.start()
    producer.close()
    process.join(60)
    assert process.exitcode == 0
    with Consumer("h", timeout=0) as consumer:
        assert drain(consumer) == [b"0", b"1"]
    assert not segment_path("h").exists()


def test_joiner_gets_the_slot_for_which_most_is_kept() -> None:
    """What a take-over keeps from its own beginning on comes after what was kept from message 0."""
    body = """
        producer = Producer("h", max_consumers=3, hold_for=2)
        producer.send_many([b"0", b"1"])
        consumer = Consumer("h", timeout=0)  # the first of the two
        say("ready")
        hear()
        """
    with Peer(body) as peer:
        peer.expect()
        peer.kill()
    with Producer("h", max_consumers=3, hold_for=2) as producer:
        assert producer.stats().kept == 2
        with Consumer("h", timeout=0) as second, Consumer("h", timeout=0) as third:
            producer.send(b"2")
            assert drain(second) == [b"0", b"1", b"2"]
            assert drain(third) == [b"2"]
