"""Order entry: what a strategy sends, and what it knows of its orders and positions.

Rules this file keeps:

- Everything is checked before anything is sent. What raises has sent nothing and left the books as
  they were.
- Nothing here waits. Where the engine is so far behind that the ring is full, it is ``Full``.
- An order is open from the moment it is sent until a report says that it is closed. A cancel or a
  change that is refused (its ``action`` says what it was) closes nothing.
- A ``client_order_id`` that is not given is one more than the last, the first being the time in ns
  when the run began: unique across restarts. Users' own are below 2**60, so that the two never
      meet.

:meth:`OrderEntry.send_order` is what stands between a tick and the wire. The order that most are, a
market or limit order of a symbol that was traded before and with no options, is sent in C
(:class:`shmipc._core.OrderMethod`); the methods here do every other, and say what is wrong.
"""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

import numpy as np

from shmipc._core import Dispatcher, Full, OrderMethod, OrderPad, Outlet, Producer
from shmipc.trading.events import (
    Account,
    EventKind,
    Order,
    OrderAction,
    OrderStatus,
    OrderType,
    Position,
    Side,
    TimeInForce,
    encode_symbol,
)
from shmipc.trading.events.order_rules import (
    ORDER_TYPES,
    SIDES,
    TIMES_IN_FORCE,
    is_finite_price,
    is_post_only_market,
    is_quantity,
)
from shmipc.trading.strategy.books import book_holding

__all__ = ["OrderEntry"]

# plain ints: these are compared and stored for every order
_NEW, _CANCEL, _MODIFY = int(OrderAction.NEW), int(OrderAction.CANCEL), int(OrderAction.MODIFY)
_MARKET, _LIMIT = int(OrderType.MARKET), int(OrderType.LIMIT)
_GTC, _IOC = int(TimeInForce.GTC), int(TimeInForce.IOC)
_SUBMITTED, _REJECTED = int(OrderStatus.SUBMITTED), int(OrderStatus.REJECTED)
_FILLED = int(OrderStatus.FILLED)
_BUY, _SELL = int(Side.BUY), int(Side.SELL)
_ORDER = int(EventKind.ORDER)
_NAN = math.nan
_GIVEN_IDS = 1 << 60  # those below are for users to give; the time in ns is above


_Function = TypeVar("_Function", bound=Callable[..., int])


def _plain_in_c(side: int | None = None) -> Callable[[_Function], _Function]:
    """Have plain orders (of one side) sent before the function is called; it sees all others."""

    def decorate(function: _Function) -> _Function:
        return cast("_Function", OrderMethod(function, side))

    return decorate


def _not_running(record: Any, *values: Any) -> bool:
    raise RuntimeError("this strategy is not running: orders are sent from its callbacks")


