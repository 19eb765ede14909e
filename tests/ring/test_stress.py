"""Two and more real processes over small rings: every message once, in order, byte for byte."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import Peer
from shmipc import Producer

pytestmark = pytest.mark.once

READER = """
    import random
    from helpers import check_payload
    name, count, spin, how, pace = args
    count, pace = int(count), float(pace)
    rng = random.Random(count)
    consumer = Consumer(name, timeout=30, spin=None if spin == "None" else float(spin))
    say("ready")
    buffer = bytearray(1 << 20)
    for number in range(count):
        if how == "recv":
            data = consumer.recv(30)
        elif how == "recv_into":
            data = bytes(memoryview(buffer)[:consumer.recv_into(buffer, 30)])
        else:
            frame = consumer.read(30)
            assert frame.seq == number
            data = bytes(frame)
            frame.release()
        assert check_payload(data) == number, number
        if pace and rng.random() < pace:
            time.sleep(0.001)
    try:
        consumer.recv(30)
    except Closed:
        pass
    assert consumer.lost == 0
    consumer.close()
    say("done")
    """


def payloads(count: int, largest: int, seed: int) -> list[bytes]:
    """Self-checking messages of random sizes, made from one pool so that making them is cheap."""
    import struct
    import zlib

    rng = random.Random(seed)
    pool = rng.randbytes(1 << 16)
    made = []
    for number in range(count):
        size = min(rng.choice([0, 1, 20, 4, 100, 300, 3000]), largest - 12)
        start = rng.randrange(len(pool) - size)
        body = pool[start : start + size]
        made.append(struct.pack("<QI", number, zlib.crc32(body, number)) + body)
    return made


def run(
    count: int,
    *,
    readers: int = 1,
    capacity: int = 4096,
    spin: float | None = None,
    how: str = "recv",
    batch: int = 1,
    read_pace: float = 0.0,
    send_pace: float = 0.0,
) -> None:
    import time
    from contextlib import ExitStack

    messages = payloads(count, capacity // 2, count)
    rng = random.Random(batch)
    with ExitStack() as stack:
        producer = stack.enter_context(
            Producer("s", capacity=capacity, max_consumers=readers, spin=spin)
        )
        peers = [
            stack.enter_context(Peer(READER, "s", count, spin, how, read_pace if i == 0 else 0))
            for i in range(readers)
        ]
        for peer in peers:
            peer.expect()
        sent = 0
        while sent < count:
            if batch == 1:
                producer.send(messages[sent], timeout=30)
                sent += 1
            else:
                run_len = rng.randrange(1, batch)
                sent += producer.send_many(messages[sent : sent + run_len], timeout=30)
            if send_pace and rng.random() < send_pace:
                time.sleep(0.001)
        producer.close()
        for peer in peers:
            peer.expect("done", timeout=60)
            peer.finish()


@pytest.mark.parametrize("spin", [0, None])
@pytest.mark.parametrize("how", ["recv", "read", "recv_into"])
def test_messages_arrive_once_in_order_and_whole(spin: float | None, how: str) -> None:
    run(10_000, spin=spin, how=how)


@pytest.mark.parametrize("batch", [10, 500])
def test_batches_of_messages_arrive_once_in_order_and_whole(batch: int) -> None:
    run(20_000, batch=batch)


def test_slow_reader_holds_a_fast_sender_back_and_gets_everything() -> None:
    run(5_000, read_pace=0.02, batch=50)


def test_slow_sender_keeps_a_fast_reader_waiting_and_loses_nothing() -> None:
    run(3_000, send_pace=0.05, how="read")


@pytest.mark.parametrize("spin", [0, None])
def test_five_readers_in_five_processes_each_get_everything(spin: float | None) -> None:
    run(3_000, readers=5, spin=spin, batch=20, read_pace=0.01)


def test_ping_pong_between_two_processes_loses_no_wake_up() -> None:
    body = """
        there = Consumer("s.there", timeout=30, spin=0)
        back = Producer("s.back", spin=0, capacity=4096)
        say("ready")
        for frame in there:
            back.send(frame)
        back.close()
        there.close()
        say("done")
        """
    with Producer("s.there", spin=0, capacity=4096) as there, Peer(body) as peer:
        with shmipc.Consumer("s.back", timeout=30, spin=0) as back:
            peer.expect()
            for number in range(5_000):
                there.send(b"%d" % number)
                assert back.recv(30) == b"%d" % number
            there.close()
            with pytest.raises(shmipc.Closed):
                back.recv(30)
        peer.expect("done")
        peer.finish()


TYPED_READER = """
    total, width, how = map(int, args)
    consumer = Consumer("s", timeout=30)
    most = min(how or consumer.capacity, consumer.capacity // 4)  # three held leave the rest
    say("ready")
    expected = 0
    held = []
    while expected < total:
        frame = consumer.read(30) if how == 1 else consumer.read_batch(most, timeout=30)
        array = frame.array if how != 1 else frame.array[np.newaxis]
        numbers = np.arange(expected, expected + len(array), dtype="<u8")
        assert frame.seq == expected
        assert (array == numbers[:, np.newaxis]).all(), (expected, array)
        expected += len(array)
        held.append((array, numbers))
        del frame, array
        if len(held) > 2:
            array, numbers = held.pop(0)
            assert (array == numbers[:, np.newaxis]).all()
            del array
    held.clear()
    consumer.close()
    say("done")
    """


@pytest.mark.parametrize("how", [0, 1, 7])
@pytest.mark.parametrize("width", [1, 3, 700])
def test_items_read_in_place_stay_as_sent_while_they_are_held(width: int, how: int) -> None:
    count = 40_000 if width < 10 else 6_000
    rng = random.Random(width)
    with Producer("s", dtype="<u8", shape=(width,), capacity=8) as producer:  # noqa: SIM117
        with Peer(TYPED_READER, count, width, how) as peer:
            peer.expect()
            sent = 0
            while sent < count:
                run_len = min(rng.randrange(1, 2 * producer.capacity), count - sent)
                numbers = np.arange(sent, sent + run_len, dtype="<u8")
                items: Any = np.repeat(numbers, width).reshape(run_len, width)
                assert producer.send_many(items, timeout=30) == run_len
                sent += run_len
            peer.expect("done", timeout=60)
            peer.finish()


@pytest.mark.soak
@pytest.mark.parametrize("spin", [0, None])
@pytest.mark.parametrize("readers", [1, 5])
@pytest.mark.parametrize("batch", [1, 100])
def test_soak(spin: float | None, readers: int, batch: int) -> None:
    run(1_000_000 // readers, readers=readers, spin=spin, batch=batch, read_pace=0.0005)
