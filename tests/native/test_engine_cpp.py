"""examples/engine.cpp: a C++ engine that plays captures to Python strategies and fills orders."""

from __future__ import annotations

import gzip
import hashlib
import math
import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captures import (
    BAD,
    DTYPES,
    REAL,
    depth,
    made_capture,
    needs_real,
    read_naively,
    snapshot,
    ticker,
)
from helpers import DEADLINE, Peer
from native_engine import SMALL, Hand, Start, engines, hit, quote, still_market
from shmipc.trading import capture
from shmipc.trading.events import EventKind, OrderStatus, Position, Trade
from shmipc.trading.market.feed import feed_batches
from shmipc.trading.strategy.protocol import Control

pytestmark = pytest.mark.once

BUY, SELL = 1, -1
NEW, CANCEL, MODIFY = 1, 2, 3
MARKET, LIMIT, STOP_MARKET = 1, 2, 3
GTC, IOC, FOK, DAY, POST_ONLY = 1, 2, 3, 4, 5
NAN = math.nan


@pytest.fixture
def start() -> Iterator[Start]:
    with engines() as start:
        yield start


@pytest.fixture
def start_fast() -> Iterator[Start]:
    """Without sanitizers, for the real capture."""
    with engines(sanitized=False) as start:
        yield start


@pytest.fixture
def hand(start: Start, tmp_path: Path) -> Iterator[Hand]:
    """A strategy by hand, joined to an engine whose market shows 9.00/11.00 and stands still."""
    path = still_market(tmp_path / "capture", quote(9, 2, 11, 3))
    engine = start(path, "--strategies", "hand", "--capacity", SMALL, "--symbols", "XYUSDT")
    made = Hand()
    made.join()
    made.market(0)
    yield made
    made.leave()
    assert engine.stop()


RECORDER = """
    from native_engine import NAME, Recorder
    Recorder(args[0], engine=NAME).run()
    """


def play(start: Start, path: Path, strategies: int = 1) -> tuple[str, str]:
    """Play a capture flat out to some recorders; the engine's first line and what each got."""
    names = [f"r{place}" for place in range(strategies)]
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(RECORDER, name)) for name in names]
        engine = start(path, "--flat-out", "--strategies", *names)
        got = {peer.hear() for peer in peers}
        for peer in peers:
            peer.finish()
    assert len(got) == 1
    lines = engine.finish().splitlines()
    assert len(lines) == 1 + strategies
    return lines[0], got.pop()


def digest(rows: Iterable[bytes]) -> str:
    """What a recorder says that gets all of `rows`."""
    found, count = hashlib.blake2b(digest_size=16), 0
    for row in rows:
        found.update(row)
        count += 1
    return f"{count} {found.hexdigest()} 0"


def read_rows(lines: list[bytes]) -> list[bytes]:
    """The events of a capture, by the independent reading, as bytes whose padding is 0."""
    rows = []
    for kind, values in read_naively(lines):
        row = np.zeros(1, DTYPES[kind])
        row[0] = values
        rows.append(row.tobytes())
    return rows


# ---- events --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategies", [1, 3])
def test_every_event_comes_once_in_order_with_its_bytes(
    strategies: int, start: Start, tmp_path: Path
) -> None:
    lines = made_capture(4000, seed=strategies)
    path = tmp_path / "capture"
    path.write_bytes(b"\n".join(lines))
    expected = read_rows(lines)
    told, got = play(start, path, strategies)
    assert got == digest(expected)
    assert told.startswith("4000 events in ")
    assert told.endswith(" of 4000 lines, 0 of them bad")


@pytest.fixture(scope="module")
def real_digest() -> str:
    """What a recorder says of the real capture."""
    found, count = hashlib.blake2b(digest_size=16), 0
    for _, rows in feed_batches(REAL):
        found.update(rows.tobytes())
        count += len(rows)
    return f"{count} {found.hexdigest()} 0"


@needs_real
@pytest.mark.parametrize("strategies", [1, 3])
def test_real_capture_comes_whole(strategies: int, start_fast: Start, real_digest: str) -> None:
    told, got = play(start_fast, REAL, strategies)
    assert got == real_digest
    assert told.startswith("93954 events in ")


