"""Positions that start near 2^32 and 2^64, so that a few laps carry them across.

From outside: a producer dies, its fresh ring's positions are moved in the file, and the next
producer takes it over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import HEAD_POS, Peer, get_u64, payload, segment_path, shift_positions
from shmipc import Consumer, Producer

AREA = 4096
ORIGINS = [2**31, 2**32, 2**63, 2**64]
BEFORE = [16, AREA - 16, AREA, 5 * AREA]

CREATE_AND_DIE = """
    import ast
    producer = Producer("w", **ast.literal_eval(args[0]))
    os._exit(0)
    """


def number_in(data: Any) -> int:
    """The number that a message or an item starts with."""
    raw = bytes(data) if isinstance(data, bytes | shmipc.Frame) else data.tobytes()
    return int.from_bytes(raw, "little")


def make_ring(origin: int, **options: Any) -> Any:
    """A producer of a ring whose positions begin at `origin`."""
    with Peer(CREATE_AND_DIE, repr(options)) as peer:
        peer.finish()
    shift_positions(segment_path("w"), origin, options.get("max_consumers", 1))
    producer = Producer("w", **options)
    assert producer.stats().took_over
    assert producer.stats().committed_len == 0
    return producer


@pytest.mark.parametrize("wrap", ORIGINS)
@pytest.mark.parametrize("before", BEFORE)
def test_messages_cross_the_wrap(wrap: int, before: int) -> None:
    with make_ring(wrap - before, capacity=AREA) as producer, Consumer("w", timeout=0) as consumer:
        assert (producer.lag, consumer.pending, consumer.lag) == (0, 0, 0)
        sent = got = 0
        while got < 200:
            while producer.try_send(payload(sent, 12 + sent * 97 % 900)):
                sent += 1
            assert producer.lag == consumer.pending == sent - got
            for _ in range(1 + sent % 3):
                with consumer.read(0) as frame:
                    assert (bytes(frame), frame.seq) == (payload(got, 12 + got * 97 % 900), got)
                got += 1
                if got == sent:
                    break
        while got < sent:
            assert consumer.recv(0) == payload(got, 12 + got * 97 % 900)
            got += 1
        assert producer.stats().count == sent
        assert (get_u64(segment_path("w"), HEAD_POS) - wrap) % 2**64 < 2**62


@pytest.mark.parametrize("wrap", ORIGINS)
@pytest.mark.parametrize("length", [8, 24, 1000])
def test_items_cross_the_wrap(wrap: int, length: int) -> None:
    options = {"dtype": "u1", "shape": (length,), "capacity": 4}
    origin = wrap - 3 * length
    with make_ring(origin, **options) as producer, Consumer("w", timeout=0) as consumer:
        most = producer.capacity
        for lap in range(4):
            items = np.random.default_rng(lap).integers(0, 256, (most, length), dtype="u1")
            assert producer.send_many(items, timeout=0) == most
            assert not producer.try_send(items[0])
            assert producer.lag == consumer.pending == most
            with consumer.read_batch(timeout=0) as frame:
                assert frame.seq == lap * most
                assert (frame.array == items).all()
        assert producer.stats().count == 4 * most


@pytest.mark.parametrize("wrap", ORIGINS)
@pytest.mark.parametrize("typed", [False, True])
def test_overwrite_ring_counts_losses_across_the_wrap(wrap: int, typed: bool) -> None:
    options: dict[str, Any] = {"capacity": AREA, "overflow": "overwrite"}
    if typed:
        options |= {"dtype": "<u8", "capacity": AREA // 8}
    with make_ring(wrap - AREA - 48, **options) as producer, Consumer("w", timeout=0) as consumer:
        sent = received = 0
        for step in (3, 700, 40, 5, 1500, 100):
            for _ in range(step):
                producer.send(sent.to_bytes(8, "little"))
                sent += 1
            held = consumer.read(0)
            first = number_in(held)
            assert held.intact
            received += 1
            assert first + 1 == received + consumer.lost
            try:
                while True:
                    number = number_in(consumer.recv(0))
                    received += 1
                    assert number + 1 == received + consumer.lost
            except shmipc.Empty:
                pass
            assert received + consumer.lost == sent
            held.release()


@pytest.mark.parametrize("wrap", ORIGINS)
@pytest.mark.parametrize("typed", [False, True])
def test_many_consumers_cross_the_wrap_at_their_own_pace(wrap: int, typed: bool) -> None:
    options: dict[str, Any] = {"capacity": AREA, "max_consumers": 3}
    if typed:
        options |= {"dtype": "<u8", "capacity": AREA // 8}
    with make_ring(wrap - AREA // 2, **options) as producer:
        consumers = [Consumer("w", timeout=0) for _ in range(3)]
        sent = 0
        got = [0, 0, 0]
        for _ in range(20):
            while producer.try_send(sent.to_bytes(8, "little")):
                sent += 1
            assert producer.lag == sent - min(got)
            for which, share in ((0, 1), (1, 2), (2, 3)):  # all, half, a third of what is unread
                for _ in range((sent - got[which] + share - 1) // share):
                    assert number_in(consumers[which].recv(0)) == got[which]
                    got[which] += 1
        with pytest.raises(shmipc.Busy):
            Consumer("w", timeout=0)
        consumers[1].close()
        with Consumer("w", start="earliest", timeout=0) as late:
            assert number_in(late.recv(0)) <= min(got)
        consumers[0].close()
        consumers[2].close()


@pytest.mark.parametrize("wrap", ORIGINS)
def test_leases_hold_memory_across_the_wrap(wrap: int) -> None:
    with make_ring(wrap - 1024, capacity=AREA) as producer, Consumer("w", timeout=0) as consumer:
        for lap in range(4):
            producer.send_many([bytes([i]) * 1008 for i in range(4)], timeout=0)
            frames = [consumer.read(0) for _ in range(4)]
            frames[3].release()
            frames[1].release()
            assert (producer.lag, consumer.lag) == (4, 4)
            assert not producer.try_send(b"")
            frames[0].release()
            assert producer.lag == 2
            assert frames[2].array.tolist() == [2] * 1008
            frames[2].release()
            assert producer.lag == 0, lap


@pytest.mark.parametrize("wrap", ORIGINS)
def test_consumer_in_another_process_crosses_the_wrap_while_the_producer_blocks(wrap: int) -> None:
    body = """
        from helpers import payload
        consumer = Consumer("w", timeout=20)
        for number in range(int(args[0])):
            assert consumer.recv(20) == payload(number, 100)
        say("done")
        """
    with make_ring(wrap - 3 * AREA, capacity=AREA) as producer, Peer(body, 2000) as peer:
        for number in range(2000):
            producer.send(payload(number, 100), timeout=20)
        peer.expect("done")
        peer.finish()
