"""What must be refused, and in which words: every result that can be provoked, in every language.

Owns: the scenarios of two peers that do not go together, and the table of what misuse comes to.
"""

from __future__ import annotations

import os

from crowd import Answer, Peer, check
from expected import Plan, schema
from world import Scenario, Taken, World

# What a language says to `misuse CASE`: for each of its sections the usual result, and others.
# Facts are 1 or 0. A key that is said twice has its results in their order.
Section = tuple[str, dict[str, str]]
MISUSE: dict[str, tuple[Section, ...]] = {
    "null": (
        ("INVALID", {}),
        ("INVALID", {"intact": "0"}),
        ("INVALID", {"nothing": "SUCCESS", "recv": "SUCCESS", "frame_intact": "0"}),
    ),
    "closed": (
        ("CLOSED", {"first": "SUCCESS", "close": "SUCCESS"}),
        ("CLOSED", {"first": "SUCCESS", "close": "SUCCESS", "intact": "0"}),
    ),
    "disposed": (("DISPOSED", {"alive": "1"}), ("DISPOSED", {}), ("DISPOSED", {})),
    "arguments": (
        (
            "INVALID",
            {
                "too_large": "TOO_LARGE",
                "huge": "TOO_LARGE",
                **dict.fromkeys(("abi", "size", "consumer_abi"), "ABI"),
                "text": "1",
            },
        ),
    ),
    "order": (
        (
            "MISUSE",
            {
                **dict.fromkeys(
                    ("reserve", "commit", "peek", "peek_again", "recv", "abort_nothing"), "SUCCESS"
                ),
                **dict.fromkeys(("commit_more", "commit_kind_0", "release_more"), "INVALID"),
                **dict.fromkeys(
                    ("reserve_items", "send_items", "peek_items", "read_items"), "MISMATCH"
                ),
                "recv_small": "TOO_LARGE",
                "recv_empty": "EMPTY",
                "len": "5",
                "needed": "5",
                "whole": "1",
                "kept": "1",
            },
        ),
    ),
    "overrun": (
        (
            "SUCCESS",
            {"release": "OVERRUN SUCCESS", "intact": "1 0", "torn": "1", "lost": "1"},
        ),
    ),
    "interrupt": (
        (
            "INTERRUPTED",
            {"interrupt": "SUCCESS SUCCESS", "poll": "EMPTY", "again": "NOT_FOUND"},
        ),
    ),
    "threads": (("MISUSE", {"first": "CLOSED", "close": "SUCCESS"}),),
    "types": (
        (
            "MISMATCH",
            {
                "same": "SUCCESS SUCCESS",
                "producer": "BUSY",
                "opened": "0",
                "value": "1",
            },
        ),
    ),
    "forgotten": (("SUCCESS", {}),),
}
ALL_INVALID: Section = ("INVALID", {"intact": "0"})
BY_LANGUAGE: dict[tuple[str, str], tuple[Section, ...]] = {
    ("c", "wrong"): (*[ALL_INVALID] * 4, ("SUCCESS", {})),
    ("csharp", "wrong"): (("SUCCESS", {}), *[ALL_INVALID] * 4, ("SUCCESS", {})),
    ("c", "fork"): (
        ("MISUSE", {"close": "SUCCESS"}),
        ("MISUSE", {"close": "SUCCESS", "intact": "0"}),
        ("SUCCESS", {"child": "0"}),
    ),
    ("cpp", "fork"): (("SUCCESS", {"forked": "1", "child": "0"}),),
    ("python", "fork"): (("SUCCESS", {}),),
    # an empty Reservation in C++, and whatever is too large or of the wrong kind in Python
    ("cpp", "order"): (
        (MISUSE["order"][0][0], {**MISUSE["order"][0][1], "commit_twice": "INVALID"}),
    ),
    ("python", "order"): (
        (
            "MISUSE",
            {
                **MISUSE["order"][0][1],
                "commit_twice": "INVALID",
                "recv_small": "INVALID",
                "read_items": "MISMATCH|INVALID|MISUSE",
            },
        ),
    ),
    ("python", "arguments"): (("INVALID", {}),),
}
CASES = ("wrong", "fork", *MISUSE)


