"""One consumer of the soak: reads in every way there is and proves every message it gets.

Owns: joining, reading, holding frames, leaving; the checks of order, bytes, losses and ends.
Must not know: processes and their orders (workers.py), kills (conductor.py).
"""

from __future__ import annotations

import pickle
import random
import signal
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from board import (
    ACKED,
    ATTEMPT,
    BEAT,
    COUNTER,
    DELIVERED,
    FINISH,
    LIFE,
    NUMBER_BITS,
    NUMBER_MASK,
    PHASE,
    RELEASE_ACKED,
    RELEASE_TRY,
    TOLD_PRODUCER_DIED,
    Board,
    Plan,
    note_event,
)

import shmipc
from shmipc import _core

PATIENCE = 3.0  # seconds of the longest single wait


class ViolationError(Exception):
    """Something that shmipc promises did not hold."""


def need(holds: bool, text: str) -> None:
    if not holds:
        raise ViolationError(text)


def look_at(name: str) -> Any:
    """What `shmipc list` would say of the ring; None if it is gone."""
    try:
        return _core.inspect_segment(_core.segment_path(name))
    except (FileNotFoundError, shmipc.Corrupt):
        return None


def thaw(frozen: bytes) -> Any:
    """Unpickle a Consumer. It would wait for ever for a ring that is gone meanwhile."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise shmipc.NotFound("the ring did not come back")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(8)
    try:
        return pickle.loads(frozen)
    finally:
        signal.alarm(0)


class Reader:
    """A Consumer of `plan`'s ring with the knowledge to judge what it gets."""

    def __init__(
        self, board: Board, plan: Plan, worker: Any, rng: random.Random, frozen: bytes | None = None
    ) -> None:
        self.plan = plan
        self.worker = worker
        self.rng = rng
        self.ring = board.ring(plan.ring)
        self.held: dict[int, Any] = {}  # first number -> (frame, its bytes then)
        self.life: int | None = None
        self.told_of = 0  # the producer that was said to be dead, or its successor, as we looked
        self.next: int | None = None  # number expected next; None before the first
        self.lost = 0
        self.buffer = bytearray(max(plan.sizes))
        before = self.ring[ACKED]
        self.latest = not plan.durable and rng.random() < 0.7
        start = "latest" if self.latest else None if plan.durable else "earliest"
        if frozen is not None:
            self.consumer = thaw(frozen)
        else:
            spin = rng.choice((None, None, 0))
            self.consumer = shmipc.Consumer(plan.name, start=start, timeout=0, spin=spin)
        if frozen is not None:
            self.latest = False  # it joins as the first did
        self.join_from, self.join_to = before, self.ring[ATTEMPT]
        self.count("joined")

    def count(self, name: str, by: int = 1) -> None:
        self.worker[COUNTER[name]] += by

    # ---- judging

    def first(self, number: int) -> None:
        """Judge where the stream begins for us."""
        self.lost = self.consumer.lost
        if self.plan.durable:
            self.life = self.ring[LIFE]
            floor, ceiling = self.ring[RELEASE_ACKED], self.ring[RELEASE_TRY]
            stamp = self.life << NUMBER_BITS | number
            need(
                floor <= stamp <= ceiling,
                f"durable: resumes at {number}, released were {floor & NUMBER_MASK} to "
                f"{ceiling & NUMBER_MASK} (life {self.life}, {floor >> NUMBER_BITS})",
            )
            self.ring[RELEASE_ACKED] = self.ring[RELEASE_TRY] = stamp
            self.count("redelivered", max(0, self.ring[DELIVERED] - stamp))
        else:
            # what was acknowledged before we joined at the latest is not ours, all after it is
            life = self.ring[LIFE]
            low, high = self.join_from & NUMBER_MASK, self.join_to & NUMBER_MASK
            if self.join_from >> NUMBER_BITS == life == self.join_to >> NUMBER_BITS:
                need(low <= number or not self.latest, f"{low} were sent, but it began at {number}")
                if self.plan.overflow == "block":
                    need(number <= high, f"lost: at most {high} were sent, it began at {number}")
        self.next = number

    def arrived(self, number: int, count: int) -> None:
        """Judge the order of `count` messages from `number` on."""
        if self.next is None:
            self.first(number)
        lost = self.consumer.lost
        gap = number - self.next
        self.count("disordered", gap < 0)
        self.count("lost", max(0, gap - (lost - self.lost)))
        need(
            gap == lost - self.lost,
            f"number {number} after {self.next - 1}: a gap of {gap}, .lost says {lost - self.lost}",
        )
        need(gap == 0 or self.plan.overflow == "overwrite", "lost under block")
        self.count("overwritten", gap)
        self.lost = lost
        self.next = number + count
        self.count("received", count)
        if self.plan.durable and self.life is not None:
            stamp = self.life << NUMBER_BITS | self.next
            if stamp > self.ring[DELIVERED]:
                self.ring[DELIVERED] = stamp

    def judge(self, data: Any, number: int) -> None:
        fault, life = self.plan.fault(data, number, self.life)
        self.count("torn", fault is not None)
        need(fault is None, f"message {number} {fault}")
        if life is not None:
            self.life = life
        self.worker[COUNTER["received_bytes"]] += len(data)

    # ---- what a durable queue may take as released

    def may_release(self, upto: int) -> None:
        if self.plan.durable and self.life is not None:
            self.ring[RELEASE_TRY] = max(
                self.ring[RELEASE_TRY], self.life << NUMBER_BITS | min([upto, *self.held])
            )

    def has_released(self, upto: int) -> None:
        if self.plan.durable and self.life is not None:
            self.ring[RELEASE_ACKED] = self.life << NUMBER_BITS | min([upto, *self.held])

    # ---- reading

    def step(self, patience: float = PATIENCE) -> str:
        """One read. "data", "empty", "died" (the producer) or "closed" (the stream)."""
        self.worker[BEAT] += 1
        acked, phase = self.ring[ACKED], self.ring[PHASE]
        if self.held:
            patience = min(patience, 0.02)
        start_ns = time.monotonic_ns()
        try:
            self.read(patience)
        except shmipc.Empty:
            self.count("timeouts")
            self.not_behind(acked, "Empty")
            if patience >= PATIENCE:
                self.not_with_the_dead()
            self.release_all()
            return "empty"
        except shmipc.ProducerDied:
            self.note_told()
            note_event(self.worker, TOLD_PRODUCER_DIED, self.plan.ring, start_ns)
            self.count("producer_died")
            self.not_behind(acked, "ProducerDied")
            self.release_all()
            return "died"
        except shmipc.Closed:
            self.count("closed")
            self.not_behind(acked, "Closed")
            self.release_all()
            if phase >= FINISH:
                self.at_the_end()
            return "closed"
        return "data"

    def not_behind(self, acked: int, told: str) -> None:
        """Nothing may be left of what was acknowledged before the call that found nothing."""
        if self.next is None or self.life is None or self.plan.overflow == "overwrite":
            return
        behind = acked - (self.life << NUMBER_BITS | self.next)
        same = acked >> NUMBER_BITS == self.life
        self.count("lost", behind if same and behind > 0 else 0)
        need(not same or behind <= 0, f"{told} although {behind} acknowledged are not received")

    def not_with_the_dead(self) -> None:
        """We waited for long and were told nothing: then the producer is alive, or died just now.

        If it is dead and we were not told yet, another read must say so (or find its successor's
        messages).
        """
        before = look_at(self.plan.name)
        if before is None or before["producer_alive"] or before["closed"]:
            return
        if before["producer_pid"] == self.told_of:
            return
        for _ in range(3):  # one may time out while we are stopped ourselves
            with suppress(shmipc.Empty):
                try:
                    self.read(1.0)
                except shmipc.ProducerDied:
                    self.note_told()
                except shmipc.Closed:
                    pass
                return
        after = look_at(self.plan.name)
        same = after is not None and after["producer_pid"] == before["producer_pid"]
        need(not same or after["producer_alive"], "waits for a dead producer, told nothing")

    def note_told(self) -> None:
        """A death is told once. Whose: a successor that has come since will be told of again."""
        found = look_at(self.plan.name)
        self.told_of = 0 if found is None or found["producer_alive"] else found["producer_pid"]

    def at_the_end(self) -> None:
        """The stream is over for good: all of it must have come, or be counted as lost."""
        acked = self.ring[ACKED]
        if self.next is None or acked >> NUMBER_BITS != self.life:
            return
        missed = (acked & NUMBER_MASK) - self.next
        lost = self.consumer.lost - self.lost
        self.count("lost", max(0, missed - lost))
        need(missed == lost, f"at the end {missed} are missing, .lost says {lost}")
        self.count("overwritten", lost)

    def read(self, patience: float) -> None:
        draw = self.rng.random()
        if self.next is None or draw < 0.25:
            self.take(self.consumer.read(patience), single=True)
        elif self.plan.item and draw < 0.6:
            most = self.rng.choice((None, None, 1, 7))
            self.take(self.consumer.read_batch(most, timeout=patience), single=False)
            self.count("batches")
        else:
            self.copy_out(patience, draw < 0.75)

    def copy_out(self, patience: float, into: bool) -> None:
        assert self.next is not None
        self.may_release(self.next + 1)
        try:
            if into:
                size = self.consumer.recv_into(self.buffer, patience)
                data: Any = memoryview(self.buffer)[:size]
            else:
                data = self.consumer.recv(patience)
                data = data.tobytes() if self.plan.item else data
        except (shmipc.Empty, shmipc.PeerDied, shmipc.Closed):
            if self.plan.durable and self.life is not None:
                self.ring[RELEASE_TRY] = self.ring[RELEASE_ACKED]
            raise
        number = self.next + self.consumer.lost - self.lost
        self.arrived(number, 1)
        self.judge(data, number)
        self.has_released(self.next)

    def take(self, frame: Any, single: bool) -> None:
        """Look at a frame; release it now, or keep it for a while."""
        number = frame.seq
        count = 1 if single else len(frame)
        self.arrived(number, count)
        if self.plan.item:
            array = frame.array if not single else frame.array.reshape(1)
            copies = [array[i : i + 1].tobytes() for i in range(count)]
            del array
        else:
            copies = [bytes(frame)]
        if self.plan.overflow == "overwrite" and not frame.intact:
            self.count("unsettled", count)  # overwritten while we looked, and said so
        else:
            for index, data in enumerate(copies):
                self.judge(data, number + index)
        self.held[number] = (frame, copies)
        del frame
        keep = 0 if self.rng.random() < 0.7 else self.rng.randrange(1, 7)
        self.count("held", keep > 0)
        while len(self.held) > keep:
            self.release(self.rng.choice(list(self.held)))

    def release(self, number: int) -> None:
        """Look again, since nobody may have touched what we hold, and give it back."""
        frame, copies = self.held[number]
        if self.plan.overflow == "block":
            array = frame.array
            again = array.tobytes()
            del array
            need(again == b"".join(copies), f"held frame {number} changed: TORN under a lease")
            need(frame.intact, f"held frame {number} of a blocking ring is not intact")
        del self.held[number]
        if self.next is not None:
            self.may_release(self.next)
        frame.release()
        if self.next is not None:
            self.has_released(self.next)

    def release_all(self) -> None:
        for number in self.rng.sample(list(self.held), len(self.held)):
            self.release(number)

    def close(self) -> None:
        """Leave; sometimes with frames still held, which must outlive the handle."""
        if not self.plan.durable and self.rng.random() < 0.5:
            self.consumer.close()
            self.release_all()
        else:
            self.release_all()
            self.consumer.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.consumer.close()
