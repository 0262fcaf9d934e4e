"""Room for requests: whoever does not go in, or cannot, holds nobody up."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.fake_cluster import a_client, a_cluster
from tests.support.virtual_time import in_virtual_time, now_s
from tq.errors import ConfigError, Unavailable
from tq.protocol import Type
from tq.room import Room


@in_virtual_time
async def test_those_in_line_go_in_as_others_leave_and_before_those_who_come_later() -> None:
    room = Room(1)
    order: list[int] = []

    async def visit(number: int) -> None:
        if not room.enter():
            await room.wait(now_s() + 60)
        assert room.taken == 1
        order.append(number)
        await asyncio.sleep(1)
        room.leave()

    assert room.enter()
    visits = [asyncio.create_task(visit(number)) for number in range(3)]
    await asyncio.sleep(1)
    visits.append(asyncio.create_task(visit(3)))  # begins before the first in line wakes up
    room.leave()
    await asyncio.gather(*visits)
    assert order == [0, 1, 2, 3]
    assert room.taken == 0


@in_virtual_time
async def test_a_deadline_in_the_moment_of_the_turn_passes_it_on() -> None:
    room = Room(1)
    assert room.enter()
    late = asyncio.create_task(room.wait(1.0))
    patient = asyncio.create_task(room.wait(60.0))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(1.0 - 1e-12, room.leave)  # in the same turn of the loop
    with pytest.raises(Unavailable, match="1 requests were in flight"):
        await late
    await patient
    assert now_s() <= 1.1
    room.leave()
    assert room.taken == 0


@in_virtual_time
async def test_whoever_is_cancelled_in_the_moment_of_the_turn_passes_it_on() -> None:
    room = Room(1)
    assert room.enter()
    tired, patient = (asyncio.create_task(room.wait(60.0)) for _ in range(2))
    await asyncio.sleep(0)
    room.leave()
    tired.cancel()
    await patient
    assert (tired.cancelled(), room.taken, now_s()) == (True, 1, 0)


@in_virtual_time
async def test_a_request_that_cannot_be_written_holds_up_nobody() -> None:
    network, n1, *_ = a_cluster()
    async with a_client(network, in_flight_max=1) as client:
        first = asyncio.create_task(client.submit("echo"))
        request = await n1.next(Type.SUBMIT_TASK)
        channel = client._channel
        wrong = asyncio.create_task(channel.call(Type.PROGRESS, [object()], deadline_s=5))
        await asyncio.sleep(0)
        last = asyncio.create_task(client.submit("echo"))
        await asyncio.sleep(0)
        request.ack(1)
        await first
        with pytest.raises(ConfigError):
            await wrong
        (await n1.next(Type.SUBMIT_TASK)).ack(2)
        await last
        assert now_s() <= 0.1
