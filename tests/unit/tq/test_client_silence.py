"""A leader that answers nothing while its connections stay open: a paused process, a cut line."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.support.fake_cluster import N1, N2, N3, a_client, a_cluster, a_status
from tests.support.fake_server import FakeNode, FakeRequest
from tests.support.virtual_time import VirtualLoop, in_virtual_time, now_s
from tq.client import Client
from tq.errors import Unauthenticated, Unavailable, UnknownOutcome
from tq.ids import TaskId
from tq.protocol import Type


def in_term(term: int, *nodes: FakeNode, leader: str = N1) -> None:
    """Let nodes believe in a leader."""
    for node in nodes:
        node.info = {"term": term}
        node.leader = leader


def falls_silent(node: FakeNode) -> None:
    """Let a node take what it is sent, and answer nothing but what the test answers."""
    node.on(Type.HEARTBEAT, lambda request: None)
    node.on(Type.HELLO, lambda request: None)


@in_virtual_time
async def test_a_silent_leader_is_left_as_soon_as_the_next_one_stands() -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1, n2, n3)
    async with a_client(network) as client:
        falls_silent(n1)
        submitting = asyncio.create_task(client.submit("echo", b"x"))
        first = await n1.next(Type.SUBMIT_TASK)
        await asyncio.sleep(0.7)
        in_term(6, n2, n3, leader=N3)
        again = await n3.next(Type.SUBMIT_TASK)
        assert now_s() <= 1.0
        again.ack(3)
        assert (await submitting).log_index == 3
        assert n1.peers == []
    assert again.body == first.body
    assert n1.count(Type.HELLO) == 1
    await asyncio.sleep(0)
    assert n2.peers == n3.peers == []


@in_virtual_time
async def test_a_leader_that_is_merely_slow_is_asked_for_a_sign_and_nobody_else_is() -> None:
    network, n1, *_ = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo", deadline="60s"))
        request = await n1.next(Type.SUBMIT_TASK)
        await asyncio.sleep(30)
        request.ack(1)
        await submitting
    assert network.dialled == [N1]
    assert 3 <= n1.count(Type.HEARTBEAT) <= 1 + 2 + 30


@in_virtual_time
async def test_a_leader_that_was_slow_once_is_noticed_as_soon_as_any_other() -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1)
    in_term(6, n2, n3, leader=N2)
    n2.on(Type.SUBMIT_TASK, lambda request: request.ack(2))
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo", deadline="60s"))
        request = await n1.next(Type.SUBMIT_TASK)
        await asyncio.sleep(30)
        request.ack(1)
        await submitting
        falls_silent(n1)
        silent_at_s = now_s()
        await client.submit("echo")
        assert now_s() - silent_at_s <= 1.0


@in_virtual_time
async def test_a_silent_leader_is_noticed_however_much_more_it_is_asked() -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1)
    in_term(6, n2, n3, leader=N2)
    n2.on(Type.SUBMIT_TASK, lambda request: request.ack(2))
    async with a_client(network) as client:
        falls_silent(n1)
        submitting = []
        for _ in range(20):
            submitting.append(asyncio.create_task(client.submit("echo", deadline="5s")))
            await asyncio.sleep(0.05)
        assert n2.count(Type.SUBMIT_TASK) > 0
        await asyncio.gather(*submitting)


@in_virtual_time
async def test_a_silent_leader_that_the_others_believe_in_may_yet_answer() -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1, n2, n3)
    asked_at_s: list[float] = []

    def believe(request: FakeRequest) -> None:
        asked_at_s.append(now_s())
        request.ack({"leader": N1, "term": 5})

    n2.on(Type.HELLO, believe)
    n3.on(Type.HELLO, believe)
    async with a_client(network) as client:
        falls_silent(n1)
        submitting = asyncio.create_task(client.submit("echo"))
        request = await n1.next(Type.SUBMIT_TASK)
        await asyncio.sleep(1.8)
        assert len(asked_at_s) >= 4
        gaps_s = [later - earlier for earlier, later in pairwise([0.5, *asked_at_s])]
        assert min(gaps_s) >= 0.05, "no hammering"
        assert N1 not in network.dialled[1:]
        request.ack(4)
        assert (await submitting).log_index == 4
        asked = len(network.dialled)
        await asyncio.sleep(1)
        assert len(network.dialled) == asked, "nobody is asked any more"
        assert n2.peers == n3.peers == []
    assert n1.count(Type.SUBMIT_TASK) == 1


@pytest.mark.parametrize("term", [4, 5])
@in_virtual_time
async def test_a_silent_leader_is_not_left_for_one_of_no_later_term(term: int) -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1, n3)
    in_term(term, n2, leader=N2)  # cut off, and it has not noticed
    async with a_client(network) as client:
        falls_silent(n1)
        submitting = asyncio.create_task(client.submit("echo"))
        request = await n1.next(Type.SUBMIT_TASK)
        await asyncio.sleep(1.8)
        request.ack(1)
        await submitting
    assert n2.count(Type.HELLO) > 0
    assert n2.count(Type.SUBMIT_TASK) == 0


@in_virtual_time
async def test_a_silent_leader_that_leads_again_by_now_is_not_left_for_itself() -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1)
    in_term(7, n2, n3)
    async with a_client(network) as client:
        falls_silent(n1)
        submitting = asyncio.create_task(client.submit("echo"))
        request = await n1.next(Type.SUBMIT_TASK)
        await asyncio.sleep(1.8)
        request.ack(1)
        await submitting
    assert n2.count(Type.HELLO) > 0
    assert network.dialled.count(N1) == 1


@in_virtual_time
async def test_nodes_that_do_not_tell_the_term_are_believed() -> None:
    network, n1, n2, n3 = a_cluster()
    async with a_client(network) as client:
        falls_silent(n1)
        submitting = asyncio.create_task(client.submit("echo"))
        n2.leader = n3.leader = N2
        (await n2.next(Type.SUBMIT_TASK)).ack(2)
        await submitting
        assert now_s() <= 1.0


@in_virtual_time
async def test_what_a_silent_leader_was_sent_stays_at_risk() -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1)
    in_term(6, n2, n3, leader=N2)
    n2.on(Type.SUBMIT_TASK, lambda request: request.nack("QUEUE_FULL", "full", 100))
    async with a_client(network) as client:
        falls_silent(n1)
        with pytest.raises(UnknownOutcome, match="sent before"):
            await client.submit("echo")
    assert (n1.count(Type.SUBMIT_TASK), n2.count(Type.SUBMIT_TASK)) == (1, 1)


@in_virtual_time
async def test_a_refusal_beside_a_silent_leader_is_no_answer_to_what_it_was_asked() -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1, n3)
    async with a_client(network) as client:
        falls_silent(n1)
        n2.on(Type.HELLO, lambda request: request.nack("UNAUTHENTICATED", "wrong token"))
        submitting = asyncio.create_task(client.submit("echo"))
        request = await n1.next(Type.SUBMIT_TASK)
        await asyncio.sleep(1.8)
        assert n2.count(Type.HELLO) > 0
        request.ack(1)
        await submitting


@in_virtual_time
async def test_a_silent_node_without_others_is_connected_to_again_in_the_end() -> None:
    network, n1, *_ = a_cluster()
    async with a_client(network, servers=N1) as client:
        n1.deaf = True
        submitting = asyncio.create_task(client.submit("echo"))
        await asyncio.sleep(1.9)
        assert network.dialled == [N1]
        await asyncio.sleep(0.5)
        n1.deaf = False
        (await n1.next(Type.SUBMIT_TASK)).ack(1)
        await submitting
        assert now_s() <= 2.0 + 2.0 + 1.0  # noticed, a connection nobody answers, one more


@in_virtual_time
async def test_an_idle_worker_seldom_speaks_and_leaves_a_silent_leader_all_the_same() -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1, n2, n3)
    async with a_client(network) as client:
        claiming = asyncio.create_task(client.claim(1, ["q"], 1, wait="60s"))
        await n1.next(Type.CLAIM_TASK)
        await asyncio.sleep(30)
        assert n1.count(Type.HEARTBEAT) <= 1 + 30
        n1.deaf = True
        in_term(6, n2, n3, leader=N2)
        silent_at_s = now_s()
        (await n2.next(Type.CLAIM_TASK)).ack([])
        assert await claiming == []
        assert now_s() - silent_at_s <= 2.0


@in_virtual_time
async def test_a_new_client_is_not_stuck_at_a_node_that_answers_nothing() -> None:
    network, n1, n2, n3 = a_cluster(leader=N2)
    n1.deaf = True
    n2.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        await client.submit("echo")
        assert now_s() <= 0.3
        await asyncio.sleep(0)
        assert n1.peers == []
    assert n3.count(Type.HELLO) == 0


@in_virtual_time
async def test_a_new_client_is_not_stuck_at_the_silent_leader_that_the_others_name() -> None:
    network, n1, n2, n3 = a_cluster(leader=N3)
    n3.deaf = True
    client = a_client(network)
    submitting = asyncio.create_task(client.submit("echo"))
    await asyncio.sleep(0.6)
    n1.leader = n2.leader = N2
    (await n2.next(Type.SUBMIT_TASK)).ack(1)
    await submitting
    assert now_s() <= 0.9
    await client.close()
    assert n1.peers == n2.peers == n3.peers == []


@in_virtual_time
async def test_whoever_named_a_silent_leader_is_let_go_with_the_search() -> None:
    network, n1, n2, n3 = a_cluster(leader=N3)
    n3.deaf = True
    n2.leader = N2
    n2.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        await client.submit("echo")
        await asyncio.sleep(0)
        assert (len(n1.peers), len(n2.peers), len(n3.peers)) == (0, 1, 0)


@in_virtual_time
async def test_whoever_named_the_leader_is_let_go_once_the_leader_answers() -> None:
    network, n1, n2, n3 = a_cluster(leader=N3)
    async with a_client(network):
        await asyncio.sleep(0)
        assert (n1.count(Type.HELLO), len(n1.peers)) == (1, 0)
        assert (len(n2.peers), len(n3.peers)) == (0, 1)


@in_virtual_time
async def test_whoever_named_a_leader_out_of_reach_and_went_away_is_not_used() -> None:
    network, n1, n2, _ = a_cluster(leader=N3)

    async def dial(address: str, protocol: asyncio.Protocol) -> None:
        if address == N3:
            await asyncio.sleep(0.2)
            n1.crash()
            await asyncio.sleep(0.01)
            raise ConnectionRefusedError
        await network.dial(address, protocol)

    n2.leader = N2
    n2.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with Client([N1, N2], dial=dial) as client:
        await client.submit("echo")
        assert now_s() <= 0.5


@in_virtual_time
async def test_a_call_to_a_leader_that_fell_silent_while_nothing_was_asked_looks_around() -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1)
    in_term(6, n2, n3, leader=N2)
    n2.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        n1.deaf = True
        connection = client._channel._connection
        assert connection is not None
        while not connection.is_silent:
            await asyncio.sleep(0.01)
        assert network.dialled == [N1]
        asked_at_s = now_s()
        await client.submit("echo")
        assert now_s() - asked_at_s <= 0.3


@in_virtual_time
async def test_whoever_named_a_leader_that_refuses_is_let_go() -> None:
    network, n1, n2, _ = a_cluster(leader=N2)
    n2.on(Type.HELLO, lambda request: request.nack("UNAUTHENTICATED", "wrong token"))
    client = a_client(network)
    with pytest.raises(Unauthenticated):
        await client.submit("echo")
    await asyncio.sleep(0.1)
    assert n1.peers == n2.peers == []
    await client.close()


@in_virtual_time
async def test_of_two_that_answer_in_the_same_moment_one_is_let_go() -> None:
    network, *nodes = a_cluster()

    def at_once(request: FakeRequest) -> None:
        asyncio.get_running_loop().call_at(0.4, request.ack, {"leader": ""})

    for node in nodes:
        node.on(Type.HELLO, at_once)
        node.on(Type.QUERY_STATUS, lambda request: request.ack(a_status(task_id), 1))
    task_id = TaskId.new()
    client = a_client(network)
    await client.status(task_id, consistency="stale")
    assert now_s() == 0.4
    await asyncio.sleep(0.1)
    assert sorted(len(node.peers) for node in nodes) == [0, 0, 1]
    assert len(network.dialled) == 2
    await client.close()


@in_virtual_time
async def test_a_leader_far_away_is_waited_for() -> None:
    network, n1, n2, n3 = a_cluster(leader=N3)

    def slowly(node: FakeNode) -> None:
        def answer(request: FakeRequest) -> None:
            asyncio.get_running_loop().call_later(0.9, request.ack, {"leader": N3})

        node.on(Type.HELLO, answer)

    for node in (n1, n2, n3):
        slowly(node)
    n3.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        await client.submit("echo")
        assert now_s() <= 1.9
        assert len(network.dialled) <= 5
    assert n1.peers == n2.peers == n3.peers == []


@in_virtual_time
async def test_a_stale_read_at_a_silent_node_is_asked_at_another() -> None:
    network, *nodes = a_cluster()
    task_id = TaskId.new()
    client = a_client(network)
    for node in nodes:
        node.on(Type.QUERY_STATUS, lambda request: request.ack(a_status(task_id), 1))
    await client.status(task_id, consistency="stale")
    [used] = [node for node in nodes if node.peers]
    used.deaf = True
    await client.status(task_id, consistency="stale")
    assert now_s() <= 1.0
    await client.close()


@in_virtual_time
async def test_closing_beside_a_silent_leader_lets_all_connections_go() -> None:
    network, n1, n2, n3 = a_cluster()
    in_term(5, n1, n2, n3)
    client = a_client(network)
    await client.connect()
    n1.deaf = n2.deaf = n3.deaf = True
    with pytest.raises(UnknownOutcome):
        await client.submit("echo", deadline="1.5s")
    assert n2.peers or n3.peers
    await client.close()
    assert n1.peers == n2.peers == n3.peers == []


@in_virtual_time
async def test_when_all_are_silent_nobody_is_dialled_twice_at_a_time() -> None:
    network, n1, n2, n3 = a_cluster()
    n1.deaf = n2.deaf = n3.deaf = True
    client = a_client(network)
    submitting = asyncio.create_task(client.submit("echo", deadline="10s"))
    for _ in range(95):
        await asyncio.sleep(0.1)
        assert all(len(node.peers) <= 1 for node in (n1, n2, n3))
    with pytest.raises(Unavailable, match="no answer to HELLO"):
        await submitting
    await client.close()
    assert len(asyncio.all_tasks()) == 1
    assert len(network.dialled) <= 3 * 6
    assert n1.peers == n2.peers == n3.peers == []


def test_whom_an_event_loop_that_is_gone_was_asking_is_asked_by_the_next_one() -> None:
    network, n1, *_ = a_cluster()
    client = a_client(network, servers=N1)
    n1.on(Type.HELLO, lambda request: None)
    gone = VirtualLoop()
    submitting = gone.create_task(client.submit("echo", deadline="5s"))
    gone.run_until_complete(asyncio.sleep(1))
    gone.is_closed = lambda: True  # type: ignore[method-assign]  # as far as others can tell
    answering = FakeNode(N1)
    answering.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    network.nodes[N1] = answering

    @in_virtual_time
    async def again() -> None:
        await client.submit("echo", deadline="5s")
        await client.close()

    again()
    assert answering.count(Type.SUBMIT_TASK) == 1
    assert not submitting.done()
    del gone.is_closed
    left = asyncio.all_tasks(gone)
    for task in left:
        task.cancel()
    gone.run_until_complete(asyncio.wait(left))
    gone.close()


@in_virtual_time
async def test_closing_waits_for_those_who_are_slow_to_give_up() -> None:
    network, *nodes = a_cluster()
    for node in nodes:
        node.deaf = True

    async def dial(address: str, protocol: asyncio.Protocol) -> None:
        await network.dial(address, protocol)
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.1)

    client = Client(N1, dial=dial)
    with pytest.raises(Unavailable):
        await client.submit("echo", deadline="1s")
    await client.close()
    assert len(asyncio.all_tasks()) == 1
