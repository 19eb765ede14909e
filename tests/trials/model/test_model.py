"""Hypothesis drives a ring and a list side by side; they must never differ."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import shmipc
from shmipc import Consumer, Producer

pytestmark = pytest.mark.once

AREA = 4096
names = (f"model{number}" for number in itertools.count())
sizes = st.integers(0, 1500)
picks = st.integers(0, 10**6)


class Reader:
    """A consumer and what it must see."""

    def __init__(self, consumer: Any, next_seq: int) -> None:
        self.consumer = consumer
        self.next_seq = next_seq
        self.first_seq = next_seq
        self.received = 0
        self.lost_expected = 0
        self.held: list[tuple[Any, int, int]] = []  # frame, first number, count

    @property
    def cursor(self) -> int:
        return min((first for _, first, _ in self.held), default=self.next_seq)


class RingModel(RuleBasedStateMachine):
    """Message or typed, block or overwrite, up to three consumers, in one process."""

    typed = False
    overwrite = False
    slots = 3

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(prefix="shmipc-model-", dir="/dev/shm")
        self.before = os.environ["SHMIPC_DIR"]
        os.environ["SHMIPC_DIR"] = self.directory
        self.name = next(names)
        self.sent: list[bytes] = []
        self.readers: list[Reader] = []

    @property
    def durable(self) -> bool:
        return self.slots == 1 and not self.overwrite

    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "max_consumers": self.slots,
            "overflow": "overwrite" if self.overwrite else "block",
            "capacity": AREA,
        }
        if self.typed:
            options |= {"dtype": "<u2", "shape": (50,), "capacity": AREA // 100}
        return options

    @initialize()
    def open(self) -> None:
        self.producer: Any = Producer(self.name, **self.options())
        self.resume = 0

    def data(self, size: int) -> bytes:
        number = len(self.sent)
        if self.typed:
            return np.full(50, number % 65536, "<u2").tobytes()
        return number.to_bytes(4, "little") * (size // 4) + b"." * (size % 4)

    @property
    def span_used(self) -> int:
        """Bytes that the slowest reader keeps from reuse."""
        if self.overwrite:
            return 0
        cursors = [reader.cursor for reader in self.readers]
        if self.durable and not cursors:
            cursors = [self.resume]
        first = min(cursors, default=len(self.sent))
        return sum(map(self.span, self.sent[first:]))

    def span(self, data: bytes) -> int:
        return len(data) if self.typed else (16 + len(data) + 15) // 16 * 16

    def fits(self, data: bytes) -> bool:
        room = self.producer.capacity * (100 if self.typed else 1)
        return self.span_used + self.span(data) <= room  # type: ignore[no-any-return]

    # ---- the producer ----

    @rule(size=sizes)
    def send(self, size: int) -> None:
        data = self.data(size)
        fits = self.fits(data)
        assert self.producer.try_send(data) == fits
        if fits:
            self.sent.append(data)

    @rule(size=sizes, how=st.sampled_from(["commit", "part", "abort", "raise"]))
    def reserve(self, size: int, how: str) -> None:
        data = self.data(size)
        fits = self.fits(data)
        try:
            room = self.producer.reserve(1 if self.typed else len(data), timeout=0)
        except shmipc.Full:
            assert not fits
            return
        assert fits
        if self.typed:
            room.array[0] = np.frombuffer(data, "<u2")
        elif data:
            room.array[:] = np.frombuffer(data, "u1")
        if how == "abort":
            room.abort()
        elif how == "raise":
            with pytest.raises(LookupError), room:
                raise LookupError
        elif how == "part" and not self.typed:
            room.commit(len(data) // 2)
            self.sent.append(data[: len(data) // 2])
        else:
            room.commit()
            self.sent.append(data)

    @rule(count=st.integers(0, 60), size=st.integers(0, 200))
    def send_many(self, count: int, size: int) -> None:
        before = len(self.sent)
        batch: list[bytes] = []
        for _ in range(count):
            data = self.data(size)
            fits = self.fits(data)
            if not fits:
                break
            self.sent.append(data)
            batch.append(data)
        offered = list(batch)
        if len(batch) < count:
            offered.append(self.data(size))
        try:
            items: Any = b"".join(offered) if self.typed else offered
            sent = self.producer.send_many(items, timeout=0)
        except shmipc.Full:
            sent = 0
            assert offered
        assert sent == len(batch)
        assert len(self.sent) == before + sent

    @rule()
    def restart_producer(self) -> None:
        self.producer.close()
        self.producer = Producer(self.name, **self.options())
        if not self.readers and not (self.durable and self.resume < len(self.sent)):
            self.sent.clear()  # nobody was left, nothing owed: a new ring
            self.resume = 0

    # ---- consumers ----

    @precondition(lambda self: len(self.readers) < self.slots)
    @rule()
    def join(self) -> None:
        consumer = Consumer(self.name, timeout=0)
        self.readers.append(Reader(consumer, self.resume if self.durable else len(self.sent)))

    @precondition(lambda self: len(self.readers) == self.slots)
    @rule()
    def join_too_many(self) -> None:
        with pytest.raises(shmipc.Busy):
            Consumer(self.name, timeout=0)

    @precondition(lambda self: self.readers)
    @rule(pick=picks)
    def leave(self, pick: int) -> None:
        reader = self.readers.pop(pick % len(self.readers))
        for frame, _, _ in reader.held:
            frame.release()
        reader.held.clear()
        self.resume = reader.cursor
        reader.consumer.close()

    def take(self, reader: Reader, seq: int) -> int:
        """The number of what was just read, from its seq; checks the gap against lost."""
        if self.overwrite:
            assert seq >= reader.next_seq
        else:
            assert seq == reader.next_seq
        assert reader.consumer.lost == reader.lost_expected + seq - reader.next_seq
        reader.lost_expected = reader.consumer.lost
        reader.next_seq = seq + 1
        reader.received += 1
        return seq

    @precondition(lambda self: self.readers)
    @rule(pick=picks)
    def recv(self, pick: int) -> None:
        reader = self.readers[pick % len(self.readers)]
        if reader.next_seq == len(self.sent):
            with pytest.raises(shmipc.Empty):
                reader.consumer.recv(0)
            return
        lost = reader.consumer.lost
        data = bytes(reader.consumer.recv(0))
        seq = reader.next_seq + reader.consumer.lost - lost
        assert data == self.sent[self.take(reader, seq)]

    @precondition(lambda self: self.readers)
    @rule(pick=picks, most=st.integers(1, 30))
    def read(self, pick: int, most: int) -> None:
        reader = self.readers[pick % len(self.readers)]
        consumer = reader.consumer
        try:
            frame = consumer.read_batch(most, timeout=0) if self.typed else consumer.read(0)
        except shmipc.Empty:
            assert reader.next_seq == len(self.sent)
            return
        count = len(frame) if self.typed else 1
        assert count <= most
        first = self.take(reader, frame.seq)
        reader.next_seq = first + count
        assert bytes(frame) == b"".join(self.sent[first : first + count])
        reader.held.append((frame, first, count))

    @precondition(lambda self: any(reader.held for reader in self.readers))
    @rule(pick=picks, which=picks, how=st.sampled_from(["release", "with", "drop"]))
    def let_go(self, pick: int, which: int, how: str) -> None:
        holders = [reader for reader in self.readers if reader.held]
        held = holders[pick % len(holders)].held
        frame, first, count = held.pop(which % len(held))
        if not self.overwrite or frame.intact:
            assert frame.array.tobytes() == b"".join(self.sent[first : first + count])
        if how == "release":
            frame.release()
        elif how == "with":
            with frame:
                pass
        del frame

    # ---- always ----

    @invariant()
    def counters_agree(self) -> None:
        if not hasattr(self, "producer"):
            return
        assert self.producer.stats().count == len(self.sent)
        assert self.producer.attached == len(self.readers)
        for reader in self.readers:
            if not self.overwrite:
                assert reader.consumer.pending == len(self.sent) - reader.next_seq
                assert reader.consumer.lag == len(self.sent) - reader.cursor
                assert reader.consumer.lost == 0
            assert reader.consumer.stats().frames == len(reader.held)
        if not self.overwrite:
            cursors = [reader.cursor for reader in self.readers]
            if self.durable and not cursors:
                cursors = [self.resume]
            assert self.producer.lag == len(self.sent) - min(cursors, default=len(self.sent))

    @invariant()
    def held_memory_is_unchanged(self) -> None:
        if self.overwrite:
            return
        for reader in self.readers:
            for frame, first, count in reader.held:
                assert bytes(frame) == b"".join(self.sent[first : first + count])

    def teardown(self) -> None:
        for reader in self.readers:
            for frame, _, _ in reader.held:
                frame.release()
            reader.consumer.close()
        if hasattr(self, "producer"):
            self.producer.close()
        shutil.rmtree(self.directory)
        os.environ["SHMIPC_DIR"] = self.before


MODEST = settings(
    max_examples=40,
    stateful_step_count=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("overwrite", [False, True], ids=["block", "overwrite"])
@pytest.mark.parametrize("typed", [False, True], ids=["message", "typed"])
def test_ring_agrees_with_a_list(typed: bool, overwrite: bool, slots: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    machine = type(
        "Machine", (RingModel,), {"typed": typed, "overwrite": overwrite, "slots": slots}
    )
    run_state_machine_as_test(machine, settings=MODEST)
