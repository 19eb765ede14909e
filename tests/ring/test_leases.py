"""The lease rule: ring memory is neither reused nor unmapped while a view of it is reachable."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import Peer, discard, in_thread, run_clean
from shmipc import Consumer, Producer

pytestmark = pytest.mark.binding

AREA = 4096
DATA = bytes(range(256)) * 4


@pytest.fixture
def ring() -> Any:
    with Producer("v", capacity=AREA) as producer, Consumer("v", timeout=5) as consumer:
        yield producer, consumer
    discard("v")


def fill(producer: Any) -> int:
    """Send what memory there is, so that a view of anything else would see it change."""
    sent = 0
    while producer.try_send(b"\xee" * 16):
        sent += 1
    return sent


VIEWS: dict[str, Callable[[Any], Any]] = {
    "array": lambda frame: frame.array,
    "slice of a slice": lambda frame: frame.array[100:][50:800:3],
    "reshaped": lambda frame: frame.array.reshape(32, 32).T,
    "other dtype": lambda frame: frame.array.view("<u4")[3:],
    "single element": lambda frame: frame.array[7:8],
    "memoryview": lambda frame: memoryview(frame),
    "memoryview of a slice": lambda frame: memoryview(memoryview(frame)[10:])[5:],
    "cast memoryview": lambda frame: memoryview(frame).cast("I"),
    "memoryview of the array": lambda frame: memoryview(frame.array)[1:],
    "frombuffer": lambda frame: np.frombuffer(frame, "u1"),
    "frombuffer of a memoryview": lambda frame: np.frombuffer(memoryview(frame)[8:], "<u8")[2:],
    "asarray": lambda frame: np.asarray(frame),
    "subclass": lambda frame: frame.array.view(np.recarray),
}


@pytest.mark.parametrize("make", VIEWS.values(), ids=VIEWS.keys())
class TestView:
    def test_forbids_release(self, ring: Any, make: Any) -> None:
        producer, consumer = ring
        producer.send(DATA)
        frame = consumer.read(0)
        view = make(frame)
        before = bytes(view)
        with pytest.raises(BufferError, match="1 view of this frame is alive"):
            frame.release()
        fill(producer)
        assert bytes(view) == before
        del view
        frame.release()

    def test_outlives_its_frame(self, ring: Any, make: Any) -> None:
        producer, consumer = ring
        producer.send(DATA)
        view = make(consumer.read(0))
        before = bytes(view)
        gc.collect()
        room = fill(producer)
        assert room < AREA // 32
        assert bytes(view) == before
        del view
        assert fill(producer) > 0

    def test_outlives_the_with_block(self, ring: Any, make: Any) -> None:
        producer, consumer = ring
        producer.send(DATA)
        with consumer.read(0) as frame:
            view = make(frame)
            before = bytes(view)
        fill(producer)
        assert bytes(view) == before
        with pytest.raises(ValueError, match="released"):
            _ = frame.array
        with pytest.raises(BufferError, match="released"):
            memoryview(frame)
        assert frame.intact
        del view
        assert not frame.intact
        assert fill(producer) > 0

    def test_outlives_everything(self, shm_dir: Any, make: Any) -> None:
        producer = Producer("v", capacity=AREA)
        consumer = Consumer("v", timeout=5)
        producer.send(DATA)
        view = make(consumer.read(0))
        before = bytes(view)
        consumer.close()
        assert producer.attached == 1  # the view keeps the slot
        fill(producer)
        assert bytes(view) == before
        producer.close()
        del producer, consumer
        gc.collect()
        assert bytes(view) == before
        (shm_dir / "shmipc.v").unlink()
        assert bytes(view) == before
        del view

    def test_is_read_only(self, ring: Any, make: Any) -> None:
        producer, consumer = ring
        producer.send(DATA)
        view = make(consumer.read(0))
        with pytest.raises((ValueError, TypeError), match="read-only"):
            view[0] = 0
        if isinstance(view, np.ndarray):
            with pytest.raises(ValueError, match=r"WRITEABLE|writeable"):
                view.flags.writeable = True

    def test_dies_in_another_thread(self, ring: Any, make: Any) -> None:
        producer, consumer = ring
        producer.send(DATA)
        box = [make(consumer.read(0))]
        before = bytes(box[0])
        fill(producer)

        def look_and_drop() -> None:
            assert bytes(box[0]) == before
            box.clear()

        in_thread(look_and_drop)()
        assert fill(producer) > 0


@pytest.mark.parametrize("opened", ["frame", "array", "memoryview", "batch", "iterator"])
@pytest.mark.parametrize("closed", ["nothing", "consumer", "producer", "both"])
def test_view_alive_at_interpreter_exit_is_harmless(opened: str, closed: str, shm_dir: Any) -> None:
    run_clean(
        """
        opened, closed = args
        producer = Producer("e", dtype="<u8", capacity=512)
        consumer = Consumer("e", timeout=5)
        producer.send_many(np.arange(10, dtype="<u8"))
        if opened == "batch":
            kept = consumer.read_batch(timeout=0).array[3:]
        elif opened == "iterator":
            kept = iter(consumer)
            frame = next(kept)
        else:
            frame = consumer.read(0)
            kept = {"frame": frame, "array": frame.array, "memoryview": memoryview(frame)}[opened]
        cycle = [kept]
        cycle.append(cycle)
        sys.modules["keeper"] = cycle
        if closed in ("consumer", "both"):
            consumer.close()
        if closed in ("producer", "both"):
            producer.close()
        """,
        opened,
        closed,
    )
    for path in shm_dir.iterdir():
        path.unlink()


def test_thread_reading_a_view_at_interpreter_exit_is_harmless(shm_dir: Any) -> None:
    run_clean(
        """
        producer = Producer("e", capacity=1 << 20)
        consumer = Consumer("e", timeout=5)
        producer.send(bytes(1 << 19))
        view = consumer.read(0).array
        started = threading.Event()
        def look():
            while True:
                view.sum()
                started.set()
        threading.Thread(target=look, daemon=True).start()
        started.wait()
        """
    )
    for path in shm_dir.iterdir():
        path.unlink()


# ---- several frames ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)])
def test_cursor_moves_to_the_oldest_frame_held(ring: Any, order: tuple[int, ...]) -> None:
    producer, consumer = ring
    producer.send_many([bytes(1008)] * 4)  # 1024 bytes each: the ring is full
    frames = {i: consumer.read(0) for i in range(4)}
    assert (consumer.pending, consumer.lag) == (0, 4)
    for released in order:
        frames.pop(released).release()
        oldest = min(frames, default=4)
        assert producer.lag == consumer.lag == 4 - oldest
        assert producer.stats().lag == 4 - oldest
    refilled = 0
    while producer.try_send(bytes(1008)):
        refilled += 1
    assert refilled == 4


def test_memory_of_a_released_frame_stays_while_an_older_one_is_held(ring: Any) -> None:
    producer, consumer = ring
    producer.send_many([bytes(1008)] * 4)
    frames = [consumer.read(0) for _ in range(4)]
    for frame in frames[1:]:
        frame.release()
    assert not producer.try_send(b"")
    frames[0].release()
    assert producer.try_send(b"")


def test_batch_and_single_frames_are_held_together() -> None:
    with Producer("v", dtype="<u8", capacity=512) as producer, Consumer("v", timeout=5) as consumer:
        producer.send_many(np.arange(512, dtype="<u8"))
        one = consumer.read(0)
        batch = consumer.read_batch(100, timeout=0)
        rest = consumer.read_batch(timeout=0)
        rest.release()
        one.release()
        assert producer.send_many(np.zeros(600, "<u8"), timeout=0) == 1
        assert batch.array.tolist() == list(range(1, 101))
        batch.release()
        assert producer.send_many(np.zeros(600, "<u8"), timeout=0) == 511
    discard("v")


def test_blocked_producer_goes_on_when_the_view_dies(ring: Any) -> None:
    producer, consumer = ring
    producer.send(bytes(AREA - 16))
    view = consumer.read(0).array[5:]
    started = threading.Event()

    def send() -> None:
        started.set()
        producer.send(b"after", timeout=20)

    joined = in_thread(send)
    started.wait()
    with pytest.raises(shmipc.Empty):
        consumer.recv(0.1)
    del view
    joined()
    assert consumer.recv(5) == b"after"


def test_release_is_idempotent(ring: Any) -> None:
    producer, consumer = ring
    producer.send_many([b"a", b"b"])
    frame = consumer.read(0)
    frame.release()
    frame.release()
    assert (consumer.lag, frame.intact, bytes(consumer.recv(0))) == (1, False, b"b")
    for use in (lambda: frame.array, lambda: frame.__enter__()):
        with pytest.raises(ValueError, match="released"):
            use()  # type: ignore[no-untyped-call]
    assert (len(frame), frame.kind, frame.flags, frame.seq) == (1, 1, 0, 0)


def test_with_block_releases_although_it_raises(ring: Any) -> None:
    producer, consumer = ring
    producer.send(bytes(AREA - 16))
    with pytest.raises(LookupError), consumer.read(0):
        raise LookupError
    assert producer.try_send(b"")


def test_collected_frame_releases(ring: Any) -> None:
    producer, consumer = ring
    producer.send(bytes(AREA - 16))
    cycle: list[Any] = [consumer.read(0)]
    cycle.append(cycle)
    assert not producer.try_send(b"")
    del cycle
    gc.collect()
    assert producer.try_send(b"")


def test_loop_releases_each_frame_as_the_next_is_taken(ring: Any) -> None:
    producer, consumer = ring
    producer.send_many([b"a", b"b", b"c"])
    producer.close()
    seen = []
    for frame in consumer:
        seen.append(bytes(frame))
        assert consumer.lag == 4 - len(seen)
        assert consumer.stats().frames == 1
    assert seen == [b"a", b"b", b"c"]
    assert consumer.stats().frames == 0


def test_loop_leaves_the_lease_to_views_that_live_on(ring: Any) -> None:
    producer, consumer = ring
    producer.send_many([bytes([i]) * 100 for i in range(3)])
    producer.close()
    views = [frame.array[10:] for frame in consumer]
    assert consumer.stats().frames == 3
    assert [view.tolist() for view in views] == [[i] * 90 for i in range(3)]
    views.pop(1)
    assert consumer.stats().frames == 2
    views.clear()
    assert consumer.stats().frames == 0


def test_frame_that_its_loop_let_go_says_so_and_what_to_do(ring: Any) -> None:
    producer, consumer = ring
    producer.send_many([b"a", b"b", b"c"])
    producer.close()
    frames = list(consumer)
    assert len(frames) == 3
    uses: list[Any] = [lambda f: f.array, lambda f: f.__enter__(), memoryview, pickle.dumps]
    for frame in frames:
        for use in uses:
            with pytest.raises((ValueError, BufferError, TypeError)) as told:
                use(frame)
            for words in ("by the loop over its Consumer", "within the loop", "consumer.read()"):
                assert words in str(told.value)


def test_frame_that_its_user_released_within_the_loop_does_not_blame_the_loop(ring: Any) -> None:
    producer, consumer = ring
    producer.send_many([b"a", b"b"])
    producer.close()
    for frame in consumer:
        frame.release()
        with pytest.raises(ValueError, match="this frame was released: its memory"):
            _ = frame.array
    with pytest.raises(ValueError, match="this frame was released: its memory"):
        _ = frame.array


def double(frame: Any) -> int:
    return 2 * len(frame)


def test_frames_given_to_a_pool_say_that_the_loop_released_them() -> None:
    with Producer("m", capacity=4096) as producer, Consumer("m", timeout=5) as consumer:
        producer.send_many([b"a", b"b"])
        producer.close()
        with (
            multiprocessing.get_context("spawn").Pool(1) as pool,
            pytest.raises(TypeError, match="released by the loop over its Consumer"),
        ):
            pool.map(double, consumer)


def test_abandoned_loop_releases(ring: Any) -> None:
    producer, consumer = ring
    producer.send_many([b"a", b"b"])
    frames = iter(consumer)
    assert bytes(next(frames)) == b"a"
    del frames
    gc.collect()
    assert consumer.stats().frames == 0
    assert consumer.recv(0) == b"b"


def test_buffer_export_asking_to_write_is_refused(ring: Any) -> None:
    producer, consumer = ring
    producer.send(DATA)
    with consumer.read(0) as frame:
        assert memoryview(frame).readonly
        with open(os.devnull, "rb") as source:
            with pytest.raises((BufferError, TypeError)):
                source.readinto(frame)
            with pytest.raises((BufferError, TypeError)):
                os.readv(source.fileno(), [frame])


def test_place_is_kept_by_a_view_after_close_and_freed_with_it(shm_dir: Any) -> None:
    with Producer("v", capacity=AREA, max_consumers=1) as producer:
        consumer = Consumer("v", timeout=5)
        producer.send_many([b"a" * 500, b"b"])
        view = consumer.read(0).array
        consumer.close()
        with pytest.raises(shmipc.Busy):
            Consumer("v", timeout=0)
        del view
        with Consumer("v", timeout=0) as successor:
            assert successor.recv(0) == b"b"


def test_unreleased_message_goes_to_the_next_consumer(shm_dir: Any) -> None:
    with Producer("v", capacity=AREA) as producer:
        producer.send_many([b"a", b"b", b"c"])
        body = """
            consumer = Consumer("v", timeout=5)
            first, second = consumer.read(0), consumer.read(0)
            second.release()
            say("ready")
            hear()
            """
        with Peer(body) as peer:
            peer.expect()
            peer.kill()
        with Consumer("v", timeout=5) as consumer:
            assert [consumer.recv(0) for _ in range(3)] == [b"a", b"b", b"c"]


def test_what_is_held_when_it_is_abandoned_goes_to_the_next_consumer() -> None:
    with Producer("v", capacity=AREA) as producer:
        producer.send_many([b"a", b"b", b"c", b"d"])
        consumer = Consumer("v", timeout=5)
        first, second, third = (consumer.read(0) for _ in range(3))
        first.release()
        consumer.abandon()
        assert consumer.closed
        second.release()
        with pytest.raises(shmipc.Busy):
            Consumer("v", timeout=0)
        third.release()
        with Consumer("v", timeout=5) as successor:
            assert [successor.recv(0) for _ in range(3)] == [b"b", b"c", b"d"]


def test_last_view_removes_the_file_of_a_closed_ring(shm_dir: Any) -> None:
    producer = Producer("v", capacity=AREA)
    consumer = Consumer("v", timeout=5)
    producer.send(b"abc")
    view = consumer.read(0).array
    consumer.close()
    producer.close()
    assert [path.name for path in shm_dir.iterdir()] == ["shmipc.v"]
    assert view.tobytes() == b"abc"
    del view
    assert list(shm_dir.iterdir()) == []


def test_consumer_closed_with_views_in_a_forked_child_leaves_nothing_dangling() -> None:
    run_clean(
        """
        producer = Producer("f", capacity=4096)
        consumer = Consumer("f", timeout=5)
        producer.send(b"x" * 100)
        frame = consumer.read(0)
        if os.fork() == 0:
            view = frame.array
            consumer.close()
            del frame, view, consumer
            gc.collect()
            filler = [bytearray(b"\\xaa" * size) for size in range(4000, 6000)]
            if os.fork() == 0:  # walks the list of open segments
                os._exit(0)
            os._exit(0 if os.wait()[1] == 0 else 1)
        assert os.wait()[1] == 0
        assert bytes(frame) == b"x" * 100
        frame.release()
        consumer.close()
        producer.close()
        """,
        env={"PYTHONMALLOC": "debug"},
    )
