"""Scenarios name faults there are, come in an order that a seed gives, and keep their limits."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from chaos.cluster import Equipment
from chaos.faults import FAULTS
from chaos.faults.clients import half_a_conversation
from chaos.faults.partition import SHAPES, Shape, cut
from chaos.layout import Layout
from chaos.links import CLIENTS
from chaos.scenarios import (
    DEFAULT,
    LONG,
    LONG_PACKETS,
    PACKETS,
    SCENARIOS,
    Scenario,
    UnknownScenarioError,
    equipment,
    find,
    gap_bounds,
)
from tq.protocol import Decoder


def test_every_fault_is_in_some_scenario_and_in_the_mix() -> None:
    assert set(FAULTS) == set(SCENARIOS["mix"].kinds)
    assert set(FAULTS) == {kind for name in (*DEFAULT, *PACKETS) for kind in SCENARIOS[name].kinds}


def test_what_happens_to_packets_is_done_in_the_tier_of_namespaces_and_nowhere_else() -> None:
    packets = {kind for name in PACKETS for kind in SCENARIOS[name].kinds}
    assert packets == {kind for kind, make in FAULTS.items() if "packets" in make().needs}
    assert not packets & {kind for name in DEFAULT for kind in SCENARIOS[name].kinds}
    assert Equipment(packets=True) == equipment(PACKETS, packets=True)
    assert Equipment() == equipment(PACKETS)
    assert set(gap_bounds(PACKETS)) == packets


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_has_faults_there_are(scenario: Scenario) -> None:
    assert set(scenario.kinds) <= set(FAULTS)
    assert set(scenario.opening) <= set(scenario.kinds)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_same_seed_gives_the_same_schedule_and_each_fault_its_turn(scenario: Scenario) -> None:
    opening, round_of = len(scenario.opening), len(scenario.kinds)
    first, again = (
        list(islice(scenario.schedule(random.Random(5)), opening + 2 * round_of)) for _ in range(2)
    )
    assert first == again
    assert scenario.opening == tuple(first[:opening])
    assert set(scenario.kinds) == set(first[opening : opening + round_of])


def test_a_scenario_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(UnknownScenarioError) as told:
        find("disk-ful")
    assert "did you mean 'disk-full'?" in str(told.value)
    assert all(name in str(told.value) for name in SCENARIOS)


def test_the_sets_name_scenarios_and_get_what_they_need() -> None:
    assert set(LONG) <= set(SCENARIOS)
    assert set(LONG_PACKETS) <= set(SCENARIOS)
    assert Equipment() == equipment(["kill", "pause"])
    assert Equipment(power=True) == equipment(["power"])
    everything = equipment(DEFAULT)
    assert (True, True) == (everything.power, everything.clock)
    assert everything.disk_mib > 0
    an_hour = equipment(DEFAULT, tasks=3600 * 80)
    assert an_hour.disk_mib == everything.disk_mib + 562


def test_bounds_on_gaps_are_given_by_kind_where_there_are_any() -> None:
    bounds = gap_bounds(["kill", "disk-full"])
    assert "kill leader" in bounds
    assert "disk full all" not in bounds
    assert all(bound > 0 for bound in bounds.values())


WITHOUT_THE_REST = frozenset(
    {"partition clients", "packets of clients lost one way", "packet loss 20 %"}
    | {f"{verb} {who}" for verb in ("kill", "pause", "power") for who in ("majority", "all")}
)
"""Nobody else can go on, or nothing is to be done about it: gaps last as long as these do."""
ENDED = frozenset(
    {"kill leader", "kill follower", "kill minority", "power minority", "rolling restart"}
    | {"torn tail", "flip wal", "flip table", "flip manifest", "flip mark", "fsync error"}
    | {"replace member"}
)
"""A process has ended, and starts again for some time after these."""


@pytest.mark.parametrize("kind", sorted(set(FAULTS) - WITHOUT_THE_REST - ENDED))
def test_a_cluster_that_waits_for_the_end_of_a_fault_breaks_its_bound(kind: str) -> None:
    fault = FAULTS[kind]()
    if fault.gap_max_ms is None:
        assert kind.startswith(("disk full", "damaged witness"))
        return
    shortest_s, longest_s = fault.hold_s
    if kind.startswith("pause"):
        # Short ones are worth having: a leader comes back while it still leads, or just not.
        shortest_s = (shortest_s + longest_s) / 2
    assert fault.gap_max_ms <= shortest_s * 1000


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_cuts_what_its_name_says(shape: Shape, size: int) -> None:
    for seed in range(50):
        rng = random.Random(seed)
        leader, *others = rng.sample(range(1, size + 1), size)
        ways, hit, words = cut(shape, leader, others, rng)
        assert ways
        assert set(hit) <= {node for way in ways for node in way} - {CLIENTS}
        assert words
        assert all(one != other for one, other in ways)
        _check(shape, size, leader, set(ways))


def _check(shape: Shape, size: int, leader: int, ways: set[tuple[int, int]]) -> None:
    quorum = size // 2 + 1
    everybody = range(1, size + 1)
    sees = {
        one: {other for other in everybody if not {(one, other), (other, one)} & ways}
        for one in everybody
    }
    match shape:
        case "node":
            assert sorted(map(len, sees.values())) == [1] + [size - 1] * (size - 1)
        case "leader" | "deaf leader" | "mute leader":
            assert sees[leader] == {leader}
        case "halves":
            assert len(sees[leader]) == size - quorum
            assert sorted(map(len, sees.values())) == sorted(
                [size - quorum] * (size - quorum) + [quorum] * quorum
            )
        case "bridge":
            assert 1 == sum(len(seen) == size for seen in sees.values())
            assert size > 3 or any(leader in way for way in ways), "nothing flows elsewhere"
        case "ring":
            assert all(len(seen) >= quorum for seen in sees.values())
            assert len({frozenset(seen) for seen in sees.values()}) == size
            assert any(leader in way for way in ways)
        case "one way":
            [way] = ways
            assert leader in way
        case "clients":
            assert {(CLIENTS, leader), (leader, CLIENTS)} == ways


def test_every_pair_has_a_link_each_way_and_a_newcomer_takes_over_the_door() -> None:
    numbers = iter(range(1, 1_000))
    layout = Layout([1, 2, 3], lambda count: [next(numbers) for _ in range(count)])
    pairs = {(one, other) for one in (1, 2, 3) for other in (1, 2, 3) if one != other}
    assert pairs | {(CLIENTS, 1), (CLIENTS, 2), (CLIENTS, 3)} == set(layout.links)
    door = layout.ports[2].door

    gone, made = layout.replace(2, 4)

    assert all(2 in (link.dialler, link.target) for link in gone)
    assert {(4, 1), (4, 3), (1, 4), (3, 4), (CLIENTS, 4)} == {
        (link.dialler, link.target) for link in made
    }
    assert door == layout.ports[4].door
    taken = [port for ports in layout.ports.values() for port in (ports.raft, ports.client)]
    taken += [link.port for link in layout.links.values()]
    assert len(taken) == len(set(taken))
    assert f"1=127.0.0.1:{layout.links[4, 1].port}" in layout.detours(4)


def test_half_a_conversation_never_holds_a_whole_request() -> None:
    for seed in range(500):
        said = half_a_conversation(random.Random(seed))
        assert said
        assert len(Decoder().feed(said)) <= 1
