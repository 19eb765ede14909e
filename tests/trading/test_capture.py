"""The capture parser: held against an independent reading of the real capture, and against
foreign, cut and malformed input. Needs no ring.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmipc.trading import capture

DATA = Path(
    os.environ.get("SHMIPC_TEST_DATA")
    or Path(__file__).resolve().parents[2].parent / "shared" / "data"
)
REAL = DATA / "binance-usdm-btcusdt-20240808.gz"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"no real capture at {REAL}")

TICKER = (
    b'17 {"stream":"x@bookTicker","data":{"e":"bookTicker","u":5,"s":"XY","b":"1.10",'
    b'"B":"2","a":"1.20","A":"3.5","T":9,"E":9}}'
)
TRADE = (
    b'18 {"stream":"x@trade","data":{"e":"trade","E":9,"T":8,"s":"XY","t":77,"p":"1.15",'
    b'"q":"0.006","X":"MARKET","m":true}}'
)
DEPTH = (
    b'19 {"stream":"x@depth@0ms","data":{"e":"depthUpdate","E":9,"T":7,"s":"XY","U":1,"u":6,'
    b'"pu":0,"b":[["1.0","4"],["0.9","0"]],"a":[["1.3","8.125"]]}}'
)
SNAPSHOT = b'20 {"lastUpdateId":6,"E":9,"T":7,"bids":[["1.0","4"]],"asks":[["1.3","1"],["2","1"]]}'
GOOD = (TICKER, TRADE, DEPTH, SNAPSHOT)


def read(
    path: Path, data: bytes | None = None, chunk: int = 3
) -> tuple[np.ndarray[Any, Any], capture.Summary]:
    if data is not None:
        path.write_bytes(data)
    summary = capture.Summary()
    parts = list(capture.read_capture(path, chunk=chunk, summary=summary))
    records = np.concatenate([np.zeros(0, capture.EVENT), *parts])
    assert summary.lines == sum(summary.kinds.values()) + summary.bad_count
    assert summary.records == len(records)
    return records, summary


def test_record_is_one_aligned_cache_line() -> None:
    assert capture.EVENT.itemsize == 64
    for name in capture.EVENT.names or ():
        dtype, offset = capture.EVENT.fields[name][:2]  # type: ignore[index]
        assert offset % dtype.itemsize == 0, name
        assert dtype.byteorder in "<=|"


def test_zeroed_record_is_no_event() -> None:
    record = np.zeros(1, capture.EVENT)[0]
    assert record["kind"] == capture.NONE
    assert record["side"] not in (capture.BUY, capture.SELL)
    assert capture.NONE not in capture.KINDS


def test_each_kind_becomes_its_records(tmp_path: Path) -> None:
    records, summary = read(tmp_path / "c", b"\n".join(GOOD) + b"\n")
    assert summary.by_name() == {"bookTicker": 1, "trade": 1, "depthUpdate": 1, "snapshot": 1}
    assert summary.bad == []
    assert summary.symbols == ["", "XY"]
    both, first, last = capture.FIRST | capture.LAST, capture.FIRST, capture.LAST
    ticker, trade, depth, shot = (
        capture.BOOK_TICKER,
        capture.TRADE,
        capture.DEPTH,
        capture.SNAPSHOT,
    )
    assert records.tolist() == [
        (9_000_000, 17, 5, 1.1, 2.0, 1.2, 3.5, 1, ticker, 0, both, 1),
        (8_000_000, 18, 77, 1.15, 0.006, 0.0, 0.0, 2, trade, capture.SELL, both, 1),
        (7_000_000, 19, 6, 1.0, 4.0, 0.0, 0.0, 3, depth, capture.BUY, first, 1),
        (7_000_000, 19, 6, 0.9, 0.0, 0.0, 0.0, 3, depth, capture.BUY, 0, 1),
        (7_000_000, 19, 6, 1.3, 8.125, 0.0, 0.0, 3, depth, capture.SELL, last, 1),
        (7_000_000, 20, 6, 1.0, 4.0, 0.0, 0.0, 4, shot, capture.BUY, first, 0),
        (7_000_000, 20, 6, 1.3, 1.0, 0.0, 0.0, 4, shot, capture.SELL, 0, 0),
        (7_000_000, 20, 6, 2.0, 1.0, 0.0, 0.0, 4, shot, capture.SELL, last, 0),
    ]


def test_update_without_levels_still_leaves_a_record(tmp_path: Path) -> None:
    line = re.sub(rb'"b":.*', b'"b":[],"a":[]}}', DEPTH)
    records, summary = read(tmp_path / "c", line)
    assert summary.by_name()["depthUpdate"] == 1
    assert records["flags"].tolist() == [capture.FIRST | capture.LAST]
    assert records["side"].tolist() == [0]


def test_trade_beside_the_book_is_flagged(tmp_path: Path) -> None:
    records, _ = read(tmp_path / "c", TRADE.replace(b'"MARKET"', b'"INSURANCE_FUND"'))
    assert records["flags"][0] & capture.OFF_BOOK


def test_long_and_foreign_symbols_stay_whole(tmp_path: Path) -> None:
    names = ["1000000VERYLONGNAMEUSDT_240927", "币安人生USDT", "XY"]
    lines = [TICKER.replace(b'"XY"', json.dumps(name).encode()) for name in names]
    records, summary = read(tmp_path / "c", b"\n".join(lines))
    assert [summary.symbols[i] for i in records["symbol"]] == names


def test_symbol_beyond_what_a_record_can_name_is_bad(tmp_path: Path) -> None:
    lines = [TICKER.replace(b'"XY"', b'"S%d"' % i) for i in range(257)]
    records, summary = read(tmp_path / "c", b"\n".join(lines))
    assert len(records) == 255
    assert [line for line, _ in summary.bad] == [256, 257]
    assert "symbols" in summary.bad[0][1]


BAD_LINES = {
    "empty": b"",
    "blank": b"  ",
    "no stamp": TICKER[3:],
    "stamp only": b"17",
    "negative stamp": b"-" + TICKER,
    "stamp of 64 bits": b"9223372036854775808" + TICKER[2:],
    "huge stamp": b"1" * 5000 + TICKER[2:],
    "unicode digits": "\u0661\u0667".encode() + TICKER[2:],
    "cut": TICKER[:-7],
    "two objects": TICKER + TICKER[3:],
    "not utf-8": TICKER.replace(b"XY", b"\xff\xfe"),
    "nul bytes": b"\0" * 30,
    "array": b"17 [1, 2]",
    "number": b"17 12",
    "deep": b"17 " + b"[" * 100_000,
    "huge integer": b'17 {"e":"trade","T":' + b"9" * 5000 + b"}",
    "data is null": b'17 {"data":null}',
    "unknown event": TICKER.replace(b'"bookTicker","u"', b'"kline","u"'),
    "event is a list": TICKER.replace(b'"e":"bookTicker"', b'"e":["bookTicker"]'),
    "no price": TICKER.replace(b'"b":"1.10",', b""),
    "price is nan": TICKER.replace(b"1.10", b"NaN"),
    "price is inf": TICKER.replace(b"1.10", b"inf"),
    "price in exponent form": TICKER.replace(b"1.10", b"1e5"),
    "price with underscore": TICKER.replace(b"1.10", b"1_0"),
    "price negative": TICKER.replace(b"1.10", b"-1.1"),
    "price of unicode digits": TICKER.replace(b"1.10", "\u0661".encode()),
    "price endless": TICKER.replace(b"1.10", b"1" * 400),
    "price not quoted": TICKER.replace(b'"1.10"', b"1.10"),
    "price null": TICKER.replace(b'"1.10"', b"null"),
    "id is a float": TICKER.replace(b'"u":5', b'"u":5.0'),
    "id is true": TICKER.replace(b'"u":5', b'"u":true'),
    "id negative": TICKER.replace(b'"u":5', b'"u":-5'),
    "id of 64 bits": TICKER.replace(b'"u":5', b'"u":9223372036854775808'),
    "time beyond int64 ns": TICKER.replace(b'"T":9', b'"T":9223372036855'),
    "no symbol": TICKER.replace(b'"s":"XY",', b""),
    "symbol empty": TICKER.replace(b'"XY"', b'""'),
    "side missing": TRADE.replace(b',"m":true', b""),
    "side is a number": TRADE.replace(b'"m":true', b'"m":1'),
    "levels are a dict": DEPTH.replace(b'[["1.3","8.125"]]', b"{}"),
    "levels missing": re.sub(rb',"a":.*', b"}}", DEPTH),
    "level of one": DEPTH.replace(b'["1.3","8.125"]', b'["1.3"]'),
    "level of three": DEPTH.replace(b'["1.3","8.125"]', b'["1.3","8.125","1"]'),
    "level is text": DEPTH.replace(b'["1.3","8.125"]', b'"13"'),
    "last level bad": SNAPSHOT.replace(b'["2","1"]', b'["2",""]'),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line_is_reported_and_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    data = b"\n".join((TICKER, BAD_LINES[name], TRADE, b""))
    records, summary = read(tmp_path / "c", data)
    assert records["line"].tolist() == [1, 3]
    assert summary.bad_count == 1
    [(line, reason)] = summary.bad
    assert line == 2
    assert reason
    assert len(reason) < 250
    assert summary.symbols == ["", "XY"]


def test_bad_lines_are_all_counted_though_not_all_kept(tmp_path: Path) -> None:
    _, summary = read(tmp_path / "c", TICKER + b"\n" + b"x\n" * (capture.MAX_BAD_KEPT + 5))
    assert summary.bad_count == capture.MAX_BAD_KEPT + 5
    assert len(summary.bad) == capture.MAX_BAD_KEPT


def test_endless_line_is_one_bad_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "MAX_LINE_LEN", 1000)
    data = b"\n".join((TICKER, b"7" * 100_000, TRADE, b"8" * 70_000))
    records, summary = read(tmp_path / "c", data)
    assert records["line"].tolist() == [1, 3]
    assert [line for line, _ in summary.bad] == [2, 4]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_last_line_counts_with_and_without_newline(end: bytes, tmp_path: Path) -> None:
    records, summary = read(tmp_path / "c", TICKER + b"\r\n" + TRADE + end)
    assert (len(records), summary.lines, summary.bad) == (2, 2, [])


def test_gzip_is_known_by_content_not_by_name(tmp_path: Path) -> None:
    text = b"\n".join(GOOD) * 2
    plain, _ = read(tmp_path / "plain.gz", text)
    packed, _ = read(tmp_path / "packed.txt", gzip.compress(text))
    members, _ = read(
        tmp_path / "members", gzip.compress(text[:100]) + gzip.compress(text[100:]) + b"\0" * 50
    )
    assert plain.tobytes() == packed.tobytes() == members.tobytes()


def test_cut_gzip_gives_its_whole_lines_and_says_that_it_is_cut(tmp_path: Path) -> None:
    lines = [TICKER.replace(b'"u":5', b'"u":%d' % (i * 7919)) for i in range(5000)]
    packed = gzip.compress(b"\n".join(lines))
    records, summary = read(tmp_path / "c", packed[: len(packed) // 2])
    assert summary.damage is not None
    assert 1000 < len(records) < 5000
    assert records["id"].tolist() == [i * 7919 for i in range(len(records))]
    assert summary.bad_count <= 1


def test_damaged_gzip_is_reported_not_raised(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"\n".join(GOOD)))
    packed[-6] ^= 0xFF  # its own checksum
    _, summary = read(tmp_path / "c", gzip.compress(TICKER + b"\n") + bytes(packed))
    assert summary.damage is not None
    assert summary.truncated
    _, summary = read(tmp_path / "d", gzip.compress(TICKER + b"\n") + b"trailing garbage")
    assert summary.damage is not None


def test_missing_file_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(capture.read_capture(tmp_path / "absent"))


def test_chunks_hold_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(b"\n".join(GOOD * 5))
    parts = list(capture.read_capture(path, chunk=2))
    assert len(parts) > 2
    for part in parts:
        assert part["flags"][0] & capture.FIRST
        assert part["flags"][-1] & capture.LAST
    with pytest.raises(ValueError, match="chunk"):
        next(capture.read_capture(path, chunk=0))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_mutation_of_a_line_raises_or_goes_uncounted(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [TICKER]  # what is mutated is text, not the magic number of gzip
    for _ in range(data.draw(st.integers(1, 4))):
        line = bytearray(data.draw(st.sampled_from(GOOD)))
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, len(line) - 1))
            line[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
            if not line:
                break
        lines.append(bytes(line))
    text = b"\n".join(lines)
    records, summary = read(tmp_path_factory.mktemp("m") / "c", text)
    assert summary.lines == text.count(b"\n") + (not text.endswith(b"\n"))
    assert np.isfinite(records["price"]).all()
    assert not (set(records["line"].tolist()) & {line for line, _ in summary.bad})


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_raise(raw: bytes) -> None:
    for line in (raw, b"17 " + raw, b'17 {"e":"trade","T":1,"m":true,"p":' + raw):
        symbols = {"": 0}
        try:
            kind, rows = capture.parse_line(line, 1, symbols)
        except capture.BadLine:
            continue
        assert kind in capture.KINDS
        np.array(rows, capture.EVENT)


def test_checksum_depends_on_order_content_and_count_not_on_batching() -> None:
    records = np.zeros(100, capture.EVENT)
    records["id"] = np.arange(100)

    def checksum(*parts: np.ndarray[Any, Any]) -> str:
        check = capture.Checksum()
        for part in parts:
            check.update(part)
        return check.value()

    value = checksum(records)
    assert value == checksum(records[:1], records[1:64], records[64:64], records[64:])
    assert value != checksum(records[:99])
    assert value != checksum(records[50:], records[:50])
    other = records.copy()
    other["ask_size"][7] = 1e-300
    assert value != checksum(other)
    with pytest.raises(ValueError, match="contiguous"):
        checksum(records[::2])


def test_checksum_reads_read_only_memory() -> None:
    records = np.zeros(4, capture.EVENT)
    records.flags.writeable = False
    check = capture.Checksum()
    check.update(records)
    assert check.value().startswith("4:")


def test_count_by_text_disagrees_when_lines_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "c"
    _, summary = read(path, b"\n".join((*GOOD, b"junk", TRADE)))
    lines, counts = capture.count_by_text(path)
    assert capture.disagreements(summary, lines, counts) == []
    summary.kinds[capture.TRADE] += 1
    assert capture.disagreements(summary, lines, counts)
    summary.kinds[capture.TRADE] -= 3
    assert capture.disagreements(summary, lines, counts)
    assert capture.disagreements(summary, lines + 1, counts)


@pytest.fixture(scope="module")
def parsed() -> tuple[np.ndarray[Any, Any], capture.Summary]:
    """The real capture's records and summary."""
    return read(REAL, chunk=50_000)


