"""The demo's scenarios: which process does what, and what the reports must say.

Runs in the process that the user started, which touches no ring itself: it gives orders,
compares the reports of the two sides and turns them into a row of the table.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from shmipc.demo import proof
from shmipc.demo.crew import Crew
from shmipc.demo.frames import PACED_HZ
from shmipc.demo.table import Row, human_count
from shmipc.demo.ticks import PACED_TICKS, TICK_LEN

__all__ = ["Stage", "batches", "fan_out", "frames", "replay", "round_trip", "single", "video"]

WHOLE_FRAME_EVERY = 16
FAN_OUT = 20

Report = dict[str, Any]


@dataclasses.dataclass
class Stage:
    """What a scenario needs: the processes and a prefix of ring names nobody else uses."""

    crew: Crew
    prefix: str

    def ring(self, name: str) -> str:
        """Return the full name of this run's ring `name`."""
        return f"{self.prefix}-{name}"


def _rate(row: Row, timed: int, item_len: int, sent: Report, *received: Report) -> None:
    """Set the row's rates: from the first timed send to the last consumer's end."""
    seconds = (max(report["end_ns"] for report in received) - sent["start_ns"]) / 1e9
    row.per_second = timed / seconds
    row.bytes_per_second = timed * item_len * len(received) / seconds


def _nothing_lost(row: Row, sent: Report, *received: Report) -> None:
    row.messages = sent["sent"]
    row.lost = sum(max(report["lost"], sent["sent"] - report["received"]) for report in received)
    row.copied = sum(report["copied"] for report in received)
    counts = {report["received"] for report in received}
    row.check(f"all {sent['sent']:,} sent were received, {counts} were", counts == {sent["sent"]})
    row.check("no consumer was told of a loss", not any(report["lost"] for report in received))


def frames(stage: Stage, seconds: float) -> Row:
    """1080p pictures from a camera process to a reader, without a copy."""
    row = Row("1080p frames, zero-copy", "1 -> 1", unit="frames")
    camera, reader = stage.crew.grow(2)
    ring = stage.ring("frames")
    camera.order(
        "frames.produce", ring=ring, paced_seconds=0.4 * seconds, flat_seconds=0.6 * seconds
    )
    reader.order("frames.consume", ring=ring, whole_every=WHOLE_FRAME_EVERY)
    sent, got = (report["result"] for report in stage.crew.gather((camera, reader)))
    _nothing_lost(row, sent, got)
    height, width, depth = proof.FRAME_SHAPE
    _rate(row, sent["timed"], height * width * depth, sent, got)
    row.percentiles_us = proof.percentiles_us(got["ages_ns"])
    row.check(f"every frame in order with its picture ({got['fault']})", got["fault"] is None)
    row.check("every frame's array lay on the ring's own memory", got["copied"] == 0)
    row.notes.append(
        f"{got['received']} checked in places, {got['compared_whole']} byte by byte; "
        f"latency at {PACED_HZ} frames/s"
    )
    return row


def single(stage: Stage, seconds: float) -> Row:
    """64-byte messages, one send and one recv each."""
    row = Row("64 B ticks, one by one", "1 -> 1")
    producer, consumer = stage.crew.grow(2)
    ring = stage.ring("single")
    producer.order("single.produce", ring=ring, seconds=seconds)
    consumer.order("single.consume", ring=ring)
    sent, got = (report["result"] for report in stage.crew.gather((producer, consumer)))
    _nothing_lost(row, sent, got)
    _rate(row, sent["sent"], TICK_LEN, sent, got)
    _same_ticks(row, sent, got)
    return row


def _same_ticks(row: Row, sent: Report, *received: Report) -> None:
    faults = [report["fault"] for report in received if report["fault"]]
    row.check(f"every tick in its order ({'; '.join(faults) or 'no fault'})", not faults)
    row.check(
        "every bit as sent, by count and sum", {r["value"] for r in received} == {sent["value"]}
    )


def round_trip(stage: Stage, seconds: float, *, sleeping: bool) -> Row:
    """A 64-byte message there and back, one outstanding at a time."""
    row = Row(
        "64 B there and back, " + ("sleeping" if sleeping else "spinning"),
        "1 <-> 1",
        unit="trips",
        latency_of="round trip",
    )
    near, far = stage.crew.grow(2)
    kind = "sleep" if sleeping else "spin"
    there, back = stage.ring(f"{kind}-there"), stage.ring(f"{kind}-back")
    far.order("pong", there=there, back=back, sleeping=sleeping)
    near.order("ping", there=there, back=back, seconds=seconds, sleeping=sleeping)
    pinged, ponged = (report["result"] for report in stage.crew.gather((near, far)))
    row.messages = pinged["rounds"]
    row.copied = pinged["copied"] + ponged["rounds"] * TICK_LEN
    row.lost = pinged["lost"] + ponged["lost"]
    row.per_second = 1e6 / pinged["mean_us"]
    row.bytes_per_second = 2 * TICK_LEN * row.per_second
    if pinged["percentiles_us"]:
        row.percentiles_us = (pinged["percentiles_us"][0], pinged["percentiles_us"][1])
    row.check("every tick came back as itself", pinged["fault"] is None)
    row.check("both sides counted the same trips", pinged["rounds"] == ponged["rounds"])
    row.check("no side was told of a loss", row.lost == 0)
    return row


