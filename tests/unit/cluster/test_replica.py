"""Whole replicas: real sockets, real databases, one process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from cluster.disk import RocksDisk
from cluster.faults import (
    AddressError,
    DiskFailedError,
)
from cluster.interface import Timing
from cluster.messages import PreVote
from cluster.replica import Replica, ReplicaConfig
from cluster.ticker import Ticker
from tests.support.peer_counter import FAMILY, Cluster, CounterMachine, Member, Recorder
from tests.support.peer_raw import Handler, make_transport
from tests.support.ports import free_ports

MakeCluster = Callable[..., Cluster]


async def test_three_nodes_elect_one_leader_and_commit_everywhere(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(25)
    await cluster.agree()
    assert len(cluster.leaders()) == 1
    ids = {member.status.cluster_id for member in cluster.members}
    assert len(ids) == 1
    assert len(ids.pop()) == 16


async def test_a_killed_leader_is_replaced_and_catches_up_by_the_log(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(5)
    killed = await cluster.leader()
    killed.kill()
    await cluster.submit(7)
    await killed.start()
    await cluster.agree()
    assert killed.status.snapshots_installed == 0
    assert not killed.amnesiac
    await cluster.submit(3)
    await cluster.agree()


async def test_a_node_whose_log_was_cut_comes_back_by_a_snapshot(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.timing = Timing(
        election_min_s=0.3, election_max_s=0.6, heartbeat_s=0.05, log_tail_bytes=100
    )
    await cluster.start()
    await cluster.submit(5)
    leader = await cluster.leader()
    killed = next(member for member in cluster.members if member is not leader)
    killed.kill()
    await cluster.submit(100)
    await killed.start()
    await cluster.agree()
    assert killed.status.snapshots_installed == 1
    await cluster.submit(5)
    killed.kill()
    await killed.start()
    await cluster.agree()


async def test_stopping_and_starting_keeps_everything(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(12)
    await cluster.close()
    await cluster.start()
    await cluster.agree()


async def test_a_single_node_is_a_cluster_at_once(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(size=1)
    await cluster.start()
    await cluster.submit(20)
    [member] = cluster.members
    member.kill()
    await member.start()
    await cluster.agree()
    assert member.status.role == "leader" or (await cluster.leader()) is member


async def test_reads_pass_on_the_leader_and_fail_elsewhere(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    await cluster.start()
    leader = await cluster.leader()
    for member in cluster.members:
        member.live.read_barrier("read")
        await cluster.until(partial(getattr, member.heard, "reads"), "an answer to the read")
        assert member.heard.reads == {"read": member is leader}


async def test_a_follower_drops_proposals_and_answers_each_once(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    await cluster.start()
    leader = await cluster.leader()
    follower = next(member for member in cluster.members if member is not leader)
    follower.live.propose(b"entry", None, "mine")
    assert follower.heard.dropped_contexts == {}, "the listener was called from within propose"
    await cluster.until(lambda: follower.heard.dropped_contexts, "an answer")
    assert follower.heard.dropped_contexts == {"mine": "NOT_LEADER"}


async def test_before_the_first_start_is_complete_nothing_is_accepted(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    for member in cluster.members[:2]:
        await member.start()
        member.live.propose(b"entry", None, "early")
        member.live.read_barrier("early")
        await cluster.until(partial(getattr, member.heard, "reads"), "an answer")
        assert member.heard.dropped_contexts == {"early": "NOT_LEADER"}
        assert member.heard.reads == {"early": False}
    await cluster.until(lambda: cluster.members[0].status.peers[2].connected, "a connection")
    assert cluster.members[0].status.cluster_id == b""
    await cluster.members[2].start()
    await cluster.submit(3)
    await cluster.agree()


def knows_all(member: Member) -> bool:
    known = {n: (f"127.0.0.1:{n}", f"127.0.0.1:{n + 100}") for n in (1, 2, 3)}
    return member.live.peer_addresses() == known


async def test_addresses_of_the_peers_are_learned_from_their_handshakes(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    await cluster.start()
    for member in cluster.members:
        await cluster.until(partial(knows_all, member), "everyone's addresses")


class HeldDisk(RocksDisk):
    """A disk whose syncs wait, in their thread, until they are let go."""

    def __init__(self, path: Path, families: Sequence[str]) -> None:
        super().__init__(path, families)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def sync(self) -> int:
        self.entered.set()
        assert self.gate.wait(timeout=20)
        return super().sync()


async def test_the_loop_goes_on_while_a_sync_takes_its_time(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(size=1)
    disks: list[HeldDisk] = []

    def open_disk(path: Path, families: Sequence[str]) -> HeldDisk:
        disks.append(HeldDisk(path, families))
        return disks[-1]

    seconds: list[float] = []
    [member] = cluster.members
    await member.start(open_disk=open_disk, observe_sync=seconds.append)
    await cluster.submit(1)
    disk = disks[-1]
    disk.gate.clear()
    disk.entered.clear()
    seconds.clear()
    for number in range(3):
        member.live.propose(b"slow %d" % number, None, number)
    loop = asyncio.get_running_loop()
    turns, ticks = 0, 0
    replica = member.live
    tick, ticker = replica._tick, replica._ticker
    assert isinstance(ticker, Ticker)

    def count() -> None:
        nonlocal ticks
        ticks += 1
        tick()

    ticker._tick = count
    async with asyncio.timeout(20):
        while ticks < 25 or not disk.entered.is_set():  # half a second of ticks
            turns += 1
            await asyncio.sleep(0)
    assert turns > 25
    assert not seconds, "the sync ended before it was let go"
    applied = member.heard.applied_contexts
    assert not any(number in applied for number in range(3)), "acknowledged before it was durable"
    replica.propose(b"later", None, "later")
    loop.call_soon(disk.gate.set)
    await cluster.until(lambda: "later" in applied, "the later entry")
    assert [applied[number] for number in (0, 1, 2, "later")] == sorted(
        applied[number] for number in (0, 1, 2, "later")
    )
    assert seconds


async def test_a_follower_acknowledges_only_what_its_disk_has(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    disks: dict[str, HeldDisk] = {}

    def open_disk(path: Path, families: Sequence[str]) -> HeldDisk:
        disks[path.parent.name] = HeldDisk(path, families)
        return disks[path.parent.name]

    for member in cluster.members:
        await member.start(open_disk=open_disk)
    leader = await cluster.leader()
    await cluster.submit(1)
    for member in cluster.members:
        if member is not leader:
            disks[str(member.node_id)].gate.clear()
            disks[str(member.node_id)].entered.clear()
    leader.live.propose(b"held", None, "held")
    followers = [disks[str(m.node_id)] for m in cluster.members if m is not leader]
    await cluster.until(lambda: all(disk.entered.is_set() for disk in followers), "two syncs")
    assert "held" not in leader.heard.applied_contexts
    followers[0].gate.set()
    await cluster.until(lambda: "held" in leader.heard.applied_contexts, "the quorum of two")
    followers[1].gate.set()


async def test_a_failed_sync_ends_the_node_and_nothing_more_leaves(
    make_cluster: MakeCluster,
) -> None:
    class FailingDisk(RocksDisk):
        broken = False

        def sync(self) -> int:
            if self.broken:
                raise DiskFailedError("the disk is gone")
            return super().sync()

    cluster = make_cluster(size=1)
    [member] = cluster.members
    opened: list[FailingDisk] = []

    def open_disk(path: Path, families: Sequence[str]) -> FailingDisk:
        opened.append(FailingDisk(path, families))
        return opened[-1]

    await member.start(open_disk=open_disk)
    await cluster.leader()
    opened[0].broken = True
    member.live.propose(b"lost", None, "lost")
    await cluster.until(lambda: member.heard.fatal_text, "the end")
    assert member.heard.fatal_text == "the disk is gone"
    assert "lost" not in member.heard.applied_contexts
    member.live.propose(b"after", None, "after")
    await cluster.until(lambda: "after" in member.heard.dropped_contexts, "an answer")


async def test_a_machine_that_raises_ends_the_node(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(size=1)
    [member] = cluster.members
    await member.start()
    await cluster.leader()

    def broken(index: int, entry: bytes, decoded: object | None = None) -> object:
        raise RuntimeError("an invariant")

    member.machine.apply = broken  # type: ignore[method-assign]  # planted
    member.live.propose(b"entry", None, "mine")
    await cluster.until(lambda: member.heard.fatal_text, "the end")
    assert "an invariant" in (member.heard.fatal_text or "")
    assert "mine" not in member.heard.applied_contexts


async def test_a_port_in_use_is_named_and_frees_the_directory(make_cluster: MakeCluster) -> None:
    cluster, rival = make_cluster(size=1), make_cluster(size=1)
    rival.addresses = cluster.addresses
    await cluster.start()
    with pytest.raises(AddressError, match=r"127\.0\.0\.1:\d+ is in use: stop what listens there"):
        await rival.start()
    rival.addresses = {1: ("127.0.0.1", free_ports(1)[0])}
    await rival.start()


async def test_listening_beyond_loopback_is_refused(tmp_path: Path) -> None:
    config = ReplicaConfig(
        node_id=1, addresses={1: ("0.0.0.0", 7400)}, data_dir=tmp_path, families=[FAMILY]
    )
    replica = Replica(config, CounterMachine(), Recorder(asyncio.Event()))
    with pytest.raises(AddressError, match=r"0\.0\.0\.0:7400 is beyond loopback.*must speak TLS"):
        await replica.start()


async def test_what_was_held_for_an_earlier_connection_is_not_sent_on_the_next(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster()
    await cluster.start()
    leader = await cluster.leader()
    peer = next(member for member in cluster.members if member is not leader)
    replica = leader.live
    epoch = replica._transport.epoch(peer.node_id)
    sent: list[object] = []
    monkeypatch.setattr(replica._transport, "send", lambda _peer, message: sent.append(message))
    stale, fresh = PreVote(1, 1, 1, 1), PreVote(2, 2, 2, 2)
    replica.release(peer.node_id, epoch - 1, stale)
    replica.release(peer.node_id, epoch, fresh)
    assert sent == [fresh]


async def test_an_end_in_the_middle_of_the_start_leaves_nothing_running() -> None:
    addresses = {n + 1: ("127.0.0.1", port) for n, port in enumerate(free_ports(3))}
    transport = make_transport(Handler(3), addresses)
    starting = asyncio.ensure_future(transport.start())
    await asyncio.sleep(0)  # it listens, and has not returned
    transport.abort()
    await starting
    assert transport._dialler._tasks == {}
    assert transport._pinger is None
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*addresses[3])


async def test_whatever_goes_wrong_at_the_end_the_node_is_told_of_it(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(size=1)
    await cluster.start()
    [member] = cluster.members

    def refuse() -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(member.live._transport, "abort", refuse)
        with pytest.raises(MemoryError):
            member.live.failed("the planted failure")
    assert member.heard.fatal_text == "the planted failure"
