"""Eviction kills who is proven to hold the place, says what it cannot do, and never blocks."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import signal
import struct
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from desk import Engine, strategy_peer, tick
from helpers import DEADLINE, SLOT0, SLOT_LEN, Peer, eventually, segment_path
from shmipc.trading.strategy import NotEvicted, StrategyManager, holders

ROOT = Path(__file__).resolve().parents[2]
CAPACITY = 1 << 16
FREEZER = Path("/sys/fs/cgroup/freezer")
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000


@contextlib.contextmanager
def stopped(*others: str, patience: float = 0.2) -> Iterator[tuple[Engine, list[Peer]]]:
    """An engine that evicts, a strategy "stalled" that is stopped, and others that read."""
    names = ["stalled", *others]
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(Engine(slow="evict", patience=patience, capacity=CAPACITY))
        peers = [stack.enter_context(strategy_peer("Quiet", name)) for name in names]
        for name in names:
            engine.register_strategy(name)
        engine.connected()
        os.kill(peers[0].pid, signal.SIGSTOP)
        yield engine, peers


def fill(engine: Engine, timeout: float | None = None) -> None:
    """Broadcast until that raises."""
    for _ in range(100_000):
        engine.broadcast_event(tick(), timeout=timeout)
    pytest.fail("the ring never got full")


def forge_pid(engine: Engine, strategy_id: str, pid: int) -> None:
    """Have the ring and HELLO say `pid` of a strategy, as one of another pid namespace would."""
    link = engine._roster.links[strategy_id]
    with open(segment_path("engine.events"), "rb+") as file:
        os.pwrite(file.fileno(), struct.pack("<I", pid), SLOT0 + SLOT_LEN * link.slot + 8)
    link.pid = pid


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR]


class TestProof:
    def test_a_neighbour_of_the_same_number_is_not_killed(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with stopped("quick") as (engine, (stalled, quick)):
            forge_pid(engine, "stalled", quick.pid)
            with pytest.raises(NotEvicted, match=r"'stalled' .*another pid namespace.*--pid=host"):
                fill(engine)
            assert quick.process.poll() is None
            assert stalled.process.poll() is None
            assert engine.state("quick") == engine.state("stalled") == "connected"
            for _ in range(3):
                with pytest.raises(NotEvicted):
                    engine.broadcast_event(tick())
            with pytest.raises(NotEvicted):
                engine.broadcast_event(tick(), filter=["quick"])
            with pytest.raises(NotEvicted) as caught:
                engine.broadcast_batch([tick()] * 2)
            assert caught.value.sent == 0  # type: ignore[attr-defined]
            assert len(complaints(caplog)) == 1, "told once"
            os.kill(stalled.pid, signal.SIGCONT)
            engine.broadcast_event(tick(), timeout=DEADLINE)
            assert engine.drain(DEADLINE)

    def test_a_timeout_that_is_given_is_waited_for(self) -> None:
        with stopped("quick") as (engine, (stalled, quick)):
            forge_pid(engine, "stalled", quick.pid)
            with pytest.raises(NotEvicted):
                fill(engine)
            os.kill(stalled.pid, signal.SIGCONT)
            fill_up = [tick()] * 2000
            assert engine.broadcast_batch(fill_up, timeout=DEADLINE) == 2000

    def test_a_number_that_nobody_has_is_no_oserror(self) -> None:
        with stopped() as (engine, (stalled,)):
            forge_pid(engine, "stalled", (1 << 22) + 1)  # above the kernel's highest
            with pytest.raises(NotEvicted, match="proven"):
                fill(engine)
            forge_pid(engine, "stalled", stalled.pid)
            end = 100_000
            while engine.state("stalled") != "evicted" and (end := end - 1):
                with contextlib.suppress(NotEvicted):
                    engine.broadcast_event(tick())
            assert stalled.process.wait(DEADLINE) == -signal.SIGKILL

    def test_one_that_may_not_be_killed_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(pidfd: int, number: int) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        with stopped() as (engine, (stalled,)):
            monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
            with pytest.raises(NotEvicted, match="Operation not permitted"):
                fill(engine)
            assert stalled.process.poll() is None

    def test_one_in_a_namespace_below_is_found_and_killed(self) -> None:
        """Its pid there is 1, or near; here that is somebody else."""
        with Engine(slow="evict", patience=0.2, capacity=CAPACITY) as engine:
            engine.register_strategy("s")
            with Peer(IN_NAMESPACE + "import desk; desk.Quiet('s', engine='engine').run()") as peer:
                inside = namespaced(peer)
                engine.connected()
                assert engine.list_strategies()[0].pid == 1
                os.kill(inside, signal.SIGSTOP)
                sent = 0
                while engine.state("s") in ("connected", "killed"):
                    engine.broadcast_event(tick())
                    sent += 1
                    assert sent < 100_000
                assert engine.state("s") == "evicted"
                assert peer.process.wait(DEADLINE) == 9

    def test_an_engine_that_cannot_see_it_says_so(self) -> None:
        body = """
        from desk import tick
        from shmipc.trading.strategy import NotEvicted, StrategyManager
        with StrategyManager("engine", slow="evict", patience=0.2, capacity=1 << 16) as engine:
            engine.register_strategy("s")
            say("engine")
            assert engine.wait_until_connected(timeout=20)
            say("connected")
            hear()
            try:
                for _ in range(100_000):
                    engine.broadcast_event(tick())
            except NotEvicted as error:
                say("told" if "another pid namespace" in str(error) else error)
            hear()
            assert engine.drain(20)
        """
        with Peer(IN_NAMESPACE + textwrap.dedent(body)) as engine:
            namespaced(engine)
            engine.expect("engine")
            with strategy_peer("Quiet", "s") as strategy:
                engine.expect("connected")
                os.kill(strategy.pid, signal.SIGSTOP)
                engine.tell()
                engine.expect("told")
                os.kill(strategy.pid, signal.SIGCONT)
                engine.tell()
                strategy.expect("done")
                engine.finish()

    def test_lock_bytes_are_those_of_the_layout(self) -> None:
        layout = (ROOT / "src/core/base/layout.h").read_text()
        assert f"SHMIPC_LOCK_PRODUCER = {holders.LOCK_PRODUCER}," in layout
        assert f"SHMIPC_LOCK_SLOT0 = {holders.LOCK_SLOT0}," in layout


#: Goes on in a child that is pid 1 of a namespace of its own; says its number here.
IN_NAMESPACE = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.getuid(), os.getgid()
if libc.unshare({CLONE_NEWUSER} | {CLONE_NEWPID}):
    say("refused")
    hear()
    sys.exit()
for what, text in (("setgroups", "deny"), ("uid_map", f"0 {{uid}} 1"), ("gid_map", f"0 {{gid}} 1")):
    with open(f"/proc/self/{{what}}", "w") as file:
        file.write(text)
child = os.fork()
if child:
    say("child", child)
    status = os.waitpid(child, 0)[1]
    os._exit(os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
assert os.getpid() == 1
"""


