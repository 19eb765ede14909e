"""Signals during every wait, waiting for several rings, and what waiting costs."""

from __future__ import annotations

import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import pytest

import shmipc
from dispatching import EVENT_KIND, Event
from helpers import DEADLINE, Peer, discard, eventually, in_thread, interrupted_after, run_clean
from shmipc import Consumer, Producer
from shmipc._core import Dispatcher

pytestmark = pytest.mark.binding

AREA = 4096


@pytest.fixture
def ring() -> Any:
    with Producer("p", capacity=AREA) as producer, Consumer("p", timeout=5) as consumer:
        yield producer, consumer
    discard("p")


# ---- signals -------------------------------------------------------------------------------------


def test_close_from_a_signal_handler_ends_the_wait() -> None:
    with Producer("p", capacity=AREA) as producer:
        consumer = Consumer("p", timeout=5)
        before = signal.signal(signal.SIGUSR1, lambda *_: consumer.close())
        try:
            with interrupted_after(0.1, signal.SIGUSR1), pytest.raises(shmipc.Closed):
                consumer.recv(20)
            assert consumer.closed
            assert producer.attached == 0
            with Consumer("p", timeout=5):
                signal.signal(signal.SIGUSR1, lambda *_: producer.close())
                producer.send(bytes(AREA - 16))
                with interrupted_after(0.1, signal.SIGUSR1), pytest.raises(shmipc.Closed):
                    producer.send(b"", timeout=20)
                assert producer.closed
        finally:
            signal.signal(signal.SIGUSR1, before)
    discard("p")


def test_handler_that_returns_does_not_end_the_wait(ring: Any) -> None:
    producer, consumer = ring
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(producer.send(b"from within")))
    try:
        with interrupted_after(0.1, signal.SIGUSR1):
            assert consumer.recv(20) == b"from within"
        assert seen == [None]
    finally:
        signal.signal(signal.SIGUSR1, before)


def full(producer: Any) -> None:
    producer.send(bytes(AREA - 16))


INTERRUPTIBLE: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "recv": (lambda p, c: None, lambda p, c: c.recv()),
    "recv with timeout": (lambda p, c: None, lambda p, c: c.recv(30)),
    "recv_into": (lambda p, c: None, lambda p, c: c.recv_into(bytearray(9))),
    "recv_text": (lambda p, c: None, lambda p, c: c.recv_text()),
    "read": (lambda p, c: None, lambda p, c: c.read()),
    "iteration": (lambda p, c: None, lambda p, c: next(iter(c))),
    "wait": (lambda p, c: None, lambda p, c: shmipc.wait([c])),
    "wait for nothing": (lambda p, c: None, lambda p, c: shmipc.wait([])),
    "send": (lambda p, c: full(p), lambda p, c: p.send(b"")),
    "send with timeout": (lambda p, c: full(p), lambda p, c: p.send(b"", timeout=30)),
    "send_many": (lambda p, c: full(p), lambda p, c: p.send_many([b""])),
    "reserve": (lambda p, c: full(p), lambda p, c: p.reserve(1)),
    "wait_for_consumers": (lambda p, c: None, lambda p, c: p.wait_for_consumers(2)),
    "opening": (lambda p, c: None, lambda p, c: Consumer("absent")),
}


@pytest.mark.parametrize("spin", [None, float("inf")], ids=["sleeping", "spinning"])
@pytest.mark.parametrize("what", INTERRUPTIBLE)
def test_ctrl_c_ends_every_wait_and_the_handles_go_on(what: str, spin: float | None) -> None:
    prepare, call = INTERRUPTIBLE[what]
    with (
        Producer("p", capacity=AREA, max_consumers=2, spin=spin) as producer,
        Consumer("p", timeout=5, spin=spin) as consumer,
    ):
        prepare(producer, consumer)
        with interrupted_after(0.05) as sent:
            with pytest.raises(KeyboardInterrupt):
                call(producer, consumer)
            assert time.monotonic() - sent[0] < 1
        while consumer.pending:
            consumer.recv(0)
        producer.send(b"goes on")
        assert consumer.recv(0) == b"goes on"


