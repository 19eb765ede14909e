"""The processor time of a consumer that waits in `recv` for a message that does not come.

    idle.py [--seconds S]

A child process waits; its own user and system time (os.times) before and after the call, over
the time the call took, is its share of a core. The message that ends the wait is compared.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import common


def waiter(name: str) -> None:
    """The child: wait once, report."""
    import shmipc

    common.pin(common.CONSUMER)
    consumer = shmipc.Consumer(name, timeout=10)
    before, then = os.times(), time.monotonic()
    message = consumer.recv()
    after, took = os.times(), time.monotonic() - then
    if message != common.PAYLOADS[0]:
        raise common.Wrong("the message that ended the wait is another one")
    used = after.user - before.user + after.system - before.system
    common.emit(core_percent=100 * used / took, waited_s=took)
    consumer.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    import shmipc

    name = f"idle-{os.getpid()}"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            waiter(name)
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    common.pin(common.PRODUCER)
    producer = shmipc.Producer(name, capacity=1 << 16)
    producer.wait_for_consumers(timeout=10)
    time.sleep(options.seconds)
    producer.send(common.PAYLOADS[0])
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    producer.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
