"""``python -m shmipc.trading.strategy ENGINE ID MODULE:CLASS``: see
shmipc.trading.strategy.command."""

import sys

from shmipc.trading.strategy.command import run_named

if __name__ == "__main__":
    sys.exit(run_named())
