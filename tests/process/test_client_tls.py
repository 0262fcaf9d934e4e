"""Real clusters whose clients need TLS and tokens: who gets in, who does not, what is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cluster.certificates import make_authority
from cluster.tls import today
from deploy.local.cluster import ROOT, LocalCluster, LocalNode
from node.tokens import Role
from tests.process.commands import tq_node
from tq import Client, ConfigError, Forbidden, Unauthenticated, Unavailable

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes with TLS everywhere and tokens, on loopback."""
    with LocalCluster(tmp_path_factory.mktemp("secured"), secured=True) as made:
        made.start()
        yield made


def own_address() -> str | None:
    """Return an IPv4 address of this machine that others could reach, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def a_client(cluster: LocalCluster, servers: str = "", *, role: Role = Role.CLIENT) -> Client:
    assert cluster.secrets is not None
    token = cluster.secrets.tokens[role]
    return Client(servers or cluster.servers, token=token, ca=cluster.secrets.ca, deadline="20s")


def environment(cluster: LocalCluster, role: Role, **more: str) -> dict[str, str]:
    assert cluster.secrets is not None
    bare = {name: value for name, value in os.environ.items() if not name.startswith("TQ_")}
    return {
        **bare,
        "TQ_SERVERS": cluster.servers,
        "TQ_CA": str(cluster.secrets.ca),
        "TQ_TOKEN": cluster.secrets.tokens[role],
        **more,
    }


def tq_admin(told: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tq.admin", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=dict(told), capture_output=True, text=True, timeout=60, check=False
    )


async def work_one_task(client: Client) -> None:
    submitted = await client.submit("echo", b"payload", queue="secured")
    worker = await client.register_worker(os.urandom(16), name="w", queues=["secured"])
    [grant] = await client.claim(worker.session, ["secured"], 1, wait="10s")
    assert (grant.task_id, grant.payload) == (submitted.task_id, b"payload")
    assert await client.complete(grant.task_id, grant.token, b"done") == "completed"
    status = await client.wait(submitted.task_id, timeout="10s")
    assert status.result == b"done"


def followers(cluster: LocalCluster) -> list[LocalNode]:
    leader = cluster.wait_leader()
    return [node for node in cluster.nodes.values() if node is not leader]


def refusals(node: LocalNode) -> dict[str, float]:
    """Refused clients of a node by reason."""
    code, text = node.http("/metrics", timeout_s=10)
    assert code == 200, text
    lines = [one for one in text.splitlines() if one.startswith("tq_client_refusals_total{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


async def test_a_task_is_done_through_a_follower_and_a_killed_leader(cluster: LocalCluster) -> None:
    for node in followers(cluster):
        async with a_client(cluster, node.client_address) as client:
            await work_one_task(client)
    leader = cluster.wait_leader()
    async with a_client(cluster) as client:
        leader.kill()
        await work_one_task(client)
    leader.start()  # in this thread: a node ends with the thread that started it
    await asyncio.to_thread(cluster.wait_ready)


async def test_without_a_good_token_nobody_gets_in(cluster: LocalCluster, tmp_path: Path) -> None:
    assert cluster.secrets is not None
    node = next(iter(cluster.nodes.values()))
    before = refusals(node)
    address, ca = node.client_address, cluster.secrets.ca
    wrong = "tq_" + "x" * 43
    for token, said in ((None, "wants a token"), (wrong, "does not know the token")):
        client = Client(address, token=token, ca=ca)
        began_s = time.monotonic()
        with pytest.raises(Unauthenticated, match=said) as caught:
            await client.connect()
        assert time.monotonic() - began_s >= 0.4
        assert wrong not in str(caught.value)
        await client.close()
    with pytest.raises(Unauthenticated, match="has the role metrics"):
        await a_client(cluster, address, role=Role.METRICS).connect()
    with pytest.raises(Unauthenticated, match="this port speaks TLS"):
        await Client(address, token=cluster.secrets.tokens[Role.CLIENT]).connect()
    stranger = make_authority(tmp_path / "stranger", now=today()).certificate
    with pytest.raises(Unavailable, match="was not issued by an authority in"):
        await Client(address, ca=stranger, deadline="5s").connect()
    by_name = address.replace("127.0.0.1", "localhost")
    with pytest.raises(Unavailable, match="its certificate is not for localhost"):
        await Client(by_name, ca=ca, deadline="5s").connect()
    after = refusals(node)
    grown = {reason for reason, count in after.items() if count > before[reason]}
    assert grown == {"no_token", "wrong_token", "role", "in_the_clear", "tls"}
    assert "clients were not let in: " in node.output()


async def test_digests_and_members_are_for_admins(cluster: LocalCluster) -> None:
    leader = cluster.wait_leader()
    async with a_client(cluster) as client:
        with pytest.raises(Forbidden, match="DIGEST needs a token with the role admin"):
            await client.node_digest(leader.client_address)
        with pytest.raises(Forbidden, match="CHANGE_MEMBERS needs a token with the role admin"):
            await client.remove_node(3)
    async with a_client(cluster, role=Role.ADMIN) as admin:
        assert (await admin.node_digest(leader.client_address))[0] > 0


def test_the_commands_take_authority_and_token_from_the_environment(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    assert cluster.secrets is not None
    cluster.wait_ready()
    told = environment(cluster, Role.CLIENT)

    def healthy() -> str | None:
        status = tq_admin(told, "cluster", "status")  # which gives each node one second
        return status.stdout if status.returncode == 0 else None

    assert "HEALTHY" in cluster.wait_for(healthy, what="HEALTHY", timeout_s=60)
    log = (tmp_path / "worker.log").open("wb")
    command = [sys.executable, "-m", "tq.worker_cli", "tq.examples:app"]
    with log, subprocess.Popen(command, cwd=ROOT, env=told, stdout=log, stderr=log) as worker:
        try:
            done = tq_admin(told, "submit", "tq.examples:echo", '["hi"]', "--wait")
        finally:
            worker.terminate()
            worker.wait(30)
    assert done.returncode == 0, done
    assert "hi" in done.stdout

    path = tmp_path / "token"
    path.write_text(cluster.secrets.tokens[Role.ADMIN])
    bare = {name: value for name, value in told.items() if name not in {"TQ_CA", "TQ_TOKEN"}}
    arguments = ("--ca", str(cluster.secrets.ca), "--token-file", str(path))
    assert tq_admin(bare, *arguments, "stats").returncode == 0
    assert tq_admin(bare, "stats").returncode == 4
    forbidden = tq_admin(told, "cluster", "remove", "3")
    assert forbidden.returncode == 4
    assert "needs a token with the role admin" in forbidden.stderr


def test_health_needs_no_token_and_the_rest_does(cluster: LocalCluster) -> None:
    cluster.wait_ready()
    node = next(iter(cluster.nodes.values()))
    for flags in ((), ("--ready",)):
        done = tq_node("healthcheck", "--http", node.http_url, *flags)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    plain = tq_node("healthcheck", "--http", node.http_url.removeprefix("https://"))
    assert plain.returncode == 1
    assert "This port speaks TLS" in plain.stderr
    assert node.http("/status")[0] == 200
    secrets, node._secrets = node._secrets, None
    assert secrets is not None
    wrong = type(secrets)(secrets.ca, {Role.METRICS: "wrong"})
    node._secrets = wrong
    try:
        assert node.http("/status", timeout_s=5)[0] == node.http("/metrics", timeout_s=5)[0] == 401
        assert node.http("/livez")[0] == 200
    finally:
        node._secrets = secrets


def test_tokens_appear_nowhere_and_principals_in_the_log_do(cluster: LocalCluster) -> None:
    assert cluster.secrets is not None
    asyncio.run(_submit_one(cluster))
    everything = bytearray()
    for path in cluster.directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # nodes drop some
            everything += path.read_bytes()
    assert b"the-client" in everything  # of the entry, in a data directory
    for token in cluster.secrets.tokens.values():
        assert token.encode() not in everything


async def _submit_one(cluster: LocalCluster) -> None:
    async with a_client(cluster) as client:
        await client.submit("echo", queue="kept")


def test_beyond_loopback_a_cluster_is_reached_by_the_address_its_certificates_name(
    tmp_path: Path,
) -> None:
    host = own_address()
    if host is None:
        pytest.skip("this machine has no address but the loopback's")
    with LocalCluster(tmp_path, secured=True, host=host) as cluster:
        cluster.start()
        assert cluster.servers.startswith(host)

        async def work() -> None:
            for node in followers(cluster):
                async with a_client(cluster, node.client_address) as client:
                    await work_one_task(client)

        asyncio.run(work())
        assert cluster.secrets is not None
        with pytest.raises(ConfigError, match="in the clear"):
            Client(cluster.servers, token=cluster.secrets.tokens[Role.CLIENT])


@pytest.mark.parametrize("flag", ["--listen", "--http"])
def test_beyond_loopback_a_node_without_them_does_not_start(tmp_path: Path, flag: str) -> None:
    done = tq_node("--data", str(tmp_path / "data"), flag, "0.0.0.0:7499")
    assert done.returncode == 2
    assert "which other machines may reach; that needs a certificate in " in done.stderr
    assert "'tq-node tokens new PRINCIPAL --file FILE' makes one" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_node_whose_tokens_are_wrong_says_where(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    made = tq_node("tokens", "new", "mail", "--file", str(path))
    assert made.returncode == 0, made.stderr
    path.write_text(path.read_text() + "ops hunter2\n")
    done = tq_node(
        *("--data", str(tmp_path / "data"), "--tokens", str(path)),
        *("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"),
    )
    assert done.returncode == 1
    assert f"{path}:2: the second word is not a SHA-256" in done.stderr
    assert "hunter2" not in done.stderr
    assert made.stdout.strip() not in done.stderr
