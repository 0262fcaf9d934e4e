from __future__ import annotations

from node.digests import REST_FACTOR, Digests
from tests.unit.node.fakes import FakeClock
from tests.unit.node.world import World
from tq.protocol import Type


class Slow:
    """A state whose digest takes two seconds."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.index = 1
        self.computed = 0
        self.digests = Digests(
            self.compute, applied_index=lambda: self.index, now_s=self.clock.now_s
        )

    def compute(self) -> bytes:
        self.clock.pass_s(2.0)
        self.computed += 1
        return bytes([self.index]) * 32


def test_after_a_digest_the_node_rests_ten_times_as_long() -> None:
    slow = Slow()
    assert slow.digests.rest_ms() == 0
    assert slow.digests.take() == (1, b"\1" * 32)
    slow.index = 2
    assert slow.digests.rest_ms() == 2000 * REST_FACTOR
    slow.clock.pass_s(19.0)
    assert slow.digests.rest_ms() == 1000
    slow.clock.pass_s(1.0)
    assert slow.digests.rest_ms() == 0
    assert slow.digests.take() == (2, b"\2" * 32)


def test_while_it_rests_the_digest_of_an_unchanged_state_is_known() -> None:
    slow = Slow()
    first = slow.digests.take()
    assert (slow.digests.rest_ms(), slow.digests.take(), slow.computed) == (0, first, 1)


def test_after_the_rest_an_unchanged_state_is_computed_anew() -> None:
    slow = Slow()
    slow.digests.take()
    slow.clock.pass_s(20.0)
    slow.digests.take()
    assert slow.computed == 2


def test_a_digest_asked_for_too_soon_is_refused_with_a_hint() -> None:
    world = World()
    client = world.client()
    real = world.machine.digest

    def slow() -> bytes:
        world.clock.pass_s(0.5)
        return real()

    world.broker.queries._digests._compute = slow
    client.ack(Type.DIGEST)
    client.submit()
    code, _, hint_ms = client.nack(Type.DIGEST)
    assert (code, hint_ms) == ("RATE_LIMITED", 5000)
