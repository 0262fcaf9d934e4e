"""The first start: one id for all or none, crashes repeat nothing, lost directories show."""

from __future__ import annotations

import itertools
import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from cluster.bootstrap import Announce, Bootstrap, Output, PeerState, Record, mismatch
from cluster.identity import BootstrapState, Identity

EMPTY, RECORDED, BOOTSTRAPPED = BootstrapState
A, B = b"A" * 16, b"B" * 16
VOTERS = (1, 2, 3)

Said = tuple[BootstrapState, bytes | None]


def never() -> bytes:
    raise AssertionError("no id may be drawn here")


def node(node_id: int, state: BootstrapState = EMPTY, cluster_id: bytes | None = None) -> Bootstrap:
    identity = Identity(node_id, VOTERS, cluster_id, state, incarnation=1)
    draw = (lambda: A) if node_id == 1 else never
    return Bootstrap(identity, draw)


def states(outputs: list[Output]) -> list[tuple[str, BootstrapState, bytes | None]]:
    short: list[tuple[str, BootstrapState, bytes | None]] = []
    for output in outputs:
        if isinstance(output, Record):
            kind = "record amnesiac" if output.amnesiac else "record"
            short.append((kind, output.identity.state, output.identity.cluster_id))
        else:
            short.append(("announce", output.state, output.cluster_id))
    return short


def recorded_and_announced(state: BootstrapState, cluster_id: bytes) -> list[object]:
    return [("record", state, cluster_id), ("announce", state, cluster_id)]


def test_the_lowest_draws_only_when_every_other_voter_is_connected_and_empty() -> None:
    one = node(1)
    assert one.start() == []
    assert list(one.waiting_for) == [2, 3]
    assert one.peer_said(2, EMPTY, None) == []
    assert list(one.waiting_for) == [3]
    one.peer_left(2)
    assert one.peer_said(3, EMPTY, None) == []
    assert states(one.peer_said(2, EMPTY, None)) == recorded_and_announced(RECORDED, A)


def test_the_others_record_what_the_lowest_recorded_and_nobody_else() -> None:
    two = node(2)
    assert two.start() == []
    assert two.peer_said(1, EMPTY, None) == []
    assert two.peer_said(3, RECORDED, A) == []
    assert states(two.peer_said(1, RECORDED, A)) == recorded_and_announced(RECORDED, A)


def test_elections_are_allowed_only_when_everyone_has_recorded() -> None:
    one = node(1, RECORDED, A)
    assert one.start() == []
    assert one.peer_said(2, RECORDED, A) == []
    assert one.peer_said(3, EMPTY, None) == []
    one.peer_left(2)
    assert one.peer_said(3, RECORDED, A) == [], "node 2 may have lost its directory meanwhile"
    assert states(one.peer_said(2, RECORDED, A)) == recorded_and_announced(BOOTSTRAPPED, A)


def test_only_the_lowest_concludes_and_the_others_follow() -> None:
    two = node(2, RECORDED, A)
    assert two.peer_said(1, RECORDED, A) == []
    assert two.peer_said(3, RECORDED, A) == []
    assert states(two.peer_said(3, BOOTSTRAPPED, A)) == recorded_and_announced(BOOTSTRAPPED, A)


@pytest.mark.parametrize("node_id", [1, 2, 3])
def test_an_empty_node_that_meets_a_bootstrapped_one_is_an_amnesiac(node_id: int) -> None:
    empty = node(node_id)
    other = 1 if node_id != 1 else 3
    assert states(empty.peer_said(other, BOOTSTRAPPED, A)) == [
        ("record amnesiac", BOOTSTRAPPED, A),
        ("announce", BOOTSTRAPPED, A),
    ]


def test_the_lowest_with_a_lost_directory_does_not_begin_anew() -> None:
    one = node(1)
    assert one.peer_said(3, EMPTY, None) == []
    assert states(one.peer_said(2, RECORDED, B))[0] == ("record amnesiac", BOOTSTRAPPED, B)


def test_a_node_without_peers_is_bootstrapped_at_once() -> None:
    alone = Bootstrap(Identity(7, (7,)), lambda: A)
    assert states(alone.start()) == [
        *recorded_and_announced(RECORDED, A),
        *recorded_and_announced(BOOTSTRAPPED, A),
    ]


