"""Somebody removes a ring's file while it is in use: told to both sides, until they close."""

from __future__ import annotations

import itertools
import multiprocessing
import subprocess
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import shmipc
from helpers import HOLD_CONSUMER, PRODUCE_THEN_HOLD, Peer, discard, segment_path
from shmipc import Consumer, Producer, Removed

AREA = 4096
CURE = "open them again"


def remove(name: str = "r") -> None:
    subprocess.run(["rm", str(segment_path(name))], check=True)


WAITS: dict[str, Callable[[Consumer], object]] = {
    "recv": lambda c: c.recv(),
    "recv with a timeout": lambda c: c.recv(20),
    "iterating": lambda c: next(iter(c)),
    "read": lambda c: c.read(),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
@pytest.mark.parametrize("consumers", [1, 2])
def test_consumer_is_told_after_it_has_read_everything(
    wait: Callable[[Consumer], object], consumers: int
) -> None:
    with (
        Producer("r", capacity=AREA, max_consumers=consumers) as producer,
        Consumer("r", timeout=5) as consumer,
    ):
        producer.send(b"read first")
        remove()
        assert consumer.recv(5) == b"read first"
        for _ in range(3):
            with pytest.raises(Removed, match=CURE):
                wait(consumer)
        producer.send(b"and so is what comes later")
        assert consumer.recv(5) == b"and so is what comes later"
        with pytest.raises(Removed, match="RemoveIPC=no"):
            wait(consumer)


def test_polls_are_told_within_a_look() -> None:
    with Producer("r", capacity=AREA) as producer, Consumer("r", timeout=5) as consumer:
        producer.send(b"x")
        consumer.recv()
        remove()
        told = 0
        while told < 3:  # the deadline of the test ends it
            try:
                consumer.recv(0)
            except shmipc.Empty:
                assert told == 0, "told once, then not"
            except Removed:
                told += 1
        assert shmipc.wait([consumer], 20) == [consumer]


def test_wait_and_dispatcher_find_it() -> None:
    with (
        Producer("other", capacity=AREA) as other,
        Consumer("other", timeout=5) as mine,
        Producer("r", capacity=AREA),
        Consumer("r", timeout=5) as consumer,
    ):
        remove()
        assert shmipc.wait([mine, consumer], 20) == [consumer]
        with pytest.raises(Removed):
            consumer.recv(0)
        other.send(b"the other ring goes on")
        assert mine.recv(5) == b"the other ring goes on"


SENDS: dict[str, Callable[[Producer], object]] = {
    "send": lambda p: p.send(bytes(2000)),
    "send with a timeout": lambda p: p.send(bytes(2000), timeout=20),
    "send_many": lambda p: p.send_many([bytes(2000)] * 3),
    "reserve": lambda p: p.reserve(2000).commit(),
}


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS.keys())
def test_full_producer_is_told(send: Callable[[Producer], object]) -> None:
    producer = Producer("r", capacity=AREA)
    remove()
    for _ in range(3):
        with pytest.raises(Removed, match=CURE):
            list(map(send, [producer] * 3))
    with pytest.raises(Removed):
        producer.close()
    assert producer.closed


def test_try_send_is_told_within_a_look() -> None:
    producer = Producer("r", capacity=AREA)
    remove()
    with pytest.raises(Removed):
        list(map(producer.try_send, itertools.repeat(bytes(2000))))  # the test's deadline ends it
    with pytest.raises(Removed):
        producer.close()


def test_wait_for_consumers_that_cannot_come_is_told() -> None:
    with Producer("r", capacity=AREA) as producer:
        remove()
        with pytest.raises(Removed, match=CURE):
            producer.wait_for_consumers()


def test_close_says_that_messages_went_with_the_file_and_closes() -> None:
    producer = Producer("r", capacity=AREA)
    producer.send(b"for nobody")
    remove()
    with pytest.raises(Removed, match="no consumer had read went with it"):
        producer.close()
    assert producer.closed
    producer.close()
    with Producer("r", capacity=AREA) as again:
        assert not again.stats().took_over


@pytest.mark.parametrize("read", [True, False])
def test_close_is_silent_where_nothing_was_lost(read: bool) -> None:
    with Consumer_of(Producer("r", capacity=AREA)) as (producer, consumer):
        producer.send(b"x")
        remove()
        if read:
            assert consumer.recv(5) == b"x"
        producer.close()  # if not: its consumer is there and will read it
        if not read:
            assert consumer.recv(5) == b"x"
        with pytest.raises(shmipc.Closed):
            consumer.recv(5)


