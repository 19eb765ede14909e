"""The events' schema: its dtypes, its symbols, its C header."""

from __future__ import annotations

import importlib.resources
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmipc import Consumer, Producer
from shmipc.trading import events
from shmipc.trading.events import cheader, control, dtypes
from shmipc.trading.events.control import CONTROLS
from shmipc.trading.events.dtypes import (
    EVENTS,
    EventKind,
    decode_symbol,
    encode_symbol,
    order_book_dtype,
)

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "shmipc" / "include" / "shmipc_events.h"

BY_NAME = {event.name: event for event in EVENTS}
C_STRUCTS = {
    "Tick": "shmipc_tick",
    "TradeTick": "shmipc_trade_tick",
    "OrderBook": "shmipc_order_book",
    "Bar": "shmipc_bar",
    "Order": "shmipc_order",
    "Trade": "shmipc_trade",
    "Account": "shmipc_account",
    "Position": "shmipc_position",
    "Timer": "shmipc_timer",
    "Custom": "shmipc_custom",
    "Hello": "shmipc_hello",
    "Status": "shmipc_status",
    "Bye": "shmipc_bye",
    "Welcome": "shmipc_welcome",
    "Instrument": "shmipc_instrument",
    "Subscription": "shmipc_subscription",
    "SnapshotEnd": "shmipc_snapshot_end",
    "Refused": "shmipc_refused",
    "Engine": "shmipc_engine",
    "Stop": "shmipc_stop",
}
C_ENUMS = {
    dtypes.EventKind: "SHMIPC_EVENT_KIND",
    dtypes.Side: "SHMIPC_SIDE",
    dtypes.OrderType: "SHMIPC_ORDER_TYPE",
    dtypes.TimeInForce: "SHMIPC_TIME_IN_FORCE",
    dtypes.OrderStatus: "SHMIPC_ORDER_STATUS",
    dtypes.OrderAction: "SHMIPC_ORDER_ACTION",
    dtypes.LiquiditySide: "SHMIPC_LIQUIDITY_SIDE",
    control.MessageFlag: "SHMIPC_MESSAGE_FLAG",
    control.Control: "SHMIPC_CONTROL",
}
C_DEFINES = {
    "EVENTS_VERSION": dtypes.VERSION,
    "SYMBOL_LEN": dtypes.SYMBOL_LEN,
    "DEFAULT_LEVELS": dtypes.DEFAULT_LEVELS,
    "MAX_LEVELS": dtypes.MAX_LEVELS,
    "CUSTOM_KIND_FIRST": dtypes.CUSTOM_KIND_FIRST,
    "ID_LEN": control.ID_LEN,
    "BITMAP_LEN": control.BITMAP_LEN,
    "MAX_PLACES": control.MAX_PLACES,
}

BOOK_LEVELS = (1, 2, 3, 4, 25, 1000)


def every_event(check: Any) -> Any:
    return pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)(check)


def every_message(check: Any) -> Any:
    messages = EVENTS + CONTROLS
    return pytest.mark.parametrize("event", messages, ids=lambda event: event.name)(check)


def offset_of(dtype: np.dtype[Any], name: str) -> int:
    assert dtype.fields is not None
    return int(dtype.fields[name][1])


# ---- dtypes --------------------------------------------------------------------------------------


def test_there_is_one_event_a_kind() -> None:
    assert [event.kind for event in EVENTS] == [kind for kind in EventKind if kind]
    assert set(C_STRUCTS) == set(BY_NAME) | {message.name for message in CONTROLS}
    assert set(C_ENUMS) == {*dtypes.ENUMS, *control.ENUMS}
    assert [message.kind for message in CONTROLS] == list(control.Control)
    assert max(EventKind) < 512 == min(control.Control)
    assert max(control.Control) < dtypes.CUSTOM_KIND_FIRST


@every_message
def test_event_is_whole_cache_lines_with_every_field_naturally_aligned(event: dtypes.Event) -> None:
    assert event.dtype.itemsize % 64 == 0
    assert event.dtype.fields is not None
    ends = 0
    for name, (field, offset, *_) in event.dtype.fields.items():
        assert offset % field.base.alignment == 0, name
        assert offset == ends, f"{name} has a gap before it, or overlaps"
        ends = offset + field.itemsize
    assert event.dtype.itemsize - ends < 64


