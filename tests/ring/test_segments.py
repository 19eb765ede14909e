"""Segment files: names, directories, modes, foreign and damaged files, a full tmpfs."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmipc
from helpers import discard, in_thread, run_clean, run_python, segment_path
from shmipc import Consumer, Producer

GOOD = ["a", "0", "A.b_c-d", "x" * 200, "9..", "a.lock", "shmipc.a"]
BAD = ["", "/", "a/b", ".", "..", ".a", "-a", "_a", "a\0b", "\0", "a b", "a\n", "x" * 201, "ž"]
BAD += ["a\u0301", "\ud800", "🐎", "../x", "a%", "a:b"]


@pytest.mark.parametrize("name", GOOD)
def test_good_name_names_a_file(name: str, shm_dir: Path) -> None:
    with Producer(name, capacity=1) as producer, Consumer(name, timeout=0) as consumer:
        assert producer.name == consumer.name == name
        assert [path.name for path in shm_dir.iterdir()] == [f"shmipc.{name}"]


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_bad_name_is_a_value_error(name: str, shm_dir: Path) -> None:
    for open_it in (Producer, lambda name: Consumer(name, timeout=0)):
        with pytest.raises(ValueError):  # noqa: PT011
            open_it(name)
    assert list(shm_dir.iterdir()) == []


# ---- modes and directories -----------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
def test_mode_is_what_was_asked_whatever_the_umask(mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Producer("s", mode=mode):
            assert segment_path("s").stat().st_mode & 0o7777 == mode
        with Producer("s"):
            assert segment_path("s").stat().st_mode & 0o7777 == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [-1, 0o1777, 0o4600])
def test_impossible_mode_is_a_value_error(mode: int) -> None:
    with pytest.raises(ValueError, match="mode must be"):
        Producer("s", mode=mode)


def test_not_found_and_busy_read_as_their_text_and_keep_errno_and_filename() -> None:
    path = str(segment_path("s"))
    with pytest.raises(shmipc.NotFound) as missing:
        Consumer("s", timeout=0)
    assert str(missing.value) == f"there is no ring {path}"
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, path)
    with Producer("s"), pytest.raises(shmipc.Busy) as taken:
        Producer("s")
    assert str(taken.value).startswith(f"{path} already has a producer, process {os.getpid()}")
    assert "Errno" not in str(taken.value)
    assert str(taken.value).count(path) == 1
    assert (taken.value.errno, taken.value.filename) == (errno.EEXIST, path)
    again = pickle.loads(pickle.dumps(taken.value))
    assert (type(again), str(again), again.errno) == (shmipc.Busy, str(taken.value), errno.EEXIST)
    assert str(shmipc.NotFound("somebody else's")) == "somebody else's"
    assert str(shmipc.NotFound(2, "two")) == "two"


def test_missing_directory_is_told_by_who_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, shm_dir: Path
) -> None:
    missing = shm_dir / "missing"
    monkeypatch.setenv("SHMIPC_DIR", str(missing))
    with pytest.raises(FileNotFoundError, match=f"{missing} does not exist"):
        Producer("s")
    with pytest.raises(shmipc.NotFound, match=f"{missing} does not exist"):
        Consumer("s", timeout=0)


def test_consumer_waits_for_a_directory_as_for_a_ring(
    monkeypatch: pytest.MonkeyPatch, shm_dir: Path
) -> None:
    missing = shm_dir / "missing"
    monkeypatch.setenv("SHMIPC_DIR", str(missing))
    opened = in_thread(lambda: Consumer("s", timeout=20))
    missing.mkdir()
    with Producer("s") as producer, opened() as consumer:
        producer.send(b"x")
        assert consumer.recv(5) == b"x"
    missing.rmdir()


def test_directory_that_is_a_file_is_an_os_error(
    monkeypatch: pytest.MonkeyPatch, shm_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHMIPC_DIR", str(tmp_path / "file"))
    for open_it in (Producer, Consumer):
        with pytest.raises(OSError, match="file"):
            open_it("s")


def test_read_only_directory_is_an_os_error(shm_dir: Path) -> None:
    (shm_dir / "locked").mkdir(mode=0o555)
    if os.getuid() == 0:
        with pytest.raises(PermissionError):
            as_nobody(shm_dir / "locked")
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SHMIPC_DIR", str(shm_dir / "locked"))
            with pytest.raises(PermissionError):
                Producer("s")
    (shm_dir / "locked").rmdir()


def as_nobody(directory: Path) -> None:
    """Root may write anywhere, so a child without its rights tries, and tells by its status."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.chmod(directory.parent, 0o755)
            os.setuid(65534)
            os.environ["SHMIPC_DIR"] = str(directory)
            Producer("s")
            status = 0
        except OSError as error:
            status = error.errno or 98
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, os.strerror(status))


