"""The end of an interpreter, several interpreters in one process, and signals that do more than end
a wait: handlers that use, close and fork, and storms of them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import shmipc
from helpers import check_payload, discard, in_thread, payload, run_python
from shmipc import Consumer, Producer

pytestmark = pytest.mark.binding

AREA = 4096


def ends_well(body: str, *args: object, python: tuple[str, ...] = (), said: str = "") -> None:
    """Run a snippet under -X dev, -W error and faulthandler: it must end by itself, without a
    word on stderr and with `said` on stdout."""
    done = run_python(body, *args, python=("-X", "dev", "-W", "error", *python))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", said), done


def sweep(shm_dir: Path) -> None:
    """What a process left that ended without closing."""
    for path in shm_dir.iterdir():
        path.unlink()


# ---- the end of the interpreter ------------------------------------------------------------------

BLOCKED = {
    "recv": "consumer.recv()",
    "read": "consumer.read()",
    "iteration": "list(consumer)",
    "wait": "shmipc.wait([consumer])",
    "send": "producer.send(b'')",
    "reserve": "producer.reserve(1)",
    "send_many": "producer.send_many([b''])",
    "wait_for_consumers": "producer.wait_for_consumers(2)",
    "opening": "Consumer('absent')",
}


@pytest.mark.parametrize("spin", ["0", "float('inf')"], ids=["sleeping", "spinning"])
@pytest.mark.parametrize("blocked", BLOCKED)
def test_daemon_thread_blocked_at_exit_is_harmless(blocked: str, spin: str, shm_dir: Path) -> None:
    ends_well(
        f"""
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
        producer = Producer("e", capacity=4096, max_consumers=2, spin={spin})
        consumer = Consumer("e", timeout=5, spin={spin})
        if args[0] in ("send", "reserve", "send_many"):
            producer.send(bytes(4080))
        def block():
            {BLOCKED[blocked]}
        class Last:
            def __init__(self, sleep):
                self.sleep = sleep
            def __del__(self):
                self.sleep(0.1)  # the end takes as long as many slices of a wait
        threading.Thread(target=block, daemon=True).start()
        time.sleep(0.05)
        sys.last = Last(time.sleep)
        """,
        blocked,
    )
    sweep(shm_dir)


def test_what_a_daemon_thread_waits_for_may_come_while_the_interpreter_ends(shm_dir: Path) -> None:
    """The thread that ends the interpreter may wait, in a finalizer."""
    ends_well(
        """
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
        producer = Producer("e", capacity=4096, max_consumers=2)
        other = Consumer("e", timeout=5)
        class Last:
            def __init__(self, *held):
                self.held = held
            def __del__(self):
                producer, consumer, Empty, sleep, write = self.held
                producer.send(b"late")
                sleep(0.1)  # the daemon thread has it now, and no interpreter to go back to
                assert consumer.recv(0) == b"late"
                try:
                    consumer.recv(0.05)
                except Empty:
                    write(1, b"the end")
        def block():
            with Consumer("e", timeout=5) as consumer:
                inside.set()
                consumer.recv()
                say("after the end")
        inside = threading.Event()
        threading.Thread(target=block, daemon=True).start()
        inside.wait()
        time.sleep(0.05)
        sys.last = Last(producer, other, Empty, time.sleep, os.write)
        """,
        said="the end",
    )
    sweep(shm_dir)


@pytest.mark.parametrize("closer", ["atexit", "__del__", "generator"])
def test_handle_closed_at_exit_while_a_daemon_thread_is_inside(closer: str, shm_dir: Path) -> None:
    ends_well(
        """
        import atexit
        producer = Producer("e", capacity=4096, max_consumers=2)
        consumer = Consumer("e", timeout=5)
        inside = threading.Event()
        def block(consumer=consumer):
            inside.set()
            try:
                consumer.recv()
            except Closed:
                pass
        class Holder:
            def __init__(self, handle):
                self.handle = handle
            def __del__(self):
                self.handle.close()
        def generate(handle):
            with handle:
                yield
        if args[0] == "atexit":
            atexit.register(consumer.close)
        elif args[0] == "__del__":
            sys.holder = holder = Holder(consumer)
        else:
            sys.kept = kept = generate(consumer)
            next(kept)
        threading.Thread(target=block, daemon=True).start()
        inside.wait()
        time.sleep(0.05)
        producer.unlink()
        sys.producer = producer  # not closed first: that would let the thread go
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
        """,
        closer,
    )
    sweep(shm_dir)


def test_everything_alive_in_cycles_at_exit_is_harmless(shm_dir: Path) -> None:
    ends_well(
        """
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
        class Mine(Consumer):
            pass
        producer = Producer("e", capacity=4096, max_consumers=2)
        consumer = Mine("e", timeout=5)
        producer.send_many([b"a", b"b", b"c"])
        frame = consumer.read(0)
        consumer.frame, consumer.view = frame, memoryview(consumer.read(0))
        consumer.loop = iter(consumer)
        next(consumer.loop)
        room = producer.reserve(10)
        cycle = [producer, consumer, room, memoryview(room), frame]
        cycle.append(cycle)
        sys.modules["keeper"] = cycle
        """
    )
    sweep(shm_dir)


# ---- sub-interpreters ----------------------------------------------------------------------------

SUBINTERPRETERS = """
    import importlib
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = importlib.import_module(name)
            break
        except ImportError:
            pass
    def run(code):
        # An interpreter of its own, with its own GIL where there is such a thing; it ends after.
        one = interpreters.create()
        try:
            fault = interpreters.run_string(one, code)
            assert fault is None, fault
        finally:
            interpreters.destroy(one)
    """
FIRST = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}; from shmipc import *\n"


def test_interpreters_of_one_process_talk_and_end() -> None:
    ends_well(
        SUBINTERPRETERS
        + f"""
    FIRST = {FIRST!r}
    with Producer("main", capacity=4096) as producer, Producer("done", capacity=4096) as other:
        for turn in range(5):
            producer.send(b"%d" % turn)
            run(FIRST + '''
with Consumer("main", timeout=5) as consumer:
    text = consumer.recv(5)
with Producer("sub", capacity=4096) as producer:
    producer.send(text + b"!")
    with Consumer("sub", timeout=5) as back, back.read(5) as frame:
        assert bytes(frame) == text + b"!", bytes(frame)
assert "numpy" not in sys.modules
''')
    threads = [threading.Thread(target=run, args=(FIRST + '''
with Producer("own%d", capacity=4096) as producer, Consumer("own%d", timeout=5) as consumer:
    for number in range(500):
        producer.send(b"x" * number)
        assert consumer.recv(5) == b"x" * number
''' % (i, i),)) for i in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    """,
        python=("-W", "ignore::DeprecationWarning"),
    )


def test_interpreter_that_ends_with_live_handles_and_views_is_harmless(shm_dir: Path) -> None:
    ends_well(
        SUBINTERPRETERS
        + f"""
    FIRST = {FIRST!r}
    for closed in ("", "consumer.close()", "producer.close()"):
        run(FIRST + '''
import warnings
warnings.simplefilter("ignore", ResourceWarning)
producer = Producer("left", capacity=4096, max_consumers=2)
consumer = Consumer("left", timeout=5)
producer.send_many([b"a", b"b", b"c"])
frame, view, loop = consumer.read(0), memoryview(consumer.read(0)), iter(consumer)
next(loop)
room = producer.reserve(3)
kept = [memoryview(room), producer, consumer, frame, view, loop]
kept.append(kept)
sys.kept = kept
''' + closed + chr(10))
        with Producer("left", capacity=4096, max_consumers=2) as again:
            assert again.attached == 0
    """,
        python=("-W", "ignore::DeprecationWarning"),
    )
    sweep(shm_dir)


# ---- signals -------------------------------------------------------------------------------------


@contextmanager
def storm(handler: Callable[..., Any], interval: float = 0.001) -> Iterator[None]:
    """SIGUSR2 for this process every `interval` seconds."""
    before = signal.signal(signal.SIGUSR2, handler)
    stop = False

    def shoot() -> None:
        while not stop:
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(interval)

    join = in_thread(shoot)
    try:
        yield
    finally:
        stop = True
        join()
        signal.signal(signal.SIGUSR2, before)


def test_a_storm_of_signals_loses_nothing_and_ends_no_wait() -> None:
    count = 3000
    hits = []
    with Producer("s", capacity=AREA) as producer, Consumer("s", timeout=5, spin=0) as consumer:

        def send() -> None:
            for number in range(count):
                producer.send(payload(number, 12 + number % 300), timeout=20)
                if number % 50 == 0:
                    time.sleep(0.002)

        with storm(lambda *_: hits.append(1)):
            sending = in_thread(send)
            for number in range(count):
                if number % 3:
                    assert check_payload(consumer.recv(20)) == number
                else:
                    assert shmipc.wait([consumer], 20) == [consumer]
                    with consumer.read(20) as frame:
                        assert check_payload(bytes(frame)) == number
            sending()
            start = time.monotonic()
            with pytest.raises(shmipc.Empty):
                consumer.recv(0.2)
            assert 0.2 <= time.monotonic() - start < 5
    assert hits


class Stop(Exception):
    """What a handler raises."""


def test_exceptions_from_handlers_at_any_moment_lose_nothing() -> None:
    """Every message is either read, once, or still there after the call that was interrupted."""

    def stop(*_: Any) -> None:
        if armed:
            raise Stop

    armed: list[int] = []
    expected, interrupted = 0, 0
    with (
        Producer("s", capacity=1 << 16, max_consumers=2) as producer,
        Consumer("s", timeout=5) as c,
    ):
        with storm(stop, 0.0005):
            end = time.monotonic() + 3
            number = 0
            while time.monotonic() < end and interrupted < 150:
                if producer.try_send(payload(number, 40)):
                    number += 1
                before = c.stats().pending
                got = None
                try:
                    armed.append(1)
                    got = c.recv(0 if before else 0.002)
                except (Stop, shmipc.Empty) as fault:
                    interrupted += isinstance(fault, Stop)
                finally:
                    armed.clear()
                taken = before - c.stats().pending
                assert taken in (0, 1)
                assert got is None or taken == 1
                if got is not None:
                    assert check_payload(got) == expected
                expected += taken
        assert expected + c.pending == number
        assert interrupted > 0


@pytest.mark.parametrize("call", ["recv", "send", "reserve", "iterate", "wait"])
def test_handler_that_uses_the_handle_it_interrupted_is_told_so(call: str) -> None:
    told = []
    with Producer("s", capacity=AREA) as producer, Consumer("s", timeout=5) as consumer:
        if call in ("send", "reserve"):
            producer.send(bytes(AREA - 16))
        victim: Any = producer if call in ("send", "reserve") else consumer

        def use(*_: Any) -> None:
            try:
                victim.stats()
            except RuntimeError as fault:
                told.append(str(fault))

        calls: dict[str, Callable[[], Any]] = {
            "recv": lambda: consumer.recv(0.3),
            "send": lambda: producer.send(b"", timeout=0.3),
            "reserve": lambda: producer.reserve(1, timeout=0.3),
            "iterate": lambda: (
                in_thread(lambda: (time.sleep(0.3), producer.close()))
                and next(iter(consumer), None)
            ),
            "wait": lambda: shmipc.wait([consumer], 0.3),
        }
        with storm(use, 0.02), suppress(shmipc.Empty, shmipc.Full):
            calls[call]()
        assert told
        assert all("in the middle of a call" in text for text in told)
        if not victim.closed:
            victim.stats()
    discard("s")


@pytest.mark.parametrize("call", ["consumer.recv(10)", "shmipc.wait([consumer], 10)"])
def test_handler_that_forks_during_a_wait_is_refused_in_the_child(call: str) -> None:
    done = run_python(
        f"""
        producer = Producer("s", capacity=4096)
        consumer = Consumer("s", timeout=5)
        children = []
        def fork(*_):
            if not children:
                child = os.fork()
                children.append(child)
                if child:
                    producer.send(b"for the parent")
        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            {call}
        except RuntimeError as error:
            os._exit(0 if children == [0] and "parent process" in str(error) else 1)
        assert children[0], "the child waits for what is not its own"
        assert os.waitpid(children[0], 0)[1] == 0
        consumer.close()
        """
    )
    assert done.returncode == 0, done
    discard("s")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="buffers in Python came with 3.12")
def test_a_buffer_that_raises_or_forks_is_not_mistaken_for_no_buffer() -> None:
    class Raises:
        def __buffer__(self, flags: int) -> memoryview:
            raise Stop

    with Producer("s", capacity=AREA) as producer, Consumer("s", timeout=5) as consumer:
        for call in (
            lambda: producer.send(Raises()),
            lambda: producer.send_many([Raises()]),
            lambda: consumer.recv_into(Raises(), 0),
        ):
            with pytest.raises(Stop):
                call()  # type: ignore[no-untyped-call]
        pid = os.getpid()

        class Forks:
            def __buffer__(self, flags: int) -> memoryview:
                self.child = os.fork()
                return memoryview(b"%d" % self.child)

        forks: Any = Forks()
        try:
            producer.send(forks)
        except RuntimeError:
            if os.getpid() != pid:
                os._exit(0)
            raise
        finally:
            if os.getpid() != pid:
                os._exit(1)
        assert os.waitpid(forks.child, 0)[1] == 0
        assert consumer.recv(0) == b"%d" % forks.child
        assert consumer.pending == 0
