"""A pid in a segment counts in its writer's pid namespace; one of another namespace is marked."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import shmipc
from helpers import (
    PRODUCER_PID,
    SLOT0,
    SLOT_PID,
    Peer,
    put_u32,
    run_python,
    segment_path,
)
from shmipc import Consumer, Producer, cli

HOLD_BOTH = """
    producer = Producer("n", capacity=4096)
    consumer = Consumer("n")
    say(os.getpid())
    hear()
    consumer.close()
    producer.close()
    """
ELSEWHERE = " of another pid namespace (another container's)"


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Another process, that holds both roles of the ring n."""
    with Peer(HOLD_BOTH) as peer:
        assert int(peer.hear()) == peer.pid
        yield peer
        peer.tell()
        peer.finish()


def busy() -> list[str]:
    """The text of Busy: which process holds the role."""
    texts = []
    for open_it in (lambda: Producer("n", capacity=4096), lambda: Consumer("n", timeout=0)):
        with pytest.raises(shmipc.Busy) as told:
            open_it()
        texts.append(str(told.value))
    return texts


def listed(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    assert cli.main(["list", "--json"]) == 0
    [segment] = json.loads(capsys.readouterr().out).values()
    assert cli.main(["list"]) == 0
    return segment, capsys.readouterr().out.splitlines()[1]


def claim(pid: int) -> None:
    """Let the holder of both roles call itself so."""
    put_u32(segment_path("n"), PRODUCER_PID, pid)
    put_u32(segment_path("n"), SLOT0 + SLOT_PID, pid)


def test_holder_of_this_namespace_is_a_plain_pid(
    peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    producer, consumer = busy()
    assert f"already has a producer, process {peer.pid}: a ring has one" in producer
    assert f"has its 1 consumer already (process {peer.pid}): close one" in consumer
    segment, row = listed(capsys)
    assert segment["producer_pid_is_local"] is True
    assert segment["consumers"][0]["pid_is_local"] is True
    assert f"  {peer.pid}  " in row
    assert "namespace" not in row


def gone() -> int:
    done = run_python("say(os.getpid())")
    return int(done.stdout)


@pytest.mark.parametrize("pid", [os.getppid, os.getpid, gone], ids=["other", "own", "nobody"])
def test_pid_whose_process_here_does_not_map_the_ring_is_another_namespaces(
    pid: Any, peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    number = pid()
    claim(number)
    for text in busy():
        assert f"process {number}{ELSEWHERE}" in text
    segment, row = listed(capsys)
    assert segment["producer_pid_is_local"] is False
    assert segment["consumers"][0]["pid_is_local"] is False
    assert f"{number} (another pid namespace)" in row
    assert "1 of 1 (1 of another pid namespace)" in row


@pytest.mark.parametrize("pid", [0, 2**31, 2**32 - 1])
def test_impossible_pid_is_told_as_it_is(
    pid: int, peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    claim(pid)
    for text in busy():
        assert f"process {pid}" in text
        assert "namespace" not in text
    segment, row = listed(capsys)
    assert segment["producer_pid_is_local"] is None
    assert "namespace" not in row


def test_pid_of_a_dead_holder_is_nobodys(capsys: pytest.CaptureFixture[str]) -> None:
    with Peer(HOLD_BOTH) as peer:
        pid = int(peer.hear())
        peer.kill()
    segment, row = listed(capsys)
    assert segment["producer_pid_is_local"] is None
    assert f"{pid} (dead)" in row
    assert cli.main(["clean"]) == 0


def test_own_handles_are_a_plain_pid_while_another_ring_is_mapped() -> None:
    with Producer("other"), Producer("n", capacity=4096), Consumer("n"):
        for text in busy():
            assert f"process {os.getpid()}" in text
            assert "namespace" not in text


def test_holder_in_another_pid_namespace_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    own = os.getpid()
    script = f'echo {own - 1} > /proc/sys/kernel/ns_last_pid && "$@"'
    under = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh")
    probe = subprocess.run([*under, "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"cannot make a pid namespace here: {probe.stderr.strip()}")
    with Peer(HOLD_BOTH, under=under) as peer:
        assert int(peer.hear()) == own  # there, as in a container that counts like ours
        for text in busy():
            assert f"process {own}{ELSEWHERE}" in text
        assert f"{own} (another pid namespace)" in listed(capsys)[1]
        peer.tell()
        peer.finish()
