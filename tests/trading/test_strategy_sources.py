"""What a backtest takes: every form of the same events gives the same, and the rest is told."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import importlib.util
import logging
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from captures import REAL, made_capture, needs_real
from shmipc import Full, SchemaMismatch, run_backtest
from shmipc.trading.capture import CaptureError
from shmipc.trading.events import (
    Bar,
    EventKind,
    Order,
    OrderBook,
    Tick,
    Trade,
    TradeTick,
    columns,
    order_book_type,
)
from shmipc.trading.market import Exchange
from shmipc.trading.market.synthetic import synthetic
from shmipc.trading.strategy import BaseStrategy

EVENTS = [(kind, events) for kind, events in synthetic(300, seed=3)]


def of_kind(kind: EventKind) -> Any:
    """Return them as one array. Not by np.concatenate, which packs the fields anew."""
    raw = b"".join(events.tobytes() for found, events in EVENTS if found == kind)
    return np.frombuffer(raw, next(events.dtype for found, events in EVENTS if found == kind))


TICKS, BOOKS, PRINTS = map(of_kind, (EventKind.TICK, EventKind.ORDER_BOOK, EventKind.TRADE_TICK))


class Sees(BaseStrategy):
    """Keeps every event's bytes, in the order of their coming; buys at every tenth tick."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[bytes] = []

    def on_tick(self, tick: Any) -> None:
        self.seen.append(bytes(tick))
        if len(self.seen) % 10 == 0:
            self.buy(tick.symbol, 1.0, tick.ask_price)

    def on_trade_tick(self, trade_tick: Any) -> None:
        self.seen.append(bytes(trade_tick))

    def on_order_book(self, book: Any) -> None:
        self.seen.append(bytes(book))

    def on_bar(self, bar: Any) -> None:
        self.seen.append(bytes(bar))


def seen(source: Any, **options: Any) -> list[bytes]:
    strategy = Sees("s")
    assert run_backtest(strategy, source, **options).events == len(strategy.seen)
    return strategy.seen


def rows(events: Any) -> list[bytes]:
    return [row.tobytes() for row in events]


def frames() -> list[Any]:
    """Each way to a data frame that is installed, as (name, make it of a dict of columns)."""
    found = []
    for name, make in (
        ("pandas", "DataFrame"),
        ("polars", "DataFrame"),
        ("polars", "LazyFrame"),
        ("pyarrow", "table"),
    ):
        skip = pytest.mark.skipif(
            importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
        )
        found.append(pytest.param(name, make, marks=skip, id=f"{name}.{make}"))
    return found


each_frame = pytest.mark.parametrize(("name", "make"), frames())


def frame(name: str, make: str, given: Any) -> Any:
    return getattr(importlib.import_module(name), make)(given)


