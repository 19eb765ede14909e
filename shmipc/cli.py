"""The command line: ``shmipc demo``, ``list``, ``clean``, and ``--cflags --libs`` for compilers.

Only this file prints for ``list`` and ``clean``; what a segment is, whether somebody lives in
it and whether it may be removed is the extension's word (``inspect_segment``,
``clean_segment``), so that nothing alive is ever removed by a guess made here.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import shmipc
from shmipc import _core, _names, _native
from shmipc import demo as demo_package

__all__ = ["main"]

_POSITION_MASK = (1 << 64) - 1
_PREFIX = "shmipc."
_WIDEST_CELL = 120  # of the table; JSON has all
# no /proc, no descriptors, no memory: what it says of one file is nothing of that file
_FAULTS_OF_THE_MACHINE = {errno.ENOSYS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default ``sys.argv[1:]``); return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    asked = options.cflags or options.libs or options.pkgconfigdir
    if asked == (options.command is not None):
        parser.error("one of COMMAND, --cflags, --libs, --pkgconfigdir is needed")
    if options.pkgconfigdir and (options.cflags or options.libs):
        parser.error("--pkgconfigdir goes alone")
    try:
        status = _build(options) if asked else _COMMANDS[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `shmipc list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (OSError, shmipc.Error) as error:
        print(f"shmipc{f' {options.command}' if options.command else ''}: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shmipc", description="Messages, records and frames through shared memory."
    )
    parser.add_argument("--version", action="version", version=f"shmipc {shmipc.__version__}")
    building = parser.add_argument_group(
        "for C and C++",
        'cc engine.c $(python -m shmipc --cflags --libs), or eval "cc engine.c $(...)" where '
        "shmipc is installed in a directory with a space in its name",
    )
    building.add_argument("--cflags", action="store_true", help="print where the headers are: -I")
    building.add_argument("--libs", action="store_true", help="print how to link: -L, -rpath, -l")
    building.add_argument(
        "--pkgconfigdir", action="store_true", help="print the directory of shmipc.pc"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    demo = commands.add_parser("demo", help="see the main job at once, every claim checked")
    demo.add_argument("--capture", metavar="FILE", help="replay an exchange capture instead")
    demo.add_argument(
        "--strategies",
        type=_positive,
        metavar="N",
        help="a simulated exchange and N trading strategies, on the capture or a random market",
    )
    demo.add_argument(
        "--consumers",
        type=_positive,
        default=3,
        metavar="K",
        help="consumers of the replay (default: 3)",
    )
    demo.add_argument("--video", metavar="FILE", help="hand over real video (needs PyAV)")
    demo.add_argument(
        "--max-frames", type=_positive, metavar="N", help="stop the video after N frames"
    )
    demo.add_argument(
        "--seconds",
        type=_seconds,
        default=demo_package.DEFAULT_SECONDS,
        help="time to spend measuring (default: %(default)s); starting processes comes on top",
    )
    demo.add_argument("--quick", action="store_true", help="measure only briefly")
    demo.add_argument("--quiet", action="store_true", help="no progress on stderr")
    demo.add_argument("--json", action="store_true", help="print JSON instead of a table")

    listing = commands.add_parser("list", help="show the segments in SHMIPC_DIR")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")

    clean = commands.add_parser("clean", help="remove what no live process holds")
    clean.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    clean.add_argument(
        "--discard",
        action="store_true",
        help="also remove damaged rings, and those that still hold messages for who is to come",
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError("must be more than 0 and at most 3600")
    return value


def _build(options: argparse.Namespace) -> int:
    """Print what was asked for, on one line, compiler before linker as pkg-config does."""
    if options.pkgconfigdir:
        print(_native.pkgconfig_dir())
        return 0
    flags = _native.compiler_flags() if options.cflags else []
    flags += _native.linker_flags() if options.libs else []
    print(*flags)
    return 0


def _demo(options: argparse.Namespace) -> int:
    return demo_package.run(
        demo_package.Options(
            capture=options.capture,
            strategies=options.strategies,
            consumers=options.consumers,
            video=options.video,
            max_frames=options.max_frames,
            seconds=demo_package.QUICK_SECONDS if options.quick else options.seconds,
            as_json=options.json,
            quiet=options.quiet,
        )
    )


def _plain(text: str) -> str:
    """Return `text` as a terminal takes it: a file's name and its bytes may be anything."""
    return "".join(
        c if c.isascii() and c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDEST_CELL else f"{text[: _WIDEST_CELL - 3]}..."


def _segments() -> list[tuple[str, str]]:
    """Return name and path of every file in the segment directory that is named like ours."""
    directory = _names.segment_dir()
    if os.path.isdir(directory) and not os.access(directory, os.R_OK | os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, "this user may not look into SHMIPC_DIR", directory)
    found = sorted(entry for entry in os.listdir(directory) if entry.startswith(_PREFIX))
    return [(entry.removeprefix(_PREFIX), os.path.join(directory, entry)) for entry in found]


def _inspect(path: str) -> dict[str, Any] | None:
    """Return what the segment says of itself, its fault instead, or None if it just vanished.

    OSError: this process can look at no segment now (no /proc, no descriptors, no memory), which
    is no fault of this one.
    """
    try:
        size = os.lstat(path).st_size
    except FileNotFoundError:
        return None
    try:
        return {**_core.inspect_segment(path), "size": size}
    except shmipc.NotFound:
        return None
    except OSError as error:
        if error.errno in _FAULTS_OF_THE_MACHINE:
            raise
        return {"fault": str(error)}
    except shmipc.Corrupt as error:
        return {"fault": str(error)}


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _undelivered(segment: dict[str, Any]) -> int:
    """Return the bytes a durable ring still holds for its consumer; 0 for other rings."""
    if segment["slots"] != 1 or segment["overflow"] != "block":
        return 0
    cursors = [c["cursor_pos"] for c in segment["consumers"]] or [segment["tail_pos"]]
    return max(int(segment["head_pos"] - cursor) & _POSITION_MASK for cursor in cursors)


def _lag(segment: dict[str, Any]) -> str:
    """Say how far the slowest is behind that is, or will be: in items where their size is known."""
    cursors = [c["cursor_pos"] for c in segment["consumers"] if c["alive"] or c.get("kept")]
    if not cursors:
        cursors = [segment["tail_pos"]] if _undelivered(segment) else []
    if not cursors:
        return "-"
    behind = max(segment["head_pos"] - cursor & _POSITION_MASK for cursor in cursors)
    if segment["framing"] == "typed":
        return _count(behind // segment["item_stride"], "item")
    return f"{behind:,} B"


def _producer(segment: dict[str, Any]) -> str:
    if segment["producer_alive"]:
        foreign = segment["producer_pid_is_local"] is False
        return f"{segment['producer_pid']}{' (another pid namespace)' if foreign else ''}"
    if segment["closed"]:
        return "closed"
    return f"{segment['producer_pid']} (dead)" if segment["producer_pid"] else "none"


def _cells(name: str, segment: dict[str, Any]) -> tuple[str, ...]:
    if "fault" in segment:
        return (_plain(name), f"not a usable segment: {_plain(segment['fault'])}")
    alive = [consumer for consumer in segment["consumers"] if consumer["alive"]]
    foreign = sum(consumer["pid_is_local"] is False for consumer in alive)
    kept = sum(bool(consumer.get("kept")) for consumer in segment["consumers"])
    typed = segment["framing"] == "typed"
    capacity = segment["capacity"]
    return (
        _plain(name),
        f"{segment['framing']}, {segment['overflow']}",
        _shortened(_plain(segment["schema"] or "-")),
        _count(capacity, "item") if typed else f"{capacity:,} B",
        _producer(segment),
        f"{len(alive)} of {segment['slots']}"
        + (f", {kept} kept" if kept else "")
        + (f" ({foreign} of another pid namespace)" if foreign else ""),
        _lag(segment),
        f"{segment['size'] / 1e6:.1f} MB",
    )


_HEADER = ("name", "ring", "items", "capacity", "producer", "consumers", "lag", "size")


def _list(options: argparse.Namespace) -> int:
    segments = {name: segment for name, path in _segments() if (segment := _inspect(path))}
    if options.json:
        print(json.dumps(segments, indent=1))
        return 0
    if not segments:
        print(f"no segments in {_names.segment_dir()}")
        return 0
    rows = [_HEADER, *(_cells(name, segment) for name, segment in segments.items())]
    whole = [row for row in rows if len(row) == len(_HEADER)]
    widths = [max(len(row[i]) for row in whole) for i in range(len(_HEADER))]
    widths[0] = max(len(row[0]) for row in rows)
    for row in rows:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=False)).rstrip())
    return 0


_OUTCOMES = {
    "removed": "removed",
    "would remove": "would remove",
    "alive": "kept: in use by a live process",
    "pending": "kept: durable or held, with undelivered messages (--discard removes it)",
    "damaged": "kept: damaged, and in use by nobody (--discard removes it)",
    "foreign": "kept: not a shmipc segment",
}


def _remove(path: str, discard: bool, dry_run: bool) -> str | None:
    try:
        outcome = _core.clean_segment(path, discard=discard, dry_run=dry_run)
    except shmipc.NotFound:  # it has just vanished
        return None
    return "would remove" if dry_run and outcome == "removed" else outcome


def _clean(options: argparse.Namespace) -> int:
    status = 0
    segments = _segments()
    for name, path in segments:
        try:
            outcome = _remove(path, options.discard, options.dry_run)
        except (OSError, shmipc.Error) as error:
            print(f"{_plain(name)}: {_plain(str(error))}", file=sys.stderr)
            status = 1
            continue
        if outcome is not None:
            print(f"{_plain(name)}: {_OUTCOMES.get(outcome, outcome)}")
    if not segments:
        print(f"nothing to clean in {_names.segment_dir()}")
    return status


_COMMANDS = {"demo": _demo, "list": _list, "clean": _clean}
