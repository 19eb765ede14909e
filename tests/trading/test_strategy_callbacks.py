"""Callbacks: errors and what comes of them, timers, parameters, who is called at all."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

import shmipc
from desk import accepted, desk, order_of, tick
from helpers import DEADLINE, eventually
from shmipc.trading.events import Bar, EventKind
from shmipc.trading.strategy import BaseStrategy
from shmipc.trading.strategy.timers import MOST_AT_ONCE, NEVER, Timers

pytestmark = pytest.mark.binding


class Fails(BaseStrategy):
    """Raises for each tick with an odd sequence."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[int] = []
        self.told: list[Exception] = []
        self.stopped = 0

    def on_tick(self, tick: Any) -> None:
        self.seen.append(tick.sequence)
        if tick.sequence % 2:
            raise LookupError(tick.sequence)

    def on_error(self, error: Exception) -> None:
        self.told.append(error)

    def on_stop(self) -> None:
        self.stopped += 1


class TestErrors:
    def test_raise_ends_the_run_with_it(self) -> None:
        with desk() as made:
            strategy = Fails("s")
            runtime = made.join(strategy, on_exception="raise")
            for number in range(4):
                made.manager.broadcast_event(tick(sequence=number))
            with pytest.raises(LookupError):
                runtime.run()
            assert strategy.seen == [0, 1]
            assert (strategy.errors, len(strategy.told), strategy.stopped) == (1, 1, 1)
            made.manager.poll()
            [info] = made.manager.list_strategies()
            assert (info.state, info.errors) == ("stopped", 1)

    def test_log_goes_on_with_the_next_event(self, caplog: pytest.LogCaptureFixture) -> None:
        with desk() as made:
            strategy = Fails("s")
            made.join(strategy, on_exception="log")
            for number in range(10):
                made.manager.broadcast_event(tick(sequence=number))
            made.settle()
            assert strategy.seen == list(range(10))
            assert strategy.errors == len(strategy.told) == 5
            assert caplog.text.count("strategy s: a callback raised") == 5

            def told() -> bool:  # a STATUS comes 100 ms after the last
                made.settle()
                return made.manager.list_strategies()[0].errors == 5

            eventually(told)

    def test_stop_ends_the_run_well(self) -> None:
        with desk() as made:
            strategy = Fails("s")
            runtime = made.join(strategy, on_exception="stop")
            for number in range(4):
                made.manager.broadcast_event(tick(sequence=number))
            runtime.run()
            assert strategy.seen == [0, 1]
            assert (strategy.errors, strategy.stopped) == (1, 1)

    def test_an_unknown_policy_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="'ignore'"):
            Fails("s").run(on_exception="ignore")

    @pytest.mark.parametrize(
        "name", ["on_start", "on_connected", "on_order", "on_timer", "on_batch", "on_stop"]
    )
    def test_every_callback_is_under_the_policy(self, name: str) -> None:
        def fail(self: Any, *arguments: Any) -> None:
            raise LookupError

        strategy = type("S", (BaseStrategy,), {name: fail})("s")
        with desk() as made:
            runtime = made.join(strategy, on_exception="log")
            if name == "on_timer":
                strategy.set_timer("a", 1e-6, repeat=False)
            made.manager.broadcast_event(tick())
            made.manager.report("s", order_of())
            time.sleep(0.001)
            made.settle()
            runtime.shut()
            assert strategy.errors == 1
            assert list(strategy.orders) == [1], "the books were right before it was called"

    def test_what_on_error_raises_ends_the_run(self) -> None:
        class Worse(Fails):
            def on_error(self, error: Exception) -> None:
                raise ArithmeticError

        with desk() as made:
            strategy = Worse("s")
            runtime = made.join(strategy, on_exception="log")
            made.manager.broadcast_event(tick(sequence=1))
            with pytest.raises(ArithmeticError):
                runtime.run()

    def test_reports_are_read_although_their_callback_raises(self) -> None:
        class Deaf(BaseStrategy):
            seen = 0

            def on_order(self, order: Any) -> None:
                self.seen += 1
                raise LookupError

        with desk() as made:
            strategy = Deaf("s")
            made.join(strategy, on_exception="log")
            for number in range(1, 4):
                made.manager.report("s", accepted(order_of(client_order_id=number)))
            made.settle()
            assert (strategy.seen, strategy.errors, len(strategy.orders)) == (3, 3, 3)