FORMS: dict[str, Callable[[Any], Any]] = {
    "array": lambda events: events,
    "array of other strides": lambda events: np.repeat(events, 2)[::2],
    "array of two dimensions": lambda events: events.reshape(-1, 1),
    "record array": lambda events: events.view(np.recarray),
    "big-endian": lambda events: events.astype(events.dtype.newbyteorder(">")),
    "packed": lambda events: events.astype(
        [(name, events.dtype[name]) for name in events.dtype.names]
    ),
    "concatenated": lambda events: np.concatenate([events[:5], events[5:]]),
    "list of one array": lambda events: [events],
    "pair": lambda events: (EventKind.TICK, events),
    "list of pairs": lambda events: [(EventKind.TICK, events[:5]), (EventKind.TICK, events[5:])],
    "records": lambda events: [Tick(row) for row in events],
    "tuple of records": lambda events: tuple(Tick(row) for row in events),
    "numpy records": lambda events: list(events),
    "array of objects": lambda events: np.array([Tick(row) for row in events], object),
    "iterator of records": lambda events: (Tick(row) for row in events),
    "iterator of arrays": lambda events: iter([events[:5], events[5:]]),
    "dict of columns": columns,
    "dict of lists": lambda events: {name: col.tolist() for name, col in columns(events).items()},
    "list of dicts": lambda events: [columns(events[:5]), columns(events[5:])],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_events_gives_the_same(form: str) -> None:
    assert seen(FORMS[form](TICKS)) == rows(TICKS)


@each_frame
@pytest.mark.parametrize("kind", [EventKind.TICK, EventKind.TRADE_TICK, EventKind.ORDER_BOOK])
def test_a_frame_of_the_columns_gives_the_same(name: str, make: str, kind: EventKind) -> None:
    events = of_kind(kind)
    assert seen(frame(name, make, columns(events))) == rows(events)


@each_frame
def test_frames_are_merged_by_time_as_arrays_are(name: str, make: str) -> None:
    arrays = [TICKS, BOOKS, PRINTS]
    assert seen([frame(name, make, columns(part)) for part in arrays]) == seen(arrays)


def test_arrays_that_numpy_has_put_together_are_events_still() -> None:
    packed = [(name, PRINTS.dtype[name]) for name in PRINTS.dtype.names or ()]
    for together in (
        PRINTS.astype(packed),  # what np.concatenate gives, from some version of numpy on
        np.concatenate([PRINTS[:5], PRINTS[5:]]),
    ):
        assert list(map(TradeTick, seen(together))) == list(map(TradeTick, PRINTS))


def test_one_event_in_any_form() -> None:
    for one in (Tick(TICKS[0]), TICKS[0], TICKS[:1].reshape(()), [TICKS[0]]):
        assert seen(one) == rows(TICKS[:1])


def test_records_come_in_the_order_of_their_list() -> None:
    mixed = [Tick(TICKS[3]), TradeTick(PRINTS[0]), TICKS[1]]
    assert seen(mixed) == [TICKS[3].tobytes(), PRINTS[0].tobytes(), TICKS[1].tobytes()]


GIVEN = {"symbol": "XY", "ts_init": [1, 2], "price": [1.5, 2.5], "size": [3, 4]}


class TestColumns:
    def test_what_is_not_given_is_not_known(self) -> None:
        first, second = map(TradeTick, seen(GIVEN))
        assert (first.symbol, first.ts_init, first.ts_event) == ("XY", 1, 1)
        assert (second.price, second.size, second.trade_id) == (2.5, 4.0, 0)
        [bar] = map(Bar, seen({"symbol": ["XY"], "ts_event": [7], "close_price": [1.0]}))
        assert (bar.ts_init, bar.close_price, bar.count) == (7, 1.0, 0)
        assert math.isnan(bar.open_price)

    def test_decimals_and_nothing_are_numbers(self) -> None:
        given = {**GIVEN, "price": [Decimal("1.5"), None]}
        first, second = map(TradeTick, seen(given))
        assert first.price == 1.5
        assert math.isnan(second.price)

    def test_books_by_levels_in_one_column(self) -> None:
        given = {name: BOOKS[name].tolist() for name in BOOKS.dtype.names}
        assert seen(given) == rows(BOOKS)

    def test_times_of_a_frame(self) -> None:
        for unit in ("ns", "us"):
            times = np.array([1_000, 2_000], "M8[ns]").astype(f"M8[{unit}]")
            found = map(TradeTick, seen({**GIVEN, "ts_init": times}))
            assert [event.ts_init for event in found] == [1_000, 2_000]

    def test_times_of_a_zone_and_of_an_index(self) -> None:
        pandas = pytest.importorskip("pandas")
        times = pandas.to_datetime([1_000, 2_000], utc=True).tz_convert("Asia/Tokyo")
        made = pandas.DataFrame({**GIVEN, "ts_init": times})
        for given in (made, made.set_index("ts_init")):
            assert [TradeTick(row).ts_init for row in seen(given)] == [1_000, 2_000]

    @pytest.mark.parametrize(
        ("change", "error", "text"),
        [
            ({"symbol": ["A" * 16, "XY"]}, ValueError, "'symbol': symbol 'A{16}' has 16 bytes"),
            ({"symbol": [b"A" * 16, b"XY"]}, ValueError, "'symbol': .* has 16 bytes"),
            ({"symbol": ["", "XY"]}, ValueError, "'symbol': .* has 0 bytes"),
            ({"symbol": [None, "XY"]}, ValueError, "'symbol': a symbol is a str"),
            ({"ts_init": [1.5, 2.0]}, ValueError, "'ts_init': whole numbers"),
            ({"ts_init": [1.7e18, 1.8e18]}, ValueError, "'ts_init': whole numbers"),
            ({"ts_init": [math.nan, 1.0]}, ValueError, "'ts_init': whole numbers"),
            ({"ts_init": ["1", "2"]}, ValueError, "'ts_init': whole numbers"),
            ({"ts_init": np.array(["NaT", "NaT"], "M8[ns]")}, ValueError, "'ts_init': .*NaT"),
            ({"ts_init": np.array([300_000, 1], "M8[Y]")}, ValueError, "'ts_init': .*int64"),
            (
                {"trade_id": np.array([1 << 63, 1], "u8")},
                ValueError,
                "'trade_id': a value is not in",
            ),
            ({"aggressor_side": [1, 200]}, ValueError, "'aggressor_side': a value is not in -128"),
            ({"price": ["1", "2"]}, ValueError, "'price': numbers are needed"),
            ({"price": [1.0, "2"]}, ValueError, "'price': numbers are needed"),
            ({"price": [1.0, 2.0, 3.0]}, ValueError, "different lengths"),
            ({"Price": [1.0, 2.0]}, SchemaMismatch, r"'Price' \(did you mean 'price'"),
            ({5: [1.0, 2.0]}, SchemaMismatch, "no fields of .*: 5"),
        ],
    )
    def test_what_an_event_cannot_hold_is_refused(
        self, change: dict[Any, Any], error: type[Exception], text: str, shm_dir: Path
    ) -> None:
        with pytest.raises(error, match=text):
            run_backtest(Sees, {**GIVEN, **change})
        assert list(shm_dir.iterdir()) == []

    def test_what_is_needed_is_named(self) -> None:
        for name in ("symbol", "ts_init"):
            given = {key: value for key, value in GIVEN.items() if key != name}
            with pytest.raises(ValueError, match=f"TradeTick events: no column '{name}'"):
                run_backtest(Sees, given)
        books = columns(BOOKS)
        for name, text in (("bid_count", "no column 'bid_count'"), ("ask_sizes_3", "9 of its 10")):
            with pytest.raises(ValueError, match=text):
                run_backtest(Sees, {key: books[key] for key in books if key != name})

    def test_columns_of_several_kinds_ask_for_a_pair(self) -> None:
        given = {"symbol": ["XY"], "ts_init": [1], "volume": [2.0]}
        with pytest.raises(SchemaMismatch, match=r"Tick, Bar: .*\(EventKind\.TICK, columns\)"):
            run_backtest(Sees, given)
        [bar] = map(Bar, seen((EventKind.BAR, given)))
        assert bar.volume == 2.0


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (None, TypeError, "this is no source: NoneType None"),
        (5, TypeError, "this is no source: int 5"),
        (b"capture.gz", TypeError, "this is no source: bytes"),
        ([1, 2], TypeError, "this is no event: int 1"),
        (["a.gz", "b.gz"], TypeError, "this is no event: str 'a.gz'"),
        ([[TICKS[0]]], TypeError, "this is no event: list"),
        (np.array(5.0), SchemaMismatch, "array of float64 is no market event"),
        (np.array(None), TypeError, "this is no source"),
        ({}, SchemaMismatch, "may be those of"),
        (Order(symbol="XY"), SchemaMismatch, "a record of ORDER is no market event"),
        (np.zeros(2, Trade.dtype), SchemaMismatch, "a record of TRADE is no market event"),
        (np.zeros(2, order_book_type(3).dtype), SchemaMismatch, "give book_levels=3"),
        ((99, TICKS), SchemaMismatch, "kind 99 are not broadcast"),
        ((EventKind.BAR, TICKS), SchemaMismatch, "no market event"),
        ((EventKind.BAR, 7), SchemaMismatch, "kind .*BAR.* are not int 7"),
        (iter([5]), TypeError, "this is no event: int 5"),
    ],
)
def test_what_is_no_source_is_told_with_what_is(
    source: Any, error: type[Exception], text: str, shm_dir: Path
) -> None:
    with pytest.raises(error, match=text) as caught:
        run_backtest(Sees, source)
    assert len(str(caught.value)) < 500
    assert list(shm_dir.iterdir()) == []


