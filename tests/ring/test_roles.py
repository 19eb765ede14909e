"""Roles: who may hold them, what happens when a holder dies, how rings begin and end."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import HOLD_CONSUMER, PRODUCE_THEN_HOLD, Peer, in_thread, segment_path
from shmipc import Consumer, Producer

AREA = 4096


# ---- one producer, N consumers -------------------------------------------------------------------


def test_second_producer_is_busy_and_told_who_is_first() -> None:
    with Producer("r"):
        with pytest.raises(shmipc.Busy, match=f"process {os.getpid()}") as busy:
            Producer("r")
        assert isinstance(busy.value, FileExistsError)
    with Producer("r"):
        pass


def test_second_producer_is_busy_across_processes() -> None:
    with Peer(PRODUCE_THEN_HOLD, "r", 1) as peer:
        peer.expect()
        with pytest.raises(shmipc.Busy, match=f"process {peer.pid}"):
            Producer("r", capacity=AREA)
        peer.tell("0")
        peer.expect("sent")
        peer.tell()
        peer.finish()


def test_second_consumer_of_one_is_busy() -> None:
    with Producer("r"), Consumer("r", timeout=5) as first:
        with pytest.raises(shmipc.Busy, match=f"process {os.getpid()}"):
            Consumer("r", timeout=0)
        first.close()
        Consumer("r", timeout=0).close()


def test_ring_takes_as_many_consumers_as_it_was_made_for() -> None:
    with Producer("r", max_consumers=5) as producer:
        consumers = [Consumer("r", timeout=0) for _ in range(5)]
        assert producer.attached == producer.wait_for_consumers(5, timeout=5) == 5
        with pytest.raises(shmipc.Busy, match="5 consumers"):
            Consumer("r", timeout=0)
        producer.send(b"to all")
        assert [consumer.recv(0) for consumer in consumers] == [b"to all"] * 5
        consumers[2].close()
        with Consumer("r", timeout=0) as late:
            assert late.slot == 2
        for consumer in consumers:
            consumer.close()


def test_256_consumers_each_read_everything() -> None:
    with Producer("r", max_consumers=256, capacity=AREA) as producer:
        consumers = [Consumer("r", timeout=0) for _ in range(256)]
        for number in range(5):
            producer.send(b"%d" % number)
        for consumer in consumers:
            assert [consumer.recv(0) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        producer.send(bytes(AREA - 16), timeout=0)
        for consumer in consumers[:-1]:
            consumer.recv(0)
        assert not producer.try_send(b"")
        consumers[-1].recv(0)
        assert producer.try_send(b"")
        for consumer in consumers:
            consumer.close()


@pytest.mark.parametrize("bad", [0, -1, 1025, 2**40])
def test_impossible_number_of_consumers_is_a_value_error(bad: int) -> None:
    with pytest.raises(ValueError, match="consumers must be between 1 and 1024"):
        Producer("r", max_consumers=bad)


def test_unknown_overflow_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="'block' or 'overwrite'"):
        Producer("r", overflow="drop")  # type: ignore[arg-type]


# ---- waiting for each other ----------------------------------------------------------------------


def test_producer_waits_for_consumers() -> None:
    with Producer("r", max_consumers=3) as producer, Peer(HOLD_CONSUMER, "r") as peer:
        assert producer.wait_for_consumers(timeout=20) == 1
        peer.expect()
        peer.tell()
        peer.finish()
        assert producer.attached == 0


def test_wait_for_consumers_that_do_not_come_is_not_found() -> None:
    with Producer("r", max_consumers=3) as producer, Consumer("r", timeout=5):
        start = time.monotonic()
        with pytest.raises(shmipc.NotFound, match="1 of the 2"):
            producer.wait_for_consumers(2, timeout=0.1)
        assert time.monotonic() - start >= 0.1
        for bad in (4, -1):
            with pytest.raises(ValueError, match="between 0 and 3"):
                producer.wait_for_consumers(bad)


def test_wait_for_consumers_with_zero_timeout_polls() -> None:
    with Producer("r") as producer:
        assert producer.wait_for_consumers(0, timeout=0) == 0
        with pytest.raises(shmipc.NotFound):
            producer.wait_for_consumers(timeout=0)
        with Consumer("r", timeout=5):
            assert producer.wait_for_consumers(timeout=0) == 1


def test_consumer_waits_for_its_ring() -> None:
    joined = in_thread(lambda: Consumer("r", timeout=20))
    time.sleep(0.05)  # either order is right; this makes the waiting one likely
    with Producer("r") as producer, joined() as consumer:
        producer.send(b"x")
        assert consumer.recv(5) == b"x"


def test_ring_that_does_not_come_is_not_found() -> None:
    for timeout in (0, 0.1):
        start = time.monotonic()
        with pytest.raises(shmipc.NotFound, match="no ring") as error:
            Consumer("absent", timeout=timeout)
        assert timeout <= time.monotonic() - start < timeout + 5
        assert isinstance(error.value, FileNotFoundError)


# ---- the end of a ring ---------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["producer", "consumer"])
@pytest.mark.parametrize("slots", [1, 2])
def test_last_one_out_of_a_closed_ring_removes_the_file(last: str, slots: int) -> None:
    producer = Producer("r", max_consumers=slots)
    consumer = Consumer("r", timeout=5)
    producer.send(b"x")
    consumer.recv(0)
    for handle in (consumer, producer) if last == "producer" else (producer, consumer):
        assert segment_path("r").exists()
        handle.close()
    assert not segment_path("r").exists()


def test_ring_stays_while_its_producer_lives_and_consumers_come_and_go() -> None:
    with Producer("r", max_consumers=2) as producer:
        for _ in range(3):
            with Consumer("r", timeout=0) as consumer:
                producer.send(b"x")
                assert consumer.recv(0) == b"x"


def test_unlink_removes_the_name_and_disturbs_nobody() -> None:
    with Producer("r") as old, Consumer("r", timeout=0) as consumer:
        old.unlink()
        old.unlink()
        assert not segment_path("r").exists()
        with Producer("r") as new:
            old.send(b"old")
            new.send(b"new")
            assert consumer.recv(0) == b"old"
            old.close()
            consumer.close()
            with Consumer("r", timeout=0) as other:
                assert other.recv(0) == b"new"


# ---- a ring of another kind ----------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "typed": {"dtype": "<f8"},
    "overflow": {"overflow": "overwrite"},
    "slots": {"max_consumers": 2},
    "capacity": {"capacity": 1 << 20},
}


@pytest.mark.parametrize("wanted", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("reason", ["attached", "owed"])
def test_ring_of_another_kind_in_use_is_a_schema_mismatch(
    wanted: dict[str, Any], reason: str
) -> None:
    with Producer("r", capacity=AREA) as producer:
        producer.send(b"kept")
        consumer = Consumer("r", timeout=0) if reason == "attached" else None
        producer.close()
    with pytest.raises(shmipc.SchemaMismatch, match="attached" if consumer else "not read"):
        Producer("r", **wanted)
    with consumer or Consumer("r", timeout=0) as reader:
        assert reader.recv(0) == b"kept"


@pytest.mark.parametrize("wanted", KINDS.values(), ids=KINDS.keys())
def test_stale_ring_of_another_kind_that_nobody_needs_is_replaced(wanted: dict[str, Any]) -> None:
    with Peer(PRODUCE_THEN_HOLD, "r", 1) as peer:
        peer.expect()
        peer.kill()
    assert segment_path("r").exists()
    with Producer("r", **wanted) as producer:
        assert not producer.stats().took_over
        with Consumer("r", timeout=0) as consumer:
            assert consumer.dtype == producer.dtype


@pytest.mark.parametrize(
    ("dtype", "shape"), [("<f4", ()), ("<i8", ()), ("<f8", (1,)), (">f8", ()), (None, ())]
)
def test_takeover_with_another_dtype_or_shape_is_a_schema_mismatch(dtype: Any, shape: Any) -> None:
    with Producer("r", dtype="<f8") as producer:
        producer.send(np.float64(1))
    with pytest.raises(shmipc.SchemaMismatch):
        Producer("r", dtype=dtype, shape=shape)
    with Producer("r", dtype="f8") as producer, Consumer("r", timeout=0) as consumer:
        assert producer.stats().took_over
        assert consumer.recv(0) == 1


def test_smaller_capacity_is_satisfied_by_the_larger_ring_that_exists() -> None:
    with Producer("r", capacity=1 << 16) as producer:
        producer.send(b"x")
    with Producer("r", capacity=AREA) as producer, Consumer("r", timeout=0) as consumer:
        assert producer.capacity == 1 << 16
        consumer.recv(0)


def test_descriptors_are_closed_on_exec(shm_dir: Path) -> None:
    with Producer("r"), Consumer("r", timeout=0):
        mine = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                target = os.readlink(entry)
            except FileNotFoundError:
                continue
            if target.startswith(str(shm_dir)):
                mine.append(fcntl.fcntl(int(entry.name), fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
        assert mine == [fcntl.FD_CLOEXEC] * 2
