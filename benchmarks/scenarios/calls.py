"""What one `send` and one `recv` of 64 bytes cost in one process, beside calls that do nothing.

    calls.py BUILD_DIR [--share S] [--without-shmipc]

The same loop runs over four bodies, in turns, many times within this process: two METH_NOARGS
calls; one FASTCALL call with the message and one METH_NOARGS call, which is the shape of a send
and a recv; the send and recv themselves, of a message ring; and those of a typed ring. A figure
is the median over the turns of nanoseconds per pass of the loop. Before the clock runs, every
message of one full cycle is sent, received and compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import common

TURNS = 25
PASSES = 8_000


def load_empty(directory: Path) -> Any:
    """The extension type whose methods do nothing."""
    (path,) = directory.glob("emptycall*.so")
    spec = importlib.util.spec_from_file_location("emptycall", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Empty()


def two_noargs(call: Callable[[], Any], _: Any, due: list[bytes]) -> int:
    """Time the loop with two calls without arguments."""
    then = time.perf_counter_ns()
    for _message in due:
        call()
        call()
    return time.perf_counter_ns() - then


def one_and_one(send: Callable[[bytes], Any], receive: Callable[[], Any], due: list[bytes]) -> int:
    """Time the loop with one call that takes the message and one that takes nothing."""
    then = time.perf_counter_ns()
    for message in due:
        send(message)
        receive()
    return time.perf_counter_ns() - then


def rings() -> dict[str, tuple[Callable[[bytes], Any], Callable[[], Any]]]:
    """send and recv of a message ring and of a typed ring, checked."""
    import shmipc

    found: dict[str, tuple[Callable[[bytes], Any], Callable[[], Any]]] = {}
    for kind, options in (
        ("message", {"capacity": 1 << 16}),
        ("typed", {"dtype": "<u8", "shape": (8,), "capacity": 1024}),
    ):
        producer = shmipc.Producer(f"calls-{kind}", **options)
        consumer = shmipc.Consumer(f"calls-{kind}")
        for message in common.PAYLOADS:
            producer.send(message)
            if bytes(consumer.recv()) != message:
                raise common.Wrong("a message came back changed")
        found[kind] = (producer.send, consumer.recv)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--without-shmipc", action="store_true")
    options = parser.parse_args()
    common.pin(common.PRODUCER)
    empty = load_empty(options.build)
    bodies: dict[str, tuple[Any, Any, Any]] = {
        "noargs": (two_noargs, empty.noargs, None),
        "shape": (one_and_one, empty.fast, empty.noargs),
    }
    if not options.without_shmipc:
        for kind, (send, receive) in rings().items():
            bodies[kind] = (one_and_one, send, receive)
    due = list(common.messages(PASSES))
    samples: dict[str, list[float]] = {name: [] for name in bodies}
    common.quiet()
    for _ in range(max(5, int(TURNS * options.share))):
        for name, (loop, first, second) in bodies.items():
            samples[name].append(loop(first, second, due) / PASSES)
    common.emit(**{f"{name}_ns": statistics.median(taken) for name, taken in samples.items()})


if __name__ == "__main__":
    main()