def test_a_bootstrapped_node_has_nothing_to_do() -> None:
    two = node(2, BOOTSTRAPPED, A)
    for said in [(EMPTY, None), (RECORDED, A), (BOOTSTRAPPED, A)]:
        assert two.start() + two.peer_said(1, *said) == []


def test_other_voters_or_another_cluster_are_refused_by_name() -> None:
    mine = Identity(2, VOTERS, A, BOOTSTRAPPED, 1)
    assert mismatch(mine, 1, VOTERS, PeerState(BOOTSTRAPPED, A)) is None
    assert mismatch(mine, 1, VOTERS, PeerState(EMPTY, None)) is None
    assert mismatch(Identity(2, VOTERS), 1, VOTERS, PeerState(BOOTSTRAPPED, A)) is None
    assert mismatch(Identity(2, VOTERS), 1, (1, 2), PeerState(RECORDED, A)) == (
        "node 1 is configured with voters 1, 2, node 2 with 1, 2, 3: the lists must be equal"
    )
    text = mismatch(mine, 1, VOTERS, PeerState(RECORDED, B)) or ""
    assert text.startswith(f"node 1 belongs to cluster {B.hex()}, node 2 to cluster {A.hex()}: ")


def test_the_lists_of_voters_need_not_be_equal_once_both_are_bootstrapped() -> None:
    mine = Identity(2, VOTERS, A, BOOTSTRAPPED, 1)
    founded = PeerState(BOOTSTRAPPED, A)
    assert mismatch(mine, 4, (), founded) is None
    assert mismatch(mine, 3, (3, 4), founded) is None
    assert mismatch(Identity(4, (), A, BOOTSTRAPPED, 1), 3, (3, 4), founded) is None
    text = mismatch(mine, 3, (3, 4), PeerState(EMPTY, None)) or ""
    assert "the one with an empty directory starts with --join instead" in text
    text = mismatch(mine, 3, (3, 4), PeerState(BOOTSTRAPPED, B)) or ""
    assert text.startswith("node 3 belongs to cluster")


def test_a_node_that_joins_compares_no_lists() -> None:
    joining = Identity(4, ())
    assert mismatch(joining, 1, VOTERS, PeerState(BOOTSTRAPPED, A)) is None
    assert mismatch(Identity(1, VOTERS, A, BOOTSTRAPPED, 1), 4, (), PeerState(EMPTY, None)) is None


def test_a_node_that_joins_adopts_a_running_cluster_as_an_amnesiac_and_nothing_else() -> None:
    joining = Bootstrap(Identity(4, (), incarnation=1), never)
    assert joining.start() == []
    assert list(joining.waiting_for) == []
    assert joining.peer_said(1, EMPTY, None) == []
    assert joining.peer_said(2, RECORDED, A) == []
    assert states(joining.peer_said(3, BOOTSTRAPPED, A)) == [
        ("record amnesiac", BOOTSTRAPPED, A),
        ("announce", BOOTSTRAPPED, A),
    ]


# A world of nodes that crash at any point, and may lose their directories.


@dataclass
class Life:
    """One node: what is durable, and the process that may be running."""

    node_id: int
    identity: Identity
    amnesiac: bool = False
    process: Bootstrap | None = None
    voted_in: set[bytes] = field(default_factory=set)
    """Clusters in which some earlier or present directory was allowed to vote."""
    clean_in: set[bytes] = field(default_factory=set)
    """Clusters in which the present directory remembers all its votes."""


