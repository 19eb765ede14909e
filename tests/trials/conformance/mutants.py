"""Faults put into copies of the peers and bindings on purpose: each must be found.

Owns: the faults. One that no longer fits the code is an error: write it anew.
"""

from __future__ import annotations

import fnmatch
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import crowd
from language import BINDING, HERE, LANGUAGES, Workshop, include_dir

import run

PATIENCE = 6.0  # a peer that hangs has been found when it has not answered for so long
FOLDERS = ("python", "c", "cpp", "csharp")


@dataclass(frozen=True)
class Mutant:
    """A fault, as edits of (file, old, new), and where it must be found."""

    fault: str
    edits: tuple[tuple[str, str, str], ...]
    only: str


def one(fault: str, only: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(fault, ((file, old, new),), only)


C, CPP, CS, PY = "c/stream.c", "cpp/stream.cpp", "csharp/Stream.cs", "python/peer.py"
MUTANTS = (
    one(
        "a bit of one byte is flipped",
        "c-python/wrap",
        C,
        "    fill(room, view.len, start);\n",
        "    fill(room, view.len, start);\n    room[0] ^= number == 333;\n",
    ),
    one(
        "the last byte of odd lengths is not sent",
        "csharp-c/sizes",
        CS,
        "i < at.Length; i++)\n        {\n            at[i] = ",
        "i < at.Length - 1; i++)\n        {\n            at[i] = ",
    ),
    one(
        "a message is skipped",
        "c-c/wrap",
        C,
        "    const struct shmipc_view view = message(plan, number, room);\n    /* a kind",
        "    if (number == 77) {\n        return SHMIPC_SUCCESS;\n    }\n"
        "    const struct shmipc_view view = message(plan, number, room);\n    /* a kind",
    ),
    one(
        "a message is sent twice",
        "cpp-c/wrap",
        CPP,
        "        sending.messages.send(message, timeout);\n",
        "        sending.messages.send(message, timeout);\n"
        "        if (i == 66) {\n            sending.messages.send(message, timeout);\n        }\n",
    ),
    one(
        "a kind is one too high",
        "python-c/kinds",
        PY,
        "kind if kind >= 0 else",
        "kind + (kind == 256) if kind >= 0 else",
    ),
    one(
        "flags are not sent with a batch",
        "csharp-python/batches",
        "binding/Producer.cs",
        'views[i].Flags = U16("flags", messages[i].Flags);',
        'U16("flags", messages[i].Flags);',
    ),
    one(
        "a copy's number is one too high",
        "c-csharp/sizes",
        "binding/Consumer.cs",
        "(long)view.Seq);\n            }\n            finally",
        "(long)view.Seq + 1);\n            }\n            finally",
    ),
    one(
        "a span is one byte too short",
        "c-csharp/sizes",
        "binding/Shmipc.cs",
        "return new ReadOnlySpan<byte>(view.Data + (ulong)index * view.Stride, ItemSize(view));",
        "return new ReadOnlySpan<byte>(view.Data + (ulong)index * view.Stride,"
        " Math.Max(0, ItemSize(view) - 1));",
    ),
    one(
        "what was peeked at is not released",
        "c-csharp/batches",
        "binding/Consumer.cs",
        "Errors.Check(Native.shmipc_consumer_release_n(handle, (ulong)count));",
        "",
    ),
    one(
        "all is released where a part was asked for",
        "c-cpp/batches",
        "include/shmipc_consumer.hpp",
        "detail::check(shmipc_consumer_release_n(this->handle(), count));",
        "(void)count; detail::check(shmipc_consumer_release(this->handle()));",
    ),
    one(
        "two fields of the binding's view are swapped",
        "c-csharp/kinds",
        "binding/Native.cs",
        "public ushort Kind, Flags;",
        "public ushort Flags, Kind;",
    ),
    one(
        "two fields of the binding's options are swapped",
        "csharp-c/items",
        "binding/Native.cs",
        "public uint Axes, MaxConsumers;",
        "public uint MaxConsumers, Axes;",
    ),
    one(
        "a field of a record is wrong",
        "python-cpp/records",
        PY,
        'record["ratio"] = signed(r, 16) / 4',
        'record["ratio"] = signed(r, 16) / 8',
    ),
    one(
        "a field of a struct is not as wide as its dtype says",
        "c-csharp/records",
        "csharp/Records.cs",
        "public short Level;",
        "public int Level;",
    ),
    one(
        "items are laid one after the other, whatever their stride",
        "c-csharp/items",
        "binding/Shmipc.cs",
        "view.Data + (ulong)index * view.Stride",
        "view.Data + 0 * view.Stride",
    ),
    one(
        "the shape is not asked for",
        "csharp-python/items",
        "binding/Shmipc.cs",
        "if (shape == null || shape.Length == 0)",
        "if (shape == null || shape.Length < 2)",
    ),
    one(
        "a stream is not ended",
        "c-python/close",
        "c/peer.c",
        "words[1][0] == 'p' ? shmipc_producer_close(producer)",
        "words[1][0] == 'p' ? SHMIPC_SUCCESS",
    ),
    one(
        "a frame is given back while it is held",
        "c-c/hold",
        "c/peer.c",
        "        held_count += result == SHMIPC_SUCCESS ? 1 : 0;",
        "        if (result == SHMIPC_SUCCESS && held_count == 0) {\n"
        "            shmipc_frame_release(held[0]);\n"
        "            continue;\n        }\n"
        "        held_count += result == SHMIPC_SUCCESS ? 1 : 0;",
    ),
    one(
        "the wrong frame is dropped",
        "c-python/hold",
        PY,
        "self.held.pop(int(index)).release()",
        "self.held.pop().release()",
    ),
    one(
        "one more is said to be lost",
        "c-cpp/overrun",
        CPP,
        "lost = taking.items ? taking.items.stats().lost : taking.messages.stats().lost;",
        "lost = 1 + (taking.items ? taking.items.stats() : taking.messages.stats()).lost;",
    ),
    one(
        "what was overwritten is believed",
        "c-csharp/overwritten",
        "binding/Consumer.cs",
        "return Native.shmipc_frame_is_intact(handle);",
        "return true;",
    ),
    one(
        "a newcomer begins at the oldest",
        "c-c/starts",
        "c/peer.c",
        'strcmp(words[2], "latest") == 0 ? SHMIPC_LATEST',
        'strcmp(words[2], "latest") == 0 ? SHMIPC_EARLIEST',
    ),
    one(
        "a reservation is committed before its time",
        "c-python/kill_in_reservation",
        "c/peer.c",
        "        memset(at, 0xEE, len);\n    }",
        "        memset(at, 0xEE, len);\n"
        "        (void)!shmipc_producer_commit(producer, len, 1, 0);\n    }",
    ),
    one(
        "what is in hand counts as read",
        "python-c/kill_consumer",
        "c/peer.c",
        "shmipc_consumer_read(consumer, &held[held_count],",
        "shmipc_consumer_recv(consumer, (char[100]){0}, 100, NULL,",
    ),
    one(
        "a death is told as an end",
        "c-csharp/kill_producer",
        "binding/Errors.cs",
        "return new ProducerDiedException(text);",
        "return new ClosedException(text);",
    ),
    one(
        "the library's text is not passed on",
        "python-csharp/busy",
        "binding/Errors.cs",
        "string text = Native.Text(Native.shmipc_last_error());",
        "string text = Sentence(result);",
    ),
    one(
        "what was disposed is used",
        "csharp-csharp/misuse",
        "binding/Consumer.cs",
        'throw new ObjectDisposedException("frame " + view.Seq);',
        "return view;",
    ),
    one(
        "any dtype will do",
        "c-cpp/mismatch",
        "include/shmipc_ring.hpp",
        "filled.dtype = expected.any_shape ? nullptr : expected.dtype.c_str();",
        "filled.dtype = nullptr;",
    ),
    one(
        "a call never returns",
        "c-python/slow",
        "c/peer.c",
        "static void do_stats(char **words)\n{\n",
        "static void do_stats(char **words)\n{\n    while (words[1][0] == 'p') {\n    }\n",
    ),
    one(
        "a process ends with a status that is not 0",
        "c-c/kinds",
        "c/peer.c",
        "    shmipc_consumer_free(consumer);\n    return 0;",
        "    shmipc_consumer_free(consumer);\n    return 3;",
    ),
    Mutant(
        "both ends are wrong in the same way",
        (
            (
                C,
                "const uint64_t word = mix(start + 1 + j);",
                "const uint64_t word = start + 1 + j;",
            ),
            (PY, "return bytes(mix_all(words).astype", "return bytes(words.astype"),
        ),
        "c-python/sizes",
    ),
)


def build(mutant: Mutant, scratch: Path, library: Path) -> dict[str, list[str]]:
    """The two languages that the mutant needs, from sources with its edits."""
    sources = scratch / "sources"
    for folder in FOLDERS:
        shutil.copytree(HERE / folder, sources / folder)
    shutil.copytree(BINDING, sources / "binding")
    shutil.copytree(include_dir(), sources / "include")
    for file, old, new in mutant.edits:
        path = sources / file
        text = path.read_text("utf-8")
        assert text.count(old) == 1, f"{mutant.fault}: {file} has {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new), "utf-8")
    shop = Workshop(
        scratch,
        sources=sources,
        binding=sources / "binding",
        include=sources / "include",
        library_dir=library,
    )
    wanted = mutant.only.partition("/")[0].split("-")
    languages = [language for language in LANGUAGES if language.name in wanted]
    return run.prepare(languages, shop)


def self_test(seed: int, library: Path | None, only: list[str] | None) -> int:
    """Is each of them found, and in time?"""
    crowd.DEADLINE = PATIENCE
    present = {language.name for language in run.present(None, False)}
    missed = []
    tried = 0
    with tempfile.TemporaryDirectory(prefix="shmipc-conf-") as out:
        directory = Workshop(Path(out), library_dir=library).library()
        for mutant in MUTANTS:
            pair = mutant.only.partition("/")[0].split("-")
            if not set(pair) <= present:
                print(f"skipped: {mutant.fault} ({mutant.only})", flush=True)
                continue
            if only is not None and not any(fnmatch.fnmatch(mutant.only, x) for x in only):
                continue
            tried += 1
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="shmipc-conf-") as scratch:
                try:
                    commands = build(mutant, Path(scratch), directory)
                except (AssertionError, RuntimeError) as error:
                    print(f"{mutant.fault}: DOES NOT BUILD {error}", flush=True)
                    missed.append(mutant)
                    continue
                outcomes = run.run_all(commands, [mutant.only], seed, 1)
            failed = [why for outcome in outcomes for _, why in outcome.failed]
            found = failed[0].splitlines()[0][:120] if failed else "NOT FOUND"
            seconds = time.monotonic() - begun
            print(f"{mutant.fault} ({mutant.only}, {seconds:.0f} s): {found}", flush=True)
            if not failed:
                missed.append(mutant)
    print(f"{tried} of {len(MUTANTS)} faults tried, {len(missed)} not found")
    return 1 if missed else 0
