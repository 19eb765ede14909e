"""The three strategies: what they do in a market made for them, and that they keep their bounds."""

from __future__ import annotations

import math
import os
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from market_rig import BUY, MAKER, SELL, TAKER
from shmipc.demo.strategies.market_maker import MarketMaker
from shmipc.demo.strategies.mean_reversion import MeanReversion
from shmipc.demo.strategies.momentum import Momentum
from shmipc.trading.events.dtypes import (
    TICK,
    TRADE_TICK,
    EventKind,
    OrderAction,
    OrderStatus,
    TimeInForce,
)
from shmipc.trading.market.exchange import Exchange, Report
from shmipc.trading.market.feed import Events, feed
from shmipc.trading.market.ledger import Ledger
from shmipc.trading.market.synthetic import synthetic
from shmipc.trading.strategy import BacktestResult, BaseStrategy, run_backtest

DATA = Path(
    os.environ.get("SHMIPC_TEST_DATA")
    or Path(__file__).resolve().parents[2].parent / "shared" / "data"
)
REAL = DATA / "binance-usdm-btcusdt-20240808.gz"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"no real capture at {REAL}")

SYMBOL = "BTCUSDT"
START = 10**18
SECOND = 10**9
ALL = (Momentum, MeanReversion, MarketMaker)
BOUND = {Momentum: Momentum.size, MeanReversion: MeanReversion.size, MarketMaker: MarketMaker.most}


def prices(path: list[float], *, every: float = 0.25) -> Iterator[Events]:
    """Yield a trade and a tick for each bid of `path`; the ask is 0.1 above it, sizes are 5."""
    last = path[0]
    for step, bid in enumerate(path):
        now = START + int(step * every * SECOND)
        trade = np.zeros(1, TRADE_TICK)
        trade["symbol"], trade["ts_event"], trade["ts_init"] = SYMBOL, now, now
        # by a buyer, below the ask: fills come from the ticks alone
        trade["price"], trade["size"], trade["aggressor_side"] = min(bid, last), 0.001, BUY
        last = bid
        yield EventKind.TRADE_TICK, trade
        tick = np.zeros(1, TICK)
        tick["symbol"], tick["ts_event"], tick["ts_init"] = SYMBOL, now, now
        tick["bid_price"], tick["ask_price"] = bid, round(bid + 0.1, 1)
        tick["bid_size"] = tick["ask_size"] = 5.0
        tick["sequence"] = step
        yield EventKind.TICK, tick


def run(strategy: BaseStrategy | type[BaseStrategy], events: Any) -> BacktestResult:
    return run_backtest(strategy, events, exchange=Exchange(), on_exception="raise")


def sides(rows: Any) -> list[int]:
    return [int(side) for side in rows["side"]]


def flat(seconds: float, mid: float = 60_000.0) -> list[float]:
    """A price that stands, but for a little to and fro that gives it a deviation."""
    return [mid + (0.1 if step % 2 else -0.1) for step in range(int(seconds * 4))]


# ---- momentum ----------------------------------------------------------------------------------


def test_momentum_goes_with_the_price_and_turns_with_it() -> None:
    up = [60_000.0 + 5 * step for step in range(60)]
    down = [up[-1] - 5 * step for step in range(120)]
    found = run(Momentum, prices(flat(25) + up + down))
    assert sides(found.trades)[0] == BUY
    assert sides(found.trades)[-1] == SELL
    assert found.positions[SYMBOL].quantity == pytest.approx(-Momentum.size)
    assert set(found.orders["time_in_force"].tolist()) == {TimeInForce.IOC}


def test_momentum_leaves_a_market_that_stands_alone() -> None:
    assert len(run(Momentum, prices(flat(120))).orders) == 0


def test_momentum_gives_up_its_position_when_the_move_is_over() -> None:
    up = [60_000.0 + 5 * step for step in range(40)]
    found = run(Momentum, prices(flat(25) + up + flat(200, up[-1])))
    assert found.positions[SYMBOL].quantity == 0.0
    assert len(found.trades) == 2


