"""Every allocation and every system call fails once: see injection.py and c/inject.c."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers import run_clean

HERE = Path(__file__).resolve().parent
SECONDS = 110


def inject(*arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(HERE / "injection.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(result, indent=1))  # pytest -s: the numbers
    return result


# Called from here: ast.literal_eval makes functions (3.12.1 writes to one that it could not
# allocate, Objects/funcobject.c:165), and an import unmarshals code (3.13.0).
@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="CPython 3.12.1 and 3.13.0 crash themselves without memory"
)
def test_every_allocation_may_fail() -> None:
    pytest.importorskip("_testcapi", reason="this Python was built without _testcapi")
    for scenario in inject("allocations").values():
        assert scenario["injected"] >= 50
        assert scenario["outcomes"]["MemoryError"] >= 40


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="CPython 3.12.1 and 3.13.0 crash themselves without memory"
)
def test_call_that_ran_out_of_memory_has_done_nothing_or_says_what() -> None:
    pytest.importorskip("_testcapi", reason="this Python was built without _testcapi")
    run_clean(
        """
        import _testcapi
        def failed(n, call, *args):
            _testcapi.set_nomemory(n, n + 1)
            try:
                call(*args)
            except MemoryError as error:
                _testcapi.remove_mem_hooks()
                return error
            finally:
                _testcapi.remove_mem_hooks()
            return None
        message, buffer = bytes(1000), bytearray(1000)
        batch = [b"x"] * 300
        hits = {}
        with Producer("m", capacity=1 << 16) as producer, Consumer("m") as consumer:
            def receive_into(): consumer.recv_into(buffer, 0)
            def receive(): consumer.recv(0)
            def read(): consumer.read(0).release()
            def send_many(): producer.send_many(batch)
            def send(): producer.send(message)
            for n in range(12):
                for call in (receive_into, receive, read):
                    producer.send(message)
                    error = failed(n, call)
                    if error is not None:
                        hits[call.__name__] = hits.get(call.__name__, 0) + 1
                    assert consumer.pending == (error is not None), (n, call)
                    while consumer.pending:
                        consumer.recv()
                for call in (send_many, send):
                    before = producer.stats().count
                    error = failed(n, call)
                    sent = producer.stats().count - before
                    if error is not None:
                        hits[call.__name__] = hits.get(call.__name__, 0) + 1
                        assert sent == getattr(error, "sent", 0), (n, call, sent)
                    while consumer.pending:
                        consumer.recv()
        assert {"receive_into", "receive", "read", "send_many"} <= set(hits), hits
        """
    )


def test_every_system_call_may_fail(tmp_path: Path) -> None:
    compiler = next((cc for cc in ("cc", "gcc", "clang") if shutil.which(cc)), None)
    if compiler is None or "LD_PRELOAD" in os.environ:
        pytest.skip("needs a C compiler, and LD_PRELOAD for itself")
    library = tmp_path / "inject.so"
    source = HERE / "inject.c"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, str(source), "-o", str(library), "-ldl"], check=True)
    result = inject("calls", str(library), env={"LD_PRELOAD": str(library)})
    for scenario in result.values():
        assert scenario["sites"] >= 50
        assert scenario["injected"] >= 3 * scenario["sites"]
    expected = {"open", "posix_fallocate", "fchmod", "pwrite", "fstat", "mmap", "close", "madvise"}
    expected |= {"fcntl", "linkat", "pread", "lstat", "unlink", "membarrier", "futex", "sigaction"}
    assert expected <= set(result["messages"]["by call"])
