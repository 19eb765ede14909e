"""Peers as processes: started, told, heard before a deadline, killed.

Owns: the pipes, the deadline, what an answer is. Must not know the scenarios.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 30.0


# enum shmipc_result, without SHMIPC_E_
RESULTS = frozenset(
    [
        "EMPTY",
        "FULL",
        "CLOSED",
        "PRODUCER_DIED",
        "CONSUMER_DIED",
        "NOT_FOUND",
        "BUSY",
        "MISMATCH",
        "CORRUPT",
        "TOO_LARGE",
        "INVALID",
        "MISUSE",
        "INTERRUPTED",
        "OVERRUN",
        "OS",
        "ABI",
        "REMOVED",
    ]
)
SEEN: dict[str, set[str]] = {}  # which of them each language has reported


class Violation(Exception):
    """A promise that was not kept."""


def check(truth: bool, *facts: object) -> None:
    if not truth:
        raise Violation(" ".join(map(str, facts)))


@dataclass(frozen=True)
class Answer:
    """`ok WORDS`, `error NAME DONE TEXT`, or `unsupported`."""

    peer: str
    command: str
    status: str
    words: tuple[str, ...] = ()
    result: str = "SUCCESS"
    done: int = 0
    text: str = ""

    @classmethod
    def parse(cls, peer: str, command: str, line: str) -> Answer:
        status, _, rest = line.partition(" ")
        said = rest.partition(" | ")[0] if status == "ok" else rest.partition(" ")[0]
        SEEN.setdefault(peer, set()).update(RESULTS.intersection(re.findall("[A-Z_]+", said)))
        if status == "ok":
            body, _, text = f"{rest} ".partition(" | ")
            return cls(peer, command, status, tuple(body.split()), text=text.strip())
        if status == "error":
            result, done, *text_words = rest.split(" ", 2)
            return cls(peer, command, status, (), result, int(done), " ".join(text_words))
        check(status == "unsupported", f"{peer} answers {line!r} to {command!r}")
        return cls(peer, command, status, result="unsupported")

    def wants(self, result: str = "SUCCESS") -> Answer:
        check(
            self.result == result,
            f"{self.peer}: {self.command!r} came to {self.result} ({self.text}), not {result}",
        )
        return self

    @property
    def rest(self) -> str:
        return " ".join(self.words)


class Peer:
    """A process of one language. One question at a time."""

    def __init__(self, language: str, command: Sequence[str], directory: Path) -> None:
        self.language = language
        self.asked = ""
        self._unread = b""
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(command[-1]).parent,  # where it was built: mono writes there when it crashes
            env={**os.environ, "SHMIPC_DIR": str(directory), **ENVIRONMENT},
        )
        assert self.process.stderr is not None
        os.set_blocking(self.process.stderr.fileno(), False)
        greeting = self._line(DEADLINE)
        check(greeting.startswith("ready "), f"{language} begins with {greeting!r}")

    @property
    def pid(self) -> int:
        return self.process.pid

    def _said_on_stderr(self) -> str:
        assert self.process.stderr is not None
        return (self.process.stderr.read() or b"").decode(errors="replace")[-3000:]

    def _line(self, timeout: float) -> str:
        assert self.process.stdout is not None
        end = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                left = end - time.monotonic()
                if left <= 0 or not selector.select(left):
                    self.kill()
                    raise Violation(
                        f"{self.language} said nothing to {self.asked!r} in {timeout:.0f} s"
                        f" {self._said_on_stderr()}"
                    )
                more = os.read(self.process.stdout.fileno(), 1 << 16)
                if not more:
                    status = self.process.wait(DEADLINE)
                    raise Violation(
                        f"{self.language} ended with status {status} at {self.asked!r}"
                        f" {self._said_on_stderr()}"
                    )
                self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode(errors="replace").rstrip()

    def tell(self, command: str) -> None:
        """Ask; hear() has the answer."""
        assert self.process.stdin is not None
        self.asked = command
        try:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Violation(
                f"{self.language} is gone before {command!r} {self._said_on_stderr()}"
            ) from None

    def hear(self, timeout: float | None = None) -> Answer:
        return Answer.parse(self.language, self.asked, self._line(timeout or DEADLINE))

    def ask(self, command: str, timeout: float | None = None) -> Answer:
        self.tell(command)
        return self.hear(timeout)

    def kill(self) -> None:
        """SIGKILL, and be sure that it is gone."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def quit(self) -> None:
        """It must end by itself, in time and well, and have said nothing on stderr."""
        self.tell("quit")
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Violation(f"{self.language} does not end") from None
        said = self._said_on_stderr()
        check(status == 0 and said == "", f"{self.language} ended with status {status}: {said}")

    def discard(self) -> None:
        """Whatever it does, it is gone after this."""
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


ENVIRONMENT = {
    "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "OPENBLAS_NUM_THREADS": "1",
    "MONO_DISABLE_SHARED_AREA": "1",  # no counters in /dev/shm, which a kill would leave there
}
