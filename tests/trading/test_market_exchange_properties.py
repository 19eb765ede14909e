"""The simulated exchange under anything: nothing is filled that was not shown or traded."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_rig import BUY, MAKER, NONE, OPEN, SECOND, SELL, Market, order
from shmipc.trading.events.dtypes import (
    ORDER_BOOK,
    TICK,
    TRADE,
    TRADE_TICK,
    EventKind,
    OrderAction,
    OrderStatus,
    OrderType,
    TimeInForce,
)
from shmipc.trading.market.exchange import Exchange, Report
from shmipc.trading.market.synthetic import synthetic

PRICES = st.integers(1, 12).map(float)
SIZES = st.integers(1, 40).map(lambda lots: lots / 10)
SIDES = st.sampled_from([BUY, SELL])
STEPS = st.one_of(
    st.tuples(
        st.just("new"),
        st.sampled_from("ab"),
        SIDES,
        SIZES,
        st.none() | PRICES,
        st.sampled_from(list(TimeInForce)[1:]),
    ),
    st.tuples(st.just("cancel"), st.sampled_from("ab"), st.integers(1, 12)),
    st.tuples(st.just("modify"), st.sampled_from("ab"), st.integers(1, 12), SIZES, PRICES),
    st.tuples(st.just("trade"), PRICES, SIZES, st.sampled_from([BUY, SELL, NONE])),
    st.tuples(st.just("tick"), st.integers(1, 11), st.integers(1, 4), SIZES, SIZES),
    st.tuples(
        st.just("book"),
        st.booleans(),
        st.integers(4, 9),
        st.integers(1, 3),
        st.lists(SIZES, min_size=6, max_size=6),
    ),
)


class Checker:
    """Holds every report against what an exchange must keep, whatever it is asked."""

    def __init__(self) -> None:
        self.market = Market([], [])
        self.orders: dict[tuple[str, int], Any] = {}  # the last report of each
        self.filled: dict[tuple[str, int], float] = defaultdict(float)
        self.paid: dict[tuple[str, int], float] = defaultdict(float)

    def take(self, reports: list[Report]) -> list[tuple[str, Any]]:
        """Check `reports`; return the fills among them."""
        fills = []
        for strategy, row in reports:
            key = (strategy, int(row["client_order_id"]))
            if row.dtype == TRADE:
                last = self.orders[key]
                assert last["status"] in OPEN
                assert row["side"] == last["side"]
                assert row["quantity"] > 0
                if last["order_type"] == OrderType.LIMIT:  # never worse than its limit
                    assert row["side"] * row["price"] <= row["side"] * last["price"]
                self.filled[key] += row["quantity"]
                self.paid[key] += row["quantity"] * row["price"]
                fills.append((strategy, row))
                continue
            if row["status"] == OrderStatus.REJECTED:
                assert row["action"] != OrderAction.NEW or key not in self.orders
                if row["action"] == OrderAction.NEW:
                    self.orders[key] = row
                continue
            if key in self.orders:  # what is closed stays closed
                assert self.orders[key]["status"] in OPEN
            assert row["filled_quantity"] == pytest.approx(self.filled[key], abs=1e-9)
            assert row["filled_quantity"] <= row["quantity"]
            if self.filled[key]:
                mean = self.paid[key] / self.filled[key]
                assert row["average_price"] == pytest.approx(mean)
            else:
                assert math.isnan(row["average_price"])
            done = row["filled_quantity"] == row["quantity"]
            assert (row["status"] == OrderStatus.FILLED) == done
            if row["status"] == OrderStatus.PARTIALLY_FILLED:
                assert row["filled_quantity"] > 0
            self.orders[key] = row
        standing = {
            (strategy, int(row["client_order_id"]))
            for strategy, row in self.market.exchange.open_orders()
        }
        assert standing == {key for key, row in self.orders.items() if row["status"] in OPEN}
        return fills


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(STEPS, max_size=40))
def test_invariants_hold_under_anything(steps: list[Any]) -> None:
    checker = Checker()
    market = checker.market
    levels: dict[int, dict[float, float]] = {BUY: {}, SELL: {}}  # shown, by the side that takes
    taken: dict[tuple[int, float], float] = defaultdict(float)
    number = 0
    tick: Any = None  # sequence and touch of the last

    def show(bids: dict[float, float], asks: dict[float, float]) -> None:
        for side, shown in ((BUY, asks), (SELL, bids)):
            for price in {*shown, *levels[side]}:
                if shown.get(price) != levels[side].get(price):
                    taken.pop((side, price), None)
            levels[side] = shown

    exchange = market.exchange
    for what, *args in steps:
        if what == "new":
            strategy, side, quantity, price, time_in_force = args
            number += 1
            row = order(number, side, quantity, math.nan if price is None else price)
            row["time_in_force"] = time_in_force
            fills = checker.take(exchange.on_order(strategy, row))
        elif what == "cancel":
            fills = checker.take(
                exchange.on_order(args[0], order(args[1], action=OrderAction.CANCEL))
            )
            assert fills == []
        elif what == "modify":
            strategy, target, quantity, price = args
            row = order(target, BUY, quantity, price, action=OrderAction.MODIFY)
            fills = checker.take(exchange.on_order(strategy, row))
        elif what == "trade":
            price, size, aggressor = args
            event = np.zeros(1, TRADE_TICK)[0]
            event["symbol"], event["ts_event"] = b"XY", SECOND
            event["price"], event["size"], event["aggressor_side"] = price, size, aggressor
            fills = checker.take(exchange.on_event(EventKind.TRADE_TICK, event))
            assert sum(row["quantity"] for _, row in fills) <= size + 1e-9
            assert all(row["side"] == -aggressor for _, row in fills)
            assert all(row["liquidity_side"] == MAKER for _, row in fills)
            ranks = [-row["side"] * row["price"] for _, row in fills]
            assert ranks == sorted(ranks)
            continue
        elif what == "tick":
            bid, spread, bid_size, ask_size = args
            ask = float(bid + spread)
            bids = {p: q for p, q in levels[SELL].items() if p < bid} | {float(bid): bid_size}
            asks = {p: q for p, q in levels[BUY].items() if p > ask} | {ask: ask_size}
            show(bids, asks)
            market.sequence += 10
            event = np.zeros(1, TICK)[0]
            event["symbol"], event["ts_event"] = b"XY", SECOND
            event["sequence"] = market.sequence
            event["bid_price"], event["ask_price"] = bid, ask
            event["bid_size"], event["ask_size"] = bid_size, ask_size
            tick = (market.sequence, (float(bid), bid_size), (ask, ask_size))
            fills = checker.take(exchange.on_event(EventKind.TICK, event))
        else:
            is_old, bid, spread, sizes = args
            bids = {float(bid - i): sizes[i] for i in range(3)}
            asks = {float(bid + spread + i): sizes[3 + i] for i in range(3)}
            market.sequence += 10
            sequence = tick[0] - 1 if is_old and tick else market.sequence
            if tick and sequence < tick[0]:
                _, best_bid, best_ask = tick
                show(
                    {p: q for p, q in bids.items() if p < best_bid[0]} | dict([best_bid]),
                    {p: q for p, q in asks.items() if p > best_ask[0]} | dict([best_ask]),
                )
            else:
                show(bids, asks)
            event = np.zeros(1, ORDER_BOOK)[0]
            event["symbol"], event["ts_event"] = b"XY", SECOND
            event["sequence"] = sequence
            for name, shown in (("bid", bids), ("ask", asks)):
                event[f"{name}_count"] = 3
                event[f"{name}_prices"][:3], event[f"{name}_sizes"][:3] = (
                    list(shown),
                    list(shown.values()),
                )
            fills = checker.take(exchange.on_event(EventKind.ORDER_BOOK, event))
        # from what is shown: in all not more than is shown within the prices of the fills
        for side in (BUY, SELL):
            mine = [row for _, row in fills if row["side"] == side]
            wanted = sum(row["quantity"] for row in mine)
            if not mine:
                continue
            limit = max(side * row["price"] for row in mine)
            for price in sorted(levels[side], key=lambda p: side * p):
                if side * price <= limit and wanted > 1e-9:
                    step = min(wanted, levels[side][price] - taken[side, price])
                    taken[side, price] += step
                    wanted -= step
            assert wanted <= 1e-9, "more was filled than was shown"


def test_many_strategies_on_a_random_market_are_reported_the_same_each_time() -> None:
    def run() -> list[tuple[str, bytes]]:
        exchange = Exchange()
        chance = np.random.default_rng(7)
        reports: list[Report] = []
        for number, (kind, [event]) in enumerate(synthetic(4000, seed=2), 1):
            reports += exchange.on_event(kind, event)
            if kind == EventKind.TICK and number % 7 == 0:
                side = int(chance.choice([BUY, SELL]))
                best = event["bid_price"] if side == BUY else event["ask_price"]
                price = float(best) - side * int(chance.integers(-2, 4)) * 0.1
                row = order(number, side, 0.5, price, symbol=event["symbol"])
                reports += exchange.on_order(f"s{number % 5}", row)
        return [(strategy, row.tobytes()) for strategy, row in reports]

    first = run()
    assert first == run()
    assert len(first) > 1000
