"""Joining, leaving, dying and coming back: real processes on both sides."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from desk import Engine, Quiet, accepted, discard_rings, filled, order_of, strategy_peer, tick
from helpers import DEADLINE, Peer, eventually, in_thread, segment_path
from shmipc import Busy, NotFound
from shmipc.trading.events import OrderStatus
from shmipc.trading.strategy import BaseStrategy

# an engine in another process, so that it can be killed
ENGINE = """
    import desk
    engine = desk.Engine("engine", **eval(args[0] if args else "{}"))
    engine.register_strategy("s")
    say("ready")
    while True:
        words = hear().split()
        if words[0] == "connected":
            engine.connected()
        elif words[0] == "tick":
            engine.broadcast_event(desk.tick(sequence=int(words[1])))
        elif words[0] == "flood":
            for number in range(int(words[1])):
                engine.broadcast_event(desk.tick(sequence=number))
        elif words[0] in ("orders", "first-orders"):
            more = words[0] == "first-orders"
            for who, order in engine.expect_orders(int(words[1]), more=more):
                say("got", order.client_order_id)
        elif words[0] == "report":
            engine.report("s", desk.accepted(desk.order_of(client_order_id=int(words[1]))))
        elif words[0] == "filled":
            order = desk.order_of(client_order_id=int(words[1]))
            engine.report("s", desk.accepted(order, desk.OrderStatus.FILLED))
        elif words[0] == "drain":
            assert engine.drain(20)
        elif words[0] == "quit":
            break
        say("ok")
    engine.close()
    say("closed")
    """


def tell(engine: Peer, line: str) -> None:
    engine.tell(line)
    engine.expect("ok")


class TestMeeting:
    def test_strategy_first(self) -> None:
        with strategy_peer("Teller", "s") as peer:
            eventually(lambda: peer.process.poll() is None)
            with Engine() as engine:
                engine.register_strategy("s")
                engine.connected("s")
                engine.broadcast_event(tick(sequence=5))
                for line in ("connected", "start 0 0", "tick 5"):
                    peer.expect(line)
                engine.until(lambda: engine.drain(0))
            for line in ("disconnected", "stop", "done"):
                peer.expect(line)
            peer.finish()

    def test_engine_first(self) -> None:
        with Engine() as engine:
            engine.register_strategy("s")
            assert engine.state("s") == "registered"
            with strategy_peer("Teller", "s") as peer:
                engine.connected("s")
                assert engine.state("s") == "connected"
                assert engine.list_strategies()[0].pid == peer.pid
                engine.broadcast_event(tick(sequence=5))
                for line in ("connected", "start 0 0", "tick 5"):
                    peer.expect(line)
                peer.process.send_signal(signal.SIGTERM)
                peer.expect("stop")
                peer.expect("done")
                peer.finish()
                engine.until(lambda: engine.state("s") == "stopped")

    def test_registered_while_the_strategy_waits(self) -> None:
        with Engine() as engine, strategy_peer("Teller", "s") as peer:
            engine.until(lambda: not segment_path("engine.s.orders").exists(), timeout=1)
            engine.register_strategy("s")
            engine.connected("s")
            peer.expect("connected")
            peer.process.send_signal(signal.SIGINT)
            peer.expect("start 0 0")
            peer.expect("stop")
            peer.expect("done")
            peer.finish()

    def test_several_strategies_come_and_go_while_events_flow(self) -> None:
        with Engine() as engine:
            for name in ("a", "b", "c"):
                engine.register_strategy(name)
            with strategy_peer("Echo", "a") as a:
                engine.connected("a")
                engine.broadcast_event(tick(sequence=1))
                assert [who for who, _ in engine.expect_orders(1)] == ["a"]
                with strategy_peer("Echo", "b"), strategy_peer("Echo", "c") as c:
                    engine.connected("b", "c")
                    engine.broadcast_event(tick(sequence=2))
                    assert sorted(who for who, _ in engine.expect_orders(3)) == ["a", "b", "c"]
                    c.process.send_signal(signal.SIGTERM)
                    c.process.wait(DEADLINE)
                    engine.until(lambda: engine.state("c") == "stopped")
                    engine.broadcast_event(tick(sequence=3))
                    assert sorted(who for who, _ in engine.expect_orders(2)) == ["a", "b"]
                engine.until(lambda: engine.state("b") == "disconnected")
                engine.broadcast_event(tick(sequence=4))
                assert [who for who, _ in engine.expect_orders(1)] == ["a"]
                a.process.send_signal(signal.SIGTERM)
                a.process.wait(DEADLINE)


class TestNobodyThere:
    def test_no_engine(self) -> None:
        with pytest.raises(NotFound, match="no engine 'engine'"):
            Quiet("s").run(timeout=0.2)

    def test_not_registered(self) -> None:
        with Engine() as engine:
            engine.register_strategy("other")
            with pytest.raises(NotFound, match=r"'s' is not\s+registered"):
                Quiet("s").run(timeout=0.2)

    def test_an_engine_that_does_not_listen(self) -> None:
        with Engine() as engine:
            engine.register_strategy("s")
            with pytest.raises(NotFound, match="does not answer"):
                Quiet("s").run(timeout=0.3)

    def test_a_second_process_under_the_same_id(self) -> None:
        with Engine() as engine, strategy_peer("Quiet", "s") as peer:
            engine.register_strategy("s")
            engine.connected("s")
            with pytest.raises(Busy, match=str(peer.pid)):
                Quiet("s").run(timeout=DEADLINE)
            engine.broadcast_event(tick())
            assert engine.drain(DEADLINE)
            assert engine.state("s") == "connected"


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_well_while_it_looks_for_an_engine(self, number: int) -> None:
        with strategy_peer("Quiet", "s", run="timeout=None") as peer:
            assert peer.process.stdout is not None
            eventually(lambda: _has_handler(peer.pid, signal.SIGTERM))
            peer.process.send_signal(number)
            peer.expect("done")
            peer.finish()

    def test_handlers_are_put_back(self) -> None:
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        with pytest.raises(NotFound):
            Quiet("s").run(timeout=0.0)
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

    def test_stop_from_a_callback_and_from_a_thread(self) -> None:
        class Stops(BaseStrategy):
            def on_tick(self, tick: Any) -> None:
                self.stop()

        with Engine() as engine:
            engine.register_strategy("s")
            for stop_by_tick in (True, False):
                strategy = Stops("s")
                join = in_thread(lambda strategy=strategy: strategy.run(timeout=DEADLINE))
                engine.connected("s")
                if stop_by_tick:
                    engine.broadcast_event(tick())
                else:
                    strategy.stop()
                join()
                engine.until(lambda: engine.state("s") == "stopped")

    def test_it_can_be_run_again(self) -> None:
        with Engine() as engine:
            engine.register_strategy("s")
            strategy = Quiet("s")
            for _ in range(2):
                join = in_thread(lambda: strategy.run(timeout=DEADLINE))
                engine.connected("s")
                strategy.stop()
                join()
                engine.until(lambda: engine.state("s") == "stopped")

    def test_orders_of_on_stop_arrive(self) -> None:
        class Closes(BaseStrategy):
            def on_stop(self) -> None:
                self.sell("BTCUSDT", 1.0)

        with Engine() as engine:
            engine.register_strategy("s")
            strategy = Closes("s")
            join = in_thread(lambda: strategy.run(timeout=DEADLINE))
            engine.connected("s")
            strategy.stop()
            join()
            assert engine.expect_orders(1)[0][1].side == -1

    def test_the_cpu_is_pinned_and_given_back(self) -> None:
        class Looks(BaseStrategy):
            found: Any = None

            def on_start(self) -> None:
                self.found = os.sched_getaffinity(0)
                self.stop()

        before = os.sched_getaffinity(0)
        cpu = max(before)
        with Engine() as engine:
            engine.register_strategy("s")
            strategy = Looks("s")
            serve = in_thread(lambda: engine.connected("s"))
            strategy.run(cpu=cpu, timeout=DEADLINE)
            serve()
        assert strategy.found == {cpu}
        assert os.sched_getaffinity(0) == before

    def test_one_that_was_not_heard_leaves_nothing_behind(self) -> None:
        with Peer(ENGINE) as engine:
            engine.expect()
            with pytest.raises(NotFound, match="does not answer"):
                Quiet("s").run(timeout=0.2)
            assert not segment_path("engine.s.orders").exists()
            engine.kill()
        discard_rings("engine", "s")
        _remove_events()

    def test_without_an_engine_it_leaves_its_orders_but_nothing_else(self) -> None:
        for order in (False, True):
            with strategy_peer("KeepsOrdering" if order else "Teller", "s") as peer:
                with Peer(ENGINE) as engine:
                    engine.expect()
                    tell(engine, "connected")
                    peer.expect("connected")
                    engine.kill()
                while peer.hear() != "disconnected":
                    pass
                peer.process.send_signal(signal.SIGTERM)
                while peer.hear() != "done":
                    pass
                peer.finish()
            assert segment_path("engine.s.orders").exists() == order
            discard_rings("engine", "s")
            _remove_events()

    def test_unregistered_while_it_runs(self) -> None:
        with Engine() as engine, strategy_peer("Teller", "s") as peer:
            engine.register_strategy("s")
            engine.connected("s")
            engine.unregister_strategy("s")
            for line in ("connected", "start 0 0", "disconnected", "stop", "done"):
                peer.expect(line)
            peer.finish()


class TestDeath:
    def test_reports_that_were_unread_at_a_kill_are_delivered(self) -> None:
        with Engine() as engine:
            engine.register_strategy("s")
            with strategy_peer("EchoTeller", "s") as peer:
                engine.connected("s")
                engine.broadcast_event(tick(sequence=11))
                [(_, order)] = engine.expect_orders(1)
                for line in ("connected", "start 0 0", "tick 11"):
                    peer.expect(line)
                peer.kill()
            engine.report("s", accepted(order))
            engine.until(lambda: engine.state("s") == "disconnected")
            engine.report("s", accepted(order, OrderStatus.FILLED))
            engine.report("s", filled(order))
            with strategy_peer("EchoTeller", "s") as peer:
                engine.connected("s")
                lines = ("connected", "start 0 1", "order 11 ACCEPTED", "order 11 FILLED")
                for line in (*lines, "trade 11 1.0"):
                    peer.expect(line)
                engine.broadcast_event(tick(sequence=12))
                peer.expect("tick 12")
                assert engine.expect_orders(1)[0][1].client_order_id == 12
                assert engine.drain(DEADLINE)

    def test_reports_that_a_run_did_not_come_to_are_delivered_by_the_next(self) -> None:
        class Fails(BaseStrategy):
            fail_at = ""
            heard: tuple[int, ...] = ()

            def on_start(self) -> None:
                if self.fail_at == "start":
                    raise LookupError

            def on_order(self, order: Any) -> None:
                self.heard += (order.client_order_id,)
                if self.fail_at == "order":
                    raise LookupError
                if len(self.heard) == 2:
                    self.stop()

        with Engine() as engine:
            engine.register_strategy("s")
            for number in (1, 2, 3):
                engine.report("s", accepted(order_of(client_order_id=number)))
            for fail_at, heard in (("start", ()), ("order", (1,)), ("", (2, 3))):
                strategy = Fails("s", fail_at=fail_at)
                serve = in_thread(engine.connected)
                if fail_at:
                    with pytest.raises(LookupError):
                        strategy.run(timeout=DEADLINE)
                else:
                    strategy.run(timeout=DEADLINE)
                serve()
                assert strategy.heard == heard
                engine.until(lambda: engine.state("s") == "stopped")

    def test_kill_after_kill_no_order_is_lost_or_doubled(self) -> None:
        with Engine() as engine:
            engine.register_strategy("s")
            number = 0
            for _ in range(5):
                with strategy_peer("Echo", "s") as peer:
                    engine.connected("s")
                    for _ in range(20):
                        number += 1
                        engine.broadcast_event(tick(sequence=number))
                    ids = [order.client_order_id for _, order in engine.expect_orders(20)]
                    assert ids == list(range(number - 19, number + 1))
                    peer.kill()
                engine.until(lambda: engine.state("s") == "disconnected")

    def test_a_ring_full_of_unread_reports_keeps_nobody_from_joining(self) -> None:
        with Engine(report_capacity=4096) as engine:
            engine.register_strategy("s")
            for number in range(1, 101):
                engine.report("s", accepted(order_of(client_order_id=number)))
            assert engine.list_strategies()[0].waiting_reports > 0
            with strategy_peer("Teller", "s") as peer:
                engine.connected("s")
                said = in_thread(lambda: [peer.hear() for _ in range(102)])
                assert engine.drain(DEADLINE)
                lines = [f"order {number} ACCEPTED" for number in range(1, 101)]
                assert said() == ["connected", "start 100 0", *lines]

    def test_a_killed_engine_is_joined_again_when_it_is_back(self) -> None:
        with strategy_peer("EchoTeller", "s") as peer:
            with Peer(ENGINE) as engine:
                engine.expect()
                tell(engine, "connected")
                tell(engine, "tick 1")
                for line in ("connected", "start 0 0", "tick 1"):
                    peer.expect(line)
                engine.kill()
            peer.expect("disconnected")
            with Peer(ENGINE) as engine:
                engine.expect()
                engine.tell("orders 1")  # the one that the dead engine did not take
                engine.expect("got 1")
                engine.expect("ok")
                tell(engine, "connected")
                peer.expect("connected")
                tell(engine, "tick 2")
                peer.expect("tick 2")
                engine.tell("orders 1")
                engine.expect("got 2")
                engine.expect("ok")
                tell(engine, "drain")
                engine.tell("quit")
                engine.expect("closed")
            for line in ("disconnected", "stop", "done"):
                peer.expect(line)
            peer.finish()

    @pytest.mark.parametrize("told", [False, True])
    def test_an_order_that_the_new_engine_does_not_know_is_closed_once(self, told: bool) -> None:
        with strategy_peer("EchoTeller", "s") as peer:
            with Peer(ENGINE) as engine:
                engine.expect()
                tell(engine, "connected")
                tell(engine, "tick 1")
                engine.tell("orders 1")
                for line in ("got 1", "ok"):
                    engine.expect(line)
                engine.kill()
            for line in ("connected", "start 0 0", "tick 1", "disconnected"):
                peer.expect(line)
            with Peer(ENGINE) as engine:
                engine.expect()
                if told:  # what became of it is reported before the strategy is back
                    tell(engine, "filled 1")
                tell(engine, "connected")
                peer.expect("connected")
                peer.expect("order 1 FILLED" if told else "order 1 EXPIRED")
                tell(engine, "tick 2")
                peer.expect("tick 2")
                engine.tell("orders 1")
                for line in ("got 2", "ok"):
                    engine.expect(line)
                tell(engine, "drain")
                engine.tell("quit")
                engine.expect("closed")
            while peer.hear() != "done":
                pass

    def test_orders_sent_while_the_engine_is_away_arrive_once(self) -> None:
        with strategy_peer("KeepsOrdering", "s") as peer:
            with Peer(ENGINE) as engine:
                engine.expect()
                tell(engine, "connected")
                peer.expect("connected")
                engine.tell("first-orders 2")
                for line in ("got 1", "got 2", "ok"):
                    engine.expect(line)
                engine.kill()
            said = []
            while "disconnected" not in said:
                said.append(peer.hear())
            for _ in range(10):
                said.append(peer.hear())
            with Peer(ENGINE) as engine:
                engine.expect()
                engine.tell("first-orders 40")
                got = [engine.hear() for _ in range(40)]
                engine.expect("ok")
                first = int(got[0].split()[1])
                assert got == [f"got {number}" for number in range(first, first + 40)]
                assert first == 3, "the dead engine took two, and every other one is here"
                peer.process.send_signal(signal.SIGTERM)
                while peer.hear() != "done":
                    pass
                peer.finish()
                engine.kill()
        discard_rings("engine", "s")
        _remove_events()

    def test_a_quick_new_engine_is_noticed_although_nobody_saw_the_old_one_die(self) -> None:
        """The new engine takes the rings over before the strategy looks."""
        with strategy_peer("Teller", "s") as peer:
            with Peer(ENGINE) as engine:
                engine.expect()
                tell(engine, "connected")
                for line in ("connected", "start 0 0"):
                    peer.expect(line)
                os.kill(peer.pid, signal.SIGSTOP)
                tell(engine, "tick 1")
                engine.kill()
            with Peer(ENGINE) as engine:
                engine.expect()
                os.kill(peer.pid, signal.SIGCONT)
                peer.expect("tick 1")
                peer.expect("disconnected")
                tell(engine, "connected")
                peer.expect("connected")
                tell(engine, "tick 2")
                peer.expect("tick 2")
                tell(engine, "drain")
                engine.tell("quit")
                engine.expect("closed")
            for line in ("disconnected", "stop", "done"):
                peer.expect(line)
            peer.finish()

    def test_it_is_noticed_where_the_news_of_it_was_overwritten(self) -> None:
        options = "{'slow': 'overwrite', 'capacity': 1 << 16}"
        with strategy_peer("Teller", "s") as peer:
            with Peer(ENGINE, options) as engine:
                engine.expect()
                tell(engine, "connected")
                for line in ("connected", "start 0 0"):
                    peer.expect(line)
                os.kill(peer.pid, signal.SIGSTOP)
                engine.kill()
            with Peer(ENGINE, options) as engine:
                engine.expect()
                tell(engine, "flood 2000")
                os.kill(peer.pid, signal.SIGCONT)
                while peer.hear() != "disconnected":
                    pass
                tell(engine, "connected")
                peer.expect("connected")
                engine.tell("quit")
                engine.expect("closed")
            while peer.hear() != "done":
                pass
            peer.finish()

    def test_events_before_the_end_are_all_read(self) -> None:
        """An engine that closes, or dies, after a burst: each of its events arrives."""
        for end in ("quit", "kill"):
            with strategy_peer("Teller", "s") as peer, Peer(ENGINE) as engine:
                engine.expect()
                tell(engine, "connected")
                for line in ("connected", "start 0 0"):
                    peer.expect(line)
                os.kill(peer.pid, signal.SIGSTOP)
                for number in range(50):
                    tell(engine, f"tick {number}")
                tell(engine, "report 9")
                if end == "quit":
                    engine.tell("quit")
                    engine.expect("closed")
                else:
                    engine.kill()
                os.kill(peer.pid, signal.SIGCONT)
                said = set()
                while "disconnected" not in said:
                    said.add(peer.hear())
                assert said >= {f"tick {number}" for number in range(50)}
                assert "order 9 ACCEPTED" in said
                if end == "quit":
                    peer.expect("stop")
                    peer.expect("done")
                else:
                    peer.kill()
        discard_rings("engine", "s")
        _remove_events()


def test_a_joining_strategy_never_holds_a_full_engine_up() -> None:
    """It is attached, but its HELLO is not read while the engine broadcasts, more than fits."""
    with Engine(capacity=1 << 16) as engine:
        engine.register_strategy("s")
        with strategy_peer("Quiet", "s") as peer:
            eventually(lambda: bool(engine._broadcast.ring.lags()))
            for number in range(20_000):
                engine.broadcast_event(tick(sequence=number), timeout=DEADLINE)
            engine.connected("s")
            engine.broadcast_event(tick(sequence=1))
            assert engine.drain(DEADLINE)
            peer.process.send_signal(signal.SIGTERM)
            peer.expect("done")


def test_a_snapshot_that_does_not_fit_arrives_although_the_engine_only_broadcasts() -> None:
    with Engine(capacity=1 << 16, report_capacity=4096) as engine:
        for number in range(500):
            engine.broadcast_event(tick(f"S{number}"))
        engine.register_strategy("s")
        with strategy_peer("Teller", "s") as peer:
            engine.connected("s")  # it was welcomed: the snapshot waits in the engine
            for number in range(2000):
                engine.broadcast_event(tick("S1", sequence=number), timeout=DEADLINE)
            said = [peer.hear() for _ in range(2002)]
            assert said == ["connected", "start 0 500", *(f"tick {n}" for n in range(2000))]
            peer.process.send_signal(signal.SIGTERM)
            peer.expect("stop")


def _has_handler(pid: int, number: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        caught = next(line for line in status if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _remove_events() -> None:
    from shmipc import _core

    path = segment_path("engine.events")
    if path.exists():
        assert _core.clean_segment(path) == "removed"
