"""A producer's role goes to the process that is opening it, and to no other."""

from __future__ import annotations

import concurrent.futures
import copy
import fcntl
import multiprocessing
import os
import pickle
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import shmipc
from helpers import Peer, eventually, in_thread, segment_path
from shmipc import Consumer, Dispatcher, Producer

AREA = 4096
SUCCESSOR_BYTE = 1026  # docs/format.md, section 6


def is_locked(path: Path, byte: int) -> bool:
    """Does anybody hold this lock of the file?"""
    question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    with open(path, "rb+") as file:
        answer = fcntl.fcntl(file, 36, question)  # F_OFD_GETLK, which 3.10 does not name
    return bool(struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK)


@contextmanager
def pair(name: str) -> Iterator[tuple[Any, Any]]:
    """A producer and a consumer of one ring, both closed at the end."""
    with Producer(name, capacity=AREA) as producer, Consumer(name, timeout=5) as consumer:
        yield producer, consumer


def end_of(consumer: Any) -> type[BaseException]:
    """Return what the consumer raises once the producer is gone."""
    with pytest.raises((shmipc.Closed, shmipc.ProducerDied)) as told:
        consumer.recv(20)
    return told.type


def everything(consumer: Any) -> list[int]:
    """All numbers up to the end of the stream. A handover may show as a death, in between."""
    seen = []
    while True:
        try:
            seen.append(int(consumer.recv(40)))
        except shmipc.ProducerDied:
            continue
        except shmipc.Closed:
            return seen


def send_numbers(producer: Any, first: int, past: int) -> None:
    with producer:
        for number in range(first, past):
            producer.send(b"%d" % number, timeout=20)


# ---- a pickle that nobody uses -------------------------------------------------------------------


def test_producer_whose_pickle_failed_at_the_next_object_ends_its_stream() -> None:
    with pair("n") as (producer, consumer):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps([producer, lambda: 0])
        producer.close()
        assert end_of(consumer) is shmipc.Closed


def test_producer_whose_pickle_was_thrown_away_ends_its_stream_and_removes_its_file() -> None:
    with pair("n") as (producer, consumer):
        pickle.dumps(producer)
        producer.close()
        assert end_of(consumer) is shmipc.Closed
    assert not segment_path("n").exists()