def test_other_users_file_is_a_permission_error(shm_dir: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    with Producer("s"), pytest.raises(PermissionError):
        as_nobody(shm_dir)


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "small"
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_full_tmpfs_is_enospc_that_says_what_to_do(
    small_tmpfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHMIPC_DIR", str(small_tmpfs))
    with pytest.raises(OSError, match="has no room") as full:
        Producer("s", capacity=4 << 20)
    assert full.value.errno == errno.ENOSPC
    text = str(full.value)
    assert str(small_tmpfs) in text
    assert "--shm-size" in text
    assert str((4 << 20) + 4096) in text
    assert str(1 << 20) in text
    assert list(small_tmpfs.iterdir()) == []
    with Producer("s", capacity=1 << 18) as producer, Consumer("s", timeout=0) as consumer:
        with pytest.raises(OSError, match="has no room"):
            Producer("other", capacity=1 << 20)
        for _ in range(10):  # every byte was reserved: no SIGBUS
            producer.send(bytes(1 << 17))
            consumer.recv(0)
    free = os.statvfs(small_tmpfs)
    assert free.f_bavail == free.f_blocks


# ---- what else may lie there ---------------------------------------------------------------------


def open_both(expected: type[BaseException] | tuple[type[BaseException], ...]) -> None:
    for open_it in (Producer, lambda name: Consumer(name, timeout=0)):
        with pytest.raises(expected):
            open_it("s")


def test_symbolic_link_is_never_followed(shm_dir: Path) -> None:
    with Producer("real"):
        segment_path("s").symlink_to(segment_path("real"))
        for open_it in (Producer, lambda name: Consumer(name, timeout=0)):
            with pytest.raises(OSError, match="symbolic link") as error:
                open_it("s")
            assert error.value.errno == errno.ELOOP
        segment_path("s").unlink()


def test_directory_or_fifo_in_its_place_is_refused(shm_dir: Path) -> None:
    segment_path("s").mkdir()
    open_both(OSError)
    segment_path("s").rmdir()
    os.mkfifo(segment_path("s"))
    open_both(shmipc.Corrupt)
    segment_path("s").unlink()


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x89SHMIPC\n", bytes(95), b"\x89SHMIPC\n" + bytes(88), bytes(1 << 16)]
)
def test_foreign_file_is_corrupt_and_left_alone(content: bytes, shm_dir: Path) -> None:
    segment_path("s").write_bytes(content)
    open_both(shmipc.Corrupt)
    assert segment_path("s").read_bytes() == content
    segment_path("s").unlink()


def test_file_of_another_format_version_is_corrupt_and_says_which(shm_dir: Path) -> None:
    leave_a_ring()
    damaged = bytearray(segment_path("s").read_bytes())
    damaged[8] = 77
    segment_path("s").write_bytes(damaged)
    for open_it in (Producer, lambda name: Consumer(name, timeout=0)):
        with pytest.raises(shmipc.Corrupt, match="format 77, this shmipc reads 1"):
            open_it("s")
    segment_path("s").unlink()


def leave_a_ring() -> None:
    with Producer("s", capacity=4096) as producer:
        producer.send_many([b"a", b"b", b"c"])


@pytest.mark.parametrize("length", [0, 1, 95, 96, 128, 1023, 1024, 4095, 4096, 8191, 8193, 1 << 16])
def test_file_of_another_length_is_corrupt(length: int, shm_dir: Path) -> None:
    leave_a_ring()
    os.truncate(segment_path("s"), length)
    open_both(shmipc.Corrupt)
    segment_path("s").unlink()


DAMAGE = """
    import itertools
    from shmipc import _core
    kind, start, stop = args[0], int(args[1]), int(args[2])
    options = {
        "message": dict(capacity=4096),
        "typed": dict(dtype=[("a", "<u4"), ("b", "<f8")], capacity=300),
        "many": dict(capacity=4096, max_consumers=3),
        "overwrite": dict(capacity=4096, overflow="overwrite"),
        "typed overwrite": dict(dtype="<u8", capacity=512, overflow="overwrite", max_consumers=2),
    }[kind]
    path = _core.segment_path("d")
    if os.fork() == 0:
        producer = Producer("d", **options)
        for number in range(3):
            producer.send(bytes(12 if kind == "typed" else 8))
        os._exit(0)
    os.wait()
    whole = open(path, "rb").read()
    allowed = (Corrupt, Empty, Full, Closed, ProducerDied, ConsumerDied, NotFound, SchemaMismatch,
               Busy, OSError)
    outcomes = {}
    longest = 0

    def attempt(call):
        global longest
        began = time.monotonic()
        try:
            result = call()
            outcomes["fine"] = outcomes.get("fine", 0) + 1
            return result
        except allowed as error:
            kind = type(error).__name__
            outcomes[kind] = outcomes.get(kind, 0) + 1
        finally:
            longest = max(longest, time.monotonic() - began)

    def write(content):
        with open(path + ".new", "wb") as file:
            file.write(content)
        os.rename(path + ".new", path)

    for offset in range(start, stop):
        for value in {whole[offset] ^ 1, whole[offset] ^ 0x80, 0, 0xFF} - {whole[offset]}:
            damaged = bytearray(whole)
            damaged[offset] = value
            write(damaged)
            attempt(lambda: _core.inspect_segment(path))
            consumer = attempt(lambda: Consumer("d", timeout=0, start="earliest"))
            if consumer is not None:
                for _ in range(5):
                    attempt(lambda: consumer.recv(0))
                attempt(lambda: consumer.stats())
                frame = attempt(lambda: consumer.read(0))
                if frame is not None:
                    attempt(lambda: (bytes(frame), frame.seq, frame.intact))
            producer = attempt(lambda: Producer("d", **options))
            if producer is not None:
                attempt(lambda: producer.stats())
                for _ in range(3):
                    attempt(lambda: producer.try_send(bytes(12 if kind == "typed" else 8)))
                attempt(lambda: producer.send(bytes(12 if kind == "typed" else 8), timeout=0.001))
                if consumer is not None:
                    attempt(lambda: consumer.recv(0.001))
                    attempt(lambda: consumer.read_batch(timeout=0) if consumer.dtype else None)
            frame = None
            for handle in (producer, consumer):
                if handle is not None:
                    handle.close()
            if os.path.exists(path):
                os.unlink(path)
    print(outcomes)
    assert longest < 2, longest
    if stop <= 80:
        assert outcomes["Corrupt"] > 0
    """


@pytest.mark.parametrize("kind", ["message", "typed", "many", "overwrite", "typed overwrite"])
@pytest.mark.parametrize(("start", "stop"), [(0, 96), (128, 176), (256, 400), (512, 660)])
def test_no_damaged_header_byte_crashes_or_hangs(kind: str, start: int, stop: int) -> None:
    run_clean(DAMAGE, kind, start, stop)


@pytest.mark.parametrize("kind", ["message", "typed", "many", "overwrite", "typed overwrite"])
@pytest.mark.parametrize(("start", "stop"), [(768, 784), (896, 1100), (4096, 4180)])
def test_no_damaged_slot_schema_or_message_byte_crashes_or_hangs(
    kind: str, start: int, stop: int
) -> None:
    run_clean(DAMAGE, kind, start, stop)


@pytest.mark.parametrize("offset", [12, 16, 20, 24, 28, 56, 64, 72])
@pytest.mark.parametrize("value", [0x7F, 0xFF])
def test_contradictory_geometry_is_corrupt(offset: int, value: int, shm_dir: Path) -> None:
    leave_a_ring()
    content = bytearray(segment_path("s").read_bytes())
    for byte in range(4):
        content[offset + byte] = value
    segment_path("s").write_bytes(content)
    open_both(shmipc.Corrupt)
    segment_path("s").unlink()


def test_damaged_schema_is_corrupt(shm_dir: Path) -> None:
    with Producer("s", dtype="<f8") as producer:
        producer.send(b"12345678")
    content = bytearray(segment_path("s").read_bytes())
    where = content.index(b"'<f8'")
    for replacement in (b"'<i8'", b"'<f4'", b"'|O8'", b"open("):
        content[where : where + 5] = replacement
        segment_path("s").write_bytes(content)
        with pytest.raises(shmipc.Corrupt, match="schema"):
            Consumer("s", timeout=0)
        with pytest.raises(shmipc.SchemaMismatch):
            Producer("s", dtype="<f8")
    segment_path("s").unlink()


def fnv(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


@pytest.mark.parametrize(
    "hostile",
    [
        "('|O8', ())",
        "('<f8', (2,))",
        "('<f8', (-1,))",
        "('<f8', [])",
        "(('<f8', (1,)), ())",
        "'<f8'",
        "('<f8', (), 1)",
        "(5, ())",
        "(None, ())",
        "({}, ())",
        "([('a', '|O8')], ())",
        "([('a','<f8'),('a','<f8')], ())",
        "__import__('os').abort()",
        "(" * 300,
        "('<f8', (1.0,))",
        "\ufeff('<f8', ())",
        "('<f8', ('1',))",
    ],
)
def test_hostile_schema_with_a_right_hash_is_corrupt(hostile: str, shm_dir: Path) -> None:
    dtype = [("name_long_enough_for_what_replaces_it" * 10, "<f8")]
    with Producer("s", dtype=dtype) as producer:
        producer.send(bytes(8))
    content = bytearray(segment_path("s").read_bytes())
    schema_len = int.from_bytes(content[28:32], "little")
    schema_off = int.from_bytes(content[56:64], "little")
    schema = hostile.encode()
    assert len(schema) <= schema_len
    schema += b" " * (schema_len - len(schema))
    content[schema_off : schema_off + schema_len] = schema
    content[32:40] = fnv(schema).to_bytes(8, "little")
    segment_path("s").write_bytes(content)
    with pytest.raises(shmipc.Corrupt, match="schema"):
        Consumer("s", timeout=0)
    discard("s")


def test_every_error_is_what_the_table_says() -> None:
    import queue

    table = {
        shmipc.Error: Exception,
        shmipc.Full: queue.Full,
        shmipc.Empty: queue.Empty,
        shmipc.Closed: EOFError,
        shmipc.NotFound: FileNotFoundError,
        shmipc.Busy: FileExistsError,
        shmipc.SchemaMismatch: TypeError,
        shmipc.Corrupt: ValueError,
        shmipc.PeerDied: ConnectionError,
        shmipc.ProducerDied: shmipc.PeerDied,
        shmipc.ConsumerDied: shmipc.PeerDied,
    }
    for error, base in table.items():
        assert issubclass(error, base)
        assert issubclass(error, shmipc.Error)
        assert error.__module__ == "shmipc"
        assert error.__doc__


def test_directory_is_read_from_the_environment_at_each_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_python("say(shmipc._core.segment_dir())", env={"SHMIPC_DIR": ""})
    assert done.stdout == "/dev/shm\n"
    with Producer("s"):
        other = Path("/dev/shm") / tmp_path.name
        other.mkdir()
        monkeypatch.setenv("SHMIPC_DIR", str(other))
        with Producer("s"):
            pass
        other.rmdir()
