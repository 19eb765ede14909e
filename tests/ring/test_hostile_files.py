"""What others put into the segment directory, and names that lead out of it: an answer that is
documented, and nothing of theirs touched."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import shmipc
from helpers import AREA_LEN, DATA_OFF, HEAD_POS, NOTE_POS, discard, put_u64, segment_path
from shmipc import Consumer, Producer, _core, cli

TIB = 1 << 40
NOBODY = 65534
OPENERS: list[Callable[[str], object]] = [Producer, lambda name: Consumer(name, timeout=0)]

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["x" * 10_000, "../" * 3333 + "x", "a\0" * 5000, "a/" * 5000, "\udcff", "é", "\uff10"]
)
def test_name_of_any_length_and_kind_is_a_value_error_without_a_file(
    name: str, shm_dir: Path
) -> None:
    for open_it in (*OPENERS, _core.segment_path):
        with pytest.raises(ValueError, match=r"letter or a digit|surrogates"):
            open_it(name)
    assert list(shm_dir.iterdir()) == []


@pytest.mark.parametrize("name", [None, b"bytes", 5, ["x"]])
def test_name_that_is_no_str_is_a_type_error(name: object, shm_dir: Path) -> None:
    for open_it in (*OPENERS, _core.segment_path):
        with pytest.raises(TypeError):
            open_it(name)  # type: ignore[arg-type]
    assert list(shm_dir.iterdir()) == []


@pytest.mark.parametrize("length", [4000, 10_000, 100_000])
def test_directory_whose_path_is_too_long_is_said_so(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHMIPC_DIR", "/" + "d" * length)
    for open_it in OPENERS:
        with pytest.raises((ValueError, OSError), match=r"too long|cannot open|does not exist"):
            open_it("s")


def test_error_about_a_path_that_is_not_utf8_is_still_that_error(
    monkeypatch: pytest.MonkeyPatch, shm_dir: Path
) -> None:
    directory = os.fsencode(shm_dir) + b"/\xff\xc3"
    os.mkdir(directory)
    monkeypatch.setenv("SHMIPC_DIR", os.fsdecode(directory))
    with pytest.raises(shmipc.NotFound, match=r"no ring .*\\xff") as error:
        Consumer("s", timeout=0)
    assert os.fsencode(error.value.filename) == directory + b"/shmipc.s"
    with open(directory + b"/shmipc.s", "wb") as file:
        file.write(b"foreign")
    for open_it in OPENERS:
        with pytest.raises(shmipc.Corrupt, match=r"\\xff"):
            open_it("s")
    shutil.rmtree(directory)


def test_error_text_cut_within_a_character_is_still_that_error(
    monkeypatch: pytest.MonkeyPatch, shm_dir: Path
) -> None:
    for shift in "", "x", "xx", "xxx":
        directory = shm_dir / shift / ("🐎" * 60) / ("🐎" * 60) / ("🐎" * 60)
        monkeypatch.setenv("SHMIPC_DIR", str(directory))
        for open_it in OPENERS:
            with pytest.raises(FileNotFoundError, match="🐎"):
                open_it("s")


# ---- files ---------------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    leave_a_ring(path.name.removeprefix("shmipc."))
    os.truncate(path, 4096)


def sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(TIB)


def sparse_with_a_header(path: Path) -> None:
    """As long as its header says, and all that it promises to hold is a hole."""
    leave_a_ring(path.name.removeprefix("shmipc."))
    put_u64(path, AREA_LEN, TIB)
    data_off = 4096
    put_u64(path, DATA_OFF, data_off)
    put_u64(path, HEAD_POS, TIB // 2)
    for offset in NOTE_POS:
        put_u64(path, offset, TIB // 2)
    os.truncate(path, data_off + TIB)


def a_socket(path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    try:
        server.bind(str(path))
    finally:
        server.close()


def a_device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("needs root, to make a device")


def link_to_another_ring(path: Path) -> None:
    leave_a_ring("real")
    path.symlink_to(segment_path("real"))


THINGS: dict[str, Callable[[Path], object]] = {
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path),
    "link to a ring": link_to_another_ring,
    "link to /etc/passwd": lambda path: path.symlink_to("/etc/passwd"),
    "link to a directory": lambda path: path.symlink_to("/etc"),
    "directory": lambda path: path.mkdir(),
    "fifo": os.mkfifo,
    "socket": a_socket,
    "device": a_device,
    "empty file": lambda path: path.touch(),
    "foreign file": lambda path: path.write_bytes(b"#!/bin/sh\n" * 1000),
    "truncated ring": truncated,
    "hole of 1 TiB": sparse,
    "ring with a hole of 1 TiB": sparse_with_a_header,
}


def leave_a_ring(name: str) -> None:
    """A durable queue with messages and nobody in it."""
    with Producer(name, capacity=4096) as producer:
        producer.send_many([b"a", b"b", b"c"])


def fingerprint(path: Path) -> tuple[object, ...]:
    about = path.lstat()
    content = b""
    if path.is_symlink():
        content = os.fsencode(os.readlink(path))
    elif path.is_file() and about.st_size < TIB:
        content = path.read_bytes()
    return about.st_mode, about.st_size, about.st_mtime_ns, about.st_ino, content


@pytest.fixture(params=THINGS.items(), ids=THINGS.keys())
def thing(
    request: pytest.FixtureRequest, shm_dir: Path
) -> Iterator[tuple[Path, tuple[object, ...]]]:
    path = segment_path("s")
    request.param[1](path)
    yield path, fingerprint(path)
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    discard("real")


def test_thing_in_the_place_of_a_ring_is_refused_and_left_alone(
    thing: tuple[Path, tuple[object, ...]],
) -> None:
    path, before = thing
    began = time.monotonic()
    for open_it in (*OPENERS, lambda name: _core.inspect_segment(segment_path(name))):
        with pytest.raises((shmipc.Corrupt, OSError)) as error:
            open_it("s")
        assert not isinstance(error.value, shmipc.Error) or isinstance(error.value, shmipc.Corrupt)
        if path.is_symlink():
            assert isinstance(error.value, OSError)
            assert error.value.errno == errno.ELOOP
    assert time.monotonic() - began < 10
    assert fingerprint(path) == before


# Files that may have been segments: removed, but only with --discard.
TRUNCATED = {"empty file", "truncated ring", "hole of 1 TiB", "ring with a hole of 1 TiB"}


def test_command_line_survives_and_leaves_alone_what_is_no_ring(
    thing: tuple[Path, tuple[object, ...]],
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    path, before = thing
    truncated = request.node.callspec.id in TRUNCATED
    leave_a_ring("good")
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("s ") and "not a usable segment" in line]
    assert [line for line in lines if line.startswith("good ")]
    assert cli.main(["list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["s"]) == {"fault"}
    for flags in (["--dry-run", "--discard"], [], ["--discard"]):
        status = cli.main(["clean", *flags])
        told = capsys.readouterr()
        # what cannot even be opened is an error, and does not keep the others from being cleaned
        found = any(line.startswith("s: ") for line in told.out.splitlines())
        assert status == (0 if found else 1)
        assert found or "s: " in told.err
        assert "good: " in told.out
        if truncated and flags == ["--discard"]:
            assert "s: removed" in told.out
            assert not path.exists()
        else:
            assert "s: removed" not in told.out
            assert fingerprint(path) == before
    assert not segment_path("good").exists()


def test_file_names_from_elsewhere_are_shown_so_that_a_terminal_takes_them(
    shm_dir: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    leave_a_ring("s")
    ring = segment_path("s").read_bytes()
    tails = [b"\xff", b"\n", b"\x1b[2Jgone", b"\xc3\xa9", b"x" * 240, b" ", b"", b"..", b"%n"]
    for tail in tails:
        (shm_dir / os.fsdecode(b"shmipc.f" + tail)).write_bytes(b"foreign")
        if len(tail) < 200:
            (shm_dir / os.fsdecode(b"shmipc.r" + tail)).write_bytes(ring)
    for argv in (["list"], ["list", "--json"], ["clean", "--dry-run"], ["clean", "--discard"]):
        assert cli.main(argv) == 0
        told = capsysbinary.readouterr()
        assert told.err == b""
        assert not [byte for byte in told.out if byte >= 127 or (byte < 32 and byte != 10)]
        if argv == ["list"]:
            assert len(told.out.splitlines()) == 1 + 1 + 2 * len(tails) - 1
            assert b"\\x1b[2Jgone" in told.out
    left = sorted(path.name for path in shm_dir.iterdir())
    assert left == sorted(os.fsdecode(b"shmipc.f" + tail) for tail in tails)
    for name in left:
        (shm_dir / name).unlink()


def test_list_shows_a_hostile_schema_in_one_short_line(
    shm_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Producer("s", dtype=[(f"field{n}\x1b[2J\n", "u1") for n in range(500)]) as producer:
        producer.send(bytes(500))
        assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) < 300
    discard("s")


# ---- owners and permissions ----------------------------------------------------------------------


def as_nobody(work: Callable[[], None]) -> None:
    """Run `work` in a child without root's rights. It must return."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            status = 0
        except BaseException as error:
            print("in the child:", repr(error), flush=True)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_root
