"""examples/engine.cpp: strategies that join, leave and are killed, and its command line."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from captures import made_capture
from desk import discard_rings, strategy_peer
from helpers import DEADLINE, eventually, segment_path
from native_engine import (
    NAME,
    SMALL,
    SOURCE,
    Hand,
    Start,
    engine_program,
    engines,
    quote,
    still_market,
)
from shmipc.trading.events import EventKind, Tick
from shmipc.trading.strategy.protocol import SNAPSHOT, Control
from toolchain import C_WARNINGS, INCLUDE, compile_with, cxx_compilers

pytestmark = pytest.mark.once


@pytest.fixture
def start() -> Iterator[Start]:
    with engines() as start:
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


def test_strategy_that_joins_late_is_told_how_things_stand(start: Start, tmp_path: Path) -> None:
    path = still_market(tmp_path / "capture", quote(9, 2, 11, 3), quote(9.5, 2, 11.5, 4))
    engine = start(
        *(path, "--capacity", SMALL, "--wait", 1, "--symbols", "XYUSDT", "ABC"),
        *("--strategies", "hand", "late:XYUSDT", "blind:ABC"),
    )
    hand = Hand()
    assert [kind for kind, _, _ in hand.join()] == [
        *(Control.WELCOME, Control.INSTRUMENT, Control.INSTRUMENT, Control.SNAPSHOT_END),
    ]
    hand.market(1)
    hand.send(client_order_id=8, price=11.5, quantity=5.0)
    hand.told(lambda order: order.filled_quantity == 4.0)
    late = Hand("late")
    answer = late.join(session=99)
    assert [kind for kind, _, _ in answer] == [
        *(Control.WELCOME, Control.INSTRUMENT, Control.INSTRUMENT, Control.SUBSCRIPTION),
        *(EventKind.TICK, Control.SNAPSHOT_END),
    ]
    welcome, tick = answer[0][2], answer[4][2]
    assert (welcome.session, welcome.place, welcome.book_levels) == (99, 1, 10)
    assert (welcome.instruments, welcome.symbols) == (2, 1)
    assert answer[4][1] == SNAPSHOT
    assert tick.bid_price == 9.5
    assert tick.sequence == welcome.seq  # all that was broadcast is in it
    with late.events.read(timeout=0.01) if late.events.pending else late.reports as _:
        pass
    blind = Hand("blind")
    assert [kind for kind, _, _ in blind.join()][-2:] == [
        *(Control.SUBSCRIPTION, Control.SNAPSHOT_END),
    ]
    hand.close()  # and the first one comes back
    eventually(lambda: not segment_path("native.hand.orders").exists())
    hand = Hand()
    told = [(kind, record) for kind, flags, record in hand.join(session=100) if flags == SNAPSHOT]
    assert [kind for kind, _ in told] == [
        *(EventKind.TICK, EventKind.ORDER, EventKind.POSITION, EventKind.ACCOUNT),
    ]
    assert (told[1][1].client_order_id, told[1][1].filled_quantity) == (8, 4.0)
    assert told[2][1].quantity == 4.0
    assert told[3][1].commission == pytest.approx(4 * 11.5 * 0.0005)
    for one in (hand, late, blind):
        one.leave()
    engine.stop()


def test_strategy_of_another_schema_is_refused(start: Start, tmp_path: Path) -> None:
    path = still_market(tmp_path / "capture", quote(9, 2, 11, 3))
    engine = start(path, "--strategies", "hand")
    hand = Hand()
    [(kind, _, refused)] = hand.join(version=2, session=5)
    assert (kind, refused.session) == (Control.REFUSED, 5)
    assert refused.text == "its events have version 2, the engine's 1"
    assert [kind for kind, _, _ in hand.join(session=6)] == [Control.WELCOME, Control.SNAPSHOT_END]
    hand.leave()
    engine.stop()


def test_second_engine_of_a_name_is_refused(hand: Hand, tmp_path: Path) -> None:
    program = engine_program(sanitized=True)
    command = [program, NAME, tmp_path / "capture", "--strategies", "hand"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert second.returncode == 1
    assert f"{NAME}.events" in second.stderr
    assert "already has a producer, process " in second.stderr
    hand.silence()  # the first goes on


@pytest.mark.parametrize(("compiler", "standard"), [("g++", "c++20"), ("clang++", "c++17")])
def test_engine_compiles_without_a_warning(compiler: str, standard: str) -> None:
    if compiler not in cxx_compilers():
        pytest.skip(f"no {compiler}: install it")
    flags = (f"-std={standard}", "-fsyntax-only", *C_WARNINGS, f"-I{INCLUDE}")
    compile_with(compiler, *flags, SOURCE)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 2),
        (["a"], 2),
        (["a.b", "{capture}"], 2),
        (["a", "{capture}", "--speed", "nan"], 2),
        (["a", "{capture}", "--speed"], 2),
        (["a", "{capture}", "--strategies", "x", "x"], 2),
        (["a", "{capture}", "--strategies", "x:AVERYLONGSYMBOLNAME"], 2),
        (["a", "{capture}", "--slow", "evict"], 2),
        (["a", "/nonexistent/capture"], 1),
    ],
)
def test_wrong_arguments_are_an_error_in_words(
    arguments: list[str], status: int, tmp_path: Path
) -> None:
    (tmp_path / "capture").write_bytes(b"")
    command = [text.format(capture=tmp_path / "capture") for text in arguments]
    program = engine_program(sanitized=True)
    done = subprocess.run([program, *command], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == status
    assert done.stderr.startswith("usage: engine" if status == 2 else "engine: cannot open")


def test_strategy_that_is_killed_is_let_go_and_may_come_back(start: Start, tmp_path: Path) -> None:
    path = still_market(tmp_path / "capture", quote(9, 2, 11, 3), quote(9.5, 2, 11.5, 4))
    engine = start(path, "--strategies", "hand", "teller", "--capacity", SMALL)
    hand = Hand()
    with strategy_peer("Teller", "teller", engine=NAME) as peer:
        hand.join()
        hand.market(0)
        peer.expect("connected")
        peer.kill()
    hand.market(1)  # it holds nobody up
    eventually(lambda: not segment_path("native.teller.orders").exists())
    with strategy_peer("Teller", "teller", engine=NAME) as peer:
        peer.expect("connected")
        peer.expect("start 0 1")
        hand.leave()
        out = engine.stop()
        while peer.hear() != "done":
            pass
        peer.finish()
    assert "teller: stopped" in out


def test_strategies_join_the_next_engine_when_one_is_killed(start: Start, tmp_path: Path) -> None:
    path = still_market(tmp_path / "capture", quote(9, 2, 11, 3), pause=True)
    with strategy_peer("Teller", "teller", engine=NAME) as peer:
        for _ in range(2):
            engine = start(path, "--strategies", "teller", "--capacity", SMALL)
            while peer.hear() != "connected":
                pass
            while peer.hear() != "tick 65":
                pass
            engine.kill()
            peer.expect("disconnected")
        engine = start(path, "--flat-out", "--strategies", "teller", "--capacity", SMALL)
        peer.expect("connected")
        assert [peer.hear() for _ in range(66)] == [f"tick {n}" for n in (*range(1, 66), 0)]
        for word in ("disconnected", "stop", "done"):
            peer.expect(word)
        peer.finish()
    assert engine.finish().startswith("66 events in ")


def test_engine_that_takes_rings_over_says_so(start: Start, tmp_path: Path) -> None:
    path = still_market(tmp_path / "capture", quote(9, 2, 11, 3))
    first = start(path, "--strategies", "hand", "--capacity", SMALL, "--max-events", 5)
    hand = Hand()
    hand.join()
    hand.market(0)
    first.kill()
    second = start(path, "--strategies", "hand", "--capacity", SMALL)
    eventually(lambda: hand.reports.pending > 0)
    kind, _, note = hand.hear()
    assert kind == Control.ENGINE
    kinds = []
    while not kinds or kinds[-1] != Control.ENGINE:
        with hand.events.read(timeout=DEADLINE) as frame:
            kinds.append(frame.kind)
    assert 0 < len(kinds) <= 6
    assert set(kinds[:-1]) <= {EventKind.TICK}
    hand.join(session=8)
    assert hand.welcome.engine_session == note.engine_session
    hand.leave()
    second.stop()


def test_events_may_be_overwritten(start: Start, tmp_path: Path) -> None:
    lines = made_capture(3000, seed=5)
    path = tmp_path / "capture"
    path.write_bytes(b"\n".join(lines))
    engine = start(path, "--flat-out", "--strategies", "hand", "--slow", "overwrite")
    hand = Hand()
    hand.join()  # and it never reads an event
    out = engine.process.stdout
    assert out is not None
    eventually(lambda: hand.events.pending > 0)
    hand.leave()
    assert engine.finish().startswith("3000 events in ")


def test_now_is_stamped_when_asked_for(start: Start, tmp_path: Path) -> None:
    path = still_market(tmp_path / "capture", quote(9, 2, 11, 3))
    engine = start(path, "--strategies", "hand", "--capacity", SMALL, "--stamp")
    hand = Hand()
    before = time.time_ns()
    hand.join()
    with hand.events.read(timeout=DEADLINE) as frame:
        tick = Tick(bytes(frame))
    assert before < tick.ts_init < time.time_ns()
    hand.leave()
    engine.stop()
    discard_rings(NAME, "hand")
