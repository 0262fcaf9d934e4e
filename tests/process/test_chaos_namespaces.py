"""The tier of namespaces: packets are lost for real, and everything is gone when it is over."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from chaos.check import main as check
from chaos.links import DROP, PASS, Impairment, both
from chaos.namespaces import kernel
from chaos.namespaces.addresses import address
from chaos.namespaces.network import Switch
from tests.process.test_chaos_run import harness, run_of

_WHY = kernel.missing()
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(bool(_WHY), reason=f"no tier of namespaces here: {_WHY}"),
]
_PORT = 7000
_CONTENT = os.urandom(400_000)


def namespace_of(process: int) -> str:
    """Network namespace a process is in."""
    return Path(f"/proc/{process}/ns/net").readlink().name


def kept() -> list[str]:
    """Namespaces that live on without a process, since they are mounted somewhere."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if " - nsfs " in line]


def retransmitted(switch: Switch, who: int) -> int:
    """Segments that TCP has sent again in a namespace."""
    with switch.inside(who):
        table = Path("/proc/thread-self/net/snmp").read_text()
    names, values = (line.split()[1:] for line in table.splitlines() if line.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["RetransSegs"])


def devices() -> set[str]:
    """Network devices where this process is."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines}


@pytest.fixture
async def switch(tmp_path: Path) -> AsyncIterator[Switch]:
    """A switch with 1 and 2 plugged in."""
    here, around = namespace_of(os.getpid()), devices()
    made = Switch(tmp_path, seed=3)
    try:
        await made.start([])
        await made.settle(1)
        await made.settle(2)
        assert around == devices(), "something was made where everybody is"
        yield made
    finally:
        await made.close()
        assert here == namespace_of(os.getpid())
    assert around == devices()


@contextmanager
def a_socket(switch: Switch, who: int) -> Iterator[socket.socket]:
    with switch.inside(who):
        made = socket.socket()
    made.setblocking(False)
    with made:
        yield made


async def sent(switch: Switch) -> bytes:
    """What arrives at 2 of the content that 1 sends, over a connection of its own."""
    loop = asyncio.get_running_loop()
    with a_socket(switch, 2) as listening, a_socket(switch, 1) as near:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address(2), _PORT))
        listening.listen()
        await loop.sock_connect(near, (address(2), _PORT))
        far, _ = await loop.sock_accept(listening)
        with far:
            sending = asyncio.create_task(loop.sock_sendall(near, _CONTENT))
            got = bytearray()
            while len(got) < len(_CONTENT):
                piece = await loop.sock_recv(far, 1 << 16)
                assert piece
                got += piece
            await sending
    return bytes(got)


@pytest.mark.parametrize(
    ("impairment", "what"),
    [
        (Impairment(loss=0.05), "lost"),
        (Impairment(duplicate=0.3), "doubled"),
        (Impairment(reorder=0.2), "held"),
    ],
    ids=["lost", "doubled", "overtaken"],
)
async def test_tcp_makes_good_what_happens_to_packets(
    switch: Switch, impairment: Impairment, what: str
) -> None:
    await switch.set(both(1, 2), impairment)
    assert await asyncio.wait_for(sent(switch), 60) == _CONTENT
    told = await switch.stats()
    assert told["packets"]["1>2"][what] > 0
    assert retransmitted(switch, 1) > 0 or what == "doubled"


async def test_one_direction_can_be_cut_alone_and_is_whole_again_afterwards(
    switch: Switch,
) -> None:
    await switch.set([(2, 1)], DROP)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sent(switch), 0.5)
    told = (await switch.stats())["packets"]
    assert told["1>2"]["passed"] > 0
    assert (told["2>1"]["passed"], told["2>1"]["lost"]) != (0, 0)
    assert told["1>2"]["lost"] == 0 < told["2>1"]["lost"]
    await switch.set([(2, 1)], PASS)
    assert await asyncio.wait_for(sent(switch), 60) == _CONTENT


async def test_nobody_within_reaches_what_is_outside(switch: Switch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside, a_socket(switch, 1) as one:
        where = outside.getsockname()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.get_running_loop().sock_connect(one, where)


@pytest.mark.long
@pytest.mark.alone  # gaps are judged
def test_a_run_that_loses_packets_keeps_every_promise_and_leaves_no_namespace(
    tmp_path: Path,
) -> None:
    before, around = kept(), devices()
    words = ("--tier", "namespaces", "--scenario", "packet-loss", "--minutes", "0.3")
    playing = harness(tmp_path, *words, "--seed", "8")
    playing.start()
    try:
        code = playing.wait(timeout_s=300)
    finally:
        playing.kill()
    assert code == 0, playing.output()
    assert "0 lost, 0 doubled, 0 violations" in playing.output()
    assert "--tier namespaces" in playing.output()
    run = run_of(tmp_path)
    assert not (run / "secrets").exists()
    faults = [json.loads(line) for line in (run / "faults.jsonl").read_text().splitlines()]
    assert {fault["kind"] for fault in faults} <= {"packet loss 5 %", "packet loss 20 %"}
    lost = [int(re.findall(r"(\d+) lost", fault["detail"])[0]) for fault in faults]
    assert lost
    assert all(count > 20 for count in lost)
    assert check([str(run)]) == 0
    assert kept() == before
    assert devices() == around


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_harness_that_is_ended_early_leaves_no_process_and_no_namespace(
    tmp_path: Path, number: signal.Signals
) -> None:
    before = kept()
    playing = harness(tmp_path, "--tier", "namespaces", "--minutes", "5")
    playing.start()
    children: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 150
        journals: list[Path] = []
        while len(journals) < 3 or any(path.stat().st_size < 5_000 for path in journals):
            assert time.monotonic() < deadline, playing.output()
            with suppress(subprocess.TimeoutExpired):
                playing.wait(timeout_s=0.2)
            assert playing.running, playing.output()
            journals = list((tmp_path / "out").glob("*/journal-*.jsonl"))
        children = psutil.Process(playing.pid).children(recursive=True)
        assert len(children) >= 7  # three nodes, the switch, three processes of clients
        theirs = {namespace_of(one.pid) for one in (*children, psutil.Process(playing.pid))}
        assert len(theirs - {namespace_of(os.getpid())}) == 4  # of each node, and of the clients
        playing.signal(number)
        assert playing.wait(timeout_s=60) == (3 if number == signal.SIGTERM else -number)
    finally:
        playing.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    # Nobody is left in a namespace, and nothing else keeps one.
    assert kept() == before
