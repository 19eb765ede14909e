"""Build and run the kills: ``python tests/trials/kills/run.py [--kills N | --seconds S] [--seed
S]``.

A SIGKILL at every label of the core, alone and in pairs: see kills.h. Needs a C compiler and
nothing else. Prints what happened as JSON and fails if anything was lost, repeated, torn or left
behind, if a survivor was not told, or if nobody died at some label.

``--api``: producers, and in every other round consumers, do everything through the public functions
of shmipc.h (actor_api.h).

``--self-test`` breaks the core and the harness on purpose, in copies, and wants each fault found;
with ``--api``, the public functions.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from objects import compile_objects

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Werror")
FLAGS = ("-std=c11", "-g", "-O2", "-pthread", "-DSHMIPC_STEPS", *WARNINGS)
FENCED = "-DSHMIPC_NO_MEMBARRIER"
API = ("-DKILLS_API", '-DSHMIPC_VERSION="kills"')


@dataclass(frozen=True)
class Mutant:
    """A fault to be put into a copy of src, and the harness's words for it (a pattern)."""

    fault: str
    file: str
    old: str
    new: str
    found: str
    part: str = "core"


MUTANTS = (
    Mutant(
        "the head is stored before the note that belongs to it",
        "ring.h",
        "    shmipc_store_relaxed(&note->pos, producer->head_pos + len);\n",
        "    shmipc_store_release(&producer->map.shared->commit.head_pos,\n"
        "                         producer->head_pos + len);\n"
        "    shmipc_store_relaxed(&note->pos, producer->head_pos + len);\n",
        "positions contradict each other|goes on at message|told of the end",
    ),
    Mutant(
        "a durable queue's next consumer starts at the head, not where the last one stopped",
        "ring.c",
        "        pos = shmipc_load_relaxed(&slot->cursor_pos);\n",
        "        pos = shmipc_load_acquire(&shared->commit.head_pos);\n",
        "resumed at message",
    ),
    Mutant(
        "a dead consumer's slot is never reclaimed",
        "producer_wait.c",
        "            if (shmipc_lock_try(segment, byte)) {\n",
        "            if (ring->slots > 1024 && shmipc_lock_try(segment, byte)) {\n",
        "neither went on nor was told",
    ),
    Mutant(
        "a kept slot is reclaimed as a dead consumer's",
        "producer_wait.c",
        "            if (slot >= slots || shmipc_ring_is_kept(ring, slot) ||\n",
        "            if (slot >= slots ||\n",
        "was kept for it",
    ),
    Mutant(
        "a consumer that takes a kept slot starts at the next message",
        "consumer.c",
        "    if (kept && start == SHMIPC_START_RESUME) {\n",
        "    if (kept && start > SHMIPC_START_EARLIEST) {\n",
        "was kept for it",
    ),
    Mutant(
        "a consumer does not look whether its producer lives",
        "consumer.c",
        "    if (shmipc_lock_is_held(&consumer->segment, SHMIPC_LOCK_PRODUCER, 1)) {\n"
        "        return SHMIPC_OK;\n",
        "    if (shmipc_lock_is_held(&consumer->segment, SHMIPC_LOCK_PRODUCER, 1) ||\n"
        "        consumer != NULL) {\n"
        "        return SHMIPC_OK;\n",
        "neither went on nor was told",
    ),
    Mutant(
        "the name is never removed",
        "segment.c",
        "    if (unlink(segment->path) != 0) {\n",
        "    if (false) {\n",
        "left behind",
    ),
    Mutant(
        "the last one out does not look whether the stream has ended",
        "consumer.c",
        "                (shmipc_load_relaxed(&shared->identity.closed) != 0 ||\n",
        "                (shmipc_load_relaxed(&shared->identity.closed) > 1 ||\n",
        "left behind",
    ),
    Mutant(
        "a leaving consumer's member bit stays",
        "ring.c",
        "    if (!ring->durable) {\n        /* Release <-> the fence of R4",
        "    if (!ring->durable && slot_index > 1024) {\n        /* Release <-> the fence of R4",
        "are left",
    ),
    Mutant(
        "the producer reuses memory that the slowest consumer still has to read",
        "ring_producer.c",
        "        tail = shmipc_pos_before(slowest, producer->tail_pos) ? producer->tail_pos"
        " : slowest;\n",
        "        tail = want;\n",
        "message",
    ),
    Mutant(
        "a sleeper looks at its peer every five seconds",
        "wait.h",
        "#define SHMIPC_SLICE_NS UINT64_C(50000000)",
        "#define SHMIPC_SLICE_NS UINT64_C(5000000000)",
        "neither went on nor was told",
    ),
)
API_MUTANTS = (
    Mutant(
        "a message is committed before it is copied",
        "producer_send.c",
        "        shmipc_copy_short(at + sizeof(struct shmipc_message_header), data, len);\n"
        "        shmipc_ring_commit_messages(ring, span, 1);\n",
        "        shmipc_ring_commit_messages(ring, span, 1);\n"
        "        shmipc_wait_nap(100000); /* a short run might not meet the few nanoseconds */\n"
        "        shmipc_copy_short(at + sizeof(struct shmipc_message_header), data, len);\n",
        "is torn",
        "api",
    ),
    Mutant(
        "a partial release releases the whole",
        "consumer_peek.c",
        "        part->end_pos += count * ring->map.item_stride;\n",
        "        part->end_pos = self->peeked.end_pos;\n",
        "came where|resumed at",
        "api",
    ),
    Mutant(
        "the producer's close only frees",
        "producer_handle.c",
        "if (shmipc_producer_role_close(&producer->role, false) == SHMIPC_REMOVED) {",
        "shmipc_segment_close(&producer->role.segment);\n        if (false) {",
        "left behind",
        "api",
    ),
    Mutant(
        "a frame that is released does not end its lease",
        "frame_release.c",
        "    shmipc_ring_end(&consumer->role.ring, &frame->lease);\n"
        "    frame->next = consumer->spare;\n"
        "    consumer->spare = frame;\n",
        "    frame->next = NULL;\n",
        "neither went on nor was told|does not get on",
        "api",
    ),
)
# faults of the harness's own reader and writer (--break), and what it then says of itself
BREAKAGES = {
    "early": "is torn",
    "repeat": "came where|resumed at",
    "hasty": "is torn|were read to the end",
    "trusting": "is torn",
    "stays": "left behind",
    "slow": "neither went on nor was told|does not get on",
}


