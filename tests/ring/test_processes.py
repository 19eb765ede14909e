"""Fork, spawn, threads, signals, and waiting for several rings: what surrounds a handle."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmipc
from helpers import Peer, discard, eventually, in_thread, run_clean, segment_path
from shmipc import Consumer, Producer

pytestmark = pytest.mark.binding

AREA = 4096


@pytest.fixture
def ring() -> Any:
    with Producer("p", capacity=AREA) as producer, Consumer("p", timeout=5) as consumer:
        yield producer, consumer
    discard("p")


# ---- fork ----------------------------------------------------------------------------------------


def test_handles_are_refused_in_a_forked_child_and_the_parent_goes_on() -> None:
    run_clean(
        """
        producer = Producer("p", capacity=4096)
        consumer = Consumer("p", timeout=5)
        producer.send_many([b"one", b"two"])
        frame = consumer.read(0)
        def refused(call):
            try:
                call()
            except RuntimeError as error:
                assert "parent process" in str(error), error
                return
            raise AssertionError("not refused")
        child = os.fork()
        if child == 0:
            try:
                for call in (
                    lambda: producer.send(b"x"), lambda: producer.try_send(b"x"),
                    lambda: producer.reserve(1), lambda: producer.stats(),
                    lambda: consumer.recv(0), lambda: consumer.read(0), lambda: consumer.pending,
                    lambda: iter(consumer), lambda: wait([consumer], 0),
                    lambda: producer.unlink(),
                ):
                    refused(call)
                assert "parent process" in repr(producer) and "parent process" in repr(consumer)
                assert bytes(frame) == b"one"
                frame.release()
                producer.close()
                consumer.close()
                try:
                    Producer("p", capacity=4096)
                except Busy:
                    pass
                else:
                    raise AssertionError("the parent's role is free")
            except BaseException as error:
                print(repr(error), file=sys.stderr)
                os._exit(1)
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert bytes(frame) == b"one"
        frame.release()
        assert consumer.recv(0) == b"two"
        producer.send(b"three")
        assert consumer.recv(0) == b"three"
        consumer.close()
        producer.close()
        """
    )


def test_forked_child_does_not_keep_its_dead_parents_role_alive() -> None:
    body = """
        producer = Producer("p", capacity=4096)
        consumer = Consumer("q", timeout=20)
        child = os.fork()
        if child == 0:
            say(os.getpid())
            time.sleep(60)
            os._exit(0)
        hear()
        """
    with Producer("q", capacity=AREA) as other, Peer(body) as peer:
        child = int(peer.hear())
        try:
            with pytest.raises(shmipc.Busy):
                Producer("p", capacity=AREA)
            peer.kill()
            with Producer("p", capacity=AREA) as producer:
                assert producer.stats().took_over
            with Consumer("q", timeout=0):
                assert other.attached == 1
            os.kill(child, 0)  # it does live
        finally:
            os.kill(child, signal.SIGKILL)


def test_child_may_open_the_same_names_itself() -> None:
    run_clean(
        """
        producer = Producer("p", capacity=4096)
        child = os.fork()
        if child == 0:
            producer.close()
            with Consumer("p", timeout=5) as consumer:
                ok = consumer.recv(5) == b"x"
            os._exit(0 if ok else 1)
        producer.send(b"x")
        assert os.waitpid(child, 0)[1] == 0
        producer.close()
        """
    )


# ---- multiprocessing -----------------------------------------------------------------------------


def echo_by_name(name: str, count: int) -> None:
    with Consumer(name, timeout=20) as consumer, Producer(f"{name}.back") as producer:
        for _ in range(count):
            producer.send(consumer.recv(20))


def read_all(consumer: Any, total: Any) -> None:
    with consumer:
        for frame in consumer:
            total.value += int(bytes(frame))


def send_numbers(producer: Any, count: int) -> None:
    with producer:
        for number in range(count):
            producer.send(b"%d" % number, timeout=20)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_names_travel_to_processes_of_any_start_method(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with Producer("n", capacity=AREA) as producer:
        process = context.Process(target=echo_by_name, args=("n", 100))
        process.start()
        with Consumer("n.back", timeout=20) as back:
            for number in range(100):
                producer.send(b"%d" % number, timeout=20)
            assert [back.recv(20) for _ in range(100)] == [b"%d" % i for i in range(100)]
        process.join(20)
        assert process.exitcode == 0


def test_consumer_travels_to_a_spawned_process_by_pickle() -> None:
    context = multiprocessing.get_context("spawn")
    total = context.Value("q", 0)
    with Producer("n", capacity=AREA) as producer:
        consumer = Consumer("n", timeout=5, spin=0)
        process = context.Process(target=read_all, args=(consumer, total))
        process.start()
        consumer.close()
        for number in range(1000):
            producer.send(b"%d" % number, timeout=20)
        producer.close()
        process.join(30)
        assert process.exitcode == 0
    assert total.value == sum(range(1000))


def sum_of(consumer: Any) -> int:
    with consumer:
        return sum(int(bytes(frame)) for frame in consumer)


def test_consumer_is_an_argument_of_a_pools_tasks() -> None:
    context = multiprocessing.get_context("spawn")
    with Producer("n", capacity=AREA, max_consumers=3) as producer, context.Pool(2) as pool:
        consumer = Consumer("n", timeout=5)
        sums = pool.map_async(sum_of, [consumer, consumer])
        producer.wait_for_consumers(3, timeout=40)  # ours, and one in each task
        consumer.close()
        send_numbers(producer, 3000)
        assert sums.get(40) == [sum(range(3000))] * 2
        pool.close()
        pool.join()


adopted: Any = None


def adopt(producer: Any) -> None:
    global adopted
    adopted = producer


def send_adopted(count: int) -> None:
    send_numbers(adopted, count)


def test_producer_is_handed_over_to_a_pools_initializer() -> None:
    context = multiprocessing.get_context("spawn")
    producer = Producer("n", capacity=AREA)
    producer.send(b"0")
    with Consumer("n", timeout=5) as consumer, context.Pool(1, adopt, (producer,)) as pool:
        producer.close()  # handed over: the stream goes on
        pool.apply(os.getpid)  # whose first worker has opened it by now
        sent = pool.apply_async(send_adopted, (3000,))
        assert sum(int(bytes(frame)) for frame in consumer) == sum(range(3000))
        sent.get(40)
        pool.close()
        pool.join()


@pytest.mark.parametrize("dtype", [None, "<M8[ns]", [("a", "<u4"), ("b", "<f8", (2,))]])
def test_handles_come_back_from_pickle_as_they_were(dtype: Any) -> None:
    options = {"dtype": dtype, "shape": () if dtype is None else (3,), "overflow": "overwrite"}
    producer: Any = Producer("n", capacity=100, max_consumers=2, mode=0o640, spin=0.5, **options)
    consumer: Any = Consumer("n", start="earliest", timeout=5)
    frozen = pickle.dumps(consumer), pickle.dumps(producer)
    producer.send(bytes(100) if dtype is None else bytes(producer.dtype.itemsize * 3))
    capacity, kind = producer.capacity, producer.dtype
    with pickle.loads(frozen[0]) as second:
        assert second.pending == 1
        assert type(second) is Consumer
    producer.close()
    with pickle.loads(frozen[1]) as again:
        assert (again.name, again.capacity, again.max_consumers) == ("n", capacity, 2)
        assert (again.dtype, again.shape, again.overflow) == (kind, options["shape"], "overwrite")
        assert segment_path("n").stat().st_mode & 0o777 == 0o640
        consumer.close()
    for closed in (producer, consumer):
        with pytest.raises(shmipc.Closed):
            pickle.dumps(closed)


def test_unpickled_handle_waits_for_its_role_to_become_free() -> None:
    producer = Producer("n")
    frozen = pickle.dumps(producer)
    joined = in_thread(lambda: pickle.loads(frozen))
    time.sleep(0.05)
    producer.close()
    joined().close()


def test_frames_and_reservations_do_not_pickle(ring: Any) -> None:
    producer, consumer = ring
    producer.send(b"x")
    with consumer.read(0) as frame, pytest.raises(TypeError):
        pickle.dumps(frame)
    with producer.reserve(1) as room, pytest.raises(TypeError):
        pickle.dumps(room)


# ---- threads -------------------------------------------------------------------------------------


def waits(consumer: Any) -> Callable[[], Any]:
    """A thread inside recv(); known to be there, because the handle is refused to us."""
    joined = in_thread(lambda: consumer.recv(20))

    def inside() -> bool:
        try:
            _ = consumer.pending
        except RuntimeError:
            return True
        return False

    eventually(inside)
    return joined


def test_handle_used_by_a_second_thread_is_a_runtime_error(ring: Any) -> None:
    producer, consumer = ring
    joined = waits(consumer)
    for call in (lambda: consumer.recv(0), lambda: shmipc.wait([consumer], 0), consumer.stats):
        with pytest.raises(RuntimeError, match="another thread"):
            call()
    producer.send(b"x")
    assert joined() == b"x"
    producer.send(bytes(AREA - 16))
    joined = in_thread(lambda: producer.send(b"y", timeout=20))

    def refused() -> bool:
        try:
            producer.stats()
        except RuntimeError as error:
            return "another thread" in str(error)
        return False

    eventually(refused)
    consumer.recv(5)
    joined()
    assert consumer.recv(5) == b"y"


def test_handle_may_move_between_threads(ring: Any) -> None:
    producer, consumer = ring
    for number in range(20):
        in_thread(lambda number=number: producer.send(b"%d" % number))()  # type: ignore[misc]
        assert in_thread(lambda: consumer.recv(5))() == b"%d" % number


@pytest.mark.parametrize("spin", [0, None, float("inf")])
def test_close_ends_a_recv_in_another_thread(spin: float | None) -> None:
    with Producer("p") as producer:
        consumer = Consumer("p", timeout=5, spin=spin)
        joined = waits(consumer)
        start = time.monotonic()
        consumer.close()
        with pytest.raises(shmipc.Closed):
            joined()
        assert time.monotonic() - start < 1
        assert producer.attached == 0


def test_close_ends_an_iteration_in_another_thread() -> None:
    with Producer("p", max_consumers=2):
        consumer = Consumer("p", timeout=5)
        joined = in_thread(lambda: list(consumer))
        time.sleep(0.02)
        consumer.close()
        assert joined() == []


@pytest.mark.parametrize("wait", ["send", "send_many", "reserve", "wait_for_consumers"])
def test_close_ends_a_producers_wait_in_another_thread(wait: str) -> None:
    producer = Producer("p", capacity=AREA, max_consumers=2)
    with Consumer("p", timeout=5):
        producer.send(bytes(AREA - 16))
        call = {
            "send": lambda: producer.send(b"x"),
            "send_many": lambda: producer.send_many([b"x"]),
            "reserve": lambda: producer.reserve(1),
            "wait_for_consumers": lambda: producer.wait_for_consumers(2),
        }[wait]
        joined = in_thread(call)

        def inside() -> bool:
            try:
                _ = producer.lag
            except RuntimeError:
                return True
            return False

        eventually(inside)
        start = time.monotonic()
        producer.close()
        with pytest.raises(shmipc.Closed):
            joined()
        assert time.monotonic() - start < 1


def test_many_threads_closing_at_once_close_once() -> None:
    for _ in range(20):
        with Producer("p"):
            consumer = Consumer("p", timeout=5)
            gate = threading.Barrier(4)

            def close(consumer: Any = consumer, gate: threading.Barrier = gate) -> None:
                gate.wait()
                consumer.close()

            for joined in [in_thread(close) for _ in range(4)]:
                joined()
            assert consumer.closed


def test_threads_with_a_handle_each_share_the_process() -> None:
    with Producer("p", capacity=AREA, max_consumers=4) as producer:
        consumers = [Consumer("p", timeout=5) for _ in range(4)]
        joins = [
            in_thread(lambda consumer=consumer: [bytes(frame) for frame in consumer])  # type: ignore[misc]
            for consumer in consumers
        ]
        for number in range(2000):
            producer.send(b"%d" % number, timeout=20)
        producer.close()
        for joined in joins:
            assert joined() == [b"%d" % number for number in range(2000)]
        for consumer in consumers:
            consumer.close()
