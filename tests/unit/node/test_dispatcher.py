from __future__ import annotations

import msgpack
import pytest

from node.session import Limits
from node.surroundings import Rules
from statemachine import decode_entry
from tests.unit.node.world import ADDRESSES, OTHER_ID, World
from tq.protocol import Type


@pytest.fixture
def world() -> World:
    return World()


def commands(world: World) -> list[list[str]]:
    """The names of the commands of every entry, entry by entry."""
    return [
        [type(command).__name__ for command in decode_entry(proposal.entry)[1]]
        for proposal in world.consensus.proposals
    ]


# ---------------------------------------------------------------- HELLO


def test_the_first_request_must_be_hello(world: World) -> None:
    client = world.client()
    client.session.accepted = False
    client.send(Type.NODE_STATUS)

    [(kind, answer)] = client.answers()
    assert (kind, answer[1]) == (Type.NACK, "UNAUTHENTICATED")
    assert client.wire.is_closed


def test_hello_tells_the_leader_and_the_bounds(world: World) -> None:
    client = world.client()
    client.session.accepted = False

    info = client.ack(Type.HELLO, 1, "a client", {"namespace": "team"})[0]

    assert (info["leader"], info["term"]) == (ADDRESSES[1], world.term)
    assert info["claim_max"] == 10
    assert client.session.namespace == "team"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ((2, "c", {}), "protocol_version"),
        ((1, 5, {}), "client_name"),
        ((1, "c" * 129, {}), "client_name"),
        ((1, "c", []), "options"),
        ((1, "c", {"colour": 1}), "colour"),
        ((1, "c", {"namespace": "a b"}), "namespace"),
        ((1, "c", {"token": 5}), "token"),
        ((1, "c"), "fields"),
    ],
)
def test_a_wrong_hello_names_the_field(world: World, fields: tuple[object], named: str) -> None:
    client = world.client()
    client.session.accepted = False

    code, text, _ = client.nack(Type.HELLO, *fields)

    assert code == "BAD_REQUEST"
    assert named in text
    assert not client.session.accepted


def test_a_second_hello_is_refused(world: World) -> None:
    assert world.client().nack(Type.HELLO, 1, "c", {})[0] == "BAD_REQUEST"


# ---------------------------------------------------------------- who may answer


@pytest.mark.parametrize(
    ("type_", "fields"),
    [
        (Type.SUBMIT_TASK, (b"i" * 16, "q", "n", b"", {})),
        (Type.CLAIM_TASK, (1, ["q"], 1, 0)),
        (Type.QUERY_STATUS, (b"i" * 16,)),
        (Type.WAIT_RESULT, (b"i" * 16, 1000)),
        (Type.GET_STATS, ()),
        (Type.LIST_WORKERS, ()),
        (Type.LIST_TASKS, ()),
        (Type.HEARTBEAT, (5, [])),
    ],
)
def test_a_follower_names_the_leader(type_: Type, fields: tuple[object, ...]) -> None:
    world = World(leads=False)
    world.follow()

    kind, answer = world.client().ask(type_, *fields)

    assert (kind, answer) == (Type.REDIRECT, [ADDRESSES[OTHER_ID], world.term])
    assert world.consensus.proposals == []
    assert world.consensus.barriers == 0


def test_a_node_that_knows_no_leader_redirects_to_nowhere() -> None:
    world = World(leads=False)
    world.follow(None)

    assert world.client().ask(Type.GET_STATS) == (Type.REDIRECT, ["", world.term])


def test_any_node_tells_of_itself_and_keeps_connections_alive() -> None:
    world = World(leads=False)
    world.follow()
    client = world.client()

    assert client.ack(Type.NODE_STATUS) == [{"node_id": 1}]
    assert client.ack(Type.DIGEST) == [0, world.machine.digest()]
    assert client.ack(Type.LOG_HASHES, 1, 10) == [1, 0, []]
    assert client.ack(Type.HEARTBEAT, 0, []) == [[]]
    assert client.nack(Type.HEARTBEAT, 0, [5])[0] == "BAD_REQUEST"


# ---------------------------------------------------------------- group commit


def test_all_that_comes_in_one_turn_is_one_entry(world: World) -> None:
    one, two = world.client(), world.client()
    before = len(world.consensus.proposals)
    for client in (one, two, one, two):
        client.send(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})
    answers = one.answers()

    assert len(world.consensus.proposals) == before + 1
    assert [kind for kind, _ in answers] == [Type.ACK, Type.ACK]
    assert [kind for kind, _ in two.answers()] == [Type.ACK, Type.ACK]