def namespaced(peer: Peer) -> int:
    """Return the number, here, of the process that IN_NAMESPACE goes on in."""
    said = peer.hear()
    if said == "refused":
        peer.tell()
        pytest.skip("this machine lets us make no pid namespace")
    return int(said.split()[1])


class TestTheUndying:
    def test_it_is_told_once_and_not_said_to_be_evicted(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        real = signal.pidfd_send_signal
        with stopped("quick") as (engine, (stalled, _)):
            monkeypatch.setattr(signal, "pidfd_send_signal", lambda pidfd, number: None)
            with pytest.raises(NotEvicted, match="was killed and is not dead yet"):
                fill(engine)
            for _ in range(3):
                with pytest.raises(NotEvicted, match="not dead yet"):
                    engine.broadcast_event(tick())
            assert engine.state("stalled") == "killed"
            assert len(complaints(caplog)) == 1
            assert not re.search("evicted: ", caplog.text)
            monkeypatch.setattr(signal, "pidfd_send_signal", real)
            stalled.kill()
            for _ in range(2000):
                engine.broadcast_event(tick(), timeout=DEADLINE)
            assert engine.state("stalled") == "evicted"
            assert len(re.findall("evicted: ", caplog.text)) == 1

    def test_one_that_is_frozen_by_its_container(self, caplog: pytest.LogCaptureFixture) -> None:
        with frozen() as freeze, stopped("quick") as (engine, (stalled, _)):
            thaw = freeze(stalled.pid)
            with pytest.raises(NotEvicted, match="Thaw it"):
                fill(engine)
            assert engine.state("stalled") == "killed"
            assert stalled.process.poll() is None
            thaw()
            assert stalled.process.wait(DEADLINE) == -signal.SIGKILL
            engine.broadcast_event(tick(), timeout=DEADLINE)
            assert engine.state("stalled") == "evicted"
            assert len(complaints(caplog)) == 1


@contextlib.contextmanager
def frozen() -> Iterator[Callable[[int], Callable[[], None]]]:
    """Lend what freezes a process as a container's pause does; it returns what thaws it."""
    group = FREEZER / f"shmipc-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no freezer of cgroups v1 to be written to: {error}")
    state = group / "freezer.state"

    def freeze(pid: int) -> Callable[[], None]:
        (group / "cgroup.procs").write_text(str(pid))
        state.write_text("FROZEN")
        eventually(lambda: state.read_text().strip() == "FROZEN")
        return lambda: state.write_text("THAWED") and None

    try:
        yield freeze
    finally:
        state.write_text("THAWED")
        eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


class TestCapability:
    @pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
    def test_pidfds_that_are_refused_are_told_at_construction(
        self, monkeypatch: pytest.MonkeyPatch, shm_dir: Path, number: int
    ) -> None:
        def refuse(pid: int, flags: int = 0) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "pidfd_open", refuse)
        with pytest.raises(OSError, match=r"pidfd_open.*allow both.*slow='wait'") as caught:
            StrategyManager("engine", slow="evict")
        assert caught.value.errno == number
        assert list(shm_dir.iterdir()) == []
        StrategyManager("engine", slow="wait").close()

    def test_locks_that_cannot_be_seen_are_told_at_construction(
        self, monkeypatch: pytest.MonkeyPatch, shm_dir: Path
    ) -> None:
        monkeypatch.setattr(holders.Locks, "read", lambda self, path: None)  # as gVisor's /proc
        with pytest.raises(OSError, match="/proc/self/fdinfo"):
            StrategyManager("engine", slow="evict")
        assert list(shm_dir.iterdir()) == []