def test_ctrl_c_ends_read_batch() -> None:
    with Producer("p", dtype="<u8") as producer, Consumer("p", timeout=5) as consumer:
        with interrupted_after(0.05) as sent:
            with pytest.raises(KeyboardInterrupt):
                consumer.read_batch()
            assert time.monotonic() - sent[0] < 1
        producer.send(bytes(8))
        consumer.read_batch(timeout=0).release()


def test_ctrl_c_ends_wait_for_producer() -> None:
    with Producer("p") as producer, Consumer("p", timeout=5) as consumer:
        producer.close()
        with interrupted_after(0.05), pytest.raises(KeyboardInterrupt):
            consumer.wait_for_producer()
        with Producer("p") as successor:
            successor.send(b"goes on")
            assert consumer.recv(0) == b"goes on"


# ---- the GIL -------------------------------------------------------------------------------------

SPINNING: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "recv": (lambda p, c: c.recv(), lambda p, c: p.send(b"")),
    "wait": (lambda p, c: shmipc.wait([c]), lambda p, c: p.send(b"")),
    "send": (lambda p, c: (full(p), p.send(b"")), lambda p, c: c.recv()),
    "dispatcher": (
        lambda p, c: dispatch_one(c),
        lambda p, c: p.send(Event(value=1), kind=EVENT_KIND),
    ),
}


def dispatch_one(consumer: Any) -> None:
    dispatcher = Dispatcher(spin=float("inf"))
    dispatcher.add(consumer, {EVENT_KIND: (Event, lambda _: None)})
    assert dispatcher.run(max=1) == 1


@contextmanager
def keeping_the_gil() -> Iterator[None]:
    """Whoever asks for the GIL gets it when this is over."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


class Waiter:
    """A thread in a spinning wait, seen by the processor time it takes."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        ids: list[int] = []
        self.joined = in_thread(lambda: (ids.append(get_ident()), wait()))
        eventually(lambda: bool(ids))
        self._clock = time.pthread_getcpuclockid(ids[0])
        start = self.busy()
        eventually(lambda: self.busy() > start + 0.02)  # it spins by now

    def busy(self) -> float:
        """Seconds of processor time so far. Does not let the GIL go."""
        return time.clock_gettime(self._clock)


needs_a_gil = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no GIL to leave alone"
)


@needs_a_gil
@pytest.mark.parametrize("what", SPINNING)
def test_thread_that_waits_leaves_the_gil_alone(what: str) -> None:
    """Only the main thread runs signal handlers: another thread asks for the GIL neither while
    others compute nor at the end of the interpreter."""
    wait, end = SPINNING[what]
    spin = float("inf")
    with (
        Producer("p", capacity=AREA, spin=spin) as producer,
        Consumer("p", timeout=5, spin=spin) as consumer,
    ):
        waiter = Waiter(lambda: wait(producer, consumer))
        try:
            with keeping_the_gil():
                target = waiter.busy() + 0.03  # several slices
                deadline = time.monotonic() + DEADLINE
                while waiter.busy() < target:
                    assert time.monotonic() < deadline, "it waits for the GIL"
        finally:
            end(producer, consumer)
        waiter.joined()
    discard("p")


@needs_a_gil
def test_thread_that_waits_asks_for_the_gil_in_the_end() -> None:
    """It may be the one that runs signal handlers, where a program embeds the interpreter."""
    with (
        Producer("p", capacity=AREA) as producer,
        Consumer("p", timeout=5, spin=float("inf")) as consumer,
    ):
        waiter = Waiter(consumer.recv)
        try:
            with keeping_the_gil():
                deadline = time.monotonic() + DEADLINE
                while True:
                    busy, look = waiter.busy(), time.monotonic() + 0.5
                    while time.monotonic() < look:
                        pass
                    if waiter.busy() == busy:
                        break
                    assert time.monotonic() < deadline, "it never comes back"
        finally:
            producer.send(b"")
        waiter.joined()
    discard("p")


