"""A capture as events: held against a reading of the file that shares no code with it.

The reading is that of captures.py. It is held against the real capture, where there is one, and
against captures that are made there.
"""

from __future__ import annotations

import gzip
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captures import (
    BAD,
    DTYPES,
    LEVELS,
    REAL,
    depth,
    made_capture,
    needs_real,
    read_naively,
    snapshot,
    ticker,
    trade,
)
from shmipc.trading import capture
from shmipc.trading.events.dtypes import EventKind, Side, order_book_dtype
from shmipc.trading.market.feed import feed, feed_batches
from shmipc.trading.market.synthetic import synthetic


def assert_same(path: Path, lines: list[bytes]) -> Counter[EventKind]:
    """Compare the feed of `path` with the reading of `lines`: counts, order, each field's bytes."""
    expected = list(read_naively(lines))
    summary = capture.Summary()
    got = list(feed(path, levels=LEVELS, summary=summary))
    assert summary.bad == []
    assert [kind for kind, _ in got] == [kind for kind, _ in expected]
    counts: Counter[EventKind] = Counter()
    for kind, dtype in DTYPES.items():
        rows = [event for found, event in got if found == kind]
        assert {row.shape for row in rows} == {(1,)}
        assert all(each == dtype for each in {id(row.dtype): row.dtype for row in rows}.values())
        events = np.frombuffer(b"".join(row.tobytes() for row in rows), dtype)
        wanted = np.array([values for found, values in expected if found == kind], dtype)
        for name in dtype.names or ():
            assert events[name].tobytes() == wanted[name].tobytes(), (kind, name)
        counts[kind] = len(events)
    return counts


def events_of(path: Path, lines: list[bytes]) -> tuple[list[Any], capture.Summary]:
    path.write_bytes(b"\n".join(lines))
    summary = capture.Summary()
    got = list(feed(path, summary=summary))
    assert summary.lines == len(lines)
    assert sum(summary.kinds.values()) == len(got)
    assert summary.lines == len(got) + summary.bad_count
    return got, summary


@needs_real
def test_real_capture_is_what_an_independent_reading_finds() -> None:
    counts = assert_same(REAL, gzip.decompress(REAL.read_bytes()).splitlines())
    assert counts == {
        EventKind.TICK: 66_089,
        EventKind.TRADE_TICK: 21_313,
        EventKind.ORDER_BOOK: 6_552,  # 6,551 updates and the snapshot
    }


@pytest.mark.parametrize("seed", range(4))
def test_made_capture_is_what_an_independent_reading_finds(seed: int, tmp_path: Path) -> None:
    lines = made_capture(1500, seed)
    path = tmp_path / "capture"
    path.write_bytes(b"\n".join(lines))
    counts = assert_same(path, lines)
    assert min(counts.values()) > 300


