"""What every pair of languages goes through. Each scenario is told to two peers, line by line.

Owns: the scenarios in which nobody dies. Must not know any language: what one lacks is in its line
of language.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from crowd import Answer, check
from expected import DTYPE, Plan, record_line, schema, stream
from world import FOREVER, Taken, World

SEND_MODES = ("send", "reserve", "many")
TAKE_MODES = ("recv", "peek", "read", "peek_n")
SIZES = (
    *(0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 257, 999, 1024),
    *(4079, 4080, 4081, 4095, 4096, 4097, 12345),
)
AREA = 1 << 16


def sizes(world: World) -> None:
    """Every size through every way in and every way out; the largest, and one more."""
    ring = world.ring()
    world.produce(ring, capacity=AREA)
    world.consume(ring)
    number = 0
    for send in SEND_MODES:
        for take in TAKE_MODES:
            for size in SIZES:
                plan = Plan(world.seed, 2, size, size, first=number)
                world.send(plan, send, batch=2)
                world.take(plan, take, batch=2)
                number += 2
    largest = AREA - 16
    for send in SEND_MODES:
        for take in TAKE_MODES:
            plan = Plan(world.seed, 1, largest, largest, first=number)
            world.send(plan, send)
            world.take(plan, take)
            number += 1
        one_more = Plan(world.seed, 1, largest + 1, largest + 1, first=number)
        told = world.ask_send(one_more, send).wants(world.producer_says("TOO_LARGE"))
        check(ring in told.text, f"the text of TOO_LARGE does not name the ring: {told.text!r}")
    world.close_and_drain()


def kinds(world: World) -> None:
    """Kinds and flags at their limits, and beyond."""
    ring = world.ring()
    world.produce(ring)
    world.consume(ring)
    number = 0
    for kind in (1, 2, 255, 256, 32767, 32768, 65535):
        for flags in (0, 1, 255, 256, 32768, 65535):
            plan = Plan(world.seed, 3, 0, 40, number, kind, flags)
            world.send(plan, SEND_MODES[number % 3], batch=3)
            world.take(plan, TAKE_MODES[number % 4], batch=3)
            number += 3
    for kind in (0, 65536):
        refused = Plan(world.seed, 1, 8, 8, number, kind, 0)
        world.ask_send(refused, "send").wants("INVALID")
    world.close_and_drain()


def batches(world: World) -> None:
    """Messages of many lengths, kinds and flags at once, taken in batches of other sizes."""
    ring = world.ring()
    world.produce(ring, capacity=AREA)
    world.consume(ring)
    number = 0
    for many in (1, 2, 7, 64):
        for most in (1, 3, 64):
            plan = Plan(world.seed, 120, 0, 300, first=number)
            world.send(plan, "many", batch=many)
            world.take(plan, "peek_n", batch=most)
            alike = Plan(world.seed, 64, 5, 5, number + 120, 9, 1)
            world.send(alike, "many", batch=many)
            world.take(alike, TAKE_MODES[number % 4], batch=most)
            number += 184
    world.close_and_drain()


def records(world: World) -> None:
    """A struct by its fields; and the text of its dtype."""
    ring, count = world.ring(), 9
    first = world.seed % (2**31 - count)  # its last field is the number
    world.producer.ask(f"put {ring} {first} {count}").wants()
    world.consume(ring, said=schema(DTYPE, ()))
    world.consumer.ask("close consumer").wants()
    got = world.consumer.ask(f"get {ring} {2 * count}").wants()
    numbers = [*range(first, first + count)] * 2
    wanted = [record_line(number, seq) for seq, number in enumerate(numbers)]
    check(list(got.words) == wanted, f"records are {got.words}, not {wanted}")


ITEMS = (
    ("<u8", (8,)),
    ("<f8", ()),
    ("|u1", (13,)),
    ("<f4", (3, 5, 7)),
    ("|S10", ()),
    (">i2", (2, 2)),
    ("[('a', '<u4'), ('b', '<f8')]", ()),
    ("[('time', '<i8'), ('levels', '<f8', (10, 2)), ('in', [('x', '|i1'), ('y', '<f4')])]", (2,)),
    (DTYPE, ()),
)


def items(world: World) -> None:
    """Typed rings: their schema is numpy's; items one by one and in batches."""
    import ast

    import numpy as np

    for dtype, shape in ITEMS:
        ring = world.ring()
        given = ast.literal_eval(dtype) if dtype.startswith("[") else dtype
        size = np.lib.format.descr_to_dtype(given).itemsize * int(np.prod(shape))
        text = schema(dtype, shape)
        axes = ",".join(map(str, shape)) or "-"
        world.produce(ring, capacity=200, dtype=dtype, shape=axes, said=text)
        world.consume(ring, said=text)
        number = 0
        for send in SEND_MODES:
            for take in ("recv", "peek", "read", "peek_n", "read_n"):
                for batch in (1, 17):
                    plan = Plan(world.seed, 60, size, size, number, 0, 0)
                    world.send(plan, send, batch=batch)
                    world.take(plan, take, batch=max(1, 18 - batch))
                    number += 60
        world.close_and_drain()