# ---- wait ----------------------------------------------------------------------------------------


def test_wait_returns_the_ready_ones_in_order() -> None:
    producers = [Producer(f"w{i}") for i in range(5)]
    consumers = [Consumer(f"w{i}", timeout=5) for i in range(5)]
    try:
        assert shmipc.wait(consumers, 0) == []
        producers[3].send(b"x")
        producers[1].send(b"y")
        assert shmipc.wait(consumers) == [consumers[1], consumers[3]]
        assert shmipc.wait(reversed(consumers), timeout=5) == [consumers[3], consumers[1]]
        assert shmipc.wait({consumers[1]}, 0) == [consumers[1]]
        for ready in (1, 3):
            consumers[ready].recv(0)
        assert shmipc.wait(consumers, 0.05) == []
    finally:
        for handle in (*consumers, *producers):
            handle.close()  # type: ignore[attr-defined]


def test_wait_times_out_after_its_time(ring: Any) -> None:
    for objects in ([ring[1]], []):
        start = time.monotonic()
        assert shmipc.wait(objects, 0.1) == []
        assert 0.1 <= time.monotonic() - start < 5


@pytest.mark.parametrize("count", [1, 2, 128, 130])
def test_wait_wakes_for_any_of_many(count: int) -> None:
    producers = [Producer(f"w{i}", capacity=AREA) for i in range(count)]
    consumers = [Consumer(f"w{i}", timeout=5) for i in range(count)]
    try:
        for which in (count - 1, 0):
            joined = in_thread(lambda: shmipc.wait(consumers, 20))
            time.sleep(0.02)
            producers[which].send(b"x")
            assert joined() == [consumers[which]]
            consumers[which].recv(0)
    finally:
        for handle in (*consumers, *producers):
            handle.close()  # type: ignore[attr-defined]


def test_wait_returns_what_has_ended_or_died() -> None:
    with Producer("w0") as closing, Peer('p = Producer("w1"); say("ready"); hear()') as peer:
        peer.expect()
        with Consumer("w0", timeout=5) as first, Consumer("w1", timeout=5) as second:
            assert shmipc.wait([first, second], 0) == []
            closing.close()
            assert shmipc.wait([first, second], 20) == [first]
            with pytest.raises(shmipc.Closed):
                first.recv(0)
            peer.kill()
            start = time.monotonic()
            assert shmipc.wait([second], 20) == [second]
            assert time.monotonic() - start < 1
            with pytest.raises(shmipc.ProducerDied):
                second.recv(5)
    discard("w1")


def test_wait_returns_a_dead_one_until_its_death_was_told_and_not_after() -> None:
    with Peer('p = Producer("w", max_consumers=2); say("ready"); hear()') as peer:
        peer.expect()
        with Consumer("w", timeout=5) as consumer, Consumer("w", timeout=5) as other:
            peer.kill()
            for _ in range(3):
                assert consumer in shmipc.wait([consumer, other], 20)
            with pytest.raises(shmipc.ProducerDied):
                consumer.recv(0)
            assert shmipc.wait([consumer, other], 20) == [other]
            with pytest.raises(shmipc.ProducerDied):
                other.recv(0)
            assert shmipc.wait([consumer, other], 0.2) == []
            with Producer("w", max_consumers=2) as successor:
                successor.send(b"x")
                assert shmipc.wait([consumer], 20) == [consumer]
                assert consumer.recv(0) == b"x"


def test_wait_spins_for_as_long_as_the_most_patient_member_says() -> None:
    with (
        Producer("w", max_consumers=2),
        Consumer("w", timeout=5, spin=0) as sleeping,
        Consumer("w", timeout=5, spin=float("inf")) as spinning,
    ):
        before, end = time.thread_time(), time.monotonic() + DEADLINE
        while time.thread_time() - before < 0.2:  # once around, where nobody else wants the core
            assert time.monotonic() < end, "it sleeps"
            assert shmipc.wait([sleeping, spinning], 0.3) == []
        before = time.thread_time()
        assert shmipc.wait([sleeping], 0.3) == []
        assert time.thread_time() - before < 0.1