def test_momentum_asks_at_most_once_in_its_pause() -> None:
    zigzag = [60_000.0 + (200.0 if step // 6 % 2 else 0.0) for step in range(800)]
    found = run(Momentum(pause=5.0, fast=0.2, slow=2.0), prices(zigzag))
    assert len(found.orders) > 10
    assert np.diff(found.orders["ts_event"]).min() >= 5 * SECOND


# ---- mean reversion ----------------------------------------------------------------------------


def test_mean_reversion_buys_the_dip_and_sells_at_the_mean() -> None:
    dip = [59_990.0] * 8 + [59_980.0] * 4  # falls through its bid, which fills it
    found = run(MeanReversion, prices(flat(40) + dip + flat(60, 59_999.0)))
    assert sides(found.trades) == [BUY, SELL]
    assert found.trades["liquidity_side"].tolist() == [MAKER, TAKER]
    assert found.trades["price"][1] > found.trades["price"][0]
    assert found.positions[SYMBOL].quantity == 0.0


def test_mean_reversion_sells_the_peak() -> None:
    peak = [60_010.0] * 8 + [60_020.0] * 4
    found = run(MeanReversion, prices(flat(40) + peak + flat(60, 60_001.0)))
    assert sides(found.trades) == [SELL, BUY]


def test_mean_reversion_cancels_an_entry_once_when_it_is_not_filled_in_time() -> None:
    away = [59_990.0] + [59_991.0] * 60  # enters below the market, which then does not come back
    found = run(MeanReversion(memory=1000.0, patience=2.0), prices(flat(1010) + away))
    assert len(found.trades) == 0
    actions = found.orders["action"].tolist()
    assert actions[:2] == [OrderAction.NEW, OrderAction.CANCEL]
    since, cancelled = found.orders["ts_event"][:2].tolist()
    assert 2 * SECOND < cancelled - since <= 2.5 * SECOND
    for client_order_id in set(found.orders["client_order_id"].tolist()):
        mine = found.orders["action"][found.orders["client_order_id"] == client_order_id]
        assert mine.tolist() == [OrderAction.NEW, OrderAction.CANCEL]


# ---- market maker ------------------------------------------------------------------------------


def test_market_maker_quotes_both_sides_and_never_takes() -> None:
    found = run(MarketMaker, prices(flat(5)))
    new = found.orders[found.orders["action"] == OrderAction.NEW]
    assert sorted(sides(new)) == [SELL, BUY]
    assert set(new["time_in_force"].tolist()) == {TimeInForce.POST_ONLY}
    bid, ask = new["price"][new["side"] == BUY][0], new["price"][new["side"] == SELL][0]
    half = 60_000 * 1e-4 * MarketMaker.width
    assert 60_000 - bid == pytest.approx(half, abs=0.3)
    assert ask - 60_000 == pytest.approx(half, abs=0.3)


def test_market_maker_moves_its_quotes_and_sends_none_anew() -> None:
    drift = [60_000.0 + step for step in range(40)]
    found = run(MarketMaker(width=5.0), prices(flat(5) + drift))
    assert len(found.trades) == 0
    actions = found.orders["action"].tolist()
    assert actions.count(OrderAction.NEW) == 2
    assert actions.count(OrderAction.MODIFY) > 10
    last = {int(row["side"]): float(row["price"]) for row in found.reports if not row["text"]}
    assert last[BUY] == pytest.approx(drift[-1] * (1 - 5e-4), abs=3)
    assert last[SELL] == pytest.approx(drift[-1] * (1 + 5e-4), abs=3)


def test_market_maker_withdraws_the_side_that_would_break_its_bound() -> None:
    falling = [60_000.0 - 10 * step for step in range(60)]  # every step goes through its bid
    found = run(MarketMaker, prices(flat(2) + falling))
    assert sides(found.trades) == [BUY] * 5
    held = found.positions[SYMBOL].quantity
    assert held == pytest.approx(MarketMaker.most)
    bids = found.orders[(found.orders["side"] == BUY) & (found.orders["action"] == OrderAction.NEW)]
    assert len(bids) == 5


def test_market_maker_leans_against_what_it_holds() -> None:
    level = flat(2) + [59_980.0] * 20  # through its bid, once or more
    found = run(MarketMaker(skew=3.0, size=0.05), prices(level))
    assert sides(found.trades) == [BUY]
    asks = [row for row in found.reports if row["side"] == SELL]
    # long: the ask comes down to the touch, far below where it would be without a position
    assert asks[-2]["price"] == pytest.approx(59_980.1, abs=0.01)


# ---- an engine that is slow to answer ----------------------------------------------------------


class LateExchange(Exchange):
    """Takes each order only `delay` events after it was sent."""

    def __init__(self, delay: int) -> None:
        super().__init__()
        self._delay = delay
        self._count = 0
        self._waiting: deque[tuple[int, str, Any]] = deque()

    def on_event(self, kind: int, row: Any) -> list[Report]:
        self._count += 1
        reports = super().on_event(kind, row)
        while self._waiting and self._waiting[0][0] <= self._count:
            _, strategy_id, order = self._waiting.popleft()
            reports += super().on_order(strategy_id, order)
        return reports

    def on_order(self, strategy_id: str, order: Any) -> list[Report]:
        self._waiting.append((self._count + self._delay, strategy_id, order.copy()))
        return []


def requests(found: BacktestResult) -> Counter[tuple[int, int]]:
    """Count what was asked for, by order and action."""
    rows = found.orders
    return Counter(zip(rows["client_order_id"].tolist(), rows["action"].tolist(), strict=True))


def test_mean_reversion_asks_for_a_cancellation_once() -> None:
    away = [59_990.0] + [59_991.0] * 60
    strategy = MeanReversion(memory=1000.0, patience=2.0)
    found = run_backtest(strategy, prices(flat(1010) + away), exchange=LateExchange(9))
    asked = requests(found)
    assert sum(action == OrderAction.CANCEL for _, action in asked) > 1
    # but for the last, which on_stop may ask for again
    assert sorted(asked.values())[:-1] == [1] * (len(asked) - 1)


def test_market_maker_asks_for_one_thing_after_the_other() -> None:
    drift = [60_000.0 + 3 * step for step in range(60)]
    late = LateExchange(9)
    found = run_backtest(MarketMaker(width=50.0), prices(flat(5) + drift), exchange=late)
    moves = found.orders[found.orders["action"] == OrderAction.MODIFY]
    assert len(moves) > 10
    for side in (BUY, SELL):
        # nine events are more than a second
        assert np.diff(moves["ts_event"][moves["side"] == side]).min() >= SECOND
    assert max(requests(found)[number, OrderAction.NEW] for number in moves["client_order_id"]) == 1


# ---- bounds, in any market ---------------------------------------------------------------------


def check(cls: type[BaseStrategy], found: BacktestResult) -> dict[int, int]:
    """Hold a run against what every strategy promises; return what is open at its end."""
    ledger = Ledger()
    held = 0.0
    for row in found.trades:
        ledger.on_trade("s", row)
        held += float(row["side"] * row["quantity"])
        assert abs(held) <= BOUND[cls] + 1e-9
    if len(found.trades):
        mine, theirs = found.positions[SYMBOL], ledger.position("s", SYMBOL)
        for name in ("quantity", "average_price", "realized_pnl", "commission", "trade_count"):
            assert getattr(mine, name) == pytest.approx(theirs[name], abs=1e-6), name
    assert found.errors == 0
    # one order a side at most: asked for, and not yet closed
    standing: dict[int, int] = {}
    for row in found.reports:
        number, status = int(row["client_order_id"]), int(row["status"])
        if status == OrderStatus.REJECTED and row["action"] != OrderAction.NEW:
            assert row["text"] == b"no such open order"  # filled, while the request was under way
            continue
        assert status != OrderStatus.REJECTED or row["text"] == b"post-only order would trade"
        if status >= OrderStatus.FILLED:
            standing.pop(number, None)
        else:
            standing[number] = int(row["side"])
        assert len(set(standing.values())) == len(standing)
    return standing


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("seed", range(2))
def test_strategy_keeps_its_bounds_in_a_random_market(cls: type[BaseStrategy], seed: int) -> None:
    found = run(cls(), synthetic(15_000, seed=seed, tick_size=2.0))
    assert check(cls, found) == {}  # on_stop cancels what is left


@pytest.mark.parametrize("cls", ALL)
def test_strategy_keeps_its_bounds_under_a_slow_engine(cls: type[BaseStrategy]) -> None:
    events = synthetic(15_000, seed=3, tick_size=2.0)
    found = run_backtest(cls(), events, exchange=LateExchange(40), on_exception="raise")
    assert len(found.trades) > 0
    check(cls, found)


@needs_real
@pytest.mark.parametrize(("cls", "fills"), [(Momentum, 5), (MeanReversion, 5), (MarketMaker, 50)])
def test_strategy_trades_the_real_capture(cls: type[BaseStrategy], fills: int) -> None:
    found = run(cls(), feed(REAL))
    assert found.events == 93_954
    assert check(cls, found) == {}
    assert len(found.trades) >= fills
    assert len(found.orders) < found.events / 50
    assert math.isfinite(found.positions[SYMBOL].realized_pnl)


@pytest.mark.parametrize(
    ("made", "parameters"),
    [
        (Momentum, {"slow": 2.0, "fast": 0.2, "enter": 0.1}),
        (MeanReversion, {"memory": 3.0}),
        (MarketMaker, {}),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_prices_that_are_not_known_now_and_then_stop_no_strategy(
    made: type[BaseStrategy], parameters: dict[str, float], value: float
) -> None:
    def events() -> Iterator[Events]:
        for number, (kind, row) in enumerate(synthetic(4000, seed=4, tick_size=2.0)):
            yield kind, row
            if number % 10 == 7:
                for name in ("price", "bid_price", "ask_price"):
                    if name in (row.dtype.names or ()):
                        bad = row.copy()
                        bad[name] = value
                        yield kind, bad

    found = run(made(**parameters), events())
    assert np.isfinite(found.trades["price"]).all()
    half = found.start_ns + (found.end_ns - found.start_ns) // 2
    assert (found.orders["ts_init"] > half).sum() > 1, "it trades to the end"
    for position in found.positions.values():
        assert math.isfinite(position.quantity)
        assert math.isfinite(position.realized_pnl)
