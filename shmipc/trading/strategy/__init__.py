"""Strategies: one engine, any number of strategies, each in its own process.

An engine has a :class:`StrategyManager`: it broadcasts events, takes orders, reports fills, and
may start and restart the strategies' processes. A strategy subclasses :class:`BaseStrategy`.
:func:`run_backtest` runs the same class in one process over an array or a capture.
"""

from __future__ import annotations

from shmipc.trading.strategy.backtest import BacktestResult, run_backtest
from shmipc.trading.strategy.base import BaseStrategy
from shmipc.trading.strategy.eviction import NotEvicted
from shmipc.trading.strategy.link import StrategyInfo, UnknownStrategy
from shmipc.trading.strategy.manager import StrategyManager
from shmipc.trading.strategy.session import Snapshot
from shmipc.trading.strategy.supervisor import Exit
from shmipc.trading.strategy.unread import Left

__all__ = [
    "BacktestResult",
    "BaseStrategy",
    "Exit",
    "Left",
    "NotEvicted",
    "Snapshot",
    "StrategyInfo",
    "StrategyManager",
    "UnknownStrategy",
    "run_backtest",
]
