"""Byte-exact segments, format version 1: the package writes each vector of tests/native/c/vectors,
and reads it. tests/native/c/test_vectors.c does the same in C, with the same steps; stranger.py
knows only docs/format.md."""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmipc
import vectors
from helpers import NOTE_POS, NOTE_SEQ, Peer, get_u64, put_u64, segment_path, shift_positions
from shmipc import Consumer, Producer

AREA = 4096
PAGES = os.sysconf("SC_PAGESIZE") == 4096 and sys.byteorder == "little"
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not PAGES, reason="vectors are little-endian, with 4096-byte pages"),
]

CREATE_AND_DIE = """
    producer = Producer("v", capacity=4096, max_consumers=2)
    os._exit(0)
    """


def ramp(first: int, length: int) -> bytes:
    return bytes((first + i) % 256 for i in range(length))


def send(producer: Producer, number: int, length: int) -> None:
    """One message whose bytes, kind and flags follow from its number."""
    producer.send(ramp(number, length), kind=1 + number % 5, flags=number, timeout=0)


# ---- the steps -----------------------------------------------------------------------------------
# Each leaves a ring "v" in the state of its vector; what it opens lives until the stack is closed.


def message_ring(stack: ExitStack) -> None:
    producer = stack.enter_context(Producer("v", capacity=AREA, max_consumers=2))
    producer.send(b"hello", kind=7, flags=3)


def typed_ring(stack: ExitStack) -> None:
    dtype = [("a", "<u4"), ("b", ">f8")]
    producer = Producer("v", dtype=dtype, shape=(3,), capacity=8, max_consumers=3)
    stack.enter_context(producer)
    producer.send_many(ramp(0, 3 * 36), timeout=0)
    producer.send(ramp(108, 36), timeout=0)


def typed_large(stack: ExitStack) -> None:
    with Producer("v", dtype="u1", shape=(5000,), capacity=1) as producer:
        with Consumer("v", timeout=0) as consumer:
            producer.send(b"\x11" * 5000, timeout=0)
            consumer.read(0).release()
        producer.send(b"\x22" * 5000, timeout=0)


def typed_lapped(stack: ExitStack) -> None:
    producer = Producer("v", dtype="|V1000", capacity=4, max_consumers=1, overflow="overwrite")
    stack.enter_context(producer)
    for number in range(11):
        producer.send(bytes([number]) * 1000, timeout=0)


def overwrite_lapped(stack: ExitStack) -> None:
    producer = Producer("v", capacity=AREA, max_consumers=2, overflow="overwrite")
    stack.enter_context(producer)
    consumer = stack.enter_context(Consumer("v", timeout=0))
    for number in range(60):
        send(producer, number, number * 37 % 300)
        if number < 3:
            consumer.recv(0)


def durable_unreleased(stack: ExitStack) -> None:
    with Producer("v", capacity=AREA) as producer:
        for number in range(5):
            send(producer, number, 10 * number)
        with Consumer("v", timeout=0) as consumer:
            consumer.recv(0)
            consumer.recv(0)


def kept(stack: ExitStack) -> None:
    producer = stack.enter_context(Producer("v", capacity=AREA, max_consumers=4, hold_for=3))
    for number in range(4):
        send(producer, number, 10 * number)
    consumer = stack.enter_context(Consumer("v", timeout=0))
    consumer.recv(0)
    consumer.recv(0)


def closed(stack: ExitStack) -> None:
    producer = Producer("v", capacity=AREA, max_consumers=2)
    consumer = stack.enter_context(Consumer("v", timeout=0))
    for number in range(3):
        send(producer, number, 20)
    consumer.recv(0)
    producer.close()


def wrapped(stack: ExitStack) -> None:
    producer = stack.enter_context(Producer("v", capacity=AREA, max_consumers=3))
    first = stack.enter_context(Consumer("v", timeout=0))
    second = stack.enter_context(Consumer("v", timeout=0))
    for number in range(12):
        send(producer, number, 700)
        first.recv(0)
        if number < 10:
            second.recv(0)


def many_slots(stack: ExitStack) -> None:
    producer = stack.enter_context(Producer("v", capacity=AREA, max_consumers=1024))
    consumers = []
    for number in range(66):
        consumers.append(stack.enter_context(Consumer("v", timeout=0)))
        send(producer, number, 8)
    for number in range(0, 66, 3):
        consumers[number].close()


def near_wrap(stack: ExitStack) -> None:
    with Peer(CREATE_AND_DIE) as peer:
        peer.finish()
    shift_positions(segment_path("v"), 2**64 - 64, 2)
    producer = stack.enter_context(Producer("v", capacity=AREA, max_consumers=2))
    consumer = stack.enter_context(Consumer("v", timeout=0))
    for number in range(5):
        send(producer, number, 16)
    consumer.recv(0)


