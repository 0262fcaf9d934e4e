"""Whole replicas that lose something: a process, a directory, a bit, the first start."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from cluster import sync_queue, syncer
from cluster.disk import RocksDisk
from cluster.faults import (
    DirectoryInUseError,
    DiskDamagedError,
    DiskFailedError,
    DiskFullError,
    DiskHungError,
    ForeignDirectoryError,
)
from cluster.identity import Identity
from cluster.messages import Message, PreVote
from cluster.recovery import Storage
from cluster.transport import PeerTransport
from cluster.watermark import NOTE_FILE, HighWater, read_mark
from tests.support.peer_counter import FAMILY, Cluster, Member
from tests.support.ports import free_ports

MakeCluster = Callable[..., Cluster]


async def test_nothing_acknowledged_is_lost_when_all_nodes_die_at_once(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    await cluster.start()
    for _ in range(3):
        await cluster.submit(17)
        for member in cluster.up:
            member.kill()
        await cluster.start()
        assert not any(member.amnesiac for member in cluster.up)
    await cluster.agree()


def count_pre_votes(member: Member) -> Counter[int]:
    """Count, by receiver, how often a member asks for votes from now on."""
    asked: Counter[int] = Counter()
    transport = member.live._transport
    send = transport.send

    def counting(peer: int, message: Message) -> None:
        asked[peer] += isinstance(message, PreVote)
        send(peer, message)

    transport.send = counting  # type: ignore[method-assign]  # a spy
    return asked


async def test_an_emptied_directory_rejoins_as_an_amnesiac_that_does_not_vote(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(30)
    await cluster.agree()
    leader = await cluster.leader()
    emptied, third = (member for member in cluster.members if member is not leader)
    leader.kill()
    emptied.kill()
    shutil.rmtree(emptied.directory)
    asked = count_pre_votes(third)
    await emptied.start()
    # It holds nothing, so it must not help the third node to a majority, whose log may be
    # shorter than what the two that are gone have acknowledged.
    await cluster.until(lambda: asked[emptied.node_id] >= 5, "five refused pre-votes")
    assert emptied.status.cluster_id == third.status.cluster_id
    assert emptied.amnesiac
    assert third.status.role != "leader"
    emptied.kill()
    await emptied.start()
    assert emptied.amnesiac, "forgotten in a restart that it has forgotten"
    await leader.start()
    await cluster.until(lambda: not emptied.amnesiac, "the end of amnesia")
    await cluster.submit(5)
    await cluster.agree()
    emptied.kill()
    await emptied.start()
    assert not emptied.amnesiac


async def test_a_damaged_log_below_the_mark_makes_an_amnesiac(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(checkpoint_every=1000)
    await cluster.start()
    await cluster.submit(30)
    await cluster.agree()
    damaged = cluster.members[2]
    written = damaged.live._storage.disk.sequence
    await cluster.until(
        lambda: read_mark((damaged.directory / "high_water").read_bytes()).sequence >= written,
        "the mark of all of it",
    )
    live = max((damaged.directory / "db").glob("*.log"), key=lambda file: file.stat().st_size)
    content = bytearray(live.read_bytes())  # before closing flushes it into a table
    copy = damaged.directory.with_name("copy")
    shutil.copytree(damaged.directory, copy)
    damaged.kill()
    shutil.rmtree(damaged.directory)
    copy.rename(damaged.directory)
    content[len(content) // 2] ^= 1
    (damaged.directory / "db" / live.name).write_bytes(content)
    await damaged.start()
    assert damaged.amnesiac
    await cluster.until(lambda: not damaged.amnesiac, "the end of amnesia")
    await cluster.agree()


async def test_a_flip_in_the_last_batch_of_a_killed_node_makes_an_amnesiac(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_queue, "MARK_INTERVAL_S", 1000.0)  # no mark comes to its help
    cluster = make_cluster(checkpoint_every=1000)
    await cluster.start()
    await cluster.submit(30)
    await cluster.agree()
    damaged = cluster.members[2]
    disk = damaged.live._storage.disk

    def noted() -> int:
        return HighWater.from_bytes((damaged.directory / NOTE_FILE).read_bytes()).sequence

    await cluster.until(lambda: noted() == disk.sequence, "a note of the last batch")
    marked = read_mark((damaged.directory / "high_water").read_bytes())
    assert marked.sequence < noted(), "the mark is late"
    live = max((damaged.directory / "db").glob("*.log"), key=lambda file: file.stat().st_size)
    copy = damaged.directory.with_name("copy")
    shutil.copytree(damaged.directory, copy)  # before closing flushes it into a table
    damaged.kill()
    shutil.rmtree(damaged.directory)
    copy.rename(damaged.directory)
    content = bytearray(live.read_bytes())
    content[-3] ^= 1
    live.write_bytes(content)
    await damaged.start()
    assert damaged.amnesiac
    await cluster.until(lambda: not damaged.amnesiac, "the end of amnesia")
    await cluster.agree()


async def test_nothing_leaves_before_the_sync_is_noted(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(3)
    leader = await cluster.leader()

    def refuse(*_given: object) -> None:
        raise DiskFullError("no space left on the disk")

    monkeypatch.setattr(Storage, "write_note", refuse)
    leader.live.propose(b"unsaid", None, "unsaid")
    await cluster.until(
        lambda: all(member.heard.fatal_text for member in cluster.members), "the end of all nodes"
    )
    assert "unsaid" not in leader.heard.applied_contexts


async def test_a_damaged_database_is_moved_aside_and_the_node_is_filled_up(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(30)
    damaged = cluster.members[1]
    await damaged.stop()
    (damaged.directory / "db" / "CURRENT").write_text("junk\n")
    await damaged.start()
    assert damaged.amnesiac
    moved = list((damaged.directory / "quarantine").glob("*/db/CURRENT"))
    assert [file.read_text() for file in moved] == ["junk\n"]
    await cluster.until(lambda: not damaged.amnesiac, "the end of amnesia")
    await cluster.agree()


async def test_a_damaged_table_is_moved_aside_at_the_start_that_reads_it(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(30)
    await cluster.agree()
    damaged = cluster.members[1]
    await damaged.stop()
    for table in (damaged.directory / "db").glob("*.sst"):
        content = bytearray(table.read_bytes())
        content[3] ^= 1  # in its first block of records
        table.write_bytes(content)
    await damaged.start()
    assert damaged.amnesiac
    assert list((damaged.directory / "quarantine").glob("*/db/CURRENT"))
    await cluster.until(lambda: not damaged.amnesiac, "the end of amnesia")
    await cluster.agree()


async def test_damage_met_by_a_running_node_ends_it_once_and_not_at_every_start(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    await cluster.start()
    await cluster.submit(30)
    damaged = cluster.members[1]
    error = Exception("Corruption: block checksum mismatch")
    damaged.live._storage.disk.condition.unreadable(error)  # as any read of it would
    await cluster.until(lambda: damaged.heard.fatal_text, "the end of the node")
    assert "block checksum mismatch" in (damaged.heard.fatal_text or "")
    damaged.kill()
    await damaged.start()
    assert damaged.status.amnesiac
    await cluster.until(lambda: not damaged.amnesiac, "the end of amnesia")
    await cluster.agree()
    damaged.kill()
    await damaged.start()
    assert not damaged.amnesiac
    assert len(list((damaged.directory / "quarantine").iterdir())) == 1


async def test_a_single_node_that_met_damage_says_how_to_go_on(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(size=1)
    await cluster.start()
    await cluster.submit(3)
    [member] = cluster.members
    member.live._storage.disk.condition.unreadable(Exception("Corruption: a block"))
    await cluster.until(lambda: member.heard.fatal_text, "the end of the node")
    member.kill()
    for _ in range(2):
        with pytest.raises(DiskDamagedError, match=r"Corruption: a block.*or remove .*damaged to"):
            await member.start()
    (member.directory / "damaged").unlink()
    await member.start()
    await cluster.agree()


async def test_a_disk_that_hangs_keeps_no_node_from_ending(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncer, "STOP_MAX_S", 0.1)
    cluster = make_cluster(size=2)
    await cluster.start()
    await cluster.submit(1)
    released = threading.Event()
    sync = RocksDisk.sync

    def hang(disk: RocksDisk) -> int:
        released.wait(60)
        return sync(disk)

    with monkeypatch.context() as patch:
        patch.setattr(RocksDisk, "sync", hang)
        first, second = (member.live for member in cluster.members)
        try:
            with pytest.raises(DiskHungError, match="it hangs"):
                await first.stop()
            second._syncer.want(10**9)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(DiskHungError, match="it hangs"):
                second.abort()
        finally:
            released.set()
    for member in cluster.members:
        wait_threads(member)
        member.live._storage.close()
        member.replica = None


def wait_threads(member: Member) -> None:
    """Wait until nothing runs in the threads of a syncer that was let go."""
    held = member.live._syncer
    assert isinstance(held, syncer.Syncer)
    held._thread.shutdown()
    held._mark_thread.shutdown()


async def test_records_that_contradict_each_other_are_moved_aside_too(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(checkpoint_every=1000)
    await cluster.start()
    await cluster.submit(30)
    damaged = cluster.members[1]
    await damaged.stop()
    disk = RocksDisk(damaged.directory / "db", [FAMILY])
    disk.delete("raft_log", (5).to_bytes(8, "big"))
    disk.write()
    disk.close()
    await damaged.start()
    assert damaged.amnesiac
    assert list((damaged.directory / "quarantine").glob("*/db/CURRENT"))
    await cluster.until(lambda: not damaged.amnesiac, "the end of amnesia")
    await cluster.submit(3)
    await cluster.agree()


async def test_a_single_node_does_not_start_on_a_damaged_database(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(size=1)
    await cluster.start()
    [member] = cluster.members
    await cluster.submit(3)
    await member.stop()
    (member.directory / "db" / "CURRENT").write_text("junk\n")
    with pytest.raises(DiskDamagedError, match=r"a single node has no copy.*restore"):
        await member.start()
    assert (member.directory / "db" / "CURRENT").read_text() == "junk\n"
    assert not (member.directory / "quarantine").exists()


async def test_one_directory_serves_one_node(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(size=1)
    [member] = cluster.members
    await member.start()
    rival = Cluster(cluster.directory, cluster.rng, size=1)
    with pytest.raises(DirectoryInUseError, match=r"in use by another process: stop"):
        await rival.members[0].start()


async def test_a_directory_of_another_node_is_refused(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(size=1)
    await cluster.start()
    await cluster.close()
    [member] = cluster.members
    [port] = free_ports(1)
    cluster.addresses = {1: cluster.addresses[1], 2: ("127.0.0.1", port)}
    member.node_id = 2
    with pytest.raises(ForeignDirectoryError, match=r"belongs to node 1 of cluster .*this is node"):
        await member.start()


async def test_every_start_counts_up_the_incarnation(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(size=1)
    [member] = cluster.members
    for incarnation in (1, 2, 3):
        await member.start()
        assert member.live._storage.identity.incarnation == incarnation
        await member.stop()


async def test_directories_and_files_are_private(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(size=1)
    await cluster.start()
    await cluster.submit(1)
    [member] = cluster.members
    assert member.directory.stat().st_mode & 0o777 == 0o700
    files = [path for path in member.directory.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("crash_point", [1, 2, 3, 4, 5, 6])
async def test_a_crash_after_any_record_of_the_first_start_only_delays_it(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch, crash_point: int
) -> None:
    """Three ids recorded, then three times "bootstrapped": all nodes die after each one."""
    cluster = make_cluster()
    records = 0
    record = Storage.record

    def crash_after(storage: Storage, identity: Identity) -> None:
        nonlocal records
        record(storage, identity)
        records += 1
        if records >= crash_point:  # nothing more is said by anyone
            raise ConnectionResetError("the power is cut")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "record", crash_after)
        await cluster.start()
        await cluster.until(lambda: records >= crash_point, "the crash point")
        for member in cluster.up:
            member.kill()
    await cluster.start()
    await cluster.submit(3)
    await cluster.agree()
    assert len({member.status.cluster_id for member in cluster.members}) == 1
    assert not any(member.amnesiac for member in cluster.members)


async def test_a_disk_that_fails_in_the_first_start_ends_the_node(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster()
    victim = cluster.members[1]
    record = Storage.record

    def refuse(storage: Storage, identity: Identity) -> None:
        if identity.node_id == victim.node_id:
            raise DiskFullError("no space left on the disk")
        record(storage, identity)

    monkeypatch.setattr(Storage, "record", refuse)
    await cluster.start()
    await cluster.until(lambda: victim.heard.fatal_text, "the end of the node")
    assert "no space left on the disk" in (victim.heard.fatal_text or "")
    monkeypatch.undo()
    await victim.stop()
    await victim.start()
    await cluster.submit(1)  # nothing is half recorded: the first start goes on
    await cluster.agree()
    assert not any(member.amnesiac for member in cluster.up)


async def test_a_stop_whose_last_sync_fails_still_lets_go_of_the_directory(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(size=1)
    await cluster.start()
    await cluster.submit(1)
    (member,) = cluster.members

    def fail(_disk: RocksDisk) -> int:
        raise DiskFailedError("input/output error")

    monkeypatch.setattr(RocksDisk, "sync", fail)
    with pytest.raises(DiskFailedError):
        await member.stop()
    monkeypatch.undo()
    await member.start()
    await cluster.agree()


async def test_a_disk_that_fails_between_the_end_of_the_links_and_the_last_sync_is_told(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(size=1)
    await cluster.start()
    await cluster.submit(1)
    (member,) = cluster.members
    stop = PeerTransport.stop
    held = member.live._syncer
    assert isinstance(held, syncer.Syncer)

    async def fail(transport: PeerTransport) -> None:
        await stop(transport)
        held._queue.failed("input/output error")
        held._queue.failed("a later one")

    monkeypatch.setattr(PeerTransport, "stop", fail)
    with pytest.raises(DiskFailedError, match="input/output error"):
        await member.stop()
    monkeypatch.undo()
    await member.start()
    await cluster.agree()
