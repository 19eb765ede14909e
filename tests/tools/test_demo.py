"""The demo: its table, its proofs, and that it ends, well or badly, without leaving anything.

The parts that need no ring run without the extension; the rest runs the demo as a user does.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("shmipc._core", reason="the extension is not built")

from shmipc.demo import proof, table
from shmipc.demo.crew import Crew, CrewError
from shmipc.trading import capture

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SHMIPC_TEST_DATA") or ROOT.parent / "shared" / "data")
REAL = DATA / "binance-usdm-btcusdt-20240808.gz"
STRATEGIES = ("market_maker", "mean_reversion", "momentum")
EXAMPLES = [
    path
    for path in sorted((ROOT / "examples").glob("*.py"))
    if path.stem not in (*STRATEGIES, "exchange")
]

LINES = (
    b'17 {"data":{"e":"bookTicker","u":5,"s":"XY","b":"1.1","B":"2","a":"1.2","A":"3","T":9}}\n'
    b'18 {"data":{"e":"trade","T":8,"s":"XY","t":7,"p":"1","q":"1","X":"MARKET","m":true}}\n'
    b'19 {"data":{"e":"depthUpdate","T":7,"s":"XY","u":6,"b":[["1","4"]],"a":[["2","1"]]}}\n'
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty segment directory of this test's own."""
    path = tmp_path / "segments"
    path.mkdir()
    monkeypatch.setenv("SHMIPC_DIR", str(path))
    return path


