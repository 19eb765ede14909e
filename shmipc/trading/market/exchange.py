"""A simulated exchange: strategies' orders matched against the captured market by price and time.

Rules this file keeps:

- Orders trade with the captured market alone, never with each other: at the price of a level that
  it shows, or at their own limit. No price is made here.
- An order that can trade when it comes takes what is shown, level by level, best first
  (:mod:`shmipc.trading.market.liquidity` remembers what is taken). What is left of a LIMIT GTC, DAY
  or POST_ONLY rests; of a MARKET, IOC or FOK it EXPIRES. FOK trades whole or not at all. POST_ONLY
  is REJECTED where it could trade.
- A resting order stands behind what is shown at its price when it comes (all that will be shown,
  where that is too deep to be seen), and behind earlier orders of strategies. The queue ahead of it
  shrinks by captured trades at its price, and to what is shown where less is shown.
- A captured trade fills resting orders that it goes through, best price first, then those at its
  price that it reaches in the queue; by time at one price; in all never more than its size. A
  trade beside the book (aggressor NONE), or older than the order, fills nothing.
- A level shown at or beyond a resting order's limit has crossed it, and fills it at its limit.
- What is not known (NaN, and what else is no price or size: :mod:`shmipc.trading.market.bounds`)
  fills nothing, and every price, quantity and commission reported is finite.
- MODIFY to a smaller quantity keeps its priority; any other change of price or quantity loses it.
  What a MODIFY does not say (NaN or 0) stays as it is. One that cannot be done changes nothing:
  the report has the order as it stands, and says why not in ``text``.
- Each order ends in exactly one of FILLED, CANCELED (asked for), EXPIRED (its time in force) and
  REJECTED, or is open. At every report ``filled_quantity`` is the sum of the trades reported.

Reports carry the times of the captured event at hand, so that the same orders at the same
events give the same reports, byte for byte. Trades and books of a capture are not in step, and the
market does not answer what strategies do: fills are an estimate, in both directions.
"""

from __future__ import annotations

import math
import operator
from bisect import insort
from collections.abc import Callable
from typing import Any

import numpy as np

from shmipc.trading.events.dtypes import (
    ORDER,
    ORDER_BOOK,
    TICK,
    TRADE,
    TRADE_TICK,
    EventKind,
    LiquiditySide,
    OrderAction,
    OrderStatus,
    OrderType,
    TimeInForce,
    encode_symbol,
)
from shmipc.trading.events.order_rules import SIDES, TIMES_IN_FORCE, is_post_only_market
from shmipc.trading.market.bounds import MOST, is_price, is_size
from shmipc.trading.market.liquidity import LEAST
from shmipc.trading.market.orders import Asked, Market, Order
from shmipc.trading.market.rows import make_row

__all__ = ["Exchange", "Report"]

_NAMES: dict[int, tuple[str, ...] | None] = {
    EventKind.TICK: TICK.names,
    EventKind.TRADE_TICK: TRADE_TICK.names,
    EventKind.ORDER_BOOK: ORDER_BOOK.names,
}


def _fields(dtype: np.dtype[np.void], *names: str) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return what picks the fields of those names out of a row's values."""
    return operator.itemgetter(*((dtype.names or ()).index(name) for name in names))


_TRADE_FIELDS = _fields(TRADE_TICK, "price", "size", "aggressor_side")
_TICK_FIELDS = _fields(TICK, "sequence", "bid_price", "ask_price", "bid_size", "ask_size")
_BOOK_FIELDS = _fields(
    ORDER_BOOK,
    *("sequence", "bid_count", "bid_prices", "bid_sizes", "ask_count", "ask_prices", "ask_sizes"),
)

#: Whose it is, and an ORDER or TRADE row.
Report = tuple[str, np.void]

_DAY_NS = 86_400 * 10**9
_AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)
_TEXT_LEN = 31  # of ORDER's text, its terminating zero left out


