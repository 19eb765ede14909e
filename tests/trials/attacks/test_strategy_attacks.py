"""Deaths at every point of a strategy's life: no order lost or twice, nobody held up.

The engine is in this process, its strategies are spawned. tests/trials/attacks/attackers.py has
them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from desk import Engine, accepted, desk, discard_rings, order_of, tick
from helpers import DEADLINE, Peer, eventually, in_thread, segment_path
from shmipc import Full, _core
from shmipc.trading.events import Bar, OrderStatus, Position, TradeTick
from shmipc.trading.strategy import BaseStrategy
from shmipc.trading.strategy.protocol import orders_ring, reports_ring


class Floor(Engine):
    """Takes orders, accepts each, and keeps what it took."""

    def __init__(self, name: str = "engine", **options: Any) -> None:
        super().__init__(name, **options)
        self.taken: list[int] = []

    def __exit__(self, *exc_info: object) -> None:
        if exc_info[0] is None:
            assert self.drain(DEADLINE)
        super().__exit__(*exc_info)

    def take(self, strategy_id: str, order: Any) -> None:
        self.taken.append(order.client_order_id)
        self.report(strategy_id, accepted(order, OrderStatus.FILLED))

    def go_on_until(self, condition: Any, timeout: float = DEADLINE) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, (self.taken, self.list_strategies())
            self.receive_orders(self.take, timeout=0.01)

    def back(self) -> bool:
        info = self.list_strategies()[0]
        return info.state == "connected" and info.restarts == 1


def full(floor: Floor) -> bool:
    try:
        floor.broadcast_event(tick(), timeout=0.1)
    except Full:
        return True
    return False


@pytest.mark.parametrize(
    ("point", "at", "others"),
    [
        ("on_connected", 0, [1, 2, 3, 4]),
        ("on_start", 0, [1, 2, 3, 4]),
        ("before the send", 2, [1, 3, 4]),
        ("after the send", 2, [1, 2, 3, 4]),
        ("on_tick", 2, [1, 3, 4]),
        ("on_order", 2, [1, 2, 3, 4]),
    ],
)
def test_a_death_at_any_point_loses_no_order_and_sends_none_twice(
    tmp_path: Path, point: str, at: int, others: list[int]
) -> None:
    with Floor() as floor:
        marker = tmp_path / "died"
        floor.spawn(
            "s",
            "attackers:Once",
            restart="on-failure",
            parameters={"marker": str(marker), "point": point, "at": at},
        )
        if at == 0:
            floor.go_on_until(floor.back)
        else:
            floor.connected("s")
        for number in (1, 2, 3, 4):
            floor.broadcast_event(tick(sequence=number))
            if number == at:
                floor.go_on_until(floor.back)
            floor.go_on_until(lambda n=number: n in floor.taken or n not in others)
        floor.go_on_until(lambda: floor.taken[-1] == 4)
        assert floor.taken == others
        assert marker.exists()
        assert [(end.signal, end.strategy_id) for end in floor.exits] == [(signal.SIGKILL, "s")]


def test_a_death_at_every_step_of_the_snapshot_leaves_the_next_a_whole_one() -> None:
    """The n-th process dies at the n-th report of its joining, until one survives."""
    body = """
    import desk
    from shmipc.trading.strategy.session import Session
    take, left = Session._take, int(args[0])
    def dying(self, frame):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        take(self, frame)
        if frame.kind == 519:
            sys.exit("refused")
    Session._take = dying
    class Tells(desk.Quiet):
        def on_start(self):
            say(len(self.snapshot.ticks), sorted(self.orders), self.positions["A"].quantity)
            self.buy("A", 1.0, client_order_id=777)
            hear()
            self.stop()
    Tells("s").run()
    """
    with Floor() as floor:
        floor.register_strategy("s")
        for symbol in ("A", "B", "C"):
            floor.broadcast_event(tick(symbol))
        floor.restore("s", [order_of(client_order_id=n, status=2) for n in (5, 6)])
        floor.restore("s", [Position(symbol="A", quantity=3.0)])
        steps = 0
        while True:
            with Peer(body, steps) as peer:
                process = peer.process
                while process.poll() is None and not floor.taken:
                    floor.receive_orders(floor.take, timeout=0.01)
                if process.poll() is not None:
                    assert process.poll() == -signal.SIGKILL
                    steps += 1
                    continue
                assert peer.hear() == "3 [5, 6] 3.0"
                peer.tell()
                peer.finish()
                break
        assert steps >= 8  # WELCOME, three ticks, two orders, a position, the end
        floor.go_on_until(lambda: floor.state("s") == "stopped")
    discard_rings("engine", "s")


def test_a_child_that_outlives_its_strategy_holds_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "child"
    with Floor() as floor:
        pid = floor.spawn("s", "attackers:Forks", parameters={"marker": str(marker)})
        floor.connected("s")
        eventually(marker.exists)
        eventually(lambda: marker.read_text() != "")
        child = int(marker.read_text())
        try:
            os.kill(pid, signal.SIGKILL)
            floor.go_on_until(floor.back)
            floor.broadcast_event(tick(sequence=7))
            floor.go_on_until(lambda: floor.taken == [7])
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_of_a_strategy_cannot_send_in_its_name(tmp_path: Path) -> None:
    marker = tmp_path / "said"
    with Floor() as floor:
        floor.spawn("s", "attackers:ForksAndGoesOn", parameters={"marker": str(marker)})
        floor.connected("s")
        for number in (1, 2):
            floor.broadcast_event(tick(sequence=number))
        floor.go_on_until(lambda: floor.taken == [1, 2])
        assert marker.read_text() == "RuntimeError"


def test_of_several_processes_with_one_id_one_runs() -> None:
    body = """
    import desk
    class Tells(desk.Echo):
        def on_start(self):
            say("runs")
    try:
        Tells("s").run(timeout=20)
        say("done")
    except Busy as error:
        say("busy", "another process" in str(error))
    """
    with Floor() as floor:
        floor.register_strategy("s")
        peers = [Peer(body) for _ in range(3)]
        try:
            end = time.monotonic() + DEADLINE
            while sum(peer.process.poll() is not None for peer in peers) < 2:
                assert time.monotonic() < end
                floor.receive_orders(floor.take, timeout=0.01)
            winner = next(peer for peer in peers if peer.process.poll() is None)
            assert winner.hear() == "runs"
            assert [p.hear() for p in peers if p is not winner] == ["busy True"] * 2
            floor.broadcast_event(tick(sequence=1))
            floor.go_on_until(lambda: floor.taken == [1])
            winner.process.terminate()
            assert winner.hear() == "done"
        finally:
            for peer in peers:
                peer.__exit__(None, None, None)
    discard_rings("engine", "s")  # it may have been ended before it read the last report


@pytest.mark.parametrize(("policy", "lives"), [("raise", False), ("stop", False), ("log", True)])
def test_one_that_raises_in_every_callback_harms_nobody(policy: str, lives: bool) -> None:
    with Floor() as floor:
        floor.spawn("bad", "attackers:AlwaysRaises", restart="never", on_exception=policy)
        floor.spawn("good", "attackers:Once")
        floor.go_on_until(lambda: floor.state("good") == "connected")
        floor.go_on_until(lambda: floor.exits or (lives and floor.state("bad") == "connected"))
        for number in range(1, 50):
            floor.broadcast_event(tick(sequence=number))
            floor.report("bad", order_of(client_order_id=number))
        floor.go_on_until(lambda: len(floor.taken) == 49)
        assert floor.taken == list(range(1, 50))
        if lives:
            floor.go_on_until(lambda: floor.list_strategies()[0].errors >= 99)
            assert not floor.exits
        else:
            assert [end.strategy_id for end in floor.exits] == ["bad"]
            assert floor.exits[0].code == (1 if policy == "raise" else 0)
    discard_rings("engine", "bad")


def test_a_report_whose_callback_raises_does_not_come_for_ever() -> None:
    """It was left from before a crash: as a report that comes later, it counts as read."""

    class Picky(BaseStrategy):
        def on_order(self, order: Any) -> None:
            if order.client_order_id == 2:
                raise RuntimeError("on purpose")

    with desk() as made:
        made.manager.register_strategy("s")
        for number in (1, 2, 3):
            made.manager.report("s", order_of(client_order_id=number))
        seen = []
        for _ in range(2):
            strategy = Picky("s")
            try:
                runtime = made.join(strategy, register=False)
                seen.append("joined")
                runtime.shut()
            except RuntimeError:
                seen.append("raised")
                made.runtimes.pop("s").shut()
            made._stack.close()
            made.runtimes.clear()
            made._strategies.clear()
            made.manager.receive_orders(made.take)
        assert seen == ["raised", "joined"]


def test_strategies_that_never_read_do_not_keep_an_engine_from_closing(shm_dir: Path) -> None:
    floor = Floor(capacity=1 << 14)
    for name in ("a", "b"):
        floor.spawn(name, "attackers:NeverReads", restart="always")
    floor.connected()
    while not full(floor):
        pass
    begun = time.monotonic()
    floor.close(grace=0.2)
    assert time.monotonic() - begun < 5
    assert [end.signal for end in floor.exits] == [signal.SIGKILL] * 2
    assert list(shm_dir.iterdir()) == []


def test_drain_waits_for_arrays_in_hand(tmp_path: Path) -> None:
    marker = tmp_path / "counts"
    with Floor() as floor:
        floor.spawn("s", "attackers:SlowBatches", parameters={"marker": str(marker)})
        floor.connected("s")
        floor.broadcast_batch([tick(), TradeTick(symbol="A"), tick(), Bar(symbol="A")])
        assert floor.drain(DEADLINE)
    assert marker.read_text() == "[(1, 2), (2, 1), (4, 1)]"


def test_registering_a_thousand_times_leaks_nothing(shm_dir: Path) -> None:
    def count() -> tuple[int, int, int]:
        with open("/proc/self/maps") as maps:
            return len(os.listdir("/proc/self/fd")), len(maps.readlines()), len(list(files()))

    def files() -> list[Path]:
        return sorted(shm_dir.iterdir())

    with Floor() as floor:
        floor.register_strategy("stays")
        floor.register_strategy("s")
        floor.unregister_strategy("s")
        before = count()
        for number in range(500):
            for name in (f"s{number}", "s"):
                floor.register_strategy(name)
                floor.poll()
                floor.unregister_strategy(name)
        fds, maps, left = count()
        assert (fds, left) == (before[0], before[2])
        assert maps <= before[1] + 8  # the heap's, not ours
    assert files() == []


def test_joining_and_leaving_leaks_nothing(shm_dir: Path) -> None:
    with desk() as made:
        counts = []
        for number in range(60):
            strategy = BaseStrategy(f"s{number % 3}")
            runtime = made.join(strategy)
            runtime.shut()
            made._stack.close()
            made.runtimes.clear()
            made._strategies.clear()
            made.manager.receive_orders(made.take)
            made.manager.unregister_strategy(strategy.strategy_id)
            counts.append((len(os.listdir("/proc/self/fd")), len(list(shm_dir.iterdir()))))
        assert set(counts[5:]) == {counts[5]}


def test_a_new_engine_of_another_shape_takes_over_from_a_killed_one() -> None:
    """Its strategies let the old rings go as soon as they notice."""
    first = """
    import desk
    engine = desk.Engine("engine", capacity=1 << 16)
    engine.register_strategy("s")
    say("ready")
    while True:
        engine.receive_orders(print, timeout=0.05)
    """
    with Peer(first) as peer, Peer("import desk; desk.Teller('s').run()") as strategy:
        peer.expect()
        assert strategy.hear() == "connected"
        strategy.hear()
        peer.kill()
        with Floor(capacity=1 << 18, max_strategies=8, slow="overwrite") as floor:
            floor.register_strategy("s")
            told: list[str] = []
            heard = in_thread(lambda: told.extend((strategy.hear(), strategy.hear())))
            # until it says so itself: an engine that stands still welcomes nobody
            floor.go_on_until(lambda: told and floor.state("s") == "connected")
            heard()
            assert told == ["disconnected", "connected"]
            floor.broadcast_event(tick(sequence=5))
            assert strategy.hear() == "tick 5"
        assert strategy.hear() == "disconnected"
        assert strategy.hear() == "stop"
        strategy.finish()


def test_a_new_engine_starts_although_a_stopped_strategy_fills_the_old_ones_ring() -> None:
    first = """
    import desk
    engine = desk.Engine("engine", capacity=1 << 16)
    engine.register_strategy("s")
    engine.connected()
    say("ready")
    hear()
    try:
        while True:
            engine.broadcast_event(desk.tick(), timeout=0.1)
    except Full:
        say("full")
    hear()
    """
    with Peer(first) as peer, Peer("import desk; desk.Quiet('s').run()") as strategy:
        peer.expect()
        os.kill(strategy.pid, signal.SIGSTOP)
        peer.tell()
        peer.expect("full")
        peer.kill()
        begun = time.monotonic()
        with Floor(capacity=1 << 16, slow="evict", patience=0.2) as floor:
            assert time.monotonic() - begun < 10
            floor.register_strategy("s")
            floor.broadcast_event(tick(sequence=1), timeout=DEADLINE)
            assert strategy.process.wait(DEADLINE) == -signal.SIGKILL
            floor.go_on_until(lambda: floor.state("s") == "evicted")
            with Peer("import desk; desk.Echo('s').run()"):
                floor.connected("s")
                floor.broadcast_event(tick(sequence=2))
                floor.go_on_until(lambda: floor.taken == [2])
                assert floor.drain(DEADLINE)


def test_the_order_in_hand_comes_again_to_the_next_engine_and_no_other_does() -> None:
    first = """
    import desk
    engine = desk.Engine("engine")
    engine.register_strategy("s")
    engine.connected()
    for number in range(1, 6):
        engine.broadcast_event(desk.tick(sequence=number))
    def take(strategy_id, order):
        say(order.client_order_id)
        if order.client_order_id == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    while True:
        engine.receive_orders(take, timeout=1)
    """
    with Peer(first) as peer, Peer("import desk; desk.Echo('s').run()") as strategy:
        assert [peer.hear() for _ in range(3)] == ["1", "2", "3"]
        peer.process.wait(DEADLINE)
        with Floor() as floor:
            floor.register_strategy("s")
            floor.go_on_until(lambda: floor.taken == [3, 4, 5])
            floor.go_on_until(lambda: floor.state("s") == "connected")
            floor.broadcast_event(tick(sequence=6))
            floor.go_on_until(lambda: floor.taken == [3, 4, 5, 6])
            assert floor.drain(DEADLINE)
        strategy.finish()


@pytest.mark.soak
def test_sixty_four_strategies() -> None:
    with Floor() as floor:
        names = [f"s{number}" for number in range(64)]
        for name in names:
            floor.spawn(name, "attackers:Once", restart="never")
        assert floor.wait_until_connected(timeout=120)
        with pytest.raises(Full, match="64"):
            floor.register_strategy("one-more")
        for number in range(1, 101):
            floor.broadcast_event(tick(sequence=number))
        floor.go_on_until(lambda: len(floor.taken) == 6400, timeout=120)
        assert sorted(floor.taken) == sorted(list(range(1, 101)) * 64)
    assert {end.code for end in floor.exits} == {0}


def processes_of_session(leader: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            text = Path(f"/proc/{name}/stat").read_text()
            state, _, _, session = text.rsplit(")", 1)[1].split()[:4]
            if session == str(leader) and state != "Z":
                found.append(int(name))
    return found


@pytest.mark.parametrize(
    ("number", "whole_group", "status"),
    [(signal.SIGINT, True, 130), (signal.SIGINT, False, 130), (signal.SIGTERM, False, 143)],
)
def test_a_demo_that_is_broken_off_leaves_nobody_and_nothing(
    shm_dir: Path, number: int, whole_group: bool, status: int
) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "shmipc", "demo", "--strategies", "3", "--quiet"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: len(list(shm_dir.glob("*.orders"))) == 3)
        (os.killpg if whole_group else os.kill)(demo.pid, number)
        assert demo.wait(DEADLINE) == status
        eventually(lambda: processes_of_session(demo.pid) == [])
    finally:
        for pid in processes_of_session(demo.pid):
            os.kill(pid, signal.SIGKILL)
        demo.wait()
    assert list(shm_dir.iterdir()) == []


def test_rings_of_one_killed_while_nobody_looks_are_cleaned_by_the_next_engine(
    shm_dir: Path,
) -> None:
    """Both die; what is left is taken over, and nothing stays behind."""
    first = """
    import desk
    engine = desk.Engine("engine")
    engine.register_strategy("s")
    say("ready")
    while True:
        engine.receive_orders(print, timeout=0.05)
    """
    with Peer(first) as peer, Peer("import desk; desk.Teller('s').run()") as strategy:
        peer.expect()
        assert strategy.hear() == "connected"
        peer.kill()
        strategy.kill()
    assert segment_path(orders_ring("engine", "s")).exists()
    with Floor() as floor:
        floor.register_strategy("s")
        floor.poll()
        floor.poll()
    for path in shm_dir.iterdir():
        _core.clean_segment(path)
    assert not segment_path(reports_ring("engine", "s")).exists()