def test_batches_are_the_same_events(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(b"\n".join(made_capture(1500, 7)))
    singles = [(kind, row.tobytes()) for kind, row in feed(path)]
    batches = list(feed_batches(path))
    assert [kind for kind, events in batches for _ in events] == [kind for kind, _ in singles]
    together = b"".join(events.tobytes() for _, events in batches)
    assert together == b"".join(row for _, row in singles)


def test_batches_are_runs_of_one_kind(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(b"\n".join([ticker(1), ticker(2), trade(3, "1", "1"), depth(4, 1), ticker(5)]))
    batches = list(feed_batches(path))
    assert [(kind, len(events)) for kind, events in batches] == [
        (EventKind.TICK, 2),
        (EventKind.TRADE_TICK, 1),
        (EventKind.ORDER_BOOK, 1),
        (EventKind.TICK, 1),
    ]
    assert all(events.flags.c_contiguous for _, events in batches)


def test_order_books_have_as_many_levels_as_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(depth(1, 1, [["9.0", "1"], ["8.0", "2"], ["7.0", "3"]]))
    [(_, books)] = feed(path, levels=2)
    assert books.dtype == order_book_dtype(2)
    assert books[0]["bid_prices"].tolist() == [9.0, 8.0]
    assert (books[0]["bid_count"], books[0]["ask_count"]) == (2, 0)


def test_trade_beside_the_book_moves_nothing(tmp_path: Path) -> None:
    lines = [trade(1, "10.0", "2"), trade(2, "99.0", "5", market="INSURANCE_FUND"), ticker(3)]
    got, _ = events_of(tmp_path / "capture", lines)
    assert [row[0]["aggressor_side"] for _, row in got[:2]] == [Side.BUY, Side.NONE]
    tick = got[2][1][0]
    assert (tick["last_price"], tick["high_price"], tick["volume"]) == (10.0, 10.0, 2.0)


def test_before_the_first_trade_prices_are_not_known(tmp_path: Path) -> None:
    [(_, [tick])], _ = events_of(tmp_path / "capture", [ticker(1)])
    names = ("last_price", "last_size", "open_price", "high_price", "low_price")
    assert all(math.isnan(tick[name]) for name in names)
    assert (tick["volume"], tick["turnover"]) == (0.0, 0.0)


@pytest.mark.parametrize("name", BAD)
def test_bad_line_is_counted_and_leaves_the_others_alone(name: str, tmp_path: Path) -> None:
    around = [ticker(1), depth(2, 1, [["9.0", "1"]]), trade(3, "10", "1"), ticker(4)]
    expected, _ = events_of(tmp_path / "good", around)
    got, summary = events_of(tmp_path / "bad", [*around[:2], BAD[name], *around[2:]])
    assert [(kind, row.tobytes()) for kind, row in got] == [
        (kind, row.tobytes()) for kind, row in expected
    ]
    [(number, reason)] = summary.bad
    assert number == 3
    assert reason
    assert summary.bad_count == 1


def test_bad_line_of_many_records_is_taken_out_whole(tmp_path: Path) -> None:
    levels = [["9.0", "1"], ["8.0", "1"], ["7.0", "1"]]
    lines = [depth(1, 1, levels), depth(2, 2, levels, symbol="A" * 16), depth(3, 3, [["9.0", "0"]])]
    got, summary = events_of(tmp_path / "capture", lines)
    assert [row[0]["bid_count"] for _, row in got] == [3, 2]
    assert summary.records == 4
    assert [number for number, _ in summary.bad] == [2]


def test_damaged_gzip_gives_what_came_before_the_damage(tmp_path: Path) -> None:
    lines = made_capture(3000, 9)
    whole, _ = events_of(tmp_path / "whole", lines)
    packed = gzip.compress(b"\n".join(lines))
    path = tmp_path / "cut.gz"
    path.write_bytes(packed[: len(packed) // 2])
    summary = capture.Summary()
    got = list(feed(path, summary=summary))
    assert summary.damage is not None
    assert summary.bad_count <= 1
    assert 500 < len(got) < len(whole)
    # a later snapshot of a symbol does not change what is before it
    assert [row.tobytes() for _, row in got] == [row.tobytes() for _, row in whole[: len(got)]]


def test_missing_file_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(feed(tmp_path / "absent"))


@pytest.mark.parametrize("chunk", [1, 1000])
def test_snapshot_before_any_symbol_is_of_the_first_one_named(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shmipc.trading.market.feed._CHUNK", chunk)
    lines = [snapshot(1, 5, [["9.0", "1"]]), snapshot(2, 6, [["9.5", "1"]]), depth(3, 7)]
    got, _ = events_of(tmp_path / "capture", lines)
    assert [row[0]["symbol"] for _, row in got] == [b"XYUSDT"] * 3
    assert [row[0]["bid_prices"][0] for _, row in got] == [9.0, 9.5, 9.5]


def test_snapshot_of_nobody_knows_what_is_a_bad_line(tmp_path: Path) -> None:
    with pytest.raises(capture.CaptureError, match="no line names"):
        events_of(tmp_path / "none", [snapshot(1, 5, [["9.0", "1"]])])
    lines = [ticker(1), ticker(2, symbol="OTHER"), snapshot(3, 5), ticker(4)]
    got, summary = events_of(tmp_path / "two", lines)
    assert [row[0]["symbol"] for _, row in got] == [b"XYUSDT", b"OTHER", b"XYUSDT"]
    assert [number for number, _ in summary.bad] == [3]
    assert "one of several" in summary.bad[0][1]


def test_symbols_have_books_and_days_of_their_own(tmp_path: Path) -> None:
    other = trade(3, "50", "1").replace(b"XYUSDT", b"OTHER")
    lines = [
        depth(1, 1, [["9.0", "1"]]),
        depth(2, 1, [["40.0", "2"]], symbol="OTHER"),
        other,
        ticker(4),
        ticker(5, symbol="OTHER"),
    ]
    got, _ = events_of(tmp_path / "capture", lines)
    rows = [row[0] for _, row in got]
    assert [rows[0]["bid_prices"][0], rows[1]["bid_prices"][0]] == [9.0, 40.0]
    assert math.isnan(rows[3]["last_price"])
    assert rows[4]["last_price"] == 50.0


def test_nothing_carried_is_lost_between_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "capture"
    path.write_bytes(b"\n".join(made_capture(800, 3)))
    whole = [(kind, row.tobytes()) for kind, row in feed(path)]
    monkeypatch.setattr("shmipc.trading.market.feed._CHUNK", 5)
    assert [(kind, row.tobytes()) for kind, row in feed(path)] == whole


# ---- a random market ---------------------------------------------------------------------------


def test_random_market_is_one_that_could_be() -> None:
    kinds: Counter[EventKind] = Counter()
    touch: Any = None
    trades: list[Any] = []
    times = []
    volume = 0.0
    for kind, events in synthetic(20_000, seed=5):
        assert events.dtype == DTYPES[kind]
        [row] = events
        times.append(int(row["ts_event"]))
        kinds[kind] += 1
        if kind == EventKind.TICK:
            assert 0 < row["bid_price"] < row["ask_price"]
            assert row["bid_size"] > 0
            assert row["ask_size"] > 0
            assert row["volume"] == volume
            assert not trades or row["last_price"] == trades[-1]["price"]
            touch = row
        elif kind == EventKind.TRADE_TICK:
            side = "ask" if row["aggressor_side"] == Side.BUY else "bid"
            assert row["price"] == touch[f"{side}_price"]
            assert 0 < row["size"] <= touch[f"{side}_size"]
            trades.append(row)
            volume += row["size"]
        else:
            assert (row["bid_prices"][0], row["ask_prices"][0]) == (
                touch["bid_price"],
                touch["ask_price"],
            )
            assert (np.diff(row["bid_prices"]) < 0).all()
            assert (np.diff(row["ask_prices"]) > 0).all()
    assert times == sorted(times)
    assert set(kinds) == set(DTYPES)
    assert 0.6 < kinds[EventKind.TICK] / 20_000 < 0.8
    assert len({trade["aggressor_side"] for trade in trades}) == 2


def test_random_market_is_the_same_for_the_same_seed() -> None:
    def run(seed: int) -> list[bytes]:
        return [events.tobytes() for _, events in synthetic(500, seed=seed, levels=3)]

    assert run(1) == run(1) != run(2)
    with pytest.raises(ValueError, match="do not fit"):
        synthetic(1, price=1.0)
