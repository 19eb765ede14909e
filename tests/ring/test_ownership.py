"""Whose file a ring's is: a producer takes over no other user's, and none that others may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import shmipc
from helpers import HOLD_CONSUMER, PRODUCE_THEN_HOLD, Peer, discard, run_python, segment_path
from shmipc import Consumer, Producer

AREA = 4096
STRANGER = 12345  # a user that this process is not
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")


def leave_a_ring(mode: int = 0o600, *, sent: int = 0) -> None:
    """A producer makes the ring `r` with one slot and dies."""
    with Peer(PRODUCE_THEN_HOLD, "r", 1) as peer:
        peer.expect()
        if sent:
            peer.tell(str(sent))
            peer.expect("sent")
        peer.kill()
    segment_path("r").chmod(mode)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@needs_root
@pytest.mark.parametrize("mode", [0o600, 0o666])
@pytest.mark.parametrize("kind", ["the same", "another"])
def test_producer_refuses_a_file_of_another_user(mode: int, kind: str) -> None:
    leave_a_ring(mode)
    path = segment_path("r")
    os.chown(path, STRANGER, STRANGER)
    before = path.read_bytes()
    with pytest.raises(PermissionError) as refused:
        Producer("r", capacity=AREA, mode=mode, dtype=None if kind == "the same" else "u1")
    text = str(refused.value)
    for word in (str(STRANGER), f"mode 0{mode:o}", "another name", "SHMIPC_DIR", "0700", "remove"):
        assert word in text, text
    assert refused.value.filename == str(path)
    assert path.read_bytes() == before
    path.unlink()


@needs_root
def test_producer_with_dropped_privileges_refuses_roots_ring(shm_dir: Path) -> None:
    shm_dir.chmod(0o1777)
    leave_a_ring(0o666)
    done = run_python(
        f"""
        import tempfile  # before the privileges to read it go
        os.setuid({STRANGER})
        try:
            Producer("r", capacity=4096, mode=0o666)
        except PermissionError as error:
            print(error)
        """
    )
    assert f"belongs to user 0 (mode 0666), who could read and change what user {STRANGER}" in (
        done.stdout
    ), done
    discard("r")


@needs_root
def test_consumer_may_read_a_ring_of_another_user(shm_dir: Path) -> None:
    """That is what mode= is for."""
    with Producer("r", capacity=AREA, mode=0o666) as producer:
        producer.send(b"for everybody")
        shm_dir.chmod(0o755)
        done = run_python(
            f"""
            os.setuid({STRANGER})
            with Consumer("r", timeout=5) as consumer:
                print(consumer.recv(5))
            """
        )
        assert done.stdout == "b'for everybody'\n", done


@needs_root
@pytest.mark.parametrize("mode", [0o400, 0o640, 0o600])
def test_denied_open_says_which_mode_the_file_needs(mode: int, shm_dir: Path) -> None:
    with Producer("r", capacity=AREA, mode=mode):
        shm_dir.chmod(0o755)
        done = run_python(
            f"""
            os.setgid({STRANGER}); os.setuid({STRANGER})
            try:
                Consumer("r", timeout=0)
            except PermissionError as error:
                print(error)
            """
        )
    for word in (f"mode 0{mode:o} and owner 0", f"user {STRANGER}", "cursor", "mode=0o660"):
        assert word in done.stdout, done


def test_wider_file_that_nobody_needs_is_replaced_by_one_of_the_mode_asked_for() -> None:
    leave_a_ring(0o666)
    path = segment_path("r")
    # a process that had it open reads nothing of what is sent now
    with open(path, "rb") as spy, Producer("r", capacity=AREA) as producer:
        assert not producer.stats().took_over
        assert mode_of(path) == 0o600
        producer.send(b"not for the spy")
        assert b"not for the spy" not in spy.read()
        assert os.fstat(spy.fileno()).st_nlink == 0
        with Consumer("r", timeout=5) as consumer:
            assert consumer.recv(5) == b"not for the spy"


def test_wider_file_that_is_needed_is_a_mismatch() -> None:
    leave_a_ring(0o660, sent=1)
    path = segment_path("r")
    with pytest.raises(shmipc.SchemaMismatch, match=r"mode 0660, .* more than mode 0600, .*read"):
        Producer("r", capacity=AREA)
    with Peer(HOLD_CONSUMER, "r") as consumer:
        consumer.expect()
        with pytest.raises(shmipc.SchemaMismatch, match="consumers are attached"):
            Producer("r", capacity=AREA)
        with Producer("r", capacity=AREA, mode=0o660) as producer:
            assert producer.stats().took_over
        assert mode_of(path) == 0o660
    discard("r")


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o666])
def test_narrower_file_gets_the_mode_asked_for(mode: int) -> None:
    leave_a_ring(0o600)
    before = segment_path("r").stat().st_ino
    with Producer("r", capacity=AREA, mode=mode) as producer:
        assert producer.stats().took_over
        assert (segment_path("r").stat().st_ino, mode_of(segment_path("r"))) == (before, mode)
