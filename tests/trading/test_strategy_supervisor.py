"""Processes that the engine starts: parameters, restarts, the log of ends, nobody left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from desk import Engine, accepted, tick
from helpers import DEADLINE
from shmipc.trading.events import OrderAction, OrderStatus
from shmipc.trading.strategy import UnknownStrategy, supervisor
from shmipc.trading.strategy.program import load_class, run_named


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until_exits(engine: Engine, count: int) -> None:
    engine.until(lambda: len(engine.exits) >= count)


class TestSpawning:
    def test_it_runs_with_its_parameters_on_its_cpu(self) -> None:
        cpu = min(os.sched_getaffinity(0))
        with Engine() as engine:
            pid = engine.spawn(
                "s", "desk:Configured", cpu=cpu, parameters={"size": 2.5, "price": 7.0}
            )
            [(who, order)] = engine.expect_orders(1)
            assert (who, order.quantity, order.price) == ("s", 2.5, 7.0)
            engine.connected("s")
            assert engine.list_strategies()[0].pid == pid
            assert os.sched_getaffinity(pid) == {cpu}
        assert not is_alive(pid)
        assert [(ended.pid, ended.code, ended.restart_in) for ended in engine.exits] == [
            (pid, 0, None)
        ]

    def test_symbols_and_order_capacity_reach_it(self) -> None:
        with Engine(order_capacity=1 << 16) as engine:
            engine.spawn("s", "desk:Echo", symbols=["BTCUSDT"])
            engine.connected("s")
            engine.broadcast_event(tick("ETHUSDT", sequence=1))
            engine.broadcast_event(tick("BTCUSDT", sequence=2))
            assert engine.expect_orders(1)[0][1].client_order_id == 2
            assert engine.list_strategies()[0].symbols == ("BTCUSDT",)
            assert engine._roster.links["s"].orders is not None
            assert engine._roster.links["s"].orders.capacity == 1 << 16

    @pytest.mark.parametrize(
        ("error", "target"),
        [
            (ValueError, "desk"),
            (ValueError, "desk:"),
            (ValueError, ":Echo"),
            (ValueError, "__main__:Echo"),
            (ModuleNotFoundError, "nosuchmodule:Echo"),
        ],
    )
    def test_a_bad_target_is_an_error_at_once(self, error: type[Exception], target: str) -> None:
        with Engine() as engine:
            with pytest.raises(error):
                engine.spawn("s", target)
            assert engine.list_strategies() == []

    def test_twice_is_an_error(self) -> None:
        with Engine() as engine:
            pid = engine.spawn("s", "desk:Quiet")
            with pytest.raises(ValueError, match="is running"):
                engine.spawn("s", "desk:Quiet")
            with pytest.raises(ValueError, match="restart"):
                engine.spawn("t", "desk:Quiet", restart="sometimes")  # type: ignore[arg-type]
            assert engine.list_strategies()[0].pid == pid
            with pytest.raises(UnknownStrategy):
                engine.kill("t")


class TestRestarting:
    def test_killed_it_comes_back_under_its_id(self) -> None:
        with Engine() as engine:
            first = engine.spawn("s", "desk:Echo", restart="on-failure")
            engine.connected("s")
            engine.broadcast_event(tick(sequence=1))
            engine.expect_orders(1)
            engine.kill("s")
            until_exits(engine, 1)
            ended = engine.exits[0]
            assert (ended.strategy_id, ended.pid, ended.signal, ended.code) == (
                "s",
                first,
                signal.SIGKILL,
                None,
            )
            assert ended.restart_in == supervisor.FIRST_DELAY
            assert "killed by SIGKILL" in str(ended)
            engine.until(lambda: engine.list_strategies()[0].restarts == 1)
            engine.until(lambda: engine.state("s") == "connected")
            assert engine.list_strategies()[0].pid != first
            engine.broadcast_event(tick(sequence=2))
            assert engine.expect_orders(1)[0][1].client_order_id == 2

    @pytest.mark.parametrize(
        ("restart", "code", "again"),
        [
            ("never", 0, False),
            ("never", 4, False),
            ("on-failure", 0, False),
            ("on-failure", 4, True),
            ("always", 0, True),
            ("always", 4, True),
        ],
    )
    def test_the_policy_says_who_comes_back(self, restart: str, code: int, again: bool) -> None:
        with Engine() as engine:
            engine.spawn("s", "desk:Dies", restart=restart)  # type: ignore[arg-type]
            engine.connected("s")
            engine.broadcast_event(tick(sequence=code))
            until_exits(engine, 1)
            assert engine.exits[0].code == code
            assert (engine.exits[0].restart_in is not None) == again
            if again:
                engine.until(lambda: engine.list_strategies()[0].restarts == 1)
                engine.connected("s")

    def test_who_dies_at_once_is_started_ever_later(self) -> None:
        with Engine() as engine:
            engine.spawn("s", "desk:DiesAtOnce", restart="always")
            until_exits(engine, 3)
            engine.stop("s")
        delays = [ended.restart_in for ended in engine.exits[:3]]
        assert delays == [0.1, 0.2, 0.4]
        assert [ended.code for ended in engine.exits[:3]] == [3, 3, 3]

    def test_the_delay_has_a_limit_and_a_long_life_resets_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(supervisor, "LONGEST_DELAY", 0.15)
        with Engine() as engine:
            engine.spawn("s", "desk:DiesAtOnce", restart="always")
            until_exits(engine, 3)
            monkeypatch.setattr(supervisor, "LONG_LIFE", 0.0)
            until_exits(engine, 4)
        assert [ended.restart_in for ended in engine.exits[:4]] == [0.1, 0.15, 0.15, 0.1]


class TestEnding:
    def test_stop_ends_it_well_and_for_good(self) -> None:
        with Engine() as engine:
            pid = engine.spawn("s", "desk:Quiet", restart="always")
            engine.connected("s")
            engine.stop("s")
            assert not is_alive(pid)
            assert [(ended.code, ended.restart_in) for ended in engine.exits] == [(0, None)]
            engine.until(lambda: engine.state("s") == "stopped")
            engine.spawn("s", "desk:Quiet")
            engine.connected("s")

    def test_one_that_does_not_listen_is_killed_after_its_grace(self) -> None:
        with Engine() as engine:
            pid = engine.spawn("s", "desk:Quiet", restart="always")
            engine.connected("s")
            os.kill(pid, signal.SIGSTOP)
            began = time.monotonic()
            engine.stop("s", grace=0.3)
            assert 0.3 <= time.monotonic() - began < DEADLINE
            assert engine.exits[0].signal == signal.SIGKILL
            assert not is_alive(pid)

    def test_close_leaves_nobody_and_nothing(self, shm_dir: Path) -> None:
        engine = Engine()
        pids = [engine.spawn(f"s{n}", "desk:Quiet", restart="always") for n in range(3)]
        pids.append(engine.spawn("dies", "desk:DiesAtOnce", restart="always"))
        engine.connected("s0", "s1", "s2")
        os.kill(pids[0], signal.SIGSTOP)
        engine.close(grace=0.5)
        assert not any(is_alive(pid) for pid in pids)
        assert list(shm_dir.iterdir()) == []

    def test_unregistering_ends_its_process(self, shm_dir: Path) -> None:
        with Engine() as engine:
            pid = engine.spawn("s", "desk:Quiet", restart="always")
            engine.connected("s")
            engine.unregister_strategy("s")
            assert engine.list_strategies() == []
            engine.until(lambda: not is_alive(pid) and not engine._roster.leaving)
            assert not [path for path in shm_dir.iterdir() if ".s." in path.name]

    def test_unregistering_one_that_hangs_does_not_stop_the_engine(self) -> None:
        with Engine() as engine:
            pid = engine.spawn("s", "desk:Quiet", restart="always")
            engine.connected("s")
            os.kill(pid, signal.SIGSTOP)
            engine.unregister_strategy("s", grace=0.2)
            assert is_alive(pid)  # it was not waited for
            with pytest.raises(ValueError, match="is leaving"):
                engine.register_strategy("s")
            engine.until(lambda: not is_alive(pid) and not engine._roster.leaving)
            engine.register_strategy("s")
            assert engine.exits[-1].signal == signal.SIGKILL

    def test_what_one_that_leaves_still_sends_is_received(self) -> None:
        with Engine() as engine:
            engine.spawn("s", "desk:CancelsAtTheEnd", restart="never")
            engine.connected("s")
            engine.broadcast_event(tick())
            [(_, order)] = engine.expect_orders(1)
            engine.report("s", accepted(order))
            engine.drain(timeout=DEADLINE)
            engine.unregister_strategy("s")
            [(who, cancel)] = engine.expect_orders(1)
            assert (who, cancel.action) == ("s", OrderAction.CANCEL)
            assert cancel.client_order_id == order.client_order_id
            cancel.status = OrderStatus.CANCELED
            engine.report("s", cancel)  # it may hear that still, or when it is back
            engine.close(discard=True)

    def test_one_that_is_evicted_comes_back(self) -> None:
        with Engine(slow="evict", patience=0.3, capacity=1 << 16) as engine:
            pid = engine.spawn("s", "desk:Quiet", restart="on-failure")
            engine.connected("s")
            os.kill(pid, signal.SIGSTOP)
            while not engine.exits:
                engine.broadcast_event(tick(), timeout=DEADLINE)
                engine.poll()
            assert engine.exits[0].signal == signal.SIGKILL
            engine.until(lambda: engine.state("s") == "connected")

    def test_strategies_outlive_an_engine_that_crashes(self) -> None:
        from helpers import Peer

        with Peer(
            """
            import desk
            engine = desk.Engine("engine")
            say(engine.spawn("s", "desk:Echo"))
            engine.connected("s")
            say("connected")
            hear()
            """
        ) as engine_peer:
            pid = int(engine_peer.hear())
            engine_peer.expect("connected")
            engine_peer.kill()
        assert is_alive(pid)
        try:
            with Engine("engine") as engine:
                engine.register_strategy("s")
                engine.connected("s")
                engine.broadcast_event(tick(sequence=5))
                assert engine.expect_orders(1)[0][1].client_order_id == 5
                assert engine.list_strategies()[0].pid == pid
                os.kill(pid, signal.SIGTERM)
                engine.until(lambda: engine.state("s") == "stopped")
                engine.until(lambda: is_over(pid))  # its rings are closed
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class TestCommand:
    def test_a_class_is_found_by_its_path(self) -> None:
        assert load_class("desk:Echo").__name__ == "Echo"
        for error, path in (
            (ValueError, "desk"),
            (AttributeError, "desk:Nothing"),
            (TypeError, "desk:Engine"),
            (ImportError, "nosuchmodule:X"),
        ):
            with pytest.raises(error):
                load_class(path)

    def test_what_goes_wrong_is_an_exit_status(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_named(["engine", "s", "desk:Nothing"]) == 2
        assert "Nothing" in capsys.readouterr().err
        assert run_named(["engine", "s", "desk:Quiet", "--timeout", "0"]) == 1
        assert "no engine" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            run_named(["engine", "s", "desk:Quiet", "--on-exception", "ignore"])

    def test_a_strategy_is_a_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        quiet = load_class("desk:Quiet")
        with pytest.raises(SystemExit) as caught:
            quiet.main(["--help"])
        assert caught.value.code == 0
        assert "--engine" in capsys.readouterr().out
        assert quiet.main(["--engine", "nobody", "--id", "s", "--timeout", "0"]) == 1
        assert "'nobody'" in capsys.readouterr().err


def is_over(pid: int) -> bool:
    """Say whether a process that is not our child has ended; nobody may reap it here."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