def bruised(lines: list[bytes], seed: int) -> list[bytes]:
    """Truncate, change or double some bytes of some lines."""
    chance = random.Random(seed)
    found = []
    for whole in lines:
        text = bytearray(whole)
        at = chance.randrange(len(text))
        match chance.randrange(16):
            case 0:
                del text[at:]
            case 1:
                text[at] = chance.randrange(256)
            case 2:
                text[at : at + 1] = text[at : at + 1] * 2
            case 3:
                del text[at : at + chance.randint(1, 3)]
            case 4:
                text[at:at] = chance.choice(
                    [b"\\", b'"', b",", b"}", b"\xff", b"\xc3\xa9", b"-", b"e1"]
                )
        found.append(bytes(text).replace(b"\n", b" "))
    return found


#: What a text may hold, and what not: UTF-8 too long, of halves, beyond the last, truncated ...
TEXTS = [
    *("\u00e9", "\u20ac", "\U0001f600", "\\u00e9", "\\n\\\\\\/", "\\ud800", "\x7f"),
    *(
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xf0\x8f\xbf\xbf",
    ),
    *(
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\x80",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xc3(",
    ),
    *(b"\\", b"\\u12", b"\\x", b"\x01", b"\x00", b"\t"),
]
#: Values that a field of no use may have, and some that it may not.
VALUES = [
    *("0", "-0", "1.5e-7", "1E+3", "true", "null", "[]", "{}", '[{"a":[1,2]}]', '""', " 7 "),
    *("01", "-", "1.", ".5", "+1", "1e", "tru", "nul", "True", "[1,]", "[,1]", '{"a"}', '{"a":1,}'),
    *("{1:2}", "[1 2]", "'a'", "0x1", "", "1,", "1}", "[}", '"'),
]


def test_bad_lines_are_those_that_python_finds_bad(start: Start, tmp_path: Path) -> None:
    lines = [*BAD.values(), *bruised(made_capture(4000, seed=3), seed=4), *BAD.values(), b"{}"]
    lines += [b"5 " + b"[1," * (6 << 20), ticker(8)]  # longer than any line of a capture
    lines += [b"9" * 19 + b" {}", b"1 " + b"[" * 500, b"1", b" ", b'1 "', b'2 {"T":1}']
    raw = [text if isinstance(text, bytes) else text.encode() for text in TEXTS]
    odd = [b'"' + text + b'"' for text in raw] + [value.encode() for value in VALUES]
    lines += [ticker(10).replace(b'"xyusdt@bookTicker"', value) for value in odd]
    path = tmp_path / "capture"
    path.write_bytes(b"\n".join(lines))
    summary = capture.Summary()
    rows = [rows.tobytes() for _, rows in feed_batches(path, summary=summary)]
    assert 200 < summary.bad_count < 2000
    told, got = play(start, path)
    assert f"{summary.lines} lines, {summary.bad_count} of them bad" in told
    assert got.split()[1] == digest(rows).split()[1]
    number, _ = summary.bad[0]
    assert f"(the first: line {number}: " in told


def test_snapshot_before_any_symbol_waits_for_one(start: Start, tmp_path: Path) -> None:
    lines = [snapshot(1, 5, [["9.0", "1"]]), b"bad", snapshot(2, 6, [["9.5", "1"]]), depth(3, 7)]
    lines += [ticker(4, symbol="OTHER"), snapshot(5, 9), ticker(6)]
    path = tmp_path / "capture"
    path.write_bytes(b"\n".join(lines))
    rows = [rows.tobytes() for _, rows in feed_batches(path)]
    told, got = play(start, path)
    assert got.split()[1] == digest(rows).split()[1]
    assert told.startswith("5 events in ")
    assert " of 7 lines, 2 of them bad (the first: line 2: " in told


