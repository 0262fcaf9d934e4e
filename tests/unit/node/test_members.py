"""CHANGE_MEMBERS: from the request to the engine, and its answers back as codes and texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from cluster.configuration import AddLearner, Change, ChangeRefusal, Promote, Remove
from cluster.inquiry import Finding
from node.addresses import Address
from node.config import Config, Persistence, Raft
from node.lookout import Seen
from node.members import Members
from node.settings import replica_config, unreachable
from tests.unit.node.world import Client, World
from tq.protocol import Code, Type

CHANGE = Type.CHANGE_MEMBERS
AT = "127.0.0.1:7430"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def ask(client: Client, *fields: object) -> int:
    """Ask for a change, and let the leader prove that it leads."""
    rid = client.send(CHANGE, *fields)
    client.world.loop.run()
    return rid


def asked(world: World) -> tuple[Change, object]:
    [only] = world.consensus.changes
    return only


def refused(world: World, client: Client, refusal: ChangeRefusal) -> tuple[int, list[Any]]:
    rid = ask(client, "remove", 4, "")
    _, context = asked(world)
    world.broker.change_done(context, 0, refusal)
    [(kind, answer)] = client.answers()
    assert answer[0] == rid
    return kind, answer[1:]


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        (("add", 4, AT), AddLearner(4, ("127.0.0.1", 7430))),
        (("add", 4, "[::1]:7430"), AddLearner(4, ("::1", 7430))),
        (("promote", 4, ""), Promote(4)),
        (("remove", 65_535, ""), Remove(65_535)),
    ],
)
def test_a_change_goes_to_the_engine_and_is_acknowledged_with_its_index(
    world: World, client: Client, fields: tuple[Any, ...], change: Change
) -> None:
    rid = ask(client, *fields)
    wanted, context = asked(world)
    assert wanted == change
    assert client.answers() == [], "not before it is committed"
    world.broker.change_done(context, 57, None)
    assert client.answers() == [(Type.ACK, [rid, 57])]


@pytest.mark.parametrize("verb", ["promote", "remove"])
def test_only_a_node_that_is_added_has_an_address(client: Client, verb: str) -> None:
    code, text, _ = client.nack(CHANGE, verb, 4, AT)
    assert (code, text) == ("BAD_REQUEST", f'address must be "" to {verb} a node')


def test_another_node_redirects(world: World, client: Client) -> None:
    world.follow()
    kind, _ = client.ask(CHANGE, "promote", 4, "")
    assert kind == Type.REDIRECT
    assert world.consensus.changes == []


def test_every_refusal_of_the_engine_has_an_answer_that_says_what_to_do() -> None:
    for refusal in get_args(ChangeRefusal):
        world = World()
        kind, answer = refused(world, world.client(), refusal)
        assert kind == Type.NACK
        code, text, _ = answer
        assert code in set(Code)
        assert "{" not in text
        assert len(text) > 20


@pytest.mark.parametrize(
    ("refusal", "code", "repeats"),
    [
        ("CHANGE_UNDER_WAY", "CHANGE_UNDER_WAY", True),
        ("NOT_SETTLED", "NOT_SETTLED", True),
        ("HANDING_OVER", "HANDING_OVER", True),
        ("NOT_CAUGHT_UP", "NOT_CAUGHT_UP", True),
        ("QUORUM_AT_RISK", "QUORUM_AT_RISK", True),
        ("UNKNOWN_OUTCOME", "UNKNOWN_OUTCOME", True),
        ("NO_SUCH_MEMBER", "NO_SUCH_MEMBER", False),
        ("TOO_MANY", "TOO_MANY_MEMBERS", False),
        ("ALREADY", "ALREADY", False),
    ],
)
def test_a_refusal_that_passes_says_when_to_ask_again(
    world: World, client: Client, refusal: ChangeRefusal, code: str, repeats: bool
) -> None:
    _, (said, _, retry_after_ms) = refused(world, client, refusal)
    assert (said, retry_after_ms is not None) == (code, repeats)


def test_a_leader_that_was_deposed_meanwhile_redirects(world: World, client: Client) -> None:
    ask(client, "promote", 4, "")
    _, context = asked(world)
    world.follow()
    world.broker.change_done(context, 0, "NOT_LEADER")
    [(kind, _)] = client.answers()
    assert kind == Type.REDIRECT


@pytest.mark.parametrize("verb", ["add", "promote", "remove"])
def test_a_leader_says_nothing_of_members_before_it_knows_that_it_leads(
    world: World, client: Client, verb: str
) -> None:
    world.consensus.holds_reads = True
    ask(client, verb, 4, AT if verb == "add" else "")
    assert world.consensus.changes == []  # another leader may have added or removed node 4
    world.follow()
    world.consensus.pass_reads(ok=False)
    [(kind, _)] = client.answers()
    assert kind == Type.REDIRECT
    assert world.consensus.changes == []


def test_a_closed_connection_is_not_answered(world: World, client: Client) -> None:
    ask(client, "promote", 4, "")
    _, context = asked(world)
    client.close()
    world.broker.change_done(context, 57, None)
    world.broker.change_done(object(), 58, None)
    assert client.answers() == []


class Lookout:
    """Says what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.looks: list[tuple[AddLearner, Seen]] = []

    def look(self, change: AddLearner, seen: Seen) -> None:
        self.looks.append((change, seen))

    def see(self, finding: Finding | None) -> None:
        _, seen = self.looks.pop()
        seen(finding)


