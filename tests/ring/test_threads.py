"""Threads that share a handle, a frame, a reservation or an iterator against the rules, and close
it meanwhile. Whatever comes of it is an answer or an exception of ours: never a crash, a hang, a
torn message, a message lost or twice. With the GIL most of this is easy; a free-threaded build is
what it is for. Longer with -m soak.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import shmipc
from helpers import check_payload, discard, eventually, in_thread, payload, run_clean
from shmipc import Consumer, Producer

pytestmark = [pytest.mark.binding, pytest.mark.debug]

AREA = 4096
MISUSE = (RuntimeError, ValueError, BufferError, shmipc.Closed, shmipc.Empty, shmipc.Full)

ROUNDS = [
    pytest.param(30, id="short"),
    pytest.param(500, id="long", marks=pytest.mark.soak),
]


@contextmanager
def frequent_switches() -> Iterator[None]:
    """With a GIL, threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run them in a thread each, from one gate; their results in order, or what one raised."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait(20)
        return call()

    joins = [in_thread(lambda call=call: run(call)) for call in calls]  # type: ignore[misc]
    return [join() for join in joins]


# ---- one handle, many threads --------------------------------------------------------------------


@pytest.mark.parametrize("rounds", ROUNDS)
def test_threads_in_one_pair_of_handles_lose_nothing_and_tear_nothing(rounds: int) -> None:
    senders, readers, count = 3, 3, rounds * 10
    sent: list[list[int]] = [[] for _ in range(senders)]
    got: list[list[int]] = [[] for _ in range(readers)]
    producer, consumer = Producer("t", capacity=AREA), Consumer("t", timeout=5)
    done = threading.Event()

    def send(index: int) -> None:
        for number in range(index, count * senders, senders):
            data = payload(number, 12 + number % 90)
            while True:
                try:
                    producer.send(data, timeout=0.05)
                except (RuntimeError, shmipc.Full):
                    time.sleep(0)
                    continue
                sent[index].append(number)
                break

    def read(index: int) -> None:
        while not done.is_set():
            with suppress(RuntimeError, shmipc.Empty):
                if index == 0:
                    got[index].append(check_payload(consumer.recv(0.01)))
                elif index == 1:
                    with consumer.read(0.01) as frame:
                        got[index].append(check_payload(bytes(frame)))
                else:
                    view = consumer.read(0.01).array
                    got[index].append(check_payload(view.tobytes()))
                    del view  # or a reader that finds no way in would hold up all the others
            time.sleep(0)

    with frequent_switches():
        reading = [in_thread(lambda i=i: read(i)) for i in range(readers)]  # type: ignore[misc]
        at_once(*[lambda i=i: send(i) for i in range(senders)])  # type: ignore[misc]
        while consumer_pending(consumer):
            time.sleep(0.001)
        done.set()
        for join in reading:
            join()
    assert sorted(number for part in got for number in part) == list(range(count * senders))
    for part in got:  # each thread sees each sender's in order
        for index in range(senders):
            mine = [number for number in part if number % senders == index]
            assert mine == sorted(mine)
    gc.collect()
    assert consumer.stats().frames == 0
    consumer.close()
    producer.close()


def consumer_pending(consumer: Any) -> int:
    while True:
        with suppress(RuntimeError):
            return int(consumer.pending)
        time.sleep(0)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("what", ["recv", "read", "iterate", "wait", "send", "reserve", "stats"])
def test_close_during_use_by_several_threads(what: str, rounds: int) -> None:
    for round_ in range(rounds):
        producer = Producer("t", capacity=AREA, max_consumers=2)
        consumer = Consumer("t", timeout=5)
        victim: Any = consumer if what in ("recv", "read", "iterate", "wait") else producer
        for number in range(round_ % 4):
            producer.send(b"%d" % number)
        kept: list[Any] = []

        def use(
            producer: Any = producer,
            consumer: Any = consumer,
            victim: Any = victim,
            kept: list[Any] = kept,
        ) -> None:
            calls: dict[str, Callable[[], Any]] = {
                "recv": lambda: consumer.recv(5),
                "read": lambda: kept.append(consumer.read(5).array),
                "iterate": lambda: [kept.append(memoryview(frame)) for frame in consumer],
                "wait": lambda: shmipc.wait([consumer], 5) and consumer.recv(0),
                "send": lambda: producer.send(bytes(900), timeout=5),
                "reserve": lambda: kept.append(producer.reserve(900, timeout=5).array),
                "stats": lambda: (producer.stats(), producer.attached, producer.lag),
            }
            while not victim.closed:
                with suppress(*MISUSE):
                    calls[what]()

        at_once(use, use, victim.close, victim.close)
        assert victim.closed
        for view in kept:
            bytes(view)
        kept.clear()
        consumer.close()
        producer.close()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_only_one_of_several_threads_opens_a_handle(rounds: int) -> None:
    for _ in range(rounds):
        handle: Any = Producer.__new__(Producer)

        def opens(handle: Any = handle) -> bool:
            try:
                handle.__init__("t", capacity=AREA)
            except RuntimeError:
                return False
            return True

        def look(handle: Any = handle) -> bool:
            for _ in range(20):
                assert handle.name in (None, "t")
                assert handle.shape in (None, ())
                assert handle.capacity in (0, AREA)
                repr(handle)
                with suppress(RuntimeError):
                    handle.stats()
            return False

        assert sum(at_once(opens, opens, opens, look)) == 1
        with Consumer("t", timeout=0) as consumer:
            handle.send(b"once")
            assert consumer.recv(0) == b"once"
        handle.close()


