"""Editors and type checkers know the fields of events, from the schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shmipc.trading.events import dtypes, stubs

PROGRAM = """
from shmipc.trading.events import Order, OrderBook, Tick, order_book_type
from shmipc.trading.strategy import BaseStrategy

class Probe(BaseStrategy):
    def on_tick(self, tick: Tick) -> None:
        reveal_type(tick.last_price)
        reveal_type(tick.symbol)
        reveal_type(tick.sequence)
        reveal_type(tick.copy())
        for order in self.orders.values():
            reveal_type(order.client_order_id)

    def on_order_book(self, book: OrderBook) -> None:
        reveal_type(book.bid_prices)
        reveal_type(order_book_type(5)(book).ask_count)

Tick(symbol="BTCUSDT", last_price=1)
Tick(symbol="BTCUSDT", last_prise=1)
Order(price="1")
"""
SAID = ["float", "str", "int", "Tick", "int", "float64]]", "int"]


def test_stubs_are_those_of_the_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert stubs.STUBS.read_text("utf-8") == stubs.generate(), (
        "write them anew: python -m shmipc.trading.events.stubs > shmipc/trading/events/records.pyi"
    )
    assert stubs.main(["--check", str(stubs.STUBS)]) == 0
    assert stubs.main(["--check", str(tmp_path / "none")]) == 1
    assert "+class Tick(Record):" in capsys.readouterr().out
    assert stubs.main([]) == 0
    assert capsys.readouterr().out == stubs.generate()


def test_every_field_of_every_event_has_a_type() -> None:
    text = stubs.generate()
    for event in dtypes.EVENTS:
        body = text.split(f"class {event.name}(Record):")[1].split("\nclass ")[0]
        assert [line.split(":")[0].strip() for line in body.splitlines() if "  # " in line] == [
            field.name for field in event.fields
        ]


def test_a_type_checker_knows_them(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed: pip install -e '.[dev]'")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", str(program)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        timeout=110,
    )
    lines = done.stdout.splitlines()
    revealed = [line.split('"')[1].split(".")[-1] for line in lines if "Revealed type" in line]
    assert revealed == SAID, done.stdout
    errors = [line for line in lines if ": error:" in line]
    assert len(errors) == 2, done.stdout
    assert "last_prise" in errors[0]
    assert '"price"' in errors[1]
