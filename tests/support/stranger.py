"""A stranger: a consumer and a writer of segments, in plain Python, beside stranger_segment.py.

Written from docs/format.md alone, and importing nothing of shmipc: what is not said there, it
cannot know. Numbers in brackets are that document's sections. It has no atomics, so it keeps to
what section 9 asks of such a language; one thread a handle. Slow, and meant to be read.

``python tests/support/stranger.py FILE`` prints what a reader gets out of a segment, as
tests/support/vectors.py writes it.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from dataclasses import dataclass

from stranger_segment import (
    BLOCK,
    CLOSED,
    EPOCH,
    FIRST_SLOT,
    GEOMETRY,
    HEAD,
    KEPT,
    MAGIC,
    MEMBERS,
    MESSAGE,
    NOTES,
    ORDERED,
    OVERWRITE,
    PAGE,
    PRODUCER,
    PRODUCER_PID,
    SLOT,
    SLOTS,
    SPACE,
    TAIL,
    TYPED,
    WANTED,
    WORD,
    Refused,
    Segment,
    align,
    before,
    demand,
    fnv_1a,
    full_fence,
    gate,
    is_held,
    stride_of,
    try_lock,
    unlock,
)

# ---- the consumer [7], [8] -----------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    numbers: tuple[int, ...]  # seq, kind, flags; an item of a typed ring: its number
    data: bytes


class Consumer:
    """`start`: "latest", "earliest", "kept": the position of a kept slot, else the latest."""

    def __init__(self, path: str, start: str = "kept") -> None:
        self.segment = Segment(path)
        self.lost = 0
        self.woken = 0
        self.known = self.read = self.cursor = 0
        self.expected: int | None = None
        self.laps = 0
        try:
            with gate(self.segment.fd):
                self._attach(start)
        except BaseException:
            self.segment.close()
            raise

    def _attach(self, start: str) -> None:
        segment, g = self.segment, self.segment.geometry
        if not segment.is_named():
            raise Refused("it is gone")
        if segment.load32(CLOSED, acquire=True) != 0:
            retained = segment.load(HEAD) != segment.load(TAIL)
            wanted = retained if start == "earliest" else segment.is_owed() and start == "kept"
            if not (segment.is_owed() if g.durable else wanted):
                raise Refused("it has ended")
        slots = sorted(range(g.slots), key=lambda slot: not segment.is_kept(slot))
        found = next((slot for slot in slots if try_lock(segment.fd, FIRST_SLOT + slot)), None)
        if found is None:
            raise Refused("all its slots are taken")
        self.slot = found
        self.entry = SLOTS + SLOT * self.slot
        pid = (self.entry + 8) // 4
        resumes = g.durable or (start == "kept" and segment.is_kept(found))
        if not resumes and segment.halves[pid] == KEPT:
            segment.halves[pid] = os.getpid()
        self._join(start, resumes)
        segment.halves[pid] = os.getpid()
        segment.wake_space()

    def _join(self, start: str, resumes: bool) -> None:
        segment, g = self.segment, self.segment.geometry
        if resumes:
            pos = segment.load(self.entry)
            demand((segment.load(HEAD) - pos) % WORD <= g.area_len, "a cursor out of its ring")
        else:
            for _ in range(1000):
                pos = segment.load(TAIL if start == "earliest" else HEAD)
                segment.store(self.entry, pos)
                self._set_bit(True)
                full_fence()  # W4
                if not before(pos, segment.load(TAIL)):
                    break
            else:
                demand(g.overflow == OVERWRITE, "its tail is always after its head")
        demand(g.framing == TYPED or pos % 16 == 0, "a cursor within a message")
        self.read = self.known = self.cursor = pos
        if g.framing == MESSAGE:
            head = segment.load(HEAD, acquire=True)
            number = segment.note_of(head) if head == pos else segment.header(pos)[3]
            self.expected = number if self._is_intact(pos) else None

    def _set_bit(self, value: bool) -> None:
        """Under the gate, since it is no atomic update [9]."""
        offset, bit = MEMBERS + self.slot // 64 * 8, 1 << self.slot % 64
        old = self.segment.load(offset)
        self.segment.store(offset, old | bit if value else old & ~bit, release=True)

    def _is_intact(self, pos: int) -> bool:
        """R3, after a copy."""
        if self.segment.geometry.overflow == BLOCK:
            return True
        if not ORDERED:
            full_fence()
        return not before(pos, self.segment.load(TAIL))

    def _newest(self) -> int | None:
        """Where the last item, or the last commit, starts; None if that cannot be told."""
        segment, g = self.segment, self.segment.geometry
        head = segment.load(HEAD, acquire=True)  # R1
        tail = segment.load(TAIL)
        typed = g.framing == TYPED
        starts = [head - g.item_stride] if typed else [segment.load(note) for note in NOTES]
        retained = (head - tail) % WORD
        found = (pos for pos in starts if (pos - tail) % WORD < retained <= g.area_len)
        return next(found, None)

    def _resync(self) -> None:
        """Lapped: go on where there is the longest time to read."""
        g, was = self.segment.geometry, self.read
        self.laps += 1
        if self.laps > 3:
            pos = self.segment.load(HEAD, acquire=True)
        else:
            newest = self._newest()
            pos = self.segment.load(TAIL, acquire=True) if newest is None else newest
        if g.framing == TYPED:
            items = (pos - was) % WORD // g.item_stride
            self.lost += items
            pos = (was + items * g.item_stride) % WORD
        demand(before(was, pos), "lapped, and not moved")
        self.read = self.known = pos

    def _take(self) -> Item | None:
        """The next one, copied; not judged yet. None: nothing is there."""
        segment, g = self.segment, self.segment.geometry
        if self.read == self.known:
            head = segment.load(HEAD, acquire=True)  # R1
            if head == self.read:
                return None
            if (head - self.read) % WORD > g.area_len:
                demand(g.overflow == OVERWRITE, "a head more than a lap away")
                self._resync()
                return self._take()
            self.known = head
        available = (self.known - self.read) % WORD
        if g.framing == TYPED:
            demand(available >= g.item_stride, "half an item")
            number = (self.read - g.origin_pos) % WORD // g.item_stride
            return Item((number,), segment.copy(self.read, g.item_len))
        length, kind, flags, seq = segment.header(self.read)
        if kind == 0 or align(16 + length, 16) > available:
            demand(not self._is_intact(self.read), "no message")
            return Item((seq, kind, flags), b"")
        return Item((seq, kind, flags), segment.copy(self.read + 16, length))

    def recv(self) -> Item | None:
        """The next message or item, whole, and given back. None: there is none now."""
        for _ in range(64):
            item = self._take()
            if item is None:
                return None
            if not self._is_intact(self.read):
                self._resync()
                continue
            if self.segment.geometry.framing == MESSAGE:
                if self.expected is not None:
                    self.lost += (item.numbers[0] - self.expected) % WORD
                self.expected = (item.numbers[0] + 1) % WORD
                span = align(16 + len(item.data), 16)
            else:
                span = self.segment.geometry.item_stride
            self.read = (self.read + span) % WORD
            self.laps = 0
            self._release()
            return item
        return None

    def _release(self) -> None:
        segment, old = self.segment, self.cursor
        self.cursor = self.read
        segment.store(self.entry, self.cursor, release=True)  # W2
        full_fence()  # K2
        if segment.load32(SPACE) % 2 == 1:
            wanted = segment.load(WANTED)
            if before(old, wanted) and not before(self.cursor, wanted):
                self.woken += segment.wake_space()

    def ending(self) -> str | None:
        """Why nothing more comes: "closed", "died"; None if something is there or may come."""
        segment = self.segment
        verdict = None
        if segment.load32(CLOSED, acquire=True) != 0:  # R6
            verdict = "closed"
        elif not is_held(segment.fd, PRODUCER):
            verdict = "closed" if segment.load32(CLOSED) != 0 else "died"
        return None if segment.load(HEAD, acquire=True) != self.read else verdict

    def leave(self) -> None:
        segment = self.segment
        with gate(segment.fd):  # from the start: our bit is no atomic update [9]
            segment.halves[(self.entry + 8) // 4] = 0
            if not segment.geometry.durable:
                self._set_bit(False)
            segment.wake_space()
            unlock(segment.fd, FIRST_SLOT + self.slot)
            ended = segment.load32(CLOSED) != 0
            useless = ended and not segment.is_attached() and not segment.is_owed()
            if useless and segment.is_named():
                os.unlink(segment.path)
        segment.close()

    def die(self) -> None:
        """As the kernel would: the lock goes, nothing else."""
        self.segment.close()


# ---- a writer [7], [8] ---------------------------------------------------------------------------


class Writer:
    """A producer of one lap, into a segment that it creates; it takes nothing over."""

    def __init__(
        self,
        path: str,
        *,
        slots: int,
        area_len: int,
        overflow: int = BLOCK,
        schema: str = "",
        item_len: int = 0,
        origin: int = 0,
    ) -> None:
        self.path = path
        text = schema.encode()
        stride = stride_of(item_len)
        schema_off = SLOTS + SLOT * slots
        data_off = align(schema_off + len(text), PAGE)
        numbers = (1, 0x01020304, TYPED if item_len else MESSAGE, overflow, slots, len(text))
        sizes = (fnv_1a(text), item_len, stride, schema_off, data_off, area_len, origin % WORD)
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        self.fd = os.open(os.path.dirname(path), flags, 0o600)
        os.posix_fallocate(self.fd, 0, data_off + area_len)
        os.fchmod(self.fd, 0o600)
        os.pwrite(self.fd, GEOMETRY.pack(MAGIC, *numbers, *sizes, time.time_ns()), 0)
        os.pwrite(self.fd, text, schema_off)
        self.area, self.data_off, self.stride, self.item_len = area_len, data_off, stride, item_len
        self.head, self.limit, self.seq = origin, origin + area_len, 0
        for offset in (HEAD, TAIL, *NOTES, *(SLOTS + SLOT * slot for slot in range(slots))):
            self._store(offset, origin)
        if overflow == BLOCK and slots == 1:
            self._store(MEMBERS, 1)
        self._store(EPOCH, 1)
        os.pwrite(self.fd, struct.pack("<I", os.getpid()), PRODUCER_PID)
        assert try_lock(self.fd, PRODUCER)
        opened = os.open("/proc/self/fd", os.O_RDONLY)  # with it, os.link is linkat(2)
        os.link(str(self.fd), path, src_dir_fd=opened, follow_symlinks=True)
        os.close(opened)

    def _store(self, offset: int, value: int) -> None:
        """A system call: no faster order is needed here."""
        os.pwrite(self.fd, struct.pack("=Q", value % WORD), offset)

    def _commit(self, data: bytes, length: int) -> None:
        if length > self.limit - self.head:
            raise Refused("no room")
        at = self.head % self.area
        os.pwrite(self.fd, data[: self.area - at], self.data_off + at)
        os.pwrite(self.fd, data[self.area - at :], self.data_off)
        if not self.item_len:
            notes = [struct.unpack("=Q", os.pread(self.fd, 8, note))[0] for note in NOTES]
            note = NOTES[1] if notes[0] == self.head % WORD else NOTES[0]
            self.seq += 1
            self._store(note, self.head + length)
            self._store(note + 8, self.seq)
        self.head += length
        self._store(HEAD, self.head)

    def send(self, data: bytes, kind: int = 1, flags: int = 0) -> None:
        header = struct.pack("=IHHQ", len(data), kind, flags, self.seq)
        self._commit(header + data, align(16 + len(data), 16))

    def put(self, item: bytes) -> None:
        assert len(item) == self.item_len
        self._commit(item, self.stride)

    def close(self) -> None:
        """The stream ends; nobody may be attached, and the file stays for who comes."""
        os.pwrite(self.fd, struct.pack("=I", 1), CLOSED)
        with gate(self.fd):
            os.pwrite(self.fd, struct.pack("=I", 0), PRODUCER_PID)
            unlock(self.fd, PRODUCER)
        os.close(self.fd)

    def die(self) -> None:
        os.close(self.fd)


def main() -> None:
    consumer = Consumer(sys.argv[1], "earliest")
    while (item := consumer.recv()) is not None:
        words = " ".join(f"{byte:02x}" for byte in item.data)
        print(f"gets {' '.join(map(str, item.numbers))}: {words}")
    print(f"ends {consumer.ending()}")
    consumer.leave()


if __name__ == "__main__":
    main()
