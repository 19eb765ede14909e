"""A strategy that does not keep up: each policy does exactly what it says, and to that one only."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from desk import Engine, discard_rings, strategy_peer, tick
from helpers import DEADLINE, HOLD_CONSUMER, Peer, eventually
from shmipc import Full

CAPACITY = 1 << 16  # some 450 ticks


@contextmanager
def two(slow: str, **options: object) -> Iterator[tuple[Engine, Peer, Peer]]:
    """An engine and two strategies that count what they see, the first of them stopped."""
    with (
        Engine(slow=slow, capacity=CAPACITY, **options) as engine,
        strategy_peer("CountsLost", "stalled") as stalled,
        strategy_peer("CountsLost", "quick") as quick,
    ):
        engine.register_strategy("stalled")
        engine.register_strategy("quick")
        engine.connected()
        os.kill(stalled.pid, signal.SIGSTOP)
        yield engine, stalled, quick


def seen_and_lost(engine: Engine, *strategy_ids: str) -> dict[str, tuple[int, int]]:
    """Ask the strategies what they have read and lost."""
    engine.broadcast_event(tick(sequence=-1), filter=strategy_ids, timeout=DEADLINE)
    found = {
        who: (int(order.quantity), int(order.price) - 1)
        for who, order in engine.expect_orders(len(strategy_ids))
    }
    assert set(found) == set(strategy_ids)
    return found


def test_wait_waits_for_it_and_nobody_loses_anything() -> None:
    with two("wait") as (engine, stalled, _):
        sent = 0
        with pytest.raises(Full, match="strategy 'stalled'"):  # noqa: PT012
            while True:
                engine.broadcast_event(tick(sequence=sent), timeout=0.2)
                sent += 1
        assert 100 < sent < 1000
        with pytest.raises(Full) as caught:
            engine.broadcast_batch([tick(sequence=sent)] * 3, timeout=0.0)
        assert caught.value.sent == 0  # type: ignore[attr-defined]
        os.kill(stalled.pid, signal.SIGCONT)
        for number in range(sent, sent + 1000):
            engine.broadcast_event(tick(sequence=number), timeout=DEADLINE)
        found = seen_and_lost(engine, "stalled", "quick")
        assert found == {"stalled": (sent + 1001, 0), "quick": (sent + 1001, 0)}


def test_wait_goes_on_when_it_dies() -> None:
    with two("wait") as (engine, stalled, _):
        with pytest.raises(Full):  # noqa: PT012
            while True:
                engine.broadcast_event(tick(), timeout=0.1)
        stalled.kill()
        for _ in range(2000):
            engine.broadcast_event(tick(), timeout=DEADLINE)
        engine.until(lambda: engine.state("stalled") == "disconnected")


def test_overwrite_never_waits_and_says_what_was_lost() -> None:
    with two("overwrite") as (engine, stalled, _):
        count = 20_000
        for number in range(count):
            engine.broadcast_event(tick(sequence=number), timeout=0.0)
        os.kill(stalled.pid, signal.SIGCONT)
        found = seen_and_lost(engine, "stalled", "quick")
        seen, lost = found["stalled"]
        assert lost > count // 2
        assert seen + lost == count + 1, "each event was read or counted"
        seen, lost = found["quick"]
        assert seen + lost == count + 1
        lost = found["stalled"][1]
        engine.until(lambda: engine.list_strategies()[0].lost >= lost)


def test_evict_kills_it_after_its_patience_and_nobody_else_notices() -> None:
    with two("evict", patience=0.5) as (engine, stalled, _):
        began, longest, sent = time.monotonic(), 0.0, 0
        while engine.state("stalled") == "connected":
            before = time.monotonic()
            engine.broadcast_event(tick(sequence=sent))
            longest = max(longest, time.monotonic() - before)
            sent += 1
            assert time.monotonic() - began < DEADLINE
        assert longest >= 0.5
        assert engine.state("stalled") == "evicted"
        assert stalled.process.wait(DEADLINE) == -signal.SIGKILL
        for number in range(sent, sent + 1000):
            engine.broadcast_event(tick(sequence=number), timeout=DEADLINE)
        assert seen_and_lost(engine, "quick") == {"quick": (sent + 1001, 0)}
        assert engine.state("stalled") == "evicted"
        with strategy_peer("CountsLost", "stalled"):
            engine.connected("stalled")


def test_evict_is_patient_also_where_each_broadcast_is_not() -> None:
    with two("evict", patience=0.5) as (engine, stalled, _):
        end = time.monotonic() + DEADLINE
        while engine.state("stalled") == "connected":
            try:
                engine.broadcast_event(tick(), timeout=0.02)
            except Full:
                assert time.monotonic() < end
        assert stalled.process.wait(DEADLINE) == -signal.SIGKILL


def test_evict_ends_one_that_was_stopped_before_it_had_joined() -> None:
    with Engine(slow="evict", patience=0.3, capacity=CAPACITY) as engine:
        engine.register_strategy("s")
        with strategy_peer("Quiet", "s") as peer:
            eventually(lambda: bool(engine._broadcast.ring.lags()))
            os.kill(peer.pid, signal.SIGSTOP)
            for _ in range(2000):
                engine.broadcast_event(tick(), timeout=DEADLINE)
            assert peer.process.wait(DEADLINE) == -signal.SIGKILL
    discard_rings("engine", "s")


def test_evict_never_kills_a_reader_that_is_no_strategy() -> None:
    with Engine(slow="evict", patience=0.2, capacity=CAPACITY) as engine:
        with Peer(HOLD_CONSUMER, "engine.events") as reader:
            reader.expect()
            with pytest.raises(Full, match=f"pid {reader.pid}"):  # noqa: PT012
                for _ in range(2000):
                    engine.broadcast_event(tick(), timeout=1.0)
            assert reader.process.poll() is None
            reader.tell()
            reader.finish()
        engine.broadcast_event(tick(), timeout=DEADLINE)


def test_a_stalled_strategy_delays_no_orders_of_the_others() -> None:
    with two("overwrite") as (engine, _, _quick):
        for number in range(1, 101):
            engine.broadcast_event(tick(sequence=-number), filter=["quick"])
            assert engine.expect_orders(1)[0][0] == "quick"
