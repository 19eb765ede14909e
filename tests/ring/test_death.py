"""Peers that die: what the others are told, what they keep, and who takes over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import HOLD_CONSUMER, PRODUCE_THEN_HOLD, Peer, discard, in_thread, segment_path
from shmipc import Consumer, Producer

AREA = 4096


# ---- death ---------------------------------------------------------------------------------------


def test_producer_died_comes_soon_and_only_after_all_was_read() -> None:
    with Peer(PRODUCE_THEN_HOLD, "r", 1) as peer, Consumer("r", timeout=20) as consumer:
        peer.expect()
        peer.tell("3")
        peer.expect("sent")
        peer.kill()
        assert [consumer.recv(5) for _ in range(3)] == [b"0", b"1", b"2"]
        start = time.monotonic()
        with pytest.raises(shmipc.ProducerDied) as died:
            consumer.recv(10)
        assert time.monotonic() - start < 1
        assert isinstance(died.value, shmipc.PeerDied)
        assert isinstance(died.value, ConnectionError)
    discard("r")


# What a user calls next, and how it waits for a successor that does not come.
WAITS: dict[str, Callable[[Any], Any]] = {
    "recv": lambda c: c.recv(0.2),
    "recv_into": lambda c: c.recv_into(bytearray(9), 0.2),
    "read": lambda c: c.read(0.2),
    "poll": lambda c: c.recv(0),
}


@pytest.mark.parametrize("spin", [0, None, float("inf")])
@pytest.mark.parametrize("wait", WAITS)
def test_death_is_told_once_and_then_the_timeout_waits_for_a_successor(
    wait: str, spin: float | None
) -> None:
    with (
        Peer(PRODUCE_THEN_HOLD, "r", 1) as peer,
        Consumer("r", timeout=20, spin=spin) as consumer,
    ):
        peer.expect()
        peer.kill()
        with pytest.raises(shmipc.ProducerDied):
            consumer.recv(20)
        for _ in range(3):
            start = time.monotonic()
            with pytest.raises(shmipc.Empty):
                WAITS[wait](consumer)
            assert wait == "poll" or time.monotonic() - start >= 0.2
    discard("r")


@pytest.mark.parametrize("wait", [lambda c: c.recv(), lambda c: next(map(bytes, c))])
def test_who_was_told_of_a_death_waits_for_the_successors_messages(
    wait: Callable[[Any], bytes],
) -> None:
    with Peer(PRODUCE_THEN_HOLD, "r", 1) as peer, Consumer("r", timeout=20) as consumer:
        peer.expect()
        peer.kill()
        with pytest.raises(shmipc.ProducerDied):
            consumer.recv(20)
        joined = in_thread(lambda: wait(consumer))
        with Producer("r", capacity=AREA) as producer:
            producer.send(b"alive")
            assert joined() == b"alive"


def test_the_successors_death_is_told_too() -> None:
    with Peer(PRODUCE_THEN_HOLD, "r", 1) as peer, Consumer("r", timeout=20) as consumer:
        peer.expect()
        peer.kill()
        with pytest.raises(shmipc.ProducerDied):
            consumer.recv(20)
        with Peer(PRODUCE_THEN_HOLD, "r", 1) as successor:
            successor.expect()
            consumer.wait_for_producer(20)
            with pytest.raises(shmipc.Empty):
                consumer.recv(0.2)
            successor.kill()
            with pytest.raises(shmipc.ProducerDied):
                consumer.recv(20)
            with pytest.raises(shmipc.Empty):
                consumer.recv(0)
    discard("r")


def test_wait_for_producer_returns_once_somebody_takes_the_ring_over() -> None:
    with Peer(PRODUCE_THEN_HOLD, "r", 1) as peer, Consumer("r", timeout=20) as consumer:
        peer.expect()
        consumer.wait_for_producer(0)
        peer.kill()
        with pytest.raises(shmipc.NotFound, match="no producer"):
            consumer.wait_for_producer(timeout=0.1)
        joined = in_thread(consumer.wait_for_producer)
        with Producer("r", capacity=AREA) as producer:
            assert joined() is None
            producer.send(b"first")
            assert consumer.recv(5) == b"first"
            producer.close()
            with pytest.raises(shmipc.Closed):
                consumer.recv(5)
            with pytest.raises(shmipc.Closed):  # an end is told each time
                consumer.recv(5)
            with pytest.raises(shmipc.NotFound):
                consumer.wait_for_producer(0)


@pytest.mark.parametrize("spin", [0, None, float("inf")])
def test_waiting_consumer_learns_of_the_death_within_200_ms(spin: float | None) -> None:
    with (
        Peer(PRODUCE_THEN_HOLD, "r", 1) as peer,
        Consumer("r", timeout=20, spin=spin) as consumer,
    ):
        peer.expect()

        def wait() -> float:
            with pytest.raises(shmipc.ProducerDied):
                consumer.recv(20)
            return time.monotonic()

        joined = in_thread(wait)
        time.sleep(0.1)  # so that it waits; were it late, the test would only be easier
        os.kill(peer.pid, signal.SIGKILL)
        killed = time.monotonic()
        assert joined() - killed < 0.5  # 50 ms promised; the rest is for a loaded machine
    discard("r")


@pytest.mark.parametrize("slots", [1, 3])
def test_ring_of_a_killed_producer_is_taken_over_where_it_stopped(slots: int) -> None:
    with Peer(PRODUCE_THEN_HOLD, "r", slots) as peer, Consumer("r", timeout=20) as consumer:
        peer.expect()
        peer.tell("5")
        peer.expect("sent")
        assert consumer.recv(5) == b"0"
        peer.kill()
        with Producer("r", capacity=AREA, max_consumers=slots) as producer:
            assert producer.stats().took_over
            assert producer.stats().count == 5
            producer.send(b"5")
            for number in range(1, 6):
                with consumer.read(5) as frame:
                    assert (bytes(frame), frame.seq) == (b"%d" % number, number)


def test_consumer_that_was_told_of_the_death_goes_on_with_the_next_producer() -> None:
    with Peer(PRODUCE_THEN_HOLD, "r", 1) as peer, Consumer("r", timeout=20) as consumer:
        peer.expect()
        peer.kill()
        with pytest.raises(shmipc.ProducerDied):
            consumer.recv(5)
        with Producer("r", capacity=AREA) as producer:
            producer.send(b"alive")
            assert consumer.recv(5) == b"alive"


def test_producer_killed_inside_a_reservation_leaves_nothing_half_sent() -> None:
    body = """
        producer = Producer("r", dtype="<u8", capacity=512)
        producer.send_many(np.arange(3, dtype="<u8"))
        room = producer.reserve(10)
        room.array[:] = 666
        say("ready")
        hear()
        """
    with Peer(body) as peer, Consumer("r", timeout=20) as consumer:
        peer.expect()
        peer.kill()
        with Producer("r", dtype="<u8", capacity=512) as producer:
            producer.send(np.uint64(3))
            assert [int(consumer.recv(5)) for _ in range(4)] == [0, 1, 2, 3]


def test_killing_the_producer_anywhere_in_a_stream_loses_nothing_committed() -> None:
    body = """
        producer = Producer("r", capacity=4096)
        first = producer.stats().count
        say("ready")
        number = first
        while True:
            producer.send(b"%d" % number * (number % 50 + 1))
            number += 1
        """
    expected = 0
    with Peer(body) as first, Consumer("r", timeout=20) as consumer:
        first.expect()
        peer = first
        for round_ in range(4):
            for _ in range(500 + 37 * round_):
                assert consumer.recv(20) == b"%d" % expected * (expected % 50 + 1)
                expected += 1
            peer.kill()
            with pytest.raises(shmipc.ProducerDied):  # noqa: PT012
                while True:
                    assert consumer.recv(20) == b"%d" % expected * (expected % 50 + 1)
                    expected += 1
            if peer is not first:
                peer.__exit__(None, None, None)
            peer = Peer(body)
            peer.expect()
        peer.__exit__(None, None, None)
        with pytest.raises(shmipc.ProducerDied):  # noqa: PT012
            while True:
                assert consumer.recv(20) == b"%d" % expected * (expected % 50 + 1)
                expected += 1
    discard("r")


def test_dead_consumer_of_many_stops_holding_the_producer_back() -> None:
    with (
        Producer("r", capacity=AREA, max_consumers=3) as producer,
        Peer(HOLD_CONSUMER, "r") as peer,
    ):
        peer.expect()
        with Consumer("r", timeout=5) as alive:
            producer.send(bytes(AREA - 16))
            alive.recv(0)
            assert not producer.try_send(b"x")
            peer.kill()
            start = time.monotonic()
            producer.send(b"x", timeout=10)
            assert time.monotonic() - start < 1
            assert producer.stats().reclaimed == 1
            assert producer.attached == 1
            assert alive.recv(0) == b"x"


def test_polling_producer_evicts_a_dead_consumer_too() -> None:
    with (
        Producer("r", capacity=AREA, max_consumers=2) as producer,
        Peer(HOLD_CONSUMER, "r") as peer,
    ):
        peer.expect()
        producer.send(bytes(AREA - 16))
        peer.kill()
        end = time.monotonic() + 10
        while not producer.try_send(b"x"):
            assert time.monotonic() < end
            time.sleep(0.005)


def test_stopped_consumer_is_not_taken_for_dead() -> None:
    with (
        Producer("r", capacity=AREA, max_consumers=2) as producer,
        Peer(HOLD_CONSUMER, "r") as peer,
    ):
        peer.expect()
        producer.send(bytes(AREA - 16))
        os.kill(peer.pid, signal.SIGSTOP)
        with pytest.raises(shmipc.Full):
            producer.send(b"x", timeout=0.3)
        assert producer.attached == 1
        os.kill(peer.pid, signal.SIGCONT)
        peer.tell()
        peer.finish()
        producer.send(b"x", timeout=5)


def test_full_durable_ring_whose_consumer_died_says_so_and_keeps_everything() -> None:
    with Producer("r", capacity=AREA) as producer:
        with Peer(HOLD_CONSUMER, "r") as peer:
            peer.expect()
            producer.send(bytes(AREA - 16))
            peer.kill()
            with pytest.raises(shmipc.ConsumerDied) as died:
                producer.send(b"x")
            assert isinstance(died.value, shmipc.PeerDied)
            for timeout in (0.2, 0):  # told once: from now on it waits for the next one
                start = time.monotonic()
                with pytest.raises(shmipc.Full, match="no consumer is attached; it keeps 1 "):
                    producer.send(b"x", timeout=timeout)
                assert time.monotonic() - start >= timeout
            assert not producer.try_send(b"x")
        with Peer(HOLD_CONSUMER, "r") as successor:
            successor.expect()
            with pytest.raises(shmipc.Full, match=f"process {successor.pid}, has not released 1"):
                producer.send(b"x", timeout=0.2)
            successor.kill()
            with pytest.raises(shmipc.ConsumerDied):
                producer.send(b"x", timeout=20)
        with Consumer("r", timeout=5) as successor:
            assert successor.recv(0) == bytes(AREA - 16)
            producer.send(b"x", timeout=5)
            assert successor.recv(0) == b"x"


def test_producer_that_waits_goes_on_when_a_successor_takes_the_durable_queue() -> None:
    with Producer("r", capacity=AREA) as producer:
        producer.send(bytes(AREA - 16))
        joined = in_thread(lambda: producer.send(b"x", timeout=20))
        with Consumer("r", timeout=5) as consumer:
            assert consumer.recv(5) == bytes(AREA - 16)
            assert consumer.recv(5) == b"x"
        joined()


# ---- the durable queue ---------------------------------------------------------------------------


def test_durable_queue_keeps_message_zero_for_its_first_consumer() -> None:
    with Producer("r", capacity=AREA) as producer:
        assert producer.send_many([b"%d" % i for i in range(1000)], timeout=0) == AREA // 32
        assert producer.lag == AREA // 32
        with Consumer("r", timeout=5) as consumer:
            assert [consumer.recv(0) for _ in range(AREA // 32)] == [
                b"%d" % i for i in range(AREA // 32)
            ]


@pytest.mark.parametrize("end", ["close", "kill"])
def test_durable_queue_resumes_at_the_first_unreleased_message(end: str) -> None:
    body = """
        consumer = Consumer("r", timeout=20)
        assert consumer.recv(5) == b"0"
        with consumer.read(5) as frame:
            assert bytes(frame) == b"1"
        held = consumer.read(5)
        say("ready")
        hear()
        held = None
        consumer.close()
        """
    with Producer("r", capacity=AREA) as producer:
        producer.send_many([b"%d" % i for i in range(6)])
        with Peer(body) as peer:
            peer.expect()
            if end == "kill":
                peer.kill()
            else:
                peer.tell()
                peer.finish()
        with Consumer("r", timeout=5) as consumer:
            first = 2 if end == "kill" else 3
            for number in range(first, 6):
                with consumer.read(0) as frame:
                    assert (bytes(frame), frame.seq) == (b"%d" % number, number)


def test_durable_queue_survives_both_sides_leaving() -> None:
    with Producer("r", capacity=AREA) as producer:
        producer.send_many([b"a", b"b"])
    assert segment_path("r").exists()
    with Consumer("r", timeout=0) as consumer:
        assert consumer.recv(0) == b"a"
    with Producer("r", capacity=AREA) as producer:
        producer.send(b"c")
    with Consumer("r", timeout=0) as consumer:
        assert [consumer.recv(0), consumer.recv(0)] == [b"b", b"c"]
        with pytest.raises(shmipc.Closed):
            consumer.recv(0)
    assert not segment_path("r").exists()
    with pytest.raises(shmipc.NotFound):
        Consumer("r", timeout=0)


def test_start_says_where_a_consumer_of_many_joins() -> None:
    with Producer("r", capacity=AREA, max_consumers=4) as producer:
        producer.send_many([b"a", b"b"])
        with (
            Consumer("r", start="earliest", timeout=0) as early,
            Consumer("r", start="latest", timeout=0) as late,
            Consumer("r", timeout=0) as default,
        ):
            producer.send(b"c")
            assert [early.recv(0) for _ in range(3)] == [b"a", b"b", b"c"]
            assert late.recv(0) == default.recv(0) == b"c"
            assert (early.lost, late.lost) == (0, 0)
            assert early.pending == late.pending == 0


def test_start_latest_is_refused_by_a_durable_queue() -> None:
    with Producer("r"):
        with pytest.raises(ValueError, match="durable"):
            Consumer("r", start="latest", timeout=0)
        Consumer("r", start="earliest", timeout=0).close()


@pytest.mark.parametrize("bad", ["newest", "", 0, b"latest"])
def test_unknown_start_is_a_value_error(bad: Any) -> None:
    with pytest.raises(ValueError, match="start must be"):
        Consumer("r", start=bad, timeout=0)