def test_the_answers_for_one_connection_are_one_write(world: World) -> None:
    client = world.client()
    for _ in range(50):
        client.send(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})
    world.loop.run()

    assert len(client.wire.written) == 1
    assert len(client.wire.take()) == 50


def test_what_the_leader_decoded_is_what_the_entry_says(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)
    client.ack(Type.PROGRESS, task_id, grant[1], 500, "half")
    client.ack(Type.EXTEND, task_id, grant[1], 60_000)
    client.ack(Type.TASK_RESULT, task_id, grant[1], 0, b"done", "")
    client.ack(Type.SUBMIT_BATCH, [[world.task_id(), "q", "n", b"", {}] for _ in range(3)])

    for proposal in world.consensus.proposals:
        assert decode_entry(proposal.entry) == proposal.decoded


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x90", b"\x05", b"\x91\xa1x", b"\x91\xff", b"\x92\x01"]
)
@pytest.mark.parametrize("type_", [Type.SUBMIT_TASK, Type.QUERY_STATUS, Type.HEARTBEAT, 0x77])
def test_bytes_that_are_no_request_end_their_connection_only(
    world: World, type_: int, body: bytes
) -> None:
    bad, good = world.client(), world.client()
    bad.send_raw(type_, body)
    good.submit()

    [(kind, answer)] = bad.answers()
    assert (kind, answer[0], answer[1]) == (Type.NACK, 0, "MALFORMED")
    assert bad.wire.is_closed
    assert not good.wire.is_closed


def test_nothing_is_written_after_the_answer_that_ends_a_connection(world: World) -> None:
    client = world.client()
    world.consensus.holds = True
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})
    world.loop.run()
    client.send_raw(Type.SUBMIT_TASK, b"\xc1")
    world.loop.run()
    world.consensus.apply()

    assert [answer[1] for _, answer in client.answers()] == ["MALFORMED"]


@pytest.mark.parametrize("type_", [0x00, 0x16, 0x40, 0x41, 0x44, 0x7F, 0x80, 0x81, 0xFF])
def test_an_unknown_type_is_refused_and_the_connection_lives(world: World, type_: int) -> None:
    client = world.client()

    assert client.nack(type_, [[b"i" * 16, 1]])[0] == "UNKNOWN_TYPE"
    client.submit()


@pytest.mark.parametrize(
    ("type_", "fields", "named"),
    [
        (Type.SUBMIT_TASK, (b"short", "q", "n", b"", {}), "task_id"),
        (Type.SUBMIT_TASK, (b"i" * 16, "q q", "n", b"", {}), "task_id"),
        (Type.CLAIM_TASK, (1, ["q"], 0, 0), "count"),
        (Type.CLAIM_TASK, (1, ["q"], 1_000_000, 0), "count"),
        (Type.CLAIM_TASK, (1, ["q"], 11, 0), "count"),
        (Type.CLAIM_TASK, (1, [], 1, 0), "queues"),
        (Type.WAIT_RESULT, (b"i" * 16, 60_001), "wait_ms"),
        (Type.WAIT_RESULT, (b"i", 1), "task_id"),
        (Type.HEARTBEAT, (-1, []), "session"),
        (Type.HEARTBEAT, (1, ["x"]), "tokens"),
        (Type.HEARTBEAT, (1, [], {"a": []}), "stats"),
        (Type.GET_STATS, (1,), "fields"),
    ],
)
def test_a_wrong_field_is_named(
    world: World, type_: Type, fields: tuple[object, ...], named: str
) -> None:
    code, text, _ = world.client().nack(type_, *fields)

    assert code == "BAD_REQUEST"
    assert named in text


def test_priority_256_is_refused(world: World) -> None:
    code, text, _ = world.client().nack(
        Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {"priority": 256}
    )

    assert (code, "priority" in text) == ("BAD_REQUEST", True)


def test_a_payload_over_the_limit_is_refused() -> None:
    world = World(rules=Rules(node_id=1, payload_max_bytes=100))
    client = world.client()

    assert (
        client.nack(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"x" * 101, {})[0] == "TOO_LARGE"
    )
    batch = [[world.task_id(), "q", "n", b"x" * 101, {}]]
    assert client.nack(Type.SUBMIT_BATCH, batch)[0] == "TOO_LARGE"
    assert client.nack(Type.TASK_RESULT, world.task_id(), 5, 0, b"x" * 101, "")[0] == "TOO_LARGE"
    client.ack(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"x" * 100, {})


# ---------------------------------------------------------------- the door


def test_progress_is_taken_once_a_second_per_task(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)

    client.ack(Type.PROGRESS, task_id, grant[1], 1, "")
    code, _, retry_ms = client.nack(Type.PROGRESS, task_id, grant[1], 2, "")
    assert (code, 0 < retry_ms <= 1000) == ("RATE_LIMITED", True)
    world.clock.pass_s(1.0)
    client.ack(Type.PROGRESS, task_id, grant[1], 3, "")


