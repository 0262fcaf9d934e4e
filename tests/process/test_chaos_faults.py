"""The chaos harness on real nodes: faults do what they say, are taken back, and nothing stays."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from chaos.cluster import ChaosCluster, ClusterError, Equipment
from chaos.disks import MountError
from chaos.faults import FAULTS
from chaos.proxies import ProxyError
from chaos.samples import Sampler
from chaos.scenarios import Scenario
from chaos.shims import COMPILER, NO_COMPILER
from chaos.torment import Course, torment
from tests.support.ports import free_ports
from tq import Client

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
needs_compiler = pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)


@pytest.fixture
async def equipped(tmp_path: Path) -> AsyncIterator[ChaosCluster]:
    """Three running nodes with everything that faults can need and this system allows."""
    wanted = Equipment(disk_mib=128, power=True, clock=True)
    try:
        cluster = ChaosCluster(tmp_path, equipment=wanted, ports=free_ports, seed=1)
    except MountError:
        cluster = ChaosCluster(
            tmp_path, equipment=Equipment(power=True, clock=True), ports=free_ports, seed=1
        )
    async with cluster:
        await cluster.start()
        yield cluster


async def play(cluster: ChaosCluster, *kinds: str) -> Course:
    """Do some faults, one after the other, each taken back as soon as it has begun."""
    stop = asyncio.Event()
    whole = Course()
    for kind in kinds:
        scenario = Scenario("test", "one fault", (kind,), calm_s=(0, 0))
        log = cluster.directory / "faults.jsonl"
        playing = asyncio.create_task(torment(cluster, scenario, random.Random(3), log, stop))
        await until_inflicted(cluster, kind)
        stop.set()
        course = await playing
        stop.clear()
        whole.faults += course.faults
        whole.surprises += course.surprises
    return whole


async def until_inflicted(cluster: ChaosCluster, kind: str) -> None:
    """Return when a line of the log says that a fault is over."""
    log = cluster.directory / "faults.jsonl"

    async def told() -> bool | None:
        lines = log.read_text().splitlines() if log.exists() else []
        return any(json.loads(line)["kind"] == kind for line in lines) or None

    await cluster.wait_for(told, what=f"end of {kind!r}", timeout_s=60)


async def submit(cluster: ChaosCluster, into: list[str]) -> None:
    """Submit until cancelled; note what was acknowledged."""
    async with Client(cluster.servers, deadline=60) as client:
        while True:
            into.append((await client.submit("x", b"y" * 100)).task_id)


@needs_compiler
async def test_faults_of_all_families_are_done_and_taken_back_and_no_task_is_lost(
    equipped: ChaosCluster,
) -> None:
    accepted: list[str] = []
    sampler = Sampler(equipped.nodes.values, equipped.directory / "samples.jsonl")
    background = [
        asyncio.create_task(submit(equipped, accepted)),
        asyncio.create_task(sampler.run()),
    ]
    kinds = ["kill leader", "partition one way", "power all", "clock jump leader", "fsync error"]
    kinds += ["flip wal", "vanishing clients"]
    if equipped.equipment.disk_mib:
        kinds.append("disk full follower")

    course = await play(equipped, *kinds)

    for task in background:
        assert not task.done(), task.result()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert [] == course.surprises
    assert set(kinds) == set(course.faults)
    async with Client(equipped.servers, deadline=60) as client:
        states = {(await client.status(task_id)).state for task_id in accepted[::5]}
    assert {"pending"} == states
    lines = (equipped.directory / "samples.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert {1, 2, 3} == {one["node"] for one in told}
    assert {True, False} == {one["up"] for one in told}
    assert any(one["role"] == "leader" and one["ready"] > 0 for one in told)


@needs_compiler
async def test_nodes_that_do_not_load_what_faults_need_are_refused(tmp_path: Path) -> None:
    launcher = ["env", "-u", "LD_PRELOAD", sys.executable, "-m", "node"]
    wanted = Equipment(power=True)
    async with ChaosCluster(
        tmp_path, size=1, equipment=wanted, ports=free_ports, launcher=launcher
    ) as cluster:
        with pytest.raises(ClusterError, match=r"runs without .*disk_synced\.so"):
            await cluster.start()


@needs_compiler
async def test_a_lease_lasts_its_time_whatever_the_wall_clocks_say(tmp_path: Path) -> None:
    """T1: every node's clock jumps by an hour, there and back; a lease hears nothing of it."""
    wanted = Equipment(clock=True)
    async with ChaosCluster(tmp_path, equipment=wanted, ports=free_ports) as cluster:
        await cluster.start()
        async with Client(cluster.servers, deadline=60) as client:
            session = await client.register_worker(b"w" * 16, name="w", queues=["default"])
            for jump_s in (3600.0, -3600.0):
                task = await client.submit("x", lease=60)
                [grant] = await client.claim(session.session, ["default"], 1, wait=10)
                for node in cluster.nodes.values():
                    assert node.clock is not None
                    node.clock.jump(jump_s)
                # What nodes look at every few milliseconds, they have looked at by then.
                for number in range(20):
                    await client.submit(f"other-{number}", queue="others")
                    assert await client.heartbeat(session.session, [grant.token]) == []
                assert await client.complete(grant.task_id, grant.token, b"") == "completed"
                status = await client.status(task.task_id)
                assert (status.attempt, status.lost) == (1, 0)


