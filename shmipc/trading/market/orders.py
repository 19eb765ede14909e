"""What the simulated exchange knows of an order, and of the orders of one symbol."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from shmipc.trading.events.dtypes import OrderStatus, Side
from shmipc.trading.market.liquidity import Liquidity

__all__ = ["Asked", "Market", "Order"]


class Asked(NamedTuple):
    """An order as a strategy sent it: the fields of ORDER."""

    symbol: bytes
    ts_event: int
    ts_init: int
    client_order_id: int
    order_id: int
    price: float
    quantity: float
    filled_quantity: float
    average_price: float
    ts_trigger: int
    side: int
    order_type: int
    time_in_force: int
    status: int
    action: int
    reserved: Any
    text: bytes


@dataclasses.dataclass(slots=True, eq=False)
class Order:
    """An order that the exchange has accepted."""

    strategy_id: str
    symbol: bytes
    client_order_id: int
    order_id: int
    side: int
    order_type: int
    time_in_force: int
    price: float
    quantity: float
    ts_trigger: int
    since: int = 0  # ts_event of the market when it got its priority
    priority: int = 0  # by time, among all orders: lower is served first
    ahead: float = 0.0  # shown size that was there before it and still is
    filled: float = 0.0
    average_price: float = math.nan
    status: OrderStatus = OrderStatus.ACCEPTED

    @property
    def left(self) -> float:
        return self.quantity - self.filled

    def rank(self) -> tuple[float, int]:
        """Price, then time: the smaller is served first."""
        return -self.side * self.price, self.priority


class Market:
    """One symbol: what the capture shows, and the orders that rest, by rank."""

    def __init__(self) -> None:
        self.shown = Liquidity()
        self.resting: dict[int, list[Order]] = {Side.BUY: [], Side.SELL: []}