def wrap(world: World) -> None:
    """Millions of bytes through the smallest ring: the area is walked round hundreds of times."""
    rounds = zip(SEND_MODES, ("recv", "read", "peek_n"), strict=True)
    for send, take in rounds:
        ring = world.ring()
        world.produce(ring, capacity=4096)
        world.consume(ring)
        world.stream(Plan(world.seed, 700, 0, 3000), send, take)
        world.close_and_drain()
        ring = world.ring()
        text = schema("<u8", (5,))
        world.produce(ring, capacity=16, dtype="<u8", shape="5", said=text)
        world.consume(ring, said=text)
        world.stream(Plan(world.seed, 6000, 40, 40, 0, 0, 0), send, take, batch=7)
        world.close_and_drain()


def slow(world: World) -> None:
    """A consumer that does not keep up: FULL, then room for exactly what it took."""
    ring = world.ring()
    world.produce(ring, capacity=4096)
    world.consume(ring)
    plan = Plan(world.seed, 10**6, 48, 48)  # 64 bytes with its header
    full = world.ask_send(plan, "send", ms=0).wants("FULL")
    check(full.done == 64, f"{full.done} messages of 64 bytes fit into 4096 bytes")
    check(bool(full.text), "FULL has no text")
    begun = time.monotonic()
    world.ask_send(plan.after(64), "reserve", ms=30).wants("FULL")
    check(time.monotonic() - begun >= 0.03, "a timeout of 30 ms was over before that")
    stats = world.producer.ask("stats producer").wants()
    check(stats.words[:2] == ("64", "64"), f"stats of a full ring: {stats.words}")
    lag = world.consumer.ask("stats consumer").wants()
    check(lag.words[:3] == ("64", "64", "0"), f"stats of its reader: {lag.words}")
    world.take(plan.head(10), "peek")
    again = world.ask_send(plan.after(64), "many", batch=4, ms=0).wants("FULL")
    check(64 + again.done == 74, f"{again.done} messages follow the 10 that were taken")
    # a send that waits, and a slow hand that lets it go on
    waiting = plan.after(74, 50)
    world.tell_send(waiting, "send")
    for number in range(10, 124, 6):
        left = min(6, 124 - number)
        # the last of them may not have been sent yet
        world.take(plan.after(number, left), TAKE_MODES[number % 4], batch=left, ms=FOREVER)
    world.producer.hear().wants()
    begun = time.monotonic()
    taken = world.ask_take("recv", 1, ms=30)
    check(taken.end == "EMPTY", f"an empty ring says {taken.end}")
    check(time.monotonic() - begun >= 0.03, "a timeout of 30 ms was over before that")
    world.consumer.ask("await 0").wants("EMPTY")
    world.producer.ask(f"wait 1 {10_000}").wants()
    world.close_and_drain()