@every_event
def test_event_begins_with_the_common_prefix(event: dtypes.Event) -> None:
    prefix = [
        (name, event.dtype[name].str, offset_of(event.dtype, name))
        for name in event.dtype.names[:3]
    ]  # type: ignore[index]
    assert prefix == [("symbol", "|S16", 0), ("ts_event", "<i8", 16), ("ts_init", "<i8", 24)]


@every_event
def test_event_says_what_each_field_is(event: dtypes.Event) -> None:
    assert event.dtype.names == tuple(field.name for field in event.fields)
    assert all(field.doc for field in event.fields)
    assert event.doc
    assert event.text == tuple(n for n in event.dtype.names if event.dtype[n].kind == "S")


@pytest.mark.parametrize(
    ("name", "itemsize"), [("Tick", 128), ("TradeTick", 64), ("Order", 128), ("OrderBook", 384)]
)
def test_event_has_the_size_it_was_made_for(name: str, itemsize: int) -> None:
    assert BY_NAME[name].dtype.itemsize == itemsize


@every_event
def test_zeroed_memory_is_no_valid_event(event: dtypes.Event) -> None:
    zeros = np.zeros((), event.dtype)
    named = {"side": dtypes.Side, "aggressor_side": dtypes.Side, "status": dtypes.OrderStatus}
    named |= {"order_type": dtypes.OrderType, "action": dtypes.OrderAction}
    named |= {"time_in_force": dtypes.TimeInForce, "liquidity_side": dtypes.LiquiditySide}
    assert event.dtype.names is not None
    for name in event.dtype.names:
        if name in named:
            assert named[name](int(zeros[name])).name == "NONE"
    assert zeros["symbol"] == b""
    assert EventKind(0).name == "NONE"
    assert all(enum(0).name == "NONE" for enum in dtypes.ENUMS)


def test_sides_multiply_quantities() -> None:
    assert (dtypes.Side.BUY, dtypes.Side.SELL) == (1, -1)


def fill(dtype: np.dtype[Any], seed: int = 0) -> Any:
    """Return one item whose fields all differ, of the sign and the size that their types bear."""
    item = np.zeros((), dtype)
    assert dtype.names is not None
    for number, name in enumerate(dtype.names, seed + 1):
        kind, size = dtype[name].base.kind, dtype[name].base.itemsize
        each = np.arange(max(1, int(np.prod(dtype[name].shape))))
        values: Any
        if kind == "S":
            values = f"{name}{number}".encode()[: size - 1]
        elif kind == "f":
            values = (number + each + 0.25).reshape(dtype[name].shape)
        elif kind == "i":
            values = -number - {1: 0, 4: 2**30, 8: 2**40}[size]
        else:
            values = ((200 if size == 1 else 2**31) + number + each).reshape(dtype[name].shape)
        item[name] = values
    return item


@every_event
def test_event_goes_through_a_typed_ring_unchanged(event: dtypes.Event) -> None:
    with (
        Producer("events", dtype=event.dtype, capacity=4) as producer,
        Consumer("events", timeout=5) as consumer,
    ):
        sent = np.array([fill(event.dtype, seed) for seed in range(2)], event.dtype)
        producer.send_many(sent)
        assert consumer.dtype == event.dtype
        with consumer.read_batch(timeout=0) as frame:
            assert frame.array.dtype == event.dtype
            assert frame.array.tobytes() == sent.tobytes()
            for name in event.dtype.names or ():
                assert (frame.array[name] == sent[name]).all()


@every_event
def test_event_has_a_record_type_that_reads_its_fields(event: dtypes.Event) -> None:
    record_type = events.RECORD_TYPES[event.kind]
    assert record_type is getattr(events, event.name)
    assert record_type.dtype == event.dtype
    assert events.kind_of(event.dtype) is event.kind
    item = fill(event.dtype)
    record = record_type(item)
    for name in event.dtype.names or ():
        value = item[name].item() if item[name].ndim == 0 else item[name]
        expected = value.decode() if name in event.text else value
        assert np.all(getattr(record, name) == expected), name
    assert bytes(record) == item.tobytes()