def ignore(producer: Any, other: Any) -> None: ...


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_producer_whose_process_was_never_started_ends_its_stream(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with pair("n") as (producer, consumer):
        process = context.Process(target=ignore, args=(producer, lambda: 0))
        with pytest.raises((pickle.PicklingError, AttributeError)):
            process.start()
        producer.close()
        assert end_of(consumer) is shmipc.Closed


def test_failed_handover_is_forgotten_when_a_later_one_succeeds() -> None:
    context: Any = multiprocessing.get_context("spawn")
    with pair("n") as (producer, consumer):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            context.Process(target=ignore, args=(producer, lambda: 0)).start()
        process = context.Process(target=send_numbers, args=(producer, 0, 5))
        process.start()
        producer.close()
        assert everything(consumer) == list(range(5))
        process.join(20)
        assert process.exitcode == 0


def test_producer_whose_process_has_ended_already_ends_its_stream() -> None:
    context: Any = multiprocessing.get_context("spawn")
    with pair("n") as (producer, consumer):
        process = context.Process(target=ignore, args=(producer, None))
        process.start()
        process.kill()
        process.join(20)
        producer.close()
        assert end_of(consumer) is shmipc.Closed


# ---- somebody who comes --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_stream_goes_on_in_a_started_process_when_the_parent_closes_at_once(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with pair("n") as (producer, consumer):
        for number in range(10):
            producer.send(b"%d" % number)
        process = context.Process(target=send_numbers, args=(producer, 10, 2000))
        process.start()
        producer.close()
        assert everything(consumer) == list(range(2000))
        process.join(20)
        assert process.exitcode == 0


def test_waiting_receiver_is_the_successor() -> None:
    with pair("n") as (producer, consumer):
        frozen = pickle.dumps(producer)
        joined = in_thread(lambda: pickle.loads(frozen))
        eventually(lambda: is_locked(segment_path("n"), SUCCESSOR_BYTE))
        producer.close()
        with joined() as successor:
            assert successor.stats().took_over
            assert not is_locked(segment_path("n"), SUCCESSOR_BYTE)
            successor.send(b"on")
            assert consumer.recv(20) == b"on"
        assert end_of(consumer) is shmipc.Closed


RECEIVE = """
    import pickle
    frozen = bytes.fromhex(hear())
    say("ready")
    producer = pickle.loads(frozen)
    producer.send(b"on")
    say("mine")
    hear()
    """


def test_receiver_that_dies_while_it_waits_is_no_successor() -> None:
    with pair("n") as (producer, consumer), Peer(RECEIVE) as peer:
        peer.tell(pickle.dumps(producer).hex())
        eventually(lambda: is_locked(segment_path("n"), SUCCESSOR_BYTE))
        peer.kill()
        producer.close()
        assert end_of(consumer) is shmipc.Closed


def test_successor_that_dies_is_a_death() -> None:
    with pair("n") as (producer, consumer), Peer(RECEIVE) as peer:
        peer.tell(pickle.dumps(producer).hex())
        eventually(lambda: is_locked(segment_path("n"), SUCCESSOR_BYTE))
        producer.close()
        peer.expect()
        peer.expect("mine")
        peer.kill()
        assert consumer.recv(20) == b"on"
        assert end_of(consumer) is shmipc.ProducerDied
    Producer("n", capacity=AREA).close()  # and the file goes with an orderly end


def test_receiver_that_comes_after_the_end_opens_the_ring_again() -> None:
    with pair("n") as (producer, consumer):
        frozen = pickle.dumps(producer)
        producer.send(b"one")
        producer.close()
        assert consumer.recv(20) == b"one"
        assert end_of(consumer) is shmipc.Closed
        with pickle.loads(frozen) as again:
            again.send(b"two")
            assert consumer.recv(20) == b"two"


def test_receiver_follows_its_name_to_a_new_file() -> None:
    with Producer("n", capacity=AREA) as first:
        frozen = pickle.dumps(first)
        joined = in_thread(lambda: pickle.loads(frozen))
        eventually(lambda: is_locked(segment_path("n"), SUCCESSOR_BYTE))
        first.unlink()
        with Producer("n", capacity=AREA) as second:
            eventually(lambda: is_locked(segment_path("n"), SUCCESSOR_BYTE))
            with Consumer("n", timeout=5) as consumer:
                second.close()
                with joined() as successor:
                    successor.send(b"on")
                    assert consumer.recv(20) == b"on"


def test_receiver_that_is_interrupted_leaves_no_claim() -> None:
    with pair("n") as (producer, consumer):
        frozen = pickle.dumps(producer)

        def interrupt() -> None:
            eventually(lambda: is_locked(segment_path("n"), SUCCESSOR_BYTE))
            os.kill(os.getpid(), signal.SIGINT)

        joined = in_thread(interrupt)
        with pytest.raises(KeyboardInterrupt):
            pickle.loads(frozen)
        joined()
        assert not is_locked(segment_path("n"), SUCCESSOR_BYTE)
        producer.close()
        assert end_of(consumer) is shmipc.Closed


# ---- pools and queues ----------------------------------------------------------------------------


adopted: Any = None


def adopt(producer: Any) -> None:
    global adopted
    adopted = producer


def send_adopted(first: int, past: int) -> None:
    send_numbers(adopted, first, past)


def test_producer_is_handed_over_to_an_executors_initializer() -> None:
    context = multiprocessing.get_context("spawn")
    with pair("n") as (producer, consumer):
        pool = concurrent.futures.ProcessPoolExecutor(
            1, mp_context=context, initializer=adopt, initargs=(producer,)
        )
        with pool:
            sent = pool.submit(send_adopted, 0, 3000)  # starts the worker
            producer.close()
            assert everything(consumer) == list(range(3000))
            sent.result(40)


def test_producer_is_handed_over_to_the_task_that_waits_for_it() -> None:
    context = multiprocessing.get_context("spawn")
    with pair("n") as (producer, consumer), context.Pool(1) as pool:
        sent = pool.apply_async(send_numbers, (producer, 0, 3000))
        eventually(lambda: is_locked(segment_path("n"), SUCCESSOR_BYTE))
        producer.close()
        assert everything(consumer) == list(range(3000))
        sent.get(40)
        pool.close()
        pool.join()


def take_from(queue: Any, past: int) -> None:
    send_numbers(queue.get(timeout=40), 0, past)


def test_producer_travels_through_a_queue() -> None:
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    process = context.Process(target=take_from, args=(queue, 3000))
    process.start()
    with pair("n") as (producer, consumer):
        queue.put(producer)
        eventually(lambda: is_locked(segment_path("n"), SUCCESSOR_BYTE))
        producer.close()
        assert everything(consumer) == list(range(3000))
        process.join(20)
        assert process.exitcode == 0
    queue.close()
    queue.join_thread()


# ---- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_copies_are_refused_at_once_with_what_to_do(how: Any) -> None:
    with pair("n") as (producer, consumer):
        producer.send(b"x")
        with pytest.raises(TypeError, match="share this one under a lock, or open another ring"):
            how(producer)
        with pytest.raises(TypeError, match="under a lock, or open another Consumer by the ring's"):
            how(consumer)
        with pytest.raises(TypeError, match="make one where its Consumers are"):
            how(Dispatcher())
        with producer.reserve(1) as room, pytest.raises(TypeError, match="write through its"):
            how(room)
        with consumer.read(0) as frame, pytest.raises(TypeError, match=r"take its content, bytes"):
            how(frame)
        with pytest.raises(TypeError, match="was released"):
            how(frame)
        producer.send(b"goes on")
        producer.close()
        assert [bytes(frame) for frame in consumer] == [b"\0", b"goes on"]
