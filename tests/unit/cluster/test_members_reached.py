"""Whom a node reaches and lets in: its log, what its peers say, its list to begin with."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from cluster.addresses import Address
from cluster.configuration import Configuration, ConfigurationError
from cluster.handshake import Standing
from cluster.identity import BootstrapState, Identity
from cluster.membership import DEPARTURE_S, Membership
from cluster.refusals import Reason
from tests.support.peer_raw import CLUSTER, hello_of

EMPTY, RECORDED, BOOTSTRAPPED = BootstrapState
PORTS: dict[int, Address] = {node: ("127.0.0.1", 7400 + node) for node in range(1, 9)}


def configuration(*voters: int, learners: tuple[int, ...] = ()) -> Configuration:
    return Configuration(voters, learners, PORTS)


def listed(*nodes: int) -> dict[int, Address]:
    return {node: PORTS[node] for node in nodes}


class World:
    """One node's membership, what it told, and a clock."""

    def __init__(
        self,
        node_id: int = 2,
        *,
        voters: tuple[int, ...] = (1, 2, 3),
        configured: tuple[int, ...] = (1, 2, 3),
        state: BootstrapState = BOOTSTRAPPED,
    ) -> None:
        self.now = 100.0
        self.reached: list[int] = []
        self.addresses: dict[int, Address] = {}
        self.told: list[Standing] = []
        self.removals: list[int] = []
        self.settlements: list[tuple[int, ...]] = []
        cluster_id = None if state == EMPTY else CLUSTER
        self.identity = Identity(node_id, voters, cluster_id, state)
        time = lambda: self.now  # noqa: E731 - read at each call
        self.membership = Membership(self.identity, listed(*configured), self, time)

    def reach(self, addresses: Mapping[int, Address]) -> None:
        self.addresses = dict(addresses)
        self.reached = sorted(addresses)

    def announce(self, standing: Standing) -> None:
        self.told.append(standing)

    def settled(self, configuration: Configuration) -> None:
        self.settlements.append(configuration.voters)

    def removed(self, index: int) -> None:
        self.removals.append(index)

    def force(self, index: int, members: Configuration, *, committed: bool = True) -> None:
        self.membership.in_force(index, members)
        if committed:
            self.membership.committed()

    def refusal(self, peer: int, **changes: object) -> str:
        hello = replace(hello_of(peer, self.identity.node_id), **changes)  # type: ignore[arg-type]
        return self.membership.refusal(hello) or ""


def founded(**options: object) -> World:
    world = World(**options)  # type: ignore[arg-type]
    world.force(0, world.membership.founding)
    return world


# Founding.


def test_the_founders_are_those_recorded_and_not_those_the_list_names_now() -> None:
    world = World(voters=(1, 2, 3), configured=(1, 2, 4))
    assert world.membership.founding == Configuration((1, 2, 3), (), listed(1, 2))


def test_a_node_that_joins_founds_nothing() -> None:
    world = World(4, voters=(), configured=(1, 2, 3, 4))
    assert world.membership.founding == Configuration.nobody()


def test_a_single_node_without_a_port_for_peers_founds_a_cluster_without_addresses() -> None:
    identity = Identity(1, (1,), CLUSTER, BOOTSTRAPPED)
    membership = Membership(identity, {1: ("127.0.0.1", 0)}, World(), lambda: 0.0)
    assert membership.founding == Configuration((1,))


def test_a_list_the_cluster_has_left_behind_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.membership.in_force(0, configuration(1, 2, 3))
    assert caplog.messages == []
    world.membership.in_force(7, configuration(1, 2, 3, 4))
    assert caplog.messages == [], "whoever adds a node knows of it"

    World().membership.in_force(9, configuration(1, 2, learners=(4,)))
    [said] = caplog.messages
    assert "names nodes 1, 2, 3, the members of the cluster are 1, 2, 4" in said


# Whom it reaches.


def test_the_configuration_in_force_is_reached_before_it_is_committed() -> None:
    world = founded()
    world.force(5, configuration(1, 2, 3, learners=(4,)), committed=False)
    assert world.reached == [1, 2, 3, 4]
    assert world.addresses[4] == PORTS[4]


def test_a_member_stays_reached_until_its_removal_is_committed_and_it_had_time_to_hear() -> None:
    world = founded()
    world.force(5, configuration(1, 2), committed=False)
    world.now += 10 * DEPARTURE_S
    world.membership.tick()
    assert world.reached == [1, 2, 3], "the removal may be taken back"

    world.membership.committed()
    world.membership.tick()
    assert world.reached == [1, 2, 3], "it is to hear of it"
    world.now += DEPARTURE_S
    world.membership.tick()
    assert world.reached == [1, 2]


