"""What a peer stores into a ring, before we attach and while we use it: a documented answer, and no
crash. The fuzzers in tests/trials/fuzz go on from here."""

from __future__ import annotations

import struct
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

import shmipc
from helpers import Peer, discard, run_clean, segment_path
from shmipc import Consumer, Producer, _core

# ---- schemas -------------------------------------------------------------------------------------


def fnv(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


HOSTILE_SCHEMAS = {
    "minus signs": b"-" * 60_000 + b"1",
    "sums": b"1+" * 30_000 + b"1",
    "calls": b"(" + b"()" * 30_000 + b",())",
    "brackets": b"(" * 32_000 + b")" * 32_000,
    "lists within lists": b"(" + b"[" * 90 + b"]" * 90 + b", ())",
    "dtype within dtypes": b"(" + b"[('a', " * 1000 + b"'<f8'" + b")]" * 1000 + b", ())",
    "tuples within tuples": b"(" + b"(" * 40 + b"'<f8'" + b",)" * 40 + b", ())",
    "number of 60,000 digits": b"('<f8', (" + b"9" * 60_000 + b",))",
    "20,000 empty fields": b"([" + b"('', '|V0')," * 5_000 + b"], ())",
    "deprecated name": b"('a8', ())",
    "deprecated repetition": b"('1f8', ())",
    "escape that is none": b"('\\d', ())",
    "name that is none": b"('\\N{BULLET}', ())",
    "extent beyond 64 bits": b"('|u1', (18446744073709551616,))",
    "extents whose product wraps": b"('<f8', (4294967296, 4294967296, 1))",
    "extents of a field": b"([('a', '|u1', (4294967296, 4294967296))], ())",
    "overlapping view": b"(('<i8', [('a', '<i4'), ('b', '<i4')]), ())",
    "object in a view": b"(('<i8', [('a', '|O8')]), ())",
    "offsets": b"({'names': ['a'], 'formats': ['<f8'], 'offsets': [-8], 'itemsize': 8}, ())",
    "titles": b"([(('t', 'a'), '<f4'), (('t', 'b'), '<f4')], ())",
    "number for a name": b"([(5, '<f8')], ())",
    "no zero byte": b"('<f8\0', ())",
    "no UTF-8": b"('<f8', ()) # \xff",
    "half a string": b"('<f8",
    "half an escape": b"('<f8\\",
    "two values": b"('<f8', ()), 1",
    "native byte order": b"('f8', ())",
    "item without bytes": b"('|V0', ())",
    "nothing": b"",
}


@pytest.mark.parametrize("schema", HOSTILE_SCHEMAS.values(), ids=HOSTILE_SCHEMAS.keys())
@pytest.mark.parametrize("warned", [False, True], ids=["", "warnings are errors"])
@pytest.mark.filterwarnings("default")
def test_schema_that_no_producer_writes_is_corrupt(
    schema: bytes, warned: bool, shm_dir: Path, recwarn: pytest.WarningsRecorder
) -> None:
    if warned:
        warnings.simplefilter("error")
    with Producer("s", dtype="<f8", capacity=1) as producer:
        producer.send(bytes(8))
    old = bytearray(segment_path("s").read_bytes())
    schema_off = int.from_bytes(old[56:64], "little")
    data_off = -(-(schema_off + len(schema)) // 4096) * 4096
    old[28:32] = struct.pack("<I", len(schema))
    old[32:40] = struct.pack("<Q", fnv(schema))
    old[64:72] = struct.pack("<Q", data_off)
    head = bytes(old[:schema_off]) + schema
    segment_path("s").write_bytes(head + bytes(data_off + 4096 - len(head)))
    began = time.monotonic()
    with pytest.raises(shmipc.Corrupt, match="schema describes no dtype"):
        Consumer("s", timeout=0)
    with pytest.raises(shmipc.SchemaMismatch):
        Producer("s", dtype="<f8", capacity=1)
    assert _core.inspect_segment(segment_path("s"))["framing"] == "typed"
    assert time.monotonic() - began < 10
    discard("s")


def nested(levels: int) -> np.dtype[np.void]:
    dtype: Any = "<f8"
    for _ in range(levels):
        dtype = [("a", dtype)]
    return np.dtype(dtype)


def test_dtype_is_nested_as_deeply_as_a_consumer_reads_and_no_deeper(shm_dir: Path) -> None:
    with Producer("s", dtype=nested(30)), Consumer("s", timeout=0) as consumer:
        assert consumer.dtype == nested(30)
    with pytest.raises(ValueError, match="nested too deeply"):
        Producer("s", dtype=nested(60))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(dtype=hypothesis_numpy.nested_dtypes(max_itemsize=500), shape=st.lists(st.integers(0, 3)))
def test_every_dtype_that_a_producer_takes_is_one_that_a_consumer_reads(
    dtype: np.dtype[Any], shape: list[int]
) -> None:
    try:
        producer = Producer("s", dtype=dtype, shape=shape[:4], capacity=1)
    except (TypeError, ValueError):
        return  # no bytes, or reordered fields
    with producer, Consumer("s", timeout=0) as consumer:
        assert consumer.dtype == producer.dtype
        assert consumer.shape == producer.shape


# ---- a ring in use -------------------------------------------------------------------------------

SCRIBBLER = """
    # stores anything anywhere into whatever ring is there, until the test goes
    import mmap, random
    path, data_off, area = args[0], int(args[1]), int(args[2])
    rng = random.Random(int(args[3]))
    fields = [128, 136, 144, 152, 160, 168, 256, 384, 388, 392, 512, 640, 648, 768, 896, 904, 1024]
    fields = [at // 8 for at in fields]
    values = [0, 1, 8, 16, 24, area - 16, area, area + 16, 1 << 31, 1 << 32, 1 << 63]
    say("ready")
    while True:
        try:
            file = open(path, "r+b")
        except FileNotFoundError:
            continue
        inode = os.fstat(file.fileno()).st_ino
        with file, mmap.mmap(file.fileno(), data_off + area) as memory:
            words = memoryview(memory).cast("Q")
            for _ in range(200):
                at = rng.choice(fields) if rng.random() < 0.5 else rng.randrange(len(words))
                base = words[rng.choice(fields)] if rng.random() < 0.7 else 0
                sign = rng.choice((1, -1))
                words[at] = (base + sign * rng.choice(values)) & 0xFFFFFFFFFFFFFFFF
            words.release()
    """

VICTIM = """
    import faulthandler, random
    from shmipc import _core
    faulthandler.dump_traceback_later(100, exit=True)
    framing, overflow, consumers, seed = args[0], args[1], int(args[2]), int(args[3])
    rng = random.Random(seed)
    typed = framing == "typed"
    options = dict(overflow=overflow, max_consumers=consumers)
    options |= dict(dtype=[("a", "<u4"), ("b", "<f8")], capacity=300) if typed else {}
    options |= {} if typed else dict(capacity=4096)
    documented = (Empty, Full, Closed, NotFound, Busy, SchemaMismatch, Corrupt, ProducerDied,
                  ConsumerDied)
    seen = {}

    def attempt(call):
        try:
            result = call()
            seen["fine"] = seen.get("fine", 0) + 1
            return result
        except documented as error:
            seen[type(error).__name__] = seen.get(type(error).__name__, 0) + 1

    def look(consumer, frame):
        if frame is not None:
            assert len(bytes(frame)) <= 8192
            array = frame.array
            assert array.nbytes <= 4096
            if not typed:
                array.sum()
            (frame.seq, frame.kind, frame.flags, frame.intact)
            kept.append(frame)
        while len(kept) > 3:
            del kept[rng.randrange(len(kept))]

    item = bytes(12)
    for episode in range(120):
        kept = []
        producer = attempt(lambda: Producer("v", **options))
        readers = [attempt(lambda: Consumer("v", timeout=0)) for _ in range(consumers)]
        for _ in range(60):
            if producer is not None:
                n = 12 if typed else rng.choice([0, 12, 100, 1000, 4000])
                what = rng.randrange(8)
                if what < 3:
                    attempt(lambda: producer.try_send(bytes(n)))
                elif what == 3:
                    attempt(lambda: producer.send(bytes(n), timeout=0.0005))
                elif what == 4:
                    many = np.zeros(20, producer.dtype) if typed else [bytes(n)] * 20
                    attempt(lambda: producer.send_many(many, timeout=0))
                elif what == 5:
                    def reserve():
                        with producer.reserve(1 if typed else n, timeout=0) as room:
                            np.asarray(room).view("u1")[:] = 0
                    attempt(reserve)
                elif what == 6:
                    attempt(producer.stats)
                else:
                    (producer.lag, producer.attached)
            for reader in readers:
                if reader is None:
                    continue
                what = rng.randrange(9)
                if what < 2:
                    got = attempt(lambda: reader.recv(0))
                    assert got is None or len(bytes(got)) <= 4096
                elif what == 2:
                    attempt(lambda: reader.recv_into(bytearray(8192), 0.0005))
                elif what == 3:
                    try:
                        attempt(lambda: None if typed else reader.recv_text(0))
                    except UnicodeDecodeError:
                        pass
                elif what < 6:
                    look(reader, attempt(lambda: reader.read(0)))
                elif what == 6 and typed:
                    look(reader, attempt(lambda: reader.read_batch(timeout=0)))
                elif what == 7:
                    attempt(lambda: shmipc.wait([reader], 0.0005))
                else:
                    attempt(reader.stats)
        for handle in [producer, *readers]:
            if handle is not None:
                handle.close()
        kept.clear()
        if os.path.exists(_core.segment_path("v")):
            attempt(lambda: _core.inspect_segment(_core.segment_path("v")))
            os.unlink(_core.segment_path("v"))
    assert seen["fine"] > 100, seen
    assert sum(seen.values()) - seen["fine"] > 100, seen
    """


@pytest.mark.parametrize("consumers", [1, 2])
@pytest.mark.parametrize("overflow", ["block", "overwrite"])
@pytest.mark.parametrize("framing", ["message", "typed"])
def test_ring_that_somebody_scribbles_over_has_documented_answers_only(
    framing: str, overflow: str, consumers: int, shm_dir: Path
) -> None:
    path = segment_path("v")
    with Peer(SCRIBBLER, path, 4096, 4096, 7) as scribbler:
        scribbler.expect()
        run_clean(VICTIM, framing, overflow, consumers, 11)
        assert scribbler.process.poll() is None
