"""Roles that hand over 64-byte ticks: one by one, there and back, in batches, to many.

Every tick is a ``capture.EVENT`` record numbered from 0. The producers number and add up what
they send, the consumers what they receive, and both report it; see ``proof.SequenceProof``.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import shmipc
from shmipc.demo import proof
from shmipc.demo.reporter import Reporter
from shmipc.trading.capture import EVENT

TICK_LEN = EVENT.itemsize
BLOCK = 1024  # ticks made, sent and checked at a time
RING_TICKS = 16384  # 1 MiB
PACED_TICKS = 16  # a burst, as a feed packet carries it
PACED_GAP_SECONDS = 0.001
JOIN_SECONDS = 30.0


def produce_singly(report: Reporter, *, ring: str, seconds: float) -> dict[str, Any]:
    """Send ticks of 64 bytes with one ``send`` each, as fast as they are taken."""
    ticks = proof.make_ticks(BLOCK)
    rows = [row.data for row in ticks.view(np.uint8).reshape(BLOCK, TICK_LEN)]
    sent = proof.SequenceProof()
    with shmipc.Producer(ring, capacity=RING_TICKS * (TICK_LEN + 16)) as producer:
        producer.wait_for_consumers(1, timeout=JOIN_SECONDS)
        send = producer.send
        start_ns = time.monotonic_ns()
        while time.monotonic_ns() - start_ns < seconds * 1e9:
            sent.add(ticks)
            for row in rows:
                send(row)
            ticks["id"] += BLOCK
            report.progress(sent.count)
    return {"sent": sent.count, "value": sent.value(), "start_ns": start_ns}


def consume_singly(report: Reporter, *, ring: str) -> dict[str, Any]:
    """Receive ticks with one ``recv`` each; check them a block at a time."""
    received = proof.SequenceProof()
    wrong_len = 0
    with shmipc.Consumer(ring, timeout=JOIN_SECONDS) as consumer:
        recv = consumer.recv
        ended = False
        while not ended:
            messages: list[bytes] = []
            take = messages.append
            try:
                for _ in range(BLOCK):
                    take(recv())
            except shmipc.Closed:
                ended = True
            whole = [message for message in messages if len(message) == TICK_LEN]
            wrong_len += len(messages) - len(whole)
            received.add(np.frombuffer(b"".join(whole), EVENT))
            report.progress(received.count)
        lost = consumer.lost
    fault = received.fault or (
        f"not of 64 bytes: {wrong_len} of the messages" if wrong_len else None
    )
    return {
        "received": received.count,
        "value": received.value(),
        "fault": fault,
        "copied": received.count * TICK_LEN,
        "lost": lost,
        "end_ns": time.monotonic_ns(),
    }


def ping(
    report: Reporter, *, there: str, back: str, seconds: float, sleeping: bool
) -> dict[str, Any]:
    """Send a tick and wait for it to come back, one outstanding at a time.

    `sleeping` has both sides give up the processor at once instead of spinning first.
    """
    spin: dict[str, Any] = {"spin": 0.0} if sleeping else {}
    tick = proof.make_ticks(1)
    tick_bytes = tick.view(np.uint8).data
    reply = bytearray(TICK_LEN)
    numbers = memoryview(reply).cast("q")  # the id is the third of its int64
    id_at = 2
    rounds_ns: list[int] = []
    fault: str | None = None
    with (
        shmipc.Producer(there, capacity=4096, **spin) as producer,
        shmipc.Consumer(back, timeout=JOIN_SECONDS, **spin) as consumer,
    ):
        producer.wait_for_consumers(1, timeout=JOIN_SECONDS)
        send, recv_into, clock = producer.send, consumer.recv_into, time.monotonic_ns
        end_ns = clock() + int(seconds * 1e9)
        number = 0
        before_ns = 0
        while before_ns < end_ns:
            tick["id"] = number
            before_ns = clock()
            send(tick_bytes)
            recv_into(reply)
            rounds_ns.append(clock() - before_ns)
            if numbers[id_at] != number and fault is None:
                fault = f"sent tick {number}, tick {numbers[id_at]} came back"
            number += 1
            if number % BLOCK == 0:
                report.progress(number)
        lost = consumer.lost
    warm = rounds_ns[len(rounds_ns) // 20 :]  # the first ones pay for cold caches
    return {
        "rounds": number,
        "percentiles_us": proof.percentiles_us(warm),
        "mean_us": sum(warm) / len(warm) / 1e3,
        "fault": fault,
        "lost": lost,
        "copied": number * TICK_LEN,
    }


def pong(report: Reporter, *, there: str, back: str, sleeping: bool) -> dict[str, Any]:
    """Send every tick back until the other side ends the stream."""
    spin: dict[str, Any] = {"spin": 0.0} if sleeping else {}
    count = 0
    with (
        shmipc.Producer(back, capacity=4096, **spin) as producer,
        shmipc.Consumer(there, timeout=JOIN_SECONDS, **spin) as consumer,
    ):
        recv, send = consumer.recv, producer.send
        try:
            while True:
                send(recv())
                count += 1
        except shmipc.Closed:
            pass
        lost = consumer.lost
    return {"rounds": count, "lost": lost}


def produce_batches(
    report: Reporter,
    *,
    ring: str,
    consumers: int,
    paced_seconds: float,
    flat_seconds: float,
) -> dict[str, Any]:
    """Send ticks with ``send_many``: first in paced bursts, then as fast as they are taken."""
    ticks = proof.make_ticks(BLOCK)
    burst = proof.make_ticks(PACED_TICKS)
    burst["flags"] |= proof.PACED
    sent = proof.SequenceProof()
    with shmipc.Producer(
        ring, dtype=EVENT, capacity=RING_TICKS, max_consumers=consumers
    ) as producer:
        producer.wait_for_consumers(consumers, timeout=JOIN_SECONDS)
        start = time.monotonic()
        bursts = max(10, round(paced_seconds / PACED_GAP_SECONDS))
        for number in range(bursts):
            time.sleep(max(0.0, start + number * PACED_GAP_SECONDS - time.monotonic()))
            burst["ts_init"] = time.monotonic_ns()
            producer.send_many(burst)
            sent.add(burst)
            burst["id"] += PACED_TICKS
            report.progress(sent.count)
        paced = sent.count
        ticks["id"] += paced
        start_ns = time.monotonic_ns()
        while time.monotonic_ns() - start_ns < flat_seconds * 1e9:
            producer.send_many(ticks)
            sent.add(ticks)
            ticks["id"] += BLOCK
            report.progress(sent.count)
    return {
        "sent": sent.count,
        "timed": sent.count - paced,
        "value": sent.value(),
        "start_ns": start_ns,
    }


def consume_batches(report: Reporter, *, ring: str) -> dict[str, Any]:
    """Read ticks with ``read_batch`` where they lie, and check every one of them."""
    received = proof.SequenceProof()
    ages_ns: list[int] = []
    batches = copied = 0
    with shmipc.Consumer(ring, timeout=JOIN_SECONDS) as consumer:
        memory = proof.RingMemory(ring)
        while True:
            try:
                frame = consumer.read_batch()
            except shmipc.Closed:
                break
            now_ns = time.monotonic_ns()
            with frame:
                array = frame.array
                received.add(array)
                if array["flags"][0] & proof.PACED:
                    # one age a burst: its ticks were sent by one commit
                    first = array[array["flags"] & proof.PACED != 0][::PACED_TICKS]
                    ages_ns += (now_ns - first["ts_init"]).tolist()
                if not memory.holds(array):
                    copied += array.nbytes
                del array
            batches += 1
            report.progress(received.count)
        lost = consumer.lost
    return {
        "received": received.count,
        "value": received.value(),
        "fault": received.fault,
        "ages_ns": ages_ns,
        "batches": batches,
        "copied": copied,
        "lost": lost,
        "end_ns": time.monotonic_ns(),
    }