class TestWhatIsRun:
    @pytest.mark.parametrize("strategy", [int, Exchange, Exchange(), "module:Class", None])
    def test_what_is_no_strategy_is_refused(self, strategy: Any) -> None:
        with pytest.raises(TypeError, match="strategy is a BaseStrategy or a subclass of it, not"):
            run_backtest(strategy, TICKS)

    def test_an_exchange_that_is_none_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"an instance, not a class: Exchange\(\)"):
            run_backtest(Sees, TICKS, exchange=Exchange)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="Sees has no on_event"):
            run_backtest(Sees, TICKS, exchange=Sees())  # type: ignore[arg-type]

    def test_an_exchange_may_report_nothing_by_returning_nothing(self) -> None:
        class Silent:
            def on_event(self, kind: int, row: Any) -> None:
                """Takes no notice."""

            def on_order(self, strategy_id: str, order: Any) -> None:
                """Takes no notice."""

        found = run_backtest(Sees, TICKS, exchange=Silent())  # type: ignore[arg-type]
        assert len(found.orders) > 0
        assert len(found.reports) == 0

    def test_an_instance_runs_again_with_fresh_books(self) -> None:
        strategy = Sees("s")
        first = run_backtest(strategy, TICKS, exchange=Exchange())
        before = first.positions["BTCUSDT"].quantity
        again = run_backtest(strategy, TICKS, exchange=Exchange())
        assert first.positions["BTCUSDT"].quantity == before == again.positions["BTCUSDT"].quantity
        assert len(again.orders) == len(first.orders) > 0

    def test_one_that_is_running_is_refused(self) -> None:
        class Nests(BaseStrategy):
            def on_tick(self, tick: Any) -> None:
                engine = self.engine
                with pytest.raises(RuntimeError, match="'Nests' is running"):
                    run_backtest(self, TICKS)
                assert self.engine == engine
                self.stop()

        assert run_backtest(Nests, TICKS).events == 1


