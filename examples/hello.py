"""Two processes, one name, three messages.

The consumer may start first: it waits for the ring to exist. The stream ends when the producer
closes it; the file in the segment directory is gone when the last of the two has left.
"""

import multiprocessing
import os
import secrets

import shmipc


def listen(name: str) -> None:
    """Print what comes until the producer is done."""
    with shmipc.Consumer(name, timeout=10) as consumer:
        for frame in consumer:
            with frame:
                print(f"process {os.getpid()} got {bytes(frame)!r}")


def main() -> None:
    name = f"hello-{secrets.token_hex(4)}"
    listener = multiprocessing.get_context("spawn").Process(target=listen, args=(name,))
    listener.start()
    with shmipc.Producer(name, capacity=4096) as producer:
        producer.wait_for_consumers(1, timeout=10)
        for word in (b"hello", b"shared", b"memory"):
            producer.send(word)
        print(f"process {os.getpid()} sent three messages")
    listener.join(10)
    assert listener.exitcode == 0, listener.exitcode


if __name__ == "__main__":
    main()
