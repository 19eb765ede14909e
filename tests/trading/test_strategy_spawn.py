"""Which interpreter a strategy is started with, from where, and what a failing start does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from desk import Engine
from helpers import Peer
from shmipc.trading.strategy import supervisor
from shmipc.trading.strategy.interpreter import find_python


class TestInterpreter:
    def test_it_is_this_one(self) -> None:
        assert find_python() == sys.executable

    def test_one_that_is_given_is_taken(self) -> None:
        assert find_python(sys.executable) == sys.executable
        with Engine() as engine:
            engine.spawn("s", "desk:Quiet", python=sys.executable)
            engine.connected("s")

    def test_one_that_is_not_there_is_an_error_and_nothing_is_registered(self) -> None:
        with Engine() as engine:
            with pytest.raises(FileNotFoundError, match="python='/no/such/python'"):
                engine.spawn("s", "desk:Quiet", python="/no/such/python")
            assert engine.list_strategies() == []

    def test_a_frozen_program_is_not_started_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        with Engine() as engine:
            with pytest.raises(RuntimeError, match=r"frozen.*python='/"):
                engine.spawn("s", "desk:Quiet")
            engine.spawn("s", "desk:Quiet", python=sys.executable)
            engine.connected("s")

    @pytest.mark.parametrize("executable", ["/usr/bin/uwsgi", "", None, "/usr/sbin/apache2"])
    def test_an_embedding_server_has_the_interpreter_of_its_installation(
        self, monkeypatch: pytest.MonkeyPatch, executable: str | None
    ) -> None:
        monkeypatch.setattr(sys, "executable", executable)
        found = find_python()
        assert os.path.dirname(found) == os.path.join(sys.prefix, "bin")
        command = [found, "-c", "import sys; print(sys.version_info[:2])"]
        assert subprocess.check_output(command, text=True).strip() == str(sys.version_info[:2])

    @pytest.mark.parametrize("executable", ["/usr/bin/uwsgi", ""])
    def test_without_one_it_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, executable: str
    ) -> None:
        for name in ("prefix", "exec_prefix"):
            monkeypatch.setattr(sys, name, str(tmp_path))
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(RuntimeError, match=r"not known.*give its path"):
            find_python()

    @pytest.mark.parametrize("name", ["python", "python3.11", "python3.13t", "pypy3", "Python"])
    def test_names_of_python(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setattr(sys, "executable", f"/opt/x/{name}")
        assert find_python() == f"/opt/x/{name}"


def test_a_working_directory_that_was_deleted_is_no_obstacle(tmp_path: Path) -> None:
    with Peer(
        """
        sys.path.insert(0, "")
        os.mkdir(args[0] + "/here"); os.chdir(args[0] + "/here"); os.rmdir(args[0] + "/here")
        from shmipc.trading.strategy import StrategyManager
        with StrategyManager("engine") as engine:
            engine.spawn("s", "desk:Quiet")
            say(engine.wait_until_connected(timeout=20))
        """,
        tmp_path,
    ) as peer:
        peer.expect("True")
        peer.finish()


def test_a_restart_that_fails_is_tried_again_and_raises_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = subprocess.Popen
    failures = iter(range(2))

    def popen(*args: Any, **kwargs: Any) -> Any:
        if next(failures, None) is not None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real(*args, **kwargs)

    with Engine() as engine:
        engine.spawn("s", "desk:Quiet")
        engine.connected("s")
        monkeypatch.setattr(supervisor.subprocess, "Popen", popen)
        engine.kill("s")
        engine.until(lambda: engine.list_strategies()[0].restarts == 1)
        engine.until(lambda: engine.state("s") == "connected")
    assert caplog.text.count("could not be started") == 2


def test_a_first_start_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def popen(*args: Any, **kwargs: Any) -> Any:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with Engine() as engine:
        monkeypatch.setattr(supervisor.subprocess, "Popen", popen)
        with pytest.raises(BlockingIOError):
            engine.spawn("s", "desk:Quiet")
        assert engine.list_strategies() == []
        assert "s" not in engine._supervisor


def test_a_child_whose_number_is_another_s_is_not_signalled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An engine in a server that reaps every child: the number is soon given to somebody else."""
    with Engine() as engine, Peer('say("ready"); hear()') as neighbour:
        neighbour.expect()
        engine.spawn("s", "desk:Quiet", restart="never")
        engine.connected("s")
        process = engine._supervisor._children["s"].process
        assert process is not None
        process.kill()
        os.waitpid(process.pid, 0)
        process.pid = neighbour.pid  # as the kernel might
        engine.stop("s", grace=0)
        assert neighbour.process.poll() is None
        assert [(ended.code, ended.signal) for ended in engine.exits] == [(None, None)]
        assert "taken by somebody else" in str(engine.exits[0])
        neighbour.tell()
        neighbour.finish()
