"""Records without decoding: attributes that read the ring's own memory.

Works for every typed ring of a structured dtype; nothing here is about trading.
"""

import secrets

import numpy as np

import shmipc

READING = np.dtype([("sensor", "S8"), ("celsius", "<f8"), ("ok", "?")])


def main() -> None:
    name = f"records-{secrets.token_hex(4)}"
    Reading = shmipc.record_type(READING, "Reading", text=("sensor",))
    with (
        shmipc.Producer(name, dtype=READING, capacity=64, max_consumers=2) as producer,
        shmipc.Consumer(name) as consumer,
    ):
        producer.send(Reading(sensor="boiler", celsius=71.5, ok=True))
        with consumer.read() as frame:
            reading = Reading(frame)  # no copy: it reads what lies in the ring
            print(reading, "is", "fine" if reading.ok else "broken")
            kept = reading.copy()
        kept.celsius += 1  # a copy is one's own
        print(kept.celsius, reading.released)


if __name__ == "__main__":
    main()