def misuse(world: World) -> None:
    """Every rule broken, in one process: a result, and nothing else."""
    language = world.languages[0]
    unsupported = []
    for case in CASES:
        ring = world.ring()
        answer = world.producer.ask(f"misuse {case} {ring}")
        if answer.status == "unsupported":
            unsupported.append(case)
            continue
        sections = BY_LANGUAGE.get((language, case)) or MISUSE[case]
        said = [part.split() for part in answer.wants().rest.split(";")]
        check(len(said) <= len(sections), f"{language}, misuse {case}: {len(said)} parts were said")
        check(all(said), f"{language}, misuse {case}: nothing was said")
        for words, (usual, others) in zip(said, sections, strict=False):
            found: dict[str, list[str]] = {}
            for word in words:
                what, _, result = word.partition("=")
                found.setdefault(what, []).append(result)
            for what, results in found.items():
                wanted = others.get(what, usual).split()
                right = all(
                    result in wanted[min(i, len(wanted) - 1)].split("|")
                    for i, result in enumerate(results)
                )
                check(
                    right,
                    f"{language}, misuse {case}: {what} came to {' '.join(results)}, "
                    f"not {' '.join(wanted)}",
                )
    allowed = {word.partition(" ")[2] for word in world.lacks[language] if "misuse" in word}
    check(set(unsupported) <= allowed, f"{language} does not do misuse of {unsupported}")


def layouts(world: World) -> None:
    """The binding's structs lie in memory as the C compiler's do."""
    answer = world.producer.ask("layouts")
    if answer.status == "unsupported":
        check("layouts" in world.lacks[world.languages[0]], "no layouts")
        return
    check(answer.rest == LAYOUTS, f"layouts are {answer.rest}, not {LAYOUTS}")


# of shmipc.h's structs in their order, ABI 1; the C peer says what its compiler makes of them
LAYOUTS = (
    "56:0,8,16,24,32,40,44,48,52 48:0,8,16,24,32,40,42,44 64:0,4,8,16,24,28,32,40,48,56,60 "
    "64:0,8,16,24,32,40,48,52,56,60 56:0,4,8,16,24,28,32,40,48 48:0,8,16,24,32,40"
)


def names(answer: Answer, *facts: object) -> None:
    """The text of a refusal has these facts in it."""
    for fact in facts:
        check(str(fact) in answer.text, f"{answer.peer}: no {fact} in the text {answer.text!r}")


def expects(world: World, peer: Peer, command: str) -> Answer | None:
    """A `consume` that says what it expects, or None in a language that cannot."""
    answer = peer.ask(command)
    if answer.status == "unsupported":
        check("expect" in world.lacks[peer.language], f"{peer.language} expects nothing")
        return None
    return answer


def busy(world: World) -> None:
    """A second producer, and a second reader of a durable queue, are refused; the text says by
    whom."""
    ring = world.ring()
    world.produce(ring)
    world.consume(ring)
    names(
        world.consumer.ask(f"produce {ring} 1 0 block - -").wants("BUSY"), ring, world.producer.pid
    )
    refused = world.producer.ask(f"consume {ring} resume 0 - *").wants("BUSY")
    names(refused, ring, world.consumer.pid)
    plan = Plan(world.seed, 5, 0, 99)  # and nobody was disturbed
    world.send(plan, "many", batch=5)
    world.take(plan, "recv")
    world.close_and_drain()


def missing(world: World) -> None:
    """No such ring, no such consumer, a bad name."""
    ring = world.ring()
    for ms in (0, 30):
        answer = world.consumer.ask(f"consume {ring} resume {ms} - *").wants("NOT_FOUND")
        names(answer, ring)
    world.produce(ring, consumers=2)
    names(world.producer.ask("wait 1 20").wants("NOT_FOUND"), ring)
    for name in ("../x", ".x", "x" * 201, "x/y"):
        names(world.producer.ask(f"produce {name} 1 0 block - -").wants("INVALID"))
    world.produce(ring)
    world.producer.ask("close producer").wants()