class OrderEntry:
    """The part of a strategy that sends orders and keeps its books."""

    __slots__ = ("__dict__", "__weakref__", "_pad")

    _pad: OrderPad
    _send_new: Callable[..., bool]  # record, client_order_id, price, quantity
    _send_change: Callable[..., bool]  # record

    def _reset_orders(self) -> None:
        """Empty books, nobody to send to."""
        #: Open orders by client_order_id, as last heard of. Records of one's own: they stay valid.
        self.orders: dict[int, Order] = {}
        #: Positions by symbol: the engine's, and the fills since.
        self.positions: dict[str, Position] = {}
        #: The last Account that the engine reported, or None.
        self.account: Account | None = None
        #: Tradable symbols that the engine named: symbol -> Instrument record. Empty: it named
        #: none.
        self.instruments: dict[str, Any] = {}
        self._pad = OrderPad(time.time_ns())
        self._now: Callable[[], int] = time.time_ns
        self._detach()

    # ---- sending -------------------------------------------------------------------------------

    @_plain_in_c()
    def send_order(
        self,
        symbol: str,
        side: int,
        quantity: float,
        price: float | None = None,
        *,
        order_type: int | None = None,
        time_in_force: int | None = None,
        client_order_id: int | None = None,
    ) -> int:
        """Send an order to the engine; return its client_order_id.

        With a price it is a limit order good till cancelled, without one a market order, immediate
        or cancel, unless `order_type` and `time_in_force` say otherwise. A stop order's price is
        what sets it off. Reports come to :meth:`on_order` and :meth:`on_trade`.

        Raises Full when the engine is behind, ValueError for an unknown symbol, a quantity or price
        that is none, a limit order without a price, a market order with one, or the
        client_order_id of an open order; TypeError for what is of the wrong type. Nothing was
        sent then.
        """
        try:
            if order_type is None and time_in_force is None:
                order = self._pad.forms(side, price is None)[symbol]
            else:
                order = self._prepare(symbol, side, price, order_type, time_in_force)
        except (KeyError, TypeError, ValueError):
            order = self._prepare(symbol, side, price, order_type, time_in_force)
        try:
            if price is None:
                price = _NAN
            elif not is_finite_price(price):
                raise ValueError(f"a price is finite, not {price!r}")
            if not is_quantity(quantity):
                raise ValueError(f"a quantity is positive and finite, not {quantity!r}")
        except TypeError:
            _refuse_types(quantity, price)
        if client_order_id is None:
            client_order_id = self._pad.next_id()
        else:
            self._check_id(client_order_id)
        if not self._send_new(order, client_order_id, price, quantity):
            raise Full(f"order for {symbol}: the engine is behind, the ring of orders is full")
        return client_order_id

    @_plain_in_c(_BUY)
    def buy(
        self,
        symbol: str,
        quantity: float,
        price: float | None = None,
        *,
        order_type: int | None = None,
        time_in_force: int | None = None,
        client_order_id: int | None = None,
    ) -> int:
        """Send a buy order; as :meth:`send_order`, which it calls."""
        return self.send_order(
            symbol,
            _BUY,
            quantity,
            price,
            order_type=order_type,
            time_in_force=time_in_force,
            client_order_id=client_order_id,
        )

    @_plain_in_c(_SELL)
    def sell(
        self,
        symbol: str,
        quantity: float,
        price: float | None = None,
        *,
        order_type: int | None = None,
        time_in_force: int | None = None,
        client_order_id: int | None = None,
    ) -> int:
        """Send a sell order; as :meth:`send_order`, which it calls."""
        return self.send_order(
            symbol,
            _SELL,
            quantity,
            price,
            order_type=order_type,
            time_in_force=time_in_force,
            client_order_id=client_order_id,
        )

    def cancel_order(self, client_order_id: int) -> None:
        """Ask the engine to cancel an open order. Raises ValueError if it is not open, Full."""
        self._ask(self._open_order(client_order_id).copy(), _CANCEL)

    def cancel_all(self, symbol: str | None = None) -> list[int]:
        """Ask the engine to cancel all open orders (of `symbol`); return their ids. Raises Full."""
        asked = []
        for client_order_id, order in list(self.orders.items()):
            if symbol is None or order.symbol == symbol:
                self._ask(order.copy(), _CANCEL)
                asked.append(client_order_id)
        return asked

    def modify_order(
        self, client_order_id: int, quantity: float | None = None, price: float | None = None
    ) -> None:
        """Ask the engine to change an open order's quantity (the whole of it) or price, or both.

        Raises ValueError as :meth:`send_order` does, and Full.
        """
        order = self._open_order(client_order_id).copy()
        if quantity is None and price is None:
            raise ValueError("modify_order needs a quantity or a price")
        if quantity is not None:
            if not is_quantity(quantity):
                raise ValueError(f"a quantity is positive and finite, not {quantity!r}")
            if quantity <= order.filled_quantity:
                raise ValueError(
                    f"order {client_order_id} has {order.filled_quantity:g} filled: "
                    f"a quantity of {quantity:g} leaves nothing"
                )
            order.quantity = quantity
        if price is not None:
            if not is_finite_price(price):
                raise ValueError(f"a price is finite, not {price!r}")
            if order.order_type == _MARKET:
                raise ValueError(f"order {client_order_id} is a market order: it has no price")
            order.price = price
        self._ask(order, _MODIFY)

    def _ask(self, order: Any, action: int) -> None:
        order.action = action
        if not self._send_change(order):
            raise Full(
                f"{OrderAction(action).name} of order {order.client_order_id}: "
                "the engine is behind, the ring of orders is full"
            )

    # ---- checking ------------------------------------------------------------------------------

    def _prepare(
        self,
        symbol: str,
        side: int,
        price: float | None,
        order_type: int | None,
        time_in_force: int | None,
    ) -> Any:
        """Return an order with all that is seldom different filled in.

        That of a plain order is a form from now on. Raises as send_order().
        """
        name = encode_symbol(symbol).decode()
        if self.instruments and name not in self.instruments:
            raise ValueError(f"unknown symbol {symbol!r}: there are {_some(self.instruments)}")
        side = _integer("side", side)
        if side not in SIDES:
            raise ValueError(f"a side is Side.BUY or Side.SELL, not {side!r}")
        plain = order_type is None and time_in_force is None
        if order_type is None:
            order_type = _MARKET if price is None else _LIMIT
        elif _integer("order_type", order_type) not in ORDER_TYPES:
            raise ValueError(f"{order_type!r} is no OrderType")
        elif (order_type == _MARKET) != (price is None):
            needs = "takes no price" if order_type == _MARKET else "needs a price"
            raise ValueError(f"an order of type {OrderType(order_type).name} {needs}")
        if time_in_force is None:
            time_in_force = _IOC if order_type == _MARKET else _GTC
        elif _integer("time_in_force", time_in_force) not in TIMES_IN_FORCE:
            raise ValueError(f"{time_in_force!r} is no TimeInForce")
        elif is_post_only_market(order_type, time_in_force):
            raise ValueError("a market order cannot be post-only")
        order = Order(
            symbol=symbol,
            average_price=_NAN,
            side=side,
            order_type=order_type,
            time_in_force=time_in_force,
            status=_SUBMITTED,
            action=_NEW,
        )
        if plain:
            self._pad.forms(side, price is None)[symbol] = order
        return order

    def _check_id(self, client_order_id: int) -> None:
        if not isinstance(client_order_id, int) or isinstance(client_order_id, bool):
            raise TypeError(f"a client_order_id is an int, not {type(client_order_id).__name__}")
        if not 0 < client_order_id < _GIVEN_IDS:
            raise ValueError(
                f"a client_order_id of one's own is 1 to 2**60 - 1, not {client_order_id}"
            )
        if client_order_id in self.orders:
            raise ValueError(f"client_order_id {client_order_id} is that of an open order")

    def _open_order(self, client_order_id: int) -> Any:
        order = self.orders.get(client_order_id)
        if order is None:
            raise ValueError(f"no order {client_order_id!r} is open")
        return order

    def _attach_ring(
        self, ring: Producer, dispatcher: Dispatcher, clock: Callable[[], int]
    ) -> None:
        """Let orders be sent through `ring`."""
        how: dict[str, Any] = {
            "times": ("ts_event", "ts_init"),
            "trigger": "ts_trigger",
            "dispatcher": dispatcher,
            "clock": None if clock is time.time_ns else clock,
        }
        own = ("client_order_id", "price", "quantity")
        self._now = clock
        self._pad.outlet = Outlet(ring, Order, _ORDER, fields=own, kept=self.orders, **how)
        self._send_new = self._pad.outlet
        self._send_change = Outlet(ring, Order, _ORDER, fields=(), **how)

    def _detach(self) -> None:
        """No more orders: there is no ring, or it is about to be closed."""
        self._pad.outlet = None
        self._send_new = self._send_change = _not_running

    # ---- books ---------------------------------------------------------------------------------

    def _book(self, kind: int, record: Any) -> None:
        """Take a report into the books."""
        if kind == _ORDER:
            client_order_id = record.client_order_id
            status = record.status
            if status == _REJECTED:
                if record.action != _NEW:
                    return
                known = self.orders.get(client_order_id)
                if known is not None and known.order_id and not record.order_id:
                    return  # a second order of this id was refused, not the one that is open
            if status >= _FILLED:
                self.orders.pop(client_order_id, None)
            else:
                self.orders[client_order_id] = record.copy()
        else:
            book_holding(self, kind, record)


def _integer(name: str, value: Any) -> int:
    if not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is an int, not {type(value).__name__}")
    return int(value)


def _refuse_types(quantity: Any, price: Any) -> NoReturn:
    for name, value in (("quantity", quantity), ("price", price)):
        if not isinstance(value, numbers.Real):
            raise TypeError(f"a {name} is a number, not {type(value).__name__}") from None
    raise AssertionError("two numbers that cannot be compared with one")


def _some(names: Any, most: int = 8) -> str:
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
