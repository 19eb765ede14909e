"""Dispatcher: several rings, waiting, ends, deaths, and which call is allowed when."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import shmipc
from dispatching import (
    EVENT_KIND,
    OTHER_KIND,
    Event,
    Other,
    Rig,
    event,
    run_until_it_raises,
)
from helpers import segment_path
from shmipc import Consumer, Producer
from shmipc._core import Dispatcher

pytestmark = pytest.mark.binding


def test_several_rings_take_turns(ring_name: str) -> None:
    rigs = [Rig(f"{ring_name}-{i}", capacity=1 << 20) for i in range(20)]
    dispatcher = Dispatcher(spin=0)
    seen: list[int] = []
    for i, rig in enumerate(rigs):
        dispatcher.add(rig.consumer, {EVENT_KIND: (Event, lambda _, i=i: seen.append(i))})
        rig.send(*range(300))
    assert dispatcher.run(timeout=0) == 20 * 256
    assert sorted(set(seen[: 20 * 256])) == list(range(20))
    assert dispatcher.run(timeout=0) == 20 * 44
    for rig in rigs:
        rig.close()


def test_waits_asleep_until_an_event_of_any_ring_comes(ring_name: str) -> None:
    rigs = [Rig(f"{ring_name}-{i}") for i in range(3)]
    dispatcher = Dispatcher(spin=0)
    for rig in rigs:
        dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    timer = threading.Timer(0.1, rigs[1].send, [5])
    timer.start()
    assert dispatcher.run(timeout=60) == 1
    assert rigs[1].seen == [5]
    timer.join()
    for rig in rigs:
        rig.close()


def test_a_timeout_returns_zero(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    begin = time.monotonic()
    assert rig.dispatcher.run(timeout=0.05) == 0
    assert time.monotonic() - begin >= 0.05
    assert Dispatcher().run(timeout=0.01) == 0


@pytest.mark.parametrize("spin", [0, float("inf")])
def test_stop_from_another_thread_ends_the_wait(rig: Rig, spin: float) -> None:
    dispatcher = Dispatcher(spin=spin)
    dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    timer = threading.Timer(0.1, dispatcher.stop)
    timer.start()
    assert dispatcher.run(timeout=60) == 0
    timer.join()


def test_stop_in_a_callable_leaves_the_rest_for_the_next_run(rig: Rig) -> None:
    def see_and_stop(record: Any) -> None:
        rig.see(record)
        rig.dispatcher.stop()

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, see_and_stop)})
    rig.send(1, 2)
    assert rig.dispatcher.run() == 1
    assert rig.dispatcher.run() == 1
    assert rig.seen == [1, 2]


def test_stop_before_run_is_not_forgotten(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    rig.dispatcher.stop()
    assert rig.dispatcher.run(timeout=60) == 0


def test_a_closed_stream_comes_out_with_its_consumer(rig: Rig, ring_name: str) -> None:
    other = Rig(ring_name + "-other")
    rig.dispatcher.add(other.consumer, {})
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    rig.send(1)
    rig.producer.close()
    assert rig.dispatcher.run(timeout=60) == 1
    with pytest.raises(shmipc.Closed) as raised:
        rig.dispatcher.run(timeout=60)
    assert raised.value.consumer is rig.consumer  # type: ignore[attr-defined]
    rig.dispatcher.remove(rig.consumer)
    assert rig.dispatcher.consumers == (other.consumer,)
    assert rig.dispatcher.run(timeout=0) == 0
    other.close()
    with pytest.raises(ValueError, match="does not read"):
        rig.dispatcher.remove(rig.consumer)


@pytest.mark.parametrize("timeout", [0, 60])
def test_a_dead_producer_comes_out_after_what_it_committed(ring_name: str, timeout: float) -> None:
    code = (
        "import sys; from shmipc import Producer;"
        "p = Producer(sys.argv[1], capacity=65536, max_consumers=4);"
        "p.wait_for_consumers(); p.send(bytes(40), kind=1);"
        "print('sent', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, ring_name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        consumer = Consumer(ring_name, timeout=30)
        assert child.stdout is not None
        assert child.stdout.readline() == b"sent\n"
        child.kill()
        child.wait()
        seen: list[float] = []
        dispatcher = Dispatcher(spin=0)
        dispatcher.add(consumer, {1: (Event, lambda record: seen.append(record.value))})
        assert dispatcher.run(timeout=60) == 1
        with pytest.raises(shmipc.ProducerDied) as raised:
            run_until_it_raises(dispatcher, timeout)
        assert raised.value.consumer is consumer  # type: ignore[attr-defined]
        for _ in range(3):  # told once: from now on it waits for a successor's events
            assert dispatcher.run(timeout=min(timeout, 0.1)) == 0
        with Producer(ring_name, capacity=65536, max_consumers=4) as successor:
            successor.send(Event(value=7), kind=1)
            assert dispatcher.run(timeout=60) == 1
        assert seen[-1] == 7
        with pytest.raises(shmipc.Closed):
            run_until_it_raises(dispatcher, timeout)
        consumer.close()


@pytest.mark.parametrize("timeout", [0, 60])
def test_a_removed_file_comes_out_after_what_was_committed(rig: Rig, timeout: float) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    rig.send(1, 2)
    segment_path(rig.consumer.name).unlink()
    for _ in range(2):
        with pytest.raises(shmipc.Removed) as raised:
            run_until_it_raises(rig.dispatcher, timeout)
        assert raised.value.consumer is rig.consumer  # type: ignore[attr-defined]
    assert rig.seen == [1, 2]


def test_a_consumer_closed_by_a_callable_ends_its_events_only(rig: Rig) -> None:
    def see_and_close(record: Any) -> None:
        rig.see(record)
        rig.consumer.close()

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, see_and_close)})
    rig.send(1, 2)
    with pytest.raises(shmipc.Closed):
        run_until_it_raises(rig.dispatcher, 0)
    assert rig.seen[0] == 1


def test_a_callable_may_add_and_remove_rings(rig: Rig, ring_name: str) -> None:
    other = Rig(ring_name + "-other")

    def swap(record: Any) -> None:
        rig.see(record)
        rig.dispatcher.remove(rig.consumer)
        rig.dispatcher.add(other.consumer, {EVENT_KIND: (Event, other.see)})

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, swap)})
    rig.send(1, 2)
    other.send(3)
    assert rig.dispatcher.run(timeout=60) >= 1
    rig.dispatcher.run(timeout=0)
    assert (rig.seen, other.seen) == ([1], [3])
    other.close()


def test_adding_again_replaces_the_handlers(rig: Rig) -> None:
    first: list[Any] = []
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, first.append)})
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    rig.send(1)
    assert rig.dispatcher.run(timeout=0) == 1
    assert (first, rig.seen) == ([], [1])
    assert rig.dispatcher.consumers == (rig.consumer,)


def test_run_inside_a_callable_is_refused(rig: Rig) -> None:
    refused: list[str] = []

    def again(record: Any) -> None:
        for call in (rig.dispatcher.run, rig.consumer.recv):
            try:
                call(timeout=0)
            except RuntimeError as error:
                refused.append(str(error))

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, again)})
    rig.send(1)
    assert rig.dispatcher.run(timeout=0) == 1
    assert "own callables" in refused[0]
    assert "in the middle of a call" in refused[1]


def test_a_second_thread_is_refused(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    inside = threading.Event()
    rig.dispatcher.add(
        rig.consumer, {EVENT_KIND: (Event, lambda _: (inside.set(), time.sleep(0.2)))}
    )
    rig.send(1)
    thread = threading.Thread(target=rig.dispatcher.run, kwargs={"timeout": 60})
    thread.start()
    assert inside.wait(30)
    with pytest.raises(RuntimeError, match="another thread"):
        rig.dispatcher.run(timeout=0)
    with pytest.raises(RuntimeError, match="another thread"):
        rig.dispatcher.remove(rig.consumer)
    thread.join()


def test_ctrl_c_ends_the_wait(ring_name: str) -> None:
    code = (
        "import sys; from shmipc import Producer, Consumer; from shmipc._core import Dispatcher;"
        "p = Producer(sys.argv[1], capacity=65536, max_consumers=2); c = Consumer(sys.argv[1]);"
        "d = Dispatcher(); d.add(c, {}); print('ready', flush=True)\n"
        "try: d.run()\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
        "c.close(); p.close()"
    )
    with subprocess.Popen([sys.executable, "-c", code, ring_name], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        os.kill(child.pid, signal.SIGINT)
        assert child.stdout.readline() == b"interrupted\n"
        assert child.wait(30) == 0


def test_current_ts_is_the_events_own(rig: Rig) -> None:
    stamps: list[Any] = []

    def note(_: Any) -> None:
        stamps.append((rig.dispatcher.current_ts, rig.dispatcher.current_seq))

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, note)})
    for ts in (5, 1 << 60):
        rig.producer.send(event(0, ts=ts), kind=EVENT_KIND)
    rig.dispatcher.run(timeout=0)
    assert stamps == [(5, 0), (1 << 60, 1)]
    assert rig.dispatcher.current_ts == 0


class TestAlone:
    """A dispatcher that is the only thread spins with the GIL held."""

    def test_its_timeout_counts(self, rig: Rig) -> None:
        dispatcher = Dispatcher(spin=float("inf"))
        dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
        begin = time.monotonic()
        assert dispatcher.run(timeout=0.05) == 0
        assert time.monotonic() - begin >= 0.05

    def test_signal_handlers_run(self, rig: Rig) -> None:
        def come(number: int, frame: Any) -> None:
            rig.send(1)

        dispatcher = Dispatcher(spin=float("inf"))
        dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
        before = signal.signal(signal.SIGALRM, come)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            assert dispatcher.run(timeout=60) == 1
        finally:
            signal.signal(signal.SIGALRM, before)
        assert rig.seen == [1]

    def test_a_thread_that_python_does_not_know_gets_the_gil(self, rig: Rig) -> None:
        entry = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)

        @entry
        def run(unused: Any) -> None:
            libc.usleep(50_000)
            rig.send(1)

        libc = ctypes.CDLL(None)
        thread = ctypes.c_ulong()
        dispatcher = Dispatcher(spin=float("inf"))
        dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
        assert libc.pthread_create(ctypes.byref(thread), None, run, None) == 0
        assert dispatcher.run(timeout=60) == 1
        libc.pthread_join(thread, None)
        assert rig.seen == [1]

    def test_a_python_thread_runs_meanwhile(self, rig: Rig) -> None:
        def count() -> None:
            for _ in range(1_000_000):
                pass
            rig.send(1)

        dispatcher = Dispatcher(spin=float("inf"))
        dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
        thread = threading.Thread(target=count)
        thread.start()
        assert dispatcher.run(timeout=60) == 1
        thread.join()


def test_the_ring_that_was_waited_for_has_the_first_turn(ring_name: str) -> None:
    rigs = [Rig(f"{ring_name}-{i}") for i in range(3)]
    seen: list[int] = []
    dispatcher = Dispatcher(spin=float("inf"))

    def see(i: int) -> None:
        seen.append(i)
        for other in rigs:
            if len(seen) < 2:
                other.send(1)

    for i, rig in enumerate(rigs):
        dispatcher.add(rig.consumer, {EVENT_KIND: (Event, lambda _, i=i: see(i))})
    for turn in range(6):
        first = turn % 3
        seen.clear()
        timer = threading.Timer(0.02, rigs[first].send, [5])
        timer.start()
        while len(seen) < 4:
            dispatcher.run(timeout=60)
        timer.join()
        assert seen[0] == first
        assert sorted(seen) == sorted([first, 0, 1, 2])
    for rig in rigs:
        rig.close()


def test_one_event_at_a_time_and_some_are_kept(rig: Rig) -> None:
    """The lease of the last burst serves again only where nobody can see it any more."""
    kept: list[Any] = []
    views: list[Any] = []

    def see(record: Any) -> None:
        rig.seen.append(record.value)
        if record.value % 3 == 0:
            kept.append(record)
        if record.value % 5 == 0:
            views.append(np.asarray(record))

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, see)})
    for value in range(100):
        rig.send(value)
        assert rig.dispatcher.run(timeout=0) == 1
    assert rig.seen == list(range(100))
    assert len({id(record) for record in kept}) == len(kept)
    viewed = {0, *range(0, 100, 15)}
    for number, record in zip(range(0, 100, 3), kept, strict=True):
        if number not in viewed:
            with pytest.raises(ValueError, match="released"):
                _ = record.value
    assert [view["value"] for view in views] == list(range(0, 100, 5))
    assert rig.consumer.lag == 100, "the first view holds all that follows it"
    views.clear()
    kept.clear()
    rig.send(101)
    assert rig.dispatcher.run(timeout=0) == 1
    assert rig.consumer.lag == 0


def test_a_kept_record_stays_released_when_another_kind_goes_on(rig: Rig) -> None:
    """Two kinds of one burst share its lease; that of a kept record never serves again."""
    kept: list[Any] = []
    released: list[bool] = []

    def look(record: Any) -> None:
        released.append(all(one.released for one in kept))

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, kept.append), OTHER_KIND: (Other, look)})
    for number in range(4):
        rig.send(number)
        rig.producer.send(Other(number=number), kind=OTHER_KIND)
        assert rig.dispatcher.run(timeout=0) == 2
        rig.producer.send(Other(number=number), kind=OTHER_KIND)
        assert rig.dispatcher.run(timeout=0) == 1
    assert released == [False, True] * 4, "within a burst, and in the next"
