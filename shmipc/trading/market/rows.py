"""One row of a dtype. Not ``np.array``, which leaves what lies between the fields as it finds it:
rows go to other processes as bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["make_row"]


def make_row(dtype: np.dtype[np.void], values: tuple[Any, ...]) -> np.void:
    """Return a row of `dtype` with `values` in its fields, and zeros between them."""
    rows = np.zeros(1, dtype)
    rows[0] = values
    row: np.void = rows[0]
    return row