class World:
    """Three nodes, FIFO connections, crashes at every point; checks as it goes."""

    def __init__(self, rng: random.Random, size: int = 3) -> None:
        self.rng = rng
        self.voters = tuple(range(1, size + 1))
        self.lives = {n: Life(n, Identity(n, self.voters)) for n in self.voters}
        self.links: dict[tuple[int, int], deque[Said]] = {}
        self.drawn = itertools.count(1)
        self.faults_allowed = True

    def start(self, n: int) -> None:
        life = self.lives[n]
        life.process = Bootstrap(life.identity, lambda: b"%016d" % next(self.drawn))
        self.carry_out(n, life.process.start())

    def crash(self, n: int) -> None:
        self.lives[n].process = None
        for pair in [pair for pair in self.links if n in pair]:
            self.cut(*pair)

    def wipe(self, n: int) -> None:
        self.crash(n)
        life = self.lives[n]
        life.identity, life.amnesiac, life.clean_in = Identity(n, self.voters), False, set()

    def cut(self, a: int, b: int) -> None:
        for pair in ((a, b), (b, a)):
            if pair in self.links:
                del self.links[pair]
                receiver = self.lives[pair[1]].process
                if receiver is not None:
                    receiver.peer_left(pair[0])

    def connect(self, a: int, b: int) -> None:
        self.cut(a, b)
        for sender, receiver in ((a, b), (b, a)):
            identity = self.lives[sender].identity
            self.links[sender, receiver] = deque([(identity.state, identity.cluster_id)])

    def deliver(self, pair: tuple[int, int]) -> None:
        sender, receiver = pair
        said = self.links[pair].popleft()
        process = self.lives[receiver].process
        assert process is not None
        self.carry_out(receiver, process.peer_said(sender, *said))

    def carry_out(self, n: int, outputs: list[Output]) -> None:
        for output in outputs:
            if self.faults_allowed and self.rng.random() < 0.1:
                self.crash(n)
                return
            if isinstance(output, Record):
                self.record(n, output)
            elif isinstance(output, Announce):
                for pair in self.links:
                    if pair[0] == n:
                        self.links[pair].append((output.state, output.cluster_id))

    def record(self, n: int, output: Record) -> None:
        life = self.lives[n]
        if output.amnesiac:
            life.amnesiac = True
            if self.faults_allowed and self.rng.random() < 0.1:
                self.crash(n)
                return
        life.identity = output.identity
        cluster_id = life.identity.cluster_id
        assert cluster_id is not None
        if life.identity.state == BOOTSTRAPPED:
            if not life.amnesiac:
                forgot = cluster_id in life.voted_in and cluster_id not in life.clean_in
                assert not forgot, f"node {n} votes again in a cluster it has forgotten"
                life.clean_in.add(cluster_id)
            life.voted_in.add(cluster_id)
            ids = {
                other.identity.cluster_id
                for other in self.lives.values()
                if other.identity.state == BOOTSTRAPPED
            }
            assert len(ids) == 1, f"two clusters: {ids}"

    def step(self, wipes: bool) -> None:
        rng = self.rng
        n = rng.choice(self.voters)
        if self.lives[n].process is None:
            self.start(n)
        elif rng.random() < 0.03:
            self.crash(n)
        elif wipes and rng.random() < 0.02:
            self.wipe(n)
        elif rng.random() < 0.3:
            other = rng.choice([v for v in self.voters if v != n])
            if self.lives[other].process is not None:
                self.connect(n, other)
        else:
            waiting = [pair for pair, queue in self.links.items() if queue]
            if waiting:
                self.deliver(rng.choice(waiting))

    def heal(self) -> None:
        """Start and connect everyone, deliver everything, without another fault."""
        self.faults_allowed = False
        for n in self.voters:
            if self.lives[n].process is None:
                self.start(n)
        for a, b in itertools.combinations(self.voters, 2):
            self.connect(a, b)
        while waiting := [pair for pair, queue in self.links.items() if queue]:
            self.deliver(waiting[0])


def test_crashes_at_any_point_of_the_first_start_only_delay_it(rng: random.Random) -> None:
    for _ in range(300):
        world = World(random.Random(rng.getrandbits(64)))
        for _ in range(rng.randrange(60)):
            world.step(wipes=False)
        world.heal()
        identities = [life.identity for life in world.lives.values()]
        assert {identity.state for identity in identities} == {BOOTSTRAPPED}
        assert len({identity.cluster_id for identity in identities}) == 1
        assert not any(life.amnesiac for life in world.lives.values())


def test_a_lost_directory_never_votes_again_in_its_cluster(rng: random.Random) -> None:
    amnesiacs = drawn = 0
    for _ in range(300):
        world = World(random.Random(rng.getrandbits(64)), size=rng.choice([3, 3, 4, 5]))
        for _ in range(rng.randrange(150)):
            world.step(wipes=True)
        world.heal()
        amnesiacs += any(life.amnesiac for life in world.lives.values())
        drawn += next(world.drawn) > 2
        assert {life.identity.state for life in world.lives.values()} == {BOOTSTRAPPED}
    assert amnesiacs > 10, "the interesting case never came up"
    assert drawn > 3, "no cluster began anew"
