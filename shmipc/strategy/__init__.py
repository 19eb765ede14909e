"""Strategies: one engine, any number of strategies, each in its own process.

An engine has a :class:`StrategyManager`: it broadcasts events, takes orders, reports fills, and
may start and restart the strategies' processes. A strategy subclasses :class:`BaseStrategy`.
:func:`run_backtest` runs the same class in one process over an array or a capture.
"""

from __future__ import annotations

from shmipc.strategy.backtest import BacktestResult, run_backtest
from shmipc.strategy.base import BaseStrategy
from shmipc.strategy.eviction import NotEvicted
from shmipc.strategy.link import StrategyInfo, UnknownStrategy
from shmipc.strategy.manager import StrategyManager
from shmipc.strategy.session import Snapshot
from shmipc.strategy.supervisor import Exit
from shmipc.strategy.unread import Left

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
