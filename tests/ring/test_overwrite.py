"""Overwrite rings: the producer never waits, the lapped skip ahead, what was lost is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import Peer, payload
from shmipc import Consumer, Producer

AREA = 4096
OPTIONS: dict[str, Any] = {"overflow": "overwrite", "capacity": AREA}


def drain(consumer: Any) -> list[bytes]:
    got = []
    while True:
        try:
            got.append(consumer.recv(0))
        except (shmipc.Empty, shmipc.Closed):
            return got


def numbered(number: int, size: int = 16) -> bytes:
    return b"%016d" % number + bytes(size - 16)


# ---- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 3])
def test_producer_never_waits(slots: int) -> None:
    with Producer("o", max_consumers=slots, **OPTIONS) as producer, Consumer("o", timeout=0):
        for number in range(2000):
            producer.send(numbered(number), timeout=0)
            assert producer.try_send(b"")
        assert producer.send_many([b"x"] * 5000, timeout=0) == 5000


def test_lapped_consumer_skips_to_the_newest_and_counts_what_it_lost() -> None:
    with Producer("o", **OPTIONS) as producer, Consumer("o", timeout=0) as consumer:
        for number in range(1000):
            producer.send(numbered(number))
        assert drain(consumer) == [numbered(999)]
        assert consumer.lost == 999
        assert consumer.pending == 0
        for number in range(1000, 1000 + AREA // 32):
            producer.send(numbered(number))
        assert drain(consumer) == [numbered(number) for number in range(1000, 1000 + AREA // 32)]
        assert consumer.lost == 999


@pytest.mark.parametrize("sizes", [(16,), (16, 1000, 300), (2000, 40)], ids=str)
@pytest.mark.parametrize("burst", [1, 7, 200])
def test_received_plus_lost_is_sent(sizes: tuple[int, ...], burst: int) -> None:
    with Producer("o", **OPTIONS) as producer, Consumer("o", timeout=0) as consumer:
        sent = received = 0
        for round_ in range(30):
            for _ in range(burst + round_):
                producer.send(numbered(sent, sizes[sent % len(sizes)]))
                sent += 1
            for data in drain(consumer):
                number = int(data[:16])
                assert data == numbered(number, sizes[number % len(sizes)])
                received += 1
                assert number + 1 == received + consumer.lost
            assert received + consumer.lost == sent
        assert (consumer.lost > 0) == (burst == 200 or len(sizes) > 1)


def test_consumer_that_keeps_up_loses_nothing() -> None:
    with Producer("o", **OPTIONS) as producer, Consumer("o", timeout=0) as consumer:
        for number in range(2000):
            producer.send(numbered(number))
            assert consumer.recv(0) == numbered(number)
        assert consumer.lost == 0


def test_each_consumer_counts_its_own_losses() -> None:
    with (
        Producer("o", max_consumers=2, **OPTIONS) as producer,
        Consumer("o", timeout=0) as fast,
        Consumer("o", timeout=0) as slow,
    ):
        for number in range(1000):
            producer.send(numbered(number))
            assert fast.recv(0) == numbered(number)
        got = drain(slow)
        assert (fast.lost, slow.lost) == (0, 1000 - len(got))


def test_consumer_joins_at_the_next_message_or_at_the_oldest_retained() -> None:
    with Producer("o", max_consumers=3, **OPTIONS) as producer:
        for number in range(1000):
            producer.send(numbered(number))
        with (
            Consumer("o", timeout=0) as default,
            Consumer("o", start="latest", timeout=0) as late,
            Consumer("o", start="earliest", timeout=0) as early,
        ):
            got = drain(early)
            assert got == [numbered(number) for number in range(1000 - AREA // 32, 1000)]
            producer.send(numbered(1000))
            assert drain(default) == drain(late) == drain(early) == [numbered(1000)]
            assert late.lost == default.lost == early.lost == 0


def test_oldest_retained_is_a_whole_message_whatever_the_sizes() -> None:
    with Producer("o", max_consumers=64, **OPTIONS) as producer:
        for number in range(300):
            producer.send(numbered(number, 16 + number * 37 % 500))
            with Consumer("o", start="earliest", timeout=0) as consumer:
                numbers = [int(data[:16]) for data in drain(consumer)]
                assert numbers == list(range(number + 1 - len(numbers), number + 1))
                assert len(numbers) >= min(number + 1, 6)


def test_message_as_large_as_the_ring_replaces_everything() -> None:
    with Producer("o", **OPTIONS) as producer, Consumer("o", timeout=0) as consumer:
        producer.send(b"small")
        producer.send(b"L" * (AREA - 16))
        assert drain(consumer) == [b"L" * (AREA - 16)]
        assert consumer.lost == 1
        with pytest.raises(ValueError, match="never fits"):
            producer.send(bytes(AREA - 15))


def test_recv_into_and_recv_text_skip_too() -> None:
    with Producer("o", **OPTIONS) as producer, Consumer("o", timeout=0) as consumer:
        for number in range(500):
            producer.send_text(f"{number:016}")
        assert int(consumer.recv_text(0)) == consumer.lost == 499
        for number in range(500, 1000):
            producer.send_text(f"{number:016}")
        buffer = bytearray(16)
        assert consumer.recv_into(buffer, 0) == 16
        assert int(buffer) == 999
        assert consumer.lost == 998


def test_what_was_committed_before_the_end_is_read_after_it() -> None:
    with Producer("o", **OPTIONS) as producer, Consumer("o", timeout=0) as consumer:
        for number in range(500):
            producer.send(numbered(number))
        producer.close()
        got = drain(consumer)
        assert len(got) + consumer.lost == 500
        with pytest.raises(shmipc.Closed):
            consumer.recv()


# ---- frames --------------------------------------------------------------------------------------


def test_frame_is_intact_until_its_memory_may_have_been_reused() -> None:
    with Producer("o", **OPTIONS) as producer, Consumer("o", timeout=0) as consumer:
        producer.send(numbered(0))
        frame = consumer.read(0)
        array = frame.array
        turned_at = None
        for number in range(1, 500):
            assert frame.intact == (turned_at is None)
            if frame.intact:
                assert array.tobytes() == numbered(0)
            producer.send(numbered(number))
            if turned_at is None and not frame.intact:
                turned_at = number
        assert turned_at is not None
        assert AREA // 32 - 1 <= turned_at <= AREA // 32
        assert frame.seq == 0
        del array
        frame.release()
        assert not frame.intact
        got = drain(consumer)
        assert len(got) + consumer.lost + 1 == 500


def test_frame_held_holds_nobody_back_and_costs_nothing_later() -> None:
    with Producer("o", **OPTIONS) as producer, Consumer("o", timeout=0) as consumer:
        frames = []
        for number in range(300):
            producer.send(numbered(number))
            frames.append(consumer.read(0))
        assert [frame.seq for frame in frames] == list(range(300))
        assert not frames[0].intact
        assert frames[-1].intact
        frames.clear()
        assert consumer.lost == 0
        assert consumer.stats().frames == 0


@pytest.mark.parametrize("typed", [False, True])
def test_camera_that_laps_its_reader_sets_it_where_it_has_the_longest_time(typed: bool) -> None:
    """A step is a frame sent; the reader needs three for each that it looks at."""
    shape = (48, 64)
    options: dict[str, Any] = {"dtype": np.uint8, "shape": shape} if typed else {}
    capacity = 4 if typed else 16384
    image = np.zeros(shape, np.uint8)
    with (
        Producer("o", overflow="overwrite", capacity=capacity, **options) as camera,
        Consumer("o", timeout=0) as reader,
    ):
        retained = camera.capacity if typed else capacity // (image.nbytes + 16)
        sent = received = skips = 0

        def send(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                camera.send(image + np.uint8(sent % 251) if typed else bytes([sent % 251]) * 3072)
                sent += 1

        send(retained + 1)
        for _ in range(60):
            lost = reader.lost
            with reader.read(0) as frame:
                number = received + reader.lost
                received += 1
                if reader.lost != lost:
                    skips += 1
                    assert number == frame.seq == sent - 1, "the newest"
                    send(retained - 1)
                    assert frame.intact
                    assert (frame.array.view(np.uint8) == number % 251).all()
                    send(1)
                    assert not frame.intact
                else:
                    send(3)
        assert skips >= 20
        assert received + len(drain(reader)) + reader.lost == sent


# ---- typed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 100, 640])
@pytest.mark.parametrize("burst", [1, 50, 5000])
def test_typed_received_plus_lost_is_sent(size: int, burst: int) -> None:
    with (
        Producer("o", dtype="<u8", shape=(size,), capacity=5, overflow="overwrite") as producer,
        Consumer("o", timeout=0) as consumer,
    ):
        sent = received = 0
        for round_ in range(10):
            count = burst + round_
            numbers = np.arange(sent, sent + count, dtype="<u8")
            producer.send_many(np.repeat(numbers, size).reshape(count, size), timeout=0)
            sent += count
            while consumer.pending:
                frame = consumer.read_batch(3 + round_, timeout=0)
                first = frame.seq
                assert frame.array.tolist() == [[first + i] * size for i in range(len(frame))]
                received += len(frame)
                assert first + len(frame) == received + consumer.lost
                del frame
            assert received + consumer.lost == sent


def test_typed_ring_retains_as_many_items_as_fit() -> None:
    with (
        Producer("o", dtype="<u8", shape=(3,), capacity=5, overflow="overwrite") as producer,
    ):
        most = producer.capacity
        for number in range(3 * most):
            producer.send(np.full(3, number, "<u8"))
        with Consumer("o", start="earliest", timeout=0) as early:
            with early.read_batch(timeout=0) as batch:
                assert batch.array[:, 0].tolist() == list(range(2 * most, 3 * most))
            assert early.lost == 0


# ---- two processes -------------------------------------------------------------------------------

READ_MESSAGES = """
    from helpers import check_payload
    consumer = Consumer("o", timeout=20, spin=float(args[0]))
    say("ready")
    received, last = 0, -1
    try:
        while True:
            number = check_payload(consumer.recv(20))
            assert number > last
            last = number
            received += 1
            if received % 1000 == 999:
                time.sleep(0.002)
    except Closed:
        say(received, consumer.lost, last)
    """


@pytest.mark.parametrize("spin", [0, 0.0001])
def test_message_is_never_torn_under_a_producer_that_runs_over_its_reader(spin: float) -> None:
    payloads = [payload(number, 40 + number * 61 % 700) for number in range(5000)]
    with Producer("o", overflow="overwrite", capacity=8192) as producer:  # noqa: SIM117
        with Peer(READ_MESSAGES, spin) as peer:
            peer.expect()
            for start in range(0, 5000, 40):
                producer.send_many(payloads[start : start + 40], timeout=0)
            for number in range(10_000, 10_020):
                producer.send(payload(number, 16))
            producer.close()
            received, lost, last = map(int, peer.hear().split())
            peer.finish()
    assert received > 0
    assert last >= 10_000
    assert received + lost == 5020


@pytest.mark.parametrize("spin", [0, 0.0001, 1])
@pytest.mark.parametrize("length", [1, 30, 100, 4000])
def test_typed_item_is_never_torn_under_a_producer_that_runs_over_its_reader(
    spin: float, length: int
) -> None:
    body = """
        consumer = Consumer("o", timeout=20, spin=float(args[0]))
        say("ready")
        received, torn = 0, 0
        try:
            while True:
                if received % 3:
                    item = consumer.recv(20)
                    assert (item == item[0]).all(), item
                    received += 1
                else:
                    frame = consumer.read_batch(timeout=20)
                    copy = frame.array.copy()
                    if frame.intact:
                        assert (copy == copy[:, :1]).all()
                        assert (np.diff(copy[:, 0].astype(int)) == 1).all()
                    else:
                        torn += 1
                    received += len(frame)
                    frame = None
        except Closed:
            say(received, consumer.lost)
        """
    items = np.repeat(np.arange(200_000, dtype="<u8"), 16).reshape(-1, 16)
    with Producer("o", dtype="<u8", shape=(16,), capacity=64, overflow="overwrite") as producer:  # noqa: SIM117
        with Peer(body, spin) as peer:
            peer.expect()
            for start in range(0, len(items), length):
                producer.send_many(items[start : start + length], timeout=0)
            producer.close()
            received, lost = map(int, peer.hear().split())
            peer.finish()
    assert received > 0
    assert received + lost == len(items)
