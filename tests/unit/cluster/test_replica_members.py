"""Members that come and go among whole replicas: real sockets, real databases, one process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial

import pytest

from cluster.configuration import AddLearner, Change, ChangeRefusal, Promote, Remove
from cluster.faults import DiskDamagedError, RemovedError
from cluster.identity import Identity
from cluster.interface import Timing
from cluster.recovery import Storage
from tests.support.peer_counter import Cluster, Member
from tests.support.ports import free_ports

MakeCluster = Callable[..., Cluster]
PASSING = {
    *("NOT_LEADER", "HANDING_OVER", "NOT_SETTLED", "CHANGE_UNDER_WAY", "NOT_CAUGHT_UP"),
    "QUORUM_AT_RISK",
}
"""Refusals of a leader that is new, about to go, or waits for somebody."""
QUICK = Timing(election_min_s=0.3, election_max_s=0.6, heartbeat_s=0.05, log_tail_bytes=200)


async def changed(cluster: Cluster, change: Change) -> int:
    """Have a change made at whoever leads; ask again as long as it is told to wait."""
    while True:
        index, refusal = await asked(cluster, await cluster.leader(), change)
        if refusal is None:
            return index
        assert refusal in PASSING, refusal


async def asked(
    cluster: Cluster, member: Member, change: Change
) -> tuple[int, ChangeRefusal | None]:
    context = object()
    member.live.change_members(change, context)
    await cluster.until(partial(member.heard.changes.get, context), f"an answer to {change}")
    return member.heard.changes[context]


def newcomer(cluster: Cluster, node_id: int) -> Member:
    """A member that joins: it knows the others and itself, nobody knows it."""
    [port] = free_ports(1)
    member = Member(cluster, node_id)
    member.joins = {**cluster.addresses, node_id: ("127.0.0.1", port)}
    cluster.members.append(member)
    return member


async def let_in(cluster: Cluster, node_id: int) -> Member:
    member = newcomer(cluster, node_id)
    await member.start()
    await changed(cluster, AddLearner(node_id, member.joins[node_id]))
    await changed(cluster, Promote(node_id))
    return member


async def test_a_node_that_joins_waits_until_it_is_added_and_then_follows(
    make_cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(5)
    four = newcomer(cluster, 4)
    await four.start()
    host, port = four.joins[4]
    assert f"run `tq-admin cluster add 4 {host}:{port}`" in caplog.text
    await cluster.until(lambda: "node 4 is not a member yet" in caplog.text, "the refusal")
    assert (four.status.voters, four.status.role) == ((), "follower")

    await changed(cluster, AddLearner(4, four.joins[4]))
    await cluster.agree()
    assert (four.status.voters, four.status.learners) == ((1, 2, 3), (4,))
    index = await changed(cluster, Promote(4))
    await cluster.until(lambda: {m.status.voters for m in cluster.members} == {(1, 2, 3, 4)})
    assert four.heard.configurations[-1][0] == index
    await cluster.submit(5)
    await cluster.agree()
    await cluster.until(lambda: not four.amnesiac, "the end of its amnesia")


async def test_a_single_node_grows_and_the_newcomer_is_amnesiac_before_it_says_who_it_is(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(size=1)
    await cluster.start()
    await cluster.submit(3)
    recorded: list[tuple[int, bool]] = []
    record = Storage.record

    def watched(storage: Storage, identity: Identity) -> None:
        recorded.append((identity.node_id, storage.amnesiac))
        record(storage, identity)

    monkeypatch.setattr(Storage, "record", watched)
    two = await let_in(cluster, 2)
    assert recorded[0] == (2, True)
    await cluster.agree()
    assert two.status.voters == (1, 2)


async def test_a_single_node_that_grew_is_filled_up_when_its_database_is_damaged(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(size=1)
    await cluster.start()
    await cluster.submit(3)
    for node_id in (2, 3):
        await let_in(cluster, node_id)
    await cluster.submit(3)
    await cluster.agree()
    first = cluster.members[0]
    await cluster.until(lambda: voters_recorded(first) == (1, 2, 3), "a record of the voters")
    await first.stop()
    (first.directory / "db" / "CURRENT").write_text("junk\n")
    await first.start()
    assert first.amnesiac
    await cluster.until(lambda: not first.amnesiac, "the end of amnesia")
    await cluster.agree()


async def test_the_last_voter_of_a_cluster_that_shrank_keeps_its_damaged_copy(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(3)
    last = await cluster.leader()
    for member in [one for one in cluster.members if one is not last]:
        await changed(cluster, Remove(member.node_id))
        await cluster.until(partial(getattr, member.heard, "removed_at"), "news of its removal")
        await member.stop()
    await cluster.until(
        lambda: voters_recorded(last) == (last.node_id,), "a record of the only voter"
    )
    await last.stop()
    (last.directory / "db" / "CURRENT").write_text("junk\n")
    with pytest.raises(DiskDamagedError, match="a single node has no copy elsewhere"):
        await last.start()
    assert not (last.directory / "quarantine").exists()


def voters_recorded(member: Member) -> tuple[int, ...]:
    """The voters as the directory knows them without the database."""
    return Identity.from_bytes((member.directory / "identity").read_bytes()).latest_voters


async def test_a_learner_comes_in_by_a_snapshot_with_the_members_as_of_its_index(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    cluster.timing = QUICK
    await cluster.start()
    await cluster.submit(60)
    four = await let_in(cluster, 4)
    await cluster.agree()
    assert four.status.snapshots_installed == 1
    assert four.status.voters == (1, 2, 3, 4)
    four.kill()
    await four.start()
    await cluster.submit(5)
    await cluster.agree()
    assert four.status.voters == (1, 2, 3, 4)


async def test_a_removed_node_hears_of_it_and_never_starts_again(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(3)
    leader = await cluster.leader()
    gone = next(member for member in cluster.members if member is not leader)
    index = await changed(cluster, Remove(gone.node_id))
    await cluster.until(lambda: gone.heard.removed_at is not None, "word of its removal")
    assert gone.heard.removed_at == index
    await gone.stop()
    with pytest.raises(RemovedError, match=f"was removed from cluster .* at entry {index}"):
        await gone.start()
    await cluster.submit(3)
    await cluster.agree()


async def test_a_removed_leader_hands_over_first(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    await cluster.start()
    leader = await cluster.leader()
    await cluster.submit(1)
    await cluster.until(lambda: all(peer.lag == 0 for peer in leader.status.peers.values()))
    _, refusal = await asked(cluster, leader, Remove(leader.node_id))
    assert refusal == "HANDING_OVER"
    await changed(cluster, Remove(leader.node_id))
    await cluster.until(lambda: leader.heard.removed_at, "word of its removal")
    await leader.stop()
    await cluster.submit(3)
    await cluster.agree()


@pytest.mark.parametrize("node_id", [1, 3])
async def test_a_node_that_was_down_when_it_was_removed_learns_it_when_it_comes_back(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch, node_id: int
) -> None:
    """Whether it dials the others, or is to be dialled by them."""
    monkeypatch.setattr("cluster.membership.DEPARTURE_S", 0.0)
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(3)
    gone = cluster.members[node_id - 1]
    gone.kill()
    index = await changed(cluster, Remove(node_id))
    await cluster.submit(3)
    for member in cluster.up:
        reached = partial(getattr, member.live._transport, "_addresses")
        await cluster.until(lambda reached=reached: node_id not in reached(), "its departure")  # type: ignore[misc]
    await gone.start()
    await cluster.until(lambda: gone.heard.removed_at, "word of its removal")
    assert gone.heard.removed_at == index


@pytest.mark.parametrize("votes", [True, False], ids=["voter", "learner"])
async def test_a_node_that_was_down_when_it_was_removed_need_not_know_how_it_came_to_learn_it(
    make_cluster: MakeCluster, *, votes: bool
) -> None:
    """The entry that let it in is in its log, and no checkpoint says that it is committed."""
    cluster = make_cluster(checkpoint_every=1000)
    await cluster.start()
    await cluster.submit(3)
    four = newcomer(cluster, 4)
    await four.start()
    await changed(cluster, AddLearner(4, four.joins[4]))
    if votes:
        await changed(cluster, Promote(4))
    await cluster.submit(3)
    await cluster.agree()
    await cluster.until(lambda: not four.amnesiac, "the end of its amnesia")
    four.kill()
    index = await changed(cluster, Remove(4))
    await four.start()
    await cluster.until(lambda: four.heard.removed_at, "word of its removal")
    assert four.heard.removed_at == index


async def test_a_node_that_was_away_while_all_others_were_replaced_finds_them(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    cluster.timing = QUICK
    await cluster.start()
    await cluster.submit(3)
    [one, two, three] = cluster.members
    one.kill()
    for newer, older in ((4, two), (5, three)):
        await let_in(cluster, newer)
        await changed(cluster, Remove(older.node_id))
        await cluster.until(lambda m=older: m.heard.removed_at, "its removal")  # type: ignore[misc]
        await older.stop()
    await one.start()
    await cluster.submit(3)
    await cluster.agree()
    assert one.status.voters == (1, 4, 5)


async def test_a_lost_disk_is_replaced_by_a_node_with_another_number(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(20)
    leader = await cluster.leader()
    dead = next(member for member in cluster.members if member is not leader)
    dead.kill()
    shutil.rmtree(dead.directory)
    await changed(cluster, Remove(dead.node_id))
    four = await let_in(cluster, 4)
    await cluster.submit(5)
    await cluster.agree()
    assert len(four.status.voters) == 3


async def test_after_the_founding_the_list_of_peers_may_differ(
    make_cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(3)
    await cluster.close()
    cluster.members[1].listed = (2, 3)
    await cluster.start()
    await cluster.submit(3)
    await cluster.agree()
    assert "names nodes 2, 3, the members of the cluster are 1, 2, 3" in caplog.text
    assert {member.status.voters for member in cluster.members} == {(1, 2, 3)}


async def test_a_change_asked_of_a_follower_or_before_the_start_is_refused_once(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    lonely = cluster.members[0]
    await lonely.start()
    assert await asked(cluster, lonely, Promote(9)) == (0, "NOT_LEADER")
    for member in cluster.members[1:]:
        await member.start()
    leader = await cluster.leader()
    follower = next(member for member in cluster.members if member is not leader)
    _, refusal = await asked(cluster, follower, Promote(9))
    assert refusal == "NOT_LEADER"
