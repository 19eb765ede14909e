"""The mortal roles of the soak's processes: producers and consumers of one ring's episode.

Owns: what one process does until it is told to leave or is killed. Must not know: who is killed
when. A worker ends with 0 (told to, or its ring is over), HANDED_OVER (its place in the board has
a new process), or VIOLATION with the reason in a file.
"""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from board import (
    ACKED,
    ANON_FIRST,
    ANON_LAST,
    ATTEMPT,
    BEAT,
    COUNTER,
    DELIVERED,
    DRAIN,
    EVICTED,
    FDS_FIRST,
    FDS_LAST,
    GEN,
    LEAVE,
    LIFE,
    NUMBER_BITS,
    NUMBER_MASK,
    OPENED,
    ORDER,
    PHASE,
    PID,
    RELEASE_ACKED,
    RELEASE_TRY,
    RUN,
    TOLD_CONSUMER_DIED,
    Board,
    Plan,
    load_plan,
    note_event,
)
from reader import PATIENCE, Reader, look_at, need

import shmipc

VIOLATION, HANDED_OVER = 3, 7
WARM_UP_NS = 20_000_000_000  # before a resident's memory and descriptors are first looked at


def report(directory: str, slot: int, text: str) -> None:
    path = Path(directory) / f"violation.{slot}.{os.getpid()}"
    path.write_text(text)


class LeaveError(Exception):
    """The worker's time is over."""


def take_ring(plan: Plan, producer: Any, ring: Any) -> int:
    """Judge where a producer found its ring; returns the stamp of the next message."""
    stats = producer.stats()
    found = stats.committed_len // plan.item if plan.item else stats.count
    life, acked, attempt = ring[LIFE], ring[ACKED], ring[ATTEMPT]
    if found == 0:
        if plan.durable and life:
            need(ring[RELEASE_TRY] >= acked, "a durable ring began anew with messages unreleased")
        life += 1
        ring[LIFE] = life
        for word in (ATTEMPT, ACKED, DELIVERED, RELEASE_TRY, RELEASE_ACKED):
            ring[word] = life << NUMBER_BITS
        return life << NUMBER_BITS
    stamp = life << NUMBER_BITS | found
    need(
        stats.took_over and acked <= stamp <= attempt,
        f"the ring holds {found}, its producers had {acked & NUMBER_MASK} acknowledged of "
        f"{attempt & NUMBER_MASK}",
    )
    ring[ATTEMPT] = ring[ACKED] = stamp
    return stamp


class Worker:
    """What every role has: a place in the board, orders, children."""

    def __init__(self, directory: str, slot: int, generation: int) -> None:
        self.directory = directory
        self.slot = slot
        self.generation = generation
        self.board = Board(directory)
        self.area = self.board.worker(slot)
        self.rng = random.Random(f"{os.environ['SOAK_SEED']}.{slot}.{generation}")
        self.children: list[int] = []

    def count(self, name: str, by: int = 1) -> None:
        self.area[COUNTER[name]] += by

    def beat(self) -> None:
        self.area[BEAT] += 1
        if self.area[GEN] != self.generation or self.area[ORDER] == LEAVE:
            raise LeaveError

    def nap(self, seconds: float) -> None:
        time.sleep(seconds)

    def fork(self, handle: Any, call: Any) -> None:
        """A child that inherits our handles, is refused their use, and ends."""
        self.reap()
        if len(self.children) > 2:
            return
        self.count("forks")
        seconds = self.rng.random() * 0.3
        child = os.fork()
        if child:
            self.children.append(child)
            return
        try:
            time.sleep(seconds)
            try:
                call()
            except RuntimeError:
                pass
            else:
                report(self.directory, self.slot, "a forked child may use its parent's handle")
                os._exit(VIOLATION)
            handle.close()
        except BaseException:
            report(self.directory, self.slot, "in a forked child: " + traceback.format_exc())
            os._exit(VIOLATION)
        os._exit(0)

    def reap(self, wait: bool = False) -> None:
        for child in list(self.children):
            pid, status = os.waitpid(child, 0 if wait else os.WNOHANG)
            if pid:
                self.children.remove(child)
                need(status == 0, f"a forked child ended with {status}")

    def hand_over(self, handle: Any, role: str, ring: int) -> None:
        """Pickle the handle to a spawned process that goes on in our place."""
        self.count("handovers")
        frozen = pickle.dumps(handle)
        command = [sys.executable, str(Path(__file__).parent / "run.py"), "--worker"]
        child = subprocess.Popen(
            [*command, self.directory, str(self.slot), str(self.generation), role, str(ring)],
            stdin=subprocess.PIPE,
            start_new_session=False,
        )
        self.area[PID] = child.pid
        assert child.stdin is not None
        child.stdin.write(frozen)
        child.stdin.close()
        handle.close()
        self.reap(wait=True)
        os._exit(HANDED_OVER)

    def note_use(self, started_ns: int) -> None:
        """A resident's descriptors and anonymous memory."""
        if time.monotonic_ns() - started_ns < WARM_UP_NS:
            return
        fds = len(os.listdir("/proc/self/fd"))
        with open("/proc/self/status") as status:
            anon = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
        if not self.area[FDS_FIRST]:
            self.area[FDS_FIRST], self.area[ANON_FIRST] = fds, anon
        self.area[FDS_LAST], self.area[ANON_LAST] = fds, anon