def members_of(
    known: dict[int, tuple[str, int]], reachable: str = "", lookout: Lookout | None = None
) -> tuple[World, Client]:
    world = World()
    members = Members(
        world.consensus.change_members,
        answers=world.broker._answers,
        barriers=world.broker._barriers,
        peer_addresses=lambda: known,
        reachable=lambda _: reachable,
        look=(lookout or Lookout()).look,
    )
    world.broker._members = members
    world.broker.dispatcher._leader_only[CHANGE] = members.change
    return world, world.client()


def test_a_member_elsewhere_is_a_conflict_and_the_same_again_is_none() -> None:
    for at, code in (("127.0.0.1", "ALREADY"), ("127.0.0.2", "CONFLICT")):
        world, client = members_of({4: (at, 7430)})
        ask(client, "add", 4, AT)
        world.broker.change_done(asked(world)[1], 0, "ALREADY")
        [(_, answer)] = client.answers()
        assert answer[1] == code
    assert "node 4 is a member already, at 127.0.0.2:7430: remove it first" in answer[2]


def test_an_address_that_no_peer_could_reach_is_refused_at_the_door() -> None:
    world, client = members_of({}, "nobody gets there")
    assert client.nack(CHANGE, "add", 4, AT)[:2] == ["BAD_REQUEST", "nobody gets there"]
    assert world.consensus.changes == []


def test_a_node_is_added_once_it_was_seen_to_wait_and_not_before() -> None:
    lookout = Lookout()
    world, client = members_of({}, lookout=lookout)
    rid = ask(client, "add", 4, AT)
    assert [change for change, _ in lookout.looks] == [AddLearner(4, ("127.0.0.1", 7430))]
    assert world.consensus.changes == []
    lookout.see(None)
    world.broker.change_done(asked(world)[1], 57, None)
    assert client.answers() == [(Type.ACK, [rid, 57])]


@pytest.mark.parametrize(("may_pass", "retry_after_ms"), [(True, 1000), (False, None)])
def test_a_node_that_is_not_where_it_should_be_is_not_added(
    may_pass: bool, retry_after_ms: int | None
) -> None:
    lookout = Lookout()
    world, client = members_of({}, lookout=lookout)
    rid = ask(client, "add", 4, AT)
    lookout.see(Finding("what stands in the way", may_pass))
    assert client.answers() == [
        (Type.NACK, [rid, "NOT_WAITING", "what stands in the way", retry_after_ms])
    ]
    assert world.consensus.changes == []


def test_one_address_is_looked_at_at_a_time() -> None:
    lookout = Lookout()
    world, client = members_of({}, lookout=lookout)
    ask(client, "add", 4, AT)
    assert client.nack(CHANGE, "add", 5, "127.0.0.1:7440")[0] == "CHANGE_UNDER_WAY"
    client.close()
    lookout.see(Finding("for nobody", may_pass=True))
    again = world.client()
    ask(again, "add", 5, "127.0.0.1:7440")
    assert [change.node_id for change, _ in lookout.looks] == [5]


def test_promotions_removals_and_members_are_not_looked_at() -> None:
    lookout = Lookout()
    world, client = members_of({4: ("127.0.0.1", 7430)}, lookout=lookout)
    for fields in (("promote", 4, ""), ("remove", 4, ""), ("add", 4, AT)):
        ask(client, *fields)
    assert (len(world.consensus.changes), lookout.looks) == (3, [])


# What the configuration says of it.

SELF = {1: Address("127.0.0.1", 7400)}


def test_a_node_that_listens_to_no_peers_cannot_let_one_in() -> None:
    text = unreachable(Config(), Address.parse(AT))
    assert text == "node 1 listens to no peers: start it again with --peers 1=HOST:PORT"
    assert unreachable(Config(raft=Raft(peers=SELF)), Address.parse(AT)) == ""


def test_a_node_that_does_not_sync_cannot_let_one_in() -> None:
    config = Config(raft=Raft(peers=SELF), persistence=Persistence(sync=False))
    assert "runs with persistence.sync: false" in unreachable(config, Address.parse(AT))


def test_without_certificates_members_are_on_this_host() -> None:
    config = Config(raft=Raft(peers=SELF))
    assert "has no certificates" in unreachable(config, Address.parse("10.0.0.4:7400"))


def test_a_node_that_joins_founds_nothing_and_listens_at_its_own_entry(tmp_path: Path) -> None:
    listed = {**SELF, 4: Address("127.0.0.1", 7430)}
    config = Config(raft=Raft(node_id=4, join=listed), persistence=Persistence(data_dir=tmp_path))
    told = replica_config(config, client_address="c", http_address="h")
    assert (told.joins, told.voters, told.bind) == (True, (), ("127.0.0.1", 7430))
    assert (config.is_single_node, config.voters) == (False, ())
    assert replace(told, joins=False).voters == (1, 4)
