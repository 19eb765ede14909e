"""The command line: what ``list`` and ``clean`` show and do, and what they leave alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("shmipc._core", reason="the extension is not built")

import shmipc
from shmipc import cli

pytestmark = pytest.mark.skipif(
    not hasattr(shmipc, "Producer"), reason="the extension is not built"
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty segment directory of this test's own."""
    path = tmp_path / "segments"
    path.mkdir()
    monkeypatch.setenv("SHMIPC_DIR", str(path))
    return path


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run the command line in this process; return what it printed."""
    assert cli.main(argv) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def leave_behind(name: str, send: int = 0, consumers: int = 1) -> None:
    """Have a process create ring `name`, send to it and die without closing it."""
    script = (
        "import os, signal, sys, shmipc\n"
        f"p = shmipc.Producer({name!r}, capacity=4096, max_consumers={consumers})\n"
        f"for i in range({send}): p.send(b'%d' % i)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    status = subprocess.run([sys.executable, "-c", script], check=False, timeout=30).returncode
    assert status == -signal.SIGKILL


def test_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--version"])
    assert exit_info.value.code == 0
    assert capsys.readouterr().out.split() == ["shmipc", shmipc.__version__]


@pytest.mark.parametrize(
    "argv",
    [[], ["nonsense"], ["demo", "--consumers", "0"], ["demo", "--seconds", "nan"], ["list", "x"]],
)
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(argv)
    assert exit_info.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_module_runs_as_a_program(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shmipc", "list"], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert str(directory) in done.stdout


def test_empty_directory_is_said_to_be_empty(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no segments" in shown(capsys, "list")
    assert "nothing to clean" in shown(capsys, "clean")


def test_missing_directory_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHMIPC_DIR", str(tmp_path / "absent"))
    for command in ("list", "clean"):
        assert cli.main([command]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "absent" in err


def test_directory_that_is_a_file_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHMIPC_DIR", str(tmp_path / "file"))
    for command in ("list", "clean"):
        assert cli.main([command]) == 1
        assert capsys.readouterr() == (
            "",
            f"shmipc {command}: [Errno 20] Not a directory: '{tmp_path}/file'\n",
        )


@pytest.mark.parametrize("mode", [0o000, 0o600, 0o100])
def test_directory_that_may_not_be_looked_into_is_a_one_line_error(
    mode: int, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "shmipc.junk").write_bytes(b"\xff" * 8192)
    directory.chmod(mode)
    root = os.geteuid() == 0
    if root:
        os.chown(directory, 65534, -1)
        for parent in directory.parents[:4]:  # pytest's own, which only this user may enter
            parent.chmod(0o755)
        os.seteuid(65534)
    try:
        for command in ("list", "clean"):
            assert cli.main([command]) == 1
            out, err = capsys.readouterr()
            assert (out, err.count("\n")) == ("", 1)
            assert f"this user may not look into SHMIPC_DIR: '{directory}'" in err
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o700)


def test_list_shows_a_live_typed_ring(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    with (
        shmipc.Producer("live", dtype=np.int64, capacity=512, max_consumers=3) as producer,
        shmipc.Consumer("live"),
    ):
        producer.send_many(np.arange(7))
        [segment] = json.loads(shown(capsys, "list", "--json")).values()
        row = shown(capsys, "list").splitlines()[1]
    assert segment["framing"] == "typed"
    assert segment["producer_pid"] == os.getpid()
    assert segment["producer_alive"]
    assert [consumer["alive"] for consumer in segment["consumers"]].count(True) == 1
    assert segment["slots"] == 3
    assert row.startswith("live")
    assert str(os.getpid()) in row
    assert "7 items" in row
    assert "1 of 3" in row


@pytest.mark.parametrize(
    ("dtype", "stride"), [("u1", 1), ("V24", 24), ("V1000", 1000), ("V5000", 5056)]
)
def test_lag_of_a_typed_ring_is_in_items_of_any_size(
    dtype: str, stride: int, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    with (
        shmipc.Producer("typed", dtype=dtype, capacity=7, max_consumers=2) as producer,
        shmipc.Consumer("typed"),
    ):
        for lag in ("0 items", "1 item", "2 items", "3 items"):
            [segment] = json.loads(shown(capsys, "list", "--json")).values()
            assert f"  1 of 2     {lag} " in shown(capsys, "list").splitlines()[1]
            assert (segment["item_len"], segment["item_stride"]) == (int(dtype[1:]), stride)
            producer.send(np.zeros((), dtype))


def test_list_names_what_is_not_a_segment(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "shmipc.junk").write_bytes(b"\xff" * 8192)
    (directory / "shmipc.void").touch()
    (directory / "other").touch()
    out = shown(capsys, "list")
    assert "junk" in out
    assert "void" in out
    assert out.count("not a usable segment") == 2
    assert "\nother" not in out


def test_clean_keeps_what_a_live_process_holds(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with shmipc.Producer("live", capacity=4096, max_consumers=2):
        for flags in ([], ["--discard"], ["--dry-run", "--discard"]):
            assert "live: kept: in use" in shown(capsys, "clean", *flags)
            assert (directory / "shmipc.live").exists()


def test_clean_removes_what_a_dead_process_left(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_behind("dead", send=3, consumers=2)
    assert (directory / "shmipc.dead").exists()
    assert "dead: would remove" in shown(capsys, "clean", "--dry-run")
    assert (directory / "shmipc.dead").exists()
    assert "dead: removed" in shown(capsys, "clean")
    assert list(directory.iterdir()) == []


def test_clean_keeps_undelivered_messages_unless_told_to_discard(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_behind("queue", send=3)
    for flags in (["--dry-run"], []):
        assert "queue: kept: durable" in shown(capsys, "clean", *flags)
    assert "would remove" in shown(capsys, "clean", "--dry-run", "--discard")
    assert (directory / "shmipc.queue").exists()
    assert "queue: removed" in shown(capsys, "clean", "--discard")
    assert list(directory.iterdir()) == []


def test_clean_removes_a_durable_ring_that_holds_nothing(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_behind("queue", send=0)
    assert "queue: removed" in shown(capsys, "clean")
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("length", [0, 90, 4096, 4097])
def test_clean_removes_a_cut_ring_when_told_to_discard(
    length: int, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_behind("cut", send=3)
    os.truncate(directory / "shmipc.cut", length)
    for flags in (["--dry-run"], []):
        assert "cut: kept: damaged" in shown(capsys, "clean", *flags)
    assert "cut: would remove" in shown(capsys, "clean", "--dry-run", "--discard")
    assert (directory / "shmipc.cut").exists()
    assert "cut: removed" in shown(capsys, "clean", "--discard")
    assert list(directory.iterdir()) == []


def test_clean_leaves_foreign_files_alone(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "shmipc.junk").write_bytes(b"\xff" * 8192)
    (directory / "unrelated").write_bytes(b"1")
    for flags in (["--dry-run"], [], ["--discard"]):
        assert "junk: kept: not a shmipc segment" in shown(capsys, "clean", *flags)
    assert sorted(path.name for path in directory.iterdir()) == ["shmipc.junk", "unrelated"]


def segment(**changes: Any) -> dict[str, Any]:
    """What the extension would tell of a ring."""
    told: dict[str, Any] = {
        "name": "x",
        "framing": "typed",
        "overflow": "block",
        "slots": 1,
        "capacity": 64,
        "area_len": 4096,
        "item_stride": 64,
        "schema": None,
        "head_pos": 640,
        "tail_pos": 0,
        "closed": False,
        "producer_pid": 0,
        "producer_alive": False,
        "consumers": [],
    }
    return {**told, **changes}


def test_lag_is_that_of_the_slowest_live_consumer_across_the_wrap_of_positions() -> None:
    consumers = [
        {"slot": 0, "pid": 1, "alive": True, "cursor_pos": (1 << 64) - 64},
        {"slot": 1, "pid": 2, "alive": True, "cursor_pos": 128},
        {"slot": 2, "pid": 3, "alive": False, "cursor_pos": 1 << 63},
    ]
    assert cli._lag(segment(slots=3, head_pos=128, consumers=consumers)) == "3 items"
    told = segment(slots=3, head_pos=128, consumers=consumers, framing="message")
    assert cli._lag(told) == "192 B"


def test_ring_without_consumers_has_a_lag_only_if_it_is_durable() -> None:
    assert cli._lag(segment()) == "10 items"
    assert cli._lag(segment(slots=4)) == "-"
    assert cli._lag(segment(overflow="overwrite")) == "-"