def test_a_configuration_that_is_taken_back_is_not_reached_for_long() -> None:
    world = founded()
    world.force(5, configuration(1, 2, 3, learners=(4,)), committed=False)
    world.force(0, configuration(1, 2, 3))
    world.now += DEPARTURE_S
    world.membership.tick()
    assert world.reached == [1, 2, 3]


def test_a_node_that_was_away_reaches_whom_a_peer_names() -> None:
    world = founded()
    world.membership.hear(60, configuration(2, 5, 6).to_bytes())
    assert {5, 6} <= set(world.reached)


def test_a_node_that_joins_reaches_its_list_until_it_is_a_member() -> None:
    world = World(4, voters=(), configured=(1, 4), state=EMPTY)
    assert sorted(world.membership.addresses) == [1, 4]
    world.membership.identified(replace(world.identity, cluster_id=CLUSTER, state=BOOTSTRAPPED))
    world.force(0, Configuration.nobody())
    assert world.reached == [1, 4]
    world.membership.hear(60, configuration(2, 3, learners=(4,)).to_bytes())
    assert sorted(world.membership.addresses) == [2, 3, 4]


def test_the_latest_address_of_a_member_counts() -> None:
    world = founded()
    moved = Configuration((1, 2, 3), (), {**PORTS, 3: ("127.0.0.1", 9999)})
    world.membership.hear(60, moved.to_bytes())
    assert world.addresses[3] == ("127.0.0.1", 9999)
    world.force(10, configuration(1, 2, 3))
    assert world.addresses[3] == ("127.0.0.1", 9999), "entry 10 is older than entry 60"


# What it tells.


def test_only_a_committed_configuration_is_told() -> None:
    world = founded()
    world.force(5, configuration(1, 2, 3, learners=(4,)), committed=False)
    assert world.membership.standing.configuration_index == 0
    world.membership.committed()
    wanted = Standing(BOOTSTRAPPED, CLUSTER, 5, configuration(1, 2, 3, learners=(4,)).to_bytes())
    assert world.membership.standing == world.told[-1] == wanted


def test_what_is_heard_is_passed_on_and_never_goes_back() -> None:
    world = founded()
    world.membership.hear(60, configuration(1, 2, 4).to_bytes())
    world.membership.hear(50, configuration(1, 2, 3).to_bytes())
    world.force(40, configuration(1, 2, 3))
    assert world.told[-1] == world.membership.standing
    assert world.membership.standing.configuration_index == 60


@pytest.mark.parametrize("content", [b"junk", b"\x01\x05", b"\x02\x00"])
def test_what_is_no_configuration_changes_nothing(content: bytes) -> None:
    world = founded()
    before = world.membership.standing
    with pytest.raises(ConfigurationError):
        world.membership.hear(99, content)
    assert world.membership.standing == before


def test_a_waiting_node_tells_nobody_of_its_empty_configuration() -> None:
    world = World(4, voters=(), configured=(1, 4))
    world.force(0, Configuration.nobody())
    assert world.membership.standing == Standing(BOOTSTRAPPED, CLUSTER)


# Whom it lets in.


def test_members_and_learners_are_let_in() -> None:
    world = founded()
    world.force(5, configuration(1, 2, 3, learners=(4,)), committed=False)
    assert [world.refusal(peer) for peer in (1, 3, 4)] == ["", "", ""]


def test_a_stranger_is_told_how_to_be_added() -> None:
    world = founded()
    assert world.refusal(4, state=EMPTY, cluster_id=None) == (
        "node 4 is not a member yet: run `tq-admin cluster add 4 HOST:PORT`"
    )
    known = world.refusal(4)
    assert "node 4 is not a member of the cluster as of entry 0" in known
    assert getattr(world.membership.refusal(hello_of(4, 2)), "reason", "") == Reason.NOT_A_MEMBER


def test_a_removed_node_is_told_when_it_was_removed() -> None:
    world = founded()
    world.force(9, configuration(1, 2))
    world.now += DEPARTURE_S
    world.membership.tick()
    assert world.refusal(3) == "node 3 was removed from the cluster at entry 9"
    world.force(12, configuration(1, 2, learners=(3,)))
    assert world.refusal(3) == ""


