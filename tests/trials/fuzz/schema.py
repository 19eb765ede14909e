"""Hostile schemas: bytes that a segment passes for the description of a dtype, with a right hash.

Makes them from a seed (grown from a grammar of what a schema is and is not, or mutated from whole
ones), writes each into the file of a typed ring and attaches a Consumer. It must open, with a dtype
without objects and of the right size, or raise Corrupt: nothing else, no warning, little memory.

    python tests/trials/fuzz/schema.py --runs 100000 --seed 1

The file of the ring stays where it is when this process crashes, so the input can be read there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import struct
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

import shmipc
from shmipc import _core

MEMORY_LIMIT = 4 << 30
SECONDS_FOR_ONE = 2.0
SCHEMA_MAX = 64 * 1024
PAGE = 4096
SCHEMA_OFF = 896 + 128

# ---- making schemas ------------------------------------------------------------------------------

TYPES = [
    "<f8", "<i4", "|u1", "|b1", "|S5", "<U3", "|V8", "<M8[ns]", "<m8[25s]", ">f2", "<c16", "|O8",
    "O", "f8", "=i4", "a5", "2f8", "(2,3)f8", "f8,i4", "V2147483647", "V99999999999", "S0", "U0",
    "V0", "<M8[99999999999999999999s]", "<U999999999", "?", "p", "P", "T", "object", "float", "",
    "|", "<", "e", "g", "<f16", "datetime64", "M8[generic]", "i,O", "(0,)f8", "1f8", "\0", "ž",
]  # fmt: skip
WORDS = [
    "None", "True", "False", "1.0", "-1", "1j", "0x10", "1_0", "...", "b'x'", "set()", "{}", "[]",
    "()", "{'names':['a'],'formats':['O']}", "{'names':['a','b'],'formats':['<i4','<i4'],"
    "'offsets':[0,-4]}", "__import__('os').abort()", "(lambda:0)()", "'a'+'b'", "'a' 'b'", "f'{1}'",
    "1if 1else 2", "'\\d'", "'\\N{BULLET}'", "'\\ud800'", "#", "\\\n", ";", "1e999", "9" * 5000,
]  # fmt: skip
EXTENTS = [0, 1, 2, 3, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**46, 2**63 - 1, 2**63, 2**64, -1]


def grow_name(rng: random.Random, number: int) -> str:
    kind = rng.randrange(12)
    if kind == 0:
        return repr((f"title{number}", f"f{number}"))
    if kind == 1:
        return rng.choice(["''", "'a'", "'\\x00'", "'ž'", "5", "None", "b'a'", "('a','a')", "()"])
    return repr(f"f{number}" if kind < 11 else "x" * rng.choice([1, 300, 5000]))


def grow_shape(rng: random.Random) -> str:
    kind = rng.randrange(8)
    if kind < 4:
        return "()"
    extents = [rng.choice(EXTENTS) for _ in range(rng.choice([1, 1, 2, 3, 31, 32, 33, 65, 200]))]
    if kind == 4:
        return repr(extents)
    if kind == 5:
        return rng.choice(WORDS)
    return repr(tuple(extents))


def grow_dtype(rng: random.Random, depth: int = 0) -> str:
    kind = rng.randrange(10)
    if kind < 4 or depth > 4:
        return repr(rng.choice(TYPES))
    if kind == 4:
        return rng.choice(WORDS)
    if kind == 5:
        second = grow_shape(rng) if rng.randrange(2) else grow_dtype(rng, depth + 2)
        return f"({grow_dtype(rng, depth + 1)}, {second})"
    fields = []
    count = rng.choice([0, 1, 1, 2, 2, 3])
    many = depth == 0 and rng.randrange(50) == 0
    for number in range(rng.randrange(3000) if many else count):
        inner = "'|u1'" if many else grow_dtype(rng, depth + 2)
        parts = [grow_name(rng, number), inner]
        if rng.randrange(4) == 0:
            parts.append(grow_shape(rng))
        if rng.randrange(30) == 0:
            rng.shuffle(parts)
            parts = parts[: rng.randrange(4)]
        fields.append(f"({', '.join(parts)})")
    text = ", ".join(fields)
    return f"[{text}]" if rng.randrange(20) else f"({text})"


def grow(rng: random.Random) -> bytes:
    return f"({grow_dtype(rng)}, {grow_shape(rng)})".encode("utf-8", "surrogatepass")


PATTERNS = [
    ("(", "", ")"), ("[", "", "]"), ("{", "", "}"), ("-", "1", ""), ("not ", "1", ""),
    ("1+", "1", ""), ("'a'", "'b'", ""), ("(", "'<f8'", ", (1,))"), ("lambda:", "1", ""),
    ("[('a', ", "'<f8'", ")]"), ("(", "'<f8'", ",)"), ("1if 1else ", "1", ""), ("a.", "b", ""),
    ("{1:", "1", "}"), ("(", "1", ",())"), ("9", "9", ""), ("'\\x41'", "''", ""), (" ", "1", ""),
    ("()", "", ""), ("'a',", "1", ""), ("1[", "1", "]"), ("1,", "1", ""), ("'", "'", ""),
]  # fmt: skip


def nest(rng: random.Random) -> bytes:
    """Something over and over: parsers recurse, and lists of fields may be long."""
    count = rng.choice([2, 5, 16, 31, 32, 33, 63, 64, 65, 99, 300, rng.choice([1000, 5000, 30000])])
    before, middle, after = rng.choice(PATTERNS)
    text = before * count + middle + after * count
    if rng.randrange(2):
        text = f"({text}, ())"
    return text.encode()[:SCHEMA_MAX]


def mutate(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(WHOLE) if rng.randrange(3) else grow(rng))
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            data[at:at] = rng.choice(WORDS).encode("utf-8", "surrogatepass")
        elif kind == 2:
            del data[at : at + rng.choice([1, 1, 3, 10])]
        elif kind == 3:
            data[at:at] = bytes([rng.choice(b"()[]{},'\"\\ 0123456789<>|OVSU:-#\n\0")])
        else:
            other = rng.choice(WHOLE)
            data[at:at] = other[rng.randrange(len(other)) :]
    return bytes(data)


MAKERS: list[Callable[[random.Random], bytes]] = [grow, grow, grow, mutate, mutate, mutate, nest]

# what schema_encode makes of dtypes that it takes
WHOLE = [
    b"('<f8', ())",
    b"('|u1', (2, 3))",
    b"('<M8[ns]', ())",
    b"([('a', '<u4'), ('b', '<f8')], ())",
    b"([('a', '|u1'), ('', '|V7'), ('b', '<f8', (3,)), ('n', [('x', '<U5')], (2,))], (4,))",
    b"([(('title', 'name'), '<i8')], ())",
]  # fmt: skip

# ---- trying them ---------------------------------------------------------------------------------


def fnv(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def guess_item_len(schema: bytes) -> int:
    """The size that the schema's dtype has if it has one: the check of it must not save us."""
    try:
        descr, shape = eval(schema.decode(), {"__builtins__": {}})
        size = np.lib.format.descr_to_dtype(descr).itemsize * int(np.prod(shape, dtype=object))
        return size if 0 < size < 1 << 20 else 0
    except BaseException:
        return 0