class TestCapacity:
    def test_four_at_once_fit_into_64_megabytes(self, shm_dir: Path) -> None:
        sizes = []

        class Measures(BaseStrategy):
            def on_tick(self, tick: Any) -> None:
                sizes.append(sum(path.stat().st_size for path in shm_dir.iterdir()))
                self.stop()

        run_backtest(Measures, TICKS)
        assert 0 < 4 * sizes[0] < 64 << 20

    def test_it_is_that_of_each_ring(self, shm_dir: Path) -> None:
        class Measures(BaseStrategy):
            def on_tick(self, tick: Any) -> None:
                for path in shm_dir.iterdir():
                    assert path.stat().st_size < 1 << 17
                self.stop()
                with contextlib.suppress(Full):
                    while True:
                        self.buy("XY", 1.0)

        strategy = Measures()
        found = run_backtest(strategy, TICKS, capacity=1 << 14)
        assert 10 < len(found.orders) <= (1 << 14) // 144
        assert strategy.order_capacity == BaseStrategy.order_capacity

    def test_events_of_any_size_fit(self) -> None:
        books = np.zeros(20, order_book_type(1000).dtype)
        books["symbol"] = b"XY"
        assert len(seen(books, book_levels=1000)) == 20
        large = np.dtype(
            [("symbol", "S16"), ("ts_event", "<i8"), ("ts_init", "<i8"), ("data", "u1", 1 << 20)]
        )

        class Large(BaseStrategy):
            custom: ClassVar[dict[int, Any]] = {2000: large}

        assert run_backtest(Large, np.zeros(3, large)).events == 3

    def test_none_is_refused(self) -> None:
        with pytest.raises(ValueError, match="capacity"):
            run_backtest(Sees, TICKS, capacity=0)


