"""The text of a file, whatever it is packed in, and what a file is that holds no text.

Everything is told apart by the first bytes, never by the file's name. It knows nothing of what the
text means; ``shmipc.trading.capture`` reads that.

gzip is unpacked always; zstd where the interpreter can (``compression.zstd``, Python 3.14) or the
package ``zstandard`` is installed (``pip install 'shmipc[zstd]'``).
"""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

__all__ = ["BOM", "GZIP", "ZSTD", "Text", "Unreadable", "describe"]

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
BOM = b"\xef\xbb\xbf"  # of UTF-8: says nothing, and is skipped

_BLOCK_LEN = 16 << 10  # small, because a damaged gzip block takes its own output with it
_HEAD_LEN = 512  # of the text, to tell what it is
_MAX_TEXT_LEN = 1 << 20  # that a block becomes at once
_ZSTD_PIECE_LEN = 256  # becomes 8 MiB at most

#: What is no text, by its first bytes.
_FORMS = (
    (b"\x93NUMPY", "a numpy array (.npy): numpy.load() it, and give the array"),
    (b"PK\x03\x04", "a zip archive (.zip, .npz, .xlsx)"),
    (b"BZh", "packed by bzip2"),
    (b"\xfd7zXZ\0", "packed by xz"),
    (b"\x04\x22\x4d\x18", "packed by lz4"),
    (b"7z\xbc\xaf\x27\x1c", "packed by 7-Zip"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow or Feather file"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"\x80\x05\x95", "a Python pickle"),
    (b"%PDF-", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer: `git lfs pull` fetches the file itself"),
    (b"\xff\xfe\0\0", "text in UTF-32: convert it to UTF-8"),
    (b"\xff\xfe", "text in UTF-16: convert it to UTF-8"),
    (b"\xfe\xff", "text in UTF-16: convert it to UTF-8"),
    (b"\0\0\0\0", "zero bytes"),
)


class Unreadable(ValueError):
    """The file is of a form that is not read; the message is what it is."""


class Text:
    """The text of an open file. What is said of it is complete when :meth:`blocks` has ended."""

    def __init__(self, file: BinaryIO) -> None:
        self.packing = ""  #: "gzip", "zstd", or "": it is not packed
        self.damage: str | None = None  #: why it could not be read to its end
        self.head = b""  #: the first bytes of the text
        self.is_ended = True  #: the last line has its newline, or there is none
        self._file = file

    def blocks(self) -> Iterator[bytes]:
        """Yield the text in blocks. Raises Unreadable, and OSError where the file is not read."""
        for block in self._whole_head(self._unpacked()):
            if block:
                self.is_ended = block.endswith(b"\n")
                yield block

    def _whole_head(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Hold the first blocks back until they tell what they are."""
        for block in blocks:
            self.head += block
            if len(self.head) >= _HEAD_LEN:
                break
        self._check(self.head)
        yield self.head
        self.head = self.head[:_HEAD_LEN]
        yield from blocks

    def _check(self, head: bytes) -> None:
        inside = f"{self.packing} data, and in it " if self.packing else ""
        if self.packing and head.startswith((GZIP, ZSTD)):
            raise Unreadable(f"{inside}packed data once more: unpack it once")
        for magic, form in _FORMS:
            if head.startswith(magic):
                raise Unreadable(inside + form)
        if len(head) > 1 and b"\0" in head[:2] and head[:2].strip(b"\0").isdigit():
            raise Unreadable(f"{inside}text in UTF-16: convert it to UTF-8")

    def _unpacked(self) -> Iterator[bytes]:
        block = self._file.read(_BLOCK_LEN)
        if block.startswith(GZIP):
            self.packing = "gzip"
            return self._unpack(block, _Gzip)
        if block.startswith(ZSTD):
            self.packing = "zstd"
            return self._unpack(block, _zstd())
        return self._plain(block)

    def _plain(self, block: bytes) -> Iterator[bytes]:
        while block:
            yield block
            block = self._file.read(_BLOCK_LEN)

    def _unpack(self, block: bytes, make: Callable[[], Any]) -> Iterator[bytes]:
        """Yield what `block` and the rest of the file become; damage is noted, not raised."""
        unpacker = make()
        while block:
            try:
                yield from unpacker.feed(block)
            except unpacker.error as error:
                self.damage = f"{self.packing} data is damaged ({error})"
                return
            if not unpacker.eof:
                block = self._file.read(_BLOCK_LEN)
                continue
            block = unpacker.unused_data or self._file.read(_BLOCK_LEN)
            while block and not block.strip(b"\0"):  # zeros pad the file
                block = self._file.read(_BLOCK_LEN)
            block = block.lstrip(b"\0")
            if block:  # another member follows
                unpacker = make()
        if not unpacker.eof:
            yield from unpacker.rest()
            self.damage = f"{self.packing} data ends before its end mark"


class _Gzip:
    """One member of gzip data."""

    error = zlib.error

    def __init__(self) -> None:
        self._unpack = zlib.decompressobj(wbits=31)

    def feed(self, block: bytes) -> Iterator[bytes]:
        while block:
            yield self._unpack.decompress(block, _MAX_TEXT_LEN)
            block = self._unpack.unconsumed_tail

    def rest(self) -> Iterator[bytes]:
        yield self._unpack.flush()

    @property
    def eof(self) -> bool:
        return self._unpack.eof

    @property
    def unused_data(self) -> bytes:
        return self._unpack.unused_data


def _zstd() -> Callable[[], Any]:
    """Return what makes an unpacker of one frame of zstd data; Unreadable where nothing does."""
    for name, kind in (("compression.zstd", _StandardZstd), ("zstandard", _InstalledZstd)):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return lambda kind=kind, module=module: kind(module)  # type: ignore[misc]
    raise Unreadable(
        "packed by zstd, which this Python cannot unpack: pip install 'shmipc[zstd]', or unpack it"
    )


class _Zstd:
    """One frame of zstd data."""

    def __init__(self, unpack: Any, error: type[Exception]) -> None:
        self.error = error
        self._unpack = unpack

    def rest(self) -> Iterator[bytes]:
        return iter(())

    @property
    def eof(self) -> bool:
        return bool(self._unpack.eof)

    @property
    def unused_data(self) -> bytes:
        return self._unused() if self.eof else b""

    def _unused(self) -> bytes:
        return bytes(self._unpack.unused_data)


class _StandardZstd(_Zstd):
    """By ``compression.zstd``, which is told how much to give at once."""

    def __init__(self, module: Any) -> None:
        super().__init__(module.ZstdDecompressor(), module.ZstdError)

    def feed(self, block: bytes) -> Iterator[bytes]:
        yield self._unpack.decompress(block, _MAX_TEXT_LEN)
        while not (self._unpack.eof or self._unpack.needs_input):
            yield self._unpack.decompress(b"", _MAX_TEXT_LEN)


class _InstalledZstd(_Zstd):
    """By ``zstandard``, which gives all at once and so is given little."""

    def __init__(self, module: Any) -> None:
        super().__init__(module.ZstdDecompressor().decompressobj(), module.ZstdError)
        self._left = b""

    def feed(self, block: bytes) -> Iterator[bytes]:
        for at in range(0, len(block), _ZSTD_PIECE_LEN):
            end = at + _ZSTD_PIECE_LEN
            yield self._unpack.decompress(block[at:end])
            if self._unpack.eof:
                self._left = block[end:]
                return

    def _unused(self) -> bytes:
        return super()._unused() + self._left


def describe(head: bytes) -> str:
    """Return what a text that begins with `head`, and is not what was hoped for, looks like."""
    head = head.removeprefix(BOM).lstrip()
    first, second = (head + b"\n\n").split(b"\n")[:2]
    first = first.rstrip()
    start = head[:9].lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "an HTML page, as a server sends one instead of a file"
    if start.startswith(b"<"):
        return "XML or HTML"
    if start.startswith((b"{", b"[")):
        return "JSON without receive times"
    if b"\0" in head or sum(byte < 9 or byte > 126 for byte in head) > len(head) // 3:
        return f"binary data that begins with {head[:8].hex(' ')}"
    if re.match(rb"\d+ *\{", first):
        return "a capture, of which no line can be used"
    if any(1 < first.count(mark) <= second.count(mark) for mark in (b",", b";", b"\t")):
        return f"CSV that begins with {_shown(first)}"
    return f"text that begins with {_shown(first)}"


def _shown(line: bytes) -> str:
    text = line.decode(errors="backslashreplace")
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