class Consumer_of:
    def __init__(self, producer: Producer) -> None:
        self.both = producer, Consumer("r", timeout=5)

    def __enter__(self) -> tuple[Producer, Consumer]:
        return self.both

    def __exit__(self, *unused: object) -> None:
        for handle in self.both:
            handle.close()


def fill_in_vain(error: Exception | None = None) -> None:
    with Producer("r", capacity=AREA) as producer:
        producer.send(b"for nobody")
        remove()
        if error is not None:
            raise error


def test_error_on_its_way_is_not_masked_by_the_close() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(KeyError):
            fill_in_vain(KeyError())
    assert ["went with it" in str(warning.message) for warning in caught] == [True]
    with pytest.raises(Removed):
        fill_in_vain()


def test_forgotten_producer_warns_of_what_is_lost() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        producer = Producer("r", capacity=AREA)
        producer.send(b"for nobody")
        remove()
        del producer
    assert [str(warning.message) for warning in caught if "went with it" in str(warning.message)]


def test_unlink_on_purpose_alarms_nobody() -> None:
    body = """
        consumer = Consumer("r", timeout=20)
        say("ready")
        for _ in range(2):
            try:
                consumer.recv(0.2)
            except Empty:
                say("empty")
        assert consumer.recv(20) == b"still here"
        say("read")
        try:
            consumer.recv(20)
        except Closed:
            say("closed")
        """
    with Producer("r", capacity=AREA, max_consumers=2) as producer, Peer(body) as peer:
        peer.expect()
        producer.unlink()
        assert not segment_path("r").exists()
        with Producer("r", capacity=AREA, max_consumers=2):  # the name is free for another ring
            peer.expect("empty")
            peer.expect("empty")
            producer.send(b"still here")
            peer.expect("read")
            producer.close()
            peer.expect("closed")
            peer.finish()


def test_durable_queue_unlinked_on_purpose_closes_in_silence() -> None:
    producer = Producer("r", capacity=AREA)
    producer.send(b"given up")
    producer.unlink()
    producer.close()


def test_peer_that_restarts_is_missed_no_more() -> None:
    """The split brain: old and new peers of one name in two files."""
    with Peer(HOLD_CONSUMER, "r") as old, Producer("r", capacity=AREA) as producer:
        old.expect()
        remove()
        old.tell()
        old.finish()
        with (
            Producer("r", capacity=AREA),
            Consumer("r", timeout=5),  # the new pair
            pytest.raises(Removed),
        ):
            producer.wait_for_consumers()


def test_last_consumer_removes_the_file_of_a_dead_producer() -> None:
    with Peer(PRODUCE_THEN_HOLD, "r", 2) as peer:
        peer.expect()
        with Consumer("r", timeout=5) as first, Consumer("r", timeout=5) as second:
            peer.kill()
            with pytest.raises(shmipc.ProducerDied):
                first.recv(20)
            first.close()
            assert segment_path("r").exists()
            second.close()
            assert not segment_path("r").exists()


def test_last_consumer_of_a_dead_producer_leaves_what_it_has_not_read() -> None:
    with Peer(PRODUCE_THEN_HOLD, "r", 1) as peer:
        peer.expect()
        with Consumer("r", timeout=5) as consumer:
            peer.tell("2")
            peer.expect("sent")
            peer.kill()
            assert consumer.recv(5) == b"0"
        assert segment_path("r").exists()
        with Consumer("r", timeout=5) as consumer:
            assert consumer.recv(5) == b"1"
    assert not segment_path("r").exists()
    discard("r")


def take_it(producer: Any, go: Any) -> None:
    go.wait(60)
    producer.close()


def test_last_consumer_leaves_the_file_to_the_producer_that_it_was_handed_to() -> None:
    context = multiprocessing.get_context("spawn")
    go = context.Event()
    producer = Producer("r", capacity=4096)
    with Consumer("r", timeout=5):
        child = context.Process(target=take_it, args=(producer, go))
        child.start()  # it was started, and waits for the role from its unpickling on
        producer.close()
    assert segment_path("r").exists()
    go.set()
    child.join(60)
    assert child.exitcode == 0
    assert not segment_path("r").exists()