def demo(*argv: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the demo as a user does."""
    done = subprocess.run(
        [sys.executable, "-m", "shmipc", "demo", *argv],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


# --- what the processes prove with ---


def test_sequence_proof_holds_for_the_sequence_in_any_batching() -> None:
    ticks = proof.make_ticks(20_000)
    whole, parts = proof.SequenceProof(), proof.SequenceProof()
    whole.add(ticks)
    for start in range(0, len(ticks), 77):
        parts.add(ticks[start : start + 77])
    assert whole.fault is None
    assert parts.fault is None
    assert whole.value() == parts.value()
    assert whole.count == 20_000


@pytest.mark.parametrize("at", [0, 1, 8191, 8192, 19_998])
def test_sequence_proof_names_the_first_tick_out_of_order(at: int) -> None:
    ticks = proof.make_ticks(20_000)
    ticks[[at, at + 1]] = ticks[[at + 1, at]]
    check = proof.SequenceProof()
    check.add(ticks)
    assert check.fault == f"expected tick {at}, got {at + 1}"


def test_sequence_proof_sees_a_changed_bit() -> None:
    ticks = proof.make_ticks(100)
    clean, spoiled = proof.SequenceProof(), proof.SequenceProof()
    clean.add(ticks)
    ticks.view(np.uint8)[99 * 64 + 40] ^= 1
    spoiled.add(ticks)
    assert spoiled.fault is None
    assert clean.value() != spoiled.value()


def test_picture_check_sees_another_picture_and_a_torn_one() -> None:
    first, second = proof.make_pictures(2)
    frame = first.copy()
    proof.stamp_frame(frame, 12, 34, True)
    assert proof.read_stamp(frame) == (12, 34, True)
    for whole in (True, False):
        assert proof.picture_matches(frame, first, whole=whole)
        assert not proof.picture_matches(frame, second, whole=whole)
        torn = frame.copy()
        torn[540:] = second[540:]
        assert not proof.picture_matches(torn, first, whole=whole)
    frame[700, 1201, 1] ^= 1  # one byte
    assert not proof.picture_matches(frame, first, whole=True)
    assert proof.read_stamp(first) is None


def test_ring_memory_tells_a_view_from_a_copy(directory: Path) -> None:
    import shmipc

    with (
        shmipc.Producer("views", dtype=np.int64, capacity=512) as producer,
        shmipc.Consumer("views") as consumer,
    ):
        producer.send_many(np.arange(5))
        memory = proof.RingMemory("views")
        with consumer.read_batch() as frame:
            array = frame.array
            assert memory.holds(array)
            assert memory.holds(array[1:3])
            assert not memory.holds(array.copy())
            del array


def test_percentiles_are_in_microseconds() -> None:
    assert proof.percentiles_us([]) is None
    assert proof.percentiles_us([1000] * 99 + [5000]) == pytest.approx((1.0, 1.04))


# --- what is shown ---


def test_table_shows_failed_checks() -> None:
    row = table.Row("frames", "1 -> 1", messages=12_345, percentiles_us=(1.5, 2500.0), lost=3)
    row.check("this holds", True)
    row.check("nothing lost", False)
    text = table.render([row])
    for expected in ("12,345", "1.5 us", "2.5 ms", "1 of 2 FAILED", "nothing lost"):
        assert expected in text
    assert "this holds" not in text
    assert json.loads(json.dumps(row.as_json()))["failures"] == ["nothing lost"]


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0"), (9999, "9999"), (45_300, "45.3 k"), (12.14e6, "12.1 M"), (1.5e9, "1.50 G")],
)
def test_counts_are_readable(n: float, text: str) -> None:
    assert table.human_count(n) == text


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    progress = table.Progress(stream)
    progress.step("[1/2] frames ...")
    progress.update(5, 10)
    progress.clear()
    assert stream.getvalue() == "[1/2] frames ...\n"


# --- the processes ---


def ignore(*_: Any) -> None:
    """Take no interest in progress."""


def test_crew_names_who_died_and_how() -> None:
    with Crew(ignore) as crew:
        _, victim = crew.grow(2)
        os.kill(victim.pid, signal.SIGKILL)
        with pytest.raises(CrewError, match=rf"pid {victim.pid}\) died: killed by SIGKILL"):
            crew.gather((victim,))


def test_crew_reports_the_error_of_a_role_in_one_line(directory: Path) -> None:
    with Crew(ignore) as crew:
        [worker] = crew.grow(1)
        worker.order("capture.produce", ring="x", path="/nonexistent", consumers=1)
        with pytest.raises(CrewError, match=r"capture\.produce: .*No such file") as caught:
            crew.gather((worker,))
        assert "\n" not in str(caught.value)


def test_crew_does_not_wait_for_a_stuck_process_for_ever(directory: Path) -> None:
    with Crew(ignore) as crew:
        [worker] = crew.grow(1)
        crew.stall_seconds = 1.0  # not for its start, which takes what it takes
        worker.order("single.consume", ring="nobody-sends-here")
        with pytest.raises(CrewError, match="no sign of life"):
            crew.gather((worker,))
    assert worker.process.returncode is not None


# --- the demo as a whole ---


def test_demo_passes_all_its_checks_and_leaves_nothing(directory: Path) -> None:
    found = json.loads(demo("--quick", "--json").stdout)
    assert found["ok"]
    assert found["error"] is None
    assert [row["processes"] for row in found["rows"]].count("1 -> 20") == 1
    assert len(found["rows"]) == 6
    for row in found["rows"]:
        assert row["lost"] == 0
        assert row["failures"] == []
        assert row["messages"] > 0
        assert row["per_second"] > 0
    assert found["rows"][0]["copied"] == 0
    assert list(directory.iterdir()) == []


def test_replay_proves_every_record_to_every_consumer(directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "capture.txt"
    path.write_bytes(LINES * 1000 + b"junk\n")
    done = demo("--capture", str(path), "--consumers", "2")
    assert "4,000" in done.stdout  # two of the three lines make one record, one makes two
    assert "line 3001 is bad" in done.stdout
    assert "1 -> 2" in done.stdout
    assert "[1/1]" in done.stderr
    assert list(directory.iterdir()) == []


@pytest.mark.skipif(not REAL.exists(), reason=f"no real capture at {REAL}")
def test_replay_of_the_real_capture(directory: Path) -> None:
    found = json.loads(demo("--capture", str(REAL), "--json", "--quiet").stdout)
    [row] = found["rows"]
    assert found["ok"]
    summary = capture.Summary()
    for _ in capture.read_capture(REAL, summary=summary):
        pass
    assert row["messages"] == summary.records
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("more", [(), ("--strategies", "1")])
def test_a_foreign_file_is_an_error_that_says_what_it_is(
    more: tuple[str, ...], directory: Path
) -> None:
    done = demo("--capture", __file__, "--quiet", *more, status=1)
    assert done.stderr.count("\n") == 1
    assert "holds no event: it looks like text that begins with" in done.stderr
    assert "line 1: does not start with a receive time" in done.stderr
    assert list(directory.iterdir()) == []


def half_of_a_capture(path: Path) -> str:
    lines = b"".join(LINES.replace(b'"u":', b'"u":%d' % number) for number in range(200, 900))
    packed = gzip.compress(lines)
    path.write_bytes(packed[: len(packed) // 2])
    return str(path)


def test_replay_of_half_a_capture_says_so(directory: Path, tmp_path: Path) -> None:
    path = half_of_a_capture(tmp_path / "half.gz")
    done = demo("--capture", path, "--consumers", "1", "--quiet")
    assert "the file is TRUNCATED: gzip data ends before its end mark" in done.stdout


def test_example_exchange_tells_what_it_read_of_its_capture(
    directory: Path, tmp_path: Path
) -> None:
    def exchange(path: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, str(ROOT / "examples" / "exchange.py"), "--capture", path),
                *("--spawn", "--strategies", "momentum"),
            ],
            capture_output=True,
            text=True,
            timeout=100,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    done = exchange(half_of_a_capture(tmp_path / "half.gz"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TRUNCATED: gzip data ends before its end mark" in done.stdout
    done = exchange(__file__)
    assert (done.returncode, done.stdout) == (1, "")
    assert "holds no event" in done.stderr
    assert list(directory.iterdir()) == []


def test_missing_capture_is_a_one_line_error(directory: Path) -> None:
    done = demo("--capture", "/nonexistent", "--quiet", status=1)
    assert done.stderr.count("\n") == 1
    assert "No such file" in done.stderr


def test_video_without_pyav_names_what_to_install(directory: Path) -> None:
    try:
        import av  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        done = demo("--video", __file__, "--quiet", status=1)
        assert "pip install 'shmipc[video]'" in done.stderr
    else:
        done = demo("--video", __file__, "--quiet", status=1)
        assert "not a video" in done.stderr
    assert done.stderr.count("\n") == 1


def test_video_frames_arrive_uncopied(directory: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 322, 182, "yuv420p"  # rows get padding
        rng = np.random.default_rng(1)
        for _ in range(30):
            picture = rng.integers(0, 255, (182, 322, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    found = json.loads(demo("--video", str(path), "--json", "--quiet").stdout)
    [row] = found["rows"]
    assert found["ok"]
    assert row["messages"] == 30
    assert row["copied"] == 0
    assert "(182, 322, 3)" in row["notes"][0]
    assert list(directory.iterdir()) == []


def test_full_segment_directory_is_a_one_line_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHMIPC_DIR", "/proc/self")  # nothing can be created there
    done = demo("--quick", "--quiet", status=1)
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def _start_demo() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "shmipc", "demo", "--seconds", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def _children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_for_a_ring(directory: Path, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not list(directory.iterdir()):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)


def test_interrupt_ends_all_processes_and_leaves_nothing(directory: Path) -> None:
    running = _start_demo()
    _wait_for_a_ring(directory, running)
    children = _children(running.pid)
    assert len(children) == 2
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("which", [0, 1])
def test_killed_process_is_reported_not_waited_for(directory: Path, which: int) -> None:
    running = _start_demo()
    _wait_for_a_ring(directory, running)
    victim = sorted(_children(running.pid))[which]
    os.kill(victim, signal.SIGKILL)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    assert f"(pid {victim}) died: killed by SIGKILL" in err
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_leaves_nothing(example: Path, directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(example)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    assert done.stderr == ""
    assert list(directory.iterdir()) == []


def test_example_strategies_trade_with_the_example_exchange(directory: Path) -> None:
    exchange = [str(ROOT / "examples" / "exchange.py"), "--events", "4000", "--rate", "4000"]
    done = subprocess.run(
        [sys.executable, *exchange, "--spawn", "--strategies", *STRATEGIES],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = dict(line.split(": ") for line in done.stdout.splitlines()[:-1])
    assert set(lines) == set(STRATEGIES)
    assert not lines["market_maker"].startswith("0 orders")
    assert all(line.endswith("lost 0") for line in lines.values())
    assert list(directory.iterdir()) == []


def test_an_example_strategy_is_a_program_that_waits_for_its_engine(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "momentum.py"), "--timeout", "0.2"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "engine" in done.stderr
    assert list(directory.iterdir()) == []


def test_demo_of_strategies_checks_what_each_saw(directory: Path) -> None:
    found = json.loads(demo("--strategies", "3", "--quick", "--json", "--quiet").stdout)
    assert all(held for _, held in found["checks"])
    assert [row["strategy"] for row in found["strategies"]] == [
        "momentum-1",
        "reversion-2",
        "maker-3",
    ]
    assert found["strategies"][-1]["restarts"] == 1
    assert sum(found["kinds"].values()) == found["events"]
    assert list(directory.iterdir()) == []


def test_demo_of_strategies_tells_bad_lines(directory: Path, tmp_path: Path) -> None:
    capture = tmp_path / "capture"
    capture.write_bytes(LINES * 40 + b"foreign\n")
    found = json.loads(
        demo(
            *("--strategies", "1", "--seconds", "0.5", "--json", "--quiet"),
            *("--capture", str(capture)),
        ).stdout
    )
    assert found["lines"]["bad"] == 1
    assert found["bad"][0][0] == 121
    assert found["events"] == 120
    assert "1 bad; line 121: does not start" in found["capture"]
    assert not found["truncated"]