@pytest.fixture(scope="module")
def text() -> list[bytes]:
    """The real capture's lines."""
    return gzip.decompress(REAL.read_bytes()).splitlines()


@needs_real
class TestRealCapture:
    """The real capture, against a reading of its text that uses neither JSON nor the parser."""

    def test_counts_agree_with_the_text(
        self, parsed: tuple[np.ndarray[Any, Any], capture.Summary]
    ) -> None:
        _, summary = parsed
        assert summary.bad == []
        assert summary.damage is None
        assert summary.lines == 93_954
        assert summary.by_name() == {
            "bookTicker": 66_089,
            "trade": 21_313,
            "depthUpdate": 6_551,
            "snapshot": 1,
        }
        lines, counts = capture.count_by_text(REAL)
        assert lines == 93_954
        assert counts == summary.by_name()
        assert summary.symbols == ["", "BTCUSDT"]

    def test_every_price_and_size_of_the_text_is_there_in_order(
        self, parsed: tuple[np.ndarray[Any, Any], capture.Summary], text: list[bytes]
    ) -> None:
        records, _ = parsed
        quoted = re.compile(rb'"([0-9]+(?:\.[0-9]+)?)"')  # every number in quotes
        expected = [number for line in text for number in quoted.findall(line)]
        columns = [records[name] for name in ("price", "size", "ask_price", "ask_size")]
        is_quote = records["kind"] == capture.BOOK_TICKER
        keep = np.stack([np.ones_like(is_quote), np.ones_like(is_quote), is_quote, is_quote], 1)
        found = np.stack(columns, 1)[keep].tolist()
        assert len(found) == len(expected)
        exact = {number: Decimal(number.decode()) for number in set(expected)}
        as_written = {value: Decimal(repr(value)) for value in set(found)}
        assert all(
            as_written[value] == exact[number]
            for value, number in zip(found, expected, strict=True)
        )

    def test_times_ids_and_sides_are_those_of_the_text(
        self, parsed: tuple[np.ndarray[Any, Any], capture.Summary], text: list[bytes]
    ) -> None:
        records, _ = parsed
        first = records[records["flags"] & capture.FIRST != 0]
        assert first["line"].tolist() == list(range(1, len(text) + 1))
        assert first["ts_init"].tolist() == [int(line.split(b" ", 1)[0]) for line in text]
        event_ms = [int(line.split(b'"T":', 1)[1][:13]) for line in text]
        assert (first["ts_event"] // 1_000_000).tolist() == event_ms
        number = re.compile(rb'"(?:u|t|lastUpdateId)":([0-9]+)')
        ids = [int(number.search(line).group(1)) for line in text]  # type: ignore[union-attr]
        assert first["id"].tolist() == ids
        trades = records[records["kind"] == capture.TRADE]
        makers = [b'"m":true' in line for line in text if b'"e":"trade"' in line]
        assert (trades["side"] == capture.SELL).tolist() == makers
        assert set(trades["side"].tolist()) == {capture.BUY, capture.SELL}

    def test_levels_stay_on_their_side(
        self, parsed: tuple[np.ndarray[Any, Any], capture.Summary], text: list[bytes]
    ) -> None:
        records, _ = parsed
        levels = records[records["kind"] >= capture.DEPTH]
        bids = asks = 0
        for line in text:
            if b'"depthUpdate"' in line or b'"lastUpdateId"' in line:
                left, right = re.split(rb'"a":|"asks":', line, maxsplit=1)
                bids += left.count(b'["')
                asks += right.count(b'["')
        assert (levels["side"] == capture.BUY).sum() == bids
        assert (levels["side"] == capture.SELL).sum() == asks
