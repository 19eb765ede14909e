"""``python -m shmipc.strategy ENGINE ID MODULE:CLASS``: see shmipc.strategy.command."""

import sys

from shmipc.strategy.command import run_named

if __name__ == "__main__":
    sys.exit(run_named())
