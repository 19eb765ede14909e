"""Every test gets a segment directory of its own, leaves nothing in it, and ends in time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import pytest

# numpy's BLAS keeps threads that nobody here needs, and that Python 3.12 and later, when they are
# seen in time, warn of at fork. Set before numpy is imported, here and in every child.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A job in the background of a script starts with SIGINT ignored, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHM = Path("/dev/shm")
SECONDS_FOR_A_TEST = 120
SECONDS_FOR_A_SOAK = 1800


def stop_forkserver() -> None:
    """End multiprocessing's server, if a test has started it: it has that test's environment."""
    module: Any = sys.modules.get("multiprocessing.forkserver")
    if module is not None:
        module._forkserver._stop()


@pytest.fixture(autouse=True)
def shm_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh SHMIPC_DIR on tmpfs. A file left behind fails the test that left it."""
    parent = SHM if os.access(SHM, os.W_OK) else None
    with TemporaryDirectory(prefix="shmipc-test-", dir=parent) as directory:
        monkeypatch.setenv("SHMIPC_DIR", directory)
        yield Path(directory)
        stop_forkserver()
        left = sorted(path.name for path in Path(directory).iterdir())
        assert left == [], f"segments left behind: {left}"


@pytest.fixture(autouse=True)
def deadline(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test hangs: SIGALRM ends every wait of ours, and whatever else Python can interrupt."""

    def give_up(number: int, frame: FrameType | None) -> None:
        pytest.fail("the test ran into its deadline")

    soak = request.node.get_closest_marker("soak") is not None
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS_FOR_A_SOAK if soak else SECONDS_FOR_A_TEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session", autouse=True)
def objects(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiled objects are shared by all tests, and by the workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    os.environ.setdefault("TEST_OBJECTS", str(folder / "objects"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores (-n auto): tests mostly wait for their processes."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no cgroup v2, or "max": no quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Soak tests run only when asked for by -m."""
    if "soak" in (config.getoption("markexpr") or ""):
        return
    skip = pytest.mark.skip(reason="a long run: pytest -m soak")
    for item in items:
        if item.get_closest_marker("soak") is not None:
            item.add_marker(skip)


@pytest.fixture
def ring_name() -> str:
    """The name of a test's one ring, in the directory of its own."""
    return "ring"


@pytest.fixture
def rig(ring_name: str) -> Iterator[Any]:
    """A message ring of events, and a Dispatcher for its reader."""
    from dispatching import Rig  # not before OPENBLAS_NUM_THREADS is set

    made = Rig(ring_name)
    yield made
    made.close()