def test_ring_of_somebody_else_is_a_permission_error_and_not_cleaned(
    shm_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shm_dir.chmod(0o1777)
    leave_a_ring("s")

    def work() -> None:
        for open_it in (*OPENERS, lambda name: _core.inspect_segment(segment_path(name))):
            with pytest.raises(PermissionError, match="has mode 0600 and owner 0"):
                open_it("s")
        assert cli.main(["list"]) == 0
        assert cli.main(["clean", "--discard"]) == 1

    as_nobody(work)
    told = capfd.readouterr()
    assert "not a usable segment: [Errno 13]" in told.out
    assert "s: [Errno 13]" in told.err
    discard("s")


@needs_root
def test_ring_that_somebody_else_opened_to_all_is_read_by_all_and_stays_his(
    shm_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shm_dir.chmod(0o1777)  # as /dev/shm: only its owner may remove a file
    with Producer("s", capacity=4096, mode=0o666) as producer:
        producer.send_many([b"a", b"b"])

    def work() -> None:
        with Consumer("s", timeout=0) as consumer:
            assert consumer.recv(0) == b"a"
        for wanted in ({"capacity": 4096}, {"max_consumers": 3}):
            with pytest.raises(PermissionError, match="user 0"):
                Producer("s", **wanted)
        assert cli.main(["clean", "--discard"]) == 1

    as_nobody(work)
    assert "cannot remove" in capfd.readouterr().err
    assert segment_path("s").exists()
    assert _core.clean_segment(segment_path("s"), discard=True) == "removed"


@needs_root
def test_ring_made_by_an_unprivileged_process_serves_a_privileged_one(shm_dir: Path) -> None:
    shm_dir.chmod(0o1777)
    as_nobody(lambda: leave_a_ring("s"))
    assert segment_path("s").stat().st_uid == NOBODY
    with Consumer("s", timeout=0) as consumer:
        assert [consumer.recv(0) for _ in range(3)] == [b"a", b"b", b"c"]
    assert not segment_path("s").exists()


@needs_root
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o311, 0o555])
def test_directory_without_the_needed_rights_is_a_permission_error(
    mode: int, shm_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inner = shm_dir / "inner"
    inner.mkdir()
    inner.chmod(mode)
    shm_dir.chmod(0o755)

    def work() -> None:
        os.environ["SHMIPC_DIR"] = str(inner)
        with pytest.raises((PermissionError, shmipc.NotFound)):
            Consumer("s", timeout=0)
        with pytest.raises(PermissionError):
            Producer("s")
        for command in ("list", "clean"):
            assert cli.main([command]) == (0 if mode & 0o005 == 0o005 else 1)

    as_nobody(work)
    told = capfd.readouterr()
    assert mode & 0o005 == 0o005 or "this user may not look into SHMIPC_DIR" in told.err
    inner.rmdir()


# ---- a dtype with objects ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["O", [("a", "O")], [("a", [("b", "<f8"), ("c", "O", (2,))])], ("O", (3,)), object]
)
def test_dtype_with_objects_never_gets_into_a_ring(dtype: object, shm_dir: Path) -> None:
    with pytest.raises(TypeError, match="Python objects"):
        Producer("s", dtype=np.dtype(dtype))  # type: ignore[call-overload]
    assert list(shm_dir.iterdir()) == []