class TestACapture:
    def test_half_of_one_is_told_in_the_result_and_the_log(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        packed = gzip.compress(b"\n".join(made_capture(3000, 5)))
        path = tmp_path / "half.gz"
        path.write_bytes(packed[: len(packed) // 2])
        with caplog.at_level(logging.WARNING, "shmipc.trading.strategy"):
            found = run_backtest(Sees, path)
        assert found.source is not None
        assert found.source.truncated
        assert found.source.events == found.events > 100
        assert found.source.bad[0][0] == found.source.lines
        assert "half.gz" in caplog.text
        assert "TRUNCATED: gzip data ends before its end mark" in caplog.text
        with pytest.raises(CaptureError, match="not whole"):
            run_backtest(Sees, path, strict=True)

    def test_a_whole_one_has_a_summary_and_no_word_in_the_log(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "whole"
        path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(made_capture(300, 5)))
        found = run_backtest(Sees, str(path))
        assert found.source is not None
        assert (found.events, found.source.events, found.source.bad_count) == (300, 300, 0)
        assert caplog.text == ""
        assert run_backtest(Sees, TICKS).source is None

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"time,price,size\n1,2,3\n", "looks like CSV"),
            (b"<!DOCTYPE html><html></html>", "looks like an HTML page"),
            (b"\x93NUMPY\x01\x00v\x00{'descr': ", "a numpy array"),
            ("1 {}".encode("utf-16"), "text in UTF-16"),
            (b"", "it is empty"),
        ],
    )
    def test_a_file_without_an_event_is_an_error_and_nothing_is_left(
        self, data: bytes, text: str, tmp_path: Path, shm_dir: Path
    ) -> None:
        path = tmp_path / "file"
        path.write_bytes(data)
        with pytest.raises(CaptureError, match=text):
            run_backtest(Sees, path)
        assert list(shm_dir.iterdir()) == []

    @needs_real
    def test_the_real_one_cut_in_two(self, tmp_path: Path) -> None:
        path = tmp_path / "cut.gz"
        path.write_bytes(REAL.read_bytes()[:200_000])
        found = run_backtest(BaseStrategy, path)
        assert found.source is not None
        assert found.source.truncated
        assert found.events == found.source.events > 3000


@pytest.fixture
def found() -> Any:
    return run_backtest(Sees("s"), TICKS, exchange=Exchange())


class TestResults:
    @pytest.mark.parametrize("name", ["orders", "reports", "trades"])
    def test_have_the_schemas_names_and_one_column_a_field(self, found: Any, name: str) -> None:
        table = getattr(found, name)
        made = Trade if name == "trades" else Order
        assert len(table) > 0
        assert set(table.dtype.names) == set(made.dtype.names) - {"reserved"}
        assert all(table.dtype[field].shape == () for field in table.dtype.names)
        empty = getattr(run_backtest(Sees, TICKS[:0]), name)
        assert (len(empty), empty.dtype) == (0, table.dtype)

    @pytest.mark.parametrize("name", ["orders", "reports", "trades"])
    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_are_what_data_frames_take(self, found: Any, name: str, library: str) -> None:
        frames = pytest.importorskip(library)
        table = getattr(found, name)
        for made, symbol in ((table, b"BTCUSDT"), (columns(table), "BTCUSDT")):
            taken = frames.DataFrame(made)
            assert list(taken.columns) == list(table.dtype.names)
            assert taken["price"].to_numpy().tolist() == table["price"].tolist()
            assert taken["client_order_id"].to_numpy().tolist() == table["client_order_id"].tolist()
            assert list(taken["symbol"]) == [symbol] * len(table)


class TestColumnsOfEvents:
    def test_levels_are_columns_of_their_own(self) -> None:
        found = columns(BOOKS)
        assert found["bid_prices_0"].tolist() == BOOKS["bid_prices"][:, 0].tolist()
        assert found["ask_sizes_9"].tolist() == BOOKS["ask_sizes"][:, 9].tolist()
        assert len(found) == 6 + 4 * 10
        assert found["symbol"].tolist() == ["BTCUSDT"] * len(BOOKS)
        for column in found.values():
            assert column.shape == (len(BOOKS),)
            assert column.flags.c_contiguous
            assert not np.shares_memory(column, BOOKS)

    def test_reserved_fields_are_none_and_one_record_is_one_row(self) -> None:
        assert "reserved" not in columns(np.zeros(2, Order.dtype))
        assert columns(TICKS[0])["sequence"].tolist() == [TICKS["sequence"][0]]
        assert columns(np.zeros(0, OrderBook.dtype))["bid_prices_0"].tolist() == []

    def test_bytes_that_are_no_text_are_escaped(self) -> None:
        row = np.zeros(1, Tick.dtype)
        row["symbol"] = b"A\xff"
        assert columns(row)["symbol"].tolist() == ["A\\xff"]

    def test_what_is_no_structured_array_is_refused(self) -> None:
        for wrong in (np.zeros(3), [1, 2], "text"):
            with pytest.raises(TypeError, match="structured array of events"):
                columns(wrong)

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_of_books_are_what_data_frames_take(self, library: str) -> None:
        frames = pytest.importorskip(library)
        taken = frames.DataFrame(columns(BOOKS))
        assert taken["bid_prices_0"].to_numpy().tolist() == BOOKS["bid_prices"][:, 0].tolist()
