"""Limits for real: descriptors, address space, file size, a read-only directory, no /proc."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import run_clean, run_python
from shmipc import Producer

# counts what a failure may leave, and checks that a peer in another process goes on
BODY = """
    import errno, resource
    from bystander import Bystander, belongings
    bystander = Bystander()
    def limited(which, value, open_it, expected, word):
        before = belongings()
        soft, hard = resource.getrlimit(which)
        resource.setrlimit(which, (value, hard))
        try:
            open_it()
        except OSError as error:
            caught = error.errno, str(error)
        else:
            caught = "it worked"
        finally:
            resource.setrlimit(which, (soft, hard))
        assert caught[0] in expected and word in caught[1], caught
        gc.collect()
        assert belongings() == before, (before, belongings())
        bystander.check()
    def vm_size():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    open_ring = lambda: Producer("r", capacity=1 << 20)
    """

LIMITS = {
    "descriptors": """
    top = max(int(fd) for fd in os.listdir("/proc/self/fd")) + 1
    for spare in range(2):
        while top - spare < 3 or len(os.listdir("/proc/self/fd")) - 1 < top - 1:
            os.dup(0)  # fill the gaps
        limited(resource.RLIMIT_NOFILE, top - 1 + spare, open_ring, [errno.EMFILE], "r")
    with Producer("r", capacity=1 << 20):
        top = max(int(fd) for fd in os.listdir("/proc/self/fd")) + 1
        limited(resource.RLIMIT_NOFILE, top - 1, lambda: Consumer("r"), [errno.EMFILE], "r")
    """,
    "address space": """
    for size in (64 << 20, 1 << 30):
        def open_large():
            Producer("r", capacity=size)
        limit = vm_size() + size // 2
        limited(resource.RLIMIT_AS, limit, open_large, [errno.ENOMEM], "address space")
    with Producer("r", capacity=64 << 20):
        def attach():
            Consumer("r")
        limited(resource.RLIMIT_AS, vm_size() + (32 << 20), attach, [errno.ENOMEM], "address space")
    """,
    "file size": """
    limited(resource.RLIMIT_FSIZE, 1 << 16, open_ring, [errno.EFBIG], "RLIMIT_FSIZE")
    """,
}


@pytest.mark.parametrize("body", LIMITS.values(), ids=LIMITS.keys())
def test_limit_is_a_clear_error_and_leaves_nothing(body: str, shm_dir: Path) -> None:
    after = """
    with open_ring() as producer, Consumer("r") as consumer:
        producer.send(b"at once again")
        assert consumer.recv() == b"at once again"
    bystander.close()
    """
    run_clean(BODY + body + after)


# ---- in namespaces of their own ------------------------------------------------------------------


def in_mount_namespace(setup: str, body: str, shm_dir: Path) -> str:
    """Run a snippet after mounts that nobody else sees; skips where that is not permitted."""
    probe = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"cannot make a mount namespace here: {probe.stderr.strip()}")
    script = f"set -e\n{setup}\nexec {sys.executable} -c '{body}'"
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "DIR": str(shm_dir)},
    )
    assert done.returncode == 0, done
    return done.stdout


OPEN = """
import os, shmipc
before = len(os.listdir("/dev/fd/")) if os.path.exists("/dev/fd/0") else 0
for open_it in (shmipc.Producer, lambda name: shmipc.Consumer(name, timeout=0)):
    try:
        open_it("r")
    except OSError as error:
        print(error.errno, error)
print(os.listdir(os.environ["SHMIPC_DIR"]))
"""


def test_read_only_mount_is_a_clear_error(shm_dir: Path) -> None:
    setup = 'mount --bind "$DIR" "$DIR"; mount -o remount,ro,bind "$DIR"'
    out = in_mount_namespace(setup, OPEN, shm_dir).splitlines()
    assert out[0].startswith("30 [Errno 30] cannot create a segment in")
    assert "set SHMIPC_DIR" in out[0]
    assert out[-1] == "[]"


def test_consumer_on_a_read_only_mount_is_told_that_it_needs_to_write(shm_dir: Path) -> None:
    body = """
import shmipc
try:
    shmipc.Consumer("r", timeout=0)
except OSError as error:
    print(error.errno, error)