class TestWhoIsCalled:
    def test_only_what_is_overridden_has_a_handler(self) -> None:
        class Ticks(BaseStrategy):
            def on_tick(self, tick: Any) -> None:
                pass

        class More(Ticks):
            def on_bar(self, bar: Any) -> None:
                pass

        for cls, kinds in (
            (BaseStrategy, []),
            (Ticks, [EventKind.TICK]),
            (More, [EventKind.TICK, EventKind.BAR]),
        ):
            with desk() as made:
                strategy = cls("s")
                runtime = made.join(strategy)
                handlers = runtime._market_handlers()
                assert sorted(handlers) == kinds
                for _, callback in handlers.values():
                    assert callback.__self__ is strategy, "the bound method itself, no wrapper"

    def test_a_callback_set_on_the_instance_counts(self) -> None:
        strategy = BaseStrategy("s")
        seen: list[float] = []
        strategy.on_tick = lambda tick: seen.append(tick.last_price)  # type: ignore[method-assign]
        with desk() as made:
            made.join(strategy)
            made.manager.broadcast_event(tick(price=3.0))
            made.settle()
        assert seen == [3.0]

    def test_a_record_is_ring_memory_and_a_copy_stays(self) -> None:
        class Keeps(BaseStrategy):
            def on_tick(self, tick: Any) -> None:
                self.kept, self.copied = tick, tick.copy()

        with desk() as made:
            strategy = Keeps("s")
            made.join(strategy)
            made.manager.broadcast_event(tick(price=3.0))
            made.settle()
            made.manager.broadcast_event(Bar())
            made.settle()
            assert strategy.copied.last_price == 3.0
            with pytest.raises(ValueError, match="released"):
                _ = strategy.kept.last_price


class TestParameters:
    def test_class_attributes_are_defaults(self) -> None:
        class Sized(BaseStrategy):
            strategy_id = "sized"
            engine = "other"
            symbols = ("BTCUSDT",)
            size = 1.0

        strategy = Sized()
        assert (strategy.strategy_id, strategy.engine, strategy.symbols) == (
            "sized",
            "other",
            ("BTCUSDT",),
        )
        strategy = Sized("mine", engine="e", symbols=["ETHUSDT"], size=2.0)
        assert (strategy.strategy_id, strategy.engine, strategy.symbols, strategy.size) == (
            "mine",
            "e",
            ("ETHUSDT",),
            2.0,
        )
        assert strategy.parameters == {"size": 2.0}
        assert BaseStrategy().strategy_id == "BaseStrategy"
        assert "not connected" in repr(strategy)

    @pytest.mark.parametrize("name", ["nothing", "on_tick", "_runtime", "buy"])
    def test_an_unknown_parameter_is_an_error(self, name: str) -> None:
        with pytest.raises(TypeError, match=name):
            BaseStrategy("s", **{name: 1})

    def test_symbols_are_checked(self) -> None:
        with pytest.raises(TypeError, match=r"not str; did you mean \('BTCUSDT',\)\?"):
            BaseStrategy("s", symbols="BTCUSDT")
        with pytest.raises(ValueError, match="16 bytes"):
            BaseStrategy("s", symbols=["A" * 16])


