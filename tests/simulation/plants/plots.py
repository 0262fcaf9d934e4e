"""Faults with a plot, for bugs that chance alone shows too seldom.

Each is a `Parts.setup`: it is called with every node before it starts, and begins to act in
the world of the first. The product plays the same plot without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from cluster.configuration import Remove
from cluster.state import CANDIDATE
from statemachine import Advance, encode_internal, join_entry
from tests.simulation.shapes import Direction, between

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World

_POLL_S: Final = 0.005
_ACT_S: Final = 6.0
_LONG_S: Final = 5.0
_ASKED_S: Final = 0.008
"""A candidate's requests are on their way, and no answer is back."""
_FEW_S: Final = 0.3
"""Long enough for a leader to hear the clients that have just found it."""


class Plot:
    """One plot, played again and again; node 1 has the leading part."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng("plot")
        world.after(2.0, self.begin)

    @property
    def others(self) -> list[int]:
        """Everybody but node 1, in an order drawn anew."""
        others = [node_id for node_id in self.world.nodes if node_id != 1]
        self.rng.shuffle(others)
        return others

    def leads(self, node_id: int) -> bool:
        """Whether a node leads, and nobody in a newer term."""
        newest = self.world.newest_leader()
        return newest is not None and newest.node_id == node_id

    def begin(self) -> None:
        """See node 1 into office, then act."""
        if self.world.healed:
            return
        newest = self.world.newest_leader()
        if newest is not None and newest.node_id == 1:
            self.act()
            self.world.after(_ACT_S, self.begin)
            return
        self.hand_over()
        self.world.after(0.3, self.begin)

    def hand_over(self) -> None:
        """Have whoever leads look for a successor: the lowest that lacks nothing."""
        newest = self.world.newest_leader()
        if newest is not None and newest.node_id != 1 and newest.replica is not None:
            newest.replica.transfer_leadership()

    def cut(self, directions: Sequence[Direction], seconds: float) -> None:
        """Hold back what goes these ways."""
        self.world.network.block(directions, seconds)

    def mend(self, directions: Sequence[Direction]) -> None:
        """End what `cut` began, before its time."""
        for direction in directions:
            self.world.network._unblock(direction)  # its own timer calls it else

    def fill(self, count: int) -> None:
        """Have node 1 append entries of no importance, one after the other."""
        node = self.world.nodes[1]
        if count and node.replica is not None and not self.world.healed:
            entry = join_entry(node.wall_ms(), [encode_internal(Advance())])
            node.replica.propose(entry, None, None)
            self.world.after(2 * _POLL_S, self.fill, count - 1)

    def when(self, condition: Callable[[], bool], then: Callable[[], None], left_s: float) -> None:
        """Act once something is so, unless it takes too long."""
        if self.world.healed or left_s <= 0:
            return
        if condition():
            then()
        else:
            self.world.after(_POLL_S, self.when, condition, then, left_s - _POLL_S)

    def remove(self, by: int, node_id: int) -> None:
        """Ask a node that leads to remove a member."""
        replica = self.world.nodes[by].replica
        if replica is not None:
            replica.change_members(Remove(node_id), None)

    def stands(self, nodes: Sequence[int]) -> int | None:
        """Who of these stands for election, None if nobody does."""
        engines = {node_id: self.world.nodes[node_id].engine for node_id in nodes}
        return next((n for n, one in engines.items() if one and one.role == CANDIDATE), None)

    def act(self) -> None:
        """Node 1 leads: do what the plot is about."""
        raise NotImplementedError


class OldAnswers(Plot):
    """What a follower confirmed in an earlier term of its leader arrives in a later one."""

    def act(self) -> None:
        follower, helper, *rest = self.others
        self.cut(between([1, follower], [helper, *rest]), 1.5)
        self.cut([(follower, 1)], 2.4)
        self.world.after(0.1, self.fill, 100)
        self.world.after(1.6, self._hand_back, follower, rest)

    def _hand_back(self, follower: int, rest: Sequence[int]) -> None:
        def leading() -> None:
            self.cut([(1, follower), *between([1], rest)], 0.9)

        self.world.after(0.2, self.hand_over)
        self.when(lambda: self.leads(1), leading, 1.0)


def old_answers(node: SimNode) -> None:
    """Play `OldAnswers`."""
    if node.node_id == 1:
        OldAnswers(node.world)


class FigureEight(Plot):
    """An entry of an earlier term is on a majority, and is overwritten (Raft, figure 8)."""

    def act(self) -> None:
        mate, *rest = self.others
        self.cut(between([1, mate], rest), _LONG_S)
        self.fill(40)
        self.when(lambda: self.stands(rest) is not None, lambda: self._stood(mate, rest), 2.0)

    def _stood(self, mate: int, rest: Sequence[int]) -> None:
        """It has asked for votes: it gets them, and nobody gets what it appends then."""
        fifth = self.stands(rest)
        voters = [node_id for node_id in rest if node_id != fifth]
        if fifth is None:
            return
        alone = [(fifth, voter) for voter in voters]
        self.world.after(_ASKED_S, self.cut, alone, _LONG_S)

        def mended() -> None:
            self.mend(between([1, mate], voters))
            engine = self.world.nodes[1].engine
            known = engine.commit_index if engine else 0
            self.when(lambda: self._committed(known), committed, 3.0)

        def committed() -> None:
            self.cut(between([1, mate], voters), _LONG_S / 2)
            self.mend(alone)

        self.world.after(0.3, mended)

    def _committed(self, known: int) -> bool:
        newest = self.world.newest_leader()
        return (
            newest is not None and newest.engine is not None and newest.engine.commit_index > known
        )


class StaleWitness(Plot):
    """A deposed leader meets a node that has just lost what it confirmed to the new one."""

    def act(self) -> None:
        first, second = self.others
        self.cut(between([1], [first, second]), _LONG_S)
        self.when(lambda: not self.leads(1), lambda: self._deposed(first, second), 2.0)

    def _deposed(self, first: int, second: int) -> None:
        newest = self.world.newest_leader()
        leader = newest.node_id if newest is not None else first
        forgetful = second if leader == first else first
        self.world.after(0.3, self._forget, leader, forgetful)

    def _forget(self, leader: int, forgetful: int) -> None:
        node = self.world.nodes[forgetful]
        if self.world.healed or any(one.may_have_forgotten for one in self.world.nodes.values()):
            return
        self.cut(between([leader], [forgetful]), 2.5)
        self.mend(between([1], [forgetful]))
        node.wipe()
        self.world.after(0.05, node.mend)
        self.world.after(0.5, self.fill, 10)


class TwoChanges(Plot):
    """Two leaders each remove another of four, and only one of the two knows of both."""

    def act(self) -> None:
        engine = self.world.nodes[1].engine
        if engine is None or len(engine.voters) < 4:
            return  # it was played
        others = self.others
        self.cut(between([1], others), _LONG_S)
        self.remove(by=1, node_id=others[0])
        self.when(lambda: self.stands(others) is not None, lambda: self._stood(others), 2.0)

    def _stood(self, others: Sequence[int]) -> None:
        """It gets its votes, and one of the voters gets nothing from it then."""
        second = self.stands(others)
        if second is None:
            return
        voter = next(node_id for node_id in others[1:] if node_id != second)
        self.world.after(_ASKED_S, self.cut, [(second, voter)], _LONG_S)

        def elected() -> None:
            self.remove(by=second, node_id=1)
            self.world.after(_FEW_S, self.mend, between([1], [voter]))

        self.when(lambda: self.leads(second), elected, 1.0)


class ThereAndBack(Plot):
    """A newer leader grants tasks, the answer is lost, and the old one is asked again."""

    def act(self) -> None:
        others = self.others
        self.cut(between([1], others), _LONG_S)
        self._out_of_reach(1, _LONG_S)
        self.when(lambda: not self.leads(1), lambda: self._deposed(others), 2.0)

    def _deposed(self, others: Sequence[int]) -> None:
        known = self._leased()

        def granted() -> None:
            for node_id in others:
                self._out_of_reach(node_id, _LONG_S / 2)
            self.world.network.client_cut.discard(1)

        self.when(lambda: not known.issuperset(self._leased()), granted, 2.0)

    def _leased(self) -> set[int]:
        """The fencing tokens of all leases there are."""
        sessions = self.world.history.ledger.sessions.values()
        return {token for held in sessions for token in held}

    def _out_of_reach(self, node_id: int, seconds: float) -> None:
        """No client reaches a node for a while."""
        network = self.world.network
        network.client_cut.add(node_id)
        for link in list(self.world.nodes[node_id].links):
            link.cut()
        self.world.after(seconds, network.client_cut.discard, node_id)


def figure_eight(node: SimNode) -> None:
    """Play `FigureEight`."""
    if node.node_id == 1:
        FigureEight(node.world)


def stale_witness(node: SimNode) -> None:
    """Play `StaleWitness`."""
    if node.node_id == 1:
        StaleWitness(node.world)


def two_changes(node: SimNode) -> None:
    """Play `TwoChanges`."""
    if node.node_id == 1:
        TwoChanges(node.world)


def there_and_back(node: SimNode) -> None:
    """Play `ThereAndBack`."""
    if node.node_id == 1:
        ThereAndBack(node.world)
