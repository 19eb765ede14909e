"""The tables of docs/strategies.md are the schema's and the protocol's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from shmipc.trading.events import dtypes
from shmipc.trading.events.dtypes import EVENTS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "strategies.md"

DOC_TYPES = {"<i8": "int64", "<u4": "uint32", "<f8": "double", "i1": "int8", "u1": "uint8"}


def doc_rows(event: dtypes.Event, fields: tuple[dtypes.Field, ...]) -> list[str]:
    rows = []
    for field in fields:
        if field.format.startswith("S"):
            kind = f"char[{field.format[1:]}]"
        else:
            kind = DOC_TYPES[field.format] + (f"[{field.shape[0]}]" if field.shape else "")
        assert event.dtype.fields is not None
        where = event.dtype.fields[field.name][1]
        rows.append(f"| {where} | `{field.name}` | {kind} | {field.doc} |")
    return rows


def documented_rows(heading: str) -> list[str]:
    """Return the rows of the first table under a heading, without the table's own."""
    text = DOCS.read_text("utf-8")
    assert f"\n{heading}\n" in text, f"{DOCS.name} lacks the heading {heading!r}"
    section = text.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def test_docs_have_the_common_fields() -> None:
    assert documented_rows("### Every event") == doc_rows(EVENTS[0], EVENTS[0].fields[:3])


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_docs_have_the_events_fields(event: dtypes.Event) -> None:
    heading = f"### {event.name}: kind {int(event.kind)}, {event.dtype.itemsize} bytes"
    assert documented_rows(heading) == doc_rows(event, event.fields[3:])


@pytest.mark.parametrize("enum", dtypes.ENUMS[1:], ids=lambda enum: enum.__name__)
def test_docs_have_the_enumerations_members(enum: Any) -> None:
    members = ", ".join(f"`{member.name}` {int(member)}" for member in enum)
    assert f"| `{enum.__name__}` | {members} |" in documented_rows("### Enumerations")


def test_docs_have_the_control_messages() -> None:
    protocol = pytest.importorskip("shmipc.trading.strategy.protocol")
    shown = {"i8": "int64", "i4": "int32", "f8": "double"}
    expected = []
    for control in protocol.Control:
        dtype = protocol.CONTROL_TYPES[control].dtype
        fields = []
        for name in dtype.names[3:]:
            format = dtype[name].str.lstrip("<|")
            kind = f"char[{format[1:]}]" if format[0] == "S" else shown.get(format)
            if name != "reserved":
                fields.append(f"`{name}` {kind}")
        expected.append((str(int(control)), control.name, ", ".join(fields)))
    section = DOCS.read_text("utf-8").split("\n## Joining\n", 1)[1]
    rows = [
        line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| 5")
    ]
    assert [(kind, name, fields) for kind, name, _, fields, _ in rows] == expected


def test_docs_have_the_callbacks() -> None:
    base = pytest.importorskip("shmipc.trading.strategy.base").BaseStrategy
    rows = documented_rows("## A strategy")
    told = {name for row in rows for name in re.findall(r"`(on_\w+)", row.split("|")[1])}
    assert told == {name for name in dir(base) if name.startswith("on_")} - {"on_exception"}
