"""Somebody cuts a ring's file while it is in use: Corrupt on every side, never zeros, no crash."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmipc
from helpers import Peer, in_thread, run_clean, run_python, segment_path
from shmipc import Consumer, Corrupt, Producer

PAGE = os.sysconf("SC_PAGESIZE")
TRUNCATED = "was truncated while in use"
LENGTHS = [0, PAGE, 2 * PAGE]


def truncate(name: str = "r", length: int = 0) -> None:
    os.truncate(segment_path(name), length)


def tidy(*handles: Any) -> None:
    """Closing a damaged handle works; a truncated durable queue stays until it is discarded."""
    for handle in handles:
        handle.close()
        assert handle.closed
    if segment_path("r").exists():
        assert shmipc._core.clean_segment(segment_path("r"), discard=True) == "removed"


SENDS: dict[str, Callable[[Producer], object]] = {
    "send": lambda p: p.send(bytes(3 * PAGE)),
    "send at once": lambda p: p.send(b"12345678"),
    "send_text": lambda p: p.send_text("text"),
    "try_send": lambda p: p.try_send(bytes(3 * PAGE)),
    "send_many list": lambda p: p.send_many([b"a", b"b"]),
    "send_many iterator": lambda p: p.send_many(iter([b"a", b"b"])),
    "reserve": lambda p: p.reserve(10).commit(),
}


@pytest.mark.parametrize("call", SENDS.values(), ids=SENDS.keys())
def test_send_that_reached_nobody_is_corrupt(call: Callable[[Producer], object]) -> None:
    producer = Producer("r", capacity=8 * PAGE)
    truncate()
    for _ in range(2):
        with pytest.raises(Corrupt, match=TRUNCATED) as error:
            call(producer)
    assert getattr(error.value, "sent", 0) == 0
    tidy(producer)


def test_item_taken_from_an_iterator_in_vain_is_told() -> None:
    producer = Producer("r", capacity=8 * PAGE)

    def items() -> Any:
        yield b"first"
        truncate()
        yield b"second"

    with pytest.raises(Corrupt, match=TRUNCATED) as error:
        producer.send_many(items())
    told: Any = error.value
    assert (told.sent, told.unsent) == (1, b"second")
    tidy(producer)


def look_at(frame: shmipc.Frame) -> None:
    bytes(frame)
    frame.release()


RECEIVES: dict[str, Callable[[Consumer], object]] = {
    "recv": lambda c: c.recv(),
    "recv timeout": lambda c: c.recv(5),
    "recv poll": lambda c: c.recv(0),
    "recv_text": lambda c: c.recv_text(),
    "recv_into": lambda c: c.recv_into(bytearray(8 * PAGE)),
    "read": lambda c: look_at(c.read()),
    "iterate": lambda c: [look_at(frame) for frame in c],
}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("call", RECEIVES.values(), ids=RECEIVES.keys())
def test_message_that_was_cut_is_corrupt(call: Callable[[Consumer], object], length: int) -> None:
    producer = Producer("r", capacity=8 * PAGE)
    consumer = Consumer("r")
    producer.send(b"a" * (3 * PAGE))
    truncate(length=length)
    for _ in range(2):
        with pytest.raises(Corrupt, match=TRUNCATED):
            call(consumer)
    tidy(producer, consumer)


@pytest.mark.parametrize("overflow", ["block", "overwrite"])
@pytest.mark.parametrize("length", LENGTHS)
def test_items_that_were_cut_are_corrupt(length: int, overflow: Any) -> None:
    producer = Producer("r", dtype="<u8", capacity=4096, overflow=overflow, max_consumers=2)
    consumer = Consumer("r")
    producer.send_many(np.ones(2048, "<u8"))
    assert consumer.recv() == 1  # from here on only the data are touched
    truncate(length=length)
    with pytest.raises(Corrupt):
        all(consumer.recv(1) == 1 or pytest.fail("zeros") for _ in range(2047))
    with pytest.raises(Corrupt, match=TRUNCATED), consumer.read_batch(timeout=1) as batch:
        batch.array.sum()
    with pytest.raises(Corrupt, match=TRUNCATED):
        producer.send_many(np.ones(4096, "<u8"), timeout=1)
    tidy(consumer, producer)


def test_idle_ring_that_is_cut_wakes_its_waiters() -> None:
    with Producer("other") as other, Consumer("other") as mine:
        producer = Producer("r", capacity=PAGE)
        consumer = Consumer("r")
        waits = [in_thread(consumer.recv), in_thread(lambda: producer.send(bytes(PAGE - 16)))]
        waits[1]()
        waits[0]()
        full = in_thread(lambda: [producer.send(bytes(PAGE - 16)) for _ in range(2)])
        truncate()
        with pytest.raises(Corrupt, match=TRUNCATED):
            full()
        with pytest.raises(Corrupt, match=TRUNCATED):
            consumer.recv()
        assert shmipc.wait([consumer, mine]) == [consumer]
        other.send(b"the other ring goes on")
        assert mine.recv() == b"the other ring goes on"
        tidy(consumer, producer)


def test_wait_for_consumers_of_a_cut_ring_ends() -> None:
    producer = Producer("r")
    waiting = in_thread(lambda: producer.wait_for_consumers())
    truncate()
    with pytest.raises(Corrupt, match=TRUNCATED):
        waiting()
    tidy(producer)


def test_view_of_a_cut_ring_reads_zeros_and_its_frame_says_so() -> None:
    producer = Producer("r", dtype=np.uint8, shape=(PAGE * 4,), capacity=2)
    consumer = Consumer("r")
    producer.send(np.full(PAGE * 4, 7, np.uint8))
    frame = consumer.read()
    view = frame.array
    assert frame.intact
    assert view.sum() == 7 * PAGE * 4
    truncate()
    assert view.sum() == 0
    assert not frame.intact
    with pytest.raises(BufferError):
        frame.release()
    del view
    with pytest.raises(Corrupt, match=TRUNCATED):
        frame.release()
    frame.release()
    with pytest.raises(Corrupt, match=TRUNCATED), consumer.read(0):
        pass
    tidy(consumer, producer)


def work_on(frame: shmipc.Frame) -> int:
    truncate()
    assert bytes(frame) == bytes(len(frame))
    return 1


def test_with_block_that_worked_on_zeros_does_not_end_well() -> None:
    producer = Producer("r", capacity=8 * PAGE)
    consumer = Consumer("r")
    producer.send_many([b"a" * PAGE] * 2)
    with pytest.raises(Corrupt, match=TRUNCATED), consumer.read() as frame:
        work_on(frame)
    assert consumer.stats().frames == 0
    tidy(producer, consumer)


def test_error_of_the_with_block_is_not_hidden() -> None:
    producer = Producer("r", capacity=8 * PAGE)
    consumer = Consumer("r")
    producer.send(b"a")
    with pytest.raises(ZeroDivisionError), consumer.read() as frame:
        work_on(frame) / 0
    tidy(producer, consumer)


def fill(room: shmipc.Reservation) -> None:
    truncate()
    room.array[:] = 5
    assert room.array.sum() == 5 * 4 * PAGE


def test_reservation_in_a_cut_ring_is_not_sent() -> None:
    producer = Producer("r", capacity=8 * PAGE)
    consumer = Consumer("r")
    with pytest.raises(Corrupt, match=TRUNCATED), producer.reserve(4 * PAGE) as room:
        fill(room)
    assert "settled" in repr(room)
    tidy(producer, consumer)


def test_every_process_survives_a_cut_and_says_so(shm_dir: Path) -> None:
    reader = """
        consumer = Consumer("r")
        say("ready")
        try:
            while True:
                data = consumer.recv()
                assert data == b"x" * 100_000, data[:10]
        except Corrupt as error:
            say(f"corrupt {'truncated while in use' in str(error)}")
        consumer.close()
        """
    producer = Producer("r", capacity=1 << 20, max_consumers=2)
    with Peer(reader) as one, Peer(reader) as two:
        one.expect()
        two.expect()
        for _ in range(50):
            producer.send(b"x" * 100_000)
        segment_path("r").write_bytes(b"what cp does to it: O_TRUNC, then other bytes")
        with pytest.raises(Corrupt, match=TRUNCATED):
            producer.send_many(iter(lambda: b"x" * 100_000, None))
        one.expect("corrupt True")
        two.expect("corrupt True")
        one.finish()
        two.finish()
    producer.close()
    assert list(shm_dir.iterdir()) == []  # nobody is left and nothing was owed


def test_forked_childs_view_survives(shm_dir: Path) -> None:
    run_clean(
        """
        producer = Producer("r", capacity=1 << 16)
        consumer = Consumer("r")
        producer.send(b"a" * 10000)
        with consumer.read() as frame:
            view = frame.array
            child = os.fork()
            if child == 0:
                os.truncate(os.environ["SHMIPC_DIR"] + "/shmipc.r", 0)
                os._exit(0 if view.sum() == 0 else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert view.sum() == 0
            del view
            try:
                frame.release()
            except Corrupt:
                pass
        consumer.close()
        producer.close()
        os.unlink(os.environ["SHMIPC_DIR"] + "/shmipc.r")
        """
    )


# ---- what remains of other people's SIGBUS -------------------------------------------------------

FOREIGN = """
    import mmap, tempfile, faulthandler, resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    def fault():
        with tempfile.TemporaryFile() as file:
            file.truncate(4096)
            memory = mmap.mmap(file.fileno(), 4096)
            file.truncate(0)
            memory[0]
    def our_fault():
        producer = Producer("r")
        os.truncate(os.environ["SHMIPC_DIR"] + "/shmipc.r", 0)
        producer.unlink()
        try:
            producer.send(b"1")
        except Corrupt:
            say("corrupt")
        producer.close()
    """


def run_foreign(body: str, python: tuple[str, ...] = (), env: dict[str, str] | None = None) -> Any:
    return run_python(FOREIGN + body, python=python, env=env)


@pytest.mark.parametrize("python", [(), ("-X", "faulthandler")], ids=["plain", "faulthandler"])
@pytest.mark.parametrize("end", ["fault()", "os.kill(os.getpid(), signal.SIGBUS)"])
def test_foreign_bus_error_kills_as_it_would_have(python: tuple[str, ...], end: str) -> None:
    done = run_foreign(
        f"""
    our_fault()
    {end}
    """,
        python,
    )
    assert (done.stdout, done.returncode) == ("corrupt\n", -signal.SIGBUS)
    assert ("Fatal Python error: Bus error" in done.stderr) == bool(python)


def test_faulthandler_enabled_later_reports_and_the_process_survives() -> None:
    done = run_foreign(
        """
    with Producer("first"):
        faulthandler.enable()
        our_fault()
        our_fault()
    """
    )
    assert (done.stdout, done.returncode) == ("corrupt\ncorrupt\n", 0)
    assert done.stderr.count("Fatal Python error: Bus error") == 1


def test_faulthandler_toggled_leaves_ours_in_place() -> None:
    done = run_foreign(
        """
    faulthandler.enable()
    our_fault()
    faulthandler.disable()
    our_fault()
    fault()
    """
    )
    assert (done.stdout, done.returncode) == ("corrupt\ncorrupt\n", -signal.SIGBUS)
    assert done.stderr == ""


def test_python_handler_gets_what_is_not_ours() -> None:
    done = run_foreign(
        """
    signal.signal(signal.SIGBUS, lambda number, frame: say("handler", number))
    our_fault()
    os.kill(os.getpid(), signal.SIGBUS)
    our_fault()
    """
    )
    assert done.stdout == f"corrupt\nhandler {signal.SIGBUS:d}\ncorrupt\n"
    assert done.returncode == 0


def test_sigbus_is_left_alone_where_that_is_asked_for() -> None:
    done = run_foreign("\n    our_fault()\n", env={"SHMIPC_SIGBUS": "default"})
    assert (done.stdout, done.returncode) == ("", -signal.SIGBUS)


def test_producer_of_a_cut_name_is_told_the_remedy_and_it_works(shm_dir: Path) -> None:
    producer = Producer("r")
    producer.send(b"owed")
    truncate()
    for open_it in (Producer, lambda name: Consumer(name, timeout=0)):
        with pytest.raises(Corrupt, match="shmipc clean --discard"):
            open_it("r")
    path = segment_path("r")
    clean = shmipc._core.clean_segment
    assert clean(path, discard=True) == "alive"
    producer.close()
    assert clean(path) == clean(path, dry_run=True) == "damaged"
    assert clean(path, discard=True, dry_run=True) == "removed"
    assert path.exists()
    assert clean(path, discard=True) == "removed"
    with Producer("r"):
        pass
