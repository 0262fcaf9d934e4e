"""What every node tells at the end: of the same entry, or why not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from chaos.checkers import agreement
from chaos.details import details
from chaos.evidence import Evidence
from chaos.export import export
from tests.support.fake_cluster import a_client, a_cluster, a_status
from tests.support.fake_server import FakeNode, FakeRequest
from tests.support.virtual_time import in_virtual_time, now_s
from tq import Client, TaskId
from tq.protocol import Type

ADDRESSES = {1: "n1:7401", 2: "n2:7401", 3: "n3:7401"}
LATER = b"\x70\x00\x80" + b"\2" * 7


def at(node: FakeNode, index: int, digest: bytes = b"\1" * 32) -> None:
    node.on(Type.NODE_STATUS, lambda request: request.ack({"commit_index": index}))
    node.on(Type.DIGEST, lambda request: request.ack(index, digest))


def exports(path: Path) -> Evidence:
    (path / "run.json").write_text("{}")
    (path / "history.jsonl").touch()
    return Evidence.from_directory(path)


@in_virtual_time
async def test_nodes_are_asked_until_they_have_applied_the_same_entry(tmp_path: Path) -> None:
    network, *nodes = a_cluster()
    for node in nodes:
        at(node, 40)
    asked = 0

    def lagging(request: FakeRequest) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            request.nack("RATE_LIMITED", "", 300)
        else:
            request.ack(min(40, 37 + asked), b"\1" * 32)

    nodes[2].on(Type.DIGEST, lagging)
    assert await export(ADDRESSES, tmp_path, client=a_client(network)) == []
    told = exports(tmp_path).exports
    assert [(one.node, one.digest_index, one.applied) for one in told] == [
        (1, 40, 40),
        (2, 40, 40),
        (3, 40, 40),
    ]
    assert not any(one.whole for one in told)


@in_virtual_time
async def test_a_node_that_stays_behind_or_away_is_told_and_the_rest_is_written(
    tmp_path: Path,
) -> None:
    network, n1, n2, n3 = a_cluster()
    at(n1, 40)
    at(n2, 39)
    n3.up = False
    troubles = await export(ADDRESSES, tmp_path, client=a_client(network))
    assert len(troubles) == 2
    assert "node 3 did not tell its state" in troubles[0]
    assert "the nodes did not come to the same entry: {1: 40, 2: 39}" in troubles[1]
    assert 60 <= now_s() <= 70
    assert [one.node for one in exports(tmp_path).exports] == [1, 2]


@in_virtual_time
async def test_what_a_node_tells_beyond_its_digest_follows_in_its_file(tmp_path: Path) -> None:
    network, *nodes = a_cluster()
    for node in nodes:
        at(node, 40)

    async def invented(client: Client, address: str) -> AsyncIterator[Mapping[str, Any]]:
        yield {"task": "ab", "state": "completed", "result": address}
        yield {"log": 40, "term": 2, "crc": 7}

    await export(ADDRESSES, tmp_path, details=invented, client=a_client(network))
    one, *_ = exports(tmp_path).exports
    assert one.whole
    assert one.tasks["ab"]["result"] == "n1:7401"
    assert one.log == {40: (2, 7)}
    head = json.loads((tmp_path / "export-1.jsonl").read_text().splitlines()[0])
    assert head["digest"] == "01" * 32


def tells(node: FakeNode, *, result: bytes = b"done", crc: int = 7) -> None:
    """Let a node tell two tasks on two pages, and three entries on two."""
    ids = [TaskId("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"), TaskId.from_bytes(b"\2" * 6 + LATER)]

    def tasks(request: FakeRequest) -> None:
        assert request.fields[0]["consistency"] == "stale"
        if "after" in request.fields[0]:
            long = a_status(ids[1], result=None, result_bytes=2000)
            request.ack([long], b"", 40)
        else:
            short = a_status(ids[0], result=result, result_bytes=4, finished_at_ms=5)
            request.ack([short], ids[0].raw, 40)

    def log(request: FakeRequest) -> None:
        entries = [[38, 2, 5], [39, 2, 0], [40, 2, crc]]
        told = [one for one in entries if one[0] >= request.fields[0]]
        request.ack(38, 40, told[:2])

    at(node, 40)
    node.on(Type.LIST_TASKS, tasks)
    node.on(Type.LOG_HASHES, log)


@in_virtual_time
async def test_every_task_and_every_log_entry_of_a_node_are_told(tmp_path: Path) -> None:
    network, *nodes = a_cluster()
    for node in nodes:
        tells(node)
    assert await export(ADDRESSES, tmp_path, details=details, client=a_client(network)) == []
    evidence = exports(tmp_path)
    one = evidence.exports[0]
    assert one.whole
    first, second = one.tasks.values()
    assert first == {
        "task": "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b",
        "state": "completed",
        "attempt": 1,
        "failures": 0,
        "lost": 0,
        "queue": "default",
        "priority": 100,
        "finished_at_ms": 5,
        "result": b"done".hex(),
        "error": None,
    }
    assert ("result" in second, second["result_bytes"]) == (False, 2000)
    assert one.log == {38: (2, 5), 39: (2, 0), 40: (2, 7)}
    verdict = agreement.check(evidence)
    assert verdict.ok
    assert (verdict.counts["tasks compared"], verdict.counts["log entries compared"]) == (6, 9)


@in_virtual_time
async def test_nodes_that_tell_other_tasks_or_entries_do_not_agree(tmp_path: Path) -> None:
    network, n1, n2, n3 = a_cluster()
    tells(n1)
    tells(n2, result=b"other")
    tells(n3, crc=8)
    await export(ADDRESSES, tmp_path, details=details, client=a_client(network))
    violations = agreement.check(exports(tmp_path)).violations
    assert any("result '646f6e65' and '6f74686572'" in text for text in violations)
    assert any("logs of nodes 1 and 3 differ at entry 40" in text for text in violations)


@in_virtual_time
async def test_a_node_that_does_not_tell_its_tasks_is_named(tmp_path: Path) -> None:
    network, *nodes = a_cluster()
    for node in nodes:
        tells(node)
    nodes[1].on(Type.LOG_HASHES, lambda request: request.nack("FORBIDDEN", "no"))
    troubles = await export(ADDRESSES, tmp_path, details=details, client=a_client(network))
    assert len(troubles) == 1
    assert "node 2 did not tell its tasks and log" in troubles[0]
