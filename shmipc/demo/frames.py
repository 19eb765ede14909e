"""Roles that hand over frames: a drawn 1080p camera picture, or real video.

The producer draws into ring memory it has reserved. The consumer reads the very same memory as
a numpy array; it checks with the kernel's list of mappings that it does, and counts the bytes
of every frame for which that is not so as copied.
"""

from __future__ import annotations

import itertools
import time
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

import shmipc
from shmipc import video
from shmipc.demo import proof
from shmipc.demo.reporter import Reporter

CAPACITY = 4  # frames: 24 MiB of 1080p, which fits the 64 MiB /dev/shm of a Docker container
VIDEO_BYTES = 48 << 20  # the ring of a video of whatever size
PACED_HZ = 120
JOIN_SECONDS = 15.0


def _draw(target: NDArray[np.uint8], picture: NDArray[np.uint8], number: int, paced: bool) -> None:
    image = target.reshape(picture.shape)
    np.copyto(image, picture)
    proof.stamp_frame(image, number, time.monotonic_ns(), paced)


def produce(
    report: Reporter, *, ring: str, paced_seconds: float, flat_seconds: float
) -> dict[str, Any]:
    """Send drawn frames: first at a camera's pace, then as fast as they are taken."""
    pictures = proof.make_pictures()
    with shmipc.Producer(
        ring, dtype=np.uint8, shape=proof.FRAME_SHAPE, capacity=CAPACITY
    ) as producer:
        producer.wait_for_consumers(1, timeout=JOIN_SECONDS)
        start = time.monotonic()
        paced_frames = max(2, round(paced_seconds * PACED_HZ))
        flat_start_ns = 0
        for number in itertools.count():
            paced = number < paced_frames
            if paced:
                time.sleep(max(0.0, start + number / PACED_HZ - time.monotonic()))
            elif number == paced_frames:
                flat_start_ns = time.monotonic_ns()
            elif time.monotonic_ns() - flat_start_ns > flat_seconds * 1e9:
                break
            with producer.reserve() as room:
                _draw(room.array, pictures[number % len(pictures)], number, paced)
            report.progress(number)
    return {"sent": number, "timed": number - paced_frames, "start_ns": flat_start_ns}


class _Viewer:
    """What the consumer finds out about drawn frames."""

    def __init__(self, whole_every: int) -> None:
        self.pictures = proof.make_pictures()
        self.memory: proof.RingMemory | None = None
        self.whole_every = whole_every
        self.count = self.whole = self.copied = 0
        self.fault: str | None = None
        self.ages_ns: list[int] = []

    def look(self, image: NDArray[np.uint8], now_ns: int) -> None:
        stamp = proof.read_stamp(image)
        picture = self.pictures[self.count % len(self.pictures)]
        whole = self.count % self.whole_every == 0
        if stamp is None or stamp[0] != self.count:
            self.fault = self.fault or f"expected frame {self.count}, got stamp {stamp}"
        elif not proof.picture_matches(image, picture, whole=whole):
            self.fault = self.fault or f"frame {self.count} does not hold its picture"
        elif stamp[2]:
            self.ages_ns.append(now_ns - stamp[1])
        if self.memory is None or not self.memory.holds(image):
            self.copied += image.nbytes
        self.whole += whole
        self.count += 1


def consume(report: Reporter, *, ring: str, whole_every: int) -> dict[str, Any]:
    """Read frames where they lie until the producer ends the stream, and check them."""
    viewer = _Viewer(whole_every)  # before the first frame can come, which must not wait for it
    with shmipc.Consumer(ring, timeout=JOIN_SECONDS) as consumer:
        viewer.memory = proof.RingMemory(ring)
        for frame in consumer:
            viewer.look(frame.array, time.monotonic_ns())
            report.progress(viewer.count)
        lost = consumer.lost
    return {
        "received": viewer.count,
        "compared_whole": viewer.whole,
        "copied": viewer.copied,
        "fault": viewer.fault,
        "ages_ns": viewer.ages_ns,
        "lost": lost,
        "end_ns": time.monotonic_ns(),
    }


def produce_video(
    report: Reporter, *, ring: str, path: str, max_frames: int | None
) -> dict[str, Any]:
    """Decode `path` and put each picture straight into reserved ring memory."""
    checksum = 0
    number = 0
    with video.Video(path) as film:
        capacity = max(2, VIDEO_BYTES // film.frame_len)
        with shmipc.Producer(ring, dtype=np.uint8, shape=film.shape, capacity=capacity) as producer:
            report.send("ready", shape=film.shape, capacity=producer.capacity)
            producer.wait_for_consumers(1, timeout=JOIN_SECONDS)
            start_ns = time.monotonic_ns()
            for picture in itertools.islice(film, max_frames):
                with producer.reserve() as room:
                    checksum = _place(film, picture, room.array, checksum)
                number += 1
                report.progress(number, film.frames)
    return {
        "sent": number,
        "checksum": checksum,
        "start_ns": start_ns,
        "codec": film.codec,
        "frame_len": film.frame_len,
    }


def _place(
    film: video.Video, picture: video.Picture, target: NDArray[np.uint8], checksum: int
) -> int:
    image = target.reshape(film.shape)
    film.write(picture, image)
    return zlib.crc32(image.data, checksum)


def _look(image: NDArray[np.uint8], checksum: int, memory: proof.RingMemory) -> tuple[int, int]:
    return zlib.crc32(image.data, checksum), 0 if memory.holds(image) else image.nbytes


def consume_video(report: Reporter, *, ring: str) -> dict[str, Any]:
    """Read video frames where they lie; checksum every byte of every frame, in order."""
    count = checksum = copied = 0
    with shmipc.Consumer(ring, timeout=JOIN_SECONDS) as consumer:
        memory = proof.RingMemory(ring)
        shape = list(consumer.shape)
        for frame in consumer:
            checksum, not_on_ring = _look(frame.array, checksum, memory)
            copied += not_on_ring
            count += 1
            report.progress(count)
        lost = consumer.lost
    return {
        "received": count,
        "checksum": checksum,
        "copied": copied,
        "shape": shape,
        "lost": lost,
        "end_ns": time.monotonic_ns(),
    }
