"""A snapshot that is in place is not sent again, however its confirmation was lost or late.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

import pytest

from cluster.engine import Engine
from cluster.events import PeerDisconnected, Received
from cluster.interface import Timing
from cluster.messages import SnapshotReply
from cluster.progress import Follower
from tests.support.sim_bench import Bench
from tests.support.stories import Story, name_of


def _installed(engine: type[Engine], *, log_tail_bytes: int = 400) -> Bench:
    """Node 3, once in step with its leader 1, has a snapshot in place and nobody heard of it."""
    timing = Timing(log_tail_bytes=log_tail_bytes, chunk_max_bytes=40, snapshot_stall_s=1.0)
    bench = Bench(engine=engine, timing=timing, checkpoint_entries=4)
    bench.elect(1)
    bench.propose(1, "first")
    bench.settle()
    bench.isolate(3)
    for number in range(40):
        bench.propose(1, f"{number:040}")
        bench.settle()
    bench.heal()
    bench.reconnect(3, 1)
    bench.settle(until=lambda: bench.engines[3].snapshots_installed == 1)
    return bench


def snapshot_in_place_is_not_sent_again(engine: type[Engine]) -> None:
    """Its answer was lost with the link: the leader's loop heard nothing while it was loaded."""
    bench = _installed(engine)
    assert 0 < bench.engines[1].followers[3].match < bench.engines[1].log.base_index
    bench.isolate(3)
    for number in range(4):  # a newer checkpoint, and a log that goes back behind the older one
        bench.propose(1, f"later {number}")
        bench.settle()
    bench.heal()
    bench.reconnect(3, 1)
    bench.advance(0.5)
    assert bench.entries(3) == bench.entries(1)
    assert bench.engines[3].snapshots_installed == 1


class BelievesOldConfirmations(Engine):
    """What a follower confirmed long ago is all that it can hold."""

    def look_again(self, follower: Follower) -> None:
        super().look_again(follower)
        if follower.match:
            follower.start_probing(follower.match + 1, self.sequence)


def install_confirmed_after_it_was_given_up_counts(engine: type[Engine]) -> None:
    """The sync of the whole took longer than a leader waits, and another is on its way."""
    bench = _installed(engine)
    leader = bench.engines[1]
    bench.stuck_disks = {3}
    for number in range(4):  # a newer checkpoint
        bench.propose(1, f"later {number}")
        bench.settle()
    first = leader.followers[3].snapshot
    assert first is not None
    bench.advance(1.3)
    second = leader.followers[3].snapshot
    assert second is not None
    assert first.index < second.index
    bench.stuck_disks = set()
    bench.advance(0.5)
    assert bench.entries(3) == bench.entries(1)
    assert bench.engines[3].snapshots_installed == 1


class HearsOfThePresentOne(Engine):
    """What is said of a snapshot that was given up is old news."""

    def on_snapshot_reply(self, peer: int, message: SnapshotReply) -> None:
        outgoing = self.followers[peer].snapshot
        if outgoing is not None and message.snapshot_id == outgoing.snapshot_id:
            super().on_snapshot_reply(peer, message)


def late_confirmation_from_behind_the_log_ends_no_newer_snapshot(engine: type[Engine]) -> None:
    bench = _installed(engine)
    leader = bench.engines[1]
    outgoing = leader.followers[3].snapshot
    assert outgoing is not None
    late = SnapshotReply(leader.term, 1, outgoing.snapshot_id - 1, 0, leader.log.base_index, False)
    bench.step(1, Received(3, late))
    assert leader.followers[3].snapshot is outgoing


class FinishesByAnyConfirmation(Engine):
    """An install is in place whatever is left of the log behind it."""

    def on_snapshot_reply(self, peer: int, message: SnapshotReply) -> None:
        outgoing = self.followers[peer].snapshot
        if outgoing is not None and message.next_index:
            message = message._replace(snapshot_id=outgoing.snapshot_id)
        super().on_snapshot_reply(peer, message)


def _parted(engine: type[Engine]) -> Bench:
    """The same, and the link is given up; nothing of the log is kept for those who only lag."""
    bench = _installed(engine, log_tail_bytes=0)
    bench.isolate(3)
    bench.step(1, PeerDisconnected(3))
    for number in range(12):
        bench.propose(1, f"later {number}")
        bench.settle()
    return bench


def log_behind_a_snapshot_is_kept_until_its_link_is_back(engine: type[Engine]) -> None:
    """Or under load the next snapshot meets with the same, and so on."""
    bench = _parted(engine)
    bench.heal()
    bench.reconnect(3, 1)
    bench.advance(0.5)
    assert bench.entries(3) == bench.entries(1)
    assert bench.engines[3].snapshots_installed == 1


class LetsGoWithTheLink(Engine):
    """What a node lacks is kept while it is connected."""

    def is_awaited(self, follower: Follower) -> bool:
        return follower.catching_up and follower.connected


def log_is_not_kept_for_who_stays_away(engine: type[Engine]) -> None:
    bench = _parted(engine)
    assert bench.engines[1].log.base_index < bench.engines[2].log.base_index
    bench.advance(1.0)
    for number in range(4):
        bench.propose(1, f"even later {number}")
        bench.settle()
    assert bench.engines[1].log.base_index == bench.engines[2].log.base_index


class WaitsForEver(Engine):
    """What a node lacks is kept for it until it is back."""

    def is_awaited(self, follower: Follower) -> bool:
        return follower.catching_up


STORIES: list[tuple[Story, type[Engine]]] = [
    (log_behind_a_snapshot_is_kept_until_its_link_is_back, LetsGoWithTheLink),
    (log_is_not_kept_for_who_stays_away, WaitsForEver),
    (snapshot_in_place_is_not_sent_again, BelievesOldConfirmations),
    (install_confirmed_after_it_was_given_up_counts, HearsOfThePresentOne),
    (late_confirmation_from_behind_the_log_ends_no_newer_snapshot, FinishesByAnyConfirmation),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)
