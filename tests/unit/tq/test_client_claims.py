"""Claims: ids that nobody else's have, and what becomes of one that is given up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.fake_cluster import N1, a_client, a_cluster
from tests.support.fake_server import FakeNetwork, FakeNode, FakeRequest
from tests.support.virtual_time import in_virtual_time
from tq.client import Client
from tq.errors import UnknownOutcome
from tq.ids import TaskId
from tq.protocol import REQUEST_ID_MAX, Type
from tq.sync import SyncClient


def a_grant(token: int) -> list[Any]:
    return [TaskId.new().raw, token, "mail", "send", b"p", 1, 30_000, 0, 12]


def claims(node: FakeNode) -> list[int]:
    return [request.request_id for request in node.seen if request.type == Type.CLAIM_TASK]


def test_a_blocking_client_that_starts_anew_claims_under_another_id() -> None:
    nodes: list[FakeNode] = []

    async def dial(address: str, protocol: asyncio.Protocol) -> None:
        nodes.append(FakeNode(N1))
        nodes[-1].on(Type.CLAIM_TASK, lambda request: request.ack([]))
        await FakeNetwork(nodes[-1]).dial(address, protocol)

    client = SyncClient(N1, dial=dial)
    for _ in range(2):
        with client:
            client.claim(77, ["mail"], 1)
    ids = [request_id for node in nodes for request_id in claims(node)]
    assert len(set(ids)) == len(ids) == 2


@in_virtual_time
async def test_clients_that_share_a_session_cannot_mistake_each_others_claims() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.CLAIM_TASK, lambda request: request.ack([]))
    for _ in range(3):
        async with a_client(network) as client:  # each with the same random numbers for jitter
            for _ in range(3):
                await client.claim(77, ["mail"], 1)
    ids = claims(n1)
    assert len(set(ids)) == 9
    assert ids[0] + 2 == ids[2]
    assert max(ids) < REQUEST_ID_MAX // 16  # room to count on, below the connections' own id


async def the_release_of(node: FakeNode, token: int) -> FakeRequest:
    request = await node.next(Type.RELEASE)
    assert request.fields[1] == token
    return request


@in_virtual_time
async def test_what_comes_after_the_deadline_of_a_claim_is_given_back() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        with pytest.raises(UnknownOutcome):
            await client.claim(77, ["mail"], 2, wait=5, deadline=1)
        claim = await n1.next(Type.CLAIM_TASK)
        grants = [a_grant(101), a_grant(102)]
        claim.ack(grants)
        for grant in grants:
            release = await the_release_of(n1, grant[1])
            assert release.fields[0] == grant[0]
            release.ack()


@in_virtual_time
async def test_what_comes_after_a_claim_was_cancelled_is_given_back() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        claiming = asyncio.create_task(client.claim(77, ["mail"], 1, wait=60))
        claim = await n1.next(Type.CLAIM_TASK)
        claiming.cancel()
        await asyncio.wait([claiming])
        claim.ack([a_grant(101)])
        (await the_release_of(n1, 101)).ack()


@in_virtual_time
async def test_what_comes_in_the_moment_in_which_a_claim_is_cancelled_is_given_back() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        claiming = asyncio.create_task(client.claim(77, ["mail"], 1, wait=60))
        claim = await n1.next(Type.CLAIM_TASK)
        connection = client._channel._connection
        assert connection is not None
        client._channel._receive(connection, Type.ACK, [claim.request_id, [a_grant(101)]])
        claiming.cancel()
        (await the_release_of(n1, 101)).ack()
        await asyncio.wait([claiming])
        assert claiming.cancelled()


@in_virtual_time
async def test_what_comes_in_the_moment_in_which_the_deadline_passes_is_given_back() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        claiming = asyncio.create_task(client.claim(77, ["mail"], 1, wait=60))
        claim = await n1.next(Type.CLAIM_TASK)
        [request], connection = client._channel._requests.values(), client._channel._connection
        assert connection is not None
        client._channel._expire(request, 1)
        client._channel._receive(connection, Type.ACK, [claim.request_id, [a_grant(101)]])
        with pytest.raises(UnknownOutcome):
            await claiming
        (await the_release_of(n1, 101)).ack()
        assert {} == client._channel._given_up._claims


@in_virtual_time
async def test_a_release_outlives_a_change_of_leader() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        with pytest.raises(UnknownOutcome):
            await client.claim(77, ["mail"], 1, wait=5, deadline=1)
        (await n1.next(Type.CLAIM_TASK)).ack([a_grant(101)])
        (await the_release_of(n1, 101)).hang_up()
        (await the_release_of(n1, 101)).ack()


@in_virtual_time
async def test_a_claim_that_was_refused_or_lost_after_it_was_given_up_leaves_nothing() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        for is_refused in (True, False):
            with pytest.raises(UnknownOutcome):
                await client.claim(77, ["mail"], 1, wait=5, deadline=1)
            claim = await n1.next(Type.CLAIM_TASK)
            if is_refused:
                claim.nack("UNKNOWN_SESSION")
            else:
                claim.hang_up()
            await client.heartbeat(0)
            assert {} == client._channel._given_up._claims
    assert n1.count(Type.RELEASE) == 0


@in_virtual_time
async def test_claims_that_were_answered_are_not_given_back() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.CLAIM_TASK, lambda request: request.ack([a_grant(101)]))
    client: Client
    async with a_client(network) as client:
        assert len(await client.claim(77, ["mail"], 1)) == 1
        assert {} == client._channel._given_up._claims
    assert n1.count(Type.RELEASE) == 0
