"""The stranger's half that knows files: geometry, schema, locks, a mapped segment: stranger.py."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import re
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WORD = 2**64
PAGE = os.sysconf("SC_PAGESIZE")
ORDERED = platform.machine() == "x86_64"  # plain accesses are acquire and release [9]
NUMBERS = {"x86_64": (202, 324), "aarch64": (98, 283)}[platform.machine()]
FUTEX, MEMBARRIER = NUMBERS
libc = ctypes.CDLL(None, use_errno=True)

# [2], [3]
GEOMETRY = struct.Struct("8s6I8Q")
HEAD, NOTES, TAIL, PRODUCER_PID, CLOSED, EPOCH = 128, (144, 160), 256, 384, 388, 392
SPACE, WANTED, MEMBERS, SLOTS, SLOT = 640, 648, 768, 896, 128
MESSAGE, TYPED, BLOCK, OVERWRITE = 1, 2, 1, 2
GATE, PRODUCER, FIRST_SLOT = 0, 1, 2  # [6]
KEPT = 2**32 - 1  # in a slot's pid [3]
MAGIC = b"\x89SHMIPC\n"


class Refused(Exception):
    """No segment of version 1, or none for us."""


class Damaged(Refused):
    """It contradicts itself."""


def demand(condition: bool, fault: str) -> None:
    if not condition:
        raise Damaged(fault)


def before(a: int, b: int) -> bool:  # [3]
    return (a - b) % WORD >= WORD // 2


def align(number: int, unit: int) -> int:
    return (number + unit - 1) // unit * unit


def fnv_1a(data: bytes) -> int:  # [5]
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % WORD
    return value


def stride_of(item_len: int) -> int:  # [2]
    return item_len if item_len < 4096 else align(item_len, 64)


def full_fence() -> None:  # [9]
    if libc.syscall(MEMBARRIER, 2, 0, 0) != 0:
        raise Refused("membarrier is refused here: there is no fence to be had")


# ---- the schema [5] ------------------------------------------------------------------------------

TOKEN = re.compile(
    r"""[()\[\],]|[0-9]{1,20}(?![0-9])"""
    r"""|'(?:[^'\\\x00-\x1f]|\\(?:[\\'nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))*'"""
    r'''|"(?:[^"\\\x00-\x1f]|\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))*"'''
)
TYPE = re.compile(r"[<>|]?(?:([biufcSV])([0-9]+)|(U)([0-9]+)|([mM])8(?:\[[^\]]*\])?)")


class Schema:
    """A descent over the grammar: `item_len` is the bytes of the description and the shape."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        while at < len(text):
            match = TOKEN.match(text, at)
            demand(match is not None, f"no schema from {text[at : at + 20]!r} on")
            assert match is not None
            self.tokens.append(match[0])
            at = match.end()
            at += at < len(text) and text[at] == " " and match[0] == ","
        self.take("(")
        descr = self.descr(0)
        self.take(",")
        self.item_len = descr * self.extents()
        self.take(")")
        demand(not self.tokens, "something follows the schema")
        demand(self.item_len > 0, "an item of no bytes")

    def take(self, expected: str = "") -> str:
        demand(bool(self.tokens), "the schema ends early")
        token = self.tokens.pop(0)
        demand(expected in ("", token), f"{token!r} where the schema needs {expected!r}")
        return token

    def next_is(self, token: str) -> bool:
        return bool(self.tokens) and self.tokens[0] == token

    def descr(self, depth: int) -> int:
        demand(depth < 64, "a schema nested too deeply")
        if not self.next_is("["):
            match = TYPE.fullmatch(self.string())
            demand(match is not None, "a type of no known kind")
            assert match is not None
            return int(match[2]) if match[1] else 4 * int(match[4]) if match[3] else 8
        self.take("[")
        total = self.field(depth)
        while self.next_is(","):
            self.take(",")
            total += self.field(depth)
        self.take("]")
        return total

    def field(self, depth: int) -> int:
        self.take("(")
        if self.next_is("("):  # title and name
            self.take("(")
            self.string()
            self.take(",")
            self.string()
            self.take(")")
        else:
            self.string()
        self.take(",")
        size = self.descr(depth + 1)
        if self.next_is(","):
            self.take(",")
            size *= self.extents()
        self.take(")")
        return size

    def extents(self) -> int:
        """The product of a tuple."""
        self.take("(")
        product, count = 1, 0
        while not self.next_is(")"):
            if count:
                self.take(",")
            if count == 1 and self.next_is(")"):
                count = 2  # the comma of a tuple of one
                break
            token = self.take()
            demand(token.isdigit(), "an extent that is no number")
            product *= int(token)
            count += 1
        demand(count != 1, "a tuple of one without its comma")
        self.take(")")
        return product

    def string(self) -> str:
        token = self.take()
        demand(token[0] in "'\"", f"{token!r} where the schema needs a string")
        return token[1:-1]


# ---- the geometry [2] ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Geometry:
    magic: bytes
    version: int
    byte_order: int
    framing: int
    overflow: int
    slots: int
    schema_len: int
    schema_hash: int
    item_len: int
    item_stride: int
    schema_off: int
    data_off: int
    area_len: int
    origin_pos: int
    created_ns: int

    @property
    def durable(self) -> bool:
        return self.overflow == BLOCK and self.slots == 1

    def check(self, file_len: int) -> None:
        if (self.version, self.byte_order) != (1, 0x01020304):
            raise Refused(f"a segment of version {self.version}")
        demand(1 <= self.slots <= 1024, "slots")
        demand(self.framing in (MESSAGE, TYPED), "framing")
        demand(self.overflow in (BLOCK, OVERWRITE), "overflow")
        demand(self.schema_len <= 65536, "schema_len")
        demand(self.schema_off == SLOTS + SLOT * self.slots, "schema_off")
        demand(self.data_off % PAGE == 0, "data_off")
        demand(self.schema_off + self.schema_len <= self.data_off <= 2**30, "data_off")
        demand(PAGE <= self.area_len <= 2**46, "area_len")
        demand(self.area_len & (self.area_len - 1) == 0, "area_len")
        demand(self.data_off + self.area_len == file_len, "the file's length")
        if self.framing == MESSAGE:
            demand(self.item_len == self.item_stride == 0, "items in a message ring")
            demand(self.origin_pos % 16 == 0, "origin_pos")
        else:
            demand(1 <= self.item_len <= self.area_len, "item_len")
            demand(self.item_stride == stride_of(self.item_len) <= self.area_len, "item_stride")


def read_geometry(fd: int) -> Geometry:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise Refused("not a regular file")
    raw = os.pread(fd, GEOMETRY.size, 0)
    if len(raw) < GEOMETRY.size or raw[:8] != MAGIC:
        raise Refused("no segment")
    geometry = Geometry(*GEOMETRY.unpack(raw))
    geometry.check(status.st_size)
    demand(status.st_blocks * 512 >= status.st_size, "holes")  # on tmpfs
    if geometry.framing == TYPED:
        schema = os.pread(fd, geometry.schema_len, geometry.schema_off)
        demand(fnv_1a(schema) == geometry.schema_hash, "schema_hash")
        try:
            item_len = Schema(schema.decode()).item_len
        except UnicodeDecodeError:
            raise Damaged("the schema is no text") from None
        demand(item_len == geometry.item_len, "item_len and schema differ")
    return geometry


# ---- locks [6] -----------------------------------------------------------------------------------

F_OFD_GETLK, F_OFD_SETLK = 36, 37
FLOCK = struct.Struct("hhqqi4x")


def try_lock(fd: int, byte: int, kind: int = fcntl.F_WRLCK) -> bool:
    try:
        fcntl.fcntl(fd, F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(fd: int, byte: int) -> None:
    assert try_lock(fd, byte, fcntl.F_UNLCK)


def is_held(fd: int, byte: int, count: int = 1) -> bool:
    """Does somebody else hold any of these?"""
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, count, 0)
    return int(FLOCK.unpack(fcntl.fcntl(fd, F_OFD_GETLK, asked))[0]) != fcntl.F_UNLCK


@contextmanager
def gate(fd: int) -> Iterator[None]:
    for _ in range(2000):
        if try_lock(fd, GATE):
            break
        time.sleep(0.001)
    else:
        raise Refused("its gate is held by somebody who is stopped")
    try:
        yield
    finally:
        unlock(fd, GATE)


# ---- a mapped segment ----------------------------------------------------------------------------


class Segment:
    """An open, checked file and a mapping made through a second open of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        self.fd = os.open(path, flags)
        try:
            self.geometry = read_geometry(self.fd)
            second = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)
            try:
                g = self.geometry
                self.map = mmap.mmap(second, g.data_off + g.area_len)
            finally:
                os.close(second)
        except BaseException:
            os.close(self.fd)
            raise
        self.words, self.halves = memoryview(self.map).cast("Q"), memoryview(self.map).cast("I")

    def close(self) -> None:
        self.words.release()
        self.halves.release()
        self.map.close()
        os.close(self.fd)

    def load(self, offset: int, *, acquire: bool = False) -> int:
        value = self.words[offset // 8]
        if acquire and not ORDERED:
            full_fence()
        return value

    def store(self, offset: int, value: int, *, release: bool = False) -> None:
        if release and not ORDERED:
            full_fence()
        self.words[offset // 8] = value % WORD

    def load32(self, offset: int, *, acquire: bool = False) -> int:
        value = self.halves[offset // 4]
        if acquire and not ORDERED:
            full_fence()
        return value

    def copy(self, pos: int, length: int) -> bytes:
        """Bytes of the area, in two pieces where they run over its end [3]."""
        g = self.geometry
        at = pos % g.area_len
        first = min(length, g.area_len - at)
        start = g.data_off + at
        return self.map[start : start + first] + self.map[g.data_off : g.data_off + length - first]

    def header(self, pos: int) -> tuple[int, int, int, int]:
        """The len, kind, flags and seq of a message, each word loaded once [4]."""
        at = self.geometry.data_off + pos % self.geometry.area_len
        first, seq = self.load(at), self.load(at + 8)
        return first % 2**32, first >> 32 & 0xFFFF, first >> 48, seq

    def is_named(self) -> bool:
        try:
            named = os.lstat(self.path)
        except FileNotFoundError:
            return False
        here = os.fstat(self.fd)
        return (named.st_dev, named.st_ino) == (here.st_dev, here.st_ino)

    def is_attached(self) -> bool:
        return is_held(self.fd, PRODUCER, 1 + self.geometry.slots)

    def is_kept(self, slot: int) -> bool:
        bit = self.load(MEMBERS + slot // 64 * 8) >> slot % 64 & 1
        return bit == 1 and self.halves[(SLOTS + SLOT * slot + 8) // 4] == KEPT

    def is_owed(self) -> bool:
        kept = (slot for slot in range(self.geometry.slots) if self.is_kept(slot))
        owed = range(1) if self.geometry.durable else kept
        return any(self.load(SLOTS + SLOT * slot) != self.load(HEAD) for slot in owed)

    def note_of(self, head: int) -> int | None:
        """The next message's number, by the note that belongs to this head (R5)."""
        for note in NOTES:
            seq = self.load(note + 8, acquire=True)
            if self.load(note) == head:
                return seq
        return None

    def wake_space(self) -> int:
        """K4, without an exchange [9]. Returns how many were woken."""
        full_fence()
        word = self.load32(SPACE)
        if word % 2 == 0:
            return 0
        self.halves[SPACE // 4] = (word + 1) % 2**32
        address = ctypes.addressof(ctypes.c_uint32.from_buffer(self.map, SPACE))
        return int(libc.syscall(FUTEX, ctypes.c_void_p(address), 1, 2**31 - 1, None, None, 0))
