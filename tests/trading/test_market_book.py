"""The order book: what updates and snapshots leave of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmipc.trading.events.dtypes import ORDER_BOOK, order_book_dtype
from shmipc.trading.market import book as module
from shmipc.trading.market.book import Book


def test_best_levels_come_first() -> None:
    book = Book()
    book.update(1, [(9.0, 1.0), (9.5, 2.0), (8.0, 3.0)], [(11.0, 4.0), (10.0, 5.0)])
    assert book.best_bids(2) == [(9.5, 2.0), (9.0, 1.0)]
    assert book.best_bids(9) == [(9.5, 2.0), (9.0, 1.0), (8.0, 3.0)]
    assert book.best_asks(9) == [(10.0, 5.0), (11.0, 4.0)]


def test_size_of_zero_removes_a_level() -> None:
    book = Book()
    book.update(1, [(9.0, 1.0), (8.0, 1.0)], [])
    book.update(2, [(9.0, 0.0), (7.0, 0.0)], [])  # 7.0 was never there
    assert book.best_bids(9) == [(8.0, 1.0)]
    book.update(3, [(9.0, 2.0)], [])
    assert book.best_bids(9) == [(9.0, 2.0), (8.0, 1.0)]


def test_level_of_an_update_that_the_book_holds_is_left_alone() -> None:
    book = Book()
    assert book.update(5, [(9.0, 1.0)], [])
    assert not book.update(5, [(9.0, 7.0)], [])
    assert not book.update(4, [(9.0, 7.0)], [])
    assert book.best_bids(9) == [(9.0, 1.0)]
    assert book.sequence == 5


def test_snapshot_replaces_the_book_and_takes_what_is_newer_again() -> None:
    book = Book()
    book.update(10, [(9.0, 1.0)], [])
    book.update(20, [(8.0, 2.0)], [])
    book.update(30, [(7.0, 3.0)], [(10.0, 1.0)])
    assert not book.complete
    book.snapshot(20, [(9.0, 5.0), (6.0, 0.0)], [])  # asked for when 20 was the last
    assert book.complete
    assert book.best_bids(9) == [(9.0, 5.0), (7.0, 3.0)]
    assert book.best_asks(9) == [(10.0, 1.0)]
    assert book.sequence == 30
    book.snapshot(40, [(1.0, 1.0)], [])
    assert (book.best_bids(9), book.best_asks(9), book.sequence) == ([(1.0, 1.0)], [], 40)


def test_updates_kept_for_a_snapshot_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_UPDATES", 2)
    book = Book()
    for number in range(1, 6):
        book.update(number, [(float(number), 1.0)], [])
    book.snapshot(0, [], [])
    assert book.best_bids(9) == [(5.0, 1.0), (4.0, 1.0)]


def test_row_has_counts_and_zeros_where_there_is_no_level() -> None:
    book = Book()
    book.update(3, [(9.0, 1.0), (8.0, 2.0), (7.0, 3.0)], [])
    row = np.zeros(1, order_book_dtype(2))[0]
    book.write(row)
    assert (row["sequence"], row["bid_count"], row["ask_count"]) == (3, 2, 0)
    assert row["bid_prices"].tolist() == [9.0, 8.0]
    assert row["bid_sizes"].tolist() == [1.0, 2.0]
    assert row["ask_prices"].tolist() == [0.0, 0.0]


LEVELS = st.lists(
    st.tuples(st.integers(1, 30).map(float), st.sampled_from([0.0, 0.0, 1.0, 2.5])), max_size=12
)
STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(-3, 6), LEVELS, LEVELS), min_size=1, max_size=25
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(STEPS)
def test_book_is_that_of_a_naive_one(
    steps: list[tuple[bool, int, module.Level, module.Level]],
) -> None:
    """A dictionary a side, made anew from the last snapshot and all updates for every step."""
    book, history, last, now = Book(), [], None, 100
    for is_snapshot, step, bids, asks in steps:
        if is_snapshot and step < 3:  # fewer snapshots than updates
            book.snapshot(now + step, bids, asks)
            last = (now + step, bids, asks)
        else:
            now += step
            book.update(now, bids, asks)
            history.append((now, bids, asks))
        # in the order of their coming, each one dropped that is not newer than what is held
        sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        held = 0
        for number, *changes in ([last] if last else []) + history:
            if number <= held:
                continue
            held = number
            for side, levels in zip(sides, changes, strict=True):
                side.update(levels)
                for price in [price for price in side if not side[price]]:
                    del side[price]
        assert book.sequence == held
        assert book.best_bids(40) == sorted(sides[0].items(), reverse=True)
        assert book.best_asks(40) == sorted(sides[1].items())
        row = np.zeros(1, ORDER_BOOK)[0]
        book.write(row)
        assert row["bid_prices"][: row["bid_count"]].tolist() == [
            price for price, _ in book.best_bids(10)
        ]
