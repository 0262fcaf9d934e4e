"""Who is let in at HELLO, what their role allows, and what a guess costs."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from node.gate import REASONS, REFUSAL_DELAY_S, Gate
from node.tokens import Identity, Role, Tokens, digest
from statemachine import decode_entry
from tests.unit.node.fakes import FakeClock
from tests.unit.node.world import Client, World
from tq.protocol import Type

WORDS = {"mail": Role.CLIENT, "ops": Role.ADMIN, "graphs": Role.METRICS}


def a_gate(clock: FakeClock) -> Gate:
    known = [(digest(f"{name}-token"), Identity(name, role)) for name, role in WORDS.items()]
    return Gate(Tokens(known), now_s=clock.now_s)


class Guarded(World):
    """A world whose node asks for tokens."""

    def __init__(self) -> None:
        self.gate = a_gate(FakeClock())
        super().__init__(gate=self.gate)
        self.gate._now_s = self.clock.now_s

    def stranger(self) -> Client:
        client = self.client()
        client.session.accepted = False
        return client

    def known(self, name: str) -> Client:
        client = self.stranger()
        client.ack(Type.HELLO, 1, "test", {"token": f"{name}-token"})
        return client


@pytest.mark.parametrize(
    ("options", "reason", "said"),
    [
        ({}, "no_token", "this node wants a token"),
        ({"token": None}, "no_token", "this node wants a token"),
        ({"token": ""}, "no_token", "this node wants a token"),
        ({"token": "hunter2"}, "wrong_token", "this node does not know the token"),
        ({"token": "graphs-token"}, "role", "the token of graphs has the role metrics"),
    ],
)
def test_a_client_without_a_good_token_is_told_so_after_a_while_and_closed(
    options: dict[str, Any], reason: str, said: str
) -> None:
    world = Guarded()
    client = world.stranger()
    hello = client.send(Type.HELLO, 1, "test", options)
    client.send(Type.GET_STATS)
    assert client.answers() == []
    world.clock.pass_s(REFUSAL_DELAY_S - 0.01)
    world.gate.tick()
    assert client.answers() == []
    world.clock.pass_s(0.02)
    world.gate.tick()

    ((kind, [rid, code, text, _]),) = client.answers()
    assert (kind, rid, code) == (Type.NACK, hello, "UNAUTHENTICATED")
    assert text.startswith(said)
    assert "hunter2" not in text
    assert client.wire.is_closed
    assert not client.session.accepted
    assert world.gate.refusals == {reason: 1}
    assert ("HELLO", "UNAUTHENTICATED") in world.figures.requests


def test_a_client_that_leaves_before_it_is_refused_is_forgotten() -> None:
    world = Guarded()
    client = world.stranger()
    client.send(Type.HELLO, 1, "test", {})
    client.close()
    world.clock.pass_s(1)
    world.gate.tick()
    assert client.answers() == []


def test_the_principal_of_a_token_is_in_the_entries_of_its_commands() -> None:
    world = Guarded()
    world.known("mail").submit()
    _, [command] = decode_entry(world.consensus.proposals[-1].entry)
    assert command.principal == "mail"  # type: ignore[union-attr] # it is well formed


@pytest.mark.parametrize("type_", [Type.DIGEST, Type.LOG_HASHES, Type.CHANGE_MEMBERS])
def test_what_an_admin_may_ask_a_client_may_not(type_: Type) -> None:
    world = Guarded()
    asked: dict[Type, list[object]] = {
        Type.CHANGE_MEMBERS: ["remove", 2, ""],
        Type.LOG_HASHES: [1, 10],
    }
    fields = asked.get(type_, [])
    code, text, _ = world.known("mail").nack(type_, *fields)
    assert code == "FORBIDDEN"
    assert text.startswith(f"{type_.name} needs a token with the role admin, and that of mail")
    assert world.consensus.changes == []
    assert world.gate.refusals == {"role": 1}

    admin = world.known("ops")
    admin.send(type_, *fields)
    assert [kind for kind, _ in admin.answers()] == (
        [] if type_ == Type.CHANGE_MEMBERS else [Type.ACK]
    )
    assert len(world.consensus.changes) == (type_ == Type.CHANGE_MEMBERS)


@pytest.mark.parametrize("name", ["mail", "ops"])
def test_clients_and_admins_may_ask_everything_about_tasks(name: str) -> None:
    world = Guarded()
    client = world.known(name)
    task_id = client.submit()
    assert client.claim(client.register())[0][0] == task_id
    client.ack(Type.NODE_STATUS)
    client.ack(Type.LIST_WORKERS)
    client.ack(Type.LIST_TASKS)


def test_without_tokens_everybody_may_do_everything_and_a_token_is_not_looked_at() -> None:
    world = World()
    client = world.client()
    client.session.accepted = False
    client.ack(Type.HELLO, 1, "test", {"token": "hunter2"})
    client.ack(Type.DIGEST)
    assert client.session.principal == ""


def test_the_log_hears_of_refusals_once_a_minute_and_never_of_a_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="node.gate")
    clock = FakeClock()
    gate = a_gate(clock)
    for _ in range(50):
        gate.admit("hunter2")
    assert not gate.admits_reader("hunter2")
    assert [record.getMessage() for record in caplog.records] == [
        "clients were not let in: wrong_token 1"
    ]
    clock.pass_s(60)
    gate.admit(None)
    assert caplog.records[1].getMessage() == (
        "clients were not let in: wrong_token 49, http 1, no_token 1"
    )
    assert set(gate.refusals) <= set(REASONS)


@pytest.mark.parametrize("name", WORDS)
def test_every_role_may_read_over_http(name: str) -> None:
    gate = a_gate(FakeClock())
    assert gate.admits_reader(f"{name}-token")
    assert not gate.admits_reader("")
