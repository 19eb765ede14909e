"""``python -m shmipc``; see :mod:`shmipc.cli`."""

import sys

from shmipc.cli import main

if __name__ == "__main__":
    sys.exit(main())
