"""Scenarios in which a peer is killed, and another language goes on where it stopped.

Owns: those. Each has processes of its own; nothing depends on when exactly the kill falls.
"""

from __future__ import annotations

from crowd import check
from expected import Plan, stream
from world import FOREVER, Scenario, Taken, World

from scenarios import TAKE_MODES


def kill_producer(world: World) -> None:
    """SIGKILL in the middle of a stream: drained, PRODUCER_DIED, and another language goes on."""
    ring = world.ring()
    first, reader = world.start(world.languages[0]), world.start(world.languages[1])
    heir = world.start(world.after(world.languages[0]))
    plan = Plan(world.seed, 10**9, 0, 400)
    world.produce(ring, capacity=4096, by=first)
    world.consume(ring, by=reader)
    first.tell(f"send send {plan.words()} 1 {FOREVER}")
    # while it sends, blocked or not: 200 have come
    Taken.parse(reader.ask(f"take recv 200 1 {FOREVER}")).wants(stream(plan.head(200)), 0)
    first.kill()
    rest = Taken.parse(reader.ask(f"take read 1000000 1 {FOREVER}"))
    check(rest.end == "PRODUCER_DIED", f"{rest.who} was told {rest.end} of a dead producer")
    check(ring in rest.text, f"the text of PRODUCER_DIED does not name the ring: {rest.text!r}")
    rest.wants(stream(plan.after(200, rest.count)), 200, "PRODUCER_DIED")
    again = Taken.parse(reader.ask("take peek 1 1 0"))
    check(again.end == "EMPTY", f"told once, {again.who} is then told {again.end}")
    count = 200 + rest.count
    world.produce(ring, capacity=4096, by=heir)
    stats = heir.ask("stats producer").wants().words
    check(stats[0] == str(count) and stats[3] == "1", f"after {count}, the heir has {stats}")
    follow = plan.after(count, 300)
    heir.tell(f"send many {follow.words()} 5 {FOREVER}")
    Taken.parse(reader.ask(f"take peek_n 300 6 {FOREVER}")).wants(stream(follow), count)
    heir.hear().wants()
    heir.ask("close producer").wants()
    check(Taken.parse(reader.ask("take recv 1 1 0")).end == "CLOSED", "the heir's end is not told")
    reader.ask("close consumer").wants()


def kill_in_reservation(world: World) -> None:
    """Killed with a reservation half written: nothing of it is ever seen."""
    ring = world.ring()
    first, reader = world.start(world.languages[0]), world.start(world.languages[1])
    plan = Plan(world.seed, 20, 0, 90)
    world.produce(ring, capacity=4096, by=first)
    world.consume(ring, by=reader)
    first.ask(f"send reserve {plan.head(10).words()} 3 0").wants()
    first.ask("room 1000 0").wants()
    first.kill()
    world.produce(ring, capacity=4096, by=reader)  # its reader is now its producer, too
    reader.ask(f"send send {plan.after(10).words()} 1 0").wants()
    Taken.parse(reader.ask("take read 20 1 0")).wants(stream(plan), 0)
    reader.ask("close producer").wants()
    reader.ask("close consumer").wants()


def kill_consumer(world: World) -> None:
    """SIGKILL of a durable queue's reader: the next language resumes at the first unreleased."""
    ring = world.ring()
    writer, reader = world.start(world.languages[0]), world.start(world.languages[1])
    heir = world.start(world.after(world.languages[1]))
    plan = Plan(world.seed, 10**9, 48, 48)
    world.produce(ring, capacity=4096, by=writer)
    world.consume(ring, by=reader)
    full = writer.ask(f"send send {plan.words()} 1 0").wants("FULL")
    check(full.done == 64, f"{full.done} messages of 64 bytes fit into 4096")
    Taken.parse(reader.ask("take recv 20 1 0")).wants(stream(plan.head(20)), 0)
    reader.ask("hold 5 0").wants()  # in its hands when it dies
    more = writer.ask(f"send many {plan.after(64).words()} 4 0").wants("FULL")
    check(more.done == 20, f"{more.done} messages took the place of 20")
    reader.kill()
    alone = writer.ask(f"send send {plan.after(84).words()} 1 {FOREVER}").wants("CONSUMER_DIED")
    check(alone.done == 0, f"{alone.done} messages were sent to nobody")
    check(ring in alone.text, f"the text of CONSUMER_DIED does not name the ring: {alone.text!r}")
    world.consume(ring, by=heir)
    number = 20
    for mode in TAKE_MODES:
        part = plan.after(number, 16)
        Taken.parse(heir.ask(f"take {mode} 16 5 0")).wants(stream(part), number)
        number += 16
    follow = plan.after(84, 40)
    writer.ask(f"send send {follow.words()} 1 {FOREVER}").wants()
    Taken.parse(heir.ask("take read 40 1 0")).wants(stream(follow), 84)
    writer.ask("close producer").wants()
    check(Taken.parse(heir.ask("take recv 1 1 0")).end == "CLOSED", "the end is not told")
    heir.ask("close consumer").wants()


def kill_both(world: World) -> None:
    """A durable queue of which everybody died; two other languages go on with what it held."""
    ring = world.ring()
    writer, reader = world.start(world.languages[0]), world.start(world.languages[1])
    new_writer = world.start(world.after(world.languages[0]))
    new_reader = world.start(world.after(world.languages[1]))
    plan = Plan(world.seed, 60, 0, 300)
    world.produce(ring, capacity=1 << 15, by=writer)
    world.consume(ring, by=reader)
    writer.ask(f"send send {plan.head(30).words()} 1 0").wants()
    Taken.parse(reader.ask("take peek 11 1 0")).wants(stream(plan.head(11)), 0)
    reader.kill()
    writer.kill()
    world.produce(ring, capacity=1 << 15, by=new_writer)
    new_writer.ask(f"send reserve {plan.after(30).words()} 2 0").wants()
    world.consume(ring, by=new_reader)
    Taken.parse(new_reader.ask("take recv 49 1 0")).wants(stream(plan.after(11)), 11)
    new_writer.ask("close producer").wants()
    new_reader.ask("close consumer").wants()


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (kill_producer, kill_in_reservation, kill_consumer, kill_both)
}
