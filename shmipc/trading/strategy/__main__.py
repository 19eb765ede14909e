"""``python -m shmipc.trading.strategy ENGINE ID MODULE:CLASS``: see program.py."""

import sys

from shmipc.trading.strategy.program import run_named

if __name__ == "__main__":
    sys.exit(run_named())
