"""A simulated exchange to be driven by hand: events, orders and what came of them, in short."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
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
    Side,
    TimeInForce,
)
from shmipc.trading.market.exchange import Exchange, Report

BUY, SELL, NONE = int(Side.BUY), int(Side.SELL), 0
MAKER, TAKER = int(LiquiditySide.MAKER), int(LiquiditySide.TAKER)
OPEN = {OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED}
SECOND = 10**9
DAY = 86_400 * SECOND

Levels = list[tuple[float, float]]


def order(
    client_order_id: int = 1,
    side: int = BUY,
    quantity: float = 1.0,
    price: float = math.nan,
    **more: Any,
) -> np.void:
    """Return an order; a limit order if it has a price."""
    row = np.zeros(1, ORDER)[0]
    row["symbol"], row["client_order_id"], row["side"] = b"XY", client_order_id, side
    row["quantity"], row["price"], row["action"] = quantity, price, OrderAction.NEW
    row["order_type"] = OrderType.MARKET if math.isnan(price) else OrderType.LIMIT
    row["time_in_force"] = TimeInForce.IOC if math.isnan(price) else TimeInForce.GTC
    for name, value in more.items():
        row[name] = value
    return row


@dataclasses.dataclass
class Said:
    """What an exchange reported, in short."""

    fills: list[tuple[str, int, float, float, int]]  #: strategy, order, price, quantity, liquidity
    states: list[tuple[str, int, str, float]]  #: strategy, order, status, filled
    texts: list[str]


def said(reports: Iterable[Report]) -> Said:
    result = Said([], [], [])
    for strategy, row in reports:
        number = int(row["client_order_id"])
        if row.dtype == TRADE:
            result.fills.append(
                (
                    strategy,
                    number,
                    row["price"].item(),
                    row["quantity"].item(),
                    int(row["liquidity_side"]),
                )
            )
        else:
            status = OrderStatus(int(row["status"])).name
            result.states.append((strategy, number, status, row["filled_quantity"].item()))
            result.texts.append(row["text"].decode())
    return result


class Market:
    """An exchange, and events by hand."""

    def __init__(self, bids: Levels, asks: Levels) -> None:
        self.exchange = Exchange(maker_fee=0.0, taker_fee=0.0)
        self.sequence = 0
        self.book(bids, asks)

    def book(
        self, bids: Levels, asks: Levels, *, ts: int = SECOND, sequence: int | None = None
    ) -> Said:
        self.sequence += 10
        row = np.zeros(1, ORDER_BOOK)[0]
        row["symbol"], row["ts_event"] = b"XY", ts
        row["sequence"] = self.sequence if sequence is None else sequence
        for name, levels in (("bid", bids), ("ask", asks)):
            row[f"{name}_count"] = len(levels)
            for index, (price, size) in enumerate(levels):
                row[f"{name}_prices"][index], row[f"{name}_sizes"][index] = price, size
        return said(self.exchange.on_event(EventKind.ORDER_BOOK, row))

    def tick(
        self, bid: float, bid_size: float, ask: float, ask_size: float, ts: int = SECOND
    ) -> Said:
        self.sequence += 10
        row = np.zeros(1, TICK)[0]
        row["symbol"], row["ts_event"], row["sequence"] = b"XY", ts, self.sequence
        row["bid_price"], row["bid_size"] = bid, bid_size
        row["ask_price"], row["ask_size"] = ask, ask_size
        return said(self.exchange.on_event(EventKind.TICK, row))

    def trade(self, price: float, size: float, aggressor: int, ts: int = SECOND) -> Said:
        row = np.zeros(1, TRADE_TICK)[0]
        row["symbol"], row["ts_event"] = b"XY", ts
        row["price"], row["size"], row["aggressor_side"] = price, size, aggressor
        return said(self.exchange.on_event(EventKind.TRADE_TICK, row))

    def send(self, strategy: str, *args: Any, **more: Any) -> Said:
        return said(self.exchange.on_order(strategy, order(*args, **more)))

    def cancel(self, strategy: str, number: int) -> Said:
        return self.send(strategy, number, action=OrderAction.CANCEL)

    def modify(self, strategy: str, number: int, quantity: float, price: float) -> Said:
        return self.send(strategy, number, BUY, quantity, price, action=OrderAction.MODIFY)

    def open(self) -> list[tuple[str, int, str, float]]:
        return said(self.exchange.open_orders()).states
