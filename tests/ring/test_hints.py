"""Warnings in the log of "shmipc" for waits that may never end, and what Full tells."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmipc
from dispatching import EVENT_KIND, Event
from helpers import discard, eventually, in_thread, run_clean
from shmipc import Consumer, Producer
from shmipc._core import Dispatcher

AREA = 4096


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "shmipc"]


# ---- a reader in its own way ---------------------------------------------------------------------


def dispatch(consumer: Any) -> int:
    dispatcher = Dispatcher()
    dispatcher.add(consumer, {EVENT_KIND: (Event, lambda record: None)})
    return dispatcher.run(timeout=60)


WAITS: dict[str, Callable[[Any], Any]] = {
    "recv": lambda c: c.recv(60),
    "read": lambda c: c.read(60),
    "wait": lambda c: shmipc.wait([c], 60),
    "dispatcher": dispatch,
}


@pytest.mark.parametrize("wait", WAITS)
def test_reader_that_keeps_every_frame_of_a_full_ring_is_told(
    wait: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a wait; and it stays a wait, which a release in another thread ends."""
    size = 1024 - 16
    with (
        Producer("p", capacity=AREA, max_consumers=2) as producer,
        Consumer("p", timeout=5) as consumer,
    ):
        producer.send_many([bytes(size)] * 4, kind=EVENT_KIND + 1)
        frames = [consumer.read(5) for _ in range(4)]
        sent = in_thread(lambda: producer.send(Event(value=1), kind=EVENT_KIND, timeout=60))
        waited = in_thread(lambda: WAITS[wait](consumer))
        eventually(lambda: bool(warnings_of(caplog)))
        (text,) = warnings_of(caplog)
        assert "ring 'p'" in text
        assert "keeps 4 frames, the oldest of number 0," in text
        assert "release" in text
        frames[0].release()
        sent()
        assert waited()
        assert len(warnings_of(caplog)) == 1
        for frame in frames:
            frame.release()


def test_number_of_the_oldest_item_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with Producer("p", dtype="<u8", capacity=512) as producer, Consumer("p", timeout=5) as consumer:
        producer.send_many(np.arange(512, dtype="<u8"))
        for _ in range(3):
            consumer.recv(5)
        frame = consumer.read_batch(timeout=5)
        producer.send_many(np.arange(3, dtype="<u8"))
        sent = in_thread(lambda: producer.send(np.uint64(9), timeout=60))
        rest = consumer.read_batch(timeout=5)
        waited = in_thread(lambda: consumer.recv(60))
        eventually(lambda: bool(warnings_of(caplog)))
        assert "the oldest of number 3," in warnings_of(caplog)[0]
        frame.release()
        sent()
        assert waited() == 9
        rest.release()


def test_reader_that_waits_for_a_producer_with_room_is_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Producer("p", capacity=AREA) as producer, Consumer("p", timeout=5) as consumer:
        producer.send(b"kept")
        with consumer.read(5), pytest.raises(shmipc.Empty):
            consumer.recv(2.3)
    assert warnings_of(caplog) == []
    discard("p")


def test_ctrl_c_while_the_warning_is_logged_ends_the_wait() -> None:
    class Interrupted(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise KeyboardInterrupt

    with Producer("p", capacity=AREA) as producer, Consumer("p", timeout=5) as consumer:
        producer.send(bytes(AREA - 16))
        frame = consumer.read(5)
        sent = in_thread(lambda: producer.send(b"x", timeout=60))
        logger, interrupted = logging.getLogger("shmipc"), Interrupted()
        logger.addFilter(interrupted)
        try:
            with pytest.raises(KeyboardInterrupt):
                consumer.recv(60)
        finally:
            logger.removeFilter(interrupted)
        frame.release()
        sent()
        assert consumer.recv(5) == b"x"


# ---- a name that is misspelt ---------------------------------------------------------------------


def test_consumer_that_waits_for_a_misspelt_name_is_told_of_names_like_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Producer("prices", capacity=AREA):
        with pytest.raises(shmipc.NotFound):
            Consumer("pirces", timeout=2.3)
        (text,) = warnings_of(caplog)
        assert text.startswith("Consumer('pirces') still waits for its ring: there is no ring ")
        assert shmipc._core.segment_path("pirces") in text
        assert "Names like it there: ['prices']" in text


def test_consumer_that_waits_where_there_is_no_directory_is_told_of_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHMIPC_DIR", str(tmp_path / "later"))
    with pytest.raises((shmipc.NotFound, OSError)):
        Consumer("prices", timeout=2.3)
    for text in warnings_of(caplog):
        assert str(tmp_path / "later") in text


def test_consumer_that_finds_its_ring_soon_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(shmipc.NotFound):
        Consumer("absent", timeout=0.2)
    assert warnings_of(caplog) == []


def test_hint_needs_no_configured_logging() -> None:
    run_clean(
        """
        import contextlib, io
        logging.getLogger("shmipc").handlers.clear()  # as in a program that has configured nothing
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                Consumer("absent", timeout=2.3)
            except shmipc.NotFound:
                pass
        assert "Consumer('absent') still waits" in said.getvalue(), said.getvalue()
        """
    )


# ---- Full ----------------------------------------------------------------------------------------


def test_full_names_the_slowest_consumer_and_how_far_behind_it_is() -> None:
    with (
        Producer("p", capacity=AREA, max_consumers=2) as producer,
        Consumer("p", timeout=5) as slow,
        Consumer("p", timeout=5) as quick,
    ):
        producer.send_many([bytes(1008)] * 4)
        for _ in range(4):
            quick.recv(5)
        slow.recv(5)
        producer.send(bytes(1008))
        for timeout in (0, 0.1):
            with pytest.raises(shmipc.Full, match=f"process {os.getpid()}, has not released 4"):
                producer.send(b"x", timeout=timeout)
        with pytest.raises(shmipc.Full, match="has not released 4"):
            producer.send_many([b"x"], timeout=0)
        assert not producer.try_send(b"x")


def test_full_queue_that_nobody_reads_says_so() -> None:
    with Producer("p", capacity=AREA) as producer:
        producer.send(bytes(AREA - 16))
        with pytest.raises(shmipc.Full, match="no consumer is attached; it keeps 1 for the next"):
            producer.send(b"x", timeout=0)
    discard("p")