# ---- producers -----------------------------------------------------------------------------------


class Sender(Worker):
    """Produces one ring for an episode: opens, sends in every way, closes, opens again."""

    stamp: int
    producer: Any

    def serve(self, index: int, frozen: bytes | None = None) -> None:
        self.plan = load_plan(self.directory, index)
        self.ring = self.board.ring(index)
        self.sender = self.generation << 8 | self.slot
        while self.ring[PHASE] == RUN:
            if not self.open(frozen):
                return
            frozen = None
            try:
                while self.ring[PHASE] == RUN and self.once():
                    self.beat()
            finally:
                self.producer.close()
            self.nap(self.rng.random() * 0.05)

    def open(self, frozen: bytes | None) -> bool:
        start_ns = time.monotonic_ns()
        refused = False
        while True:
            self.beat()
            if self.ring[PHASE] != RUN:
                return False
            try:
                if frozen is not None:
                    self.producer = pickle.loads(frozen)
                else:
                    self.producer = shmipc.Producer(self.plan.name, **self.plan.options())
                break
            except shmipc.Busy:
                if not refused:
                    self.count("busy")
                refused, frozen = True, None
                self.nap(0.002)
        note_event(self.area, OPENED, self.plan.ring, start_ns)
        self.count("opened")
        self.reclaimed = 0
        self.told_of: set[int] = set()  # of a durable queue, as of what we were told of
        self.full_since_ns = 0
        self.stamp = take_ring(self.plan, self.producer, self.ring)
        if self.producer.stats().took_over:
            self.count("took_over")
        return True

    def once(self) -> bool:
        """One action. False: close and open again."""
        draw = self.rng.random()
        if draw < 0.0003:
            return False
        if draw < 0.0006:
            self.fork(self.producer, lambda: self.producer.try_send(b""))
        elif draw < 0.00063:
            self.hand_over(self.producer, "producer", self.plan.ring)
        elif draw < 0.0006 + self.plan.pace:
            self.nap(self.rng.random() ** 3 * 0.1)
        start_ns = time.monotonic_ns()
        patience = self.rng.choice((PATIENCE, 0.02))
        self.full_since_ns = self.full_since_ns or start_ns
        full = False
        try:
            self.send(self.rng.random(), patience)
        except shmipc.Full:
            full = True
            self.count("full_waits")
            self.settle(self.stamp)
            if patience >= PATIENCE:
                self.not_with_the_dead()
        except shmipc.ConsumerDied:
            self.told_of = self.dead_consumers()
            self.count("consumer_died")
            note_event(self.area, TOLD_CONSUMER_DIED, self.plan.ring, start_ns)
            self.settle(self.stamp)
            self.nap(0.01)
        self.look_for_evictions(patience, start_ns)
        if not full:
            self.full_since_ns = 0
        return True

    def not_with_the_dead(self) -> None:
        """We waited for long for room: not for the dead, and not for nobody.

        A consumer that died just now is let go, or told of (once), by the next send.
        """
        before = self.dead_consumers()
        if before and before <= self.told_of:
            return
        if not before and (self.plan.durable or self.producer.attached):
            return
        for _ in range(3):  # one may time out while we are stopped ourselves
            try:
                self.send(0.1, 1.0)
            except shmipc.ConsumerDied:
                self.told_of = self.dead_consumers()
                return
            except shmipc.Full:
                continue
            return
        after = self.dead_consumers() & before
        need(not after, f"full, waits for dead consumers {after}, told nothing")
        need(self.plan.durable or self.producer.attached > 0, "full with nobody attached")

    def dead_consumers(self) -> set[int]:
        found = look_at(self.plan.name)
        return {one["pid"] for one in found["consumers"] if not one["alive"]} if found else set()

    def look_for_evictions(self, patience: float, start_ns: int) -> None:
        """Dead consumers that were let go while we waited."""
        if time.monotonic_ns() - start_ns > 1_000_000:
            reclaimed = self.producer.stats().reclaimed
            if reclaimed != self.reclaimed:
                self.count("reclaimed", reclaimed - self.reclaimed)
                if patience < 1:  # else slow readers may have held it since
                    note_event(self.area, EVICTED, self.plan.ring, self.full_since_ns)
                self.reclaimed = reclaimed

    def messages(self, count: int) -> list[bytes]:
        return [self.plan.message(self.stamp + i, self.sender) for i in range(count)]

    def settle(self, stamp: int) -> None:
        """All before `stamp` is acknowledged, nothing more is being tried."""
        sent = stamp - self.stamp
        self.stamp = stamp
        self.ring[ACKED] = stamp
        self.ring[ATTEMPT] = stamp
        self.count("sent", sent)

    def send(self, draw: float, patience: float) -> None:
        many = 1 if draw < 0.6 else self.rng.choice((2, 7, 40))
        made = self.messages(many)
        self.ring[ATTEMPT] = self.stamp + many
        size = sum(map(len, made))
        if many > 1:
            self.send_many(made, draw, patience)
            return
        if draw < 0.3:
            self.producer.send(made[0], timeout=patience)
        elif draw < 0.35:
            if not self.producer.try_send(made[0]):
                self.settle(self.stamp)
                return
        elif draw < 0.4:
            self.abort(made[0], patience)
            return
        else:
            self.write_in_place(made[0], patience)
        self.settle(self.stamp + 1)
        self.count("sent_bytes", size)

    def send_many(self, made: list[bytes], draw: float, patience: float) -> None:
        items: Any = made if draw < 0.9 else iter(made)
        if self.plan.item:
            items = np.frombuffer(b"".join(made), self.plan.dtype)
        try:
            sent = self.producer.send_many(items, timeout=patience)
        except (shmipc.Full, shmipc.ConsumerDied) as error:
            self.settle(self.stamp + error.sent)  # type: ignore[union-attr]
            raise
        self.settle(self.stamp + sent)
        self.count("sent_bytes", sum(map(len, made[:sent])))

    def write_in_place(self, data: bytes, patience: float) -> None:
        room = 1 if self.plan.item else len(data)
        extra = 0
        if not self.plan.item and len(data) < 1000 and self.rng.random() < 0.3:
            extra = min(64, self.plan.largest - len(data))
        self.count("reserved")
        with self.producer.reserve(room + extra, timeout=patience) as reservation:
            self.fill(reservation, data)
            if extra:
                reservation.commit(room)

    def fill(self, reservation: Any, data: bytes) -> None:
        source = np.frombuffer(data, self.plan.dtype or np.uint8)
        half = len(data) // 2 if not self.plan.item else 0
        reservation.array[:half] = source[:half]
        reservation.array[half : len(source)] = source[half:]

    def abort(self, data: bytes, patience: float) -> None:
        reservation = self.producer.reserve(1 if self.plan.item else len(data), timeout=patience)
        self.fill(reservation, data)
        reservation.abort()
        self.count("aborted")
        self.settle(self.stamp)