class TestTimers:
    def test_they_come_when_due_with_name_and_count(self) -> None:
        class Ticks(BaseStrategy):
            def on_start(self) -> None:
                self.got: list[tuple[str, int, int]] = []
                self.set_timer("often", 0.01)
                self.set_timer("once", 0.025, repeat=False)

            def on_timer(self, timer: Any) -> None:
                self.got.append((timer.name, timer.count, timer.interval_ns))
                names = [name for name, _, _ in self.got]
                if timer.name == "often" and timer.count == 5:
                    assert self.cancel_timer("often")
                    assert not self.cancel_timer("often")
                if names.count("often") == 5 and "once" in names:
                    self.stop()

        with desk() as made:
            strategy = Ticks("s")
            runtime = made.join(strategy)
            began = time.monotonic()
            runtime.run()
            assert time.monotonic() - began >= 0.04
            often = [count for name, count, _ in strategy.got if name == "often"]
            assert often == [1, 2, 3, 4, 5]
            assert strategy.got.count(("once", 1, 25_000_000)) == 1

    def test_a_flood_of_events_does_not_keep_them_waiting(self) -> None:
        class Slow(BaseStrategy):
            ticks = 0
            ticks_at_first_timer = -1

            def on_start(self) -> None:
                self.set_timer("t", 0.01, repeat=False)

            def on_tick(self, tick: Any) -> None:
                self.ticks += 1
                time.sleep(0.001)

            def on_timer(self, timer: Any) -> None:
                self.ticks_at_first_timer = self.ticks
                self.stop()

        with desk() as made:
            strategy = Slow("s")
            runtime = made.join(strategy)
            for _ in range(2000):
                made.manager.broadcast_event(tick())
            runtime.run()
            assert 0 <= strategy.ticks_at_first_timer <= 200

    def test_bad_timers_are_errors(self) -> None:
        timers = Timers()
        for seconds in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="timer"):
                timers.set("a", seconds, 0)
        with pytest.raises(ValueError, match="timer"):
            timers.set("a" * 16, 1.0, 0)
        with pytest.raises(TypeError, match="name"):
            timers.set(5, 1.0, 0)  # type: ignore[arg-type]
        assert (len(timers), timers.next_ns) == (0, NEVER)

    def test_a_late_one_skips_what_it_missed_unless_it_is_to_catch_up(self) -> None:
        for catch_up, fired in ((False, 1), (True, 5)):
            timers = Timers(catch_up=catch_up)
            timers.set("a", 1e-9 * 10, 0)
            count = 0
            while timers.pop_due(55):
                count += 1
            assert count == fired
            assert timers.next_ns > 55

    def test_periods_that_were_passed_over_are_told_once(self) -> None:
        late = Timers()
        late.set("a", 1e-9 * 10, 0)
        found = [late.pop_due(now) for now in (10, 57, 67)]
        assert [due and due.passed_over for due in found] == [0, 3, 0]  # 30, 40 and 50
        assert [due and due.count for due in found] == [1, 2, 3]

    def test_a_clock_that_jumps_by_too_many_periods_fires_once(self) -> None:
        jump = (MOST_AT_ONCE + 1) * 10
        for stepped in (False, True):
            timers = Timers(catch_up=True)
            timers.set("a", 1e-9 * 10, 0)
            timers.set("once", 1e-9 * 20, 0, repeat=False)
            if stepped:
                timers.pass_over(10 + jump)
            found = {}
            while (due := timers.pop_due(10 + jump)) is not None:
                assert due.name not in found
                found[due.name] = due
            assert found["a"].passed_over == MOST_AT_ONCE + 1
            assert found["once"].passed_over == 0
            assert timers.next_ns == 20 + jump

    def test_replacing_one_starts_it_anew(self) -> None:
        timers = Timers()
        timers.set("a", 1e-9 * 10, 0)
        timers.set("b", 1e-9 * 30, 0)
        timers.set("a", 1e-9 * 20, 5)
        assert len(timers) == 2
        due = [timers.pop_due(at) for at in (10, 25, 30)]
        assert [found and found.name for found in due] == [None, "a", "b"]


def test_the_package_exports_it_without_importing_numpy_first() -> None:
    assert shmipc.BaseStrategy is BaseStrategy
    assert {"BaseStrategy", "StrategyManager", "run_backtest"} <= set(dir(shmipc))
    with pytest.raises(AttributeError, match="nothing"):
        _ = shmipc.nothing
    code = "import shmipc, sys; assert 'numpy' not in sys.modules; shmipc.StrategyManager"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE)