"""
    setup = 'mount --bind "$DIR" "$DIR"; mount -o remount,ro,bind "$DIR"'
    with Producer("r"):
        out = in_mount_namespace(setup, body, shm_dir)
    assert out.startswith("30 ")
    assert "mounted read-only: consumers need to write too" in out


def test_hugetlbfs_is_named_and_not_said_to_be_full(shm_dir: Path) -> None:
    if "hugetlbfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no hugetlbfs")
    out = in_mount_namespace('mount -t hugetlbfs none "$DIR"', OPEN, shm_dir).splitlines()
    assert "is on a hugetlbfs" in out[0]
    assert "set SHMIPC_DIR to a tmpfs" in out[0]
    assert out[-1] == "[]"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become a user with a limit")
def test_memory_that_may_not_be_locked_is_not_called_address_space(shm_dir: Path) -> None:
    shm_dir.chmod(0o777)
    body = """
        import ctypes, resource
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (4 << 20, 4 << 20))
        os.setuid(12345)
        assert ctypes.CDLL(None, use_errno=True).mlockall(2) == 0  # MCL_FUTURE
        try:
            Producer("r", capacity=64 << 20)
        except OSError as error:
            print(error.errno, error)
        """
    done = run_python(body)
    assert done.stdout.startswith(f"{errno.EAGAIN} "), done
    assert "RLIMIT_MEMLOCK" in done.stdout
    assert "address space" not in done.stdout


NO_PROC = {
    "none": "mount -t tmpfs none /proc",
    "another pid namespace's": "unshare --pid --fork mount -t proc proc /proc",
}


@pytest.mark.parametrize("setup", NO_PROC.values(), ids=NO_PROC.keys())
def test_machine_without_proc_is_a_clear_error(setup: str, shm_dir: Path) -> None:
    out = in_mount_namespace(setup, OPEN, shm_dir).splitlines()
    assert out[0].startswith("38 [Errno 38] /proc is not mounted, or is another pid namespace's")
    assert "mount -t proc" in out[0]
    assert out[-1] == "[]"


@pytest.mark.parametrize("setup", NO_PROC.values(), ids=NO_PROC.keys())
def test_without_proc_a_ring_is_neither_missing_nor_skipped(setup: str, shm_dir: Path) -> None:
    dead = run_python(
        """
        producer = Producer("dead", max_consumers=2)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert dead.returncode == -signal.SIGKILL
    body = """
import shmipc
from shmipc import _core, cli
path = _core.segment_path("dead")
for use in (
    lambda: shmipc.Consumer("dead", timeout=0),
    lambda: shmipc.Producer("dead", max_consumers=2),
    lambda: _core.inspect_segment(path),
    lambda: _core.clean_segment(path),
):
    try:
        use()
    except FileNotFoundError as error:
        print("missing", error)
    except OSError as error:
        print(error)
for command in (["list"], ["list", "--json"], ["clean"], ["clean", "--dry-run"]):
    print(cli.main(command))
"""
    out = in_mount_namespace(f"{setup}; exec 2>&1", body, shm_dir).splitlines()
    said = "/proc is not mounted, or is another pid namespace's: shmipc needs /proc/self/fd"
    assert [line for line in out if said not in line] == ["1"] * 4
    assert len(out) == 4 + 2 * 4
    with Producer("dead", max_consumers=2):  # which the clean-up has left alone
        pass


def test_full_tmpfs_leaves_a_live_ring_alone(shm_dir: Path) -> None:
    body = """
import errno, os, shmipc
producer = shmipc.Producer("live", capacity=1 << 18)
consumer = shmipc.Consumer("live")
filler = os.open(os.environ["SHMIPC_DIR"] + "/filler", os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(filler, bytes(1 << 12))
except OSError as error:
    assert error.errno == errno.ENOSPC
for _ in range(20):
    producer.send(bytes(1 << 17))
    assert len(consumer.recv()) == 1 << 17
try:
    shmipc.Producer("r")
except OSError as error:
    print(error.errno, error)
producer.close(), consumer.close()
os.unlink(os.environ["SHMIPC_DIR"] + "/filler")
print(os.listdir(os.environ["SHMIPC_DIR"]))
"""
    setup = 'mount -t tmpfs -o size=1m,noexec,nosuid none "$DIR"'
    out = in_mount_namespace(setup, body, shm_dir).splitlines()
    assert out[0].startswith("28 [Errno 28]")
    assert "has no room for this segment" in out[0]
    assert out[-1] == "[]"
