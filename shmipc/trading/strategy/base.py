"""BaseStrategy: what a user subclasses.

Rules this file keeps:

- A subclass needs no ``__init__``: class attributes are the defaults, ``symbols`` among them, and
  keyword arguments of the constructor change them.
- What is wrong with a subclass is found when it is made, or when it starts (checks.py).
- What is public here is for users; what begins with an underscore is for the runtime.
- A record that a callback gets is ring memory: it is valid until the callback returns, and
  ``.copy()`` keeps it. Arrays of :meth:`BaseStrategy.on_batch` and records of ``orders``,
  ``positions`` and ``snapshot`` stay.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shmipc.trading.events import (
    Account,
    Bar,
    Order,
    OrderBook,
    Position,
    Tick,
    Timer,
    Trade,
    TradeTick,
    encode_symbol,
)
from shmipc.trading.strategy.checks import check_class, check_object, check_parameter, check_symbols
from shmipc.trading.strategy.command import run_class
from shmipc.trading.strategy.orders import OrderEntry
from shmipc.trading.strategy.protocol import check_custom, check_id
from shmipc.trading.strategy.runtime import POLICIES, Runtime
from shmipc.trading.strategy.session import Session, Snapshot

__all__ = ["BaseStrategy"]


class BaseStrategy(OrderEntry):
    """A trading strategy: override the callbacks you want, and :meth:`run` it.

    ::

        class Momentum(BaseStrategy):
            symbols = ("BTCUSDT",)
            size = 0.01

            def on_tick(self, tick):
                if tick.last_price > tick.open_price and not self.orders:
                    self.buy(tick.symbol, self.size, tick.ask_price)

        if __name__ == "__main__":
            Momentum.main()

    Events of kinds without a callback, and of other symbols, are skipped before they reach Python.
    """

    #: Whose events and where orders go: a StrategyManager of this name.
    engine: str = "engine"
    #: The name the engine knows this strategy by. None: the class's name.
    strategy_id: str = None  # type: ignore[assignment]
    #: The symbols whose events are wanted. None: all that the engine has.
    symbols: Sequence[str] | None = None
    #: Events of one's own: kind -> dtype or record type. They come to :meth:`on_custom`.
    custom: ClassVar[Mapping[int, Any]] = {}
    #: What an exception in a callback comes to, after :meth:`on_error`: "raise" ends run() with
    #: it, "log" goes on, "stop" ends run().
    on_exception: str = "raise"
    #: The CPU to run on. None: any.
    cpu: int | None = None
    #: Seconds to poll before sleeping; 0 sleeps at once, inf never does. None: about 20 us.
    spin: float | None = None
    #: Seconds to wait for the engine, at first and whenever it dies. None: for ever.
    timeout: float | None = None
    #: Bytes of the ring that takes orders to the engine; one takes 144.
    order_capacity: int = 1 << 20

    _runtime: Runtime | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_class(cls, BaseStrategy)

    def __init__(
        self,
        strategy_id: str | None = None,
        *,
        engine: str | None = None,
        symbols: Iterable[str] | None = None,
        **parameters: Any,
    ) -> None:
        """`parameters` replace class attributes of those names; one that is only annotated
        (``size: int``) is a parameter too.

        Raises ValueError for names and symbols that are none, TypeError for a parameter that the
        class does not have.
        """
        cls = type(self)
        self.strategy_id = check_id(strategy_id or cls.strategy_id or cls.__name__, "a strategy")
        self.engine = check_id(engine or cls.engine, "an engine")
        self.symbols = check_symbols(cls.symbols if symbols is None else symbols)
        for symbol in self.symbols or ():
            encode_symbol(symbol)
        for name, value in parameters.items():
            check_parameter(cls, BaseStrategy, name)
            setattr(self, name, value)
        #: As given to the constructor.
        self.parameters = parameters
        #: Exceptions that callbacks raised.
        self.errors = 0
        #: Events overwritten before they were read, where the engine does not wait.
        self.lost = 0
        #: In :meth:`on_timer`: periods of this timer that ended since its last call, or since it
        #: was set, and that it was not called for.
        self.timer_passed_over = 0
        #: How things stood at the last joining.
        self.snapshot = Snapshot()
        self._custom_types = check_custom(cls.custom)
        self._runtime = None
        self._reset_orders()

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        return f"<{type(self).__name__} {self.strategy_id!r} of engine {self.engine!r}, {state}>"

    # ---- callbacks -----------------------------------------------------------------------------

    def on_start(self) -> None:
        """Once, when the engine is joined for the first time; books and snapshot are filled."""

    def on_stop(self) -> None:
        """Once, at the end. Orders can still be sent."""

    def on_connected(self) -> None:
        """The engine is joined: before on_start, and again after it was away."""

    def on_disconnected(self) -> None:
        """The engine has died (it is joined again when it is back) or has closed."""

    def on_tick(self, tick: Tick) -> None:
        """A Tick. ``on_ticker`` will do as well."""

    def on_ticker(self, tick: Tick) -> None:
        """A Tick, for a strategy that has no on_tick."""

    def on_trade_tick(self, trade_tick: TradeTick) -> None:
        """A TradeTick: a trade of the market."""

    def on_order_book(self, book: OrderBook) -> None:
        """An OrderBook."""

    def on_bar(self, bar: Bar) -> None:
        """A Bar."""

    def on_custom(self, event: Any) -> None:
        """A Custom, or a record of a kind of one's own (``custom``)."""

    def on_batch(self, kind: int, records: NDArray[np.void]) -> None:
        """All market events of one kind that are ready, as one structured array.

        A strategy that has this gets every market event here, in no other callback.
        """

    def on_order(self, order: Order) -> None:
        """An Order: what became of an order of this strategy. ``orders`` knows it already."""

    def on_trade(self, trade: Trade) -> None:
        """A Trade: a fill. ``positions`` knows it already."""

    def on_account(self, account: Account) -> None:
        """An Account."""

    def on_position(self, position: Position) -> None:
        """A Position, as the engine has it."""

    def on_timer(self, timer: Timer) -> None:
        """A Timer that :meth:`set_timer` set has come due. It is called once for periods that it
        missed (in a backtest for each, up to a million): ``timer_passed_over`` says how many.
        """

    def on_lost(self, count: int) -> None:
        """`count` events more were overwritten before this strategy read them."""

    def on_error(self, error: Exception) -> None:
        """A callback raised `error`; ``on_exception`` says what comes next."""

    # ---- timers and time -----------------------------------------------------------------------

    def set_timer(self, name: str, seconds: float, *, repeat: bool = True) -> None:
        """Have :meth:`on_timer` called every `seconds`, or once; replaces one of this name."""
        runtime = self._running()
        runtime.timers.set(name, seconds, runtime.timer_clock(), repeat)

    def cancel_timer(self, name: str) -> bool:
        """Stop a timer. False: there is none of that name."""
        return self._running().timers.cancel(name)

    def time_ns(self) -> int:
        """What time it is, in ns since 1970; in a backtest, the time of the event."""
        return self._now()

    # ---- running -------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Is the engine joined?"""
        return self._runtime is not None and self._runtime.connected

    def run(
        self,
        cpu: int | None = None,
        spin: float | None = None,
        timeout: float | None = None,
        on_exception: str | None = None,
    ) -> None:
        """Join the engine and dispatch its events, until stop(), SIGINT, SIGTERM or its end.

        What is None is taken from the attribute of that name. Raises NotFound where no engine, or
        none that knows this strategy, is there within `timeout` seconds, Busy where another
        process runs under this id, Error where the engine refuses, and what a callback raised.
        """
        with (
            self._run_as(
                self.spin if spin is None else spin,
                self.timeout if timeout is None else timeout,
                self.on_exception if on_exception is None else on_exception,
            ) as runtime,
            _pinned(self.cpu if cpu is None else cpu),
            _stopped_by_signals(runtime),
        ):
            runtime.run()

    def stop(self) -> None:
        """End run() after the callback that is running now. From any thread or signal handler."""
        if self._runtime is not None:
            self._runtime.stop()

    @classmethod
    def main(cls, argv: Sequence[str] | None = None) -> int:
        """Run as a program: ``--help`` tells its arguments. Returns the exit status."""
        return run_class(cls, argv)

    # ---- for the runtime -----------------------------------------------------------------------

    @contextmanager
    def _run_as(
        self,
        spin: float | None,
        timeout: float | None,
        on_exception: str,
        clock: Callable[[], int] | None = None,
    ) -> Iterator[Runtime]:
        """Have a runtime, and fresh books, within a with block."""
        check_object(self, BaseStrategy)
        if self._runtime is not None:
            raise RuntimeError(f"strategy {self.strategy_id!r} runs already")
        if on_exception not in POLICIES:
            raise ValueError(f"on_exception is one of {', '.join(POLICIES)}, not {on_exception!r}")
        self.errors = self.lost = 0
        self.snapshot = Snapshot()
        self._reset_orders()
        if clock is not None:
            self._now = clock
        self._runtime = Runtime(
            self, spin=spin, timeout=timeout, on_exception=on_exception, clock=clock
        )
        try:
            yield self._runtime
        finally:
            self._runtime = None

    def _running(self) -> Runtime:
        if self._runtime is None:
            raise RuntimeError("this strategy is not running: timers are set from its callbacks")
        return self._runtime

    def _take_snapshot(self, session: Session, asked_with: frozenset[int]) -> list[Any]:
        """Make the engine's word ours. Returns the orders that it does not know.

        `asked_with`: the orders that were open when we asked; later ones it cannot know yet.
        """
        self.snapshot = session.snapshot
        self.instruments = session.instruments
        self._pad.forget()  # the instruments may be others
        known = self.snapshot.orders
        forgotten = [
            self.orders.pop(client_order_id)
            for client_order_id in list(self.orders)
            if client_order_id in asked_with and client_order_id not in known
        ]
        self.orders.update(known)
        self.positions.update(self.snapshot.positions)
        if self.snapshot.account is not None:
            self.account = self.snapshot.account
        return forgotten

    def _attach(self, session: Session, dispatcher: Any, clock: Callable[[], int]) -> None:
        """Let orders be sent."""
        assert session.orders is not None
        self._attach_ring(session.orders, dispatcher, clock)


@contextmanager
def _pinned(cpu: int | None) -> Iterator[None]:
    """Run this thread on `cpu` only, where one is given."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _stopped_by_signals(runtime: Runtime) -> Iterator[None]:
    """SIGINT and SIGTERM stop the run. A second SIGINT is a KeyboardInterrupt, wherever it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if runtime.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        runtime.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
