"""A producer's views after its close(): their content stays, whatever the process may still do by
then, and whatever a successor writes."""

from __future__ import annotations

import os

import pytest

from helpers import run_clean

# Three committed items of a ring of four that a consumer still has to read, and views of them.
BODY = """
        import resource
        options = dict(dtype="<u4", shape=(64, 64), capacity=4, max_consumers=2)
        producer = Producer("r", **options)
        consumer = Consumer("r", timeout=5)
        views = []
        for number in range(1, 4):
            reservation = producer.reserve()
            views.append(reservation.array[:])
            views[-1][:] = number
            reservation.commit()
        """
# What the process has lost when the producer closes; `restore` gets it what a successor needs.
SPOILS = {
    "nothing": """
        restore = lambda: None
        """,
    "no descriptor left": """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        restore = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        """,
    "privileges dropped": """
        os.seteuid(12345)
        restore = lambda: os.seteuid(0)
        """,
    "its descriptor lost": """
        os.close(max(int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) < 4))
        restore = lambda: None
        """,
}
AFTER = """
        producer.close()
        restore()
        for number, view in enumerate(views, 1):
            assert (view == number).all(), view
        views[0][:] = 77  # reaches nobody
        with consumer:
            assert [int(consumer.recv(5)[0, 0]) for _ in range(3)] == [1, 2, 3]
            with Producer("r", **options) as successor:
                for number in range(100, 120):
                    successor.send(np.full((64, 64), number, "<u4"))
                    assert (consumer.recv(5) == number).all()
        for number, view in zip((77, 2, 3), views, strict=True):
            assert (view == number).all(), view
        """


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_views_keep_their_content_when_their_producer_has_closed(spoil: str) -> None:
    if "seteuid" in spoil and os.geteuid() != 0:
        pytest.skip("only root may drop its privileges and take them back")
    run_clean(BODY + spoil + AFTER)
