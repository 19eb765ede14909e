"""The two peers of a pair, what is said to them, and what their answers must be.

Owns: the phrases of the protocol, the check of what was taken. Must not know the scenarios.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import crowd
from crowd import Answer, Peer, check
from expected import Plan, Stream, stream

FOREVER = -1
MASK = 2**64 - 1


@dataclass(frozen=True)
class Taken:
    """`ok COUNT BYTES DIGEST LOST DISCARDED END RUNS | TEXT`"""

    who: str
    count: int
    length: int
    digest: int
    lost: int
    discarded: int
    end: str
    runs: list[tuple[int, int]]
    text: str

    @classmethod
    def parse(cls, answer: Answer) -> Taken:
        words = answer.wants().words
        runs = [run.split("+") for run in words[6].split(",")] if len(words) > 6 else []
        return cls(
            answer.peer,
            int(words[0]),
            int(words[1]),
            int(words[2], 16),
            int(words[3]),
            int(words[4]),
            words[5],
            [(int(first), int(count)) for first, count in runs],
            answer.text,
        )

    def wants(self, whole: Stream, seq: int, end: str = "-") -> Taken:
        """All of `whole`, from the ring's number `seq` on, and then this end."""
        count = len(whole.lengths)
        found = (self.end, self.count, self.runs, self.length)
        wanted = (end, count, [(seq, count)] if count else [], whole.bytes())
        check(found == wanted, f"{self.who} took {found}, not {wanted} {self.text}")
        check(self.digest == whole.total(), f"{self.who}: bytes, kinds or flags differ")
        check((self.lost, self.discarded) == (0, 0), f"{self.who} says {self.lost} were lost")
        return self


class World:
    """One pair at a time in one directory; processes by their language."""

    def __init__(
        self,
        commands: dict[str, list[str]],
        languages: tuple[str, str],
        lacks: dict[str, frozenset[str]],
        directory: Path,
        seed: int,
    ) -> None:
        self.commands = commands
        self.languages = languages
        self.lacks = lacks
        self.directory = directory
        self.seed = seed
        self.everybody: list[Peer] = []
        self._rings = 0
        self._pair: tuple[Peer, Peer] | None = None

    # ---- processes

    def start(self, language: str) -> Peer:
        peer = Peer(language, self.commands[language], self.directory)
        self.everybody.append(peer)
        return peer

    @property
    def pair(self) -> tuple[Peer, Peer]:
        """The producer and the consumer, started when first needed."""
        if self._pair is None:
            self._pair = (self.start(self.languages[0]), self.start(self.languages[1]))
        return self._pair

    @property
    def producer(self) -> Peer:
        return self.pair[0]

    @property
    def consumer(self) -> Peer:
        return self.pair[1]

    def spare(self) -> Peer:
        """A process that has no consumer yet: the producer's."""
        return self.producer

    def after(self, language: str) -> str:
        """Another language: the next in the table."""
        names = list(self.commands)
        return names[(names.index(language) + 1) % len(names)]

    def end(self, *, well: bool) -> None:
        """Everybody goes: asked to, or made to."""
        try:
            for peer in self.everybody:
                if well and peer.process.poll() is None:
                    peer.quit()
        finally:
            for peer in self.everybody:
                peer.discard()
            self.everybody.clear()
            self._pair = None

    def ring(self) -> str:
        self._rings += 1
        return f"ring-{self._rings}"

    # ---- phrases

    def produce(
        self,
        ring: str,
        *,
        consumers: int = 1,
        capacity: int = 0,
        policy: str = "block",
        shape: str = "-",
        dtype: str = "-",
        said: str = "-",
        by: Peer | None = None,
    ) -> None:
        command = f"produce {ring} {consumers} {capacity} {policy} {shape} {dtype}"
        answer = (by or self.producer).ask(command).wants()
        check(answer.rest == said, f"{answer.peer} made a ring of {answer.rest}, not {said}")

    def consume(
        self,
        ring: str,
        *,
        start: str = "resume",
        said: str = "-",
        by: Peer | None = None,
    ) -> None:
        answer = (by or self.consumer).ask(f"consume {ring} {start} 0 - *").wants()
        check(answer.rest == said, f"{answer.peer} found a ring of {answer.rest}, not {said}")

    def tell_send(self, plan: Plan, mode: str, *, batch: int = 1, ms: int = FOREVER) -> None:
        self.producer.tell(f"send {mode} {plan.words()} {batch} {ms}")

    def ask_send(self, plan: Plan, mode: str, *, batch: int = 1, ms: int = FOREVER) -> Answer:
        self.tell_send(plan, mode, batch=batch, ms=ms)
        return self.producer.hear()

    def send(self, plan: Plan, mode: str, *, batch: int = 1) -> None:
        """All of it, at once: there is room."""
        answer = self.ask_send(plan, mode, batch=batch, ms=0).wants()
        check(answer.words == (str(plan.count),), f"{answer.peer} sent {answer.words}")

    def ask_take(self, mode: str, count: int, *, batch: int = 1, ms: int = 0) -> Taken:
        return Taken.parse(self.consumer.ask(f"take {mode} {count} {batch} {ms}"))

    def take(self, plan: Plan, mode: str, *, batch: int = 1, ms: int = 0) -> None:
        """All of it, which is there already unless there is a timeout; its numbers are the
        ring's."""
        taken = self.ask_take(mode, plan.count, batch=batch, ms=ms)
        taken.wants(stream(plan), plan.first)

    def heard_take(self, before: list[Taken] | None = None) -> list[Taken]:
        """The answer to a `take` that was told, after those before."""
        return [*(before or []), Taken.parse(self.consumer.hear())]

    def stream(self, plan: Plan, send: str, take: str, *, batch: int = 1) -> None:
        """Both at once: more than the ring holds."""
        self.consumer.tell(f"take {take} {plan.count} {max(batch, 5)} {FOREVER}")
        self.tell_send(plan, send, batch=batch)
        self.producer.hear(2 * crowd.DEADLINE).wants()
        Taken.parse(self.consumer.hear(2 * crowd.DEADLINE)).wants(stream(plan), plan.first)

    def close_and_drain(self) -> None:
        """The end of a ring of which everything was taken."""
        self.producer.ask("close producer").wants()
        taken = self.ask_take("recv", 1)
        check((taken.count, taken.end) == (0, "CLOSED"), f"at the end {taken.who} has {taken}")
        self.consumer.ask("close consumer").wants()

    def producer_says(self, result: str) -> str:
        """The result's name in the producer's language: Python's ValueError has two meanings."""
        return PYTHON_SAYS.get(result, result) if self.languages[0] == "python" else result


PYTHON_SAYS = {"TOO_LARGE": "INVALID"}
Scenario = Callable[[World], None]
