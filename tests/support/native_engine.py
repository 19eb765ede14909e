"""examples/engine.cpp for tests: built with sanitizers, run, and met by a strategy made by hand.

A capture that stands still: a marker, then more equal ticks than the ring of events holds. The
engine waits for room in the middle of them, and takes orders meanwhile, so a test that holds back
its reading decides what the market shows.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from captures import line
from helpers import DEADLINE
from shmipc import Consumer, Empty, Producer
from shmipc.trading.events import EventKind, Order, OrderStatus
from shmipc.trading.events.dtypes import VERSION
from shmipc.trading.strategy import BaseStrategy
from shmipc.trading.strategy.protocol import (
    CONTROL_TYPES,
    REPORT_TYPES,
    Bye,
    Control,
    Hello,
    events_ring,
    market_types,
    orders_ring,
    reports_ring,
)
from toolchain import (
    C_WARNINGS,
    INCLUDE,
    NATIVE_ENV,
    build_library,
    build_with,
    c_compiler,
    compile_with,
    cxx_compilers,
    installed_library,
)

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "engine.cpp"
NAME = "native"
SMALL = 4096  # bytes of a ring of events that soon is full
Start = Callable[..., "NativeEngine"]
HOUR = 3600 * 10**9
FILLERS = 64  # more ticks than fit in it


_FOLDER = TemporaryDirectory(prefix="shmipc-engine-")  # goes with this process


@cache
def _library() -> Path:
    installed, cc = installed_library(), c_compiler()
    if not cxx_compilers() or (installed is None and cc is None):
        pytest.skip("no C++ compiler, or no C compiler for libshmipc.so: install gcc and g++")
    return installed or build_library(str(cc), Path(_FOLDER.name))


@cache
def engine_program(*, sanitized: bool) -> Path:
    """Compile the engine, once; with sanitizers, if asked for and the compiler has them."""
    library, folder = _library(), Path(_FOLDER.name)
    cxx, target = cxx_compilers()[0], folder / f"engine-{sanitized}"
    flags = ["-O1"]
    if sanitized:
        probe = folder / "probe.cpp"
        probe.write_text("int main() { return 0; }\n")
        flags = ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        try:
            compile_with(cxx, *flags, probe, "-o", target)
        except AssertionError:
            flags = ["-O0"]
    flags += ["-std=c++17", *C_WARNINGS, f"-I{INCLUDE}"]
    return build_with(cxx, flags, [SOURCE], target, library, f"-Wl,-rpath,{library.parent}")


@contextmanager
def engines(*, sanitized: bool = True) -> Iterator[Start]:
    """Start engines: a function of a capture and options. None outlives the with block."""
    program = engine_program(sanitized=sanitized)
    running: list[NativeEngine] = []

    def call(path: Path, *options: object) -> NativeEngine:
        running.append(NativeEngine(program, path, *options))
        return running[-1]

    try:
        yield call
    finally:
        for engine in running:
            engine.end()


class NativeEngine:
    """A running engine. It must end well, and say nothing on stderr but what a test asks for."""

    def __init__(self, program: Path, capture: Path, *options: object, name: str = NAME) -> None:
        command = [str(program), name, str(capture), *map(str, options)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**NATIVE_ENV, "SHMIPC_DIR": os.environ["SHMIPC_DIR"]},
        )

    def finish(self, stderr: str = "", status: int = 0) -> str:
        """Wait for its end; what it printed."""
        out, err = self.process.communicate(timeout=DEADLINE)
        assert (self.process.returncode, err) == (status, stderr), err
        return out

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        return self.finish()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE)

    def end(self) -> None:
        """Whatever the test came to: it is gone, and so are its pipes."""
        self.process.kill()
        self.process.wait(DEADLINE)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


class Hand:
    """A strategy in this process that does what a test tells it, right or wrong."""

    def __init__(self, strategy_id: str = "hand", name: str = NAME) -> None:
        self.reports = Consumer(reports_ring(name, strategy_id), timeout=DEADLINE)
        self.orders = Producer(orders_ring(name, strategy_id), capacity=1 << 20, max_consumers=1)
        self.events = Consumer(events_ring(name), start="latest", timeout=DEADLINE)
        self.welcome: Any = None
        self.read = 0  # events

    def hello(self, version: int = VERSION, session: int = 7) -> None:
        slot = self.events.slot
        hello = Hello(session=session, pid=os.getpid(), slot=slot, version=version)
        self.orders.send(hello, kind=Control.HELLO)

    def hear(self) -> tuple[int, int, Any]:
        """The next report: kind, flags, a record of its own."""
        with self.reports.read(timeout=DEADLINE) as frame:
            made = {**CONTROL_TYPES, **REPORT_TYPES, **market_types(10, {})}[frame.kind]
            return frame.kind, frame.flags, made(bytes(frame))

    def join(self, **options: Any) -> list[tuple[int, int, Any]]:
        """Say HELLO; return the answer's messages."""
        self.hello(**options)
        said = [self.hear()]
        while said[-1][0] not in (Control.SNAPSHOT_END, Control.REFUSED):
            said.append(self.hear())
        if said[-1][0] == Control.SNAPSHOT_END:
            [self.welcome] = [record for kind, _, record in said if kind == Control.WELCOME]
        return said

    def send(self, **fields: Any) -> None:
        """Send an order: a limit order to buy 1 at 10, but for `fields`."""
        whole = {"symbol": "XYUSDT", "client_order_id": 1, "price": 10.0, "quantity": 1.0}
        whole |= {"side": 1, "order_type": 2, "time_in_force": 1, "status": 1, "action": 1}
        self.orders.send(Order(**{**whole, **fields}), kind=EventKind.ORDER)

    def told(self, until: Callable[[Any], bool] | None = None) -> list[Any]:
        """Reports up to the Order for which `until` holds (the first), without accounts."""
        found = []
        while True:
            kind, _, record = self.hear()
            if kind != EventKind.ACCOUNT:
                found.append(record)
            if kind == EventKind.ORDER and (until is None or until(record)):
                return found

    def ask(self, **fields: Any) -> Any:
        """Send an order; the first that is reported of it."""
        self.send(**fields)
        return self.told()[-1]

    def silence(self) -> None:
        """Nothing more is reported: a cancellation of nothing is answered first."""
        answer = self.ask(action=2, client_order_id=1 << 40)
        assert answer.text == "unknown order"

    def market(self, marker: int) -> None:
        """Let the market go on to marker number `marker`, and no further than to its fillers."""
        end = time.monotonic() + DEADLINE
        wanted = 1 + marker * (FILLERS + 1)
        while self.read + self.events.pending < wanted:
            try:
                with self.events.read(timeout=0.01):
                    self.read += 1
            except Empty:
                assert time.monotonic() < end, "the market stands still"

    def close(self) -> None:
        for ring in (self.events, self.orders, self.reports):
            ring.close()

    def leave(self) -> None:
        self.orders.send(Bye(session=7), kind=Control.BYE)
        self.close()


