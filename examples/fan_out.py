"""One producer, several consumers, and one of them far too slow.

In a ring that overwrites, the producer never waits for anybody. A consumer that falls behind by
more than the ring holds skips ahead, and ``lost`` counts exactly what it missed: for each
consumer, received + lost is what was sent.
"""

import multiprocessing
import secrets
import time

import shmipc

CONSUMERS = 3
MESSAGES = 4000


def follow(name: str, pause: float) -> None:
    """Receive to the end, pausing after each message."""
    with shmipc.Consumer(name, timeout=10) as consumer:
        received = 0
        while True:
            try:
                consumer.recv(timeout=10)
            except shmipc.Closed:
                break
            received += 1
            if pause:
                time.sleep(pause)
        kind = "slow" if pause else "fast"
        print(f"{kind} consumer: received {received}, lost {consumer.lost}")
        assert received + consumer.lost == MESSAGES
        assert not pause or consumer.lost > 0


def main() -> None:
    name = f"fan-out-{secrets.token_hex(4)}"
    context = multiprocessing.get_context("spawn")
    pauses = [0.0] * (CONSUMERS - 1) + [0.01]
    followers = [context.Process(target=follow, args=(name, pause)) for pause in pauses]
    for follower in followers:
        follower.start()
    with shmipc.Producer(
        name, capacity=1 << 13, max_consumers=CONSUMERS, overflow="overwrite"
    ) as producer:
        producer.wait_for_consumers(CONSUMERS, timeout=20)
        for number in range(MESSAGES):
            producer.send(b"%032d" % number)
            if number % 50 == 0:
                time.sleep(0.005)  # a feed has pauses; the fast ones keep up with it
    for follower in followers:
        follower.join(20)
        assert follower.exitcode == 0, follower.exitcode


if __name__ == "__main__":
    main()
