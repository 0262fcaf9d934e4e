"""An operator who adds, promotes and removes nodes while everything else goes wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.callers import Caller
from tests.simulation.composition import peer_address
from tests.simulation.history import Operation
from tq.protocol import Type

if TYPE_CHECKING:
    from cluster.configuration import Configuration
    from tests.simulation.world import World

_UNSEEN_S: Final = 15.0
"""For so long a removal may be in logs alone that nobody reads: the nodes that have it are down."""
_WITHIN_S: Final = 8.0
_NODES_MAX: Final = 7
"""Machines there are in all."""
_VOTERS_MAX: Final = 5
_LOOK_S: Final = 1.0
_GONE_S: Final = 2.0
"""When the machine of a removed node is switched off, if it has not left by itself."""


class Operator:
    """Changes the members of one world, and knows how many of them may forget."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._caller: Caller | None = None
        self._sizes: dict[int, int] = {}
        """Node -> voters of the configuration it was seen to have last."""
        self._removals: dict[int, int] = {}
        """Node -> number of the operation that removed it last, unless it was wanted since."""
        self._removed_at = float("-inf")
        """When a removal was asked for last."""

    # ----------------------------------------------------------------------- what there is

    def _configurations(self) -> list[Configuration]:
        engines = [node.engine for node in self._world.nodes.values()]
        found = [engine.configuration for engine in engines if engine is not None]
        return [one for one in found if one.voters]

    @property
    def spare(self) -> int:
        """How many members may be forgetful at once, whichever configuration counts."""
        return (self._voters_least() - 1) // 2

    def _voters_least(self) -> int:
        """Voters of the smallest configuration that is, or may soon be, in force."""
        self._note_sizes()
        calls = () if self._caller is None else self._caller.calls.values()
        coming = sum(1 for call in calls if call.operation.what[0] == "remove")
        if self._world.now - self._removed_at < _UNSEEN_S:
            coming = max(coming, 1)
        return min(self._sizes.values(), default=self._world.options.nodes) - coming

    def _note_sizes(self) -> None:
        """Note how each node counts; who is down then is known all the same."""
        for node_id, node in self._world.nodes.items():
            if node.is_removed:
                self._sizes.pop(node_id, None)
            elif node.engine is not None and node.engine.configuration.voters:
                self._sizes[node_id] = len(node.engine.configuration.voters)

    def forgetful(self, but: int = 0) -> int:
        """How many members may have forgotten, one node apart."""
        nodes = self._world.nodes.values()
        return sum(1 for one in nodes if one.node_id != but and one.may_have_forgotten)

    # ----------------------------------------------------------------------------- acting

    def draw(self, rng: random.Random) -> tuple[Any, ...] | None:
        """Draw a change that makes sense now: (verb, node id)."""
        leader = self._world.newest_leader()
        if leader is None or leader.engine is None:
            return None
        configuration = leader.engine.configuration
        voters, learners = configuration.voters, configuration.learners
        if learners and rng.random() < 0.7:
            return "promote", rng.choice(learners)
        if learners and rng.random() < 0.3:
            return "remove", rng.choice(learners)
        if len(voters) + len(learners) < _VOTERS_MAX and rng.random() < 0.6:
            return self._draw_new(configuration.members, rng)
        if len(voters) >= 3 and self.forgetful() <= (self._voters_least() - 2) // 2:
            found = leader.node_id if rng.random() < 0.5 else rng.choice(voters)
            return ("remove", found) if found in voters else None
        return None

    def _draw_new(self, members: Sequence[int], rng: random.Random) -> tuple[Any, ...] | None:
        waiting = [node for node in self._world.nodes.values() if node.node_id not in members]
        if waiting and rng.random() < 0.5:
            return "add", rng.choice(waiting).node_id
        fresh = max(self._world.nodes) + 1
        return ("add", fresh) if fresh <= _NODES_MAX else None

    def change(self, verb: str, node_id: int) -> None:
        """Ask the cluster for a change, as `tq-admin cluster` does."""
        world = self._world
        if verb == "remove":
            self._removed_at = world.now
        if verb == "add":
            self._removals.pop(node_id, None)
            self._prepare(node_id)
        host, port = peer_address(node_id)
        address = f"{host}:{port}" if verb == "add" else ""
        caller = self._calling()
        caller.call(
            "members",
            Type.CHANGE_MEMBERS,
            (verb, node_id, address),
            self._done,
            within_s=_WITHIN_S,
        )
        world.trace("member", verb, node_id)

    def _calling(self) -> Caller:
        if self._caller is None:
            self._caller = Caller(self._world, "operator", patience_s=3.0)
            self._caller.start()
            self._look()
        return self._caller

    def _look(self) -> None:
        """Note who counts; give who was added again before it had left an empty disk."""
        self._world.after(_LOOK_S, self._look)
        self._note_sizes()
        leader = self._world.newest_leader()
        if leader is not None and leader.engine is not None:
            for member in leader.engine.configuration.members:
                if self._world.nodes[member].is_removed and not self._world.nodes[member].is_up:
                    self._prepare(member)

    def _prepare(self, node_id: int) -> None:
        """Have a machine that waits to be let in: a new one, or a removed one, emptied."""
        world = self._world
        members = {member for one in self._configurations() for member in one.members}
        node = world.nodes.get(node_id)
        if node is None:
            node = world.add_node(node_id, sorted(members), joins=True)
        elif not node.is_removed:
            return
        else:
            node.wipe()
            node.forgot = node.is_removed = False
            node.joins, node.founders = True, tuple(sorted(members))
        node.start()

    def _done(self, operation: Operation) -> None:
        verb, node_id, _ = operation.what
        if verb == "remove" and operation.outcome == "ok":
            self._removals[node_id] = operation.number
            self._world.after(_GONE_S, self._switch_off, node_id, operation.number)

    def _switch_off(self, node_id: int, number: int) -> None:
        """Half of the removed machines that have not left by themselves stay where they are."""
        node = self._world.nodes[node_id]
        if self._removals.get(node_id) == number and not node.is_removed and node_id % 2:
            node.kill()
            node.is_removed = True
