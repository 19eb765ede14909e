"""Other code closes our descriptors (os.closerange, daemonising): roles stay, and no descriptor
that reuses their numbers is closed or locked."""

from __future__ import annotations

import os
import signal

import pytest

import shmipc
from helpers import Peer, run_clean, segment_path
from shmipc import Consumer, Producer

AREA = 4096

# a ring of two slots whose producer and consumer have lost their descriptors
LOSE = """
        producer = Producer("r", capacity=4096, max_consumers=2)
        consumer = Consumer("r", timeout=5)
        os.closerange(3, 99)
        """


def test_second_producer_is_busy_after_closerange() -> None:
    run_clean(
        LOSE
        + """
        for _ in range(2):  # the second open may get the number that the first handle had
            try:
                Producer("r", capacity=4096, max_consumers=2)
            except Busy:
                continue
            raise AssertionError("a second producer beside a live one")
        producer.send(b"still mine")
        assert consumer.recv(5) == b"still mine"
        with Consumer("r", timeout=0) as other:
            producer.send(b"two slots")
            assert other.recv(5) == b"two slots"
        try:
            with Consumer("r", timeout=0), Consumer("r", timeout=0):
                raise AssertionError("the first consumer's slot was given away")
        except Busy:
            pass
        consumer.close()
        producer.close()
        with Producer("r", capacity=4096, max_consumers=2):
            pass
        """
    )


@pytest.mark.parametrize("how", ["close", "collect", "fork"])
def test_numbers_that_others_have_now_are_never_closed(how: str) -> None:
    run_clean(
        LOSE
        + """
        import socket, warnings
        theirs = [socket.socketpair() for _ in range(20)]
        if args[0] == "close":
            consumer.close()
            producer.close()
        elif args[0] == "collect":
            warnings.simplefilter("ignore", ResourceWarning)
            del producer, consumer
            gc.collect()
        else:
            child = os.fork()
            if child == 0:
                for one, other in theirs:
                    one.send(b"x")
                    assert other.recv(1) == b"x"
                producer.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            consumer.close()
            producer.close()
        for one, other in theirs:
            one.send(b"x")
            assert other.recv(1) == b"x"
        with Producer("r", capacity=4096, max_consumers=2):
            pass
        """,
        how,
    )


def test_lost_descriptor_is_told_with_its_cause_by_whatever_waits() -> None:
    run_clean(
        LOSE
        + """
        def told(call):
            for _ in range(3):  # again and again
                try:
                    call()
                except Corrupt as error:
                    assert "was closed by other code in this process" in str(error), error
                    assert "open it again" in str(error), error
                else:
                    raise AssertionError("not told")
        told(lambda: consumer.recv(5))
        told(lambda: consumer.recv(0))
        assert wait([consumer], 5) == [consumer]
        producer.send(bytes(2000))
        told(lambda: [producer.send(bytes(2000), timeout=5) for _ in range(2)])
        told(lambda: producer.wait_for_consumers(2))
        consumer.close()
        producer.close()
        with Producer("r", capacity=4096, max_consumers=2) as again, Consumer("r") as reader:
            again.send(b"again")
            assert reader.recv(5) == b"again"
        """
    )


def test_number_that_another_of_our_handles_got_is_known_to_be_lost() -> None:
    run_clean(
        LOSE
        + """
        again = [Consumer("r", timeout=0)]  # the same file: only its number tells them apart
        consumer.close()
        producer.send(b"x")
        assert again[0].recv(5) == b"x"
        again += [Consumer("r", timeout=0)]
        producer.close()
        for reader in again:
            try:
                while True:
                    reader.recv(5)
            except Closed:
                reader.close()
        assert os.listdir(os.environ["SHMIPC_DIR"]) == []
        """
    )


def test_close_of_a_producer_without_its_descriptor_ends_the_stream() -> None:
    body = """
        producer = Producer("r", capacity=4096)
        producer.wait_for_consumers(timeout=20)
        producer.send(b"last")
        os.closerange(3, 99)
        say("ready")
        hear()
        producer.close()
        say("closed")
        hear()
        """
    with Peer(body) as peer, Consumer("r", timeout=20) as consumer:
        peer.expect()
        assert consumer.recv(5) == b"last"
        peer.tell()
        with pytest.raises(shmipc.Closed):
            consumer.recv(5)
        peer.expect("closed")
        with Producer("r", capacity=AREA) as successor:  # the role is free, its process alive
            assert successor.stats().took_over


@pytest.mark.parametrize("close", [False, True])
def test_forked_child_does_not_keep_roles_whose_descriptors_were_lost(close: bool) -> None:
    body = """
        producer = Producer("p", capacity=4096)
        consumer = Consumer("q", timeout=20)
        if args[0] == "True":
            os.closerange(3, 99)
        child = os.fork()
        if child == 0:
            say(os.getpid())
            producer.close()
            signal.pause()
            os._exit(0)
        hear()
        """
    with Producer("q", capacity=AREA) as other, Peer(body, close) as peer:
        child = int(peer.hear())
        try:
            with pytest.raises(shmipc.Busy):
                Producer("p", capacity=AREA)
            with pytest.raises(shmipc.Busy):
                Consumer("q", timeout=0)
            peer.kill()
            with Producer("p", capacity=AREA) as producer:
                assert producer.stats().took_over
            with Consumer("q", timeout=0):
                assert other.attached == 1
            os.kill(child, 0)  # it does live
        finally:
            os.kill(child, signal.SIGKILL)


def test_roles_end_with_exec_of_the_process_that_has_them() -> None:
    body = """
        producer = Producer("p", capacity=4096)
        say("ready")
        hear()
        os.execv("/bin/sleep", ["sleep", "60"])
        """
    with Peer(body) as peer:
        peer.expect()
        with pytest.raises(shmipc.Busy):
            Producer("p", capacity=AREA)
        with Consumer("p", timeout=5) as consumer:
            peer.tell()
            with pytest.raises(shmipc.ProducerDied):
                consumer.recv(20)
            assert peer.process.poll() is None
            with Producer("p", capacity=AREA) as producer:
                assert producer.stats().took_over
    assert not segment_path("p").exists()
