"""The settings of the file become the cluster's, once."""

from __future__ import annotations

from node.surroundings import Rules
from statemachine import ChangeSettings, decode_entry, encode_internal, join_entry
from tests.unit.node.world import World
from tq.protocol import Type


def test_a_new_cluster_gets_its_settings_before_any_command() -> None:
    world = World(leads=False, rules=Rules(node_id=1, seed={"claim_max": 7, "lease_ms": 5000}))
    world.follow()
    world.lead()
    world.client().submit()

    first = decode_entry(world.consensus.proposals[0].entry)[1][0]
    assert first == ChangeSettings((("claim_max", 7), ("lease_ms", 5000)), is_seed=True)
    assert world.machine.settings.claim_max == 7

    world.follow()
    world.lead()
    assert len([one for one in world.consensus.proposals if "claim_max" in str(one.decoded)]) == 1


def test_a_leader_seeds_a_cluster_whose_first_leader_never_did() -> None:
    world = World(leads=False, rules=Rules(node_id=1, seed={"claim_max": 7}))
    world.follow()
    world.consensus.apply_foreign(join_entry(world.clock.wall_ms(), []))
    assert world.machine.log_time_ms > 0
    world.lead()

    assert world.machine.settings.claim_max == 7


def test_a_leader_that_has_not_applied_the_first_one_s_seed_yet_changes_nothing() -> None:
    first = World(leads=False, rules=Rules(node_id=1, seed={"claim_max": 7, "lease_ms": 5000}))
    second = World(leads=False, rules=Rules(node_id=1, seed={"claim_max": 8}))
    first.lead()
    [seed] = [proposal.entry for proposal in first.consensus.proposals]
    second.consensus.holds = True
    second.lead()
    [late] = [proposal.entry for proposal in second.consensus.proposals]

    for world in (first, second):
        world.consensus.holds = False
        if world is second:
            world.consensus.waiting.clear()
            world.consensus.apply_foreign(seed)
        world.consensus.apply_foreign(late)

    assert first.machine.settings == second.machine.settings
    assert (7, 5000) == (first.machine.settings.claim_max, first.machine.settings.lease_ms)
    assert first.machine.digest() == second.machine.digest()


def test_a_silent_worker_lives_as_long_as_the_cluster_says_whatever_the_file_says() -> None:
    world = World(leads=False, rules=Rules(node_id=1, seed={"lease_ms": 5000}))
    world.consensus.apply_foreign(
        join_entry(1, [encode_internal(ChangeSettings((("lease_ms", 60_000),)))])
    )
    world.lead()
    client = world.client()
    session = client.register()
    world.pass_s(45)
    assert client.ack(Type.HEARTBEAT, session, []) == [[]]
    world.pass_s(61)
    assert client.nack(Type.HEARTBEAT, session, [])[0] == "UNKNOWN_SESSION"