async def test_a_damaged_witness_knows_it_and_waits_for_the_rest_of_its_quorum(
    tmp_path: Path,
) -> None:
    accepted: list[str] = []
    async with ChaosCluster(tmp_path, ports=free_ports) as cluster:
        await cluster.start()
        submitting = asyncio.create_task(submit(cluster, accepted))
        fault = FAULTS["damaged witness"]()
        [record] = await fault.begin(cluster, random.Random(1))
        witness, leader = record.nodes
        told = cluster.nodes[witness]

        async def forgetful() -> bool | None:
            return "may have forgotten" in told.output() or None

        await cluster.wait_for(forgetful, what="node that knows what it lacks")
        assert not cluster.nodes[leader].running
        assert await cluster.leader() is None
        await fault.heal()
        await cluster.wait_ready()
        submitting.cancel()
        with suppress(asyncio.CancelledError):
            await submitting
        async with Client(cluster.servers, deadline=60) as client:
            states = {(await client.status(task_id)).state for task_id in accepted}
    assert states == {"pending"}


async def test_a_member_is_replaced_behind_the_same_door(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, ports=free_ports) as cluster:
        await cluster.start()
        before = sorted(cluster.servers.split(","))
        fault = FAULTS["replace member"]()
        [record] = await fault.begin(cluster, random.Random(1))
        leaver, newcomer = record.nodes
        assert leaver not in cluster.nodes
        assert newcomer == 4
        assert before == sorted(cluster.servers.split(","))
        status = await cluster.nodes[4].status()
        assert status is not None
        assert sorted(cluster.nodes) == sorted(status["voters"])
        async with Client(cluster.nodes[4].address, deadline=30) as client:
            await client.submit("x")


async def test_a_fault_that_lacks_what_it_needs_says_so(tmp_path: Path) -> None:
    cluster = ChaosCluster(tmp_path, ports=free_ports)
    try:
        reasons = {kind: make().refuses(cluster) for kind, make in FAULTS.items()}
    finally:
        await cluster.proxies.close()
    assert "" == reasons["kill leader"]
    assert "C compiler" in reasons["power all"]
    assert "takes root" in reasons["disk full all"]
    assert "no worker processes" in reasons["worker frozen"]
    assert "--tier namespaces" in reasons["packet loss 5 %"]


async def test_a_port_in_use_is_said_and_leaves_nothing_running(tmp_path: Path) -> None:
    ports = free_ports(18)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", ports[-1]):
        cluster = ChaosCluster(tmp_path, ports=lambda _: ports)
        with pytest.raises(ProxyError, match="in use"):
            async with cluster:
                await cluster.start()
    assert not cluster.proxies.process.running
    assert not any(node.running for node in cluster.nodes.values())


def test_a_harness_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.process.crashing_harness", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as harness:
        assert harness.stdout is not None
        children = [psutil.Process(int(pid)) for pid in harness.stdout.readline().split()]
        assert 4 == len(children)
        harness.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert [] == alive
