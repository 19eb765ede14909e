"""The Python peer of the conformance tests: does what tests/trials/conformance/run.py says, line by
line.

Owns: the commands of README.md beside this directory, over the package's public names. Must not
know: the scenarios, what is right. Python has no peek (a frame is a lease), no interrupt and no
expected dtype (`consumer.dtype` says it): those are "unsupported".
"""

from __future__ import annotations

import ast
import gc
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from misuse import CASES
from names import ERRORS, name_of

import shmipc

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
MOST_BATCH = 64


class Unsupported(Exception):
    """This language has no such thing."""


# ---- the generator, and the digest ---------------------------------------------------------------


def mix(x: int) -> int:
    x = (x + GOLDEN) & MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def mix_all(x: Any) -> Any:
    x = x + np.uint64(GOLDEN)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


PLACES = mix_all(np.arange(1 << 14, dtype=np.uint64))


def fill(start: int, length: int) -> bytes:
    words = np.arange((length + 7) // 8, dtype=np.uint64) + np.uint64((start + 1) & MASK)
    return bytes(mix_all(words).astype("<u8").tobytes()[:length])


def digest(data: Any, seq: int, kind: int, flags: int) -> int:
    raw = np.frombuffer(data, np.uint8)
    whole = len(raw) // 8
    words = raw[: 8 * whole].view("<u8")
    total = len(raw) + int(mix_all(words ^ PLACES[:whole]).sum(dtype=np.uint64))
    if len(raw) % 8:
        last = int.from_bytes(raw[8 * whole :].tobytes(), "little")
        total += mix(last ^ int(PLACES[whole]))
    return mix(mix(mix(seq) ^ (kind << 16 | flags)) ^ total & MASK)


# ---- the peer ------------------------------------------------------------------------------------


def seconds(milliseconds: str) -> float | None:
    return None if int(milliseconds) < 0 else int(milliseconds) / 1000


def schema_of(handle: Any) -> str:
    if handle.dtype is None:
        return "-"
    return f"({np.lib.format.dtype_to_descr(handle.dtype)!r}, {handle.shape!r})"


RECORD = np.dtype(
    [
        *(("id", "u8"), ("price", "f8"), ("ratio", "f4"), ("quantity", "i4"), ("level", "i2")),
        *(("code", "u2"), ("side", "u1"), ("sign", "i1"), ("tag", "S10"), ("levels", "i4", 3)),
    ],
    align=True,
)


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> bits - 1 << bits)


def set_record(record: Any, number: int) -> None:
    r = mix(number)
    record["id"] = r
    record["price"] = signed(r, 32) / 64
    record["ratio"] = signed(r, 16) / 4
    record["quantity"] = signed(r >> 32, 32)
    record["level"] = signed(r >> 16, 16)
    record["code"] = r >> 24 & 0xFFFF
    record["side"] = r >> 40 & 0xFF
    record["sign"] = signed(r >> 48, 8)
    record["tag"] = b"T%d" % (r >> 50)
    record["levels"] = (signed(r >> 8, 32), -1, number)


