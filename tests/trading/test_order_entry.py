"""The plain order in C: the same as from Python, seen by whoever overrides, and nothing leaks."""

from __future__ import annotations

import copy
import gc
import inspect
import itertools
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from desk import Desk, accepted, desk, tick
from shmipc import Full, Producer
from shmipc._core import OrderMethod, OrderPad, Outlet
from shmipc.trading.events import EventKind, Order, OrderStatus, Side
from shmipc.trading.strategy import BaseStrategy
from shmipc.trading.strategy.orders import OrderEntry

pytestmark = pytest.mark.binding


class Trader(BaseStrategy):
    def on_order(self, order: Any) -> None:
        """Overridden, so that the runtime calls it."""


@pytest.fixture
def floor() -> Iterator[tuple[Desk, Trader]]:
    with desk(instruments=["BTCUSDT", "ETHUSDT"]) as made:
        trader = Trader("trader")
        made.join(trader)
        yield made, trader


def in_python(name: str) -> Callable[..., int]:
    """The method without its shortcut."""
    function: Callable[..., int] = getattr(OrderEntry, name).__wrapped__
    return function


def without_stamps(order: Any) -> bytes:
    order = order.copy()
    order.client_order_id = order.ts_event = order.ts_init = 0
    return bytes(order)


def warm(trader: BaseStrategy) -> None:
    """Have a form for each plain order of BTCUSDT, and nothing open."""
    for side, price in itertools.product(Side, (None, 1.0)):
        if side:
            trader._prepare("BTCUSDT", side, price, None, None)


