"""Whether an order is valid: the one rule. Strategy, engine and exchange ask it.

- A quantity is positive and finite. A price is finite; a market order has none (NaN).
- Side, type and time in force are members of their enumerations, NONE excluded.
- A market order is never post-only.

Whoever asks adds what only it knows: the ids in use, the symbols there are, a market's own limits.
Two shortcuts state a part of the rule again, for speed: the extension (order_method.c) and the
engine's intake. They only accept plain orders; whatever they do not accept is put to the rule here.

Every comparison is False for NaN, and is to be asked for what is valid.
"""

from __future__ import annotations

import math
from typing import Any, Final

from shmipc.trading.events.dtypes import OrderType, Side, TimeInForce

__all__ = [
    "ORDER_TYPES",
    "PRICED_TYPES",
    "SIDES",
    "TIMES_IN_FORCE",
    "fault_of_amounts",
    "fault_of_change",
    "fault_of_choices",
    "is_finite_price",
    "is_post_only_market",
    "is_quantity",
]

# plain ints: looked up for every order
SIDES: Final = frozenset(int(side) for side in Side if side)
ORDER_TYPES: Final = frozenset(int(kind) for kind in OrderType if kind)
TIMES_IN_FORCE: Final = frozenset(int(span) for span in TimeInForce if span)
_MARKET, _POST_ONLY = int(OrderType.MARKET), int(TimeInForce.POST_ONLY)
#: The types of orders that need a price.
PRICED_TYPES: Final = ORDER_TYPES - {_MARKET}


def is_quantity(value: float) -> bool:
    """Is `value` a quantity that can be ordered?"""
    return 0.0 < value < math.inf


def is_finite_price(value: float) -> bool:
    """Is `value` a price that can be asked for? It may be 0 or below, as that of a spread is."""
    return -math.inf < value < math.inf


def is_post_only_market(order_type: int, time_in_force: int) -> bool:
    """Is it a market order that may not trade at once? There is no such order."""
    return order_type == _MARKET and time_in_force == _POST_ONLY


# Texts of faults have at most 31 bytes: they become the text of an ORDER event.


def fault_of_amounts(order: Any) -> str | None:
    """Return what is wrong with the quantity or price of a new order, or None."""
    if not is_quantity(order.quantity):
        return "quantity is not positive"
    if order.order_type == _MARKET:
        return None if math.isnan(order.price) else "a market order has no price"
    return None if is_finite_price(order.price) else "price is not finite"


def fault_of_choices(order: Any) -> str | None:
    """Return what is wrong with the side, type or time in force of a new order, or None."""
    if order.side not in SIDES:
        return "unknown side"
    if order.order_type not in ORDER_TYPES:
        return "unknown order type"
    return None if order.time_in_force in TIMES_IN_FORCE else "unknown time in force"


def fault_of_change(order: Any) -> str | None:
    """Return what is wrong with a MODIFY, or None. A quantity or price of NaN or 0 stays."""
    if order.quantity < 0.0 or order.quantity == math.inf:
        return "quantity is not positive"
    return "price is not finite" if math.isinf(order.price) else None