def test_a_handle_that_opens_itself_once_more_inside_init_is_refused() -> None:
    class Shape:
        def __init__(self, handle: Any) -> None:
            self.handle = handle

        def __iter__(self) -> Iterator[int]:
            for call in (
                lambda: self.handle.__init__("t"),
                lambda: self.handle.send(b""),
                lambda: self.handle.__enter__(),
            ):
                with pytest.raises(RuntimeError, match=r"opening|never opened"):
                    call()
            self.handle.close()  # nothing is open yet
            return iter([2])

    handle: Any = Producer.__new__(Producer)
    handle.__init__("t", dtype="<u8", shape=Shape(handle))
    with handle, pytest.raises(RuntimeError, match="open already"):
        handle.__init__("t")


# ---- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_frame_pulled_at_by_many_threads_ends_its_lease_once(rounds: int) -> None:
    with Producer("t", capacity=AREA) as producer, Consumer("t", timeout=5) as consumer:
        for number in range(rounds * 4):
            producer.send(payload(number, 400))
            frame = consumer.read(0)

            def view(frame: Any = frame, number: int = number) -> None:
                # A view keeps our message until it is deleted, whichever thread releases the frame.
                for _ in range(5):
                    with suppress(ValueError, BufferError):
                        seen = frame.array if number % 2 else memoryview(frame)
                        assert check_payload(bytes(seen)) == number
                        assert frame.intact
                    repr(frame)

            def release(frame: Any = frame) -> None:
                while frame.intact:
                    with suppress(BufferError):
                        frame.release()

            def leave(frame: Any = frame) -> None:
                frame.__exit__(None, None, None)

            def overwrite() -> None:
                for _ in range(AREA // 512):
                    producer.try_send(payload(1 << 40, 400))

            at_once(view, view, release if number % 3 else leave, release, overwrite)
            assert not frame.intact
            assert consumer.stats().frames == 0
            while consumer.pending:
                consumer.recv(0)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_frames_released_in_other_threads_while_more_are_read(rounds: int) -> None:
    """The reader reads on; what it read is checked and dropped by others, in any order."""
    count = rounds * 20
    box: list[Any] = []
    full = threading.Semaphore(0)
    picking = threading.Lock()
    seen: list[int] = []

    def drop() -> None:
        order = random.Random(threading.get_ident())
        while True:
            full.acquire()
            with picking:
                item = box.pop(order.randrange(len(box)))
            if item is None:
                return
            seen.append(check_payload(bytes(item)))
            del item

    with (
        Producer("t", capacity=AREA) as producer,
        Consumer("t", timeout=5) as consumer,
        frequent_switches(),
    ):
        droppers = [in_thread(drop) for _ in range(3)]
        sending = in_thread(
            lambda: [producer.send(payload(i, 12 + i % 200), timeout=20) for i in range(count)]
        )
        for number in range(count):
            frame = consumer.read(20)
            box.append([frame, memoryview(frame), frame.array[:]][number % 3])
            del frame
            full.release()
        sending()
        eventually(lambda: len(seen) == count)
        for _ in droppers:
            with picking:
                box.append(None)
            full.release()
        for join in droppers:
            join()
        assert sorted(seen) == list(range(count))
        assert (consumer.lag, producer.lag, consumer.stats().frames) == (0, 0, 0)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("overflow", ["block", "overwrite"])
def test_consumer_closed_while_its_frames_die_elsewhere(overflow: Any, rounds: int) -> None:
    for number in range(rounds):
        producer = Producer("t", capacity=AREA, max_consumers=2, overflow=overflow)
        consumer = Consumer("t", start="earliest", timeout=5)
        producer.send_many([b"x" * 100] * 4)
        boxes = [[consumer.read(0).array], [memoryview(consumer.read(0))], [consumer.read(0)]]
        at_once(*[box.clear for box in boxes], consumer.close, producer.close)
        assert consumer.closed
        assert number < rounds
        del boxes
        with Producer("t", capacity=AREA, max_consumers=2, overflow=overflow) as fresh:
            assert fresh.attached == 0
            assert not fresh.stats().took_over  # the last one out removed the file


@pytest.mark.parametrize("rounds", ROUNDS)
def test_one_iterator_in_many_threads_gives_each_message_once(rounds: int) -> None:
    count = rounds * 10
    with Producer("t", capacity=1 << 20) as producer, Consumer("t", timeout=5) as consumer:
        producer.send_many([payload(i, 40) for i in range(count)])
        producer.close()
        iterator = iter(consumer)
        got: list[list[int]] = [[], [], []]

        def read(index: int, iterator: Any = iterator) -> None:
            while True:
                try:
                    frame = next(iterator)
                except RuntimeError:
                    continue
                except StopIteration:
                    return
                # Another thread's next() may let this one go at any time.
                with suppress(BufferError, ValueError), memoryview(frame) as view:
                    got[index].append(check_payload(bytes(view)))

        with frequent_switches():
            at_once(*[lambda i=i: read(i) for i in range(3)])  # type: ignore[misc]
        numbers = [number for part in got for number in part]
        assert len(numbers) == len(set(numbers))
        assert set(numbers) <= set(range(count))
        assert consumer.pending == 0
        del iterator
        gc.collect()
        assert consumer.stats().frames == 0


# ---- reservations --------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_reservation_is_settled_once_whoever_settles_it(rounds: int) -> None:
    with Producer("t", capacity=AREA) as producer, Consumer("t", timeout=5) as consumer:
        for number in range(rounds * 4):
            room = producer.reserve(200)
            memoryview(room)[:] = payload(number, 200)
            late: list[Any] = []

            def commit(room: Any = room) -> int:
                with suppress(ValueError, RuntimeError):
                    room.commit()
                    return 1
                return 0

            def abort(room: Any = room) -> int:
                room.abort()
                return 0

            def view(room: Any = room, late: list[Any] = late) -> int:
                with suppress(ValueError, BufferError):
                    late.append(room.array)
                    late.append(memoryview(room))
                return 0

            def other() -> int:
                with suppress(RuntimeError):
                    producer.send(b"", timeout=0)
                return 0

            committed = sum(at_once(commit, commit, abort if number % 2 else view, view, other))
            assert committed == 1 or (committed == 0 and number % 2)
            room.abort()
            arrays = [item for item in late if not isinstance(item, memoryview)]
            assert all(array is arrays[0] for array in arrays)
            assert not any(array.flags.writeable for array in arrays)
            late.clear()
            bodies = []
            while consumer.pending:
                bodies.append(consumer.recv(0))
            bodies = [body for body in bodies if body]
            assert [check_payload(body) for body in bodies] == [number] * committed


@pytest.mark.parametrize("rounds", ROUNDS)
def test_views_of_a_reservation_made_while_its_producer_closes_are_safe(rounds: int) -> None:
    for _ in range(rounds):
        producer = Producer("t", capacity=AREA)
        room = producer.reserve(300)
        kept: list[Any] = []

        def view(room: Any = room, kept: list[Any] = kept) -> None:
            for _ in range(10):
                with suppress(*MISUSE):
                    kept.append(room.array)
                with suppress(*MISUSE):
                    kept.append(memoryview(room))

        at_once(view, view, producer.close, room.abort)
        for seen in kept:
            if isinstance(seen, memoryview):
                seen[:] = bytes(300)  # harms nobody: a crash, were the memory gone
            else:
                assert not seen.flags.writeable
                assert len(seen.tobytes()) == 300
        del kept, room, producer


# ---- what a handle holds -------------------------------------------------------------------------


def test_a_handle_in_a_cycle_with_what_it_was_given_is_collected() -> None:
    run_clean(
        """
        import warnings, weakref
        warnings.simplefilter("ignore", ResourceWarning)
        class Name(str):
            pass
        class Spin(float):
            pass
        name, spin = Name("c"), Spin(0.5)
        name.handle = spin.handle = Producer(name, spin=spin)
        path = shmipc.segment_path("c") if hasattr(shmipc, "segment_path") else None
        alive = [weakref.ref(name), weakref.ref(spin)]
        del name, spin
        gc.collect()
        assert [ref() for ref in alive] == [None, None]
        Producer("c").close()  # its role is free
        """
    )


def test_del_of_a_subclass_runs_once_and_the_handle_is_closed_all_the_same(shm_dir: Any) -> None:
    calls = []

    class Quiet(Producer):
        __slots__ = ()

        def __del__(self) -> None:
            calls.append("quiet")

    class Plain(Consumer):
        def __del__(self) -> None:
            calls.append("plain")

    producer, consumer = Quiet("t"), Plain("t", timeout=5)
    with pytest.warns(ResourceWarning, match="unclosed Consumer"):
        del consumer
    with pytest.warns(ResourceWarning, match="unclosed Producer"):
        del producer
    gc.collect()
    assert calls == ["plain", "quiet"]
    assert list(shm_dir.iterdir()) == []


def test_two_threads_that_need_numpy_first_at_once() -> None:
    run_clean(
        """
        gate = threading.Barrier(4)
        faults = []
        def open_and_use(i):
            try:
                gate.wait()
                with Producer(f"n{i}", dtype="<u8") as p, Consumer(f"n{i}", timeout=5) as c:
                    p.send(np.uint64(i))
                    assert int(c.recv(0)) == i
            except BaseException as fault:
                faults.append(fault)
        threads = [threading.Thread(target=open_and_use, args=(i,)) for i in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not faults, faults
        """
    )


def test_names_left_by_these_tests_are_none() -> None:
    discard("t")
