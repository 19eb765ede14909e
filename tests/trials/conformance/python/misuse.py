"""Every rule of the package that can be broken in Python, broken: an exception, and nothing else.

Owns: `misuse CASE NAME`, answered by "ok what=RESULT ...". What is right is in run.py's table.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from names import ERRORS, name_of

import shmipc


def closed(name: str, say: Any) -> None:
    producer = shmipc.Producer(name, capacity=4096)
    consumer = shmipc.Consumer(name, timeout=0)
    producer.close()
    consumer.close()
    say("send", lambda: producer.send(b"x", timeout=0))
    say("send_messages", lambda: producer.send_many([b"x"], timeout=0))
    say("reserve", lambda: producer.reserve(1, timeout=0))
    say("wait_for_consumers", lambda: producer.wait_for_consumers(1, 0))
    say("stats", producer.stats)
    say("close", producer.close)
    say(";")
    say("recv", lambda: consumer.recv(timeout=0))
    say("read", lambda: consumer.read(timeout=0))
    say("wait_any", lambda: shmipc.wait([consumer], 0))
    say("stats", consumer.stats)
    say("close", consumer.close)


def order(name: str, say: Any) -> None:
    with (
        shmipc.Producer(name, capacity=4096) as producer,
        shmipc.Consumer(name, timeout=0) as consumer,
    ):
        room = producer.reserve(8)
        say("send_in_reservation", lambda: producer.send(b"x"))
        say("reserve_again", lambda: producer.reserve(8))
        say("commit_more", lambda: room.commit(9))
        room.array[:] = 7
        say("commit", lambda: room.commit(5))
        say("commit_twice", lambda: room.commit(5))
        say("read_items", lambda: consumer.read_batch(1, timeout=0))
        say("recv_small", lambda: consumer.recv_into(bytearray(4), timeout=0))
        say("recv", lambda: consumer.recv(timeout=0))
        say("recv_empty", lambda: consumer.recv(timeout=0))


def arguments(name: str, say: Any) -> None:
    make = shmipc.Producer
    say("no_consumers", lambda: make(name, max_consumers=0))
    say("consumers", lambda: make(name, max_consumers=1025))
    say("overflow", lambda: make(name, overflow="9"))  # type: ignore[arg-type]
    say("dtype", lambda: make(name, dtype="rubbish("))
    say("objects", lambda: make(name, dtype="|O"))
    say("no_field", lambda: make(name, dtype=[]))
    say("empty_name", lambda: make(""))
    say("path", lambda: make("../x"))
    say("long_name", lambda: make("x" * 201))
    with shmipc.Producer(name, capacity=4096) as producer:
        say("kind_0", lambda: producer.send(b"x", kind=0))
        say("kind_65536", lambda: producer.send(b"x", kind=65536))
        say("flags_65536", lambda: producer.send(b"x", flags=65536))
        say("too_large", lambda: producer.send(bytes(4096)))
        say("start", lambda: shmipc.Consumer(name, start="7"))  # type: ignore[arg-type]
        say("latest", lambda: shmipc.Consumer(name, start="latest"))


def threads(name: str, say: Any) -> None:
    with shmipc.Producer(name, capacity=4096):
        consumer = shmipc.Consumer(name, timeout=0)
        first: list[str] = []

        def wait_inside() -> None:
            while not first or first[-1] == "MISUSE":  # the other thread looks in
                try:
                    consumer.recv()
                except ERRORS as error:
                    first.append(name_of(error))

        thread = threading.Thread(target=wait_inside)
        thread.start()
        second = "EMPTY"
        while second == "EMPTY":
            try:
                consumer.recv(timeout=0)
            except ERRORS as error:
                second = name_of(error)

        def raise_first() -> None:
            if first[-1] == "CLOSED":
                raise shmipc.Closed

        say("second", lambda: consumer.read(timeout=0))
        say("close", consumer.close)
        thread.join()
        say("first", raise_first)


def fork(name: str, say: Any) -> None:
    with (
        shmipc.Producer(name, capacity=4096) as producer,
        shmipc.Consumer(name, timeout=0) as consumer,
    ):
        child = os.fork()
        if child == 0:
            right = 0
            for call in (lambda: producer.send(b"x"), lambda: consumer.recv(0)):
                with suppress(RuntimeError):
                    call()
                    right = 1
            os._exit(right)
        status = os.waitpid(child, 0)[1]

        def judge() -> None:
            if status != 0:
                raise OSError("the child could use its parent's handles")

        say("child", judge)
        say("send", lambda: producer.send(b"x", timeout=0))
        say("recv", lambda: consumer.recv(timeout=0))


CASES: dict[str, Callable[[str, Any], None]] = {
    run.__name__: run for run in (closed, order, arguments, threads, fork)
}
