"""A simulated market: a capture as events, order books, an exchange, a ledger.

For backtests and demonstrations: it knows nothing of rings and processes. Events of a capture come
from :func:`shmipc.trading.market.feed.feed`, random ones from
:func:`shmipc.trading.market.synthetic.synthetic`.
"""

from shmipc.trading.market.book import Book
from shmipc.trading.market.exchange import Exchange
from shmipc.trading.market.ledger import Ledger

__all__ = ["Book", "Exchange", "Ledger"]
