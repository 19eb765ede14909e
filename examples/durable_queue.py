"""A consumer is killed in the middle of its work; its successor resumes where it stopped.

A ring for one consumer is a durable queue: the cursor lives in the segment and moves only when
a message is released. Here the first consumer is killed while it holds message 5, so message 5
is delivered again: at least once, and none is skipped.
"""

import multiprocessing
import os
import secrets
import signal

import shmipc

MESSAGES = 10
FATAL = 5


def work(name: str, dies: bool) -> None:
    """Process the queue; the first worker dies in the middle of a message."""
    with shmipc.Consumer(name, timeout=10) as consumer:
        for frame in consumer:
            number = int(bytes(frame))
            if dies and number == FATAL:
                print(f"worker {os.getpid()} is killed while it works on {number}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            print(f"worker {os.getpid()} finished {number}", flush=True)
        assert number == MESSAGES - 1


def main() -> None:
    name = f"durable-{secrets.token_hex(4)}"
    context = multiprocessing.get_context("spawn")
    with shmipc.Producer(name, capacity=4096) as producer:
        for number in range(MESSAGES):
            producer.send(b"%d" % number)
        first = context.Process(target=work, args=(name, True))
        first.start()
        first.join(20)
        assert first.exitcode == -signal.SIGKILL, first.exitcode
    second = context.Process(target=work, args=(name, False))
    second.start()
    second.join(20)
    assert second.exitcode == 0, second.exitcode


if __name__ == "__main__":
    main()