def test_kind_is_told_by_the_dtype() -> None:
    assert events.kind_of(order_book_dtype(7)) is EventKind.ORDER_BOOK
    assert events.order_book_type(7).dtype == order_book_dtype(7)
    assert events.order_book_type() is events.OrderBook
    assert events.kind_of(np.dtype("f8")) is None
    assert events.kind_of(np.dtype([("bid_prices", "f8", (3,))])) is None
    assert events.kind_of(np.dtype([("bid_prices", "f8")])) is None


@pytest.mark.parametrize("levels", BOOK_LEVELS)
def test_order_book_has_the_levels_asked_for(levels: int) -> None:
    dtype = order_book_dtype(levels)
    for name in ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes"):
        assert dtype[name].shape == (levels,)
    assert dtype.itemsize % 64 == 0
    assert dtype.itemsize - (48 + 32 * levels) in range(64)


@pytest.mark.parametrize("levels", [0, -1, 1001, 10**9])
def test_order_book_of_impossible_levels_is_refused(levels: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000 levels"):
        order_book_dtype(levels)


def test_field_out_of_alignment_is_refused() -> None:
    with pytest.raises(ValueError, match="'price' at offset 33 is not naturally aligned"):
        dtypes.make_dtype((dtypes.Field("side", "i1", "."), dtypes.Field("price", "<f8", ".")))


def test_tick_has_exactly_these_bytes() -> None:
    tick = np.zeros((), BY_NAME["Tick"].dtype)
    tick["symbol"] = b"BTCUSDT"
    tick["ts_event"] = 1_700_000_000_123_456_789
    tick["ts_init"] = -2
    tick["last_price"] = 61000.5
    tick["last_size"] = 0.25
    tick["bid_price"] = -1.0
    tick["ask_price"] = float("inf")
    tick["bid_size"] = 2.0
    tick["ask_size"] = 3.0
    tick["volume"] = 4.0
    tick["turnover"] = 5.0
    tick["open_price"] = 6.0
    tick["high_price"] = 7.0
    tick["low_price"] = 8.0
    tick["sequence"] = 0x0102030405060708
    assert tick.tobytes().hex(" ", 8).split() == [
        "4254435553445400",  # BTCUSDT
        "0000000000000000",
        "15cd853dfe9c9717",  # 1700000000123456789
        "feffffffffffffff",
        "0000000010c9ed40",  # 61000.5
        "000000000000d03f",
        "000000000000f0bf",
        "000000000000f07f",
        "0000000000000040",
        "0000000000000840",
        "0000000000001040",
        "0000000000001440",
        "0000000000001840",
        "0000000000001c40",
        "0000000000002040",
        "0807060504030201",
    ]


# ---- symbols -------------------------------------------------------------------------------------

GOOD_SYMBOLS = [
    ("BTCUSDT", b"BTCUSDT"),
    ("x", b"x"),
    ("a" * 15, b"a" * 15),
    ("ESZ6 C5000", b"ESZ6 C5000"),
    ("币安人BTC", b"\xe5\xb8\x81\xe5\xae\x89\xe4\xba\xbaBTC"),
    (b"BTC-PERPETUAL", b"BTC-PERPETUAL"),
    (b"\xff\xfe", b"\xff\xfe"),
]
BAD_SYMBOLS = [
    ("", "has 0 bytes"),
    (b"", "has 0 bytes"),
    ("a" * 16, "has 16 bytes; an event holds 1 to 15"),
    (b"a" * 16, "has 16 bytes"),
    ("ä" * 8, "has 16 bytes"),
    ("BTC\0", "control character"),
    ("BTC\n", "control character"),
    (b"\x7fBTC", "control character"),
    ("BTC\udc80", "surrogates not allowed"),
]


@pytest.mark.parametrize(("symbol", "raw"), GOOD_SYMBOLS)
def test_symbol_of_at_most_fifteen_bytes_is_taken_as_it_is(symbol: Any, raw: bytes) -> None:
    assert encode_symbol(symbol) == raw
    item = np.zeros((), BY_NAME["Tick"].dtype)
    item["symbol"] = raw
    assert item["symbol"].item() == raw
    assert item.tobytes()[len(raw) : 16] == bytes(16 - len(raw))


@pytest.mark.parametrize(("symbol", "why"), BAD_SYMBOLS)
def test_symbol_that_does_not_fit_is_refused_and_never_cut(symbol: Any, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        encode_symbol(symbol)


@pytest.mark.parametrize("symbol", [None, 5, 1.5, bytearray(b"BTC"), ["BTC"], np.bytes_(b"").dtype])
def test_symbol_of_another_type_is_refused(symbol: Any) -> None:
    with pytest.raises(TypeError, match="a symbol is a str, not"):
        encode_symbol(symbol)


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=17))
def test_symbol_comes_back_as_it_went_in_or_is_refused(symbol: str) -> None:
    fits = 0 < len(symbol.encode(errors="surrogatepass")) <= 15 and not any(
        char < " " or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in symbol
    )
    if fits:
        raw = encode_symbol(symbol)
        assert decode_symbol(raw.ljust(16, b"\0")) == decode_symbol(raw) == symbol
    else:
        with pytest.raises(ValueError):  # noqa: PT011
            encode_symbol(symbol)


