"""Where segments live."""

from __future__ import annotations

from shmipc._core import segment_dir, segment_path

__all__ = ["segment_dir", "segment_path"]