# ---- consumers -----------------------------------------------------------------------------------


class Receiver(Worker):
    """Consumes one ring for an episode: joins, reads, leaves, joins again."""

    def serve(self, index: int, frozen: bytes | None = None) -> None:
        plan = load_plan(self.directory, index)
        ring = self.board.ring(index)
        while True:
            self.beat()
            if frozen is None and not plan.durable and ring[PHASE] != RUN:
                return
            try:
                reader = Reader(self.board, plan, self.area, self.rng, frozen)
            except shmipc.NotFound:
                if ring[PHASE] >= DRAIN:
                    return
                self.nap(0.005)
                continue
            except shmipc.Busy:
                self.count("busy")
                self.nap(0.02)
                continue
            finally:
                frozen = None
            try:
                while self.once(reader, plan):
                    self.beat()
            except LeaveError:
                reader.close()
                raise
            reader.close()
            self.nap(self.rng.random() ** 2 * 0.1)

    def once(self, reader: Reader, plan: Plan) -> bool:
        draw = self.rng.random()
        if reader.ring[PHASE] == RUN:
            if draw < 0.0003:
                return False
            if draw < 0.0006:
                self.fork(reader.consumer, lambda: reader.consumer.recv(0))
            elif draw < 0.00063:
                reader.release_all()
                self.hand_over(reader.consumer, "consumer", plan.ring)
            elif draw < 0.0006 + plan.drag:
                self.nap(self.rng.random() ** 3 * 0.2)
        result = reader.step()
        if result == "died" and self.rng.random() < 0.3:
            return False
        if result == "died":
            self.nap(0.01)
        return result != "closed"
