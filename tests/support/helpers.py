"""What several test files need: peers in other processes, deadlines, payloads, raw segment files.

A peer is a Python process that runs a snippet and talks by lines, so tests wait for events and
never for time. Whatever does not come before its deadline fails the test.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

DEADLINE = 30.0
TESTS = Path(__file__).resolve().parent

PRELUDE = f"""
import gc, logging, os, signal, sys, threading, time
# Hints of a long wait are in order on a loaded machine; who tests them adds a handler that writes.
logging.getLogger("shmipc").addHandler(logging.NullHandler())
sys.path.insert(0, {str(TESTS)!r})
import numpy as np
import shmipc
from shmipc import *
args = sys.argv[1:]
def say(*words):
    print(*words, flush=True)
def hear():
    line = sys.stdin.readline()
    if not line:
        sys.exit("the test is gone")
    return line.strip()
"""


class Peer:
    """A process that runs `body` after PRELUDE; ends, killed if need be, with the with block.

    `under`: a command that runs the interpreter, and gives way to it or dies with it.
    """

    def __init__(
        self, body: str, *args: object, python: tuple[str, ...] = (), under: tuple[str, ...] = ()
    ) -> None:
        self.process = subprocess.Popen(
            [
                *under,
                sys.executable,
                *python,
                "-c",
                PRELUDE + textwrap.dedent(body),
                *map(str, args),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._unread = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self, timeout: float = DEADLINE) -> str:
        """The next line it says; an AssertionError if it says none in time."""
        assert self.process.stdout is not None
        end = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                left = end - time.monotonic()
                ready = left > 0 and bool(selector.select(left))
                assert ready, f"the peer said nothing in {timeout} s"
                more = os.read(self.process.stdout.fileno(), 65536)
                assert more, f"the peer ended early with status {self.process.wait(DEADLINE)}"
                self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode().strip()

    def expect(self, line: str = "ready", timeout: float = DEADLINE) -> None:
        assert self.hear(timeout) == line

    def tell(self, line: str = "go") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL, and be sure that it is gone."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def finish(self, timeout: float = DEADLINE) -> None:
        """It must end by itself, and well."""
        assert self.process.wait(timeout) == 0

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def run_python(
    body: str,
    *args: object,
    python: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    timeout: float = DEADLINE,
) -> subprocess.CompletedProcess[str]:
    """Run a snippet to its end; the caller judges status and output."""
    return subprocess.run(
        [sys.executable, *python, "-c", PRELUDE + textwrap.dedent(body), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )


def run_clean(body: str, *args: object, env: dict[str, str] | None = None) -> None:
    """Run a snippet that must end with status 0 and say nothing on stderr."""
    done = run_python(body, *args, env=env)
    assert (done.returncode, done.stderr) == (0, ""), done


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start `work` in a thread; the returned function joins it and returns or raises its result."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join() -> Any:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "the thread still runs at its deadline"
        if "error" in outcome:
            raise outcome["error"]
        return outcome.get("result")

    return join


def eventually(condition: Callable[[], bool], timeout: float = DEADLINE) -> None:
    """Poll what has no event to wait for."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.002)


def sleeps_in_kernel(thread_id: int) -> bool:
    """Does this thread of ours sleep in a system call?"""
    with open(f"/proc/self/task/{thread_id}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "S"


@contextmanager
def interrupted_after(seconds: float, number: int = signal.SIGINT) -> Iterator[list[float]]:
    """Send this process a signal from a timer process; yields a list that gets no entries before
    the signal and the time of its sending after."""
    sender = subprocess.Popen(
        [
            sys.executable,
            "-S",
            "-c",
            "import os, sys, time; sys.stdin.readline(); time.sleep(float(sys.argv[1])); "
            "os.kill(int(sys.argv[2]), int(sys.argv[3]))",
            str(seconds),
            str(os.getpid()),
            str(int(number)),
        ],
        stdin=subprocess.PIPE,
    )
    times = [time.monotonic() + seconds]
    assert sender.stdin is not None
    try:
        with sender.stdin as pipe:
            pipe.write(b"\n")
        yield times
    finally:
        sender.wait(DEADLINE)


# ---- payloads that prove themselves --------------------------------------------------------------


def payload(number: int, size: int) -> bytes:
    """At least 12 bytes: number, checksum, then bytes that depend on both."""
    body = random.Random(number).randbytes(max(0, size - 12))
    return struct.pack("<QI", number, zlib.crc32(body, number & 0xFFFFFFFF)) + body


def check_payload(data: bytes) -> int:
    """The number of a whole payload; AssertionError for a torn one."""
    number, crc = struct.unpack_from("<QI", data)
    assert crc == zlib.crc32(data[12:], number & 0xFFFFFFFF), f"message {number} is torn"
    return int(number)


# ---- segment files -------------------------------------------------------------------------------

# Written by hand, not taken from the code under test: see src/core/base/layout.h.
HEAD_POS = 128
NOTE_POS = (144, 160)
NOTE_SEQ = (152, 168)
TAIL_POS = 256
PRODUCER_PID = 384
SLOT_PID = 8  # within a slot
CLOSED = 388
EPOCH = 392
MEMBERS = 768
SLOT0 = 896
SLOT_LEN = 128
ORIGIN_POS = 80
DATA_OFF = 64
AREA_LEN = 72


def segment_path(name: str) -> Path:
    return Path(os.environ["SHMIPC_DIR"]) / f"shmipc.{name}"


def get_u64(path: Path, offset: int) -> int:
    with open(path, "rb") as file:
        return int(struct.unpack("<Q", os.pread(file.fileno(), 8, offset))[0])


def get_u32(path: Path, offset: int) -> int:
    with open(path, "rb") as file:
        return int(struct.unpack("<I", os.pread(file.fileno(), 4, offset))[0])


def put_u64(path: Path, offset: int, value: int) -> None:
    with open(path, "rb+") as file:
        os.pwrite(file.fileno(), struct.pack("<Q", value % 2**64), offset)


def put_u32(path: Path, offset: int, value: int) -> None:
    with open(path, "rb+") as file:
        os.pwrite(file.fileno(), struct.pack("<I", value), offset)


def shift_positions(path: Path, origin: int, slots: int) -> None:
    """Move every position of a fresh, empty ring that nobody is attached to."""
    for offset in (ORIGIN_POS, HEAD_POS, *NOTE_POS, TAIL_POS):
        put_u64(path, offset, origin)
    for slot in range(slots):
        put_u64(path, SLOT0 + SLOT_LEN * slot, origin)


def discard(name: str) -> None:
    """Remove a durable ring that a test leaves with unread messages; it must have nobody in it."""
    from shmipc import _core

    path = segment_path(name)
    if path.exists():
        assert _core.clean_segment(path, discard=True) == "removed"


# what a Peer may run: a producer and a consumer that hold their roles until told
PRODUCE_THEN_HOLD = """
    producer = Producer(args[0], capacity=4096, max_consumers=int(args[1]))
    say("ready")
    for i in range(int(hear())):
        producer.send(b"%d" % i)
    say("sent")
    hear()
    """
HOLD_CONSUMER = """
    consumer = Consumer(args[0], timeout=20)
    say("ready")
    hear()
    consumer.close()
    """
