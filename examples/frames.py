"""A camera process hands 1080p frames to a numpy worker without a copy.

The camera draws into ring memory it has reserved; the worker's array *is* that memory, and stays
valid for as long as any view of it is alive. A view that is kept holds the ring up behind it, so
what the worker wants for longer, here the brightest frame, it copies.
"""

import multiprocessing
import secrets

import numpy as np
from numpy.typing import NDArray

import shmipc

SHAPE = (1080, 1920, 3)
FRAMES = 60


def work(name: str) -> None:
    """Look at every frame where it lies."""
    with shmipc.Consumer(name, timeout=10) as consumer:
        brightest: NDArray[np.uint8] | None = None
        seen = 0
        for frame in consumer:
            image = frame.array
            assert image.shape == SHAPE
            assert not image.flags.owndata  # it is the ring's own memory
            if brightest is None or image[0, 0, 0] > brightest[0, 0, 0]:
                brightest = image.copy()
            seen += 1
        assert seen == FRAMES
        assert brightest is not None
        print(f"{seen} frames of {brightest.nbytes:,} bytes read in place")
        print(f"the brightest begins with {brightest[0, 0, 0]}")


def main() -> None:
    name = f"frames-{secrets.token_hex(4)}"
    worker = multiprocessing.get_context("spawn").Process(target=work, args=(name,))
    worker.start()
    with shmipc.Producer(name, dtype=np.uint8, shape=SHAPE, capacity=4) as camera:
        camera.wait_for_consumers(1, timeout=10)
        for number in range(FRAMES):
            with camera.reserve() as room:
                room.array[:] = number * 37 % 251  # draw the picture here
    worker.join(20)
    assert worker.exitcode == 0, worker.exitcode


if __name__ == "__main__":
    main()
