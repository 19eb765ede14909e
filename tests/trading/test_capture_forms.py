"""What a file may be instead of a plain capture: packed, cut, of another form, empty.

Each is read, or an error that says what it is; none is a short answer without a word.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captures import REAL, made_capture, needs_real, ticker
from shmipc import Error
from shmipc.trading import _unpack, capture
from shmipc.trading.market.feed import feed, feed_batches

LINES = made_capture(300, 5)
TEXT = b"\n".join(LINES) + b"\n"
LONG = b"\n".join(made_capture(4000, 5)) + b"\n"
BOM = b"\xef\xbb\xbf"


def zstd_compressor() -> Callable[[bytes], bytes] | None:
    for name in ("compression.zstd", "zstandard"):
        try:
            return importlib.import_module(name).compress  # type: ignore[no-any-return]
        except ImportError:
            continue
    return None


compress_zstd = zstd_compressor()
needs_zstd = pytest.mark.skipif(
    compress_zstd is None, reason="neither compression.zstd nor zstandard is there"
)


def zstd(data: bytes) -> bytes:
    assert compress_zstd is not None
    return compress_zstd(data)


def read(path: Path, data: bytes, *, strict: bool = False) -> tuple[bytes, capture.Summary]:
    """Return all records, and the summary; it agrees with an independent count of the text."""
    path.write_bytes(data)
    summary = capture.Summary()
    parts = list(capture.read_capture(path, summary=summary, strict=strict))
    assert capture.disagreements(summary, *capture.count_by_text(path)) == []
    assert summary.events == sum(summary.kinds.values())
    return b"".join(part.tobytes() for part in parts), summary


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd,
}
each_packing = pytest.mark.parametrize("packing", ["gzip", pytest.param("zstd", marks=needs_zstd)])


@each_packing
def test_packed_is_read_as_plain_is(packing: str, tmp_path: Path) -> None:
    pack = PACKED[packing]
    plain, summary = read(tmp_path / "plain.gz", TEXT)
    assert (summary.packing, summary.truncated, summary.bad_count) == ("", False, 0)
    packed, summary = read(tmp_path / "packed.txt", pack(TEXT))
    assert (summary.packing, summary.truncated, summary.bad_count) == (packing, False, 0)
    cut = len(TEXT) // 3
    members = pack(TEXT[:cut]) + b"\0" * 40_000 + pack(TEXT[cut:]) + b"\0" * 40_000
    in_members, summary = read(tmp_path / "members", members)
    assert not summary.truncated
    assert plain == packed == in_members


@each_packing
def test_half_of_it_is_read_as_far_as_it_goes_and_told(packing: str, tmp_path: Path) -> None:
    packed = PACKED[packing](LONG)
    whole, _ = read(tmp_path / "whole", LONG)
    half, summary = read(tmp_path / "half", packed[: len(packed) // 2])
    assert 0 < len(half) < len(whole)
    assert whole.startswith(half)
    assert summary.truncated
    assert summary.damage == f"{packing} data ends before its end mark"
    assert f"TRUNCATED: {summary.damage}" in str(summary)


@each_packing
def test_what_follows_its_end_and_is_none_is_told(packing: str, tmp_path: Path) -> None:
    plain, _ = read(tmp_path / "plain", TEXT)
    read_all, summary = read(tmp_path / "more", PACKED[packing](TEXT) + b"trailing garbage")
    assert read_all == plain
    assert summary.truncated
    assert summary.damage is not None
    assert summary.damage.startswith(f"{packing} data is damaged")


@needs_zstd
def test_zstd_that_becomes_much_is_read_in_pieces(tmp_path: Path) -> None:
    data = zstd(TEXT + b"\n" * (40 << 20) + TEXT)
    sizes = []
    (tmp_path / "c").write_bytes(data)
    with open(tmp_path / "c", "rb") as file:
        sizes = [len(block) for block in _unpack.Text(file).blocks()]
    assert max(sizes) < 10 << 20
    assert sum(sizes) == 2 * len(TEXT) + (40 << 20)


def test_zstd_that_nothing_here_unpacks_names_what_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_none(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(_unpack.importlib, "import_module", import_none)
    with pytest.raises(capture.CaptureError, match=r"zstd.*pip install 'shmipc\[zstd\]'"):
        read(tmp_path / "c", b"\x28\xb5\x2f\xfd and so on")


def test_a_bom_costs_no_line(tmp_path: Path) -> None:
    plain, _ = read(tmp_path / "plain", TEXT)
    for name, data in {
        "first": BOM + TEXT,
        "packed": gzip.compress(BOM + TEXT),
        "joined": b"".join(BOM + line + b"\r\n" for line in LINES),
    }.items():
        read_all, summary = read(tmp_path / name, data)
        assert read_all == plain, name
        assert summary.bad_count == 0


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", npy())
    return file.getvalue()


FOREIGN = {
    "npy": (npy(), r"is a numpy array \(\.npy\)"),
    "npz": (npz(), "is a zip archive"),
    "bzip2": (bz2.compress(TEXT), "is packed by bzip2"),
    "xz": (lzma.compress(TEXT), "is packed by xz"),
    "pickle": (pickle.dumps([1, 2], 4), "is a Python pickle"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    "UTF-16": (TEXT.decode().encode("utf-16"), "is text in UTF-16"),
    "UTF-16 big": (b"\xfe\xff" + TEXT.decode().encode("utf-16-be"), "is text in UTF-16"),
    "UTF-16 without mark": (TEXT.decode().encode("utf-16-le"), "is text in UTF-16"),
    "UTF-16 big without mark": (TEXT.decode().encode("utf-16-be"), "is text in UTF-16"),
    "UTF-32": (TEXT.decode().encode("utf-32"), "is text in UTF-32"),
    "zeros": (b"\0" * 5000, "is zero bytes"),
    "gzip twice": (gzip.compress(gzip.compress(TEXT)), "gzip data, and in it packed data"),
    "npy in gzip": (gzip.compress(npy()), "gzip data, and in it a numpy array"),
    "CSV": (b"time,price,size\n1,2,3\n", "looks like CSV that begins with 'time,price,size'"),
    "TSV": (b"time\tprice\tsize\n1\t2\t3\n", "looks like CSV"),
    "CSV in gzip": (gzip.compress(b"a,b,c\n1,2,3\n"), "looks like CSV that begins with 'a,b,c'"),
    "HTML": (b"\n <!DOCTYPE html>\n<html>404</html>", "looks like an HTML page"),
    "HTML with BOM": (BOM + b"<HTML>", "looks like an HTML page"),
    "XML": (b"<Error><Code>AccessDenied</Code></Error>", "looks like XML"),
    "JSON": (b'{"code":-1121,"msg":"Invalid symbol."}', "looks like JSON without receive times"),
    "binary": (bytes(range(128, 256)) * 3, "looks like binary data that begins with 80 81 82"),
    "prose": (b"hello\nworld\n", "looks like text that begins with 'hello'"),
    "another stream": (b'17 {"e":"kline"}\n', "a capture, of which no line can be used"),
    "empty": (b"", "it is empty"),
    "blank": (b"\n\n", "it is empty"),
    "BOM alone": (BOM, "looks like text|it is empty"),
    "gzip of nothing": (gzip.compress(b""), "it is empty"),
    "two bytes of gzip": (b"\x1f\x8b", "gzip data ends before its end mark"),
    "damaged gzip": (b"\x1f\x8b" + b"x" * 50, "gzip data is damaged"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("reader", [capture.read_capture, feed, feed_batches])
def test_a_file_without_an_event_is_an_error_that_says_what_it_is(
    name: str, reader: Callable[..., Iterator[Any]], tmp_path: Path
) -> None:
    data, what = FOREIGN[name]
    path = tmp_path / "some file"
    path.write_bytes(data)
    with pytest.raises(capture.CaptureError, match=what) as caught:
        list(reader(path))
    assert isinstance(caught.value, (Error, ValueError))
    text = str(caught.value)
    assert text.startswith(repr(str(path)))
    assert "A capture is text" in text
    assert len(text) < 600
    assert text.isprintable()


def test_a_directory_and_a_missing_file_are_oserrors(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        list(feed(tmp_path))
    with pytest.raises(FileNotFoundError):
        list(feed(tmp_path / "none"))


def test_an_endless_file_of_zeros_ends() -> None:
    with pytest.raises(capture.CaptureError, match="zero bytes"):
        list(capture.read_capture("/dev/zero"))


class TestTheSummary:
    def test_tells_bad_lines_with_reasons_and_how_many_more(self, tmp_path: Path) -> None:
        _, summary = read(tmp_path / "c", TEXT + b"foreign\n" * 7)
        assert summary.lines == 307
        assert not summary.truncated
        text = str(summary)
        assert text.startswith("307 lines read: 300 events (")
        assert "7 bad; line 301: does not start with a receive time" in text
        assert "line 303" in text
        assert "line 304" not in text
        assert text.endswith("and 4 more bad lines")

    def test_of_a_whole_capture_says_that_nothing_is_bad(self, tmp_path: Path) -> None:
        _, summary = read(tmp_path / "c", TEXT.rstrip(b"\n"))  # the last line may lack its end
        assert not summary.truncated
        assert str(summary).endswith("none bad")

    def test_of_a_plain_file_that_is_cut_in_a_line_says_so(self, tmp_path: Path) -> None:
        _, summary = read(tmp_path / "c", TEXT[:-20])
        assert summary.truncated
        assert summary.bad_count == 1
        assert str(summary).endswith("TRUNCATED: its last line is cut")

    def test_of_bad_lines_before_the_last_is_not_truncated(self, tmp_path: Path) -> None:
        _, summary = read(tmp_path / "c", b"x\n" + TEXT.rstrip(b"\n"))
        assert (summary.bad_count, summary.truncated) == (1, False)


class TestStrict:
    @pytest.mark.parametrize("reader", [capture.read_capture, feed, feed_batches])
    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (TEXT + b"foreign\n" + TEXT, "1 bad; line 301: does not start"),
            (TEXT[:-20], "TRUNCATED: its last line is cut"),
            (gzip.compress(LONG)[:-30], "TRUNCATED: gzip data ends"),
        ],
    )
    def test_what_is_not_whole_is_an_error(
        self, reader: Callable[..., Iterator[Any]], data: bytes, why: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "c"
        path.write_bytes(data)
        with pytest.raises(capture.CaptureError, match=f"is not whole: .*{why}"):
            list(reader(path, strict=True))
        list(reader(path))

    def test_a_line_that_only_the_feed_refuses_is_bad_too(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        path.write_bytes(ticker(1) + b"\n" + ticker(2, symbol="A" * 16))
        with pytest.raises(capture.CaptureError, match=r"1 bad; line \d+: symbol"):
            list(feed(path, strict=True))

    def test_what_is_whole_is_none(self, tmp_path: Path) -> None:
        read(tmp_path / "c", TEXT, strict=True)


@needs_real
@each_packing
def test_the_real_capture_packed_anew_and_cut(packing: str, tmp_path: Path) -> None:
    text = gzip.decompress(REAL.read_bytes())[: 4 << 20]
    text = text[: text.rindex(b"\n") + 1]
    packed = PACKED[packing](text)
    whole, summary = read(tmp_path / "whole", packed, strict=True)
    assert summary.events == text.count(b"\n")
    half, summary = read(tmp_path / "half", packed[: len(packed) // 2])
    assert summary.truncated
    assert whole.startswith(half)
    assert summary.events > 1000
