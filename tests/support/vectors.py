"""Whole segments as text: tests/native/c/vectors. ``python tests/support/vectors.py FILE`` prints
one that way.

A vector pins format version 1 (docs/format.md), byte for byte, on a little-endian machine with
pages of 4096 bytes. Its lines, each up to a ``#``:

    size 8192              bytes of the file
    gets 0 7 3: 68 65      a message for who reads from the earliest on: seq, kind, flags, bytes
    gets 0: 01+8           an item: number, bytes
    ends died              what comes then: closed (the stream has ended), died (nobody produces)
    0080: 20 00 pid0:4     bytes of the file from this offset on; what no line names is zero

Bytes are two hexadecimal digits each. ``07*5`` is five bytes 07, ``fe+4`` is fe ff 00 01, and
``pid0:4`` stands for four bytes that vary: a process id, or a time (``created_ns:8``).

Knows nothing of shmipc, and of the format only what the printed comments say.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[1] / "native" / "c" / "vectors"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.txt"))
# what varying bytes are filled with: a process and a time that nobody confuses with real ones
FILLED = {"pid": 0x7FFFFFF1, "created_ns": 0x0102030405060708}


@dataclass
class Vector:
    """One vector: `content` has zeros where `varying` (offset: name and length) says."""

    size: int = 0
    gets: list[tuple[tuple[int, ...], bytes]] = field(default_factory=list)
    ends: str = ""
    content: bytearray = field(default_factory=bytearray)
    varying: dict[int, tuple[str, int]] = field(default_factory=dict)

    def filled(self) -> bytes:
        """Return the file with something where it varies."""
        content = bytearray(self.content)
        for offset, (name, length) in self.varying.items():
            value = FILLED[re.sub(r".*pid\d*$", "pid", name)]
            content[offset : offset + length] = value.to_bytes(length, "little")
        return bytes(content)

    def differences(self, found: bytes) -> list[str]:
        """Where `found` is another file; what varies is not looked at."""
        if len(found) != self.size:
            return [f"{len(found)} bytes long, expected {self.size}"]
        blanked = bytearray(found)
        for offset, (_, length) in self.varying.items():
            blanked[offset : offset + length] = bytes(length)
        return [
            f"byte {at:#06x} is {was:02x}, expected {expected:02x}"
            for at, (was, expected) in enumerate(zip(blanked, self.content, strict=True))
            if was != expected
        ]

    def variables(self, found: bytes) -> dict[str, int]:
        """Return what `found` has where it varies, by name."""
        return {
            name: int.from_bytes(found[offset : offset + length], "little")
            for offset, (name, length) in self.varying.items()
        }


def _expand(token: str) -> bytes:
    """Return the bytes of a token: 0a, 0a*3 or 0a+3."""
    match = re.fullmatch(r"([0-9a-f]{2})(?:([*+])(\d+))?", token)
    if match is None:
        raise ValueError(f"no bytes: {token!r}")
    first, how, count = int(match[1], 16), match[2], int(match[3] or 1)
    return bytes((first + i) % 256 if how == "+" else first for i in range(count))


def parse(text: str) -> Vector:
    """Read a vector."""
    vector = Vector()
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0] == "size":
            vector.size = int(words[1])
            vector.content = bytearray(vector.size)
        elif words[0] == "ends":
            vector.ends = words[1]
        elif words[0] == "gets":
            numbers, _, tokens = " ".join(words[1:]).partition(":")
            data = b"".join(_expand(token) for token in tokens.split())
            vector.gets.append((tuple(map(int, numbers.split())), data))
        else:
            offset = int(words[0].removesuffix(":"), 16)
            for token in words[1:]:
                name, colon, length = token.partition(":")
                data = bytes(int(length)) if colon else _expand(token)
                if colon:
                    vector.varying[offset] = (name, int(length))
                vector.content[offset : offset + len(data)] = data
                offset += len(data)
    if len(vector.content) != vector.size:
        raise ValueError("a line lies beyond the end of the file")
    return vector


def load(name: str) -> Vector:
    """Read a vector of the directory."""
    return parse((DIRECTORY / f"{name}.txt").read_text("utf-8"))


# ---- printing ------------------------------------------------------------------------------------

COMMENTS = {
    0x00: "magic, version, byte_order",
    0x10: "framing, overflow, slots, schema_len",
    0x20: "schema_hash, item_len",
    0x30: "item_stride, schema_off",
    0x40: "data_off, area_len",
    0x50: "origin_pos, created_ns",
    0x80: "head_pos",
    0x90: "note 0: pos, seq",
    0xA0: "note 1: pos, seq",
    0x100: "tail_pos",
    0x180: "producer_pid, closed, epoch",
    0x200: "data.sleepers",
    0x280: "space.sleepers, wanted_pos",
}


def tokens(data: bytes, *, plain: bool = False) -> str:
    """Return bytes in the shortest notation, or a `plain` one."""
    if plain:
        return data.hex(" ")
    words = []
    at = 0
    while at < len(data):
        same = ramp = 1
        while at + same < len(data) and data[at + same] == data[at]:
            same += 1
        while at + ramp < len(data) and data[at + ramp] == (data[at] + ramp) % 256:
            ramp += 1
        if max(same, ramp) >= 8:
            words.append(f"{data[at]:02x}{'*' if same > ramp else '+'}{max(same, ramp)}")
            at += max(same, ramp)
        else:
            words.append(f"{data[at]:02x}")
            at += 1
    return " ".join(words)


def _varying(content: bytes, slots: int) -> dict[int, tuple[str, int]]:
    """Which bytes of this file are of its day and its processes."""
    found = {0x58: ("created_ns", 8)}
    places = {0x180: "producer_pid", **{904 + 128 * i: f"pid{i}" for i in range(slots)}}
    for offset, name in places.items():
        if any(content[offset : offset + 4]):
            found[offset] = (name, 4)
    return found


def _messages(content: bytes) -> Iterator[tuple[int, int]]:
    """Each retained message's offset in the file and the length of its header and payload."""
    head, tail = (
        struct.unpack_from("<Q", content, 128)[0],
        struct.unpack_from("<Q", content, 256)[0],
    )
    data_off, area_len = struct.unpack_from("<2Q", content, 64)
    while tail != head:
        offset = data_off + tail % area_len
        span = 16 + struct.unpack_from("<I", content, offset)[0]
        yield offset, span
        tail = (tail + (span + 15) // 16 * 16) % 2**64


def dump(content: bytes) -> str:
    """Print a segment's bytes as lines of a vector."""
    framing, _, slots, schema_len = struct.unpack_from("<4I", content, 16)
    schema_off, data_off = struct.unpack_from("<2Q", content, 56)
    varying = _varying(content, slots)
    lines = [f"size {len(content)}"]

    def put(offset: int, length: int, comment: str) -> None:
        words, at, plain = [], offset, length == 16
        for place in sorted(varying):
            if offset <= place < offset + length:
                name, size = varying[place]
                words += [tokens(content[at:place], plain=plain)] * (place > at) + [
                    f"{name}:{size}"
                ]
                at = place + size
        words += [tokens(content[at : offset + length], plain=plain)] * (at < offset + length)
        lines.append(f"{offset:04x}: {' '.join(words)}" + (f"  # {comment}" if comment else ""))

    comments = {**COMMENTS, **{0x300 + 16 * i: "member bits" for i in range(8)}}
    comments.update({896 + 128 * i: f"slot {i}: cursor_pos, pid" for i in range(slots)})
    for offset in range(0, schema_off, 16):
        if any(content[offset : offset + 16]) or offset in COMMENTS:
            put(offset, 16, comments.get(offset, ""))
    if schema_len:
        text = content[schema_off : schema_off + schema_len]
        put(schema_off, schema_len, f"schema: {text.decode()}")
    headers = dict(_messages(content)) if framing == 1 else {}
    at = data_off
    while at < len(content):
        if at in headers:
            length, kind, flags, seq = struct.unpack_from("<IHHQ", content, at)
            put(at, 16, f"message {seq}: len {length}, kind {kind}, flags {flags}")
            at += 16
            continue
        end = min((place for place in headers if place > at), default=len(content))
        data = content[at:end].rstrip(b"\0")
        if data:
            put(at, len(data), "")
        at = end
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(dump(Path(sys.argv[1]).read_bytes()), end="")
