"""What every node tells at the end: of the same entry, or why not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from chaos.evidence import Evidence
from chaos.export import export
from tests.support.fake_cluster import a_client, a_cluster
from tests.support.fake_server import FakeNode, FakeRequest
from tests.support.virtual_time import in_virtual_time, now_s
from tq import Client
from tq.protocol import Type

ADDRESSES = {1: "n1:7401", 2: "n2:7401", 3: "n3:7401"}


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

    async def details(client: Client, address: str) -> AsyncIterator[Mapping[str, Any]]:
        yield {"task": "ab", "state": "completed", "result": address}
        yield {"log": 40, "term": 2, "crc": 7}

    await export(ADDRESSES, tmp_path, details=details, client=a_client(network))
    one, *_ = exports(tmp_path).exports
    assert one.whole
    assert one.tasks["ab"]["result"] == "n1:7401"
    assert one.log == {40: (2, 7)}
    head = json.loads((tmp_path / "export-1.jsonl").read_text().splitlines()[0])
    assert head["digest"] == "01" * 32