def mismatch(world: World) -> None:
    """Another dtype, shape or framing than the ring's: asked for, sent, or made."""
    ring = world.ring()
    text = schema("<u8", (5,))
    world.produce(ring, capacity=16, dtype="<u8", shape="5", said=text, consumers=2)
    for shape, dtype in (("5", "<i8"), ("4", "<u8"), ("-", "<u8"), ("-", "-")):
        told = expects(world, world.consumer, f"consume {ring} resume 0 {shape} {dtype}")
        if told is not None:
            names(told.wants("MISMATCH"), ring, text)
    told = expects(world, world.consumer, f"consume {ring} resume 0 5 <u8")
    check(told is None or told.wants().rest == text, f"the right dtype gives {told}")
    world.consume(ring, said=text)
    short = world.ask_send(Plan(world.seed, 1, 39, 39, 0, 0, 0), "send", ms=0)
    short.wants("INVALID" if world.languages[0] == "python" else "MISMATCH")
    names(short, ring)
    # its producer goes; a ring of another kind cannot take its place while somebody reads it
    world.producer.ask("close producer").wants()
    for shape, dtype in (("5", "<i8"), ("-", "-")):
        told = world.producer.ask(f"produce {ring} 2 0 block {shape} {dtype}").wants("MISMATCH")
        names(told, ring)
    world.consumer.ask("close consumer").wants()
    # and the other way round
    ring = world.ring()
    world.produce(ring)
    told = expects(world, world.consumer, f"consume {ring} resume 0 - <f8")
    if told is not None:
        names(told.wants("MISMATCH"), ring)
    told = expects(world, world.consumer, f"consume {ring} resume 0 - -")
    check(told is None or told.wants().rest == "-", f"a message ring gives {told}")
    world.consume(ring)
    world.close_and_drain()


def corrupt(world: World) -> None:
    """A file that is no segment, and a segment that is cut under its users."""
    ring = world.ring()
    path = world.directory / f"shmipc.{ring}"
    path.write_bytes(b"not a segment" * 1000)
    names(world.producer.ask(f"produce {ring} 1 0 block - -").wants("CORRUPT"), path)
    names(world.consumer.ask(f"consume {ring} resume 0 - *").wants("CORRUPT"), path)
    path.unlink()
    ring = world.ring()
    path = world.directory / f"shmipc.{ring}"
    # processes of their own: whoever meets the cut first must live
    writer, reader = world.start(world.languages[0]), world.start(world.languages[1])
    world.produce(ring, capacity=1 << 16, by=writer)
    world.consume(ring, by=reader)
    plan = Plan(world.seed, 30, 900, 1000)
    writer.ask(f"send send {plan.words()} 1 0").wants()
    os.truncate(path, 0)
    for mode in ("recv", "read"):
        taken = Taken.parse(reader.ask(f"take {mode} 30 1 0"))
        check(taken.end == "CORRUPT", f"{taken.who} reads {taken.end} from a file that was cut")
        check(ring in taken.text, f"the text of CORRUPT does not name the ring: {taken.text!r}")
    names(writer.ask(f"send send {plan.words()} 1 0").wants("CORRUPT"), ring)
    reader.ask("close consumer").wants()
    writer.ask("close producer").wants()
    path.unlink(missing_ok=True)


def removed(world: World) -> None:
    """A ring's file goes under its users: both are told, the reader after what is there."""
    ring = world.ring()
    path = world.directory / f"shmipc.{ring}"
    writer, reader = world.start(world.languages[0]), world.start(world.languages[1])
    world.produce(ring, capacity=1 << 16, by=writer)
    world.consume(ring, by=reader)
    plan = Plan(world.seed, 30, 900, 1000)
    writer.ask(f"send send {plan.words()} 1 0").wants()
    path.unlink()
    for mode in ("recv", "read"):
        taken = Taken.parse(reader.ask(f"take {mode} 2000 1 0"))
        check(taken.end == "REMOVED", f"{taken.who} reads {taken.end} from a file that is gone")
        check(ring in taken.text, f"the text of REMOVED does not name the ring: {taken.text!r}")
    reader.ask("close consumer").wants()
    writer.ask("close producer").wants()  # everything was read
    ring = world.ring()
    world.produce(ring, capacity=1 << 16, by=writer)
    writer.ask(f"send send {plan.words()} 1 0").wants()
    (world.directory / f"shmipc.{ring}").unlink()
    names(writer.ask("close producer").wants("REMOVED"), ring)  # and nobody can come for it


def refused_by_the_system(world: World) -> None:
    """A directory that is not there: the system's error, and its place in the text."""
    nowhere = world.directory / "nowhere"
    alone = Peer(world.languages[0], world.commands[world.languages[0]], nowhere)
    world.everybody.append(alone)
    names(alone.ask("produce x 1 0 block - -").wants("OS"), nowhere)


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        busy,
        missing,
        mismatch,
        corrupt,
        removed,
        misuse,
        layouts,
        refused_by_the_system,
    )
}
ALONE = ("misuse", "layouts", "refused_by_the_system")
