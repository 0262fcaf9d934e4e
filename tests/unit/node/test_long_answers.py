"""A short request that asks for megabytes must not fill the memory, nor stop the others."""

from __future__ import annotations

from typing import Any

import pytest

from node.session import ROOM_BYTES, Limits, Outbox, Session
from statemachine.workers import WorkerSession
from tests.unit.node.fakes import FakeLoop, FakeWire, frames_of
from tests.unit.node.world import Client, World
from tq.errors import ProtocolError
from tq.protocol import FRAME_MAX_BYTES, Type, encode, unpack

LONG = 300_000


@pytest.fixture
def world() -> World:
    return World()


def a_long_result(client: Client) -> bytes:
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)
    client.ack(Type.TASK_RESULT, task_id, grant[1], 0, bytes(LONG), "")
    return task_id


def test_one_turn_of_the_loop_makes_no_more_long_answers_than_fit(world: World) -> None:
    client = world.client()
    task_id = a_long_result(client)
    for _ in range(40):
        client.send(Type.QUERY_STATUS, task_id)
        client.send(Type.WAIT_RESULT, task_id, 1000)

    sizes: list[int] = []
    answers = 0
    while answers < 80:
        world.loop.turn()
        sizes.append(sum(map(len, client.wire.written)))
        answers += len(client.wire.take())
        assert len(sizes) < 100
    assert max(sizes) <= ROOM_BYTES + LONG + 1000
    assert client.session.in_flight == 0


def test_a_client_that_does_not_read_is_made_no_more_but_its_heartbeat_counts(
    world: World,
) -> None:
    client = world.client()
    task_id = a_long_result(client)
    session = client.register()
    client.session.stuck = True
    client.send(Type.QUERY_STATUS, task_id)
    client.send(Type.HEARTBEAT, session, [])
    assert [(Type.ACK, [])] == [(kind, fields[1]) for kind, fields in client.answers()]

    client.session.unstick()
    [(kind, [_, status])] = client.answers()
    assert (Type.ACK, LONG) == (kind, len(status["result"]))


def test_waits_for_one_task_are_answered_as_their_client_reads(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)
    waiter = world.client()
    for _ in range(20):
        waiter.send(Type.WAIT_RESULT, task_id, 60_000)
    world.loop.run()
    waiter.session.stuck = True
    client.ack(Type.TASK_RESULT, task_id, grant[1], 0, bytes(LONG), "")
    assert waiter.answers() == []
    waiter.session.unstick()
    assert len(waiter.answers()) == 20


def test_a_grant_whose_lease_ended_before_its_client_could_read_it_is_not_told(
    world: World,
) -> None:
    client = world.client()
    session = client.register()
    client.submit(lease_ms=1000, lost_max=0)
    kept = client.submit(lease_ms=60_000)
    client.session.stuck = True
    client.send(Type.CLAIM_TASK, session, ["q"], 2, 0)
    assert client.answers() == []
    world.pass_s(1.5)
    client.session.unstick()
    [(kind, [_, grants])] = client.answers()
    assert (Type.ACK, [kept]) == (kind, [grant[0] for grant in grants])


def test_what_waits_is_forgotten_with_its_connection(world: World) -> None:
    client = world.client()
    task_id = a_long_result(client)
    client.session.stuck = True
    client.send(Type.QUERY_STATUS, task_id)
    world.loop.run()
    client.close()
    client.session.unstick()
    assert client.answers() == []


# ---------------------------------------------------------------- longer than a frame


def register_many(world: World, count: int) -> None:
    capabilities = {f"{number:02}" + "k" * 248: "v" * 250 for number in range(64)}
    for number in range(count):
        worker_id = number.to_bytes(16, "big")
        world.client().ack(Type.REGISTER_WORKER, worker_id, "worker", ["q"], capabilities)


def test_an_answer_that_fits_no_frame_is_refused_with_what_to_do(world: World) -> None:
    client = world.client()
    register_many(world, 600)
    code, text, retry_after_ms = client.nack(Type.LIST_WORKERS)
    assert (code, retry_after_ms) == ("TOO_LARGE", None)
    assert str(FRAME_MAX_BYTES) in text
    assert "capabilities" in text
    assert client.session.in_flight == 0
    assert client.ack(Type.GET_STATS)[0]["workers"] == 600
    assert world.figures.requests[-2:] == [("LIST_WORKERS", "TOO_LARGE"), ("GET_STATS", "ACK")]