def test_wait_on_more_than_the_kernel_takes_sleeps_and_hears_of_each() -> None:
    """futex_waitv takes 128 words. For more, naps: some 250 switches a second, where the naps that
    lead to a look at every ring were 900."""
    count = 300
    producers = [Producer(f"w{i}", capacity=AREA) for i in range(count)]
    consumers = [Consumer(f"w{i}", timeout=5) for i in range(count)]
    try:
        assert shmipc.wait(consumers, 0.1) == []
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        assert shmipc.wait(consumers, 1) == []
        assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before < 400
        for which in (0, 127, 128, count - 1):
            joined = in_thread(lambda: shmipc.wait(consumers, 20))
            time.sleep(0.02)
            producers[which].send(b"x")
            assert joined() == [consumers[which]]
            consumers[which].recv(0)
    finally:
        for handle in (*consumers, *producers):
            handle.close()  # type: ignore[attr-defined]


def test_wait_hears_of_a_death_among_hundreds() -> None:
    count = 150
    producers = [Producer(f"w{i}", capacity=AREA) for i in range(count)]
    consumers = [Consumer(f"w{i}", timeout=5) for i in range(count)]
    with Peer('p = Producer("dies"); say("ready"); hear()') as peer:
        peer.expect()
        with Consumer("dies", timeout=5) as mortal:
            assert shmipc.wait([*consumers, mortal], 0.1) == []
            peer.kill()
            assert shmipc.wait([*consumers, mortal], 20) == [mortal]
    for handle in (*consumers, *producers):
        handle.close()  # type: ignore[attr-defined]
    discard("dies")


def test_wait_refuses_what_it_cannot_wait_for(ring: Any) -> None:
    producer, consumer = ring
    with pytest.raises(TypeError, match="Consumers"):
        shmipc.wait([producer])
    with pytest.raises(TypeError):
        shmipc.wait(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="twice"):
        shmipc.wait([consumer, consumer])
    producer.send(b"usable")
    assert consumer.recv(0) == b"usable"


def test_wait_given_a_bare_consumer_says_so_and_reads_nothing_from_it() -> None:
    with Producer("p", max_consumers=2) as producer, Consumer("p", timeout=5) as consumer:
        producer.send(b"kept")
        producer.close()  # or wait() would iterate over the consumer for ever
        with pytest.raises(TypeError):
            shmipc.wait(consumer)  # type: ignore[arg-type]
        assert consumer.recv(0) == b"kept"


def test_wait_survives_a_list_that_changes_meanwhile() -> None:
    run_clean(
        """
        producers = [Producer(f"w{i}", capacity=4096) for i in range(3)]
        consumers = [Consumer(f"w{i}", timeout=5) for i in range(3)]
        kept = list(consumers)
        waiting = threading.Event()
        def meddle():
            waiting.wait()
            time.sleep(0.1)
            consumers.clear()
            producers[1].send(b"x")
        thread = threading.Thread(target=meddle)
        thread.start()
        waiting.set()
        assert shmipc.wait(consumers, 20) == [kept[1]]
        thread.join()
        for handle in (*kept, *producers):
            if handle is kept[1]:
                assert handle.recv(0) == b"x"
            handle.close()
        """,
        env={"PYTHONMALLOC": "debug"},
    )


# ---- idling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", ["recv", "wait", "send"])
def test_idle_waiter_burns_next_to_nothing(wait: str) -> None:
    with Producer("p", capacity=AREA) as producer, Consumer("p", timeout=5) as consumer:
        if wait == "send":
            producer.send(bytes(AREA - 16))
        before = time.process_time()
        with pytest.raises((shmipc.Empty, shmipc.Full)):  # noqa: PT012
            if wait == "recv":
                consumer.recv(1)
            elif wait == "wait":
                assert shmipc.wait([consumer], 1) == []
                raise shmipc.Empty
            else:
                producer.send(b"", timeout=1)
        assert time.process_time() - before < 0.05
        if wait == "send":
            consumer.recv(0)
