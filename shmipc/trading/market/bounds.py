"""Which prices and sizes are known: one rule for books, the exchange, the ledger and positions.

NaN means "not known" (:mod:`shmipc.trading.events.dtypes`). So does all else that no market can
mean: an infinity, a size below 0, and a number so large that a price times a size, or a sum of
such, could be infinite. Every comparison here is False for NaN, and is to be asked for what is
known: that something is *not* less than a price says nothing where the price is NaN.
"""

from __future__ import annotations

__all__ = ["MOST", "is_price", "is_size"]

#: Prices and sizes are below this, so that their products and sums are finite.
MOST = 1e100


def is_price(value: float) -> bool:
    """Is `value` a known price? It may be 0 or below, as that of a spread is."""
    return -MOST < value < MOST


def is_size(value: float) -> bool:
    """Is `value` a known size? It may be 0: nothing is there."""
    return 0.0 <= value < MOST