def close(world: World) -> None:
    """The end of a stream: drained, then CLOSED, and it stays so; the next producer goes on."""
    ring = world.ring()
    plan = Plan(world.seed, 90, 0, 100)
    world.produce(ring, capacity=AREA)
    world.consume(ring)
    world.send(plan.head(30), "send")
    world.producer.ask("close producer").wants()
    world.ask_send(plan, "send", ms=0).wants("CLOSED")
    world.take(plan.head(29), "recv")
    rest = world.ask_take("peek_n", 1000, batch=8)
    rest.wants(stream(plan.after(29, 1)), 29, "CLOSED")
    for mode in TAKE_MODES:
        check(world.ask_take(mode, 1).end == "CLOSED", f"after its end, {mode} does not say so")
    world.consumer.ask("await -1").wants()  # something to report: the end
    world.produce(ring, capacity=AREA)  # while a reader is attached: the same ring, and its numbers
    took_over = world.producer.ask("stats producer").wants().words
    check(took_over[0] == "30" and took_over[3] == "1", f"a successor's stats: {took_over}")
    world.send(plan.after(30, 60), "many", batch=9)
    world.take(plan.after(30, 60), "read")
    world.consumer.ask("close consumer").wants()
    ended = world.ask_take("recv", 1)
    check(ended.end == "CLOSED", f"a closed consumer says {ended.end}")
    world.producer.ask("close producer").wants()


def hold(world: World) -> None:
    """Frames stay as they are while more come, in a ring that they keep from being reused."""
    ring = world.ring()
    world.produce(ring, capacity=4096)
    world.consume(ring)
    plan = Plan(world.seed, 10**6, 100, 112)  # 128 bytes each: 32 of them
    world.send(plan.head(6), "send")
    world.consumer.ask("hold 6 0").wants()
    kept = [int(d) for d in stream(plan.head(6)).digests]
    follow = world.ask_send(plan.after(6), "many", batch=5, ms=0).wants("FULL")
    check(follow.done == 26, f"beside 6 frames of 128 bytes there was room for {follow.done}")
    world.take(plan.after(6, 20), "recv")
    world.ask_send(plan.after(32), "send", ms=0).wants("FULL")  # the oldest is still held
    sent = 32
    for index in (3, 1, 0, 2, 1, 0):
        held = world.consumer.ask("held").wants()
        wanted = (str(len(kept)), f"{sum(kept) & (2**64 - 1):016x}", "1")
        check(held.words == wanted, f"held frames read {held.words}, not {wanted}")
        world.consumer.ask(f"drop {index}").wants()
        del kept[index]
        more = world.ask_send(plan.after(sent), "send", ms=0).wants("FULL")
        sent += more.done
        if index == 0 and len(kept) == 3:  # 3, 1 and 0 are gone: two from the front
            check(more.done == 2, f"with the two oldest frames gone, {more.done} fit")
    check(sent == 32 + 26, f"with all frames gone there was room for {sent - 32} in all")
    world.take(plan.after(26, sent - 26), "peek_n", batch=64)
    world.close_and_drain()


def overrun(world: World) -> None:
    """A producer that never waits: what arrives is whole and in order, what does not is counted."""
    for take in ("recv", "read", "peek_n"):
        ring = world.ring()
        world.produce(ring, capacity=4096, policy="overwrite", consumers=2)
        world.consume(ring)
        plan = Plan(world.seed, 4000, 0, 200)
        # lapped for certain before it looks for the first time; then both at once
        world.send(plan.head(1000), "send")
        world.tell_send(plan.after(1000), "send")
        world.consumer.tell(f"take {take} 100000 8 50")
        world.producer.hear().wants()
        world.producer.ask("close producer").wants()
        taken = world.heard_take()
        while taken[-1].end == "EMPTY":  # it was quicker than the producer for a while
            world.consumer.tell(f"take {take} 100000 8 50")
            taken = world.heard_take(taken)
        last = taken[-1]
        check(last.end == "CLOSED", f"the end of an overwritten stream is {last.end}")
        runs = [run for part in taken for run in part.runs]
        before = 0
        for first, count in runs:
            check(first >= before, f"{take}: message {first} came after {before - 1}")
            before = first + count
        check(before <= 4000, f"the last message seen is {before - 1}")
        whole = stream(plan)
        total = sum(part.digest for part in taken) & (2**64 - 1)
        check(total == whole.total(runs), f"{take}: the bytes of {runs} are not what was sent")
        got = sum(part.count for part in taken)
        spoilt = sum(part.discarded for part in taken)
        check(last.lost > 0, "nothing was lost, though the ring was lapped")
        check(
            got + spoilt + last.lost == 4000,
            f"{take}: {got} received, {spoilt} discarded, {last.lost} lost: not 4000",
        )
        world.consumer.ask("close consumer").wants()


