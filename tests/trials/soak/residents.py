"""The residents: long-lived workers that go through the episodes of rings and are never killed;
and the table of all roles.

Owns: reading many rings by wait() and from asyncio, producing ring after ring, the beginning and
the end of a worker. Must not know: who is killed when.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from board import EPISODE, GEN, PHASE, PID, RUN, load_plan
from reader import Reader, ViolationError
from workers import VIOLATION, LeaveError, Receiver, Sender, Worker, report

import shmipc


class Resident(Worker):
    """Long-lived, never killed: a reader of all broadcast rings, through episodes."""

    def serve(self, index: int, frozen: bytes | None = None) -> None:
        self.readers: dict[int, Reader] = {}
        started_ns = time.monotonic_ns()
        try:
            for turn in self.turns():
                self.beat()
                self.join()
                self.look(turn)
                if turn % 50 == 0:
                    self.note_use(started_ns)
        except LeaveError:
            for reader in self.readers.values():
                reader.close()

    def turns(self) -> Iterator[int]:
        turn = 0
        while True:
            yield turn
            turn += 1

    def join(self) -> None:
        for index in range(int(os.environ["SOAK_RINGS"])):
            ring = self.board.ring(index)
            if index in self.readers or ring[PHASE] != RUN or self.rng.random() > 0.05:
                continue
            episode = ring[EPISODE]
            plan = load_plan(self.directory, index)
            if plan.durable:
                continue
            try:
                reader = Reader(self.board, plan, self.area, self.rng)
            except (shmipc.NotFound, shmipc.Busy):
                continue
            if ring[EPISODE] == episode:
                self.readers[index] = reader
            else:
                reader.close()

    def look(self, turn: int) -> None:
        if not self.readers:
            self.nap(0.01)
            return
        by_handle = {id(reader.consumer): index for index, reader in self.readers.items()}
        ready = shmipc.wait([r.consumer for r in self.readers.values()], timeout=0.2)
        self.count("waits")
        for consumer in ready:
            self.read(by_handle[id(consumer)])

    def read(self, index: int) -> None:
        reader = self.readers[index]
        for _ in range(self.rng.randrange(1, 50)):
            result = reader.step(0)
            if result == "empty":
                return
            if result != "data":
                reader.close()
                del self.readers[index]
                return


class AsyncResident(Resident):
    """The same from asyncio: a task a ring, each read in the loop's executor."""

    def serve(self, index: int, frozen: bytes | None = None) -> None:
        self.readers = {}
        self.started_ns = time.monotonic_ns()
        asyncio.run(self.main())

    async def main(self) -> None:
        tasks: dict[int, asyncio.Task[None]] = {}
        try:
            for turn in self.turns():
                self.beat()
                self.join()
                for index in self.readers:
                    if index not in tasks:
                        tasks[index] = asyncio.create_task(self.follow(index))
                for index in [i for i, task in tasks.items() if task.done()]:
                    tasks.pop(index).result()
                if turn % 50 == 0:
                    self.note_use(self.started_ns)
                await asyncio.sleep(0.02)
        except LeaveError:
            for index in list(self.readers):
                self.readers[index].leaving = True  # type: ignore[attr-defined]
            await asyncio.gather(*tasks.values())

    async def follow(self, index: int) -> None:
        reader = self.readers[index]
        loop = asyncio.get_running_loop()
        result = "data"
        while result in ("data", "empty") and not getattr(reader, "leaving", False):
            result = await loop.run_in_executor(None, reader.step, 0.2)
            self.count("async_reads")
        reader.close()
        del self.readers[index]


class ResidentSender(Sender):
    """Long-lived, never killed: produces ring 0 through all its episodes."""

    def serve(self, index: int, frozen: bytes | None = None) -> None:
        self.started_ns = time.monotonic_ns()
        done = 0
        while True:
            self.beat()
            self.note_use(self.started_ns)
            ring = self.board.ring(index)
            if ring[PHASE] == RUN and ring[EPISODE] != done:
                done = ring[EPISODE]
                super().serve(index)
            self.nap(0.02)

    def once(self) -> bool:
        if self.rng.random() < 0.001:
            self.note_use(self.started_ns)
        return super().once()

    def hand_over(self, handle: Any, role: str, ring: int) -> None:
        """It stays."""


ROLES: dict[str, type[Worker]] = {
    "producer": Sender,
    "consumer": Receiver,
    "resident": Resident,
    "async": AsyncResident,
    "steady": ResidentSender,
}


def work(
    directory: str, slot: int, generation: int, role: str, ring: int, frozen: bytes | None = None
) -> int:
    """Be a worker until the end; returns the exit status."""
    with open(Path(directory) / f"traces.{slot}", "a") as traces:
        faulthandler.register(signal.SIGUSR1, traces, all_threads=True)
        worker = ROLES[role](directory, slot, generation)
        if worker.area[GEN] != generation:
            return 0
        worker.area[PID] = os.getpid()
        try:
            worker.serve(ring, frozen)  # type: ignore[attr-defined]
            worker.reap(wait=True)
        except LeaveError:
            worker.reap(wait=True)
        except ViolationError as error:
            where = traceback.format_exc()
            report(directory, slot, f"{role} of ring {ring}: {error}\n{where}")
            return VIOLATION
        except BaseException:
            report(directory, slot, f"{role} of ring {ring}: " + traceback.format_exc())
            return VIOLATION
        finally:
            faulthandler.unregister(signal.SIGUSR1)
    return 0
