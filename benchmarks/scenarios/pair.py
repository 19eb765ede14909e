"""Two Python processes and one system between them, for every system in `peers` alike.

    pair.py pingpong|oneway|frames PEER [--share S]

pingpong  64 bytes to and fro, spinning or sleeping as the peer does. rtt_ns_p50 is the median over
          blocks of 16 round trips (no clock inside), rtt_each_ns_p99 the tail of single ones.
oneway    64 bytes one by one, timed from the sender's 2 % mark to the receiver's last message.
frames    1080p frames copied in from three source buffers, and looked at where they arrive.

Every message is compared with the one that was due. The producer's process is pinned to the first
core of BENCH_CORES, the consumer's to the second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers import End, Peer, find
from scenarios import common
from scenarios.common import CONSUMER, PRODUCER, Wrong

WARM_ROUNDS = 200
BLOCK = 16
ITEMS = 1024


def ask(send: Callable[[bytes], Any], receive: Callable[[], Any], rounds: int) -> None:
    """The side that starts every round trip, and times it."""
    clock = time.perf_counter_ns
    for message in common.messages(WARM_ROUNDS):
        send(message)
        receive()
    samples: list[float] = []
    add = samples.append
    then = clock()
    for message in common.messages(rounds, WARM_ROUNDS):
        send(message)
        if receive() != message:
            raise Wrong("an answer is not what was asked")
        now = clock()
        add(now - then)
        then = now
    each_p99 = common.percentile(samples, 0.99)
    samples.clear()
    due = common.messages(rounds // BLOCK * BLOCK, WARM_ROUNDS + rounds)
    blocks = [[next(due) for _ in range(BLOCK)] for _ in range(rounds // BLOCK)]
    for block in blocks:
        then = clock()
        for message in block:
            send(message)
            if receive() != message:
                raise Wrong("an answer is not what was asked")
        add((clock() - then) / BLOCK)
    common.emit(rtt_ns_p50=common.percentile(samples, 0.5), rtt_each_ns_p99=each_p99)


def answer(send: Callable[[bytes], Any], receive: Callable[[], Any], rounds: int) -> None:
    """The side that sends everything back."""
    for due in common.messages(WARM_ROUNDS + rounds + rounds // BLOCK * BLOCK):
        message = receive()
        send(message)
        if message != due:
            raise Wrong("a question is not the one that was due")


def produce(send: Callable[[bytes], Any], count: int, began: Any) -> None:
    """One way, the sender."""
    first = count // 50
    for message in common.messages(first):
        send(message)
    began.value = time.monotonic()
    for message in common.messages(count - first, first):
        send(message)


def consume(receive: Callable[[], Any], count: int, began: Any) -> None:
    """One way, the receiver. The clock runs from the sender's 2 % mark to the last message here,
    so what a deep queue has swallowed does not count as arrived."""
    for due in common.messages(count):
        if receive() != due:
            raise Wrong("a message is not the one that was due")
    took = time.monotonic() - began.value
    common.emit(rate_mps=(count - count // 50) / took / 1e6)


def _warm(count: int) -> int:
    """Frames that are not timed: every place of the ring has then been touched."""
    return min(count // 4, 4 * common.FRAMES_IN_RING)


def produce_frames(send: Callable[[bytes], Any], count: int, began: Any) -> None:
    """One way, a camera: copies each frame from one of three buffers of its own."""
    sources = common.frame_sources()
    for number in range(count):
        if number == _warm(count):
            began.value = time.monotonic()
        send(sources[number % 3])


def consume_frames(show: Callable[[Callable[[Any], None]], None], count: int, began: Any) -> None:
    """One way, the reader; the clock is that of `consume`."""
    numbers = iter(range(count))

    def check(buffer: Any) -> None:
        number = next(numbers)
        if common.frame_differs(buffer, number):
            raise Wrong(f"frame {number} is not the one that was due")

    for _ in range(count):
        show(check)
    common.emit(rate_fps=(count - _warm(count)) / (time.monotonic() - began.value))


def play(
    test: str, peer: Peer, links: list[Any], role: int, count: int, start: Any, began: Any
) -> None:
    """One role of one test, in its own process. Ends are opened link by link on both sides."""
    common.pin(role)
    receiver = peer.frame_receiver if test == "frames" else peer.receiver
    ends: list[End] = []
    for index, link in enumerate(links):
        sends = (role == PRODUCER) == (index == 0)
        ends.append(peer.sender(link) if sends else receiver(link))
    for end in ends:
        end.ready()
    start.wait(20)
    common.quiet()
    calls = [end.call for end in ends]
    if test == "pingpong":
        ask(calls[0], calls[1], count) if role == PRODUCER else answer(calls[1], calls[0], count)
    elif role == PRODUCER:
        (produce_frames if test == "frames" else produce)(calls[0], count, began)
    else:
        (consume_frames if test == "frames" else consume)(calls[0], count, began)
    start.wait(20)  # nobody leaves while the other still reads
    for end in reversed(ends):
        end.close()


def child(*arguments: Any) -> None:
    """Report an exception as its last line, and leave without running anybody's exit hooks."""
    status = 1
    try:
        play(*arguments)
        status = 0
    except BaseException as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("test", choices=("pingpong", "oneway", "frames"))
    parser.add_argument("peer")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of messages")
    options = parser.parse_args()
    peer = find(options.peer)
    frames = options.test == "frames"
    usual = {"pingpong": peer.rounds, "oneway": peer.messages, "frames": peer.frames}[options.test]
    count = max(64, int(usual * options.share))
    # Forked from a process that has started no thread and imported no peer.
    context = multiprocessing.get_context("fork")
    size, items = (common.FRAME_BYTES, common.FRAMES_IN_RING) if frames else (common.SIZE, ITEMS)
    links = [
        peer.create(context, f"pair-{os.getpid()}-{index}", size, items)
        for index in range(2 if options.test == "pingpong" else 1)
    ]
    start, began = context.Barrier(2), context.Value("d", 0.0, lock=False)
    roles = [
        context.Process(target=child, args=(options.test, peer, links, role, count, start, began))
        for role in (PRODUCER, CONSUMER)
    ]
    for role in roles:
        role.start()
    alive = list(roles)
    while alive:
        wait([role.sentinel for role in alive])
        alive = [role for role in alive if role.is_alive()]
        for role in roles:
            if role.exitcode is not None and role.exitcode < 0:
                print(f"a side died of signal {-role.exitcode}", file=sys.stderr)
        if any(role.exitcode for role in roles):
            for role in alive:
                role.kill()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