def test_bytes_that_are_no_utf8_are_shown_escaped() -> None:
    assert decode_symbol(b"BTC\xff\0\0") == "BTC\\xff"


# ---- the header ----------------------------------------------------------------------------------


def test_committed_header_is_the_schemas() -> None:
    assert COMMITTED.read_text("utf-8") == cheader.generate(), (
        "python -m shmipc.trading.events.cheader > shmipc/include/shmipc_events.h"
    )


def test_header_is_installed_with_the_package() -> None:
    installed = importlib.resources.files("shmipc").joinpath("include", "shmipc_events.h")
    assert installed.read_text("utf-8") == cheader.generate()


def run_cheader(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "shmipc.trading.events.cheader", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_program_prints_the_header() -> None:
    assert run_cheader().stdout == cheader.generate()


def test_check_shows_what_is_stale(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.h"
    fresh.write_text(cheader.generate())
    done = run_cheader("--check", str(fresh))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    stale = tmp_path / "stale.h"
    stale.write_text(cheader.generate().replace("double bid_price; ", "double best_bid; "))
    done = run_cheader("--check", str(stale))
    assert done.returncode == 1
    assert "-    double best_bid; " in done.stdout
    assert "+    double bid_price; " in done.stdout
    assert run_cheader("--check", str(tmp_path / "none.h")).returncode == 1


# ---- what compilers make of it -------------------------------------------------------------------

STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")
LANGUAGES = {
    "c11": ("cc", "CC", "c", ("-Wconversion", "-Wshadow", "-Wstrict-prototypes")),
    "c++17": ("c++", "CXX", "c++", ("-Wconversion", "-Wshadow")),
}
SYMBOLS = [symbol for symbol, _ in GOOD_SYMBOLS] + [symbol for symbol, _ in BAD_SYMBOLS[:-1]]


def c_text(raw: bytes) -> str:
    return '"' + "".join(f"\\{byte:03o}" for byte in raw) + '"'


def as_c_would_see_it(symbol: Any) -> bytes:
    raw = symbol.encode() if isinstance(symbol, str) else symbol
    return bytes(raw.split(b"\0")[0])


def program() -> str:
    """Return a C program that prints all there is to compare, a line each."""
    lines = ["#include <stdio.h>", '#include "shmipc_events.h"']
    lines += [f"SHMIPC_DECLARE_ORDER_BOOK(book_{n}, {n});" for n in BOOK_LEVELS]
    lines += [
        "static void dump(const char *name, const void *at, size_t len)",
        "{",
        '    printf("bytes %s ", name);',
        "    for (size_t i = 0; i < len; i++)",
        '        printf("%02x", ((const unsigned char *)at)[i]);',
        '    printf("\\n");',
        "}",
        "int main(void)",
        "{",
        '    printf("ring " SHMIPC_EVENTS_RING "\\n", "E");',
        '    printf("ring " SHMIPC_ORDERS_RING "\\n", "E", "S");',
        '    printf("ring " SHMIPC_REPORTS_RING "\\n", "E", "S");',
    ]
    lines += [f'    printf("define {name} %d\\n", SHMIPC_{name});' for name in C_DEFINES]
    for enum, prefix in C_ENUMS.items():
        for member in enum:
            c_name = f"{prefix}_{member.name}"
            lines.append(f'    printf("enum {c_name} %d\\n", (int){c_name});')
    structs = [(C_STRUCTS[event.name], event.dtype) for event in EVENTS + CONTROLS]
    structs += [(f"book_{n}", order_book_dtype(n)) for n in BOOK_LEVELS]
    for struct, dtype in structs:
        lines.append(f'    printf("size {struct} %zu\\n", sizeof(struct {struct}));')
        lines += ["    {", f"        struct {struct} one;", "        memset(&one, 0, sizeof one);"]
        item = fill(dtype)
        for name in dtype.names or ():
            where = f"offsetof(struct {struct}, {name})"
            lines.append(f'        printf("offset {struct}.{name} %zu\\n", {where});')
            if dtype[name].kind == "S":
                text = c_text(item[name].item())
                lines.append(f"        memcpy(one.{name}, {text}, sizeof {text});")
            elif dtype[name].shape:
                for i, value in enumerate(item[name]):
                    lines.append(f"        one.{name}[{i}] = {value!s};")
            else:
                lines.append(f"        one.{name} = {item[name]!s};")
        lines += [f'        dump("{struct}", &one, sizeof one);', "    }"]
    lines += ["    char out[16];", "    int status;"]
    for symbol in SYMBOLS:
        lines += [
            "    memset(out, 'x', sizeof out);",
            f"    status = shmipc_symbol_set(out, {c_text(as_c_would_see_it(symbol))});",
            '    printf("symbol %d\\n", status);',
            '    dump("symbol", out, sizeof out);',
        ]
    lines += [
        '    status = shmipc_symbol_set(out, "ETHUSDT");',
        "    status += shmipc_symbol_set(out, out);",
        '    printf("again %d %s\\n", status, out);',
        "    return 0;",
        "}",
        "",
    ]
    return "\n".join(lines)


def expected_output() -> list[str]:
    lines = ["ring E.events", "ring E.S.orders", "ring E.S.reports"]
    lines += [f"define {name} {value}" for name, value in C_DEFINES.items()]
    for enum, prefix in C_ENUMS.items():
        lines += [f"enum {prefix}_{member.name} {int(member)}" for member in enum]
    structs = [(C_STRUCTS[event.name], event.dtype) for event in EVENTS + CONTROLS]
    structs += [(f"book_{n}", order_book_dtype(n)) for n in BOOK_LEVELS]
    for struct, dtype in structs:
        lines.append(f"size {struct} {dtype.itemsize}")
        lines += [f"offset {struct}.{name} {offset_of(dtype, name)}" for name in dtype.names or ()]
        lines.append(f"bytes {struct} {fill(dtype).tobytes().hex()}")
    for symbol in SYMBOLS:
        raw = as_c_would_see_it(symbol)
        try:
            status, out = 0, encode_symbol(raw).ljust(16, b"\0")
        except ValueError:
            status, out = -1, b"x" * 16
        lines += [f"symbol {status}", f"bytes symbol {out.hex()}"]
    return [*lines, "again 0 ETHUSDT"]


@pytest.mark.parametrize("standard", LANGUAGES)
def test_compiler_sees_what_numpy_sees(standard: str, tmp_path: Path) -> None:
    default, variable, language, more = LANGUAGES[standard]
    compiler = os.environ.get(variable) or default
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}: install a compiler, or set {variable}")
    source, target = tmp_path / "program.c", tmp_path / "program"
    source.write_text(program())
    command = [compiler, "-x", language, f"-std={standard}", *STRICT, *more]
    command += [f"-I{COMMITTED.parent}", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([str(target)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert done.stdout.splitlines() == expected_output()