def test_damaged_gzip_gives_what_came_before_the_damage(start: Start, tmp_path: Path) -> None:
    lines = made_capture(3000, seed=9)
    expected = read_rows(lines)
    path = tmp_path / "capture.gz"
    packed = gzip.compress(b"\n".join(lines))
    path.write_bytes(packed[: len(packed) // 2])
    engine = start(path, "--flat-out", "--strategies", "r0")
    with Peer(RECORDER, "r0") as peer:
        got = peer.hear()
        peer.finish()
    out = engine.process.communicate(timeout=DEADLINE)[0]  # gzip complains on stderr
    assert engine.process.returncode == 0
    count = int(got.split()[0])
    assert 500 < count < 3000
    assert got == digest(expected[:count])
    assert out.startswith(f"{count} events in ")


# ---- orders --------------------------------------------------------------------------------------


def test_order_of_a_strategy_comes_and_its_fill_goes_back(start: Start, tmp_path: Path) -> None:
    path = still_market(tmp_path / "capture", quote(9, 2, 11, 3))
    engine = start(path, "--flat-out", "--strategies", "buyer")
    body = """
        from native_engine import NAME, Buyer
        Buyer("buyer", engine=NAME).run()
        """
    with Peer(body) as peer:
        assert [peer.hear() for _ in range(5)] == [
            "order ACCEPTED 0.0",
            "trade 11.0 1.5 1.5",
            "order FILLED 1.5",
            "position 1.5 11.0",
            f"account USDT {100_000 - 1.5 * 11 * 0.0005:.6f}".rstrip("0"),
        ]
        peer.finish()
    out = engine.finish()
    assert "buyer: stopped, 1 orders, 1 fills, 0 open, lost 0, errors 0, +1.500 XYUSDT" in out


@needs_real
def test_strategies_of_the_examples_run_unchanged(start_fast: Start) -> None:
    names = ["momentum", "mean_reversion", "market_maker"]
    body = """
        import runpy
        sys.argv[0] = args[0]
        sys.argv[1:] = ["--engine", "native", "--id", args[1]]
        runpy.run_path(args[0], run_name="__main__")
        """
    examples = Path(__file__).resolve().parents[2] / "examples"
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(body, examples / f"{n}.py", n)) for n in names]
        engine = start_fast(REAL, "--flat-out", "--strategies", *names)
        for peer in peers:
            peer.finish()
    first, *others = engine.finish().splitlines()
    assert first.startswith("93954 events in ")
    assert [other.split(":")[0] for other in others] == names
    for other in others:
        words = other.split(", ")
        assert words[0].endswith("stopped"), other
        assert int(words[1].split()[0]) >= 5, other
        assert int(words[2].split()[0]) >= 5, other


def short(records: list[Any]) -> list[Any]:
    """What was reported, in short."""
    found: list[Any] = []
    for record in records:
        if isinstance(record, Trade):
            found.append((record.price, record.quantity, record.liquidity_side))
        elif isinstance(record, Position):
            found.append(record.quantity)
        else:
            found.append(f"{OrderStatus(record.status).name} {record.filled_quantity:g}")
    return found


HOSTILE = {
    "quantity is not positive": [
        *({"quantity": NAN}, {"quantity": 0.0}, {"quantity": -1.0}, {"quantity": math.inf}),
    ],
    "price is not finite": [{"price": NAN}, {"price": math.inf}, {"order_type": 3, "price": NAN}],
    "price is not positive": [{"price": -1.0}, {"price": 0.0}],
    "a market order has no price": [{"order_type": MARKET}],
    "client_order_id is not positive": [{"client_order_id": 0}, {"client_order_id": -5}],
    "client_order_id is in use": [{"client_order_id": 77}],
    "unknown symbol": [{"symbol": "OTHER"}, {"symbol": ""}],
    "unknown side": [{"side": 0}, {"side": 2}, {"side": -128}],
    "unknown order type": [{"order_type": 0}, {"order_type": 255}],
    "order type is not supported": [{"order_type": STOP_MARKET}],
    "unknown time in force": [{"time_in_force": 0}, {"time_in_force": 6}],
    "a market order cannot rest": [
        {"order_type": MARKET, "price": NAN, "time_in_force": POST_ONLY},
    ],
    "unknown action": [{"action": 0}, {"action": 4}, {"action": 255}],
    "unknown order": [{"action": CANCEL}, {"action": MODIFY}],
    "post-only order would trade": [{"price": 11.0, "time_in_force": POST_ONLY}],
}


def test_order_that_cannot_be_is_rejected_and_says_why(hand: Hand) -> None:
    assert hand.ask(client_order_id=77, price=8.0).status == OrderStatus.ACCEPTED
    for why, orders in HOSTILE.items():
        for fields in orders:
            answer = hand.ask(**fields)
            assert (answer.text, OrderStatus(answer.status)) == (why, OrderStatus.REJECTED), fields
            assert answer.client_order_id == fields.get("client_order_id", 1)
            assert answer.action == fields.get("action", NEW)
    for fields in ({"quantity": -1.0}, {"quantity": math.inf}, {"price": -1.0}):
        answer = hand.ask(client_order_id=77, action=MODIFY, **fields)
        assert OrderStatus(answer.status) == OrderStatus.REJECTED, fields
    # the one that was open is, still
    assert hand.ask(client_order_id=77, action=CANCEL).status == OrderStatus.CANCELED
    hand.silence()


