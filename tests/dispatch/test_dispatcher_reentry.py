"""Dispatcher: signal handlers, finalizers and callables that change it meanwhile."""

from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from dispatching import EVENT, EVENT_KIND, OTHER_KIND, Event, Other, Rig
from shmipc import Consumer, Empty, Producer
from shmipc._core import Dispatcher, Latest

pytestmark = pytest.mark.binding

COLLECTS_WHILE_IT_ALLOCATES = sys.version_info < (3, 12)


@pytest.fixture
def ring_name() -> str:
    return "ring"


@pytest.fixture
def rig(ring_name: str) -> Iterator[Rig]:
    made = Rig(ring_name)
    yield made
    made.close()


def run_with_alarm(dispatcher: Dispatcher, handler: Callable[[], None]) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        assert dispatcher.run(timeout=0.3) == 0
    finally:
        signal.signal(signal.SIGALRM, before)


def test_signal_handler_removes_while_run_waits(rig: Rig, ring_name: str) -> None:
    handlers = {EVENT_KIND: (Event, rig.see)}
    with Producer(ring_name + "2", capacity=1 << 12), Consumer(ring_name + "2") as other:
        rig.dispatcher.add(rig.consumer, handlers)
        rig.dispatcher.add(other, handlers)
        run_with_alarm(rig.dispatcher, lambda: rig.dispatcher.remove(rig.consumer))
        assert rig.dispatcher.consumers == (other,)
        with pytest.raises(Empty):
            rig.consumer.recv(timeout=0)  # nobody is inside it


def test_signal_handler_removes_and_drops_the_first(rig: Rig, ring_name: str) -> None:
    handlers = {EVENT_KIND: (Event, rig.see)}
    with Producer(ring_name + "2", capacity=1 << 12):
        mine = [Consumer(ring_name + "2")]
        rig.dispatcher.add(mine[0], handlers)
        rig.dispatcher.add(rig.consumer, handlers)

        def drop() -> None:
            rig.dispatcher.remove(mine[0])
            mine.pop().close()

        run_with_alarm(rig.dispatcher, drop)
        rig.send(1.0)
        assert rig.dispatcher.run(timeout=1) == 1


def test_signal_handler_adds_while_run_waits(rig: Rig) -> None:
    handlers = {EVENT_KIND: (Event, rig.see)}
    run_with_alarm(rig.dispatcher, lambda: rig.dispatcher.add(rig.consumer, handlers))
    rig.send(1.0)
    assert rig.dispatcher.run(timeout=1) == 1


@pytest.mark.skipif(not COLLECTS_WHILE_IT_ALLOCATES, reason="collects between bytecodes only")
def test_finalizer_changes_what_is_being_listed(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    latest = Latest(16)

    class Bye:
        def __init__(self, do: Callable[[], Any]) -> None:
            self.me, self.do = self, do

        def __del__(self) -> None:
            self.do()

    def at_the_next_allocation(do: Callable[[], Any], then: Callable[[], Any]) -> Any:
        threshold = gc.get_threshold()
        gc.collect()
        gc.disable()
        Bye(do)
        gc.set_threshold(1)
        gc.enable()
        result = then()
        gc.set_threshold(*threshold)
        return result

    get = type(rig.dispatcher).consumers.__get__  # type: ignore[attr-defined]
    got = at_the_next_allocation(
        lambda: rig.dispatcher.remove(rig.consumer), lambda: get(rig.dispatcher)
    )
    assert got in ((), (rig.consumer,))
    many = [str(i).encode().ljust(16, b"\0") for i in range(1000)]
    assert len(at_the_next_allocation(lambda: list(map(latest.update, many)), latest.values)) in (
        0,
        1000,
    )


@pytest.mark.parametrize("retry", [False, True])
def test_callable_forks_and_comes_back(ring_name: str, retry: bool) -> None:
    rig = Rig(ring_name, max_consumers=1)
    seen: list[float] = []
    lags: list[int] = []
    child: list[int] = []

    def fork(record: Any) -> None:
        seen.append(record.value)
        if not child:
            child.append(os.fork())
            if child[0] != 0:
                os.waitpid(child[0], 0)
                lags.append(rig.producer.lags()[0][2])

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, fork)}, retry=retry)
    rig.send(*range(10))
    try:
        rig.dispatcher.run()
    except RuntimeError:
        pass
    finally:
        if child and child[0] == 0:
            os._exit(len(seen))
    assert lags == [10]  # the child gave nothing back
    assert seen == list(range(10))
    rig.close()


def test_close_in_a_callable_ends_the_burst(rig: Rig) -> None:
    def close(record: Any) -> None:
        rig.see(record)
        rig.consumer.close()

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, close)})
    rig.send(*range(10))
    assert rig.dispatcher.run() == 1
    assert rig.seen == [0.0]


def test_abandon_in_a_callable_leaves_the_event(ring_name: str) -> None:
    rig = Rig(ring_name, max_consumers=1)

    def leave(record: Any) -> None:
        if record.value == 3:
            rig.consumer.abandon()

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, leave)}, retry=True)
    rig.send(*range(10))
    rig.dispatcher.run()
    with Consumer(ring_name) as heir:
        assert Event(heir.recv(timeout=0)).value == 3
    rig.producer.unlink()
    rig.close()


def test_max_holds_for_what_an_exception_left(rig: Rig) -> None:
    def see(record: Any) -> None:
        if record.value == 0:
            raise ValueError
        rig.see(record)

    handlers: Any = {EVENT_KIND: (Event, see), OTHER_KIND: (Other, print, "batch")}
    rig.dispatcher.add(rig.consumer, handlers)
    rig.send(*range(100))
    with pytest.raises(ValueError):  # noqa: PT011 - of the callable above
        rig.dispatcher.run()
    assert rig.dispatcher.run(max=5, timeout=0) == 5
    rig.dispatcher.add(rig.consumer, handlers)  # what was gathered is not lost
    assert rig.dispatcher.run(max=1000, timeout=0) == 94
    assert rig.seen == list(range(1, 100))


def test_max_without_waiting_takes_all_that_is_ready(rig: Rig) -> None:
    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, rig.see)})
    rig.send(*range(600))
    assert rig.dispatcher.run(max=1000, timeout=0) == 600


def test_changed_batch_array_is_not_filled_again(ring_name: str) -> None:
    rig = Rig(ring_name, capacity=1 << 22)
    seen: list[Any] = []

    def change(kind: int, batch: np.ndarray) -> None:
        seen.append((batch.dtype, batch.flags.writeable))
        with warnings.catch_warnings():  # numpy 2.5 deprecates it, and still does it
            warnings.simplefilter("ignore", DeprecationWarning)
            batch.dtype = "V40"  # type: ignore[misc]
        batch.flags.writeable = False

    rig.dispatcher.add(rig.consumer, {EVENT_KIND: (Event, change, "batch")})
    for _ in range(3):
        rig.producer.send_many(np.zeros(20000, EVENT), kind=EVENT_KIND)
        while rig.dispatcher.run(timeout=0):
            pass
    assert set(seen) == {(EVENT, True)}
    rig.close()