@pytest.mark.parametrize(("count", "fits"), [(65_535, True), (65_536, False)])
def test_no_answer_holds_a_longer_array_than_the_protocol_allows(
    world: World, monkeypatch: pytest.MonkeyPatch, count: int, fits: bool
) -> None:
    client = world.client()
    monkeypatch.setattr(world.machine, "statistics", lambda: {"queues": [{}] * count})
    if fits:
        client.send(Type.GET_STATS)
        world.loop.run()
        [frame] = client.wire.written
        assert len(unpack(frame[5:])[1]["queues"]) == count
        return
    code, text, _ = client.nack(Type.GET_STATS)
    assert code == "TOO_LARGE"
    assert "65535" in text
    assert "LIST_TASKS" in text


def test_a_long_answer_without_an_array_is_given(world: World) -> None:
    client = world.client()
    world.broker._answers.ack(client.session, Type.QUERY_STATUS, (1, bytes(LONG)))
    assert client.answers() == [(Type.ACK, [1, bytes(LONG)])]


@pytest.mark.parametrize("count", [65_535, 65_536])
def test_a_client_of_this_library_takes_what_the_protocol_allows_and_no_more(count: int) -> None:
    frame = encode(Type.ACK, [1, [0] * count])
    if count == 65_535:
        assert len(unpack(frame[5:])[1]) == count
    else:
        with pytest.raises(ProtocolError):
            unpack(frame[5:])


# ---------------------------------------------------------------- whatever raises


class Together:
    """Two connections that share an outbox, as all connections of a port do."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        outbox = Outbox(self.loop.call_soon)
        self.wires = (FakeWire(), FakeWire())
        self.one, self.two = (Session(wire, outbox, Limits()) for wire in self.wires)


def raises() -> None:
    raise LookupError("no such payload")


def told(number: int) -> bytes:
    return encode(Type.ACK, [number])


def test_an_answer_that_cannot_be_made_silences_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = Together()
    both.one.send(encode(Type.ACK, [1, bytes(ROOM_BYTES)]))
    both.one.when_room(raises)
    both.one.when_room(lambda: both.one.send(told(2)))
    both.two.send(told(3))
    both.loop.run()
    both.two.send(told(4))
    both.loop.run()

    one, two = (frames_of(b"".join(wire.written)) for wire in both.wires)
    assert [fields[0] for _, fields in two] == [3, 4]
    assert [fields[0] for _, fields in one] == [1, 2]
    assert "no such payload" in caplog.text


def test_a_client_that_reads_again_is_made_the_answers_behind_one_that_cannot_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = Together()
    both.one.stuck = True
    both.one.when_room(raises)
    both.one.when_room(lambda: both.one.send(told(2)))
    both.one.unstick()
    both.loop.run()
    assert both.wires[0].written == [told(2)]
    assert "no such payload" in caplog.text


def test_a_connection_that_cannot_be_written_to_ends_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    both = Together()

    def write(_data: bytes) -> None:
        raises()

    monkeypatch.setattr(both.wires[0], "write", write)
    both.one.send(told(1))
    both.two.send(told(2))
    both.loop.run()
    assert both.wires[1].written == [told(2)]
    assert [wire.is_closed for wire in both.wires] == [True, False]
    assert "no such payload" in caplog.text


# ---------------------------------------------------------------- long to make


@pytest.mark.parametrize("type_", [Type.GET_STATS, Type.LIST_WORKERS])
def test_what_takes_long_to_make_is_made_one_in_a_turn(
    world: World, monkeypatch: pytest.MonkeyPatch, type_: Type
) -> None:
    client = world.client()
    client.register()
    made: list[int] = []
    name = "statistics" if type_ is Type.GET_STATS else "sessions"
    make = getattr(world.machine, name)

    def counted(*args: Any, **named: Any) -> Any:
        made.append(1)
        return make(*args, **named)

    monkeypatch.setattr(world.machine, name, counted)
    askers = [world.client() for _ in range(10)]
    for asker in askers:
        for _ in range(5):
            asker.send(type_)
    most, before = 0, 0
    for _ in range(200):
        world.loop.turn()
        most, before = max(most, len(made) - before), len(made)
    assert (len(made), most) == (50, 1)
    for asker in askers:
        assert [Type.ACK] * 5 == [kind for kind, _ in asker.answers()]
        assert asker.session.in_flight == 0


def test_workers_of_other_namespaces_cost_a_list_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        world.client().register(worker=number.to_bytes(16, "big"))
    stranger = world.client()
    stranger.session.namespace = "team"
    own = stranger.register()
    viewed: list[int] = []
    view = WorkerSession.view

    def noted(self: WorkerSession) -> object:
        viewed.append(self.session)
        return view(self)

    monkeypatch.setattr(WorkerSession, "view", noted)
    [workers] = stranger.ack(Type.LIST_WORKERS)
    assert [worker["session"] for worker in workers] == viewed == [own]