def test_bytes_that_are_no_message_harm_nobody(start: Start, tmp_path: Path) -> None:
    path = still_market(tmp_path / "capture", quote(9, 2, 11, 3))
    engine = start(path, "--strategies", "hand", "--capacity", SMALL)
    hand = Hand()
    hand.join()
    for size in (0, 1, 127, 129, 5000):
        hand.orders.send(b"\xff" * size, kind=EventKind.ORDER)
    hand.orders.send(b"\xff" * 128, kind=EventKind.ORDER)  # one, but for its content
    hand.orders.send(b"", kind=Control.HELLO)
    hand.orders.send(b"x" * 64, kind=4711)
    answer = hand.told()[-1]
    assert (answer.status, answer.text) == (OrderStatus.REJECTED, "unknown action")
    hand.silence()
    hand.leave()
    engine.process.terminate()
    _, err = engine.process.communicate(timeout=DEADLINE)
    assert engine.process.returncode == 0
    assert err == "hand: sends what is no message of the protocol\n"  # once


def test_orders_that_trade_at_once_take_what_is_shown(hand: Hand) -> None:
    hand.send(client_order_id=1, quantity=1.0, order_type=MARKET, price=NAN, time_in_force=IOC)
    assert short(hand.told(lambda order: order.status == OrderStatus.FILLED)) == [
        "ACCEPTED 0",
        (11.0, 1.0, 2),
        "FILLED 1",
    ]
    hand.send(client_order_id=2, quantity=2.5, price=12.0, time_in_force=FOK)
    assert short(hand.told(lambda order: order.status == OrderStatus.EXPIRED)) == [
        1.0,
        "ACCEPTED 0",
        "EXPIRED 0",
    ]
    hand.send(client_order_id=3, quantity=2.5, price=12.0, time_in_force=IOC)
    assert short(hand.told(lambda order: order.status == OrderStatus.EXPIRED)) == [
        "ACCEPTED 0",
        (11.0, 2.0, 2),
        "PARTIALLY_FILLED 2",
        3.0,
        "EXPIRED 2",
    ]
    assert hand.ask(client_order_id=4, price=12.0, time_in_force=POST_ONLY).text == ""
    assert hand.ask(client_order_id=4, action=CANCEL).status == OrderStatus.CANCELED
    hand.send(client_order_id=5, side=SELL, quantity=2.0, price=9.0)
    assert short(hand.told(lambda order: order.status == OrderStatus.FILLED)) == [
        "ACCEPTED 0",
        (9.0, 2.0, 2),
        "FILLED 2",
    ]
    hand.silence()


def test_resting_orders_are_filled_by_what_reaches_them(start: Start, tmp_path: Path) -> None:
    path = still_market(
        tmp_path / "capture",
        quote(9, 2, 11, 3),
        hit(10.0, 1.5, sell=True),  # reaches the buyer at 10, in part
        hit(10.5, 9.0, sell=False),  # reaches nobody: sellers are at 10.8
        quote(9, 2, 10, 0.25),  # crosses the buyer, in part
        quote(10.9, 5, 11, 3),  # crosses both sellers, by price
    )
    engine = start(path, "--strategies", "hand", "--capacity", SMALL)
    hand = Hand()
    hand.join()
    hand.market(0)
    assert hand.ask(client_order_id=1, quantity=2.0, price=10.0).status == OrderStatus.ACCEPTED
    assert hand.ask(client_order_id=2, side=SELL, quantity=1.0, price=10.9).text == ""
    assert hand.ask(client_order_id=3, side=SELL, quantity=1.0, price=10.8).text == ""
    hand.market(1)
    assert short(hand.told()) == [(10.0, 1.5, 1), "PARTIALLY_FILLED 1.5"]
    hand.market(2)
    hand.market(3)
    assert short(hand.told()) == [1.5, (10.0, 0.25, 1), "PARTIALLY_FILLED 1.75"]
    # to what is filled already: that is the end of it
    ended = hand.ask(client_order_id=1, action=MODIFY, quantity=1.75)
    assert OrderStatus(ended.status) == OrderStatus.CANCELED
    # dearer, and so behind
    moved = hand.ask(client_order_id=3, action=MODIFY, quantity=0.0, price=10.95)
    assert (moved.price, moved.quantity, moved.action) == (10.95, 1.0, MODIFY)
    assert OrderStatus(moved.status) == OrderStatus.ACCEPTED
    hand.market(4)
    assert short(hand.told()) == [(10.9, 1.0, 1), "FILLED 1"]
    assert hand.ask(client_order_id=3, action=CANCEL).filled_quantity == 0
    hand.silence()
    hand.leave()
    assert "hand: stopped, 7 orders, 3 fills, 0 open" in engine.stop()