def count_python_calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each call of send_order that Python sees."""
    calls: list[Any] = []
    function = in_python("send_order")

    def counted(*args: Any, **kwargs: Any) -> int:
        calls.append((args, kwargs))
        return function(*args, **kwargs)

    counted.__name__ = "send_order"
    method = OrderMethod(counted)
    method.__set_name__(OrderEntry, "send_order")  # type: ignore[attr-defined]
    monkeypatch.setattr(OrderEntry, "send_order", method)
    return calls


class TestAsFromPython:
    @pytest.mark.parametrize("price", [None, 100.5, 7, -0.5, 0])
    @pytest.mark.parametrize("quantity", [1.0, 3, 1e-9, 1 << 70])
    @pytest.mark.parametrize("side", [1, -1, Side.BUY, Side.SELL])
    def test_the_same_bytes_go_out(
        self,
        floor: tuple[Desk, Trader],
        monkeypatch: pytest.MonkeyPatch,
        side: int,
        quantity: float,
        price: float | None,
    ) -> None:
        made, trader = floor
        warm(trader)
        general = in_python("send_order")
        calls = count_python_calls(monkeypatch)
        first = trader.send_order("BTCUSDT", side, quantity, price)
        assert calls == []
        second = general(trader, "BTCUSDT", side, quantity, price)
        assert second == first + 1
        made.settle()
        (_, ours), (_, theirs) = made.orders
        assert without_stamps(ours) == without_stamps(theirs)
        assert (ours.client_order_id, theirs.client_order_id) == (first, second)
        assert ours.ts_init <= theirs.ts_init
        assert trader.orders == {first: ours, second: theirs}

    def test_buy_and_sell_are_orders_of_a_side(
        self, floor: tuple[Desk, Trader], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made, trader = floor
        warm(trader)
        calls = count_python_calls(monkeypatch)
        trader.buy("BTCUSDT", 1.0, 2.0)
        trader.sell("BTCUSDT", 3.0)
        trader.sell(symbol="BTCUSDT", price=4.0, quantity=5)
        trader.buy("BTCUSDT", price=None, quantity=6.0, order_type=None, time_in_force=None)
        assert calls == []
        made.settle()
        assert [(o.side, o.quantity, o.order_type) for _, o in made.orders] == [
            (1, 1.0, 2),
            (-1, 3.0, 1),
            (-1, 5.0, 2),
            (1, 6.0, 1),
        ]

    @pytest.mark.parametrize(
        "options", [{"order_type": 2}, {"time_in_force": 3}, {"client_order_id": 9}]
    )
    def test_an_order_with_options_is_pythons(
        self,
        floor: tuple[Desk, Trader],
        monkeypatch: pytest.MonkeyPatch,
        options: dict[str, int],
    ) -> None:
        made, trader = floor
        warm(trader)
        calls = count_python_calls(monkeypatch)
        number = trader.buy("BTCUSDT", 1.0, 2.0, **options)  # type: ignore[arg-type]
        assert len(calls) == 1
        made.settle()
        order = made.orders[0][1]
        assert {name: order[name] for name in options} == options
        assert order.client_order_id == number

    @pytest.mark.parametrize(
        ("error", "arguments"),
        [
            (TypeError, ()),
            (TypeError, ("BTCUSDT",)),
            (TypeError, ("BTCUSDT", 1.0, 2.0, 3.0)),
            (TypeError, ("BTCUSDT", "1", 2.0)),
            (TypeError, ("BTCUSDT", 1.0, "2")),
            (TypeError, (5, 1.0, 2.0)),
            (ValueError, ("DOGEUSDT", 1.0, 2.0)),
            (ValueError, ("BTCUSDT", 0.0, 2.0)),
            (ValueError, ("BTCUSDT", float("nan"), 2.0)),
            (ValueError, ("BTCUSDT", 1.0, float("inf"))),
            (ValueError, ("BTCUSDT", -1, 2.0)),
            (OverflowError, ("BTCUSDT", 10**400, 2.0)),
            (OverflowError, ("BTCUSDT", 1.0, 10**400)),
        ],
    )
    def test_what_is_refused_is_refused_in_the_same_words(
        self, floor: tuple[Desk, Trader], error: type[Exception], arguments: tuple[Any, ...]
    ) -> None:
        made, trader = floor
        warm(trader)
        with pytest.raises(error) as ours:
            trader.buy(*arguments)
        with pytest.raises(error) as theirs:
            in_python("buy")(trader, *arguments)
        assert str(ours.value) == str(theirs.value)
        with pytest.raises(TypeError, match="colour"):
            trader.buy("BTCUSDT", 1.0, 2.0, colour=5)  # type: ignore[call-arg]
        assert trader.orders == {}
        made.settle()
        assert made.orders == []

    def test_a_full_ring_is_full_and_nothing_is_kept(self) -> None:
        with desk() as made:
            trader = Trader("trader", order_capacity=4096)
            made.join(trader)
            sent = []
            with pytest.raises(Full, match="BTCUSDT: the engine is behind"):  # noqa: PT012
                while True:
                    sent.append(trader.sell("BTCUSDT", 1.0, 1.0))
            assert list(trader.orders) == sent

    def test_who_is_not_running_sends_nothing(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        warm(trader)
        made.runtimes["trader"].shut()
        with pytest.raises(RuntimeError, match="not running"):
            trader.buy("BTCUSDT", 1.0, 1.0)
        assert trader.orders == {}

    def test_forms_end_with_the_instruments(self, floor: tuple[Desk, Trader]) -> None:
        _, trader = floor
        warm(trader)
        trader.buy("BTCUSDT", 1.0, 1.0)
        session = trader._runtime.session  # type: ignore[union-attr]
        session.instruments = {"ETHUSDT": None}
        trader._take_snapshot(session, frozenset())
        for price in (None, 1.0):
            with pytest.raises(ValueError, match="unknown symbol 'BTCUSDT'"):
                trader.buy("BTCUSDT", 1.0, price)


class TestOverriding:
    def test_a_subclass_sees_every_order_with_all_its_arguments(self) -> None:
        class Careful(Trader):
            def send_order(self, *args: Any, **kwargs: Any) -> int:
                seen.append((args, kwargs))
                return super().send_order(*args, **kwargs)

        seen: list[Any] = []
        options = dict.fromkeys(("order_type", "time_in_force", "client_order_id"))
        with desk() as made:
            trader = Careful("trader")
            made.join(trader)
            warm(trader)
            numbers = [trader.buy("BTCUSDT", 1.0, 2.0), trader.sell("BTCUSDT", quantity=3.0)]
            assert seen == [
                (("BTCUSDT", 1, 1.0, 2.0), options),
                (("BTCUSDT", -1, 3.0, None), options),
            ]
            made.settle()
            assert [o.client_order_id for _, o in made.orders] == numbers

    def test_so_does_an_instance(self, floor: tuple[Desk, Trader]) -> None:
        _, trader = floor
        warm(trader)
        trader.send_order = lambda *args, **kwargs: 77  # type: ignore[method-assign]
        assert trader.buy("BTCUSDT", 1.0, 2.0) == 77
        del trader.send_order
        assert trader.buy("BTCUSDT", 1.0, 2.0) > 77

    def test_buy_may_be_overridden_too(self) -> None:
        class Small(Trader):
            def buy(self, symbol: str, quantity: float, *args: Any, **kwargs: Any) -> int:
                return super().buy(symbol, min(quantity, 1.0), *args, **kwargs)

        with desk() as made:
            trader = Small("trader")
            made.join(trader)
            for _ in range(2):
                trader.buy("BTCUSDT", 5.0, 2.0)
            made.settle()
            assert [o.quantity for _, o in made.orders] == [1.0, 1.0]

    def test_a_method_tells_what_the_function_is(self) -> None:
        for name in ("send_order", "buy", "sell"):
            method, function = getattr(BaseStrategy, name), in_python(name)
            assert isinstance(method, OrderMethod)
            assert inspect.signature(method) == inspect.signature(function)
            bound = getattr(BaseStrategy("x"), name)
            assert next(iter(inspect.signature(bound).parameters)) == "symbol"
            assert inspect.getdoc(method) == inspect.getdoc(bound) == inspect.getdoc(function)
            assert method.__name__ == bound.__name__ == name
            assert method.__qualname__ == f"OrderEntry.{name}"
            assert method.__module__ == "shmipc.trading.strategy.orders"
            assert inspect.unwrap(method) is function
            assert name in repr(method)


class TestReentry:
    def test_a_report_may_be_answered_by_an_order(self) -> None:
        class Chain(Trader):
            def on_tick(self, record: Any) -> None:
                self.buy(record.symbol, 1.0, record.last_price)

            def on_order(self, order: Any) -> None:
                if order.status == OrderStatus.ACCEPTED and order.price < 10.0:
                    self.sell(order.symbol, order.quantity, order.price + 1.0)

        with desk() as made:
            made.join(Chain("chain"))
            made.answer = lambda who, order: made.manager.report(who, accepted(order))
            made.manager.broadcast_event(tick(price=1.0))
            made.settle()
            prices = [order.price for _, order in made.orders]
            assert prices == [float(price) for price in range(1, 11)]
            assert len({order.client_order_id for _, order in made.orders}) == 10

    def test_a_clock_may_send(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        warm(trader)
        depth = 0

        def clock() -> int:
            nonlocal depth
            depth += 1
            if depth < 3:
                trader.buy("BTCUSDT", float(depth), 1.0)
            else:
                trader._pad.forget()
            return depth

        ring = trader._pad.outlet
        session = trader._runtime.session  # type: ignore[union-attr]
        trader._attach_ring(session.orders, made.runtimes["trader"]._dispatcher, clock)
        assert trader._pad.outlet is not ring
        outer = trader.buy("BTCUSDT", 9.0, 1.0)
        assert list(trader.orders) == [outer + 2, outer + 1, outer]
        assert [order.quantity for order in trader.orders.values()] == [2.0, 1.0, 9.0]

    def test_a_clock_that_raises_sends_nothing(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        warm(trader)
        session = trader._runtime.session  # type: ignore[union-attr]
        dispatcher = made.runtimes["trader"]._dispatcher
        trader._attach_ring(session.orders, dispatcher, lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            trader.buy("BTCUSDT", 1.0, 1.0)
        assert trader.orders == {}


class TestLife:
    @pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="no reference counts")
    def test_no_reference_is_kept_or_lost(self, floor: tuple[Desk, Trader]) -> None:
        made, trader = floor
        warm(trader)
        symbol = "".join(["BTC", "USDT"])
        trader.buy(symbol, 1.5, 2.5)
        quantity, price = float("3.25"), float("4.25")
        form = trader._pad.forms(1, False)["BTCUSDT"]
        held = [symbol, quantity, price, form, trader, trader._pad, trader._pad.outlet, None]
        gc.collect()
        before = [sys.getrefcount(one) for one in held]
        for _ in range(1000):
            trader.buy(symbol, quantity, price)
            trader.send_order(symbol, side=-1, quantity=quantity)
            with suppress(ValueError):
                trader.buy(symbol, quantity, float("nan"))
            with suppress(TypeError):
                trader.buy(symbol, "x", price)  # type: ignore[arg-type]
            trader.orders.clear()
            made.settle()
            made.orders.clear()
            made.manager._roster.links["trader"].open.clear()
        gc.collect()
        after = [sys.getrefcount(one) for one in held]
        grown = [b - a for a, b in zip(before, after, strict=True)]
        assert all(abs(more) < 100 for more in grown), str(grown)

    def test_a_strategy_is_collected(self) -> None:
        with desk() as made:
            trader = Trader("trader")
            trader.me = trader  # type: ignore[attr-defined]
            made.join(trader)
            warm(trader)
            trader.buy("BTCUSDT", 1.0, 1.0)
            made.settle()
            made.runtimes["trader"].shut()
            made.runtimes.clear()
            made._stack.close()
            gone = weakref.ref(trader)
            del trader
            made._strategies.clear()
            gc.collect()
            assert gone() is None

    @pytest.mark.parametrize(
        "how", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
    )
    def test_a_copy_of_a_strategy_can_be_run(self, how: Callable[[Any], Any]) -> None:
        original = Trader("trader", spin=0.5)
        made = how(original)
        assert (made.strategy_id, made.spin, made.orders) == ("trader", 0.5, {})
        assert made._pad.next_id() > 1 << 60
        with desk() as other:
            other.join(made)
            made.buy("BTCUSDT", 1.0, 1.0)
            other.settle()
            assert len(other.orders) == 1

    def test_an_order_in_the_books_is_not_another_ones_memory(
        self, floor: tuple[Desk, Trader]
    ) -> None:
        """Records serve again: never one that somebody has."""
        made, trader = floor
        mine: dict[int, Any] = {}
        for turn in range(500):
            number = trader.buy("BTCUSDT", 1.0 + turn, 5.0)
            if turn % 3 == 0:
                mine[turn] = trader.orders[number]
            del trader.orders[number]
            made.settle()
        assert len({id(order) for order in mine.values()}) == len(mine)
        assert all(order.quantity == 1.0 + turn for turn, order in mine.items())
        assert all(o.quantity == 1.0 + turn for turn, (_, o) in enumerate(made.orders))


def test_a_record_that_serves_again_begins_with_zeros() -> None:
    full = [Order(symbol="X", quantity=5.0, text="y" * 31) for _ in range(200)]
    del full
    gc.collect()
    for _ in range(200):
        assert bytes(Order()) == bytes(128)


class TestMisuse:
    def test_a_class_without_the_slot_is_refused(self) -> None:
        def send_order(self: Any) -> int:
            return 0

        with pytest.raises((TypeError, RuntimeError, AttributeError)):
            type("Bare", (), {"send_order": OrderMethod(send_order)})
        with pytest.raises((TypeError, RuntimeError)):
            type("Plain", (), {"_pad": 5, "send_order": OrderMethod(send_order)})

    def test_arguments(self) -> None:
        make: Any = OrderMethod
        for bad in ((), (5,), (print, 0), (print, "1"), (print, 2)):
            with pytest.raises(TypeError):
                make(*bad)

    def test_who_is_no_strategy_is_the_functions_business(self) -> None:
        assert in_python("send_order")
        with pytest.raises(AttributeError, match="_pad"):
            BaseStrategy.send_order(5, "BTCUSDT", 1, 1.0, 1.0)  # type: ignore[arg-type]
        with pytest.raises(AttributeError, match="send_order"):
            BaseStrategy.buy(5, "BTCUSDT", 1.0, 1.0)  # type: ignore[arg-type]

    def test_a_strategy_without_a_pad(self, floor: tuple[Desk, Trader]) -> None:
        _, trader = floor
        warm(trader)
        pad = trader._pad
        del trader._pad
        with pytest.raises(AttributeError, match="_pad"):
            trader.buy("BTCUSDT", 1.0, 1.0)
        trader._pad = 5  # type: ignore[assignment]
        with pytest.raises(AttributeError):
            trader.buy("BTCUSDT", 1.0, 1.0)
        trader._pad = pad
        assert trader.buy("BTCUSDT", 1.0, 1.0)

    def test_a_form_that_is_none(self, floor: tuple[Desk, Trader]) -> None:
        _, trader = floor
        trader._pad.forms(1, False)["BTCUSDT"] = 5
        with pytest.raises(TypeError, match="owned record"):
            trader.buy("BTCUSDT", 1.0, 1.0)

    def test_the_pad(self, ring_name: str) -> None:
        pad = OrderPad(7)
        assert [pad.next_id(), pad.next_id()] == [7, 8]
        assert pickle.loads(pickle.dumps(pad)).next_id() == 9
        assert pad.outlet is None
        forms = [pad.forms(side, market) for side in (1, -1) for market in (False, True)]
        assert len({id(one) for one in forms}) == 4
        forms[0]["A"] = Order()
        pad.forget()
        assert forms == [{}, {}, {}, {}]
        for side in (0, 2, "1", 1.0):
            with pytest.raises(ValueError, match="side"):
                pad.forms(side, True)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            pad.forms(1)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            pad.outlet = 5  # type: ignore[assignment]
        with Producer(ring_name, capacity=4096) as ring:
            with pytest.raises(TypeError, match="three"):
                pad.outlet = Outlet(ring, Order, int(EventKind.ORDER), fields=())
            pad.outlet = Outlet(
                ring,
                Order,
                int(EventKind.ORDER),
                fields=("client_order_id", "price", "quantity"),
                kept={1: pad},
            )
            del pad
            gc.collect()
