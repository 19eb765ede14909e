"""Build the fuzzers with clang and run them: ``python tests/trials/fuzz/run.py --seconds 60``.

Three targets, each a way in which memory that a peer can write reaches us:

    peer     a live ring, and stores anywhere in it between any two accesses of ours (fuzz_peer.c)
    segment  the bytes of a segment's file, opened, used and cleaned up (fuzz_segment.c)
    schema   the description of a dtype, read by the extension (schema.py; needs shmipc installed)

Inputs start from seeds made here and from regressions.txt, every one of which once was a fault; a
--corpus directory keeps what was found to be interesting. Prints JSON. The exit status is not zero
at any finding, whose input is left in --artifacts.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[2] / "src" / "core"

SOURCES = {"peer": ("fuzz_peer.c", "stage.c", "hook.c"), "segment": ("fuzz_segment.c", "hook.c")}
# how the time is shared; an execution of one costs several of another
SHARE = {"peer": 0.5, "segment": 0.25, "schema": 0.25}
MAX_LEN = {"peer": 160, "segment": 80}

# _GNU_SOURCE is empty where the C files define it, too
FLAGS = ("-std=c11", "-g", "-O2", "-pthread", "-D_GNU_SOURCE=", "-Dsyscall=fuzz_syscall",
         "-include", str(HERE / "hook.h"),
         "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
         # the scripts know which values matter; tracing comparisons halves the speed
         "-fno-sanitize-coverage=trace-cmp", "-Wall", "-Wextra",
         "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Werror")  # fmt: skip
LIBFUZZER = ("-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=256",
             "-entropic=0")  # fmt: skip
SECONDS_TO_END = 120


def find_clang() -> str | None:
    """Return $CLANG, or the newest clang on the path that can link a fuzzer."""
    names = [os.environ["CLANG"]] if os.environ.get("CLANG") else ["clang"]
    names += [f"clang-{version}" for version in range(25, 11, -1)]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        probe = Path(scratch) / "probe.c"
        probe.write_text(
            "#include <stddef.h>\n#include <stdint.h>\n"
            "int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)\n"
            "{ return bytes == NULL && len > 0; }\n"
        )
        for name in names:
            command = [name, "-fsanitize=fuzzer,address", str(probe), "-o", f"{scratch}/probe"]
            if shutil.which(name) and subprocess.run(command, capture_output=True).returncode == 0:
                return name
    return None


def missing_in_hook() -> set[str]:
    """Return the operations of atomic.h that hook.h does not stand in for."""
    pattern = r"^#define (shmipc_(?:load|store|exchange|compare|fetch)\w*)\("
    found = [
        set(re.findall(pattern, path.read_text("utf-8"), re.MULTILINE))
        for path in (CORE / "base" / "atomic.h", HERE / "hook.h")
    ]
    return found[0] ^ found[1]


def build(clang: str, targets: list[str], out: Path) -> dict[str, Path]:
    """Compile the core and the targets; return program paths."""
    wrong = missing_in_hook()
    if wrong:
        raise RuntimeError(f"hook.h and atomic.h differ in {', '.join(sorted(wrong))}")
    names = {name for target in targets for name in SOURCES[target]}
    sources = [*sorted(CORE.rglob("*.c")), *(HERE / name for name in sorted(names))]

    def compile_one(source: Path) -> str:
        target = out / f"{source.parent.name}-{source.stem}.o"
        command = [clang, *FLAGS, "-fsanitize=fuzzer-no-link", "-c", source, "-o", target]
        subprocess.run(command, check=True)
        return str(target)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = dict(zip(sources, pool.map(compile_one, sources), strict=True))
    programs = {}
    for target in targets:
        parts = [objects[source] for source in sources if CORE in source.parents]
        parts += [objects[HERE / name] for name in SOURCES[target]]
        programs[target] = out / target
        command = [clang, *FLAGS, "-fsanitize=fuzzer", *parts, "-o", programs[target]]
        subprocess.run(command, check=True)
    return programs


# ---- inputs --------------------------------------------------------------------------------------


def seeds(target: str) -> list[bytes]:
    """A script for each kind of ring, and some of random bytes."""
    rng = random.Random(target)
    made = [rng.randbytes(length) for length in (1, 10, 40, 80) for _ in range(4)]
    for kind in range(16):
        if target == "segment":
            # damage (none, some), then: look, attach, produce, read, close, clean
            for damages in (0, 1, 2, 10, 18, 33):
                damage = rng.randbytes(4 * (damages & 7))
                made.append(bytes([kind, damages]) + damage + b"\0\1\1\2\4\3\6\5\7\17")
        else:
            for shape in range(0, 32, 3):
                # three join; send, read, keep, wait; the peer stores now and later; and again
                ours = b"\x14\x15\x06" + b"\0\x10\0" * 4 + b"\x04\x25\x46\xa4\x84\xb5"
                peer = b"\x0c\0" + rng.randbytes(3) + b"\x0c\xc1" + rng.randbytes(11)
                made.append(bytes([kind, shape]) + ours + peer + ours + b"\x60\x80\x90\xd0\xe0")
    return made


def regressions(target: str) -> list[bytes]:
    """The inputs in regressions.txt: a target and hexadecimal bytes a line."""
    lines = (HERE / "regressions.txt").read_text("utf-8").splitlines()
    parted = [line.partition("#")[0].split(maxsplit=1) for line in lines]
    return [bytes.fromhex(parts[1]) for parts in parted if parts and parts[0] == target]


# ---- running -------------------------------------------------------------------------------------


def run_native(target: str, program: Path, options: argparse.Namespace, scratch: Path) -> dict:
    corpus = (options.corpus or scratch / "corpus") / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate([*seeds(target), *regressions(target)]):
        (corpus / f"seed-{number}").write_bytes(content)
    budget = SHARE[target] / sum(SHARE[name] for name in options.targets)
    limits = [f"-runs={int(options.runs * budget)}"] if options.runs else []
    limits += [f"-max_total_time={int(options.seconds * budget)}"] if options.seconds else []
    options.artifacts.mkdir(parents=True, exist_ok=True)
    command = [str(program), *LIBFUZZER, *limits, f"-seed={options.seed}",
               f"-max_len={MAX_LEN[target]}", f"-artifact_prefix={options.artifacts}/{target}-",
               str(corpus)]  # fmt: skip
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "SHMIPC_DIR": str(scratch)},
        timeout=(options.seconds * budget or 24 * 3600) + SECONDS_TO_END,
    )
    stats = dict(re.findall(r"^stat::(\w+):\s+(\d+)", done.stdout, re.MULTILINE))
    covered = re.findall(r"cov: (\d+)", done.stdout)
    points = re.findall(r"\((\d+) inline 8-bit counters", done.stdout)
    if done.returncode != 0:
        print(done.stdout[-8000:], file=sys.stderr)
    return {
        "failed": done.returncode != 0,
        "executions": int(stats.get("number_of_executed_units", 0)),
        "executions_per_second": int(stats.get("average_exec_per_sec", 0)),
        "covered_edges": int(covered[-1]) if covered else 0,
        "edges": int(points[0]) if points else 0,
        "peak_rss_mb": int(stats.get("peak_rss_mb", 0)),
    }


def run_schema(options: argparse.Namespace, scratch: Path) -> dict:
    budget = SHARE["schema"] / sum(SHARE[name] for name in options.targets)
    command = [sys.executable, str(HERE / "schema.py"), "--seed", str(options.seed)]
    command += ["--runs", str(int(options.runs * budget))] if options.runs else []
    command += ["--seconds", str(options.seconds * budget)] if options.seconds else []
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "SHMIPC_DIR": str(scratch)},
        timeout=(options.seconds * budget or 24 * 3600) + SECONDS_TO_END,
    )
    if done.returncode != 0:
        print(done.stdout, done.stderr[-8000:], file=sys.stderr)
        options.artifacts.mkdir(parents=True, exist_ok=True)
        for path in scratch.glob("shmipc.schema"):
            shutil.copy(path, options.artifacts / "schema-segment")
        return {"failed": True, "executions": 0}
    return {"failed": False, **json.loads(done.stdout)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(SHARE)}; default: all")
    parser.add_argument("--seconds", type=int, default=0, help="in all, beside building")
    parser.add_argument("--runs", type=int, default=0, help="in all; ends at the first limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="keep interesting inputs here")
    parser.add_argument("--artifacts", type=Path, default=Path("fuzz-artifacts"))
    options = parser.parse_args()
    options.targets = options.targets or [*SHARE]
    for target in options.targets:
        if target not in SHARE:
            parser.error(f"no target {target}")
    if options.seconds == options.runs == 0:
        options.seconds = 60
    clang = find_clang()
    native = [target for target in options.targets if target in SOURCES]
    if native and clang is None:
        parser.error("no clang with a fuzzer runtime found (Debian: clang and libclang-rt-14-dev)")
    summary: dict[str, dict] = {}
    # on a tmpfs, as segments are: only there holes can be told
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="shmipc-fuzz-", dir=parent) as scratch:
        programs = build(clang or "", native, Path(scratch)) if native else {}
        for target in options.targets:
            folder = Path(scratch) / f"{target}-files"
            folder.mkdir()
            if target in programs:
                summary[target] = run_native(target, programs[target], options, folder)
            else:
                summary[target] = run_schema(options, folder)
    summary["all"] = {
        "executions": sum(part["executions"] for part in summary.values()),
        "failed": any(part["failed"] for part in summary.values()),
    }
    print(json.dumps({"clang": clang, "seed": options.seed, **summary}, indent=1))
    return 1 if summary["all"]["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