def overwritten(world: World) -> None:
    """Frames that the producer wrote over say so, and what is read after them is whole."""
    ring = world.ring()
    plan = Plan(world.seed, 1005, 60, 90)
    world.produce(ring, capacity=4096, policy="overwrite")
    world.consume(ring)
    world.send(plan.head(5), "many", batch=5)
    world.consumer.ask("hold 3 0").wants()
    held = world.consumer.ask("held").wants().words
    wanted = ("3", f"{stream(plan.head(3)).total():016x}", "1")
    check(held == wanted, f"held frames read {held}, not {wanted}")
    world.send(plan.after(5), "send")
    held = world.consumer.ask("held").wants().words
    check(held[2] == "0", "frames that were overwritten are said to be intact")
    for _ in range(3):
        world.consumer.ask("drop 0").wants()
    taken = world.ask_take("recv", 2000)
    check(taken.end == "EMPTY", f"the rest ends with {taken.end}")
    whole = (taken.count + taken.lost, len(taken.runs), sum(taken.runs[-1]))
    check(whole == (1002, 1, 1005), f"{taken.runs} received, {taken.lost} lost: not 1002")
    check(taken.digest == stream(plan).total(taken.runs), "what was received is not what was sent")
    world.close_and_drain()


def starts(world: World) -> None:
    """Where a newcomer to a ring of several begins."""
    ring = world.ring()
    plan = Plan(world.seed, 40, 8, 8)
    world.produce(ring, capacity=AREA, consumers=3)
    world.send(plan.head(10), "send")
    world.consume(ring, start="earliest")
    world.take(plan.head(10), "recv")
    world.consumer.ask("close consumer").wants()
    world.send(plan.after(10, 10), "reserve")
    world.consume(ring, start="latest")
    world.consumer.ask("await 0").wants("EMPTY")
    world.send(plan.after(20, 10), "many", batch=5)
    world.take(plan.after(20, 10), "peek")
    world.consumer.ask("close consumer").wants()
    world.consume(ring)  # "resume" is the latest here
    world.send(plan.after(30, 10), "send")
    world.take(plan.after(30, 10), "read")
    world.close_and_drain()


def unlinked(world: World) -> None:
    """A ring whose name is gone: who is attached goes on; nobody else finds it."""
    ring = world.ring()
    plan = Plan(world.seed, 20, 0, 500)
    world.produce(ring, capacity=AREA)
    world.consume(ring)
    world.producer.ask("unlink").wants()
    world.send(plan, "send")
    world.take(plan, "read")
    told: Answer = world.spare().ask(f"consume {ring} resume 0 - *").wants("NOT_FOUND")
    check(ring in told.text, f"the text of NOT_FOUND does not name the ring: {told.text!r}")
    world.close_and_drain()


def everybody(world: World) -> None:
    """One producer, and a consumer in each language at once: one copy, a cursor for each."""
    ring = world.ring()
    plan = Plan(world.seed, 900, 0, 200)
    readers = [world.start(language) for language in world.commands]
    world.produce(ring, capacity=4096, consumers=len(readers))
    for i, reader in enumerate(readers):
        world.consume(ring, by=reader)
        reader.tell(f"take {TAKE_MODES[i % 4]} {plan.count + 1} 7 {FOREVER}")
    world.producer.ask(f"wait {len(readers)} 0").wants()
    world.tell_send(plan, "reserve", batch=3)
    world.producer.hear().wants()
    world.producer.ask("close producer").wants()
    whole = stream(plan)
    for reader in readers:
        Taken.parse(reader.hear()).wants(whole, 0, "CLOSED")
        reader.ask("close consumer").wants()


ALONE = ("everybody",)
SCENARIOS: dict[str, Callable[[World], None]] = {
    scenario.__name__: scenario
    for scenario in (
        *(sizes, kinds, batches, records, items, wrap, slow, close, hold, overrun, overwritten),
        *(starts, unlinked, everybody),
    )
}
