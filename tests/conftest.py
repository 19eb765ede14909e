"""Every test gets a segment directory of its own, and leaves nothing in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

SHM = Path("/dev/shm")


@pytest.fixture(autouse=True)
def shm_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh SHMIPC_DIR on tmpfs. A file left behind fails the test that left it."""
    parent = SHM if os.access(SHM, os.W_OK) else None
    with TemporaryDirectory(prefix="shmipc-test-", dir=parent) as directory:
        monkeypatch.setenv("SHMIPC_DIR", directory)
        yield Path(directory)
        left = sorted(path.name for path in Path(directory).iterdir())
        assert left == [], f"segments left behind: {left}"