def quote(bid: float, bid_size: float, ask: float, ask_size: float) -> dict[str, Any]:
    """Best bid and ask; `still_market` adds the rest."""
    touch = {"b": f"{bid:.2f}", "B": f"{bid_size:.3f}", "a": f"{ask:.2f}", "A": f"{ask_size:.3f}"}
    return {"e": "bookTicker", **touch}


def hit(price: float, size: float, *, sell: bool) -> dict[str, Any]:
    """A trade of the market, and who took."""
    return {"e": "trade", "p": f"{price:.2f}", "q": f"{size:.3f}", "X": "MARKET", "m": sell}


def still_market(path: Path, *markers: dict[str, Any], pause: bool = False) -> Path:
    """Write a capture whose market stands still after each marker; the first is a quote.

    pause: its last event comes an hour after the others.
    """
    lines = []
    last: dict[str, Any] = {}
    for marker in markers:
        last = marker if "b" in marker else last
        for data in (marker, *[last] * FILLERS):
            number = len(lines) + 1
            more = {"s": "XYUSDT", "T": 1000, "u": number, "t": number}
            lines.append(line(data["e"], {**data, **more}, 10**18))
    if pause:
        lines.append(line("bookTicker", {**last, "s": "XYUSDT", "T": 1000, "u": 0}, 10**18 + HOUR))
    path.write_bytes(b"\n".join(lines))
    return path


# ---- strategies for other processes --------------------------------------------------------------


class Recorder(BaseStrategy):
    """Says at the end how many events it got, and a digest of their bytes in order."""

    timeout = DEADLINE
    count = 0

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.digest = hashlib.blake2b(digest_size=16)

    def on_tick(self, event: Any) -> None:
        self.count += 1
        self.digest.update(bytes(event))

    on_trade_tick = on_order_book = on_tick

    def on_stop(self) -> None:
        print(self.count, self.digest.hexdigest(), self.lost, flush=True)


class Buyer(BaseStrategy):
    """Buys once at the ask, and says what it is told of it."""

    timeout = DEADLINE

    def on_start(self) -> None:
        self.wanted = True

    def on_tick(self, tick: Any) -> None:
        if self.wanted:
            self.wanted = False
            self.buy(tick.symbol, 1.5, tick.ask_price, client_order_id=5)

    def on_order(self, order: Any) -> None:
        print("order", OrderStatus(order.status).name, order.filled_quantity, flush=True)

    def on_trade(self, trade: Any) -> None:
        held = self.positions[trade.symbol].quantity
        print("trade", trade.price, trade.quantity, held, flush=True)

    def on_position(self, position: Any) -> None:
        print("position", position.quantity, position.average_price, flush=True)

    def on_account(self, account: Any) -> None:
        print("account", account.symbol, round(account.balance, 6), flush=True)
