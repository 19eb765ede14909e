"""A simulated market: a capture as events, order books, an exchange, a ledger.

For backtests and demonstrations: it knows nothing of rings and processes. Events of a capture come
from :func:`shmipc.market.feed.feed`, random ones from :func:`shmipc.market.synthetic.synthetic`.
"""

from shmipc.market.book import Book
from shmipc.market.exchange import Exchange
from shmipc.market.ledger import Ledger

__all__ = ["Book", "Exchange", "Ledger"]