class Peer:
    def __init__(self) -> None:
        self.producer: Any = None
        self.consumer: Any = None
        self.held: list[Any] = []
        self.room: Any = None
        self.done = 0  # before a failure

    # -- opening and closing

    def produce(
        self, name: str, consumers: str, capacity: str, policy: str, shape: str, dtype: str
    ) -> str:
        self.close("producer")
        axes = () if shape == "-" else tuple(map(int, shape.split(",")))
        self.producer = shmipc.Producer(
            name,
            dtype=None
            if dtype == "-"
            else np.lib.format.descr_to_dtype(ast.literal_eval(dtype))
            if dtype.startswith("[")
            else dtype,
            shape=axes,
            capacity=int(capacity) or None,
            max_consumers=int(consumers),
            overflow=policy,  # type: ignore[arg-type]
        )
        return schema_of(self.producer)

    def consume(self, name: str, start: str, ms: str, shape: str, dtype: str) -> str:
        self.close("consumer")
        if dtype != "*":
            raise Unsupported
        self.consumer = shmipc.Consumer(
            name,
            start=None if start == "resume" else start,  # type: ignore[arg-type]
            timeout=seconds(ms),
        )
        return schema_of(self.consumer)

    def close(self, which: str) -> str:
        if which.startswith("p"):
            if self.producer is not None:
                self.producer.close()
        elif self.consumer is not None:
            self.consumer.close()
        return "0"

    def unlink(self) -> str:
        self.producer.unlink()
        return "0"

    # -- sending

    def message(self, number: int) -> tuple[bytes, int, int]:
        seed, low, high, kind, flags = self.plan
        start = mix(seed + number & MASK)
        length = low + (start >> 8) % (high - low + 1)
        return (
            fill(start, length),
            kind if kind >= 0 else 1 + (start >> 32) % 65535,
            flags if flags >= 0 else start >> 48,
        )

    def send(
        self,
        mode: str,
        seed: str,
        first: str,
        count: str,
        low: str,
        high: str,
        kind: str,
        flags: str,
        batch: str,
        ms: str,
    ) -> str:
        self.plan = (int(seed), int(low), int(high), int(kind), int(flags))
        send = {"send": self.send_one, "many": self.send_batch, "reserve": self.send_in_place}[mode]
        typed = self.producer.dtype is not None
        while self.done < int(count):
            number = int(first) + self.done
            most = min(int(batch), int(count) - self.done)
            self.done += send(number, most, int(batch), typed, seconds(ms))
        return str(self.done)

    def send_one(self, number: int, _: int, __: int, typed: bool, timeout: float | None) -> int:
        data, kind, flags = self.message(number)
        if typed:
            self.producer.send(data, timeout=timeout)
        else:
            self.producer.send(data, kind=kind, flags=flags, timeout=timeout)
        return 1

    def send_batch(self, number: int, most: int, _: int, typed: bool, timeout: float | None) -> int:
        messages = [self.message(number + i) for i in range(most)]
        if typed:
            items = np.frombuffer(b"".join(data for data, _, _ in messages), self.producer.dtype)
            items = items.reshape(most, *self.producer.shape)
            return int(self.producer.send_many(items, timeout=timeout))
        # one kind and flags a call: those that are alike, together
        sent = 0
        while sent < most:
            same = sent + 1
            while same < most and messages[same][1:] == messages[sent][1:]:
                same += 1
            data = [message[0] for message in messages[sent:same]]
            kind, flags = messages[sent][1:]
            try:
                got = self.producer.send_many(data, kind=kind, flags=flags, timeout=timeout)
            except ERRORS:
                self.done += sent
                raise
            sent += got
            if got < len(data):
                break
        return sent

    def send_in_place(
        self, number: int, most: int, batch: int, typed: bool, timeout: float | None
    ) -> int:
        if typed:  # one more than is committed
            with self.producer.reserve(most + 1, timeout=timeout) as room:
                raw = room.array.reshape(most + 1, -1).view(np.uint8)
                for i in range(most):
                    raw[i] = np.frombuffer(self.message(number + i)[0], np.uint8)
                room.commit(most)
            return most
        data, kind, flags = self.message(number)
        if number % 5 == 3:
            room = self.producer.reserve(len(data), timeout=timeout)
            room.array[:] = 0xEE
            room.abort()
        room = self.producer.reserve(len(data) + batch - 1, kind=kind, flags=flags, timeout=timeout)
        room.array[: len(data)] = np.frombuffer(data, np.uint8)
        room.commit(len(data))
        return 1

    # -- taking

    def count_frame(self, frame: Any, typed: bool, batch: bool) -> None:
        items: Any = [memoryview(frame).cast("B")]
        if typed:
            array = np.ascontiguousarray(frame.array)
            items = array.reshape(len(array) if batch else 1, -1).view(np.uint8)
        sums = [
            digest(item, frame.seq + i, frame.kind, frame.flags) for i, item in enumerate(items)
        ]
        if frame.intact:
            self.count_items(frame.seq, len(items), sum(map(len, items)), sum(sums))
        else:
            self.discarded += len(items)

    def count_items(self, seq: int, count: int, length: int, total: int) -> None:
        self.taken += count
        self.length += length
        self.sum = (self.sum + total) & MASK
        if self.runs and self.runs[-1][1] == seq:
            self.runs[-1][1] += count
        else:
            self.runs.append([seq, seq + count])

    def take(self, mode: str, count: str, batch: str, ms: str) -> str:
        self.taken = self.length = self.sum = self.discarded = 0
        self.runs: list[list[int]] = []
        end, text = "-", ""
        typed = self.consumer.dtype is not None
        timeout = seconds(ms)
        try:
            while self.taken < int(count):
                most = min(int(batch), int(count) - self.taken)
                if mode.endswith("_n") and typed:
                    frame = self.consumer.read_batch(most, timeout=timeout)
                    self.count_frame(frame, typed, True)
                else:  # recv() says neither kind nor number: a frame does
                    frame = self.consumer.read(timeout=timeout)
                    self.count_frame(frame, typed, False)
                frame.release()
        except ERRORS as error:
            end, text = name_of(error), str(error)
        runs = ",".join(f"{first}+{stop - first}" for first, stop in self.runs)
        lost = 0 if self.consumer.closed else self.consumer.lost
        counts = f"{self.taken} {self.length} {self.sum:016x} {lost} {self.discarded}"
        return f"{counts} {end} {runs} | {text}"

    # -- frames that are held

    def hold(self, count: str, ms: str) -> str:
        for _ in range(int(count)):
            self.held.append(self.consumer.read(timeout=seconds(ms)))
        return str(len(self.held))

    def held_again(self) -> str:
        total = sum(digest(memoryview(f).cast("B"), f.seq, f.kind, f.flags) for f in self.held)
        return f"{len(self.held)} {total & MASK:016x} {int(all(f.intact for f in self.held))}"

    def drop(self, index: str) -> str:
        self.held.pop(int(index)).release()
        return str(len(self.held))

    # -- typed records by their fields

    def put(self, name: str, first: str, count: str) -> str:
        n = int(count)
        with shmipc.Producer(name, dtype=RECORD) as records:
            one = np.zeros((), RECORD)
            for i in range(n):
                set_record(one, int(first) + i)
                records.send(one, timeout=0)
            with records.reserve(n, timeout=0) as room:
                for i in range(n):
                    set_record(room.array[i], int(first) + i)
        return count

    def get(self, name: str, count: str) -> str:
        said = []
        with shmipc.Consumer(name, timeout=0) as records:
            if records.dtype != RECORD:
                raise shmipc.SchemaMismatch(f"{name}: {records.dtype}")
            with records.read_batch(int(count), timeout=0) as frame:
                for i, record in enumerate(frame.array):
                    fields = record.tolist()
                    price, ratio, tag, levels = fields[1], fields[2], fields[8], fields[9]
                    plain = (fields[0], int(price * 64), int(ratio * 4), *fields[3:8])
                    said.append(",".join(map(str, (frame.seq + i, *plain, tag.decode(), *levels))))
                del record, levels
        return " ".join(said)

    # -- the rest

    def stats(self, which: str) -> str:
        if which.startswith("p"):
            stats = self.producer.stats()
            words = (stats.count, stats.lag, stats.attached, int(stats.took_over))
        else:
            stats = self.consumer.stats()
            words = (stats.pending, stats.lag, stats.lost, stats.frames)
        return " ".join(map(str, words))

    def reserve_room(self, length: str, ms: str) -> str:
        self.room = self.producer.reserve(int(length), timeout=seconds(ms))
        self.room.array[:] = 0xEE
        return length

    def abort(self) -> str:
        self.room.abort()
        return "0"

    def wait(self, count: str, ms: str) -> str:
        self.producer.wait_for_consumers(int(count), seconds(ms))
        return "0"

    def wait_for_data(self, ms: str) -> str:
        if not shmipc.wait([self.consumer], seconds(ms)):
            raise shmipc.Empty("nothing came")
        return "0"

    # -- misuse

    def misuse(self, case: str, name: str) -> str:
        run = CASES.get(case)
        if run is None:
            raise Unsupported
        said: list[str] = []

        def say(what: str, call: Callable[[], Any] | None = None) -> None:
            result = "SUCCESS"
            try:
                if call is not None:
                    call()
            except ERRORS as error:
                result = name_of(error)
            said.append(what if call is None else f"{what}={result}")

        run(name, say)
        return " ".join(said)


VERBS = {
    **{name: name for name in ("produce", "consume", "close", "unlink", "send", "take", "hold")},
    **{name: name for name in ("drop", "put", "get", "stats", "abort", "wait", "misuse")},
    **{"held": "held_again", "room": "reserve_room", "await": "wait_for_data"},
}
# how many words; the last of `produce` and `consume`, a dtype, runs to the end of the line
LONGEST = {"produce": 7, "consume": 6}


def main() -> None:
    peer = Peer()
    print(f"ready {shmipc.__version__} 1", flush=True)
    for line in sys.stdin:
        verb = line.split(maxsplit=1)[0]
        if verb == "quit":
            break
        words = line.rstrip("\n").split(" ", LONGEST.get(verb, 0) - 1)[1:]
        peer.done = 0
        try:
            if verb not in VERBS:
                raise Unsupported
            said = f"ok {getattr(peer, VERBS[verb])(*words)}"
        except Unsupported:
            said = "unsupported"
        except ERRORS as error:
            said = f"error {name_of(error)} {peer.done} {error}"
        print(said, flush=True)
    for frame in peer.held:
        frame.release()
    peer.close("producer")
    peer.close("consumer")
    del peer
    gc.collect()


if __name__ == "__main__":
    main()