class Ring:
    """The file of a typed ring, rewritten for each schema."""

    def __init__(self) -> None:
        self.path = Path(os.environ["SHMIPC_DIR"]) / "shmipc.schema"
        with shmipc.Producer("schema", dtype="<f8", capacity=1) as producer:
            producer.send(bytes(8))  # owed to the consumer, so the file stays
        self.geometry = bytearray(self.path.read_bytes()[:1024])
        self.path.unlink()

    def write(self, schema: bytes, item_len: int) -> None:
        area = 1 << max(12, (item_len - 1).bit_length())
        if area > 1 << 16:
            item_len, area = 8, 1 << 12
        stride = item_len if item_len < 4096 else -(-item_len // 64) * 64
        if stride > area:
            area *= 2
        data_off = -(-(SCHEMA_OFF + len(schema)) // PAGE) * PAGE
        head = self.geometry
        struct.pack_into("<I", head, 28, len(schema))
        struct.pack_into(
            "<QQQQQQ", head, 32, fnv(schema), item_len, stride, SCHEMA_OFF, data_off, area
        )
        struct.pack_into("<Q", head, 128, 0)  # nothing is in the ring
        struct.pack_into("<I", head, 388, 0)  # ... and more may come
        with open(self.path, "wb") as file:
            file.write(bytes(head) + schema + bytes(data_off + area - SCHEMA_OFF - len(schema)))


def attempt(ring: Ring, schema: bytes, item_len: int) -> str:
    ring.write(schema, item_len)
    try:
        with shmipc.Consumer("schema", timeout=0) as consumer:
            assert consumer.dtype is not None
            assert not consumer.dtype.hasobject
            assert all(type(extent) is int for extent in consumer.shape)
            size = consumer.dtype.itemsize * int(np.prod(consumer.shape, dtype=object))
            assert size == struct.unpack_from("<Q", ring.geometry, 40)[0]
            return "opened"
    except shmipc.Corrupt:
        return "Corrupt"


def fuzz(runs: int, seconds: float, seed: int) -> dict[str, object]:
    ring = Ring()
    outcomes = {"opened": 0, "Corrupt": 0}
    began = time.monotonic()
    done = 0
    while done < runs and (seconds == 0 or time.monotonic() - began < seconds):
        rng = random.Random(f"{seed}/{done}")
        schema = rng.choice(MAKERS)(rng)[:SCHEMA_MAX] or b"x"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            item_len = (guess_item_len(schema) if len(schema) < 2000 else 0) or 8
        start = time.monotonic()
        try:
            outcomes[attempt(ring, schema, item_len)] += 1
            _core.inspect_segment(ring.path)
        except BaseException:
            print(f"seed {seed}, run {done}: {schema[:2000]!r}", file=sys.stderr)
            raise
        took = time.monotonic() - start
        assert took < SECONDS_FOR_ONE, f"seed {seed}, run {done} took {took:.1f} s"
        done += 1
    ring.path.unlink(missing_ok=True)
    took = time.monotonic() - began
    return {
        "executions": done,
        "executions_per_second": round(done / took),
        **outcomes,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=sys.maxsize)
    parser.add_argument("--seconds", type=float, default=0, help="0: as long as the runs take")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("error")
    before = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, before))
    print(json.dumps(fuzz(options.runs, options.seconds, options.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