# ---------------------------------------------------------------- pressure


def test_reading_stops_while_too_much_of_one_connection_is_under_way(world: World) -> None:
    client, other = world.client(limits=Limits(in_flight_max=4)), world.client()
    world.consensus.holds = True
    for _ in range(4):
        client.send(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})
    other.send(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})
    world.loop.run()
    assert (client.wire.is_paused, other.wire.is_paused) == (True, False)

    world.consensus.apply()
    assert (client.wire.is_paused, other.wire.is_paused) == (False, False)
    assert client.session.in_flight == 0
    assert client.session.in_flight_bytes == 0


def test_reading_stops_by_bytes_too(world: World) -> None:
    client = world.client(limits=Limits(in_flight_max_bytes=1000))
    world.consensus.holds = True
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"x" * 1000, {})
    world.loop.run()

    assert client.wire.is_paused


# ---------------------------------------------------------------- losing leadership


def test_a_command_that_was_in_no_entry_is_redirected(world: World) -> None:
    client = world.client()
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})
    world.follow()

    [(kind, answer)] = client.answers()
    assert (kind, answer[1]) == (Type.REDIRECT, ADDRESSES[OTHER_ID])
    assert len(commands(world)) == 1, "only the settings of the new cluster"


def test_an_entry_that_certainly_is_not_applied_is_redirected(world: World) -> None:
    client = world.client()
    world.consensus.holds = True
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})
    world.loop.run()
    world.follow()
    world.consensus.drop("NOT_LEADER")

    assert [kind for kind, _ in client.answers()] == [Type.REDIRECT]


def test_a_leader_without_quorum_says_so(world: World) -> None:
    client = world.client()
    world.consensus.holds = True
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})
    world.loop.run()
    world.consensus.drop("NOT_LEADER")

    [(kind, answer)] = client.answers()
    assert (kind, answer[1]) == (Type.NACK, "NO_QUORUM")
    assert answer[3] > 0


def test_an_entry_whose_fate_is_open_has_an_unknown_outcome(world: World) -> None:
    client = world.client()
    world.consensus.holds = True
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})
    world.loop.run()
    world.consensus.drop("UNKNOWN_OUTCOME")

    [(kind, answer)] = client.answers()
    assert (kind, answer[1]) == (Type.NACK, "UNKNOWN_OUTCOME")


def test_answers_for_a_closed_connection_are_dropped(world: World) -> None:
    client = world.client()
    world.consensus.holds = True
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})
    world.loop.run()
    client.close()
    world.consensus.apply()

    assert client.answers() == []
    assert client.session.in_flight == 0


# ---------------------------------------------------------------- draining


def test_a_draining_node_refuses_new_work_and_takes_results(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)
    world.broker.drain()

    for type_, fields in (
        (Type.SUBMIT_TASK, (world.task_id(), "q", "n", b"", {})),
        (Type.CLAIM_TASK, (session, ["q"], 1, 1000)),
        (Type.REGISTER_WORKER, (b"v" * 16, "w", [], {})),
    ):
        code, _, retry_ms = client.nack(type_, *fields)
        assert (code, retry_ms > 0) == ("SHUTTING_DOWN", True)
    assert client.ack(Type.TASK_RESULT, task_id, grant[1], 0, b"", "") == ["completed"]


def test_every_answer_is_counted_by_type_and_code(world: World) -> None:
    client = world.client()
    client.submit()
    client.nack(Type.CLAIM_TASK, 1, ["q"], 99, 0)
    client.nack(0x77)
    world.follow()
    client.ask(Type.GET_STATS)

    assert world.figures.requests == [
        ("SUBMIT_TASK", "ACK"),
        ("CLAIM_TASK", "BAD_REQUEST"),
        ("UNKNOWN", "UNKNOWN_TYPE"),
        ("GET_STATS", "REDIRECT"),
    ]


def test_a_body_is_spliced_into_the_entry_as_it_came(world: World) -> None:
    # Longer forms of the same numbers: re-encoding would shorten them.
    task_id = world.task_id()
    tail = msgpack.packb(["q", "n", b"", {}])[1:]
    body = b"\x96" + b"\xce\x00\x00\x00\x07" + b"\xc4\x10" + task_id + tail
    client = world.client()
    client.send_raw(Type.SUBMIT_TASK, body)

    [(kind, answer)] = client.answers()
    assert (kind, answer[0]) == (Type.ACK, 7)
    assert body in world.consensus.proposals[-1].entry