class Exchange:
    """Takes the capture's events and the strategies' orders, returns what to report to whom."""

    def __init__(self, *, maker_fee: float = 0.0002, taker_fee: float = 0.0005) -> None:
        """The fees are parts of a fill's price times quantity, each between -1 and 1.

        Raises ValueError for one that is not.
        """
        for name, fee in (("maker_fee", maker_fee), ("taker_fee", taker_fee)):
            if not -1.0 < fee < 1.0:
                raise ValueError(f"{name} is a part of the price, such as 0.0005, not {fee!r}")
        self._fees = {LiquiditySide.MAKER: maker_fee, LiquiditySide.TAKER: taker_fee}
        self._markets: dict[bytes, Market] = {}
        self._open: dict[tuple[str, int], Order] = {}
        self._ts_event = 0
        self._ts_init = 0
        self._last_order_id = 0
        self._last_trade_id = 0
        self._last_priority = 0
        self._reports: list[Report] = []

    # ---- the market ----------------------------------------------------------------------------

    def on_event(self, kind: int, row: Any) -> list[Report]:
        """Take an event of the market; return what became of resting orders.

        `row` is a record, numpy void, or array of one. Events of other kinds than Tick,
        TradeTick and OrderBook change nothing. TypeError if the dtype is not that of the kind,
        ValueError for a symbol that is none.
        """
        names = _NAMES.get(kind)
        if names is None:
            return []
        event = np.asarray(row)
        if event.dtype.names != names:
            raise TypeError(f"an event of kind {EventKind(kind).name} is not of {event.dtype}")
        values = event.item()  # plain Python numbers, at once
        symbol, ts_event, self._ts_init = values[:3]
        if ts_event > self._ts_event:
            day, self._ts_event = self._ts_event // _DAY_NS, ts_event
            if ts_event // _DAY_NS != day:
                self._end_day()
        market = self._markets.get(symbol)
        if market is None:
            if symbol:
                encode_symbol(symbol)  # its bytes may be the whole field's: numpy truncates to that
            market = self._markets[symbol] = Market()
        if kind == EventKind.TRADE_TICK:
            self._on_trade_tick(market, ts_event, *_TRADE_FIELDS(values))
        elif kind == EventKind.ORDER_BOOK:
            market.shown.on_order_book(*_BOOK_FIELDS(values))
            self._on_shown(market)
        elif market.shown.on_tick(*_TICK_FIELDS(values)):
            self._on_shown(market)
        return self._take_reports()

    def _end_day(self) -> None:
        for order in list(self._open.values()):
            if order.time_in_force == TimeInForce.DAY:
                self._close(order, OrderStatus.EXPIRED, "end of the day")

    def _on_shown(self, market: Market) -> None:
        """Other levels are shown now: move queues, and fill what they have crossed."""
        for side, orders in market.resting.items():
            if not orders:
                continue
            own = market.shown.own(side)
            for order in orders:
                shown = own.shown(order.price)
                if shown is not None and shown < order.ahead:
                    order.ahead = shown
            for order in list(orders):  # best first: those after one that is not reached are not
                if not self._match(market, order, order.price, LiquiditySide.MAKER):
                    break

    def _on_trade_tick(
        self, market: Market, ts_event: int, price: float, size: float, aggressor: int
    ) -> None:
        if not (is_price(price) and is_size(size)):
            return
        side = -aggressor  # of the orders that it hits
        left, eaten = size, 0.0  # eaten: of what was shown at this price
        for order in list(market.resting.get(side, ())):
            if -side * order.price > -side * price:
                break
            if order.since > ts_event:
                continue
            if order.price == price:
                queue = min(left, max(0.0, order.ahead - eaten))
                left -= queue
                eaten += queue
                order.ahead = max(0.0, order.ahead - eaten)
            quantity = min(left, order.left)
            if quantity > LEAST:
                left -= quantity
                self._fill(order, order.price, quantity, LiquiditySide.MAKER)
                self._report_fills(order)

    # ---- orders --------------------------------------------------------------------------------

    def on_order(self, strategy_id: str, order: Any) -> list[Report]:
        """Take an order, cancellation or modification of `strategy_id`; return what to report.

        `order` is a record, numpy void, or array of one; TypeError if its dtype is not ORDER.
        """
        row = np.asarray(order)
        if row.dtype != ORDER:
            raise TypeError(f"an order is of dtype ORDER, not {row.dtype}")
        asked = Asked._make(row.item())
        perform: Callable[[str, Asked], str] | None = {
            int(OrderAction.NEW): self._new,
            int(OrderAction.CANCEL): self._cancel,
            int(OrderAction.MODIFY): self._modify,
        }.get(asked.action)
        refusal = "unknown action" if perform is None else perform(strategy_id, asked)
        if refusal:
            self._refuse(strategy_id, asked, refusal)
        return self._take_reports()

    def _refuse(self, strategy_id: str, asked: Asked, text: str) -> None:
        """Report that nothing was done: the order that stands, or else `asked` as rejected."""
        standing = self._open.get((strategy_id, asked.client_order_id))
        if standing is not None and asked.action != OrderAction.NEW:
            self._report(standing, text, asked.action)
            return
        row = make_row(ORDER, asked)
        row["ts_event"], row["ts_init"] = self._ts_event, self._ts_init
        row["status"], row["text"] = OrderStatus.REJECTED, text.encode()
        self._reports.append((strategy_id, row))

    def _new(self, strategy_id: str, asked: Asked) -> str:
        """Accept an order and match it; return why not, or nothing."""
        market = self._markets.get(asked.symbol)
        refusal = self._fault(strategy_id, asked, market)
        if refusal:
            return refusal
        assert market is not None
        self._last_order_id += 1
        order = Order(
            strategy_id=strategy_id,
            symbol=asked.symbol,
            client_order_id=asked.client_order_id,
            order_id=self._last_order_id,
            side=asked.side,
            order_type=asked.order_type,
            time_in_force=asked.time_in_force,
            price=asked.price,
            quantity=asked.quantity,
            ts_trigger=asked.ts_trigger,
        )
        self._open[strategy_id, order.client_order_id] = order
        self._report(order)
        self._enter(market, order)
        return ""

    def _fault(self, strategy_id: str, asked: Asked, market: Market | None) -> str:
        """Return what is wrong with a new order, or nothing. Texts have at most 31 bytes.

        This market's limits are narrower than the rule for orders: LEAST, MOST, positive prices.
        """
        if asked.client_order_id <= 0:
            return "client_order_id is not positive"
        if (strategy_id, asked.client_order_id) in self._open:
            return "client_order_id is in use"
        if market is None:
            return "no market for this symbol"
        if asked.side not in SIDES:
            return "side is neither BUY nor SELL"
        if not LEAST <= asked.quantity < MOST:
            return "quantity is not positive"
        if asked.time_in_force not in TIMES_IN_FORCE:
            return "unknown time in force"
        if asked.order_type == OrderType.MARKET:
            if is_post_only_market(asked.order_type, asked.time_in_force):
                return "a market order cannot rest"
            return ""
        if asked.order_type != OrderType.LIMIT:
            return "order type is not supported"
        if not 0.0 < asked.price < MOST:
            return "price is not positive"
        if asked.time_in_force == TimeInForce.POST_ONLY and self._would_trade(
            market, asked.side, asked.price
        ):
            return "post-only order would trade"
        return ""

    def _would_trade(self, market: Market, side: int, price: float) -> bool:
        return any(True for _ in market.shown.opposite(side).within(price))

    def _enter(self, market: Market, order: Order) -> None:
        """Let `order` take what it can, and rest or expire with what is left."""
        is_market = order.order_type == OrderType.MARKET
        limit = order.side * math.inf if is_market else order.price
        if order.time_in_force == TimeInForce.FOK:
            there = sum(left for _, left in market.shown.opposite(order.side).within(limit))
            if there < order.left - LEAST:
                self._close(order, OrderStatus.EXPIRED, "cannot be filled whole")
                return
        self._match(market, order, limit, LiquiditySide.TAKER)
        if order.status == OrderStatus.FILLED:
            return
        if is_market or order.time_in_force in _AT_ONCE:
            self._close(order, OrderStatus.EXPIRED, "nothing more to trade with")
            return
        self._last_priority += 1
        order.priority, order.since = self._last_priority, self._ts_event
        shown = market.shown.own(order.side).shown(order.price)
        order.ahead = math.inf if shown is None else shown
        insort(market.resting[order.side], order, key=Order.rank)

    def _cancel(self, strategy_id: str, asked: Asked) -> str:
        order = self._open.get((strategy_id, asked.client_order_id))
        if order is None:
            return "no such open order"
        self._close(order, OrderStatus.CANCELED, "", OrderAction.CANCEL)
        return ""

    def _modify(self, strategy_id: str, asked: Asked) -> str:
        order = self._open.get((strategy_id, asked.client_order_id))
        if order is None:
            return "no such open order"
        price = asked.price if asked.price else order.price  # NaN is true
        price = order.price if math.isnan(price) else price
        quantity = asked.quantity if asked.quantity else order.quantity
        quantity = order.quantity if math.isnan(quantity) else quantity
        if not 0.0 < price < MOST:
            return "price is not positive"
        if not 0.0 < quantity < MOST:
            return "quantity is not positive"
        market = self._markets[order.symbol]
        moves = price != order.price or quantity > order.quantity
        post_only = order.time_in_force == TimeInForce.POST_ONLY
        if moves and post_only and self._would_trade(market, order.side, price):
            return "post-only order would trade"
        if quantity - order.filled < LEAST:
            self._close(order, OrderStatus.CANCELED, "filled as far as wanted", OrderAction.MODIFY)
            return ""
        if moves:
            market.resting[order.side].remove(order)
        order.price, order.quantity, order.ts_trigger = price, quantity, asked.ts_trigger
        self._report(order, "", OrderAction.MODIFY)
        if moves:
            self._enter(market, order)
        return ""

    # ---- what became of them -------------------------------------------------------------------

    def cancel_all(self, strategy_id: str, text: str = "") -> list[Report]:
        """Cancel what `strategy_id` has open, as when it is gone for good; return what to report.

        Raises ValueError for a `text` of more than 31 bytes.
        """
        if len(text.encode()) > _TEXT_LEN:
            raise ValueError(f"an order's text has at most {_TEXT_LEN} bytes: {text!r}")
        for order in [order for order in self._open.values() if order.strategy_id == strategy_id]:
            self._close(order, OrderStatus.CANCELED, text, OrderAction.CANCEL)
        return self._take_reports()

    def open_orders(self, strategy_id: str | None = None) -> list[Report]:
        """Return each open order as it stands, of all strategies or of one, oldest first."""
        for order in self._open.values():
            if strategy_id is None or order.strategy_id == strategy_id:
                self._report(order)
        return self._take_reports()

    def _match(self, market: Market, order: Order, limit: float, liquidity: LiquiditySide) -> bool:
        """Fill `order` from what is shown up to `limit`; return whether anything was there.

        A taker trades at the level's price, a maker that is crossed at its own.
        """
        opposite = market.shown.opposite(order.side)
        filled = False
        for level, there in opposite.within(limit):
            quantity = min(there, order.left)
            opposite.take(level, quantity)
            price = order.price if liquidity == LiquiditySide.MAKER else level
            self._fill(order, price, quantity, liquidity)
            filled = True
            if order.status == OrderStatus.FILLED:
                break
        if filled:
            self._report_fills(order)
        return filled

    def _fill(self, order: Order, price: float, quantity: float, liquidity: LiquiditySide) -> None:
        """Note a fill and report its trade."""
        before = order.filled
        order.filled += quantity
        if order.left < LEAST:
            order.filled = order.quantity
        if before:  # a mean that stays exact while the price does
            order.average_price += (price - order.average_price) * quantity / order.filled
        else:
            order.average_price = price
        done = order.filled == order.quantity
        order.status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
        self._last_trade_id += 1
        values = (
            order.symbol,
            self._ts_event,
            self._ts_init,
            order.client_order_id,
            order.order_id,
            self._last_trade_id,
            price,
            quantity,
            price * quantity * self._fees[liquidity],
            order.side,
            liquidity,
        )
        self._reports.append((order.strategy_id, make_row(TRADE, values)))

    def _report_fills(self, order: Order) -> None:
        """Report `order` after its trades, and forget it if it is done."""
        if order.status == OrderStatus.FILLED:
            self._remove(order)
        self._report(order)

    def _close(
        self,
        order: Order,
        status: OrderStatus,
        text: str,
        action: OrderAction = OrderAction.NEW,
    ) -> None:
        order.status = status
        self._remove(order)
        self._report(order, text, action)

    def _remove(self, order: Order) -> None:
        del self._open[order.strategy_id, order.client_order_id]
        resting = self._markets[order.symbol].resting[order.side]
        if order in resting:
            resting.remove(order)

    def _report(self, order: Order, text: str = "", action: int = OrderAction.NEW) -> None:
        values = (
            order.symbol,
            self._ts_event,
            self._ts_init,
            order.client_order_id,
            order.order_id,
            order.price,
            order.quantity,
            order.filled,
            order.average_price,
            order.ts_trigger,
            order.side,
            order.order_type,
            order.time_in_force,
            order.status,
            action,
            (0, 0, 0),
            text.encode(),
        )
        self._reports.append((order.strategy_id, make_row(ORDER, values)))

    def _take_reports(self) -> list[Report]:
        reports, self._reports = self._reports, []
        return reports
