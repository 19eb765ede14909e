"""Limits for real: descriptors, address space, file size, a read-only directory, no /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import run_clean

# counts what a failure may leave, and checks that a peer in another process goes on
BODY = """
    import errno, resource
    sys.path.insert(0, os.path.dirname(args[0]))
    from injection import Bystander, belongings
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
    run_clean(BODY + body + after, __file__)


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


def test_machine_without_proc_is_a_clear_error(shm_dir: Path) -> None:
    out = in_mount_namespace("mount -t tmpfs none /proc", OPEN, shm_dir).splitlines()
    assert "is /proc mounted?" in out[0]
    assert out[-1] == "[]"


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
