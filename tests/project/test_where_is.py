"""docs/where-is.md: every function is in the file that stands beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "where-is.md"


def rows() -> list[tuple[str, str]]:
    """Return (function, file) of each row; where a row has several files, they pair up in order."""
    found = []
    for line in DOCUMENT.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 3 or not re.search(r"`(?:src|shmipc)/", cells[2]):
            continue
        names = re.findall(r"`([^`]+)`", cells[1])
        files = re.findall(r"`([^`]+)`", cells[2])
        assert len(files) in (1, len(names)), line
        found += [(name, files[min(i, len(files) - 1)]) for i, name in enumerate(names)]
    return found


@pytest.mark.parametrize(("name", "file"), rows())
def test_function_is_where_the_document_says(name: str, file: str) -> None:
    text = (ROOT / file).read_text("utf-8")
    if file.endswith(".py"):
        assert re.search(rf"^\s*(?:def|class) {name}\b|^{name}\b", text, re.MULTILINE)
    elif file.endswith(".h"):
        assert re.search(rf"\b{name}\b", text)
    else:
        assert re.search(rf"^[A-Za-z].*\b{name}\(", text, re.MULTILINE)  # its definition


def test_the_document_has_its_journeys() -> None:
    assert len(rows()) > 40