def test_before_the_cluster_is_founded_only_the_voters_of_the_list_are_let_in() -> None:
    world = World(state=EMPTY)
    assert world.refusal(3, state=EMPTY, cluster_id=None) == ""
    assert "node 4 is not among the voters 1, 2, 3" in world.refusal(4, state=EMPTY)


def test_a_node_that_joins_waits_for_a_cluster_that_runs() -> None:
    world = World(4, voters=(), configured=(1, 4), state=EMPTY)
    assert world.refusal(1) == ""
    assert "node 1 has no running cluster" in world.refusal(1, state=RECORDED)


# Its own end.


def test_a_node_that_a_committed_configuration_leaves_out_is_removed_once() -> None:
    world = founded()
    world.membership.hear(60, configuration(1, 3, 4).to_bytes())
    world.membership.hear(61, configuration(1, 3, 4, 5).to_bytes())
    assert world.removals == [60]


def test_a_node_is_not_removed_by_a_change_that_may_be_taken_back() -> None:
    world = founded()
    world.force(5, configuration(1, 3), committed=False)
    assert world.removals == []
    world.force(0, configuration(1, 2, 3))
    assert world.removals == []


def test_a_node_with_its_memory_was_a_member_whatever_it_can_tell_of_it() -> None:
    """It was away when the entry that let it in was committed, and when it was removed."""
    world = World(4, voters=(), configured=(1, 4))
    world.membership.was_member(22)
    world.force(22, configuration(1, 2, 3, 4), committed=False)
    world.membership.hear(30, configuration(1, 2, 3).to_bytes())
    assert world.removals == [30]


def test_a_member_that_came_again_is_not_removed_by_who_knows_its_first_removal_only() -> None:
    world = World(4, voters=(), configured=(1, 4))
    world.membership.was_member(50)
    world.force(50, configuration(1, 2, 3, learners=(4,)), committed=False)
    world.membership.hear(30, configuration(1, 2, 3).to_bytes())
    assert world.removals == []
    world.membership.committed()
    world.membership.hear(60, configuration(1, 2, 3).to_bytes())
    assert world.removals == [60]


def test_a_newcomer_with_a_number_used_before_is_not_removed_by_what_was_before() -> None:
    world = World(4, voters=(), configured=(1, 4), state=EMPTY)
    world.membership.hear(40, configuration(1, 2, 3, 4).to_bytes())
    world.membership.identified(replace(world.identity, cluster_id=CLUSTER, state=BOOTSTRAPPED))
    world.force(0, Configuration.nobody())
    world.membership.hear(60, configuration(1, 2, 3).to_bytes())
    assert world.removals == []
    world.membership.hear(70, configuration(1, 2, 3, learners=(4,)).to_bytes())
    world.membership.led()
    world.membership.hear(80, configuration(1, 2, 3).to_bytes())
    assert world.removals == [80]


def test_a_joining_node_that_reads_of_the_time_before_it_is_not_removed() -> None:
    world = World(4, voters=(), configured=(1, 4))
    world.force(0, Configuration.nobody())
    world.force(3, configuration(1, 2, 3))
    assert world.removals == []
    world.force(9, configuration(1, 2, 3, learners=(4,)))
    world.force(12, configuration(1, 2, 3, 4))
    assert world.removals == []
    world.force(15, configuration(1, 2, 3))
    assert world.removals == [15]


def test_a_joining_node_that_was_told_of_its_addition_reads_the_past_in_peace() -> None:
    world = World(4, voters=(), configured=(1, 4))
    world.force(0, Configuration.nobody())
    world.membership.hear(9, configuration(1, 2, 3, learners=(4,)).to_bytes())
    world.force(3, configuration(1, 2, 3))
    assert world.removals == []
    assert world.refusal(3) == ""


def test_whatever_the_order_every_node_ends_up_with_the_same_members(rng: random.Random) -> None:
    """Committed configurations heard in any order, own ones in between: the last one counts."""
    history = [(0, configuration(1, 2, 3))]
    for index in range(1, 8):
        members = set(history[-1][1].voters) ^ {rng.randrange(3, 9)}
        history.append((index * 10, configuration(*sorted(members | {1, 2}))))
    for _ in range(50):
        world = founded()
        for index, heard in rng.sample(history, len(history)):
            world.membership.hear(index, heard.to_bytes())
        for index, own in history:
            world.force(index, own)
        world.now += DEPARTURE_S
        world.membership.tick()
        assert world.membership.standing.configuration == history[-1][1].to_bytes()
        assert tuple(world.reached) == history[-1][1].members
        assert world.removals == []