def died_committing(stack: ExitStack) -> None:
    """As when a producer dies between its note and its head: message 3 was never sent."""
    producer = stack.enter_context(Producer("v", capacity=AREA, max_consumers=2))
    for number in range(3):
        send(producer, number, 16)
    path = segment_path("v")
    head = 3 * 32
    spare = [get_u64(path, offset) != head for offset in NOTE_POS].index(True)
    put_u64(path, NOTE_POS[spare], head + 32)
    put_u64(path, NOTE_SEQ[spare], 4)
    with open(path, "rb+") as file:
        os.pwrite(file.fileno(), struct.pack("<IHHQ", 16, 4, 3, 3) + ramp(3, 16), AREA + head)


WRITERS: list[Callable[[ExitStack], None]] = [
    message_ring,
    typed_ring,
    typed_large,
    typed_lapped,
    overwrite_lapped,
    durable_unreleased,
    kept,
    closed,
    wrapped,
    many_slots,
    near_wrap,
    died_committing,
]


# ---- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_package_writes_the_vector(write: Callable[[ExitStack], None], shm_dir: Path) -> None:
    vector = vectors.load(write.__name__)
    before = time.time_ns()
    with ExitStack() as stack:
        write(stack)
        found = segment_path("v").read_bytes()
    segment_path("v").unlink(missing_ok=True)
    assert vector.differences(found) == []
    variables = vector.variables(found)
    assert before - 10**9 <= variables.pop("created_ns") <= time.time_ns() + 10**9
    assert set(variables.values()) <= {os.getpid()}


def test_there_is_a_writer_for_every_vector() -> None:
    assert sorted(write.__name__ for write in WRITERS) == vectors.NAMES


def test_vectors_leave_nothing_open_but_pids_and_the_time() -> None:
    for name in vectors.NAMES:
        vector = vectors.load(name)
        places = [(offset, *what) for offset, what in vector.varying.items()]
        pids = {(384, "producer_pid", 4)} | {(904 + 128 * i, f"pid{i}", 4) for i in range(1024)}
        assert set(places) - pids == {(88, "created_ns", 8)}, name


# ---- reading -------------------------------------------------------------------------------------


def as_bytes(item: Any) -> bytes:
    return item.tobytes() if isinstance(item, np.ndarray) else bytes(item)


@pytest.mark.parametrize("name", vectors.NAMES)
def test_package_reads_the_vector(name: str) -> None:
    vector = vectors.load(name)
    segment_path("v").write_bytes(vector.filled())
    got: list[tuple[tuple[int, ...], bytes]] = []
    with Consumer("v", timeout=0, start="earliest") as consumer:
        while len(got) < len(vector.gets):
            with consumer.read(0) as frame:
                numbers = (frame.seq, frame.kind, frame.flags)
                data = frame.array.tobytes() if consumer.dtype is not None else bytes(frame)
                got.append((numbers[: 1 if consumer.dtype is not None else 3], data))
        assert got == vector.gets
        ending = {"closed": shmipc.Closed, "died": shmipc.ProducerDied}[vector.ends]
        with pytest.raises(ending):
            consumer.recv(0)
        assert consumer.lost == 0
    segment_path("v").unlink(missing_ok=True)


@pytest.mark.parametrize("name", vectors.NAMES)
def test_package_goes_on_where_the_vector_stops(name: str) -> None:
    """A producer takes the segment over and sends what comes next."""
    vector = vectors.load(name)
    segment_path("v").write_bytes(vector.filled())
    segment_path("v").chmod(0o600)  # what permits more than its producer wants is not taken over
    geometry = struct.unpack_from("<6I", vector.content, 8)
    kinds: dict[str, Any] = {"max_consumers": geometry[4]}
    kinds["overflow"] = {1: "block", 2: "overwrite"}[geometry[3]]
    if geometry[2] == 2:
        dtype, shape = {
            "typed_ring": ([("a", "<u4"), ("b", ">f8")], (3,)),
            "typed_large": ("u1", (5000,)),
            "typed_lapped": ("|V1000", ()),
        }[name]
        kinds |= {"dtype": dtype, "shape": shape}
    path = segment_path("v")
    with Producer("v", **kinds) as producer, Consumer("v", timeout=0, start="earliest") as consumer:
        assert producer.stats().took_over
        assert get_u64(path, 392) == struct.unpack_from("<Q", vector.content, 392)[0] + 1
        for _ in vector.gets:
            consumer.read(0).release()
        producer.send(bytes(len(vector.gets[-1][1])), timeout=0)
        with consumer.read(0) as frame:
            assert frame.seq == vector.gets[-1][0][0] + 1
            data = frame if consumer.dtype is None else frame.array
            assert as_bytes(data) == bytes(len(vector.gets[-1][1]))
    path.unlink(missing_ok=True)