def _batch_row(stage: Stage, row: Row, ring: str, consumers: int, seconds: float) -> Row:
    producer, *readers = stage.crew.grow(consumers + 1)
    producer.order(
        "batch.produce",
        ring=ring,
        consumers=consumers,
        paced_seconds=0.3 * seconds,
        flat_seconds=0.7 * seconds,
    )
    for reader in readers:
        reader.order("batch.consume", ring=ring)
    sent, *got = (report["result"] for report in stage.crew.gather((producer, *readers)))
    _nothing_lost(row, sent, *got)
    _rate(row, sent["timed"], TICK_LEN, sent, *got)
    row.percentiles_us = proof.percentiles_us([age for report in got for age in report["ages_ns"]])
    _same_ticks(row, sent, *got)
    row.check("every batch lay on the ring's own memory", row.copied == 0)
    return row


def batches(stage: Stage, seconds: float) -> Row:
    """64-byte records, many at a time."""
    row = Row("64 B ticks, in batches", "1 -> 1", unit="ticks")
    _batch_row(stage, row, stage.ring("batches"), 1, seconds)
    row.notes.append(f"every tick checked; latency of bursts of {PACED_TICKS} every ms")
    return row


def fan_out(stage: Stage, seconds: float) -> Row:
    """One producer, 20 consumers, each of which gets and checks everything."""
    row = Row(f"one producer, {FAN_OUT} consumers", f"1 -> {FAN_OUT}", unit="ticks")
    _batch_row(stage, row, stage.ring("fan-out"), FAN_OUT, seconds)
    row.notes.append(
        f"{human_count(row.per_second * FAN_OUT)} deliveries/s, each checked; "
        "latency of the same bursts over all consumers, which share the processors"
    )
    return row


def replay(stage: Stage, path: str, consumers: int) -> Row:
    """A real capture, parsed once and sent to several consumers."""
    row = Row("capture replay", f"1 -> {consumers}", unit="records")
    producer, *readers = stage.crew.grow(consumers + 1)
    ring = stage.ring("replay")
    producer.order("capture.produce", ring=ring, path=path, consumers=consumers)
    [parsed] = stage.crew.gather((producer,), "ready")
    for reader in readers:
        reader.order("capture.consume", ring=ring)
    sent, *got = (report["result"] for report in stage.crew.gather((producer, *readers)))
    _nothing_lost(row, sent, *got)
    _rate(row, sent["sent"], TICK_LEN, sent, *got)
    row.check("all parsed records were sent", sent["sent"] == parsed["records"])
    row.check("checksum agrees", {report["value"] for report in got} == {sent["value"]})
    row.check(
        "events of each kind agree", all(report["kinds"] == parsed["kinds"] for report in got)
    )
    row.check("every batch lay on the ring's own memory", row.copied == 0)
    differ = parsed["disagreements"]
    row.check(f"an independent count of the text agrees ({'; '.join(differ)})", not differ)
    row.check("the file held an event", parsed["records"] > 0)
    _describe_capture(row, parsed, sent["value"])
    return row


def _describe_capture(row: Row, parsed: Report, value: str) -> None:
    kinds = ", ".join(f"{n:,} {name}" for name, n in parsed["kinds"].items())
    lines, records = parsed["lines"], parsed["records"]
    row.notes.append(
        f"{lines:,} line{'' if lines == 1 else 's'} ({kinds}; {parsed['bad_count']:,} bad) of "
        f"{', '.join(parsed['symbols'][:8]) or 'no symbol'} made {records:,} "
        f"record{'' if records == 1 else 's'} of {TICK_LEN} bytes "
        f"in {parsed['parse_seconds']:.1f} s"
    )
    row.notes.append(f"every consumer's count and checksum: {value}")
    row.notes += [f"line {line} is bad: {reason}" for line, reason in parsed["bad"]]
    if parsed["bad_count"] > len(parsed["bad"]):
        row.notes.append(f"and more bad lines: {parsed['bad_count'] - len(parsed['bad']):,}")
    if parsed["truncated"]:
        row.notes.append(f"the file is TRUNCATED: {parsed['damage'] or 'its last line is cut'}")


def video(stage: Stage, path: str, max_frames: int | None) -> Row:
    """Real video, decoded into the ring and read there."""
    row = Row("video, zero-copy", "1 -> 1", unit="frames")
    decoder, reader = stage.crew.grow(2)
    ring = stage.ring("video")
    decoder.order("video.produce", ring=ring, path=path, max_frames=max_frames)
    [ready] = stage.crew.gather((decoder,), "ready")
    reader.order("video.consume", ring=ring)
    sent, got = (report["result"] for report in stage.crew.gather((decoder, reader)))
    _nothing_lost(row, sent, got)
    _rate(row, sent["sent"], sent["frame_len"], sent, got)
    row.check(f"shape {ready['shape']} at the reader", got["shape"] == ready["shape"])
    row.check("checksum of all bytes agrees", got["checksum"] == sent["checksum"])
    row.check("every frame's array lay on the ring's own memory", got["copied"] == 0)
    row.check("the file held a picture", sent["sent"] > 0)
    row.notes.append(
        f"{got['received']} {sent['codec']} frames of shape {tuple(got['shape'])}, "
        f"crc32 {got['checksum']:08x} on both sides; the rate is the decoder's"
    )
    return row