def find_compiler() -> str | None:
    """Return $CC, or the first compiler on the path."""
    wanted = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next((cc for cc in wanted if shutil.which(cc)), None)


def build(cc: str, out: Path, *flags: str, root: Path = ROOT) -> Path:
    """Compile core and harness into `out`; return the program."""
    actors = (root / "tests" / "trials" / "kills").glob("*.c")
    sources = [*(root / "src" / "core").rglob("*.c")]
    if "-DKILLS_API" in flags:
        sources += [*(root / "src" / "api").glob("*.c"), *actors]
    else:
        sources += [actor for actor in actors if not actor.stem.startswith("actor_api")]
    objects = compile_objects([cc, *FLAGS, *flags], sorted(sources), out)
    program = out / "kills"
    subprocess.run([cc, "-pthread", *objects, "-o", str(program)], check=True)
    return program


def run(program: Path, *options: object) -> tuple[dict[str, Any], str, int]:
    """Return the summary, what was said on stderr, and the status."""
    command = [str(program), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    summary = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    return summary, done.stderr, done.returncode


def build_mutant(mutant: Mutant, cc: str, scratch: Path) -> Path:
    """Build a copy of src with the fault in it."""
    root = scratch / "root"
    for part in ("src/core", "src/api", "shmipc/include", "tests/trials/kills"):
        shutil.copytree(ROOT / part, root / part)
    [path] = (root / "src" / mutant.part).rglob(mutant.file)
    text = path.read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise RuntimeError(f"{mutant.file} has changed: this mutant must be written anew: {mutant}")
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    flags = API if mutant.part == "api" else ()
    return build(cc, scratch / "out", "-Wno-error", *flags, root=root)


def is_found(program: Path, expected: str, *options: object) -> bool:
    """Does a short run fail, and for the reason that the fault gives it?"""
    _, said, status = run(
        program, "--kills", 600, "--patience", 2, "--stop-at", 1, "--workers", 6, *options
    )
    found = status == 1 and re.search(expected, said) is not None
    print("   ", (said.strip().splitlines() or ["(nothing said)"])[0][:300], flush=True)
    if not found:
        print(f"    NOT FOUND: status {status}, expected {expected!r}\n{said}", flush=True)
    return found


def self_test(cc: str, *, api: bool = False) -> bool:
    """True if every fault is found."""
    missed = 0
    breakages = {} if api else BREAKAGES
    mutants = API_MUTANTS if api else MUTANTS
    with tempfile.TemporaryDirectory(prefix="kills-") as scratch:
        program = build(cc, Path(scratch) / "whole") if breakages else None
        for how, expected in breakages.items():
            assert program is not None
            print(f"--break {how}", flush=True)
            missed += not is_found(program, expected, "--break", how)
        for number, mutant in enumerate(mutants):
            print(f"{mutant.file}: {mutant.fault}", flush=True)
            program = build_mutant(mutant, cc, Path(scratch) / str(number))
            missed += not is_found(program, mutant.found)
    total = len(breakages) + len(mutants)
    print(f"{total - missed} of {total} found")
    return missed == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cc", default=find_compiler(), help="compiler (default: $CC, cc)")
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seconds", type=int, help="a soak: go on for this long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=6, help="rounds at once")
    parser.add_argument("--fenced", action="store_true", help="as on a kernel without membarrier")
    parser.add_argument("--api", action="store_true", help="through the functions of shmipc.h")
    parser.add_argument("--self-test", action="store_true", help="are faults found?")
    options = parser.parse_args()
    if options.cc is None:
        parser.error("no C compiler found: install one or set CC")
    if options.self_test:
        return 0 if self_test(options.cc, api=options.api) else 1
    length = ("--kills", options.kills)
    if options.seconds is not None:
        length = ("--seconds", options.seconds)
    with tempfile.TemporaryDirectory(prefix="kills-") as scratch:
        flags = [*([FENCED] if options.fenced else []), *(API if options.api else [])]
        program = build(options.cc, Path(scratch), *flags)
        summary, said, status = run(
            program, *length, "--seed", options.seed, "--workers", options.workers
        )
    print(said, end="", file=sys.stderr)
    print(json.dumps(summary, indent=1))
    return status


if __name__ == "__main__":
    sys.exit(main())
